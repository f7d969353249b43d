//! The history's thread: a disk that is slow holds up nobody but it.

use raven_model::diag::schedule::{DiagRecord, HistoryRow, HistoryStatus};
use raven_model::units::UnixNanos;
use raven_netdiag::schedule::history::{BYTES, History};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Rows that wait for the disk; what comes beyond that is counted.
const WAITING: usize = 1024;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often what is too old is looked for.
const TIDY: Duration = Duration::from_mins(10);

/// What the thread is asked.
enum Ask {
    Keep(Box<HistoryRow>),
    Rows { schedule: String, since: UnixNanos, most: u32, to: SyncSender<Result<Vec<HistoryRow>, String>> },
}

/// The way to the thread.
#[derive(Clone)]
pub struct Keeper {
    to: SyncSender<Ask>,
    status: Arc<Mutex<Status>>,
}

#[derive(Default)]
struct Status {
    file: HistoryStatus,
    /// Rows for which there was no room on the way.
    turned_away: u64,
}

impl Keeper {
    /// With the file in this directory.
    pub fn start(directory: &Path) -> std::io::Result<Self> {
        let (to, asked) = sync_channel(WAITING);
        let status = Arc::<Mutex<Status>>::default();
        let (directory, told) = (directory.to_owned(), Arc::clone(&status));
        let serve = move || serve(&mut History::open(&directory, BYTES), &asked, &told);
        std::thread::Builder::new().name("history".to_owned()).spawn(serve)?;
        Ok(Self { to, status })
    }

    /// Keeps what a test came to.
    pub fn keep(&self, record: &DiagRecord) {
        if self.to.try_send(Ask::Keep(Box::new(HistoryRow::of(record)))).is_err() {
            lock(&self.status).turned_away += 1;
        }
    }

    /// Results of a schedule.
    pub fn rows(&self, schedule: &str, since: UnixNanos, most: u32) -> Result<Vec<HistoryRow>, String> {
        self.rows_by(schedule, since, most, PATIENCE)
    }

    fn rows_by(
        &self,
        schedule: &str,
        since: UnixNanos,
        most: u32,
        patience: Duration,
    ) -> Result<Vec<HistoryRow>, String> {
        let busy = || "the history does not answer: its disk is slow".to_owned();
        let (to, answer) = sync_channel(1);
        let ask = Ask::Rows { schedule: schedule.to_owned(), since, most, to };
        self.to.try_send(ask).map_err(|_| busy())?;
        answer.recv_timeout(patience).map_err(|_| busy())?
    }

    /// The newest of them; none where the history does not answer until then.
    pub fn newest(&self, schedule: &str, most: u32, until: Instant) -> Vec<HistoryRow> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() { Vec::new() } else { self.rows_by(schedule, UnixNanos(0), most, left).unwrap_or_default() }
    }

    /// What is to be told of it.
    pub fn status(&self) -> HistoryStatus {
        let status = lock(&self.status);
        HistoryStatus { lost: status.file.lost + status.turned_away, ..status.file.clone() }
    }
}

fn lock(status: &Mutex<Status>) -> std::sync::MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(history: &mut History, asked: &Receiver<Ask>, told: &Mutex<Status>) {
    let mut next_tidy = Instant::now();
    loop {
        if next_tidy <= Instant::now() {
            next_tidy = Instant::now() + TIDY;
            history.forget_old(raven_collectors::session::now());
        }
        lock(told).file = history.status();
        match asked.recv_timeout(TIDY) {
            Ok(Ask::Keep(row)) => history.keep(&row),
            // Who asked may be gone.
            Ok(Ask::Rows { schedule, since, most, to }) => drop(to.try_send(history.rows(&schedule, since, most))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
