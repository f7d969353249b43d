//! What USM computes: digests, authentication codes, encryption. No choice is made here; keys come in, bytes go out.

use super::protocol::{AuthProtocol, PrivProtocol};
use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use hmac::digest::Digest as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use zeroize::Zeroizing;

/// Bytes of a key or of what leads to one; wiped when dropped.
pub type Key = Zeroizing<Vec<u8>>;

/// Runs `$body` with `$Hash` standing for the protocol's hash function.
macro_rules! with_hash {
    ($auth:expr, $Hash:ident => $body:expr) => {
        match $auth {
            AuthProtocol::Md5 => {
                type $Hash = md5::Md5;
                $body
            }
            AuthProtocol::Sha1 => {
                type $Hash = sha1::Sha1;
                $body
            }
            AuthProtocol::Sha224 => {
                type $Hash = sha2::Sha224;
                $body
            }
            AuthProtocol::Sha256 => {
                type $Hash = sha2::Sha256;
                $body
            }
            AuthProtocol::Sha384 => {
                type $Hash = sha2::Sha384;
                $body
            }
            AuthProtocol::Sha512 => {
                type $Hash = sha2::Sha512;
                $body
            }
        }
    };
}

/// The hash of all these bytes, one behind the other.
pub fn hash(auth: AuthProtocol, parts: &[&[u8]]) -> Key {
    with_hash!(auth, Hash => {
        let mut hash = Hash::new();
        for part in parts { hash.update(part); }
        Key::new(hash.finalize().to_vec())
    })
}

/// The hash of a password said again and again until it is 1 MiB long (RFC 3414, A.2). Costs about a millisecond.
pub fn hash_of_a_mebibyte(auth: AuthProtocol, password: &[u8]) -> Key {
    const LENGTH: usize = 1 << 20;
    if password.is_empty() {
        return Key::default();
    }
    let said = Key::new(password.repeat(4096_usize.div_ceil(password.len())));
    with_hash!(auth, Hash => {
        let mut hash = Hash::new();
        let mut left = LENGTH;
        while left > 0 {
            let part = said.get(..left).unwrap_or(&said);
            hash.update(part);
            left -= part.len();
        }
        Key::new(hash.finalize().to_vec())
    })
}

/// The authentication code of a message in parts, as long as the protocol has it.
pub fn digest(auth: AuthProtocol, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    with_hash!(auth, Hash => {
        let mut mac = Hmac::<Hash>::new_from_slice(key).expect("HMAC takes keys of any length");
        for part in parts { mac.update(part); }
        mac.finalize().into_bytes().iter().take(auth.digest_length()).copied().collect()
    })
}

/// Whether this is the authentication code of a message in parts. Takes as long for a wrong one as for the right one.
pub fn digest_fits(auth: AuthProtocol, key: &[u8], parts: &[&[u8]], found: &[u8]) -> bool {
    found.len() == auth.digest_length()
        && with_hash!(auth, Hash => {
            let mut mac = Hmac::<Hash>::new_from_slice(key).expect("HMAC takes keys of any length");
            for part in parts { mac.update(part); }
            mac.verify_truncated_left(found).is_ok()
        })
}

/// What, besides the key, makes the initialization vector.
#[derive(Debug, Clone, Copy)]
pub struct Nonce {
    /// msgAuthoritativeEngineBoots.
    pub boots: i32,
    /// msgAuthoritativeEngineTime.
    pub time: i32,
    /// msgPrivacyParameters.
    pub salt: [u8; 8],
}

impl Nonce {
    /// RFC 3826, 3.1.2.1.
    fn aes(&self) -> [u8; 16] {
        let mut iv = [0; 16];
        iv[..4].copy_from_slice(&self.boots.to_be_bytes());
        iv[4..8].copy_from_slice(&self.time.to_be_bytes());
        iv[8..].copy_from_slice(&self.salt);
        iv
    }

    /// RFC 3414, 8.1.1.1: the second half of the key, XOR the salt.
    fn des(&self, pre_iv: &[u8]) -> [u8; 8] {
        let mut iv = self.salt;
        iv.iter_mut().zip(pre_iv).for_each(|(byte, pre)| *byte ^= pre);
        iv
    }
}

/// In place. `None` for a key of another length than the protocol's, and for what DES has not in whole blocks.
pub fn decrypt(privacy: PrivProtocol, key: &[u8], nonce: Nonce, data: &mut [u8]) -> Option<()> {
    let iv = nonce.aes();
    match privacy {
        PrivProtocol::Des => {
            let (key, pre_iv) = key.split_at_checked(8)?;
            let mut cipher = cbc::Decryptor::<des::Des>::new_from_slices(key, &nonce.des(pre_iv)).ok()?;
            let (blocks, []) = data.as_chunks_mut::<8>() else { return None };
            for block in blocks {
                cipher.decrypt_block(block.into());
            }
        }
        PrivProtocol::Aes128 => cfb_mode::Decryptor::<Aes128>::new_from_slices(key, &iv).ok()?.decrypt(data),
        PrivProtocol::Aes192 | PrivProtocol::Aes192C => {
            cfb_mode::Decryptor::<Aes192>::new_from_slices(key, &iv).ok()?.decrypt(data);
        }
        PrivProtocol::Aes256 | PrivProtocol::Aes256C => {
            cfb_mode::Decryptor::<Aes256>::new_from_slices(key, &iv).ok()?.decrypt(data);
        }
    }
    Some(())
}

/// In place; for DES, zeros fill the last block. `None` for a key of another length than the protocol's.
pub fn encrypt(privacy: PrivProtocol, key: &[u8], nonce: Nonce, data: &mut Vec<u8>) -> Option<()> {
    let iv = nonce.aes();
    match privacy {
        PrivProtocol::Des => {
            let (key, pre_iv) = key.split_at_checked(8)?;
            let mut cipher = cbc::Encryptor::<des::Des>::new_from_slices(key, &nonce.des(pre_iv)).ok()?;
            data.resize(data.len().next_multiple_of(8), 0);
            let (blocks, []) = data.as_chunks_mut::<8>() else { return None };
            for block in blocks {
                cipher.encrypt_block(block.into());
            }
        }
        PrivProtocol::Aes128 => cfb_mode::Encryptor::<Aes128>::new_from_slices(key, &iv).ok()?.encrypt(data),
        PrivProtocol::Aes192 | PrivProtocol::Aes192C => {
            cfb_mode::Encryptor::<Aes192>::new_from_slices(key, &iv).ok()?.encrypt(data);
        }
        PrivProtocol::Aes256 | PrivProtocol::Aes256C => {
            cfb_mode::Encryptor::<Aes256>::new_from_slices(key, &iv).ok()?.encrypt(data);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::engine_id::unhex;
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        unhex(text).unwrap()
    }

    #[test]
    fn digests_are_those_of_rfc_4231_cut_to_length() {
        // RFC 4231, 4.3 (test case 2): key "Jefe".
        let text: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        for (auth, expected) in [
            (AuthProtocol::Md5, "750c783e6ab0b503eaa86e31"),  // RFC 2202, 2
            (AuthProtocol::Sha1, "effcdf6ae5eb2fa2d27416d5"), // RFC 2202, 3
            (AuthProtocol::Sha224, "a30e01098bc6dbbf45690f3a7e9e6d0f"),
            (AuthProtocol::Sha256, "5bdcc146bf60754e6a042426089575c75a003f089d273983"),
            (AuthProtocol::Sha384, "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"),
            (
                AuthProtocol::Sha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fd",
            ),
        ] {
            let expected = hex(expected);
            assert_eq!(digest(auth, b"Jefe", &text), expected, "{auth}");
            assert!(digest_fits(auth, b"Jefe", &text, &expected));
            assert!(!digest_fits(auth, b"Jefe", &text, &expected[1..]), "a shorter one would be easier to guess");
            assert!(!digest_fits(auth, b"Jefe", &text, &[]));
            assert!(!digest_fits(auth, b"jefe", &text, &expected));
        }
    }

    #[test]
    fn what_is_encrypted_decrypts() {
        let nonce = Nonce { boots: 7, time: 1234, salt: *b"saltsalt" };
        for privacy in PrivProtocol::ALL {
            let key: Vec<u8> = (1..).take(privacy.key_length()).collect();
            for length in [0, 1, 7, 8, 15, 16, 17, 100] {
                let plain = vec![b'x'; length];
                let mut data = plain.clone();
                encrypt(privacy, &key, nonce, &mut data).unwrap();
                assert!(length == 0 || data != plain);
                decrypt(privacy, &key, nonce, &mut data).unwrap();
                assert_eq!(data[..length], plain, "{privacy}");
                assert_eq!(data.len(), if privacy == PrivProtocol::Des { length.next_multiple_of(8) } else { length });
            }
            assert_eq!(encrypt(privacy, &key[..7], nonce, &mut vec![1]), None);
        }
        assert_eq!(decrypt(PrivProtocol::Des, &[1; 16], nonce, &mut [0; 9]), None);
    }

    #[test]
    fn aes_is_cfb_with_128_bits_of_feedback() {
        // NIST SP 800-38A, F.3.13, with its IV 000102…0f as boots, time and salt.
        let nonce = Nonce { boots: 0x0001_0203, time: 0x0405_0607, salt: [8, 9, 10, 11, 12, 13, 14, 15] };
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c");
        let mut data = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        encrypt(PrivProtocol::Aes128, &key, nonce, &mut data).unwrap();
        assert_eq!(data, hex("3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b"));
    }
}
