//! Signed reports: a file with the report in its first line and the appliance's signature in its second, or a page of HTML with
//! both in it.

use super::identity::Account;
use crate::accept::html;
use crate::client::{Client, unexpected};
use crate::failure::{Failure, OK, PROBLEM, file};
use crate::output::Output;
use crate::{escape, time};
use clap::Args;
use raven_model::control::{Request, Response};
use raven_model::hex::{hex, unhex};
use raven_model::signature::{Signature, statement};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// `raven audit verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// What `raven audit report --sign`, `raven accept --sign` or `raven accept --html` wrote
    pub file: PathBuf,
    /// The device key that must have signed it, as `raven audit key` shows it on the appliance
    #[arg(long, value_name = "HEX")]
    pub key: Option<String>,
}

/// Second line of a signed report.
#[derive(Debug, Serialize, Deserialize)]
struct Signed {
    signature: Signature,
}

/// What came of a check.
#[derive(Debug, Serialize)]
struct Verdict {
    /// The report is as it was signed, by the key that was asked for.
    ok: bool,
    /// Why not.
    problem: Option<&'static str>,
    /// Whether a key was given to check against.
    key_checked: bool,
    signature: Signature,
}

/// Has the appliance sign the account, and writes both.
pub fn write(account: &Account, client: &Client, path: &Path) -> Result<(), Failure> {
    let report = serde_json::to_string(account).map_err(|error| Failure::Protocol(error.to_string()))?;
    let signature = of(&report, client)?;
    std::fs::write(path, format!("{report}\n{signature}\n")).map_err(file("write", path))
}

/// Has the appliance sign a text; the line that goes behind it.
pub fn of(document: &str, client: &Client) -> Result<String, Failure> {
    let signature = ask(client, document.as_bytes())?;
    serde_json::to_string(&Signed { signature }).map_err(|error| Failure::Protocol(error.to_string()))
}

/// `raven audit key`: the public half of the device key.
pub fn key(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let Signature { device, key, .. } = ask(client, b"")?;
    if output.json {
        output.value(&serde_json::json!({ "device": device, "key": key }))?;
    } else {
        output.line(&key)?;
    }
    Ok(OK)
}

fn ask(client: &Client, document: &[u8]) -> Result<Signature, Failure> {
    let sha256 = hex(Sha256::digest(document).as_ref());
    match client.ask(&Request::Sign { sha256 })? {
        Response::Signed(signature) => Ok(signature),
        other => Err(unexpected(&other)),
    }
}

/// `raven audit verify`: needs no appliance.
pub fn verify(args: &VerifyArgs, output: &mut Output) -> Result<u8, Failure> {
    let text = std::fs::read_to_string(&args.file).map_err(file("read", &args.file))?;
    let verdict = check(&text, args.key.as_deref())
        .ok_or_else(|| Failure::Usage(format!("{} is no signed report", args.file.display())))?;
    if output.json {
        output.value(&verdict)?;
    } else {
        lines(&verdict).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(if verdict.ok { OK } else { PROBLEM })
}

/// `None` when the text is no signed report at all.
fn check(text: &str, expected: Option<&str>) -> Option<Verdict> {
    let (report, rest) = html::signed(text).or_else(|| text.split_once('\n'))?;
    let Signed { signature } = serde_json::from_str(rest).ok()?;
    let said = statement(&signature.device, signature.signed_ns, &signature.sha256);
    let (key, mark) = (unhex(&signature.key)?, unhex(&signature.signature)?);
    let problem = if hex(Sha256::digest(report.as_bytes()).as_ref()) != signature.sha256 {
        Some("the report is not what was signed")
    } else if UnparsedPublicKey::new(&ED25519, key).verify(said.as_bytes(), &mark).is_err() {
        Some("the signature is not of this key, device and time")
    } else if expected.is_some_and(|expected| !expected.trim().eq_ignore_ascii_case(&signature.key)) {
        Some("it is signed with another key than the one given")
    } else {
        None
    };
    Some(Verdict { ok: problem.is_none(), problem, key_checked: expected.is_some(), signature })
}

fn lines(verdict: &Verdict) -> Vec<String> {
    let Signature { device, signed_ns, key, .. } = &verdict.signature;
    let what = match verdict.problem {
        None => "unchanged since it was signed",
        Some(problem) => problem,
    };
    let mut lines = vec![
        format!("{} at {}: {what}", escape::text(device), time::format(*signed_ns, 0)),
        format!("key {}", escape::text(key)),
    ];
    if verdict.ok && !verdict.key_checked {
        lines.push("whose key that is was not checked: compare with `raven audit key`, or give --key".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::units::UnixNanos;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    fn signed(report: &str) -> (String, String) {
        let key = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let key = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
        let (device, signed_ns) = ("arena".to_owned(), UnixNanos(1_700_000_000_000_000_000));
        let sha256 = hex(Sha256::digest(report.as_bytes()).as_ref());
        let mark = key.sign(statement(&device, signed_ns, &sha256).as_bytes());
        let public = hex(key.public_key().as_ref());
        let signature = Signature { device, signed_ns, sha256, key: public.clone(), signature: hex(mark.as_ref()) };
        (format!("{report}\n{}\n", serde_json::to_string(&Signed { signature }).unwrap()), public)
    }

    fn problem(text: &str, key: Option<&str>) -> Option<&'static str> {
        check(text, key).unwrap().problem
    }

    #[test]
    fn a_report_is_good_as_it_was_signed_and_not_otherwise() {
        let (text, key) = signed(r#"{"ok":true,"held":12}"#);
        assert_eq!(problem(&text, Some(&key)), None);
        assert_eq!(problem(&text, Some(&key.to_uppercase())), None);
        assert_eq!(problem(&text.replacen("12", "13", 1), Some(&key)), Some("the report is not what was signed"));
        assert!(problem(&text, Some(&"0".repeat(64))).unwrap().contains("another key"));
        for (from, to) in [("\"arena\"", "\"arenb\""), ("1700000000000000000", "1700000000000000001")] {
            assert!(problem(&text.replacen(from, to, 1), Some(&key)).unwrap().contains("device and time"));
        }
    }

    #[test]
    fn without_a_key_to_compare_the_verdict_says_so() {
        let (text, key) = signed("{}");
        assert!(lines(&check(&text, None).unwrap()).last().unwrap().contains("was not checked"));
        assert_eq!(lines(&check(&text, Some(&key)).unwrap()).len(), 2);
    }

    #[test]
    fn what_is_no_signed_report_is_no_verdict() {
        for text in ["", "{}", "{}\n", "{}\n{}", "{}\n{\"signature\":{}}"] {
            assert!(check(text, None).is_none(), "{text}");
        }
    }
}
