//! The exporters that send, bounded: one [`Source`] per address, version and domain.
//!
//! When there is no room the first one goes that sent nothing since it was last looked at (second chance): constant
//! time, and a flood of forged addresses, each used once, drives out real exporters only as far as they are silent.

use super::audit::Audit;
use super::inbox::Reason;
use raven_decode::flow::scan::{Header, Version};
use raven_decode::flow::sflow::SourceId;
use raven_decode::flow::templates::{Exporter, Scope};
use raven_decode::flow::{scan::Scan, sets::Family};
use raven_model::units::UnixNanos;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Most exporters.
pub const SOURCES: usize = 4096;
/// Most interfaces and the like whose samples are counted, of one sFlow agent and of all.
const SAMPLED: usize = 2048;
const SAMPLED_IN_ALL: usize = 32_768;
/// Places of exporters found lately.
const LATELY: usize = 512;

/// Which exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceKey {
    /// Who sends.
    pub exporter: Exporter,
    /// In which version.
    pub version: Version,
    /// Source id, observation domain, engine or sub-agent.
    pub domain: u32,
    /// The agent that an sFlow datagram names.
    pub agent: Option<IpAddr>,
}

impl SourceKey {
    /// Whose datagram it is.
    pub fn new(exporter: Exporter, header: &Header) -> Self {
        Self { exporter, version: header.version, domain: header.domain.unwrap_or_default(), agent: header.agent }
    }

    /// Whose template it is.
    pub const fn of(scope: &Scope) -> Self {
        let version = match scope.family {
            Family::V9 => Version::V9,
            Family::Ipfix => Version::Ipfix,
        };
        Self { exporter: scope.exporter, version, domain: scope.domain, agent: None }
    }

    /// A number below [`LATELY`], quickly. Exporters that share one cost each other a proper look-up.
    fn lately(&self) -> usize {
        let addr = match self.exporter.addr {
            IpAddr::V4(addr) => addr.to_bits(),
            IpAddr::V6(addr) => addr.to_bits() as u32,
        };
        let mixed = addr ^ self.domain.rotate_left(16) ^ u32::from(self.exporter.port);
        (mixed.wrapping_mul(0x9e37_79b1) >> 23) as usize
    }
}

/// A template of a domain, as far as it was used in the batch under way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark {
    /// Template id.
    pub id: u16,
    /// It is of options records.
    pub options: bool,
    /// Its records have lists of records of other templates.
    pub nested: bool,
    /// Bytes of a record; 0 where the records say.
    pub size: u16,
    /// Batch that it was last added to.
    pub batch: u64,
    /// Datagram that last had records of it.
    pub used: u64,
    /// Its new meaning goes out behind this datagram, which has records of the old one.
    pub owed: bool,
}

/// What counts its samples by itself: an interface, and which kind of samples.
type Sampled = (SourceId, u8);

/// What is known of an exporter besides its templates.
#[derive(Debug)]
pub struct Source {
    /// Which.
    pub key: SourceKey,
    /// It sent since it was last looked at, and not for the first time.
    recent: bool,
    /// Datagrams, and those at the last report.
    pub datagrams: u64,
    pub reported: u64,
    /// Flow records or samples.
    pub records: u64,
    /// Data sets without a template.
    pub undescribed: u64,
    /// The datagrams' or records' count.
    pub audit: Audit,
    /// The samples' counts.
    samples: HashMap<Sampled, Audit>,
    /// What samples' counts say is missing.
    pub samples_lost: u64,
    /// By id.
    marks: Vec<Mark>,
    /// Batch that its sampling rates were last added to.
    pub rates_in: u64,
    /// Batch that all its templates were last added to, for lists of records.
    pub nested_in: u64,
    /// Time since its start, as it last said.
    pub uptime_ms: Option<u32>,
    /// When it last sent, by the wall clock, and its clock minus ours.
    pub seen: UnixNanos,
    pub skew_ms: Option<i64>,
    /// Rate in the record and sampler of a flow looked at lately, rate in the header or the sample.
    pub record_rate: Option<u64>,
    pub sampler: Option<u64>,
    pub header_rate: Option<u64>,
    /// When a flow was last looked at for that, in seconds plus one.
    pub looked: u64,
    /// The template that its data wait for, and since when.
    pub missing: Option<(u16, Duration)>,
    /// What could not be read, by reason.
    pub faults: [u32; Reason::COUNT],
}

impl Source {
    fn new(key: SourceKey) -> Self {
        Self {
            key,
            recent: false,
            datagrams: 0,
            reported: 0,
            records: 0,
            undescribed: 0,
            audit: Audit::default(),
            samples: HashMap::new(),
            samples_lost: 0,
            marks: Vec::new(),
            rates_in: 0,
            nested_in: 0,
            uptime_ms: None,
            seen: UnixNanos(0),
            skew_ms: None,
            record_rate: None,
            sampler: None,
            header_rate: None,
            looked: 0,
            missing: None,
            faults: [0; Reason::COUNT],
        }
    }

    /// A datagram came.
    pub fn came(&mut self, wall: UnixNanos) {
        self.recent = self.datagrams > 0;
        self.datagrams += 1;
        self.seen = wall;
    }

    /// The mark of a template.
    #[inline]
    pub fn mark(&mut self, id: u16) -> Option<&mut Mark> {
        let at = self.marks.binary_search_by_key(&id, |mark| mark.id).ok()?;
        self.marks.get_mut(at)
    }

    /// The mark of a template, made where there is none.
    pub fn make_mark(&mut self, id: u16) -> &mut Mark {
        let at = self.marks.binary_search_by_key(&id, |mark| mark.id).unwrap_or_else(|at| {
            self.marks.insert(at, Mark { id, ..Mark::default() });
            at
        });
        &mut self.marks[at]
    }

    /// Forgets the mark of a template.
    pub fn unmark(&mut self, id: u16) {
        if let Ok(at) = self.marks.binary_search_by_key(&id, |mark| mark.id) {
            self.marks.remove(at);
        }
    }

    /// Follows the count of the samples of one interface.
    pub fn sample(&mut self, source: SourceId, kind: u8, sequence: u32, sampled_in_all: &mut usize) {
        let full = self.samples.len() >= SAMPLED || *sampled_in_all >= SAMPLED_IN_ALL;
        let audit = match self.samples.get_mut(&(source, kind)) {
            Some(audit) => audit,
            None if full => return,
            None => {
                *sampled_in_all += 1;
                self.samples.entry((source, kind)).or_default()
            }
        };
        let before = audit.lost;
        audit.arrived(sequence, Some(1), super::audit::ONE_BY_ONE);
        self.samples_lost = (self.samples_lost + audit.lost).saturating_sub(before);
    }

    /// The exporter has started again: so have its samples' counts.
    pub fn restarted(&mut self, sampled_in_all: &mut usize) {
        self.audit.restarted();
        *sampled_in_all -= self.samples.len();
        self.samples.clear();
    }

    /// Lost by the exporter's own count, and of what.
    pub fn lost(&self) -> (u64, &'static str) {
        match self.key.version {
            Version::V1 | Version::V5 | Version::V7 | Version::Ipfix => (self.audit.lost, "records"),
            Version::V9 => (self.audit.lost, "packets"),
            Version::Sflow5 => (self.samples_lost, "samples"),
        }
    }
}

/// All of them.
#[derive(Debug)]
pub struct Sources {
    places: HashMap<SourceKey, u32>,
    all: Vec<Source>,
    lately: Box<[u32; LATELY]>,
    hand: usize,
    /// Samplers of all sFlow agents.
    pub sampled: usize,
    /// Forgotten for want of room.
    pub evicted: u64,
}

impl Default for Sources {
    fn default() -> Self {
        let (places, all) = (HashMap::new(), Vec::new());
        Self { places, all, lately: Box::new([0; LATELY]), hand: 0, sampled: 0, evicted: 0 }
    }
}

impl Sources {
    /// The place of an exporter, which is made where there is none.
    #[inline]
    pub fn place(&mut self, key: &SourceKey) -> usize {
        let lately = key.lately();
        let place = self.lately[lately] as usize;
        if self.all.get(place).is_some_and(|source| source.key == *key) {
            return place;
        }
        let place = match self.places.get(key) {
            Some(&place) => place as usize,
            None => self.make(*key),
        };
        self.lately[lately] = place as u32;
        place
    }

    fn make(&mut self, key: SourceKey) -> usize {
        let place = if self.all.len() < SOURCES {
            self.all.push(Source::new(key));
            self.all.len() - 1
        } else {
            let place = self.unused();
            let old = std::mem::replace(&mut self.all[place], Source::new(key));
            self.places.remove(&old.key);
            self.sampled -= old.samples.len();
            self.evicted += 1;
            place
        };
        self.places.insert(key, place as u32);
        place
    }

    fn unused(&mut self) -> usize {
        loop {
            self.hand = (self.hand + 1) % self.all.len();
            if !std::mem::take(&mut self.all[self.hand].recent) {
                return self.hand;
            }
        }
    }

    /// An exporter by its place.
    #[inline]
    pub fn at(&mut self, place: usize) -> (&mut Source, &mut usize) {
        (&mut self.all[place], &mut self.sampled)
    }

    /// An exporter, if it is known.
    pub fn find(&mut self, key: &SourceKey) -> Option<&mut Source> {
        self.all.get_mut(*self.places.get(key)? as usize)
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        self.all.iter_mut()
    }
}

/// Flow records that a datagram of fixed records has.
pub const fn fixed_records(scan: &Scan<'_>) -> u32 {
    match scan.header().count {
        Some(count) => count,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn key(n: u32) -> SourceKey {
        let exporter = Exporter::new(IpAddr::V4(Ipv4Addr::from(n)));
        SourceKey { exporter, version: Version::V9, domain: 0, agent: None }
    }

    #[test]
    fn who_sends_on_outlives_a_flood_of_others() {
        let mut sources = Sources::default();
        for n in 0..100_000 {
            let place = sources.place(&key(1));
            sources.at(place).0.came(UnixNanos(0));
            sources.place(&key(n + 2));
        }
        assert_eq!(sources.all.len(), SOURCES);
        assert_eq!(sources.find(&key(1)).map(|source| source.datagrams), Some(100_000));
        assert_eq!(sources.evicted, 100_001 - SOURCES as u64);
        assert_eq!(sources.places.len(), SOURCES);
    }

    #[test]
    fn marks_are_found_by_id() {
        let mut source = Source::new(key(1));
        for id in [300, 256, 270, 256] {
            source.make_mark(id).batch = id.into();
        }
        source.unmark(270);
        assert_eq!(source.marks.len(), 2);
        assert_eq!(source.mark(256).map(|mark| mark.batch), Some(256));
        assert!(source.mark(270).is_none());
    }
}
