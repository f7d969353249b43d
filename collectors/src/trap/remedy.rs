//! What an operator can do about a message that was refused, in words with the value to write down.

use raven_decode::snmp::{EngineId, Message, PduKind, Refused};
use std::net::IpAddr;

/// Characters shown of a name that somebody sent.
const SHOWN: usize = 32;

/// Of one from an address that may not send.
pub fn of_source(source: IpAddr) -> String {
    format!("add {source} to collect.trap.sources")
}

/// Of one above the limit.
pub fn of_storm(storm: u32) -> String {
    format!("it sends more than {storm} notifications in a second: find out why, or raise collect.trap.storm")
}

/// The engine that it is about, if it is about one.
pub const fn engine_of(reason: &Refused) -> Option<EngineId> {
    match reason {
        Refused::UnknownEngine { engine, .. }
        | Refused::InformForAnother(engine)
        | Refused::UnknownUser { engine, .. }
        | Refused::Digest { engine, .. }
        | Refused::NotInTimeWindow { engine, .. }
        | Refused::Decryption { engine, .. } => Some(*engine),
        _ => None,
    }
}

/// Of one that the look at it refused. `has_users`: the file of users has been read.
pub fn of(reason: &Refused, raw: &[u8], has_users: bool) -> String {
    let unread = "the SNMPv3 users were not read: set collect.trap.users, and see the log for what is wrong with it";
    match reason {
        Refused::UnknownEngine { .. } | Refused::UnknownUser { .. } if !has_users => unread.to_owned(),
        Refused::UnknownEngine { engine, proven_by } => {
            let proven = proven_by.as_ref().map(|user| format!(" (it knows the secret of user `{}`)", short(user)));
            format!(
                "SNMPv3 engine {engine} unknown{}: approve it by adding it to collect.trap.engines",
                proven.unwrap_or_default()
            )
        }
        Refused::UnknownUser { user, engine } => {
            format!("user `{}` of engine {engine} is not in the file of collect.trap.users", short(user))
        }
        Refused::Community => {
            format!("community `{}` is not in collect.trap.communities", community(raw).unwrap_or_default())
        }
        Refused::Level { user, sent, expected } => format!(
            "user `{}` sent {sent}, its secrets ask for {expected}: make the device and the file of \
             collect.trap.users agree",
            short(user)
        ),
        Refused::Digest { user, engine } => format!(
            "user `{}` of engine {engine} has another `auth` or `auth_password` here than in the device",
            short(user)
        ),
        Refused::Decryption { user, engine } => format!(
            "user `{}` of engine {engine} has another `priv` or `priv_password` here than in the device",
            short(user)
        ),
        Refused::NotInTimeWindow { .. } => format!(
            "{reason}: nothing to do if it happens once after a restart; else the device lost its count of boots, \
             or somebody repeats what he recorded"
        ),
        Refused::InformForAnother(_) => {
            "it holds another receiver's engine id for ours; it was told the right one and asks anew".to_owned()
        }
        Refused::Discovery => "nothing: it asked for our engine id and was answered".to_owned(),
        Refused::NotANotification(kind) => of_pdu(*kind),
        Refused::SecurityModel(_) | Refused::PrivacyWithoutAuthentication => {
            format!("{reason}: set the device to SNMPv3 with USM")
        }
        Refused::Malformed(_) | Refused::Version(_) => hint(raw).map_or_else(|| reason.to_string(), str::to_owned),
    }
}

fn of_pdu(kind: PduKind) -> String {
    match kind {
        PduKind::Report | PduKind::Response => {
            format!("an SNMP {kind} that nobody here asked for: its sender takes Raven for a manager")
        }
        _ => format!("an SNMP {kind}: Raven takes notifications only; its sender is to poll the devices"),
    }
}

/// What it may be, if it is not SNMP.
fn hint(raw: &[u8]) -> Option<&'static str> {
    let text = |raw: &[u8]| raw.iter().take(64).all(|&byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'));
    Some(match raw {
        [] => "it is empty: a port scan?",
        [0, 0, 0, 5, 0, 0, 0, 1 | 2, ..] => "this is sFlow: send it to a port of collect.flow.udp, such as 6343",
        [0, 1 | 5 | 7 | 9, ..] if raw.len() >= 16 => {
            "this is NetFlow: send it to a port of collect.flow.udp, such as 2055"
        }
        [0, 10, ..] if raw.len() >= 16 => "this is IPFIX: send it to a port of collect.flow.udp, such as 4739",
        [b'<', b'0'..=b'9', ..] => "this is syslog: send it to a port of collect.syslog.udp, such as 514",
        [b'{' | b'[', ..] if text(raw) => "this is JSON: Windows events go to a port of collect.winevent.http",
        [0x30, ..] => return None,
        _ if text(raw) => "this is text and no SNMP; syslog goes to a port of collect.syslog.udp, such as 514",
        _ => return None,
    })
}

/// The community of a message, to be shown because it is the wrong one.
fn community(raw: &[u8]) -> Option<String> {
    match Message::read(raw) {
        Ok(Message::Community(message)) => Some(short(&String::from_utf8_lossy(message.community))),
        _ => None,
    }
}

/// A name that somebody sent, so that it can be shown.
fn short(name: &str) -> String {
    let shown: String = name.chars().take(SHOWN).collect();
    let more = if shown.len() < name.len() { "…" } else { "" };
    format!("{}{more}", shown.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> EngineId {
        EngineId::ours(b"x")
    }

    #[test]
    fn what_lets_it_in_is_said_with_the_value_to_write_down() {
        let unknown = Refused::UnknownEngine { engine: engine(), proven_by: Some("noc\n".to_owned()) };
        let said = of(&unknown, b"", true);
        assert!(
            said.starts_with("SNMPv3 engine 800000000578 unknown (it knows the secret of user `noc\\n`)"),
            "{said}"
        );
        assert!(said.ends_with("approve it by adding it to collect.trap.engines"), "{said}");
        assert!(of(&unknown, b"", false).starts_with("the SNMPv3 users were not read"));
        let community =
            b"\x30\x1b\x02\x01\x01\x04\x06publix\xa7\x0e\x02\x01\x01\x02\x01\x00\x02\x01\x00\x30\x03\x30\x01\x05";
        let said = of(&Refused::Community, community, true);
        assert!(said.contains("is not in collect.trap.communities"), "{said}");
        assert_eq!(of_source(IpAddr::from([192, 0, 2, 1])), "add 192.0.2.1 to collect.trap.sources");
        assert!(short(&"x".repeat(99)).len() < 40);
    }

    #[test]
    fn what_is_no_snmp_gets_a_hint_by_its_content() {
        let malformed = |raw: &[u8]| {
            let Err(reason) = Message::read(raw) else { return "SNMP".to_owned() };
            of(&reason, raw, true)
        };
        let netflow = [&[0, 9][..], &[0; 40]].concat();
        let sflow = [&[0, 0, 0, 5, 0, 0, 0, 1][..], &[0; 40]].concat();
        let ipfix = [&[0, 10][..], &[0; 40]].concat();
        for (raw, expected) in [
            (&b"<189>Oct 11: %LINK"[..], "this is syslog"),
            (&netflow, "this is NetFlow"),
            (&sflow, "this is sFlow"),
            (&ipfix, "this is IPFIX"),
            (b"{\"EventID\":1}", "this is JSON"),
            (b"GET / HTTP/1.1\r\n", "this is text"),
            (b"", "it is empty"),
            (b"\xff\xff", "malformed"),
            (b"\x30\x05", "malformed"),
        ] {
            assert!(malformed(raw).starts_with(expected), "{}", malformed(raw));
        }
    }
}
