//! PDUs: the Trap-PDU of version 1 (RFC 1157, 4.1.6) and what all others have in common (RFC 3416, section 3).

use super::ber::{self, Fault, Reader};
use super::oid::OidRef;
use super::value::{TIME_TICKS, Value};
use std::fmt;

/// Varbinds that one message may have. A datagram has room for some 8000 empty ones; what switches send has tens.
pub const MAX_VARBINDS: usize = 1024;

/// sysUpTime.0, the first varbind of a notification (RFC 3416, 4.2.6).
pub(super) const SYS_UP_TIME: &[u8] = &[0x2b, 6, 1, 2, 1, 1, 3, 0];
/// snmpTrapOID.0, the second.
pub(super) const SNMP_TRAP_OID: &[u8] = &[0x2b, 6, 1, 6, 3, 1, 1, 4, 1, 0];
/// snmpTrapEnterprise.0 (RFC 3418).
pub(super) const SNMP_TRAP_ENTERPRISE: &[u8] = &[0x2b, 6, 1, 6, 3, 1, 1, 4, 3, 0];

/// What a PDU asks for or tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PduKind {
    /// GetRequest-PDU.
    Get,
    /// GetNextRequest-PDU.
    GetNext,
    /// Response-PDU.
    Response,
    /// SetRequest-PDU.
    Set,
    /// Trap-PDU of version 1.
    TrapV1,
    /// GetBulkRequest-PDU.
    GetBulk,
    /// InformRequest-PDU.
    Inform,
    /// SNMPv2-Trap-PDU.
    TrapV2,
    /// Report-PDU.
    Report,
}

impl PduKind {
    /// By its tag in a message.
    pub const fn from_tag(tag: u8) -> Option<Self> {
        Some(match tag {
            0xa0 => Self::Get,
            0xa1 => Self::GetNext,
            0xa2 => Self::Response,
            0xa3 => Self::Set,
            0xa4 => Self::TrapV1,
            0xa5 => Self::GetBulk,
            0xa6 => Self::Inform,
            0xa7 => Self::TrapV2,
            0xa8 => Self::Report,
            _ => return None,
        })
    }

    /// Its tag in a message.
    pub const fn tag(self) -> u8 {
        0xa0 + self as u8
    }
}

impl fmt::Display for PduKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "GetRequest",
            Self::GetNext => "GetNextRequest",
            Self::Response => "Response",
            Self::Set => "SetRequest",
            Self::TrapV1 => "Trap of version 1",
            Self::GetBulk => "GetBulkRequest",
            Self::Inform => "InformRequest",
            Self::TrapV2 => "SNMPv2-Trap",
            Self::Report => "Report",
        })
    }
}

/// The body of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pdu<'a> {
    /// Version 1's own form of a trap.
    V1(TrapV1<'a>),
    /// All others.
    Common(Common<'a>),
}

/// Trap-PDU (RFC 1157, 4.1.6).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrapV1<'a> {
    /// What kind of thing sent it.
    pub enterprise: OidRef<'a>,
    /// The sender's address as it knows it.
    pub agent_addr: [u8; 4],
    /// 0 (coldStart) to 5 (egpNeighborLoss), 6 for the enterprise's own.
    pub generic: i32,
    /// The enterprise's own number.
    pub specific: i32,
    /// sysUpTime in 1/100 s.
    pub uptime: u32,
    /// What it tells.
    pub varbinds: Varbinds<'a>,
}

/// A PDU other than the Trap-PDU of version 1. In GetBulk the two error fields have another meaning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Common<'a> {
    /// Which.
    pub kind: PduKind,
    /// The response repeats it.
    pub request_id: i32,
    /// 0 for no error.
    pub error_status: i32,
    /// The varbind at fault, from 1.
    pub error_index: i32,
    /// What it tells.
    pub varbinds: Varbinds<'a>,
}

impl<'a> Pdu<'a> {
    /// Reads the next value, which must be a PDU, with all its varbinds.
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let (tag, content) = reader.any()?;
        let kind = PduKind::from_tag(tag).ok_or(Fault::Type(tag))?;
        let mut inside = Reader::new(content);
        let pdu = match kind {
            PduKind::TrapV1 => Self::V1(TrapV1::read(&mut inside)?),
            kind => Self::Common(Common::read(kind, &mut inside)?),
        };
        inside.end()?;
        Ok(pdu)
    }

    /// What it asks for or tells.
    pub const fn kind(&self) -> PduKind {
        match self {
            Self::V1(_) => PduKind::TrapV1,
            Self::Common(common) => common.kind,
        }
    }

    /// What it carries.
    pub const fn varbinds(&self) -> Varbinds<'a> {
        match self {
            Self::V1(trap) => trap.varbinds,
            Self::Common(common) => common.varbinds,
        }
    }
}

impl<'a> TrapV1<'a> {
    fn read(inside: &mut Reader<'a>) -> Result<Self, Fault> {
        Ok(Self {
            enterprise: inside.oid()?,
            agent_addr: inside.expect(0x40)?.try_into().map_err(|_| Fault::Value)?,
            generic: inside.integer()?,
            specific: inside.integer()?,
            uptime: ber::uint32(inside.expect(TIME_TICKS)?)?,
            varbinds: Varbinds::read(inside)?,
        })
    }
}

impl<'a> Common<'a> {
    fn read(kind: PduKind, inside: &mut Reader<'a>) -> Result<Self, Fault> {
        Ok(Self {
            kind,
            request_id: inside.integer()?,
            error_status: inside.integer()?,
            error_index: inside.integer()?,
            varbinds: Varbinds::read(inside)?,
        })
    }
}

/// One name and its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Varbind<'a> {
    /// Which object.
    pub oid: OidRef<'a>,
    /// Its value.
    pub value: Value<'a>,
}

/// A VarBindList, known to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Varbinds<'a> {
    content: &'a [u8],
}

impl<'a> Varbinds<'a> {
    /// Reads the next value, which must be a VarBindList, to its end.
    fn read(reader: &mut Reader<'a>) -> Result<Self, Fault> {
        let content = reader.expect(ber::SEQUENCE)?;
        let mut list = Reader::new(content);
        for _ in 0..MAX_VARBINDS {
            if list.is_empty() {
                return Ok(Self { content });
            }
            varbind(&mut list)?;
        }
        list.end().map_err(|_| Fault::TooMany)?;
        Ok(Self { content })
    }

    /// The list as sent, without tag and length.
    pub const fn content(self) -> &'a [u8] {
        self.content
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Varbind<'a>> {
        let mut list = Reader::new(self.content);
        std::iter::from_fn(move || varbind(&mut list).ok())
    }

    /// The value of the first varbind with this name, as its OID lies in a message.
    pub(super) fn find(self, oid: &[u8]) -> Option<Value<'a>> {
        self.iter().find(|varbind| varbind.oid.content() == oid).map(|varbind| varbind.value)
    }
}

fn varbind<'a>(list: &mut Reader<'a>) -> Result<Varbind<'a>, Fault> {
    let mut pair = list.inside(ber::SEQUENCE)?;
    let oid = pair.oid()?;
    let (tag, content) = pair.any()?;
    pair.end()?;
    Ok(Varbind { oid, value: Value::read(tag, content)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_kind_has_the_tag_that_it_reads_from() {
        for tag in 0..=u8::MAX {
            match PduKind::from_tag(tag) {
                Some(kind) => assert_eq!(kind.tag(), tag),
                None => assert!(!(0xa0..=0xa8).contains(&tag)),
            }
        }
    }

    #[test]
    fn varbinds_are_counted() {
        let one = [0x30, 4, 6, 0, 5, 0];
        let list = |count: usize| {
            let content = one.repeat(count);
            let mut bytes = vec![0x30, 0x82];
            bytes.extend((content.len() as u16).to_be_bytes());
            bytes.extend(content);
            bytes
        };
        assert_eq!(Varbinds::read(&mut Reader::new(&list(1024))).unwrap().iter().count(), 1024);
        assert_eq!(Varbinds::read(&mut Reader::new(&list(1025))), Err(Fault::TooMany));
    }
}
