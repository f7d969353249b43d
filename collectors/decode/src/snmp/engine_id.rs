//! Engine ids (RFC 3411, section 5): what tells one SNMP engine from all others.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

/// 5 to 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineId {
    length: u8,
    bytes: [u8; 32],
}

impl EngineId {
    /// `None` for fewer than 5 or more than 32 bytes.
    pub fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        (id.len() >= 5).then_some(Self { length: id.len() as u8, bytes })
    }

    /// One of our own: RFC 3411's format 5, octets, under the enterprise number that the RFC gives to nobody (0), with
    /// up to 27 bytes of a seed that stays the same for the appliance's life, such as its serial number or machine id.
    pub fn ours(seed: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes[..5].copy_from_slice(&[0x80, 0, 0, 0, 5]);
        let seed = &seed[..seed.len().min(27)];
        bytes[5..5 + seed.len()].copy_from_slice(seed);
        Self { length: 5 + seed.len() as u8, bytes }
    }

    /// As sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Display for EngineId {
    /// In hex, as logs and configuration have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a text is no engine id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnEngineId;

impl fmt::Display for NotAnEngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no engine id: expected 10 to 64 hex digits, such as 80001f8804726176656e")
    }
}

impl std::error::Error for NotAnEngineId {}

impl FromStr for EngineId {
    type Err = NotAnEngineId;

    /// Hex, with or without `0x`, with or without colons between the bytes.
    fn from_str(text: &str) -> Result<Self, NotAnEngineId> {
        unhex(text).and_then(|bytes| Self::new(&bytes)).ok_or(NotAnEngineId)
    }
}

/// Bytes of a text in hex: `0x` in front and colons between are passed over. At most 128. It may be a secret, so that
/// nothing is left behind but what is given back.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let mut digits = text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16).map(|digit| digit as u8));
    let mut bytes = Vec::with_capacity(128);
    while let Some(high) = digits.next() {
        if bytes.len() == bytes.capacity() {
            return None;
        }
        bytes.push((high? << 4) | digits.next()??);
    }
    Some(bytes)
}

impl Serialize for EngineId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EngineId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_engine_id_reads_as_people_write_it() {
        for text in ["0x8000000001020304", "80:00:00:00:01:02:03:04", "8000000001020304"] {
            assert_eq!(text.parse::<EngineId>().unwrap().to_string(), "8000000001020304");
        }
        for bad in ["", "80000000", "800000000", "80000000zz", &"80".repeat(33)] {
            assert!(bad.parse::<EngineId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn our_own_stays_the_same_and_fits() {
        assert_eq!(EngineId::ours(b"raven-7").to_string(), "8000000005726176656e2d37");
        assert_eq!(EngineId::ours(&[7; 99]).as_bytes().len(), 32);
        assert_eq!(EngineId::ours(b"").as_bytes().len(), 5);
    }
}
