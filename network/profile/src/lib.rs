//! VPN profiles, as venues' engineers get them by e-mail: `.ovpn` of OpenVPN, `.conf` of wg-quick.
//!
//! A profile is hostile until shown otherwise: given to `openvpn` as it is, it may run programs as root, load libraries,
//! write files anywhere and send `/etc/shadow` to its server. So none is ever given to a program. [`read`] takes a profile
//! apart, says of each line what it thinks of it, and what is left are typed values ([`OpenVpn`], [`WireGuard`]) that
//! `to_config` writes anew. That text is also what is stored.
//!
//! This crate is pure: no I/O, no clock, no file, no program. Time and files come in by [`Options`].
//!
//! Start reading in `openvpn/table.rs`, which has the answer to each directive; `openvpn/lines.rs` is OpenVPN's grammar,
//! `openvpn/judge.rs` what a profile must have as a whole. `wireguard/read.rs` is the same for wg-quick.

mod address;
mod certificate;
mod key;
pub mod openvpn;
mod pem;
mod report;
mod secret;
mod summary;
pub mod wireguard;

pub use address::{Endpoint, Host};
pub use certificate::{Certificate, Crl, Validity};
pub use key::PrivateKey;
pub use openvpn::OpenVpn;
pub use report::{Finding, Remedy, Report, Verdict};
pub use secret::Secret;
pub use summary::Summary;
pub use wireguard::WireGuard;

use raven_model::prefix::Prefix;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Bytes of the largest profile that is looked at (as OpenVPN 3 has it), and of the largest that is written.
pub const PROFILE_MAX: usize = 256 * 1024;

/// The two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `.ovpn`
    OpenVpn,
    /// `.conf` of wg-quick
    WireGuard,
}

/// A requirement that an operator may give up by saying so. There are no more than these: programs, libraries, files
/// and the management interface are never allowed; such lines can only be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allow {
    /// Nothing in the profile tells the server from another client of the same CA. For profiles of routers that export
    /// no better ones, where the venue cannot change the server.
    NoServerVerification,
    /// AES in CBC mode with an HMAC instead of an AEAD cipher. For servers that know no other: OpenVPN before 2.4,
    /// RouterOS 6.
    CbcCiphers,
    /// A certificate whose time is over. For a box whose clock is wrong, and for a profile that is to be kept until a
    /// new one comes.
    ExpiredCertificate,
    /// The far end's networks overlap with the venue's. For far ends that announce 10.0.0.0/8: Raven sends only those
    /// destinations through a tunnel that are told to go there.
    VenueOverlap,
}

impl Allow {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::NoServerVerification, Self::CbcCiphers, Self::ExpiredCertificate, Self::VenueOverlap];

    /// As it is written on a command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoServerVerification => "no-server-verification",
            Self::CbcCiphers => "cbc-ciphers",
            Self::ExpiredCertificate => "expired-certificate",
            Self::VenueOverlap => "venue-overlap",
        }
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl std::str::FromStr for Allow {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let words = || Self::ALL.map(Self::word).join(", ");
        Self::ALL.into_iter().find(|allow| allow.word() == word).ok_or_else(|| format!("expected one of {}", words()))
    }
}

/// What a profile is read with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Seconds since 1970, what certificates are held against.
    pub now: i64,
    /// `None`: found out from the profile.
    pub format: Option<Format>,
    /// Lines that are left out; an inline block by the line that opens it. What is missing then is judged as always.
    pub without: BTreeSet<u32>,
    /// Requirements that are given up.
    pub allow: BTreeSet<Allow>,
    /// Files that the profile names, by their names as they stand there.
    pub files: BTreeMap<String, Secret<Vec<u8>>>,
    /// Networks of the venue, with which those of the tunnel must not overlap.
    pub venue: Vec<Prefix>,
}

impl Options {
    /// To read what `to_config` wrote: what was taken once is taken again, however much time has passed.
    pub fn stored(now: i64) -> Self {
        Self { now, allow: Allow::ALL.into(), ..Self::default() }
    }

    fn allows(&self, what: Allow) -> bool {
        self.allow.contains(&what)
    }
}

/// A profile in typed form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Profile {
    /// Boxed: the larger of the two.
    OpenVpn(Box<OpenVpn>),
    /// wg-quick's
    WireGuard(WireGuard),
}

impl Profile {
    /// The profile written anew from its values. It holds keys.
    pub fn to_config(&self) -> Secret<String> {
        match self {
            Self::OpenVpn(profile) => profile.to_config(),
            Self::WireGuard(profile) => profile.to_config(),
        }
    }

    /// What may be shown of it.
    pub fn summary(&self, now: i64) -> Summary {
        match self {
            Self::OpenVpn(profile) => Summary::OpenVpn(summary::open_vpn(profile, now)),
            Self::WireGuard(profile) => Summary::WireGuard(summary::wire_guard(profile)),
        }
    }
}

/// What came of reading a profile.
#[derive(Debug, Clone)]
pub struct Reading {
    /// `None` when anything was refused.
    pub profile: Option<Profile>,
    /// What was found.
    pub report: Report,
}

/// Reads a profile. Never panics; takes time linear in the profile's length, of which more than [`PROFILE_MAX`] is
/// refused.
pub fn read(bytes: &[u8], options: &Options) -> Reading {
    let mut report = Report::default();
    let profile = if let Some(reason) = unreadable(bytes) {
        report.whole("", Verdict::Refused, reason);
        None
    } else {
        match options.format.unwrap_or_else(|| detect(bytes)) {
            Format::OpenVpn => {
                openvpn::read(bytes, options, &mut report).map(|profile| Profile::OpenVpn(Box::new(profile)))
            }
            Format::WireGuard => wireguard::read(bytes, options, &mut report).map(Profile::WireGuard),
        }
    };
    report.sort();
    let profile = profile.filter(|_| !report.is_refused());
    Reading { profile, report }
}

/// Why a file is not even looked at.
fn unreadable(bytes: &[u8]) -> Option<String> {
    if bytes.len() > PROFILE_MAX {
        return Some(format!("the profile has {} bytes; {PROFILE_MAX} are the most", bytes.len()));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Some("the profile is UTF-16 text; save it as UTF-8".to_owned());
    }
    bytes.iter().all(u8::is_ascii_whitespace).then(|| "the profile is empty".to_owned())
}

/// wg-quick's when there is a section `[Interface]`, which no directive of OpenVPN looks like.
fn detect(bytes: &[u8]) -> Format {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    let section = |line: &[u8]| line.trim_ascii().eq_ignore_ascii_case(b"[interface]");
    if bytes.split(|byte| *byte == b'\n').any(section) { Format::WireGuard } else { Format::OpenVpn }
}

/// Of UTF-8, as Windows' editors write it.
const BOM: &[u8] = b"\xef\xbb\xbf";
