//! A message of version 3 on its way in (RFC 3414, 3.2): who sent it, is it authentic, is it of now, what does it say.

use super::ber::Fault;
use super::crypto::{Nonce, decrypt, digest_fits};
use super::engine::{Engines, Learned, LocalEngine, Seconds};
use super::engine_id::EngineId;
use super::keys::Keys;
use super::message::{Data, Level, Notification, Scoped, V3};
use super::refused::Refused;
use super::users::Users;
use std::ops::Range;
use std::sync::Arc;

/// A digest's place in a message holds zeros while the digest is computed (RFC 3414, 6.3.2).
const ZEROS: [u8; 64] = [0; 64];

/// What is known of a message's sender once its engine, user and digest were looked at.
pub(super) struct Authentic {
    pub engine: EngineId,
    pub keys: Option<Arc<Keys>>,
}

/// Engine, user, level and digest, in the order of RFC 3414, 3.2, steps 3 to 6.
pub(super) fn authenticate(
    raw: &[u8],
    v3: &V3<'_>,
    users: &mut Users,
    local: &LocalEngine,
) -> Result<Authentic, Refused> {
    let engine = EngineId::new(v3.engine_id).ok_or(Refused::Discovery)?;
    let found = users.find(&engine, v3.user, &local.id())?;
    let user = users.user(found.entry);
    if v3.level != user.level() {
        let (sent, expected) = (v3.level, user.level());
        return Err(Refused::Level { user: user.name.clone(), sent, expected });
    }
    let proven_by = match users.auth_key(found.entry, &engine) {
        Some((auth, key)) => {
            let name = user.name.clone();
            let whole = without_digest(raw, v3).filter(|parts| digest_fits(auth, &key, parts, v3.digest));
            whole.ok_or_else(|| Refused::Digest { user: name.clone(), engine })?;
            Some(name)
        }
        None => None,
    };
    if !found.approved {
        return Err(Refused::UnknownEngine { engine, proven_by });
    }
    Ok(Authentic { engine, keys: users.keys(found.entry, &engine) })
}

/// Keys for a view: of the first user of this name whose secret made the digest, approved or not. None are needed for a
/// message without a digest.
pub(super) fn keys_for_view(raw: &[u8], v3: &V3<'_>, users: &mut Users) -> Result<Option<Arc<Keys>>, Refused> {
    if v3.level == Level::NoAuth {
        return Ok(None);
    }
    let engine = EngineId::new(v3.engine_id).ok_or(Refused::Malformed(Fault::Header))?;
    let user = || String::from_utf8_lossy(v3.user).into_owned();
    let candidates = users.candidates(&engine, v3.user);
    if candidates.is_empty() {
        return Err(Refused::UnknownUser { user: user(), engine });
    }
    let parts = without_digest(raw, v3).ok_or(Refused::Malformed(Fault::Header))?;
    let fits = |entry: &usize| {
        users.auth_key(*entry, &engine).is_some_and(|(auth, key)| digest_fits(auth, &key, &parts, v3.digest))
    };
    let entry = candidates.into_iter().find(fits).ok_or_else(|| Refused::Digest { user: user(), engine })?;
    Ok(users.keys(entry, &engine))
}

/// Whether a message has the digest that this key makes.
pub(super) fn is_authentic(raw: &[u8], v3: &V3<'_>, keys: &Keys) -> bool {
    let (auth, key) = &keys.auth;
    without_digest(raw, v3).is_some_and(|parts| digest_fits(*auth, key, &parts, v3.digest))
}

/// The message with zeros where its digest is, in three parts. `None` for a digest that cannot be one.
fn without_digest<'a>(raw: &'a [u8], v3: &V3<'_>) -> Option<[&'a [u8]; 3]> {
    let Range { start, end } = place(raw, v3.digest)?;
    Some([raw.get(..start)?, ZEROS.get(..end - start)?, raw.get(end..)?])
}

/// Where in a message a slice of it lies.
fn place(raw: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(raw.as_ptr().addr())?;
    Some(start..start.checked_add(part.len())?)
}

/// The time window, for authentic messages (RFC 3414, 3.2, step 7).
pub(super) fn check_time(
    v3: &V3<'_>,
    engine: EngineId,
    local: &LocalEngine,
    engines: &mut Engines,
    now: Seconds,
) -> Result<Option<Learned>, Refused> {
    match v3.level {
        Level::NoAuth => Ok(None),
        _ if engine == local.id() => local.check(v3.boots, v3.time, now).map(|()| None),
        _ => engines.check(engine, v3.boots, v3.time, now),
    }
}

/// The content of the ScopedPDU in the clear; `buffer` holds it where it was encrypted (RFC 3414, 3.2, step 8).
pub(super) fn open<'a>(v3: &V3<'a>, keys: Option<&Keys>, buffer: &'a mut Vec<u8>) -> Result<Scoped<'a>, Refused> {
    match v3.data {
        Data::Plain(content) => Ok(Scoped::read(content)?),
        Data::Encrypted(data) => {
            buffer.extend_from_slice(data);
            decrypt_in_place(v3, keys, buffer)
                .and_then(|()| Scoped::read_decrypted(buffer).ok())
                .ok_or_else(|| undecrypted(v3))
        }
    }
}

fn decrypt_in_place(v3: &V3<'_>, keys: Option<&Keys>, data: &mut [u8]) -> Option<()> {
    let (protocol, key) = keys?.privacy.as_ref()?;
    let nonce = Nonce { boots: v3.boots, time: v3.time, salt: v3.salt.try_into().ok()? };
    decrypt(*protocol, key, nonce, data)
}

fn undecrypted(v3: &V3<'_>) -> Refused {
    match EngineId::new(v3.engine_id) {
        Some(engine) => Refused::Decryption { user: String::from_utf8_lossy(v3.user).into_owned(), engine },
        None => Refused::Malformed(Fault::Header),
    }
}

/// What an opened message is: a trap of anyone's, or an inform for us.
pub(super) fn notification(scoped: &Scoped<'_>, engine: EngineId, ours: EngineId) -> Result<Notification, Refused> {
    match scoped.notification()? {
        Notification::Inform if engine != ours => Err(Refused::InformForAnother(engine)),
        notification => Ok(notification),
    }
}
