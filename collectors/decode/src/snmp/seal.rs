//! A message of version 3 on its way out (RFC 3414, 3.1): encrypted, then signed.

use super::ber::{INTEGER, OCTETS, SEQUENCE};
use super::crypto::{Nonce, digest, encrypt};
use super::keys::Keys;
use super::message::Level;
use super::write::Writer;

/// The largest datagram over IPv4: what we can take, and more than anyone sends.
const MAX_SIZE: i32 = 65_507;

/// Everything about a message but its ScopedPDU.
pub(super) struct Header<'a> {
    /// msgID.
    pub id: i32,
    /// How it is protected; above noAuthNoPriv it needs `keys`.
    pub level: Level,
    /// Whether a Report shall say what is wrong with it.
    pub reportable: bool,
    /// msgAuthoritativeEngineID.
    pub engine: &'a [u8],
    /// msgUserName.
    pub user: &'a [u8],
    /// The user's on that engine.
    pub keys: Option<&'a Keys>,
    /// That engine's clock, and a salt that was not used with it.
    pub nonce: Nonce,
}

/// Puts a ScopedPDU into its message.
pub(super) fn seal(header: &Header<'_>, mut scoped: Vec<u8>) -> Vec<u8> {
    let Header { level, keys, nonce, .. } = *header;
    let privacy = keys.and_then(|keys| keys.privacy.as_ref()).filter(|_| level == Level::AuthPriv);
    let mut w = Writer::new();
    let start = w.mark();
    match privacy {
        Some((protocol, key)) => {
            encrypt(*protocol, key, nonce, &mut scoped).expect("keys in the table have their protocol's length");
            w.octets(&scoped);
        }
        None => w.raw(&scoped),
    }
    let security = w.mark();
    w.octets(if privacy.is_some() { &nonce.salt } else { &[] });
    let auth = keys.map(|keys| &keys.auth).filter(|_| level != Level::NoAuth);
    let behind_digest = w.mark();
    w.octets(&vec![0; auth.map_or(0, |(auth, _)| auth.digest_length())]);
    w.octets(header.user);
    w.number(INTEGER, nonce.time.into());
    w.number(INTEGER, nonce.boots.into());
    w.octets(header.engine);
    w.wrap(SEQUENCE, security);
    w.wrap(OCTETS, security);
    let global = w.mark();
    w.integer(3);
    w.octets(&[level as u8 + u8::from(level == Level::AuthPriv) + if header.reportable { 4 } else { 0 }]);
    w.integer(MAX_SIZE);
    w.integer(header.id);
    w.wrap(SEQUENCE, global);
    w.integer(3);
    w.wrap(SEQUENCE, start);
    let mut message = w.finish();
    if let Some((auth, key)) = auth {
        let digest = digest(*auth, key, &[&message]);
        let end = message.len() - behind_digest;
        message[end - digest.len()..end].copy_from_slice(&digest);
    }
    message
}
