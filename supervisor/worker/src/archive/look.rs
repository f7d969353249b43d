//! What is in an archive: its bytes in, pieces for the store out, and an account of it. Pure.

use super::items::{Found, ITEM_HEAD, Items, Kind};
use super::{BlockItem, End, Gap, Head, add_block};
use anyhow::{Context as _, bail};
use raven_buffer::{Block, BlockError, BlockHead, Piece};
use raven_model::archive::{ArchiveStream, ArchiveView};
use raven_model::hex::hex;
use raven_model::record::Frames;
use raven_model::stream::Stream;
use ring::digest;

/// Problems told one by one; of more only the number is told.
const PROBLEMS_MAX: usize = 1000;
/// An archive says in its first bytes what it is; behind so many it is none.
const HEAD_WITHIN: u64 = 1 << 20;

/// An archive that is being read.
pub struct Look {
    items: Items,
    digest: digest::Context,
    head: Option<Head>,
    end: Option<End>,
    is_damaged: bool,
    more_problems: u64,
    /// The account.
    pub view: ArchiveView,
}

/// A block, ready for the store.
pub struct Seen {
    /// What the store is given.
    pub piece: Piece,
    /// Its stream's place in the account.
    pub sum: usize,
    /// Bytes of the block.
    pub bytes: u64,
}

impl Look {
    /// Nothing is read yet.
    pub fn new() -> Self {
        Self {
            items: Items::default(),
            digest: digest::Context::new(&digest::SHA256),
            head: None,
            end: None,
            is_damaged: false,
            more_problems: 0,
            view: ArchiveView::default(),
        }
    }

    /// More of its bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.view.bytes += bytes.len() as u64;
        self.items.push(bytes);
    }

    /// The next block; `None` when more bytes are needed. An error ends it: this can never be imported.
    pub fn next(&mut self) -> anyhow::Result<Option<Seen>> {
        while let Some(found) = self.items.next() {
            if let Some(seen) = self.take(&found)? {
                return Ok(Some(seen));
            }
        }
        if self.head.is_none() && self.items.at() > HEAD_WITHIN {
            bail!("it is no archive that `raven ring export` made");
        }
        Ok(None)
    }

    /// There are no more bytes.
    pub fn end(&mut self) -> anyhow::Result<()> {
        if let Some(found) = self.items.end() {
            self.take(&found)?;
        }
        if self.head.is_none() {
            bail!("it is no archive that `raven ring export` made, or its beginning is damaged");
        }
        match self.end.take() {
            Some(end) => self.compare(&end),
            None => self.problem(format!(
                "it breaks off after {} bytes: what came behind is missing. The export did not end, or the file was cut",
                self.view.bytes
            )),
        }
        if self.more_problems > 0 {
            self.view.problems.push(format!("and {} more problems", self.more_problems));
        }
        Ok(())
    }

    /// Something that whoever imports it has to know.
    pub fn problem(&mut self, what: String) {
        if self.view.problems.len() < PROBLEMS_MAX {
            self.view.problems.push(what);
        } else {
            self.more_problems += 1;
        }
    }

    fn take(&mut self, found: &Found) -> anyhow::Result<Option<Seen>> {
        let (at, kind, bytes) = match found {
            Found::Damage(from, to) => {
                self.problem(format!("bytes {from} to {} of it do not read: what they held is missing", to - 1));
                self.is_damaged = true;
                return Ok(None);
            }
            Found::Item(at, kind, bytes) => (*at, *kind, bytes),
        };
        let content = &bytes[ITEM_HEAD..];
        if self.end.is_some() {
            self.problem(format!("it goes on behind its end, at byte {at}"));
            return Ok(None);
        }
        match kind {
            Kind::Head => self.take_head(content)?,
            Kind::Block => {
                self.digest.update(bytes);
                return self.take_block(at, content);
            }
            Kind::Gap => match serde_json::from_slice::<Gap>(content) {
                Ok(gap) => self.take_gap(&gap),
                Err(error) => self.problem(format!("the gap at byte {at} does not read: {error}")),
            },
            Kind::End => match serde_json::from_slice(content) {
                Ok(end) => self.end = Some(end),
                Err(error) => self.problem(format!("its end at byte {at} does not read: {error}")),
            },
        }
        if self.end.is_none() {
            self.digest.update(bytes);
        }
        Ok(None)
    }

    fn take_head(&mut self, content: &[u8]) -> anyhow::Result<()> {
        let head = Head::read(content)?;
        (self.view.id, self.view.device) = (head.id.clone(), head.device.clone());
        self.view.made_ns = head.made_ns;
        self.head = Some(head);
        Ok(())
    }

    fn take_gap(&mut self, gap: &Gap) {
        if gap.first >= gap.next || Stream::named(&gap.stream).is_none() {
            return self.problem(format!("a gap of {} makes no sense", gap.stream));
        }
        let sum = self.sum(&gap.stream);
        self.view.streams[sum].missing += gap.next.0 - gap.first.0;
        self.problem(format!(
            "{}: records {} to {} could not be exported: {}",
            gap.stream,
            gap.first,
            gap.next.0 - 1,
            gap.why
        ));
    }

    fn take_block(&mut self, at: u64, content: &[u8]) -> anyhow::Result<Option<Seen>> {
        let head = self.head.as_ref().context("its beginning is damaged: nobody knows whose records these are")?;
        let device = head.device.clone();
        let Some((item, stream)) =
            BlockItem::decode(content).and_then(|item| Some((item, Stream::named(item.stream)?)))
        else {
            self.problem(format!("the block at byte {at} is of no stream that this Raven knows"));
            return Ok(None);
        };
        let read = BlockHead::read(item.block);
        let block = match read.clone().and_then(|head| Block::decode(head.first, item.block)) {
            Ok(block) => block,
            Err(error @ BlockError::Version(_)) => bail!("{error}: a newer Raven made it"),
            Err(error) => {
                self.problem(format!("{stream}: the block at byte {at} does not read: {error}"));
                return Ok(None);
            }
        };
        let sum = self.sum(stream.name());
        let walls = (block.first_wall(), block.last_wall());
        add_block(&mut self.view.streams[sum], block.first, block.next(), walls, item.block.len());
        let frames = match stream {
            // What else a collector remembers is of its own box: none of it is needed to read records.
            Stream::Flow => [item.context, block.bytes()].concat(),
            _ => records_of(block.bytes()),
        };
        let piece = Piece {
            stream: stream.name().to_owned(),
            device,
            first: block.first,
            count: block.count,
            first_wall: walls.0,
            last_wall: walls.1,
            boot_id: block.boot_id,
            mono_offset_ns: block.mono_offset_ns,
            frames,
            listeners: block.listeners,
        };
        Ok(Some(Seen { piece, sum, bytes: item.block.len() as u64 }))
    }

    /// The place of a stream in the account.
    fn sum(&mut self, stream: &str) -> usize {
        let streams = &mut self.view.streams;
        streams.iter().position(|sum| sum.stream == stream).unwrap_or_else(|| {
            streams.push(ArchiveStream { stream: stream.to_owned(), ..ArchiveStream::default() });
            streams.len() - 1
        })
    }

    /// Holds what was found against what was written.
    fn compare(&mut self, end: &End) {
        for said in &end.streams {
            let sum = self.sum(&said.stream);
            let found = self.view.streams[sum].records;
            if found != said.records {
                let lost = said.records.saturating_sub(found);
                self.problem(format!("{}: {lost} of the {} records in it are lost", said.stream, said.records));
                self.is_damaged = true;
            }
        }
        let is_right = hex(self.digest.clone().finish().as_ref()) == end.sha256;
        if !is_right && !self.is_damaged {
            self.problem("its digest is wrong, though each part of it is sound: it was altered".to_owned());
        }
        self.view.whole = is_right && !self.is_damaged;
    }
}

/// The records of a run of frames, without context.
pub(super) fn records_of(run: &[u8]) -> Vec<u8> {
    let (mut records, mut frames) = (Vec::with_capacity(run.len()), Frames::new(run));
    loop {
        let from = frames.offset();
        match frames.next() {
            Some(Ok(frame)) if frame.received.is_record() => records.extend_from_slice(&run[from..frames.offset()]),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return records,
        }
    }
}
