//! How fast a destination may be sent what it missed.

use crate::units::ByteCount;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// `uplink.NAME.backfill`: `80%`, `2MiB/s` or `5000records/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backfill {
    /// Percent of the time in which it may have records under way, 1 to 100.
    Share(u8),
    /// Bytes of messages, before compression, in a second.
    Bytes(ByteCount),
    /// Records in a second.
    Records(u32),
}

impl Default for Backfill {
    fn default() -> Self {
        Self::Share(80)
    }
}

impl FromStr for Backfill {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            let wanted = "expected a share from `1%` to `100%`, or a rate such as `2MiB/s` or `5000records/s`";
            format!("`{}` is no pace; {wanted}", text.escape_debug())
        };
        if let Some(share) = text.strip_suffix('%') {
            let share = share.trim().parse().ok().filter(|share| (1..=100).contains(share));
            return share.map(Self::Share).ok_or_else(refused);
        }
        let rate = text.strip_suffix("/s").ok_or_else(refused)?;
        if let Some(records) = rate.strip_suffix("records") {
            return records.trim().parse().ok().filter(|n| *n > 0).map(Self::Records).ok_or_else(refused);
        }
        rate.parse().ok().filter(|bytes: &ByteCount| bytes.0 >= 1024).map(Self::Bytes).ok_or_else(refused)
    }
}

impl fmt::Display for Backfill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(f, "{share}%"),
            // `ByteCount` shows rounded amounts; this one must read back to the same.
            Self::Bytes(bytes) if bytes.to_string().parse() == Ok(*bytes) => write!(f, "{bytes}/s"),
            Self::Bytes(bytes) => write!(f, "{}/s", bytes.0),
            Self::Records(records) => write!(f, "{records}records/s"),
        }
    }
}

impl Serialize for Backfill {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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
            ("2MiB/s", Backfill::Bytes(ByteCount::mib(2))),
            ("1500/s", Backfill::Bytes(ByteCount(1500))),
            ("5000records/s", Backfill::Records(5000)),
        ] {
            assert_eq!(text.parse(), Ok(pace));
            assert_eq!(pace.to_string().parse(), Ok(pace), "{text}");
        }
        for text in ["", "0%", "101%", "2MiB", "0records/s", "12/s", "-1%", "records/s", "fast"] {
            assert!(text.parse::<Backfill>().is_err(), "{text}");
        }
    }
}
