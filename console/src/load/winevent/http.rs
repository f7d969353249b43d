//! As much of HTTP/1.1 as a forwarder needs: one request, one answer, the connection kept.

use super::{Shape, WineventArgs};
use crate::load::wait;
use std::io::{self, Read as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Longest answer that is looked at.
const ANSWER_MAX: usize = 1 << 20;

/// The request line and all headers but the length, which comes last.
pub fn head(args: &WineventArgs, token: Option<&str>) -> String {
    let kind = match args.shape {
        Shape::Ndjson => "application/x-ndjson",
        Shape::Array | Shape::Object => "application/json",
        Shape::Xml => "application/xml",
    };
    let encoding = args.encoding.name().map_or_else(String::new, |name| format!("Content-Encoding: {name}\r\n"));
    let bearer = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: raven-gen\r\nContent-Type: {kind}\r\n{encoding}{bearer}Content-Length: ",
        args.path, args.common.to
    )
}

/// What the receiver said.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// `200`, `429`, …
    pub status: u16,
    /// Seconds.
    pub retry_after: Option<Duration>,
    /// No further request on this connection.
    pub close: bool,
}

/// Reads an answer. The buffer is empty before and behind it: nothing was asked in advance.
pub fn read_answer(stream: &mut TcpStream, input: &mut Vec<u8>, deadline: Instant) -> io::Result<Answer> {
    input.clear();
    let mut chunk = [0; 4096];
    loop {
        if !wait::readable(stream, deadline.saturating_duration_since(Instant::now()))? && Instant::now() >= deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"));
        }
        let len = stream.read(&mut chunk)?;
        input.extend_from_slice(&chunk[..len]);
        if let Some(answer) = parse(input, len == 0)? {
            return Ok(answer);
        }
        if len == 0 || input.len() > ANSWER_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The answer, once its body is whole too. An interim one (`100 Continue`) is passed over.
fn parse(input: &[u8], ended: bool) -> io::Result<Option<Answer>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP/1.1");
    let Some(head_end) = memchr::memmem::find(input, b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = (str::from_utf8(&input[..head_end]).map_err(|_| wrong())?, &input[head_end + 4..]);
    let mut lines = head.split("\r\n");
    let first = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")).ok_or_else(wrong)?;
    let status = first.get(2..5).and_then(|text| text.parse::<u16>().ok()).ok_or_else(wrong)?;
    if status < 200 {
        return parse(body, ended);
    }
    let (mut len, mut chunked) = (None, false);
    let mut answer = Answer { status, retry_after: None, close: first.starts_with('0') };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => len = Some(value.parse::<usize>().map_err(|_| wrong())?),
            ("transfer-encoding", value) => chunked = value.eq_ignore_ascii_case("chunked"),
            ("connection", value) => answer.close = value.eq_ignore_ascii_case("close"),
            ("retry-after", value) => answer.retry_after = value.parse().ok().map(Duration::from_secs),
            _ => {}
        }
    }
    let whole = match (chunked, len) {
        (true, _) => body.starts_with(b"0\r\n\r\n") || body.ends_with(b"\r\n0\r\n\r\n"),
        (false, Some(len)) => body.len() >= len,
        (false, None) if status == 204 => true,
        (false, None) => {
            answer.close = true; // the end of the connection is the end of the body
            ended
        }
    };
    Ok(whole.then_some(answer))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(text: &str, ended: bool) -> Option<(u16, Option<u64>, bool)> {
        let answer = parse(text.as_bytes(), ended).unwrap();
        answer.map(|answer| (answer.status, answer.retry_after.map(|time| time.as_secs()), answer.close))
    }

    #[test]
    fn an_answer_is_whole_with_its_body() {
        let text = "HTTP/1.1 503 Busy\r\nretry-after: 2\r\nContent-Length: 4\r\n\r\nbusy";
        assert_eq!(parsed(text, false), Some((503, Some(2), false)));
        (0..text.len()).for_each(|end| assert_eq!(parsed(&text[..end], false), None));
        assert_eq!(parsed("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", false), Some((204, None, true)));
        assert_eq!(
            parsed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false),
            Some((200, None, false))
        );
        assert_eq!(parsed("HTTP/1.0 200 OK\r\n\r\nok", false), None);
        assert_eq!(parsed("HTTP/1.0 200 OK\r\n\r\nok", true), Some((200, None, true)));
        assert_eq!(parsed("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 x\r\n\r\n", false), Some((204, None, false)));
        assert!(parse(b"SSH-2.0\r\n\r\n", false).is_err());
    }
}
