//! RELP frames as a server takes them: `TXNR SP COMMAND SP DATALEN [SP DATA] LF`. Pure; what comes is hostile and bounded.
//!
//! The data of `syslog` may be longer than a record can be: it is given in pieces, so that nobody can make a connection
//! hold more than one message.

/// Largest transaction number (RELP specification, `TXNR = NUMBER`, at most nine digits); 0 is for hints of the server.
const TXNR_MAX: u32 = 999_999_999;

/// Longest command name, bytes (`COMMAND = 1*32ALPHA`).
const COMMAND_MAX: usize = 32;

/// Longest data of a message, bytes: more than any sender means.
const DATA_MAX: usize = 9_999_999;

/// Longest data of any other command, bytes. The offers of `open` take some 100.
const OFFERS_MAX: usize = 4096;

/// Between two frames, or inside one that is given in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// A frame begins.
    #[default]
    Between,
    /// So much of the message of a transaction is still to come.
    Inside {
        /// Transaction.
        txnr: u32,
        /// Bytes.
        rest: usize,
    },
}

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// A message, or the last piece of one.
    Message {
        /// Transaction.
        txnr: u32,
        /// The message.
        raw: &'a [u8],
    },
    /// A piece that goes on in the next.
    Piece(&'a [u8]),
    /// A session begins.
    Open {
        /// Transaction.
        txnr: u32,
        /// What the client offers: lines of `name=value`.
        offers: &'a [u8],
    },
    /// It ends.
    Close {
        /// Transaction.
        txnr: u32,
    },
    /// A command that is not known.
    Other {
        /// Transaction.
        txnr: u32,
    },
}

/// One step at the start of what was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// What was said.
    pub said: Said<'a>,
    /// Bytes done with.
    pub used: usize,
    /// Where that leads.
    pub place: Place,
}

/// What came is not RELP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not a number, longer than nine digits, 0, or without a space behind it.
    #[error("a number of up to nine digits was expected")]
    Number,
    /// Not letters, or more than 32.
    #[error("a command of up to 32 letters was expected")]
    Command,
    /// More data than a command can have.
    #[error("{0} bytes of data")]
    Long(usize),
    /// No LF where the frame ends.
    #[error("the frame does not end in LF")]
    End,
}

/// Takes one step; `None` when more must arrive first, at most `limit` bytes and a header. Messages longer than `limit`
/// are given in pieces.
pub fn step(place: Place, bytes: &[u8], limit: usize) -> Result<Option<Step<'_>>, FrameError> {
    let (txnr, len, at) = match place {
        Place::Inside { txnr, rest } => (txnr, rest, 0),
        Place::Between => match head(bytes)? {
            None => return Ok(None),
            Some(Head { txnr, command: b"syslog", len, at }) => (txnr, len, at),
            Some(head) => return other(head, bytes),
        },
    };
    if len > DATA_MAX {
        return Err(FrameError::Long(len));
    }
    if len <= limit {
        return Ok(data(bytes, at, len)?.map(|(raw, used)| Step {
            said: Said::Message { txnr, raw },
            used,
            place: Place::Between,
        }));
    }
    let piece = bytes.get(at..at + limit).map(|raw| Step {
        said: Said::Piece(raw),
        used: at + limit,
        place: Place::Inside { txnr, rest: len - limit },
    });
    Ok(piece)
}

/// A command that is not a message.
fn other<'a>(head: Head<'_>, bytes: &'a [u8]) -> Result<Option<Step<'a>>, FrameError> {
    let Head { txnr, command, len, at } = head;
    if len > OFFERS_MAX {
        return Err(FrameError::Long(len));
    }
    let Some((offers, used)) = data(bytes, at, len)? else { return Ok(None) };
    let said = match command {
        b"open" => Said::Open { txnr, offers },
        b"close" => Said::Close { txnr },
        _ => Said::Other { txnr },
    };
    Ok(Some(Step { said, used, place: Place::Between }))
}

/// The part of a frame before its data, which begins at `at`.
#[derive(Clone, Copy)]
struct Head<'a> {
    txnr: u32,
    command: &'a [u8],
    len: usize,
    at: usize,
}

fn head(bytes: &[u8]) -> Result<Option<Head<'_>>, FrameError> {
    let Some((txnr, at)) = number(bytes, 0)? else { return Ok(None) };
    if !(1..=TXNR_MAX).contains(&txnr) || bytes[at] != b' ' {
        return Err(FrameError::Number);
    }
    let from = at + 1;
    let letters = bytes[from..].iter().take(COMMAND_MAX + 1).take_while(|b| b.is_ascii_alphabetic()).count();
    if letters > COMMAND_MAX || (letters == 0 && from < bytes.len()) {
        return Err(FrameError::Command);
    }
    let (command, at) = (&bytes[from..from + letters], from + letters);
    match bytes.get(at) {
        None => return Ok(None),
        Some(b' ') => {}
        Some(_) => return Err(FrameError::Command),
    }
    let Some((len, at)) = number(bytes, at + 1)? else { return Ok(None) };
    // Without data the space may be left out, as librelp does.
    let at = match bytes[at] {
        b' ' => at + 1,
        b'\n' if len == 0 => at,
        _ => return Err(FrameError::Number),
    };
    Ok(Some(Head { txnr, command, len: len as usize, at }))
}

/// `len` bytes and the LF behind them.
fn data(bytes: &[u8], at: usize, len: usize) -> Result<Option<(&[u8], usize)>, FrameError> {
    let end = at + len;
    match bytes.get(end) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((&bytes[at..end], end + 1))),
        Some(_) => Err(FrameError::End),
    }
}

/// Up to nine digits that something follows.
fn number(bytes: &[u8], at: usize) -> Result<Option<(u32, usize)>, FrameError> {
    let digits = bytes[at..].iter().take(10).take_while(|b| b.is_ascii_digit()).count();
    match bytes.get(at + digits) {
        _ if digits > 9 => Err(FrameError::Number),
        None => Ok(None),
        Some(_) if digits == 0 => Err(FrameError::Number),
        Some(_) => {
            let value = bytes[at..at + digits].iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
            Ok(Some((value, at + digits)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 16;

    /// All that is said in `stream`, given in pieces of `cut` bytes, as owned text; ends at the first error.
    fn said(stream: &[u8], cut: usize) -> (Vec<String>, Option<FrameError>) {
        let (mut place, mut buffer, mut out) = (Place::Between, Vec::new(), Vec::new());
        for read in stream.chunks(cut.max(1)) {
            buffer.extend_from_slice(read);
            loop {
                match step(place, &buffer, LIMIT) {
                    Ok(Some(Step { said, used, place: next })) => {
                        out.push(text(said));
                        place = next;
                        buffer.drain(..used);
                    }
                    Ok(None) => break,
                    Err(error) => return (out, Some(error)),
                }
            }
            assert!(buffer.len() < LIMIT.max(OFFERS_MAX) + 64, "no more is held than a frame");
        }
        (out, None)
    }

    fn text(said: Said<'_>) -> String {
        let lossy = |raw| String::from_utf8_lossy(raw).into_owned();
        match said {
            Said::Message { txnr, raw } => format!("{txnr}:{}", lossy(raw)),
            Said::Piece(raw) => format!("{}…", lossy(raw)),
            Said::Open { txnr, offers } => format!("{txnr} open {}", lossy(offers)),
            Said::Close { txnr } => format!("{txnr} close"),
            Said::Other { txnr } => format!("{txnr} ?"),
        }
    }

    #[test]
    fn what_rsyslog_says_is_read_however_it_is_cut() {
        let stream = b"1 open 52 relp_version=0\nrelp_software=librelp\ncommands=syslog\n2 syslog 8 <13>one\n\n3 syslog 0\n4 syslog 0 \n5 syslog 36 <13>0123456789abcdefghijklmnopqrstuv\n6 starttls 2 ok\n7 close 0\n";
        let whole = said(stream, stream.len());
        assert_eq!(whole.1, None);
        assert_eq!(
            whole.0,
            [
                "1 open relp_version=0\nrelp_software=librelp\ncommands=syslog",
                "2:<13>one\n",
                "3:",
                "4:",
                "<13>0123456789ab…",
                "cdefghijklmnopqr…",
                "5:stuv",
                "6 ?",
                "7 close",
            ]
        );
        for cut in 1..stream.len() {
            assert_eq!(said(stream, cut), whole, "in reads of {cut}");
        }
    }

    #[test]
    fn what_is_not_relp_is_refused_at_the_first_wrong_byte() {
        for (bytes, error) in [
            (&b"<13>plain syslog"[..], FrameError::Number),
            (b"GET / HTTP/1.1\r\n", FrameError::Number),
            (b"\x16\x03\x01", FrameError::Number),
            (b"0 syslog 1 a\n", FrameError::Number),
            (b"1234567890 ", FrameError::Number),
            (b"1\n", FrameError::Number),
            (b"1 sys1og ", FrameError::Command),
            (b"1  ", FrameError::Command),
            (b"1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", FrameError::Command),
            (b"1 syslog x", FrameError::Number),
            (b"1 syslog 5\n", FrameError::Number),
            (b"1 syslog 99999999 ", FrameError::Long(99_999_999)),
            (b"1 open 4097 ", FrameError::Long(4097)),
            (b"1 syslog 3 abcd", FrameError::End),
        ] {
            assert_eq!(step(Place::Between, bytes, LIMIT), Err(error), "{}", String::from_utf8_lossy(bytes));
        }
    }

    /// Bytes that look like RELP more often than chance.
    fn nearly_relp() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            Just(b"1 open 0\n".to_vec()),
            Just(b"2 syslog 3 abc\n".to_vec()),
            Just(b"3 syslog 40 ".to_vec()),
            Just(b" ".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"syslog".to_vec()),
            "[0-9]{1,10}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..20),
        ];
        prop::collection::vec(word, 0..20).prop_map(|words| words.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_alike_however_they_are_cut(stream in nearly_relp(), cut in 1..30_usize) {
            prop_assert_eq!(said(&stream, cut), said(&stream, usize::MAX >> 1));
        }

        #[test]
        fn a_message_comes_out_byte_for_byte(raw in prop::collection::vec(any::<u8>(), 0..100), txnr in 1..=TXNR_MAX) {
            let mut stream = format!("{txnr} syslog {} ", raw.len()).into_bytes();
            stream.extend_from_slice(&raw);
            stream.push(b'\n');
            let (mut place, mut at, mut out) = (Place::Between, 0, Vec::new());
            while let Some(Step { said, used, place: next }) = step(place, &stream[at..], LIMIT).expect("RELP") {
                match said {
                    Said::Message { raw, .. } | Said::Piece(raw) => out.extend_from_slice(raw),
                    other => panic!("{other:?}"),
                }
                (place, at) = (next, at + used);
            }
            prop_assert_eq!((out, at), (raw, stream.len()));
        }
    }
}
