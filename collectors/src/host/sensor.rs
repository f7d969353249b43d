//! Temperatures, fans and power: `/sys/class/{hwmon,thermal,power_supply}`. Many machines have none.

use super::source::Source;
use super::text::{name, share};
use raven_model::host::{Fan, Power, Temperature};

/// What sensors say.
#[derive(Debug, Default)]
pub struct Sensors {
    /// Temperatures.
    pub temperatures: Vec<Temperature>,
    /// Fans.
    pub fans: Vec<Fan>,
    /// Power.
    pub power: Vec<Power>,
}

/// Most chips, zones or supplies, and values of each, that are looked at.
const MOST: usize = 64;

impl Sensors {
    /// Reads all of them.
    pub fn read(source: &impl Source) -> Self {
        let mut sensors = Self::default();
        for chip in names(source, "/sys/class/hwmon") {
            sensors.chip(source, &format!("/sys/class/hwmon/{chip}"), &chip);
        }
        for zone in names(source, "/sys/class/thermal").iter().filter(|name| name.starts_with("thermal_zone")) {
            sensors.temperatures.extend(thermal_zone(source, zone));
        }
        sensors
            .power
            .extend(names(source, "/sys/class/power_supply").iter().map(|supply| self::supply(source, supply)));
        sensors
    }

    /// A chip of hwmon (Documentation/hwmon/sysfs-interface): millidegrees, turns a minute, microwatts.
    fn chip(&mut self, source: &impl Source, at: &str, chip: &str) {
        let named = source.text(&format!("{at}/name")).unwrap_or_else(|| chip.to_owned());
        for file in names(source, at) {
            let Some(sensor) = file.strip_suffix("_input") else { continue };
            let Some(value) = number(source, &format!("{at}/{file}")) else { continue };
            let label = source.text(&format!("{at}/{sensor}_label"));
            let label = name(&format!("{}/{}", named.trim(), label.as_deref().unwrap_or(sensor).trim()));
            if sensor.starts_with("temp") {
                let critical = number(source, &format!("{at}/{sensor}_crit"));
                self.temperatures.extend(temperature(label, value, critical));
            } else if sensor.starts_with("fan") {
                self.fans.push(Fan { sensor: label, rpm: u64::try_from(value).unwrap_or(0) });
            } else if sensor.starts_with("power") {
                self.power.push(Power { sensor: label, watts: Some(value as f64 / 1e6), ..Power::default() });
            }
        }
    }
}

/// A zone of the thermal driver, with its trip point of the type `critical`.
fn thermal_zone(source: &impl Source, zone: &str) -> Option<Temperature> {
    let at = format!("/sys/class/thermal/{zone}");
    let value = number(source, &format!("{at}/temp"))?;
    let kind = source.text(&format!("{at}/type")).unwrap_or_default();
    let is_critical = |n: &usize| {
        let kind = source.text(&format!("{at}/trip_point_{n}_type"));
        kind.is_some_and(|kind| kind.trim() == "critical")
    };
    let mut points = (0..MOST).take_while(|n| *n == 0 || source.text(&format!("{at}/trip_point_{n}_type")).is_some());
    let critical = points.find(is_critical);
    let critical = critical.and_then(|n| number(source, &format!("{at}/trip_point_{n}_temp")));
    temperature(name(&format!("{zone}/{}", kind.trim())), value, critical)
}

/// What lies outside -100 to 300 °C is a broken sensor, or one that is not there.
fn temperature(sensor: String, milli: i64, critical: Option<i64>) -> Option<Temperature> {
    let celsius = |milli: i64| (-100_000..=300_000).contains(&milli).then_some(milli as f64 / 1e3);
    let critical_celsius = critical.and_then(celsius).filter(|mark| *mark > 0.0);
    Some(Temperature { sensor, celsius: celsius(milli)?, critical_celsius })
}

fn supply(source: &impl Source, supply: &str) -> Power {
    let value = |file: &str| number(source, &format!("/sys/class/power_supply/{supply}/{file}"));
    Power {
        sensor: name(supply),
        watts: value("power_now").map(|microwatts| microwatts as f64 / 1e6),
        online: value("online").map(|online| online != 0),
        charge: value("capacity").and_then(|percent| share(percent as f64, 100.0)),
    }
}

/// In order, so that samples can be compared by eye.
fn names(source: &impl Source, path: &str) -> Vec<String> {
    let mut names = source.names(path);
    names.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    names.truncate(MOST);
    names
}

fn number(source: &impl Source, path: &str) -> Option<i64> {
    source.text(path)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::source::Scripted;
    use proptest::prelude::*;

    fn machine() -> Scripted {
        let mut source = Scripted::default();
        source
            .set("/sys/class/hwmon/hwmon0/name", "coretemp\n")
            .set("/sys/class/hwmon/hwmon0/temp1_input", "48000\n")
            .set("/sys/class/hwmon/hwmon0/temp1_label", "Package id 0\n")
            .set("/sys/class/hwmon/hwmon0/temp1_crit", "100000\n")
            .set("/sys/class/hwmon/hwmon0/temp2_input", "-128000\n")
            .set("/sys/class/hwmon/hwmon1/name", "nct6775\n")
            .set("/sys/class/hwmon/hwmon1/fan1_input", "1180\n")
            .set("/sys/class/hwmon/hwmon1/power1_input", "41500000\n")
            .set("/sys/class/hwmon/hwmon1/temp1_input", "")
            .set("/sys/class/thermal/thermal_zone0/type", "acpitz\n")
            .set("/sys/class/thermal/thermal_zone0/temp", "27800\n")
            .set("/sys/class/thermal/thermal_zone0/trip_point_0_type", "passive\n")
            .set("/sys/class/thermal/thermal_zone0/trip_point_0_temp", "95000\n")
            .set("/sys/class/thermal/thermal_zone0/trip_point_1_type", "critical\n")
            .set("/sys/class/thermal/thermal_zone0/trip_point_1_temp", "119000\n")
            .set("/sys/class/thermal/cooling_device0/type", "Fan\n")
            .set("/sys/class/power_supply/AC/online", "1\n");
        source
    }

    #[test]
    fn temperatures_come_with_their_own_critical_marks() {
        let sensors = Sensors::read(&machine());
        let shown: Vec<_> =
            sensors.temperatures.iter().map(|t| (t.sensor.as_str(), t.celsius, t.critical_celsius)).collect();
        assert_eq!(
            shown,
            [("coretemp/Package id 0", 48.0, Some(100.0)), ("thermal_zone0/acpitz", 27.8, Some(119.0))],
            "one that reads -128 °C is not there, one that reads nothing is asleep"
        );
    }

    #[test]
    fn fans_and_power_are_read_where_there_are_any() {
        let sensors = Sensors::read(&machine());
        assert_eq!(sensors.fans, [Fan { sensor: "nct6775/fan1".to_owned(), rpm: 1180 }]);
        let power: Vec<_> = sensors.power.iter().map(|p| (p.sensor.as_str(), p.watts, p.online)).collect();
        assert_eq!(power, [("nct6775/power1", Some(41.5), None), ("AC", None, Some(true))]);
        assert!(Sensors::read(&Scripted::default()).temperatures.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "([0-9-]{0,20}|\\PC{0,90})") {
            let mut source = machine();
            for text_of in source.files.values_mut() {
                text_of.clone_from(&text);
            }
            let sensors = Sensors::read(&source);
            prop_assert!(serde_json::to_string(&sensors.temperatures).is_ok());
        }
    }
}
