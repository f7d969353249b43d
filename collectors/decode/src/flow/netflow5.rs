//! NetFlow 1, 5 and 7: a header, then records of one fixed form.
//!
//! That form is written down here as a template, so that one reader serves all versions: fields have IANA's names,
//! and what version 9 gives for an element, version 5 gives too.

use super::Reject;
use super::scan::{Header, Version};
use super::template::Template;
use super::wire::Wire;
use std::sync::LazyLock;

const HEADER_V1: usize = 16;
const HEADER_V5: usize = 24;
/// The two top bits of version 5's sampling are its mode.
const SAMPLING: u16 = 0x3fff;

/// A datagram of NetFlow 1, 5 or 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Legacy<'a> {
    /// The header.
    pub header: Header,
    records: &'a [u8],
    extra: u32,
}

impl<'a> Legacy<'a> {
    pub(super) fn read(version: u16, raw: &'a [u8]) -> Result<Self, Reject> {
        let (version, length) = match version {
            1 => (Version::V1, HEADER_V1),
            5 => (Version::V5, HEADER_V5),
            _ => (Version::V7, HEADER_V5),
        };
        let (head, records) = raw.split_at_checked(length).ok_or(Reject::HeaderShort)?;
        let header = header(version, head).ok_or(Reject::HeaderShort)?;
        let count = header.count.unwrap_or_default();
        let size = template(version).min_len();
        let fit = (records.len() / size) as u32;
        let records = records.get(..count as usize * size).ok_or(Reject::Count { said: count, fit })?;
        Ok(Self { header, records, extra: (raw.len() - length - records.len()) as u32 })
    }

    /// The records, end to end.
    pub const fn body(&self) -> &'a [u8] {
        self.records
    }

    /// What describes the records.
    pub fn template(&self) -> &'static Template {
        template(self.header.version)
    }

    /// Bytes behind the last record that the header counts. They are not looked at.
    pub const fn trailing(&self) -> u32 {
        self.extra
    }
}

fn header(version: Version, head: &[u8]) -> Option<Header> {
    let mut wire = Wire::new(head);
    let [_version, count] = [wire.u16()?, wire.u16()?];
    let [uptime_ms, seconds, nanoseconds] = [wire.u32()?, wire.u32()?, wire.u32()?];
    let sequence = wire.u32();
    let (engine, sampling) = wire.u16().zip(wire.u16()).unzip();
    let is_v5 = version == Version::V5;
    Some(Header {
        version,
        sequence,
        domain: engine.filter(|_| is_v5).map(u32::from),
        export_ms: Some(u64::from(seconds) * 1_000 + u64::from(nanoseconds / 1_000_000)),
        uptime_ms: Some(uptime_ms),
        count: Some(count.into()),
        sampling: sampling.filter(|_| is_v5).map(|sampling| sampling & SAMPLING),
        agent: None,
    })
}

/// Elements and lengths up to the ports, which all three versions begin with.
const COMMON: &[(u16, u16)] =
    &[(8, 4), (12, 4), (15, 4), (10, 2), (14, 2), (2, 4), (1, 4), (22, 4), (21, 4), (7, 2), (11, 2)];
const PADDING: u16 = 210;
const V1: &[(u16, u16)] = &[(PADDING, 2), (4, 1), (5, 1), (6, 1), (PADDING, 7)];
const V5: &[(u16, u16)] = &[(PADDING, 1), (6, 1), (4, 1), (5, 1), (16, 2), (17, 2), (9, 1), (13, 1), (PADDING, 2)];
/// The two fields of flags say which of the others are valid; the last is the router that the switch cut short.
const V7: &[(u16, u16)] =
    &[(PADDING, 1), (6, 1), (4, 1), (5, 1), (16, 2), (17, 2), (9, 1), (13, 1), (PADDING, 2), (43, 4)];

fn template(version: Version) -> &'static Template {
    static TEMPLATES: LazyLock<[Template; 3]> = LazyLock::new(|| [V1, V5, V7].map(built_in));
    let [v1, v5, v7] = &*TEMPLATES;
    match version {
        Version::V1 => v1,
        Version::V7 => v7,
        _ => v5,
    }
}

fn built_in(rest: &[(u16, u16)]) -> Template {
    let fields = COMMON.iter().chain(rest);
    let specifiers: Vec<u8> =
        fields.flat_map(|(id, length)| [id.to_be_bytes(), length.to_be_bytes()].concat()).collect();
    let length = (8 + specifiers.len()) as u16;
    let count = (specifiers.len() / 4) as u16;
    let head = [0, length, 256, count].map(u16::to_be_bytes).concat();
    Template::compile(&[head, specifiers].concat()).expect("the tables above are templates")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn datagram(version: u16, count: u16, header: usize, body: usize) -> Vec<u8> {
        let mut raw = [version, count].map(u16::to_be_bytes).concat();
        raw.resize(header + body, 0);
        raw
    }

    #[test]
    fn records_are_as_long_as_cisco_says() {
        assert_eq!([Version::V1, Version::V5, Version::V7].map(|v| template(v).min_len()), [48, 48, 52]);
    }

    #[test]
    fn the_count_must_fit_and_what_is_behind_is_not_read() {
        assert_eq!(Legacy::read(5, &datagram(5, 2, 24, 95)), Err(Reject::Count { said: 2, fit: 1 }));
        let raw = datagram(5, 2, 24, 100);
        let legacy = Legacy::read(5, &raw).unwrap();
        assert_eq!((legacy.body().len(), legacy.trailing()), (96, 4));
        assert_eq!(Legacy::read(1, &datagram(1, 0, 16, 0)).unwrap().body(), b"");
    }
}
