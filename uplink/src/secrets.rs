//! What destinations trust and show: `ravend` reads the files and passes each as sealed memory.

use crate::attempt::Failure;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use raven_jail::memory::content_of;
use raven_model::config::Secret;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// All that came, by the key of the configuration: `uplink.NAME.ca`. No `Debug`: these are secrets.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, Rc<[u8]>>);

/// Those of one destination, by the last part of that key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Own {
    name: String,
    files: BTreeMap<String, Rc<[u8]>>,
}

impl Secrets {
    /// Takes what came, in the place of what came before under the same key.
    pub fn take(&mut self, came: impl Iterator<Item = (String, OwnedFd)>) {
        for (key, fd) in came {
            match content_of(fd) {
                Ok(content) => self.put(key, &content),
                Err(error) => eprintln!("uplink: {key} could not be read: {error}"),
            }
        }
    }

    /// One of them.
    pub fn put(&mut self, key: String, content: &[u8]) {
        self.0.insert(key, content.into());
    }

    /// Those of `uplink.NAME`.
    pub fn of(&self, name: &str) -> Own {
        let prefix = format!("uplink.{name}.");
        let own =
            |(key, content): (&String, &Rc<[u8]>)| Some((key.strip_prefix(&prefix)?.to_owned(), Rc::clone(content)));
        Own { name: name.to_owned(), files: self.0.iter().filter_map(own).collect() }
    }
}

impl Own {
    /// The content of a secret that the configuration names.
    pub fn get(&self, key: &str, named: Option<&Secret>) -> Result<Option<&[u8]>, Failure> {
        let Some(secret) = named else { return Ok(None) };
        // It comes right behind the configuration, unless ravend could not read it.
        let missing = || Failure::retry(format!("uplink.{}.{key}: {secret} has not come from ravend", self.name));
        self.files.get(key).map(|content| Some(&**content)).ok_or_else(missing)
    }

    /// The content of `credentials` or `proxy_credentials`, as `(scheme, rest)`.
    pub fn credentials(&self, key: &str, named: Option<&Secret>) -> Result<Option<(Scheme, &str)>, Failure> {
        let Some(content) = self.get(key, named)? else { return Ok(None) };
        let text = std::str::from_utf8(content).unwrap_or_default().trim();
        let (scheme, rest) = text.split_once(' ').unwrap_or_default();
        let rest = rest.trim();
        let fine = rest.bytes().all(|b| !b.is_ascii_control()) && !rest.is_empty();
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" if fine => Ok(Some((Scheme::Bearer, rest))),
            "basic" if fine && rest.contains(':') => Ok(Some((Scheme::Basic, rest))),
            _ => Err(Failure::config(format!(
                "uplink.{}.{key}: the secret is no line `bearer TOKEN` or `basic USER:PASSWORD`",
                self.name
            ))),
        }
    }

    /// Credentials as a header field shows them.
    pub fn authorization((scheme, shown): (Scheme, &str)) -> String {
        match scheme {
            Scheme::Bearer => format!("Bearer {shown}"),
            Scheme::Basic => format!("Basic {}", STANDARD.encode(shown)),
        }
    }
}

/// How credentials are shown (RFC 9110, 11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 6750.
    Bearer,
    /// RFC 7617.
    Basic,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_a_scheme_and_what_it_shows() {
        let secret = "secret:x".parse().ok();
        let shown = |text: &str| {
            let mut secrets = Secrets::default();
            secrets.put("uplink.noc.credentials".to_owned(), text.as_bytes());
            let own = secrets.of("noc");
            own.credentials("credentials", secret.as_ref())
                .map(|some| some.map(|(scheme, rest)| (scheme, rest.to_owned())))
        };
        assert_eq!(shown("bearer abc\n"), Ok(Some((Scheme::Bearer, "abc".to_owned()))));
        assert_eq!(shown("Basic raven:a b:c\n"), Ok(Some((Scheme::Basic, "raven:a b:c".to_owned()))));
        for bad in ["", "hunter2", "bearer", "bearer ", "basic hunter2", "bearer hunter2\nX: y"] {
            let failure = shown(bad).expect_err(bad);
            assert!(!failure.words.contains("hunter2"), "{}", failure.words);
        }
    }

    #[test]
    fn a_secret_that_has_not_come_is_named() {
        let named = "secret:noc-ca.pem".parse().ok();
        let failure = Secrets::default().of("noc").get("ca", named.as_ref()).expect_err("missing");
        assert_eq!(failure.words, "uplink.noc.ca: secret:noc-ca.pem has not come from ravend");
    }
}
