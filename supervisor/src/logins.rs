//! Passwords of the console, and who is logged in there. Hashes lie in `DIR/secrets/ROLE.password`; the `login` role
//! makes them and holds passwords against them.

use crate::secrets::read_secret;
use crate::{configure, durable};
use anyhow::{Context, bail};
use raven_jail::memory::memfd_of;
use raven_model::control::{Fd, FromWorker, Password, Start};
use raven_model::hex::hex;
use raven_model::table::{OperatorRole, Role};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A login that is not used for so long is over.
const IDLE: Duration = Duration::from_mins(15);
/// Logins at a time; the one that was used least lately goes.
const MOST: usize = 32;
/// Longest pause after a wrong password; it begins with one second and doubles.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of a password.
const PASSWORD: std::ops::RangeInclusive<usize> = 8..=1024;

/// See the top.
#[derive(Debug)]
pub struct Logins {
    data: PathBuf,
    sessions: BTreeMap<String, Session>,
    wrong: BTreeMap<OperatorRole, Wrong>,
}

#[derive(Debug)]
struct Session {
    uid: u32,
    role: OperatorRole,
    used: Instant,
}

/// Wrong passwords in a row.
#[derive(Debug, Default)]
struct Wrong {
    count: u32,
    again: Option<Instant>,
}

impl Wrong {
    /// How long one has to wait yet.
    fn pause(&self, now: Instant) -> Option<Duration> {
        self.again.map(|again| again.saturating_duration_since(now)).filter(|pause| !pause.is_zero())
    }

    /// Notes one more, and says how long the next attempt has to wait.
    fn more(&mut self, now: Instant) -> Duration {
        let pause = Duration::from_secs(1 << self.count.min(5)).min(LONGEST_PAUSE);
        self.count += 1;
        self.again = Some(now + pause);
        pause
    }
}

impl Logins {
    /// Of a data directory.
    pub fn open(data: &Path) -> Self {
        Self { data: data.to_owned(), sessions: BTreeMap::new(), wrong: BTreeMap::new() }
    }

    fn file(&self, role: OperatorRole) -> PathBuf {
        self.data.join("secrets").join(format!("{role}.password"))
    }

    /// Whether admins have a password.
    pub fn has_admin(&self) -> bool {
        // One that cannot be looked for is not a box that is not set up.
        self.file(OperatorRole::Admin).try_exists().unwrap_or(true)
    }

    /// The rights of a login, if it is one of this user and not over.
    pub fn role(&mut self, token: &str, uid: u32) -> Option<OperatorRole> {
        self.sessions.retain(|_, session| session.used.elapsed() < IDLE);
        let session = self.sessions.get_mut(token).filter(|session| session.uid == uid)?;
        session.used = Instant::now();
        Some(session.role)
    }

    /// Begins a login of this user.
    pub fn log_in(
        &mut self,
        program: &OwnedFd,
        role: OperatorRole,
        password: &Password,
        uid: u32,
    ) -> anyhow::Result<String> {
        if let Some(pause) = self.wrong.entry(role).or_default().pause(Instant::now()) {
            bail!("wrong passwords before: the next attempt in {} s", pause.as_secs() + 1);
        }
        let path = self.file(role);
        if !path.try_exists()? {
            bail!("there is no password for {role}");
        }
        let fds = vec![typed(password)?, read_secret(&path)?];
        let start = Start { fds: vec![Fd::Password, Fd::Hash], ..configure::start_once(Role::Login, "") };
        let FromWorker::Verified(fits) = configure::ask(program, &self.data, start, fds)? else {
            bail!("the login worker gave another answer than yes or no");
        };
        if !fits {
            let pause = self.wrong.entry(role).or_default().more(Instant::now());
            tracing::warn!(%role, uid, "wrong password");
            bail!("wrong password; the next attempt in {} s", pause.as_secs());
        }
        self.wrong.remove(&role);
        tracing::info!(%role, uid, "logged in");
        self.begin(role, uid)
    }

    fn begin(&mut self, role: OperatorRole, uid: u32) -> anyhow::Result<String> {
        while self.sessions.len() >= MOST {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used).map(|(token, _)| token.clone());
            self.sessions.remove(&oldest.unwrap_or_default());
        }
        let mut token = [0; 16];
        File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut token)).context("no random numbers")?;
        let token = hex(&token);
        self.sessions.insert(token.clone(), Session { uid, role, used: Instant::now() });
        Ok(token)
    }

    /// Gives a role a password. Who was logged in with the old one stays no longer.
    pub fn set(&mut self, program: &OwnedFd, role: OperatorRole, password: &Password) -> anyhow::Result<()> {
        if !PASSWORD.contains(&password.0.len()) {
            bail!("a password has {} to {} bytes", PASSWORD.start(), PASSWORD.end());
        }
        let start = Start { fds: vec![Fd::Password], ..configure::start_once(Role::Login, "") };
        let FromWorker::Hashed(hash) = configure::ask(program, &self.data, start, vec![typed(password)?])? else {
            bail!("the login worker made no hash");
        };
        durable::write_private(&self.file(role), hash)?;
        tracing::info!(%role, "new password");
        self.wrong.remove(&role);
        self.sessions.retain(|_, session| session.role != role);
        Ok(())
    }
}

fn typed(password: &Password) -> anyhow::Result<OwnedFd> {
    Ok(memfd_of("raven-password", password.0.as_bytes())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let (mut wrong, now) = (Wrong::default(), Instant::now());
        let pauses: Vec<u64> = (0..8).map(|_| wrong.more(now).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(wrong.pause(now), Some(LONGEST_PAUSE));
        assert_eq!(wrong.pause(now + LONGEST_PAUSE), None);
    }

    #[test]
    fn a_login_is_of_one_user_and_there_are_not_too_many() {
        let mut logins = Logins::open(Path::new("/nowhere"));
        let first = logins.begin(OperatorRole::Admin, 7).unwrap();
        assert_eq!(logins.role(&first, 7), Some(OperatorRole::Admin));
        assert_eq!((logins.role(&first, 8), logins.role("", 7)), (None, None));
        for _ in 0..MOST {
            logins.begin(OperatorRole::Viewer, 7).unwrap();
        }
        assert_eq!((logins.role(&first, 7), logins.sessions.len()), (None, MOST));
    }
}
