//! One destination's place in a stream: walks the ring from the cursor on, and leaves out what is acknowledged.

use crate::lanes::Lane;
use crate::source::{Piece, Run, Source, SourceError};
use crate::standing::{Place, Shared};
use raven_buffer::Entry;
use raven_model::record::{self, Record};
use raven_model::units::{Seq, UnixNanos};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Pause after the ring could not be read while looking for its beginning.
const PIN_PAUSE: Duration = Duration::from_secs(1);

/// A lane with nothing to do is told when that changes, and looks by itself so often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

type Fetch<R> = Pin<Box<dyn Future<Output = Result<Piece<R>, SourceError>>>>;

/// Whether to hand over more records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// Go on.
    Yes,
    /// This one was taken; stop after it.
    No,
    /// This one was not taken; hand it over again later.
    Undo,
}

/// Reads one stream for one lane of a destination. Holds one block at most.
pub struct Reader<S: Source> {
    source: Rc<S>,
    stream: String,
    standing: Shared,
    lane: Lane,
    run: Option<S::Run>,
    fetch: Option<Fetch<S::Run>>,
    next: Seq,
}

impl<S: Source> Reader<S> {
    /// Begins right above the cursor.
    pub fn new(source: Rc<S>, stream: &str, standing: Shared, lane: Lane) -> Self {
        Self { source, stream: stream.to_owned(), standing, lane, run: None, fetch: None, next: Seq(0) }
    }

    /// Goes back to the first record that is not acknowledged.
    pub fn rewind(&mut self) {
        self.standing.borrow_mut().give_back(self.lane);
        self.next = Seq(0);
        self.place();
    }

    /// Whether records can be taken without waiting.
    pub fn has_run(&mut self) -> bool {
        self.has_retry() || matches!(self.place(), Place::At { .. }) && self.run.is_some()
    }

    fn has_retry(&self) -> bool {
        self.lane == Lane::Backfill && self.standing.borrow().has_retry()
    }

    /// As [`has_run`](Self::has_run), after a look for the next block that does not wait.
    pub fn has_run_now(&mut self) -> bool {
        if !self.has_run() {
            // What is under way stays under way: a later `load` takes it up. An error comes back there, too.
            let load = std::pin::pin!(self.load());
            let _ = load.poll(&mut Context::from_waker(Waker::noop()));
        }
        self.has_run()
    }

    /// Whether this lane has anything to do; what is paced only waits.
    pub fn has_work(&mut self) -> bool {
        self.lane == Lane::Live || self.has_retry() || !matches!(self.place(), Place::Wait(None))
    }

    /// First seq that this lane may still hand out: what lies below is the other's.
    pub fn floor(&self) -> Seq {
        if self.lane == Lane::Live { self.standing.borrow().lanes.split() } else { Seq(0) }
    }

    /// Hands records over until there are no more at hand or `take` has enough.
    pub fn take(&mut self, take: impl FnMut(Seq, &Record<'_>, &str) -> More) {
        self.take_with(|_| {}, take);
    }

    /// As [`take`](Self::take), with the contexts that the records need, each before the first that needs it. One that
    /// was handed over may be handed over again.
    pub fn take_with(
        &mut self,
        mut note: impl FnMut(&record::Context<'_>),
        mut take: impl FnMut(Seq, &Record<'_>, &str) -> More,
    ) {
        if self.has_retry() {
            return self.take_retries(take);
        }
        let Place::At { next, end, bytes, records } = self.place() else { return };
        let Some(run) = &self.run else { return };
        let (mut sum, mut count, mut received) = (0_u64, 0_u64, UnixNanos(0));
        for entry in run.entries_from(next) {
            let (seq, record) = match entry {
                Entry::Record(seq, record) => (seq, record),
                Entry::Context(_, context) => {
                    note(&context);
                    continue;
                }
            };
            if end.is_some_and(|end| seq >= end) || sum >= bytes || count >= records {
                break;
            }
            let covered = self.standing.borrow().progress.covers(seq);
            let more =
                if covered { More::Yes } else { take(seq, &record, run.listener_name(record.received.listener)) };
            if more != More::Undo {
                self.next = seq.plus(1);
                sum += record.raw.len() as u64;
                count += u64::from(!covered);
                received = record.received.wall;
            }
            if more != More::Yes {
                break;
            }
        }
        if run.next() <= self.next {
            self.run = None;
        }
        if next < self.next {
            let span = (next, Seq(self.next.0 - 1));
            self.standing.borrow_mut().handed(self.lane, span, (count, sum), received, Instant::now());
        }
    }

    /// Dead letters that an operator wants sent again: as records, outside the order.
    fn take_retries(&self, mut take: impl FnMut(Seq, &Record<'_>, &str) -> More) {
        loop {
            let Some(letter) = self.standing.borrow_mut().retries.take_next() else { return };
            let more = take(letter.seq, &letter.record(), &letter.listener);
            if more == More::Undo {
                self.standing.borrow_mut().retries.undo(letter.seq);
            }
            if more != More::Yes {
                return;
            }
        }
    }

    /// Waits for the next block. Accounts for what the ring no longer has. May be dropped and called again.
    pub async fn load(&mut self) -> Result<(), SourceError> {
        loop {
            if self.has_retry() {
                return Ok(());
            }
            let until = match self.place() {
                Place::At { .. } if self.run.is_some() => return Ok(()),
                Place::At { end, .. } => {
                    self.fetch(end).await?;
                    continue;
                }
                Place::Wait(until) => until,
            };
            let changed = Rc::clone(&self.standing.borrow().changed);
            let until = until.unwrap_or_else(|| Instant::now() + LOOK_AGAIN);
            tokio::select! {
                biased;
                () = changed.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    async fn fetch(&mut self, end: Option<Seq>) -> Result<(), SourceError> {
        let fetch = self.fetch.get_or_insert_with(|| {
            let (source, stream, from) = (Rc::clone(&self.source), self.stream.clone(), self.next);
            Box::pin(async move { source.piece(&stream, from).await })
        });
        let piece = fetch.await;
        self.fetch = None;
        match piece? {
            Piece::Run(run) => {
                self.standing.borrow_mut().started();
                self.run = Some(run);
            }
            Piece::Gap { next, why } => self.jump(end.map_or(next, |end| next.min(end)), &why),
        }
        Ok(())
    }

    /// For a new destination, finds where the ring begins: from then on, what is evicted was this destination's. Never
    /// returns; dropped when what it runs beside is done.
    pub async fn pin(&mut self) -> std::convert::Infallible {
        while self.standing.borrow().fresh {
            if self.load().await.is_err() {
                tokio::time::sleep(PIN_PAUSE).await;
            }
        }
        std::future::pending().await
    }

    /// The ring has nothing from `self.next` up to `next`. What lies below `self.next` is under way, not gone.
    fn jump(&mut self, next: Seq, why: &str) {
        if next <= self.next {
            return;
        }
        let mut standing = self.standing.borrow_mut();
        let gone = standing.gone_between(self.next, next);
        if gone > 0 {
            eprintln!(
                "uplink: stream {}: {gone} records from seq {} to {} cannot be sent: {why}",
                self.stream,
                self.next,
                next.0 - 1
            );
        }
        self.next = next;
    }

    /// Goes to where this lane may read: the cursor may have moved past its place, the store may have evicted what lay
    /// there, and the live lane may have to jump.
    fn place(&mut self) -> Place {
        let head = self.source.next_seq(&self.stream);
        let place = self.standing.borrow_mut().place(self.lane, self.next, head, Instant::now());
        if let Place::At { next, .. } = place {
            if next != self.next {
                self.fetch = None;
                self.next = next;
            }
            self.run.take_if(|run| next < run.first() || run.next() <= next);
        }
        place
    }
}
