//! A `vpn` role that somebody else has taken over.

use crate::cases::{about, open, up};
use crate::place::{Net, everything, within};
use raven_model::tunnel::FromNet;
use serde_json::json;
use std::io::{Read, Write};
use std::thread;

/// Of WireGuard.
const KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";

/// A generator of numbers that are the same in each run (xorshift64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// An order with some bytes changed, cut, doubled or replaced by parts of others.
fn mutated(orders: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = orders[dice.below(orders.len())].clone();
    for _ in 0..dice.below(4) {
        let at = dice.below(bytes.len().max(1));
        match dice.below(6) {
            0 => bytes.truncate(at.max(1)),
            1 => bytes.insert(at.min(bytes.len()), dice.below(256) as u8),
            2 => bytes.extend_from_within(at.min(bytes.len())..),
            3 => {
                let digit = bytes.iter().skip(at).position(u8::is_ascii_digit);
                if let Some(place) = digit {
                    bytes[at + place] = b'0' + dice.below(10) as u8;
                }
            }
            4 => {
                let other = &orders[dice.below(orders.len())];
                bytes.extend_from_slice(&other[dice.below(other.len())..]);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = dice.below(256) as u8;
                }
            }
        }
    }
    bytes.truncate(60_000);
    if bytes.is_empty() { vec![0] } else { bytes }
}

/// What is not ours.
fn of_others() -> Vec<String> {
    let ours = |line: &str| line.contains("proto 77") || line.contains("vpn-") || line.contains("lookup 77");
    // `ip rule` shows no protocol: ours are those by priority.
    let rule =
        |line: &str| line.split(':').next().is_some_and(|p| p.parse::<u32>().is_ok_and(|p| (7400..=7700).contains(&p)));
    everything().into_iter().filter(|line| !ours(line) && !rule(line)).collect()
}

pub fn orders_harm_nobody() {
    within(|_| {
        let mut net = Net::start("[vpn]\nnetworks = ['10.20.0.0/16']\n");
        let before = of_others();
        let orders = [
            json!({ "id": 1, "order": open("a") }),
            json!({ "id": 2, "order": up("a") }),
            json!({ "id": 3, "order": up("b") }),
            json!({ "id": 4, "order": open("b") }),
            json!({ "id": 5, "order": about("close", "b") }),
            json!({ "id": 6, "order": about("down", "a") }),
            json!({ "id": 7, "order": about("prefer", "a") }),
            json!({ "id": 9, "order": { "open": { "tunnel": "w", "by": ["wireguard"] } } }),
            json!({ "id": 10, "order": { "peers": { "tunnel": "w", "private_key": KEY, "peers": [
                { "public_key": KEY, "endpoint": "203.0.113.9:51820", "keepalive": 25, "allowed_ips": ["10.20.0.0/16"] }] } } }),
            json!({ "id": 11, "order": about("look", "w") }),
            json!({ "id": 8, "order": { "up": { "tunnel": "a", "addresses": ["192.0.2.1/24", "0.0.0.1/1"], "mtu": 70000,
                "peer": "192.0.2.2", "routes": ["0.0.0.0/0", "::/0", "192.0.2.0/24", "127.0.0.0/8"],
                "endpoints": ["0.0.0.0", "255.255.255.255", "::", "ff02::1"] } } }),
        ]
        .map(|order| serde_json::to_vec(&order).unwrap());
        let mut far = net.far.try_clone().unwrap();
        let packets = 10_000;
        let pid = net.child.pid;
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut dice = Dice(0x5eed);
                for _ in 0..packets {
                    // An error: the reader has given up, and says why.
                    if far.write_all(&mutated(&orders, &mut dice)).is_err() {
                        return;
                    }
                }
            });
            let mut packet = vec![0; 200_000];
            let (mut taken, mut refused) = (0, 0);
            while taken + refused < packets {
                let len = net.far.read(&mut packet).expect("each is answered");
                match serde_json::from_slice(&packet[..len]).unwrap() {
                    FromNet::Answer { answer: Ok(_), .. } => taken += 1,
                    FromNet::Answer { answer: Err(_), .. } => refused += 1,
                    FromNet::Returned => {}
                    FromNet::Began => panic!("it was started anew"),
                }
            }
            println!("of {packets} packets {taken} were taken as orders, {refused} were not");
            assert!(taken > 100 && refused > 1000);
        });
        assert_eq!(of_others(), before);
        for tunnel in net.report().tunnels {
            net.done(&about("close", tunnel.name.as_str()));
        }
        // An empty packet, one that is too long, and one whose answers nobody reads.
        rustix::net::send(&net.far, &[], rustix::net::SendFlags::empty()).unwrap();
        assert!(matches!(net.hear(), FromNet::Answer { id: None, answer: Err(_) }));
        assert_eq!(net.order(&about("close", "a")).map(drop), Ok(()));
        let long = vec![b' '; 196_700];
        net.far.write_all(&long).unwrap();
        assert!(matches!(net.hear(), FromNet::Answer { id: None, answer: Err(_) }));
        let mut many = json!({ "id": 9, "order": up("a") });
        many["order"]["up"]["routes"] = (0..7000).map(|n| json!(format!("11.{}.{}.0/24", n / 256, n % 256))).collect();
        assert_eq!(net.order(&open("a")).map(drop), Ok(()));
        for _ in 0..30 {
            net.far.write_all(&serde_json::to_vec(&many).unwrap()).unwrap();
            net.report();
        }
        for _ in 0..30 {
            let FromNet::Answer { answer, .. } = net.hear() else { panic!("no answer") };
            assert_eq!(answer.unwrap().refused.last().unwrap().what, "6744 more routes");
        }
        // As much as can be asked for: what is reported fits into a packet all the same.
        for n in 1..=15 {
            let tunnel = format!("t{n}");
            net.done(&open(&tunnel));
            let mut much = up(&tunnel);
            let nets = (0..600).map(|route| json!(format!("2001:db8:1234:5678:9abc:def0:{n:x}:{route:x}/128")));
            let bad = (0..600).map(|route| json!(format!("192.0.2.{}/32", route % 250)));
            much["up"]["routes"] = bad.chain(nets).collect();
            much["up"]["addresses"] = json!([format!("10.8.{n}.2/24")]);
            let answer = net.order(&much).unwrap();
            assert!(answer.refused.len() > 64, "{:?}", answer.refused.len());
        }
        let report = net.report();
        assert_eq!((report.tunnels.len(), report.tunnels[15].routes_taken), (16, 256));
        assert!(net.lives() && net.child.pid == pid);
        assert_eq!(of_others(), before);
    });
}
