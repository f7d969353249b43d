//! What smartctl said (`--json`), in our words. Pure; fields that are missing or cannot be so are left out.

use crate::host::text::name;
use raven_model::host::DiskHealth;
use serde_json::Value;

/// The status by which smartctl ends at a disk that sleeps; our unit tells it so (`-n standby,255`).
const ASLEEP: u64 = 255;
/// Bits of its status: it was not understood, the disk could not be opened or did not say what it is.
const FAILED: u64 = 0b11;

/// What came of asking.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// What the disk says of itself.
    Health(Box<DiskHealth>),
    /// It sleeps, and was left so.
    Asleep,
    /// Nothing of use, and why.
    Nothing(String),
}

/// Reads what smartctl wrote.
pub fn read(text: &str) -> Said {
    if text.trim().is_empty() {
        return Said::Nothing("smartctl said nothing".to_owned());
    }
    let Ok(json) = serde_json::from_str::<Value>(text) else {
        return Said::Nothing("what smartctl said cannot be read".to_owned());
    };
    let status = number(&json, "/smartctl/exit_status");
    if status == Some(ASLEEP) {
        return Said::Asleep;
    }
    let health = health(&json);
    if health.is_known() {
        return Said::Health(Box::new(health));
    }
    match complaint(&json) {
        Some(why) if status.is_none_or(|status| status & FAILED != 0) => Said::Nothing(why),
        _ if status.is_none_or(|status| status & FAILED != 0) => Said::Nothing("smartctl could not ask it".to_owned()),
        _ => Said::Health(Box::new(DiskHealth { note: "it has no SMART".to_owned(), ..health })),
    }
}

fn number(json: &Value, at: &str) -> Option<u64> {
    json.pointer(at)?.as_u64()
}

fn text(json: &Value, at: &str) -> Option<String> {
    Some(name(json.pointer(at)?.as_str()?)).filter(|text| !text.is_empty())
}

/// A share that is told in percent.
fn percent(json: &Value, at: &str) -> Option<f64> {
    number(json, at).filter(|percent| *percent <= 255).map(|percent| percent as f64 / 100.0)
}

/// What smartctl complains of, without the name of the device.
fn complaint(json: &Value) -> Option<String> {
    let said = json.pointer("/smartctl/messages")?.as_array()?.iter().find_map(|message| text(message, "/string"))?;
    Some(
        said.split_once(": ")
            .filter(|(device, _)| device.starts_with("/dev/"))
            .map_or(said.clone(), |(_, why)| why.to_owned()),
    )
}

fn health(json: &Value) -> DiskHealth {
    let nvme = |field: &str| format!("/nvme_smart_health_information_log/{field}");
    let attributes = Attributes::of(json);
    let model = text(json, "/model_name").or_else(|| text(json, "/scsi_model_name")).unwrap_or_default();
    let celsius = json.pointer("/temperature/current").and_then(Value::as_i64).filter(|c| (-99..=199).contains(c));
    DiskHealth {
        model,
        serial: text(json, "/serial_number").unwrap_or_default(),
        passed: json.pointer("/smart_status/passed").and_then(Value::as_bool),
        failing: failing(json, &attributes),
        celsius,
        life_used: percent(json, &nvme("percentage_used"))
            .or_else(|| percent(json, "/endurance_used/current_percent"))
            .or_else(|| percent(json, "/scsi_percentage_used_endurance_indicator"))
            .or_else(|| endurance(json))
            .or_else(|| attributes.life_used()),
        spare: percent(json, &nvme("available_spare")),
        spare_threshold: percent(json, &nvme("available_spare_threshold")),
        reallocated_sectors: attributes
            .raw(5, "Reallocated_Sector")
            .or_else(|| number(json, "/scsi_grown_defect_list")),
        pending_sectors: attributes.raw(197, "Pending_Sector").or_else(|| number(json, "/scsi_pending_defects/count")),
        media_errors: number(json, &nvme("media_errors"))
            .or_else(|| attributes.raw(187, "Uncorrect"))
            .or_else(|| number(json, "/scsi_error_counter_log/read/total_uncorrected_errors")),
        power_on_s: number(json, "/power_on_time/hours").map(|hours| hours.saturating_mul(3600)),
        ..DiskHealth::default()
    }
}

/// Bits of NVMe's critical warning (NVM Express base specification 2.0, figure 207).
const WARNINGS: [&str; 6] = [
    "too few spare blocks",
    "too hot or too cold",
    "no longer reliable",
    "takes no more writes",
    "its cache is no longer kept over a power cut",
    "its persistent memory is read-only",
];

/// What is behind a bad verdict.
fn failing(json: &Value, attributes: &Attributes<'_>) -> String {
    if let Some(bits) = number(json, "/nvme_smart_health_information_log/critical_warning") {
        let set = WARNINGS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
        return set.map(|(_, words)| *words).collect::<Vec<_>>().join(", ");
    }
    let scsi = text(json, "/smart_status/scsi/ie_string");
    scsi.unwrap_or_else(|| attributes.failed().join(", "))
}

/// ATA device statistics, page 7: what the disk itself says of its life, where it has that page.
fn endurance(json: &Value) -> Option<f64> {
    let pages = json.pointer("/ata_device_statistics/pages")?.as_array()?;
    let rows = pages.iter().filter_map(|page| page.get("table")?.as_array()).flatten();
    let is_it = |row: &&Value| {
        row.get("name").and_then(Value::as_str) == Some("Percentage Used Endurance Indicator")
            && row.pointer("/flags/valid").and_then(Value::as_bool) != Some(false)
    };
    percent(rows.into_iter().find(is_it)?, "/value")
}

/// Attributes of ATA disks whose normalized value is the percentage of its life that is left, as smartctl names them.
const LIFE_LEFT: [&str; 10] = [
    "Media_Wearout_Indicator",
    "Wear_Leveling_Count",
    "SSD_Life_Left",
    "Percent_Lifetime_Remain",
    "Percent_Lifetime_Used",
    "Percent_Life_Remaining",
    "Perc_Rated_Life_Remain",
    "Perc_Rated_Life_Used",
    "Remaining_Lifetime_Perc",
    "Drive_Life_Remaining%",
];
/// Names of failed attributes that are told.
const FAILED_MOST: usize = 3;

/// The table of an ATA disk. What a number means is the vendor's to say: only names that smartctl's own data base gave are
/// believed.
struct Attributes<'a>(&'a [Value]);

impl<'a> Attributes<'a> {
    fn of(json: &'a Value) -> Self {
        Self(json.pointer("/ata_smart_attributes/table").and_then(Value::as_array).map_or(&[], Vec::as_slice))
    }

    fn name(row: &Value) -> &str {
        row.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// The count of one. Its raw text begins with it; the raw number may have others in its upper bytes.
    fn raw(&self, id: u64, named: &str) -> Option<u64> {
        let is_it = |row: &&Value| number(row, "/id") == Some(id) && Self::name(row).contains(named);
        let text = self.0.iter().find(is_it)?.pointer("/raw/string")?.as_str()?;
        text.split_whitespace().next()?.parse().ok()
    }

    fn life_used(&self) -> Option<f64> {
        let of = |wanted: &str| {
            let left = number(self.0.iter().find(|row| Self::name(row) == wanted)?, "/value")?;
            (1..=100).contains(&left).then(|| (100 - left) as f64 / 100.0)
        };
        LIFE_LEFT.iter().find_map(|wanted| of(wanted))
    }

    fn failed(&self) -> Vec<String> {
        let is_failed = |row: &&Value| row.get("when_failed").and_then(Value::as_str) == Some("now");
        self.0.iter().filter(is_failed).take(FAILED_MOST).map(|row| name(Self::name(row))).collect()
    }
}
