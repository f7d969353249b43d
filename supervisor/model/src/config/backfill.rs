//! How fast a destination may be sent to: what it missed, and altogether.

use crate::units::ByteCount;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// `2MiB/s` or `5000records/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Bytes of messages, before compression, in a second; 1024 at least.
    Bytes(ByteCount),
    /// Records in a second; 1 at least.
    Records(u32),
}

/// `uplink.NAME.backfill`: `80%`, `2MiB/s` or `5000records/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backfill {
    /// Percent of the time in which it may have records under way, 1 to 100.
    Share(u8),
    /// No more than that.
    Rate(Rate),
}

impl Default for Backfill {
    fn default() -> Self {
        Self::Share(80)
    }
}

impl Rate {
    fn read(text: &str) -> Option<Self> {
        let rate = text.strip_suffix("/s")?;
        match rate.strip_suffix("records") {
            Some(records) => records.trim().parse().ok().filter(|n| *n > 0).map(Self::Records),
            None => rate.parse().ok().filter(|bytes: &ByteCount| bytes.0 >= 1024).map(Self::Bytes),
        }
    }
}

impl FromStr for Rate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "expected a rate such as `2MiB/s` or `5000records/s`";
        Self::read(text).ok_or_else(|| format!("`{}` is no pace; {wanted}", text.escape_debug()))
    }
}

impl FromStr for Backfill {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "expected a share from `1%` to `100%`, or a rate such as `2MiB/s` or `5000records/s`";
        let share = |share: &str| share.trim().parse().ok().filter(|share| (1..=100).contains(share)).map(Self::Share);
        let read = text.strip_suffix('%').map_or_else(|| Rate::read(text).map(Self::Rate), share);
        read.ok_or_else(|| format!("`{}` is no pace; {wanted}", text.escape_debug()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // `ByteCount` shows rounded amounts; this one must read back to the same.
            Self::Bytes(bytes) if bytes.to_string().parse() == Ok(*bytes) => write!(f, "{bytes}/s"),
            Self::Bytes(bytes) => write!(f, "{}/s", bytes.0),
            Self::Records(records) => write!(f, "{records}records/s"),
        }
    }
}

impl fmt::Display for Backfill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{share}%"),
            Self::Rate(rate) => write!(f, "{rate}"),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Backfill {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Backfill {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_reads_back_as_it_is_shown() {
        for (text, pace) in [
            ("80%", Backfill::Share(80)),
            ("2MiB/s", Backfill::Rate(Rate::Bytes(ByteCount::mib(2)))),
            ("1500/s", Backfill::Rate(Rate::Bytes(ByteCount(1500)))),
            ("5000records/s", Backfill::Rate(Rate::Records(5000))),
        ] {
            assert_eq!(text.parse(), Ok(pace));
            assert_eq!(pace.to_string().parse(), Ok(pace), "{text}");
        }
        for text in ["", "0%", "101%", "2MiB", "0records/s", "12/s", "-1%", "records/s", "fast"] {
            assert!(text.parse::<Backfill>().is_err() && text.parse::<Rate>().is_err(), "{text}");
        }
        assert!("80%".parse::<Rate>().is_err(), "a share of what?");
    }
}
