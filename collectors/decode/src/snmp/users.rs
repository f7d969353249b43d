//! Who may send notifications of version 3, and with which keys.
//!
//! A user is one on an engine: the same name on another switch has other keys. An entry says which engines it is for
//! ([`Engine`]); one without an engine id of its own is not taken from any sender that comes along, but from those
//! engines that an operator has approved.
//!
//! What is costly happens once for each entry, when the table is made. What is left for each engine is cheap, so that
//! a flood of made-up engine ids costs little; and only keys that have proved right are remembered.

use super::crypto::Key;
use super::engine_id::EngineId;
use super::keys::{Keys, Master, Secret, privacy_key};
use super::protocol::{AuthProtocol, PrivProtocol};
use super::refused::Refused;
use super::user::{self, Engine, User, UserError, UserFault};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

/// Entries that a table may have.
pub const MAX_USERS: usize = 4096;
/// Keys that are remembered; when there are more, all are worked out anew.
const MAX_REMEMBERED: usize = 8192;
struct Entry {
    user: User,
    auth: Option<Master>,
    privacy: Option<Master>,
}

/// The table of users.
#[derive(Default)]
pub struct Users {
    entries: Vec<Entry>,
    by_name: HashMap<String, Vec<usize>>,
    approved: BTreeSet<EngineId>,
    remembered: HashMap<(EngineId, usize), Arc<Keys>>,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users: Vec<&User> = self.entries.iter().map(|entry| &entry.user).collect();
        f.debug_struct("Users").field("users", &users).field("approved", &self.approved).finish_non_exhaustive()
    }
}

/// Which entry is meant, and whether its engine has been approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub entry: usize,
    pub approved: bool,
}

impl Users {
    /// A table of these. Costs some milliseconds for each password.
    pub fn new(users: impl IntoIterator<Item = User>) -> Result<Self, UserError> {
        let mut table = Self::default();
        for user in users {
            table.add(user)?;
        }
        Ok(table)
    }

    fn add(&mut self, user: User) -> Result<(), UserError> {
        let error = |fault| UserError { user: user.name.chars().take(64).collect(), fault };
        user::check(&user).map_err(error)?;
        if self.entries.len() >= MAX_USERS {
            return Err(error(UserFault::TooMany));
        }
        let at = self.entries.len();
        let same_name = self.by_name.entry(user.name.clone()).or_default();
        if same_name.iter().any(|other| self.entries[*other].user.engine == user.engine) {
            return Err(error(UserFault::Twice));
        }
        same_name.push(at);
        let hash = user.auth.as_ref().map(|(auth, _)| *auth);
        let master = |secret: &Secret| hash.map(|hash| Master::new(hash, secret));
        let auth = user.auth.as_ref().and_then(|(_, secret)| master(secret));
        let privacy = user.priv_.as_ref().and_then(|(_, secret)| master(secret));
        self.entries.push(Entry { user, auth, privacy });
        Ok(())
    }

    /// Takes an engine for one whose users without an engine id may send.
    pub fn approve(&mut self, engine: EngineId) {
        self.approved.insert(engine);
    }

    /// Takes that back.
    pub fn disapprove(&mut self, engine: &EngineId) -> bool {
        self.approved.remove(engine)
    }

    /// The engines that were approved.
    pub fn approved(&self) -> impl Iterator<Item = EngineId> {
        self.approved.iter().copied()
    }

    /// The entry for a user as a message names it. The engine's own entry comes first,
    /// then that for approved ones, then that for any.
    pub(super) fn find(&self, engine: &EngineId, name: &[u8], ours: &EngineId) -> Result<Found, Refused> {
        let of_name = std::str::from_utf8(name).ok().and_then(|name| self.by_name.get(name));
        let of = |wanted: Engine| of_name?.iter().copied().find(|entry| self.entries[*entry].user.engine == wanted);
        let known = engine == ours || self.approved.contains(engine);
        let approved = of(Engine::Id(*engine)).or_else(|| of(Engine::Approved).filter(|_| known));
        if let Some(entry) = approved.or_else(|| of(Engine::Any)) {
            return Ok(Found { entry, approved: true });
        }
        match of(Engine::Approved) {
            Some(entry) => Ok(Found { entry, approved: false }),
            None if known || self.has_entry(engine) => {
                Err(Refused::UnknownUser { user: String::from_utf8_lossy(name).into_owned(), engine: *engine })
            }
            None => Err(Refused::UnknownEngine { engine: *engine, proven_by: None }),
        }
    }

    /// All entries that a user of this name on this engine could be, its own first.
    pub(super) fn candidates(&self, engine: &EngineId, name: &[u8]) -> Vec<usize> {
        let of_name = std::str::from_utf8(name).ok().and_then(|name| self.by_name.get(name));
        let engine_of = |entry: &usize| self.entries[*entry].user.engine;
        let is_own = |entry: &usize| engine_of(entry) == Engine::Id(*engine);
        let mut candidates: Vec<usize> = of_name.into_iter().flatten().copied().collect();
        candidates.retain(|entry| is_own(entry) || !matches!(engine_of(entry), Engine::Id(_)));
        candidates.sort_by_key(|entry| !is_own(entry));
        candidates
    }

    fn has_entry(&self, engine: &EngineId) -> bool {
        self.entries.iter().any(|entry| entry.user.engine == Engine::Id(*engine))
    }

    pub(super) fn user(&self, entry: usize) -> &User {
        &self.entries[entry].user
    }

    /// What messages of this user from this engine are authenticated with.
    pub(super) fn auth_key(&self, entry: usize, engine: &EngineId) -> Option<(AuthProtocol, Key)> {
        if let Some(keys) = self.remembered.get(&(*engine, entry)) {
            return Some(keys.auth.clone());
        }
        let Entry { user, auth, .. } = &self.entries[entry];
        let hash = user.auth.as_ref()?.0;
        Some((hash, auth.as_ref()?.localize(hash, engine)))
    }

    /// All keys of this user on this engine; remembered from here on. For users whose secret has proved right.
    pub(super) fn keys(&mut self, entry: usize, engine: &EngineId) -> Option<Arc<Keys>> {
        if let Some(keys) = self.remembered.get(&(*engine, entry)) {
            return Some(Arc::clone(keys));
        }
        let keys = Arc::new(self.make_keys(entry, engine)?);
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert((*engine, entry), Arc::clone(&keys));
        Some(keys)
    }

    fn make_keys(&self, entry: usize, engine: &EngineId) -> Option<Keys> {
        let auth = self.auth_key(entry, engine)?;
        let Entry { user, privacy, .. } = &self.entries[entry];
        let of_privacy = |(protocol, master): (PrivProtocol, &Master)| {
            (protocol, privacy_key(auth.0, protocol, master.localize(auth.0, engine), engine))
        };
        let privacy = user.priv_.as_ref().map(|(protocol, _)| *protocol).zip(privacy.as_ref()).map(of_privacy);
        Some(Keys { auth, privacy })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const OURS: &str = "80000000056f757273";
    const THEIRS: &str = "8000000001020304";

    fn id(text: &str) -> EngineId {
        text.parse().unwrap()
    }

    fn user(name: &str, engine: Engine) -> User {
        let auth = Some((AuthProtocol::Sha1, Secret::password("maplesyrup")));
        User { name: name.to_owned(), engine, auth, priv_: None }
    }

    #[test]
    fn an_entry_without_engine_id_waits_for_approval() {
        let mut users = Users::new([user("net", Engine::Approved)]).unwrap();
        let find = |users: &Users, engine| users.find(&id(engine), b"net", &id(OURS)).map(|found| found.approved);
        assert_eq!(find(&users, OURS), Ok(true), "informs come to our engine");
        assert_eq!(find(&users, THEIRS), Ok(false));
        users.approve(id(THEIRS));
        assert_eq!(find(&users, THEIRS), Ok(true));
        assert!(users.disapprove(&id(THEIRS)));
        assert_eq!(find(&users, THEIRS), Ok(false));
    }

    #[test]
    fn an_entry_with_an_engine_id_is_for_that_engine() {
        let users = Users::new([user("net", Engine::Id(id(THEIRS))), user("all", Engine::Any)]).unwrap();
        assert_eq!(users.find(&id(THEIRS), b"net", &id(OURS)), Ok(Found { entry: 0, approved: true }));
        assert!(matches!(users.find(&id(OURS), b"net", &id(OURS)), Err(Refused::UnknownUser { .. })));
        assert!(matches!(users.find(&id("8000000099"), b"net", &id(OURS)), Err(Refused::UnknownEngine { .. })));
        assert_eq!(users.find(&id("8000000099"), b"all", &id(OURS)), Ok(Found { entry: 1, approved: true }));
        assert!(matches!(users.find(&id(THEIRS), b"other\xff", &id(OURS)), Err(Refused::UnknownUser { .. })));
    }

    #[test]
    fn entries_that_cannot_work_say_why() {
        let with = |change: &dyn Fn(&mut User)| {
            let mut user = user("net", Engine::Approved);
            change(&mut user);
            Users::new([user]).unwrap_err().to_string()
        };
        let localized = || Secret::localized("00112233").unwrap();
        for (error, expected) in [
            (with(&|user| user.name = String::new()), "a name has 1 to 32 bytes"),
            (with(&|user| user.auth = Some((AuthProtocol::Md5, Secret::password("short")))), "at least 8 bytes"),
            (with(&|user| user.auth = Some((AuthProtocol::Md5, localized()))), "give its engine id"),
            (
                with(&|user| {
                    user.engine = Engine::Id(id(THEIRS));
                    user.auth = Some((AuthProtocol::Md5, localized()));
                }),
                "has 4 bytes, expected 16",
            ),
            (
                with(&|user| user.priv_ = user.auth.take().map(|(_, secret)| (PrivProtocol::Des, secret))),
                "privacy needs authentication",
            ),
        ] {
            assert!(error.contains(expected), "{error}");
        }
        let twice = Users::new([user("net", Engine::Any), user("net", Engine::Any)]).unwrap_err();
        assert_eq!(twice.fault, UserFault::Twice);
    }

    #[test]
    fn a_localized_key_gives_the_keys_that_its_password_gives() {
        let with = |secret: &dyn Fn(&str) -> Secret| User {
            auth: Some((AuthProtocol::Sha1, secret("6695febc9288e36282235fc7151f128497b38f3f"))),
            priv_: Some((PrivProtocol::Aes256C, secret("6695febc9288e36282235fc7151f128497b38f3f"))),
            ..user("net", Engine::Id(id("000000000000000000000002")))
        };
        let keys = |secret: &dyn Fn(&str) -> Secret| {
            let mut users = Users::new([with(secret)]).unwrap();
            let keys = users.keys(0, &id("000000000000000000000002")).unwrap();
            (keys.auth.clone(), keys.privacy.clone())
        };
        assert_eq!(keys(&|_| Secret::password("maplesyrup")), keys(&|hex| Secret::localized(hex).unwrap()));
    }

    #[test]
    fn remembered_keys_are_bounded_and_secrets_not_shown() {
        let mut users = Users::new([user("net", Engine::Any)]).unwrap();
        for number in 0..MAX_REMEMBERED as u32 + 10 {
            users.keys(0, &EngineId::ours(&number.to_be_bytes()));
            assert!(users.remembered.len() <= MAX_REMEMBERED);
        }
        assert!(!format!("{users:?}").contains("maple"));
    }
}
