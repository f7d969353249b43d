//! Who sends: counted over the newest records, newest first, as far back as asked for and at most two million.

use crate::decode::{Got, Ring, Step};
use raven_buffer::{Block, RingReader};
use raven_model::query::{Decoded, SourceView};
use raven_model::record::Record;
use raven_model::units::{Seq, UnixNanos};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Records looked at, at most: about four seconds of work.
const RECORDS_MAX: u64 = 2_000_000;
/// Senders shown, at most; a forged flood of addresses must not take the memory.
const SOURCES_MAX: usize = 65_536;
/// How far back without a word from the operator.
const WINDOW: u64 = 15 * 60 * 1_000_000_000;
const SAMPLE: usize = 200;

/// A count under way.
pub struct Sources {
    stream: String,
    reader: RingReader,
    since: UnixNanos,
    now: UnixNanos,
    before: Option<Seq>,
    seen: u64,
    oldest: UnixNanos,
    sources: HashMap<IpAddr, SourceView>,
}

impl Sources {
    /// Prepares the count; an unknown stream is an error.
    pub fn new(stream: &str, since: Option<UnixNanos>, ring: &Ring) -> anyhow::Result<Self> {
        let now = UnixNanos(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64));
        let since = since.unwrap_or(UnixNanos(now.0.saturating_sub(WINDOW)));
        let reader = ring.reader(stream)?;
        let sources = HashMap::new();
        Ok(Self { stream: stream.to_owned(), reader, since, now, before: None, seen: 0, oldest: now, sources })
    }

    /// Counts one block; writes the result at the end.
    pub fn step(&mut self, ring: &mut Ring, out: &mut Vec<u8>) -> anyhow::Result<Step> {
        let Some(before) = self.before else {
            self.before = ring.next_seq(&self.stream)?;
            return Ok(if self.before.is_some() { Step::Again } else { Step::Later(Duration::from_millis(100)) });
        };
        let first = self.reader.first().unwrap_or(Seq(1));
        if before <= first || self.seen >= RECORDS_MAX {
            self.finish(out);
            return Ok(Step::Done);
        }
        let at = Seq(before.0 - 1);
        match ring.get(&mut self.reader, &self.stream, at)? {
            Got::Block(block) => {
                if block.last_wall() < self.since {
                    self.finish(out);
                    return Ok(Step::Done);
                }
                self.count(&block);
                self.before = Some(block.first.min(at));
            }
            Got::Skip(_) | Got::End => self.before = Some(at),
            Got::Busy => return Ok(Step::Later(Duration::from_millis(100))),
        }
        Ok(Step::Again)
    }

    fn count(&mut self, block: &Block) {
        let since = self.since;
        for (_, record) in block.records().filter(|(_, record)| record.received.wall >= since) {
            self.seen += 1;
            self.oldest = self.oldest.min(record.received.wall);
            self.add(&record);
        }
    }

    fn add(&mut self, record: &Record<'_>) {
        let addr = record.received.source.ip();
        let known = self.sources.len();
        let source = match self.sources.entry(addr) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(_) if known >= SOURCES_MAX => return,
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(empty(addr)),
        };
        source.records += 1;
        source.bytes += record.raw.len() as u64;
        let newer = record.received.wall >= source.last_seen_ns;
        source.last_seen_ns = source.last_seen_ns.max(record.received.wall);
        let (decoded, reject) = raven_decode::decode(&self.stream, record.raw, record.received.wall);
        if reject.is_some() {
            source.not_understood += 1;
            if source.sample.is_none() {
                let raw = &record.raw[..record.raw.len().min(SAMPLE)];
                source.sample = Some(String::from_utf8_lossy(raw).into_owned());
            }
        }
        if let (true, Some(Decoded::Syslog(syslog))) = (newer || source.hostname.is_none(), decoded) {
            source.hostname = syslog.hostname.or(source.hostname.take());
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        // The window began with the oldest record that was looked at, or when the operator said.
        let from = if self.seen >= RECORDS_MAX { self.oldest } else { self.since.max(self.first_wall()) };
        let seconds = (self.now.0.saturating_sub(from.0) as f64 / 1e9).max(1.0);
        let mut sources: Vec<SourceView> = self.sources.drain().map(|(_, source)| source).collect();
        sources.sort_by_key(|source| std::cmp::Reverse(source.records));
        for mut source in sources {
            source.rate = source.records as f64 / seconds;
            // Text and numbers always serialise.
            let _ = serde_json::to_writer(&mut *out, &source);
            out.push(b'\n');
        }
    }

    fn first_wall(&self) -> UnixNanos {
        self.oldest
    }
}

fn empty(addr: IpAddr) -> SourceView {
    SourceView {
        addr,
        records: 0,
        bytes: 0,
        rate: 0.0,
        last_seen_ns: UnixNanos(0),
        not_understood: 0,
        hostname: None,
        sample: None,
    }
}
