//! The collector of Windows events: HTTP/1.1 and HTTPS, as agents send them.
//!
//! One thread. hyper finds the requests, `raven_decode` the events in a body; each is appended to the receive memory
//! as it came. A request is answered with 2xx only when the store has made its last event durable; what is not
//! answered, the sender repeats. What is refused is counted by reason (`reason.rs`) and shown in the inbox.
//!
//! `request.rs` has the way of a request, `shared.rs` the receive memory and those who wait for it, `connection.rs`
//! the way of a connection. No socket is made here and no file opened: `ravend` passes accepted connections.

mod answer;
mod beat;
mod body;
mod connection;
mod control;
mod credentials;
mod elastic;
mod https;
mod inbox;
mod items;
mod outbox;
mod reason;
mod request;
mod secrets;
mod shared;
mod stream;
mod unpack;

use crate::{CollectorError, Passed};
use beat::beat;
use control::{Connected, Control};
use outbox::Outbox;
use raven_jail::channel::Channel;
use raven_jail::receive::{Blind, CollectorMemory};
use raven_model::control::{FromWorker, Start};
use secrets::Secrets;
use shared::{Limits, Shared};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::LocalSet;

/// The collector.
pub struct Winevent {
    control: Control,
    runtime: Runtime,
}

impl Winevent {
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
        let secrets = Secrets::new(config);
        let shared = Rc::new(Shared::new(memory, wake, Limits::of(config), secrets.door()));
        let (stop, _) = watch::channel(false);
        let (connected, listeners) = (Connected::default(), BTreeMap::new());
        let control = Control { channel, outbox, told, shared, secrets, connected, listeners, stop };
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
