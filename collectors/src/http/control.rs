//! What obeys `ravend`: listeners, connections, configuration, secrets, and the end.

use super::Intake;
use super::connection;
use super::outbox::Outbox;
use super::reason::Reason;
use super::secrets::Secrets;
use super::shared::{Peer, Shared};
use super::stream::{Phase, Pulse, Socket};
use crate::CollectorError;
use raven_jail::channel::{Channel, ChannelError};
use raven_model::control::{Connection, FromWorker, Listener, ListenerId, PACKET_MAX, Proto, ToWorker};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Longest that a graceful stop waits for requests under way; `ravend` waits a little longer for the collector.
const STOP: Duration = Duration::from_secs(10);

/// Connections by their id.
pub type Connected = Rc<RefCell<HashMap<u32, Task>>>;

/// A connection being served.
pub struct Task {
    /// Who it is with.
    pub peer: Rc<Peer>,
    /// Ends it.
    pub abort: AbortHandle,
}

/// Tells `ravend` when a connection is over, however it ended. Dropped behind the socket.
struct Held {
    id: u32,
    connected: Connected,
    outbox: Rc<Outbox>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.connected.borrow_mut().remove(&self.id);
        self.outbox.say(FromWorker::Closed { connection: self.id });
    }
}

/// What obeys `ravend`.
pub struct Control<I> {
    /// Non-blocking.
    pub channel: Rc<Channel>,
    /// What is said over it.
    pub outbox: Rc<Outbox>,
    /// The same socket, to wait for.
    pub told: UnixStream,
    /// What connections share.
    pub shared: Rc<Shared>,
    /// As passed.
    pub secrets: Secrets,
    /// Live connections.
    pub connected: Connected,
    /// Bound listeners.
    pub listeners: BTreeMap<ListenerId, Rc<Listener>>,
    /// Says that no more requests are to be taken.
    pub stop: watch::Sender<bool>,
    /// What bodies it takes.
    pub intake: PhantomData<I>,
}

impl<I: Intake> Control<I> {
    /// Until `ravend` says stop or is gone.
    pub async fn obey_all(&mut self) -> Result<(), CollectorError> {
        let mut packet = vec![0; PACKET_MAX];
        loop {
            let received =
                self.told.try_io(Interest::READABLE, || match self.channel.try_recv_json::<ToWorker>(&mut packet) {
                    Err(ChannelError::Io(error)) => Err(error),
                    received => Ok(received),
                });
            let message = match received {
                Ok(received) => received?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.told.readable().await.map_err(|error| CollectorError::Io("epoll", error))?;
                    continue;
                }
                Err(error) => return Err(ChannelError::from(error).into()),
            };
            let Some((message, fds)) = message else { return Ok(()) };
            if matches!(message, ToWorker::Stop) {
                return Ok(());
            }
            self.obey(message, fds)?;
        }
    }

    fn obey(&mut self, message: ToWorker, fds: Vec<OwnedFd>) -> Result<(), CollectorError> {
        match message {
            ToWorker::Listen(listener) => drop(self.listeners.insert(listener.id, Rc::new(listener))),
            ToWorker::Unlisten(id) => drop(self.listeners.remove(&id)),
            ToWorker::Connection(connection) => {
                let none = || CollectorError::Setup("a connection without a descriptor".to_owned());
                self.connect(&connection, fds.into_iter().next().ok_or_else(none)?)?;
            }
            ToWorker::Configure(config) => {
                let settings = I::settings(&config);
                self.secrets.configure(settings);
                self.shared.settings.set(settings);
                *self.shared.door.borrow_mut() = self.secrets.door();
            }
            ToWorker::Secrets(names) => {
                self.secrets.take(names.into_iter().zip(fds));
                *self.shared.door.borrow_mut() = self.secrets.door();
            }
            ToWorker::Stop => {}
            ToWorker::Start(_)
            | ToWorker::Client
            | ToWorker::Listeners(_)
            | ToWorker::Mibs
            | ToWorker::Dropped(_)
            | ToWorker::Own(_)
            | ToWorker::Report { .. }
            | ToWorker::Bundle { .. }
            | ToWorker::Slot(_)
            | ToWorker::Staged(_)
            | ToWorker::Networkd(_)
            | ToWorker::Audit(_)
            | ToWorker::Tun(_)
            | ToWorker::VpnClient { .. }
            | ToWorker::Tapped { .. }
            | ToWorker::ScheduleClient { .. }
            | ToWorker::ProgramStarted { .. }
            | ToWorker::ProgramEnded { .. }
            | ToWorker::Carrier(_)
            | ToWorker::Acknowledged { .. } => {
                return Err(CollectorError::Setup("a message that a collector does not take".to_owned()));
            }
        }
        Ok(())
    }

    fn connect(&self, connection: &Connection, socket: OwnedFd) -> Result<(), CollectorError> {
        let id = connection.id;
        let held = Held { id, connected: Rc::clone(&self.connected), outbox: Rc::clone(&self.outbox) };
        let Some(listener) = self.listeners.get(&connection.listener).map(Rc::clone) else {
            self.shared.memory.borrow().count_drop(Reason::Unserved as u8);
            return Ok(());
        };
        let secure = listener.proto == Proto::Https;
        let pulse = Rc::new(Pulse::new(if secure { Phase::Handshake } else { Phase::Idle }));
        let peer = Rc::new(Peer { source: connection.peer, listener, pulse });
        let tls = if secure { self.secrets.tls() } else { None };
        if secure && tls.is_none() {
            self.shared.refuse(Reason::NoCertificate, &peer, &[]);
            return Ok(());
        }
        let socket = Rc::new(Socket::new(socket).map_err(|error| CollectorError::Io("epoll", error))?);
        let serve =
            connection::serve::<I>(Rc::clone(&self.shared), Rc::clone(&peer), socket, tls, self.stop.subscribe());
        let task = tokio::task::spawn_local(async move {
            let _held = held;
            serve.await;
        });
        self.connected.borrow_mut().insert(id, Task { peer, abort: task.abort_handle() });
        Ok(())
    }

    /// Takes no more requests, and waits for those under way to become durable and be answered.
    pub async fn finish(&self) {
        let _ = self.stop.send(true);
        let end = Instant::now() + STOP;
        while !self.connected.borrow().values().all(|task| task.peer.pulse.phase() == Phase::Closing) {
            if Instant::now() >= end {
                let left = self.connected.borrow().len();
                eprintln!(
                    "raven-worker {}: stopped with {left} connections in the middle: their senders repeat what was not answered",
                    I::STREAM
                );
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.shared.hand_over();
    }
}
