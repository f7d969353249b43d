//! What a stored notification says, for people and for receivers of JSON.

use super::message::{Community, Data, Message, Notification, Scoped, V3, Version};
use super::names::Names;
use super::pdu::{Pdu, SNMP_TRAP_ENTERPRISE, SNMP_TRAP_OID, SYS_UP_TIME, Varbind, Varbinds};
use super::refused::Refused;
use super::users::Users;
use super::usm;
use super::value::Value;
use raven_model::hex::hex;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A notification. What the message does not give, or what nobody here can decrypt, is null.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Trap {
    /// `"1"`, `"2c"` or `"3"`.
    pub version: String,
    /// Of versions 1 and 2c.
    pub community: Option<String>,
    /// Of version 3.
    pub user: Option<String>,
    /// The authoritative engine in hex: the sender of a trap, the receiver of an inform.
    pub engine_id: Option<String>,
    /// contextName of version 3; null where it is empty.
    pub context: Option<String>,
    /// `"trap"` or `"inform"`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// sysUpTime in 1/100 s.
    pub uptime: Option<u32>,
    /// snmpTrapOID; made by RFC 3584, 3.1, from a trap of version 1.
    pub trap_oid: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trap_name: Option<String>,
    /// Of version 1, else snmpTrapEnterprise, which proxies send.
    pub enterprise: Option<String>,
    /// The address that a sender of version 1 gives itself.
    pub agent_addr: Option<String>,
    /// generic-trap of version 1.
    pub generic: Option<i32>,
    /// specific-trap of version 1.
    pub specific: Option<i32>,
    /// What it tells, as sent: those of versions 2c and 3 begin with sysUpTime and snmpTrapOID.
    pub varbinds: Vec<VarbindView>,
}

/// One object and its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VarbindView {
    /// Without a dot in front.
    pub oid: String,
    /// By name and instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `OctetString` is text, `HexString` the same type with other bytes; those of Opaque that net-snmp wraps are
    /// `Float`, `Double`, `Integer64` and `Unsigned64`; all others are SMI's.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value.
    pub value: Shown,
    /// What it means: the label of a number, octets by their hint, the name of an OID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A value in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Shown {
    /// What has no value.
    Null,
    /// A number that is not negative.
    Unsigned(u64),
    /// A negative number.
    Signed(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text, hex, an address, an OID; and what JSON has no number for: `NaN`, `inf`.
    Text(String),
}

/// What was read from a stored datagram, and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// As much as could be read; `None` for what is no notification.
    pub trap: Option<Trap>,
    /// Why that is not all of it, or why it should not be believed.
    pub reject: Option<Refused>,
}

/// Reads a stored datagram. Community, approval and time were looked at when it came, and are not again; a digest is
/// held against the users that there are now, by whose keys an encrypted message is read.
pub fn decode(raw: &[u8], users: &mut Users, names: &Names) -> Reading {
    let read = match Message::read(raw) {
        Ok(Message::Community(message)) => community(&message, names).map(|trap| (trap, None)),
        Ok(Message::V3(message)) => Ok(v3(raw, &message, users, names)),
        Err(reason) => Err(reason),
    };
    match read {
        Ok((_, Some(reject @ Refused::NotANotification(_)))) | Err(reject) => {
            Reading { trap: None, reject: Some(reject) }
        }
        Ok((trap, reject)) => Reading { trap: Some(trap), reject },
    }
}

fn community(message: &Community<'_>, names: &Names) -> Result<Trap, Refused> {
    let notification = message.notification()?;
    let mut trap = Trap { version: message.version.to_string(), ..Trap::default() };
    trap.community = Some(lossy(message.community));
    trap.fill(notification, &message.pdu, names);
    Ok(trap)
}

/// The header is shown even where the body cannot be.
fn v3(raw: &[u8], message: &V3<'_>, users: &mut Users, names: &Names) -> (Trap, Option<Refused>) {
    let mut trap = Trap { version: Version::V3.to_string(), user: Some(lossy(message.user)), ..Trap::default() };
    trap.engine_id = Some(hex(message.engine_id)).filter(|id| !id.is_empty());
    let (keys, reject) = match usm::keys_for_view(raw, message, users) {
        Ok(keys) => (keys, None),
        Err(reason) => (None, Some(reason)),
    };
    if matches!(message.data, Data::Encrypted(_)) && keys.is_none() {
        return (trap, reject);
    }
    let mut buffer = Vec::new();
    let opened = usm::open(message, keys.as_deref(), &mut buffer);
    match opened.and_then(|scoped| trap.fill_scoped(&scoped, names)) {
        Ok(()) => (trap, reject),
        Err(reason) => (trap, Some(reason)),
    }
}

impl Trap {
    fn fill_scoped(&mut self, scoped: &Scoped<'_>, names: &Names) -> Result<(), Refused> {
        let notification = scoped.notification()?;
        self.context = Some(lossy(scoped.context)).filter(|context| !context.is_empty());
        self.fill(notification, &scoped.pdu, names);
        Ok(())
    }

    fn fill(&mut self, notification: Notification, pdu: &Pdu<'_>, names: &Names) {
        self.kind = Some(notification.to_string());
        let trap_oid = match pdu {
            Pdu::V1(trap) => {
                self.uptime = Some(trap.uptime);
                self.enterprise = Some(trap.enterprise.to_oid().to_string());
                self.agent_addr = Some(Ipv4Addr::from(trap.agent_addr).to_string());
                (self.generic, self.specific) = (Some(trap.generic), Some(trap.specific));
                trap.trap_oid()
            }
            Pdu::Common(pdu) => self.fill_from(pdu.varbinds),
        };
        self.trap_name = trap_oid.as_ref().and_then(|oid| names.name(oid.parts()));
        self.trap_oid = trap_oid.map(|oid| oid.to_string());
        self.varbinds = pdu.varbinds().iter().map(|varbind| VarbindView::new(&varbind, names)).collect();
    }

    /// What version 2 says by varbinds.
    fn fill_from(&mut self, varbinds: Varbinds<'_>) -> Option<super::oid::Oid> {
        let oid = |name| match varbinds.find(name) {
            Some(Value::Oid(oid)) => Some(oid.to_oid()),
            _ => None,
        };
        self.uptime = match varbinds.find(SYS_UP_TIME) {
            Some(Value::TimeTicks(uptime)) => Some(uptime),
            _ => None,
        };
        self.enterprise = oid(SNMP_TRAP_ENTERPRISE).map(|oid| oid.to_string());
        oid(SNMP_TRAP_OID)
    }
}

impl VarbindView {
    fn new(varbind: &Varbind<'_>, names: &Names) -> Self {
        let oid = varbind.oid.to_oid();
        let (kind, value) = shown(&varbind.value);
        let label = names.label(oid.parts(), &varbind.value);
        let label = label.filter(|label| !matches!(&value, Shown::Text(text) if text == label));
        Self { name: names.name(oid.parts()), oid: oid.to_string(), kind: kind.to_owned(), value, label }
    }
}

fn shown(value: &Value<'_>) -> (&'static str, Shown) {
    let unsigned = |number: u32| Shown::Unsigned(number.into());
    match *value {
        Value::Integer(number) => ("Integer32", signed(number.into())),
        Value::Octets(octets) => match printable(octets) {
            Some(text) => ("OctetString", Shown::Text(text.to_owned())),
            None => ("HexString", Shown::Text(hex(octets))),
        },
        Value::Bits(bits) => ("Bits", Shown::Text(hex(bits))),
        Value::Null => ("Null", Shown::Null),
        Value::Oid(oid) => ("ObjectIdentifier", Shown::Text(oid.to_oid().to_string())),
        Value::IpAddress(address) => ("IpAddress", Shown::Text(Ipv4Addr::from(address).to_string())),
        Value::Counter32(number) => ("Counter32", unsigned(number)),
        Value::Gauge32(number) => ("Gauge32", unsigned(number)),
        Value::TimeTicks(number) => ("TimeTicks", unsigned(number)),
        Value::Opaque(octets) => ("Opaque", Shown::Text(hex(octets))),
        Value::Float(number) => ("Float", float(number.into())),
        Value::Double(number) => ("Double", float(number)),
        Value::Integer64(number) => ("Integer64", signed(number)),
        Value::Unsigned64(number) => ("Unsigned64", Shown::Unsigned(number)),
        Value::NsapAddress(octets) => ("NsapAddress", Shown::Text(hex(octets))),
        Value::Counter64(number) => ("Counter64", Shown::Unsigned(number)),
        Value::UInteger32(number) => ("UInteger32", unsigned(number)),
        Value::NoSuchObject => ("NoSuchObject", Shown::Null),
        Value::NoSuchInstance => ("NoSuchInstance", Shown::Null),
        Value::EndOfMibView => ("EndOfMibView", Shown::Null),
    }
}

fn signed(number: i64) -> Shown {
    u64::try_from(number).map_or(Shown::Signed(number), Shown::Unsigned)
}

fn float(number: f64) -> Shown {
    if number.is_finite() { Shown::Float(number) } else { Shown::Text(number.to_string()) }
}

/// Text that a person can read: UTF-8 without control characters other than tabs and line ends.
fn printable(octets: &[u8]) -> Option<&str> {
    let is_control = |c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\n');
    std::str::from_utf8(octets).ok().filter(|text| !text.contains(is_control))
}

fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
