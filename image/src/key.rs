//! The key that signs bundles: Ed25519, PKCS #8 in PEM, in a file that only its owner reads. Whoever holds it decides
//! what a box runs.

use anyhow::{Context, Result, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use raven_model::hex::hex;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A key that can sign.
pub struct Key(Ed25519KeyPair);

impl Key {
    /// Reads it.
    ///
    /// # Errors
    /// The file is not there, others may read it, or it holds no such key.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        // The six lowest bits are those of group and others.
        let mode = std::fs::metadata(path)?.permissions().mode();
        ensure!(mode.trailing_zeros() >= 6, "{} can be read by others: chmod 600 it", path.display());
        let body = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(body, _)| body);
        let body: String = body.unwrap_or_default().split_whitespace().collect();
        let bytes = STANDARD.decode(body).ok().filter(|bytes| !bytes.is_empty());
        let bytes = bytes.with_context(|| format!("{} holds no private key in PEM", path.display()))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes);
        pair.map(Self).map_err(|error| anyhow!("{}: no Ed25519 key: {error}", path.display()))
    }

    /// Makes one in a new file.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn make(path: &Path) -> Result<Self> {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok().context("no random numbers")?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        writeln!(file, "{BEGIN}\n{}\n{END}", STANDARD.encode(made.as_ref()))?;
        file.sync_all()?;
        Self::read(path)
    }

    /// The public half as a box keeps it: hex digits, a line.
    pub fn public_text(&self) -> String {
        hex(self.0.public_key().as_ref()) + "\n"
    }

    /// Signs.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }
}

/// The key of a build that nobody gave one: made once, kept in the cache.
///
/// # Errors
/// It cannot be made.
pub fn of_development(cache: &Path) -> Result<PathBuf> {
    let path = cache.join("update-development.key");
    if !path.exists() {
        std::fs::create_dir_all(cache)?;
        Key::make(&path)?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ring::signature::{ED25519, UnparsedPublicKey};

    #[test]
    fn what_it_signs_is_found_right_with_its_public_half_and_it_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let made = Key::make(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Key::read(&path).unwrap();
        assert_eq!(made.public_text(), read.public_text());
        let public = raven_model::hex::unhex(read.public_text().trim()).unwrap();
        let check = |text: &[u8]| UnparsedPublicKey::new(&ED25519, &public).verify(text, &made.sign(b"text")).is_ok();
        assert!(check(b"text") && !check(b"texT"));
        assert!(Key::make(&path).is_err());
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Key::make(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(format!("{:#}", Key::read(&path).err().unwrap()).contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "no key").unwrap();
        assert!(Key::read(&path).is_err());
    }
}
