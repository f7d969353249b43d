//! Who both ends are: certificates, keys, user and password.

use super::draft::{Draft, Problem};
use super::lines::Line;
use super::{Challenge, Credentials};
use crate::certificate::{Certificate, Crl};
use crate::key::PrivateKey;
use crate::pem;
use crate::secret::Secret;

/// Bytes of the longest user or password that OpenVPN reads (USER_PASS_LEN).
const CREDENTIAL_MAX: usize = 127;
/// Bytes of a question between its quotes, so that its line is not too long.
const QUESTION_MAX: usize = 200;
const FINGERPRINTS_MAX: usize = 64;

/// A flaw of what a line brings.
fn flaw(reason: &'static str) -> Problem {
    Problem::refused(0, reason)
}

fn certificates(draft: &Draft<'_>, line: &Line<'_>) -> Result<Vec<Certificate>, Problem> {
    draft.text(line)?.map_or_else(|| Ok(Vec::new()), |text| Certificate::parse_all(text).map_err(flaw))
}

pub(super) fn ca(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    let found = certificates(draft, line)?;
    draft.ca.extend(found);
    Ok(())
}

pub(super) fn cert(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    let found = certificates(draft, line)?;
    draft.cert.extend(found);
    Ok(())
}

pub(super) fn extra_certs(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    let found = certificates(draft, line)?;
    draft.extra_certs.extend(found);
    Ok(())
}

pub(super) fn key(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    if let Some(text) = draft.text(line)? {
        draft.key = Some(PrivateKey::parse(text).map_err(flaw)?);
    }
    Ok(())
}

/// Inline it is base64, as a file DER.
pub(super) fn pkcs12(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    let der = match (line.block, draft.content(line)?) {
        (Some(block), _) => pem::unwrap_base64(block).ok_or_else(|| flaw("the block holds what is not base64"))?,
        (None, Some(file)) => file.to_vec().into(),
        (None, None) => return Ok(()),
    };
    if !crate::key::is_sequence(&der) {
        return Err(flaw("this is no PKCS #12 file, or a damaged one"));
    }
    draft.pkcs12 = Some(Secret::new(der.to_vec()));
    Ok(())
}

pub(super) fn crl(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    if line.words.len() > 2 {
        return Err(Problem::refused(2, "has OpenVPN read a folder of the machine; give the lists inline"));
    }
    if let Some(text) = draft.text(line)? {
        draft.crl = Crl::parse_all(text).map_err(flaw)?;
    }
    Ok(())
}

pub(super) fn peer_fingerprint(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    let on_line = line.words.get(1).map(|word| word.text.as_str());
    let lines = line.block.or(on_line).unwrap_or_default().lines().map(str::trim);
    for text in lines.filter(|text| !text.is_empty() && !text.starts_with(['#', ';'])) {
        let print = fingerprint(text).ok_or_else(|| {
            let word = usize::from(line.block.is_none());
            Problem::refused(word, "expected a SHA-256 fingerprint: 32 bytes as 00:11:22:...")
        })?;
        if draft.peer_fingerprints.len() == FINGERPRINTS_MAX {
            return Err(flaw("more than 64 fingerprints"));
        }
        draft.peer_fingerprints.push(print);
    }
    Ok(())
}

fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let byte = |pair: &str| {
        let two = pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
        two.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
    };
    text.split(':').map(byte).collect::<Option<Vec<u8>>>()?.try_into().ok()
}

pub(super) fn askpass(_: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    match line.words.get(1) {
        Some(word) if word.text != "stdin" => {
            Err(Problem::refused(1, "has OpenVPN read the passphrase from a file; Raven asks for it"))
        }
        _ => Ok(()),
    }
}

pub(super) fn auth_user_pass(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    if let Some(found) = credentials(draft, line)? {
        draft.credentials = found;
    } else if draft.credentials == Credentials::None {
        draft.credentials = Credentials::Asked;
    }
    Ok(())
}

/// `static-challenge TEXT 0|1 [scrv1]`: OpenVPN 2.7 knows another form of the answer beside that of before.
pub(super) fn static_challenge(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    let word = |at: usize| line.words.get(at).map_or("", |word| word.text.as_str());
    let (question, echo) = (word(1), word(2));
    if question.is_empty() || super::write::quoted(question).len() > QUESTION_MAX {
        return Err(Problem::refused(1, "expected a question of 1 to 198 bytes"));
    }
    if !["0", "1"].contains(&echo) {
        return Err(Problem::refused(2, "expected 0 or 1: whether the code may be seen while it is typed"));
    }
    if !["", "scrv1"].contains(&word(3)) {
        return Err(Problem::refused(
            3,
            "puts the code behind the password, where OpenVPN before 2.7 cannot; scrv1 is taken",
        ));
    }
    draft.challenge = Some(Challenge { question: question.to_owned(), echo: echo == "1" });
    Ok(())
}

/// Two lines, user and password; `None` when they are to be asked for.
pub(super) fn credentials(draft: &Draft<'_>, line: &Line<'_>) -> Result<Option<Credentials>, Problem> {
    if line.block.is_none() && line.words.get(1).is_some_and(|word| word.text == "stdin") {
        return Ok(None);
    }
    let Some(text) = draft.text(line)? else { return Ok(None) };
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let user = credential(lines.next().unwrap_or_default())?;
    let password = lines.next().map(credential).transpose()?;
    if lines.next().is_some() {
        return Err(flaw("expected two lines, user and password, and found more"));
    }
    Ok(Some(Credentials::Given { user, password }))
}

fn credential(text: &str) -> Result<Secret<String>, Problem> {
    let reason = if text.is_empty() {
        "expected a user on the first line and a password on the second"
    } else if text.len() > CREDENTIAL_MAX {
        "a user or password is longer than 127 bytes, which OpenVPN does not read"
    } else if text.chars().any(char::is_control) || text.trim_start().starts_with("</") {
        "a user or password cannot be written into a configuration: it holds a control character or begins with </"
    } else {
        return Ok(Secret::new(text.to_owned()));
    };
    Err(flaw(reason))
}
