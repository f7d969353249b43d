//! One connection: TLS where its listener speaks it, then HTTP/1.1 until one side has enough.

use super::answer::Answer;
use super::reason::Reason;
use super::shared::{Peer, Shared};
use super::stream::{Phase, Socket, Stream};
use super::{Intake, answer};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Longest head of a request.
const HEAD_MAX: usize = 32 * 1024;
/// Most headers in it.
const HEADERS_MAX: usize = 100;
/// What hyper may read ahead.
const READ_MAX: usize = 128 * 1024;
/// How long a sender that was refused may take to see its answer.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection to its end. `stop` turns true when no more requests are to be taken.
pub async fn serve<I: Intake>(
    shared: Rc<Shared>,
    peer: Rc<Peer>,
    socket: Rc<Socket>,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: watch::Receiver<bool>,
) {
    let stream = Stream::new(Rc::clone(&socket), Rc::clone(&peer.pulse));
    match tls {
        None => http::<I>(shared, Rc::clone(&peer), stream, stop).await,
        Some(config) => match TlsAcceptor::from(config).accept(stream).await {
            Ok(stream) => {
                peer.pulse.enter(Phase::Idle);
                http::<I>(shared, Rc::clone(&peer), stream, stop).await;
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Err(_) => shared.refuse(Reason::TlsHandshake, &peer, &[]),
        },
    }
    peer.pulse.enter(Phase::Closing);
    socket.linger(LINGER).await;
}

async fn http<I: Intake>(
    shared: Rc<Shared>,
    peer: Rc<Peer>,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(|request| {
        let (shared, peer) = (Rc::clone(&shared), Rc::clone(&peer));
        async move { Ok::<_, Infallible>(answered::<I>(&shared, &peer, request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            // Time limits are kept by `Pulse`.
            .header_read_timeout(None)
            // Some say that they are done before they read the answer.
            .half_close(true)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_MAX)
            .max_buf_size(READ_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut stopping = pin!(async move { stop.wait_for(|stop| *stop).await.map(drop) });
    let mut told = false;
    let ended = poll_fn(|context| {
        if !told && stopping.as_mut().poll(context).is_ready() {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        match connection.as_mut().poll(context) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => Poll::Pending,
        }
    });
    if let Err(error) = ended.await {
        // A body that broke off was counted by its request.
        if error.is_parse() {
            shared.refuse(Reason::HttpMalformed, &peer, &[]);
        } else if peer.pulse.phase() == Phase::Head {
            shared.refuse(Reason::CutOff, &peer, &[]);
        }
    }
}

async fn answered<I: Intake>(shared: &Rc<Shared>, peer: &Peer, request: Request<Incoming>) -> Answer {
    peer.pulse.enter(Phase::Request);
    let answer = match I::serve(shared, peer, request).await {
        Ok(answer) => answer,
        Err(failed) => {
            if !failed.kept {
                shared.refuse(failed.refused.reason, peer, &failed.refused.first_bytes);
            }
            answer::refused(I::STREAM, &failed.refused, failed.whole)
        }
    };
    peer.pulse.enter(Phase::Idle);
    answer
}
