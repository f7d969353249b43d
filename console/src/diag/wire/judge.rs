//! What was on the wire beside what Raven received: what arrives and nobody gets. Pure.

use crate::reports;
use raven_model::diag::wire::{Finding, ListenerSeen, Row, SenderSeen, To, WireReport, WireResult};
use raven_model::report::{ListenerStatus, Status};
use raven_model::stream::Stream;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Ports by which telemetry is known, with what sends there.
const TELEMETRY: [(&str, u16, &str); 22] = [
    ("udp", 162, "SNMP notifications"),
    ("udp", 514, "syslog"),
    ("tcp", 514, "syslog"),
    ("tcp", 601, "syslog"),
    ("udp", 1514, "syslog"),
    ("tcp", 1514, "syslog"),
    ("udp", 2055, "NetFlow"),
    ("udp", 2056, "NetFlow"),
    ("tcp", 2514, "RELP"),
    ("tcp", 3100, "log lines"),
    ("tcp", 4317, "OTLP"),
    ("tcp", 4318, "OTLP"),
    ("udp", 4739, "IPFIX"),
    ("tcp", 4739, "IPFIX"),
    ("tcp", 5985, "Windows events"),
    ("tcp", 5986, "Windows events"),
    ("udp", 6343, "sFlow"),
    ("tcp", 6514, "syslog over TLS"),
    ("udp", 9995, "NetFlow"),
    ("udp", 9996, "NetFlow"),
    ("udp", 10_162, "SNMP notifications"),
    ("tcp", 20_514, "RELP"),
];

/// Senders of one kind that are named.
const NAMED: usize = 8;

/// The box: who listens where, and its addresses.
pub struct Place {
    listeners: Vec<Listener>,
    addresses: BTreeSet<IpAddr>,
    /// Interfaces of which all addresses are known.
    links: BTreeSet<String>,
}

struct Listener {
    name: String,
    proto: &'static str,
    at: SocketAddr,
    stream: Stream,
}

/// What is known of the same time beside the wire.
pub struct Beside<'a> {
    /// Records of each stream by sender.
    pub records: &'a BTreeMap<Stream, BTreeMap<IpAddr, u64>>,
    /// As it was before.
    pub before: &'a Status,
    /// And after.
    pub after: &'a Status,
    /// Ports that were asked for.
    pub ports: &'a [u16],
}

impl Place {
    /// As the status has it.
    pub fn of(status: &Status) -> Self {
        let listener = |told: &ListenerStatus| {
            let proto = if told.proto == "udp" { "udp" } else { "tcp" };
            let (at, stream) = (told.addr.parse().ok()?, Stream::named(&told.stream)?);
            Some(Listener { name: reports::name(told), proto, at, stream })
        };
        let links = status.links.iter();
        let of_links = links.clone().flat_map(|link| &link.addresses);
        let of_tunnels = status.vpn.iter().flat_map(|tunnel| &tunnel.addresses);
        let address = |text: &String| text.split('/').next().and_then(|address| address.parse().ok());
        Self {
            listeners: status.listeners.iter().filter_map(listener).collect(),
            addresses: of_links.chain(of_tunnels).filter_map(address).collect(),
            links: links.map(|link| link.name.clone()).collect(),
        }
    }

    /// Streams for whose listeners something came by datagrams.
    pub fn streams(&self, wire: &WireResult) -> BTreeSet<Stream> {
        let heard = wire.rows.iter().filter(|row| row.protocol == "udp").filter_map(|row| self.listener(wire, row));
        heard.map(|listener| listener.stream).collect()
    }

    /// So many came for the listeners of a stream.
    pub fn datagrams(&self, wire: &WireResult, stream: Stream) -> u64 {
        let is_of = |row: &&Row| self.listener(wire, row).is_some_and(|listener| listener.stream == stream);
        wire.rows.iter().filter(|row| row.protocol == "udp").filter(is_of).map(|row| row.packets).sum()
    }

    /// Who listens for this, if it is for the box.
    fn listener(&self, wire: &WireResult, row: &Row) -> Option<&Listener> {
        let is_for_us = match row.to {
            To::Us => !self.is_for_another(wire, row),
            To::Broadcast => row.protocol == "udp",
            _ => false,
        };
        if !is_for_us || row.answer {
            return None;
        }
        let takes = |at: &SocketAddr| match (at.ip(), row.target) {
            (IpAddr::V4(any), Some(IpAddr::V6(_))) if any.is_unspecified() => false,
            (any, _) if any.is_unspecified() => true,
            (ip, target) => target == Some(ip),
        };
        let of = |listener: &&Listener| listener.proto == row.protocol && Some(listener.at.port()) == row.port;
        self.listeners.iter().filter(of).find(|listener| takes(&listener.at))
    }

    /// It came by the box's hardware address and is for an address that the box does not have.
    fn is_for_another(&self, wire: &WireResult, row: &Row) -> bool {
        let is_known = self.links.contains(&wire.interface) && !self.addresses.is_empty();
        row.to == To::Us && is_known && row.target.is_some_and(|target| !self.addresses.contains(&target))
    }
}

/// What sends to such a port, where that is known or was asked for.
fn telemetry(row: &Row, ports: &[u16]) -> Option<&'static str> {
    let port = row.port.filter(|_| !row.answer)?;
    let known = TELEMETRY.iter().find(|(proto, known, _)| *proto == row.protocol && *known == port);
    let is_asked_for = ports.contains(&port) && (row.protocol == "udp" || row.protocol == "tcp");
    known.map(|(.., what)| *what).or(is_asked_for.then_some(""))
}

/// All of it together.
pub fn report(wire: &WireResult, place: &Place, beside: &Beside<'_>) -> WireReport {
    let listeners = listeners(wire, place, beside);
    let senders = senders(wire, place, beside);
    let mut findings = nobody_listens(wire, place, beside.ports);
    findings.extend(other_address(wire, place, beside.ports));
    findings.extend(senders.iter().filter(|sender| !is_whole(sender)).map(|sender| not_received(sender, &listeners)));
    findings.extend(no_further(wire, place));
    findings.extend(not_counted(wire));
    WireReport { wire: wire.clone(), listeners, senders, findings }
}

/// As many records as datagrams, as far as that is known.
pub fn is_whole(sender: &SenderSeen) -> bool {
    sender.received.is_none_or(|received| received >= sender.wire)
}

/// Everything that arrives is received.
pub fn is_well(report: &WireReport) -> bool {
    report.findings.iter().all(|finding| finding.kind == "not_counted")
}

fn listeners(wire: &WireResult, place: &Place, beside: &Beside<'_>) -> Vec<ListenerSeen> {
    let mut seen: Vec<ListenerSeen> = Vec::new();
    for listener in &place.listeners {
        let rows = wire.rows.iter().filter(|row| place.listener(wire, row).is_some_and(|at| at.name == listener.name));
        let mut dropped = since(
            &drops(&beside.before.listeners, |told| reports::name(told) == listener.name),
            drops(&beside.after.listeners, |told| reports::name(told) == listener.name),
        );
        let of_stream = |status: &Status| {
            let kept = status.streams.iter().find(|kept| kept.name == listener.stream.name());
            kept.map(|kept| kept.dropped.clone()).unwrap_or_default()
        };
        dropped.extend(since(&of_stream(beside.before), of_stream(beside.after)));
        let (name, stream) = (listener.name.clone(), listener.stream.name().to_owned());
        seen.push(ListenerSeen { listener: name, stream, wire: rows.map(|row| row.packets).sum(), dropped });
    }
    seen
}

fn drops(listeners: &[ListenerStatus], is_it: impl Fn(&ListenerStatus) -> bool) -> BTreeMap<String, u64> {
    listeners.iter().find(|told| is_it(told)).map(|told| told.dropped.clone()).unwrap_or_default()
}

fn since(before: &BTreeMap<String, u64>, after: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let more = |(reason, count): (String, u64)| {
        let more = count.saturating_sub(before.get(&reason).copied().unwrap_or(0));
        (more > 0).then_some((reason, more))
    };
    after.into_iter().filter_map(more).collect()
}

fn senders(wire: &WireResult, place: &Place, beside: &Beside<'_>) -> Vec<SenderSeen> {
    let mut by: BTreeMap<(IpAddr, Stream), (BTreeSet<u16>, u64, bool)> = BTreeMap::new();
    for row in &wire.rows {
        let (Some(source), Some(listener)) = (row.source, place.listener(wire, row)) else { continue };
        let (ports, count, by_stream) = by.entry((source, listener.stream)).or_default();
        if row.protocol == "udp" {
            ports.extend(row.port);
            *count += row.packets;
        } else {
            *by_stream = true;
        }
    }
    let seen = |((source, stream), (ports, wire, by_stream)): ((IpAddr, Stream), (BTreeSet<u16>, u64, bool))| {
        let records = beside.records.get(&stream).filter(|_| !by_stream);
        // What came to a port that was not asked for is received, too.
        let is_partial = !beside.ports.is_empty()
            && place
                .listeners
                .iter()
                .any(|at| at.stream == stream && at.proto == "udp" && !beside.ports.contains(&at.at.port()));
        let received = records.filter(|_| !is_partial).map(|records| records.get(&source).copied().unwrap_or(0));
        let stream = stream.name().to_owned();
        SenderSeen { source, stream, ports: ports.into_iter().collect(), wire, received }
    };
    let mut senders: Vec<SenderSeen> = by.into_iter().map(seen).filter(|sender| sender.wire > 0).collect();
    senders.sort_by_key(|sender| std::cmp::Reverse(sender.wire));
    senders
}

fn finding(kind: &str, text: String) -> Finding {
    Finding { kind: kind.to_owned(), text }
}

fn few(all: &BTreeSet<IpAddr>) -> String {
    let named: Vec<String> = all.iter().take(NAMED).map(IpAddr::to_string).collect();
    let more = all.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

fn vlans(row: &Row) -> String {
    let all: Vec<String> = row.vlans.iter().map(u16::to_string).collect();
    if all.is_empty() { String::new() } else { format!(" in VLAN {}", all.join(" within ")) }
}

/// Protocol, port, VLAN and what it is.
type Unheard = (String, u16, String, &'static str);

/// By port: who sends there, and how much of it came.
fn nobody_listens(wire: &WireResult, place: &Place, ports: &[u16]) -> Vec<Finding> {
    let mut by: BTreeMap<Unheard, (BTreeSet<IpAddr>, u64)> = BTreeMap::new();
    for row in wire.rows.iter().filter(|row| matches!(row.to, To::Us | To::Broadcast)) {
        let (Some(what), Some(port), Some(source)) = (telemetry(row, ports), row.port, row.source) else { continue };
        // Of a connection that is there already somebody takes something.
        let count = if row.protocol == "tcp" { row.begun } else { row.packets };
        if count == 0 || place.listener(wire, row).is_some() || place.is_for_another(wire, row) {
            continue;
        }
        let (senders, sum) = by.entry((row.protocol.clone(), port, vlans(row), what)).or_default();
        senders.insert(source);
        *sum += count;
    }
    let text = |((proto, port, vlan, what), (senders, count)): (Unheard, (BTreeSet<IpAddr>, u64))| {
        let units = if proto == "tcp" { "connections begun" } else { "datagrams" };
        let what = if what.is_empty() { String::new() } else { format!(" ({what})") };
        let proto = proto.to_uppercase();
        format!("nobody listens at {proto} {port}{what}: {count} {units}{vlan} from {}", few(&senders))
    };
    by.into_iter().map(|by| finding("nobody_listens", text(by))).collect()
}

fn other_address(wire: &WireResult, place: &Place, ports: &[u16]) -> Vec<Finding> {
    let is_odd = |row: &&Row| {
        let is_listened_for = row.port.is_some_and(|port| place.listeners.iter().any(|at| at.at.port() == port));
        place.is_for_another(wire, row) && !row.answer && (is_listened_for || telemetry(row, ports).is_some())
    };
    let text = |row: &Row| {
        let (source, target) = (row.source?, row.target?);
        let (proto, port) = (row.protocol.to_uppercase(), row.port?);
        Some(format!(
            "{source} sends to {target}, {proto} {port}{}, by this box's hardware address: the box does not have that address",
            vlans(row)
        ))
    };
    let texts = wire.rows.iter().filter(is_odd).filter_map(text).take(NAMED);
    texts.map(|text| finding("other_address", text)).collect()
}

fn not_received(sender: &SenderSeen, listeners: &[ListenerSeen]) -> Finding {
    let SenderSeen { source, stream, ports, wire, received } = sender;
    let received = received.unwrap_or(0);
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let drops: BTreeMap<&String, &u64> =
        listeners.iter().filter(|listener| listener.stream == *stream).flat_map(|listener| &listener.dropped).collect();
    let why = if !drops.is_empty() {
        let told: Vec<String> = drops.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        format!("Raven dropped meanwhile: {}", told.join(", "))
    } else if received == 0 {
        "a firewall drops it (on a box: `raven net firewall`), its way back is another, or its checksum is wrong"
            .to_owned()
    } else {
        format!("{} did not come to the listener", wire - received)
    };
    let ports = ports.join(", ");
    finding(
        "not_received",
        format!("{source} sends to UDP {ports} ({stream}): {wire} on the wire, {received} received: {why}"),
    )
}

/// Connections that are begun, and again, without anything after it.
fn no_further(wire: &WireResult, place: &Place) -> Vec<Finding> {
    let is_stuck = |row: &&Row| row.protocol == "tcp" && row.begun > 1 && row.begun == row.packets;
    let stuck = wire.rows.iter().filter(is_stuck).filter(|row| place.listener(wire, row).is_some());
    let text = |row: &Row| {
        let (source, port) = (row.source?, row.port?);
        Some(format!(
            "{source} begins connections to TCP {port}{} and gets no further: {} times; a firewall drops it, or the answer goes \
             another way",
            vlans(row),
            row.begun
        ))
    };
    stuck.filter_map(text).take(NAMED).map(|text| finding("not_received", text)).collect()
}

fn not_counted(wire: &WireResult) -> Vec<Finding> {
    let mut findings = Vec::new();
    if wire.dropped > 0 {
        let text = "frames came faster than they were counted: what is on the wire is more than is shown";
        findings.push(finding("not_counted", format!("{} {text}", wire.dropped)));
    }
    if wire.other.packets > 0 {
        let text = "frames are of senders for whom there was no room: ask for ports or senders";
        findings.push(finding("not_counted", format!("{} {text}", wire.other.packets)));
    }
    findings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::report::{LinkState, LinkStatus};

    fn row(protocol: &str, source: &str, target: &str, port: u16, packets: u64) -> Row {
        let (source, target) = (source.parse().ok(), target.parse().ok());
        Row { protocol: protocol.to_owned(), source, target, port: Some(port), packets, ..Row::default() }
    }

    fn status(listeners: &[(&str, &str, &str)]) -> Status {
        let listener = |(stream, proto, addr): &(&str, &str, &str)| ListenerStatus {
            stream: (*stream).to_owned(),
            proto: (*proto).to_owned(),
            addr: (*addr).to_owned(),
            ..ListenerStatus::default()
        };
        let mut link = LinkStatus::new("eth0", LinkState::Up);
        link.addresses = vec!["192.0.2.1/24".to_owned()];
        Status { listeners: listeners.iter().map(listener).collect(), links: vec![link], ..Status::default() }
    }

    fn judged(rows: Vec<Row>, received: &[(&str, u64)], before: &Status, after: &Status, ports: &[u16]) -> WireReport {
        let wire = WireResult { interface: "eth0".to_owned(), rows, ..WireResult::default() };
        let records = received.iter().map(|(source, count)| (source.parse().unwrap(), *count)).collect();
        let records = BTreeMap::from([(Stream::Syslog, records)]);
        report(&wire, &Place::of(before), &Beside { records: &records, before, after, ports })
    }

    fn texts(report: &WireReport) -> String {
        let lines = report.findings.iter().map(|finding| format!("{}: {}", finding.kind, finding.text));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_is_received_as_it_was_sent_is_well() {
        let status = status(&[("syslog", "udp", "[::]:514")]);
        let rows = vec![row("udp", "192.0.2.7", "192.0.2.1", 514, 1200)];
        let report = judged(rows, &[("192.0.2.7", 1200)], &status, &status, &[]);
        assert_eq!((texts(&report), is_well(&report)), (String::new(), true));
        assert_eq!((report.senders[0].wire, report.senders[0].received), (1200, Some(1200)));
        assert_eq!(report.listeners[0].wire, 1200);
    }

    #[test]
    fn a_port_at_which_nobody_listens_is_told_with_who_sends_there() {
        let status = status(&[("syslog", "udp", "[::]:514"), ("syslog", "udp", "192.0.2.9:2055")]);
        let mut tcp = row("tcp", "192.0.2.8", "192.0.2.1", 6514, 3);
        tcp.begun = 3;
        // Of another protocol, of nobody's interest, and for others.
        let mut others = row("udp", "192.0.2.8", "192.0.2.3", 162, 9);
        others.to = To::Others;
        let rows = vec![
            row("udp", "192.0.2.7", "192.0.2.1", 1514, 5),
            row("udp", "192.0.2.8", "192.0.2.1", 1514, 6),
            row("udp", "192.0.2.8", "192.0.2.1", 2055, 1),
            row("udp", "192.0.2.8", "192.0.2.1", 5353, 1),
            tcp,
            others,
        ];
        let report = judged(rows.clone(), &[], &status, &status, &[]);
        let all = texts(&report);
        assert!(all.contains("nobody listens at UDP 1514 (syslog): 11 datagrams from 192.0.2.7, 192.0.2.8"), "{all}");
        assert!(all.contains("nobody listens at UDP 2055 (NetFlow)"), "{all}");
        assert!(all.contains("nobody listens at TCP 6514 (syslog over TLS): 3 connections begun"), "{all}");
        assert!(!is_well(&report) && report.findings.len() == 3, "{all}");
        let all = texts(&judged(rows, &[], &status, &status, &[5353]));
        assert!(all.contains("nobody listens at UDP 5353: 1 datagrams"), "{all}");
    }

    #[test]
    fn what_does_not_come_to_its_listener_is_told_with_what_is_known_of_why() {
        let before = status(&[("syslog", "udp", "[::]:514")]);
        let rows = || vec![row("udp", "192.0.2.7", "192.0.2.1", 514, 1200)];
        let all = texts(&judged(rows(), &[("192.0.2.7", 900)], &before, &before, &[]));
        assert!(all.contains("1200 on the wire, 900 received: 300 did not come to the listener"), "{all}");
        let all = texts(&judged(rows(), &[], &before, &before, &[]));
        assert!(all.contains("0 received: a firewall drops it"), "{all}");
        let mut after = before.clone();
        after.listeners[0].dropped.insert("socket_buffer".to_owned(), 300);
        let all = texts(&judged(rows(), &[("192.0.2.7", 900)], &before, &after, &[]));
        assert!(all.contains("Raven dropped meanwhile: 300 socket_buffer"), "{all}");
        let mut syn = row("tcp", "192.0.2.7", "192.0.2.1", 601, 3);
        syn.begun = 3;
        let status = status(&[("syslog", "tcp", "[::]:601")]);
        let all = texts(&judged(vec![syn], &[], &status, &status, &[]));
        assert!(all.contains("192.0.2.7 begins connections to TCP 601 and gets no further: 3 times"), "{all}");
    }

    #[test]
    fn what_is_for_an_address_that_the_box_does_not_have_is_told() {
        let status = status(&[("syslog", "udp", "[::]:514")]);
        let report = judged(vec![row("udp", "192.0.2.7", "192.0.2.99", 514, 5)], &[], &status, &status, &[]);
        let all = texts(&report);
        assert!(all.starts_with("other_address: 192.0.2.7 sends to 192.0.2.99, UDP 514,"), "{all}");
        assert!(report.findings.len() == 1 && report.senders.is_empty(), "{all}");
    }

    #[test]
    fn who_sends_by_tcp_too_or_to_ports_that_were_not_watched_is_not_compared() {
        let others = status(&[("syslog", "udp", "[::]:514"), ("syslog", "udp", "[::]:1514")]);
        let status = status(&[("syslog", "udp", "[::]:514"), ("syslog", "tcp", "[::]:514")]);
        let mut tcp = row("tcp", "192.0.2.7", "192.0.2.1", 514, 50);
        tcp.begun = 1;
        let rows = vec![row("udp", "192.0.2.7", "192.0.2.1", 514, 5), tcp];
        let report = judged(rows, &[("192.0.2.7", 1)], &status, &status, &[]);
        assert_eq!((report.senders[0].received, is_well(&report)), (None, true));
        let rows = vec![row("udp", "192.0.2.7", "192.0.2.1", 514, 5)];
        assert_eq!(judged(rows, &[], &others, &others, &[514]).senders[0].received, None);
    }

    #[test]
    fn what_could_not_be_counted_is_told_and_is_no_fault_of_the_network() {
        let status = status(&[]);
        let wire = WireResult { dropped: 7, ..WireResult::default() };
        let beside = Beside { records: &BTreeMap::new(), before: &status, after: &status, ports: &[] };
        let report = report(&wire, &Place::of(&status), &beside);
        assert!(is_well(&report) && texts(&report).contains("7 frames came faster"), "{}", texts(&report));
    }
}
