//! From the trap of version 1 to the notification of version 2 (RFC 3584, 3.1), so that only one form has to be known
//! to those who are told of it.

use super::ber;
use super::oid::Oid;
use super::pdu::{SNMP_TRAP_ENTERPRISE, SNMP_TRAP_OID, SYS_UP_TIME, TrapV1, Varbinds};
use super::value::{IP_ADDRESS, TIME_TICKS};
use super::write::Writer;

/// snmpTraps (RFC 3418): the generic traps stand below.
const SNMP_TRAPS: [u32; 9] = [1, 3, 6, 1, 6, 3, 1, 1, 5];
/// snmpTrapAddress.0 (RFC 3584, 5).
pub(super) const SNMP_TRAP_ADDRESS: &[u8] = &[0x2b, 6, 1, 6, 3, 18, 1, 3, 0];
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

/// Writes the varbinds of a notification that says the same as this trap of version 1, sysUpTime and snmpTrapOID first.
/// `address` stands in for an agent that gives none. `None` where no snmpTrapOID can be made of it.
pub(super) fn write_varbinds(
    w: &mut Writer,
    community: &[u8],
    trap: &TrapV1<'_>,
    address: Option<[u8; 4]>,
) -> Option<()> {
    let trap_oid = trap.trap_oid()?;
    let agent = if trap.agent_addr == [0; 4] { address.unwrap_or_default() } else { trap.agent_addr };
    // Written back to front; what a proxy has put there already stays as it is (3.1, 4).
    for (oid, tag, content) in [
        (SNMP_TRAP_ENTERPRISE, ber::OID, trap.enterprise.content()),
        (SNMP_TRAP_COMMUNITY, ber::OCTETS, community),
        (SNMP_TRAP_ADDRESS, IP_ADDRESS, &agent),
    ] {
        write_missing(w, trap.varbinds, oid, tag, content);
    }
    w.raw(trap.varbinds.content());
    w.varbind(SNMP_TRAP_OID, |w| w.oid(&trap_oid));
    w.varbind(SYS_UP_TIME, |w| w.number(TIME_TICKS, trap.uptime.into()));
    Some(())
}

/// Writes a varbind unless there is one of its name.
pub(super) fn write_missing(w: &mut Writer, there: Varbinds<'_>, oid: &[u8], tag: u8, content: &[u8]) {
    if there.find(oid).is_none() {
        w.varbind(oid, |w| w.value(tag, content));
    }
}
