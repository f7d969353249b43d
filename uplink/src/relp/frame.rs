//! RELP frames: `TXNR SP COMMAND SP DATALEN [SP DATA] LF`, as librelp speaks it. Pure; what comes from the far end is
//! hostile and bounded.

use crate::text;

/// Largest transaction number; the next one is 1.
pub const TXNR_MAX: u32 = 999_999_999;

/// Longest data taken from a receiver, bytes. `rsp` to `open` is the longest there is, under 1 KiB.
pub const ANSWER_MAX: usize = 16 * 1024;

/// Longest command name, bytes (RELP specification, `COMMAND = 1*32ALPHA`).
const COMMAND_MAX: usize = 32;

/// A frame from the far end.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Transaction that it belongs to; 0 for what the far end says unasked.
    pub txnr: u32,
    /// `rsp` or `serverclose`.
    pub command: &'a [u8],
    /// What belongs to it.
    pub data: &'a [u8],
}

/// What came is not RELP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not a number, longer than nine digits, or without a space behind it.
    #[error("a number of up to nine digits was expected")]
    Number,
    /// Not letters, or more than 32.
    #[error("a command of up to 32 letters was expected")]
    Command,
    /// More data than an answer can have.
    #[error("an answer of {0} bytes, the limit is 16,384")]
    Long(usize),
    /// No LF where the frame ends.
    #[error("the frame does not end in LF")]
    End,
}

/// Appends the header of a frame whose data, `len` bytes, and LF the caller appends.
#[inline]
pub fn header(out: &mut Vec<u8>, txnr: u32, command: &[u8], len: usize) {
    text::decimal(out, u64::from(txnr));
    out.push(b' ');
    out.extend_from_slice(command);
    out.push(b' ');
    text::decimal(out, len as u64);
    if len > 0 {
        out.push(b' ');
    }
}

/// Appends a whole frame.
pub fn frame(out: &mut Vec<u8>, txnr: u32, command: &[u8], data: &[u8]) {
    header(out, txnr, command, data.len());
    out.extend_from_slice(data);
    out.push(b'\n');
}

/// Takes the first frame of `bytes` and its length; `None` when more bytes are needed.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((txnr, at)) = number(bytes, 0)? else { return Ok(None) };
    let Some(at) = delimiter(bytes, at)? else { return Ok(None) };
    let letters = bytes[at..].iter().take(COMMAND_MAX + 1).take_while(|b| b.is_ascii_alphabetic()).count();
    if letters > COMMAND_MAX || (letters == 0 && at < bytes.len()) {
        return Err(FrameError::Command);
    }
    let command = &bytes[at..at + letters];
    match bytes.get(at + letters) {
        None => return Ok(None),
        Some(b' ') => {}
        Some(_) => return Err(FrameError::Command),
    }
    let Some((len, at)) = number(bytes, at + letters + 1)? else { return Ok(None) };
    finish(bytes, at, len as usize).map(|done| done.map(|(data, end)| (Frame { txnr, command, data }, end)))
}

/// Data and LF. librelp ends a frame without data by ` LF` or by LF alone.
fn finish(bytes: &[u8], at: usize, len: usize) -> Result<Option<(&[u8], usize)>, FrameError> {
    if len > ANSWER_MAX {
        return Err(FrameError::Long(len));
    }
    let start = match bytes.get(at) {
        None => return Ok(None),
        Some(b' ') => at + 1,
        Some(b'\n') if len == 0 => at,
        Some(_) => return Err(if len == 0 { FrameError::End } else { FrameError::Number }),
    };
    let end = start + len;
    match bytes.get(end) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((&bytes[start..end], end + 1))),
        Some(_) => Err(FrameError::End),
    }
}

/// Up to nine digits that something follows.
#[inline]
fn number(bytes: &[u8], at: usize) -> Result<Option<(u32, usize)>, FrameError> {
    let mut value = 0;
    for (n, byte) in bytes[at..].iter().enumerate() {
        match byte {
            b'0'..=b'9' if n < 9 => value = value * 10 + u32::from(byte - b'0'),
            b'0'..=b'9' => return Err(FrameError::Number),
            _ if n == 0 => return Err(FrameError::Number),
            _ => return Ok(Some((value, at + n))),
        }
    }
    Ok(None)
}

#[inline]
fn delimiter(bytes: &[u8], at: usize) -> Result<Option<usize>, FrameError> {
    match bytes.get(at) {
        None => Ok(None),
        Some(b' ') => Ok(Some(at + 1)),
        Some(_) => Err(FrameError::Number),
    }
}

/// The three digits that an `rsp` begins with.
#[inline]
pub fn code(data: &[u8]) -> Option<u16> {
    match data {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..]
            if rest.first().is_none_or(|next| !next.is_ascii_digit()) =>
        {
            Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_rsyslog_answers_is_read() {
        let bytes = b"1 rsp 93 200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n2 rsp 6 200 OK\n0 serverclose 0\n";
        let (open, a) = parse(bytes).expect("RELP").expect("whole");
        assert_eq!((open.txnr, code(open.data)), (1, Some(200)));
        let (rsp, b) = parse(&bytes[a..]).expect("RELP").expect("whole");
        assert_eq!(rsp, Frame { txnr: 2, command: b"rsp", data: b"200 OK" });
        let (close, c) = parse(&bytes[a + b..]).expect("RELP").expect("whole");
        assert_eq!((close.command, a + b + c), (&b"serverclose"[..], bytes.len()));
    }

    #[test]
    fn a_frame_that_is_not_all_there_waits_for_the_rest() {
        let bytes = b"123 rsp 6 200 OK\n";
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]), Ok(None), "{cut} bytes");
        }
    }

    #[test]
    fn what_is_not_relp_is_refused_at_the_first_wrong_byte() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b" rsp 6 200 OK\n",
            b"1234567890 rsp",
            b"1\n",
            b"1 rs1p 6",
            b"1 rsp 999999999 ",
            b"1 rsp 16385 ",
            b"1 rsp 6 200 OK!",
            b"1 rsp 0x",
            b"1 rsp  ",
            b"\0",
            b"1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(parse(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn answers_have_a_code_of_three_digits() {
        assert_eq!(code(b"200 OK"), Some(200));
        assert_eq!(code(b"500"), Some(500));
        for data in [&b""[..], b"20", b"2000 OK", b"OK"] {
            assert_eq!(code(data), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(Some((_, end))) = parse(&bytes) {
                prop_assert!(end <= bytes.len());
            }
        }

        #[test]
        fn what_is_written_reads_back(txnr in 0..=TXNR_MAX, data in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = Vec::new();
            frame(&mut out, txnr, b"rsp", &data);
            let (back, end) = parse(&out).expect("RELP").expect("whole");
            prop_assert_eq!((back.txnr, back.data, end), (txnr, &data[..], out.len()));
        }
    }
}
