//! The `login` role: makes the hash of a password, or holds a password against its hash. Answers once.

use anyhow::{Context, bail};
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use raven_model::control::{Fd, FromWorker, Start};
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use zeroize::Zeroizing;

/// Longest password and longest hash, bytes.
const LONGEST: u64 = 1024;

/// What it costs to try one password (OWASP's least for argon2id): KiB of memory, passes.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;

/// Without a hash one is made; with a hash the password is held against it.
pub fn answer(start: &Start, fds: Vec<OwnedFd>) -> anyhow::Result<FromWorker> {
    let (mut password, mut hash) = (None, None);
    for (name, fd) in start.fds.iter().zip(fds) {
        match name {
            Fd::Password => password = Some(read(fd)?),
            Fd::Hash => hash = Some(read(fd)?),
            _ => bail!("ravend passed something to log in with that is neither a password nor a hash"),
        }
    }
    let password = password.context("ravend passed no password")?;
    match hash {
        None => make(&password).map(FromWorker::Hashed),
        Some(hash) => verify(&password, std::str::from_utf8(&hash)?.trim_end()).map(FromWorker::Verified),
    }
}

fn make(password: &[u8]) -> anyhow::Result<String> {
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).ok().context("no random numbers")?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| anyhow::anyhow!("salt: {error}"))?;
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|error| anyhow::anyhow!("argon2: {error}"))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(password, &salt).map_err(|error| anyhow::anyhow!("argon2: {error}"))?;
    Ok(hash.to_string())
}

fn verify(password: &[u8], hash: &str) -> anyhow::Result<bool> {
    let hash = PasswordHash::new(hash).map_err(|error| anyhow::anyhow!("the password's hash is damaged: {error}"))?;
    match Argon2::default().verify_password(password, &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::Password) => Ok(false),
        Err(error) => bail!("the password's hash is damaged: {error}"),
    }
}

fn read(fd: OwnedFd) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once, so that no part stays behind in memory that was given back.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    File::from(fd).take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        bail!("longer than {LONGEST} bytes");
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash_and_no_other_is() {
        let hash = make(b"correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify(b"correct horse", &hash).unwrap());
        assert!(!verify(b"correct horsf", &hash).unwrap());
        assert!(!verify(b"", &hash).unwrap());
        assert_ne!(make(b"correct horse").unwrap(), hash, "a salt of its own");
    }

    #[test]
    fn a_damaged_hash_is_no_wrong_password() {
        let hash = make(b"x").unwrap();
        for damaged in ["", "x", &hash[..hash.len() - 4].replace("argon2id", "argon9"), "$argon2id$"] {
            assert!(verify(b"x", damaged).is_err(), "{damaged}");
        }
    }
}
