//! A check of the ring for an operator, a slice at a time; with `repair` the store then mends what was found.

use super::{Line, Lines, Step};
use crate::decode::ring::Ring;
use anyhow::Context;
use raven_buffer::tail::Answer;
use raven_buffer::verify::{Asked, Checked, Found, Verify};
use raven_model::query::VerifyView;
use raven_model::units::Seq;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often it is told how far the check is.
const PROGRESS: Duration = Duration::from_millis(200);
/// The store is asked again after this.
const BUSY: Duration = Duration::from_millis(100);
/// Repairs told one by one; of more only the number is told.
const TOLD_MAX: usize = 1000;

/// The work for one client.
pub struct Check {
    stream: String,
    repair: bool,
    phase: Phase,
    told: Instant,
}

enum Phase {
    /// How far the ring goes is not known yet.
    Start,
    Read(Box<Verify>),
    /// The store is asked to mend one place after the other.
    Mend {
        view: Box<VerifyView>,
        left: VecDeque<(Seq, Seq)>,
        more: u64,
    },
}

impl Check {
    /// Of this stream.
    pub fn new(stream: String, repair: bool) -> Self {
        Self { stream, repair, phase: Phase::Start, told: Instant::now() }
    }

    /// Does a piece of work: some milliseconds.
    pub fn step(&mut self, ring: &mut Ring, lines: &mut Lines) -> anyhow::Result<Step> {
        match &mut self.phase {
            Phase::Start => match ring.ask(&self.stream, Seq(u64::MAX))? {
                Some(Answer::Next(until)) => {
                    self.phase = Phase::Read(Box::new(Verify::beside_store(&ring.dir, &self.stream, until)?));
                    Ok(Step::Again)
                }
                _ => Ok(Step::Later(BUSY)),
            },
            Phase::Read(_) => self.read(ring, lines),
            Phase::Mend { .. } => self.mend(ring, lines),
        }
    }

    fn read(&mut self, ring: &mut Ring, lines: &mut Lines) -> anyhow::Result<Step> {
        let Phase::Read(verify) = &mut self.phase else { return Ok(Step::Again) };
        let mut failed = None;
        let checked = verify.step(&mut |seq| match ring.ask(&self.stream, seq) {
            Ok(Some(Answer::Block { first, value })) => Asked::Block(first, value),
            Ok(Some(Answer::Sealed)) => Asked::Sealed,
            Ok(Some(Answer::Next(_))) => Asked::End,
            Ok(None) => Asked::Busy,
            Err(error) => {
                failed = Some(error);
                Asked::Busy
            }
        })?;
        if let Some(error) = failed {
            return Err(error).context("the open segment could not be checked");
        }
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            lines.line(&Line::Verify(verify.view()));
        }
        match checked {
            Checked::Again => Ok(Step::Again),
            Checked::Later => Ok(Step::Later(BUSY)),
            Checked::All => Ok(self.end(lines)),
        }
    }

    fn end(&mut self, lines: &mut Lines) -> Step {
        let Phase::Read(verify) = std::mem::replace(&mut self.phase, Phase::Start) else { return Step::Done };
        let Found { view, uncounted } = verify.finish();
        if !self.repair {
            lines.line(&Line::Verify(&view));
            return Step::Done;
        }
        // The catalogue last: it holds what the others changed.
        let left = uncounted.into_iter().chain([(Seq(0), Seq(0))]).collect();
        self.phase = Phase::Mend { view: Box::new(view), left, more: 0 };
        Step::Again
    }

    /// One place. What the store enters may cover only the beginning of a range: the rest is asked for at the next
    /// repair, and told by the next check.
    fn mend(&mut self, ring: &mut Ring, lines: &mut Lines) -> anyhow::Result<Step> {
        let Phase::Mend { view, left, more } = &mut self.phase else { return Ok(Step::Done) };
        let Some((first, next)) = left.front().copied() else {
            if *more > 0 {
                view.repairs.push(format!("and {more} more places"));
            }
            lines.line(&Line::Verify(view));
            return Ok(Step::Done);
        };
        let Some(done) = ring.repair(&self.stream, first)? else { return Ok(Step::Later(BUSY)) };
        left.pop_front();
        let what = done.what;
        let told = if first == Seq(0) {
            what
        } else {
            format!("records {first} to {}: {what} ({} records newly counted as lost)", next.0 - 1, done.lost)
        };
        if view.repairs.len() < TOLD_MAX {
            view.repairs.push(told);
        } else {
            *more += 1;
        }
        Ok(Step::Again)
    }
}
