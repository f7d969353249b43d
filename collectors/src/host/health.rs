//! What disks say of their health. smartctl asks those that know SMART (`raven-disk@.service`, hourly, with the rights that
//! it needs and this role has not) and what it said lies below [`SAID`]; an eMMC tells it to everybody in `/sys`.
//!
//! The text is a device's: numbers are held against what they can be, names are cut and cleaned.

mod smart;
#[cfg(test)]
mod tests;

use super::source::Source;
use super::text::name;
use raven_model::calendar::span;
use raven_model::host::{DiskHealth, FileSystem};
use smart::Said;
use std::collections::BTreeMap;

/// Where `DISK.json` lies.
const SAID: &str = "/run/raven/disks";
/// smartctl is ended after half of this: what cannot be read now is not half written.
const SETTLED_NS: u64 = 60_000_000_000;
/// It is asked each hour: what is older than three was not replaced.
const OLD_NS: u64 = 3 * 3_600_000_000_000;
/// Most disks that are looked at.
const MOST: usize = 64;

/// What is known of disks from one look to the next.
#[derive(Debug, Default)]
pub struct Health(BTreeMap<String, Known>);

#[derive(Debug, Default)]
struct Known {
    /// What smartctl said last.
    text: String,
    /// When that was first seen, nanoseconds since boot.
    since: u64,
    /// It was taken in, or found to be of no use.
    is_settled: bool,
    disk: DiskHealth,
}

impl Health {
    /// Looks at all disks, `now` nanoseconds after boot. `data` is the file system of the data directory.
    pub fn look(&mut self, source: &impl Source, data: Option<&FileSystem>, now: u64) -> Vec<DiskHealth> {
        let mut names = source.names("/sys/block");
        names.retain(|name| is_disk(source, name));
        names.sort();
        names.truncate(MOST);
        self.0.retain(|name, _| names.contains(name));
        let mut look = |disk: String| {
            let holds_data = data.is_some_and(|data| holds(source, &disk, &data.device));
            DiskHealth { holds_data, ..self.look_at(source, disk, now) }
        };
        names.into_iter().map(&mut look).collect()
    }

    fn look_at(&mut self, source: &impl Source, disk: String, now: u64) -> DiskHealth {
        if disk.starts_with("mmcblk") {
            return emmc(source, &disk);
        }
        let nameless = identity(source, &disk);
        if disk.starts_with("vd") || disk.starts_with("xvd") {
            return DiskHealth { note: "a virtual disk".to_owned(), ..nameless };
        }
        let Some(text) = source.text(&format!("{SAID}/{disk}.json")) else {
            return DiskHealth { note: "it has not been asked".to_owned(), ..nameless };
        };
        let known = self.0.entry(disk).or_insert_with(|| Known { disk: nameless, ..Known::default() });
        known.hear(text, now);
        let mut disk = known.disk.clone();
        if disk.note.is_empty() && now.saturating_sub(known.since) > OLD_NS {
            disk.note = format!("asked last {} ago", span(now.saturating_sub(known.since) / 1_000_000_000));
        }
        disk
    }
}

impl Known {
    fn hear(&mut self, text: String, now: u64) {
        if self.text != text || self.since == 0 {
            (self.text, self.since, self.is_settled) = (text, now, false);
        }
        if self.is_settled {
            return;
        }
        match smart::read(&self.text) {
            Said::Health(said) => self.take(*said),
            Said::Asleep => (self.disk.asleep, self.disk.note) = (true, String::new()),
            // It may just be about to be written.
            Said::Nothing(_) if now.saturating_sub(self.since) < SETTLED_NS => return,
            // What it said before still stands.
            Said::Nothing(why) => {
                self.disk.unread += 1;
                self.disk.note = why;
            }
        }
        self.is_settled = true;
    }

    fn take(&mut self, said: DiskHealth) {
        let DiskHealth { name, unread, model, serial, .. } = std::mem::take(&mut self.disk);
        let or = |said: String, before: String| if said.is_empty() { before } else { said };
        let (model, serial) = (or(said.model.clone(), model), or(said.serial.clone(), serial));
        self.disk = DiskHealth { name, unread, model, serial, ..said };
    }
}

/// Disks by their names: not partitions, loops, memory, optical drives, nor the boot areas of an eMMC. A reader without a
/// card has no size; the paths of an NVMe that are not to be used are hidden.
fn is_disk(source: &impl Source, name: &str) -> bool {
    let read = |file: &str| source.text(&format!("/sys/block/{name}/{file}")).unwrap_or_default();
    let is_kind = ["sd", "nvme", "vd", "xvd", "mmcblk"].iter().any(|kind| name.starts_with(kind));
    let is_area = name.starts_with("mmcblk") && !name["mmcblk".len()..].bytes().all(|b| b.is_ascii_digit());
    is_kind && !is_area && !["", "0"].contains(&read("size").trim()) && read("hidden").trim() != "1"
}

/// Whether `device`, as it is mounted, is this disk or one of its partitions.
fn holds(source: &impl Source, disk: &str, device: &str) -> bool {
    let Some(device) = device.strip_prefix("/dev/") else { return false };
    device == disk
        || (device.starts_with(disk) && source.names(&format!("/sys/block/{disk}")).iter().any(|n| n == device))
}

/// What the kernel knows of a disk by itself.
fn identity(source: &impl Source, disk: &str) -> DiskHealth {
    let read =
        |file: &str| source.text(&format!("/sys/block/{disk}/{file}")).map(|text| name(&text)).unwrap_or_default();
    let either =
        |one: &str, other: &str| Some(read(one)).filter(|text| !text.is_empty()).unwrap_or_else(|| read(other));
    DiskHealth {
        name: name(disk),
        model: read("device/model"),
        serial: either("device/serial", "serial"),
        ..DiskHealth::default()
    }
}

/// JEDEC JESD84-B51, 7.4: `life_time` has the life used of two kinds of its memory in tenths, 1 = the first; `pre_eol_info`
/// the spare blocks, 2 = four fifths of them are used, 3 = nine tenths. Cards have neither.
fn emmc(source: &impl Source, disk: &str) -> DiskHealth {
    let read = |file: &str| source.text(&format!("/sys/block/{disk}/device/{file}"));
    let number = |text: &str| u8::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok();
    let life = read("life_time").unwrap_or_default();
    let tenths = life.split_whitespace().filter_map(number).filter(|tenths| (1..=11).contains(tenths)).max();
    let spare = read("pre_eol_info").and_then(|text| number(&text)).filter(|level| (1..=3).contains(level));
    let failing = match spare {
        Some(2) => "four fifths of its spare blocks are used",
        Some(3) => "nine tenths of its spare blocks are used",
        _ => "",
    };
    DiskHealth {
        model: read("name").map(|text| name(&text)).unwrap_or_default(),
        passed: spare.map(|level| level == 1),
        failing: failing.to_owned(),
        life_used: tenths.map(|tenths| f64::from(tenths - 1) / 10.0),
        ..identity(source, disk)
    }
}
