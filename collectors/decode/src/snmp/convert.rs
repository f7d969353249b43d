//! From the trap of version 1 to the notification of version 2 (RFC 3584, 3.1), so that only one form has to be known
//! behind the collector.

use super::ber::SEQUENCE;
use super::message::Community;
use super::oid::Oid;
use super::pdu::{Pdu, PduKind, SNMP_TRAP_ENTERPRISE, SNMP_TRAP_OID, SYS_UP_TIME, TrapV1};
use super::value::{IP_ADDRESS, TIME_TICKS};
use super::write::Writer;

/// snmpTraps (RFC 3418): the generic traps stand below.
const SNMP_TRAPS: [u32; 9] = [1, 3, 6, 1, 6, 3, 1, 1, 5];
/// snmpTrapAddress.0 (RFC 3584, 5).
const SNMP_TRAP_ADDRESS: &[u8] = &[0x2b, 6, 1, 6, 3, 18, 1, 3, 0];
/// snmpTrapCommunity.0.
const SNMP_TRAP_COMMUNITY: &[u8] = &[0x2b, 6, 1, 6, 3, 18, 1, 4, 0];

impl TrapV1<'_> {
    /// snmpTrapOID (RFC 3584, 3.1, 2): a generic trap has its own, any other stands below its enterprise and a zero.
    /// `None` when that is longer than an OID may be, or the number negative.
    pub fn trap_oid(&self) -> Option<Oid> {
        match u32::try_from(self.generic) {
            Ok(generic @ 0..6) => Oid::new([&SNMP_TRAPS[..], &[generic + 1]].concat()),
            _ => self.enterprise.to_oid().child(&[0, u32::try_from(self.specific).ok()?]),
        }
    }
}

/// The message of version 2c that says the same as this one of version 1. `None` for what is no trap of version 1.
pub fn to_v2c(message: &Community<'_>, request_id: i32) -> Option<Vec<u8>> {
    let Pdu::V1(trap) = message.pdu else { return None };
    let trap_oid = trap.trap_oid()?;
    let mut w = Writer::new();
    let start = w.mark();
    let has = |oid| trap.varbinds.find(oid).is_some();
    // Written back to front; what a proxy has put there already stays as it is (3.1, 4).
    for (oid, tag, content) in [
        (SNMP_TRAP_ENTERPRISE, super::ber::OID, trap.enterprise.content()),
        (SNMP_TRAP_COMMUNITY, super::ber::OCTETS, message.community),
        (SNMP_TRAP_ADDRESS, IP_ADDRESS, &trap.agent_addr),
    ] {
        if !has(oid) {
            varbind(&mut w, oid, |w| w.value(tag, content));
        }
    }
    w.raw(trap.varbinds.content());
    varbind(&mut w, SNMP_TRAP_OID, |w| w.oid(&trap_oid));
    varbind(&mut w, SYS_UP_TIME, |w| w.number(TIME_TICKS, trap.uptime.into()));
    w.wrap(SEQUENCE, start);
    w.integer(0);
    w.integer(0);
    w.integer(request_id);
    w.wrap(PduKind::TrapV2.tag(), start);
    w.octets(message.community);
    w.integer(1);
    w.wrap(SEQUENCE, start);
    Some(w.finish())
}

fn varbind(w: &mut Writer, oid: &[u8], value: impl FnOnce(&mut Writer)) {
    let start = w.mark();
    value(w);
    w.value(super::ber::OID, oid);
    w.wrap(SEQUENCE, start);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::message::{Message, Version};
    use super::*;

    /// A trap of version 1: public, enterprise 1.3.6.1.4.1.318, agent 192.0.2.78, one varbind.
    fn trap(generic: i32, specific: i32) -> Vec<u8> {
        let mut w = Writer::new();
        let start = w.mark();
        varbind(&mut w, &[0x2b, 6, 1, 2, 1, 2, 2, 1, 1, 3], |w| w.integer(3));
        w.wrap(SEQUENCE, start);
        w.number(TIME_TICKS, 123_456);
        w.integer(specific);
        w.integer(generic);
        w.value(IP_ADDRESS, &[192, 0, 2, 78]);
        w.oid(&"1.3.6.1.4.1.318".parse().unwrap());
        w.wrap(0xa4, start);
        w.octets(b"public");
        w.integer(0);
        w.wrap(SEQUENCE, start);
        w.finish()
    }

    fn converted(raw: &[u8]) -> Option<Vec<String>> {
        let Message::Community(message) = Message::read(raw).unwrap() else { unreachable!() };
        let raw = to_v2c(&message, 7)?;
        let Ok(Message::Community(message)) = Message::read(&raw) else { panic!("{raw:02x?}") };
        assert_eq!((message.version, message.pdu.kind()), (Version::V2c, PduKind::TrapV2));
        Some(message.pdu.varbinds().iter().map(|v| format!("{:?} {:?}", v.oid, v.value)).collect())
    }

    #[test]
    fn a_trap_of_version_1_becomes_a_notification() {
        assert_eq!(
            converted(&trap(6, 5)).unwrap(),
            [
                "1.3.6.1.2.1.1.3.0 TimeTicks(123456)",
                "1.3.6.1.6.3.1.1.4.1.0 Oid(1.3.6.1.4.1.318.0.5)",
                "1.3.6.1.2.1.2.2.1.1.3 Integer(3)",
                "1.3.6.1.6.3.18.1.3.0 IpAddress([192, 0, 2, 78])",
                "1.3.6.1.6.3.18.1.4.0 Octets([112, 117, 98, 108, 105, 99])",
                "1.3.6.1.6.3.1.1.4.3.0 Oid(1.3.6.1.4.1.318)",
            ]
        );
        assert_eq!(converted(&trap(2, 0)).unwrap()[1], "1.3.6.1.6.3.1.1.4.1.0 Oid(1.3.6.1.6.3.1.1.5.3)");
        assert_eq!(converted(&trap(6, -1)), None);
    }
}
