//! The file of the SNMPv3 users, `collect.trap.users`: a secret. The collector and the decoder read the same one.
//!
//! ```toml
//! [[user]]
//! name = "noc"
//! auth = "sha256"                  # md5, sha1, sha224, sha256, sha384, sha512
//! auth_password = "…"              # or auth_key, a localized key in hex
//! priv = "aes128"                  # des, aes128, aes192, aes256, aes192c, aes256c
//! priv_password = "…"              # or priv_key
//! engine = "80001f8880e9bd0c1d"    # or "approved" (as without), or "any"
//! ```
//!
//! An error names line and key, and nothing that is written there: a password may stand in the wrong place.

use super::engine_id::EngineId;
use super::keys::Secret;
use super::protocol::{AuthProtocol, PrivProtocol};
use super::user::{self, Engine, User, UserError, UserFault};
use super::users::MAX_USERS;
use std::collections::HashSet;
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const KEYS: [&str; 8] = ["name", "auth", "auth_password", "auth_key", "priv", "priv_password", "priv_key", "engine"];

/// What is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersFileError {
    /// From 1.
    pub line: usize,
    /// The key, where one is to blame.
    pub key: Option<&'static str>,
    /// What is wrong there. Nothing of what is written in the file but the name of a user.
    pub what: String,
}

impl fmt::Display for UsersFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if let Some(key) = self.key {
            write!(f, "`{key}`: ")?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for UsersFileError {}

/// A complaint, at an offset of the text.
struct Flaw {
    at: usize,
    key: Option<&'static str>,
    what: String,
}

impl Flaw {
    fn new(at: usize, key: impl Into<Option<&'static str>>, what: impl Into<String>) -> Self {
        Self { at, key: key.into(), what: what.into() }
    }
}

/// Reads the users out of the file's text. An empty file has none.
pub fn read_users(text: &str) -> Result<Vec<User>, UsersFileError> {
    let place = |flaw: Flaw| {
        let before = text.as_bytes().get(..flaw.at).unwrap_or_default();
        let line = before.split(|&byte| byte == b'\n').count();
        UsersFileError { line, key: flaw.key, what: flaw.what }
    };
    read(text).map_err(place)
}

fn read(text: &str) -> Result<Vec<User>, Flaw> {
    // Not the parser's words: they may have a piece of the line in them.
    let syntax = |error: toml::de::Error| {
        Flaw::new(error.span().map_or(0, |span| span.start), None, "not TOML: is a quote or a bracket missing?")
    };
    let root = DeTable::parse(text).map_err(syntax)?;
    let mut users = Vec::new();
    for (key, value) in root.get_ref() {
        let at = key.span().start;
        let list = value.get_ref().as_array().filter(|_| *key.get_ref() == "user");
        let list =
            list.ok_or_else(|| Flaw::new(at, None, "expected `[[user]]`, once for each user, and nothing else"))?;
        for entry in list {
            let at = entry.span().start;
            let table = entry.get_ref().as_table().ok_or_else(|| Flaw::new(at, None, "expected `[[user]]`"))?;
            users.push((at, Entry { at, table }.user()?));
        }
    }
    let mut seen = HashSet::new();
    for (n, (at, user)) in users.iter().enumerate() {
        let twice = !seen.insert((user.name.as_str(), engine_key(user.engine)));
        let fault = if n >= MAX_USERS { Some(UserFault::TooMany) } else { twice.then_some(UserFault::Twice) };
        if let Some(fault) = fault.or_else(|| user::check(user).err()) {
            return Err(Flaw::new(*at, None, UserError { user: user.name.clone(), fault }.to_string()));
        }
    }
    Ok(users.into_iter().map(|(_, user)| user).collect())
}

fn engine_key(engine: Engine) -> (u8, Option<EngineId>) {
    match engine {
        Engine::Id(id) => (0, Some(id)),
        Engine::Approved => (1, None),
        Engine::Any => (2, None),
    }
}

/// One `[[user]]`.
struct Entry<'a> {
    at: usize,
    table: &'a DeTable<'a>,
}

impl Entry<'_> {
    fn user(&self) -> Result<User, Flaw> {
        if let Some((key, _)) = self.table.iter().find(|(key, _)| !KEYS.contains(&key.get_ref().as_ref())) {
            let expected = KEYS.map(|key| format!("`{key}`")).join(", ");
            return Err(Flaw::new(key.span().start, None, format!("unknown key; expected one of {expected}")));
        }
        let (_, name) = self.text("name")?.ok_or_else(|| Flaw::new(self.at, "name", "is missing"))?;
        let name = name.to_owned();
        let auth = self.protocol::<AuthProtocol>("auth")?;
        let priv_ = self.protocol::<PrivProtocol>("priv")?;
        let auth_secret = self.secret("auth", "auth_password", "auth_key")?;
        let priv_secret = self.secret("priv", "priv_password", "priv_key")?;
        if let (Some((at, _)), None) = (&priv_, &auth) {
            return Err(Flaw::new(*at, "priv", "privacy needs authentication too: `auth` is missing"));
        }
        Ok(User {
            name,
            engine: self.engine()?,
            auth: auth.map(|(_, protocol)| protocol).zip(auth_secret),
            priv_: priv_.map(|(_, protocol)| protocol).zip(priv_secret),
        })
    }

    fn find(&self, key: &str) -> Option<&Spanned<DeValue<'_>>> {
        self.table.get(key)
    }

    /// A text and where it stands.
    fn text(&self, key: &'static str) -> Result<Option<(usize, &str)>, Flaw> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let at = value.span().start;
        let text = value.get_ref().as_str().ok_or_else(|| Flaw::new(at, key, "expected a text in quotes"))?;
        Ok(Some((at, text)))
    }

    fn protocol<P: Named>(&self, key: &'static str) -> Result<Option<(usize, P)>, Flaw> {
        let Some((at, name)) = self.text(key)? else { return Ok(None) };
        let protocol = P::named(name).ok_or_else(|| Flaw::new(at, key, format!("expected {}", P::EXPECTED)))?;
        Ok(Some((at, protocol)))
    }

    /// Exactly one secret where there is a protocol, none where there is none.
    fn secret(
        &self,
        protocol: &'static str,
        password: &'static str,
        key: &'static str,
    ) -> Result<Option<Secret>, Flaw> {
        let has_protocol = self.find(protocol).is_some();
        match (self.text(password)?, self.text(key)?) {
            (None, None) if has_protocol => {
                Err(Flaw::new(self.at, password, format!("is missing: `{protocol}` needs it, or `{key}`")))
            }
            (None, None) => Ok(None),
            (Some((at, _)), Some(_)) => Err(Flaw::new(at, password, format!("`{key}` is there too: one of them"))),
            (Some((at, _)), None) if !has_protocol => {
                Err(Flaw::new(at, password, format!("`{protocol}` is missing: by which protocol?")))
            }
            (None, Some((at, _))) if !has_protocol => {
                Err(Flaw::new(at, key, format!("`{protocol}` is missing: by which protocol?")))
            }
            (Some((_, text)), None) => Ok(Some(Secret::password(text))),
            (None, Some((at, text))) => {
                Ok(Some(Secret::localized(text).ok_or_else(|| Flaw::new(at, key, "expected a key in hex"))?))
            }
        }
    }

    fn engine(&self) -> Result<Engine, Flaw> {
        match self.text("engine")? {
            None | Some((_, "approved")) => Ok(Engine::Approved),
            Some((_, "any")) => Ok(Engine::Any),
            Some((at, id)) => id.parse().map(Engine::Id).map_err(|_| {
                Flaw::new(at, "engine", "expected an engine id of 10 to 64 hex digits, \"approved\" or \"any\"")
            }),
        }
    }
}

/// A protocol by its name.
trait Named: Sized {
    const EXPECTED: &str;
    fn named(name: &str) -> Option<Self>;
}

impl Named for AuthProtocol {
    const EXPECTED: &str = "md5, sha1, sha224, sha256, sha384 or sha512";
    fn named(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

impl Named for PrivProtocol {
    const EXPECTED: &str = "des, aes128, aes192, aes256, aes192c or aes256c";
    fn named(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn said(text: &str) -> String {
        read_users(text).unwrap_err().to_string()
    }

    #[test]
    fn users_read_as_they_are_written() {
        let users = read_users(
            r#"
            [[user]]
            name = "noc"
            auth = "sha256"
            auth_password = "maplesyrup"
            priv = "AES-128"
            priv_password = "pancakes!"

            [[user]]
            name = "noc"
            auth = "md5"
            auth_key = "526f5eed9fcce26f8964c2930787d82b"
            engine = "000000000000000000000002"

            [[user]]
            name = "open"
            engine = "any"
            "#,
        )
        .unwrap();
        assert_eq!(users.len(), 3);
        assert_eq!(users[0].auth, Some((AuthProtocol::Sha256, Secret::password("maplesyrup"))));
        assert_eq!(users[0].priv_, Some((PrivProtocol::Aes128, Secret::password("pancakes!"))));
        assert_eq!(users[0].engine, Engine::Approved);
        assert_eq!(users[1].engine, Engine::Id("000000000000000000000002".parse().unwrap()));
        assert_eq!(users[1].auth.as_ref().unwrap().0, AuthProtocol::Md5);
        assert_eq!((users[2].engine, &users[2].auth), (Engine::Any, &None));
        assert_eq!(read_users("").unwrap(), []);
        super::super::users::Users::new(users).unwrap();
    }

    #[test]
    fn what_is_wrong_is_said_with_line_and_key_and_without_secrets() {
        let user = |rest: &str| said(&format!("[[user]]\nname = \"noc\"\n{rest}\n"));
        for (error, expected) in [
            (user("auth = \"sha256\""), "line 1: `auth_password`: is missing: `auth` needs it, or `auth_key`"),
            (user("auth_password = \"hunter2hunter2\""), "line 3: `auth_password`: `auth` is missing"),
            (user("auth = \"hunter2\"\nauth_password = \"x\""), "line 3: `auth`: expected md5, sha1, sha224"),
            (user("auth = \"md5\"\nauth_password = \"hunter2\""), "line 1: SNMP user `noc`: a password has at least 8"),
            (user("auth = \"md5\"\nauth_password = 12341234"), "line 4: `auth_password`: expected a text in quotes"),
            (user("auth = \"md5\"\nauth_key = \"hunter2\""), "line 4: `auth_key`: expected a key in hex"),
            (
                user("auth = \"md5\"\nauth_key = \"00\"\nauth_password = \"hunter2hunter2\""),
                "line 5: `auth_password`: `auth_key` is there too",
            ),
            (user("priv = \"des\"\npriv_password = \"hunter2hunter2\""), "line 3: `priv`: privacy needs"),
            (user("engine = \"hunter2\""), "line 3: `engine`: expected an engine id"),
            (user("hunter2 = 1"), "line 3: unknown key; expected one of `name`, `auth`"),
            (user("auth_password = hunter2"), "line 3: not TOML"),
            (user("[[user]]\nname = \"noc\""), "line 3: SNMP user `noc`: another entry has this name"),
            (said("[[user]]\nauth = \"md5\"\nauth_password = \"hunter2hunter2\""), "line 1: `name`: is missing"),
            (said("[user]\nname = \"noc\""), "line 1: expected `[[user]]`"),
            (said("users = []"), "line 1: expected `[[user]]`"),
            (said("user = [\"hunter2\"]"), "line 1: expected `[[user]]`"),
            (said("[[user]]\nname = \"\""), "line 1: SNMP user ``: a name has 1 to 32 bytes"),
        ] {
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("1234"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(\\[\\[user\\]\\]\n|name = |auth = |\"[a-z0-9]{0,9}\"|\n|.){0,40}") {
            let _ = read_users(&text);
        }
    }
}
