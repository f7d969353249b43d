//! The values of SMI, as they lie in a message (RFC 2578, 7.1; RFC 3416, section 3).

use super::ber::{self, Fault};
use super::oid::OidRef;

/// IpAddress.
pub(super) const IP_ADDRESS: u8 = 0x40;
const COUNTER32: u8 = 0x41;
const GAUGE32: u8 = 0x42;
/// TimeTicks.
pub(super) const TIME_TICKS: u8 = 0x43;
const OPAQUE: u8 = 0x44;
const NSAP_ADDRESS: u8 = 0x45;
const COUNTER64: u8 = 0x46;
const UINTEGER32: u8 = 0x47;
const NO_SUCH_OBJECT: u8 = 0x80;
const NO_SUCH_INSTANCE: u8 = 0x81;
const END_OF_MIB_VIEW: u8 = 0x82;

/// A value; strings are slices of the message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// INTEGER, Integer32, and enumerations.
    Integer(i32),
    /// OCTET STRING, and BITS of SMIv2.
    Octets(&'a [u8]),
    /// BIT STRING of RFC 1442: one byte of unused bits, then the bits.
    Bits(&'a [u8]),
    /// NULL.
    Null,
    /// OBJECT IDENTIFIER.
    Oid(OidRef<'a>),
    /// IpAddress.
    IpAddress([u8; 4]),
    /// Counter32.
    Counter32(u32),
    /// Gauge32, Unsigned32.
    Gauge32(u32),
    /// TimeTicks, in 1/100 s.
    TimeTicks(u32),
    /// Opaque, of which nothing is known.
    Opaque(&'a [u8]),
    /// A float that net-snmp wrapped in Opaque.
    Float(f32),
    /// A double that net-snmp wrapped in Opaque.
    Double(f64),
    /// A 64-bit integer that net-snmp wrapped in Opaque.
    Integer64(i64),
    /// An unsigned 64-bit integer that net-snmp wrapped in Opaque.
    Unsigned64(u64),
    /// NsapAddress of RFC 1442.
    NsapAddress(&'a [u8]),
    /// Counter64.
    Counter64(u64),
    /// UInteger32 of RFC 1442.
    UInteger32(u32),
    /// The object does not exist.
    NoSuchObject,
    /// The object exists, this instance does not.
    NoSuchInstance,
    /// There is nothing behind this.
    EndOfMibView,
}

impl<'a> Value<'a> {
    /// Reads the content of a value with this tag.
    pub fn read(tag: u8, content: &'a [u8]) -> Result<Self, Fault> {
        Ok(match tag {
            ber::INTEGER => Self::Integer(ber::int32(content)?),
            ber::OCTETS => Self::Octets(content),
            ber::BITS => Self::Bits(content),
            ber::OID => Self::Oid(OidRef::new(content)?),
            IP_ADDRESS => Self::IpAddress(content.try_into().map_err(|_| Fault::Value)?),
            COUNTER32 => Self::Counter32(ber::uint32(content)?),
            GAUGE32 => Self::Gauge32(ber::uint32(content)?),
            TIME_TICKS => Self::TimeTicks(ber::uint32(content)?),
            OPAQUE => wrapped(content).unwrap_or(Self::Opaque(content)),
            NSAP_ADDRESS => Self::NsapAddress(content),
            COUNTER64 => Self::Counter64(ber::uint64(content)?),
            UINTEGER32 => Self::UInteger32(ber::uint32(content)?),
            ber::NULL | NO_SUCH_OBJECT | NO_SUCH_INSTANCE | END_OF_MIB_VIEW if !content.is_empty() => {
                return Err(Fault::Value);
            }
            ber::NULL => Self::Null,
            NO_SUCH_OBJECT => Self::NoSuchObject,
            NO_SUCH_INSTANCE => Self::NoSuchInstance,
            END_OF_MIB_VIEW => Self::EndOfMibView,
            _ => return Err(Fault::Type(tag)),
        })
    }
}

/// What net-snmp puts into Opaque (draft-perkins-float-00): 0x9f, 0x30 plus the application tag, a length, the bytes.
fn wrapped(content: &[u8]) -> Option<Value<'_>> {
    let (&[0x9f, kind, length], bytes) = content.split_first_chunk()? else { return None };
    if usize::from(length) != bytes.len() {
        return None;
    }
    match kind {
        0x76 => ber::uint64(bytes).map(Value::Counter64).ok(),
        0x78 => bytes.try_into().map(|bytes| Value::Float(f32::from_be_bytes(bytes))).ok(),
        0x79 => bytes.try_into().map(|bytes| Value::Double(f64::from_be_bytes(bytes))).ok(),
        0x7a => ber::int64(bytes).map(Value::Integer64).ok(),
        0x7b => ber::uint64(bytes).map(Value::Unsigned64).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn opaque_shows_what_net_snmp_wrapped() {
        let read = |bytes| Value::read(OPAQUE, bytes).unwrap();
        assert_eq!(read(&[0x9f, 0x78, 4, 0x40, 0x50, 0, 0]), Value::Float(3.25));
        assert_eq!(read(&[0x9f, 0x79, 8, 0xbf, 0xf8, 0, 0, 0, 0, 0, 0]), Value::Double(-1.5));
        assert_eq!(read(&[0x9f, 0x7a, 1, 0xff]), Value::Integer64(-1));
        assert_eq!(read(&[0x9f, 0x7b, 9, 0, 255, 255, 255, 255, 255, 255, 255, 255]), Value::Unsigned64(u64::MAX));
        for other in [&[0x9f, 0x78, 4, 0][..], &[0x9f, 0x78, 2, 0, 0], &[0x9f, 0x77, 0], &[], &[1, 2, 3]] {
            assert_eq!(read(other), Value::Opaque(other));
        }
    }

    #[test]
    fn exceptions_are_empty_and_addresses_have_four_bytes() {
        assert_eq!(Value::read(0x80, &[]), Ok(Value::NoSuchObject));
        assert_eq!(Value::read(0x82, &[1]), Err(Fault::Value));
        assert_eq!(Value::read(0x40, &[1, 2, 3]), Err(Fault::Value));
        assert_eq!(Value::read(0x48, &[]), Err(Fault::Type(0x48)));
    }
}
