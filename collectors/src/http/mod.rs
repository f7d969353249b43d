//! What collectors that are sent to by HTTP share: HTTP/1.1 and HTTPS, who may send, limits, refusals, and the answer
//! that follows the commit.
//!
//! One thread. hyper finds the requests; what a body holds is the business of an [`Intake`], which appends it to the
//! receive memory record by record. A request is answered with 2xx only when the store has made its last record
//! durable; what is not answered, the sender repeats. What is refused is counted by reason (`reason.rs`) and shown in
//! the inbox.
//!
//! `connection.rs` has the way of a connection, `shared.rs` the receive memory and those who wait for it. No socket is
//! made here and no file opened: `ravend` passes accepted connections.

pub mod answer;
mod beat;
pub mod body;
mod connection;
mod control;
mod credentials;
mod inbox;
mod outbox;
pub mod reason;
mod secrets;
pub mod shared;
mod stream;
pub mod unpack;

use crate::{CollectorError, Passed};
use answer::Answer;
use beat::beat;
use control::{Connected, Control};
use credentials::Door;
use hyper::HeaderMap;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use outbox::Outbox;
use raven_jail::channel::Channel;
use raven_jail::receive::{Blind, CollectorMemory};
use raven_model::config::Config;
use raven_model::control::{FromWorker, Start};
use raven_model::stream::Stream;
use reason::{Reason, Refused};
use secrets::Secrets;
use shared::{Peer, Shared};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::LocalSet;

/// What bodies a collector takes, and what it makes of them.
pub trait Intake: 'static {
    /// Where its records go; its part of the configuration has the same name.
    const STREAM: Stream;

    /// What is configured of it.
    fn settings(config: &Config) -> Settings;

    /// Serves one request of `peer`.
    fn serve(
        shared: &Rc<Shared>,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Answer, Failed>>;
}

/// What is configured of a collector.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Longest body, packed and unpacked.
    pub body: usize,
    /// Longest record that is not noted.
    pub record: usize,
    /// `credentials` is set.
    pub guarded: bool,
    /// `client_ca` is set.
    pub asks: bool,
    /// There is an HTTPS listener.
    pub speaks_tls: bool,
}

/// A request that was not served.
pub struct Failed {
    /// Why.
    pub refused: Refused,
    /// The body was read to its end.
    pub whole: bool,
    /// The body was kept, marked as refused: it is no loss and is not counted as one.
    pub kept: bool,
}

impl Failed {
    /// Before the body was read to its end, unless `whole`.
    pub const fn lost(refused: Refused, whole: bool) -> Self {
        Self { refused, whole, kept: false }
    }
}

/// Whether who shows these headers may send.
pub fn admit(shared: &Shared, headers: &HeaderMap) -> Result<(), Refused> {
    match &*shared.door.borrow() {
        Door::Open => Ok(()),
        Door::Shut => Err(Refused::new(Reason::NotReady, "credentials are configured and not here yet")),
        Door::Guarded(credentials) => {
            let shown = headers.get(AUTHORIZATION);
            if shown.is_some_and(|value| credentials.admit(value.as_bytes())) {
                return Ok(());
            }
            let detail = if shown.is_some() { "these credentials are not known" } else { "credentials are needed" };
            Err(Refused::new(Reason::Credentials, detail))
        }
    }
}

/// A collector.
pub struct Http<I> {
    control: Control<I>,
    runtime: Runtime,
}

impl<I: Intake> Http<I> {
    /// Takes over the receive memory that `start` names; `fds` are the descriptors beside it. Makes the event loop's
    /// own descriptors, so that it comes before the jail.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel, epoch: u64) -> Result<Self, CollectorError> {
        let Passed { memory, words, wake } = Passed::of(start, fds)?;
        let missing = |what: &str| CollectorError::Setup(format!("ravend passed no {what}"));
        let config = start.config.as_deref().ok_or_else(|| missing("configuration"))?;
        let io = |what| move |error| CollectorError::Io(what, error);
        // Bodies are taken in elsewhere: the places for datagrams stay untouched.
        let (memory, _) =
            CollectorMemory::open_small(&memory, &words, epoch, &mut Blind).map_err(io("receive memory"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io("event loop"))?;
        let told = {
            let _entered = runtime.enter();
            let duplicate = channel.as_fd().try_clone_to_owned().map_err(io("control channel"))?;
            let duplicate = std::os::unix::net::UnixStream::from(duplicate);
            duplicate.set_nonblocking(true).map_err(io("control channel"))?;
            UnixStream::from_std(duplicate).map_err(io("epoll"))?
        };
        let channel = Rc::new(channel);
        let outbox = Rc::new(Outbox::new(Rc::clone(&channel)));
        let settings = I::settings(config);
        let secrets = Secrets::new(I::STREAM, settings);
        let shared = Rc::new(Shared::new(memory, wake, settings, secrets.door()));
        let (stop, _) = watch::channel(false);
        let (connected, listeners) = (Connected::default(), BTreeMap::new());
        let intake = PhantomData;
        let control = Control { channel, outbox, told, shared, secrets, connected, listeners, stop, intake };
        Ok(Self { control, runtime })
    }

    /// Says that the jail is closed and the work begins.
    pub fn ready(self, missing: Vec<String>) -> Result<Self, CollectorError> {
        self.control.channel.send_json(&FromWorker::Ready { missing }, &[])?;
        Ok(self)
    }

    /// Serves until `ravend` says stop or is gone, then finishes what is under way.
    pub fn run(self) -> Result<(), CollectorError> {
        let Self { mut control, runtime } = self;
        let tasks = LocalSet::new();
        let shared = Rc::clone(&control.shared);
        tasks.spawn_local(async move { shared.publish().await });
        let (shared, connected) = (Rc::clone(&control.shared), Rc::clone(&control.connected));
        tasks.spawn_local(beat(shared, connected, Rc::clone(&control.outbox)));
        tasks.block_on(&runtime, async {
            control.obey_all().await?;
            control.finish().await;
            Ok(())
        })
    }
}
