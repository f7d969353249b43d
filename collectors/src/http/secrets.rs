//! Certificates, keys and credentials: as passed in memfds, and what they make of the door and of TLS.

use super::Settings;
use super::credentials::{Credentials, Door};
use crate::tls::{CredentialError, Pem, server_config};
use raven_jail::memory::content_of;
use raven_model::stream::Stream;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What was passed, and what the configuration wants of it.
pub struct Secrets {
    passed: BTreeMap<String, Vec<u8>>,
    tls: Option<Arc<rustls::ServerConfig>>,
    stream: Stream,
    settings: Settings,
}

impl Secrets {
    /// Nothing was passed yet.
    pub const fn new(stream: Stream, settings: Settings) -> Self {
        Self { passed: BTreeMap::new(), tls: None, stream, settings }
    }

    /// The configuration has changed.
    pub fn configure(&mut self, settings: Settings) {
        let asked = self.settings.asks;
        self.settings = settings;
        if asked != settings.asks && !self.passed.is_empty() {
            self.make_tls();
        }
    }

    /// Secrets have come; they take the place of all that came before.
    pub fn take(&mut self, secrets: impl Iterator<Item = (String, OwnedFd)>) {
        self.passed.clear();
        for (name, fd) in secrets {
            match content_of(fd) {
                Ok(content) => drop(self.passed.insert(name, content)),
                Err(error) => eprintln!("raven-worker {}: {name} cannot be read: {error}", self.stream),
            }
        }
        self.make_tls();
    }

    fn get(&self, key: &str) -> Option<&[u8]> {
        self.passed.get(&format!("collect.{}.{key}", self.stream)).map(Vec::as_slice)
    }

    /// Connections go on with what they began with. What is wrong does not take the place of what works, unless that
    /// would let in whom the new one keeps out.
    fn make_tls(&mut self) {
        let pem = Pem { certificate: self.get("certificate"), key: self.get("key"), client_ca: self.get("client_ca") };
        if pem.certificate.is_none() && !self.settings.speaks_tls {
            return;
        }
        match self.server(pem) {
            Ok(config) => self.tls = Some(Arc::new(config)),
            Err(why) => {
                if self.settings.asks {
                    self.tls = None;
                }
                let then = if self.tls.is_some() { "goes on as before" } else { "serves nobody" };
                eprintln!("raven-worker {}: HTTPS {then}: {why}", self.stream);
            }
        }
    }

    fn server(&self, pem: Pem<'_>) -> Result<rustls::ServerConfig, CredentialError> {
        let mut config = server_config(&format!("collect.{}", self.stream), pem, self.settings.asks)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// For connections to come.
    pub fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.tls.clone()
    }

    /// As it is to be from now on.
    pub fn door(&self) -> Door {
        match self.get("credentials") {
            _ if !self.settings.guarded => Door::Open,
            None => Door::Shut,
            Some(text) => {
                let (credentials, flaws) = Credentials::parse(text);
                for flaw in flaws {
                    eprintln!("raven-worker {0}: collect.{0}.credentials: {flaw}", self.stream);
                }
                Door::Guarded(credentials)
            }
        }
    }
}
