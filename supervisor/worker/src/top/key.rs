//! What flows are counted by, and how that is called.

use raven_decode::flow::flows::Seen;
use raven_decode::flow::template::Record;
use raven_decode::flow::value::Value;
use raven_model::hex::hex;
use raven_model::query::TopBy;
use raven_model::services::{protocol, service};
use std::collections::HashMap;
use std::net::IpAddr;

/// applicationId and applicationName (RFC 6759).
const APPLICATION_ID: u16 = 95;
const APPLICATION_NAME: u16 = 96;
/// Bytes of an application's id and name; longer ones are none.
const NAME_MAX: usize = 64;
/// Names of applications that are remembered.
const NAMES_MAX: usize = 4096;
/// Classification engines whose selector is a protocol or a port of IANA (RFC 6759, 4.1).
const IANA_L3: u8 = 1;
const IANA_L4: u8 = 3;

/// What a flow is counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The flow does not say.
    Nothing,
    /// An address.
    Addr(IpAddr),
    /// From and to.
    Pair(IpAddr, IpAddr),
    /// Protocol and port.
    Port(u8, u16),
    /// A protocol without ports.
    Protocol(u8),
    /// An application by its number: engine and selector.
    Application(Box<[u8]>),
    /// An application by its name.
    Name(Box<str>),
}

impl Key {
    /// The key of a flow.
    pub fn of(by: TopBy, seen: &Seen<'_, '_, '_>, exporter: IpAddr) -> Self {
        let flow = &seen.flow;
        match by {
            TopBy::Src => flow.src_addr.map_or(Self::Nothing, Self::Addr),
            TopBy::Dst => flow.dst_addr.map_or(Self::Nothing, Self::Addr),
            TopBy::Exporter => Self::Addr(exporter),
            TopBy::Pair => {
                flow.src_addr.zip(flow.dst_addr).map_or(Self::Nothing, |(source, target)| Self::Pair(source, target))
            }
            TopBy::Port => Self::port(flow.proto, flow.dst_port),
            TopBy::App => seen.record.and_then(application).unwrap_or_else(|| {
                Self::port(flow.proto, flow.proto.and_then(|proto| of_service(proto, flow.src_port, flow.dst_port)))
            }),
        }
    }

    fn port(proto: Option<u8>, port: Option<u16>) -> Self {
        match (proto, port) {
            (None, _) => Self::Nothing,
            // ICMP and others have none, and exporters send 0 or the type there.
            (Some(proto @ (6 | 17 | 132)), Some(port)) => Self::Port(proto, port),
            (Some(proto), _) => Self::Protocol(proto),
        }
    }

    /// As it is shown, and its name.
    pub fn shown(&self, applications: &Applications) -> (Option<String>, Option<String>) {
        let number = |proto: u8| protocol(proto).map_or_else(|| format!("proto {proto}"), str::to_owned);
        match self {
            Self::Nothing => (None, None),
            Self::Addr(addr) => (Some(addr.to_string()), None),
            Self::Pair(source, target) => (Some(format!("{source} > {target}")), None),
            Self::Port(proto, port) => {
                (Some(format!("{}/{port}", number(*proto))), service(*proto, *port).map(str::to_owned))
            }
            Self::Protocol(proto) => (Some(number(*proto)), None),
            Self::Application(id) => (Some(engine_and_selector(id)), applications.name(id)),
            Self::Name(name) => (Some(name.to_string()), None),
        }
    }
}

/// The port that tells the service: one that has a name, that of the destination first; else the lower one, since
/// clients take high ports.
fn of_service(proto: u8, source: Option<u16>, target: Option<u16>) -> Option<u16> {
    let named = |port: &Option<u16>| port.is_some_and(|port| service(proto, port).is_some());
    let ports = [target, source];
    ports
        .into_iter()
        .find(named)
        .flatten()
        .or_else(|| ports.into_iter().flatten().filter(|port| *port > 0).min())
        .or(target)
}

/// What the exporter itself calls the application.
fn application(record: &Record<'_, '_>) -> Option<Key> {
    let (id, name) = id_and_name(record);
    match (name, id) {
        (Some(name), _) => Some(Key::Name(name.into())),
        // Engine 0 and selector 0 say that it is not known.
        (None, Some(id)) if id.iter().skip(1).any(|byte| *byte != 0) => Some(Key::Application(id.into())),
        (None, _) => None,
    }
}

fn id_and_name<'a>(record: &Record<'_, 'a>) -> (Option<&'a [u8]>, Option<String>) {
    let (mut id, mut name) = (None, None);
    for field in record.fields().filter(|field| field.bytes.len() <= NAME_MAX) {
        match (field.spec.name.iana(), field.value()) {
            (Some(APPLICATION_ID), _) if field.bytes.len() > 1 => id = Some(field.bytes),
            (Some(APPLICATION_NAME), Value::Text(text)) => {
                let text = String::from_utf8_lossy(text);
                name = Some(text.trim_end_matches('\0').trim().to_owned()).filter(|text| !text.is_empty());
            }
            _ => {}
        }
    }
    (id, name)
}

/// `13:453`.
fn engine_and_selector(id: &[u8]) -> String {
    let Some((engine, selector)) = id.split_first() else { return String::new() };
    match number(selector) {
        Some(selector) => format!("{engine}:{selector}"),
        None => format!("{engine}:{}", hex(selector)),
    }
}

fn number(selector: &[u8]) -> Option<u64> {
    (selector.len() <= 8).then(|| selector.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

/// Names of applications, as options records tell them.
#[derive(Debug, Default)]
pub struct Applications {
    names: HashMap<Box<[u8]>, String>,
}

impl Applications {
    /// Takes in an options record.
    pub fn learn(&mut self, record: &Record<'_, '_>) {
        let (Some(id), Some(name)) = id_and_name(record) else { return };
        if self.names.len() < NAMES_MAX || self.names.contains_key(id) {
            self.names.insert(id.into(), name);
        }
    }

    fn name(&self, id: &[u8]) -> Option<String> {
        let of_iana = || {
            let (engine, selector) = id.split_first()?;
            let n = number(selector)?;
            match *engine {
                IANA_L3 => protocol(u8::try_from(n).ok()?),
                IANA_L4 => u16::try_from(n).ok().and_then(|port| service(6, port).or_else(|| service(17, port))),
                _ => None,
            }
        };
        self.names.get(id).cloned().or_else(|| of_iana().map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_at_the_port_that_has_a_name_else_at_the_lower_one() {
        assert_eq!(of_service(6, Some(443), Some(51_000)), Some(443));
        assert_eq!(of_service(6, Some(50_000), Some(8080)), Some(8080));
        assert_eq!(of_service(6, Some(22), Some(443)), Some(443), "both have a name");
        assert_eq!(of_service(6, Some(50_000), Some(7777)), Some(7777));
        assert_eq!(of_service(6, None, Some(0)), Some(0));
    }

    #[test]
    fn applications_are_named_by_iana_where_their_exporter_does_not() {
        let applications = Applications::default();
        let shown = |id: &[u8]| Key::Application(id.into()).shown(&applications);
        assert_eq!(shown(&[3, 0, 0, 53]), (Some("3:53".into()), Some("dns".into())));
        assert_eq!(shown(&[1, 89]), (Some("1:89".into()), Some("ospf".into())));
        assert_eq!(shown(&[13, 0, 1, 197]), (Some("13:453".into()), None));
    }
}
