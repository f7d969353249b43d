//! Syslog over TLS (RFC 5425), from the client's side.

use crate::failure::{Failure, file};
use clap::Args;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};
use std::io::{self, Read as _, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a receiver may take to end its side.
const GOODBYE: Duration = Duration::from_secs(5);

/// Flags for TLS.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// Certificates that the receiver's must be signed by, PEM
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Take any certificate
    #[arg(long)]
    pub insecure: bool,
    /// Own certificate and its chain, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key of it, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Name that the receiver's certificate must be for [default: the host of --to]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
}

/// What every connection of a run shares.
pub struct TlsClient {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// A connection.
pub struct TlsStream(StreamOwned<ClientConnection, TcpStream>);

impl TlsArgs {
    /// Reads the files.
    pub fn client(&self, to: &str) -> Result<TlsClient, Failure> {
        let host = to.rsplit_once(':').map_or(to, |(host, _)| host).trim_matches(['[', ']']);
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|error| Failure::Usage(format!("--server-name: {error}")))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| Failure::Usage(error.to_string()))?;
        let builder = match &self.ca {
            Some(path) => builder.with_root_certificates(roots(path)?),
            None if self.insecure => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            }
            None => return Err(Failure::Usage("--proto tls needs --ca FILE or --insecure".to_owned())),
        };
        let config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let private = PrivateKeyDer::from_pem_file(key).map_err(|error| pem_failed(key, error))?;
                let wrong = |error: rustls::Error| Failure::Usage(format!("{}: {error}", cert.display()));
                builder.with_client_auth_cert(certificates(cert)?, private).map_err(wrong)?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(TlsClient { config: Arc::new(config), name })
    }
}

impl TlsClient {
    /// Shakes hands.
    pub fn open(&self, mut stream: TcpStream) -> io::Result<TlsStream> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let mut connection = connection.map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(TlsStream(StreamOwned::new(connection, stream)))
    }
}

impl TlsStream {
    /// All of it, in TLS records.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Says goodbye and reads what the receiver still says: closing over unread bytes would be a reset, which makes the
    /// receiver's kernel drop what it has not read yet.
    pub fn finish(&mut self) -> io::Result<()> {
        self.0.conn.send_close_notify();
        self.0.flush()?;
        self.0.sock.shutdown(Shutdown::Write)?;
        self.0.sock.set_read_timeout(Some(GOODBYE))?;
        let mut rest = [0; 4096];
        while matches!(self.0.sock.read(&mut rest), Ok(1..)) {}
        Ok(())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    certificates.map_err(|error| pem_failed(path, error))
}

fn roots(path: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    }
    if roots.is_empty() { Err(Failure::Usage(format!("{} holds no certificate", path.display()))) } else { Ok(roots) }
}

fn pem_failed(path: &Path, error: pem::Error) -> Failure {
    let source = if let pem::Error::Io(source) = error { source } else { io::Error::other(error.to_string()) };
    file("read", path)(source)
}

/// `--insecure`: the receiver under test often has a certificate of its own making.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
