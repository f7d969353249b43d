//! An export: blocks of the ring as they lie there, checked, into an archive ([`crate::archive`]). A block at a time.

use super::{Line, Lines, Step};
use crate::archive::items::{Kind, item};
use crate::archive::{BlockItem, End, Gap, Head, VERSION, add_block};
use crate::decode::ring::Ring;
use crate::flows::Flows;
use anyhow::{Context as _, bail, ensure};
use raven_buffer::block::{BLOCK_CONTEXT, Entry};
use raven_buffer::tail::Answer;
use raven_buffer::{Block, BlockHead, Found, RingReader};
use raven_model::archive::{ArchiveLine, ArchiveSelect, ArchiveStream, ArchiveView};
use raven_model::hex::hex;
use raven_model::record::{Context, Received, frame_len, write_frame};
use raven_model::stream::Stream;
use raven_model::units::{Seq, UnixNanos};
use ring::digest;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often it is told how far the export is.
const PROGRESS: Duration = Duration::from_millis(200);
/// The store is asked again after this.
const BUSY: Duration = Duration::from_millis(100);
/// Problems told one by one; of more only the number is told.
const PROBLEMS_MAX: usize = 1000;

/// The work for one client.
pub struct Export {
    select: ArchiveSelect,
    left: VecDeque<Stream>,
    now: Option<Reading>,
    mark: u32,
    digest: digest::Context,
    view: ArchiveView,
    more_problems: u64,
    told: Instant,
}

/// The stream that is being read.
struct Reading {
    stream: Stream,
    reader: RingReader,
    at: Seq,
    /// What is stored from here on came after the export began.
    end: Option<Seq>,
    flows: Flows,
}

/// What lies at a seq.
enum Lies {
    Block(BlockHead, Vec<u8>),
    /// Nothing of that time up to here.
    Other(Seq),
    Gap(Seq, String),
    /// Removed: what is held begins here.
    Before(Seq),
    End,
    Busy,
}

impl Export {
    /// Of these streams, each of which must exist. `now` is when it is made.
    pub fn new(select: ArchiveSelect, device: &str, now: UnixNanos, ring: &Ring) -> anyhow::Result<Self> {
        let mut left = VecDeque::new();
        for name in &select.streams {
            let stream = Stream::named(name).with_context(|| format!("there is no stream `{name}`"))?;
            ensure!(!left.contains(&stream), "stream `{name}` is named twice");
            ring.reader(name)?;
            left.push_back(stream);
        }
        if left.is_empty() {
            bail!("no stream is named");
        }
        let mut id = [0; 16];
        SystemRandom::new().fill(&mut id).map_err(|_| anyhow::anyhow!("the kernel gave no random numbers"))?;
        let view = ArchiveView { id: hex(&id), device: device.to_owned(), made_ns: now, ..ArchiveView::default() };
        let mark = u32::from_le_bytes([id[0], id[1], id[2], id[3]]);
        let digest = digest::Context::new(&digest::SHA256);
        Ok(Self { select, left, now: None, mark, digest, view, more_problems: 0, told: Instant::now() })
    }

    /// What stands in front.
    pub fn begin(&mut self, lines: &mut Lines) -> anyhow::Result<()> {
        let head = Head {
            version: VERSION,
            id: self.view.id.clone(),
            device: self.view.device.clone(),
            made_ns: self.view.made_ns,
            raven: env!("CARGO_PKG_VERSION").to_owned(),
            streams: self.select.streams.clone(),
            since: self.select.since,
            until: self.select.until,
        };
        let head = serde_json::to_vec(&head)?;
        self.write(Kind::Head, &head, lines);
        self.write(Kind::Head, &head, lines);
        Ok(())
    }

    /// Does a piece of work, at most a block.
    pub fn step(&mut self, ring: &mut Ring, lines: &mut Lines) -> anyhow::Result<Step> {
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            lines.line(&Line::Archive(&ArchiveLine::View(Box::new(self.view.clone()))));
        }
        let Some(now) = &mut self.now else {
            let Some(stream) = self.left.pop_front() else { return self.end(lines) };
            self.view.streams.push(ArchiveStream { stream: stream.name().to_owned(), ..ArchiveStream::default() });
            let reader = ring.reader(stream.name())?.sparse();
            let at = reader.first().unwrap_or(Seq(1));
            self.now = Some(Reading { stream, reader, at, end: None, flows: Flows::default() });
            return Ok(Step::Again);
        };
        let Some(end) = now.end else {
            if let Some(Answer::Next(next)) = ring.ask(now.stream.name(), Seq(u64::MAX))? {
                now.end = Some(next);
                return Ok(Step::Again);
            }
            return Ok(Step::Later(BUSY));
        };
        if now.at >= end {
            self.now = None;
            return Ok(Step::Again);
        }
        match now.look(ring, &self.select)? {
            Lies::Block(head, value) => {
                now.at = head.next();
                self.block(&head, &value, ring, lines);
            }
            Lies::Other(next) => now.at = next,
            Lies::Gap(next, why) => {
                let first = std::mem::replace(&mut now.at, next);
                self.gap(first, next.min(end).max(first.plus(1)), why, lines)?;
            }
            Lies::Before(first) => {
                let gone = std::mem::replace(&mut now.at, first);
                self.gap(gone, first, "they were removed to make room before they could be read".to_owned(), lines)?;
            }
            Lies::End => now.at = end,
            Lies::Busy => return Ok(Step::Later(BUSY)),
        }
        Ok(Step::Again)
    }

    fn block(&mut self, head: &BlockHead, value: &[u8], ring: &Ring, lines: &mut Lines) {
        let Some(now) = &mut self.now else { return };
        let context = now.context_of(head, value, ring);
        let content = BlockItem { stream: now.stream.name(), context: &context, block: value }.encode();
        if let Some(sum) = self.view.streams.last_mut() {
            add_block(sum, head.first, head.next(), (head.first_wall, head.last_wall), value.len());
        }
        self.write(Kind::Block, &content, lines);
    }

    fn gap(&mut self, first: Seq, next: Seq, why: String, lines: &mut Lines) -> anyhow::Result<()> {
        let Some(sum) = self.view.streams.last_mut() else { return Ok(()) };
        sum.missing += next.0 - first.0;
        let stream = sum.stream.clone();
        self.problem(format!("{stream}: records {first} to {} are not in it: {why}", next.0 - 1));
        let content = serde_json::to_vec(&Gap { stream, first, next, why })?;
        self.write(Kind::Gap, &content, lines);
        Ok(())
    }

    fn problem(&mut self, what: String) {
        if self.view.problems.len() < PROBLEMS_MAX {
            self.view.problems.push(what);
        } else {
            self.more_problems += 1;
        }
    }

    fn end(&mut self, lines: &mut Lines) -> anyhow::Result<Step> {
        let sha256 = hex(self.digest.clone().finish().as_ref());
        let end = serde_json::to_vec(&End { streams: self.view.streams.clone(), sha256 })?;
        self.write(Kind::End, &end, lines);
        if self.more_problems > 0 {
            self.view.problems.push(format!("and {} more problems", self.more_problems));
        }
        (self.view.done, self.view.whole) = (true, true);
        lines.line(&Line::Archive(&ArchiveLine::View(Box::new(std::mem::take(&mut self.view)))));
        Ok(Step::Done)
    }

    fn write(&mut self, kind: Kind, content: &[u8], lines: &mut Lines) {
        let bytes = item(self.mark, kind, content);
        self.digest.update(&bytes);
        self.view.bytes += bytes.len() as u64;
        lines.line(&Line::Archive(&ArchiveLine::part(&bytes)));
    }
}

/// Whether a span of receive times has a part in what is asked for.
fn is_meant(first: UnixNanos, last: UnixNanos, select: &ArchiveSelect) -> bool {
    select.since.is_none_or(|since| last >= since) && select.until.is_none_or(|until| first < until)
}

impl Reading {
    /// The block at the present seq as it lies there, whole and sound.
    fn look(&mut self, ring: &mut Ring, select: &ArchiveSelect) -> anyhow::Result<Lies> {
        if let Some(next) = self.other_segment(select) {
            return Ok(Lies::Other(next));
        }
        // Again when the open segment was sealed between two looks.
        for _ in 0..4 {
            let mut taken = None;
            let found = self.reader.find_wanted(self.at, &mut |head, value| {
                taken = whole(*head, value, select);
                // What is not sound is read once more, and the reader says what is wrong.
                taken.is_none()
            })?;
            match (found, taken) {
                (None, Some(lies)) => return Ok(lies),
                (Some(Found::Gap { next, why }), _) => return Ok(Lies::Gap(next.max(self.at.plus(1)), why)),
                (Some(Found::Before { first }), _) => return Ok(Lies::Before(first)),
                (Some(Found::Block(block)), _) => {
                    return Ok(Lies::Gap(block.next(), "the block does not read".to_owned()));
                }
                (Some(Found::Open) | None, _) => {}
            }
            match ring.ask(self.stream.name(), self.at)? {
                Some(Answer::Block { first, value }) => return Ok(self.open_block(first, &value, select)),
                Some(Answer::Next(_)) => return Ok(Lies::End),
                Some(Answer::Sealed) => self.reader.refresh()?,
                None => return Ok(Lies::Busy),
            }
        }
        Ok(Lies::Busy)
    }

    /// Where to go on when the present seq begins a segment that says that it holds nothing of that time.
    fn other_segment(&mut self, select: &ArchiveSelect) -> Option<Seq> {
        if select.since.is_none() && select.until.is_none() {
            return None;
        }
        let at = self.reader.sealed().binary_search(&self.at).ok()?;
        let end = self.reader.sealed().get(at + 1).copied().or(self.reader.open_first())?;
        let summary = self.reader.summary(self.at).ok().flatten()?;
        let (first, last) = summary.first_wall.zip(summary.last_wall)?;
        // One that ends early has a gap behind its end, which is to be met.
        (!is_meant(first, last, select) && summary.next == end).then_some(end)
    }

    fn open_block(&self, first: Seq, value: &[u8], select: &ArchiveSelect) -> Lies {
        if first > self.at {
            return Lies::Gap(first, "records are missing in the newest segment".to_owned());
        }
        let head = BlockHead::read(value).ok().filter(|head| head.first == first && head.holds(self.at));
        let next = head.map_or(self.at.plus(1), |head| head.next());
        let lies = head.and_then(|head| whole(head, value, select));
        lies.unwrap_or_else(|| Lies::Gap(next, format!("the block at {first} in the newest segment is damaged")))
    }

    /// What a flow block needs beside what it brings: templates that came behind their first data.
    fn context_of(&mut self, head: &BlockHead, value: &[u8], ring: &Ring) -> Vec<u8> {
        let mut context = Vec::new();
        if self.stream != Stream::Flow {
            return context;
        }
        let Ok(block) = Block::decode(head.first, value) else { return context };
        self.flows.forget_blocks();
        for entry in block.entries() {
            match entry {
                Entry::Context(_, brought) => self.flows.context(&brought),
                Entry::Record(_, record) => {
                    for (key, definition) in self.flows.missing(&record, &ring.dir) {
                        let brought = Context { key: &key, value: &definition };
                        if add_context(&brought, head.first_wall, &mut context) {
                            self.flows.context(&brought);
                        }
                    }
                }
            }
        }
        context
    }
}

/// A sound block, or one that is not of that time; `None` when it is damaged.
fn whole(head: BlockHead, value: &[u8], select: &ArchiveSelect) -> Option<Lies> {
    if !is_meant(head.first_wall, head.last_wall, select) {
        return Some(Lies::Other(head.next()));
    }
    Block::decode(head.first, value).ok().map(|_| Lies::Block(head, value.to_vec()))
}

/// Appends its frame; false when there is no room.
fn add_context(context: &Context<'_>, wall: UnixNanos, out: &mut Vec<u8>) -> bool {
    let mut raw = Vec::new();
    context.write(&mut raw);
    let received = Received::context(wall);
    let (at, len) = (out.len(), frame_len(received.source.ip(), raw.len()));
    if at + len > BLOCK_CONTEXT {
        return false;
    }
    out.resize(at + len, 0);
    let is_written = write_frame(&mut out[at..], &received, &raw).is_some();
    if !is_written {
        out.truncate(at);
    }
    is_written
}
