//! Results of scheduled tests.

use crate::escape;
use raven_model::diag::schedule::{DiagRecord, Figures, Outcome, Threshold, Trigger};
use std::fmt::Write as _;

/// A record.
pub fn line(record: &DiagRecord) -> String {
    let mut line = format!("{} {} {}", escape::text(&record.schedule), record.test, record.outcome.name());
    if let Some(why) = &record.why {
        let _ = write!(line, ": {}", super::plain(why));
    }
    let figures = figures(&record.figures);
    if record.outcome != Outcome::Skipped && !figures.is_empty() {
        let _ = write!(line, " ({figures})");
    }
    if !record.beyond.is_empty() {
        let names: Vec<&str> = record.beyond.iter().map(|threshold: &Threshold| threshold.name()).collect();
        let _ = write!(line, " [beyond {}]", names.join(", "));
    }
    if record.trigger == Trigger::Operator {
        line.push_str(" [asked for]");
    }
    if record.missed > 0 {
        let _ = write!(line, " [{} before it were missed]", record.missed);
    }
    line
}

/// What was measured, in one line.
pub fn figures(figures: &Figures) -> String {
    let mut told = Vec::new();
    let ms = |us: f64| format!("{:.3} ms", us / 1e3);
    told.extend(figures.loss.map(|loss| format!("{loss:.1} % lost")));
    told.extend(figures.rtt.map(|rtt| format!("p50 {} p95 {}", ms(rtt.p50_us.into()), ms(rtt.p95_us.into()))));
    told.extend(figures.time_us.map(|us| ms(us.into())));
    told.extend(figures.rate.map(|rate| format!("{:.2} Mbit/s", rate / 1e6)));
    told.extend(figures.mtu.map(|mtu| format!("MTU {mtu}")));
    told.extend(figures.offset_us.map(|us| format!("offset {}", ms(us as f64))));
    told.extend(figures.days_left.map(|days| format!("{days} days left")));
    told.extend(figures.hops.map(|hops| format!("{hops} hops")));
    told.extend(figures.path.as_ref().map(|path| format!("path {}", escape::text(path))));
    told.join(", ")
}
