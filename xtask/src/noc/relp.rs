//! RELP (librelp's `relp.html`): `TXNR SP COMMAND SP DATALEN [SP DATA] LF`, answered with the same TXNR.

use super::Taken;
use std::io::{Error, ErrorKind, Read, Result, Write};

/// A frame at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
struct Frame<'a> {
    txnr: &'a [u8],
    command: &'a [u8],
    data: &'a [u8],
    len: usize,
}

/// Longest head: TXNR and DATALEN have at most 9 digits, COMMAND 32 letters.
const HEAD_MAX: usize = 9 + 1 + 32 + 1 + 9 + 1;

/// Reads what comes in large pieces; each piece's messages are kept together and then acknowledged together, so one
/// sync serves many.
pub fn serve(mut socket: impl Read + Write, taken: &Taken) -> Result<()> {
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 512 * 1024];
    loop {
        let n = socket.read(&mut chunk)?;
        if n == 0 {
            return Ok(());
        }
        buffer.extend_from_slice(&chunk[..n]);
        let Some(used) = answer(&buffer, &mut socket, taken)? else { return Ok(()) };
        buffer.drain(..used);
    }
}

/// Takes all whole frames of `bytes`; the bytes used, or `None` after `close`.
fn answer(bytes: &[u8], socket: &mut impl Write, taken: &Taken) -> Result<Option<usize>> {
    let (mut lines, mut answers) = (Vec::new(), Vec::new());
    let (mut used, mut records, mut open) = (0, 0, true);
    let watch = taken.latency.now();
    while let Some(frame) = read(&bytes[used..])? {
        used += frame.len;
        match frame.command {
            b"syslog" => {
                if taken.keeps() {
                    line(&mut lines, frame.data);
                }
                if let Some(watch) = &watch {
                    watch.note(frame.data);
                }
                records += 1;
                respond(&mut answers, frame.txnr, b"200 OK");
            }
            b"open" => {
                respond(&mut answers, frame.txnr, b"200 OK\nrelp_version=0\nrelp_software=raven-noc\ncommands=syslog");
            }
            b"close" => {
                respond(&mut answers, frame.txnr, b"");
                open = false;
            }
            _ => respond(&mut answers, frame.txnr, b"500 command not supported"),
        }
    }
    if records > 0 {
        taken.keep(&lines, records)?;
    }
    socket.write_all(&answers)?;
    Ok(open.then_some(used))
}

/// As rsyslog writes it: one line, control characters that would break it as `#` and three octal digits.
fn line(lines: &mut Vec<u8>, data: &[u8]) {
    for &byte in data {
        match byte {
            0 => lines.extend_from_slice(b"#000"),
            b'\n' => lines.extend_from_slice(b"#012"),
            other => lines.push(other),
        }
    }
    lines.push(b'\n');
}

fn respond(answers: &mut Vec<u8>, txnr: &[u8], data: &[u8]) {
    answers.extend_from_slice(txnr);
    answers.extend_from_slice(format!(" rsp {}", data.len()).as_bytes());
    if !data.is_empty() {
        answers.push(b' ');
        answers.extend_from_slice(data);
    }
    answers.push(b'\n');
}

/// The frame at the start of `bytes`, or `None` while it is not whole.
fn read(bytes: &[u8]) -> Result<Option<Frame<'_>>> {
    let head = &bytes[..bytes.len().min(HEAD_MAX)];
    let mut words = head.splitn(3, |&b| b == b' ');
    let (Some(txnr), Some(command), Some(rest)) = (words.next(), words.next(), words.next()) else {
        return short(head);
    };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == rest.len() {
        return short(head);
    }
    let said: usize =
        std::str::from_utf8(&rest[..digits]).ok().and_then(|d| d.parse().ok()).ok_or_else(|| bad("no data length"))?;
    // The blank before the data is left out when there is none.
    let start = txnr.len() + 1 + command.len() + 1 + digits + usize::from(said > 0);
    match bytes.get(start + said) {
        None => Ok(None),
        Some(b'\n') => Ok(Some(Frame { txnr, command, data: &bytes[start..start + said], len: start + said + 1 })),
        Some(_) => Err(bad("a frame does not end with LF")),
    }
}

fn short(head: &[u8]) -> Result<Option<Frame<'_>>> {
    if head.len() == HEAD_MAX { Err(bad("no RELP frame head")) } else { Ok(None) }
}

fn bad(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_answered_after_it_was_taken_and_a_part_waits() {
        let (taken, mut out) = (Taken::default(), Vec::new());
        let bytes = b"1 open 0\n2 syslog 5 hel\nl\n3 syslog 9 par";
        let used = answer(bytes, &mut out, &taken).expect("valid");
        assert_eq!(used, Some(bytes.len() - b"3 syslog 9 par".len()));
        assert_eq!(taken.records.into_inner(), 1);
        assert!(out.starts_with(b"1 rsp ") && out.ends_with(b"2 rsp 6 200 OK\n"), "{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn a_close_ends_the_connection() {
        assert_eq!(answer(b"9 close 0\n", &mut Vec::new(), &Taken::default()).expect("valid"), None);
    }

    #[test]
    fn a_line_holds_exactly_one_message() {
        let mut lines = Vec::new();
        line(&mut lines, b"a\nb\0c");
        assert_eq!(lines, b"a#012b#000c\n");
    }

    #[test]
    fn what_is_not_relp_is_refused() {
        assert!(read(b"GET / HTTP/1.1\r\n").is_err() || read(b"GET / HTTP/1.1\r\n").is_ok_and(|f| f.is_none()));
        assert!(read(&[b'x'; 100]).is_err());
        assert!(read(b"1 syslog 2 abc\n").is_err());
    }

    #[test]
    fn a_frame_cut_at_any_byte_waits_for_the_rest() {
        let whole = b"123456789 syslog 12 hello world!\n";
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]).expect("not wrong"), None, "cut at {cut}");
        }
        assert_eq!(read(whole).expect("valid").map(|f| f.len), Some(whole.len()));
    }
}
