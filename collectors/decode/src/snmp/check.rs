//! The collector's look at a datagram: is it a notification, may this sender send it, what is to be answered.

use super::engine::{Engines, Learned, LocalEngine, Seconds};
use super::engine_id::EngineId;
use super::message::{Community, Level, Message, Notification, V3, Version};
use super::refused::Refused;
use super::reply::{self, Report};
use super::users::Users;
use super::usm;
use std::fmt;

/// The communities whose messages are taken. Never shown.
#[derive(Clone, Default)]
pub struct Communities {
    any: bool,
    allowed: Vec<Vec<u8>>,
}

impl Communities {
    /// Those on the list. An empty list refuses all messages of versions 1 and 2c.
    pub fn only(allowed: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        Self { any: false, allowed: allowed.into_iter().map(Into::into).collect() }
    }

    /// All there are.
    pub const fn any() -> Self {
        Self { any: true, allowed: Vec::new() }
    }

    /// Communities travel in the clear, so that nothing is lost by comparing them as text.
    fn allow(&self, community: &[u8]) -> bool {
        self.any || self.allowed.iter().any(|allowed| allowed == community)
    }
}

impl fmt::Debug for Communities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.any { f.write_str("any") } else { write!(f, "{} communities", self.allowed.len()) }
    }
}

/// All that decides who may send, and what is known of those who do.
#[derive(Debug)]
pub struct Access {
    /// For versions 1 and 2c.
    pub communities: Communities,
    /// For version 3.
    pub users: Users,
    /// Our own engine, whose clock counts for informs.
    pub local: LocalEngine,
    /// The clocks of those who send traps.
    pub engines: Engines,
}

impl Access {
    /// With no sender's clock known.
    pub fn new(communities: Communities, users: Users, local: LocalEngine) -> Self {
        Self { communities, users, local, engines: Engines::default() }
    }
}

/// What becomes of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It is to be kept; an inform is to be answered by [`answer`] once it is durable.
    Accepted(Accepted<'a>),
    /// It is not taken.
    Refused {
        /// Why.
        reason: Refused,
        /// A Report for the sender, to be sent at once.
        reply: Option<Vec<u8>>,
    },
}

/// A notification that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// Its version.
    pub version: Version,
    /// Whether it wants an answer.
    pub notification: Notification,
    /// Who sent it.
    pub sender: Sender<'a>,
    /// What is new about the sender's clock, to be kept over restarts.
    pub learned: Option<Learned>,
}

/// Who sent a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender<'a> {
    /// Someone who knows this community.
    Community(&'a [u8]),
    /// A user on an engine.
    User {
        /// As in the table.
        name: &'a [u8],
        /// Whose user it is.
        engine: EngineId,
        /// How the message was protected.
        level: Level,
    },
}

/// Looks at one datagram. All of it is read, so that what is accepted also decodes.
pub fn check<'a>(raw: &'a [u8], access: &mut Access, now: Seconds) -> Outcome<'a> {
    let refuse = |reason| Outcome::Refused { reason, reply: None };
    match Message::read(raw) {
        Ok(Message::Community(message)) => match check_community(&message, &access.communities) {
            Ok(accepted) => Outcome::Accepted(accepted),
            Err(reason) => refuse(reason),
        },
        Ok(Message::V3(message)) => check_v3(raw, &message, access, now),
        Err(reason) => refuse(reason),
    }
}

fn check_community<'a>(message: &Community<'a>, communities: &Communities) -> Result<Accepted<'a>, Refused> {
    let notification = message.notification()?;
    if !communities.allow(message.community) {
        return Err(Refused::Community);
    }
    let (version, sender) = (message.version, Sender::Community(message.community));
    Ok(Accepted { version, notification, sender, learned: None })
}

fn check_v3<'a>(raw: &'a [u8], message: &V3<'a>, access: &mut Access, now: Seconds) -> Outcome<'a> {
    let Access { users, local, engines, .. } = access;
    let mut keys = None;
    let checked = usm::authenticate(raw, message, users, local).and_then(|authentic| {
        let learned = usm::check_time(message, authentic.engine, local, engines, now).inspect_err(|_| {
            // Our clock is told with a digest, so that the sender can trust it.
            keys = authentic.keys.clone().filter(|_| authentic.engine == local.id());
        })?;
        let mut buffer = Vec::new();
        let scoped = usm::open(message, authentic.keys.as_deref(), &mut buffer)?;
        let notification = usm::notification(&scoped, authentic.engine, local.id())?;
        let sender = Sender::User { name: message.user, engine: authentic.engine, level: message.level };
        Ok(Accepted { version: Version::V3, notification, sender, learned })
    });
    match checked {
        Ok(accepted) => Outcome::Accepted(accepted),
        Err(reason) => {
            let what = Report::of(&reason).filter(|_| message.reportable);
            let reply = what.map(|what| reply::report(message, what, keys.as_deref(), local, now));
            Outcome::Refused { reason, reply }
        }
    }
}

/// The Response to an inform that was accepted, made from its raw bytes when its record is durable. The time window
/// was looked at when it came, and is not again.
pub fn answer(raw: &[u8], access: &mut Access, now: Seconds) -> Result<Vec<u8>, Refused> {
    match Message::read(raw)? {
        Message::Community(message) => reply::respond_2c(&message),
        Message::V3(message) => {
            let Access { users, local, .. } = access;
            let authentic = usm::authenticate(raw, &message, users, local)?;
            let mut buffer = Vec::new();
            let scoped = usm::open(&message, authentic.keys.as_deref(), &mut buffer)?;
            match usm::notification(&scoped, authentic.engine, local.id())? {
                Notification::Inform => reply::respond_v3(&message, &scoped, authentic.keys.as_deref(), local, now),
                Notification::Trap => Err(Refused::NotANotification(scoped.pdu.kind())),
            }
        }
    }
}
