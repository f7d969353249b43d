//! The templates that exporters have sent: learned, changed, withdrawn, expired, evicted.
//!
//! A template is good for one exporter, protocol and observation domain. RFC 7011 (section 8) adds the exporter's
//! port; real exporters change ports, so by default it does not count ([`Exporter::with_port`] is for those that share
//! an address and a domain).
//!
//! Each template is stored by itself, as [`TemplateKey::to_bytes`] and [`Template::definition`], and comes back by
//! [`Templates::restore`].

use super::Reject;
use super::bounded::{Bounded, Limits};
use super::decode::TemplateSource;
use super::sets::{FIRST_DATA_SET, Family, Set, TemplateRecord};
use super::template::{Template, TemplateKind};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Exporter {
    /// Address, IPv4 as IPv4.
    pub addr: IpAddr,
    /// Port, where exporters behind one address are to be told apart; else 0.
    pub port: u16,
}

impl Exporter {
    /// Told by address only. IPv4 within IPv6 counts as IPv4.
    pub const fn new(addr: IpAddr) -> Self {
        Self { addr: addr.to_canonical(), port: 0 }
    }

    /// Told by address and port.
    pub const fn with_port(addr: IpAddr, port: u16) -> Self {
        Self { addr: addr.to_canonical(), port }
    }

    pub(super) fn to_bytes(self) -> [u8; 18] {
        let addr = match self.addr {
            IpAddr::V4(addr) => addr.to_ipv6_mapped(),
            IpAddr::V6(addr) => addr,
        };
        let mut bytes = [0; 18];
        bytes[..16].copy_from_slice(&addr.octets());
        bytes[16..].copy_from_slice(&self.port.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: [u8; 18]) -> Self {
        let [addr @ .., high, low] = bytes;
        Self::with_port(Ipv6Addr::from(addr).into(), u16::from_be_bytes([high, low]))
    }
}

/// Within what a template id means one template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// Who sends.
    pub exporter: Exporter,
    /// In which protocol.
    pub family: Family,
    /// Source id or observation domain.
    pub domain: u32,
}

/// One template's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateKey {
    /// Within what it holds.
    pub scope: Scope,
    /// Template id.
    pub id: u16,
}

impl TemplateKey {
    /// Length of [`TemplateKey::to_bytes`].
    pub const LEN: usize = 25;

    /// Address (16), port (2), protocol's version (1), domain (4), template id (2); big-endian.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..18].copy_from_slice(&self.scope.exporter.to_bytes());
        bytes[18] = match self.scope.family {
            Family::V9 => 9,
            Family::Ipfix => 10,
        };
        bytes[19..23].copy_from_slice(&self.scope.domain.to_be_bytes());
        bytes[23..].copy_from_slice(&self.id.to_be_bytes());
        bytes
    }

    /// The key of these bytes, if they are one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut wire = super::wire::Wire::new(bytes);
        let exporter = Exporter::from_bytes(wire.array()?);
        let family = match wire.u8()? {
            9 => Family::V9,
            10 => Family::Ipfix,
            _ => return None,
        };
        let scope = Scope { exporter, family, domain: wire.u32()? };
        let id = wire.u16()?;
        wire.is_empty().then_some(Self { scope, id })
    }
}

/// A template and when it was sent.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The template.
    pub template: Template,
    /// When it was first sent as it is now.
    pub first_seen: Duration,
    /// When it was last sent.
    pub last_seen: Duration,
    /// Time between its last two sendings.
    pub refresh: Option<Duration>,
}

/// What became of a template.
#[derive(Debug)]
pub enum Event<'a> {
    /// It was not known.
    Learned(&'a TemplateKey, &'a Template),
    /// Its id means something else now. Both definitions are given.
    Changed {
        /// Which.
        key: &'a TemplateKey,
        /// What it was.
        old: &'a Template,
        /// What it is now.
        new: &'a Template,
    },
    /// The exporter took it back.
    Withdrawn(&'a TemplateKey, &'a Template),
    /// It was not sent for longer than the lifetime.
    Expired(&'a TemplateKey, &'a Template),
    /// There was no room.
    Evicted(&'a TemplateKey, &'a Template),
}

/// How often each thing happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// New templates.
    pub learned: u64,
    /// Templates sent again as they were.
    pub refreshed: u64,
    /// Ids that changed their meaning.
    pub changed: u64,
    /// Taken back by exporters.
    pub withdrawn: u64,
    /// Not sent for too long.
    pub expired: u64,
    /// Dropped for want of room.
    pub evicted: u64,
}

/// What is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Room.
    pub limits: Limits,
    /// How long a template is good after it was last sent. Exporters that send theirs once an hour are known; a
    /// template that is gone too early costs data, one that stays too long costs memory.
    pub lifetime: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let limits = Limits { per_exporter: 4_096, total: 65_536, bytes_per_exporter: 8 << 20, bytes: 64 << 20 };
        Self { limits, lifetime: Duration::from_hours(24) }
    }
}

/// The templates of all exporters. All times given to it are of one clock, best one that is never set.
#[derive(Debug, Clone)]
pub struct Templates {
    entries: Bounded<Exporter, TemplateKey, Entry>,
    lifetime: Duration,
    counters: Counters,
}

impl Default for Templates {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Templates {
    /// An empty one.
    pub fn new(config: Config) -> Self {
        Self { entries: Bounded::new(config.limits), lifetime: config.lifetime, counters: Counters::default() }
    }

    /// Other limits and another lifetime from now on. What is too much goes at once, what is too old with the next
    /// [`Templates::expire`].
    pub fn set_config(&mut self, config: Config, mut on: impl FnMut(Event<'_>)) {
        self.lifetime = config.lifetime;
        let counters = &mut self.counters;
        self.entries.set_limits(config.limits, |key, entry| {
            counters.evicted += 1;
            on(Event::Evicted(&key, &entry.template));
        });
    }

    /// Takes the templates of a set. The first that cannot be read ends it; those before it are kept.
    pub fn learn(
        &mut self,
        scope: Scope,
        set: &Set<'_>,
        now: Duration,
        mut on: impl FnMut(Event<'_>),
    ) -> Result<(), Reject> {
        for record in set.templates() {
            let record = record?;
            if record.is_withdrawal() {
                self.withdraw(scope, &record, &mut on);
            } else {
                self.take(scope, &record, now, &mut on)?;
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        scope: Scope,
        record: &TemplateRecord<'_>,
        now: Duration,
        on: &mut impl FnMut(Event<'_>),
    ) -> Result<(), Reject> {
        let key = TemplateKey { scope, id: record.id };
        let lifetime = self.lifetime;
        if let Some(entry) = self.entries.touch(&key)
            && entry.template.is(record)
            && now.saturating_sub(entry.last_seen) <= lifetime
        {
            entry.refresh = Some(now.saturating_sub(entry.last_seen));
            entry.last_seen = now;
            self.counters.refreshed += 1;
            return Ok(());
        }
        self.put(key, Template::of(record)?, now, on);
        Ok(())
    }

    fn put(&mut self, key: TemplateKey, template: Template, now: Duration, on: &mut impl FnMut(Event<'_>)) {
        match self.entries.remove(&key) {
            Some(old) if self.is_expired(&old, now) => {
                self.counters.expired += 1;
                on(Event::Expired(&key, &old.template));
                self.counters.learned += 1;
                on(Event::Learned(&key, &template));
            }
            Some(old) => {
                self.counters.changed += 1;
                on(Event::Changed { key: &key, old: &old.template, new: &template });
            }
            None => {
                self.counters.learned += 1;
                on(Event::Learned(&key, &template));
            }
        }
        let weight = template.weight();
        let entry = Entry { template, first_seen: now, last_seen: now, refresh: None };
        let counters = &mut self.counters;
        self.entries.insert(key.scope.exporter, key, entry, weight, |key, entry| {
            counters.evicted += 1;
            on(Event::Evicted(&key, &entry.template));
        });
    }

    fn withdraw(&mut self, scope: Scope, record: &TemplateRecord<'_>, on: &mut impl FnMut(Event<'_>)) {
        let mut gone = |templates: &mut Self, key: TemplateKey| {
            if let Some(entry) = templates.entries.remove(&key) {
                templates.counters.withdrawn += 1;
                on(Event::Withdrawn(&key, &entry.template));
            }
        };
        if record.id >= FIRST_DATA_SET {
            return gone(self, TemplateKey { scope, id: record.id });
        }
        let kind = if record.id == 2 { TemplateKind::Data } else { TemplateKind::Options };
        let of_kind = |(key, entry): &(&TemplateKey, &Entry)| key.scope == scope && entry.template.kind() == kind;
        let keys: Vec<_> = self.entries.group(&scope.exporter).filter(of_kind).map(|(key, _)| *key).collect();
        for key in keys {
            gone(self, key);
        }
    }

    /// The template of a data set, which now is the one used last.
    pub fn find(&mut self, scope: Scope, id: u16, now: Duration) -> Option<&Template> {
        let lifetime = self.lifetime;
        let entry = self.entries.touch(&TemplateKey { scope, id })?;
        (now.saturating_sub(entry.last_seen) <= lifetime).then_some(&entry.template)
    }

    /// A template and when it was sent, without counting as use.
    pub fn peek(&self, key: &TemplateKey) -> Option<&Entry> {
        self.entries.peek(key)
    }

    /// Drops what was not sent for longer than the lifetime.
    pub fn expire(&mut self, now: Duration, mut on: impl FnMut(Event<'_>)) {
        let expired = |(_, entry): &(&TemplateKey, &Entry)| self.is_expired(entry, now);
        let keys: Vec<_> = self.entries.iter().filter(expired).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(entry) = self.entries.remove(&key) {
                self.counters.expired += 1;
                on(Event::Expired(&key, &entry.template));
            }
        }
    }

    fn is_expired(&self, entry: &Entry, now: Duration) -> bool {
        now.saturating_sub(entry.last_seen) > self.lifetime
    }

    /// Takes back a template that was stored as key and definition.
    pub fn restore(&mut self, key: TemplateKey, definition: &[u8], now: Duration) -> Result<(), Reject> {
        let known = self.entries.touch(&key);
        if known.is_some_and(|entry| entry.template.definition() == definition) {
            return Ok(());
        }
        let template = Template::compile(definition)?;
        if template.id() != key.id || template.family() != key.scope.family {
            return Err(Reject::Template { id: key.id });
        }
        self.put(key, template, now, &mut |_| {});
        Ok(())
    }

    /// All templates, in no order: to be stored, or shown.
    pub fn iter(&self) -> impl Iterator<Item = (&TemplateKey, &Entry)> {
        self.entries.iter()
    }

    /// One exporter's templates, the one used last first.
    pub fn all_of<'a>(&'a self, exporter: &'a Exporter) -> impl Iterator<Item = (&'a TemplateKey, &'a Entry)> {
        self.entries.group(exporter)
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// True where there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one that would go first, were there no room.
    pub fn least_used(&self) -> Option<&TemplateKey> {
        self.entries.oldest().map(|(key, _)| key)
    }

    /// What happened so far.
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// One exporter's templates, for [`super::decode::walk`].
    pub const fn of(&self, exporter: Exporter) -> ExporterTemplates<'_> {
        ExporterTemplates { templates: self, exporter }
    }
}

/// One exporter's templates.
#[derive(Debug, Clone, Copy)]
pub struct ExporterTemplates<'t> {
    templates: &'t Templates,
    exporter: Exporter,
}

impl TemplateSource for ExporterTemplates<'_> {
    fn template(&self, family: Family, domain: u32, id: u16) -> Option<&Template> {
        let scope = Scope { exporter: self.exporter, family, domain };
        self.templates.peek(&TemplateKey { scope, id }).map(|entry| &entry.template)
    }
}

#[cfg(test)]
#[path = "templates_tests.rs"]
mod tests;
