//! SNMPv3 engines: who they are, who they say they are, and whether they are believed.

use crate::escape;
use crate::status::screen::{columns, count};
use crate::time;
use raven_model::report::Engine;
use raven_model::units::UnixNanos;

/// A line for each; nothing where there are none.
pub fn lines(engines: &[Engine], now: UnixNanos) -> Vec<String> {
    if engines.is_empty() {
        return Vec::new();
    }
    let head = ["ENGINE", "SOURCE", "USER", "BOOTS", "UP", "ACCEPTED", "REFUSED", "LAST SEEN"];
    let row = |engine: &Engine| {
        vec![
            escape::text(&engine.engine_id),
            escape::text(&engine.source),
            escape::text(&engine.user),
            engine.boots.to_string(),
            time::span(engine.time.into()),
            count(engine.accepted),
            count(engine.refused),
            time::ago(engine.last_seen_ns, now),
        ]
    };
    columns(std::iter::once(head.map(str::to_owned).to_vec()).chain(engines.iter().map(row)).collect())
}
