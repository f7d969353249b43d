//! What changed between two samples.

use super::process::is_kept_running;
use super::processor::total_and_idle;
use super::text::share;
use raven_model::host::{Change, HostEvent, HostSample, Interface};
use std::collections::BTreeMap;

/// A clock that is off by more was set, not slewed.
const STEP_S: f64 = 1.0;
/// Fastest slewing by the kernel: 500 parts in a million.
const SLEW: f64 = 500e-6;

/// What is remembered of what was seen.
#[derive(Debug, Default)]
pub struct Before {
    sample: HostSample,
    /// Newest process of each name, also of those that were missing since: pid and start.
    processes: BTreeMap<String, (u32, f64)>,
}

/// Adds shares since the sample before, and says what changed since. The first sample has neither.
pub fn step(before: Option<Before>, mut now: HostSample) -> (Before, Vec<HostEvent>) {
    let Some(Before { sample: then, mut processes }) = before else {
        let mut processes = BTreeMap::new();
        restarted(&mut processes, &now);
        return (Before { sample: now, processes }, Vec::new());
    };
    add_shares(&then, &mut now);
    let mut changes = carriers(&then.interfaces, &now.interfaces);
    changes.extend(filesystems(&then, &now));
    changes.extend(temperatures(&then, &now));
    let killed = now.memory.oom_kills.saturating_sub(then.memory.oom_kills);
    changes.extend((killed > 0).then_some(Change::OomKill { count: killed }));
    changes.extend(restarted(&mut processes, &now));
    changes.extend(clock(&then, &now));
    let events = changes.into_iter().map(|what| HostEvent { t: now.t, what }).collect();
    (Before { sample: now, processes }, events)
}

impl Before {
    /// The newest sample.
    pub const fn sample(&self) -> &HostSample {
        &self.sample
    }
}

fn elapsed(then: &HostSample, now: &HostSample) -> f64 {
    now.monotonic_ns.saturating_sub(then.monotonic_ns) as f64 / 1e9
}

fn add_shares(then: &HostSample, now: &mut HostSample) {
    let ((total, idle), (total_then, idle_then)) = (total_and_idle(&now.cpu), total_and_idle(&then.cpu));
    let passed = total - total_then;
    now.cpu.busy = share(passed - (idle - idle_then), passed);
    let elapsed = elapsed(then, now);
    for disk in &mut now.disks {
        let before = then.disks.iter().find(|other| other.name == disk.name);
        disk.busy = before.and_then(|before| share(disk.busy_s - before.busy_s, elapsed));
    }
}

/// An interface that is not there, or set down, has no carrier.
fn carriers(then: &[Interface], now: &[Interface]) -> Vec<Change> {
    let find = |list: &'_ [Interface], name: &str| list.iter().position(|interface| interface.name == name);
    let mut changes = Vec::new();
    for interface in now {
        let before = find(then, &interface.name).map(|at| &then[at]);
        let has = |interface: &Interface| interface.carrier == Some(true);
        let name = interface.name.clone();
        let times = before.map_or(0, |b| {
            interface.carrier_changes.unwrap_or(0).saturating_sub(b.carrier_changes.unwrap_or(u64::MAX))
        });
        match (before.is_some_and(has), has(interface)) {
            (false, true) => changes.push(Change::CarrierUp { interface: name }),
            (true, false) => changes.push(Change::CarrierDown { interface: name }),
            (true, true) if times > 0 => changes.push(Change::CarrierFlapped { interface: name, changes: times }),
            _ => {}
        }
    }
    let gone = then.iter().filter(|i| i.carrier == Some(true) && find(now, &i.name).is_none());
    changes.extend(gone.map(|i| Change::CarrierDown { interface: i.name.clone() }));
    changes
}

fn filesystems(then: &HostSample, now: &HostSample) -> Vec<Change> {
    let all = |sample: &HostSample| {
        sample
            .filesystems
            .iter()
            .chain(&sample.data)
            .map(|fs| (fs.mount.clone(), fs.read_only))
            .collect::<BTreeMap<_, _>>()
    };
    let then = all(then);
    let change = |(mount, read_only): (String, bool)| match (then.get(&mount)?, read_only) {
        (false, true) => Some(Change::FilesystemReadOnly { mount }),
        (true, false) => Some(Change::FilesystemWritable { mount }),
        _ => None,
    };
    all(now).into_iter().filter_map(change).collect()
}

fn temperatures(then: &HostSample, now: &HostSample) -> Vec<Change> {
    let critical = |celsius: f64, mark: Option<f64>| mark.is_some_and(|mark| celsius >= mark);
    let mut changes = Vec::new();
    for now in &now.temperatures {
        let Some(before) = then.temperatures.iter().find(|other| other.sensor == now.sensor) else { continue };
        let was = critical(before.celsius, before.critical_celsius);
        let (sensor, celsius) = (now.sensor.clone(), now.celsius);
        match now.critical_celsius {
            Some(critical_celsius) if celsius >= critical_celsius && !was => {
                changes.push(Change::TemperatureCritical { sensor, celsius, critical_celsius });
            }
            Some(mark) if celsius < mark && was => changes.push(Change::TemperatureNormal { sensor, celsius }),
            _ => {}
        }
    }
    changes
}

/// A process in the place of another. Of two of one name (the old one is ending) the one that began last counts.
fn restarted(known: &mut BTreeMap<String, (u32, f64)>, now: &HostSample) -> Vec<Change> {
    let mut changes = Vec::new();
    for process in now.processes.iter().filter(|process| is_kept_running(&process.name)) {
        let entry = known.entry(process.name.clone()).or_insert((process.pid, process.start_s));
        if process.start_s > entry.1 {
            let previous_pid = std::mem::replace(entry, (process.pid, process.start_s)).0;
            changes.push(Change::ProcessRestarted { process: process.name.clone(), pid: process.pid, previous_pid });
        }
    }
    changes
}

/// The wall clock against the one that is never set.
fn clock(then: &HostSample, now: &HostSample) -> Option<Change> {
    let elapsed = elapsed(then, now);
    let wall = (i128::from(now.t.0) - i128::from(then.t.0)) as f64 / 1e9;
    let step_s = ((wall - elapsed) * 1e3).round() / 1e3;
    (step_s.abs() > STEP_S + elapsed * SLEW).then_some(Change::ClockStepped { step_s })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::sample::{Fixed, sample};
    use crate::host::source::Scripted;
    use raven_model::units::UnixNanos;

    const S: u64 = 1_000_000_000;

    /// A made-up machine that is changed between samples.
    struct Story {
        source: Scripted,
        before: Option<Before>,
    }

    impl Story {
        fn begin() -> Self {
            let mut source = Scripted { clocks: (UnixNanos(1_800_000_000 * S), 100 * S), ..Scripted::default() };
            let (ones, process) = (["1"; 16].join(" "), |start: u32| format!("{} {start} 0 0", ["0"; 19].join(" ")));
            source
                .set("/proc/stat", "cpu 100 0 100 800 0 0 0 0\ncpu0 0\n")
                .set("/proc/net/dev", &format!("\n\neth0: {ones}\n"))
                .set("/sys/class/net/eth0/carrier", "1")
                .set("/sys/class/net/eth0/carrier_changes", "2")
                .set("/sys/block/sda", "")
                .set("/proc/diskstats", "8 0 sda 5 0 8 1 0 0 0 0 0 1000 0\n")
                .set("/proc/self/mounts", "/dev/sda / ext4 rw 0 0\n")
                .set("/sys/class/thermal/thermal_zone0/temp", "90000")
                .set("/sys/class/thermal/thermal_zone0/trip_point_0_type", "critical")
                .set("/sys/class/thermal/thermal_zone0/trip_point_0_temp", "100000")
                .set("/proc/vmstat", "oom_kill 1\n")
                .set("/proc/70/stat", &format!("70 (raven:store) {}", process(500)));
            let mut story = Self { source, before: None };
            assert_eq!(story.next(), []);
            story
        }

        /// The events of the next sample, 10 s later.
        fn next(&mut self) -> Vec<Change> {
            let (wall, boot) = self.source.clocks;
            self.source.clocks = (UnixNanos(wall.0 + 10 * S), boot + 10 * S);
            let fixed = Fixed { boot_id: String::new(), data: "/var".to_owned(), page: 4096 };
            let (before, events) = step(self.before.take(), sample(&self.source, &fixed));
            assert!(events.iter().all(|event| event.t == before.sample.t));
            self.before = Some(before);
            events.into_iter().map(|event| event.what).collect()
        }

        fn set(&mut self, path: &str, text: &str) -> Vec<Change> {
            self.source.set(path, text);
            self.next()
        }

        fn sample(&self) -> &HostSample {
            self.before.as_ref().unwrap().sample()
        }
    }

    #[test]
    fn shares_are_those_since_the_last_sample() {
        let mut story = Story::begin();
        assert_eq!((story.sample().cpu.busy, story.sample().disks[0].busy), (None, None));
        story.source.set("/proc/diskstats", "8 0 sda 5 0 8 1 0 0 0 0 0 3500 0\n");
        assert_eq!(story.set("/proc/stat", "cpu 150 0 100 1650 100 0 0 0\n"), []);
        assert_eq!((story.sample().cpu.busy, story.sample().disks[0].busy), (Some(0.05), Some(0.25)));
        assert_eq!(story.next(), []);
        assert_eq!(story.sample().cpu.busy, None, "no time passed by that clock");
    }

    #[test]
    fn a_carrier_goes_comes_and_flaps() {
        let mut story = Story::begin();
        let interface = "eth0".to_owned();
        let down = Change::CarrierDown { interface: interface.clone() };
        story.source.set("/sys/class/net/eth0/carrier_changes", "3");
        assert_eq!(story.set("/sys/class/net/eth0/carrier", "0"), std::slice::from_ref(&down));
        assert_eq!(story.next(), []);
        story.source.set("/sys/class/net/eth0/carrier_changes", "4");
        let up = Change::CarrierUp { interface: interface.clone() };
        assert_eq!(story.set("/sys/class/net/eth0/carrier", "1"), [up]);
        let flapped = Change::CarrierFlapped { interface, changes: 2 };
        assert_eq!(story.set("/sys/class/net/eth0/carrier_changes", "6"), [flapped]);
        assert_eq!(story.set("/proc/net/dev", ""), [down], "an interface that is gone has no carrier");
        assert_eq!(story.next(), []);
    }

    #[test]
    fn a_file_system_that_takes_no_writes_is_told_once() {
        let mut story = Story::begin();
        let mount = "/".to_owned();
        let read_only = Change::FilesystemReadOnly { mount: mount.clone() };
        let text = "/dev/sda / ext4 rw,emergency_ro 0 0\n/dev/sdb /mnt ext4 ro 0 0\n";
        assert_eq!(story.set("/proc/self/mounts", text).first(), Some(&read_only), "/mnt is new, and not a change");
        assert_eq!(story.next(), []);
        let writable = story.set("/proc/self/mounts", "/dev/sda / ext4 rw 0 0\n");
        assert_eq!(writable.first(), Some(&Change::FilesystemWritable { mount }));
    }

    #[test]
    fn a_temperature_is_held_against_its_own_mark() {
        let mut story = Story::begin();
        let critical = story.set("/sys/class/thermal/thermal_zone0/temp", "100000");
        assert!(matches!(&critical[..], [Change::TemperatureCritical { celsius: 100.0, critical_celsius: 100.0, .. }]));
        assert_eq!(story.set("/sys/class/thermal/thermal_zone0/temp", "101000"), []);
        let normal = story.set("/sys/class/thermal/thermal_zone0/temp", "99000");
        assert!(matches!(&normal[..], [Change::TemperatureNormal { celsius: 99.0, .. }]));
    }

    #[test]
    fn killed_processes_are_counted() {
        let mut story = Story::begin();
        assert_eq!(story.set("/proc/vmstat", "oom_kill 4\n"), [Change::OomKill { count: 3 }]);
        assert_eq!(story.next(), []);
    }

    #[test]
    fn a_restart_is_noticed_also_after_a_while_without_the_process() {
        let mut story = Story::begin();
        let text = story.source.files.remove("/proc/70/stat").unwrap();
        assert_eq!(story.next(), []);
        let process = "raven:store".to_owned();
        let expected = [Change::ProcessRestarted { process, pid: 95, previous_pid: 70 }];
        let text = text.replace("70 (", "95 (").replace(" 500 ", " 900 ");
        assert_eq!(story.set("/proc/95/stat", &text), expected);
        assert_eq!(story.next(), []);
        assert_eq!(story.set("/proc/96/stat", &text.replace("raven:store", "raven:config")), []);
        assert_eq!(story.set("/proc/96/stat", &text.replace("raven:store", "raven:config").replace("900", "950")), []);
    }

    #[test]
    fn a_clock_that_is_set_is_told_and_one_that_is_slewed_is_not() {
        let mut story = Story::begin();
        story.source.clocks.0.0 += S * 9 / 10;
        assert_eq!(story.next(), []);
        story.source.clocks.0.0 -= 3600 * S;
        assert_eq!(story.next(), [Change::ClockStepped { step_s: -3600.0 }]);
        assert_eq!(story.next(), []);
        story.source.clocks = (UnixNanos(0), 0);
        assert!(matches!(&story.next()[..], [Change::ClockStepped { .. }]), "whatever the clocks say");
    }
}
