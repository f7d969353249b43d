//! The names and sizes of USM's protocols (RFC 3414, 3826, 7860).

use std::fmt;
use std::str::FromStr;

/// How a message is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthProtocol {
    /// usmHMACMD5AuthProtocol (RFC 3414, 6).
    Md5,
    /// usmHMACSHAAuthProtocol (RFC 3414, 7).
    Sha1,
    /// usmHMAC128SHA224AuthProtocol (RFC 7860).
    Sha224,
    /// usmHMAC192SHA256AuthProtocol (RFC 7860).
    Sha256,
    /// usmHMAC256SHA384AuthProtocol (RFC 7860).
    Sha384,
    /// usmHMAC384SHA512AuthProtocol (RFC 7860).
    Sha512,
}

impl AuthProtocol {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Md5, Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// Bytes of a localized key, which is a digest.
    pub const fn key_length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Bytes of the digest in a message: a part of it (RFC 3414, 6.3.1; RFC 7860, 4.2).
    pub const fn digest_length(self) -> usize {
        match self {
            Self::Md5 | Self::Sha1 => 12,
            Self::Sha224 => 16,
            Self::Sha256 => 24,
            Self::Sha384 => 32,
            Self::Sha512 => 48,
        }
    }

    /// As it stands in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA-1",
            Self::Sha224 => "SHA-224",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        }
    }
}

/// How a message is encrypted.
///
/// No RFC has AES with longer keys. Two drafts are in use, which differ in how a key grows beyond its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrivProtocol {
    /// usmDESPrivProtocol (RFC 3414, 8).
    Des,
    /// usmAesCfb128Protocol (RFC 3826).
    Aes128,
    /// By draft-blumenthal-aes-usm-04, as net-snmp's `AES-192`.
    Aes192,
    /// By draft-blumenthal-aes-usm-04, as net-snmp's `AES-256`.
    Aes256,
    /// With the key of draft-reeder-snmpv3-usm-3desede-00, as Cisco has it and net-snmp's `AES-192-C`.
    Aes192C,
    /// With the key of draft-reeder-snmpv3-usm-3desede-00, as Cisco has it and net-snmp's `AES-256-C`.
    Aes256C,
}

impl PrivProtocol {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Des, Self::Aes128, Self::Aes192, Self::Aes256, Self::Aes192C, Self::Aes256C];

    /// Bytes of a localized key. DES has 8 of key and 8 of pre-IV.
    pub const fn key_length(self) -> usize {
        match self {
            Self::Des | Self::Aes128 => 16,
            Self::Aes192 | Self::Aes192C => 24,
            Self::Aes256 | Self::Aes256C => 32,
        }
    }

    /// As it stands in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Des => "DES",
            Self::Aes128 => "AES-128",
            Self::Aes192 => "AES-192",
            Self::Aes256 => "AES-256",
            Self::Aes192C => "AES-192-C",
            Self::Aes256C => "AES-256-C",
        }
    }
}

/// A name that stands for no protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownProtocol {
    name: String,
    expected: &'static str,
}

impl fmt::Display for UnknownProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown protocol `{}`: expected {}", self.name, self.expected)
    }
}

impl std::error::Error for UnknownProtocol {}

/// Upper case, without what people put between letters and digits.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).map(|c| c.to_ascii_uppercase()).take(40).collect()
}

impl FromStr for AuthProtocol {
    type Err = UnknownProtocol;

    fn from_str(name: &str) -> Result<Self, UnknownProtocol> {
        Ok(match &*plain(name) {
            "MD5" => Self::Md5,
            "SHA" | "SHA1" => Self::Sha1,
            "SHA224" => Self::Sha224,
            "SHA256" => Self::Sha256,
            "SHA384" => Self::Sha384,
            "SHA512" => Self::Sha512,
            _ => {
                let expected = "MD5, SHA-1, SHA-224, SHA-256, SHA-384 or SHA-512";
                return Err(UnknownProtocol { name: name.chars().take(40).collect(), expected });
            }
        })
    }
}

impl FromStr for PrivProtocol {
    type Err = UnknownProtocol;

    fn from_str(name: &str) -> Result<Self, UnknownProtocol> {
        Ok(match &*plain(name) {
            "DES" => Self::Des,
            "AES" | "AES128" => Self::Aes128,
            "AES192" => Self::Aes192,
            "AES256" => Self::Aes256,
            "AES192C" => Self::Aes192C,
            "AES256C" => Self::Aes256C,
            _ => {
                let expected = "DES, AES-128, AES-192, AES-256, AES-192-C or AES-256-C";
                return Err(UnknownProtocol { name: name.chars().take(40).collect(), expected });
            }
        })
    }
}

impl fmt::Display for AuthProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for PrivProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_protocol_reads_back_from_its_name() {
        for auth in AuthProtocol::ALL {
            assert_eq!(auth.name().parse(), Ok(auth));
        }
        for privacy in PrivProtocol::ALL {
            assert_eq!(privacy.name().parse(), Ok(privacy));
        }
        assert_eq!("sha".parse(), Ok(AuthProtocol::Sha1));
        assert_eq!("aes".parse(), Ok(PrivProtocol::Aes128));
        let error = "3DES".parse::<PrivProtocol>().unwrap_err().to_string();
        assert!(error.starts_with("unknown protocol `3DES`: expected DES, AES-128"), "{error}");
    }
}
