//! What is sent back: Reports, at once, and the Response to an inform, once its record is durable.

use super::ber::SEQUENCE;
use super::crypto::Nonce;
use super::engine::{LocalEngine, Seconds};
use super::keys::Keys;
use super::message::{Community, Data, Level, Notification, Scoped, V3};
use super::oid::Oid;
use super::pdu::{Common, Pdu, PduKind};
use super::refused::Refused;
use super::seal::{Header, seal};
use super::write::Writer;
use std::fmt;

/// error-status tooBig (RFC 3416, 4.2.7).
const TOO_BIG: i32 = 1;

/// usmStats (RFC 3414, 5): what a Report says is wrong, by the last part of its counter's OID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// usmStatsUnsupportedSecLevels.
    UnsupportedLevel = 1,
    /// usmStatsNotInTimeWindows.
    NotInTimeWindow = 2,
    /// usmStatsUnknownUserNames.
    UnknownUser = 3,
    /// usmStatsUnknownEngineIDs; also what answers someone who asks for our id.
    UnknownEngine = 4,
    /// usmStatsWrongDigests.
    WrongDigest = 5,
    /// usmStatsDecryptionErrors.
    DecryptionError = 6,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnsupportedLevel => "unsupportedSecLevel",
            Self::NotInTimeWindow => "notInTimeWindow",
            Self::UnknownUser => "unknownUserName",
            Self::UnknownEngine => "unknownEngineID",
            Self::WrongDigest => "wrongDigest",
            Self::DecryptionError => "decryptionError",
        })
    }
}

impl Report {
    const ALL: [Self; 6] = [
        Self::UnsupportedLevel,
        Self::NotInTimeWindow,
        Self::UnknownUser,
        Self::UnknownEngine,
        Self::WrongDigest,
        Self::DecryptionError,
    ];

    /// What a sender is told of this reason; `None` when it is told nothing.
    pub const fn of(reason: &Refused) -> Option<Self> {
        Some(match reason {
            Refused::Level { .. } => Self::UnsupportedLevel,
            Refused::NotInTimeWindow { .. } => Self::NotInTimeWindow,
            Refused::UnknownUser { .. } => Self::UnknownUser,
            Refused::Discovery | Refused::UnknownEngine { .. } | Refused::InformForAnother(_) => Self::UnknownEngine,
            Refused::Digest { .. } => Self::WrongDigest,
            Refused::Decryption { .. } => Self::DecryptionError,
            _ => return None,
        })
    }

    fn oid(self) -> Oid {
        Oid::new([1, 3, 6, 1, 6, 3, 15, 1, 1, self as u32, 0]).expect("eleven parts are few enough")
    }

    /// By the OID of its counter.
    pub(super) fn of_oid(oid: &Oid) -> Option<Self> {
        Self::ALL.into_iter().find(|what| what.oid() == *oid)
    }
}

/// A Report to the sender of `to`. Signed with `keys`, where the sender has to trust our clock (RFC 3414, 3.2.7 a).
pub(super) fn report(to: &V3<'_>, what: Report, keys: Option<&Keys>, local: &mut LocalEngine, now: Seconds) -> Vec<u8> {
    let count = &mut local.reported[what as usize - 1];
    *count = count.wrapping_add(1);
    let count = *count;
    let request_id = match to.data {
        Data::Plain(content) => match Scoped::read(content).map(|scoped| scoped.pdu) {
            Ok(Pdu::Common(pdu)) => pdu.request_id,
            _ => 0,
        },
        Data::Encrypted(_) => 0,
    };
    let mut w = Writer::new();
    let start = w.mark();
    let list = w.mark();
    w.number(0x41, count.into());
    w.oid(&what.oid());
    w.wrap(SEQUENCE, list);
    w.wrap(SEQUENCE, list);
    w.integer(0);
    w.integer(0);
    w.integer(request_id);
    w.wrap(PduKind::Report.tag(), start);
    w.octets(&[]);
    w.octets(local.id().as_bytes());
    w.wrap(SEQUENCE, start);
    let level = if keys.is_some() { Level::Auth } else { Level::NoAuth };
    // Whoever only asks for our id is named by no user.
    let user = if what == Report::UnknownEngine { &[] } else { to.user };
    send(to.id, level, user, keys, w.finish(), local, now)
}

/// The Response to an inform of version 2c: the same message with another PDU around the same varbinds.
pub(super) fn respond_2c(to: &Community<'_>) -> Result<Vec<u8>, Refused> {
    let (Notification::Inform, Pdu::Common(pdu)) = (to.notification()?, to.pdu) else {
        return Err(Refused::NotANotification(to.pdu.kind()));
    };
    let mut w = Writer::new();
    let start = w.mark();
    response(&mut w, &pdu, 0);
    w.octets(to.community);
    w.integer(1);
    w.wrap(SEQUENCE, start);
    Ok(w.finish())
}

/// The Response to an inform of version 3, protected as the inform was.
pub(super) fn respond_v3(
    to: &V3<'_>,
    scoped: &Scoped<'_>,
    keys: Option<&Keys>,
    local: &mut LocalEngine,
    now: Seconds,
) -> Result<Vec<u8>, Refused> {
    let Pdu::Common(pdu) = scoped.pdu else { return Err(Refused::NotANotification(scoped.pdu.kind())) };
    let mut respond = |error| {
        let mut w = Writer::new();
        let start = w.mark();
        response(&mut w, &pdu, error);
        w.octets(scoped.context);
        w.octets(scoped.engine_id);
        w.wrap(SEQUENCE, start);
        send(to.id, to.level, to.user, keys, w.finish(), local, now)
    };
    let whole = respond(0);
    let fits = usize::try_from(to.max_size).is_ok_and(|max| whole.len() <= max);
    Ok(if fits { whole } else { respond(TOO_BIG) })
}

/// A Response-PDU: the varbinds of the request, or none where they are too big (RFC 3416, 4.2.7).
fn response(w: &mut Writer, to: &Common<'_>, error: i32) {
    let start = w.mark();
    w.value(SEQUENCE, if error == 0 { to.varbinds.content() } else { &[] });
    w.integer(0);
    w.integer(error);
    w.integer(to.request_id);
    w.wrap(PduKind::Response.tag(), start);
}

/// A message of ours, by our own clock, to the user of whom `to` came.
fn send(
    id: i32,
    level: Level,
    user: &[u8],
    keys: Option<&Keys>,
    scoped: Vec<u8>,
    local: &mut LocalEngine,
    now: Seconds,
) -> Vec<u8> {
    let nonce = Nonce { boots: local.boots(), time: local.time(now), salt: local.next_salt() };
    let engine = local.id();
    let header = Header { id, level, reportable: false, engine: engine.as_bytes(), user, keys, nonce };
    seal(&header, scoped)
}
