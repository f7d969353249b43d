//! What the connections of this process share. One thread: nothing here is locked, and no borrow is held over an await.

use super::Settings;
use super::credentials::Door;
use super::inbox::{self, Inbox};
use super::reason::{Reason, Refused};
use super::stream::Pulse;
use raven_jail::receive::{Arrived, CollectorMemory, Inspect};
use raven_model::control::Listener;
use raven_model::units::UnixNanos;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// Bytes of bodies that are held at a time. The role may have 512 MiB of data; the buffers of 1024 connections and one
/// body being unpacked come on top.
const BODIES_MAX: usize = 160 << 20;

/// Longest that a request waits for room in the ring.
const ROOM: Duration = Duration::from_secs(3);

/// How often it is looked whether what senders wait for is durable, or whether there is room.
const LOOK: Duration = Duration::from_millis(2);

/// Who is at the other end, and where it came in.
pub struct Peer {
    /// The sender.
    pub source: SocketAddr,
    /// Where it came in.
    pub listener: Rc<Listener>,
    /// What the connection is doing.
    pub pulse: Rc<Pulse>,
}

/// See the top.
pub struct Shared {
    /// The receive memory.
    pub memory: RefCell<CollectorMemory>,
    wake: OwnedFd,
    /// As configured.
    pub settings: Cell<Settings>,
    /// Who may send.
    pub door: RefCell<Door>,
    /// For the report.
    pub inbox: RefCell<Inbox>,
    bodies: Cell<usize>,
    /// Those who wait, by the batch that must become durable, in order.
    waiting: RefCell<VecDeque<(u64, oneshot::Sender<()>)>>,
    appended: Notify,
}

impl Shared {
    /// Around a receive memory; `wake` is the store's.
    pub fn new(memory: CollectorMemory, wake: OwnedFd, settings: Settings, door: Door) -> Self {
        Self {
            memory: RefCell::new(memory),
            wake,
            settings: Cell::new(settings),
            door: RefCell::new(door),
            inbox: RefCell::default(),
            bodies: Cell::new(0),
            waiting: RefCell::default(),
            appended: Notify::new(),
        }
    }

    /// Counts and notes what is not kept.
    pub fn refuse(&self, reason: Reason, peer: &Peer, first_bytes: &[u8]) {
        self.memory.borrow().count_drop(reason as u8);
        self.inbox.borrow_mut().refused(reason, peer.source.ip(), &peer.listener, first_bytes);
    }

    /// Notes what is kept although it is odd.
    pub fn note(&self, what: (&str, &str), count: u64, peer: &Peer, first_bytes: &[u8]) {
        self.inbox.borrow_mut().note(what, count, peer.source.ip(), &peer.listener, first_bytes);
    }

    /// Begins to append the records of a body.
    pub fn appending<'a>(&'a self, peer: &'a Peer) -> Appending<'a> {
        Appending { shared: self, peer, wall: inbox::now(), end: Instant::now() + ROOM, ticket: 0 }
    }

    /// Waits until `ticket` is durable. False when this process ends before.
    async fn durable(&self, ticket: u64) -> bool {
        let (told, waits) = oneshot::channel();
        self.waiting.borrow_mut().push_back((ticket, told));
        self.appended.notify_one();
        waits.await.is_ok()
    }

    /// Hands over what was appended, and tells those who wait for it. What comes in between two looks goes over as one
    /// batch.
    pub async fn publish(&self) {
        loop {
            self.appended.notified().await;
            loop {
                self.hand_over();
                self.release();
                if self.waiting.borrow().is_empty() {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// Publishes what was appended and wakes the store if it asked for that.
    pub fn hand_over(&self) {
        let mut memory = self.memory.borrow_mut();
        memory.hand_over();
        memory.await_published();
        if memory.wants_waking() {
            // The only way this can fail is a counter at its limit, and then the store is awake.
            let _ = nix::unistd::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    fn release(&self) {
        let memory = self.memory.borrow();
        let mut waiting = self.waiting.borrow_mut();
        while let Some((_, told)) = waiting.pop_front_if(|(ticket, _)| memory.is_durable(*ticket)) {
            // Its connection may be gone.
            let _ = told.send(());
        }
    }

    /// Room for a body of no bytes yet.
    pub fn room(self: &Rc<Self>) -> Room {
        Room { shared: Rc::clone(self), bytes: 0 }
    }
}

/// The records of one body, being appended with one time of receipt.
pub struct Appending<'a> {
    shared: &'a Shared,
    peer: &'a Peer,
    wall: UnixNanos,
    end: Instant,
    ticket: u64,
}

impl Appending<'_> {
    /// Appends one record, as `inspect` says. Refused when the ring had no room for too long.
    pub async fn append(&mut self, raw: &[u8], inspect: &mut dyn Inspect) -> Result<(), Refused> {
        let Self { shared, peer, wall, .. } = *self;
        let arrived = Arrived { source: peer.source, listener: peer.listener.id, wall, raw };
        loop {
            let appended = shared.memory.borrow_mut().append(&arrived, inspect);
            match appended {
                Some(ticket) => {
                    self.ticket = ticket;
                    return Ok(());
                }
                None if Instant::now() >= self.end => {
                    return Err(Refused::new(Reason::RingFull, "there is no room: the store is behind"));
                }
                None => {
                    shared.hand_over();
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// Waits until all of them are durable; refused when this process ends before.
    pub async fn durable(self) -> Result<(), Refused> {
        let ends = || Refused::new(Reason::NotReady, "ends before the records are durable");
        // A body may hold none at all.
        if self.ticket == 0 || self.shared.durable(self.ticket).await { Ok(()) } else { Err(ends()) }
    }
}

/// Memory that is counted as taken by a body.
pub struct Room {
    shared: Rc<Shared>,
    bytes: usize,
}

impl Room {
    /// Counts `more` bytes; false when too much is held already.
    pub fn take(&mut self, more: usize) -> bool {
        let sum = self.shared.bodies.get().saturating_add(more);
        if sum > BODIES_MAX {
            return false;
        }
        self.shared.bodies.set(sum);
        self.bytes += more;
        true
    }

    /// Gives back what is over `bytes`.
    pub fn keep(&mut self, bytes: usize) {
        let back = self.bytes.saturating_sub(bytes);
        self.shared.bodies.set(self.shared.bodies.get() - back);
        self.bytes -= back;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.keep(0);
    }
}
