//! One record as it lies in the receive ring and in a stored block.
//!
//! ```text
//!  0      4      5         6     8              16           16+a      16+a+len
//!  ┌──────┬──────┬─────────┬─────┬──────────────┬────────────┬──────────┐
//!  │ len  │flags │listener │port │ wall_ns      │ address    │ raw      │   little-endian
//!  │ u32  │ u8   │ u8      │ u16 │ u64          │ 4 or 16 B  │ len B    │
//!  └──────┴──────┴─────────┴─────┴──────────────┴────────────┴──────────┘
//! ```
//!
//! The collector writes this frame once; the store copies it, checks it and compresses it; readers take it apart
//! again. Nothing decoded is stored.
//!
//! A frame is a record, or **context**: what a collector knows that later records of the stream need to be read, such
//! as a template. Context is no record, takes no seq and is not counted; it stands before the first record of its batch
//! that needs it, so that the batch can be read by itself. Its raw bytes are [`Context`]'s.

use crate::units::UnixNanos;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Largest raw message, in bytes. A UDP datagram is at most 65,507; longer TCP messages are kept in pieces.
pub const RAW_MAX: usize = 65_536;

/// Bytes before the address.
const FIXED: usize = 16;

/// Largest frame, in bytes.
pub const FRAME_MAX: usize = FIXED + 16 + RAW_MAX;

const FLAG_V6: u8 = 1;
const FLAG_PIECE: u8 = 2;
const FLAG_UNPARSED: u8 = 4;
const FLAG_CONTEXT: u8 = 8;
const FLAG_REFUSED: u8 = 16;
const FLAGS: u8 = FLAG_V6 | FLAG_PIECE | FLAG_UNPARSED | FLAG_CONTEXT | FLAG_REFUSED;

/// What is known about how a record came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Who sent it. IPv4 senders are IPv4 here, also on dual-stack sockets.
    pub source: SocketAddr,
    /// Which listener took it, an id of the block's listener table.
    pub listener: u8,
    /// When the kernel received it.
    pub wall: UnixNanos,
    /// The message was longer than the limit and goes on in the next record of this source.
    pub piece: bool,
    /// What the collector makes of it.
    pub kind: FrameKind,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A record like most.
    Plain,
    /// A record over which a collector died twice: kept as it came, looked at by nobody.
    Unparsed,
    /// A record for which the collector does not vouch: wrong credentials, or a sender that is not allowed. Kept for
    /// the inbox.
    Refused,
    /// No record but [`Context`] for those behind it.
    Context,
}

impl FrameKind {
    const fn flag(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Unparsed => FLAG_UNPARSED,
            Self::Refused => FLAG_REFUSED,
            Self::Context => FLAG_CONTEXT,
        }
    }

    /// `None` for two at once, which nobody writes.
    const fn of(flags: u8) -> Option<Self> {
        match flags & (FLAG_UNPARSED | FLAG_REFUSED | FLAG_CONTEXT) {
            0 => Some(Self::Plain),
            FLAG_UNPARSED => Some(Self::Unparsed),
            FLAG_REFUSED => Some(Self::Refused),
            FLAG_CONTEXT => Some(Self::Context),
            _ => None,
        }
    }
}

impl Received {
    /// As most records come: whole and plain.
    pub const fn new(source: SocketAddr, listener: u8, wall: UnixNanos) -> Self {
        Self { source, listener, wall, piece: false, kind: FrameKind::Plain }
    }

    /// Of context, learned at `wall`.
    pub const fn context(wall: UnixNanos) -> Self {
        let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Self { kind: FrameKind::Context, ..Self::new(nobody, 0, wall) }
    }

    /// True unless it is context.
    pub const fn is_record(&self) -> bool {
        !matches!(self.kind, FrameKind::Context)
    }

    /// True when nobody may look inside.
    pub const fn is_unparsed(&self) -> bool {
        matches!(self.kind, FrameKind::Unparsed)
    }

    /// True when the collector does not vouch for it.
    pub const fn is_refused(&self) -> bool {
        matches!(self.kind, FrameKind::Refused)
    }
}

/// A record borrowed from a ring or block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// How it came in.
    pub received: Received,
    /// Exactly what was received.
    pub raw: &'a [u8],
}

/// Why a run of frames is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame says more bytes than there are.
    #[error("frame at byte {at} runs past the end of the batch")]
    Short {
        /// Offset of the frame in the run.
        at: usize,
    },
    /// More than [`RAW_MAX`].
    #[error("frame at byte {at} says {len} bytes of message, the limit is 65,536")]
    Long {
        /// Offset of the frame in the run.
        at: usize,
        /// What it says.
        len: u32,
    },
    /// Flags that no version defines, or that exclude each other.
    #[error("frame at byte {at} has unknown flags {flags:#04x}")]
    Flags {
        /// Offset of the frame in the run.
        at: usize,
        /// What it says.
        flags: u8,
    },
}

/// Makes an IPv4-mapped IPv6 address the IPv4 address that it stands for (RFC 4291, 2.5.5.2).
pub fn plain_address(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(addr, IpAddr::V4),
        IpAddr::V4(_) => addr,
    }
}

/// Bytes that a message of `raw_len` bytes from `source` takes as a frame.
pub fn frame_len(source: IpAddr, raw_len: usize) -> usize {
    FIXED + if source.is_ipv4() { 4 } else { 16 } + raw_len
}

/// Writes one frame at the start of `out`; `None` when it does not fit or `raw` is longer than [`RAW_MAX`].
/// Returns the bytes written. `received.source` must be plain (see [`plain_address`]).
#[inline]
pub fn write_frame(out: &mut [u8], received: &Received, raw: &[u8]) -> Option<usize> {
    let total = frame_len(received.source.ip(), raw.len());
    if total > out.len() || raw.len() > RAW_MAX {
        return None;
    }
    let mut flags = received.kind.flag();
    if received.piece {
        flags |= FLAG_PIECE;
    }
    let at = match received.source.ip() {
        IpAddr::V4(v4) => {
            out[FIXED..FIXED + 4].copy_from_slice(&v4.octets());
            FIXED + 4
        }
        IpAddr::V6(v6) => {
            flags |= FLAG_V6;
            out[FIXED..FIXED + 16].copy_from_slice(&v6.octets());
            FIXED + 16
        }
    };
    out[0..4].copy_from_slice(&(raw.len() as u32).to_le_bytes());
    out[4] = flags;
    out[5] = received.listener;
    out[6..8].copy_from_slice(&received.source.port().to_le_bytes());
    out[8..16].copy_from_slice(&received.wall.0.to_le_bytes());
    out[at..total].copy_from_slice(raw);
    Some(total)
}

/// Reads the frame at the start of `bytes`; returns it and its length. `at` only names the place in errors.
#[inline]
pub fn read_frame(bytes: &[u8], at: usize) -> Result<(Record<'_>, usize), FrameError> {
    let short = FrameError::Short { at };
    let head = bytes.get(..FIXED).ok_or(short)?;
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let flags = head[4];
    if len as usize > RAW_MAX {
        return Err(FrameError::Long { at, len });
    }
    let kind = FrameKind::of(flags).filter(|_| flags & !FLAGS == 0).ok_or(FrameError::Flags { at, flags })?;
    let (start, end) = frame_span(head).ok_or(short)?;
    let raw = bytes.get(start..end).ok_or(short)?;
    let ip = match <[u8; 16]>::try_from(&bytes[FIXED..start]) {
        Ok(v6) => IpAddr::V6(Ipv6Addr::from(v6)),
        Err(_) => IpAddr::V4(Ipv4Addr::new(bytes[FIXED], bytes[FIXED + 1], bytes[FIXED + 2], bytes[FIXED + 3])),
    };
    let received = Received {
        source: SocketAddr::new(ip, u16::from_le_bytes([head[6], head[7]])),
        listener: head[5],
        wall: UnixNanos(u64::from_le_bytes([
            head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15],
        ])),
        piece: flags & FLAG_PIECE != 0,
        kind,
    };
    Ok((Record { received, raw }, end))
}

/// Where the message of the frame at the start of `bytes` begins and ends, which may be behind the end of `bytes`;
/// `None` when not even that much is there.
#[inline]
pub fn frame_span(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = bytes.first_chunk::<FIXED>()?;
    let start = if head[4] & FLAG_V6 == 0 { FIXED + 4 } else { FIXED + 16 };
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    Some((start, start.checked_add(len as usize)?))
}

/// The records of a run of frames, in order; ends after the first error.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Frames<'a> {
    /// Over `bytes`, which must start at a frame.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next frame.
    pub const fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Record<'a>, FrameError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        match read_frame(rest, self.at) {
            Ok((record, len)) => {
                self.at += len;
                Some(Ok(record))
            }
            Err(error) => {
                self.at = self.bytes.len();
                Some(Err(error))
            }
        }
    }
}

/// Most bytes of a context's key.
pub const CONTEXT_KEY_MAX: usize = 256;

/// What a context frame holds: `value` is now what `key` stands for. What key and value mean is between the collector
/// and the decoder of a stream; all others only compare and keep them.
///
/// ```text
///  ┌─────────┬─────┬───────┐
///  │ key len │ key │ value │
///  │ u16     │     │       │   little-endian
///  └─────────┴─────┴───────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context<'a> {
    /// Whose: for a template its exporter, domain and id.
    pub key: &'a [u8],
    /// What: for a template its definition.
    pub value: &'a [u8],
}

impl<'a> Context<'a> {
    /// Reads the raw bytes of a context frame; `None` when the key runs past the end or is longer than
    /// [`CONTEXT_KEY_MAX`].
    pub fn read(raw: &'a [u8]) -> Option<Self> {
        let (len, rest) = raw.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_le_bytes(*len));
        let (key, value) = rest.split_at_checked(len).filter(|_| len <= CONTEXT_KEY_MAX)?;
        Some(Self { key, value })
    }

    /// Writes them.
    ///
    /// # Panics
    /// When the key is longer than [`CONTEXT_KEY_MAX`].
    pub fn write(&self, out: &mut Vec<u8>) {
        assert!(self.key.len() <= CONTEXT_KEY_MAX, "a key of {} bytes", self.key.len());
        out.extend_from_slice(&(self.key.len() as u16).to_le_bytes());
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.value);
    }

    /// Bytes that it takes in a run for [`Contexts`].
    pub const fn run_len(&self) -> usize {
        4 + 2 + self.key.len() + self.value.len()
    }

    /// Writes it behind others, for [`Contexts`].
    ///
    /// # Panics
    /// When the key is longer than [`CONTEXT_KEY_MAX`].
    pub fn write_run(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.run_len() as u32 - 4).to_le_bytes());
        self.write(out);
    }
}

/// The contexts of a run, each behind its length (u32, little-endian): what a collector that starts is given of those
/// in force. Ends before the first that does not read.
#[derive(Debug, Clone)]
pub struct Contexts<'a>(&'a [u8]);

impl<'a> Contexts<'a> {
    /// Over any bytes.
    pub const fn new(run: &'a [u8]) -> Self {
        Self(run)
    }
}

impl<'a> Iterator for Contexts<'a> {
    type Item = Context<'a>;

    fn next(&mut self) -> Option<Context<'a>> {
        let (len, rest) = self.0.split_first_chunk::<4>()?;
        let (raw, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        let context = Context::read(raw)?;
        self.0 = rest;
        Some(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn received(source: &str) -> Received {
        let source = source.parse().expect("valid");
        Received { piece: true, ..Received::new(source, 3, UnixNanos(1_700_000_000_123_456_789)) }
    }

    #[test]
    fn context_reads_back_as_written() {
        let mut raw = Vec::new();
        let context = Context { key: b"exporter", value: b"template" };
        context.write(&mut raw);
        assert_eq!(Context::read(&raw), Some(context));
        assert_eq!(Context::read(&raw[..5]), None, "the key is cut");
        assert_eq!(Context::read(&[0]), None);
        let mut out = [0; 128];
        let received = Received::context(UnixNanos(7));
        let n = write_frame(&mut out, &received, &raw).expect("fits");
        let (record, _) = read_frame(&out[..n], 0).expect("whole");
        assert_eq!((record.received, record.raw), (received, &raw[..]));
    }

    #[test]
    fn a_run_of_contexts_reads_up_to_what_does_not() {
        let contexts = [Context { key: b"a", value: b"one" }, Context { key: b"", value: b"" }];
        let mut run = Vec::new();
        for context in &contexts {
            context.write_run(&mut run);
        }
        assert_eq!(run.len(), contexts.iter().map(Context::run_len).sum::<usize>());
        assert_eq!(Contexts::new(&run).collect::<Vec<_>>(), contexts);
        assert_eq!(Contexts::new(&run[..run.len() - 1]).collect::<Vec<_>>(), contexts[..1]);
    }

    #[test]
    fn a_frame_reads_back_as_written() {
        for source in ["192.0.2.7:514", "[2001:db8::7]:40000"] {
            let mut out = [0; 128];
            let n = write_frame(&mut out, &received(source), b"<13>hello\0\n\xff").expect("fits");
            let (record, len) = read_frame(&out, 0).expect("whole");
            assert_eq!((record.received, record.raw, len), (received(source), &b"<13>hello\0\n\xff"[..], n));
        }
    }

    #[test]
    fn a_mapped_address_becomes_ipv4() {
        assert_eq!(plain_address("::ffff:192.0.2.1".parse().expect("valid")).to_string(), "192.0.2.1");
        assert_eq!(plain_address("2001:db8::1".parse().expect("valid")).to_string(), "2001:db8::1");
    }

    #[test]
    fn a_message_over_the_limit_is_not_framed() {
        let mut out = vec![0; FRAME_MAX + 64];
        assert_eq!(write_frame(&mut out, &received("192.0.2.7:514"), &vec![0; RAW_MAX + 1]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_run_of_contexts(bytes in prop::collection::vec(0_u8..6, 0..200)) {
            let read = Contexts::new(&bytes).map(|context| context.run_len()).sum::<usize>();
            prop_assert!(read <= bytes.len());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::new(&bytes);
            while let Some(frame) = frames.next() {
                prop_assert!(frames.offset() <= bytes.len());
                if frame.is_err() {
                    prop_assert!(frames.next().is_none());
                }
            }
        }
    }
}
