//! SNMPv3's user-based security (RFC 3414), with HMAC-SHA-256 (RFC 7860) and AES-128 (RFC 3826).

use super::UsmArgs;
use super::ber::{INTEGER, OCTETS, SEQUENCE, all, number, tlv};
use crate::failure::{Failure, file};
use aes::Aes128;
use cfb_mode::Encryptor;
use cfb_mode::cipher::KeyIvInit as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use raven_decode::snmp;
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;

/// Bytes of the code in a message (RFC 7860, 4.1).
const CODE: usize = 24;
/// Times that this engine was started, as its messages say.
const BOOTS: u32 = 1;
/// Seconds that it has been up: four bytes wherever they stand.
const TIME_BASE: u32 = 0x0100_0000;
// Found in a template and filled in.
const MESSAGE: u32 = 0x7f4d_5347;
const TIME: u32 = 0x7f54_494d;

/// An engine.
pub type EngineId = Vec<u8>;

/// For clap: hexadecimal digits.
pub fn read_engine(text: &str) -> Result<EngineId, String> {
    let wrong = || "expected 10 to 64 hexadecimal digits, an even number of them".to_owned();
    if !(10..=64).contains(&text.len()) || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(wrong());
    }
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong());
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Passwords, stretched.
pub struct Passwords {
    auth: Option<[u8; 32]>,
    privacy: Option<[u8; 32]>,
}

impl Passwords {
    /// Reads the files.
    pub fn read(args: &UsmArgs) -> Result<Self, Failure> {
        let read = |path: &PathBuf| password(path).map(|password| stretch(password.as_bytes()));
        Ok(Self {
            auth: args.auth_file.as_ref().map(read).transpose()?,
            privacy: args.priv_file.as_ref().map(read).transpose()?,
        })
    }

    /// The user as this sender's engine knows it.
    pub fn user(&self, args: &UsmArgs, sender: u32) -> User {
        let mut engine = args.engine.clone();
        let last = engine.len() - 2;
        let id = u16::from_be_bytes([engine[last], engine[last + 1]]).wrapping_add(sender as u16);
        engine[last..].copy_from_slice(&id.to_be_bytes());
        let auth = self.auth.map(|key| localise(&key, &engine));
        let privacy = self.privacy.map(|key| localise(&key, &engine));
        User::new(engine, &args.user, auth, privacy)
    }
}

/// The first line of a file.
fn password(path: &PathBuf) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(file("read", path))?;
    let password = text.lines().next().unwrap_or_default();
    if password.len() < 8 {
        return Err(Failure::Usage(format!("{}: expected a password of at least 8 bytes", path.display())));
    }
    Ok(password.to_owned())
}

/// The user as a manager knows it that is told by informs: its own engine counts.
pub fn informant(args: &UsmArgs) -> Result<snmp::User, Failure> {
    let secret = |path: &PathBuf| password(path).map(snmp::Secret::password);
    let auth = args.auth_file.as_ref().map(secret).transpose()?;
    let privacy = args.priv_file.as_ref().map(secret).transpose()?;
    Ok(snmp::User {
        name: args.user.clone(),
        engine: snmp::Engine::Any,
        auth: auth.map(|secret| (snmp::AuthProtocol::Sha256, secret)),
        priv_: privacy.map(|secret| (snmp::PrivProtocol::Aes128, secret)),
    })
}

/// RFC 3414, A.2: a mebibyte of the password, again and again, hashed.
fn stretch(password: &[u8]) -> [u8; 32] {
    let mebibyte: Vec<u8> = password.iter().copied().cycle().take(1 << 20).collect();
    Sha256::digest(&mebibyte).into()
}

/// RFC 3414, 2.6: the key of one engine.
fn localise(key: &[u8; 32], engine: &[u8]) -> [u8; 32] {
    Sha256::digest([key, engine, key].concat()).into()
}

/// A user of an engine, and its message with blanks.
pub struct User {
    engine: EngineId,
    auth: Option<Hmac<Sha256>>,
    privacy: Option<[u8; 16]>,
    salt: u64,
    name: String,
    /// Everything before the scoped PDU, without the outermost header: made for the length of the PDU.
    layout: Option<Layout>,
    scoped: Vec<u8>,
}

struct Layout {
    pdu_len: usize,
    bytes: Vec<u8>,
    message: usize,
    time: usize,
    code: usize,
    salt: usize,
}

impl User {
    fn new(engine: EngineId, name: &str, auth: Option<[u8; 32]>, privacy: Option<[u8; 32]>) -> Self {
        Self {
            engine,
            auth: auth.map(|key| Hmac::new_from_slice(&key).expect("HMAC takes any key")),
            privacy: privacy.map(|key| std::array::from_fn(|at| key[at])),
            salt: crate::time::now().0,
            name: name.to_owned(),
            layout: None,
            scoped: Vec::new(),
        }
    }

    /// Its engine.
    pub fn engine(&self) -> &[u8] {
        &self.engine
    }

    /// Appends a message around the scoped PDU that `write` appends.
    pub fn wrap(&mut self, message: u32, seconds: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        self.scoped.clear();
        write(&mut self.scoped);
        if self.layout.as_ref().is_none_or(|layout| layout.pdu_len != self.scoped.len()) {
            self.layout = Some(self.lay_out());
        }
        let layout = self.layout.as_ref().expect("just made");
        let (start, time) = (out.len(), (TIME_BASE + seconds).to_be_bytes());
        self.salt = self.salt.wrapping_add(1);
        let salt = self.salt.to_be_bytes();
        out.extend_from_slice(&layout.bytes);
        out[start + layout.message..][..4].copy_from_slice(&message.to_be_bytes());
        out[start + layout.time..][..4].copy_from_slice(&time);
        if let Some(key) = &self.privacy {
            out[start + layout.salt..][..8].copy_from_slice(&salt);
            // RFC 3826, 3.1.2.1: boots, time and salt begin the cipher.
            let mut begin = [0; 16];
            begin[..4].copy_from_slice(&BOOTS.to_be_bytes());
            begin[4..8].copy_from_slice(&time);
            begin[8..].copy_from_slice(&salt);
            Encryptor::<Aes128>::new(key.into(), &begin.into()).encrypt(&mut self.scoped);
        }
        out.extend_from_slice(&self.scoped);
        if let Some(auth) = &self.auth {
            let code = auth.clone().chain_update(&out[start..]).finalize().into_bytes();
            out[start + layout.code..][..CODE].copy_from_slice(&code[..CODE]);
        }
    }

    /// RFC 3412, 6 and RFC 3414, 2.4.
    fn lay_out(&self) -> Layout {
        let flags = u8::from(self.auth.is_some()) | u8::from(self.privacy.is_some()) << 1;
        let zeros = |there: bool, len| tlv(OCTETS, if there { &[0; CODE][..len] } else { &[] });
        let security = [
            tlv(OCTETS, &self.engine),
            number(INTEGER, BOOTS),
            number(INTEGER, TIME),
            tlv(OCTETS, self.name.as_bytes()),
            zeros(self.auth.is_some(), CODE),
            zeros(self.privacy.is_some(), 8),
        ];
        let security = tlv(OCTETS, &all(SEQUENCE, &security));
        let head = [number(INTEGER, MESSAGE), number(INTEGER, 65_507), tlv(OCTETS, &[flags]), number(INTEGER, 3)];
        let pdu = vec![0; self.scoped.len()];
        let data = if self.privacy.is_some() { tlv(OCTETS, &pdu) } else { pdu };
        let security_len = security.len();
        let parts = [number(INTEGER, 3), all(SEQUENCE, &head), security, data];
        let before = parts[0].len() + parts[1].len();
        let mut bytes = all(SEQUENCE, &parts);
        let outer = bytes.len() - parts.concat().len();
        let security_end = outer + before + security_len;
        let find = |needle: u32| memchr::memmem::find(&bytes, &needle.to_be_bytes()).expect("it was just written");
        let (message, time) = (find(MESSAGE), find(TIME));
        // The last things in the security parameters: a code, and a salt with its header.
        let privacy_len = if self.privacy.is_some() { 8 } else { 0 };
        let salt = security_end - privacy_len;
        let code = salt - 2 - CODE;
        let pdu_len = self.scoped.len();
        bytes.truncate(bytes.len() - pdu_len);
        Layout { pdu_len, bytes, message, time, code, salt }
    }
}
