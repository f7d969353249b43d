//! Blocks from wherever they are: sealed segments are read here, the open one is asked from the store.

use anyhow::bail;
use raven_buffer::tail::{Answer, Repaired, Request, TailClient, TailError};
use raven_buffer::{Block, BlockHead, Found, RingReader};
use raven_model::prefix::Prefix;
use raven_model::units::{Seq, UnixNanos};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the store may take to answer.
const STORE: Duration = Duration::from_millis(500);
/// The same when it is to mend something: it may have to open a large segment.
const REPAIR: Duration = Duration::from_secs(2);
/// After it did not, nobody waits for it again for so long: other clients read sealed segments meanwhile.
const AWAY: Duration = Duration::from_millis(500);
/// How often the store is told of damage: it looks at the place itself, and has better things to do.
const DAMAGE: Duration = Duration::from_millis(100);
/// Blocks of other senders that are passed over at a time: about a millisecond.
const PASSED: usize = 256;
/// Places of damage that wait to be told, and that are remembered as told.
const DAMAGES_MAX: usize = 4096;

/// Which clock stamped a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Of that time.
    pub boot_id: [u8; 16],
    /// Wall clock minus monotonic clock, ns: changes when the wall clock is stepped.
    pub offset_ns: i64,
}

/// Which blocks are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Want {
    /// With something that was received at or after.
    pub since: UnixNanos,
    /// That may hold something from there.
    pub source: Option<Prefix>,
}

impl Want {
    /// By its head, and its filter.
    fn wants(&self, head: &BlockHead, value: &[u8]) -> bool {
        head.last_wall >= self.since && self.source.is_none_or(|source| head.may_hold(value, &source))
    }
}

/// What lies at a seq.
#[derive(Debug)]
pub enum Got {
    /// The block that holds it.
    Block(Block),
    /// All below `next` was received before the time that was asked for.
    Older {
        /// Where to go on.
        next: Seq,
        /// Who says so: the clock of one block, or (none) the summary of a whole segment, or another box's clock.
        clock: Option<Clock>,
    },
    /// Nothing below `next` is from the senders that were asked for.
    Others {
        /// Where to go on.
        next: Seq,
        /// Blocks that were passed over; at least one.
        blocks: u64,
        /// Earliest receive time in the first of them.
        first_wall: UnixNanos,
        /// Latest receive time in the last of them.
        last_wall: UnixNanos,
    },
    /// Records that cannot be read.
    Gap {
        /// The first behind them.
        next: Seq,
        /// Why, in words.
        why: String,
    },
    /// Removed: the oldest record held is `first`.
    Before {
        /// Where reading can begin.
        first: Seq,
    },
    /// Not stored yet.
    End,
    /// The store is being restarted.
    Busy,
}

/// Where blocks come from: one stream of the ring, or a test.
pub trait Blocks {
    /// Oldest seq held, as of the last look.
    fn first(&self) -> Seq;
    /// Seq that the next record will get; `None` while the store does not answer.
    fn next_seq(&mut self) -> anyhow::Result<Option<Seq>>;
    /// What lies at `at`, where it is wanted.
    fn get(&mut self, at: Seq, want: &Want) -> anyhow::Result<Got>;
    /// `at` cannot be read: it must be counted.
    fn damaged(&mut self, at: Seq);
    /// Where records of other boxes lie, in order: their times say nothing about those around them.
    fn imports(&self) -> Vec<Range<Seq>>;
}

/// The ring, and the way to the store.
pub struct Ring {
    /// `DIR/ring`.
    pub dir: PathBuf,
    /// `site.name` of this box.
    pub device: String,
    tail: TailClient,
    /// The store did not answer; not asked again before.
    away_until: Option<Instant>,
    told: BTreeSet<(String, Seq)>,
    to_tell: VecDeque<(String, Seq)>,
    tell_at: Instant,
}

impl Ring {
    /// Of this directory, with this way to the store.
    pub fn new(dir: PathBuf, tail: TailClient) -> Self {
        let (told, to_tell) = (BTreeSet::new(), VecDeque::new());
        Self { dir, device: String::new(), tail, away_until: None, told, to_tell, tell_at: Instant::now() }
    }

    /// With the name of this box.
    #[must_use]
    pub fn of_device(mut self, device: &str) -> Self {
        device.clone_into(&mut self.device);
        self
    }

    /// A reader of a stream's sealed segments.
    pub fn reader(&self, stream: &str) -> anyhow::Result<RingReader> {
        let reader = RingReader::open(&self.dir, stream)?;
        if reader.open_first().is_none() {
            bail!("there is no stream `{stream}`");
        }
        Ok(reader)
    }

    /// A stream, to read from.
    pub const fn stream<'a>(&'a mut self, name: &'a str, reader: &'a mut RingReader) -> Stream<'a> {
        Stream { ring: self, name, reader }
    }

    /// The store's answer about `seq`; `None` while it does not answer.
    pub fn ask(&mut self, stream: &str, seq: Seq) -> anyhow::Result<Option<Answer>> {
        if self.away_until.is_some_and(|until| Instant::now() < until) {
            return Ok(None);
        }
        self.away_until = None;
        match self.tail.block(stream, seq, STORE) {
            Ok(answer) => Ok(Some(answer)),
            Err(TailError::Timeout(_)) => {
                self.away_until = Some(Instant::now() + AWAY);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Has the store mend what lies at `seq`; `None` while it does not answer.
    pub fn repair(&mut self, stream: &str, seq: Seq) -> anyhow::Result<Option<Repaired>> {
        match self.tail.repair(stream, seq, REPAIR) {
            Ok(done) => Ok(Some(done)),
            Err(TailError::Timeout(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes damage, once for each place.
    fn note_damage(&mut self, stream: &str, at: Seq) {
        if self.to_tell.len() >= DAMAGES_MAX || self.told.contains(&(stream.to_owned(), at)) {
            return;
        }
        if self.told.len() >= DAMAGES_MAX {
            // Told again it is not counted again: the store knows.
            self.told.clear();
        }
        self.told.insert((stream.to_owned(), at));
        self.to_tell.push_back((stream.to_owned(), at));
    }

    /// Tells the store of damage, a place at a time.
    pub fn tell_damage(&mut self) {
        if Instant::now() < self.tell_at {
            return;
        }
        let Some((stream, seq)) = self.to_tell.front().cloned() else { return };
        self.tell_at = Instant::now() + DAMAGE;
        // A store that takes no more questions is told later.
        if self.tail.send(&Request::Damage { stream, seq }).is_ok() {
            self.to_tell.pop_front();
        }
    }

    /// When [`Ring::tell_damage`] has something to do.
    pub fn due(&self, now: Instant) -> Duration {
        if self.to_tell.is_empty() { Duration::MAX } else { self.tell_at.saturating_duration_since(now) }
    }
}

/// One stream of the ring, for one client.
pub struct Stream<'a> {
    ring: &'a mut Ring,
    name: &'a str,
    reader: &'a mut RingReader,
}

impl Blocks for Stream<'_> {
    fn first(&self) -> Seq {
        self.reader.first().unwrap_or(Seq(1))
    }

    fn next_seq(&mut self) -> anyhow::Result<Option<Seq>> {
        Ok(match self.ring.ask(self.name, Seq(u64::MAX))? {
            Some(Answer::Next(next)) => Some(next),
            _ => None,
        })
    }

    fn get(&mut self, at: Seq, want: &Want) -> anyhow::Result<Got> {
        // Again when the open segment was sealed between two looks.
        for _ in 0..4 {
            let mut looked_at = None;
            let found = self.reader.find_wanted(at, &mut |head, value| {
                looked_at = Some(*head);
                want.wants(head, value)
            })?;
            match (found, looked_at) {
                (None, Some(head)) if head.last_wall < want.since => return Ok(self.older(at, &head, want.since)),
                (None, Some(head)) => return self.pass_over(&head, want),
                (Some(Found::Block(block)), _) => return Ok(Got::Block(block)),
                (Some(Found::Gap { next, why }), _) => return Ok(Got::Gap { next: next.max(at.plus(1)), why }),
                (Some(Found::Before { first }), _) => return Ok(Got::Before { first }),
                (Some(Found::Open) | None, _) => {}
            }
            match self.ring.ask(self.name, at)? {
                Some(Answer::Block { first, value }) => return Ok(open_block(at, first, &value, want)),
                Some(Answer::Next(_)) => return Ok(Got::End),
                Some(Answer::Sealed) => self.reader.refresh()?,
                None => return Ok(Got::Busy),
            }
        }
        Ok(Got::Busy)
    }

    fn damaged(&mut self, at: Seq) {
        self.ring.note_damage(self.name, at);
    }

    fn imports(&self) -> Vec<Range<Seq>> {
        self.reader.ledger().imported_ranges()
    }
}

impl Stream<'_> {
    /// A segment that says that all of it is older is passed over whole; one that cannot say is read.
    fn older(&mut self, at: Seq, head: &BlockHead, since: UnixNanos) -> Got {
        let sealed = self.reader.sealed();
        let behind = sealed.partition_point(|first| *first <= at);
        let segment = sealed.get(behind.wrapping_sub(1)).copied();
        let end = sealed.get(behind).copied().or(self.reader.open_first());
        let summary = segment.and_then(|segment| self.reader.summary(segment).ok().flatten());
        match (summary.and_then(|summary| summary.last_wall), end) {
            (Some(last), Some(end)) if last < since && end > at => Got::Older { next: end, clock: None },
            _ => Got::Older { next: head.next(), clock: clock_of(head) },
        }
    }

    /// Goes on from a block of other senders to the first that is wanted, or that ends the run in another way.
    fn pass_over(&mut self, first: &BlockHead, want: &Want) -> anyhow::Result<Got> {
        let (mut last, mut blocks) = (*first, 1);
        while blocks < PASSED {
            let mut other = None;
            // A block that is wanted is not unpacked here: that comes with the next question.
            self.reader.find_wanted(last.next(), &mut |head, value| {
                other = Some(*head).filter(|head| !want.wants(head, value) && head.last_wall >= want.since);
                false
            })?;
            let Some(head) = other else { break };
            (last, blocks) = (head, blocks + 1);
        }
        let (first_wall, last_wall, blocks) = (first.first_wall, last.last_wall, blocks as u64);
        Ok(Got::Others { next: last.next(), blocks, first_wall, last_wall })
    }
}

/// The clock of a block; another box's says nothing here.
fn clock_of(head: &BlockHead) -> Option<Clock> {
    (!head.imported).then_some(Clock { boot_id: head.boot_id, offset_ns: head.mono_offset_ns })
}

/// What the store sent about `at`. A block that is too old is not unpacked.
fn open_block(at: Seq, first: Seq, value: &[u8], want: &Want) -> Got {
    let head = BlockHead::read(value).ok().filter(|head| head.first == first);
    if first > at {
        return Got::Gap { next: first, why: "records are missing in the newest segment".to_owned() };
    }
    if let Some(head) = head.filter(|head| head.holds(at) && !want.wants(head, value)) {
        if head.last_wall >= want.since {
            let (first_wall, last_wall) = (head.first_wall, head.last_wall);
            return Got::Others { next: head.next(), blocks: 1, first_wall, last_wall };
        }
        return Got::Older { next: head.next(), clock: clock_of(&head) };
    }
    // Where a block ends whose head is damaged is not known: a record at a time.
    let next = head.map_or(at.plus(1), |head| head.next().max(at.plus(1)));
    match Block::decode(first, value) {
        Ok(block) if block.next() > at => Got::Block(block),
        Ok(_) => Got::Gap { next, why: "records are missing in the newest segment".to_owned() },
        Err(error) => Got::Gap { next, why: format!("the block at {first} in the newest segment is damaged: {error}") },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::decode::fake;
    use raven_jail::channel::Channel;
    use std::os::fd::AsFd;

    #[test]
    fn a_place_of_damage_is_told_once_and_not_all_at_a_time() {
        let (ours, store) = Channel::pair().unwrap();
        let mut ring = Ring::new("/nonexistent".into(), TailClient::new(ours.as_fd().try_clone_to_owned().unwrap()));
        for seq in [7, 7, 8, 7] {
            ring.note_damage("syslog", Seq(seq));
        }
        ring.tell_damage();
        ring.tell_damage();
        let mut packet = [0; 100];
        let n = store.try_recv(&mut packet, &mut Vec::new()).unwrap();
        assert_eq!(Request::decode(&packet[..n]), Ok(Request::Damage { stream: "syslog".into(), seq: Seq(7) }));
        assert!(store.try_recv(&mut packet, &mut Vec::new()).is_err(), "the other one has to wait");
        assert!(ring.due(Instant::now()) <= DAMAGE);
    }

    #[test]
    fn what_the_store_sends_is_checked() {
        let value = fake::encoded(Seq(10), &[(5, "192.0.2.1:1", b"a"), (6, "192.0.2.1:1", b"b")]);
        let got = |at, value: &[u8], since| {
            let want = Want { since: UnixNanos(since), source: None };
            open_block(Seq(at), Seq(10), value, &want)
        };
        assert!(matches!(got(11, &value, 0), Got::Block(block) if block.count == 2));
        assert!(matches!(got(10, &value, 7), Got::Older { next: Seq(12), clock: Some(_) }));
        assert!(matches!(got(9, &value, 0), Got::Gap { next: Seq(10), .. }));
        assert!(matches!(got(12, &value, 0), Got::Gap { next: Seq(13), .. }));
        let mut bad = value.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert!(matches!(got(10, &bad, 0), Got::Gap { next: Seq(12), .. }));
        assert!(matches!(got(10, &value[..40], 0), Got::Gap { next: Seq(11), .. }));
    }
}
