//! What a TLS listener is made of: certificate, key and client CA in PEM; rustls with ring.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::sync::Arc;

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

/// What was passed, PEM.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// The certificate and those that lead to it.
    pub certificate: Option<&'a [u8]>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Who may sign senders' certificates.
    pub client_ca: Option<&'a [u8]>,
}

/// The configuration of connections to come, from the keys of `section`, such as `collect.winevent`. `asks` says that
/// senders must show a certificate: without the authorities for that there is no configuration.
///
/// # Errors
/// What is missing or wrong.
pub fn server_config(section: &str, pem: Pem<'_>, asks: bool) -> Result<ServerConfig, CredentialError> {
    let [certificate, key, client_ca] = ["certificate", "key", "client_ca"].map(|name| format!("{section}.{name}"));
    let required = |key: &str, passed: Option<_>| passed.ok_or_else(|| CredentialError::Missing(key.to_owned()));
    let chain = certificates(&certificate, required(&certificate, pem.certificate)?)?;
    let private = PrivateKeyDer::from_pem_slice(required(&key, pem.key)?)
        .map_err(|_| CredentialError::NoPem(key.clone(), "key"))?;
    let unfit = |error| CredentialError::Unfit(certificate.clone(), key.clone(), error);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unfit)?;
    let builder = if asks {
        let wrong = |error: String| CredentialError::Authorities(client_ca.clone(), error);
        let mut roots = RootCertStore::empty();
        for authority in certificates(&client_ca, required(&client_ca, pem.client_ca)?)? {
            roots.add(authority).map_err(|error| wrong(error.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.map_err(|error| wrong(error.to_string()))?)
    } else {
        builder.with_no_client_auth()
    };
    builder.with_single_cert(chain, private).map_err(unfit)
}

fn certificates(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let none = || CredentialError::NoPem(key.to_owned(), "certificate");
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| none())?;
    if chain.is_empty() { Err(none()) } else { Ok(chain) }
}
