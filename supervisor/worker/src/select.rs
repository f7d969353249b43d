//! Records that an operator asks for: found, filtered, decoded if wanted, written.

use crate::decode::{Got, Ring, Step};
use base64::Engine as _;
use memchr::memmem::Finder;
use raven_buffer::{Block, RingReader};
use raven_model::query::{Format, RecordView, Select};
use raven_model::record::Record;
use raven_model::units::{Seq, UnixNanos};
use std::time::Duration;

const STORE_BUSY: Duration = Duration::from_millis(100);
const FOLLOW: Duration = Duration::from_millis(200);

/// A search under way.
pub struct Records {
    select: Select,
    finder: Option<Finder<'static>>,
    reader: RingReader,
    phase: Phase,
}

enum Phase {
    /// Where to begin is not known yet: `last` counts from the end.
    Seek,
    /// Going back from `before` until `wanted` lines are there, the newest first.
    Back { before: Seq, from: Seq, resume: Seq, wanted: u64, lines: Vec<Vec<u8>> },
    /// Going on from here.
    Forward(Seq),
}

impl Records {
    /// Prepares the search; an unknown stream is an error.
    pub fn new(select: Select, ring: &Ring) -> anyhow::Result<Self> {
        let reader = ring.reader(&select.stream)?;
        let finder = select.grep.as_ref().map(|text| Finder::new(text.as_bytes()).into_owned());
        Ok(Self { select, finder, reader, phase: Phase::Seek })
    }

    /// Does a piece of work, at most a block.
    pub fn step(&mut self, ring: &mut Ring, out: &mut Vec<u8>) -> anyhow::Result<Step> {
        match &mut self.phase {
            Phase::Seek => self.seek(ring),
            Phase::Back { .. } => self.back(ring, out),
            &mut Phase::Forward(at) => self.forward(at, ring, out),
        }
    }

    fn seek(&mut self, ring: &mut Ring) -> anyhow::Result<Step> {
        let first = self.reader.first().unwrap_or(Seq(1));
        let from = self.start(first)?;
        let Some(wanted) = self.select.last else {
            self.phase = Phase::Forward(from);
            return Ok(Step::Again);
        };
        let Some(next) = ring.next_seq(&self.select.stream)? else { return Ok(Step::Later(STORE_BUSY)) };
        self.phase = Phase::Back { before: next, from, resume: next, wanted, lines: Vec::new() };
        Ok(Step::Again)
    }

    /// The first seq that can match: by number, then by the times that the segments tell.
    fn start(&mut self, first: Seq) -> anyhow::Result<Seq> {
        let from = self.select.from.unwrap_or(first).max(first);
        let Some(since) = self.select.since else { return Ok(from) };
        let sealed = self.reader.sealed().to_vec();
        let mut at = from;
        for (n, &segment) in sealed.iter().enumerate() {
            let behind = sealed.get(n + 1).copied().or(self.reader.open_first());
            let last = self.reader.summary(segment).ok().flatten().and_then(|summary| summary.last_wall);
            // A segment that cannot tell its times is searched.
            if last.is_none_or(|last| last >= since) {
                break;
            }
            at = at.max(behind.unwrap_or(segment));
        }
        Ok(at)
    }

    fn forward(&mut self, at: Seq, ring: &mut Ring, out: &mut Vec<u8>) -> anyhow::Result<Step> {
        match ring.get(&mut self.reader, &self.select.stream, at)? {
            Got::Block(block) => {
                if self.is_past(&block) {
                    return Ok(Step::Done);
                }
                if !self.is_before(&block) {
                    for (seq, record) in block.records().filter(|(seq, _)| *seq >= at) {
                        if self.matches(&record) {
                            self.write(seq, &record, &block, out);
                        }
                    }
                }
                self.phase = Phase::Forward(block.next());
                Ok(Step::Again)
            }
            Got::Skip(next) => {
                self.phase = Phase::Forward(next);
                Ok(Step::Again)
            }
            Got::End if self.select.follow => Ok(Step::Later(FOLLOW)),
            Got::End => Ok(Step::Done),
            Got::Busy => Ok(Step::Later(STORE_BUSY)),
        }
    }

    fn back(&mut self, ring: &mut Ring, out: &mut Vec<u8>) -> anyhow::Result<Step> {
        let Phase::Back { before, from, resume, wanted, .. } = self.phase else { return Ok(Step::Done) };
        if before > from && self.found() < wanted {
            let at = Seq(before.0 - 1);
            let next_before = match ring.get(&mut self.reader, &self.select.stream, at)? {
                Got::Block(block) => {
                    self.collect(&block, before, from, wanted);
                    block.first.min(at)
                }
                Got::Skip(_) | Got::End => at,
                Got::Busy => return Ok(Step::Later(STORE_BUSY)),
            };
            if let Phase::Back { before, .. } = &mut self.phase {
                *before = next_before;
            }
            return Ok(Step::Again);
        }
        if let Phase::Back { lines, .. } = &mut self.phase {
            lines.drain(..).rev().for_each(|line| out.extend_from_slice(&line));
        }
        if !self.select.follow {
            return Ok(Step::Done);
        }
        self.phase = Phase::Forward(resume);
        Ok(Step::Again)
    }

    fn found(&self) -> u64 {
        if let Phase::Back { lines, .. } = &self.phase { lines.len() as u64 } else { 0 }
    }

    /// Takes the newest matches of a block that are still wanted.
    fn collect(&mut self, block: &Block, before: Seq, from: Seq, wanted: u64) {
        let room = (wanted - self.found()) as usize;
        let matching: Vec<(Seq, Record<'_>)> =
            block.records().filter(|(seq, record)| (from..before).contains(seq) && self.matches(record)).collect();
        let mut newest = Vec::new();
        for (seq, record) in matching.iter().rev().take(room) {
            let mut line = Vec::new();
            self.write(*seq, record, block, &mut line);
            newest.push(line);
        }
        if let Phase::Back { lines, .. } = &mut self.phase {
            lines.append(&mut newest);
        }
    }

    fn is_past(&self, block: &Block) -> bool {
        self.select.until.is_some_and(|until| block.first_wall() >= until)
    }

    fn is_before(&self, block: &Block) -> bool {
        self.select.since.is_some_and(|since| block.last_wall() < since)
    }

    fn matches(&self, record: &Record<'_>) -> bool {
        let wall = record.received.wall;
        self.select.since.is_none_or(|since| wall >= since)
            && self.select.until.is_none_or(|until| wall < until)
            && self.select.source.is_none_or(|source| record.received.source.ip() == source)
            && self.finder.as_ref().is_none_or(|finder| finder.find(record.raw).is_some())
    }

    fn write(&self, seq: Seq, record: &Record<'_>, block: &Block, out: &mut Vec<u8>) {
        match self.select.format {
            Format::Raw => out.extend_from_slice(record.raw),
            Format::Ndjson => {
                let view = view(seq, record, block, self.select.decoded.then_some(self.select.stream.as_str()));
                // Text and numbers always serialise.
                let _ = serde_json::to_writer(&mut *out, &view);
            }
        }
        out.push(b'\n');
    }
}

/// A record as it is shown; decoded when `decode_as` names its stream.
pub fn view(seq: Seq, record: &Record<'_>, block: &Block, decode_as: Option<&str>) -> RecordView {
    let received = record.received;
    let (raw, raw_b64) = match std::str::from_utf8(record.raw) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(base64::engine::general_purpose::STANDARD.encode(record.raw))),
    };
    let (decoded, reject) = match decode_as {
        Some(_) if received.unparsed => (None, Some("a collector died twice over it: not looked at".to_owned())),
        Some(stream) => raven_decode::decode(stream, record.raw, UnixNanos(received.wall.0)),
        None => (None, None),
    };
    RecordView {
        seq,
        received_ns: received.wall,
        source: received.source.into(),
        listener: block.listener_name(received.listener).to_owned(),
        raw,
        raw_b64,
        piece: received.piece,
        unparsed: received.unparsed,
        decoded,
        reject,
    }
}
