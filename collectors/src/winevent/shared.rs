//! What the connections of this process share. One thread: nothing here is locked, and no borrow is held over an await.

use super::credentials::Door;
use super::inbox::{self, Inbox};
use super::reason::Reason;
use super::stream::Pulse;
use raven_jail::receive::{Arrived, Blind, CollectorMemory};
use raven_model::config::Config;
use raven_model::control::Listener;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
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

/// What is configured of it.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest body, packed and unpacked.
    pub body: usize,
    /// Longest event that is not noted.
    pub event: usize,
}

impl Limits {
    /// As configured.
    pub const fn of(config: &Config) -> Self {
        let winevent = &config.collect.winevent;
        Self { body: winevent.body_limit.0 as usize, event: winevent.event_limit.0 as usize }
    }
}

/// See the top.
pub struct Shared {
    /// The receive memory.
    pub memory: RefCell<CollectorMemory>,
    wake: OwnedFd,
    /// As configured.
    pub limits: Cell<Limits>,
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
    pub fn new(memory: CollectorMemory, wake: OwnedFd, limits: Limits, door: Door) -> Self {
        Self {
            memory: RefCell::new(memory),
            wake,
            limits: Cell::new(limits),
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

    /// Appends the events of a body. Returns the batch that must become durable; `None` when the ring had no room for
    /// too long.
    pub async fn append(&self, peer: &Peer, body: &[u8], events: &[Range<usize>]) -> Option<u64> {
        let (wall, end) = (inbox::now(), Instant::now() + ROOM);
        let mut ticket = 0;
        for range in events {
            let raw = &body[range.clone()];
            let arrived = Arrived { source: peer.source, listener: peer.listener.id, wall, raw };
            ticket = loop {
                let appended = self.memory.borrow_mut().append(&arrived, &mut Blind);
                match appended {
                    Some(ticket) => break ticket,
                    None if Instant::now() >= end => return None,
                    None => {
                        self.hand_over();
                        tokio::time::sleep(LOOK).await;
                    }
                }
            };
        }
        Some(ticket)
    }

    /// Waits until `ticket` is durable. False when this process ends before.
    pub async fn durable(&self, ticket: u64) -> bool {
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
