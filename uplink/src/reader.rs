//! One destination's place in a stream: walks the ring from the cursor on, and leaves out what is acknowledged.

use crate::source::{Piece, Run, Source, SourceError};
use crate::standing::Shared;
use raven_model::record::Record;
use raven_model::units::Seq;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

/// Pause after the ring could not be read while looking for its beginning.
const PIN_PAUSE: Duration = Duration::from_secs(1);

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

/// Reads one stream for one destination. Holds one block at most.
pub struct Reader<S: Source> {
    source: Rc<S>,
    stream: String,
    standing: Shared,
    run: Option<S::Run>,
    fetch: Option<Fetch<S::Run>>,
    next: Seq,
}

impl<S: Source> Reader<S> {
    /// Begins right above the cursor.
    pub fn new(source: Rc<S>, stream: &str, standing: Shared) -> Self {
        let next = standing.borrow().progress.low().plus(1);
        Self { source, stream: stream.to_owned(), standing, run: None, fetch: None, next }
    }

    /// Goes back to the first record that is not acknowledged.
    pub fn rewind(&mut self) {
        self.next = Seq(0);
        self.keep_above_cursor();
    }

    /// Whether records can be taken without waiting.
    pub fn has_run(&mut self) -> bool {
        self.keep_above_cursor();
        self.run.is_some()
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

    /// Hands records over until there are no more at hand or `take` has enough.
    pub fn take(&mut self, mut take: impl FnMut(Seq, &Record<'_>, &str) -> More) {
        self.keep_above_cursor();
        let Some(run) = &self.run else { return };
        for (seq, record) in run.records_from(self.next) {
            let covered = self.standing.borrow().progress.covers(seq);
            let more =
                if covered { More::Yes } else { take(seq, &record, run.listener_name(record.received.listener)) };
            if more != More::Undo {
                self.next = seq.plus(1);
            }
            if more != More::Yes {
                break;
            }
        }
        if run.next() <= self.next {
            self.run = None;
        }
    }

    /// Waits for the next block. Accounts for what the ring no longer has. May be dropped and called again.
    pub async fn load(&mut self) -> Result<(), SourceError> {
        self.keep_above_cursor();
        if self.run.is_some() {
            return Ok(());
        }
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
            Piece::Gap { next, why } => self.jump(next, &why),
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

    /// The cursor may have moved past this place: the store evicted what lay here.
    fn keep_above_cursor(&mut self) {
        let lowest = self.standing.borrow().progress.low().plus(1);
        if self.next < lowest {
            self.next = lowest;
            self.fetch = None;
        }
        let next = self.next;
        self.run.take_if(|run| next < run.first() || run.next() <= next);
    }
}
