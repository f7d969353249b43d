//! Reading BER as SNMP uses it (X.690; RFC 3417, section 8): definite lengths, one-byte tags.
//!
//! A [`Reader`] is a slice and nothing more. It never reads past its own end, a value's reader never past the value's,
//! and nothing here recurses: how deep a message may nest is written in the code that reads messages.
//!
//! As forgiving as net-snmp where real agents are sloppy: lengths and integers may be longer than they need to be, an
//! unsigned number may lack its leading zero, an OID may be empty (it then reads as `0.0`).

use std::fmt;

/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// BIT STRING, as RFC 1442 had it.
pub const BITS: u8 = 0x03;
/// OCTET STRING.
pub const OCTETS: u8 = 0x04;
/// NULL.
pub const NULL: u8 = 0x05;
/// OBJECT IDENTIFIER.
pub const OID: u8 = 0x06;
/// SEQUENCE.
pub const SEQUENCE: u8 = 0x30;

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A value ends behind its container.
    Short,
    /// A length of indefinite form, or of more than four bytes.
    Length,
    /// Another tag than this one was there.
    Tag {
        /// What the grammar has in this place.
        expected: u8,
        /// What the message has.
        found: u8,
    },
    /// A number has no bytes, or more than its type can hold.
    Number,
    /// An OID with more than 128 parts, a part over 32 bits, or one that ends within a part (RFC 2578, 3.5).
    Oid,
    /// An IpAddress is not four bytes, or a NULL is not empty.
    Value,
    /// A field of the header of version 3 is out of its range (RFC 3412, 6; RFC 3414, 2.4).
    Header,
    /// Bytes behind the end of a sequence.
    Trailing,
    /// A tag that stands for no SMI type.
    Type(u8),
    /// More varbinds than [`MAX_VARBINDS`](super::pdu::MAX_VARBINDS).
    TooMany,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("a value ends behind what contains it"),
            Self::Length => f.write_str("a length is indefinite or has more than four bytes"),
            Self::Tag { expected, found } => write!(f, "tag 0x{expected:02x} expected, 0x{found:02x} found"),
            Self::Number => f.write_str("a number is empty or does not fit its type"),
            Self::Oid => f.write_str("an OID has more than 128 parts, a part over 32 bits, or an end within a part"),
            Self::Value => f.write_str("an address is not four bytes, or a NULL is not empty"),
            Self::Header => f.write_str("a field of the header of version 3 is out of its range"),
            Self::Trailing => f.write_str("bytes behind the end of a sequence"),
            Self::Type(tag) => write!(f, "0x{tag:02x} is no type of SMI"),
            Self::TooMany => f.write_str("more than 1024 varbinds"),
        }
    }
}

/// The values in a container, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all has been read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next value, whatever it is: tag and content.
    pub fn any(&mut self) -> Result<(u8, &'a [u8]), Fault> {
        let (&tag, rest) = self.rest.split_first().ok_or(Fault::Short)?;
        let (length, rest) = length(rest)?;
        let (content, rest) = rest.split_at_checked(length).ok_or(Fault::Short)?;
        self.rest = rest;
        Ok((tag, content))
    }

    /// The content of the next value, which must have this tag.
    pub fn expect(&mut self, expected: u8) -> Result<&'a [u8], Fault> {
        let before = *self;
        let (found, content) = self.any()?;
        if found != expected {
            *self = before;
            return Err(Fault::Tag { expected, found });
        }
        Ok(content)
    }

    /// The values in the next SEQUENCE, or in what else has this tag.
    pub fn inside(&mut self, tag: u8) -> Result<Self, Fault> {
        self.expect(tag).map(Self::new)
    }

    /// An INTEGER of 32 bits (RFC 2578, 7.1.1).
    pub fn integer(&mut self) -> Result<i32, Fault> {
        int32(self.expect(INTEGER)?)
    }

    /// An OCTET STRING.
    pub fn octets(&mut self) -> Result<&'a [u8], Fault> {
        self.expect(OCTETS)
    }

    /// An OBJECT IDENTIFIER.
    pub fn oid(&mut self) -> Result<super::oid::OidRef<'a>, Fault> {
        super::oid::OidRef::new(self.expect(OID)?)
    }

    /// Says whether all has been read.
    pub fn end(&self) -> Result<(), Fault> {
        if self.is_empty() { Ok(()) } else { Err(Fault::Trailing) }
    }
}

/// The length in front of `bytes`, and what stands behind it (X.690, 8.1.3).
fn length(bytes: &[u8]) -> Result<(usize, &[u8]), Fault> {
    let (&first, rest) = bytes.split_first().ok_or(Fault::Short)?;
    if first < 0x80 {
        return Ok((usize::from(first), rest));
    }
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 {
        return Err(Fault::Length);
    }
    let (digits, rest) = rest.split_at_checked(count).ok_or(Fault::Short)?;
    let length = digits.iter().fold(0_u32, |sum, digit| (sum << 8) | u32::from(*digit));
    Ok((usize::try_from(length).map_err(|_| Fault::Length)?, rest))
}

/// A number of up to eight bytes in two's complement.
fn signed(content: &[u8]) -> Result<i64, Fault> {
    let (&first, _) = content.split_first().ok_or(Fault::Number)?;
    if content.len() > 8 {
        return Err(Fault::Number);
    }
    let sign = if first & 0x80 == 0 { 0 } else { -1 };
    Ok(content.iter().fold(sign, |sum, byte| (sum << 8) | i64::from(*byte)))
}

/// Integer32.
pub fn int32(content: &[u8]) -> Result<i32, Fault> {
    signed(content).and_then(|number| i32::try_from(number).map_err(|_| Fault::Number))
}

/// An integer of 64 bits, as net-snmp wraps it in Opaque.
pub fn int64(content: &[u8]) -> Result<i64, Fault> {
    signed(content)
}

/// Counter32, Gauge32, TimeTicks. Four bytes with the highest bit set count as unsigned, though X.690 says negative:
/// so do agents that leave out the zero.
pub fn uint32(content: &[u8]) -> Result<u32, Fault> {
    match signed(content)? {
        number @ 0.. => u32::try_from(number).map_err(|_| Fault::Number),
        number => i32::try_from(number).map(i32::cast_unsigned).map_err(|_| Fault::Number),
    }
}

/// Counter64, with the same mercy.
pub fn uint64(content: &[u8]) -> Result<u64, Fault> {
    match content {
        [0, rest @ ..] if rest.len() == 8 => signed(rest).map(i64::cast_unsigned),
        _ => signed(content).map(i64::cast_unsigned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_definite_and_bounded() {
        assert_eq!(Reader::new(&[4, 2, 1, 2]).any(), Ok((4, &[1, 2][..])));
        assert_eq!(Reader::new(&[4, 0x83, 0, 0, 1, 9]).any(), Ok((4, &[9][..])), "longer than it needs to be");
        assert_eq!(Reader::new(&[4, 0x80, 0, 0]).any(), Err(Fault::Length));
        assert_eq!(Reader::new(&[4, 0x85, 0, 0, 0, 0, 1, 9]).any(), Err(Fault::Length));
        assert_eq!(Reader::new(&[4, 0x84, 0xff, 0xff, 0xff, 0xff, 1]).any(), Err(Fault::Short));
        assert_eq!(Reader::new(&[4, 3, 1, 2]).any(), Err(Fault::Short));
        assert_eq!(Reader::new(&[4]).any(), Err(Fault::Short));
        assert_eq!(Reader::new(&[]).any(), Err(Fault::Short));
    }

    #[test]
    fn a_wrong_tag_is_named_and_stays_unread() {
        let mut reader = Reader::new(&[4, 1, 7]);
        assert_eq!(reader.integer(), Err(Fault::Tag { expected: 2, found: 4 }));
        assert_eq!(reader.octets(), Ok(&[7][..]));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn numbers_fit_their_type() {
        assert_eq!(int32(&[0x80, 0, 0, 0]), Ok(i32::MIN));
        assert_eq!(int32(&[0, 0, 0, 0, 5]), Ok(5));
        assert_eq!(int32(&[0, 0x80, 0, 0, 0]), Err(Fault::Number));
        assert_eq!(int32(&[]), Err(Fault::Number));
        assert_eq!(uint32(&[0, 0xff, 0xff, 0xff, 0xff]), Ok(u32::MAX));
        assert_eq!(uint32(&[0xff, 0xff, 0xff, 0xff]), Ok(u32::MAX), "without its zero");
        assert_eq!(uint32(&[1, 0, 0, 0, 0]), Err(Fault::Number));
        assert_eq!(uint64(&[0, 255, 255, 255, 255, 255, 255, 255, 255]), Ok(u64::MAX));
        assert_eq!(uint64(&[1, 0, 0, 0, 0, 0, 0, 0, 0]), Err(Fault::Number));
        assert_eq!(int64(&[0x80, 0, 0, 0, 0, 0, 0, 0]), Ok(i64::MIN));
    }
}
