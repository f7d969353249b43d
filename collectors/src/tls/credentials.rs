//! Certificate, key and client CA of the TLS listener of syslog: made of the secrets that `ravend` passes as memfds,
//! again whenever they come anew. A set that is not usable changes nothing.

use super::server::{CredentialError, Pem, server_config};
use raven_jail::memory::content_of;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What a TLS listener shows and asks for.
#[derive(Debug)]
pub struct Credentials {
    /// Part of the configuration that names the secrets, such as `collect.syslog`.
    section: &'static str,
    current: Option<Set>,
    client_ca_wanted: bool,
}

#[derive(Debug, Clone)]
struct Set {
    server: Arc<ServerConfig>,
    asks: bool,
}

impl Credentials {
    /// None yet.
    pub const fn new(section: &'static str) -> Self {
        Self { section, current: None, client_ca_wanted: false }
    }

    /// The configuration has changed: whether senders must show a certificate.
    pub const fn want_client_ca(&mut self, wanted: bool) {
        self.client_ca_wanted = wanted;
    }

    /// Puts a new set of secrets into force, for connections to come.
    ///
    /// # Errors
    /// It is not usable; the former one stays.
    pub fn renew(&mut self, mut secrets: BTreeMap<String, OwnedFd>) -> Result<(), CredentialError> {
        let mut passed = |name: &str| {
            let key = format!("{}.{name}", self.section);
            let read = |fd| content_of(fd).map_err(|error| CredentialError::Read(key.clone(), error));
            secrets.remove(&key).map(read).transpose()
        };
        let (certificate, key, client_ca) = (passed("certificate")?, passed("key")?, passed("client_ca")?);
        let asks = client_ca.is_some();
        let pem = Pem { certificate: certificate.as_deref(), key: key.as_deref(), client_ca: client_ca.as_deref() };
        let mut server = server_config(self.section, pem, asks)?;
        // Senders stay connected for days: resumption would only cost memory.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        self.current = Some(Set { server: Arc::new(server), asks });
        Ok(())
    }

    /// For a new connection.
    ///
    /// # Errors
    /// The key of the configuration whose secret has not come. A sender is never let in without the certificate that
    /// the configuration asks for.
    pub fn server(&self) -> Result<Arc<ServerConfig>, CredentialError> {
        let missing = |name| CredentialError::Missing(format!("{}.{name}", self.section));
        let set = self.current.as_ref().ok_or_else(|| missing("certificate"))?;
        if self.client_ca_wanted && !set.asks {
            return Err(missing("client_ca"));
        }
        Ok(Arc::clone(&set.server))
    }
}
