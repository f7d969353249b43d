//! What the head of a request says of its body.

use crate::http::body;
use crate::http::reason::{Reason, Refused};
use crate::http::unpack::Encoding;
use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use raven_decode::metrics::Kind;

/// Where Prometheus and Alloy write series.
const WRITE: &str = "/api/v1/write";
/// Where Promtail, Alloy and Loki's own clients push log lines.
const PUSH: &str = "/loki/api/v1/push";

/// How a body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// What it is.
    pub kind: Kind,
    /// As the head says.
    pub encoding: Encoding,
    /// Whether it is packed with snappy below that, which Loki's clients do not say.
    pub snappy: bool,
}

/// By path and headers.
pub fn form(path: &str, headers: &HeaderMap) -> Result<Form, Refused> {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes()).to_ascii_lowercase();
    let (kind, parameters) = kind.split_at(kind.iter().position(|&byte| byte == b';').unwrap_or(kind.len()));
    let kind = kind.trim_ascii();
    match path {
        WRITE => write(kind, parameters, headers),
        PUSH if kind == b"application/json" => {
            let encoding = body::encoding(headers)?;
            Ok(Form { kind: Kind::LokiJson, encoding, snappy: false })
        }
        PUSH => {
            let encoding = body::encoding(headers)?;
            let snappy = encoding != Encoding::Snappy;
            Ok(Form { kind: Kind::LokiProtobuf, encoding, snappy })
        }
        _ => {
            Err(Refused::new(Reason::Path, format!("nothing is taken here: series go to {WRITE}, log lines to {PUSH}")))
        }
    }
}

/// Remote write 1.0, and nothing else: a sender of 2.0 goes back to 1.0 when it is told 415.
fn write(kind: &[u8], parameters: &[u8], headers: &HeaderMap) -> Result<Form, Refused> {
    let version = headers.get("x-prometheus-remote-write-version").map_or(&b""[..], |value| value.as_bytes());
    let second = version.starts_with(b"2.") || memchr::memmem::find(parameters, b"io.prometheus.write.v2").is_some();
    if second {
        return Err(Refused::new(Reason::ContentType, "remote write 1.0 is taken, 2.0 is not"));
    }
    if !matches!(kind, b"" | b"application/x-protobuf") {
        let detail = "expected Content-Type: application/x-protobuf (remote write 1.0)";
        return Err(Refused::new(Reason::ContentType, detail));
    }
    // The specification knows snappy alone; some proxies take the header away.
    let encoding = if headers.contains_key(CONTENT_ENCODING) { body::encoding(headers)? } else { Encoding::Snappy };
    Ok(Form { kind: Kind::RemoteWrite, encoding, snappy: false })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn of(path: &str, headers: &[(&'static str, &'static str)]) -> Result<Form, Reason> {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        form(path, &headers.iter().map(pair).collect()).map_err(|refused| refused.reason)
    }

    #[test]
    fn prometheus_and_alloy_are_understood() {
        let written = Form { kind: Kind::RemoteWrite, encoding: Encoding::Snappy, snappy: false };
        let prometheus = [
            ("content-encoding", "snappy"),
            ("content-type", "application/x-protobuf"),
            ("x-prometheus-remote-write-version", "0.1.0"),
        ];
        assert_eq!(of(WRITE, &prometheus), Ok(written));
        let named =
            [("content-encoding", "snappy"), ("content-type", "application/x-protobuf;proto=prometheus.WriteRequest")];
        assert_eq!(of(WRITE, &named), Ok(written));
        assert_eq!(of(WRITE, &[]), Ok(written));
        let alloy = Form { kind: Kind::LokiProtobuf, encoding: Encoding::Identity, snappy: true };
        assert_eq!(of(PUSH, &[("content-type", "application/x-protobuf")]), Ok(alloy));
        let json = Form { kind: Kind::LokiJson, encoding: Encoding::Gzip, snappy: false };
        assert_eq!(
            of(PUSH, &[("content-type", "application/json; charset=utf-8"), ("content-encoding", "gzip")]),
            Ok(json)
        );
    }

    #[test]
    fn the_second_version_is_refused_so_that_senders_go_back_to_the_first() {
        let v2 = [("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")];
        assert_eq!(of(WRITE, &v2), Err(Reason::ContentType));
        assert_eq!(of(WRITE, &[("x-prometheus-remote-write-version", "2.0.0")]), Err(Reason::ContentType));
        assert_eq!(of(WRITE, &[("content-type", "application/json")]), Err(Reason::ContentType));
        assert_eq!(of(WRITE, &[("content-encoding", "br")]), Err(Reason::EncodingUnknown));
        assert_eq!(of("/", &[]), Err(Reason::Path));
    }
}
