//! What is not well with disks, by what they say of themselves.

use super::engine::{Finding, Look};
use raven_model::alert::Rule;
use raven_model::host::DiskHealth;

/// A disk that could not be asked, or sleeps, may still be as it was told.
pub fn look_at(look: &mut Look, disks: &[DiskHealth]) {
    if disks.iter().any(|disk| !disk.is_known()) {
        look.unknown.extend([Rule::DiskHealth]);
    }
    for disk in disks {
        look.findings.extend(disk.complaints().into_iter().map(|complaint| Finding {
            rule: Rule::DiskHealth,
            subject: format!("{} {}", disk.name, complaint.about),
            bad: true,
            severity: Some(complaint.severity),
            since: None,
            value: complaint.value,
            what: format!("{} {}", disk.called(), complaint.what),
            remedy: complaint.remedy,
        }));
    }
}
