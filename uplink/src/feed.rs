//! The task that delivers one stream to one destination: attempt, pause, attempt, until it is told to stop.

use crate::attempt::{Event, Failure, Pace};
use crate::dead::DeadLetters;
use crate::reader::Reader;
use crate::secrets::Own;
use crate::source::Source;
use crate::standing::Shared;
use crate::{http, nats, relp, syslog};
use raven_model::config::{Destination, Kind};
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;

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
    /// Lengths of pauses.
    pub pace: Pace,
    /// Place in the stream.
    pub reader: Reader<S>,
    /// Progress and state, shared with cursors and status.
    pub standing: Shared,
    /// What it refuses.
    pub dead: DeadLetters,
    /// What it trusts and shows.
    pub secrets: Own,
    /// Becomes true when the task shall end.
    pub stop: watch::Receiver<bool>,
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
        let mut relp = relp::Memory::default();
        let mut http = http::Memory::default();
        let mut nats = relp::Memory::default();
        loop {
            self.reader.rewind();
            let ended = match self.to.kind {
                Kind::Relp => relp::attempt(&mut self, &mut relp).await,
                Kind::Http | Kind::Otlp => http::attempt(&mut self, &mut http).await,
                Kind::Syslog => syslog::attempt(&mut self).await,
                Kind::Nats => nats::attempt(&mut self, &mut nats).await,
            };
            let Ended::Failed(failure) = ended else { break };
            let pause = self.standing.borrow_mut().failed(failure, &self.pace);
            if self.or_stop(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
            self.event(Event::Due);
        }
        self.event(Event::Stop);
    }

    /// Tells the state machine.
    pub fn event(&self, event: Event) {
        self.standing.borrow_mut().event(event, &self.pace);
    }

    /// Longest wait for a connection or an acknowledgement.
    pub const fn timeout(&self) -> Duration {
        self.to.timeout.0
    }

    /// Waits for `work`, finding the beginning of the ring meanwhile; `None` when told to stop first.
    pub async fn or_stop<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = told(&mut self.stop) => None,
            never = self.reader.pin() => match never {},
        }
    }

    /// Whether to stop.
    pub fn stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Waits until told to stop. A closed channel means that whoever held the other end is gone: stop as well.
pub async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
