//! The task that delivers one lane of one stream to one destination: attempt, pause, attempt, until it is told to stop.

use crate::attempt::{Event, Failure, Pace};
use crate::dead::DeadLetters;
use crate::lanes::Lane;
use crate::net::Out;
use crate::reader::Reader;
use crate::secrets::Own;
use crate::source::Source;
use crate::standing::Shared;
use crate::{http, informs, nats, relp, session, syslog, udp};
use raven_model::config::{Destination, Kind};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Default of `ack_timeout`: half-open connections are found within seconds, and a receiver may pause a little.
const ACK_TIMEOUT: Duration = Duration::from_secs(8);

/// How long what is under way may take to be acknowledged when told to stop, where the way there works.
pub const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long a backfill lane keeps its connection without work.
const IDLE: Duration = Duration::from_secs(10);

/// Connects to a destination and delivers until that fails or it shall stop, in place of what its kind says: how a
/// simulation speaks to one that it makes up.
pub type Speak<S> = Rc<dyn for<'a> Fn(&'a mut Feed<S>) -> Pin<Box<dyn Future<Output = Ended> + 'a>>>;

/// Everything that an attempt needs.
pub struct Feed<S: Source> {
    /// `site.name`.
    pub device: String,
    /// `uplink.NAME`.
    pub name: String,
    /// Stream name.
    pub stream: String,
    /// Where to and how.
    pub to: Destination,
    /// By which device.
    pub out: Out,
    /// Lengths of pauses.
    pub pace: Pace,
    /// Which of the two lanes this is.
    pub lane: Lane,
    /// Place in the stream.
    pub reader: Reader<S>,
    /// Progress and state, shared with cursors and status.
    pub standing: Shared,
    /// What it refuses.
    pub dead: DeadLetters,
    /// What it trusts and shows.
    pub secrets: Own,
    /// What its two lanes share where they send datagrams.
    pub path: udp::Shared,
    /// How it is spoken to, where its kind does not say.
    pub speak: Option<Speak<S>>,
    /// Set when the task shall end: how long what is under way may still take to be acknowledged.
    pub stop: watch::Receiver<Option<Duration>>,
}

/// How an attempt ended.
pub enum Ended {
    /// Told to stop.
    Stopped,
    /// It went wrong.
    Failed(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl<S: Source> Feed<S> {
    /// Delivers until told to stop.
    pub async fn run(mut self) {
        let mut memory = Memory::default();
        while self.work().await {
            self.reader.rewind();
            let drained = drained(self.lane, Rc::clone(&self.standing));
            let ended = tokio::select! {
                biased;
                ended = self.attempt(&mut memory) => ended,
                () = drained => continue,
            };
            let Ended::Failed(mut failure) = ended else { break };
            if let Some(proxy) = self.to.proxy_address().filter(|proxy| !failure.words.contains(proxy)) {
                // Where a peer is named, it is the proxy.
                failure.words = format!("by way of the proxy {proxy}: {}", failure.words);
            }
            self.reader.rewind();
            let pause = self.standing.borrow_mut().failed(self.lane, failure, &self.pace);
            if self.or_stop(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
            self.event(Event::Due);
        }
        // Whoever comes after sends again what was not acknowledged.
        self.standing.borrow_mut().give_back(self.lane);
        self.event(Event::Stop);
    }

    /// Connects and delivers until that fails or it shall stop.
    async fn attempt(&mut self, memory: &mut Memory) -> Ended {
        if let Some(speak) = self.speak.clone() {
            return speak(self).await;
        }
        match self.to.kind {
            Kind::Relp => relp::attempt(self, &mut memory.session).await,
            Kind::Http | Kind::Otlp | Kind::OtlpMetrics | Kind::RemoteWrite => {
                http::attempt(self, &mut memory.http).await
            }
            Kind::Syslog => syslog::attempt(self).await,
            Kind::Nats => nats::attempt(self, &mut memory.session).await,
            Kind::Udp => udp::attempt(self).await,
            Kind::Snmp => informs::attempt(self, &mut memory.informs).await,
        }
    }

    /// Waits until this lane has something to do; false when told to stop first.
    async fn work(&mut self) -> bool {
        while !self.reader.has_work() {
            self.event(Event::CaughtUp);
            let changed = Rc::clone(&self.standing.borrow().changed);
            tokio::select! {
                biased;
                () = changed.notified() => {}
                () = tokio::time::sleep(IDLE) => {}
                _ = told(&mut self.stop) => return false,
            }
        }
        !self.stopping()
    }

    /// Tells the state machine.
    pub fn event(&self, event: Event) {
        self.standing.borrow_mut().event(self.lane, event, &self.pace);
    }

    /// Where to, `host:port`, in the order in which to try them: after a failure the next one comes first.
    pub fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<String> = self.to.to.split(',').map(|one| one.trim().to_owned()).collect();
        let failures = self.standing.borrow().attempts[self.lane as usize].failures as usize;
        let first = failures % addresses.len();
        addresses.rotate_left(first);
        addresses
    }

    /// Longest wait for a connection.
    pub const fn timeout(&self) -> Duration {
        self.to.timeout.0
    }

    /// How long nothing may be acknowledged before the connection is given up.
    pub fn ack_timeout(&self) -> Duration {
        self.to.ack_timeout.map_or(self.to.timeout.0.min(ACK_TIMEOUT), |wait| wait.0)
    }

    /// Waits for `work`, finding the beginning of the ring meanwhile; `None` when told to stop first.
    pub async fn or_stop<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            _ = told(&mut self.stop) => None,
            never = self.reader.pin() => match never {},
        }
    }

    /// Whether to stop.
    pub fn stopping(&self) -> bool {
        self.stop.borrow().is_some()
    }
}

/// What attempts remember from one to the next.
#[derive(Default)]
struct Memory {
    http: http::Memory,
    session: session::Memory,
    informs: informs::Memory,
}

/// A backfill lane without work for [`IDLE`] needs no connection. Never, for the live lane.
async fn drained(lane: Lane, standing: Shared) {
    let mut since = Instant::now();
    while lane == Lane::Live || since.elapsed() < IDLE {
        tokio::time::sleep(IDLE / 4).await;
        if standing.borrow().has_backfill() {
            since = Instant::now();
        }
    }
}

/// Waits until told to stop, and says how long what is under way may take. A closed channel means that whoever held the
/// other end is gone: stop as well.
pub async fn told(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    stop.wait_for(Option::is_some).await.ok().and_then(|grace| *grace).unwrap_or(STOP_GRACE)
}
