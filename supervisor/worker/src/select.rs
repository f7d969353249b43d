//! Records that an operator asks for: found, filtered, decoded if wanted, written.
//!
//! An answer without `follow` ends at the newest record of the moment when it was asked for: otherwise it would never
//! end on a site that is busy.

use crate::decode::{Blocks, Line, Lines, Looked, Step, Walk, Walked};
use crate::decoder::{Decoder, Knowledge};
use crate::text::Text;
use base64::Engine as _;
use raven_buffer::Block;
use raven_buffer::block::Entry;
use raven_model::prefix::Prefix;
use raven_model::query::{Progress, RecordView, Reply, Select};
use raven_model::record::Record;
use raven_model::units::{Seq, UnixNanos};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

const STORE_BUSY: Duration = Duration::from_millis(100);
/// How often a follower looks for new records: with a commit every 100 ms they are shown within 0.3 s.
const FOLLOW: Duration = Duration::from_millis(150);
/// Records looked at together when the newest N are counted from the end: at first, and at most.
const WINDOW: u64 = 8 * 1024;
const WINDOW_MAX: u64 = 1 << 20;
/// `until` ends the reading only when a block is newer by more than a clock may be off.
const SLACK: u64 = crate::decode::SLACK_NS;

/// How often it is told how far a search is, where that is wanted.
const PROGRESS: Duration = Duration::from_millis(250);

/// A search under way.
pub struct Records {
    select: Select,
    decoder: Option<Decoder>,
    filter: Filter,
    phase: Phase,
    /// Of walks that have ended.
    looked: Looked,
    /// Where what may be meant begins and ends, once that is known.
    begin: Option<Seq>,
    end: Option<Seq>,
    told: Instant,
}

enum Phase {
    /// Where to begin is not known yet.
    Start,
    /// `last` counts back from `end`, but not beyond `since`: where does that begin?
    Seek { walk: Walk, wanted: u64, end: Seq },
    /// Counting.
    Count(Count),
    /// Writing.
    Show(Walk),
}

impl Phase {
    const fn walk(&self) -> Option<&Walk> {
        match self {
            Self::Start => None,
            Self::Seek { walk, .. } | Self::Show(walk) => Some(walk),
            Self::Count(count) => Some(&count.walk),
        }
    }
}

/// Which records are meant.
struct Filter {
    since: Option<UnixNanos>,
    until: Option<UnixNanos>,
    source: Option<Prefix>,
    text: Text,
}

/// Goes back from the end, one window after the other, each larger than the one before.
struct Count {
    /// Nothing before this counts.
    from: Seq,
    /// The window.
    window: Range<Seq>,
    source: Option<Prefix>,
    walk: Walk,
    /// So many more are wanted before the window.
    wanted: u64,
    /// The newest of them within the window.
    hits: VecDeque<Seq>,
    /// Where to begin to show: the oldest hit so far, or damage before it.
    start: Seq,
    end: Seq,
}

impl Records {
    /// Prepares the search.
    pub fn new(select: Select, knowledge: &Rc<Knowledge>) -> Self {
        let decoder = select.decoded.then(|| Decoder::new(&select.stream, Rc::clone(knowledge)));
        let filter = Filter {
            since: select.since,
            until: select.until,
            source: select.source,
            text: Text::new(&select.grep, select.ignore_case, select.words),
        };
        Self {
            select,
            decoder,
            filter,
            phase: Phase::Start,
            looked: Looked::default(),
            begin: None,
            end: None,
            told: Instant::now(),
        }
    }

    /// Does a piece of work, at most a block.
    pub fn step(&mut self, blocks: &mut impl Blocks, lines: &mut Lines) -> anyhow::Result<Step> {
        let step = self.work(blocks, lines)?;
        if self.select.progress && (step == Step::Done || self.told.elapsed() >= PROGRESS) {
            self.told = Instant::now();
            lines.reply(&Reply::Progress(self.progress(blocks.first(), step == Step::Done)));
        }
        Ok(step)
    }

    fn progress(&self, first: Seq, is_done: bool) -> Progress {
        let now = self.phase.walk().map_or_else(Looked::default, |walk| walk.looked);
        let looked = self.looked.and(&now);
        let (begin, end) = (self.begin.unwrap_or(first), self.end.unwrap_or(first));
        let total = end.0.saturating_sub(begin.0);
        let done = match &self.phase {
            _ if is_done => total,
            Phase::Start => 0,
            // From the end back.
            Phase::Count(count) => end.0.saturating_sub(count.window.end.0),
            Phase::Seek { walk, .. } | Phase::Show(walk) => walk.at().0.saturating_sub(begin.0),
        };
        let Looked { blocks, passed, bytes, at } = looked;
        Progress { blocks, passed, bytes, at_ns: at, done: done.min(total), total }
    }

    fn work(&mut self, blocks: &mut impl Blocks, lines: &mut Lines) -> anyhow::Result<Step> {
        match &mut self.phase {
            Phase::Start => self.start(blocks, lines),
            Phase::Seek { .. } => self.seek(blocks, lines),
            Phase::Count(count) => match count.step(blocks, &self.filter)? {
                Counted::Not(step) => Ok(step),
                Counted::From { start, end } => Ok(self.show(start, end)),
            },
            Phase::Show(_) => self.write(blocks, lines),
        }
    }

    fn start(&mut self, blocks: &mut impl Blocks, lines: &mut Lines) -> anyhow::Result<Step> {
        let Some(end) = blocks.next_seq()? else { return Ok(Step::Later(STORE_BUSY)) };
        let first = blocks.first();
        if let Some(from) = self.select.from.filter(|from| *from < first) {
            lines.note(format!("records {} to {} are not held any more", from.0.max(1), first.0 - 1));
        }
        let from = self.select.from.map_or(first, |from| from.max(first));
        (self.begin, self.end) = (Some(from), Some(end));
        match (self.select.last, self.select.since) {
            (None, _) => return Ok(self.show(from, end)),
            (Some(wanted), Some(since)) => {
                self.phase = Phase::Seek { walk: Walk::new(from, Some(end), Some(since)), wanted, end };
            }
            (Some(wanted), None) => self.phase = Phase::Count(Count::new(from, end, wanted, self.filter.source)),
        }
        Ok(Step::Again)
    }

    fn seek(&mut self, blocks: &mut impl Blocks, lines: &mut Lines) -> anyhow::Result<Step> {
        let Phase::Seek { walk, wanted, end } = &mut self.phase else { return Ok(Step::Again) };
        let (wanted, end) = (*wanted, *end);
        let walked = walk.step(blocks)?;
        // Of damage it is told when records are shown; a beginning that is gone is told here.
        late(walk, lines);
        match walked {
            Walked::Again => {}
            Walked::Later(wait) => return Ok(Step::Later(wait)),
            Walked::Block(_, range) => {
                self.phase = Phase::Count(Count::new(range.start, end, wanted, self.filter.source));
            }
            Walked::End => return Ok(self.show(end, end)),
        }
        Ok(Step::Again)
    }

    fn show(&mut self, start: Seq, end: Seq) -> Step {
        let end = (!self.select.follow).then_some(end);
        if let Some(walk) = self.phase.walk() {
            self.looked = self.looked.and(&walk.looked);
        }
        self.phase = Phase::Show(Walk::new(start, end, self.select.since).of(self.filter.source));
        Step::Again
    }

    fn write(&mut self, blocks: &mut impl Blocks, lines: &mut Lines) -> anyhow::Result<Step> {
        let Phase::Show(walk) = &mut self.phase else { return Ok(Step::Again) };
        let walked = walk.step(blocks)?;
        let passed_at = walk.passed_at.take();
        if self.select.last.is_none() {
            late(walk, lines);
        }
        walk.notes.drain(..).for_each(|note| lines.note(note));
        Ok(match walked {
            Walked::Block(block, _) if self.is_past(block.first_wall()) => self.past(blocks),
            Walked::Block(block, _) if !self.filter.text.may_be_in(block.bytes()) => Step::Again,
            Walked::Block(block, range) => {
                if let Some(decoder) = &mut self.decoder {
                    decoder.block();
                }
                for entry in block.entries() {
                    match (entry, &mut self.decoder) {
                        (Entry::Context(_, context), Some(decoder)) => decoder.context(&context),
                        (Entry::Record(seq, record), decoder)
                            if range.contains(&seq) && self.filter.matches(&record) =>
                        {
                            lines.line(&Line::Record(&view(seq, &record, &block, decoder.as_mut())));
                        }
                        _ => {}
                    }
                }
                Step::Again
            }
            Walked::Again if passed_at.is_some_and(|wall| self.is_past(wall)) => self.past(blocks),
            Walked::Again => Step::Again,
            Walked::Later(wait) => Step::Later(wait),
            Walked::End if self.select.follow => Step::Later(FOLLOW),
            Walked::End => Step::Done,
        })
    }

    /// All from here on came after the time that was asked for, but what was imported since.
    fn past(&mut self, blocks: &impl Blocks) -> Step {
        let Phase::Show(walk) = &mut self.phase else { return Step::Done };
        if !self.select.follow && walk.skip_to_import(blocks) { Step::Again } else { Step::Done }
    }

    /// True for a block that begins after the time that was asked for.
    fn is_past(&self, first_wall: UnixNanos) -> bool {
        let slack = if self.select.follow { 0 } else { SLACK };
        self.select.until.is_some_and(|until| first_wall.0 >= until.0.saturating_add(slack))
    }
}

/// Tells once that the time asked for begins before what is held.
fn late(walk: &mut Walk, lines: &mut Lines) {
    if std::mem::take(&mut walk.begins_late) {
        lines.note("the time asked for begins before the oldest record held: what came earlier is not held any more");
    }
}

impl Filter {
    /// The records of a block that are meant.
    fn of<'a>(&'a self, block: &'a Block, range: Range<Seq>) -> impl Iterator<Item = (Seq, Record<'a>)> {
        let records = self.text.may_be_in(block.bytes()).then(|| block.records());
        records.into_iter().flatten().filter(move |(seq, record)| range.contains(seq) && self.matches(record))
    }

    fn matches(&self, record: &Record<'_>) -> bool {
        let wall = record.received.wall;
        self.since.is_none_or(|since| wall >= since)
            && self.until.is_none_or(|until| wall < until)
            && self.source.is_none_or(|source| source.holds(record.received.source.ip()))
            && self.text.is_in(record.raw)
    }
}

enum Counted {
    Not(Step),
    From { start: Seq, end: Seq },
}

impl Count {
    fn new(from: Seq, end: Seq, wanted: u64, source: Option<Prefix>) -> Self {
        let window = Seq(end.0.saturating_sub(WINDOW).max(from.0))..end;
        let walk = Walk::new(window.start, Some(end), None).of(source);
        Self { from, window, source, walk, wanted, hits: VecDeque::new(), start: end, end }
    }

    fn step(&mut self, blocks: &mut impl Blocks, filter: &Filter) -> anyhow::Result<Counted> {
        if self.wanted == 0 || self.window.is_empty() {
            return Ok(Counted::From { start: self.start, end: self.end });
        }
        match self.walk.step(blocks)? {
            Walked::Block(block, range) => {
                for (seq, _) in filter.of(&block, range) {
                    self.hits.push_back(seq);
                    if self.hits.len() as u64 > self.wanted {
                        self.hits.pop_front();
                    }
                }
            }
            Walked::Again => {}
            Walked::Later(wait) => return Ok(Counted::Not(Step::Later(wait))),
            Walked::End => self.next_window(),
        }
        Ok(Counted::Not(Step::Again))
    }

    fn next_window(&mut self) {
        self.wanted -= self.hits.len() as u64;
        let oldest = self.hits.front().copied();
        // With enough found, damage before the oldest of them is of no interest.
        let gap = self.walk.lowest_gap.filter(|_| self.wanted > 0);
        self.start = [oldest, gap].into_iter().flatten().min().unwrap_or(self.start);
        self.hits.clear();
        let size = (self.window.end.0 - self.window.start.0).saturating_mul(2).clamp(WINDOW, WINDOW_MAX);
        let end = self.window.start;
        self.window = Seq(end.0.saturating_sub(size).max(self.from.0))..end;
        let looked = self.walk.looked;
        self.walk = Walk::new(self.window.start, Some(end), None).of(self.source);
        self.walk.looked = looked;
    }
}

/// A record as it is shown; decoded when there is a decoder.
pub fn view(seq: Seq, record: &Record<'_>, block: &Block, decoder: Option<&mut Decoder>) -> RecordView {
    let received = record.received;
    let (raw, raw_b64) = match std::str::from_utf8(record.raw) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(base64::engine::general_purpose::STANDARD.encode(record.raw))),
    };
    let (decoded, reject) = decoder.map_or((None, None), |decoder| decoder.decode(record));
    RecordView {
        seq,
        received_ns: received.wall,
        source: received.source.into(),
        listener: block.listener_name(received.listener).to_owned(),
        raw,
        raw_b64,
        piece: received.piece,
        unparsed: received.is_unparsed(),
        refused: received.is_refused(),
        decoded,
        reject,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::decode::fake::{Fake, Message, Place, encoded};
    use raven_model::query::Reply;

    fn knowledge() -> Rc<Knowledge> {
        Knowledge::new("/nonexistent".into())
    }

    const SECOND: u64 = 1_000_000_000;

    /// Runs to the end, or to the first pause of a follower: seqs, and notes.
    fn answer(select: Select, fake: &mut Fake) -> (Vec<u64>, Vec<String>) {
        let (mut records, mut lines) = (Records::new(select, &knowledge()), Lines::default());
        while matches!(records.step(fake, &mut lines).unwrap(), Step::Again) {}
        let (mut seqs, mut notes) = (Vec::new(), Vec::new());
        for line in lines.text().lines() {
            match Reply::on_line(line.as_bytes()) {
                Some(Reply::Note(note)) => notes.push(note),
                Some(other) => panic!("{other:?}"),
                None => seqs.push(serde_json::from_str::<RecordView>(line).unwrap().seq.0),
            }
        }
        (seqs, notes)
    }

    fn seqs(select: Select, fake: &mut Fake) -> Vec<u64> {
        answer(select, fake).0
    }

    /// 1000 blocks of 100 records, ten records a second.
    fn ring() -> Fake {
        Fake::with_blocks(Seq(1), 1000, 100, |n| UnixNanos(n / 10 * SECOND))
    }

    #[test]
    fn without_conditions_everything_is_shown() {
        assert_eq!(seqs(Select::default(), &mut ring()), (1..=100_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_imported_behind_newer_records_is_found_by_its_time() {
        // The blocks of records 80,001 to 80,200 came from another box, and are as old as the beginning.
        let imported = 80_001..=80_200;
        let stamp = |n: u64| if imported.contains(&n) { n - 80_000 } else { n };
        let mut fake = Fake::with_blocks(Seq(1), 1000, 100, |n| UnixNanos(stamp(n) / 10 * SECOND));
        fake.imports = vec![Seq(80_001)..Seq(80_201)];
        let until = Select { until: Some(UnixNanos(10 * SECOND)), ..Select::default() };
        let found = seqs(until, &mut fake);
        assert_eq!(found, (1..100).chain(80_001..80_100).collect::<Vec<_>>());
        assert!(fake.looks < 60, "{} blocks looked at", fake.looks);
    }

    #[test]
    fn the_newest_are_counted_from_the_end() {
        let last = |n| Select { last: Some(n), ..Select::default() };
        assert_eq!(seqs(last(3), &mut ring()), [99_998, 99_999, 100_000]);
        assert_eq!(seqs(last(0), &mut ring()), [0_u64; 0]);
        assert_eq!(seqs(last(30_000), &mut ring()), (70_001..=100_000).collect::<Vec<_>>());
        assert_eq!(seqs(last(u64::MAX), &mut ring()).len(), 100_000);
        let mut fake = ring();
        seqs(last(3), &mut fake);
        assert!(fake.looks < 200, "{} blocks looked at", fake.looks);
    }

    #[test]
    fn the_newest_that_match_may_be_far_back() {
        let messages: Vec<Message<'_>> = vec![(1, "192.0.2.1:1", b"needle"), (1, "192.0.2.1:1", b"straw")];
        let mut fake = ring();
        fake.places[10] = Place::Block(encoded(Seq(1001), &vec![messages[1]; 100]));
        fake.places[11] = Place::Block(encoded(Seq(1101), &[vec![messages[0]; 4], vec![messages[1]; 96]].concat()));
        let select = |last| Select { grep: vec!["needle".into()], last: Some(last), ..Select::default() };
        assert_eq!(seqs(select(2), &mut fake), [1103, 1104]);
        assert_eq!(seqs(select(9), &mut fake), [1101, 1102, 1103, 1104]);
    }

    #[test]
    fn a_window_of_time_includes_its_beginning_and_not_its_end() {
        let window = |since: u64, until: u64| Select {
            since: Some(UnixNanos(since * SECOND)),
            until: Some(UnixNanos(until * SECOND)),
            ..Select::default()
        };
        assert_eq!(seqs(window(5000, 5001), &mut ring()), (50_000..50_010).collect::<Vec<_>>());
        assert_eq!(seqs(Select { last: Some(2), ..window(5000, 5001) }, &mut ring()), [50_008, 50_009]);
        assert_eq!(seqs(window(50_000, 50_001), &mut ring()), [0_u64; 0]);
        let mut fake = ring();
        seqs(window(9990, 9991), &mut fake);
        assert!(fake.looks < 800, "{} blocks looked at", fake.looks);
    }

    #[test]
    fn several_texts_in_either_case_or_as_words() {
        let messages: [Message<'_>; 3] = [
            (1, "192.0.2.7:5", b"Deny tcp 10.1.2.3"),
            (1, "192.0.2.7:5", b"deny udp 10.1.2.34"),
            (1, "192.0.2.8:5", b""),
        ];
        let mut fake = Fake::new(vec![encoded(Seq(1), &messages)]);
        let mut found = |texts: [&str; 2], ignore_case, words| {
            let grep = texts.map(str::to_owned).to_vec();
            seqs(Select { grep, ignore_case, words, ..Select::default() }, &mut fake)
        };
        assert_eq!(found(["Deny", "10.1.2.3"], false, false), [1]);
        assert_eq!(found(["deny", "10.1.2.3"], true, false), [1, 2]);
        assert_eq!(found(["deny", "10.1.2.3"], true, true), [1]);
        assert_eq!(found(["deny", "icmp"], true, false), [0_u64; 0]);
    }

    #[test]
    fn who_wants_to_know_is_told_how_far_it_is() {
        let select = Select { progress: true, ..Select::default() };
        let (mut records, mut lines) = (Records::new(select, &knowledge()), Lines::default());
        let mut fake = ring();
        while records.step(&mut fake, &mut lines).unwrap() != Step::Done {}
        let text = lines.text();
        let last = Reply::on_line(text.lines().last().unwrap().as_bytes());
        let Some(Reply::Progress(progress)) = last else { panic!("{last:?}") };
        assert_eq!((progress.blocks, progress.passed), (1000, 0));
        assert_eq!((progress.done, progress.total), (100_000, 100_000));
    }

    #[test]
    fn a_search_for_a_sender_ends_where_its_time_does() {
        let mut fake = ring();
        fake.others = true;
        let select = Select {
            source: Some("203.0.113.1".parse().unwrap()),
            until: Some(UnixNanos(100 * SECOND)),
            ..Select::default()
        };
        assert_eq!(seqs(select, &mut fake), [0_u64; 0]);
        assert!(fake.looks < 50, "{} blocks looked at", fake.looks);
    }

    #[test]
    fn a_sender_is_found_by_its_address_of_either_family_and_spelling() {
        let messages: [Message<'_>; 3] =
            [(1, "192.0.2.7:5", b"a"), (1, "[2001:db8::7]:5", b"b"), (1, "192.0.2.8:5", b"c")];
        let mut fake = Fake::new(vec![encoded(Seq(1), &messages)]);
        for (source, expected) in
            [("192.0.2.7", 1), ("::ffff:192.0.2.7", 1), ("2001:DB8:0::7", 2), ("192.0.2.7/32", 1), ("2001:db8::/32", 2)]
        {
            let select = Select { source: Some(source.parse().unwrap()), ..Select::default() };
            assert_eq!(seqs(select, &mut fake), [expected], "{source}");
        }
    }

    #[test]
    fn messages_of_the_largest_size_are_shown_whole() {
        let raw = vec![b'x'; 65_536];
        let bytes = vec![0xff; 65_536];
        let messages: [Message<'_>; 3] =
            [(1, "192.0.2.7:5", &raw), (1, "192.0.2.7:5", &bytes), (1, "192.0.2.7:5", b"")];
        let mut fake = Fake::new(vec![encoded(Seq(1), &messages)]);
        let (mut records, mut lines) = (
            Records::new(Select { stream: "syslog".into(), decoded: true, ..Select::default() }, &knowledge()),
            Lines::default(),
        );
        while records.step(&mut fake, &mut lines).unwrap() != Step::Done {}
        let views: Vec<RecordView> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let raws: Vec<Vec<u8>> = views.iter().map(|view| view.raw_bytes().unwrap()).collect();
        assert_eq!(raws, [raw, bytes, Vec::new()]);
    }

    #[test]
    fn an_answer_ends_where_the_ring_ended_when_it_was_asked_for() {
        let mut fake = Fake::with_blocks(Seq(1), 2, 10, |_| UnixNanos(1));
        let (mut records, mut lines) = (Records::new(Select::default(), &knowledge()), Lines::default());
        records.step(&mut fake, &mut lines).unwrap();
        fake.places.extend(Fake::with_blocks(Seq(21), 2, 10, |_| UnixNanos(1)).places);
        while records.step(&mut fake, &mut lines).unwrap() != Step::Done {}
        assert_eq!(lines.text().lines().count(), 20);
    }

    #[test]
    fn a_follower_goes_on_with_what_comes() {
        let mut fake = Fake::with_blocks(Seq(1), 2, 10, |_| UnixNanos(1));
        let select = Select { follow: true, last: Some(1), ..Select::default() };
        let (mut records, mut lines) = (Records::new(select, &knowledge()), Lines::default());
        while records.step(&mut fake, &mut lines).unwrap() == Step::Again {}
        assert_eq!(lines.text().lines().count(), 1);
        fake.places.extend(Fake::with_blocks(Seq(21), 2, 10, |_| UnixNanos(1)).places);
        while records.step(&mut fake, &mut lines).unwrap() == Step::Again {}
        assert_eq!(lines.text().lines().count(), 21);
    }

    #[test]
    fn what_is_not_held_or_damaged_is_told() {
        let mut fake = Fake::with_blocks(Seq(101), 3, 10, |n| UnixNanos(n * SECOND));
        fake.places[1] = Place::Gap { first: Seq(111), next: Seq(121) };
        let (seqs, notes) = answer(Select { from: Some(Seq(50)), ..Select::default() }, &mut fake);
        assert_eq!(seqs.len(), 20);
        assert_eq!(notes[0], "records 50 to 100 are not held any more");
        assert!(notes[1].starts_with("records 111 to 120 are damaged on disk and not shown"), "{notes:?}");
        let early = Select { since: Some(UnixNanos(1)), ..Select::default() };
        for select in [early.clone(), Select { last: Some(5), ..early.clone() }] {
            let notes = answer(select, &mut fake).1;
            assert_eq!(notes.iter().filter(|note| note.contains("begins before the oldest")).count(), 1, "{notes:?}");
        }
        assert!(answer(Select { last: Some(100), ..Select::default() }, &mut fake).1[0].contains("111 to 120"));
        assert_eq!(answer(Select { last: Some(3), ..Select::default() }, &mut fake).1, [""; 0]);
    }
}
