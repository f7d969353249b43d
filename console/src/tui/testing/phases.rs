//! Phases of a connection, one below the other as they follow each other.

use super::Room;
use crate::diag::shown::ms;
use raven_model::diag::services::{Connection, HttpResult, TlsResult};

/// Name, time and what stands around them.
const HEAD: usize = 27;
/// Rows of bars that are shorter say nothing.
const BARS_MIN: usize = 10;

/// A phase: its name, when it began and how long it took, microseconds.
type Phase = (&'static str, u64, u64);

/// Those of a request.
pub fn http(result: &HttpResult, room: Room) -> Vec<String> {
    let handshake = result.tls.as_ref().map(|tls| tls.handshake_us);
    let mut phases = until(result.resolve_us, result.connections.last(), handshake);
    let asked = phases.last().map_or(0, |(_, start, took)| start + took);
    let told = [("first byte", result.first_byte_us), ("whole", result.whole_us)];
    phases.extend(told.into_iter().filter_map(|(name, took)| Some((name, asked, u64::from(took?)))));
    rows(&phases, room)
}

/// Those of a handshake.
pub fn tls(result: &TlsResult, room: Room) -> Vec<String> {
    let handshake = result.tls.as_ref().map(|tls| tls.handshake_us);
    rows(&until(result.resolve_us, result.connections.last(), handshake), room)
}

/// Up to the request.
fn until(resolve_us: u32, last: Option<&Connection>, handshake: Option<u32>) -> Vec<Phase> {
    let steps = [
        ("name lookup", Some(resolve_us)),
        ("connect", last.map(|connection| connection.time_us)),
        ("handshake", handshake),
    ];
    let mut at = 0;
    let mut phases = Vec::new();
    for (name, took) in steps {
        let Some(took) = took else { continue };
        phases.push((name, at, u64::from(took)));
        at += u64::from(took);
    }
    phases
}

fn rows(phases: &[Phase], room: Room) -> Vec<String> {
    let all = phases.iter().map(|(_, start, took)| start + took).max().unwrap_or(0).max(1);
    let width = room.width.saturating_sub(HEAD);
    let bar = if room.bars { "█" } else { "=" };
    let scaled = |us: u64| usize::try_from(us * width as u64 / all).unwrap_or(0);
    let row = |(name, start, took): &Phase| {
        let head = format!("{name:<11} {:>12}", ms(u32::try_from(*took).unwrap_or(u32::MAX)));
        if width < BARS_MIN {
            return head;
        }
        let before = scaled(*start).min(width - 1);
        let long = scaled(start + took).saturating_sub(before).clamp(1, width - before);
        format!("{head}  {}{}", " ".repeat(before), bar.repeat(long))
    };
    phases.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn phases_stand_behind_each_other_and_the_whole_begins_with_the_request() {
        let result =
            HttpResult { resolve_us: 1000, first_byte_us: Some(2000), whole_us: Some(4000), ..HttpResult::default() };
        let rows = http(&result, Room { width: HEAD + 10, bars: false });
        assert_eq!(
            rows,
            [
                "name lookup     1.000 ms  ==",
                "first byte      2.000 ms    ====",
                "whole           4.000 ms    ========"
            ]
        );
    }

    proptest! {
        #[test]
        fn any_times_fit(resolve_us in any::<u32>(), first in any::<Option<u32>>(), whole in any::<Option<u32>>(), width in 0_usize..100) {
            let result = HttpResult { resolve_us, first_byte_us: first, whole_us: whole, ..HttpResult::default() };
            for row in http(&result, Room { width, bars: true }) {
                prop_assert!(row.chars().count() <= width.max(HEAD + 2), "{row}");
            }
        }
    }
}
