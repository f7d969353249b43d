//! Speaks to a manager: informs for it, and what it answers.
//!
//! Of version 3 the manager's engine is the one that counts (RFC 3414, 1.5.1): its id is asked for first, then its
//! clock by a message that is signed and of no time, which it refuses with its own (section 4). Keys are made for that
//! engine. What is not signed by it is believed in two cases: a Report that gives an id that was asked for, and one
//! that says why a message cannot be taken, since whoever cannot check a digest cannot make one.

use super::crypto::Nonce;
use super::engine::{Engines, Seconds};
use super::engine_id::EngineId;
use super::keys::Keys;
use super::message::{Community, Level, Message, V3, Version};
use super::pdu::{Common, Pdu, PduKind};
use super::refused::Refused;
use super::reply::Report;
use super::seal::{Header, seal};
use super::user::{Engine, User, UserError};
use super::users::Users;
use super::usm;
use super::write::Writer;
use super::{ber, ber::Fault};
use std::fmt;
use std::sync::Arc;

/// What a manager says of the message with this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is answered; `error` is error-status (RFC 3416, 3), 0 for none.
    Response {
        /// Of the message.
        id: i32,
        /// error-status.
        error: i32,
    },
    /// It is not taken; `None` for a reason that is none of USM's.
    Report {
        /// Of the message.
        id: i32,
        /// Why.
        what: Option<Report>,
    },
}

impl Heard {
    /// Number of the message.
    pub const fn id(&self) -> i32 {
        match self {
            Self::Response { id, .. } | Self::Report { id, .. } => *id,
        }
    }
}

/// One manager, as one of its users or by a community.
pub struct Manager(Whom);

enum Whom {
    Community(Vec<u8>),
    User(Box<Far>),
}

/// A manager's engine, as far as it is known.
struct Far {
    /// One.
    users: Users,
    user: String,
    level: Level,
    /// The only one that will do.
    wanted: Option<EngineId>,
    engine: Option<EngineId>,
    keys: Option<Arc<Keys>>,
    clocks: Engines,
    /// msgMaxSize as last heard.
    max_size: usize,
    salt: u64,
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Whom::Community(_) => f.write_str("Community(…)"),
            Whom::User(far) => write!(f, "User({}, {:?})", far.user, far.engine),
        }
    }
}

impl Manager {
    /// By version 2c.
    pub fn by_community(community: impl Into<Vec<u8>>) -> Self {
        Self(Whom::Community(community.into()))
    }

    /// By version 3; `salt_seed` should be a random number. Costs some milliseconds for each password.
    pub fn by_user(user: User, salt_seed: u64) -> Result<Self, UserError> {
        let (name, level) = (user.name.clone(), user.level());
        let wanted = if let Engine::Id(id) = user.engine { Some(id) } else { None };
        let users = Users::new([user])?;
        Ok(Self(Whom::User(Box::new(Far {
            users,
            user: name,
            level,
            wanted,
            engine: None,
            keys: None,
            clocks: Engines::default(),
            max_size: usize::MAX,
            salt: salt_seed,
        }))))
    }

    /// The user's name; none by a community.
    pub fn user(&self) -> Option<&str> {
        match &self.0 {
            Whom::Community(_) => None,
            Whom::User(far) => Some(&far.user),
        }
    }

    /// How messages are protected.
    pub const fn level(&self) -> Level {
        match &self.0 {
            Whom::Community(_) => Level::NoAuth,
            Whom::User(far) => far.level,
        }
    }

    /// Bytes of a message that it can take, as far as it said.
    pub const fn max_size(&self) -> usize {
        match &self.0 {
            Whom::Community(_) => usize::MAX,
            Whom::User(far) => far.max_size,
        }
    }

    /// Asks for what has to be known before informs can be sent; `None` when all is known.
    pub fn question(&mut self, id: i32, now: Seconds) -> Option<Vec<u8>> {
        let Whom::User(far) = &mut self.0 else { return None };
        let (engine, level) = match far.engine {
            None => (None, Level::NoAuth),
            Some(engine) if far.level > Level::NoAuth && far.clocks.clock(&engine, now).is_none() => {
                (Some(engine), far.level)
            }
            Some(_) => return None,
        };
        Some(far.message(id, level, engine, PduKind::Get, &[], now))
    }

    /// An inform with these varbinds, given without the tag of their list. Everything that is asked for has to be known.
    pub fn inform(&mut self, id: i32, varbinds: &[u8], now: Seconds) -> Vec<u8> {
        match &mut self.0 {
            Whom::Community(community) => {
                let mut w = Writer::new();
                let start = w.mark();
                pdu(&mut w, PduKind::Inform, id, varbinds);
                w.octets(community);
                w.integer(1);
                w.wrap(ber::SEQUENCE, start);
                w.finish()
            }
            Whom::User(far) => far.message(id, far.level, far.engine, PduKind::Inform, varbinds, now),
        }
    }

    /// Reads what came from the manager, and learns its id and its clock from it. `waits` says whether a message of a
    /// number waits for an answer: from what answers no such message nothing is learned, and it is `None`.
    pub fn hear(&mut self, raw: &[u8], waits: impl Fn(i32) -> bool, now: Seconds) -> Result<Option<Heard>, Refused> {
        match (&mut self.0, Message::read(raw)?) {
            (Whom::Community(ours), Message::Community(message)) => {
                of_community(&message, ours).map(|heard| Some(heard).filter(|heard| waits(heard.id())))
            }
            (Whom::User(far), Message::V3(message)) if waits(message.id) => far.hear(raw, &message, now).map(Some),
            (Whom::User(_), Message::V3(_)) => Ok(None),
            (Whom::Community(_), Message::V3(_)) => Err(Refused::Version(3)),
            (Whom::User(_), Message::Community(message)) => Err(Refused::Version(message.version as i32)),
        }
    }

    /// The engine that the user's entry is for, and the other one that was found in its place.
    pub fn other_engine(&self) -> Option<(EngineId, EngineId)> {
        let Whom::User(far) = &self.0 else { return None };
        far.wanted.zip(far.engine).filter(|(wanted, found)| wanted != found)
    }
}

/// A PDU without an error.
fn pdu(w: &mut Writer, kind: PduKind, id: i32, varbinds: &[u8]) {
    let start = w.mark();
    w.value(ber::SEQUENCE, varbinds);
    w.integer(0);
    w.integer(0);
    w.integer(id);
    w.wrap(kind.tag(), start);
}

fn of_community(message: &Community<'_>, ours: &[u8]) -> Result<Heard, Refused> {
    match message.pdu {
        _ if message.version != Version::V2c || message.community != ours => Err(Refused::Community),
        Pdu::Common(Common { kind: PduKind::Response, request_id: id, error_status: error, .. }) => {
            Ok(Heard::Response { id, error })
        }
        other => Err(Refused::NotANotification(other.kind())),
    }
}

impl Far {
    fn message(
        &mut self,
        id: i32,
        level: Level,
        engine: Option<EngineId>,
        kind: PduKind,
        varbinds: &[u8],
        now: Seconds,
    ) -> Vec<u8> {
        self.salt = self.salt.wrapping_add(1);
        let (boots, time) = engine.and_then(|engine| self.clocks.clock(&engine, now)).unwrap_or_default();
        let engine = engine.as_ref().map_or(&[][..], EngineId::as_bytes);
        let mut w = Writer::new();
        pdu(&mut w, kind, id, varbinds);
        // net-snmp names the manager's engine here, too (RFC 3411, 3.3.1, lets it be any that the manager takes).
        w.octets(&[]);
        w.octets(engine);
        w.wrap(ber::SEQUENCE, 0);
        let header = Header {
            id,
            level,
            reportable: true,
            engine,
            // Whoever asks for an id is nobody yet (RFC 3414, 4).
            user: if engine.is_empty() { &[] } else { self.user.as_bytes() },
            keys: self.keys.as_deref(),
            nonce: Nonce { boots, time, salt: self.salt.to_be_bytes() },
        };
        seal(&header, w.finish())
    }

    fn hear(&mut self, raw: &[u8], v3: &V3<'_>, now: Seconds) -> Result<Heard, Refused> {
        let engine = EngineId::new(v3.engine_id).ok_or(Fault::Header)?;
        let heard = if v3.level == Level::NoAuth {
            read(v3, None)?
        } else {
            let keys = self.keys.clone().filter(|_| self.engine == Some(engine) && v3.user == self.user.as_bytes());
            let user = || String::from_utf8_lossy(v3.user).into_owned();
            let keys = keys.ok_or_else(|| Refused::UnknownUser { user: user(), engine })?;
            if !usm::is_authentic(raw, v3, &keys) {
                return Err(Refused::Digest { user: user(), engine });
            }
            let heard = read(v3, Some(&keys))?;
            self.clocks.check(engine, v3.boots, v3.time, now)?;
            heard
        };
        // Our record is let go for a Response alone: it has to be protected as the inform was.
        if matches!(heard, Heard::Response { .. }) && (v3.level != self.level || self.engine != Some(engine)) {
            let (sent, expected) = (v3.level, self.level);
            return Err(Refused::Level { user: self.user.clone(), sent, expected });
        }
        if self.engine.is_none() {
            self.engine = Some(engine);
            self.keys = self.users.keys(0, &engine);
        }
        if v3.level == self.level {
            self.max_size = usize::try_from(v3.max_size).unwrap_or(usize::MAX);
        }
        Ok(heard)
    }
}

/// What an answer of version 3 says. A Report gives no request-id where it could not read one: msgID counts.
fn read(v3: &V3<'_>, keys: Option<&Keys>) -> Result<Heard, Refused> {
    let mut buffer = Vec::new();
    match usm::open(v3, keys, &mut buffer)?.pdu {
        Pdu::Common(pdu) if pdu.kind == PduKind::Response && pdu.request_id == v3.id => {
            Ok(Heard::Response { id: v3.id, error: pdu.error_status })
        }
        Pdu::Common(pdu) if pdu.kind == PduKind::Report => {
            let what = pdu.varbinds.iter().next().and_then(|first| Report::of_oid(&first.oid.to_oid()));
            Ok(Heard::Report { id: v3.id, what })
        }
        other => Err(Refused::NotANotification(other.kind())),
    }
}
