//! Who sends: counted over the newest records, as far back as asked for and at most two million.

use crate::decode::{Blocks, Line, Lines, Step, Walk, Walked};
use raven_buffer::Block;
use raven_decode::flow::scan::scan;
use raven_decode::{metrics, snmp, winevent};
use raven_model::hex::hex;
use raven_model::query::{SourceTrouble, SourceView};
use raven_model::record::Record;
use raven_model::stream::Stream;
use raven_model::units::{Seq, UnixNanos};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Records looked at, at most: about four seconds of work.
const RECORDS_MAX: u64 = 2_000_000;
/// Senders told apart, at most; a flood of forged addresses must not take the memory.
const SOURCES_MAX: usize = 16_384;
/// How far back without a word from the operator.
const WINDOW: u64 = 15 * 60 * 1_000_000_000;
/// Bytes of an example, and of a name: a name that is longer is none.
const SAMPLE: usize = 200;
const NAME: usize = 255;
/// Bytes of an example that are shown in hex.
const FIRST: usize = 32;
/// Lines written at a time.
const LINES: usize = 500;
const STORE_BUSY: Duration = Duration::from_millis(100);

/// A count under way.
pub struct Sources {
    stream: Option<Stream>,
    since: UnixNanos,
    until: UnixNanos,
    now: UnixNanos,
    phase: Phase,
    seen: u64,
    oldest: UnixNanos,
    senders: HashMap<IpAddr, Source>,
    /// Records of senders that had no room.
    crowded: u64,
}

enum Phase {
    /// Where to begin is not known yet.
    Start,
    /// Counting; true when it begins later than asked for because there is too much.
    Count(Box<Walk>, bool),
    /// Writing, the last first.
    Write(Vec<SourceView>),
}

/// What is known of a sender.
#[derive(Default)]
struct Source {
    records: u64,
    bytes: u64,
    last_seen: UnixNanos,
    not_understood: u64,
    hostname: Option<String>,
    sample: Option<Vec<u8>>,
    trouble: SourceTrouble,
}

impl Sources {
    /// Prepares the count.
    pub fn new(stream: &str, since: Option<UnixNanos>, until: Option<UnixNanos>) -> Self {
        Self { until: until.unwrap_or(UnixNanos(u64::MAX)), ..Self::at(stream, since, now()) }
    }

    fn at(stream: &str, since: Option<UnixNanos>, now: UnixNanos) -> Self {
        Self {
            stream: Stream::named(stream),
            since: since.unwrap_or(UnixNanos(now.0.saturating_sub(WINDOW))),
            until: UnixNanos(u64::MAX),
            now,
            phase: Phase::Start,
            seen: 0,
            oldest: now,
            senders: HashMap::new(),
            crowded: 0,
        }
    }

    /// Counts one block, or writes a part of the result.
    pub fn step(&mut self, blocks: &mut impl Blocks, lines: &mut Lines) -> anyhow::Result<Step> {
        match &mut self.phase {
            Phase::Start => self.start(blocks),
            Phase::Count(..) => self.count(blocks, lines),
            Phase::Write(views) => {
                let rest = views.len().saturating_sub(LINES);
                views.drain(rest..).rev().for_each(|view| lines.line(&Line::Source(&view)));
                Ok(if rest == 0 { Step::Done } else { Step::Again })
            }
        }
    }

    fn start(&mut self, blocks: &mut impl Blocks) -> anyhow::Result<Step> {
        let Some(next) = blocks.next_seq()? else { return Ok(Step::Later(STORE_BUSY)) };
        let most = if self.stream == Some(Stream::Syslog) { RECORDS_MAX } else { RECORDS_MAX / 10 };
        let (first, enough) = (blocks.first(), Seq(next.0.saturating_sub(most)));
        let walk = Walk::new(first.max(enough), Some(next), Some(self.since));
        self.phase = Phase::Count(Box::new(walk), enough > first);
        Ok(Step::Again)
    }

    fn count(&mut self, blocks: &mut impl Blocks, lines: &mut Lines) -> anyhow::Result<Step> {
        let Phase::Count(walk, cut) = &mut self.phase else { return Ok(Step::Again) };
        let walked = walk.step(blocks)?;
        walk.notes.drain(..).for_each(|note| lines.note(note));
        if std::mem::take(&mut walk.begins_late) {
            lines.note(if *cut {
                "there is more than can be counted in a few seconds: only the newest records were".to_owned()
            } else {
                "the time asked for begins before the oldest record held".to_owned()
            });
        }
        match walked {
            Walked::Block(block, range) => self.add_block(&block, &range),
            Walked::Again => {}
            Walked::Later(wait) => return Ok(Step::Later(wait)),
            Walked::End => self.finish(lines),
        }
        Ok(Step::Again)
    }

    fn add_block(&mut self, block: &Block, range: &Range<Seq>) {
        let time = self.since..self.until;
        let meant = |seq: Seq, record: &Record<'_>| range.contains(&seq) && time.contains(&record.received.wall);
        for (_, record) in block.records().filter(|(seq, record)| meant(*seq, record)) {
            self.seen += 1;
            self.oldest = self.oldest.min(record.received.wall);
            self.add(&record, block);
        }
    }

    fn add(&mut self, record: &Record<'_>, block: &Block) {
        let known = self.senders.len();
        let source = match self.senders.entry(record.received.source.ip()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if known < SOURCES_MAX => entry.insert(Source::default()),
            Entry::Vacant(_) => {
                self.crowded += 1;
                return;
            }
        };
        source.records += 1;
        source.bytes += record.raw.len() as u64;
        source.last_seen = source.last_seen.max(record.received.wall);
        let (why_not, name) = glance(self.stream, record);
        let refused = || record.received.is_refused().then(|| "refused when it came".to_owned());
        if let Some(reason) = why_not.or_else(refused) {
            source.not_understood += 1;
            let sample = source.sample.get_or_insert_default();
            sample.clear();
            sample.extend_from_slice(&record.raw[..record.raw.len().min(SAMPLE)]);
            source.trouble = SourceTrouble {
                reason,
                listener: block.listener_name(record.received.listener).to_owned(),
                last_seen_ns: record.received.wall,
                first_bytes: String::new(),
            };
        }
        source.hostname = name.filter(|name| name.len() <= NAME).or(source.hostname.take());
    }

    fn finish(&mut self, lines: &mut Lines) {
        if self.crowded > 0 {
            lines.note(format!("{} records of more than {SOURCES_MAX} senders are not shown", self.crowded));
        }
        // Rates are over the time that was looked at.
        let from = self.since.max(self.oldest);
        let seconds = (self.now.0.saturating_sub(from.0) as f64 / 1e9).max(1.0);
        let mut views: Vec<SourceView> =
            self.senders.drain().map(|(addr, source)| source.view(addr, seconds)).collect();
        // The busiest first; they are taken from the end.
        views.sort_by_key(|view| (view.records, std::cmp::Reverse(view.addr)));
        self.phase = Phase::Write(views);
    }
}

/// The wall clock.
pub fn now() -> UnixNanos {
    UnixNanos(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64))
}

impl Source {
    fn view(self, addr: IpAddr, seconds: f64) -> SourceView {
        SourceView {
            addr,
            records: self.records,
            bytes: self.bytes,
            rate: self.records as f64 / seconds,
            last_seen_ns: self.last_seen,
            not_understood: self.not_understood,
            hostname: self.hostname,
            trouble: self
                .sample
                .as_deref()
                .map(|raw| SourceTrouble { first_bytes: hex(&raw[..raw.len().min(FIRST)]), ..self.trouble }),
            sample: self.sample.map(|raw| String::from_utf8_lossy(&raw).into_owned()),
        }
    }
}

/// Why a record is not understood, as far as that can be told by itself, and the name that its sender gives itself.
fn glance(stream: Option<Stream>, record: &Record<'_>) -> (Option<String>, Option<String>) {
    // A record that ended a collector twice is looked at by nobody.
    if record.received.is_unparsed() {
        return (Some("a collector died twice over it".to_owned()), None);
    }
    match stream {
        Some(Stream::Syslog) => {
            let reading = raven_decode::syslog(record.raw, record.received.wall);
            (reading.reject.map(|reject| reject.to_string()), reading.syslog.hostname)
        }
        Some(Stream::Flow) => (scan(record.raw).err().map(|reject| reject.to_string()), None),
        Some(Stream::Trap) => (snmp::Message::read(record.raw).err().map(|reject| reject.to_string()), None),
        Some(Stream::Winevent) => {
            let reading = winevent::decode(record.raw);
            (reading.reject.map(|reject| reject.to_string()), reading.event.computer)
        }
        Some(Stream::Metrics) => {
            let reading = metrics::decode(record.raw);
            (reading.reject.map(|reject| reject.to_string()), reading.metric.and_then(metrics::Metric::origin))
        }
        Some(Stream::Host | Stream::Alert | Stream::Diag) | None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::decode::fake::{Fake, Message, Place, encoded};
    use raven_model::query::Reply;

    const SECOND: u64 = 1_000_000_000;

    fn answer(since: u64, fake: &mut Fake) -> (Vec<SourceView>, Vec<String>) {
        let mut sources = Sources::at("syslog", Some(UnixNanos(since * SECOND)), UnixNanos(200 * SECOND));
        let mut lines = Lines::default();
        while sources.step(fake, &mut lines).unwrap() != Step::Done {}
        let (mut views, mut notes) = (Vec::new(), Vec::new());
        for line in lines.text().lines() {
            match Reply::on_line(line.as_bytes()) {
                Some(Reply::Note(note)) => notes.push(note),
                _ => views.push(serde_json::from_str(line).unwrap()),
            }
        }
        (views, notes)
    }

    #[test]
    fn each_sender_is_counted_with_its_newest_name_and_example() {
        let messages: Vec<Message<'_>> = vec![
            (100 * SECOND, "192.0.2.7:5", b"<13>Nov 22 00:00:00 old app: x"),
            (101 * SECOND, "192.0.2.7:9", b"<13>Nov 22 00:00:01 fw1 app: x"),
            (102 * SECOND, "[2001:db8::7]:5", b"\x01\x02\xffone"),
            (103 * SECOND, "192.0.2.7:5", b"\x01two"),
        ];
        let (views, notes) = answer(100, &mut Fake::new(vec![encoded(Seq(1), &messages)]));
        assert_eq!(views.len(), 2);
        let fw = &views[0];
        assert_eq!((fw.addr.to_string().as_str(), fw.records, fw.hostname.as_deref()), ("192.0.2.7", 3, Some("fw1")));
        let trouble = fw.trouble.as_ref().unwrap();
        assert_eq!((trouble.listener.as_str(), trouble.first_bytes.as_str()), ("udp:[::]:514", "0174776f"));
        assert_eq!((trouble.last_seen_ns, trouble.reason.is_empty()), (UnixNanos(103 * SECOND), false));
        assert_eq!((fw.last_seen_ns, fw.rate), (UnixNanos(103 * SECOND), 0.03));
        assert_eq!(notes, [""; 0]);
    }

    #[test]
    fn only_the_time_asked_for_counts() {
        let mut fake = Fake::with_blocks(Seq(1), 20, 10, |n| UnixNanos(n * SECOND));
        let (views, _) = answer(191, &mut fake);
        assert_eq!(views[0].records, 10);
        assert!(fake.looks < 40);
    }

    #[test]
    fn damage_and_a_late_beginning_are_told() {
        let mut fake = Fake::with_blocks(Seq(101), 3, 10, |n| UnixNanos(n * SECOND));
        fake.places[1] = Place::Gap { first: Seq(111), next: Seq(121) };
        let (views, notes) = answer(50, &mut fake);
        assert_eq!(views[0].records, 20);
        assert_eq!(notes[0], "the time asked for begins before the oldest record held");
        assert!(notes[1].starts_with("records 111 to 120 are damaged"), "{notes:?}");
    }

    #[test]
    fn a_flood_of_forged_senders_is_bounded_and_said() {
        let addresses: Vec<String> =
            (0..SOURCES_MAX + 10).map(|n| format!("10.{}.{}.{}:5", n >> 16, n >> 8 & 255, n & 255)).collect();
        let messages: Vec<Message<'_>> =
            addresses.iter().map(|source| (100 * SECOND, source.as_str(), &b"x"[..])).collect();
        let blocks =
            messages.chunks(4096).enumerate().map(|(n, part)| encoded(Seq(n as u64 * 4096 + 1), part)).collect();
        let (views, notes) = answer(100, &mut Fake::new(blocks));
        assert_eq!(views.len(), SOURCES_MAX);
        assert_eq!(notes, [format!("10 records of more than {SOURCES_MAX} senders are not shown")]);
    }
}
