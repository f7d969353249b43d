//! What the types cannot say: ranges, clashes between listeners, well-formed targets.

use super::error::Flaw;
use super::{Buffer, Collect, CollectFlow, CollectTrap, Config, Destination, Disk, Listen, Secret, Wanted};
use crate::prefix::Prefix;
use crate::stream::Stream;
use crate::units::{ByteCount, Span};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

impl Config {
    /// Checks everything that can be checked without looking at the machine; all that is wrong, in the order of the
    /// file.
    pub fn validate(&self) -> Result<(), Vec<Flaw>> {
        let mut flaws = Vec::new();
        if self.schema != 1 {
            flaws.push(Flaw::new(
                &["schema"],
                format!("schema {} is not known to this version of Raven", self.schema),
                "`schema = 1`",
            ));
        }
        flaws.extend(site_name(&self.site.name));
        flaws.extend(self.system.flaws());
        flaws.extend(self.network.flaws());
        flaws.extend(self.vpn.flaws());
        flaws.extend(self.access.flaws());
        flaws.extend(collect(&self.collect));
        flaws.extend(self.alert.flaws());
        flaws.extend(self.diag.flaws());
        flaws.extend(self.lost_tunnels());
        flaws.extend(buffer(&self.buffer));
        flaws.extend(self.uplink.iter().flat_map(|(name, destination)| uplink(name, destination)));
        let lost = self.uplink.iter().filter(|(_, to)| to.via.is_some() && self.vpn.order.is_empty());
        flaws.extend(lost.map(|(name, _)| {
            let message = "`via` is a tunnel and `vpn.order` names none".to_owned();
            Flaw::new(&["uplink", name, "via"], message, "a profile in `vpn.order`, or no `via`")
        }));
        if flaws.is_empty() { Ok(()) } else { Err(flaws) }
    }
}

impl Config {
    /// Scheduled tests through tunnels that are not there.
    fn lost_tunnels(&self) -> Vec<Flaw> {
        let lost = self.diag.schedule.iter().filter_map(|(name, schedule)| {
            let tunnel = schedule.tunnel.as_ref().filter(|tunnel| !self.vpn.profile.contains_key(*tunnel))?;
            let message = format!("there is no profile `{tunnel}`");
            Some(Flaw::new(&["diag", "schedule", name, "tunnel"], message, "the name of a `[vpn.profile.NAME]`"))
        });
        lost.collect()
    }
}

fn site_name(name: &str) -> Option<Flaw> {
    let fine = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let message = || format!("`{}` is no name for a site", name.escape_debug());
    (!fine).then(|| Flaw::new(&["site", "name"], message(), "1 to 64 letters, digits, `-`, `_` or `.`"))
}

/// Listeners, limits and lists of what is collected.
fn collect(collect: &Collect) -> Vec<Flaw> {
    let Collect { syslog, flow, trap, winevent, metrics, host } = collect;
    let mut flaws = clashes(collect);
    // RFC 5424, 6.1: every receiver takes at least 480 octets.
    let limit = ["collect", "syslog", "message_limit"];
    flaws.extend(bytes(&limit, syslog.message_limit, 480, ByteCount::kib(64).0));
    for stream in [Stream::Syslog, Stream::Flow, Stream::Winevent, Stream::Metrics] {
        let (connections, per_source) = collect.connection_limits(stream);
        flaws.extend(number(&["collect", stream.name(), "connections"], connections, 1024));
        flaws.extend(number(&["collect", stream.name(), "connections_per_source"], per_source, 1024));
    }
    for (stream, buffer) in
        [("syslog", syslog.receive_buffer), ("flow", flow.receive_buffer), ("trap", trap.receive_buffer)]
    {
        // The kernel keeps twice the value in an int.
        let path = ["collect", stream, "receive_buffer"];
        flaws.extend(bytes(&path, buffer, ByteCount::kib(4).0, ByteCount::mib(1023).0));
    }
    flaws.extend(pair("syslog", syslog.certificate.as_ref(), syslog.key.as_ref()));
    flaws.extend(pair("winevent", winevent.certificate.as_ref(), winevent.key.as_ref()));
    flaws.extend(pair("metrics", metrics.certificate.as_ref(), metrics.key.as_ref()));
    flaws.extend(of_flow(flow));
    flaws.extend(of_trap(trap));
    let (body, event) = (["collect", "winevent", "body_limit"], ["collect", "winevent", "event_limit"]);
    flaws.extend(bytes(&body, winevent.body_limit, ByteCount::kib(1).0, ByteCount::mib(64).0));
    flaws.extend(bytes(&event, winevent.event_limit, ByteCount::kib(1).0, ByteCount::mib(16).0));
    // What is unfolded of a body has to fit into the memory of the role.
    let body = ["collect", "metrics", "body_limit"];
    flaws.extend(bytes(&body, metrics.body_limit, ByteCount::kib(1).0, ByteCount::mib(16).0));
    let interval = ["collect", "host", "interval"];
    flaws.extend(span(&interval, host.interval, Duration::from_secs(1), Duration::from_hours(1)));
    flaws
}

/// A certificate is of no use without its key.
fn pair(stream: &str, certificate: Option<&Secret>, key: Option<&Secret>) -> Option<Flaw> {
    let (have, lack) = match (certificate, key) {
        (Some(_), None) => ("certificate", "key"),
        (None, Some(_)) => ("key", "certificate"),
        _ => return None,
    };
    let message = format!("`{have}` is set and `{lack}` is not");
    Some(Flaw::new(&["collect", stream, have], message, "both of them, or none for the appliance's own"))
}

fn of_flow(flow: &CollectFlow) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    for (address, &rate) in &flow.sampling {
        let path = ["collect", "flow", "sampling", address];
        if address.parse::<IpAddr>().is_err() {
            let message = format!("`{}` is no address", address.escape_debug());
            flaws.push(Flaw::new(&path, message, "the address of an exporter, such as `\"192.0.2.1\" = 1000`"));
        }
        flaws.extend(number(&path, rate, u32::MAX));
    }
    let (minute, week) = (Duration::from_mins(1), Duration::from_hours(7 * 24));
    flaws.extend(span(&["collect", "flow", "template_lifetime"], flow.template_lifetime, minute, week));
    flaws.extend(number(&["collect", "flow", "templates_per_exporter"], flow.templates_per_exporter, 65_536));
    flaws.extend(number(&["collect", "flow", "templates"], flow.templates, 65_536));
    flaws
}

fn of_trap(trap: &CollectTrap) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    for (index, source) in trap.sources.iter().enumerate() {
        if source.parse::<Prefix>().is_err() {
            let message = format!("`{}` is neither an address nor a prefix", source.escape_debug());
            let path = ["collect", "trap", "sources", &index.to_string()];
            flaws.push(Flaw::new(&path, message, "an address or a prefix such as `\"10.20.0.0/16\"`"));
        }
    }
    for (index, engine) in trap.engines.iter().enumerate() {
        let hex = engine.strip_prefix("0x").unwrap_or(engine);
        // RFC 3411, SnmpEngineID: 5 to 32 octets.
        let fine = hex.bytes().all(|b| b.is_ascii_hexdigit()) && hex.len() % 2 == 0 && (10..=64).contains(&hex.len());
        if !fine {
            let message = format!("`{}` is no engine id", engine.escape_debug());
            let path = ["collect", "trap", "engines", &index.to_string()];
            flaws.push(Flaw::new(&path, message, "5 to 32 bytes in hex, such as `\"80001f8804abcdef\"`"));
        }
    }
    flaws.extend(number(&["collect", "trap", "storm"], trap.storm, 1_000_000));
    flaws
}

/// Listeners that cannot be bound at the same time: the transports above TCP share its ports.
fn clashes(collect: &Collect) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let mut earlier: Vec<Wanted> = Vec::new();
    let mut indices = BTreeMap::new();
    for listener in collect.wanted() {
        let index = indices.entry((listener.stream, listener.proto)).or_insert(0_usize);
        let same = |other: &&Wanted| other.proto.is_connected() == listener.proto.is_connected();
        if let Some(other) = earlier.iter().filter(same).find(|other| clash(other.listen, listener.listen)) {
            let at = listener.listen;
            let proto = listener.proto.name();
            let message = if (other.stream, other.proto) == (listener.stream, listener.proto) {
                if other.listen == at {
                    format!("{proto} {at} is listed twice")
                } else {
                    format!("{proto} {at} clashes with {}, which takes the same port", other.listen)
                }
            } else {
                let whose = format!("{} of `collect.{}`", other.proto.name(), other.stream);
                format!("{proto} {at} clashes with {whose}, which takes the same port")
            };
            let path = ["collect", listener.stream.name(), proto, &index.to_string()];
            flaws.push(Flaw::new(&path, message, "each address and port once"));
        }
        *index += 1;
        earlier.push(listener);
    }
    flaws
}

fn clash(a: Listen, b: Listen) -> bool {
    let covers = |any: IpAddr, other: IpAddr| match any {
        IpAddr::V6(v6) => v6 == Ipv6Addr::UNSPECIFIED,
        IpAddr::V4(v4) => v4.is_unspecified() && other.is_ipv4(),
    };
    let (x, y) = (a.0.ip(), b.0.ip());
    a.0.port() == b.0.port() && (x == y || covers(x, y) || covers(y, x))
}

fn buffer(buffer: &Buffer) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    flaws.extend(span(&["buffer", "keep"], buffer.keep, Duration::from_secs(1), Duration::from_hours(3650 * 24)));
    if let Disk::Amount(amount) = buffer.disk {
        flaws.extend(bytes(&["buffer", "disk"], amount, ByteCount::mib(1).0, 1 << 50));
    }
    flaws.extend(span(&["buffer", "sync"], buffer.sync, Duration::from_millis(10), Duration::from_secs(1)));
    if let Some(segment) = buffer.segment {
        flaws.extend(bytes(&["buffer", "segment"], segment, ByteCount::mib(1).0, 8 << 30));
    }
    for (stream, room) in &buffer.streams {
        if let Some(keep) = room.keep {
            let path = ["buffer", "streams", stream.name(), "keep"];
            flaws.extend(span(&path, keep, Duration::from_secs(1), Duration::from_hours(3650 * 24)));
        }
        if let Some(share) = room.share.filter(|share| !(1..=1000).contains(share)) {
            let path = ["buffer", "streams", stream.name(), "share"];
            flaws.push(Flaw::new(&path, format!("`share` is {share}"), "1 to 1000".to_owned()));
        }
    }
    flaws
}

fn uplink(name: &str, destination: &Destination) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    if !(1..=32).contains(&name.len())
        || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        let message = format!("`{}` is no name for a destination", name.escape_debug());
        flaws.push(Flaw::new(&["uplink", name], message, "1 to 32 small letters, digits or `-`"));
    }
    flaws.extend(super::destination::flaws(name, destination));
    flaws.extend(streams(name, &destination.streams));
    flaws.extend(number(&["uplink", name, "window"], destination.window, 65_536));
    flaws.extend(span(
        &["uplink", name, "timeout"],
        destination.timeout,
        Duration::from_secs(1),
        Duration::from_mins(10),
    ));
    flaws.extend(destination.ack_timeout.and_then(|wait| {
        span(&["uplink", name, "ack_timeout"], wait, Duration::from_secs(1), Duration::from_mins(10))
    }));
    flaws
}

pub(super) fn port_number(text: &str) -> Result<(), &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port: u16 =
        digits.then(|| text.parse().ok()).flatten().ok_or("has a port that is not a number from 1 to 65535")?;
    if port == 0 { Err("has port 0, which nobody listens on") } else { Ok(()) }
}

/// A DNS name (RFC 1123, 2.1), an IPv4 address, or an IPv6 address in brackets.
pub(super) fn host_name(host: &str) -> Result<(), &'static str> {
    if let Some(inner) = host.strip_prefix('[') {
        let v6 = inner.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
        return if v6 { Ok(()) } else { Err("has brackets around something that is no IPv6 address") };
    }
    if host.contains(':') {
        return Err("has an IPv6 address without brackets");
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let fine = (1..=253).contains(&name.len()) && name.split('.').all(label);
    if fine { Ok(()) } else { Err("has no valid host name or address") }
}

fn streams(name: &str, streams: &[String]) -> Vec<Flaw> {
    let known = Stream::ALL.map(|stream| format!("`{stream}`")).join(", ");
    let mut flaws = Vec::new();
    if streams.is_empty() {
        flaws.push(Flaw::new(
            &["uplink", name, "streams"],
            "the list is empty: nothing would be sent",
            format!("one or more of {known}"),
        ));
    }
    for (index, stream) in streams.iter().enumerate() {
        let path = ["uplink", name, "streams", &index.to_string()];
        if Stream::named(stream).is_none() {
            flaws.push(Flaw::new(
                &path,
                format!("there is no stream `{}`", stream.escape_debug()),
                format!("one of {known}"),
            ));
        } else if streams[..index].contains(stream) {
            flaws.push(Flaw::new(&path, format!("stream `{stream}` is listed twice"), "each stream once"));
        }
    }
    flaws
}

pub(super) fn number(path: &[&str], value: u32, most: u32) -> Option<Flaw> {
    let key = path.last().copied().unwrap_or_default();
    (!(1..=most).contains(&value))
        .then(|| Flaw::new(path, format!("`{key}` is {value}"), format!("a number from 1 to {most}")))
}

pub(super) fn bytes(path: &[&str], value: ByteCount, least: u64, most: u64) -> Option<Flaw> {
    let key = path.last().copied().unwrap_or_default();
    let expected = || format!("{} to {}", ByteCount(least), ByteCount(most));
    (!(least..=most).contains(&value.0)).then(|| Flaw::new(path, format!("`{key}` is {value}"), expected()))
}

pub(super) fn span(path: &[&str], value: Span, least: Duration, most: Duration) -> Option<Flaw> {
    let key = path.last().copied().unwrap_or_default();
    let expected = || format!("{} to {}", Span(least), Span(most));
    (!(least..=most).contains(&value.0)).then(|| Flaw::new(path, format!("`{key}` is {value}"), expected()))
}
