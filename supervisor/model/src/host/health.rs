//! How a disk is: what it says of itself, and what of that somebody should act on.

use crate::alert::Severity;
use serde::{Deserialize, Serialize};

/// From this share of its life on a disk should be replaced.
pub const WORN: f64 = 0.9;

/// A disk of the machine, by what it says of itself. What it does not say is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskHealth {
    /// `sda`.
    pub name: String,
    /// Vendor's name of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Serial number.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// The data directory lies on it.
    pub holds_data: bool,
    /// SMART's own verdict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
    /// What is behind a bad verdict.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failing: String,
    /// Temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub celsius: Option<i64>,
    /// Share of the writes it was made for; above 1 when it lives longer. Of an eMMC in tenths, rounded down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub life_used: Option<f64>,
    /// Spare blocks that are left, a share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spare: Option<f64>,
    /// Below this the disk itself calls that too few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spare_threshold: Option<f64>,
    /// Sectors that were bad and are replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reallocated_sectors: Option<u64>,
    /// Sectors that could not be read and are not replaced yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_sectors: Option<u64>,
    /// Reads that gave no data, or damaged ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_errors: Option<u64>,
    /// Time that it was on, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_on_s: Option<u64>,
    /// It sleeps and was not woken: what is here is what it said before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asleep: bool,
    /// Why nothing is known, or nothing new.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// How often what came of asking could not be used, since the collector started.
    #[serde(skip_serializing_if = "is_zero")]
    pub unread: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Something that a disk says of itself and that somebody should act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// In a word: with the disk's name it is what an alert is about.
    pub about: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The number, where there is one.
    pub value: u64,
    /// What is so, as words behind the disk's name.
    pub what: String,
    /// What to do next.
    pub remedy: &'static str,
}

impl DiskHealth {
    /// It has said something of its health, now or before it fell asleep.
    pub const fn is_known(&self) -> bool {
        self.passed.is_some()
            || self.life_used.is_some()
            || self.reallocated_sectors.is_some()
            || self.media_errors.is_some()
    }

    /// Name, model and serial number.
    pub fn called(&self) -> String {
        let model = if self.model.is_empty() { String::new() } else { format!(" {}", self.model) };
        let serial = if self.serial.is_empty() { String::new() } else { format!(" ({})", self.serial) };
        format!("{}{model}{serial}", self.name)
    }

    /// In words, the worst first.
    pub fn complaints(&self) -> Vec<Complaint> {
        let failing = (self.passed == Some(false)).then(|| {
            let because = if self.failing.is_empty() { String::new() } else { format!(" ({})", self.failing) };
            ("failing", Severity::Critical, 1, format!("says itself that it is failing{because}"), REPLACE)
        });
        let spare = self.spare.zip(self.spare_threshold).filter(|(left, threshold)| left < threshold);
        let spare = spare.map(|(left, threshold)| {
            let what =
                format!("has {} % of its spare blocks left, below its mark of {}", percent(left), percent(threshold));
            ("spare blocks", Severity::Critical, percent(left), what, REPLACE)
        });
        let sectors = |count: Option<u64>, about, what: &str, remedy| {
            let count = count.filter(|count| *count > 0)?;
            Some((about, Severity::Warning, count, format!("{what} {count}"), remedy))
        };
        let worn = self.life_used.filter(|used| *used >= WORN).map(|used| {
            ("wear", Severity::Warning, percent(used), format!("has {} % of its life used", percent(used)), WEAR)
        });
        let all = [
            failing,
            spare,
            sectors(self.media_errors, "media errors", "has media errors:", DAMAGE),
            sectors(self.pending_sectors, "pending sectors", "has sectors that cannot be read:", DAMAGE),
            sectors(self.reallocated_sectors, "reallocated sectors", "has sectors that were replaced:", AGEING),
            worn,
        ];
        let complaint = |(about, severity, value, what, remedy)| Complaint { about, severity, value, what, remedy };
        all.into_iter().flatten().map(complaint).collect()
    }

    /// So that it fits a terminal: `sda Example 870, 31 C, 4 % of its life used, well`.
    pub fn short(&self) -> String {
        let about: Vec<&str> = self.complaints().iter().map(|complaint| complaint.about).collect();
        let verdict = if about.is_empty() { self.verdict() } else { format!("NOT well: {}", about.join(", ")) };
        let short = Self { serial: String::new(), ..self.clone() };
        let parts = [Some(short.called()), self.warmth(), self.used(), self.sleep(), Some(verdict)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// All of it on one line: `sda Example 870 (S1), 31 C, 4 % of its life used, well`. Plain ASCII but for names.
    pub fn line(&self) -> String {
        let parts = [
            Some(self.called()),
            self.warmth(),
            self.used(),
            self.power_on_s.map(|on| format!("on for {} h", on / 3600)),
            self.sleep(),
            Some(self.verdict()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn warmth(&self) -> Option<String> {
        self.celsius.map(|celsius| format!("{celsius} C"))
    }

    fn used(&self) -> Option<String> {
        self.life_used.map(|used| format!("{} % of its life used", percent(used)))
    }

    fn sleep(&self) -> Option<String> {
        self.asleep.then(|| "asleep".to_owned())
    }

    fn verdict(&self) -> String {
        let complaints = self.complaints();
        let note = if self.note.is_empty() { String::new() } else { format!(" ({})", self.note) };
        match (complaints.is_empty(), self.is_known()) {
            (false, _) => {
                format!("NOT well: {}{note}", complaints.iter().map(|c| c.what.as_str()).collect::<Vec<_>>().join("; "))
            }
            (true, true) => format!("well{note}"),
            (true, false) => format!("says nothing about its health{note}"),
        }
    }
}

const REPLACE: &str = "replace the disk now; what it holds can be carried away with `raven ring export`";
const DAMAGE: &str = "look what is lost with `raven ring verify`, and replace the disk soon";
const AGEING: &str = "watch whether they become more, and replace the disk when they do";
const WEAR: &str = "plan its replacement: it was made for no more writes than that";

fn percent(share: f64) -> u64 {
    (share * 100.0).round() as u64
}

/// A file that the kernel looked for when it started a network interface, and did not find.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingFirmware {
    /// `eth0`.
    pub interface: String,
    /// `rtl_nic/rtl8168h-2.fw`.
    pub file: String,
}

/// What started the machine, and whether it looked at signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartedBy {
    /// The old way: nothing is looked at.
    Bios,
    /// UEFI, and nothing is known of Secure Boot.
    Uefi,
    /// UEFI that starts whatever is there.
    UefiSecureBootOff,
    /// UEFI that starts only what is signed.
    UefiSecureBootOn,
}

impl StartedBy {
    /// As operators read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI, Secure Boot not known",
            Self::UefiSecureBootOff => "UEFI, Secure Boot off",
            Self::UefiSecureBootOn => "UEFI, Secure Boot on",
        }
    }

    /// Nothing where it is not known, or there is no such thing.
    pub const fn secure_boot(self) -> Option<bool> {
        match self {
            Self::Bios | Self::Uefi => None,
            Self::UefiSecureBootOff => Some(false),
            Self::UefiSecureBootOn => Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn well() -> DiskHealth {
        DiskHealth {
            name: "sda".to_owned(),
            model: "Example 870".to_owned(),
            serial: "S1".to_owned(),
            passed: Some(true),
            celsius: Some(31),
            life_used: Some(0.04),
            spare: Some(0.1),
            spare_threshold: Some(0.1),
            reallocated_sectors: Some(0),
            pending_sectors: Some(0),
            media_errors: Some(0),
            ..DiskHealth::default()
        }
    }

    fn about(disk: &DiskHealth) -> Vec<&'static str> {
        disk.complaints().iter().map(|complaint| complaint.about).collect()
    }

    #[test]
    fn a_disk_that_is_well_is_one_line_and_no_complaint() {
        assert_eq!(well().line(), "sda Example 870 (S1), 31 C, 4 % of its life used, well");
        assert_eq!(well().short(), "sda Example 870, 31 C, 4 % of its life used, well");
        assert_eq!(about(&well()), [""; 0]);
        let text = serde_json::to_string(&well()).unwrap();
        assert_eq!(serde_json::from_str::<DiskHealth>(&text).unwrap(), well());
    }

    #[test]
    fn each_mark_is_a_complaint_of_its_own_and_the_worst_comes_first() {
        assert_eq!(about(&DiskHealth { life_used: Some(0.89), ..well() }), [""; 0]);
        assert_eq!(about(&DiskHealth { life_used: Some(0.9), ..well() }), ["wear"]);
        assert_eq!(about(&DiskHealth { spare: Some(0.09), ..well() }), ["spare blocks"]);
        assert_eq!(about(&DiskHealth { spare_threshold: None, spare: Some(0.0), ..well() }), [""; 0]);
        assert_eq!(about(&DiskHealth { reallocated_sectors: Some(1), ..well() }), ["reallocated sectors"]);
        let bad = DiskHealth {
            passed: Some(false),
            failing: "Raw_Read_Error_Rate".to_owned(),
            pending_sectors: Some(8),
            media_errors: Some(2),
            ..well()
        };
        assert_eq!(about(&bad), ["failing", "media errors", "pending sectors"]);
        assert_eq!(bad.complaints()[0].severity, Severity::Critical);
        let short = "sda Example 870, 31 C, 4 % of its life used, NOT well: failing, media errors, pending sectors";
        assert_eq!(bad.short(), short);
        assert_eq!(
            bad.line(),
            "sda Example 870 (S1), 31 C, 4 % of its life used, NOT well: says itself that it is failing \
             (Raw_Read_Error_Rate); has media errors: 2; has sectors that cannot be read: 8"
        );
    }

    #[test]
    fn a_disk_that_says_nothing_is_not_called_well() {
        let disk = DiskHealth { name: "vda".to_owned(), ..DiskHealth::default() };
        assert_eq!(disk.line(), "vda, says nothing about its health");
        assert_eq!(disk.short(), disk.line());
        let asleep = DiskHealth { asleep: true, ..well() };
        assert!(asleep.line().ends_with("asleep, well"), "{}", asleep.line());
    }
}
