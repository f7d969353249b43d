//! sFlow 5 (sflow.org, sflow_version_5): a header, then samples; each sample a header, then records.
//!
//! ```text
//! datagram  version=5 agent(type, address) sub_agent sequence uptime_ms samples
//! sample    enterprise<<12|format length …
//! record    enterprise<<12|format length …
//! ```
//!
//! Everything is in units of four bytes. What records hold is in `sflow/layout.rs`.

pub(super) mod layout;
pub(super) mod reasons;

use super::Reject;
use super::scan::{Header, Version};
use super::wire::Wire;
use std::fmt;
use std::net::IpAddr;

/// A datagram of sFlow 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sflow<'a> {
    /// The header.
    pub header: Header,
    count: u32,
    samples: &'a [u8],
}

impl<'a> Sflow<'a> {
    pub(super) fn read(raw: &'a [u8]) -> Result<Self, Reject> {
        let mut wire = Wire::new(raw);
        let mut read = || {
            let _version = wire.u32()?;
            let agent = address(&mut wire)?;
            let [sub_agent, sequence, uptime, count] = [wire.u32()?, wire.u32()?, wire.u32()?, wire.u32()?];
            let header = Header {
                version: Version::Sflow5,
                sequence: Some(sequence),
                domain: Some(sub_agent),
                export_ms: None,
                uptime_ms: Some(uptime),
                count: Some(count),
                sampling: None,
                agent,
            };
            Some((header, count))
        };
        let (header, count) = read().ok_or(Reject::HeaderShort)?;
        Ok(Self { header, count, samples: wire.rest() })
    }

    /// The samples, in order. After a fault there is nothing more.
    pub const fn samples(&self) -> Samples<'a> {
        Samples { wire: Wire::new(self.samples), left: self.count }
    }
}

/// An address with its type in front. Type 0 is "unknown" and has no bytes.
#[expect(clippy::option_option, reason = "none is an end of bytes, some none an address that is not known")]
pub(super) fn address(wire: &mut Wire<'_>) -> Option<Option<IpAddr>> {
    match wire.u32()? {
        0 => Some(None),
        1 => Some(Some(IpAddr::from(wire.array::<4>()?))),
        2 => Some(Some(IpAddr::from(wire.array::<16>()?))),
        _ => None,
    }
}

/// Whose format, and which: `0:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Format {
    /// Private enterprise number; 0 is sFlow's own.
    pub enterprise: u32,
    /// Number within the enterprise.
    pub format: u32,
}

impl Format {
    const fn of(word: u32) -> Self {
        Self { enterprise: word >> 12, format: word & 0xfff }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.enterprise, self.format)
    }
}

/// What a sample was taken from: `0:3` is ifIndex 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId {
    /// 0 ifIndex, 1 smonVlanDataSource, 2 entPhysicalEntry.
    pub class: u32,
    /// Number within the class.
    pub index: u32,
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.class, self.index)
    }
}

/// Where a packet came in or went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// ifIndex; 0 is not known, 0x3fffffff the device itself.
    Index(u32),
    /// It was dropped, for this reason.
    Dropped(u32),
    /// It went out by so many.
    Multiple(u32),
    /// A way to say it that the specification does not have.
    Other(u32, u32),
}

impl Interface {
    const fn of(word: u32) -> Self {
        Self::expanded(word >> 30, word & 0x3fff_ffff)
    }

    const fn expanded(format: u32, value: u32) -> Self {
        match format {
            0 => Self::Index(value),
            1 => Self::Dropped(value),
            2 => Self::Multiple(value),
            other => Self::Other(other, value),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Dropped(reason) => write!(f, "dropped {reason}"),
            Self::Multiple(count) => write!(f, "multiple {count}"),
            Self::Other(format, value) => write!(f, "format {format} {value}"),
        }
    }
}

/// What kind of sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleKind {
    /// A packet, picked from a stream of packets.
    Flow {
        /// Packets per sampled packet.
        sampling: u32,
        /// Packets that could have been picked.
        pool: u32,
        /// Samples that were lost in the device.
        drops: u32,
        /// Where it came in.
        input: Interface,
        /// Where it goes out.
        output: Interface,
    },
    /// Counters.
    Counters,
    /// A packet that the device dropped (sflow_drops).
    Drop {
        /// Notifications that were lost in the device.
        drops: u32,
        /// ifIndex where it came in.
        input: u32,
        /// ifIndex where it would have gone out.
        output: u32,
        /// Why.
        reason: u32,
    },
}

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Its format.
    pub format: Format,
    /// Counts the samples of its kind from this source.
    pub sequence: u32,
    /// What it was taken from.
    pub source: SourceId,
    /// What kind it is.
    pub kind: SampleKind,
    count: u32,
    records: &'a [u8],
}

impl<'a> Sample<'a> {
    /// The records.
    pub const fn records(&self) -> SampleRecords<'a> {
        SampleRecords { wire: Wire::new(self.records), left: self.count }
    }

    fn read(format: Format, body: &'a [u8]) -> Option<Self> {
        let mut wire = Wire::new(body);
        let expanded = matches!(format.format, 3..=5);
        let sequence = wire.u32()?;
        let class = wire.u32()?;
        let source = if expanded {
            SourceId { class, index: wire.u32()? }
        } else {
            SourceId { class: class >> 24, index: class & 0x00ff_ffff }
        };
        let interface = |wire: &mut Wire<'_>| {
            let word = wire.u32()?;
            Some(if expanded { Interface::expanded(word, wire.u32()?) } else { Interface::of(word) })
        };
        let kind = match format.format {
            1 | 3 => {
                let [sampling, pool, drops] = [wire.u32()?, wire.u32()?, wire.u32()?];
                let [input, output] = [interface(&mut wire)?, interface(&mut wire)?];
                SampleKind::Flow { sampling, pool, drops, input, output }
            }
            5 => {
                let [drops, input, output, reason] = [wire.u32()?, wire.u32()?, wire.u32()?, wire.u32()?];
                SampleKind::Drop { drops, input, output, reason }
            }
            _ => SampleKind::Counters,
        };
        let count = wire.u32()?;
        Some(Self { format, sequence, source, kind, count, records: wire.rest() })
    }
}

/// A part of a datagram: a sample, or one of a format that is not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// A sample.
    Sample(Sample<'a>),
    /// Something else.
    Unknown(Format, &'a [u8]),
}

/// Iterator over the samples of a datagram.
#[derive(Debug, Clone)]
pub struct Samples<'a> {
    wire: Wire<'a>,
    left: u32,
}

impl<'a> Iterator for Samples<'a> {
    type Item = Result<Part<'a>, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let missing = self.left + 1;
        let Some((format, body)) = delimited(&mut self.wire) else {
            self.left = 0;
            return Some(Err(Reject::Samples { missing }));
        };
        if format.enterprise != 0 || !matches!(format.format, 1..=5) {
            return Some(Ok(Part::Unknown(format, body)));
        }
        Some(Sample::read(format, body).map(Part::Sample).ok_or(Reject::SampleShort { format: format.format }))
    }
}

/// Iterator over the records of a sample.
#[derive(Debug, Clone)]
pub struct SampleRecords<'a> {
    wire: Wire<'a>,
    left: u32,
}

impl<'a> Iterator for SampleRecords<'a> {
    type Item = Result<(Format, &'a [u8]), Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let missing = self.left + 1;
        let record = delimited(&mut self.wire);
        if record.is_none() {
            self.left = 0;
        }
        Some(record.ok_or(Reject::SampleRecords { missing }))
    }
}

fn delimited<'a>(wire: &mut Wire<'a>) -> Option<(Format, &'a [u8])> {
    let format = Format::of(wire.u32()?);
    let length = wire.u32()? as usize;
    let body = wire.take(length)?;
    // A length that is no multiple of four was written without its padding.
    let _ = wire.take(length.wrapping_neg() & 3);
    Some((format, body))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn samples(body: &[u32]) -> Vec<u8> {
        words(&[&[5, 1, 0x0a00_0001, 3, 4, 5, 1][..], body].concat())
    }

    #[test]
    fn a_flow_sample_and_its_expanded_form_say_the_same() {
        let plain = samples(&[1, 36, 9, 7, 100, 1000, 0, 0x4000_0002, 0x8000_000a, 0, 0]);
        let expanded = samples(&[3, 44, 9, 0, 7, 100, 1000, 0, 1, 2, 2, 10, 0]);
        for raw in [plain, expanded] {
            let sflow = Sflow::read(&raw).unwrap();
            assert_eq!((sflow.header.domain, sflow.header.sequence), (Some(3), Some(4)));
            let Some(Ok(Part::Sample(sample))) = sflow.samples().next() else { panic!("a sample") };
            assert_eq!((sample.sequence, sample.source), (9, SourceId { class: 0, index: 7 }));
            let SampleKind::Flow { sampling, input, output, .. } = sample.kind else { panic!("a flow") };
            assert_eq!((sampling, input, output), (100, Interface::Dropped(2), Interface::Multiple(10)));
            assert_eq!(output.to_string(), "multiple 10");
        }
    }

    #[test]
    fn counts_that_promise_too_much_end_with_a_fault() {
        let raw = words(&[5, 1, 0, 0, 0, 0, u32::MAX, 2, 12, 1, 2, 0]);
        let all: Vec<_> = Sflow::read(&raw).unwrap().samples().collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1], Err(Reject::Samples { missing: u32::MAX - 1 }));
        let raw = samples(&[2, 12, 1, 2, 3]);
        let Some(Ok(Part::Sample(sample))) = Sflow::read(&raw).unwrap().samples().next() else { panic!("a sample") };
        assert_eq!(sample.records().collect::<Vec<_>>(), [Err(Reject::SampleRecords { missing: 3 })]);
        assert_eq!(
            Sflow::read(&samples(&[2, 4, 1])).unwrap().samples().next(),
            Some(Err(Reject::SampleShort { format: 2 }))
        );
    }

    #[test]
    fn formats_of_others_are_told_apart() {
        let raw = samples(&[(4413 << 12) | 1, 4, 7]);
        let part = Sflow::read(&raw).unwrap().samples().next();
        assert_eq!(part, Some(Ok(Part::Unknown(Format { enterprise: 4413, format: 1 }, &[0, 0, 0, 7]))));
    }
}
