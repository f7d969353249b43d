//! HTTP/1.1 as far as a receiver of NDJSON needs it: POST with a length or in chunks, plain, gzip or zstd.

use super::Taken;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};

/// Largest body taken, compressed and uncompressed, bytes.
const BODY_MAX: u64 = 256 << 20;

/// The parts of a request head that matter.
#[derive(Debug, Default, PartialEq, Eq)]
struct Head {
    method: String,
    length: u64,
    chunked: bool,
    encoding: String,
    wants_continue: bool,
    close: bool,
}

/// Answers requests until the peer ends the connection.
pub fn serve(socket: impl Read + Write, taken: &Taken) -> Result<()> {
    let mut stream = BufReader::with_capacity(256 * 1024, socket);
    while let Some(head) = head(&mut stream)? {
        if head.wants_continue {
            stream.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = decompress(&head.encoding, body(&mut stream, &head)?)?;
        let answer = take(&head.method, body, taken)?;
        stream.get_mut().write_all(answer)?;
        if head.close {
            break;
        }
    }
    Ok(())
}

fn take(method: &str, mut body: Vec<u8>, taken: &Taken) -> Result<&'static [u8]> {
    if method != "POST" {
        return Ok(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n");
    }
    if body.last().is_some_and(|&last| last != b'\n') {
        body.push(b'\n');
    }
    let records = memchr::memchr_iter(b'\n', &body).count() as u64;
    taken.keep(&body, records)?;
    Ok(b"HTTP/1.1 204 No Content\r\n\r\n")
}

fn head(stream: &mut impl BufRead) -> Result<Option<Head>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut head = Head { method: line.split(' ').next().unwrap_or_default().to_owned(), ..Head::default() };
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(Some(head)) };
        field(&mut head, &name.to_ascii_lowercase(), value.trim())?;
    }
}

fn field(head: &mut Head, name: &str, value: &str) -> Result<()> {
    match name {
        "content-length" => head.length = value.parse().map_err(|_| bad("Content-Length is no number"))?,
        "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
        "content-encoding" => head.encoding = value.to_ascii_lowercase(),
        "expect" => head.wants_continue = value.eq_ignore_ascii_case("100-continue"),
        "connection" => head.close = value.eq_ignore_ascii_case("close"),
        _ => {}
    }
    Ok(())
}

fn body(stream: &mut impl BufRead, head: &Head) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    if !head.chunked {
        exactly(stream, head.length, &mut body)?;
        return Ok(body);
    }
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| bad("a chunk has no size"))?;
        exactly(stream, size, &mut body)?;
        stream.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn exactly(stream: &mut impl Read, size: u64, into: &mut Vec<u8>) -> Result<()> {
    if size + into.len() as u64 > BODY_MAX {
        return Err(bad("a body is larger than 256 MiB"));
    }
    if (stream.by_ref().take(size).read_to_end(into)? as u64) < size {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn decompress(encoding: &str, body: Vec<u8>) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    match encoding {
        "" | "identity" => return Ok(body),
        "gzip" => flate2::read::MultiGzDecoder::new(&body[..]).take(BODY_MAX).read_to_end(&mut plain)?,
        "zstd" => zstd::Decoder::new(&body[..])?.take(BODY_MAX).read_to_end(&mut plain)?,
        other => return Err(bad(&format!("Content-Encoding `{other}` is not known"))),
    };
    Ok(plain)
}

fn bad(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// What comes in, and what was answered.
    struct Wire(Cursor<Vec<u8>>, Vec<u8>);

    impl Read for &mut Wire {
        fn read(&mut self, into: &mut [u8]) -> Result<usize> {
            self.0.read(into)
        }
    }
    impl Write for &mut Wire {
        fn write(&mut self, from: &[u8]) -> Result<usize> {
            self.1.write(from)
        }
        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn records_of(request: &[u8]) -> (u64, String) {
        let (mut wire, taken) = (Wire(Cursor::new(request.to_vec()), Vec::new()), Taken::default());
        serve(&mut wire, &taken).expect("valid");
        (taken.records.into_inner(), String::from_utf8_lossy(&wire.1).into_owned())
    }

    #[test]
    fn each_body_is_counted_and_answered() {
        let one = b"POST /x HTTP/1.1\r\nContent-Length: 8\r\n\r\n{}\n{}\n{}".to_vec();
        let two =
            [one.clone(), b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n0\r\n\r\n".to_vec()]
                .concat();
        assert_eq!(records_of(&one).0, 3);
        let (records, answers) = records_of(&two);
        assert_eq!((records, answers.matches("204").count()), (4, 2));
    }

    #[test]
    fn compressed_bodies_are_read() {
        let zstd = zstd::encode_all(&b"{}\n{}\n"[..], 1).expect("compresses");
        let request = [
            format!("POST / HTTP/1.1\r\nContent-Encoding: zstd\r\nContent-Length: {}\r\n\r\n", zstd.len()).as_bytes(),
            &zstd,
        ]
        .concat();
        assert_eq!(records_of(&request).0, 2);
    }

    #[test]
    fn only_post_is_taken() {
        assert!(records_of(b"GET / HTTP/1.1\r\n\r\n").1.starts_with("HTTP/1.1 405"));
    }
}
