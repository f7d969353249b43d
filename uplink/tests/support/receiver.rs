//! Receivers made for tests: an HTTP one that answers as told, and plain TCP ones that misbehave.

use super::certificates::Pair;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What an HTTP receiver has seen.
#[derive(Default)]
pub struct Seen {
    /// How often each seq came in a body that was taken.
    pub taken: BTreeMap<u64, u32>,
    /// Records of each body, taken or not.
    pub bodies: Vec<usize>,
    /// `Content-Encoding` of the last body.
    pub encoding: Option<String>,
    /// `Authorization` of the last body.
    pub authorization: Option<String>,
    /// Raw bytes by seq.
    pub raw: BTreeMap<u64, Vec<u8>>,
}

pub type Decide = Rc<dyn Fn(&[u64], usize) -> (u16, Option<&'static str>)>;

/// Starts a receiver that answers each body as `decide(seqs, number of the body)` says: status and `Retry-After`.
pub async fn http(
    decide: impl Fn(&[u64], usize) -> (u16, Option<&'static str>) + 'static,
) -> (String, Rc<RefCell<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let seen = Rc::new(RefCell::new(Seen::default()));
    let (shared, decide): (_, Decide) = (Rc::clone(&seen), Rc::new(decide));
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (seen, decide) = (Rc::clone(&shared), Rc::clone(&decide));
            let service = service_fn(move |request| answer(request, Rc::clone(&seen), Rc::clone(&decide)));
            tokio::task::spawn_local(async move {
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
            });
        }
    });
    (url, seen)
}

/// An answer of [`raw_http`].
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<&'static str>,
    pub body: &'static [u8],
}

impl Answer {
    pub const fn new(status: u16, body: &'static [u8]) -> Self {
        Self { status, retry_after: None, body }
    }
}

/// Starts a receiver that answers head and body of each request as `decide` says.
pub async fn raw_http(decide: impl Fn(&hyper::HeaderMap, &[u8]) -> Answer + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/logs", listener.local_addr().unwrap());
    let decide = Rc::new(decide);
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let decide = Rc::clone(&decide);
            let service =
                service_fn(move |request: Request<Incoming>| {
                    let decide = Rc::clone(&decide);
                    async move {
                        let (head, body) = request.into_parts();
                        let answer = decide(&head.headers, &body.collect().await?.to_bytes());
                        let mut response = Response::new(Full::new(Bytes::from_static(answer.body)));
                        *response.status_mut() = StatusCode::from_u16(answer.status).unwrap();
                        let after = answer.retry_after.map(|after| ("retry-after", after.parse().unwrap()));
                        response.headers_mut().extend(after.map(|(name, value): (&str, _)| {
                            (name.parse::<hyper::header::HeaderName>().unwrap(), value)
                        }));
                        Ok::<_, hyper::Error>(response)
                    }
                });
            tokio::task::spawn_local(async move {
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
            });
        }
    });
    url
}

/// As [`http`], over TLS; with `client_ca` senders must show a certificate that it signed.
pub async fn https(
    own: &Pair,
    client_ca: Option<&str>,
    decide: impl Fn(&[u64], usize) -> (u16, Option<&'static str>) + 'static,
) -> (String, Rc<RefCell<Seen>>) {
    let acceptor = acceptor(own, client_ca);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/in", listener.local_addr().unwrap());
    let seen = Rc::new(RefCell::new(Seen::default()));
    let (shared, decide): (_, Decide) = (Rc::clone(&seen), Rc::new(decide));
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (seen, decide, acceptor) = (Rc::clone(&shared), Rc::clone(&decide), acceptor.clone());
            let service = service_fn(move |request| answer(request, Rc::clone(&seen), Rc::clone(&decide)));
            tokio::task::spawn_local(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (url, seen)
}

fn acceptor(own: &Pair, client_ca: Option<&str>) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
    let config = builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap()).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn answer(
    request: Request<Incoming>,
    seen: Rc<RefCell<Seen>>,
    decide: Decide,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let encoding = request.headers().get("content-encoding").map(|v| v.to_str().unwrap().to_owned());
    let authorization = request.headers().get("authorization").map(|v| v.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await?.to_bytes();
    let records = records(&body, encoding.as_deref());
    let seqs: Vec<u64> = records.iter().map(|(seq, _)| *seq).collect();
    let mut seen = seen.borrow_mut();
    seen.encoding = encoding;
    seen.authorization = authorization;
    seen.bodies.push(seqs.len());
    let (status, retry_after) = decide(&seqs, seen.bodies.len());
    if (200..300).contains(&status) {
        for (seq, raw) in records {
            *seen.taken.entry(seq).or_default() += 1;
            seen.raw.insert(seq, raw);
        }
    }
    let mut response = Response::new(Full::new(Bytes::from_static(b"said the receiver")));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Some(after) = retry_after {
        response.headers_mut().insert("retry-after", after.parse().unwrap());
    }
    Ok(response)
}

/// Takes a body apart as `docs/formats.md` tells receivers to.
fn records(body: &[u8], encoding: Option<&str>) -> Vec<(u64, Vec<u8>)> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = match encoding {
        Some("zstd") => zstd::decode_all(body).unwrap(),
        Some("gzip") => {
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(body).read_to_end(&mut text).unwrap();
            text
        }
        _ => body.to_vec(),
    };
    text.split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let value: serde_json::Value = serde_json::from_slice(line).unwrap();
            assert_eq!((&value["dev"], &value["stream"]), (&"arena".into(), &"syslog".into()));
            let raw = value["raw"].as_str().map(|raw| raw.as_bytes().to_vec());
            (
                value["seq"].as_u64().unwrap(),
                raw.unwrap_or_else(|| STANDARD.decode(value["raw_b64"].as_str().unwrap()).unwrap()),
            )
        })
        .collect()
}

/// Starts a receiver that says `greeting` to whoever connects, byte by byte when `slow`, and then reads for ever, or
/// closes when `close`. Returns its address and how many connections it has had.
pub async fn misbehaving(greeting: Vec<u8>, slow: bool, close: bool) -> (String, Rc<RefCell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let connections = Rc::new(RefCell::new(0));
    let counted = Rc::clone(&connections);
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            *counted.borrow_mut() += 1;
            tokio::task::spawn_local(misbehave(stream, greeting.clone(), slow, close));
        }
    });
    (addr, connections)
}

async fn misbehave(mut stream: TcpStream, greeting: Vec<u8>, slow: bool, close: bool) {
    let mut buf = vec![0; 4096];
    if stream.read(&mut buf).await.is_err() {
        return;
    }
    for byte in greeting.chunks(if slow { 1 } else { usize::MAX }) {
        if stream.write_all(byte).await.is_err() {
            return;
        }
        if slow {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    while !close && stream.read(&mut buf).await.is_ok_and(|n| n > 0) {}
}

/// Starts a RELP receiver that answers transaction `n` of connection `c` with `reply(c, n, message)`; an empty reply
/// closes the connection.
pub async fn relp(reply: impl Fn(usize, u32, &[u8]) -> Vec<u8> + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let reply = Rc::new(reply);
    tokio::task::spawn_local(async move {
        for connection in 1.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(relp_session(stream, connection, Rc::clone(&reply)));
        }
    });
    addr
}

async fn relp_session(mut stream: TcpStream, connection: usize, reply: Rc<impl Fn(usize, u32, &[u8]) -> Vec<u8>>) {
    let mut buf = Vec::new();
    loop {
        while let Some((txnr, command, data, len)) = relp_frame(&buf) {
            let answer = match command.as_str() {
                "open" => rsp(txnr, "200 OK\nrelp_version=0\ncommands=syslog"),
                "close" => return,
                _ => reply(connection, txnr, &data),
            };
            if answer.is_empty() || stream.write_all(&answer).await.is_err() {
                return;
            }
            buf.drain(..len);
        }
        if stream.read_buf(&mut buf).await.is_ok_and(|n| n == 0) {
            return;
        }
    }
}

pub fn rsp(txnr: u32, text: &str) -> Vec<u8> {
    format!("{txnr} rsp {} {text}\n", text.len()).into_bytes()
}

pub fn relp_frame(buf: &[u8]) -> Option<(u32, String, Vec<u8>, usize)> {
    let head: Vec<usize> =
        buf.iter().enumerate().filter(|(_, b)| **b == b' ' || **b == b'\n').map(|(at, _)| at).take(3).collect();
    let [a, b, c] = head[..] else { return None };
    let text = |from: usize, to: usize| std::str::from_utf8(&buf[from..to]).unwrap();
    let len: usize = text(b + 1, c).parse().unwrap();
    let start = if len == 0 { c } else { c + 1 };
    (buf.len() > start + len).then(|| {
        (text(0, a).parse().unwrap(), text(a + 1, b).to_owned(), buf[start..start + len].to_vec(), start + len + 1)
    })
}
