//! How exporters sample, learned from their options records (RFC 5476 and 5477, NetFlow v9 types 34, 48 to 50).
//!
//! The rate is packets per sampled packet. It is told beside the counters and where it came from; no counter is
//! multiplied by it.

use super::bounded::{Bounded, Limits};
use super::decode::{Item, TemplateSource, walk};
use super::elements::Type;
use super::scan::{Header, Scan};
use super::template::{Record, TemplateKind};
use super::templates::Exporter;
use super::value::Value;
use std::fmt;

/// Which sampler. `id` is none where options say one rate for the whole domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SamplerKey {
    /// Who sends.
    pub exporter: Exporter,
    /// Source id or observation domain.
    pub domain: u32,
    /// samplerId (48) or selectorId (302).
    pub id: Option<u64>,
}

impl SamplerKey {
    /// Length of [`SamplerKey::to_bytes`].
    pub const LEN: usize = 31;

    /// Address (16), port (2), domain (4), whether there is an id (1), id (8); big-endian.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..18].copy_from_slice(&self.exporter.to_bytes());
        bytes[18..22].copy_from_slice(&self.domain.to_be_bytes());
        bytes[22] = self.id.is_some().into();
        bytes[23..].copy_from_slice(&self.id.unwrap_or_default().to_be_bytes());
        bytes
    }

    /// The key of these bytes, if they are one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut wire = super::wire::Wire::new(bytes);
        let exporter = Exporter::from_bytes(wire.array()?);
        let domain = wire.u32()?;
        let has_id = wire.u8()?;
        let id = wire.u64()?;
        (wire.is_empty() && has_id <= 1).then_some(Self { exporter, domain, id: (has_id == 1).then_some(id) })
    }
}

/// Where a rate came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplingSource {
    /// The flow record itself.
    Record,
    /// An options record of the exporter.
    Options,
    /// The header of NetFlow v5 or of the sFlow sample.
    Header,
    /// The operator.
    Configured,
    /// Nobody said.
    Unknown,
}

impl SamplingSource {
    /// As it is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Options => "options",
            Self::Header => "header",
            Self::Configured => "configured",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for SamplingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known of all samplers.
#[derive(Debug, Clone)]
pub struct Sampling {
    rates: Bounded<Exporter, SamplerKey, u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self::new(Limits { per_exporter: 1_024, total: 65_536, bytes_per_exporter: usize::MAX, bytes: usize::MAX })
    }
}

impl Sampling {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        Self { rates: Bounded::new(limits) }
    }

    /// Takes the rates from a datagram's options records, whose templates are in `templates` or in the datagram.
    /// True where a rate is new or another than before.
    pub fn learn(&mut self, exporter: Exporter, scan: &Scan<'_>, templates: &dyn TemplateSource) -> bool {
        let Scan::Sets(message) = scan else { return false };
        let mut changed = false;
        walk(scan, templates, &mut |item| {
            if let Item::Set { template, body, .. } = item
                && template.kind() == TemplateKind::Options
            {
                for record in template.records(body) {
                    changed |= self.learn_record(exporter, message.domain, &record);
                }
            }
        });
        changed
    }

    /// Takes the rate of one options record, if it gives one.
    pub fn learn_record(&mut self, exporter: Exporter, domain: u32, record: &Record<'_, '_>) -> bool {
        let said = Said::of(record);
        let Some(rate) = said.rate() else { return false };
        self.restore(SamplerKey { exporter, domain, id: said.sampler }, rate)
    }

    /// Sets a rate, as [`Sampling::iter`] gave it. True where it is new or another than before.
    pub fn restore(&mut self, key: SamplerKey, rate: u64) -> bool {
        if self.rates.touch(&key).is_some_and(|known| *known == rate) {
            return false;
        }
        self.rates.insert(key.exporter, key, rate, 1, |_, _| {});
        true
    }

    /// All rates, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&SamplerKey, u64)> {
        self.rates.iter().map(|(key, rate)| (key, *rate))
    }

    /// The rates of one exporter, those learned last first.
    pub fn of<'a>(&'a self, exporter: &'a Exporter) -> impl Iterator<Item = (&'a SamplerKey, u64)> {
        self.rates.group(exporter).map(|(key, rate)| (key, *rate))
    }

    /// The rate of one sampler.
    pub fn get(&self, key: &SamplerKey) -> Option<u64> {
        self.rates.peek(key).copied()
    }

    /// The rate of a flow: of its sampler, else of its domain. Some devices send the options in another domain than
    /// the flows; what all of the exporter's other domains agree on counts then.
    pub fn rate(&self, exporter: Exporter, domain: u32, sampler: Option<u64>) -> Option<u64> {
        let of = |id| self.rates.peek(&SamplerKey { exporter, domain, id }).copied();
        sampler.and_then(|id| of(Some(id))).or_else(|| of(None)).or_else(|| self.elsewhere(exporter, sampler))
    }

    fn elsewhere(&self, exporter: Exporter, sampler: Option<u64>) -> Option<u64> {
        // Of the samplers learned last: this is asked for each flow.
        let mut rates =
            self.rates.group(&exporter).take(64).filter(|(key, _)| key.id == sampler).map(|(_, rate)| *rate);
        let first = rates.next()?;
        rates.all(|rate| rate == first).then_some(first)
    }
}

/// What an options record says about sampling.
#[derive(Debug, Default)]
pub(super) struct Said {
    sampler: Option<u64>,
    interval: Option<u64>,
    packets: Option<u64>,
    space: Option<u64>,
    size: Option<u64>,
    population: Option<u64>,
    probability: Option<f64>,
}

impl Said {
    pub(super) fn of(record: &Record<'_, '_>) -> Self {
        let mut said = Self::default();
        for field in record.fields().filter(|field| field.spec.name.enterprise == 0) {
            let place = match field.spec.name.id {
                _ if field.spec.kind == Type::Octets => continue,
                48 | 302 => &mut said.sampler,
                34 | 50 => &mut said.interval,
                305 => &mut said.packets,
                306 => &mut said.space,
                309 => &mut said.size,
                310 => &mut said.population,
                311 => {
                    if let Value::Float(probability) = field.value() {
                        said.probability = Some(probability);
                    }
                    continue;
                }
                _ => continue,
            };
            if !(field.spec.scope && field.spec.name.element.is_some_and(|element| element.name.starts_with("scope"))) {
                *place = place.filter(|old| *old != 0).or(field.value().as_unsigned());
            }
        }
        said
    }

    /// Packets per sampled packet, rounded: interval; n of N; n, then a pause; probability.
    pub(super) fn rate(&self) -> Option<u64> {
        let of_population = self.size.zip(self.population).filter(|(size, _)| *size > 0);
        let of_space = self.packets.zip(self.space).filter(|(packets, _)| *packets > 0);
        let of_space = of_space.map(|(packets, space)| (space.saturating_add(packets) + packets / 2) / packets);
        let of_probability = self.probability.filter(|p| *p > 0.0 && *p <= 1.0).map(|p| (1.0 / p).round() as u64);
        self.interval
            .or_else(|| of_population.map(|(size, population)| population.saturating_add(size / 2) / size))
            .or(of_space)
            .or(of_probability)
            .filter(|rate| *rate > 0)
    }
}

/// What a flow's rate is, and who says so: the record, else the exporter's options, else the header, else the operator.
pub(super) fn of_flow(record: Option<u64>, options: Option<u64>, header: &Header, configured: Option<u64>) -> Rate {
    let sources = [
        (record, SamplingSource::Record),
        (options, SamplingSource::Options),
        (header.sampling.map(u64::from), SamplingSource::Header),
        (configured, SamplingSource::Configured),
    ];
    let known =
        sources.into_iter().find_map(|(rate, source)| Some(Rate { rate: Some(rate.filter(|n| *n > 0)?), source }));
    // A zero that was sent is shown as such: it says that the exporter does not tell.
    let zero = record.or(header.sampling.map(u64::from));
    known.unwrap_or(Rate { rate: zero, source: SamplingSource::Unknown })
}

/// A rate and its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Packets per sampled packet.
    pub rate: Option<u64>,
    /// Who says so.
    pub source: SamplingSource,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::template::Template;
    use super::*;
    use std::net::IpAddr;

    fn exporter() -> Exporter {
        Exporter::new(IpAddr::from([192, 0, 2, 1]))
    }

    /// An options record of IPFIX with these elements and values of four bytes.
    fn learned(elements: &[(u16, u32)]) -> Option<u64> {
        let count = elements.len() as u16;
        let fields: Vec<u8> = elements.iter().flat_map(|(id, _)| [*id, 4].map(u16::to_be_bytes).concat()).collect();
        let head = [3, 10 + 4 * count, 256, count, 1].map(u16::to_be_bytes).concat();
        let template = Template::compile(&[head, fields].concat()).unwrap();
        let body: Vec<u8> = elements.iter().flat_map(|(_, value)| value.to_be_bytes()).collect();
        let mut sampling = Sampling::default();
        for record in template.records(&body) {
            sampling.learn_record(exporter(), 1, &record);
        }
        sampling.rate(exporter(), 1, Some(7))
    }

    #[test]
    fn every_way_to_say_a_rate_is_understood() {
        assert_eq!(learned(&[(48, 7), (50, 100)]), Some(100));
        assert_eq!(learned(&[(144, 1), (34, 1000)]), Some(1000));
        assert_eq!(learned(&[(302, 7), (305, 1), (306, 99)]), Some(100));
        assert_eq!(learned(&[(302, 7), (309, 1), (310, 256)]), Some(256));
        assert_eq!(learned(&[(302, 7), (311, 0.001_f32.to_bits())]), Some(1000));
        assert_eq!(learned(&[(302, 8), (305, 1), (306, 99)]), None, "another sampler");
        assert_eq!(learned(&[(302, 7), (311, f32::NAN.to_bits())]), None);
        assert_eq!(learned(&[(302, 7), (309, 0), (310, 5)]), None);
    }

    #[test]
    fn a_rate_of_another_domain_counts_where_all_agree() {
        let mut sampling = Sampling::default();
        let key = |domain| SamplerKey { exporter: exporter(), domain, id: Some(1) };
        assert!(sampling.restore(key(5), 1000));
        assert!(!sampling.restore(key(5), 1000));
        assert_eq!(sampling.rate(exporter(), 9, Some(1)), Some(1000));
        sampling.restore(key(6), 2000);
        assert_eq!(sampling.rate(exporter(), 9, Some(1)), None);
        assert_eq!(sampling.rate(exporter(), 6, Some(1)), Some(2000));
    }

    #[test]
    fn keys_come_back() {
        for id in [None, Some(0), Some(u64::MAX)] {
            let key = SamplerKey { exporter: exporter(), domain: 77, id };
            assert_eq!(SamplerKey::from_bytes(&key.to_bytes()), Some(key));
        }
        assert_eq!(SamplerKey::from_bytes(&[2; SamplerKey::LEN]), None);
    }
}
