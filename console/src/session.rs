//! Who works from afar: sshd starts `raven` as a login shell, and `ravend` is told what it was asked to do and what came of it.

use crate::client::Client;
use crate::output;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use raven_model::control::{Audited, Ended, Request};
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::time::Instant;

/// The exit code that is told of a command whose asker was cut off while it ran, as a shell tells it of SIGPIPE.
pub const CUT_OFF: u8 = 128 + 13;

/// A command that came over SSH.
#[derive(Debug)]
pub struct Session {
    client: Client,
    told: Audited,
    began: Instant,
}

impl Session {
    /// Tells of its beginning; nothing where it did not come over SSH (`SSH_CONNECTION`, which sshd sets).
    pub fn begin(arguments: &[OsString]) -> Option<Self> {
        let connection = std::env::var_os("SSH_CONNECTION")?.into_string().ok()?;
        let words = match arguments {
            [_, flag, line] if flag == "-c" => line.to_string_lossy().into_owned(),
            [_] => "console".to_owned(),
            _ => return None,
        };
        // `ExposeAuthInfo` of sshd_config.
        let shown = std::env::var_os("SSH_USER_AUTH").and_then(|place| std::fs::read_to_string(place).ok());
        let key = shown.as_deref().and_then(public_key);
        let told = Audited {
            session: RandomState::new().hash_one(std::process::id()),
            words,
            from: connection.split(' ').next().and_then(|from| from.parse().ok()),
            fingerprint: key.as_deref().and_then(fingerprint),
            key,
            ended: None,
        };
        let data = std::env::var_os("RAVEN_DATA").unwrap_or_else(|| "/data".into());
        let session = Self { client: Client::new(Path::new(&data)), told, began: Instant::now() };
        session.tell();
        Some(session)
    }

    /// Tells of its end.
    pub fn end(mut self, code: u8) {
        let code = if output::is_read() { code } else { CUT_OFF };
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.told.ended = Some(Ended { code, ms });
        self.tell();
    }

    /// Where `ravend` cannot be reached sshd's own log has it, and the command says so itself.
    fn tell(&self) {
        let _ = self.client.ask(&Request::Audit(Box::new(self.told.clone())));
    }
}

/// The key that was taken, of what sshd says: `publickey ssh-ed25519 AAAA…`.
fn public_key(shown: &str) -> Option<String> {
    let line = shown.lines().find_map(|line| line.strip_prefix("publickey "))?;
    (line.len() <= 2048).then(|| line.trim().to_owned())
}

/// As OpenSSH writes it.
fn fingerprint(key: &str) -> Option<String> {
    let blob = BASE64_STANDARD.decode(key.split(' ').nth(1)?).ok()?;
    Some(format!("SHA256:{}", BASE64_STANDARD_NO_PAD.encode(Sha256::digest(blob))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_fingerprint_that_openssh_shows() {
        // By `ssh-keygen -lf`.
        let shown = "publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n";
        let key = public_key(shown);
        assert_eq!(
            key.as_deref().and_then(fingerprint).as_deref(),
            Some("SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA")
        );
        assert_eq!(public_key("password\n"), None);
        assert_eq!(fingerprint("ssh-ed25519 *"), None);
    }
}
