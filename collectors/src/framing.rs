//! Syslog over TCP (RFC 6587): finds the framing of each connection and takes messages out of the stream.
//!
//! * Octet counting (3.4.1): `LENGTH SP MESSAGE`, recognised by `<` behind the space.
//! * Non-transparent (3.4.2): LF, CRLF or NUL behind each message, whichever ends the first one.
//!
//! A connection may change over (senders restart behind load balancers; some mix both): at each start of a message a
//! length with `<` behind it is taken as octet counting. Bytes between frames that fit neither are a message of their
//! own: kept, not dropped. A message over the limit is kept in pieces. Empty lines hold no message.

use raven_jail::receive::Framing;

/// Framing of syslog over TCP.
#[derive(Debug, Clone, Copy)]
pub struct SyslogFraming {
    /// Longest message, bytes; a longer one is given in pieces of this size.
    pub limit: usize,
}

/// Digits of a length: 9,999,999 bytes are more than any sender means.
const DIGITS_MAX: usize = 7;

/// What is remembered of a connection between reads, packed into a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mode {
    kind: Kind,
    /// Bytes of a counted message over the limit that are still to come.
    counted_rest: u32,
    /// A delimited message over the limit has begun: its next byte starts no frame.
    in_piece: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Unknown,
    Counted,
    Lf,
    CrLf,
    Nul,
}

impl Mode {
    fn unpack(word: u64) -> Self {
        let kind = match word & 0xff {
            1 => Kind::Counted,
            2 => Kind::Lf,
            3 => Kind::CrLf,
            4 => Kind::Nul,
            _ => Kind::Unknown,
        };
        Self { kind, counted_rest: (word >> 32) as u32, in_piece: word & 0x100 != 0 }
    }

    fn pack(self) -> u64 {
        self.kind as u64 | u64::from(self.in_piece) << 8 | u64::from(self.counted_rest) << 32
    }
}

/// One step at the start of `bytes`.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// A message lies at `skip..skip + len`; `used` bytes are done with.
    Message { skip: usize, len: usize, used: usize, piece: bool, mode: Mode },
    /// So many bytes hold no message.
    Skip(usize),
    /// More must arrive first.
    Wait,
}

impl Framing for SyslogFraming {
    fn take(&self, word: &mut u64, bytes: &[u8], end: bool, emit: &mut dyn FnMut(&[u8], bool) -> bool) -> usize {
        let mut mode = Mode::unpack(*word);
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.step(mode, rest, end) {
                Step::Message { skip, len, used, piece, mode: next } => {
                    if !emit(&rest[skip..skip + len], piece) {
                        break;
                    }
                    mode = next;
                    at += used;
                }
                Step::Skip(n) => at += n,
                Step::Wait => break,
            }
        }
        *word = mode.pack();
        at
    }
}

impl SyslogFraming {
    fn step(self, mode: Mode, bytes: &[u8], end: bool) -> Step {
        if mode.counted_rest > 0 {
            return self.counted(mode, bytes, 0, mode.counted_rest as usize, end);
        }
        if mode.in_piece {
            return self.delimited(mode, bytes, end);
        }
        match length(bytes) {
            Length::Is { skip, len } => self.counted(mode, bytes, skip, len, end),
            Length::Perhaps if !end => Step::Wait,
            _ if matches!(bytes[0], b'\n' | b'\0') => Step::Skip(1),
            _ if bytes.starts_with(b"\r\n") => Step::Skip(2),
            _ if mode.kind == Kind::Counted => self.resync(mode, bytes, end),
            _ => self.delimited(mode, bytes, end),
        }
    }

    /// `len` bytes behind `skip` are the message, or what is left of it.
    fn counted(self, mode: Mode, bytes: &[u8], skip: usize, len: usize, end: bool) -> Step {
        let mode = Mode { kind: Kind::Counted, counted_rest: 0, ..mode };
        let here = bytes.len() - skip;
        let now = len.min(self.limit);
        if here < now {
            // The stream ended inside the message: what came of it is kept.
            return if end { message(skip, here, skip + here, false, mode) } else { Step::Wait };
        }
        let rest = (len - now) as u32;
        message(skip, now, skip + now, rest > 0, Mode { counted_rest: rest, ..mode })
    }

    /// Up to the delimiter, which the first message decides.
    fn delimited(self, mode: Mode, bytes: &[u8], end: bool) -> Step {
        let whole = Mode { in_piece: false, ..mode };
        let found = match mode.kind {
            Kind::Nul => memchr::memchr(0, bytes).map(|at| (at, 1, whole)),
            Kind::Lf | Kind::CrLf => memchr::memchr(b'\n', bytes).map(|at| line(whole, bytes, at)),
            Kind::Unknown | Kind::Counted => first_delimiter(whole, bytes),
        };
        match found {
            Some((len, delimiter, mode)) if len <= self.limit => message(0, len, len + delimiter, false, mode),
            // One more byte may be the CR of a CRLF.
            _ if bytes.len() > self.limit + 1 => {
                message(0, self.limit, self.limit, true, Mode { in_piece: true, ..mode })
            }
            _ if end => message(0, bytes.len().min(self.limit), bytes.len().min(self.limit), false, whole),
            _ => Step::Wait,
        }
    }

    /// No length where one should be: what comes before the next frame or line end is kept as a message.
    fn resync(self, mode: Mode, bytes: &[u8], end: bool) -> Step {
        let frame = next_frame(bytes).filter(|&at| at < self.limit);
        let line_end = memchr::memchr2(b'\n', 0, bytes);
        match (frame, line_end) {
            (Some(frame), Some(line_end)) if line_end < frame => {
                let (len, delimiter, _) = line(Mode { kind: Kind::CrLf, ..mode }, bytes, line_end);
                if len > self.limit {
                    message(0, self.limit, self.limit, true, Mode { in_piece: true, ..mode })
                } else {
                    message(0, len, len + delimiter, false, mode)
                }
            }
            (Some(frame), _) => message(0, frame, frame, false, mode),
            (None, _) => self.delimited(mode, bytes, end),
        }
    }
}

fn message(skip: usize, len: usize, used: usize, piece: bool, mode: Mode) -> Step {
    Step::Message { skip, len, used, piece, mode }
}

/// A line that ends with the LF at `at`: its length without the delimiter, the delimiter's, and what it tells.
fn line(mode: Mode, bytes: &[u8], at: usize) -> (usize, usize, Mode) {
    if mode.kind == Kind::CrLf && at > 0 && bytes[at - 1] == b'\r' { (at - 1, 2, mode) } else { (at, 1, mode) }
}

/// The delimiter of a connection whose framing is not known: NUL if one ends a message, else LF or CRLF.
fn first_delimiter(mode: Mode, bytes: &[u8]) -> Option<(usize, usize, Mode)> {
    let nul = memchr::memchr(0, bytes).filter(|&at| bytes.get(at + 1).is_none_or(|&next| next == b'<'));
    if let Some(at) = nul {
        return Some((at, 1, Mode { kind: Kind::Nul, ..mode }));
    }
    let at = memchr::memchr(b'\n', bytes)?;
    let kind = if at > 0 && bytes[at - 1] == b'\r' { Kind::CrLf } else { Kind::Lf };
    // A stray line on a counted connection does not change what the connection is.
    let keep = if mode.kind == Kind::Counted { Kind::Counted } else { kind };
    let (len, delimiter, _) = line(Mode { kind, ..mode }, bytes, at);
    Some((len, delimiter, Mode { kind: keep, ..mode }))
}

/// What the start of a message says of its length.
enum Length {
    /// A length, and `<` behind the space.
    Is { skip: usize, len: usize },
    /// It may become one.
    Perhaps,
    /// Not octet counting.
    Not,
}

fn length(bytes: &[u8]) -> Length {
    let digits = bytes.iter().take(DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits > DIGITS_MAX || bytes[0] == b'0' {
        return Length::Not;
    }
    match (bytes.get(digits), bytes.get(digits + 1)) {
        (None, _) | (Some(b' '), None) => Length::Perhaps,
        (Some(b' '), Some(b'<')) => {
            let len = bytes[..digits].iter().fold(0, |n, digit| n * 10 + usize::from(digit - b'0'));
            Length::Is { skip: digits + 1, len }
        }
        _ => Length::Not,
    }
}

/// Where the first counted frame behind the start of `bytes` begins. Looks for the `<` only, so that a sender who gives
/// byte after byte does not have all that came before looked at again and again.
fn next_frame(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'<', bytes).find_map(|lt| {
        let ahead = bytes[..lt].strip_suffix(b" ")?;
        let digits = ahead.iter().rev().take(DIGITS_MAX + 1).take_while(|b| b.is_ascii_digit()).count();
        let at = ahead.len() - digits;
        (at > 0 && matches!(length(&bytes[at..]), Length::Is { .. })).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const FRAMING: SyslogFraming = SyslogFraming { limit: 64 };

    /// Feeds `stream` in pieces of `step` bytes, as reads would.
    fn take_in(stream: &[u8], step: usize) -> Vec<(Vec<u8>, bool)> {
        let (mut mode, mut buffer, mut out) = (0, Vec::new(), Vec::new());
        let reads: Vec<&[u8]> = stream.chunks(step.max(1)).collect();
        for (n, read) in reads.iter().enumerate() {
            buffer.extend_from_slice(read);
            let used = FRAMING.take(&mut mode, &buffer, n + 1 == reads.len(), &mut |raw, piece| {
                out.push((raw.to_vec(), piece));
                true
            });
            buffer.drain(..used);
        }
        assert!(buffer.is_empty(), "left over: {buffer:?}");
        out
    }

    fn messages(stream: &[u8]) -> Vec<String> {
        let whole = take_in(stream, stream.len());
        for step in 1..8 {
            assert_eq!(take_in(stream, step), whole, "in reads of {step}");
        }
        whole
            .into_iter()
            .map(|(raw, piece)| format!("{}{}", String::from_utf8_lossy(&raw), if piece { "…" } else { "" }))
            .collect()
    }

    #[test]
    fn octet_counted_messages_come_out_whole() {
        assert_eq!(messages(b"9 <13>hello8 <13>a\nb\0"), ["<13>hello", "<13>a\nb\0"]);
        assert_eq!(messages(b"9 <13>hello\n9 <13>world\n"), ["<13>hello", "<13>world"]);
    }

    #[test]
    fn lines_end_with_lf_crlf_or_nul() {
        assert_eq!(messages(b"<13>one\n<13>two\n\n<13>three"), ["<13>one", "<13>two", "<13>three"]);
        assert_eq!(messages(b"<13>one\r\n<13>two\r\n"), ["<13>one", "<13>two"]);
        assert_eq!(take_in(b"<13>a\nb\0<13>two\0", 99), [(b"<13>a\nb".to_vec(), false), (b"<13>two".to_vec(), false)]);
    }

    #[test]
    fn garbage_between_counted_frames_is_kept_and_the_next_frame_found() {
        assert_eq!(messages(b"6 <1>abcgarbage6 <1>def"), ["<1>abc", "garbage", "<1>def"]);
    }

    #[test]
    fn a_connection_may_change_over() {
        assert_eq!(messages(b"<1>line\n6 <1>abc<1>line\n"), ["<1>line", "<1>abc", "<1>line"]);
    }

    #[test]
    fn a_long_message_is_kept_in_pieces() {
        let long = "x".repeat(150);
        let pieces = |stream: String| {
            take_in(stream.as_bytes(), 4096).iter().map(|(raw, piece)| (raw.len(), *piece)).collect::<Vec<_>>()
        };
        assert_eq!(pieces(format!("<1>{long}\n<1>b\n")), [(64, true), (64, true), (25, false), (4, false)]);
        assert_eq!(pieces(format!("153 <1>{long}4 <1>b")), [(64, true), (64, true), (25, false), (4, false)]);
    }

    #[test]
    fn a_message_cut_off_by_the_end_is_kept() {
        assert_eq!(messages(b"99 <13>hel"), ["<13>hel"]);
        assert_eq!(messages(b"12"), ["12"]);
    }

    #[test]
    fn a_message_without_room_is_given_again() {
        let mut mode = 0;
        assert_eq!(FRAMING.take(&mut mode, b"<1>a\n<1>b\n", false, &mut |raw, _| raw != b"<1>b"), 5);
        let mut got = Vec::new();
        assert_eq!(
            FRAMING.take(&mut mode, b"<1>b\n", false, &mut |raw, _| {
                got.push(raw.to_vec());
                true
            }),
            5
        );
        assert_eq!(got, [b"<1>b"]);
    }

    proptest! {
        #[test]
        fn no_byte_but_delimiters_and_lengths_is_lost(stream in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(0), Just(b'<'), Just(b' '), b'0'..=b'9', any::<u8>()], 0..400), step in 1..40_usize) {
            let kept: usize = take_in(&stream, step).iter().map(|(raw, _)| raw.len()).sum();
            let delimiters = stream.iter().filter(|b| matches!(b, b'\n' | b'\r' | 0 | b' ' | b'0'..=b'9')).count();
            prop_assert!(kept <= stream.len() && kept + delimiters >= stream.len());
        }
    }
}
