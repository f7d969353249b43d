//! PEM (RFC 7468, and the older form with headers of RFC 1421), read strictly and written anew: what stands between and
//! around the blocks, such as the text of `openssl x509 -text`, is left behind. Ours, since what it reads are keys and
//! every copy of them is to be wiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Blocks of one file: more than that is no chain of certificates.
const SECTIONS_MAX: usize = 64;
const WIDTH: usize = 64;

/// One block.
pub(crate) struct Section<'a> {
    pub label: &'a str,
    /// `Proc-Type` and `DEK-Info` of keys encrypted in the old way.
    pub headers: Vec<(&'a str, &'a str)>,
    pub der: Zeroizing<Vec<u8>>,
}

/// All blocks of a text; the error says what is wrong, without the text.
pub(crate) fn sections(text: &str) -> Result<Vec<Section<'_>>, &'static str> {
    let mut found = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            if line.starts_with("-----") {
                return Err("a line with five hyphens that begins no block of PEM");
            }
            continue;
        };
        if found.len() == SECTIONS_MAX {
            return Err("more than 64 blocks of PEM");
        }
        found.push(section(label, &mut lines)?);
    }
    Ok(found)
}

fn section<'a>(label: &'a str, lines: &mut impl Iterator<Item = &'a str>) -> Result<Section<'a>, &'static str> {
    let mut headers = Vec::new();
    let mut body = Zeroizing::new(String::with_capacity(crate::PROFILE_MAX.min(16 * 1024)));
    for line in lines {
        if let Some(end) = line.strip_prefix("-----END ").and_then(|rest| rest.strip_suffix("-----")) {
            if end != label {
                return Err("a block of PEM ends under another name than it begins with");
            }
            let der = STANDARD.decode(body.as_bytes()).map_err(|_| "a block of PEM holds what is not base64")?;
            return Ok(Section { label, headers, der: Zeroizing::new(der) });
        }
        match line.split_once(':') {
            Some((name, value)) if body.is_empty() => headers.push((name.trim(), value.trim())),
            _ => body.push_str(line),
        }
    }
    Err("a block of PEM does not end")
}

/// Writes a block, with headers where there are some.
pub(crate) fn write(out: &mut String, label: &str, headers: &[(&str, &str)], der: &[u8]) {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    out.extend(["-----BEGIN ", label, "-----\n"]);
    for (name, value) in headers {
        out.extend([name, ": ", value, "\n"]);
    }
    out.push_str(if headers.is_empty() { "" } else { "\n" });
    wrap(out, &encoded);
    out.extend(["-----END ", label, "-----\n"]);
}

/// Lines of 64 characters of ASCII.
pub(crate) fn wrap(out: &mut String, mut text: &str) {
    while !text.is_empty() {
        let (line, rest) = text.split_at(text.len().min(WIDTH));
        out.extend([line, "\n"]);
        text = rest;
    }
}

/// Base64 over several lines, as bytes.
pub(crate) fn unwrap_base64(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut joined = Zeroizing::new(String::with_capacity(text.len()));
    joined.extend(text.split_ascii_whitespace());
    STANDARD.decode(joined.as_bytes()).ok().map(Zeroizing::new)
}

pub(crate) fn base64_of(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_among_text_and_written_alone() {
        let text = "Certificate:\n    Data:\n-----BEGIN A B-----\nAAEC\n  Aw==  \n-----END A B-----\nmore\n";
        let found = sections(text).unwrap();
        assert_eq!((found.len(), found[0].label, found[0].der.as_slice()), (1, "A B", [0, 1, 2, 3].as_slice()));
        let mut out = String::new();
        write(&mut out, "A B", &[], &found[0].der);
        assert_eq!(out, "-----BEGIN A B-----\nAAECAw==\n-----END A B-----\n");
    }

    #[test]
    fn headers_come_before_the_body() {
        let text = "-----BEGIN K-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAEC\n-----END K-----\n";
        let found = sections(text).unwrap();
        assert_eq!(found[0].headers, [("Proc-Type", "4,ENCRYPTED"), ("DEK-Info", "AES-256-CBC,00")]);
        let mut out = String::new();
        write(&mut out, "K", &found[0].headers, &found[0].der);
        assert_eq!(out, text);
    }

    #[test]
    fn what_is_not_pem_is_said() {
        for bad in [
            "-----BEGIN A-----\nAA==\n",
            "-----BEGIN A-----\nAA==\n-----END B-----",
            "-----BEGIN A-----\nA*==\n-----END A-----",
            "-----BEGIN A-----\nAA==\n-----BEGIN A-----\nAA==\n-----END A-----",
            "-----END A-----",
        ] {
            assert!(sections(bad).is_err(), "{bad}");
        }
    }
}
