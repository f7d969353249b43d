//! What a manager is told of a record: `docs/formats.md` is the specification.

use crate::text::Stamp;
use raven_decode::snmp::{Origin, Own, as_bytes, as_it_came};
use raven_model::record::Record;
use raven_model::stream::Stream;
use raven_model::units::Seq;
use tokio::time::Instant;

/// Tells of the records of one device and stream.
pub struct Teller {
    device: String,
    stream: String,
    /// Since when sysUpTime counts in what we say ourselves.
    started: Instant,
    stamp: Stamp,
}

impl Teller {
    pub fn new(device: &str, stream: &str, started: Instant) -> Self {
        Self { device: device.to_owned(), stream: stream.to_owned(), started, stamp: Stamp::default() }
    }

    /// The varbinds of its inform.
    pub fn varbinds(&mut self, seq: Seq, record: &Record<'_>) -> Vec<u8> {
        let id = format!("{}/{}/{seq}", self.device, self.stream);
        let mut stamp = Vec::new();
        self.stamp.write(&mut stamp, record.received.wall);
        let received = String::from_utf8_lossy(&stamp);
        let origin = Origin { id: &id, source: record.received.source, received: &received };
        let own = |own| as_bytes(own, record.raw, self.uptime(), &origin);
        if self.stream == Stream::Alert.name() {
            return own(Own::Alert);
        }
        if record.received.is_refused() {
            return own(Own::Refused);
        }
        if record.received.is_unparsed() {
            return own(Own::Unread);
        }
        as_it_came(record.raw, &origin).unwrap_or_else(|| own(Own::Unread))
    }

    /// In 1/100 s, begins again after 497 days (RFC 2578, 7.1.8).
    fn uptime(&self) -> u32 {
        (self.started.elapsed().as_millis() / 10) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::record::{FrameKind, Received};
    use raven_model::units::UnixNanos;

    /// A trap of version 2c: public, uptime 1, linkDown.
    const LINK_DOWN: &[u8] = b"\x30\x40\x02\x01\x01\x04\x06public\xa7\x33\x02\x01\x01\x02\x01\x00\x02\x01\x00\x30\x28\
        \x30\x0d\x06\x08\x2b\x06\x01\x02\x01\x01\x03\x00\x43\x01\x01\
        \x30\x17\x06\x0a\x2b\x06\x01\x06\x03\x01\x01\x04\x01\x00\x06\x09\x2b\x06\x01\x06\x03\x01\x01\x05\x03";

    #[test]
    fn what_nobody_vouches_for_is_told_by_its_bytes() {
        let source = "192.0.2.7:162".parse().expect("an address");
        let wall = UnixNanos(1_795_307_753_123_456_789);
        let has = |told: &[u8], part: &[u8]| told.windows(part.len()).any(|window| window == part);
        let told = |stream: &str, kind: FrameKind| {
            let mut received = Received::new(source, 0, wall);
            received.kind = kind;
            Teller::new("arena", stream, Instant::now()).varbinds(Seq(7), &Record { received, raw: LINK_DOWN })
        };
        for (stream, kind, by_bytes) in [
            ("trap", FrameKind::Plain, false),
            ("trap", FrameKind::Refused, true),
            ("trap", FrameKind::Unparsed, true),
            ("alert", FrameKind::Plain, true),
        ] {
            let told = told(stream, kind);
            assert_eq!(has(&told, b"public"), by_bytes, "{stream} {kind:?}: {told:02x?}");
            assert!(has(&told, format!("arena/{stream}/7").as_bytes()) && has(&told, b"2026-11-22T00:35:53.123456Z"));
            assert!(has(&told, b"192.0.2.7:162"));
        }
    }
}
