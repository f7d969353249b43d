//! What each fuzz target does with its bytes; an ordinary test does it with the inputs in `corpus` (`tests/fuzz_corpus.rs`).
#![allow(dead_code, reason = "each target needs one of them")]

use raven_model::diag::services::{DnsServer, NtpResult, RecordType};
use raven_model::diag::wire::{LanOrder, LanResult, Link, Mac, To};
use raven_model::diag::{Family, bw::Transport};
use raven_model::icmp;
use raven_model::units::UnixNanos;
use raven_netdiag::bw::{datagram, meter, params, protocol, results};
use raven_netdiag::names::Names;
use raven_netdiag::ping::number;
use raven_netdiag::probe::{Kind, Told, What, decode};
use raven_netdiag::tls::certificate::describe;
use raven_netdiag::wire::decode::{self as wire, Framing};
use raven_netdiag::wire::lan::Lan;
use raven_netdiag::wire::table::Table;
use raven_netdiag::{dns, http, ntp};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

/// As an answer to a question for an address, for a name, and as records of any type.
pub fn message(bytes: &[u8]) {
    let now = Instant::now();
    let hop = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let mut names = Names::new(1);
    names.want(hop, now);
    let mut talk = dns::Talk::new("noc.example", RecordType::A, DnsServer::default());
    let asked = names.ask(now).map(|(_, question)| question).into_iter().chain([talk.ask(7, now)]);
    // The same bytes once more with the number of each question, which a fuzzer cannot guess.
    for question in asked {
        let mut answer = bytes.to_vec();
        if let (Some(place), Some(id)) = (answer.get_mut(..2), question.get(..2)) {
            place.copy_from_slice(id);
        }
        names.heard(&answer);
        talk.heard(&answer, now);
    }
    assert!(names.of(hop).is_none_or(|name| name.len() <= 253 && name.is_ascii()));
    assert!(talk.told.answers.len() <= dns::message::RECORDS);
    if let Ok((header, _, begin)) = dns::message::head(bytes)
        && let Ok((records, _)) = dns::message::answers(bytes, header, begin)
    {
        assert!(records.iter().all(|record| record.name.is_ascii() && record.data.is_ascii()));
    }
}

/// A response is the same in whatever pieces it comes.
pub fn response(bytes: &[u8]) {
    let (mut whole, mut pieces) = (http::Response::default(), http::Response::default());
    let at_once = whole.push(bytes).is_ok();
    let bit_by_bit = bytes.iter().all(|byte| pieces.push(&[*byte]).is_ok());
    assert_eq!(at_once, bit_by_bit);
    if at_once {
        let sum = |response: &http::Response| (response.head.clone(), response.header_bytes, response.body_bytes);
        assert_eq!((sum(&whole), whole.is_over()), (sum(&pieces), pieces.is_over()));
        assert_eq!(whole.end(), pieces.end());
    }
}

/// An answer counts once, and by its mark.
pub fn packet(bytes: &[u8]) {
    let now = Instant::now();
    let mut talk = ntp::Talk::new(NtpResult::default());
    let stamp = ntp::Stamp(0x1234_5678_9abc_def0);
    let mark = ntp::decode(bytes).map_or(0, |answer| answer.origin);
    talk.ask(mark, stamp, now);
    let first = talk.heard(bytes, now);
    assert!(first.is_none() || talk.heard(bytes, now).is_none());
    if let Some(answer) = ntp::decode(bytes) {
        let _ = answer.times(stamp, ntp::Stamp(u64::MAX));
    }
}

/// Parameters, results and the heads of datagrams.
pub fn params(bytes: &[u8]) {
    if let Ok(params) = serde_json::from_slice::<params::Params>(bytes)
        && let Ok(plan) = params.plan()
    {
        let again = serde_json::to_vec(&plan.params()).expect("made of numbers");
        assert!(serde_json::from_slice::<params::Params>(&again).is_ok());
    }
    if let Ok(theirs) = serde_json::from_slice::<results::Results>(bytes) {
        let _ = theirs.cpu();
        let meter = meter::Meter::new(meter::Lane::all((1, 1), true), Transport::Udp, false);
        let (streams, sums) = results::join(&meter, &theirs, Transport::Udp);
        assert_eq!((streams.len(), sums.len()), (2, 2));
    }
    let _ = (datagram::Head::read(bytes, true), datagram::Head::read(bytes, false));
    let _ =
        (protocol::is_hello(bytes), protocol::is_welcome(bytes), bytes.first().map(|byte| protocol::State::of(*byte)));
}

/// Whatever a certificate says, it is bounded.
pub fn certificate(bytes: &[u8]) {
    let told = describe(bytes, 1_780_272_000);
    assert!(told.names.len() <= 64 && told.subject.chars().count() <= 256 && told.issuer.chars().count() <= 256);
}

/// Family, kind, and what the kernel says beside it: type and code of an error; then what was sent or came.
pub fn icmp(bytes: &[u8]) {
    let Some(([which, origin, kind, code], bytes)) = bytes.split_first_chunk::<4>() else { return };
    let family = if which & 1 == 0 { Family::Ipv4 } else { Family::Ipv6 };
    let socket = if which & 2 == 0 { Kind::Echo } else { Kind::Udp };
    let info = bytes.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let told = Told { origin: *origin, kind: *kind, code: *code, errno: info & 0xff, info };
    let heard = decode(family, socket, bytes, (which & 4 != 0).then_some(told));
    assert!(heard.payload.len() <= bytes.len());
    assert_eq!(heard.what == What::Reply, which & 4 == 0);
    assert_eq!(heard.what.words(family).is_none(), heard.what == What::Reply);
    let _ = (number(7, heard.payload), heard.what.is_time_exceeded(family), heard.what.is_port_unreachable(family));
    if let Some((sequence, payload)) = icmp::reply(family, bytes) {
        assert_eq!((sequence, payload), icmp::parts(bytes).expect("an answer has a header"));
    }
}

/// How frames of the interface begin (1: with IP) and whether the kernel took a tag out (2); then a frame, as the view counts it.
pub fn frame(bytes: &[u8]) {
    let Some((how, frame)) = bytes.split_first() else { return };
    let framing = if how & 1 == 0 { Framing::Ethernet } else { Framing::Ip };
    let mut table = Table::default();
    match wire::decode(framing, frame, (how & 2 != 0).then_some((0x8100, 0xe007))) {
        Some(seen) => {
            assert!(seen.vlans.len() <= 5 && seen.vlans.iter().all(|vlan| *vlan < 4096), "{seen:?}");
            assert!(seen.ports.is_none() || !seen.is_fragment, "{seen:?}");
            table.add(seen, To::Us, frame.len() as u32, 1);
        }
        None => table.malformed += 1,
    }
    let result = table.result("eth0", UnixNanos(0), UnixNanos(1));
    assert!(serde_json::to_string(&result).is_ok() && result.rows.len() <= 1);
    let _ = answer(frame);
}

/// A frame as an answer to what was asked of a LAN.
pub fn answer(frame: &[u8]) -> LanResult {
    let [own, gateway] = [[192, 0, 2, 2], [192, 0, 2, 1]].map(IpAddr::from);
    let six = "2001:db8::1".parse().expect("an address");
    let order = LanOrder { addresses: vec![own], gateways: vec![gateway, six], dhcp: true, wait_ms: 500 };
    let link = Link { name: "eth0".to_owned(), index: 1, kind: 1, mac: Mac([2, 0, 0x5e, 0x10, 0, 1]) };
    let mut lan = Lan::new(&order, link, 7);
    let _ = lan.ask(1);
    // The same once more says nothing new.
    lan.hear(frame, 2);
    lan.hear(frame, 3);
    let result = lan.result();
    assert!(result.gateways.iter().chain(&result.addresses).all(|asked| asked.holders.len() <= 1));
    assert!(result.offers.len() <= 1);
    result
}
