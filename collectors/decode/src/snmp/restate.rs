//! What a manager is told of a stored record: the varbinds of an inform of ours.
//!
//! A notification that its bytes say in the clear is told as it came, whatever its version. All others are told as
//! notifications of Raven's own that carry the bytes: below [`OWN`], which `docs/formats.md` specifies.

use super::ber::OCTETS;
use super::convert::{SNMP_TRAP_ADDRESS, write_missing, write_varbinds};
use super::message::{Data, Message, Scoped};
use super::oid::Oid;
use super::pdu::{Pdu, SNMP_TRAP_OID, SYS_UP_TIME, Varbinds};
use super::value::{IP_ADDRESS, TIME_TICKS};
use super::write::Writer;
use std::net::{IpAddr, SocketAddr};

/// 1.3.6.1.4.1.32473.1, below the enterprise number that RFC 5612 keeps for documentation, as in the RFC 5424 envelope.
const OWN: [u32; 8] = [1, 3, 6, 1, 4, 1, 32473, 1];

/// Where a record comes from: told behind what it says.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// `DEVICE/STREAM/SEQ`, by which a manager tells repeats.
    pub id: &'a str,
    /// Who sent it.
    pub source: SocketAddr,
    /// When it was received, RFC 3339.
    pub received: &'a str,
}

/// Notifications of Raven's own, by the last part of their OID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// A record of which nobody here can read what it says: it is encrypted, or no notification.
    Unread = 1,
    /// A record for which the collector does not vouch.
    Refused = 2,
    /// An alert: JSON.
    Alert = 3,
}

/// The varbinds for a notification as it came, without the tag of their list. `None` where the bytes do not say in the
/// clear what it is.
pub fn as_it_came(raw: &[u8], origin: &Origin<'_>) -> Option<Vec<u8>> {
    let mut w = Writer::new();
    origin.write(&mut w);
    match Message::read(raw).ok()? {
        Message::Community(message) => {
            message.notification().ok()?;
            match message.pdu {
                Pdu::V1(trap) => write_varbinds(&mut w, message.community, &trap, origin.v4())?,
                Pdu::Common(pdu) => write_as_sent(&mut w, pdu.varbinds, origin)?,
            }
        }
        Message::V3(message) => {
            let Data::Plain(content) = message.data else { return None };
            let scoped = Scoped::read(content).ok()?;
            scoped.notification().ok()?;
            write_as_sent(&mut w, scoped.pdu.varbinds(), origin)?;
        }
    }
    Some(w.finish())
}

/// The varbinds for a record whose bytes are carried as they are, without the tag of their list. `uptime` is ours, in
/// 1/100 s.
pub fn as_bytes(own: Own, raw: &[u8], uptime: u32, origin: &Origin<'_>) -> Vec<u8> {
    let mut w = Writer::new();
    write_own(&mut w, 4, raw);
    origin.write(&mut w);
    w.varbind(SNMP_TRAP_OID, |w| w.oid(&below([0, own as u32])));
    w.varbind(SYS_UP_TIME, |w| w.number(TIME_TICKS, uptime.into()));
    w.finish()
}

/// Nothing is changed, if it is what RFC 3416, 4.2.6, says: sysUpTime.0 first, then snmpTrapOID.0.
fn write_as_sent(w: &mut Writer, varbinds: Varbinds<'_>, origin: &Origin<'_>) -> Option<()> {
    let mut first = varbinds.iter().map(|varbind| varbind.oid.content());
    if (first.next()?, first.next()?) != (SYS_UP_TIME, SNMP_TRAP_OID) {
        return None;
    }
    if let Some(address) = origin.v4() {
        write_missing(w, varbinds, SNMP_TRAP_ADDRESS, IP_ADDRESS, &address);
    }
    w.raw(varbinds.content());
    Some(())
}

impl Origin<'_> {
    /// An IpAddress has four bytes: an IPv6 sender stands in Raven's own varbind alone.
    fn v4(&self) -> Option<[u8; 4]> {
        match self.source.ip() {
            IpAddr::V4(v4) => Some(v4.octets()),
            IpAddr::V6(_) => None,
        }
    }

    /// Back to front, like all that is written.
    fn write(&self, w: &mut Writer) {
        write_own(w, 3, self.received.as_bytes());
        write_own(w, 2, self.source.to_string().as_bytes());
        write_own(w, 1, self.id.as_bytes());
    }
}

/// An object of Raven's own: id, source, received, raw.
fn write_own(w: &mut Writer, object: u32, content: &[u8]) {
    let mark = w.mark();
    w.value(OCTETS, content);
    w.oid(&below([1, object, 0]));
    w.wrap(super::ber::SEQUENCE, mark);
}

fn below<const N: usize>(parts: [u32; N]) -> Oid {
    Oid::new([&OWN[..], &parts].concat()).expect("so few parts fit")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::ber::SEQUENCE;
    use super::super::pdu::{Common, PduKind};
    use super::*;

    const ORIGIN: Origin<'static> = Origin {
        id: "arena/trap/7",
        source: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 40000),
        received: "2026-11-22T00:35:53.123456Z",
    };
    const TOLD: [&str; 3] = ["arena/trap/7", "192.0.2.7:40000", "2026-11-22T00:35:53.123456Z"];

    /// A message of a community around what `pdu` writes.
    fn message(version: i32, tag: u8, pdu: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::new();
        let start = w.mark();
        pdu(&mut w);
        w.wrap(tag, start);
        w.octets(b"public");
        w.integer(version);
        w.wrap(SEQUENCE, start);
        w.finish()
    }

    /// A trap of version 1: enterprise 1.3.6.1.4.1.318, one varbind.
    fn v1(agent: [u8; 4], generic: i32, specific: i32) -> Vec<u8> {
        message(0, PduKind::TrapV1.tag(), |w| {
            let list = w.mark();
            w.varbind(&[0x2b, 6, 1, 2, 1, 2, 2, 1, 1, 3], |w| w.integer(3));
            w.wrap(SEQUENCE, list);
            w.number(TIME_TICKS, 123_456);
            w.integer(specific);
            w.integer(generic);
            w.value(IP_ADDRESS, &agent);
            w.oid(&"1.3.6.1.4.1.318".parse().unwrap());
        })
    }

    /// One of version 2c; `varbinds` writes back to front.
    fn v2c(kind: PduKind, varbinds: impl FnOnce(&mut Writer)) -> Vec<u8> {
        message(1, kind.tag(), |w| {
            let list = w.mark();
            varbinds(w);
            w.wrap(SEQUENCE, list);
            w.integer(0);
            w.integer(0);
            w.integer(9);
        })
    }

    fn link_down(w: &mut Writer) {
        w.varbind(&[0x2b, 6, 1, 2, 1, 2, 2, 1, 1, 3], |w| w.integer(3));
        w.varbind(SNMP_TRAP_OID, |w| w.oid(&"1.3.6.1.6.3.1.1.5.3".parse().unwrap()));
        w.varbind(SYS_UP_TIME, |w| w.number(TIME_TICKS, 55));
    }

    /// What a manager reads from these varbinds.
    fn read(content: &[u8]) -> Vec<String> {
        let raw = v2c(PduKind::Inform, |w| w.raw(content));
        let Ok(Message::Community(message)) = Message::read(&raw) else { panic!("{raw:02x?}") };
        let Pdu::Common(Common { varbinds, .. }) = message.pdu else { unreachable!() };
        let shown = |value| match value {
            super::super::value::Value::Octets(text) => format!("{:?}", String::from_utf8_lossy(text)),
            other => format!("{other:?}"),
        };
        varbinds.iter().map(|varbind| format!("{:?} {}", varbind.oid, shown(varbind.value))).collect()
    }

    fn told(raw: &[u8], origin: &Origin<'_>) -> Option<Vec<String>> {
        as_it_came(raw, origin).map(|varbinds| read(&varbinds))
    }

    /// The three at the end.
    fn origin_told() -> Vec<String> {
        (1..).zip(TOLD).map(|(n, text)| format!("1.3.6.1.4.1.32473.1.1.{n}.0 {text:?}")).collect()
    }

    #[test]
    fn a_trap_of_version_1_is_told_as_rfc_3584_has_it() {
        let expected = [
            "1.3.6.1.2.1.1.3.0 TimeTicks(123456)",
            "1.3.6.1.6.3.1.1.4.1.0 Oid(1.3.6.1.4.1.318.0.5)",
            "1.3.6.1.2.1.2.2.1.1.3 Integer(3)",
            "1.3.6.1.6.3.18.1.3.0 IpAddress([192, 0, 2, 78])",
            "1.3.6.1.6.3.18.1.4.0 \"public\"",
            "1.3.6.1.6.3.1.1.4.3.0 Oid(1.3.6.1.4.1.318)",
        ];
        let told_all = told(&v1([192, 0, 2, 78], 6, 5), &ORIGIN).unwrap();
        assert_eq!(told_all, [&expected.map(str::to_owned)[..], &origin_told()].concat());
        let told_generic = told(&v1([0; 4], 2, 0), &ORIGIN).unwrap();
        assert_eq!(told_generic[1], "1.3.6.1.6.3.1.1.4.1.0 Oid(1.3.6.1.6.3.1.1.5.3)");
        assert_eq!(told_generic[3], "1.3.6.1.6.3.18.1.3.0 IpAddress([192, 0, 2, 7])", "an agent that gives none");
        assert_eq!(told(&v1([0; 4], 6, -1), &ORIGIN), None, "no OID can say that");
    }

    #[test]
    fn one_of_version_2c_keeps_its_varbinds_and_gets_its_sender_s_address() {
        let expected = [
            "1.3.6.1.2.1.1.3.0 TimeTicks(55)",
            "1.3.6.1.6.3.1.1.4.1.0 Oid(1.3.6.1.6.3.1.1.5.3)",
            "1.3.6.1.2.1.2.2.1.1.3 Integer(3)",
            "1.3.6.1.6.3.18.1.3.0 IpAddress([192, 0, 2, 7])",
        ];
        for kind in [PduKind::TrapV2, PduKind::Inform] {
            let told = told(&v2c(kind, link_down), &ORIGIN).unwrap();
            assert_eq!(told, [&expected.map(str::to_owned)[..], &origin_told()].concat());
        }
        let proxied = v2c(PduKind::TrapV2, |w| {
            w.varbind(SNMP_TRAP_ADDRESS, |w| w.value(IP_ADDRESS, &[198, 51, 100, 1]));
            link_down(w);
        });
        let told_proxied = told(&proxied, &ORIGIN).unwrap();
        let addresses: Vec<&String> =
            told_proxied.iter().filter(|one| one.starts_with("1.3.6.1.6.3.18.1.3.0")).collect();
        assert_eq!(addresses, ["1.3.6.1.6.3.18.1.3.0 IpAddress([198, 51, 100, 1])"], "what a proxy said stays");
        let v6 = Origin { source: "[2001:db8::7]:162".parse().unwrap(), ..ORIGIN };
        let told_v6 = told(&v2c(PduKind::TrapV2, link_down), &v6).unwrap();
        assert!(!told_v6.iter().any(|one| one.starts_with("1.3.6.1.6.3.18.1.3.0")));
        assert!(told_v6.contains(&"1.3.6.1.4.1.32473.1.1.2.0 \"[2001:db8::7]:162\"".to_owned()));
    }

    #[test]
    fn what_cannot_be_told_as_it_came_is_told_by_its_bytes() {
        let without_uptime = v2c(PduKind::TrapV2, |w| w.varbind(SNMP_TRAP_OID, |w| w.integer(1)));
        for raw in [&b"no SNMP"[..], b"", &without_uptime, &v2c(PduKind::Get, link_down)] {
            assert_eq!(told(raw, &ORIGIN), None);
        }
        for (own, n) in [(Own::Unread, 1), (Own::Refused, 2), (Own::Alert, 3)] {
            let told = read(&as_bytes(own, b"the bytes", 4711, &ORIGIN));
            assert_eq!(told[0], "1.3.6.1.2.1.1.3.0 TimeTicks(4711)");
            assert_eq!(told[1], format!("1.3.6.1.6.3.1.1.4.1.0 Oid(1.3.6.1.4.1.32473.1.0.{n})"));
            assert_eq!(told[2..5], origin_told());
            assert_eq!(told[5..], ["1.3.6.1.4.1.32473.1.1.4.0 \"the bytes\""]);
        }
    }
}
