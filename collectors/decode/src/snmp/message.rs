//! Messages: the community of versions 1 and 2c (RFC 1901), the header of version 3 (RFC 3412, section 6) and its
//! security parameters (RFC 3414, 2.4).

use super::ber::{self, Fault, Reader};
use super::pdu::{Pdu, PduKind};
use super::refused::Refused;
use std::fmt;

/// SNMP's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 1157.
    V1,
    /// RFC 1901.
    V2c,
    /// RFC 3412.
    V3,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "1",
            Self::V2c => "2c",
            Self::V3 => "3",
        })
    }
}

/// How a message is protected. A higher level is the greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// By nothing.
    NoAuth,
    /// By a digest.
    Auth,
    /// By a digest and encryption.
    AuthPriv,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAuth => "noAuthNoPriv",
            Self::Auth => "authNoPriv",
            Self::AuthPriv => "authPriv",
        })
    }
}

/// A message, as far as it can be read without keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Message<'a> {
    /// Version 1 or 2c.
    Community(Community<'a>),
    /// Version 3.
    V3(V3<'a>),
}

/// A message of version 1 or 2c.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Community<'a> {
    /// Which of the two.
    pub version: Version,
    /// Its only protection, in the clear.
    pub community: &'a [u8],
    /// The body.
    pub pdu: Pdu<'a>,
}

/// A message of version 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct V3<'a> {
    /// msgID: the answer repeats it.
    pub id: i32,
    /// msgMaxSize in bytes: what the sender can take.
    pub max_size: i32,
    /// From msgFlags.
    pub level: Level,
    /// Whether the sender wants a Report when something is wrong.
    pub reportable: bool,
    /// msgAuthoritativeEngineID; empty to ask for ours.
    pub engine_id: &'a [u8],
    /// msgAuthoritativeEngineBoots.
    pub boots: i32,
    /// msgAuthoritativeEngineTime in s.
    pub time: i32,
    /// msgUserName.
    pub user: &'a [u8],
    /// msgAuthenticationParameters: the digest.
    pub digest: &'a [u8],
    /// msgPrivacyParameters: the salt.
    pub salt: &'a [u8],
    /// The body.
    pub data: Data<'a>,
}

/// The body of a message of version 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data<'a> {
    /// Content of the ScopedPDU.
    Plain(&'a [u8]),
    /// To be decrypted first.
    Encrypted(&'a [u8]),
}

/// What is in the body of a message of version 3 (RFC 3412, 6.8).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scoped<'a> {
    /// contextEngineID: where the objects are.
    pub engine_id: &'a [u8],
    /// contextName.
    pub context: &'a [u8],
    /// The PDU.
    pub pdu: Pdu<'a>,
}

impl<'a> Message<'a> {
    /// Reads all that is not encrypted. Bytes behind a message of version 1 or 2c are passed over, as net-snmp does; of
    /// version 3 they would be bytes that no digest covers.
    pub fn read(raw: &'a [u8]) -> Result<Self, Refused> {
        let mut outer = Reader::new(raw);
        let mut message = outer.inside(ber::SEQUENCE)?;
        let read = match message.integer()? {
            0 => Self::Community(Community::read(Version::V1, &mut message)?),
            1 => Self::Community(Community::read(Version::V2c, &mut message)?),
            3 => {
                outer.end()?;
                Self::V3(V3::read(&mut message)?)
            }
            other => return Err(Refused::Version(other)),
        };
        message.end()?;
        Ok(read)
    }
}

impl<'a> Community<'a> {
    fn read(version: Version, message: &mut Reader<'a>) -> Result<Self, Fault> {
        Ok(Self { version, community: message.octets()?, pdu: Pdu::read(message)? })
    }

    /// What it is, where that goes with its version: a trap's form differs between 1 and 2c, informs came with 2.
    pub fn notification(&self) -> Result<Notification, Refused> {
        match (self.version, self.pdu.kind()) {
            (Version::V1, PduKind::TrapV1) | (Version::V2c, PduKind::TrapV2) => Ok(Notification::Trap),
            (Version::V2c, PduKind::Inform) => Ok(Notification::Inform),
            (_, kind) => Err(Refused::NotANotification(kind)),
        }
    }
}

impl<'a> V3<'a> {
    fn read(message: &mut Reader<'a>) -> Result<Self, Refused> {
        let mut global = message.inside(ber::SEQUENCE)?;
        let (id, max_size) = (global.integer()?, global.integer()?);
        let flags = match global.octets()? {
            [flags] => *flags,
            _ => return Err(Fault::Header.into()),
        };
        match global.integer()? {
            3 => {}
            other => return Err(Refused::SecurityModel(other)),
        }
        global.end()?;
        let level = match flags & 3 {
            0 => Level::NoAuth,
            1 => Level::Auth,
            3 => Level::AuthPriv,
            _ => return Err(Refused::PrivacyWithoutAuthentication),
        };
        let mut outer = Reader::new(message.octets()?);
        let mut security = outer.inside(ber::SEQUENCE)?;
        outer.end()?;
        let read = Self {
            id,
            max_size,
            level,
            reportable: flags & 4 != 0,
            engine_id: security.octets()?,
            boots: security.integer()?,
            time: security.integer()?,
            user: security.octets()?,
            digest: security.octets()?,
            salt: security.octets()?,
            data: match level {
                Level::AuthPriv => Data::Encrypted(message.octets()?),
                _ => Data::Plain(message.expect(ber::SEQUENCE)?),
            },
        };
        security.end()?;
        // RFC 3412, 6.1 to 6.2, and RFC 3414, 2.4.
        let sizes_fit = read.engine_id.len() <= 32 && read.user.len() <= 32;
        if !sizes_fit || id < 0 || max_size < 484 || read.boots < 0 || read.time < 0 {
            return Err(Fault::Header.into());
        }
        Ok(read)
    }
}

impl<'a> Scoped<'a> {
    /// Reads the content of a ScopedPDU.
    pub fn read(content: &'a [u8]) -> Result<Self, Fault> {
        let mut scoped = Reader::new(content);
        let read = Self { engine_id: scoped.octets()?, context: scoped.octets()?, pdu: Pdu::read(&mut scoped)? };
        scoped.end()?;
        Ok(read)
    }

    /// Reads what was decrypted: a ScopedPDU, and behind it what filled the last block (RFC 3414, 8.1.1.2).
    pub fn read_decrypted(bytes: &'a [u8]) -> Result<Self, Fault> {
        Self::read(Reader::new(bytes).expect(ber::SEQUENCE)?)
    }

    /// What it is.
    pub fn notification(&self) -> Result<Notification, Refused> {
        match self.pdu.kind() {
            PduKind::TrapV2 => Ok(Notification::Trap),
            PduKind::Inform => Ok(Notification::Inform),
            kind => Err(Refused::NotANotification(kind)),
        }
    }
}

/// The two ways to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notification {
    /// Sent once, never answered.
    Trap,
    /// Sent again until it is answered.
    Inform,
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trap => "trap",
            Self::Inform => "inform",
        })
    }
}
