//! What a scheduled test says in numbers. Its times are a histogram with classic buckets, since the `schedule` role was started.

use super::{Family, Point};
use raven_model::diag::schedule::{BUCKETS_US, DiagRecord, Histogram, Outcome};

/// A name, and where its number is.
type Column = (&'static str, fn(&DiagRecord) -> Option<f64>);

const COLUMNS: &[Column] = &[
    ("raven_diag_well", |r| Some(f64::from(u8::from(r.outcome == Outcome::Well)))),
    ("raven_diag_duration_seconds", |r| Some(r.took_ms as f64 / 1e3)),
    ("raven_diag_loss_ratio", |r| r.figures.loss.map(|loss| loss / 100.0)),
    ("raven_diag_rtt_p50_seconds", |r| r.figures.rtt.map(|rtt| f64::from(rtt.p50_us) / 1e6)),
    ("raven_diag_rtt_p95_seconds", |r| r.figures.rtt.map(|rtt| f64::from(rtt.p95_us) / 1e6)),
    ("raven_diag_jitter_seconds", |r| r.figures.rtt.map(|rtt| f64::from(rtt.jitter_us) / 1e6)),
    ("raven_diag_time_seconds", |r| r.figures.time_us.map(|us| f64::from(us) / 1e6)),
    // As of interfaces: bytes a second.
    ("raven_diag_rate_bytes", |r| r.figures.rate.map(|bits| bits / 8.0)),
    ("raven_diag_mtu_bytes", |r| r.figures.mtu.map(f64::from)),
    ("raven_diag_offset_seconds", |r| r.figures.offset_us.map(|us| us as f64 / 1e6)),
    ("raven_diag_certificate_left_seconds", |r| r.figures.days_left.map(|days| days as f64 * 86_400.0)),
    ("raven_diag_hops", |r| r.figures.hops.map(f64::from)),
];

/// Upper ends of buckets as Prometheus writes them, in seconds.
const ENDS: [&str; BUCKETS_US.len() + 1] = [
    "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf",
];

/// All numbers of a record; none of a test that was not made.
pub fn families(record: &DiagRecord) -> Vec<Family<'_>> {
    if record.outcome == Outcome::Skipped {
        return Vec::new();
    }
    let labels = || vec![("schedule", record.schedule.as_str()), ("test", record.test.name())];
    let gauge = |(name, of): &Column| {
        let points = vec![Point { labels: labels(), value: of(record)? }];
        Some(Family { name, counter: false, points })
    };
    let mut all: Vec<Family<'_>> = COLUMNS.iter().filter_map(gauge).collect();
    all.extend(record.times.iter().flat_map(|times| histogram(times, &labels())));
    all
}

fn histogram<'a>(times: &Histogram, labels: &[(&'static str, &'a str)]) -> [Family<'a>; 3] {
    let mut so_far = 0_u64;
    let buckets = ENDS.iter().zip(times.counts).map(|(end, count)| {
        so_far = so_far.saturating_add(count);
        let labels = labels.iter().copied().chain([("le", *end)]).collect();
        Point { labels, value: so_far as f64 }
    });
    let one = |value| vec![Point { labels: labels.to_vec(), value }];
    [
        Family { name: "raven_diag_times_seconds_bucket", counter: true, points: buckets.collect() },
        Family { name: "raven_diag_times_seconds_sum", counter: true, points: one(times.sum_us as f64 / 1e6) },
        Family { name: "raven_diag_times_seconds_count", counter: true, points: one(times.count() as f64) },
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As docs/formats.md shows it.
    fn record() -> DiagRecord {
        let mut record = DiagRecord::read(include_bytes!("example.json").trim_ascii()).unwrap();
        let figures = &mut record.figures;
        (figures.time_us, figures.rate, figures.mtu, figures.offset_us) = (Some(1500), Some(8e6), Some(1400), Some(-2));
        (figures.days_left, figures.hops) = (Some(2), Some(3));
        record
    }

    #[test]
    fn the_example_in_the_documentation_is_a_record() {
        let text = include_str!("../../../docs/formats.md");
        assert!(text.contains(include_str!("example.json").trim_ascii()));
    }

    #[test]
    fn names_stand_in_the_documentation_and_buckets_add_up() {
        let record = record();
        let all = families(&record);
        assert_eq!(all.len(), COLUMNS.len() + 3);
        let text = include_str!("../../../docs/formats.md");
        for family in &all {
            let name = family.name.strip_prefix("raven_diag_").unwrap();
            assert!(text.contains(&format!("`{name}`")), "{name} is not in docs/formats.md");
        }
        let buckets = &all[COLUMNS.len()].points;
        let values: Vec<u64> = buckets.iter().map(|point| point.value as u64).collect();
        assert!(values.is_sorted() && values.last() == Some(&record.times.as_ref().unwrap().count()), "{values:?}");
        for (end, us) in ENDS.iter().zip(BUCKETS_US) {
            assert_eq!(end.parse::<f64>().unwrap().to_bits(), (f64::from(us) / 1e6).to_bits());
        }
        assert_eq!(buckets[14].labels, [("schedule", "gateway"), ("test", "ping"), ("le", "+Inf")]);
    }

    #[test]
    fn a_test_that_was_not_made_has_no_numbers() {
        assert!(families(&DiagRecord { outcome: Outcome::Skipped, ..record() }).is_empty());
    }
}
