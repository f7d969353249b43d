//! The `sign` role: makes the device key, or signs with it. Answers once.

use anyhow::{Context, bail};
use raven_model::control::{Fd, FromWorker, Start};
use raven_model::hex::{hex, unhex};
use raven_model::signature::{Signature, statement};
use raven_model::units::UnixNanos;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// SHA-256, bytes.
const DIGEST: usize = 32;

/// Without a key one is made; with a key and a digest the digest is signed.
pub fn answer(start: &Start, fds: Vec<OwnedFd>) -> anyhow::Result<FromWorker> {
    let (mut key, mut digest) = (None, None);
    for (name, fd) in start.fds.iter().zip(fds) {
        match name {
            Fd::DeviceKey => key = Some(fd),
            Fd::Digest => digest = Some(fd),
            _ => bail!("ravend passed something to sign that is neither a key nor a digest"),
        }
    }
    let Some(key) = key else { return make() };
    let key = Ed25519KeyPair::from_pkcs8(&read(key)?)
        .map_err(|error| anyhow::anyhow!("the device key is damaged ({error}); without it a new one is made"))?;
    let digest = read(digest.context("ravend passed no digest")?)?;
    let signed_ns = UnixNanos(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64);
    sign(&key, &start.device, signed_ns, std::str::from_utf8(&digest)?).map(FromWorker::Signed)
}

fn make() -> anyhow::Result<FromWorker> {
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok().context("no random numbers")?;
    Ok(FromWorker::DeviceKey { key: hex(made.as_ref()) })
}

fn sign(key: &Ed25519KeyPair, device: &str, signed_ns: UnixNanos, sha256: &str) -> anyhow::Result<Signature> {
    if unhex(sha256).is_none_or(|bytes| bytes.len() != DIGEST) {
        bail!("a digest has {} hex digits", 2 * DIGEST);
    }
    let signature = key.sign(statement(device, signed_ns, sha256).as_bytes());
    Ok(Signature {
        device: device.to_owned(),
        signed_ns,
        sha256: sha256.to_owned(),
        key: hex(key.public_key().as_ref()),
        signature: hex(signature.as_ref()),
    })
}

fn read(fd: OwnedFd) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once, so that no part of a key stays behind in memory that was given back.
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    File::from(fd).take(4096).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_a_digest_is_signed() {
        let FromWorker::DeviceKey { key } = make().unwrap() else { panic!("no key") };
        let key = Ed25519KeyPair::from_pkcs8(&unhex(&key).unwrap()).unwrap();
        for wrong in ["", "00", &"0".repeat(63), &"g".repeat(64), &format!("{}\nx", "0".repeat(64))] {
            assert!(sign(&key, "arena", UnixNanos(1), wrong).is_err(), "{wrong}");
        }
        let signed = sign(&key, "arena", UnixNanos(1), &"0".repeat(64)).unwrap();
        assert_eq!((signed.key.len(), signed.signature.len()), (64, 128));
    }
}
