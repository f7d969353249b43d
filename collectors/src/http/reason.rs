//! Why something that arrived was not kept: the status that the sender gets, the name that operators see, and what
//! they can do.

use hyper::StatusCode;
use raven_model::stream::Stream;

/// One reason. Its number is its place among the counts in the receive memory, which outlive this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Wrong credentials, or none.
    Credentials = 0,
    /// Credentials are configured and were not passed to this process yet, or could not be read.
    NotReady = 1,
    /// A body in which no events were found.
    NotEvents = 2,
    /// A body over the limit, packed or unpacked.
    BodyTooLong = 3,
    /// An encoding that is not known, or several.
    EncodingUnknown = 4,
    /// A body that is not what its encoding says.
    EncodingBroken = 5,
    /// UTF-16 and the like.
    Charset = 6,
    /// A sender that takes too long.
    Slow = 7,
    /// The ring had no room.
    RingFull = 8,
    /// Too much is held in memory for senders that wait.
    TooManyWaiting = 9,
    /// A method that is not served.
    Method = 10,
    /// Not HTTP/1.
    HttpMalformed = 11,
    /// The connection ended inside a request.
    CutOff = 12,
    /// The TLS handshake failed.
    TlsHandshake = 13,
    /// An HTTPS listener without a certificate.
    NoCertificate = 14,
    /// A connection of a listener that is not known.
    Unserved = 15,
    /// A path at which nothing is taken.
    Path = 16,
    /// A kind of body that is not taken at that path, or a version that is not spoken.
    ContentType = 17,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Credentials,
        Self::NotReady,
        Self::NotEvents,
        Self::BodyTooLong,
        Self::EncodingUnknown,
        Self::EncodingBroken,
        Self::Charset,
        Self::Slow,
        Self::RingFull,
        Self::TooManyWaiting,
        Self::Method,
        Self::HttpMalformed,
        Self::CutOff,
        Self::TlsHandshake,
        Self::NoCertificate,
        Self::Unserved,
        Self::Path,
        Self::ContentType,
    ];

    /// As in reports and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::NotReady => "not_ready",
            Self::NotEvents => "not_events",
            Self::BodyTooLong => "body_too_long",
            Self::EncodingUnknown => "encoding_unknown",
            Self::EncodingBroken => "encoding_broken",
            Self::Charset => "charset",
            Self::Slow => "slow",
            Self::RingFull => "ring_full",
            Self::TooManyWaiting => "too_many_waiting",
            Self::Method => "method",
            Self::HttpMalformed => "http_malformed",
            Self::CutOff => "cut_off",
            Self::TlsHandshake => "tls_handshake",
            Self::NoCertificate => "no_certificate",
            Self::Unserved => "connection_unserved",
            Self::Path => "path",
            Self::ContentType => "content_type",
        }
    }

    /// What the sender is told, where there is a request to answer. Prometheus throws away what is answered with 4xx,
    /// 429 included unless it was told otherwise: there, what may go better next time is 503.
    pub const fn status(self, stream: Stream) -> StatusCode {
        match self {
            Self::TooManyWaiting | Self::Slow if matches!(stream, Stream::Metrics) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Credentials => StatusCode::UNAUTHORIZED,
            Self::NotReady | Self::RingFull => StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::EncodingUnknown | Self::Charset | Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::TooManyWaiting => StatusCode::TOO_MANY_REQUESTS,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Path => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// What an operator can do.
    pub fn remedy(self, stream: Stream) -> String {
        let told = match self {
            Self::Credentials => {
                "give the sender a line of SECTION.credentials: `bearer TOKEN` or `basic USER:PASSWORD`"
            }
            Self::NotReady => "look into the log for what is wrong with SECTION.credentials",
            Self::NotEvents if stream == Stream::Metrics => "kept, marked as refused: `raven tail metrics` shows why",
            Self::NotEvents => "have the sender send JSON objects, an array of them, or Event XML",
            Self::BodyTooLong => "send smaller batches, or raise SECTION.body_limit",
            Self::EncodingUnknown => "send one of gzip, deflate, zstd, snappy, or no Content-Encoding",
            Self::EncodingBroken => "check the sender and what stands between: Content-Encoding and body differ",
            Self::Charset => "send UTF-8",
            Self::Slow => "check the network to the sender",
            Self::RingFull => "the store is behind: check the disk",
            Self::TooManyWaiting => "the store is behind or senders are too many at a time",
            Self::Method => "send with POST",
            Self::HttpMalformed => "send HTTP/1.1; TLS goes to a listener of SECTION.https",
            Self::CutOff => "check the network to the sender, and its timeout",
            Self::TlsHandshake => "check the sender's trust in the certificate, and its own if client_ca is set",
            Self::NoCertificate => "set SECTION.certificate and .key; the log says what is wrong with them",
            Self::Unserved => "report this: a connection came before its listener",
            Self::Path => "send remote write to /api/v1/write and Loki's push to /loki/api/v1/push",
            Self::ContentType => "set the sender to remote write 1.0 (protobuf), or to Loki's push as protobuf or JSON",
        };
        told.replace("SECTION", &format!("collect.{stream}"))
    }

    /// The sender can try again soon.
    pub const fn passes(self) -> bool {
        matches!(self, Self::NotReady | Self::RingFull | Self::TooManyWaiting)
    }
}

/// A request that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// In words, for the sender.
    pub detail: String,
    /// Where in the unpacked body.
    pub at: Option<usize>,
    /// The first bytes of the body, for the inbox.
    pub first_bytes: Vec<u8>,
}

/// Bytes of a body that the inbox shows.
pub const FIRST_BYTES: usize = 32;

impl Refused {
    /// Without a place.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), at: None, first_bytes: Vec::new() }
    }

    /// With the start of the body.
    #[must_use]
    pub fn showing(mut self, body: &[u8]) -> Self {
        self.first_bytes = body[..body.len().min(FIRST_BYTES)].to_vec();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_jail::receive::DROP_REASONS;

    #[test]
    fn prometheus_is_not_told_to_throw_away_what_may_go_better_next_time() {
        for reason in Reason::ALL.into_iter().filter(|reason| reason.passes() || *reason == Reason::Slow) {
            assert_eq!(reason.status(Stream::Metrics), StatusCode::SERVICE_UNAVAILABLE, "{}", reason.name());
        }
        assert_eq!(Reason::TooManyWaiting.status(Stream::Winevent), StatusCode::TOO_MANY_REQUESTS);
    }

    #[test]
    fn every_reason_has_a_count_of_its_own() {
        assert!(Reason::ALL.len() <= DROP_REASONS);
        // The store counts them by number, and names them for the account.
        for stream in [Stream::Winevent, Stream::Metrics] {
            assert_eq!(stream.drop_reasons(), Reason::ALL.map(Reason::name));
        }
        assert!(Reason::ALL.iter().enumerate().all(|(place, reason)| *reason as usize == place));
    }
}
