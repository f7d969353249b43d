//! TLS to destinations: whom we trust, what we show, and what went wrong in operators' words.

use crate::attempt::{Class, Failure};
use crate::secrets::Own;
use raven_model::config::Destination;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};
use std::io;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// Whom the system trusts.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How TLS connections to a destination are made.
#[derive(Clone)]
pub struct Tls {
    /// Makes them.
    pub connector: TlsConnector,
    /// Name in the receiver's certificate; without it the host that was connected to.
    server_name: Option<String>,
}

impl Tls {
    /// For a destination that speaks TLS.
    pub fn of(to: &Destination, own: &Own) -> Result<Self, Failure> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::config(error.to_string()))?
            .with_root_certificates(roots(to, own)?);
        let shown = own.get("certificate", to.certificate.as_ref())?.zip(own.get("key", to.key.as_ref())?);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| Failure::config("`key` holds no key in PEM (-----BEGIN …)"))?;
                builder
                    .with_client_auth_cert(certificates("certificate", chain)?, key)
                    .map_err(|error| Failure::config(format!("`certificate` and `key` do not fit together: {error}")))?
            }
        };
        // Connections live for days: resumption would only cost memory.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), server_name: to.server_name.clone() })
    }

    /// The name that the certificate must have, for a connection to `host`.
    pub fn server_name(&self, host: &str) -> Result<ServerName<'static>, Failure> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let no_name = |_| Failure::config(format!("`{name}` is no name that a certificate can have"));
        ServerName::try_from(name.to_owned()).map_err(no_name)
    }
}

fn roots(to: &Destination, own: &Own) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    if let Some(pinned) = own.get("ca", to.ca.as_ref())? {
        for authority in certificates("ca", pinned)? {
            let unfit = |error| Failure::config(format!("`ca` is not usable as a list of authorities: {error}"));
            roots.add(authority).map_err(unfit)?;
        }
        return Ok(roots);
    }
    let unread = |error| Failure::config(format!("cannot read whom the system trusts, {SYSTEM}: {error}; or set `ca`"));
    let bundle = std::fs::read(SYSTEM).map_err(unread)?;
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bundle).filter_map(Result::ok));
    Ok(roots)
}

fn certificates(key: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let none = || Failure::config(format!("`{key}` holds no certificate in PEM (-----BEGIN …)"));
    all.ok().filter(|all| !all.is_empty()).ok_or_else(none)
}

/// What a broken connection means: an operator is needed where the two ends do not agree about certificates.
pub fn broken(peer: impl std::fmt::Display, error: &io::Error, more: &str) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => {
            let (words, class) = words(error);
            Failure { class, words: format!("{peer}: TLS: {words}{more}"), not_before: None }
        }
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Failure::retry(format!("{peer} closed the connection without a word{more}"))
        }
        None => Failure::retry(format!("{peer}: {error}{more}")),
    }
}

/// An error of TLS somewhere below `error`.
pub fn below<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if let Some(io) = io.filter(|io| io.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Error>)) {
            return Some(io);
        }
        next = error.source();
    }
    None
}

/// In words, and what to do about it.
fn words(error: &Error) -> (String, Class) {
    use AlertDescription as Alert;
    match error {
        Error::InvalidCertificate(why) => (certificate_words(why), Class::Untrusted),
        Error::AlertReceived(Alert::CertificateRequired) => {
            ("it wants a certificate from us: set `certificate` and `key`".to_owned(), Class::Config)
        }
        Error::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied),
        ) => (format!("it does not accept our certificate ({alert:?})"), Class::Config),
        Error::AlertReceived(alert @ (Alert::HandshakeFailure | Alert::ProtocolVersion)) => (
            format!("it refuses the handshake ({alert:?}): does it want a certificate, or only an old version?"),
            Class::Config,
        ),
        Error::InvalidMessage(_) => ("it does not speak TLS".to_owned(), Class::Config),
        other => (other.to_string(), Class::Retry),
    }
}

fn certificate_words(why: &CertificateError) -> String {
    use CertificateError as Why;
    match why {
        Why::Expired | Why::ExpiredContext { .. } => "its certificate has expired (by our clock)".to_owned(),
        Why::NotValidYet | Why::NotValidYetContext { .. } => {
            "its certificate is not valid yet (by our clock)".to_owned()
        }
        Why::NotValidForName => "its certificate is for another name: see `server_name`".to_owned(),
        Why::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            let names = presented.iter().take(8).map(|name| name.escape_debug().to_string()).collect::<Vec<_>>();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            format!("its certificate is not for {expected} but for {names}: see `server_name`")
        }
        Why::UnknownIssuer => "its certificate is signed by nobody whom we trust: see `ca`".to_owned(),
        Why::BadSignature => "its certificate is signed by another key than that of `ca`".to_owned(),
        other => format!("its certificate is not accepted: {other}"),
    }
}
