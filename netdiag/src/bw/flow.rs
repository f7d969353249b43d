//! All streams of a test, and its clock: the same at either end.

use super::meter::{Lane, Meter, Tally};
use super::params::Plan;
use super::results::{Results, join};
use super::stream::{Budget, Phase, Stream, Work, thread_cpu};
use raven_model::diag::bw::{BandwidthResult, Cpu, Direction, Interval, Transport};
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two intervals.
const SECOND: Duration = Duration::from_secs(1);
/// A last interval that is shorter is none of its own.
const SLIVER: Duration = Duration::from_millis(20);

/// What a server allows, in this test.
#[derive(Debug, Clone, Default)]
pub struct Caps {
    /// Bits a second in each direction, all streams together.
    pub rate: Option<u64>,
    /// Bytes, all streams together.
    pub budget: Option<Budget>,
}

/// Data that flows.
#[derive(Debug)]
pub struct Flow {
    streams: Vec<Stream>,
    phase: Arc<Phase>,
    meter: Meter,
    began: Instant,
    /// Since it began: when what is counted begins, and when the next interval ends.
    omit: Duration,
    next: Duration,
    /// Processor time of the thread that runs the test, at the beginning.
    cpu: (Duration, Duration),
}

impl Flow {
    /// Begins, over sockets in the order in which they were made.
    pub fn start(plan: &Plan, is_client: bool, sockets: Vec<Socket>, caps: &Caps) -> io::Result<Self> {
        let lanes = Lane::all(plan.counts(), is_client);
        let omit = Duration::from_secs(plan.omit.into());
        let meter = Meter::new(lanes.clone(), plan.transport, plan.omit > 0);
        let next = if plan.omit > 0 { SECOND.min(omit) } else { SECOND };
        let phase = Arc::<Phase>::default();
        let (began, cpu) = (Instant::now(), thread_cpu());
        let mut flow = Self { streams: Vec::new(), phase, meter, began, omit, next, cpu };
        for (lane, socket) in lanes.into_iter().zip(sockets) {
            let stream = Stream::start(lane, socket, &work(plan, lane, caps), &flow.phase)?;
            flow.streams.push(stream);
        }
        Ok(flow)
    }

    /// When the next interval ends.
    pub fn due(&self) -> Instant {
        self.began + self.next
    }

    /// When a test of so many seconds ends.
    pub fn end(&self, seconds: u32) -> Instant {
        self.began + self.omit + Duration::from_secs(seconds.into())
    }

    /// The interval that has ended, if one has.
    pub fn tick(&mut self) -> Option<Interval> {
        let now = self.began.elapsed();
        if now < self.next {
            return None;
        }
        let interval = self.meter.interval(now, self.tallies());
        if self.meter.is_omitting() && now >= self.omit {
            self.meter.count_from_here();
        }
        self.next = if self.meter.is_omitting() {
            (self.next + SECOND).min(self.omit)
        } else {
            // A clock that was late catches up and does not run fast.
            (self.next + SECOND).max(now + SECOND / 2)
        };
        Some(interval)
    }

    fn tallies(&self) -> Vec<Tally> {
        self.streams.iter().map(Stream::tally).collect()
    }

    /// Ends what this end sends, and counts no longer. The last interval, where it is worth one.
    pub fn finish(&mut self) -> Option<Interval> {
        self.phase.drain();
        let now = self.began.elapsed();
        let is_sliver = now.saturating_sub(self.meter.last()) < SLIVER;
        let interval = self.meter.interval(now, self.tallies());
        // What is being written ends by itself, and belongs to no second.
        for stream in self.streams.iter_mut().filter(|stream| stream.lane.direction == Direction::Up) {
            stream.join();
        }
        (!is_sliver).then_some(interval)
    }

    /// Whether a stream ended before its time.
    pub fn is_broken(&self) -> bool {
        self.streams.iter().any(Stream::is_broken)
    }

    /// Whether all bytes that are allowed were moved.
    pub fn is_spent(&self) -> bool {
        self.streams.iter().any(Stream::is_spent)
    }

    /// Bytes that came here, and for how long: what a limit of the rate is held against.
    pub fn received(&self) -> (u64, Duration) {
        let down = self.streams.iter().filter(|stream| stream.lane.direction == Direction::Down);
        (down.map(|stream| stream.tally().bytes).sum(), self.began.elapsed())
    }

    /// Bytes that were moved.
    pub fn bytes(&self) -> u64 {
        self.streams.iter().map(|stream| stream.tally().bytes).sum()
    }

    /// Ends all threads.
    pub fn stop(&mut self) {
        self.phase.stop();
        self.streams.iter().for_each(Stream::shut);
        self.streams.iter_mut().for_each(Stream::join);
    }

    fn cpu(&self) -> Cpu {
        let now = thread_cpu();
        let mut used = (now.0.saturating_sub(self.cpu.0), now.1.saturating_sub(self.cpu.1));
        for (user, system) in self.streams.iter().map(Stream::cpu) {
            used = (used.0 + user, used.1 + system);
        }
        let whole = self.meter.last().as_secs_f64().max(0.001);
        Cpu { user: used.0.as_secs_f64() * 100.0 / whole, system: used.1.as_secs_f64() * 100.0 / whole }
    }

    /// This end's results, once it has stopped.
    pub fn results(&self) -> Results {
        Results::of(&self.meter, self.cpu())
    }

    /// What both ends counted.
    pub fn joined(&self, plan: &Plan, theirs: &Results, target: &str, peer: SocketAddr, port: u16) -> BandwidthResult {
        let (mut streams, sums) = join(&self.meter, theirs, plan.transport);
        let directions: Vec<Direction> = sums.iter().map(|sum| sum.direction).collect();
        for (transfer, stream) in streams.iter_mut().zip(&self.streams) {
            transfer.ends = stream.ends();
        }
        BandwidthResult {
            target: target.to_owned(),
            address: peer.ip(),
            port,
            transport: plan.transport,
            direction: if let [one] = directions[..] { one } else { Direction::Both },
            streams,
            sums,
            cpu: self.cpu(),
            remote_cpu: theirs.cpu(),
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a stream is to do: as the client asks, within what the server allows.
fn work(plan: &Plan, lane: Lane, caps: &Caps) -> Work {
    let share = caps.rate.map(|rate| (rate / plan.streams as u64).max(1));
    let sends = lane.direction == Direction::Up;
    let rate = match (sends, plan.transport) {
        (true, _) => plan.rate.into_iter().chain(share).min(),
        // Who reads slowly slows its sender.
        (false, Transport::Tcp) => share,
        (false, Transport::Udp) => None,
    };
    // Small blocks, where a whole one would be a second's worth.
    let small = rate.map_or(usize::MAX, |rate| ((rate / 800) as usize).max(1460));
    let length = if plan.transport == Transport::Tcp { plan.length.min(small) } else { plan.length };
    Work { transport: plan.transport, length, rate, wide: plan.wide, budget: caps.budget.clone() }
}
