//! Operators' questions: each is a thread for as long as its answer takes.

use super::keeper::Keeper;
use super::{Door, Said};
use raven_model::diag::schedule::{DiagRecord, ScheduleOrder, ScheduleReport};
use raven_netdiag::session::{Gone, Session};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Questions at a time.
const CLIENTS: usize = 16;
/// How often it is looked whether who asked is there still.
const LOOK: Duration = Duration::from_millis(500);

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// What is asked of the role itself.
pub struct Asked {
    /// What.
    pub order: ScheduleOrder,
    /// The answer goes there.
    pub to: Sender<Answer>,
}

/// What the role answers.
pub enum Answer {
    /// To [`ScheduleOrder::List`].
    Report(Box<ScheduleReport>),
    /// To [`ScheduleOrder::Run`], when the test has ended.
    Record(Box<DiagRecord>),
    /// Nothing is done.
    Refused(String),
}

/// Answers in a thread of its own.
pub(super) fn serve(stream: UnixStream, may_run: bool, door: Door, keeper: Keeper) {
    let Ok(session) = Session::new(stream) else { return };
    let is_full = RUNNING.fetch_add(1, Ordering::Relaxed) >= CLIENTS;
    let serve = move || {
        // Who is gone is told nothing.
        let _ = answer(session, may_run, is_full, &door, &keeper);
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    };
    if std::thread::Builder::new().name("client".to_owned()).spawn(serve).is_err() {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

fn answer(mut session: Session, may_run: bool, is_full: bool, door: &Door, keeper: &Keeper) -> Result<(), Gone> {
    let line = session.order()?;
    let order = match serde_json::from_slice::<ScheduleOrder>(&line) {
        _ if is_full => return session.refuse(format!("{CLIENTS} questions are being answered: ask again")),
        Err(error) => return session.refuse(format!("not a question that this raven knows: {error}")),
        Ok(ScheduleOrder::Run { .. }) if !may_run => {
            return session.refuse("this connection is for looking alone".to_owned());
        }
        Ok(ScheduleOrder::History { schedule, since, rows }) => {
            let rows = rows.clamp(1, ScheduleOrder::ROWS);
            return match keeper.rows(&schedule, since, rows) {
                Ok(rows) => {
                    rows.iter().try_for_each(|row| session.say(row))?;
                    session.done()
                }
                Err(why) => session.refuse(why),
            };
        }
        Ok(order) => order,
    };
    let (to, answers) = channel();
    door.say(Said::Asked(Asked { order, to }));
    loop {
        match answers.recv_timeout(LOOK) {
            Ok(Answer::Report(report)) => session.say(&report)?,
            Ok(Answer::Record(record)) => session.say(&record)?,
            Ok(Answer::Refused(why)) => return session.refuse(why),
            Err(RecvTimeoutError::Timeout) if session.is_gone() => return Err(Gone),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => {
                return session.refuse("it is in the configuration no more".to_owned());
            }
        }
        return session.done();
    }
}
