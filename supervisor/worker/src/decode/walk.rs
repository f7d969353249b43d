//! Going through a stream, a block at a time: finds where a time begins without reading all before it, passes over
//! what is damaged or gone, and tells so.

use super::{Blocks, Clock, Got, Want};
use raven_buffer::Block;
use raven_model::prefix::Prefix;
use raven_model::units::{Seq, UnixNanos};
use std::ops::Range;
use std::time::{Duration, Instant};

/// The store is asked again after this.
const BUSY: Duration = Duration::from_millis(100);
/// An operator who waits longer for the store is told.
const PATIENCE: Duration = Duration::from_secs(2);
/// So far a wall clock may be off against itself without being taken for stepped.
pub const SLACK_NS: u64 = 60_000_000_000;
/// Records that are rather read than searched in: a few blocks.
const NEAR: u64 = 50_000;

/// What a step of work came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More can be done at once.
    Again,
    /// Nothing to do before this much time has passed.
    Later(Duration),
    /// All is written.
    Done,
}

/// What a step of a walk came to.
#[derive(Debug)]
pub enum Walked {
    /// A block, and which of its records are meant.
    Block(Block, Range<Seq>),
    /// Nothing to see here: go on.
    Again,
    /// Nothing to do before this much time has passed.
    Later(Duration),
    /// Nothing more, or nothing more yet.
    End,
}

/// A way through a stream.
#[derive(Debug)]
pub struct Walk {
    start: Seq,
    at: Seq,
    end: Option<Seq>,
    want: Want,
    jump: Option<Jump>,
    /// The clock by which a jump was made last: its rest is read block by block.
    jumped: Option<Clock>,
    /// Where records of other boxes lie, once that is asked for.
    imports: Option<Vec<Range<Seq>>>,
    gap: Option<Gap>,
    busy: Option<Instant>,
    has_begun: bool,
    /// Earliest receive time in the blocks that were passed over last by their filter.
    pub passed_at: Option<UnixNanos>,
    /// What was looked at.
    pub looked: Looked,
    /// Lowest seq that could not be read.
    pub lowest_gap: Option<Seq>,
    /// True when records received after `since` may have been before the start of the walk.
    pub begins_late: bool,
    /// What the operator should know, in words.
    pub notes: Vec<String>,
}

/// What a walk has looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Looked {
    /// Blocks that were unpacked.
    pub blocks: u64,
    /// Blocks that were passed over by their filter.
    pub passed: u64,
    /// Bytes of the blocks that were unpacked.
    pub bytes: u64,
    /// Latest receive time seen.
    pub at: UnixNanos,
}

impl Looked {
    /// Both together.
    #[must_use]
    pub fn and(&self, later: &Self) -> Self {
        Self {
            blocks: self.blocks + later.blocks,
            passed: self.passed + later.passed,
            bytes: self.bytes + later.bytes,
            at: later.at,
        }
    }
}

/// Records that could not be read, one piece after the other.
#[derive(Debug)]
struct Gap {
    first: Seq,
    why: String,
}

/// A search for the first block that is not too old: all before `lo` is.
#[derive(Debug)]
struct Jump {
    lo: Seq,
    hi: Seq,
    clock: Clock,
}

impl Walk {
    /// From `start` up to before `end`, or without end; only what was received at or after `since`, up to a block.
    pub const fn new(start: Seq, end: Option<Seq>, since: Option<UnixNanos>) -> Self {
        let since = match since {
            Some(since) => since,
            None => UnixNanos(0),
        };
        Self {
            start,
            at: start,
            end,
            want: Want { since, source: None },
            jump: None,
            jumped: None,
            imports: None,
            gap: None,
            busy: None,
            has_begun: false,
            passed_at: None,
            looked: Looked { blocks: 0, passed: 0, bytes: 0, at: UnixNanos(0) },
            lowest_gap: None,
            begins_late: false,
            notes: Vec::new(),
        }
    }

    /// Only blocks that may hold something from there.
    #[must_use]
    pub const fn of(mut self, source: Option<Prefix>) -> Self {
        self.want.source = source;
        self
    }

    /// Where it goes on.
    pub const fn at(&self) -> Seq {
        self.at
    }

    /// Looks at one block.
    pub fn step(&mut self, blocks: &mut impl Blocks) -> anyhow::Result<Walked> {
        if self.jump.is_some() {
            return self.search(blocks);
        }
        if self.end.is_some_and(|end| self.at >= end) {
            self.tell_gap();
            return Ok(Walked::End);
        }
        let got = blocks.get(self.at, &self.want)?;
        if !matches!(got, Got::Busy) {
            self.busy = None;
        }
        Ok(match got {
            Got::Block(block) => self.take(block),
            Got::Older { next, clock } => self.pass(next, clock, blocks)?,
            Got::Others { next, blocks, first_wall, last_wall } => {
                self.tell_gap();
                self.begin(first_wall);
                self.passed_at = Some(first_wall);
                self.looked.passed += blocks;
                self.looked.at = last_wall;
                self.at = next;
                Walked::Again
            }
            Got::Gap { next, why } => {
                blocks.damaged(self.at);
                self.lowest_gap = Some(self.lowest_gap.map_or(self.at, |lowest| lowest.min(self.at)));
                self.gap.get_or_insert(Gap { first: self.at, why });
                self.at = next;
                Walked::Again
            }
            Got::Before { first } => {
                self.tell_gap();
                self.notes
                    .push(format!("{} were removed to make room before they could be read", range(self.at, first)));
                self.at = first;
                Walked::Again
            }
            Got::End => {
                self.tell_gap();
                Walked::End
            }
            Got::Busy => self.wait(),
        })
    }

    fn take(&mut self, block: Block) -> Walked {
        self.tell_gap();
        self.begin(block.first_wall());
        self.looked.blocks += 1;
        self.looked.bytes += block.bytes().len() as u64;
        self.looked.at = block.last_wall();
        let from = self.at;
        let until = self.end.map_or(block.next(), |end| end.min(block.next()));
        self.at = block.next();
        Walked::Block(block, from..until)
    }

    /// The first block that is not too old: is it what was asked for?
    fn begin(&mut self, first_wall: UnixNanos) {
        if !self.has_begun {
            self.has_begun = true;
            let since = self.want.since;
            self.begins_late =
                self.at == self.start && self.start > Seq(1) && since > UnixNanos(0) && first_wall > since;
        }
    }

    /// Damage before the time asked for is nobody's business here.
    fn pass(&mut self, next: Seq, clock: Option<Clock>, blocks: &mut impl Blocks) -> anyhow::Result<Walked> {
        self.gap = None;
        self.at = next;
        if let Some(clock) = clock.filter(|clock| self.jumped.is_none_or(|jumped| !jumped.agrees(clock))) {
            let hi = if self.end.is_some() { self.end } else { blocks.next_seq()? };
            self.jumped = Some(clock);
            // Never beyond what was imported: that may be newer than what lies around it. Behind it, again.
            let import = self.imports(blocks).iter().find(|range| range.end > next).map(|range| range.start.max(next));
            if import.is_some_and(|import| hi.is_some_and(|hi| import < hi)) {
                self.jumped = None;
            }
            let hi = hi.map(|hi| import.map_or(hi, |import| import.min(hi)));
            self.jump = hi.map(|hi| Jump { lo: next, hi, clock });
        }
        Ok(Walked::Again)
    }

    fn imports(&mut self, blocks: &impl Blocks) -> &[Range<Seq>] {
        self.imports.get_or_insert_with(|| blocks.imports())
    }

    /// What is met now came later than what is asked for: goes on where records of another box lie, which may not have.
    /// False when there are none ahead.
    pub fn skip_to_import(&mut self, blocks: &impl Blocks) -> bool {
        let at = self.at;
        let Some(import) = self.imports(blocks).iter().find(|range| range.end > at).cloned() else { return false };
        self.at = at.max(import.start);
        self.end.is_none_or(|end| self.at < end)
    }

    /// Halves what is between. A block counts as too old only when its clock is the one that we began with and it is
    /// so by more than that clock may be off: whoever stepped the clock must not make records disappear.
    fn search(&mut self, blocks: &mut impl Blocks) -> anyhow::Result<Walked> {
        let Some(jump) = &mut self.jump else { return Ok(Walked::Again) };
        let between = jump.hi.0.saturating_sub(jump.lo.0);
        if between <= NEAR {
            self.at = jump.lo;
            self.jump = None;
            return Ok(Walked::Again);
        }
        let middle = jump.lo.plus(between / 2);
        let since = UnixNanos(self.want.since.0.saturating_sub(SLACK_NS));
        match blocks.get(middle, &Want { since, source: None })? {
            Got::Older { next, clock: Some(clock) } if clock.agrees(&jump.clock) => jump.lo = next,
            Got::Block(block) => jump.hi = block.first.clamp(jump.lo, middle),
            Got::Busy => return Ok(self.wait()),
            _ => jump.hi = middle,
        }
        Ok(Walked::Again)
    }

    fn wait(&mut self) -> Walked {
        let since = *self.busy.get_or_insert_with(Instant::now);
        let told = since.elapsed();
        // Once for each wait: within one round after the patience ends.
        if told >= PATIENCE && told < PATIENCE + BUSY {
            self.notes.push("the store does not answer just now; waiting for it".to_owned());
        }
        Walked::Later(BUSY)
    }

    fn tell_gap(&mut self) {
        if let Some(gap) = self.gap.take() {
            let (what, why) = (range(gap.first, self.at), gap.why);
            self.notes.push(format!("{what} are damaged on disk and not shown: {why}"));
        }
    }
}

impl Clock {
    /// True when this is the same boot and the clock was not stepped between.
    pub const fn agrees(&self, other: &Self) -> bool {
        u128::from_ne_bytes(self.boot_id) == u128::from_ne_bytes(other.boot_id)
            && self.offset_ns.abs_diff(other.offset_ns) <= SLACK_NS
    }
}

/// In words, `next` being the first behind them.
pub fn range(first: Seq, next: Seq) -> String {
    format!("records {first} to {}", next.0.saturating_sub(1).max(first.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::decode::fake::{Fake, Place};

    const BOOT: UnixNanos = UnixNanos(1_000_000 * 1_000_000_000);

    fn second(n: u64) -> UnixNanos {
        UnixNanos(BOOT.0 + n * 1_000_000_000)
    }

    /// Walks to the end: the ranges seen, and the notes.
    fn walk(mut walk: Walk, fake: &mut Fake) -> (Vec<(u64, u64)>, Vec<String>) {
        let mut seen = Vec::new();
        loop {
            match walk.step(fake).unwrap() {
                Walked::Block(_, range) => seen.push((range.start.0, range.end.0)),
                Walked::Again | Walked::Later(_) => {}
                Walked::End => return (seen, walk.notes),
            }
        }
    }

    #[test]
    fn a_range_is_cut_out_of_its_blocks() {
        let mut fake = Fake::with_blocks(Seq(1), 3, 10, second);
        assert_eq!(walk(Walk::new(Seq(4), Some(Seq(25)), None), &mut fake).0, [(4, 11), (11, 21), (21, 25)]);
        assert_eq!(walk(Walk::new(Seq(1), None, None), &mut fake).0, [(1, 11), (11, 21), (21, 31)]);
        assert_eq!(walk(Walk::new(Seq(31), None, None), &mut fake).0, []);
    }

    #[test]
    fn damage_is_told_as_one_range_and_reported() {
        let mut fake = Fake::with_blocks(Seq(1), 4, 10, second);
        fake.places[1] = Place::Gap { first: Seq(11), next: Seq(21) };
        fake.places[2] = Place::Gap { first: Seq(21), next: Seq(31) };
        let (seen, notes) = walk(Walk::new(Seq(5), None, None), &mut fake);
        assert_eq!(seen, [(5, 11), (31, 41)]);
        assert_eq!(notes, ["records 11 to 30 are damaged on disk and not shown: rotten"]);
        assert_eq!(fake.reported, [Seq(11), Seq(21)]);
    }

    #[test]
    fn what_was_evicted_meanwhile_is_told() {
        let mut fake = Fake::with_blocks(Seq(101), 1, 10, second);
        let (seen, notes) = walk(Walk::new(Seq(7), None, None), &mut fake);
        assert_eq!(seen, [(101, 111)]);
        assert_eq!(notes, ["records 7 to 100 were removed to make room before they could be read"]);
    }

    #[test]
    fn a_time_is_found_without_reading_everything_before_it() {
        let mut fake = Fake::with_blocks(Seq(1), 3000, 100, |n| second(n / 10));
        let since = second(29_990);
        let (seen, _) = walk(Walk::new(Seq(1), Some(Seq(300_001)), Some(since)), &mut fake);
        assert_eq!(seen, fake.blocks_since(since));
        assert!(fake.looks < 600, "{} blocks looked at", fake.looks);
    }

    #[test]
    fn a_stepped_clock_hides_nothing() {
        // The clock was an hour ahead in the first half.
        let stamp = |n: u64| if n <= 100_000 { second(n / 10 + 3600) } else { second(n / 10) };
        let mut fake = Fake::with_blocks(Seq(1), 2000, 100, stamp);
        for place in &mut fake.places[..1000] {
            place.set_offset(3_600_000_000_000);
        }
        let since = second(13_000);
        let (seen, _) = walk(Walk::new(Seq(1), Some(Seq(200_001)), Some(since)), &mut fake);
        assert_eq!(seen, fake.blocks_since(since));
        assert!(seen.iter().any(|(first, _)| *first < 100_000) && seen.iter().any(|(first, _)| *first > 130_000));
        assert!(!seen.iter().any(|(first, _)| (100_001..129_000).contains(first)));
    }

    #[test]
    fn what_was_imported_into_the_middle_is_found_though_its_times_are_others() {
        // Records 100,001 to 101,000 came from a box whose clock is ahead.
        let imported = 100_001..=101_000;
        let stamp = |n: u64| if imported.contains(&n) { second(29_995) } else { second(n / 10) };
        let mut fake = Fake::with_blocks(Seq(1), 3000, 100, stamp);
        fake.imports = vec![Seq(100_001)..Seq(101_001)];
        let since = second(29_990);
        let (seen, _) = walk(Walk::new(Seq(1), Some(Seq(300_001)), Some(since)), &mut fake);
        assert_eq!(seen, fake.blocks_since(since));
        assert!(seen.iter().any(|(first, _)| *first == 100_001));
        assert!(fake.looks < 1700, "{} blocks looked at: it jumps before and behind", fake.looks);
    }

    #[test]
    fn behind_the_time_asked_for_only_imports_are_of_interest() {
        let mut fake = Fake::with_blocks(Seq(1), 10, 10, second);
        fake.imports = vec![Seq(31)..Seq(41), Seq(71)..Seq(81)];
        let mut walk = Walk::new(Seq(1), Some(Seq(101)), None);
        for at in [31, 71] {
            assert!(walk.skip_to_import(&fake));
            assert_eq!(walk.at(), Seq(at));
            while walk.at() < Seq(at + 10) {
                walk.step(&mut fake).unwrap();
            }
        }
        assert!(!walk.skip_to_import(&fake));
        let mut before = Walk::new(Seq(1), Some(Seq(20)), None);
        assert!(!before.skip_to_import(&fake), "they lie behind its end");
    }

    #[test]
    fn a_store_that_is_away_is_waited_for() {
        let mut fake = Fake::with_blocks(Seq(1), 1, 10, second);
        fake.busy = 3;
        assert_eq!(walk(Walk::new(Seq(1), None, None), &mut fake).0, [(1, 11)]);
    }

    #[test]
    fn an_evicted_beginning_is_noticed_only_where_it_matters() {
        let late = |start, since| {
            let mut fake = Fake::with_blocks(Seq(101), 3, 10, second);
            let mut walk = Walk::new(Seq(start), None, since);
            while !matches!(walk.step(&mut fake).unwrap(), Walked::End) {}
            walk.begins_late
        };
        assert!(late(101, Some(second(50))));
        assert!(!late(101, Some(second(115))), "the time asked for is held");
        assert!(!late(101, None));
    }
}
