//! Archives: what one box exports, and another imports. A row of [`items`], each checked by itself, so that what was
//! cut off, or has a bad sector, is good for all the rest.
//!
//! ```text
//!  head, head   JSON: who made it, when, of what. Twice, since nothing can be done without
//!  block …      stream, context of earlier times that the block needs, the block as it lies in the ring
//!  gap …        JSON: records that could not be read when it was made
//!  end          JSON: sums of each stream, and the SHA-256 of all before it
//! ```
//!
//! A block in an archive needs nothing else: records that came before their template get it put before them here.
//!
//! Written by the `decode` role ([`crate::decode`]), read by [`import`], by which foreign bytes are looked at in a jail
//! that holds nothing: no file, no ring, only the way to the store.

pub mod import;
pub mod items;
mod look;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use anyhow::Context as _;
use raven_model::archive::ArchiveStream;
use raven_model::units::{Seq, UnixNanos};
use serde::{Deserialize, Serialize};

/// Version of the format that is written, and the newest that is read.
pub const VERSION: u32 = 1;

/// The first item, and the second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`VERSION`].
    pub version: u32,
    /// Random, 32 hex digits.
    pub id: String,
    /// `site.name`.
    pub device: String,
    /// When the export began.
    pub made_ns: UnixNanos,
    /// Version of the Raven that made it.
    pub raven: String,
    /// Streams that were asked for.
    pub streams: Vec<String>,
    /// From when on.
    pub since: Option<UnixNanos>,
    /// Until when.
    pub until: Option<UnixNanos>,
}

/// Records that are not in it though they were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Stream.
    pub stream: String,
    /// First of them.
    pub first: Seq,
    /// One after the last.
    pub next: Seq,
    /// Why, in words.
    pub why: String,
}

/// The last item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// What is in it.
    pub streams: Vec<ArchiveStream>,
    /// SHA-256 of all bytes before this item, hex digits.
    pub sha256: String,
}

/// One block of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockItem<'a> {
    /// Stream name.
    pub stream: &'a str,
    /// Frames of context that go before the block's own.
    pub context: &'a [u8],
    /// The encoded block.
    pub block: &'a [u8],
}

impl<'a> BlockItem<'a> {
    /// As the content of an item: `{ stream_len u8, stream, context_len u32, context, block }`, little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.context.len() + self.block.len() + 64);
        out.push(self.stream.len() as u8);
        out.extend_from_slice(self.stream.as_bytes());
        out.extend_from_slice(&(self.context.len() as u32).to_le_bytes());
        out.extend_from_slice(self.context);
        out.extend_from_slice(self.block);
        out
    }

    /// From the content of an item.
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        let (len, rest) = body.split_first()?;
        let (stream, rest) = rest.split_at_checked(usize::from(*len))?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (context, block) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        Some(Self { stream: std::str::from_utf8(stream).ok()?, context, block })
    }
}

impl Head {
    /// From the content of an item.
    pub fn read(body: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(body).context("its head does not read")?;
        anyhow::ensure!(
            version <= VERSION && version > 0,
            "it is of version {version} of the format, this Raven reads up to {VERSION}: a newer Raven made it"
        );
        serde_json::from_slice(body).context("its head does not read")
    }
}

/// Adds a block to the sums of its stream.
pub fn add_block(sum: &mut ArchiveStream, first: Seq, next: Seq, walls: (UnixNanos, UnixNanos), bytes: usize) {
    if sum.blocks == 0 {
        sum.first_seq = first;
    }
    sum.blocks += 1;
    sum.records += next.0 - first.0;
    sum.bytes += bytes as u64;
    sum.next_seq = next;
    sum.first_ns = Some(sum.first_ns.map_or(walls.0, |wall| wall.min(walls.0)));
    sum.last_ns = sum.last_ns.max(Some(walls.1));
}
