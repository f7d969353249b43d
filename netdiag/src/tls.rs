//! TLS with whoever is there: the handshake goes on whatever the certificate is, and what is wrong with it is recorded. So nothing
//! that is secret may leave by such a connection.

pub mod certificate;
pub mod run;

use crate::rtt::micros;
use crate::session::{Gone, Session};
use crate::stream::{Stream, Trouble};

use certificate::describe;
use raven_model::diag::services::{Certificate, Tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, ProtocolVersion,
    RootCertStore, SignatureScheme,
};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Whom the system trusts.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Certificates of a chain that are shown.
const CHAIN: usize = 16;
/// Names of a certificate that are told where another one was expected.
const NAMES_TOLD: usize = 8;

/// Authorities that are trusted.
#[derive(Debug, Clone)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    /// Why there are none.
    unread: Option<String>,
}

impl Trust {
    /// Those of the system.
    pub fn system() -> Self {
        match std::fs::read(SYSTEM) {
            Ok(bundle) => Self::of(CertificateDer::pem_slice_iter(&bundle).filter_map(Result::ok)),
            Err(error) => {
                let unread = Some(format!("cannot read whom the system trusts, {SYSTEM}: {error}"));
                Self { roots: Arc::new(RootCertStore::empty()), unread }
            }
        }
    }

    /// These.
    pub fn of<'a>(authorities: impl IntoIterator<Item = CertificateDer<'a>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities);
        Self { roots: Arc::new(roots), unread: None }
    }
}

/// What was seen of a server.
#[derive(Debug, Default)]
struct Seen {
    chain: Vec<Certificate>,
    untrusted: Option<String>,
    misnamed: Option<String>,
}

/// Accepts every certificate and remembers what is wrong with it.
#[derive(Debug)]
struct Recorder {
    provider: Arc<CryptoProvider>,
    trust: Trust,
    seen: Mutex<Seen>,
    /// A certificate of ours was asked for.
    asked: AtomicBool,
}

impl Recorder {
    fn signed(&self, verified: Result<HandshakeSignatureValid, Error>) -> HandshakeSignatureValid {
        if let Err(error) = verified {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let why = || format!("it does not show that it holds the key of its certificate: {}", words(&error));
            seen.untrusted.get_or_insert_with(why);
        }
        HandshakeSignatureValid::assertion()
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let chain = std::iter::once(end_entity).chain(intermediates).take(CHAIN);
        let mut seen = Seen { chain: chain.map(|der| describe(der, now.as_secs())).collect(), ..Seen::default() };
        match ParsedCertificate::try_from(end_entity) {
            Err(error) => seen.untrusted = Some(words(&error)),
            Ok(parsed) => {
                let roots = &self.trust.roots;
                let chain = verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms);
                seen.untrusted =
                    self.trust.unread.clone().or_else(|| chain.err().map(|error| chain_words(&error, &seen.chain)));
                let names = || seen.chain.first().map_or(&[][..], |own| &own.names);
                let misnamed = |_| misnamed(&server_name.to_str(), names());
                seen.misnamed = verify_server_name(&parsed, server_name).map_err(misnamed).err();
            }
        }
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Ok(self.signed(verify_tls12_signature(message, cert, dss, algorithms)))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Ok(self.signed(verify_tls13_signature(message, cert, dss, algorithms)))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ResolvesClientCert for Recorder {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A handshake with a server that should have this name; the connection, where it was done.
pub fn shake(
    session: &mut Session,
    socket: TcpStream,
    name: &str,
    trust: &Trust,
    until: Instant,
) -> Result<(Tls, Option<Stream>), Gone> {
    // A zone means nothing to anybody else.
    let name = name.split_once('%').map_or(name, |(address, _)| address);
    let mut told = Tls { name: name.to_owned(), ..Tls::default() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let recorder = Arc::new(Recorder {
        provider: Arc::clone(&provider),
        trust: trust.clone(),
        seen: Mutex::default(),
        asked: AtomicBool::new(false),
    });
    let connection = match connection(provider, &recorder, name) {
        Ok(connection) => connection,
        Err(why) => {
            told.error = Some(why);
            return Ok((told, None));
        }
    };
    let mut stream = Stream::tls(socket, connection);
    let began = Instant::now();
    let done = stream.handshake(session, until);
    told.handshake_us = micros(began.elapsed());
    let seen = std::mem::take(&mut *recorder.seen.lock().unwrap_or_else(PoisonError::into_inner));
    (told.chain, told.untrusted, told.misnamed) = (seen.chain, seen.untrusted, seen.misnamed);
    told.wants_certificate = recorder.asked.load(Ordering::Relaxed);
    if let Some(tls) = stream.session() {
        told.version = tls.protocol_version().map(version);
        told.cipher = tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str().map(cipher));
    }
    match done {
        Ok(()) => {
            told.verified = told.untrusted.is_none() && told.misnamed.is_none();
            Ok((told, Some(stream)))
        }
        Err(Trouble::Gone) => Err(Gone),
        Err(Trouble::Broken(why)) => {
            told.error = Some(why);
            Ok((told, None))
        }
    }
}

fn connection(provider: Arc<CryptoProvider>, recorder: &Arc<Recorder>, name: &str) -> Result<ClientConnection, String> {
    let no_name = |_| format!("`{}` is no name that a certificate can have", name.escape_debug());
    let name = ServerName::try_from(name.to_owned()).map_err(no_name)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(recorder) as Arc<dyn ServerCertVerifier>)
        .with_client_cert_resolver(Arc::clone(recorder) as Arc<dyn ResolvesClientCert>);
    config.resumption = Resumption::disabled();
    ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())
}

fn version(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
        ProtocolVersion::TLSv1_2 => "TLS 1.2".to_owned(),
        other => format!("{other:?}"),
    }
}

/// As IANA writes it.
fn cipher(name: &str) -> String {
    name.replacen("TLS13_", "TLS_", 1)
}

/// An error of TLS in words.
pub fn words(error: &Error) -> String {
    use AlertDescription as Alert;
    match error {
        Error::InvalidCertificate(why) => certificate_words(why),
        Error::AlertReceived(Alert::CertificateRequired) => "it wants a certificate from us".to_owned(),
        Error::AlertReceived(Alert::UnrecognisedName) => "it has nothing for that name (unrecognized_name)".to_owned(),
        Error::AlertReceived(alert @ (Alert::HandshakeFailure | Alert::ProtocolVersion)) => {
            format!(
                "it refuses the handshake ({alert:?}): it may want an older version than TLS 1.2, other ciphers or a certificate"
            )
        }
        Error::AlertReceived(alert) => format!("it refuses the handshake ({alert:?})"),
        Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        Error::PeerIncompatible(why) => format!("it speaks no TLS that Raven does (1.2 and 1.3): {why:?}"),
        other => other.to_string(),
    }
}

/// Why a chain leads nowhere. Who signs for itself is told so, whether it calls itself an authority (as what `openssl req -x509`
/// makes does, which is refused as that) or not.
fn chain_words(error: &Error, chain: &[Certificate]) -> String {
    let is_alone = chain.first().is_some_and(|own| own.unread.is_none() && own.subject == own.issuer);
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::Other(_)) if is_alone => {
            "it is signed by itself, not by an authority that this system trusts".to_owned()
        }
        error => words(error),
    }
}

/// For another name than this one.
fn misnamed(expected: &str, names: &[String]) -> String {
    let shown = names.iter().take(NAMES_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(NAMES_TOLD);
    match (names.is_empty(), more) {
        (true, _) => format!("its certificate is not for {expected}: it names nobody (subjectAltName)"),
        (_, 0) => format!("its certificate is not for {expected} but for {shown}"),
        _ => format!("its certificate is not for {expected} but for {shown} and {more} more"),
    }
}

fn certificate_words(why: &CertificateError) -> String {
    use CertificateError as Why;
    match why {
        Why::Expired | Why::ExpiredContext { .. } => "a certificate has expired (by our clock)".to_owned(),
        Why::NotValidYet | Why::NotValidYetContext { .. } => "a certificate is not valid yet (by our clock)".to_owned(),
        Why::UnknownIssuer => "it is signed by nobody whom this system trusts".to_owned(),
        Why::BadSignature => "a signature is not that of the issuer".to_owned(),
        Why::BadEncoding => "its certificate cannot be read".to_owned(),
        other => format!("its certificate is not accepted: {other}"),
    }
}
