//! The bytes of a field as a typed value (RFC 7011, section 6).

use super::elements::Type;
use super::lists::List;
use super::wire::unsigned;
use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Seconds from 1900, where NTP starts, to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;
/// Seconds of one NTP era: a stamp before 1970 is one of the next era, from 2036 on.
const NTP_ERA: u64 = 1 << 32;

/// What a field says. Bytes are borrowed from the datagram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Any unsigned integer, in however many bytes it was sent.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// float32 or float64.
    Float(f64),
    /// Boolean.
    Bool(bool),
    /// Hardware address.
    Mac([u8; 6]),
    /// IPv4 address.
    V4(Ipv4Addr),
    /// IPv6 address.
    V6(Ipv6Addr),
    /// Text as it was sent; [`text`] makes it readable.
    Text(&'a [u8]),
    /// Bytes as they were sent, also those of a length that the element's type does not have.
    Octets(&'a [u8]),
    /// Seconds since 1970.
    Seconds(u64),
    /// Milliseconds since 1970.
    Millis(u64),
    /// Microseconds since 1970.
    Micros(u64),
    /// Nanoseconds since 1970.
    Nanos(u64),
    /// Structured data (RFC 6313).
    List(List<'a>),
}

impl<'a> Value<'a> {
    /// Reads `bytes` as a value of type `kind`. Every length is taken: an address of 16 bytes is one of IPv6 whatever
    /// its type says, and a length that fits no type gives [`Value::Octets`].
    #[inline]
    pub fn read(kind: Type, bytes: &'a [u8]) -> Self {
        match kind {
            Type::Unsigned => number(bytes, Value::Unsigned),
            Type::V4 | Type::V6 => address(bytes),
            Type::Text => Value::Text(bytes),
            Type::Octets | Type::Padding => Value::Octets(bytes),
            Type::Mac => <[u8; 6]>::try_from(bytes).map_or(Value::Octets(bytes), Value::Mac),
            Type::Seconds => number(bytes, Value::Seconds),
            Type::Millis => number(bytes, Value::Millis),
            Type::Micros => ntp(bytes, 1_000_000, Value::Micros),
            Type::Nanos => ntp(bytes, 1_000_000_000, Value::Nanos),
            Type::Signed => signed(bytes),
            Type::Float => float(bytes),
            Type::Bool => match bytes {
                [1] => Value::Bool(true),
                [2] => Value::Bool(false),
                _ => number(bytes, Value::Unsigned),
            },
            Type::BasicList => Value::List(List::Basic(bytes)),
            Type::SubTemplateList => Value::List(List::SubTemplate(bytes)),
            Type::SubTemplateMultiList => Value::List(List::SubTemplateMulti(bytes)),
        }
    }

    /// The number, if it is one that is not negative.
    pub fn as_unsigned(&self) -> Option<u64> {
        match *self {
            Value::Unsigned(n) | Value::Seconds(n) | Value::Millis(n) | Value::Micros(n) | Value::Nanos(n) => Some(n),
            Value::Signed(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }
}

#[inline]
fn number<'a>(bytes: &'a [u8], of: fn(u64) -> Value<'a>) -> Value<'a> {
    if bytes.is_empty() || bytes.len() > 8 { Value::Octets(bytes) } else { of(unsigned(bytes)) }
}

#[inline]
fn address(bytes: &[u8]) -> Value<'_> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Value::V4(Ipv4Addr::from(four));
    }
    <[u8; 16]>::try_from(bytes).map_or(Value::Octets(bytes), |sixteen| Value::V6(Ipv6Addr::from(sixteen)))
}

fn signed(bytes: &[u8]) -> Value<'_> {
    if bytes.is_empty() || bytes.len() > 8 {
        return Value::Octets(bytes);
    }
    let unused = 64 - 8 * bytes.len() as u32;
    Value::Signed((unsigned(bytes) << unused).cast_signed() >> unused)
}

fn float(bytes: &[u8]) -> Value<'_> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Value::Float(f64::from(f32::from_be_bytes(four)));
    }
    <[u8; 8]>::try_from(bytes).map_or(Value::Octets(bytes), |eight| Value::Float(f64::from_be_bytes(eight)))
}

/// An NTP timestamp in so many parts of a second since 1970 (RFC 7011, sections 6.1.9 and 6.1.10).
fn ntp<'a>(bytes: &'a [u8], parts: u64, of: fn(u64) -> Value<'a>) -> Value<'a> {
    let Ok(eight) = <[u8; 8]>::try_from(bytes) else { return Value::Octets(bytes) };
    let stamp = u64::from_be_bytes(eight);
    let (seconds, fraction) = (stamp >> 32, stamp & 0xffff_ffff);
    let unix = seconds.checked_sub(NTP_TO_UNIX).unwrap_or(seconds + NTP_ERA - NTP_TO_UNIX);
    of(unix * parts + ((fraction * parts) >> 32))
}

/// Text of a field: without the NULs that fill it up; what is not UTF-8 becomes U+FFFD.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_in_any_number_of_bytes() {
        assert_eq!(Value::read(Type::Unsigned, &[1, 0, 0]), Value::Unsigned(65_536));
        assert_eq!(Value::read(Type::Unsigned, &[0xff; 8]), Value::Unsigned(u64::MAX));
        assert_eq!(Value::read(Type::Unsigned, &[0xff; 9]), Value::Octets(&[0xff; 9]));
        assert_eq!(Value::read(Type::Signed, &[0xff, 0xfe]), Value::Signed(-2));
        assert_eq!(Value::read(Type::Signed, &[0x7f; 8]), Value::Signed(0x7f7f_7f7f_7f7f_7f7f));
        assert_eq!(Value::read(Type::Signed, &[]), Value::Octets(&[]));
    }

    #[test]
    fn addresses_go_by_their_length() {
        assert_eq!(Value::read(Type::V4, &[10, 0, 0, 1]), Value::V4(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(Value::read(Type::V4, &[0; 16]), Value::V6(Ipv6Addr::UNSPECIFIED));
        assert_eq!(Value::read(Type::V6, &[1, 2]), Value::Octets(&[1, 2]));
        assert_eq!(Value::read(Type::Mac, &[1, 2, 3, 4, 5, 6]), Value::Mac([1, 2, 3, 4, 5, 6]));
    }

    #[test]
    fn times_are_since_1970() {
        let ntp = |seconds: u64, fraction: u64| ((seconds << 32) | fraction).to_be_bytes();
        let half = ntp(NTP_TO_UNIX + 10, 1 << 31);
        assert_eq!(Value::read(Type::Micros, &half), Value::Micros(10_500_000));
        assert_eq!(Value::read(Type::Nanos, &half), Value::Nanos(10_500_000_000));
        let in_2036 = ntp(0, 0);
        assert_eq!(Value::read(Type::Micros, &in_2036), Value::Micros((NTP_ERA - NTP_TO_UNIX) * 1_000_000));
        assert_eq!(Value::read(Type::Nanos, &[0xff; 8]).as_unsigned().map(|n| n > 0), Some(true));
        assert_eq!(Value::read(Type::Seconds, &[0, 0, 0, 7]), Value::Seconds(7));
    }

    #[test]
    fn floats_and_booleans() {
        assert_eq!(Value::read(Type::Float, &1.5_f32.to_be_bytes()), Value::Float(1.5));
        assert_eq!(Value::read(Type::Float, &2.5_f64.to_be_bytes()), Value::Float(2.5));
        assert_eq!(Value::read(Type::Bool, &[2]), Value::Bool(false));
        assert_eq!(Value::read(Type::Bool, &[0]), Value::Unsigned(0));
    }

    #[test]
    fn text_ends_where_its_filling_begins() {
        assert_eq!(text(b"eth0\0\0\0"), "eth0");
        assert_eq!(text(b"\xff\0"), "\u{fffd}");
        assert_eq!(text(b"\0\0"), "");
    }
}
