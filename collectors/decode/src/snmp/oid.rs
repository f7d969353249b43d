//! Object identifiers: as they lie in a message, and as the numbers that people read.

use super::ber::Fault;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

/// Parts that an OID may have (RFC 2578, 3.5).
pub const MAX_PARTS: usize = 128;

/// An OID in a message: known to be whole, but not taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OidRef<'a> {
    content: &'a [u8],
}

impl<'a> OidRef<'a> {
    /// Checks the content of an OBJECT IDENTIFIER: at most 128 parts, of 32 bits each, the last one whole.
    pub fn new(content: &'a [u8]) -> Result<Self, Fault> {
        let (mut parts, mut part, mut bytes) = (1_usize, 0_u64, 0_usize);
        for byte in content {
            part = (part << 7) | u64::from(byte & 0x7f);
            bytes += 1;
            // Five bytes hold 35 bits. The first part of two may be 80 over (X.690, 8.19.4).
            if bytes > 5 || part > u64::from(u32::MAX) {
                return Err(Fault::Oid);
            }
            if byte & 0x80 == 0 {
                (part, bytes) = (0, 0);
                parts += 1;
            }
        }
        if bytes != 0 || parts > MAX_PARTS {
            return Err(Fault::Oid);
        }
        Ok(Self { content })
    }

    /// The content as sent, without tag and length.
    pub const fn content(&self) -> &'a [u8] {
        self.content
    }

    /// The parts, first to last. An empty OID is `0.0`, as in net-snmp.
    pub fn parts(&self) -> impl Iterator<Item = u32> + 'a {
        let mut chunks = self.content.chunk_by(|byte, _| byte & 0x80 != 0);
        let first = chunks.next().map_or(0, number);
        let root = (first / 40).min(2);
        [root, first - root * 40].into_iter().chain(chunks.map(number))
    }

    /// Taken apart.
    pub fn to_oid(self) -> Oid {
        Oid(self.parts().collect())
    }
}

impl fmt::Debug for OidRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_oid())
    }
}

/// One part; that it fits was checked.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| (sum << 7) | u32::from(byte & 0x7f))
}

/// An OID as numbers: `1.3.6.1.6.3.1.1.5.3`. Never more than 128 of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(Vec<u32>);

impl Oid {
    /// From its parts, if they are no more than 128.
    pub fn new(parts: impl Into<Vec<u32>>) -> Option<Self> {
        let parts = parts.into();
        (parts.len() <= MAX_PARTS).then_some(Self(parts))
    }

    /// The parts, first to last.
    pub fn parts(&self) -> &[u32] {
        &self.0
    }

    /// With more parts behind it; `None` when they are too many.
    pub fn child(&self, more: &[u32]) -> Option<Self> {
        Self::new([self.parts(), more].concat())
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in self.0.iter().enumerate() {
            let dot = if at == 0 { "" } else { "." };
            write!(f, "{dot}{part}")?;
        }
        Ok(())
    }
}

/// Why a text is no OID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAnOid(String);

impl fmt::Display for NotAnOid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no OID: expected numbers with dots between, such as 1.3.6.1.4.1.9", self.0)
    }
}

impl std::error::Error for NotAnOid {}

impl FromStr for Oid {
    type Err = NotAnOid;

    /// With or without a dot in front.
    fn from_str(text: &str) -> Result<Self, NotAnOid> {
        let parts = text.strip_prefix('.').unwrap_or(text).split('.').map(str::parse);
        let parts: Result<Vec<u32>, _> = parts.take(MAX_PARTS + 1).collect();
        parts.ok().and_then(Self::new).ok_or_else(|| NotAnOid(text.chars().take(80).collect()))
    }
}

impl Serialize for Oid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Oid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shown(content: &[u8]) -> String {
        OidRef::new(content).unwrap().to_oid().to_string()
    }

    #[test]
    fn the_first_byte_holds_two_parts() {
        assert_eq!(shown(&[0x2b, 6, 1, 4, 1, 0x82, 0x37]), "1.3.6.1.4.1.311");
        assert_eq!(shown(&[0x88, 0x37]), "2.999");
        assert_eq!(shown(&[0]), "0.0");
        assert_eq!(shown(&[]), "0.0");
        assert_eq!(shown(&[0x2b, 0x8f, 0xff, 0xff, 0xff, 0x7f]), "1.3.4294967295");
    }

    #[test]
    fn parts_have_32_bits_and_an_end() {
        for bad in [&[0x2b, 0x90, 0x80, 0x80, 0x80, 0][..], &[0x2b, 0x81], &[0x2b, 0x80, 0x80, 0x80, 0x80, 0x80, 1]] {
            assert_eq!(OidRef::new(bad), Err(Fault::Oid));
        }
        assert!(OidRef::new(&[1; 127]).is_ok());
        assert_eq!(OidRef::new(&[1; 128]), Err(Fault::Oid));
    }

    #[test]
    fn text_reads_with_or_without_its_first_dot() {
        assert_eq!(".1.3.6".parse(), "1.3.6".parse::<Oid>());
        for bad in ["", ".", "1..3", "a", "1.3.4294967296"] {
            assert!(bad.parse::<Oid>().is_err(), "{bad}");
        }
        assert!(vec!["1"; 129].join(".").parse::<Oid>().is_err());
    }
}
