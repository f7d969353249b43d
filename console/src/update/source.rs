//! Where a bundle comes from: bytes from an offset on. A transfer over the network that breaks off is gone on with.

use crate::failure::{Failure, file};
use raven_model::update::{FIXED, Header};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Whom the system trusts.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How long a server may be silent.
const SILENT: Duration = Duration::from_secs(30);
/// Attempts one after the other that brought nothing.
const ATTEMPTS: u32 = 6;
/// Rest between them.
const REST: Duration = Duration::from_secs(2);

/// A bundle's bytes.
pub enum Source {
    /// A file or a disk.
    File(File, PathBuf),
    /// What cannot be gone back in: standard input, a pipe. How far it was read.
    Stream(Box<dyn Read + Send>, PathBuf, u64),
    /// An address.
    Remote(Box<Remote>),
}

impl Source {
    /// Of what the operator named.
    pub fn open(name: &str) -> Result<Self, Failure> {
        if name == "-" {
            return Ok(Self::Stream(Box::new(io::stdin()), "standard input".into(), 0));
        }
        if name.starts_with("http://") || name.starts_with("https://") {
            return Ok(Self::Remote(Box::new(Remote::new(name)?)));
        }
        let path = Path::new(name).to_owned();
        let mut file = File::open(&path).map_err(file("open", &path))?;
        if file.rewind().is_ok() { Ok(Self::File(file, path)) } else { Ok(Self::Stream(Box::new(file), path, 0)) }
    }

    /// Its header, and nothing behind it.
    pub fn header(&mut self) -> Result<Vec<u8>, Failure> {
        let mut header = vec![0; FIXED];
        self.fill(&mut header)?;
        let refused = |error: raven_model::update::BundleError| Failure::Refused(vec![error.to_string()]);
        let len = Header::len(&header).map_err(refused)?.unwrap_or(FIXED);
        let mut manifest = vec![0; len - FIXED];
        self.fill(&mut manifest)?;
        header.extend(manifest);
        Ok(header)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Failure> {
        self.read_exact(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                Failure::Refused(vec!["this is no update bundle of Raven: it is too short".to_owned()])
            } else {
                self.failed(error)
            }
        })
    }

    /// What comes next is the byte at `offset` behind a header of `header` bytes; `total` bytes are behind it in all.
    pub fn go_to(&mut self, header: u64, offset: u64, total: u64) -> Result<(), Failure> {
        let at = header + offset;
        match self {
            Self::File(file, _) => drop(file.seek(SeekFrom::Start(at)).map_err(|error| self.failed(error))?),
            Self::Remote(remote) => remote.go_to(at, header + total),
            Self::Stream(stream, _, read) => {
                let skip = at.saturating_sub(*read);
                let skipped = io::copy(&mut stream.take(skip), &mut io::sink());
                skipped.map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }

    /// Words for what went wrong with it.
    pub fn failed(&self, source: io::Error) -> Failure {
        match self {
            Self::File(_, path) | Self::Stream(_, path, _) => {
                Failure::File { what: "read", path: path.clone(), source }
            }
            Self::Remote(remote) => Failure::Refused(vec![
                format!("cannot fetch {}: {source}", remote.url),
                "what came is kept: say it again to go on".to_owned(),
            ]),
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file, _) => file.read(buffer),
            Self::Stream(stream, _, at) => stream.read(buffer).inspect(|n| *at += *n as u64),
            Self::Remote(remote) => remote.read(buffer),
        }
    }
}

/// A bundle at an address.
pub struct Remote {
    agent: Agent,
    url: String,
    at: u64,
    end: Option<u64>,
    body: Option<Box<dyn Read + Send>>,
}

impl Remote {
    fn new(url: &str) -> Result<Self, Failure> {
        let secure = url.starts_with("https://");
        let tls = if secure { Some(tls()?) } else { None };
        let config = Agent::config_builder()
            .timeout_connect(Some(SILENT))
            .timeout_recv_response(Some(SILENT))
            .http_status_as_error(false)
            .user_agent(concat!("raven/", env!("CARGO_PKG_VERSION")));
        let config = match tls {
            Some(tls) => config.tls_config(tls).build(),
            None => config.build(),
        };
        Ok(Self { agent: config.into(), url: url.to_owned(), at: 0, end: None, body: None })
    }

    fn go_to(&mut self, at: u64, end: u64) {
        self.end = Some(end);
        if at != self.at {
            (self.at, self.body) = (at, None);
        }
    }

    /// Asks for what comes from here on.
    fn ask(&mut self) -> io::Result<Box<dyn Read + Send>> {
        let range = format!("bytes={}-", self.at);
        let answer = self.agent.get(&self.url).header("Range", range).call().map_err(io::Error::other)?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body().into_with_config().limit(u64::MAX).reader();
        match status {
            206 => Ok(Box::new(body)),
            // A server that knows no ranges begins at the beginning.
            200 => {
                io::copy(&mut (&mut body).take(self.at), &mut io::sink())?;
                Ok(Box::new(body))
            }
            other => Err(io::Error::new(io::ErrorKind::NotFound, format!("the server answered with {other}"))),
        }
    }

    fn attempt(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.ask()?,
        };
        let n = body.read(buffer)?;
        if n == 0 && self.end.is_none_or(|end| self.at < end) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends too early"));
        }
        self.at += n as u64;
        self.body = Some(body);
        Ok(n)
    }
}

impl Read for Remote {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut attempts = 0;
        loop {
            match self.attempt(buffer) {
                Ok(n) => return Ok(n),
                // No such file: asking again changes nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
                Err(error) if attempts + 1 >= ATTEMPTS => return Err(error),
                Err(_) => {
                    attempts += 1;
                    if attempts > 1 {
                        std::thread::sleep(REST);
                    }
                }
            }
        }
    }
}

/// TLS with whom the system trusts.
fn tls() -> Result<TlsConfig, Failure> {
    let text = std::fs::read(TRUSTED).map_err(file("read", TRUSTED))?;
    let certificates: Vec<Certificate<'static>> = ureq::tls::parse_pem(&text)
        .filter_map(|item| match item {
            Ok(ureq::tls::PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::Specific(Arc::new(certificates)))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

#[cfg(test)]
mod tests;
