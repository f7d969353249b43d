//! Tunnels to the operations centre: what the `vpn` role asks of the `net` role, and what it is told.

use serde::{Deserialize, Deserializer, Serialize, de};
use std::fmt;
use std::str::FromStr;

/// Name of a tunnel and of its profile: 1 to 11 small letters, digits and `-`, a letter first. Its network device is
/// `vpn-NAME`: the kernel takes 15 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TunnelName(String);

impl TunnelName {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of its network device.
    pub fn device(&self) -> String {
        format!("{DEVICE}{}", self.0)
    }
}

/// What names of tunnels' devices begin with: no other device of the box is called so.
pub const DEVICE: &str = "vpn-";

impl FromStr for TunnelName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let fine = (1..=11).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let wrong = || format!("`{}` is no name of a VPN profile", text.escape_debug());
        if fine { Ok(Self(text.to_owned())) } else { Err(wrong()) }
    }
}

impl fmt::Display for TunnelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TunnelName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_fits_into_that_of_a_device() {
        assert_eq!("noc".parse::<TunnelName>().unwrap().device(), "vpn-noc");
        assert_eq!("noc-backup1".parse::<TunnelName>().unwrap().device().len(), 15);
        for wrong in ["", "noc-backup12", "Noc", "1st", "a b", "a/b", "..", "-a", "ä", "a\n"] {
            assert!(wrong.parse::<TunnelName>().is_err(), "{wrong}");
        }
    }
}
