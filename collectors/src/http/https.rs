//! TLS of HTTPS listeners: rustls with ring, keys and certificates out of memfds.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::sync::Arc;

/// What an HTTPS listener needs, PEM.
#[derive(Default)]
pub struct Pem {
    /// The certificate and those that lead to it.
    pub certificate: Option<Vec<u8>>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Who may sign senders' certificates.
    pub client_ca: Option<Vec<u8>>,
}

/// The configuration of connections to come, from the keys of `section`, such as `collect.winevent`. `asks` says that senders must show a certificate: without the authorities
/// for that nobody is served.
///
/// # Errors
/// What is missing or wrong, by the key of the configuration; never its content.
pub fn server_config(section: &str, pem: &Pem, asks: bool) -> Result<Arc<ServerConfig>, String> {
    let absent = |key: &str| format!("{section}.{key} was not passed");
    let certificate = pem.certificate.as_deref().ok_or_else(|| absent("certificate"))?;
    let key = pem.key.as_deref().ok_or_else(|| absent("key"))?;
    let chain = certificates(&format!("{section}.certificate"), certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| format!("{section}.key holds no private key in PEM"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    let builder = if asks {
        let authorities = pem.client_ca.as_deref().ok_or_else(|| absent("client_ca"))?;
        let mut roots = RootCertStore::empty();
        for authority in certificates(&format!("{section}.client_ca"), authorities)? {
            roots.add(authority).map_err(|error| format!("{section}.client_ca: {error}"))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| format!("{section}.client_ca: {error}"))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config =
        builder.with_single_cert(chain, key).map_err(|error| format!("{section}.certificate and .key: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(read) if !read.is_empty() => Ok(read),
        _ => Err(format!("{name} holds no certificate in PEM")),
    }
}
