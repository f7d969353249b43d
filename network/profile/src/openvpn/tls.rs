//! Protection: TLS, ciphers, verification of the server; and what is agreed upon for packets.

#![allow(clippy::unnecessary_wraps)] // what takes a line has one type, which the table wants

use super::draft::{Draft, Problem};
use super::lines::Line;
use super::{CertProfile, Cipher, Control, Digest, Direction, Fragment, Framing, MssBase, Mssfix, NameKind};
use super::{ServerUsage, TlsVersion, X509Name};
use crate::Allow;
use crate::address::number;
use crate::pem;
use crate::report::{Verdict, shown};
use crate::secret::Secret;

/// OpenVPN's static keys: 2048 bits.
const STATIC_KEY: usize = 256;
const STATIC_LABEL: &str = "OpenVPN Static key V1";
pub(super) const V2_LABEL: &str = "OpenVPN tls-crypt-v2 client key";
const NAME_MAX: usize = 200;
const VORACLE: &str =
    "compresses, by which others can guess what the tunnel carries (VORACLE); have the server turn it off";

type Taken = Result<(), Problem>;

/// Word of a line as text; empty when there is none.
fn word<'l>(line: &'l Line<'_>, at: usize) -> &'l str {
    line.words.get(at).map_or("", |word| word.text.as_str())
}

/// A number within a range, or what was expected.
fn within(line: &Line<'_>, at: usize, low: u32, high: u32) -> Result<u32, Problem> {
    let found = number::<u32>(word(line, at)).filter(|found| (low..=high).contains(found));
    found.ok_or_else(|| Problem::refused(at, format!("expected a number from {low} to {high}")))
}

/// Bytes of a packet or segment.
fn bytes(line: &Line<'_>, low: u16) -> Result<u16, Problem> {
    within(line, 1, low.into(), 9000).map(|bytes| bytes as u16)
}

pub(super) fn nothing(_: &mut Draft<'_>, _: &Line<'_>) -> Taken {
    Ok(())
}

pub(super) fn client(draft: &mut Draft<'_>, _: &Line<'_>) -> Taken {
    draft.client = true;
    Ok(())
}

pub(super) fn tls_client(draft: &mut Draft<'_>, _: &Line<'_>) -> Taken {
    draft.tls_client = true;
    Ok(())
}

pub(super) fn pull(draft: &mut Draft<'_>, _: &Line<'_>) -> Taken {
    draft.pull = true;
    Ok(())
}

pub(super) fn dev(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    let name = word(line, 1);
    if name.starts_with("tap") || name == "null" {
        return Err(Problem::refused(1, "Raven's tunnels carry IP: `dev tun`. A server with tap cannot be reached"));
    }
    draft.tun |= name.starts_with("tun");
    draft.named_device |= !name.starts_with("tun");
    Ok(())
}

pub(super) fn dev_type(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    if word(line, 1) != "tun" {
        return Err(Problem::refused(
            1,
            "Raven's tunnels carry IP: `dev-type tun`. A server with tap cannot be reached",
        ));
    }
    draft.tun = true;
    Ok(())
}

fn control(draft: &mut Draft<'_>, control: Control) -> Taken {
    if draft.control != Control::None {
        return Err(Problem::refused(
            0,
            "OpenVPN takes one of tls-auth, tls-crypt and tls-crypt-v2, and this is another",
        ));
    }
    draft.control = control;
    Ok(())
}

/// 16 lines of 32 hexadecimal digits between BEGIN and END; comments may stand before.
fn static_key(text: &str) -> Result<Secret<Vec<u8>>, Problem> {
    let flaw = || Problem::refused(0, "expected a static key of OpenVPN with 2048 bits");
    let (begin, end) = (format!("-----BEGIN {STATIC_LABEL}-----"), format!("-----END {STATIC_LABEL}-----"));
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != begin).skip(1);
    let mut key = Vec::with_capacity(STATIC_KEY);
    loop {
        let line = lines.next().ok_or_else(flaw)?;
        if line == end {
            break;
        }
        for pair in line.as_bytes().chunks(2) {
            let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16)).ok_or_else(flaw);
            key.push((digit(0)? << 4 | digit(1)?) as u8);
        }
        if key.len() > STATIC_KEY {
            return Err(flaw());
        }
    }
    if key.len() == STATIC_KEY { Ok(Secret::new(key)) } else { Err(flaw()) }
}

fn direction(line: &Line<'_>, at: usize) -> Result<Direction, Problem> {
    match word(line, at) {
        "0" => Ok(Direction::Zero),
        "1" => Ok(Direction::One),
        _ => Err(Problem::refused(at, "expected 0 or 1")),
    }
}

pub(super) fn tls_auth(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    if line.words.len() > 2 {
        draft.key_direction = Some(direction(line, 2)?);
    }
    match draft.text(line)?.map(static_key).transpose()? {
        Some(key) => control(draft, Control::Auth { key, direction: None }),
        None => Ok(()),
    }
}

pub(super) fn key_direction(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    draft.key_direction = Some(direction(line, 1)?);
    Ok(())
}

pub(super) fn tls_crypt(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    match draft.text(line)?.map(static_key).transpose()? {
        Some(key) => control(draft, Control::Crypt(key)),
        None => Ok(()),
    }
}

pub(super) fn tls_crypt_v2(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    let Some(text) = draft.text(line)? else { return Ok(()) };
    let sections = pem::sections(text).map_err(|reason| Problem::refused(0, reason))?;
    match sections.as_slice() {
        // A key of 2048 bits and what the server wrapped behind it.
        [only] if only.label == V2_LABEL && only.der.len() > STATIC_KEY => {
            control(draft, Control::CryptV2(Secret::new(only.der.to_vec())))
        }
        _ => Err(Problem::refused(0, "expected a client's key for tls-crypt-v2, in PEM")),
    }
}

pub(super) fn remote_cert_tls(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    if word(line, 1) != "server" {
        return Err(Problem::refused(1, "expected `server`, which the other end is"));
    }
    draft.verify.usage = Some(ServerUsage::Tls);
    Ok(())
}

pub(super) fn remote_cert_eku(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    if !["TLS Web Server Authentication", "serverAuth", "1.3.6.1.5.5.7.3.1"].contains(&word(line, 1)) {
        return Err(Problem::refused(1, "expected \"TLS Web Server Authentication\""));
    }
    draft.verify.usage.get_or_insert(ServerUsage::Eku);
    Ok(())
}

pub(super) fn remote_cert_ku(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    draft.verify.key_usages.clear();
    for (at, word) in line.words.iter().enumerate().skip(1) {
        let digits = word.text.bytes().all(|b| b.is_ascii_hexdigit());
        let usage = digits.then(|| u16::from_str_radix(&word.text, 16).ok()).flatten().filter(|usage| *usage > 0);
        let usage =
            usage.ok_or_else(|| Problem::refused(at, "expected key usages in hexadecimal digits, such as a0"))?;
        draft.verify.key_usages.push(usage);
    }
    Ok(())
}

pub(super) fn verify_x509_name(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    let kind = match word(line, 2) {
        "" | "subject" => NameKind::Subject,
        "name" => NameKind::Name,
        "name-prefix" => NameKind::NamePrefix,
        _ => return Err(Problem::refused(2, "expected subject, name or name-prefix")),
    };
    let name = word(line, 1);
    if name.is_empty() || super::write::quoted(name).len() > NAME_MAX {
        return Err(Problem::refused(1, "expected a name of 1 to 200 bytes"));
    }
    draft.verify.name = Some(X509Name { kind, name: name.to_owned() });
    Ok(())
}

pub(super) fn version_min(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    if line.words.len() > 2 && word(line, 2) != "or-highest" {
        return Err(Problem::refused(2, "expected or-highest"));
    }
    match word(line, 1) {
        "1.3" => draft.tls_min = TlsVersion::V1_3,
        "1.2" => draft.tls_min = TlsVersion::V1_2,
        "1.0" | "1.1" => {
            draft.tls_min = TlsVersion::V1_2;
            return Err(Problem::dropped(1, "is broken; Raven takes TLS 1.2 or newer"));
        }
        _ => return Err(Problem::refused(1, "expected 1.2 or 1.3")),
    }
    Ok(())
}

pub(super) fn cert_profile(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    draft.cert_profile = Some(match word(line, 1) {
        "legacy" => CertProfile::Legacy,
        "preferred" => CertProfile::Preferred,
        "suiteb" => CertProfile::SuiteB,
        "insecure" => {
            return Err(Problem::refused(1, "takes certificates that can be forged; have the server's made anew"));
        }
        _ => return Err(Problem::refused(1, "expected legacy, preferred or suiteb")),
    });
    Ok(())
}

fn cipher_named(name: &str) -> Option<Cipher> {
    Cipher::ALL.into_iter().find(|cipher| cipher.word().eq_ignore_ascii_case(name))
}

/// The lists of OpenVPN may say of a cipher that it need not be there (`?`), which all that are taken are.
pub(super) fn data_ciphers(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    draft.data_ciphers.clear();
    let cbc = draft.options.allows(Allow::CbcCiphers);
    let (mut passed_over, mut could_be_allowed) = (Vec::new(), false);
    for name in word(line, 1).split(':').map(|name| name.trim_start_matches('?')) {
        match cipher_named(name) {
            Some(cipher) if draft.data_ciphers.contains(&cipher) => {}
            Some(cipher) if cipher.is_aead() || cbc => draft.data_ciphers.push(cipher),
            Some(_) => {
                could_be_allowed = true;
                passed_over.push(shown(name));
            }
            None => passed_over.push(shown(name)),
        }
    }
    let left = passed_over.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
    if draft.data_ciphers.is_empty() {
        let reason = format!("has no AEAD cipher (AES-GCM, CHACHA20-POLY1305), only {left}");
        let refused = Problem::refused(1, reason);
        let remedy = if could_be_allowed { Some(crate::Remedy::Allow(Allow::CbcCiphers)) } else { refused.remedy };
        return Err(Problem { remedy, ..refused });
    }
    if !passed_over.is_empty() {
        let name = if word(line, 0) == "ncp-ciphers" { "ncp-ciphers" } else { "data-ciphers" };
        draft.note(line, name, Problem::dropped(1, format!("{left}: no AEAD cipher")));
    }
    Ok(())
}

pub(super) fn cipher(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    match cipher_named(word(line, 1)) {
        Some(cipher) if cipher.is_aead() || draft.options.allows(Allow::CbcCiphers) => {
            draft.fallback = Some(cipher);
            Ok(())
        }
        Some(cipher) => {
            let reason = format!(
                "{} is no AEAD cipher; Raven negotiates AES-GCM, as servers since OpenVPN 2.4 can",
                cipher.word()
            );
            Err(Problem::dropped_unless(Allow::CbcCiphers, 1, reason))
        }
        None if word(line, 1).eq_ignore_ascii_case("none") => Err(Problem::refused(1, "sends everything in the clear")),
        None => {
            Err(Problem::refused(1, "this cipher is too weak or not known; AES-GCM and CHACHA20-POLY1305 are taken"))
        }
    }
}

pub(super) fn auth(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    let name = word(line, 1).to_ascii_uppercase();
    let name = name.strip_prefix("RSA-").unwrap_or(&name).replace("SHA-", "SHA");
    let all = [Digest::Sha1, Digest::Sha224, Digest::Sha256, Digest::Sha384, Digest::Sha512];
    let found = all.into_iter().find(|digest| digest.word() == name);
    let reason = "this digest is too weak or not known; SHA1, SHA224, SHA256, SHA384 and SHA512 are taken";
    draft.auth = Some(found.ok_or_else(|| Problem::refused(1, reason))?);
    Ok(())
}

pub(super) fn allow_compression(_: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    if word(line, 1) == "no" { Ok(()) } else { Err(Problem::dropped(1, "Raven never compresses")) }
}

pub(super) fn comp_lzo(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    if word(line, 1) != "no" {
        return Err(Problem::refused(usize::from(line.words.len() > 1), VORACLE));
    }
    draft.framing = Some(Framing::LzoNo);
    Ok(())
}

pub(super) fn compress(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    draft.framing = match word(line, 1) {
        "" | "stub" => Some(Framing::Stub),
        "stub-v2" => Some(Framing::StubV2),
        "migrate" => None,
        _ => return Err(Problem::refused(1, VORACLE)),
    };
    Ok(())
}

pub(super) fn key_method(_: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    if word(line, 1) == "2" { Ok(()) } else { Err(Problem::refused(1, "is not safe and removed from OpenVPN")) }
}

pub(super) fn tun_mtu(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    let mtu = bytes(line, 576)?;
    draft.tun_mtu = Some(mtu);
    if mtu < 1280 {
        let warning = Problem::dropped(1, "IPv6 needs 1280 bytes and will not pass");
        draft.note(line, "tun-mtu", Problem { verdict: Verdict::Warning, ..warning });
    }
    Ok(())
}

pub(super) fn mssfix(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    if line.words.len() == 1 {
        draft.mssfix = None;
        return Ok(());
    }
    let max = if word(line, 1) == "0" { 0 } else { bytes(line, 256)? };
    let base = match word(line, 2) {
        "" => MssBase::Packet,
        "mtu" => MssBase::Mtu,
        "fixed" => MssBase::Fixed,
        _ => return Err(Problem::refused(2, "expected mtu or fixed")),
    };
    draft.mssfix = Some(Mssfix { max, base });
    Ok(())
}

pub(super) fn fragment(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    let max = bytes(line, 256)?;
    let mtu = match word(line, 2) {
        "" => false,
        "mtu" => true,
        _ => return Err(Problem::refused(2, "expected mtu")),
    };
    draft.fragment = Some(Fragment { max, mtu });
    Ok(())
}

pub(super) fn reneg_sec(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    draft.reneg_sec = Some(within(line, 1, 0, 7 * 24 * 3600)?);
    Ok(())
}

pub(super) fn exit_notify(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    draft.exit_notify = Some(if line.words.len() == 1 { 1 } else { within(line, 1, 1, 10)? as u8 });
    Ok(())
}

/// Writes a static key, 16 bytes a line.
pub(super) fn write_static(out: &mut String, key: &[u8]) {
    out.extend(["-----BEGIN ", STATIC_LABEL, "-----\n"]);
    for line in key.chunks(16) {
        for byte in line {
            out.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0')));
        }
        out.push('\n');
    }
    out.extend(["-----END ", STATIC_LABEL, "-----\n"]);
}
