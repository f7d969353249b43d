//! The size of the ring and of its streams, looked at again each second and whenever the disk is full: the file system
//! may grow and shrink, and others may take room on it. The arithmetic is in [`raven_buffer::shares`].

use super::Store;
use raven_buffer::shares::{self, Claim, Space};
use raven_model::config::Disk;
use raven_model::report::{Forecast, RingStatus, StreamStatus};
use raven_model::stream::Stream;
use raven_model::units::{ByteCount, Seq};
use std::collections::BTreeMap;
use std::time::Duration;

/// Fills of the ring at which an operator is told, percent.
const MARKS: [u8; 3] = [70, 85, 95];
/// A mark is left when the fill is so much below it: a segment that goes must not make it pass again and again.
const BACK: f64 = 5.0;

/// What the ring may take.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    space: Space,
    granted: u64,
    total: u64,
    /// What it would take to go on without removing anything.
    need: u64,
    mark: Watermark,
    passed: BTreeMap<String, u64>,
    /// It was said that others have taken the room.
    said_short: bool,
}

/// The highest mark that the fill has passed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Watermark(u8);

impl Watermark {
    /// Takes the fill in percent; true when a higher mark was passed.
    fn step(&mut self, fill: f64) -> bool {
        let passed = MARKS.into_iter().rev().find(|mark| fill >= f64::from(*mark)).unwrap_or(0);
        let left = MARKS.into_iter().rev().find(|mark| fill >= f64::from(*mark) - BACK).unwrap_or(0);
        let before = self.0;
        self.0 = if passed > before { passed } else { before.min(left) };
        self.0 > before
    }
}

impl Sizes {
    /// Most bytes of the ring.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that can be stored before something has to go.
    pub(super) const fn free(&self) -> u64 {
        self.total.saturating_sub(self.need)
    }

    /// Percent of the quota that are taken or needed next; above 100 something has to go.
    fn fill(&self) -> f64 {
        if self.total == 0 { 100.0 } else { self.need as f64 * 100.0 / self.total as f64 }
    }
}

impl Store {
    /// Parts of `total` by stream, of those that are kept and of `more`.
    pub(super) fn parts(&self, total: u64, more: &[Stream]) -> BTreeMap<Stream, u64> {
        let streams: Vec<Stream> = self.kept.iter().map(|kept| kept.stream).chain(more.iter().copied()).collect();
        let parts = shares::by_weight(total, streams.iter().map(|stream| self.config.buffer.weight(*stream)));
        streams.into_iter().zip(parts).collect()
    }

    /// Asks the file system how much there is, and divides it.
    pub(super) fn measure(&mut self) {
        match self.world.space(&self.ring) {
            Ok(space) => {
                let ours = self.kept.iter().map(|kept| kept.writer.disk_bytes()).sum();
                self.sizes.space = Space { ours, ..space };
                self.sizes.granted = granted(space.size, self.config.buffer.disk);
                self.sizes.total = shares::total(self.sizes.granted, self.sizes.space);
            }
            // The last answer holds.
            Err(error) => eprintln!("raven-worker store: {error:#}"),
        }
        self.divide();
        self.tell_short();
        if self.sizes.mark.step(self.sizes.fill()) {
            let mark = self.sizes.mark.0;
            *self.sizes.passed.entry(mark.to_string()).or_default() += 1;
            let quota = ByteCount(self.sizes.total);
            eprintln!("raven-worker store: the ring is {mark} % full; it may take {quota}");
        }
    }

    /// Gives each stream its part of what the ring may take.
    pub(super) fn divide(&mut self) {
        let buffer = &self.config.buffer;
        let claim = |kept: &super::Kept| Claim { weight: buffer.weight(kept.stream), need: kept.writer.need() };
        let claims: Vec<Claim> = self.kept.iter().map(claim).collect();
        self.sizes.need = claims.iter().map(|claim| claim.need).sum();
        let limits = shares::limits(self.sizes.total, &claims);
        let parts = self.parts(self.sizes.total, &[]);
        let wanted = self.config.buffer.segment.map(|bytes| bytes.0);
        for (kept, limit) in self.kept.iter_mut().zip(limits) {
            kept.writer.set_quota(limit, self.config.buffer.keep(kept.stream));
            kept.writer.set_segment(shares::segment(parts[&kept.stream], wanted));
        }
    }

    /// Says once when others have taken room that the ring was granted, and when it has it again.
    fn tell_short(&mut self) {
        let Sizes { granted, total, said_short, .. } = self.sizes;
        let is_short = if said_short { total < granted / 4 * 3 } else { total < granted / 2 };
        if is_short != said_short {
            self.sizes.said_short = is_short;
            let (granted, total) = (ByteCount(granted), ByteCount(total));
            let why = if is_short { "others take the rest of the disk" } else { "the disk has room again" };
            eprintln!("raven-worker store: the ring may take {total} of the {granted} it is granted: {why}");
        }
    }

    /// For operators.
    pub(super) fn ring_status(&self, streams: &[StreamStatus]) -> RingStatus {
        let Sizes { space, granted, total, mark, .. } = self.sizes;
        RingStatus {
            size: space.size,
            free: space.free,
            granted,
            quota: total,
            allocated: streams.iter().map(|stream| stream.bytes_allocated).sum(),
            fill: (self.sizes.fill() * 10.0).round() / 10.0,
            watermark: mark.0,
            passed: self.sizes.passed.clone(),
            oldest_ns: streams.iter().filter_map(|stream| stream.oldest_ns).min(),
            forecast: together(streams, total),
        }
    }

    /// How far each configured destination has acknowledged the stream; one that the uplink has not spoken of yet has
    /// acknowledged nothing.
    pub(super) fn acknowledged(&self, n: usize) -> BTreeMap<String, Seq> {
        let (kept, stream) = (&self.kept[n], self.kept[n].stream.name());
        let wanted = self.config.uplink.iter().filter(|(_, to)| to.streams.iter().any(|s| s == stream));
        wanted.map(|(name, _)| (name.clone(), kept.low.get(name).copied().unwrap_or_default())).collect()
    }
}

/// The streams' forecasts as one: their rates come together, and the whole ring is there for them.
fn together(streams: &[StreamStatus], total: u64) -> Vec<Forecast> {
    let filled = streams.iter().map(|stream| stream.bytes_disk).sum();
    let of = |window: &str| {
        let all: Vec<&Forecast> =
            streams.iter().flat_map(|stream| &stream.forecast).filter(|forecast| forecast.window == window).collect();
        let covered = all.iter().map(|forecast| forecast.covered_s).max()?;
        let rate = all.iter().map(|forecast| forecast.bytes_per_s).sum();
        Some(Forecast::of(window, rate, Duration::from_secs(covered), total, filled))
    };
    ["hour", "day", "week"].into_iter().filter_map(of).collect()
}

/// Bytes that the ring is granted: never more than 95 % of its file system.
pub(super) fn granted(size: u64, disk: Disk) -> u64 {
    match disk {
        Disk::Share(percent) => size / 100 * u64::from(percent),
        Disk::Amount(bytes) => bytes.0.min(size / 100 * 95),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_passed_once_and_left_well_below_it() {
        let mut mark = Watermark::default();
        let told: Vec<bool> =
            [10.0, 69.9, 70.0, 84.0, 71.0, 65.1, 70.0, 64.9, 70.0].into_iter().map(|fill| mark.step(fill)).collect();
        assert_eq!(told, [false, false, true, false, false, false, false, false, true]);
        assert!(mark.step(96.0) && mark.0 == 95, "two at once");
        assert!(!mark.step(88.0) && mark.0 == 85);
        assert!(mark.step(95.0));
        assert!(!mark.step(0.0) && mark.0 == 0);
    }

    #[test]
    fn the_streams_forecasts_come_together() {
        let forecast = |window: &str, rate: f64| Forecast::of(window, rate, Duration::from_mins(1), 1000, 0);
        let stream = |rate| StreamStatus {
            bytes_disk: 100,
            forecast: vec![forecast("hour", rate), forecast("day", rate / 2.0)],
            ..StreamStatus::default()
        };
        let ring = together(&[stream(6.0), stream(4.0)], 2000);
        let told: Vec<_> = ring.iter().map(|f| (f.window.as_str(), f.holds_s, f.time_to_full_s)).collect();
        assert_eq!(told, [("hour", Some(200), Some(180)), ("day", Some(400), Some(360))]);
        assert_eq!(together(&[StreamStatus::default()], 2000), []);
    }
}
