//! Numbers that carry their unit, so that they cannot be swapped.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Nanoseconds since 1970-01-01T00:00:00Z, as the wall clock said when the bytes were received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixNanos(pub u64);

/// Position of a record in its stream: dense, from 1, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The record after `n` more.
    #[must_use]
    pub const fn plus(self, n: u64) -> Self {
        Self(self.0 + n)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of bytes. In text: `64KiB`, `2GiB`, `1500000`, `10MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteCount(pub u64);

impl ByteCount {
    /// `n` binary kilobytes.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }
    /// `n` binary megabytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

const BYTE_UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

impl FromStr for ByteCount {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (number, factor) = BYTE_UNITS
            .iter()
            .find_map(|(unit, factor)| text.strip_suffix(unit).map(|n| (n, *factor)))
            .unwrap_or_else(|| (text.strip_suffix('B').unwrap_or(text), 1));
        number.trim().parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).map(Self).ok_or_else(|| {
            format!("`{text}` is not an amount of bytes; expected for example `64KiB`, `512MiB` or `2GiB`")
        })
    }
}

impl fmt::Display for ByteCount {
    /// Exact where a binary unit divides it, else rounded to one decimal of the largest unit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = &BYTE_UNITS[..4];
        if let Some((unit, factor)) = units.iter().find(|(_, factor)| self.0 >= *factor) {
            if self.0.is_multiple_of(*factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
            return write!(f, "{:.1}{unit}", self.0 as f64 / *factor as f64);
        }
        write!(f, "{}B", self.0)
    }
}

impl Serialize for ByteCount {
    /// As text that reads back to the same number.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let exact = BYTE_UNITS[..4].iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        match exact {
            Some((unit, factor)) => serializer.collect_str(&format_args!("{}{unit}", self.0 / factor)),
            None => serializer.collect_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_number(deserializer, "an amount of bytes such as `64KiB`").and_then(|v| match v {
            TextOrNumber::Text(t) => t.parse().map_err(de::Error::custom),
            TextOrNumber::Number(n) => Ok(Self(n)),
        })
    }
}

/// A length of time. In text: `100ms`, `30s`, `5m`, `12h`, `14d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        TIME_UNITS
            .iter()
            .find_map(|(unit, factor)| {
                let n: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
                n.checked_mul(*factor).map(|ms| Self(Duration::from_millis(ms)))
            })
            .ok_or_else(|| format!("`{text}` is not a length of time; expected for example `100ms`, `30s` or `14d`"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis() as u64;
        let (unit, factor) = TIME_UNITS
            .iter()
            .rev()
            .find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor))
            .unwrap_or(&TIME_UNITS[0]);
        write!(f, "{}{unit}", ms / factor)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Something written in a config file either as text or as a plain number.
pub(crate) enum TextOrNumber {
    /// Quoted.
    Text(String),
    /// Bare.
    Number(u64),
}

pub(crate) fn text_or_number<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<TextOrNumber, D::Error> {
    struct V(&'static str);
    impl de::Visitor<'_> for V {
        type Value = TextOrNumber;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: de::Error>(self, v: &str) -> Result<TextOrNumber, E> {
            Ok(TextOrNumber::Text(v.to_owned()))
        }
        fn visit_u64<E: de::Error>(self, v: u64) -> Result<TextOrNumber, E> {
            Ok(TextOrNumber::Number(v))
        }
        fn visit_i64<E: de::Error>(self, v: i64) -> Result<TextOrNumber, E> {
            u64::try_from(v).map(TextOrNumber::Number).map_err(|_| E::invalid_value(de::Unexpected::Signed(v), &self))
        }
    }
    deserializer.deserialize_any(V(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_back_as_written() {
        for (text, bytes) in [("64KiB", 65_536), ("2GiB", 2 << 30), ("10MB", 10_000_000), ("512", 512), ("7B", 7)] {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)), "{text}");
        }
        assert!("12 parsecs".parse::<ByteCount>().is_err());
        assert!("99999999999999999TiB".parse::<ByteCount>().is_err());
        assert_eq!(ByteCount(1_536).to_string(), "1.5KiB");
    }

    #[test]
    fn spans_read_back_as_written() {
        for text in ["100ms", "30s", "5m", "12h", "14d"] {
            assert_eq!(text.parse::<Span>().expect("valid").to_string(), text);
        }
        assert!("soon".parse::<Span>().is_err());
    }
}
