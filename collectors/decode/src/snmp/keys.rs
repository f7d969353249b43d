//! From a password to the keys of one user on one engine (RFC 3414, 2.6 and A.2; the two drafts for long AES keys).

use super::crypto::{Key, hash, hash_of_a_mebibyte};
use super::engine_id::{EngineId, unhex};
use super::protocol::{AuthProtocol, PrivProtocol};
use std::fmt;
use zeroize::Zeroizing;

/// What a user's keys are made from. Never shown, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A password of at least 8 bytes (RFC 3414, 11.2), for any engine.
    Password(Zeroizing<String>),
    /// A key that was localized elsewhere, for one engine.
    Localized(Key),
}

impl Secret {
    /// A password.
    pub fn password(password: impl Into<String>) -> Self {
        Self::Password(Zeroizing::new(password.into()))
    }

    /// A localized key in hex.
    pub fn localized(hex: &str) -> Option<Self> {
        unhex(hex).map(Key::new).map(Self::Localized)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(…)",
            Self::Localized(_) => "Localized(…)",
        })
    }
}

/// A secret on its way to an engine: the costly part of a password's way is behind it.
#[derive(Clone)]
pub(super) enum Master {
    /// The digest of the password (Ku).
    Password(Key),
    /// A localized key (Kul).
    Localized(Key),
}

impl Master {
    /// Costs about a millisecond for a password.
    pub fn new(auth: AuthProtocol, secret: &Secret) -> Self {
        match secret {
            Secret::Password(password) => Self::Password(hash_of_a_mebibyte(auth, password.as_bytes())),
            Secret::Localized(key) => Self::Localized(key.clone()),
        }
    }

    /// The key on one engine (Kul), as long as the hash.
    pub fn localize(&self, auth: AuthProtocol, engine: &EngineId) -> Key {
        match self {
            Self::Password(master) => localize(auth, master, engine),
            Self::Localized(key) => key.clone(),
        }
    }
}

/// The keys of one user on one engine.
#[derive(Clone)]
pub(super) struct Keys {
    pub auth: (AuthProtocol, Key),
    pub privacy: Option<(PrivProtocol, Key)>,
}

/// H(Ku, engine id, Ku) (RFC 3414, 2.6).
fn localize(auth: AuthProtocol, master: &[u8], engine: &EngineId) -> Key {
    hash(auth, &[master, engine.as_bytes(), master])
}

/// A localized key, made as long as the cipher needs it. Costs about a millisecond for the `-C` protocols.
pub(super) fn privacy_key(auth: AuthProtocol, privacy: PrivProtocol, mut key: Key, engine: &EngineId) -> Key {
    let length = privacy.key_length();
    // A digest is 16 bytes at least, so that the second round is enough for 32.
    while key.len() < length && !key.is_empty() {
        let more = match privacy {
            // draft-reeder-snmpv3-usm-3desede-00, 2.1: the key is taken for a password.
            PrivProtocol::Aes192C | PrivProtocol::Aes256C => localize(auth, &hash_of_a_mebibyte(auth, &key), engine),
            // draft-blumenthal-aes-usm-04, 3.1.2.1.
            _ => hash(auth, &[&key]),
        };
        key = Key::new([key.as_slice(), more.as_slice()].concat());
    }
    key.truncate(length);
    key
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn engine() -> EngineId {
        "000000000000000000000002".parse().unwrap()
    }

    fn hex(key: &[u8]) -> String {
        use std::fmt::Write as _;
        key.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    #[test]
    fn keys_are_those_of_rfc_3414_appendix_a_3() {
        for (auth, master, localized) in [
            (AuthProtocol::Md5, "9faf3283884e92834ebc9847d8edd963", "526f5eed9fcce26f8964c2930787d82b"),
            (
                AuthProtocol::Sha1,
                "9fb5cc0381497b3793528939ff788d5d79145211",
                "6695febc9288e36282235fc7151f128497b38f3f",
            ),
        ] {
            let Master::Password(ku) = Master::new(auth, &Secret::password("maplesyrup")) else { unreachable!() };
            assert_eq!(hex(&ku), master);
            assert_eq!(hex(&Master::Password(ku).localize(auth, &engine())), localized);
        }
    }

    #[test]
    fn a_password_longer_than_the_buffer_wraps_at_one_mebibyte() {
        let password = "0123456789abcdef".repeat(313);
        let whole: Vec<u8> = password.bytes().cycle().take(1 << 20).collect();
        for auth in AuthProtocol::ALL {
            assert_eq!(hash_of_a_mebibyte(auth, password.as_bytes()), hash(auth, &[&whole]), "{auth}");
            assert_eq!(hash(auth, &[]).len(), auth.key_length());
        }
    }

    #[test]
    fn long_keys_start_with_the_short_one_and_differ_by_draft() {
        for auth in AuthProtocol::ALL {
            let key = Master::new(auth, &Secret::password("maplesyrup")).localize(auth, &engine());
            let of = |privacy| privacy_key(auth, privacy, key.clone(), &engine());
            let head = key.len().min(32);
            for privacy in PrivProtocol::ALL {
                let long = of(privacy);
                assert_eq!(long.len(), privacy.key_length());
                assert_eq!(long[..head.min(long.len())], key[..head.min(long.len())]);
            }
            assert_eq!(of(PrivProtocol::Aes256) == of(PrivProtocol::Aes256C), key.len() >= 32, "{auth}");
        }
    }

    #[test]
    fn reeder_s_key_is_that_of_its_draft() {
        // draft-reeder-snmpv3-usm-3desede-00, B.1 and B.2: 32 bytes each.
        for (auth, key) in [
            (AuthProtocol::Md5, "526f5eed9fcce26f8964c2930787d82b79eff44a90650ee0a3a40abfac5acc12"),
            (AuthProtocol::Sha1, "6695febc9288e36282235fc7151f128497b38f3f9b8b6d78936ba6e7d19dfd9c"),
        ] {
            let short = Master::new(auth, &Secret::password("maplesyrup")).localize(auth, &engine());
            assert_eq!(hex(&privacy_key(auth, PrivProtocol::Aes256C, short, &engine())), key, "{auth}");
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let shown = format!("{:?} {:?}", Secret::password("maplesyrup"), Secret::localized("0x00112233"));
        assert_eq!(shown, "Password(…) Some(Localized(…))");
    }
}
