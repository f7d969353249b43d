//! Runs the senders, and sums up what they did.

use super::answers::Answers;
use super::args::Plan;
use super::marks::{Kind, MarkCount, Summary};
use super::meter::Meter;
use crate::failure::Failure;
use rustix::time::{ClockId, clock_gettime};
use std::io;

/// What one sender did.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Records: marks 0 to this, exclusive.
    pub sent: u64,
    /// Bytes of them as they went out, without repeats.
    pub bytes: u64,
    /// Sends that the kernel refused because nobody listened.
    pub refused: u64,
    /// What was answered, where the protocol answers.
    pub answers: Option<Answers>,
}

/// A sender that waits for nobody; all of them take turns in one thread.
pub trait Sender {
    /// What all senders of a run share: templates, chance.
    type Shared;
    /// Records that go together.
    fn unit(&self) -> u64 {
        1
    }
    /// Most records that one [`Sender::send`] takes.
    fn most(&self) -> u64;
    /// Writes and sends `count` records, all of them.
    fn send(&mut self, count: u64, shared: &mut Self::Shared) -> io::Result<()>;
    /// Tells the receiver that no more comes.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// What it did.
    fn tally(&self) -> Tally;
}

/// A sender that waits for answers; each has a thread.
pub trait Talker: Send {
    /// Sends what the meter hands out, until there is no more and all is answered or given up.
    fn run(&mut self, meter: &Meter) -> io::Result<()>;
    /// What it did.
    fn tally(&self) -> Tally;
}

/// Sends all of it, the senders in turn.
pub fn in_turn<S: Sender>(
    kind: Kind,
    plan: &Plan,
    senders: &mut [S],
    shared: &mut S::Shared,
) -> Result<Summary, Failure> {
    let (cpu, meter) = (cpu_seconds(), Meter::start(plan.pace));
    let mut turn = 0;
    while let Some(count) = meter.wait(senders[turn].unit(), senders[turn].most()) {
        senders[turn].send(count, shared).map_err(|error| plan.failed(error))?;
        turn = (turn + 1) % senders.len();
    }
    senders.iter_mut().try_for_each(Sender::finish).map_err(|error| plan.failed(error))?;
    Ok(summary(kind, plan, &meter, cpu, senders.iter().map(Sender::tally)))
}

/// Sends all of it, the senders at once.
pub fn in_threads<T: Talker>(kind: Kind, plan: &Plan, talkers: &mut [T]) -> Result<Summary, Failure> {
    let (cpu, meter) = (cpu_seconds(), Meter::start(plan.pace));
    std::thread::scope(|scope| {
        let meter = &meter;
        let threads: Vec<_> = talkers.iter_mut().map(|talker| scope.spawn(move || talker.run(meter))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a panic ends the program"))
    })
    .map_err(|error| plan.failed(error))?;
    Ok(summary(kind, plan, &meter, cpu, talkers.iter().map(Talker::tally)))
}

fn summary(kind: Kind, plan: &Plan, meter: &Meter, cpu: f64, tallies: impl Iterator<Item = Tally>) -> Summary {
    let (seconds, tallies) = (meter.elapsed().as_secs_f64(), tallies.collect::<Vec<_>>());
    let sent = tallies.iter().map(|tally| tally.sent).sum();
    let counts = tallies.iter().enumerate();
    Summary {
        mark: plan.run.clone(),
        kind,
        to: plan.to.to_string(),
        proto: plan.proto.to_owned(),
        sent,
        bytes: tallies.iter().map(|tally| tally.bytes).sum(),
        seconds,
        rate: sent as f64 / seconds.max(1e-9),
        cpu_s: cpu_seconds() - cpu,
        refused: tallies.iter().map(|tally| tally.refused).sum(),
        senders: counts.map(|(id, tally)| MarkCount { sender: id as u32, count: tally.sent }).collect(),
        answers: Answers::sum(tallies.iter().filter_map(|tally| tally.answers.as_ref())).map(Answers::summary),
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
