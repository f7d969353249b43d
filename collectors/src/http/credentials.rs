//! Who may send: lines of `bearer TOKEN` or `basic USER:PASSWORD`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use subtle::ConstantTimeEq;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Bearer,
    Basic,
}

/// What one may show, as it stands behind the scheme in an `Authorization` header. No `Debug`: these are secrets.
#[derive(Default)]
pub struct Credentials(Vec<(Scheme, Vec<u8>)>);

/// The door as it stands.
#[derive(Default)]
pub enum Door {
    /// Anybody may send.
    Open,
    /// Credentials are configured and not here yet: nobody may send.
    #[default]
    Shut,
    /// Those who show one of these.
    Guarded(Credentials),
}

impl Credentials {
    /// Reads the file. The second part says what was left out, without its content.
    pub fn parse(text: &[u8]) -> (Self, Vec<String>) {
        let (mut read, mut flaws) = (Vec::new(), Vec::new());
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let Some((scheme, value)) = scheme_of(line) else {
                flaws.push(format!("line {} is neither `bearer TOKEN` nor `basic USER:PASSWORD`", number + 1));
                continue;
            };
            match scheme {
                Scheme::Bearer => read.push((scheme, value.to_vec())),
                Scheme::Basic if value.contains(&b':') => {
                    read.push((scheme, STANDARD_NO_PAD.encode(value).into_bytes()));
                }
                Scheme::Basic => flaws.push(format!("line {} has no `:` between user and password", number + 1)),
            }
        }
        (Self(read), flaws)
    }

    /// True when `header` shows one of them. All are compared, each in constant time for its length.
    pub fn admit(&self, header: &[u8]) -> bool {
        let Some((scheme, shown)) = scheme_of(header.trim_ascii()) else { return false };
        let shown = if scheme == Scheme::Basic { unpadded(shown) } else { shown };
        let same = |(known, value): &(Scheme, Vec<u8>)| *known == scheme && bool::from(value.as_slice().ct_eq(shown));
        self.0.iter().fold(false, |any, known| any | same(known))
    }
}

fn scheme_of(line: &[u8]) -> Option<(Scheme, &[u8])> {
    let space = line.iter().position(|byte| matches!(byte, b' ' | b'\t'))?;
    let (name, value) = (&line[..space], line[space..].trim_ascii());
    let scheme = if name.eq_ignore_ascii_case(b"bearer") {
        Scheme::Bearer
    } else if name.eq_ignore_ascii_case(b"basic") {
        Scheme::Basic
    } else {
        return None;
    };
    (!value.is_empty()).then_some((scheme, value))
}

fn unpadded(mut shown: &[u8]) -> &[u8] {
    while let Some(less) = shown.strip_suffix(b"=") {
        shown = less;
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_and_basic_are_admitted_and_nothing_else() {
        let (credentials, flaws) = Credentials::parse(b"# who\r\nbearer s3cret\r\nBasic user:pass:word\nnonsense\n\n");
        assert_eq!(flaws, ["line 4 is neither `bearer TOKEN` nor `basic USER:PASSWORD`"]);
        for good in ["Bearer s3cret", "bearer  s3cret", "Basic dXNlcjpwYXNzOndvcmQ=", "basic dXNlcjpwYXNzOndvcmQ"] {
            assert!(credentials.admit(good.as_bytes()), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crets", "Basic s3cret", "s3cret", "Basic ===="] {
            assert!(!credentials.admit(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn an_empty_file_admits_nobody() {
        let (nobody, flaws) = Credentials::parse(b"\n");
        assert!(flaws.is_empty() && !nobody.admit(b"Bearer ") && !nobody.admit(b"Bearer x"));
    }
}
