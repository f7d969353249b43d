//! What is made when: pure, of two clocks and of what runs.
//!
//! Intervals go by the steady clock, so that a clock that is set moves none of them; times of day go by the wall clock, and one
//! that it jumped over is skipped. What is due waits while something stands against it: an exclusive test until nothing runs,
//! the others while an exclusive one runs or waits before them, so that neither starves. It waits until its next time, five
//! minutes at most, and is skipped then: runs never pile up.

use raven_model::config::Schedule;
use raven_model::diag::cron::Cron;
use raven_model::diag::schedule::Trigger;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Tests at a time.
const AT_ONCE: usize = 16;
/// Longest time that a test waits for others.
const PATIENCE: Duration = Duration::from_mins(5);
/// Boxes that have the same configuration begin within so long of each other, and not at once: a tenth of the interval where that
/// is less.
const SPREAD: Duration = Duration::from_secs(30);
/// A time of day for which it is later than this is over, seconds.
const LATE_S: i64 = 60;

/// Both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the machine was started, sleep among it.
    pub steady: Duration,
    /// Seconds since 1970.
    pub wall_s: i64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make this test.
    Begin {
        /// Which schedule.
        name: String,
        /// Why.
        trigger: Trigger,
        /// Runs before it for which it is too late.
        missed: u64,
    },
    /// It was due and is not made.
    Skip {
        /// Which schedule.
        name: String,
        /// Why.
        why: Reason,
    },
    /// It is being made, and is to be broken off. Said again until it has [`ended`](Plan::ended).
    Break {
        /// Which schedule.
        name: String,
        /// Why.
        why: Reason,
    },
}

/// Why a test that was due is not made, or not to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The run before has not ended.
    Running,
    /// Others took too long.
    Waited,
    /// A destination gets what it missed, and bandwidth would be taken from that.
    CatchingUp,
    /// The clock was set beyond its time, or the machine slept then.
    Late,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "the run before has not ended",
            Self::Waited => "other tests took too long",
            Self::CatchingUp => "the uplink is catching up",
            Self::Late => "its time was over: the clock was set, or the machine was held up",
        })
    }
}

/// When a schedule is due, and what stands against it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    when: When,
    is_exclusive: bool,
    /// It is not made while the uplink catches up.
    yields: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum When {
    Every(Duration),
    At(Cron),
    Never,
}

impl Rule {
    fn of(schedule: &Schedule) -> Self {
        let when = match (schedule.every, &schedule.at) {
            (Some(every), _) if !every.0.is_zero() => When::Every(every.0),
            (_, Some(at)) => When::At(at.clone()),
            _ => When::Never,
        };
        let is_bandwidth = schedule.bandwidth.is_some();
        let yields = is_bandwidth && !schedule.even_while_catching_up;
        Self { when, is_exclusive: schedule.is_exclusive(), yields }
    }
}

/// When it is due next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Steady(Duration),
    /// To the minute; it begins a little later.
    Wall {
        minute_s: i64,
    },
    Never,
}

/// It was due.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    trigger: Trigger,
    missed: u64,
    /// Skipped then.
    until: Duration,
    /// Who waits longer comes first.
    turn: u64,
}

#[derive(Debug)]
struct Entry {
    rule: Rule,
    due: Due,
    /// Of this box: seconds after the minute at which it begins.
    spread_s: i64,
    /// It is being made, and why.
    running: Option<Trigger>,
    waiting: Option<Waiting>,
}

/// All schedules.
#[derive(Debug)]
pub struct Plan {
    /// Tells this box from others.
    seed: String,
    entries: BTreeMap<String, Entry>,
    turns: u64,
    /// The wall clock when it was looked at last.
    wall_s: Option<i64>,
}

impl Plan {
    /// Without schedules, of the box of that name.
    pub const fn new(seed: String) -> Self {
        Self { seed, entries: BTreeMap::new(), turns: 0, wall_s: None }
    }

    /// From now on these. What is due when does not change for those that stay as they are.
    pub fn configure(&mut self, schedules: &BTreeMap<String, Schedule>, now: Now) {
        let mut before = std::mem::take(&mut self.entries);
        for (name, schedule) in schedules {
            let rule = Rule::of(schedule);
            let entry = match before.remove(name) {
                Some(entry) if entry.rule == rule => entry,
                other => {
                    let running = other.and_then(|entry| entry.running);
                    Entry { running, ..self.entry(name, rule, schedule.bandwidth.is_some(), now) }
                }
            };
            self.entries.insert(name.clone(), entry);
        }
    }

    fn entry(&self, name: &str, rule: Rule, waits: bool, now: Now) -> Entry {
        let most = match &rule.when {
            When::Every(every) => SPREAD.min(*every / 10),
            When::At(_) | When::Never => SPREAD,
        };
        let spread = Duration::from_millis(hash(&self.seed, name) % (most.as_millis() as u64).max(1));
        let due = match &rule.when {
            // What is dear does not begin anew with each process.
            When::Every(every) => Due::Steady(now.steady + spread + if waits { *every } else { Duration::ZERO }),
            When::At(at) => at.next_after(now.wall_s).map_or(Due::Never, |minute_s| Due::Wall { minute_s }),
            When::Never => Due::Never,
        };
        Entry { rule, due, spread_s: spread.as_secs().cast_signed(), running: None, waiting: None }
    }

    /// What is to be done now.
    pub fn step(&mut self, now: Now, catching_up: bool) -> Vec<Step> {
        let set_back = self.wall_s.replace(now.wall_s).is_some_and(|before| now.wall_s < before);
        let mut steps = Vec::new();
        for (name, entry) in &mut self.entries {
            if set_back {
                entry.find_time_again(now);
            }
            if entry.rule.yields && catching_up && entry.running == Some(Trigger::Time) {
                steps.push(Step::Break { name: name.clone(), why: Reason::CatchingUp });
            }
            let skip = |why| Step::Skip { name: name.clone(), why };
            steps.extend(entry.expire(now).map(skip));
            let Some(due) = entry.take_due(now) else { continue };
            let why_not = match due {
                Err(why) => Some(why),
                Ok(_) if entry.running.is_some() => Some(Reason::Running),
                Ok(_) if entry.waiting.is_some() => Some(Reason::Waited),
                Ok(_) if entry.rule.yields && catching_up => Some(Reason::CatchingUp),
                Ok(_) => None,
            };
            match (why_not, due) {
                (None, Ok(missed)) => {
                    self.turns += 1;
                    let until = now.steady + PATIENCE;
                    entry.waiting = Some(Waiting { trigger: Trigger::Time, missed, until, turn: self.turns });
                }
                (why, _) => steps.extend(why.map(skip)),
            }
        }
        self.begin(catching_up, &mut steps);
        steps
    }

    /// Lets those begin against which nothing stands, in turn.
    fn begin(&mut self, catching_up: bool, steps: &mut Vec<Step>) {
        let mut waiting: Vec<(u64, String)> = self
            .entries
            .iter()
            .filter_map(|(name, entry)| Some((entry.waiting.filter(|_| entry.running.is_none())?.turn, name.clone())))
            .collect();
        waiting.sort_unstable();
        for (_, name) in waiting {
            let mut running = self.entries.values().filter(|entry| entry.running.is_some());
            let (count, alone) = (running.clone().count(), running.any(|entry| entry.rule.is_exclusive));
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            if alone || count >= AT_ONCE || (entry.rule.is_exclusive && count > 0) {
                // Those behind an exclusive one wait with it, or it would never have its turn.
                return;
            }
            let Some(Waiting { trigger, missed, .. }) = entry.waiting.take() else { continue };
            if entry.rule.yields && catching_up && trigger == Trigger::Time {
                steps.push(Step::Skip { name, why: Reason::CatchingUp });
                continue;
            }
            entry.running = Some(trigger);
            steps.push(Step::Begin { name, trigger, missed });
        }
    }

    /// An operator asks for one; false where there is none of that name, or it runs.
    pub fn ask(&mut self, name: &str, now: Now) -> bool {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.running.is_none()) else { return false };
        self.turns += 1;
        let (turn, missed) = entry.waiting.map_or((self.turns, 0), |waiting| (waiting.turn, waiting.missed));
        entry.waiting = Some(Waiting { trigger: Trigger::Operator, missed, until: now.steady + PATIENCE, turn });
        true
    }

    /// A test has ended, or did not begin.
    pub fn ended(&mut self, name: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.running = None;
        }
    }

    /// Whether a test runs, and whether it waits.
    pub fn state(&self, name: &str) -> (bool, bool) {
        self.entries.get(name).map_or((false, false), |entry| (entry.running.is_some(), entry.waiting.is_some()))
    }

    /// How long until one is due.
    pub fn due_in(&self, name: &str, now: Now) -> Option<Duration> {
        self.entries.get(name)?.due_in(now)
    }

    /// How long until anything is to be done, as far as the clock decides.
    pub fn rest(&self, now: Now) -> Option<Duration> {
        self.entries.values().filter_map(|entry| entry.due_in(now)).min()
    }
}

impl Entry {
    fn due_in(&self, now: Now) -> Option<Duration> {
        match self.due {
            Due::Steady(due) => Some(due.saturating_sub(now.steady)),
            Due::Wall { minute_s } => {
                Some(Duration::from_secs((minute_s + self.spread_s - now.wall_s).max(0).cast_unsigned()))
            }
            Due::Never => None,
        }
    }

    /// The clock was set back: what it says now decides. A time that comes again is a time.
    fn find_time_again(&mut self, now: Now) {
        if let When::At(at) = &self.rule.when {
            self.due = at.next_after(now.wall_s).map_or(Due::Never, |minute_s| Due::Wall { minute_s });
        }
    }

    /// Gives up what waited for too long.
    fn expire(&mut self, now: Now) -> Option<Reason> {
        self.waiting.take_if(|waiting| waiting.until <= now.steady).map(|_| Reason::Waited)
    }

    /// Whether its time has come: how many times before it went by, or why it is too late. The next time is noted.
    fn take_due(&mut self, now: Now) -> Option<Result<u64, Reason>> {
        if self.due_in(now)? > Duration::ZERO {
            return None;
        }
        match (&self.rule.when, self.due) {
            (When::Every(every), Due::Steady(due)) => {
                let missed = now.steady.saturating_sub(due).as_nanos() / every.as_nanos().max(1);
                let missed = u32::try_from(missed).unwrap_or(u32::MAX);
                self.due = Due::Steady(due.saturating_add(every.saturating_mul(missed.saturating_add(1))));
                Some(Ok(missed.into()))
            }
            (When::At(at), Due::Wall { minute_s }) => {
                self.due = at.next_after(now.wall_s).map_or(Due::Never, |minute_s| Due::Wall { minute_s });
                let late = now.wall_s - minute_s - self.spread_s;
                Some(if late > LATE_S { Err(Reason::Late) } else { Ok(0) })
            }
            _ => None,
        }
    }
}

/// FNV-1a: the same on each box and in each process.
fn hash(seed: &str, name: &str) -> u64 {
    let bytes = seed.bytes().chain([0]).chain(name.bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // Its low bits say little of short names.
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use raven_model::config::Config;

    fn schedules(text: &str) -> BTreeMap<String, Schedule> {
        Config::from_toml(&format!("schema = 1\n{text}"), "test.toml").unwrap().diag.schedule
    }

    fn tcp(name: &str, when: &str) -> String {
        format!("[diag.schedule.{name}]\n{when}\ntcp = {{ target = 'a', port = 1 }}\n")
    }

    fn bandwidth(name: &str, more: &str) -> String {
        format!("[diag.schedule.{name}]\nevery = '10m'\n{more}\nbandwidth = {{ target = 'a' }}\n")
    }

    /// A box whose clocks are ours.
    struct Venue {
        plan: Plan,
        now: Now,
        catching_up: bool,
    }

    impl Venue {
        fn new(text: &str) -> Self {
            let now = Now { steady: Duration::from_secs(1000), wall_s: 1_796_000_000 };
            let mut plan = Plan::new("arena".to_owned());
            plan.configure(&schedules(text), now);
            Self { plan, now, catching_up: false }
        }

        fn pass(&mut self, seconds: u64) {
            self.now.steady += Duration::from_secs(seconds);
            self.now.wall_s += seconds.cast_signed();
        }

        fn step(&mut self) -> Vec<Step> {
            self.plan.step(self.now, self.catching_up)
        }

        /// So many seconds, in each of which what began ends at once; all that happened.
        fn live(&mut self, seconds: u64) -> Vec<Step> {
            let mut all = Vec::new();
            for _ in 0..seconds {
                self.pass(1);
                for step in self.step() {
                    if let Step::Begin { name, .. } = &step {
                        self.plan.ended(name);
                    }
                    all.push(step);
                }
            }
            all
        }
    }

    fn begin(name: &str) -> Step {
        Step::Begin { name: name.to_owned(), trigger: Trigger::Time, missed: 0 }
    }

    fn skip(name: &str, why: Reason) -> Step {
        Step::Skip { name: name.to_owned(), why }
    }

    #[test]
    fn an_interval_is_kept() {
        let mut venue = Venue::new(&tcp("a", "every = '10s'"));
        assert_eq!(venue.live(100), vec![begin("a"); 10]);
    }

    #[test]
    fn no_two_of_one_schedule_run_at_once() {
        let mut venue = Venue::new(&tcp("a", "every = '10s'"));
        venue.pass(2);
        assert_eq!(venue.step(), [begin("a")]);
        venue.pass(10);
        assert_eq!(venue.step(), [skip("a", Reason::Running)]);
        venue.plan.ended("a");
        assert_eq!(venue.step(), [], "it is not made up for");
        venue.pass(10);
        assert_eq!(venue.step(), [begin("a")]);
    }

    #[test]
    fn what_was_late_is_made_once_and_the_rest_is_counted() {
        let mut venue = Venue::new(&tcp("a", "every = '10s'"));
        venue.live(5);
        venue.pass(100);
        assert_eq!(venue.step(), [Step::Begin { name: "a".to_owned(), trigger: Trigger::Time, missed: 9 }]);
        venue.plan.ended("a");
        assert_eq!(venue.step(), []);
    }

    #[test]
    fn a_clock_that_is_set_moves_no_interval() {
        let mut venue = Venue::new(&tcp("a", "every = '10s'"));
        assert_eq!(venue.live(10).len(), 1);
        for jump in [3_000_000, -9_000_000] {
            venue.now.wall_s += jump;
            assert_eq!(venue.step(), []);
            assert_eq!(venue.live(10).len(), 1);
        }
    }

    #[test]
    fn a_time_of_day_that_the_clock_jumped_over_is_skipped() {
        let mut venue = Venue::new(&tcp("a", "at = '0 * * * *'"));
        assert_eq!(venue.live(3700).iter().filter(|step| **step == begin("a")).count(), 1);
        venue.now.wall_s += 2 * 3600;
        assert_eq!(venue.step(), [skip("a", Reason::Late)]);
        assert_eq!(venue.live(3600), [begin("a")]);
    }

    #[test]
    fn a_clock_that_is_set_back_has_the_time_come_again() {
        let mut venue = Venue::new(&tcp("a", "at = '0 * * * *'"));
        assert_eq!(venue.live(3700).len(), 1);
        venue.now.wall_s -= 86_400;
        assert_eq!(venue.step(), []);
        assert_eq!(venue.live(3600).len(), 1, "and not only after a day");
    }

    #[test]
    fn an_exclusive_test_waits_for_others_and_others_for_it() {
        let mut venue = Venue::new(&format!("{}{}", tcp("a", "every = '1h'"), bandwidth("b", "")));
        venue.pass(60);
        assert_eq!(venue.step(), [begin("a")]);
        venue.pass(10 * 60);
        assert_eq!(venue.step(), [], "b is due and a runs");
        assert_eq!(venue.plan.state("b"), (false, true));
        venue.plan.configure(
            &schedules(&format!("{}{}{}", tcp("a", "every = '1h'"), bandwidth("b", ""), tcp("c", "every = '10s'"))),
            venue.now,
        );
        venue.pass(1);
        assert_eq!(venue.step(), [], "c waits behind b");
        venue.plan.ended("a");
        assert_eq!(venue.step(), [begin("b")]);
        venue.plan.ended("b");
        assert_eq!(venue.step(), [begin("c")]);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let mut venue = Venue::new(&format!("{}{}", tcp("a", "every = '1h'"), bandwidth("b", "")));
        venue.pass(60);
        assert_eq!(venue.step(), [begin("a")]);
        let all: Vec<Step> = (0..1200)
            .flat_map(|_| {
                venue.pass(1);
                venue.step()
            })
            .collect();
        assert_eq!(all, [skip("b", Reason::Waited)]);
    }

    #[test]
    fn bandwidth_yields_to_what_the_uplink_catches_up_with() {
        let mut venue =
            Venue::new(&format!("{}{}", bandwidth("b", ""), bandwidth("c", "even_while_catching_up = true")));
        venue.catching_up = true;
        let all = venue.live(11 * 60);
        assert!(all.contains(&skip("b", Reason::CatchingUp)) && all.contains(&begin("c")), "{all:?}");
        assert_eq!(all.len(), 2);
        assert!(venue.plan.ask("b", venue.now), "an operator knows what he does");
        assert_eq!(venue.step(), [Step::Begin { name: "b".to_owned(), trigger: Trigger::Operator, missed: 0 }]);
        assert!(!venue.plan.ask("b", venue.now) && !venue.plan.ask("x", venue.now));
        assert_eq!(venue.step(), []);
    }

    #[test]
    fn bandwidth_that_is_being_measured_is_broken_off_when_the_uplink_begins_to_catch_up() {
        let mut venue = Venue::new(&bandwidth("b", ""));
        venue.pass(11 * 60);
        assert_eq!(venue.step(), [begin("b")]);
        venue.pass(1);
        assert_eq!(venue.step(), []);
        venue.catching_up = true;
        let broken = Step::Break { name: "b".to_owned(), why: Reason::CatchingUp };
        assert_eq!((venue.step(), venue.step()), (vec![broken.clone()], vec![broken]));
        venue.plan.ended("b");
        assert_eq!(venue.step(), []);
    }

    #[test]
    fn boxes_of_one_configuration_do_not_begin_at_once() {
        let all = schedules(&tcp("a", "every = '1h'"));
        let now = Now { steady: Duration::ZERO, wall_s: 0 };
        let mut starts: Vec<Duration> = (0..100)
            .map(|n| {
                let mut plan = Plan::new(format!("arena-{n}"));
                plan.configure(&all, now);
                plan.due_in("a", now).unwrap()
            })
            .collect();
        starts.sort_unstable();
        assert!(starts[99] < SPREAD && starts[99].abs_diff(starts[0]) > SPREAD / 2, "{starts:?}");
        starts.dedup();
        assert!(starts.len() > 90, "{starts:?}");
    }

    proptest! {
        /// Whatever happens when: never two of one, an exclusive one alone, no more than so many at once, and what is due is
        /// begun or skipped.
        #[test]
        fn the_rules_hold(
            steps in prop::collection::vec((0_u64..900, -4000_i64..4000, any::<bool>(), 0_usize..6), 1..80),
        ) {
            let text = [
                tcp("a", "every = '10s'"),
                tcp("b", "every = '1m'\nexclusive = true"),
                tcp("c", "at = '*/2 * * * *'"),
                bandwidth("d", ""),
                bandwidth("e", "even_while_catching_up = true"),
            ];
            let mut venue = Venue::new(&text.concat());
            let mut running: Vec<String> = Vec::new();
            for (passes, jump, catching_up, ends) in steps {
                venue.pass(passes);
                venue.now.wall_s += jump;
                venue.catching_up = catching_up;
                if ends < running.len() {
                    let name = running.remove(ends);
                    venue.plan.ended(&name);
                }
                let done = venue.step();
                prop_assert!(done.len() <= 10, "{done:?}");
                for step in done {
                    let Step::Begin { name, .. } = step else { continue };
                    prop_assert!(!running.contains(&name), "{name} twice");
                    running.push(name);
                }
                let alone = |name: &String| ["b", "d", "e"].contains(&name.as_str());
                prop_assert!(running.len() == 1 || !running.iter().any(alone), "{running:?}");
                prop_assert!(venue.plan.rest(venue.now).is_some_and(|rest| rest > Duration::ZERO));
            }
        }
    }
}
