//! How long a record takes from its receipt by Raven until it is here, by the `rx` of its envelope.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Width of a class, nanoseconds.
const CLASS_NS: u64 = 10_000_000;

/// Ten seconds; the last class holds all that took longer.
const CLASSES: usize = 1001;

/// Bytes of a message in which its `rx` stands.
const HEAD: usize = 256;

/// Counts by class, of what Raven received since a moment.
#[derive(Debug)]
pub struct Latency {
    /// That moment, nanoseconds since 1970; 0 = nothing is measured.
    since: AtomicU64,
    classes: Vec<AtomicU64>,
}

impl Default for Latency {
    fn default() -> Self {
        Self { since: AtomicU64::new(0), classes: (0..CLASSES).map(|_| AtomicU64::new(0)).collect() }
    }
}

/// One look at the clock, for all that came with one read.
pub struct Watch<'a> {
    latency: &'a Latency,
    since: u64,
    now: u64,
}

impl Latency {
    /// Measures from now on.
    pub fn watch(&self) {
        self.since.store(now(), Relaxed);
    }

    /// For what has just come; `None` while nothing is measured.
    pub fn now(&self) -> Option<Watch<'_>> {
        let since = self.since.load(Relaxed);
        (since > 0).then(|| Watch { latency: self, since, now: now() })
    }

    /// That which the share `q` did not exceed, up to a class more.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let counts: Vec<u64> = self.classes.iter().map(|class| class.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let mut below = 0;
        let class = counts.iter().position(|count| {
            below += count;
            total > 0 && below as f64 >= total as f64 * q
        })?;
        Some(Duration::from_nanos((class as u64 + 1) * CLASS_NS))
    }
}

impl Watch<'_> {
    /// A message with its envelope.
    pub fn note(&self, message: &[u8]) {
        let Some(rx) = rx(message).filter(|rx| *rx >= self.since) else { return };
        let class = (self.now.saturating_sub(rx) / CLASS_NS) as usize;
        self.latency.classes[class.min(CLASSES - 1)].fetch_add(1, Relaxed);
    }
}

/// When Raven received it, nanoseconds since 1970.
fn rx(message: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b" rx=\"";
    let head = &message[..message.len().min(HEAD)];
    let digits = &head[memchr::memmem::find(head, KEY)? + KEY.len()..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_received_since_counts_by_how_long_it_took() {
        let latency = Latency::default();
        assert!(latency.now().is_none() && latency.quantile(0.99).is_none());
        let watch = Watch { latency: &latency, since: 1_000_000_000, now: 3_000_000_000 };
        for (rx, times) in [(999_999_999_u64, 500), (2_995_000_000, 98), (1_500_000_000, 2)] {
            let message =
                format!("<13>1 - 10.0.0.1 raven - - [raven@32473 dev=\"x\" rx=\"{rx}\" src=\"10.0.0.1\"] text");
            (0..times).for_each(|_| watch.note(message.as_bytes()));
        }
        assert_eq!(latency.quantile(0.98), Some(Duration::from_millis(10)));
        assert_eq!(latency.quantile(0.99), Some(Duration::from_millis(1510)));
    }

    #[test]
    fn a_message_without_an_envelope_has_no_time() {
        assert_eq!(rx(b"<13>1 - - - - - - text"), None);
        assert_eq!(rx(b"x rx=\"12"), None);
    }
}
