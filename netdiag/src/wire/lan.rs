//! What is asked of a LAN, when, and what the answers say. Without clock and socket.

pub mod run;

use super::{arp, dhcp, nd};
use raven_model::diag::wire::{Asked, Holder, LanOrder, LanResult, Link, Mac, Offer};
use std::net::IpAddr;
use std::time::Duration;

/// Each question is asked so often (RFC 5227, 1.1: `PROBE_NUM`), so far apart.
const TIMES: u32 = 3;
const APART: Duration = Duration::from_secs(1);
/// Who is told of an address, and offers that are told.
const HOLDERS: usize = 8;
const OFFERS: usize = 16;

/// A question whether anybody has an address.
#[derive(Debug)]
struct Question {
    address: IpAddr,
    is_own: bool,
    holders: Vec<Holder>,
    asked_ns: Option<u64>,
}

/// A check under way.
#[derive(Debug)]
pub struct Lan {
    link: Link,
    questions: Vec<Question>,
    dhcp: bool,
    /// Of the question to DHCP servers.
    number: u32,
    discovered_ns: Option<u64>,
    offers: Vec<Offer>,
    rounds: u32,
}

impl Lan {
    /// At this interface; `number` is random.
    pub fn new(order: &LanOrder, link: Link, number: u32) -> Self {
        let question =
            |address: &IpAddr, is_own| Question { address: *address, is_own, holders: Vec::new(), asked_ns: None };
        let gateways = order.gateways.iter().filter(|gateway| !order.addresses.contains(gateway));
        let questions = gateways.map(|gateway| question(gateway, false));
        let questions = questions.chain(order.addresses.iter().map(|address| question(address, true))).collect();
        Self { link, questions, dhcp: order.dhcp, number, discovered_ns: None, offers: Vec::new(), rounds: 0 }
    }

    /// When questions are to be asked (again), from the beginning on; none: never more.
    pub fn next(&self) -> Option<Duration> {
        (self.rounds < TIMES).then(|| APART * self.rounds)
    }

    /// The frames of a round, which leave now. A gateway that answered is not asked again.
    pub fn ask(&mut self, now_ns: u64) -> Vec<Vec<u8>> {
        self.rounds += 1;
        let mut frames = Vec::new();
        let open = |question: &&mut Question| question.is_own || question.holders.is_empty();
        for question in self.questions.iter_mut().filter(open) {
            question.asked_ns = Some(now_ns);
            frames.push(match question.address {
                IpAddr::V4(address) => arp::probe(self.link.mac, address),
                IpAddr::V6(address) => nd::solicit(self.link.mac, address),
            });
        }
        if self.dhcp && self.offers.is_empty() {
            // Time is from the first: servers look whether an address is in use before they offer it.
            self.discovered_ns.get_or_insert(now_ns);
            frames.push(dhcp::discover(self.link.mac, self.number));
        }
        frames
    }

    /// A frame without a VLAN.
    pub fn hear(&mut self, frame: &[u8], at_ns: u64) {
        if let Some(said) = arp::read(frame) {
            self.held(said.sender.into(), said.mac, at_ns, said.is_reply);
        } else if let Some(said) = nd::read(frame) {
            self.held(said.target.into(), said.mac, at_ns, true);
        } else if let Some(offer) = self.dhcp.then(|| dhcp::read(frame, self.link.mac, self.number)).flatten() {
            self.offered(offer, at_ns);
        }
    }

    fn held(&mut self, address: IpAddr, mac: Mac, at_ns: u64, is_answer: bool) {
        // Our own, as this machine's kernel says it.
        if mac == self.link.mac {
            return;
        }
        for question in self.questions.iter_mut().filter(|question| question.address == address) {
            let is_known = question.holders.iter().any(|holder| holder.mac == mac);
            if !is_known && question.holders.len() < HOLDERS {
                let rtt_us = question.asked_ns.filter(|_| is_answer).map(|asked| micros(asked, at_ns));
                question.holders.push(Holder { mac, rtt_us });
            }
        }
    }

    fn offered(&mut self, offer: Offer, at_ns: u64) {
        let is_known = self.offers.iter().any(|known| (known.server, known.mac) == (offer.server, offer.mac));
        if !is_known && self.offers.len() < OFFERS {
            let rtt_us = self.discovered_ns.map_or(0, |asked| micros(asked, at_ns));
            self.offers.push(Offer { rtt_us, ..offer });
        }
    }

    /// What came of it.
    pub fn result(self) -> LanResult {
        let problems = self.problems();
        let (own, gateways) = self.questions.into_iter().partition::<Vec<_>, _>(|question| question.is_own);
        let asked = |questions: Vec<Question>| {
            questions.into_iter().map(|Question { address, holders, .. }| Asked { address, holders }).collect()
        };
        LanResult {
            interface: self.link.name,
            mac: self.link.mac,
            gateways: asked(gateways),
            addresses: asked(own),
            offers: self.offers,
            dhcp: self.dhcp,
            problems,
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.questions.iter().filter_map(Question::problem).collect();
        if self.offers.len() > 1 {
            let servers: Vec<String> =
                self.offers.iter().map(|offer| format!("{} ({})", offer.server, offer.mac)).collect();
            problems.push(format!("{} DHCP servers offer addresses: {}", servers.len(), servers.join(", ")));
        }
        problems
    }
}

impl Question {
    fn problem(&self) -> Option<String> {
        let macs: Vec<String> = self.holders.iter().map(|holder| holder.mac.to_string()).collect();
        let (address, macs) = (self.address, macs.join(" and "));
        let by = if address.is_ipv4() { "ARP" } else { "neighbour discovery" };
        match (self.is_own, self.holders.len()) {
            (true, 0) | (false, 1) => None,
            (true, _) => Some(format!("{address} is this box's, and {macs} says that it has it, too")),
            (false, 0) => Some(format!("gateway {address} does not answer {by}")),
            (false, n) => Some(format!("{n} machines say that they are gateway {address}: {macs}")),
        }
    }
}

fn micros(from_ns: u64, to_ns: u64) -> u32 {
    u32::try_from(to_ns.saturating_sub(from_ns) / 1000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::Ipv4Addr;

    const US: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const A: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 10]);

    fn lan(addresses: &[&str], gateways: &[&str], dhcp: bool) -> Lan {
        let parsed = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let order = LanOrder { addresses: parsed(addresses), gateways: parsed(gateways), dhcp, wait_ms: 3000 };
        Lan::new(&order, Link { name: "eth0".to_owned(), index: 2, kind: 1, mac: US }, 7)
    }

    fn reply(mac: Mac, address: &str) -> Vec<u8> {
        let mut frame = arp::probe(mac, Ipv4Addr::UNSPECIFIED);
        frame[21] = 2;
        frame[28..32].copy_from_slice(&address.parse::<Ipv4Addr>().unwrap().octets());
        frame
    }

    #[test]
    fn a_gateway_that_answers_is_asked_once_and_our_own_addresses_three_times() {
        let mut lan = lan(&["192.0.2.1"], &["192.0.2.254"], false);
        assert_eq!((lan.next(), lan.ask(1_000_000).len()), (Some(Duration::ZERO), 2));
        lan.hear(&reply(A, "192.0.2.254"), 1_300_000);
        lan.hear(&reply(A, "192.0.2.254"), 1_900_000);
        assert_eq!((lan.next(), lan.ask(2_000_000).len(), lan.ask(3_000_000).len()), (Some(APART), 1, 1));
        assert_eq!(lan.next(), None);
        let result = lan.result();
        assert_eq!(result.gateways[0].holders, [Holder { mac: A, rtt_us: Some(300) }]);
        assert_eq!((result.addresses[0].holders.len(), result.problems.len()), (0, 0));
    }

    #[test]
    fn an_address_that_two_have_and_a_gateway_that_nobody_or_two_are_is_told() {
        let mut lan = lan(&["192.0.2.1", "2001:db8::1"], &["192.0.2.254", "192.0.2.253"], false);
        lan.ask(0);
        // This machine's own, and an announcement that nobody asked for.
        lan.hear(&reply(US, "192.0.2.1"), 1);
        let mut announced = reply(A, "192.0.2.1");
        announced[21] = 1;
        lan.hear(&announced, 2);
        lan.hear(&reply(A, "192.0.2.253"), 1);
        lan.hear(&reply(B, "192.0.2.253"), 2);
        let result = lan.result();
        assert_eq!(result.addresses[0].holders, [Holder { mac: A, rtt_us: None }]);
        let all = result.problems.join("\n");
        assert!(all.contains("192.0.2.1 is this box's, and 02:00:00:00:00:09 says"), "{all}");
        assert!(all.contains("gateway 192.0.2.254 does not answer ARP"), "{all}");
        assert!(all.contains("2 machines say that they are gateway 192.0.2.253"), "{all}");
        assert_eq!(result.problems.len(), 3, "{all}");
    }

    #[test]
    fn two_servers_that_offer_are_a_problem_and_one_is_none() {
        let mut lan = lan(&[], &[], true);
        let question = lan.ask(1_000).pop().unwrap();
        for _ in 0..2 {
            lan.hear(&dhcp::tests::answer(&question, [192, 0, 2, 5].into(), A, 2), 5_001_000);
        }
        assert_eq!((lan.offers.len(), lan.problems().len(), lan.offers[0].rtt_us), (1, 0, 5_000));
        assert!(lan.ask(2_000).is_empty(), "who was answered asks no more");
        lan.hear(&dhcp::tests::answer(&question, [192, 0, 2, 6].into(), B, 2), 6_001_000);
        let problem = lan.result().problems.pop().unwrap();
        assert_eq!(
            problem,
            "2 DHCP servers offer addresses: 192.0.2.5 (02:00:00:00:00:09), 192.0.2.6 (02:00:00:00:00:0a)"
        );
    }

    #[test]
    fn who_says_much_is_not_kept_without_end() {
        let mut lan = lan(&["192.0.2.1"], &[], true);
        let question = lan.ask(0).pop().unwrap();
        for n in 0..200 {
            let mac = Mac([2, 0, 0, 0, 1, n]);
            lan.hear(&reply(mac, "192.0.2.1"), 1);
            lan.hear(&dhcp::tests::answer(&question, [192, 0, 2, n].into(), mac, 2), 1);
        }
        let result = lan.result();
        assert_eq!((result.addresses[0].holders.len(), result.offers.len()), (HOLDERS, OFFERS));
    }
}
