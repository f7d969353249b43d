//! Certificate, key and client CA of TLS listeners: made of the secrets that `ravend` passes as memfds, again whenever
//! they come anew. A set that is not usable changes nothing.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Longest secret: some hundred certificates.
const SECRET_MAX: usize = 1 << 20;

/// Why secrets are not usable; the key of the configuration is named, nothing of the content.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// `ravend` passed none.
    #[error("{0} has not come: TLS connections are turned away until it does")]
    Missing(String),
    /// It could not be read.
    #[error("{0} could not be read: {1}")]
    Read(String, #[source] io::Error),
    /// Not PEM, or nothing of that kind in it.
    #[error("{0} holds no {1} in PEM (-----BEGIN …)")]
    NoPem(String, &'static str),
    /// The key is for another certificate, or of a kind that is not known.
    #[error("{0} and {1} do not fit together: {2}")]
    Unfit(String, String, #[source] rustls::Error),
    /// A certificate that cannot sign others, or a list without one.
    #[error("{0} is not usable as a list of certificate authorities: {1}")]
    Authorities(String, String),
}

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
        let [certificate, key, client_ca] =
            ["certificate", "key", "client_ca"].map(|name| format!("{}.{name}", self.section));
        let chain = certificates(&certificate, &required(&mut secrets, &certificate)?)?;
        let private = PrivateKeyDer::from_pem_slice(&required(&mut secrets, &key)?)
            .map_err(|_| CredentialError::NoPem(key.clone(), "key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| CredentialError::Unfit(certificate.clone(), key.clone(), error))?;
        let authorities = optional(&mut secrets, &client_ca)?;
        let builder = match &authorities {
            None => builder.with_no_client_auth(),
            Some(text) => {
                let wrong = |error: String| CredentialError::Authorities(client_ca.clone(), error);
                let mut roots = RootCertStore::empty();
                for authority in certificates(&client_ca, text)? {
                    roots.add(authority).map_err(|error| wrong(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| wrong(error.to_string()))?)
            }
        };
        let mut server = builder
            .with_single_cert(chain, private)
            .map_err(|error| CredentialError::Unfit(certificate.clone(), key.clone(), error))?;
        // Senders stay connected for days: resumption would only cost memory.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        self.current = Some(Set { server: Arc::new(server), asks: authorities.is_some() });
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

fn required(secrets: &mut BTreeMap<String, OwnedFd>, key: &str) -> Result<Vec<u8>, CredentialError> {
    optional(secrets, key)?.ok_or_else(|| CredentialError::Missing(key.to_owned()))
}

fn optional(secrets: &mut BTreeMap<String, OwnedFd>, key: &str) -> Result<Option<Vec<u8>>, CredentialError> {
    let read = |fd| content(fd).map_err(|error| CredentialError::Read(key.to_owned(), error));
    secrets.remove(key).map(read).transpose()
}

/// All of a memfd. By position: its offset is shared with the collectors that got it before.
fn content(fd: OwnedFd) -> io::Result<Vec<u8>> {
    let file = File::from(fd);
    let mut content = vec![0; 16 * 1024];
    let mut len = 0;
    loop {
        match file.read_at(&mut content[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if len == content.len() {
            if len >= SECRET_MAX {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 1 MiB"));
            }
            content.resize(len * 2, 0);
        }
    }
    content.truncate(len);
    Ok(content)
}

fn certificates(key: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let none = || CredentialError::NoPem(key.to_owned(), "certificate");
    let chain: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|_| none())?;
    if chain.is_empty() { Err(none()) } else { Ok(chain) }
}
