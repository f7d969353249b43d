//! What an operator should act on.

use crate::escape;
use raven_model::alert::{AlertRecord, AlertState, Firing};

/// A change: begun or over. The text is said whole: its end says what to do.
pub fn line(record: &AlertRecord) -> String {
    let state = match record.state {
        AlertState::Firing => record.severity.name(),
        AlertState::Resolved => "resolved",
    };
    format!("{state} {}: {}", record.alert, escape::text(&record.text))
}

/// One that is not over.
pub fn firing(firing: &Firing) -> String {
    format!("{} {}: {}", firing.severity, firing.alert, escape::text(&firing.text))
}
