//! One entry of the table of users: who, on which engine, with which secrets.

use super::engine_id::EngineId;
use super::keys::Secret;
use super::message::Level;
use super::protocol::{AuthProtocol, PrivProtocol};
use super::users::MAX_USERS;
use std::fmt;

/// Bytes of a password, at least (RFC 3414, 11.2).
const MIN_PASSWORD: usize = 8;

/// Which engines an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// This one only.
    Id(EngineId),
    /// Those that were approved, and ours: informs are sent to our engine.
    Approved,
    /// Any that comes along: `engine = "any"`.
    Any,
}

/// One entry of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// 1 to 32 bytes.
    pub name: String,
    /// Whose user it is.
    pub engine: Engine,
    /// How messages have to be authenticated; `None` takes them as they come.
    pub auth: Option<(AuthProtocol, Secret)>,
    /// How they have to be encrypted; needs `auth`.
    pub priv_: Option<(PrivProtocol, Secret)>,
}

impl User {
    /// The level that its messages have to have: that of all its secrets. Less is refused, so that nobody gets past a
    /// secret by leaving it out.
    pub const fn level(&self) -> Level {
        match (&self.auth, &self.priv_) {
            (Some(_), Some(_)) => Level::AuthPriv,
            (Some(_), None) => Level::Auth,
            (None, _) => Level::NoAuth,
        }
    }
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserFault {
    /// A name of no or of more than 32 bytes.
    Name,
    /// Privacy without authentication.
    PrivacyWithoutAuthentication,
    /// A password of fewer than 8 bytes.
    PasswordTooShort,
    /// A localized key for more than one engine.
    LocalizedForMany,
    /// A localized key that does not have as many bytes as its protocol wants.
    KeyLength {
        /// As many as it wants.
        expected: usize,
        /// As many as there are.
        found: usize,
    },
    /// Another entry has this name for these engines.
    Twice,
    /// More than [`MAX_USERS`].
    TooMany,
}

/// An entry that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserError {
    /// The entry's name.
    pub user: String,
    /// What is wrong with it.
    pub fault: UserFault,
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SNMP user `{}`: ", self.user)?;
        match self.fault {
            UserFault::Name => f.write_str("a name has 1 to 32 bytes"),
            UserFault::PrivacyWithoutAuthentication => f.write_str("privacy needs authentication too"),
            UserFault::PasswordTooShort => f.write_str("a password has at least 8 bytes (RFC 3414, 11.2)"),
            UserFault::LocalizedForMany => f.write_str("a localized key belongs to one engine: give its engine id"),
            UserFault::KeyLength { expected, found } => {
                write!(f, "the localized key has {found} bytes, expected {expected}")
            }
            UserFault::Twice => f.write_str("another entry has this name for the same engine"),
            UserFault::TooMany => write!(f, "more than {MAX_USERS} users"),
        }
    }
}

impl std::error::Error for UserError {}

/// Whether an entry can work by itself.
pub(super) fn check(user: &User) -> Result<(), UserFault> {
    if user.name.is_empty() || user.name.len() > 32 {
        return Err(UserFault::Name);
    }
    let Some((auth, secret)) = &user.auth else {
        return user.priv_.as_ref().map_or(Ok(()), |_| Err(UserFault::PrivacyWithoutAuthentication));
    };
    check_secret(user, secret, auth.key_length(), auth.key_length())?;
    user.priv_
        .as_ref()
        .map_or(Ok(()), |(privacy, secret)| check_secret(user, secret, privacy.key_length(), auth.key_length()))
}

/// A localized key is as long as the cipher's, or as the hash's, from which the cipher's can be made.
fn check_secret(user: &User, secret: &Secret, expected: usize, hash: usize) -> Result<(), UserFault> {
    match secret {
        Secret::Password(password) if password.len() < MIN_PASSWORD => Err(UserFault::PasswordTooShort),
        Secret::Password(_) => Ok(()),
        Secret::Localized(_) if !matches!(user.engine, Engine::Id(_)) => Err(UserFault::LocalizedForMany),
        Secret::Localized(key) if key.len() == expected || key.len() == hash => Ok(()),
        Secret::Localized(key) => Err(UserFault::KeyLength { expected, found: key.len() }),
    }
}
