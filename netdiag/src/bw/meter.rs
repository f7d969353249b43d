//! Counters of streams turned into what happened in a second, and into what is counted at the end.

use raven_model::diag::bw::{Datagrams, Direction, Interval, Slice, TcpState, Transport, Volume};
use std::time::Duration;

/// A stream, as this box sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// As iperf3 numbers them.
    pub id: u32,
    /// Up: this box sends.
    pub direction: Direction,
}

impl Lane {
    /// All streams of a test in the order in which they are made: those from the client come first.
    pub fn all((from_client, to_client): (usize, usize), is_client: bool) -> Vec<Self> {
        let sends = |n: usize| (n < from_client) == is_client;
        let direction = |n| if sends(n) { Direction::Up } else { Direction::Down };
        // iperf3 has always left out 2.
        let id = |n: usize| if n == 0 { 1 } else { n as u32 + 2 };
        (0..from_client + to_client).map(|n| Self { id: id(n), direction: direction(n) }).collect()
    }
}

/// What a stream has counted since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Payload.
    pub bytes: u64,
    /// Datagrams sent; of a receiver the highest number.
    pub packets: u64,
    /// Of them not received.
    pub lost: u64,
    /// Of them received after a later one.
    pub out_of_order: u64,
    /// Seconds, at this moment.
    pub jitter: f64,
    /// TCP segments sent again.
    pub retransmits: Option<u64>,
    /// TCP at this moment.
    pub tcp: Option<TcpState>,
}

impl Tally {
    /// What came since `base`.
    #[must_use]
    pub fn since(self, base: &Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(base.bytes),
            packets: self.packets.saturating_sub(base.packets),
            lost: self.lost.saturating_sub(base.lost),
            out_of_order: self.out_of_order.saturating_sub(base.out_of_order),
            retransmits: self.retransmits.map(|now| now.saturating_sub(base.retransmits.unwrap_or_default())),
            ..self
        }
    }

    /// As a receiver of datagrams has it.
    pub fn datagrams(&self) -> Datagrams {
        Datagrams {
            sent: self.packets,
            lost: self.lost,
            loss: percent(self.lost, self.packets),
            out_of_order: Some(self.out_of_order),
            jitter_us: self.jitter * 1e6,
        }
    }
}

/// Percent, of nothing 0.
pub fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 100.0 / whole as f64).min(100.0) }
}

/// Several in one direction.
pub fn sum_of_datagrams(all: impl Iterator<Item = Datagrams>) -> Option<Datagrams> {
    let (mut sum, mut count) = (Datagrams { out_of_order: Some(0), ..Datagrams::default() }, 0);
    for one in all {
        sum.sent = sum.sent.saturating_add(one.sent);
        sum.lost = sum.lost.saturating_add(one.lost);
        sum.out_of_order = sum.out_of_order.zip(one.out_of_order).map(|(sum, one)| sum + one);
        sum.jitter_us += one.jitter_us;
        count += 1;
    }
    sum.loss = percent(sum.lost, sum.sent);
    sum.jitter_us /= f64::from(count.max(1));
    (count > 0).then_some(sum)
}

/// Counters over time.
#[derive(Debug)]
pub struct Meter {
    lanes: Vec<Lane>,
    transport: Transport,
    /// Where what is counted begins, and where the last second ended.
    base: (Duration, Vec<Tally>),
    last: (Duration, Vec<Tally>),
    omits: bool,
}

impl Meter {
    /// Of these streams; `omits`: what comes first is not counted.
    pub fn new(lanes: Vec<Lane>, transport: Transport, omits: bool) -> Self {
        let zero = (Duration::ZERO, vec![Tally::default(); lanes.len()]);
        Self { lanes, transport, base: zero.clone(), last: zero, omits }
    }

    /// The streams.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// When the last interval ended, since the beginning.
    pub const fn last(&self) -> Duration {
        self.last.0
    }

    /// Whether what comes now is not counted.
    pub const fn is_omitting(&self) -> bool {
        self.omits
    }

    /// What is counted begins here.
    pub fn count_from_here(&mut self) {
        self.base.clone_from(&self.last);
        self.omits = false;
    }

    /// What happened since the last time.
    pub fn interval(&mut self, now: Duration, tallies: Vec<Tally>) -> Interval {
        let seconds = now.saturating_sub(self.last.0).as_secs_f64();
        let slices = self.lanes.iter().zip(&tallies).zip(&self.last.1);
        let slices = slices.map(|((lane, now), last)| self.slice(*lane, &now.since(last), seconds));
        let streams: Vec<Slice> = slices.collect();
        let sums = [Direction::Up, Direction::Down].into_iter().filter_map(|way| sum(&streams, way, seconds)).collect();
        let since = |at: Duration| at.saturating_sub(self.base.0).as_secs_f64();
        let interval = Interval { from: since(self.last.0), to: since(now), omitted: self.omits, streams, sums };
        self.last = (now, tallies);
        interval
    }

    fn slice(&self, lane: Lane, tally: &Tally, seconds: f64) -> Slice {
        let (is_udp, is_up) = (self.transport == Transport::Udp, lane.direction == Direction::Up);
        Slice {
            stream: Some(lane.id),
            direction: lane.direction,
            volume: Volume::new(tally.bytes, seconds),
            retransmits: tally.retransmits,
            tcp: tally.tcp,
            packets: (is_udp && is_up).then_some(tally.packets),
            udp: (is_udp && !is_up).then(|| tally.datagrams()),
        }
    }

    /// What is counted up to the last interval's end: seconds, and of each stream what came before and since.
    pub fn counted(&self) -> (f64, Vec<(Tally, Tally)>) {
        let seconds = self.last.0.saturating_sub(self.base.0).as_secs_f64();
        let both = self.base.1.iter().zip(&self.last.1).map(|(base, last)| (*base, last.since(base)));
        (seconds, both.collect())
    }
}

fn sum(streams: &[Slice], direction: Direction, seconds: f64) -> Option<Slice> {
    let all: Vec<&Slice> = streams.iter().filter(|slice| slice.direction == direction).collect();
    (!all.is_empty()).then(|| Slice {
        stream: None,
        direction,
        volume: Volume::new(all.iter().map(|slice| slice.volume.bytes).sum(), seconds),
        retransmits: all.iter().map(|slice| slice.retransmits).sum(),
        tcp: None,
        packets: all.iter().map(|slice| slice.packets).sum(),
        udp: sum_of_datagrams(all.iter().filter_map(|slice| slice.udp)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn tally(bytes: u64, packets: u64, lost: u64) -> Tally {
        Tally { bytes, packets, lost, out_of_order: 0, jitter: 0.001, retransmits: None, tcp: None }
    }

    #[test]
    fn streams_are_numbered_as_iperf3_does() {
        let ids = |lanes: &[Lane]| lanes.iter().map(|lane| (lane.id, lane.direction)).collect::<Vec<_>>();
        let client = Lane::all((2, 2), true);
        let (up, down) = (Direction::Up, Direction::Down);
        assert_eq!(ids(&client), [(1, up), (3, up), (4, down), (5, down)]);
        assert_eq!(ids(&Lane::all((2, 2), false)), [(1, down), (3, down), (4, up), (5, up)]);
        assert_eq!(ids(&Lane::all((0, 1), true)), [(1, down)]);
    }

    #[test]
    fn seconds_are_differences_and_what_is_omitted_is_not_counted() {
        let mut meter = Meter::new(Lane::all((0, 2), true), Transport::Udp, true);
        let second = Duration::from_secs(1);
        let first = meter.interval(second, vec![tally(1000, 10, 1), tally(500, 5, 0)]);
        assert!(first.omitted && (first.from, first.to) == (0.0, 1.0), "{first:?}");
        assert!((first.sums[0].volume.bits_per_second - 12_000.0).abs() < 1e-9, "{first:?}");
        meter.count_from_here();
        let next = meter.interval(second * 2, vec![tally(3000, 30, 5), tally(500, 5, 0)]);
        assert_eq!((next.omitted, next.from, next.to, next.streams[0].volume.bytes), (false, 0.0, 1.0, 2000));
        let udp = next.sums[0].udp.unwrap_or_default();
        assert_eq!((udp.sent, udp.lost, udp.loss, udp.out_of_order), (20, 4, 20.0, Some(0)));
        assert!((udp.jitter_us - 1000.0).abs() < 1e-6, "{udp:?}");
        let (seconds, counted) = meter.counted();
        assert_eq!((seconds, counted[0].0.packets, counted[0].1.packets), (1.0, 10, 20));
    }
}
