//! One request and its response (RFC 9112), as parsers that own no socket: what a URL asks for, and where a response ends. Bodies are
//! counted, not kept.

pub mod run;

use std::fmt::Write as _;

/// Longest URL.
const URL_MAX: usize = 4096;
/// Longest header, with interim responses before it.
pub const HEADER_MAX: usize = 64 * 1024;
/// Longest line of a chunk's size, and of all trailers.
const CHUNK_LINE_MAX: usize = 4096;
/// Headers that are kept, and characters of one.
const HEADERS: usize = 32;
const VALUE_SHOWN: usize = 512;
/// Those that say who answers, what with, and where to go on.
const OF_INTEREST: [&str; 19] = [
    "age",
    "alt-svc",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "location",
    "proxy-authenticate",
    "retry-after",
    "server",
    "strict-transport-security",
    "transfer-encoding",
    "via",
    "www-authenticate",
    "x-cache",
];

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// `https`.
    pub is_tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// 80 or 443 unless it is given.
    pub port: u16,
    /// Path and query.
    path: String,
    /// Host and port as they stand in it.
    authority: String,
}

impl Url {
    /// `http://HOST[:PORT][/PATH][?QUERY]`, or `https://`.
    ///
    /// # Errors
    /// In words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = |why: &str| Err(format!("`{}` {why}", text.escape_debug()));
        if text.len() > URL_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return bad("is no URL: it has blanks, letters of other alphabets, or more than 4096 characters");
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return bad("is no URL: it must begin with http:// or https://");
        };
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return bad("is neither http:// nor https://"),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return bad("has a user, which Raven does not send");
        }
        let (host, port) = crate::targets::host_and_port(authority)?;
        if host.is_empty() {
            return bad("has no host");
        }
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            is_tls,
            host: host.to_owned(),
            port: port.unwrap_or(if is_tls { 443 } else { 80 }),
            path: format!("{slash}{path}"),
            // A zone is this box's own affair (RFC 6874, 1).
            authority: match (authority.find('%'), authority.find(']')) {
                (Some(zone), Some(end)) if zone < end => format!("{}{}", &authority[..zone], &authority[end..]),
                _ => authority.to_owned(),
            },
        })
    }

    /// The request.
    pub fn request(&self) -> String {
        let mut text = format!("GET {} HTTP/1.1\r\nHost: {}\r\n", self.path, self.authority);
        let _ =
            write!(text, "User-Agent: raven/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n", env!("CARGO_PKG_VERSION"));
        text
    }
}

/// The first lines of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// 100 to 999.
    pub status: u16,
    /// What stands behind it.
    pub reason: Option<String>,
    /// Those of interest.
    pub headers: Vec<(String, String)>,
}

/// How a body ends (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// After so many bytes.
    Length(u64),
    /// With the chunk of no length; see [`Chunk`].
    Chunked(Chunk),
    /// With the connection.
    Close,
    /// It has.
    Over,
}

/// Where in chunks (7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    /// In a line with a size.
    Size,
    /// So many bytes of data are to come.
    Data(u64),
    /// In the end of the line behind data.
    End,
    /// Behind the last chunk.
    Trailers,
}

/// A response as it comes in.
#[derive(Debug, Default)]
pub struct Response {
    /// Header, or a line of chunks, that is not whole yet.
    line: Vec<u8>,
    /// Bytes of all headers.
    pub header_bytes: u64,
    /// Bytes of the body without the framing of chunks.
    pub body_bytes: u64,
    /// The header, once it is whole.
    pub head: Option<Head>,
    body: Option<Body>,
}

impl Response {
    /// Nothing more of it will come.
    pub fn is_over(&self) -> bool {
        self.body == Some(Body::Over)
    }

    /// More of it came.
    ///
    /// # Errors
    /// In words: it is no response of HTTP.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            bytes = match self.body {
                None => self.header(bytes)?,
                Some(Body::Length(left)) => {
                    let rest = self.count(bytes, left);
                    let left = left - (bytes.len() - rest.len()) as u64;
                    self.body = Some(if left == 0 { Body::Over } else { Body::Length(left) });
                    rest
                }
                Some(Body::Chunked(chunk)) => self.chunk(chunk, bytes)?,
                Some(Body::Close) => self.count(bytes, u64::MAX),
                // What stands behind a response is none of ours.
                Some(Body::Over) => &[],
            };
        }
        Ok(())
    }

    /// The connection ended in order.
    ///
    /// # Errors
    /// In words: something is missing.
    pub fn end(&mut self) -> Result<(), String> {
        match self.body {
            Some(Body::Over) => Ok(()),
            Some(Body::Close) => {
                self.body = Some(Body::Over);
                Ok(())
            }
            None if self.line.is_empty() && self.header_bytes == 0 => {
                Err("it closed the connection without an answer".to_owned())
            }
            None => Err("it closed the connection in the middle of the header".to_owned()),
            Some(Body::Length(left)) => Err(format!("it closed the connection {left} bytes before the end")),
            Some(Body::Chunked(_)) => Err("it closed the connection before the last chunk".to_owned()),
        }
    }

    fn count<'a>(&mut self, bytes: &'a [u8], most: u64) -> &'a [u8] {
        let n = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
        self.body_bytes += n as u64;
        &bytes[n..]
    }

    /// Takes what belongs to the header; the rest.
    fn header<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        for (n, byte) in bytes.iter().enumerate() {
            self.line.push(*byte);
            self.header_bytes += 1;
            if self.header_bytes > HEADER_MAX as u64 {
                return Err(format!("its header is longer than {HEADER_MAX} bytes"));
            }
            // As soon as it cannot be HTTP any more, whatever else comes.
            if self.line.len() == 5 && self.line != b"HTTP/" {
                return Err("it does not speak HTTP/1".to_owned());
            }
            if *byte == b'\n' && (self.line.ends_with(b"\n\n") || self.line.ends_with(b"\n\r\n")) {
                let text = std::mem::take(&mut self.line);
                let (head, body) = head(&text)?;
                // Interim responses: another one follows (RFC 9110, 15.2).
                if !(100..200).contains(&head.status) || head.status == 101 {
                    (self.head, self.body) = (Some(head), Some(body));
                }
                return Ok(&bytes[n + 1..]);
            }
        }
        Ok(&[])
    }

    fn chunk<'a>(&mut self, chunk: Chunk, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        if let Chunk::Data(left) = chunk {
            let rest = self.count(bytes, left);
            let left = left - (bytes.len() - rest.len()) as u64;
            self.body = Some(Body::Chunked(if left == 0 { Chunk::End } else { Chunk::Data(left) }));
            return Ok(rest);
        }
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.line.extend_from_slice(bytes);
            return if self.line.len() > CHUNK_LINE_MAX { Err("a chunk has no size".to_owned()) } else { Ok(&[]) };
        };
        self.line.extend_from_slice(&bytes[..end]);
        let line = std::mem::take(&mut self.line);
        if line.len() > CHUNK_LINE_MAX {
            return Err("a chunk has no size".to_owned());
        }
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        self.body = Some(match chunk {
            Chunk::Size => Body::Chunked(match size(line).ok_or("a chunk has no size")? {
                0 => Chunk::Trailers,
                size => Chunk::Data(size),
            }),
            Chunk::End if line.is_empty() => Body::Chunked(Chunk::Size),
            Chunk::Trailers if line.is_empty() => Body::Over,
            Chunk::Trailers => {
                // They count as header, so that they end.
                self.header_bytes += line.len() as u64 + 1;
                if self.header_bytes > HEADER_MAX as u64 {
                    return Err("its trailers do not end".to_owned());
                }
                Body::Chunked(chunk)
            }
            _ => return Err("a chunk is longer than it says".to_owned()),
        });
        Ok(&bytes[end + 1..])
    }
}

/// Of a chunk, without its extensions.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    let digits = str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u64::from_str_radix(digits, 16).ok()
}

/// A header that is whole, and what follows it.
fn head(text: &[u8]) -> Result<(Head, Body), String> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let not_http = || "it does not speak HTTP/1".to_owned();
    let (version, rest) =
        first.split_once(' ').filter(|(version, _)| version.starts_with("HTTP/1.")).ok_or_else(not_http)?;
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = status.parse().ok().filter(|status| (100..1000).contains(status)).ok_or_else(not_http)?;
    let mut head = Head { version: cut(version), status, ..Head::default() };
    head.reason = Some(cut(reason.trim())).filter(|reason| !reason.is_empty());
    let (mut length, mut is_chunked) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        match name.as_str() {
            "content-length" => {
                let new = value.parse::<u64>().map_err(|_| "it does not say how long the body is".to_owned())?;
                if length.replace(new).is_some_and(|before| before != new) {
                    return Err("it says of the body that it has two lengths".to_owned());
                }
            }
            "transfer-encoding" => {
                is_chunked = value.rsplit(',').next().is_some_and(|last| last.trim().eq_ignore_ascii_case("chunked"));
            }
            _ => {}
        }
        if OF_INTEREST.contains(&name.as_str()) && head.headers.len() < HEADERS {
            head.headers.push((name, cut(value)));
        }
    }
    let body = match (status, is_chunked, length) {
        (101 | 204 | 304, ..) | (_, false, Some(0)) => Body::Over,
        (_, true, _) => Body::Chunked(Chunk::Size),
        (_, _, Some(length)) => Body::Length(length),
        _ => Body::Close,
    };
    Ok((head, body))
}

fn cut(text: &str) -> String {
    text.chars().take(VALUE_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Response, String> {
        let mut response = Response::default();
        response.push(bytes)?;
        response.end()?;
        Ok(response)
    }

    #[test]
    fn urls_are_taken_apart() {
        let url = Url::parse("https://noc.example:8443/a?b=c#d").unwrap();
        assert_eq!((url.is_tls, url.host.as_str(), url.port), (true, "noc.example", 8443));
        assert!(url.request().starts_with("GET /a?b=c HTTP/1.1\r\nHost: noc.example:8443\r\n"), "{}", url.request());
        let url = Url::parse("HTTP://[::1]?x").unwrap();
        assert_eq!((url.is_tls, url.host.as_str(), url.port), (false, "::1", 80));
        assert!(url.request().starts_with("GET /?x HTTP/1.1\r\nHost: [::1]\r\n"), "{}", url.request());
        let url = Url::parse("http://[fe80::1%eth0]:81/").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("fe80::1%eth0", 81));
        assert!(url.request().contains("\r\nHost: [fe80::1]:81\r\n"), "{}", url.request());
        for nonsense in [
            "noc",
            "ftp://noc",
            "http://",
            "http://:80",
            "http://a b",
            "http://noc:0",
            "http://u:p@noc",
            "http://a/\r\nX: y",
        ] {
            assert!(Url::parse(nonsense).is_err(), "{nonsense}");
        }
    }

    const CHUNKED: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: gzip, chunked\r\n\
        X-Secret: y\r\n\r\n5;a=b\r\nhello\r\n0B\r\n world!!!!!\r\n0\r\nTrailer: z\r\n\r\n";
    const PLAIN: &[u8] = b"HTTP/1.0 302 Found\nLocation: /b\nContent-Length: 4\n\nbody";

    #[test]
    fn bodies_are_counted_whatever_their_framing() {
        let chunked = read(CHUNKED).unwrap();
        let head = chunked.head.unwrap();
        assert_eq!((head.status, head.reason.as_deref(), chunked.body_bytes), (200, Some("OK"), 16));
        assert_eq!(
            head.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["server", "transfer-encoding"]
        );
        let plain = read(PLAIN).unwrap();
        let head = plain.head.unwrap();
        assert_eq!((head.version.as_str(), head.status, plain.body_bytes), ("HTTP/1.0", 302, 4));
        assert_eq!(head.headers[0], ("location".to_owned(), "/b".to_owned()));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\nabc").unwrap().body_bytes, 3);
        assert!(read(b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n").unwrap().is_over());
    }

    #[test]
    fn what_is_cut_is_missed_and_nonsense_is_named() {
        for whole in [CHUNKED, PLAIN] {
            for n in 0..whole.len() {
                assert!(read(&whole[..n]).is_err(), "{n}");
            }
        }
        for (nonsense, why) in [
            ("SSH-2.0-x\r\n", "does not speak HTTP"),
            ("HTTP/1.1 OK\r\n\r\n", "does not speak HTTP"),
            ("HTTP/2 200\r\n\r\n", "does not speak HTTP"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "two lengths"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "how long"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "no size"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "longer"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", "no size"),
            ("HTTP/1.1 200", "middle of the header"),
            ("", "without an answer"),
        ] {
            let error = read(nonsense.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{nonsense}: {error}");
        }
    }

    #[test]
    fn a_header_that_does_not_end_is_given_up() {
        let mut response = Response::default();
        let error = std::iter::repeat_with(|| response.push(b"HTTP/1.1 100 Continue\r\n\r\n")).find_map(Result::err);
        assert!(error.unwrap().contains("longer than"));
        let mut response = Response::default();
        response.push(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n").unwrap();
        let error = std::iter::repeat_with(|| response.push(b"a: b\r\n")).find_map(Result::err);
        assert!(error.unwrap().contains("trailers"));
        assert!(response.line.len() <= HEADER_MAX);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_it_is_cut_into_packets(cuts in proptest::collection::vec(1_usize..40, 1..200)) {
            let (mut response, mut rest) = (Response::default(), CHUNKED);
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                response.push(now).unwrap();
                rest = later;
            }
            response.push(rest).unwrap();
            prop_assert!(response.is_over() && response.body_bytes == 16);
        }

        #[test]
        fn any_byte_may_be_another(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8), tail in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = [CHUNKED, &tail].concat();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Ok(response) = read(&bytes) {
                prop_assert!(response.body_bytes <= bytes.len() as u64);
            }
        }

        #[test]
        fn any_text_is_a_url_or_none(text in ".{0,40}", rest in ".{0,40}") {
            let _ = Url::parse(&text);
            if let Ok(url) = Url::parse(&format!("http://{rest}")) {
                prop_assert_eq!(url.request().matches("\r\n").count(), 6);
            }
        }
    }
}
