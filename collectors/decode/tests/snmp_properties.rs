//! Whatever arrives as SNMP: no panic, nothing accepted that was not sent, no more memory than a datagram needs.

#![allow(clippy::unwrap_used)]

#[path = "support/snmp.rs"]
mod snmp;
mod support;

use proptest::prelude::*;
use raven_decode::snmp::{
    Access, AuthProtocol, Communities, Engine, Engines, Manager, Message, Names, Origin, Outcome, Own, Pdu, Reading,
    Refused, Seconds, Secret, User, Users, answer, as_bytes, as_it_came, check, decode,
};
use std::path::Path;
use std::time::{Duration, Instant};

const NOW: Seconds = Seconds(10_000);

/// Everything that the collector and a view do with a datagram; whether it was accepted.
fn look(raw: &[u8], access: &mut Access, names: &Names) -> bool {
    let (is_accepted, reply) = match check(raw, access, NOW) {
        Outcome::Accepted(_) => (true, None),
        Outcome::Refused { reason, reply } => {
            assert!(reason.to_string().len() < 400 && !reason.to_string().contains('\n'), "{reason}");
            (false, reply)
        }
    };
    if let Some(reply) = reply {
        assert!(reply.len() < 300, "a Report of {} bytes to {}", reply.len(), raw.len());
        assert!(Message::read(&reply).is_ok());
    }
    let Reading { trap, reject } = decode(raw, &mut access.users, names);
    assert!(!is_accepted || (trap.is_some() && reject.is_none()), "what is accepted also decodes: {reject:?}");
    assert!(trap.is_some() || reject.is_some());
    if let Some(trap) = &trap {
        let json = serde_json::to_string(trap).unwrap();
        // Each byte of an OID may read as three digits and a dot, twice with its name.
        assert!(json.len() < 4096 + raw.len() * 64, "{} bytes of JSON from {}", json.len(), raw.len());
    }
    if is_accepted && let Ok(response) = answer(raw, access, NOW) {
        assert!(Message::read(&response).is_ok());
        assert!(response.len() < raw.len() + 100);
    }
    restated(raw, is_accepted);
    is_accepted
}

/// What a manager is told of it: never much more than it is, and never what a manager cannot read.
fn restated(raw: &[u8], is_accepted: bool) {
    let source = "[2001:db8::ffff:ffff:ffff:ffff]:65535".parse().unwrap();
    let origin = Origin { id: "arena/trap/1", source, received: "2026-11-22T00:35:53.123456Z" };
    let mut manager = Manager::by_community("public");
    for varbinds in as_it_came(raw, &origin).into_iter().chain([as_bytes(Own::Unread, raw, 1, &origin)]) {
        assert!(varbinds.len() < raw.len() + 500, "{} bytes of {}", varbinds.len(), raw.len());
        let inform = manager.inform(1, &varbinds, NOW);
        let Ok(Message::Community(message)) = Message::read(&inform) else {
            assert!(!is_accepted || raw.len() > 8_000, "too many varbinds");
            continue;
        };
        let Pdu::Common(pdu) = message.pdu else { unreachable!() };
        let first: Vec<String> = pdu.varbinds.iter().take(2).map(|varbind| format!("{:?}", varbind.oid)).collect();
        assert_eq!(first, ["1.3.6.1.2.1.1.3.0", "1.3.6.1.6.3.1.1.4.1.0"]);
    }
    let heard = manager.hear(raw, |_| true, NOW);
    assert!(!is_accepted || heard.is_err(), "a notification is no answer");
}

/// The corpus, and the receiver that takes all of it that is sound.
struct Bench {
    datagrams: Vec<Vec<u8>>,
    access: Access,
    names: Names,
}

impl Bench {
    fn new(corpus: &Path) -> Self {
        let cases = snmp::cases(corpus);
        let datagrams: Vec<Vec<u8>> = snmp::datagrams(corpus).into_iter().map(|datagram| datagram.raw).collect();
        let mut access = snmp::access(&cases, 1, Seconds(0));
        access.communities = Communities::any();
        Self { datagrams, access, names: Names::standard() }
    }

    /// As if it were the first: the corpus was recorded over more than 150 s, so that one trap would age another.
    fn look(&mut self, raw: &[u8]) -> bool {
        self.access.engines = Engines::default();
        let is_accepted = look(raw, &mut self.access, &self.names);
        assert!(is_accepted || self.access.engines.is_empty(), "something was learned from {raw:02x?}");
        is_accepted
    }
}

#[test]
fn every_datagram_of_the_corpus_can_be_cut_at_every_byte() {
    let Some(corpus) = snmp::corpus() else { return };
    let mut bench = Bench::new(&corpus);
    for raw in bench.datagrams.clone() {
        for end in 0..raw.len() {
            let is_accepted = bench.look(&raw[..end]);
            // What sharpsnmplib's file has behind its message may go; nothing else.
            assert!(!is_accepted || (raw.len() == 177 && end >= 70), "{end} of {}", raw.len());
        }
    }
}

#[test]
fn no_authentic_datagram_survives_a_flipped_bit() {
    let Some(corpus) = snmp::corpus() else { return };
    let mut bench = Bench::new(&corpus);
    for mut raw in bench.datagrams.clone() {
        let is_signed = bench.look(&raw) && matches!(Message::read(&raw), Ok(Message::V3(v3)) if !v3.digest.is_empty());
        for bit in 0..raw.len() * 8 {
            raw[bit / 8] ^= 1 << (bit % 8);
            let is_accepted = bench.look(&raw);
            assert!(!(is_signed && is_accepted), "bit {bit} of {raw:02x?}");
            raw[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn deep_and_large_messages_cost_no_more_than_others() {
    let names = Names::standard();
    let mut access = snmp::access(&[], 1, Seconds(0));
    access.communities = Communities::any();
    let start = Instant::now();
    for unit in [
        &[0x30, 0x80][..],
        &[0x30, 0x82, 0xff, 0xff],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x30, 0x84, 0x7f, 0xff, 0xff, 0xff],
        &[0x24, 0x80],
        &[0x30],
        &[0x06],
        &[0xff],
        &[0x00],
        &[0x02, 0x01],
        &[0x30, 4, 6, 0, 5, 0],
    ] {
        for head in [
            &[][..],
            &[0x30, 0x83, 0, 0xff, 0xe0],
            &[0x30, 0x83, 0, 0xff, 0xe0, 2, 1, 1, 4, 6, b'p', b'u', b'b', b'l', b'i', b'c'],
        ] {
            let mut raw = head.to_vec();
            raw.extend(unit.iter().cycle().take(65_507 - head.len()));
            assert!(!look(&raw, &mut access, &names));
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// As mutate.py of the corpus makes them, by a generator that needs no crate: the same seed gives the same bytes.
struct Mutator {
    state: u64,
}

impl Mutator {
    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn mutate(&mut self, raw: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
        let mut b = raw.to_vec();
        match self.below(9) {
            0 => b.truncate(self.below(raw.len() + 1)),
            1 if !b.is_empty() => {
                for _ in 0..=self.below(4) {
                    let at = self.below(b.len());
                    b[at] ^= 1 << self.below(8);
                }
            }
            2 | 3 if b.len() >= 4 => {
                let at = self.below(b.len() - 1);
                let old = u16::from_be_bytes([b[at], b[at + 1]]);
                let values = [0, 1, 0x7fff, 0xffff, old.wrapping_add(1), old.wrapping_sub(1), old ^ 0x8000];
                let value = values[self.below(values.len())];
                b[at..at + 2].copy_from_slice(&value.to_be_bytes());
            }
            4 if b.len() > 8 => {
                let at = self.below(b.len());
                let end = (at + 1 + self.below(64)).min(b.len());
                let span = b[at..end].to_vec();
                match self.below(3) {
                    0 => drop(b.splice(end..end, span)),
                    1 => drop(b.drain(at..end)),
                    _ => b[at..end].fill(0),
                }
            }
            5 => {
                b.truncate(self.below(raw.len() + 1));
                let other = &pool[self.below(pool.len())];
                b.extend(&other[self.below(16).min(other.len())..]);
            }
            6 => b = (0..=self.below(1500)).map(|_| self.next() as u8).collect(),
            7 => b.truncate(if self.below(5) == 0 { 0 } else { 16 }),
            8 if self.below(20) == 0 => b.resize(65_507, 0),
            // One byte of a length set to an end of its range: BER has few fields of 16 bits.
            _ if !b.is_empty() => {
                let at = self.below(b.len());
                b[at] = [0, 1, 0x7f, 0x80, 0x81, 0x82, 0x84, 0xff][self.below(8)];
            }
            _ => {}
        }
        b
    }
}

/// 20,000 of them, a million with `RAVEN_FULL=1`; every tenth datagram is a sound one that has to be accepted still.
#[test]
fn mutated_datagrams_do_no_harm() {
    let Some(corpus) = snmp::corpus() else { return };
    let mut bench = Bench::new(&corpus);
    let pool = bench.datagrams.clone();
    let sound: Vec<Vec<u8>> = pool.iter().filter(|raw| bench.look(raw)).cloned().collect();
    assert!(sound.len() >= 20, "{}", sound.len());
    let signed: Vec<&Vec<u8>> =
        sound.iter().filter(|raw| matches!(Message::read(raw), Ok(Message::V3(v3)) if !v3.digest.is_empty())).collect();
    let count = if std::env::var_os("RAVEN_FULL").is_some() { 1_000_000 } else { 20_000 };
    let (mut mutator, mut accepted) = (Mutator { state: 1 }, 0);
    for number in 0..count {
        let original = &pool[mutator.below(pool.len())];
        let mutated = mutator.mutate(original, &pool);
        let is_accepted = bench.look(&mutated);
        accepted += usize::from(is_accepted);
        if is_accepted && matches!(Message::read(&mutated), Ok(Message::V3(v3)) if !v3.digest.is_empty()) {
            assert!(signed.contains(&&mutated), "an authentic message that nobody sent: {mutated:02x?}");
        }
        if number % 10 == 0 {
            let raw = &sound[mutator.below(sound.len())];
            assert!(bench.look(raw), "no longer accepted after {number}: {raw:02x?}");
        }
    }
    eprintln!("{count} mutated datagrams, {accepted} still sound; seed 1");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_looked_at(raw in prop::collection::vec(any::<u8>(), 0..512)) {
        let mut access = snmp::access(&[], 1, Seconds(0));
        prop_assert!(!look(&raw, &mut access, &Names::default()));
    }

    #[test]
    fn any_values_in_order_are_looked_at(
        version in prop::sample::select(vec![0_u8, 1, 3]),
        values in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..12)), 0..12),
        tag in 0xa0_u8..=0xa8,
    ) {
        let wrap = |tag: u8, content: Vec<u8>| [vec![tag, 0x82], (content.len() as u16).to_be_bytes().to_vec(), content].concat();
        let pairs = values.into_iter().map(|(kind, content)| {
            wrap(0x30, [vec![6, 2, 0x2b, 6], wrap(kind, content)].concat())
        });
        let list = wrap(0x30, pairs.collect::<Vec<_>>().concat());
        let pdu = wrap(tag, [vec![2, 1, 7, 2, 1, 0, 2, 1, 0], list].concat());
        let raw = wrap(0x30, [vec![2, 1, version, 4, 1, b'p'], pdu].concat());
        let mut access = snmp::access(&[], 1, Seconds(0));
        access.communities = Communities::any();
        let is_accepted = look(&raw, &mut access, &Names::default());
        prop_assert!(!is_accepted || (version == 1 && (tag == 0xa6 || tag == 0xa7)));
    }
}

#[test]
fn refusals_are_told_apart() {
    let mut access = snmp::access(&[], 1, Seconds(0));
    for (raw, label) in [
        (&b""[..], "malformed"),
        (&[0x30, 3, 2, 1, 2], "unknown_version"),
        (&[0x30, 3, 2, 1, 0], "malformed"),
        (b"<13>Oct 11 22:14:15 h su: x", "malformed"),
    ] {
        let Outcome::Refused { reason, reply } = check(raw, &mut access, NOW) else { panic!("{raw:02x?}") };
        assert_eq!((reason.label(), reply), (label, None));
        assert!(!matches!(reason, Refused::Community));
    }
}

/// `cargo test --release -p raven-decode --test snmp_properties cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: wants --release and a quiet machine"]
fn cost_of_a_look() {
    let Some(corpus) = snmp::corpus() else { return };
    let mut access = snmp::access(&snmp::cases(&corpus), 1, Seconds(0));
    let names = Names::standard();
    for file in ["v1_generic2", "v2c_linkdown", "v2c_alltypes", "v3_trap_auth_sha256", "v3_trap_priv_sha256_aes"] {
        let raw = snmp::of_file(&corpus.join(format!("netsnmp_{file}.pcap")))[0].raw.clone();
        access.engines = Engines::default();
        let mut of = |rounds: u32, look: &mut dyn FnMut(&mut Access)| {
            let start = Instant::now();
            (0..rounds).for_each(|_| look(&mut access));
            start.elapsed() / rounds
        };
        let check = of(200_000, &mut |access| {
            assert!(matches!(check(std::hint::black_box(&raw), access, NOW), Outcome::Accepted(_)));
        });
        let decode = of(20_000, &mut |access| {
            assert!(decode(std::hint::black_box(&raw), &mut access.users, &names).reject.is_none());
        });
        eprintln!("{file}: {} bytes, check {check:?}, decode {decode:?}", raw.len());
    }
    // A flood of made-up engine ids, with a user that is taken from any: keys are made for each.
    let auth = Some((AuthProtocol::Sha256, Secret::password("ravenAuth1")));
    let user = User { name: "auth_sha256".to_owned(), engine: Engine::Any, auth, priv_: None };
    access.users = Users::new([user]).unwrap();
    let mut raw = snmp::of_file(&corpus.join("netsnmp_v3_trap_auth_sha256.pcap"))[0].raw.clone();
    let at = raw.windows(8).position(|bytes| bytes == snmp::sender().as_bytes()).unwrap();
    let start = Instant::now();
    for number in 0..100_000_u32 {
        raw[at + 4..at + 8].copy_from_slice(&number.to_be_bytes());
        let _ = std::hint::black_box(check(&raw, &mut access, NOW));
    }
    eprintln!("a forged digest from a made-up engine: {:?}", start.elapsed() / 100_000);
}
