//! The role `schedule`: makes the tests of the configuration when their time has come.
//!
//! It is the collector of stream `diag`: what a test comes to goes the way of all records, and is kept and delivered like them.
//! When what is made is decided by [`Plan`], from when on it is told by [`Judge`], and the engines are those of the `diag` role;
//! here they are joined. Each test is a thread that ends when its lifeline is closed, the history is one ([`keeper`]), and so is
//! each operator's question ([`client`]). None of them is waited for.

mod book;
mod client;
mod keeper;

use book::Book;
use client::{Answer, Asked};
use keeper::Keeper;
use nix::time::{ClockId, clock_gettime};
use raven_collectors::CollectorError;
use raven_collectors::session::now as wall_now;
use raven_collectors::speaker::{HEARTBEAT, Speaker};
use raven_jail::channel::Channel;
use raven_jail::receive::{Arrived, Contexts, Inspect, Verdict};
use raven_model::config::{Config, Schedule as Wanted};
use raven_model::control::{Start, ToWorker};
use raven_model::diag::Test;
use raven_model::diag::schedule::{DiagRecord, ScheduleOrder, ScheduleReport, Trigger};
use raven_model::report::UplinkReport;
use raven_model::table::Role;
use raven_netdiag::failure::Failure;
use raven_netdiag::schedule::plan::{Now, Plan, Step};
use raven_netdiag::schedule::quiet::{Heard, make_quietly};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// A test that takes longer is ended.
const LONGEST: Duration = Duration::from_mins(15);
/// How long the history may take to say where thresholds stood: without an answer they are not known.
const HISTORY: Duration = Duration::from_secs(4);

/// What threads of this role say to it; each rings the bell.
enum Said {
    /// A test has ended.
    Ended { name: String, number: u64, came: Box<Result<Heard, Failure>> },
    /// An operator asks.
    Asked(Asked),
}

/// The end of the way to the role that its threads hold.
struct Door {
    to: Sender<Said>,
    bell: UnixStream,
}

impl Door {
    fn say(&self, said: Said) {
        if self.to.send(said).is_ok() {
            // A full socket has rung already.
            let _ = (&self.bell).write(&[1]);
        }
    }

    fn try_clone(&self) -> std::io::Result<Self> {
        Ok(Self { to: self.to.clone(), bell: self.bell.try_clone()? })
    }
}

/// A test under way.
struct Run {
    /// Tells it from the one before under the same name.
    number: u64,
    trigger: Trigger,
    missed: u64,
    began: Instant,
    /// Closed, the test ends.
    lifeline: Option<UnixStream>,
    /// It is not made to its end, and why.
    broken: Option<String>,
}

/// The role's state.
pub struct Schedule {
    speaker: Speaker,
    directory: PathBuf,
    plan: Plan,
    wanted: BTreeMap<String, Wanted>,
    books: BTreeMap<String, Book>,
    running: BTreeMap<String, Run>,
    runs: u64,
    /// Operators who wait for a test that they asked for.
    waiting: BTreeMap<String, Vec<Sender<Answer>>>,
    catching_up: bool,
    inbox: Receiver<Said>,
    bell: UnixStream,
    door: Door,
    next_heartbeat: Instant,
}

/// The store keeps nothing for this role.
struct Nothing;

impl Inspect for Nothing {
    fn recall(&mut self, _: &[u8]) {}

    fn begin(&mut self) {}

    fn inspect(&mut self, _: &Arrived<'_>, _: &mut Contexts) -> Verdict {
        Verdict::Keep
    }
}

impl Schedule {
    /// Takes over the receive memory that `start` names; `fds` are the descriptors beside it.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, ours: Channel, epoch: u64) -> Result<Self, CollectorError> {
        let io = |error| CollectorError::Io("the bell of the schedule role", error);
        let (bell, theirs) = UnixStream::pair().map_err(io)?;
        bell.set_nonblocking(true).map_err(io)?;
        theirs.set_nonblocking(true).map_err(io)?;
        let (to, inbox) = channel();
        Ok(Self {
            speaker: Speaker::of(start, fds, ours, epoch, &mut Nothing)?,
            directory: start.data.join("diag"),
            plan: Plan::new(start.device.clone()),
            wanted: start.config.as_deref().map(schedules).unwrap_or_default(),
            books: BTreeMap::new(),
            running: BTreeMap::new(),
            runs: 0,
            waiting: BTreeMap::new(),
            catching_up: false,
            inbox,
            bell,
            door: Door { to, bell: theirs },
            next_heartbeat: Instant::now(),
        })
    }

    /// Says that the jail is closed and the work begins.
    pub fn ready(self, missing: Vec<String>) -> Result<Self, CollectorError> {
        self.speaker.ready(missing)?;
        Ok(self)
    }

    /// Makes tests until `ravend` says stop or is gone.
    pub fn run(mut self) -> Result<(), CollectorError> {
        let keeper = Keeper::start(&self.directory).map_err(|error| CollectorError::Io("a thread", error))?;
        self.configure(&keeper);
        while !self.speaker.stopping {
            self.round(&keeper)?;
        }
        // Lifelines go with it, and tests under way with them.
        self.speaker.finish("schedule");
        Ok(())
    }

    fn round(&mut self, keeper: &Keeper) -> Result<(), CollectorError> {
        if self.next_heartbeat <= Instant::now() {
            self.next_heartbeat = Instant::now() + HEARTBEAT;
            let report = self.report(keeper);
            self.speaker.heartbeat(serde_json::value::to_raw_value(&report))?;
        }
        while let Ok(said) = self.inbox.try_recv() {
            match said {
                Said::Ended { name, number, came } => self.ended(&name, number, *came, keeper),
                Said::Asked(asked) => self.asked(asked, keeper),
            }
        }
        for step in self.plan.step(now(), self.catching_up) {
            match step {
                Step::Begin { name, trigger, missed } => self.begin(&name, trigger, missed, keeper),
                Step::Skip { name, why } => self.skip(&name, &why.to_string(), keeper),
                Step::Break { name, why } => {
                    if let Some(run) = self.running.get_mut(&name) {
                        (run.lifeline, run.broken) = (None, Some(why.to_string()));
                    }
                }
            }
        }
        for run in self.running.values_mut().filter(|run| run.began.elapsed() >= LONGEST) {
            // It says itself that it has ended.
            run.lifeline = None;
        }
        self.speaker.hand_over();
        let rest = self.plan.rest(now()).map(|rest| Instant::now() + rest);
        let until = rest.into_iter().fold(self.next_heartbeat, Instant::min);
        if self.speaker.wait_also(until, Some(self.bell.as_fd()))? {
            for (message, fds) in self.speaker.hear_all()? {
                self.obey(message, fds, keeper);
            }
        }
        let mut rung = [0; 64];
        while matches!(self.bell.read(&mut rung), Ok(1..)) {}
        Ok(())
    }

    fn obey(&mut self, message: ToWorker, fds: Vec<OwnedFd>, keeper: &Keeper) {
        match message {
            ToWorker::Configure(config) => {
                self.wanted = schedules(&config);
                self.configure(keeper);
            }
            ToWorker::ScheduleClient { run } => {
                for fd in fds {
                    let door = self.door.try_clone();
                    // Without a descriptor or a thread the operator finds the connection closed.
                    let _ = door.map(|door| client::serve(UnixStream::from(fd), run, door, keeper.clone()));
                }
            }
            ToWorker::Report { role: Role::Uplink, report } => {
                match serde_json::from_str::<UplinkReport>(report.get()) {
                    Ok(report) => self.catching_up = is_catching_up(&report),
                    Err(error) => eprintln!("raven-worker schedule: the uplink's report cannot be read: {error}"),
                }
            }
            _ => {}
        }
    }

    /// Puts `wanted` into force.
    fn configure(&mut self, keeper: &Keeper) {
        self.plan.configure(&self.wanted, now());
        self.running.retain(|name, _| self.wanted.contains_key(name));
        for (name, asking) in std::mem::take(&mut self.waiting) {
            if self.wanted.contains_key(&name) {
                self.waiting.insert(name, asking);
            }
        }
        let (until, mut before) = (Instant::now() + HISTORY, std::mem::take(&mut self.books));
        for (name, wanted) in &self.wanted {
            let book = before.remove(name).filter(|book| book.is_of(wanted));
            let book = book.or_else(|| Book::new(name, wanted, keeper, until));
            self.books.extend(book.map(|book| (name.clone(), book)));
        }
    }

    fn begin(&mut self, name: &str, trigger: Trigger, missed: u64, keeper: &Keeper) {
        let test = self.wanted.get(name).and_then(Wanted::test);
        self.runs += 1;
        let begun = test.ok_or_else(|| "there is no such test".to_owned()).and_then(|test| {
            start_test(name, self.runs, test, &self.door).map_err(|error| format!("no thread for it: {error}"))
        });
        match begun {
            Ok(lifeline) => {
                let run = Run {
                    number: self.runs,
                    trigger,
                    missed,
                    began: Instant::now(),
                    lifeline: Some(lifeline),
                    broken: None,
                };
                self.running.insert(name.to_owned(), run);
            }
            Err(why) => {
                self.plan.ended(name);
                let why = Failure::Refused(why);
                let record = self.tell(name, keeper, |book| book.ended(Err(why), Duration::ZERO, trigger, missed));
                self.answer(name, record.as_ref());
            }
        }
    }

    fn ended(&mut self, name: &str, number: u64, came: Result<Heard, Failure>, keeper: &Keeper) {
        // What a change of the configuration ended is not told.
        let Some(run) = self.running.get(name).filter(|run| run.number == number) else { return };
        let (took, trigger, missed, broken) = (run.began.elapsed(), run.trigger, run.missed, run.broken.clone());
        self.running.remove(name);
        self.plan.ended(name);
        // One that came to its end all the same is a result.
        if let (Some(why), Err(_)) = (broken, &came) {
            return self.skip(name, &why, keeper);
        }
        let record = self.tell(name, keeper, |book| book.ended(came, took, trigger, missed));
        self.answer(name, record.as_ref());
    }

    fn skip(&mut self, name: &str, why: &str, keeper: &Keeper) {
        let record = self.tell(name, keeper, |book| book.skipped(why));
        // One that was skipped beside the one that was asked for answers nothing.
        if self.plan.state(name) == (false, false) {
            self.answer(name, record.as_ref());
        }
    }

    /// A record: to the store and to the history.
    fn tell(&mut self, name: &str, keeper: &Keeper, write: impl FnOnce(&mut Book) -> DiagRecord) -> Option<DiagRecord> {
        let record = write(self.books.get_mut(name)?);
        self.speaker.keep(record.t, record.line(), None);
        keeper.keep(&record);
        Some(record)
    }

    /// To who waits for it.
    fn answer(&mut self, name: &str, record: Option<&DiagRecord>) {
        for (asking, record) in self.waiting.remove(name).into_iter().flatten().zip(record.into_iter().cycle()) {
            let _ = asking.send(Answer::Record(Box::new(record.clone())));
        }
    }

    fn asked(&mut self, asked: Asked, keeper: &Keeper) {
        let answer = match asked.order {
            ScheduleOrder::List => Answer::Report(Box::new(self.report(keeper))),
            ScheduleOrder::Run { schedule } if !self.wanted.contains_key(&schedule) => {
                Answer::Refused(format!("there is no `diag.schedule.{schedule}` in the configuration"))
            }
            ScheduleOrder::Run { schedule } => {
                if self.plan.ask(&schedule, now()) {
                    self.waiting.entry(schedule).or_default().push(asked.to);
                    return;
                }
                Answer::Refused(format!("`{schedule}` runs already"))
            }
            ScheduleOrder::History { .. } => return,
        };
        let _ = asked.to.send(answer);
    }

    fn report(&self, keeper: &Keeper) -> ScheduleReport {
        let one = |(name, wanted): (&String, &Wanted)| {
            let (running, waiting) = self.plan.state(name);
            let next = self.plan.due_in(name, now()).map(|next| next.as_secs());
            Some(self.books.get(name)?.status(wanted, next, running, waiting))
        };
        ScheduleReport {
            collector: self.speaker.report(),
            schedules: self.wanted.iter().filter_map(one).collect(),
            history: keeper.status(),
        }
    }
}

fn schedules(config: &Config) -> BTreeMap<String, Wanted> {
    config.diag.schedule.clone()
}

/// A destination gets what it missed. One that cannot be reached takes nothing of the way.
fn is_catching_up(report: &UplinkReport) -> bool {
    let moves = |state: &str| ["sending", "idle"].contains(&state);
    report.destinations.iter().any(|status| status.backfill.records > 0 && moves(&status.backfill.state))
}

fn now() -> Now {
    let steady = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    Now { steady, wall_s: (wall_now().0 / 1_000_000_000).cast_signed() }
}

/// Makes a test in a thread of its own; what ends it when it is closed.
fn start_test(name: &str, number: u64, test: Test, door: &Door) -> std::io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let (door, name) = (door.try_clone()?, name.to_owned());
    let make = move || {
        let came = make_quietly(&test, theirs);
        door.say(Said::Ended { name, number, came: Box::new(came) });
    };
    std::thread::Builder::new().name("test".to_owned()).spawn(make)?;
    Ok(ours)
}
