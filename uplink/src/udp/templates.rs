//! Templates of NetFlow v9 and IPFIX for collectors that get datagrams only: each goes ahead of the first data that
//! needs it, and again after [`AGAIN`]. Pure.
//!
//! Blocks carry as context what their records need (`docs/formats.md`): a template's address among exporters, and its
//! definition as a set on the wire. A collector sees one exporter, us: two exporters that use one domain and template id
//! mean different templates by it, so what counts is what the collector was told last. Only the headers of sets are
//! looked at here; any bytes are fine.

use raven_model::record::Context;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;

/// A collector that was started anew has all templates after so long.
pub const AGAIN: Duration = Duration::from_mins(1);

/// Templates kept for records to come, at most; what a block needs, it brings again.
const KNOWN_MAX: usize = 4096;

/// What a collector was told, at most. Beyond that it is told again.
const TOLD_MAX: usize = 65_536;

/// Ids of sets from here on are of data (RFC 3954, 5.3; RFC 7011, 3.3.2).
const FIRST_DATA_SET: u16 = 256;

/// Length of a template's address: exporter (16, IPv4 as IPv4 in IPv6), port (2), version (1), domain (4), id (2).
const KEY_LEN: usize = 25;

/// As a collector tells templates apart: version, domain, id.
type Slot = (u8, u32, u16);

/// The templates of one lane: what its blocks said last.
#[derive(Debug, Default)]
pub struct Templates {
    known: BTreeMap<[u8; KEY_LEN], Vec<u8>>,
}

/// What a collector has been told, by both lanes.
#[derive(Debug, Default)]
pub struct Told(BTreeMap<Slot, (u64, Instant)>);

impl Templates {
    /// Takes a context of the stream; those that are no templates are nothing to us.
    pub fn note(&mut self, context: &Context<'_>) {
        let Some(key) = context.key.strip_prefix(b"t").and_then(|key| <[u8; KEY_LEN]>::try_from(key).ok()) else {
            return;
        };
        if context.value.is_empty() {
            self.known.remove(&key);
        } else if self.known.get(&key).is_none_or(|definition| definition != context.value) {
            if self.known.len() >= KNOWN_MAX {
                self.known.clear();
            }
            self.known.insert(key, context.value.to_vec());
        }
    }

    /// Hands to `send` the datagrams that a collector needs before `raw`. Ends at its first error; what was sent until
    /// then counts as told.
    pub fn before<E>(
        &self,
        told: &mut Told,
        raw: &[u8],
        source: SocketAddr,
        now: Instant,
        mut send: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(message) = Message::read(raw) else { return Ok(()) };
        for id in message.sets().map(|(id, _)| id).filter(|id| *id >= FIRST_DATA_SET) {
            let Some(definition) = self.find(&message, source, id) else { continue };
            let (slot, print) = ((message.version, message.domain, id), print(definition));
            if told.0.get(&slot).is_some_and(|(told, at)| *told == print && now.duration_since(*at) < AGAIN) {
                continue;
            }
            send(&message.carry(definition))?;
            if told.0.len() >= TOLD_MAX {
                told.0.clear();
            }
            told.0.insert(slot, (print, now));
        }
        Ok(())
    }

    /// The template of one exporter; exporters behind one address can be told apart by their ports.
    fn find(&self, message: &Message<'_>, source: SocketAddr, id: u16) -> Option<&[u8]> {
        let mut key = [0; KEY_LEN];
        let address = match source.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        key[..16].copy_from_slice(&address.octets());
        key[18] = message.version;
        key[19..23].copy_from_slice(&message.domain.to_be_bytes());
        key[23..].copy_from_slice(&id.to_be_bytes());
        let by_address = self.known.get(&key);
        key[16..18].copy_from_slice(&source.port().to_be_bytes());
        by_address.or_else(|| self.known.get(&key)).map(Vec::as_slice)
    }
}

impl Told {
    /// `raw` went out: where it brings templates itself, what was told of its domain may be void.
    pub fn passed(&mut self, raw: &[u8]) {
        let Some(message) = Message::read(raw) else { return };
        if message.sets().any(|(id, _)| id < FIRST_DATA_SET) {
            let (version, domain) = (message.version, message.domain);
            self.0.retain(|(v, d, _), _| (*v, *d) != (version, domain));
        }
    }

    /// The collector is another, or was started anew.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

fn print(definition: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    definition.hash(&mut hasher);
    hasher.finish()
}

/// A datagram of NetFlow v9 or IPFIX.
struct Message<'a> {
    version: u8,
    domain: u32,
    head: &'a [u8],
    sets: &'a [u8],
}

impl<'a> Message<'a> {
    /// `None` for other protocols.
    fn read(raw: &'a [u8]) -> Option<Self> {
        let (version, head_len) = match raw {
            [0, 9, ..] => (9, 20),
            [0, 10, ..] => (10, 16),
            _ => return None,
        };
        let (head, sets) = raw.split_at_checked(head_len)?;
        let domain = u32::from_be_bytes(*head.last_chunk()?);
        Some(Self { version, domain, head, sets })
    }

    /// Id and content of each set, up to the first that does not read.
    fn sets(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut rest = self.sets;
        std::iter::from_fn(move || {
            let [a, b, c, d, ..] = *rest else { return None };
            let (set, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([c, d])).max(4))?;
            rest = after;
            Some((u16::from_be_bytes([a, b]), &set[4..]))
        })
    }

    /// A datagram with this header, and one set, padded to four bytes, in the place of its own. IPFIX's sequence counts
    /// records of data, so it stays right; v9's counts datagrams, so a collector may count it as repeated.
    fn carry(&self, set: &[u8]) -> Vec<u8> {
        let len = set.len().next_multiple_of(4);
        let mut datagram = self.head.to_vec();
        let counts = if self.version == 9 { 1 } else { (self.head.len() + len) as u16 };
        datagram[2..4].copy_from_slice(&counts.to_be_bytes());
        datagram.extend_from_slice(set);
        datagram.resize(self.head.len() + len, 0);
        if let Some(length) = datagram.get_mut(self.head.len() + 2..self.head.len() + 4) {
            length.copy_from_slice(&(len as u16).to_be_bytes());
        }
        datagram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Set 2 (IPFIX) with template 256 of one field: its length says which it is.
    fn definition(field_len: u8) -> Vec<u8> {
        vec![0, 2, 0, 12, 1, 0, 0, 1, 0, 8, 0, field_len]
    }

    fn key(exporter: &str, port: u16, domain: u8) -> Vec<u8> {
        let IpAddr::V4(address) = exporter.parse().expect("valid") else { panic!("IPv4") };
        let mut key = b"t".to_vec();
        key.extend_from_slice(&address.to_ipv6_mapped().octets());
        key.extend_from_slice(&port.to_be_bytes());
        key.extend_from_slice(&[10, 0, 0, 0, domain, 1, 0]);
        key
    }

    /// IPFIX, sequence 7, with one set.
    fn message(domain: u8, set: &[u8]) -> Vec<u8> {
        let len = 16 + set.len() as u8;
        [&[0, 10, 0, len, 1, 2, 3, 4, 0, 0, 0, 7, 0, 0, 0, domain][..], set].concat()
    }

    const DATA: [u8; 8] = [1, 0, 0, 8, 192, 0, 2, 1];

    fn told(templates: &Templates, told: &mut Told, raw: &[u8], exporter: &str, now: Instant) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let source = exporter.parse().expect("valid");
        let send = |datagram: &[u8]| {
            sent.push(datagram.to_vec());
            Ok::<_, ()>(())
        };
        templates.before(told, raw, source, now, send).expect("sent");
        told.passed(raw);
        sent
    }

    #[test]
    fn a_template_goes_before_its_data_once_and_again_after_a_minute() {
        let (mut templates, mut said, now) = (Templates::default(), Told::default(), Instant::now());
        templates.note(&Context { key: &key("192.0.2.1", 0, 5), value: &definition(4) });
        let mut look = |now| told(&templates, &mut said, &message(5, &DATA), "192.0.2.1:2055", now);
        assert_eq!(look(now), [message(5, &definition(4))]);
        assert_eq!(look(now), [[0_u8; 0]; 0]);
        assert_eq!(look(now + AGAIN).len(), 1);
    }

    #[test]
    fn exporters_that_mean_different_things_by_one_id_are_told_apart() {
        let (mut templates, mut said, now) = (Templates::default(), Told::default(), Instant::now());
        templates.note(&Context { key: &key("192.0.2.1", 0, 5), value: &definition(4) });
        templates.note(&Context { key: &key("192.0.2.2", 0, 5), value: &definition(8) });
        templates.note(&Context { key: &key("192.0.2.3", 2055, 5), value: &definition(8) });
        let mut look = |exporter| told(&templates, &mut said, &message(5, &DATA), exporter, now);
        assert_eq!(look("192.0.2.1:2055"), [message(5, &definition(4))]);
        assert_eq!(look("192.0.2.2:2055"), [message(5, &definition(8))]);
        assert_eq!(look("192.0.2.3:2055"), [[0_u8; 0]; 0], "the same as the last");
        assert_eq!(look("192.0.2.1:2055"), [message(5, &definition(4))]);
        assert_eq!(look("192.0.2.4:2055"), [[0_u8; 0]; 0], "nobody knows its template");
    }

    #[test]
    fn what_an_exporter_says_itself_makes_void_what_was_told_of_its_domain() {
        let (mut templates, mut said, now) = (Templates::default(), Told::default(), Instant::now());
        templates.note(&Context { key: &key("192.0.2.1", 0, 5), value: &definition(4) });
        let mut look = |raw: &[u8]| told(&templates, &mut said, raw, "192.0.2.1:2055", now).len();
        assert_eq!(look(&message(5, &DATA)), 1);
        assert_eq!(look(&message(6, &definition(8))), 0);
        assert_eq!(look(&message(5, &DATA)), 0, "of another domain");
        assert_eq!(look(&message(5, &definition(8))), 0);
        assert_eq!(look(&message(5, &DATA)), 1);
    }

    #[test]
    fn a_withdrawn_template_is_not_sent_and_one_of_v9_is_padded() {
        let (mut templates, mut said, now) = (Templates::default(), Told::default(), Instant::now());
        let mut v9 = key("192.0.2.1", 0, 5);
        v9[19] = 9;
        let set = [0, 1, 0, 14, 1, 0, 0, 4, 0, 0, 0, 1, 0, 4];
        templates.note(&Context { key: &v9, value: &set });
        let head = [0, 9, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 5];
        let raw = [&head[..], &DATA].concat();
        let sent = told(&templates, &mut said, &raw, "192.0.2.1:1", now);
        let padded = [0, 1, 0, 16, 1, 0, 0, 4, 0, 0, 0, 1, 0, 4, 0, 0];
        assert_eq!(sent, [[&[0, 9, 0, 1], &head[4..], &padded].concat()]);
        said.clear();
        templates.note(&Context { key: &v9, value: &[] });
        assert_eq!(told(&templates, &mut said, &raw, "192.0.2.1:1", now), [[0_u8; 0]; 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_a_panic(
            mut raw in prop::collection::vec(any::<u8>(), 0..80),
            definition in prop::collection::vec(any::<u8>(), 0..20),
            version in 9_u8..11,
        ) {
            if let [a, b, ..] = &mut raw[..] {
                (*a, *b) = (0, version);
            }
            let (mut templates, mut said) = (Templates::default(), Told::default());
            let domain = raw.get(if version == 9 { 19 } else { 15 }).copied().unwrap_or_default();
            let mut key = key("192.0.2.1", 0, domain);
            key[19] = version;
            templates.note(&Context { key: &key, value: &definition });
            told(&templates, &mut said, &raw, "192.0.2.1:1", Instant::now());
        }
    }
}
