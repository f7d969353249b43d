//! Records of another box: taken as they are, once.
//!
//! A [`Piece`] is one block of the box that received it. It is written as a block of its own, with the times, the boot
//! and the listeners that it had there, and marked as imported. That a piece is here is noted in the ledger, in the
//! transaction that writes the block: whoever brings it again, after whatever kill, is told [`Took::Here`].
//!
//! What is noted is the sender's own numbering ([`Import`]): device, stream and seqs, with their receive times, so that
//! a box whose ring was made anew, and begins at 1 again, is not taken for the one that it was.
//!
//! Contexts of a piece lie in its blocks and nowhere else: to the collector here a stranger's templates are none.

use crate::packer::Refused;
use crate::tail::{PacketError, Reader, Writer};
use crate::writer::RingWriter;
use raven_model::record::Frames;
use raven_model::units::{Seq, UnixNanos};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most ranges that are remembered of a stream: imports, and a range more for each hole in one.
pub const IMPORTS_MAX: usize = 4096;

/// Ranges that lie further apart here stay two: between them are records of our own, and who looks for a time has to
/// read all of a range.
const APART: u64 = 1 << 20;

/// A block of another box.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// Stream name.
    pub stream: String,
    /// `site.name` of the box that received it.
    pub device: String,
    /// Seq that its first record had there.
    pub first: Seq,
    /// Records.
    pub count: u32,
    /// Earliest receive time in it.
    pub first_wall: UnixNanos,
    /// Latest receive time in it.
    pub last_wall: UnixNanos,
    /// The boot during which it was received.
    pub boot_id: [u8; 16],
    /// Wall clock minus monotonic clock when it was received, ns.
    pub mono_offset_ns: i64,
    /// Names of the listeners that took its records.
    pub listeners: BTreeMap<u8, String>,
    /// Records and the context that they need, as in the receive memory. Empty to ask whether they are here.
    pub frames: Vec<u8>,
}

/// What became of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Took {
    /// Only asked for, and not here.
    New,
    /// It was here before, and is on disk.
    Here,
    /// It is on disk now.
    Stored,
    /// Not now: the disk takes nothing. Bring it again.
    Later,
    /// Never, and why.
    Refused(String),
}

/// Records of another box that are here: whole blocks, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// `site.name` of the box that received them.
    pub device: String,
    /// Seq of the first one there.
    pub first: Seq,
    /// One after the last one there.
    pub next: Seq,
    /// Earliest receive time.
    pub first_wall: UnixNanos,
    /// Latest receive time.
    pub last_wall: UnixNanos,
    /// Seq of the first one here.
    pub into_first: Seq,
    /// One after the last one here. Records of our own may lie between.
    pub into_next: Seq,
}

impl Import {
    /// True when all of the piece is in it.
    fn covers(&self, piece: &Piece) -> bool {
        self.device == piece.device
            && self.first <= piece.first
            && piece.first.plus(piece.count.into()) <= self.next
            && self.first_wall <= piece.first_wall
            && piece.last_wall <= self.last_wall
    }

    /// True when `next` goes on where this ends, there and here.
    pub(crate) fn goes_on_in(&self, next: &Self) -> bool {
        let apart = next.into_first.0.checked_sub(self.into_next.0);
        self.device == next.device && self.next == next.first && apart.is_some_and(|apart| apart <= APART)
    }

    /// Takes in what follows it.
    pub(crate) fn join(&mut self, next: &Self) {
        (self.next, self.into_next) = (next.next, next.into_next);
        self.first_wall = self.first_wall.min(next.first_wall);
        self.last_wall = self.last_wall.max(next.last_wall);
    }
}

impl Piece {
    /// As bytes, for [`crate::tail::Request::Piece`]. Names longer than 255 bytes are cut.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(self.frames.len() + 256));
        out.text(&self.stream).text(&self.device).u64(self.first.0).u32(self.count);
        out.u64(self.first_wall.0).u64(self.last_wall.0).u64(self.mono_offset_ns.cast_unsigned());
        out.0.extend_from_slice(&self.boot_id);
        out.len(self.listeners.len());
        for (id, name) in &self.listeners {
            out.tag(*id).text(name);
        }
        out.0.extend_from_slice(&self.frames);
        out.0
    }

    /// From bytes. The frames are not looked at.
    pub fn decode(bytes: &[u8]) -> Result<Self, PacketError> {
        let mut rest = Reader(bytes);
        let (stream, device, first, count) = (rest.text()?, rest.text()?, rest.seq()?, rest.u32()?);
        let (first_wall, last_wall) = (UnixNanos(rest.u64()?), UnixNanos(rest.u64()?));
        let (mono_offset_ns, boot_id) = (rest.u64()?.cast_signed(), rest.take()?);
        let listeners = rest.list(|rest| {
            let [id] = rest.take()?;
            Ok((id, rest.text()?))
        })?;
        if first.0.checked_add(count.into()).is_none() {
            return Err(PacketError::Content("its count of records is impossible"));
        }
        let listeners = listeners.into_iter().collect();
        let frames = rest.0.to_vec();
        Ok(Self { stream, device, first, count, first_wall, last_wall, boot_id, mono_offset_ns, listeners, frames })
    }
}

impl RingWriter {
    /// Takes a piece into memory; [`Took::Stored`] once the next commit has succeeded. One that was taken before is
    /// [`Took::Here`] when it is on disk, and waits for that commit else.
    pub fn import(&mut self, piece: &Piece) -> Result<Took, Refused> {
        if self.ledger.imports.iter().any(|import| import.covers(piece)) {
            return Ok(Took::Here);
        }
        if self.importing.iter().any(|import| import.covers(piece)) {
            return Ok(Took::Stored);
        }
        if piece.frames.is_empty() {
            return Ok(Took::New);
        }
        if self.ledger.imports.len() + self.importing.len() >= IMPORTS_MAX {
            return Ok(Took::Refused(format!("{IMPORTS_MAX} ranges of imported records are remembered: no more fit")));
        }
        let (mut found, mut records) = (0, 0);
        for frame in Frames::new(&piece.frames) {
            found += 1;
            records += u32::from(frame?.received.is_record());
        }
        if records != piece.count {
            return Err(Refused::Count { said: piece.count, found: records });
        }
        let into_first = self.packer.next();
        self.packer.append_imported(piece, found)?;
        let next = piece.first.plus(piece.count.into());
        let Piece { first_wall, last_wall, .. } = *piece;
        let (device, into_next) = (piece.device.clone(), self.packer.next());
        let import = Import { device, first: piece.first, next, first_wall, last_wall, into_first, into_next };
        self.taken += u64::from(records);
        // One by one: a commit that is said to have failed may have taken some of them.
        self.importing.push(import);
        Ok(Took::Stored)
    }

    /// True when a piece waits for its commit.
    pub const fn is_importing(&self) -> bool {
        !self.importing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn piece() -> Piece {
        Piece {
            stream: "flow".to_owned(),
            device: "arena".to_owned(),
            first: Seq(11),
            count: 2,
            first_wall: UnixNanos(5),
            last_wall: UnixNanos(9),
            boot_id: [3; 16],
            mono_offset_ns: -7,
            listeners: BTreeMap::from([(1, "udp:[::]:2055".to_owned()), (9, String::new())]),
            frames: b"frames".to_vec(),
        }
    }

    #[test]
    fn a_piece_reads_back_as_written() {
        for piece in [piece(), Piece::default()] {
            assert_eq!(Piece::decode(&piece.encode()), Ok(piece));
        }
    }

    #[test]
    fn a_ring_that_was_made_anew_is_another_one() {
        let import = Import {
            device: "arena".to_owned(),
            first: Seq(1),
            next: Seq(100),
            first_wall: UnixNanos(1),
            last_wall: UnixNanos(50),
            into_first: Seq(7),
            into_next: Seq(106),
        };
        assert!(import.covers(&piece()));
        assert!(!import.covers(&Piece { device: "hall".to_owned(), ..piece() }));
        assert!(!import.covers(&Piece { first: Seq(99), ..piece() }), "the last one is not there");
        assert!(!import.covers(&Piece { last_wall: UnixNanos(51), ..piece() }), "these came later");
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Piece::decode(&bytes);
        }
    }
}
