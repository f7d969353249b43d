//! What readers of the open segment and the store say to each other, over one `SOCK_SEQPACKET` pair per reader.
//!
//! The pair outlives both ends, so there is no end of file, and a question may stay unanswered because the store was
//! restarted: the reader asks again under a new id and passes over answers to old ones. A block may be larger than a
//! packet: it comes in [`Reply::Part`]s.
//!
//! Integers are little-endian; text is its length (u8) and bytes; a list is its length (u16) and items.
//!
//! | tag | request | |
//! |---|---|---|
//! | 1 | Block | id u64, stream, from u64 |
//! | 2 | Wait | id u64, stream, from u64 |
//! | 3 | Cursors | list of { destination, stream, low u64 } |
//! | 4 | FenceDone | token u64, stream, list of { destination, records u64 } |
//! | 5 | Damage | stream, seq u64 |
//! | 6 | Repair | id u64, stream, seq u64 |
//! | 7 | Piece | id u64, total u32, at u32, bytes to the end |
//! | 8 | Room | id u64 |
//!
//! | tag | reply | |
//! |---|---|---|
//! | 65 | Part | id u64, first u64, total u32, at u32, bytes to the end |
//! | 66 | Sealed | id u64 |
//! | 67 | Next | id u64, next_seq u64 |
//! | 68 | Fence | token u64, stream, first u64, below u64 |
//! | 69 | Repaired | id u64, lost u64, what |
//! | 70 | Room | id u64, free u64 |
//! | 71 | Took | id u64, how u8, what |

mod channel;

pub use channel::{Answer, Assembler, Outbox, Pieces, Repaired, TailClient, TailError, TailServer};

use crate::block::{BLOCK_CONTEXT, RAW_LIMIT, VALUE_LIMIT};
use crate::import::Took;
use raven_model::units::Seq;

/// Largest packet: fits in the kernel's default send buffer several times.
pub const PACKET_MAX: usize = 60 * 1024;

/// Bytes of a part before its content.
const PART_HEAD: usize = 25;

/// Most bytes of an encoded piece: a block's records, its context, as much again that was added, names of listeners.
pub const PIECE_MAX: usize = RAW_LIMIT + BLOCK_CONTEXT + 128 * 1024;

/// Most items of a list.
const LIST_MAX: usize = 1024;

/// From a reader to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The block that holds `from`, or the first behind it. Answered at once: parts, `Sealed`, or `Next`.
    Block {
        /// Names the answer.
        id: u64,
        /// Stream name.
        stream: String,
        /// Seq wanted.
        from: Seq,
    },
    /// The same, but where there is nothing yet the answer waits until there is.
    Wait {
        /// Names the answer.
        id: u64,
        /// Stream name.
        stream: String,
        /// Seq wanted.
        from: Seq,
    },
    /// How far each destination has acknowledged; not answered.
    Cursors(Vec<Low>),
    /// To [`Reply::Fence`]: nothing below is read any more.
    FenceDone {
        /// Of the fence.
        token: u64,
        /// Stream name.
        stream: String,
        /// Records of what goes now that a destination has not acknowledged.
        unforwarded: Vec<(String, u64)>,
    },
    /// A record of a sealed segment cannot be read; not answered.
    Damage {
        /// Stream name.
        stream: String,
        /// The record.
        seq: Seq,
    },
    /// This cannot be read: count it, set aside the segment if it cannot be opened, and say so. At seq 0: write the
    /// catalogue anew.
    Repair {
        /// Names the answer.
        id: u64,
        /// Stream name.
        stream: String,
        /// Seq that cannot be read.
        seq: Seq,
    },
    /// A part of an encoded [`crate::import::Piece`]. Parts come in order; the last one is answered.
    Piece {
        /// Names the answer.
        id: u64,
        /// Bytes of the piece.
        total: u32,
        /// Where in it this part begins.
        at: u32,
        /// The part.
        bytes: Vec<u8>,
    },
    /// How much can be stored before something has to go.
    Room {
        /// Names the answer.
        id: u64,
    },
}

/// How far a destination has acknowledged a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Low {
    /// `uplink.NAME`.
    pub destination: String,
    /// Stream name.
    pub stream: String,
    /// Everything up to and including this.
    pub low: Seq,
}

/// From the store to a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A piece of an encoded block. Pieces come in order, nothing between them but other whole answers.
    Part {
        /// Of the question.
        id: u64,
        /// First seq of the block.
        first: Seq,
        /// Bytes of the block.
        total: u32,
        /// Where in it this piece begins.
        at: u32,
        /// The piece.
        bytes: Vec<u8>,
    },
    /// The record is in a sealed segment, or gone: look there.
    Sealed {
        /// Of the question.
        id: u64,
    },
    /// Nothing at or behind the seq is on disk yet.
    Next {
        /// Of the question.
        id: u64,
        /// Seq that the next record will get.
        next_seq: Seq,
    },
    /// Stop reading below: it is going to be removed. Answer with [`Request::FenceDone`].
    Fence {
        /// Names the answer.
        token: u64,
        /// Stream name.
        stream: String,
        /// First seq that goes now; what lies below went before.
        first: Seq,
        /// First seq that stays.
        below: Seq,
    },
    /// What was done about a place that could not be read.
    Repaired {
        /// Of the request.
        id: u64,
        /// Records that were entered into the loss ledger by this.
        lost: u64,
        /// In words, cut to 255 bytes.
        what: String,
    },
    /// To [`Request::Room`].
    Room {
        /// Of the request.
        id: u64,
        /// Bytes on disk.
        free: u64,
    },
    /// What became of a piece.
    Took {
        /// Of the piece.
        id: u64,
        /// Which of the ways.
        took: Took,
    },
}

/// Why a packet is not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// It ends too early.
    #[error("the packet is cut short")]
    Short,
    /// It goes on too long.
    #[error("the packet has {0} bytes too many")]
    Long(usize),
    /// No such kind of message.
    #[error("unknown message {0}")]
    Tag(u8),
    /// A number or text that cannot be.
    #[error("{0}")]
    Content(&'static str),
}

impl Request {
    /// The packets that carry an encoded piece.
    pub fn piece_packets(id: u64, piece: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let (total, step) = (piece.len() as u32, PACKET_MAX - PART_HEAD);
        piece
            .chunks(step)
            .enumerate()
            .map(move |(i, bytes)| Self::Piece { id, total, at: (i * step) as u32, bytes: bytes.to_vec() }.encode())
    }

    /// As a packet. Text longer than 255 bytes and lists longer than 1024 items are cut.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(64));
        match self {
            Self::Block { id, stream, from } => out.tag(1).u64(*id).text(stream).u64(from.0),
            Self::Wait { id, stream, from } => out.tag(2).u64(*id).text(stream).u64(from.0),
            Self::Cursors(lows) => {
                let out = out.tag(3).len(lows.len());
                lows.iter()
                    .take(LIST_MAX)
                    .fold(out, |out, low| out.text(&low.destination).text(&low.stream).u64(low.low.0))
            }
            Self::FenceDone { token, stream, unforwarded } => {
                let out = out.tag(4).u64(*token).text(stream).len(unforwarded.len());
                unforwarded.iter().take(LIST_MAX).fold(out, |out, (name, records)| out.text(name).u64(*records))
            }
            Self::Damage { stream, seq } => out.tag(5).text(stream).u64(seq.0),
            Self::Repair { id, stream, seq } => out.tag(6).u64(*id).text(stream).u64(seq.0),
            Self::Piece { id, total, at, bytes } => {
                let out = out.tag(7).u64(*id).u32(*total).u32(*at);
                out.0.extend_from_slice(bytes);
                out
            }
            Self::Room { id } => out.tag(8).u64(*id),
        };
        out.0
    }

    /// From a packet.
    pub fn decode(packet: &[u8]) -> Result<Self, PacketError> {
        let (tag, mut rest) = Reader::start(packet)?;
        let request = match tag {
            1 => Self::Block { id: rest.u64()?, stream: rest.text()?, from: rest.seq()? },
            2 => Self::Wait { id: rest.u64()?, stream: rest.text()?, from: rest.seq()? },
            3 => Self::Cursors(
                rest.list(|rest| Ok(Low { destination: rest.text()?, stream: rest.text()?, low: rest.seq()? }))?,
            ),
            4 => Self::FenceDone {
                token: rest.u64()?,
                stream: rest.text()?,
                unforwarded: rest.list(|rest| Ok((rest.text()?, rest.u64()?)))?,
            },
            5 => Self::Damage { stream: rest.text()?, seq: rest.seq()? },
            6 => Self::Repair { id: rest.u64()?, stream: rest.text()?, seq: rest.seq()? },
            7 => {
                let id = rest.u64()?;
                let (total, at, bytes) = rest.part_of(PIECE_MAX)?;
                return Ok(Self::Piece { id, total, at, bytes });
            }
            8 => Self::Room { id: rest.u64()? },
            other => return Err(PacketError::Tag(other)),
        };
        rest.end(request)
    }
}

impl Reply {
    /// As a packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(64));
        match self {
            Self::Part { id, first, total, at, bytes } => {
                out.tag(65).u64(*id).u64(first.0).u32(*total).u32(*at).0.extend_from_slice(bytes);
            }
            Self::Sealed { id } => drop(out.tag(66).u64(*id)),
            Self::Next { id, next_seq } => drop(out.tag(67).u64(*id).u64(next_seq.0)),
            Self::Fence { token, stream, first, below } => {
                out.tag(68).u64(*token).text(stream).u64(first.0).u64(below.0);
            }
            Self::Repaired { id, lost, what } => drop(out.tag(69).u64(*id).u64(*lost).text(what)),
            Self::Room { id, free } => drop(out.tag(70).u64(*id).u64(*free)),
            Self::Took { id, took } => {
                let (how, what) = match took {
                    Took::New => (0, ""),
                    Took::Here => (1, ""),
                    Took::Stored => (2, ""),
                    Took::Later => (3, ""),
                    Took::Refused(why) => (4, why.as_str()),
                };
                out.tag(71).u64(*id).tag(how).text(what);
            }
        }
        out.0
    }

    /// From a packet.
    pub fn decode(packet: &[u8]) -> Result<Self, PacketError> {
        let (tag, mut rest) = Reader::start(packet)?;
        let reply = match tag {
            65 => {
                let (id, first) = (rest.u64()?, rest.seq()?);
                let (total, at, bytes) = rest.part_of(VALUE_LIMIT)?;
                return Ok(Self::Part { id, first, total, at, bytes });
            }
            66 => Self::Sealed { id: rest.u64()? },
            67 => Self::Next { id: rest.u64()?, next_seq: rest.seq()? },
            68 => Self::Fence { token: rest.u64()?, stream: rest.text()?, first: rest.seq()?, below: rest.seq()? },
            69 => Self::Repaired { id: rest.u64()?, lost: rest.u64()?, what: rest.text()? },
            70 => Self::Room { id: rest.u64()?, free: rest.u64()? },
            71 => Self::Took { id: rest.u64()?, took: rest.took()? },
            other => return Err(PacketError::Tag(other)),
        };
        rest.end(reply)
    }

    /// The packets that carry an encoded block.
    pub fn block_packets(id: u64, first: Seq, value: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let total = value.len() as u32;
        let step = PACKET_MAX - PART_HEAD;
        value.chunks(step).enumerate().map(move |(i, bytes)| {
            let mut out = Writer(Vec::with_capacity(PART_HEAD + bytes.len()));
            out.tag(65).u64(id).u64(first.0).u32(total).u32((i * step) as u32).0.extend_from_slice(bytes);
            out.0
        })
    }
}

pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn tag(&mut self, tag: u8) -> &mut Self {
        self.0.push(tag);
        self
    }
    pub fn u64(&mut self, n: u64) -> &mut Self {
        self.0.extend_from_slice(&n.to_le_bytes());
        self
    }
    pub fn u32(&mut self, n: u32) -> &mut Self {
        self.0.extend_from_slice(&n.to_le_bytes());
        self
    }
    pub fn len(&mut self, n: usize) -> &mut Self {
        self.0.extend_from_slice(&(n.min(LIST_MAX) as u16).to_le_bytes());
        self
    }
    pub fn text(&mut self, text: &str) -> &mut Self {
        let text = &text[..text.floor_char_boundary(255)];
        self.0.push(text.len() as u8);
        self.0.extend_from_slice(text.as_bytes());
        self
    }
}

pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn start(packet: &'a [u8]) -> Result<(u8, Self), PacketError> {
        packet.split_first().map(|(tag, rest)| (*tag, Self(rest))).ok_or(PacketError::Short)
    }
    pub fn take<const N: usize>(&mut self) -> Result<[u8; N], PacketError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(PacketError::Short)?;
        self.0 = rest;
        Ok(*taken)
    }
    pub fn u64(&mut self) -> Result<u64, PacketError> {
        self.take().map(u64::from_le_bytes)
    }
    pub fn u32(&mut self) -> Result<u32, PacketError> {
        self.take().map(u32::from_le_bytes)
    }
    pub fn seq(&mut self) -> Result<Seq, PacketError> {
        self.u64().map(Seq)
    }
    pub fn text(&mut self) -> Result<String, PacketError> {
        let [len] = self.take()?;
        let (text, rest) = self.0.split_at_checked(len as usize).ok_or(PacketError::Short)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| PacketError::Content("a name is not UTF-8"))
    }
    pub fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, PacketError>) -> Result<Vec<T>, PacketError> {
        let len = u16::from_le_bytes(self.take()?) as usize;
        if len > LIST_MAX {
            return Err(PacketError::Content("a list has more than 1024 items"));
        }
        (0..len).map(|_| item(self)).collect()
    }
    /// The rest is a part of something that has at most so many bytes: all of them, where this begins, and the part.
    fn part_of(&mut self, most: usize) -> Result<(u32, u32, Vec<u8>), PacketError> {
        let (total, at) = (self.u32()?, self.u32()?);
        let end = at as usize + self.0.len();
        if total as usize > most || end > total as usize || self.0.is_empty() {
            return Err(PacketError::Content("a part does not lie within its whole"));
        }
        Ok((total, at, self.0.to_vec()))
    }
    fn took(&mut self) -> Result<Took, PacketError> {
        let [how] = self.take()?;
        let what = self.text()?;
        match how {
            4 => Ok(Took::Refused(what)),
            _ if !what.is_empty() => Err(PacketError::Content("words where none belong")),
            0 => Ok(Took::New),
            1 => Ok(Took::Here),
            2 => Ok(Took::Stored),
            3 => Ok(Took::Later),
            _ => Err(PacketError::Content("nothing that can become of a piece")),
        }
    }
    fn end<T>(self, message: T) -> Result<T, PacketError> {
        if self.0.is_empty() { Ok(message) } else { Err(PacketError::Long(self.0.len())) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_message_reads_back_as_written() {
        let stream = || "syslog".to_owned();
        let low = Low { destination: "noc".to_owned(), stream: stream(), low: Seq(7) };
        for request in [
            Request::Block { id: 1, stream: stream(), from: Seq(2) },
            Request::Wait { id: u64::MAX, stream: stream(), from: Seq(u64::MAX) },
            Request::Cursors(vec![low.clone(), low]),
            Request::FenceDone { token: 3, stream: stream(), unforwarded: vec![("noc".to_owned(), 9)] },
            Request::Damage { stream: stream(), seq: Seq(5) },
            Request::Repair { id: 8, stream: stream(), seq: Seq(6) },
            Request::Piece { id: 9, total: 10, at: 7, bytes: vec![1, 2, 3] },
            Request::Room { id: 10 },
        ] {
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
        for reply in [
            Reply::Part { id: 1, first: Seq(2), total: 10, at: 4, bytes: vec![0, 1, 2] },
            Reply::Sealed { id: 4 },
            Reply::Next { id: 5, next_seq: Seq(6) },
            Reply::Fence { token: 7, stream: stream(), first: Seq(6), below: Seq(8) },
            Reply::Repaired { id: 9, lost: 7, what: "counted".to_owned() },
            Reply::Room { id: 10, free: 11 },
            Reply::Took { id: 12, took: Took::Later },
            Reply::Took { id: 13, took: Took::Refused("no".to_owned()) },
        ] {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }

    #[test]
    fn a_piece_outside_its_block_is_refused() {
        let reply = Reply::Part { id: 1, first: Seq(2), total: 10, at: 8, bytes: vec![0, 1, 2] };
        assert!(Reply::decode(&reply.encode()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), tag in 0_u8..75) {
            let mut tagged = vec![tag];
            tagged.extend_from_slice(&bytes);
            for packet in [&bytes, &tagged] {
                if let Ok(request) = Request::decode(packet) {
                    prop_assert_eq!(&request.encode(), packet);
                }
                if let Ok(reply) = Reply::decode(packet) {
                    prop_assert_eq!(&reply.encode(), packet);
                }
            }
        }
    }
}
