//! Whatever a datagram holds: no panic, and no table that grows.

use super::{Bench, seed};
use raven_jail::receive::{Arrived, Contexts, Inspect, Verdict};
use raven_model::control::PACKET_MAX;
use raven_model::units::UnixNanos;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

/// A seed with some of its bytes changed, cut, or repeated.
fn mutated(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut raw = seed.to_vec();
    for _ in 0..dice.below(6) {
        let at = dice.below(raw.len().max(1));
        match (dice.below(8), raw.get(at).copied()) {
            (0..4, Some(byte)) => raw[at] = byte ^ (1 << dice.below(8)),
            (4 | 5, Some(_)) => raw[at] = dice.below(256) as u8,
            (6, Some(_)) => raw.truncate(at),
            (_, Some(byte)) => raw.insert(at, byte),
            (_, None) => raw.push(0x30),
        }
    }
    raw
}

#[test]
fn hostile_datagrams_cost_no_more_than_themselves() {
    let seeds = [
        seed!("trap-v1-generic"),
        seed!("trap-v1-specific"),
        seed!("trap-v2c"),
        seed!("trap-v2c-types"),
        seed!("inform-v2c"),
        seed!("inform-v3-none"),
        seed!("trap-v3-none"),
        seed!("trap-v3-aes"),
        seed!("trap-v3-md5"),
        seed!("trap-v3-context"),
        seed!("bad-v3-discovery"),
        seed!("bad-v3-user"),
        seed!("bad-deep"),
    ];
    let many = if std::env::var_os("RAVEN_FULL").is_some() { 1_000_000 } else { 20_000 };
    let mut bench = Bench::ready();
    let (mut dice, mut contexts, mut verdicts) = (Dice(7), Contexts::default(), [0_u64; 3]);
    for n in 0..many {
        if n % 200 == 0 {
            contexts.clear();
            bench.desk.begin();
            bench.round();
            bench.commit();
            bench.clock.set(bench.clock.get() + 10_000_000);
        }
        let raw = mutated(seeds[dice.below(seeds.len())], &mut dice);
        let ip = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + dice.below(40_000) as u32));
        let arrived = Arrived { source: SocketAddr::new(ip, 9), listener: 1, wall: UnixNanos(n), raw: &raw };
        verdicts[match bench.desk.inspect(&arrived, &mut contexts) {
            Verdict::Keep => 0,
            Verdict::Refuse => 1,
            Verdict::Drop(_) => 2,
        }] += 1;
    }
    assert!(verdicts.iter().all(|&count| count > many / 100), "{verdicts:?}");
    bench.round();
    let report = bench.report();
    assert!(report.inbox.len() <= 65 && report.engines.len() <= 32);
    assert_eq!(report.refused.values().sum::<u64>(), verdicts[1]);
    assert!(serde_json::to_string(&report).unwrap().len() < PACKET_MAX / 2);
}
