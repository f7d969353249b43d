//! What is known of one schedule's results.

use super::keeper::Keeper;
use raven_collectors::session::now;
use raven_model::config::{Schedule, Thresholds};
use raven_model::diag::schedule::{
    DiagRecord, Figures, Histogram, HistoryRow, Outcome, ScheduleStatus, TestKind, Trigger,
};
use raven_netdiag::failure::Failure;
use raven_netdiag::schedule::figures::{Summary, summary, times_us};
use raven_netdiag::schedule::judge::Judge;
use raven_netdiag::schedule::quiet::Heard;
use std::time::{Duration, Instant};

/// Characters of a reason.
const WHY: usize = 200;

/// Results of one schedule.
pub struct Book {
    name: String,
    test: TestKind,
    limits: Thresholds,
    judge: Judge,
    times: Histogram,
    /// Well, bad, failed, skipped.
    outcomes: [u64; 4],
    last: Option<HistoryRow>,
}

impl Book {
    /// Of a schedule, with what its history says until then of where its thresholds stand.
    pub fn new(name: &str, schedule: &Schedule, keeper: &Keeper, until: Instant) -> Option<Self> {
        let limits = schedule.alert.clone();
        let mut judge = Judge::new(limits.clone());
        let rows = keeper.newest(name, limits.results.saturating_add(limits.clear).saturating_mul(2), until);
        for row in &rows {
            judge.take(row.outcome, &row.figures);
        }
        let last = rows.into_iter().next_back();
        let (times, outcomes) = (Histogram::default(), [0; 4]);
        Some(Self { name: name.to_owned(), test: schedule.kind()?, limits, judge, times, outcomes, last })
    }

    /// Whether it is still of use when the configuration says this.
    pub fn is_of(&self, schedule: &Schedule) -> bool {
        self.limits == schedule.alert && schedule.kind() == Some(self.test)
    }

    /// A test has ended.
    pub fn ended(&mut self, came: Result<Heard, Failure>, took: Duration, trigger: Trigger, missed: u64) -> DiagRecord {
        let nothing = |why: String| (Heard::default(), failed(why));
        let (heard, told) = match came {
            Ok(heard) => match heard.result.as_ref().and_then(summary) {
                Some(told) => (heard, told),
                None => nothing("it came to no result".to_owned()),
            },
            Err(Failure::Gone) => nothing("it took too long".to_owned()),
            Err(Failure::Refused(why)) => nothing(why),
        };
        let mut times = heard.times_us;
        if times.is_empty() {
            times = heard.result.as_ref().map(times_us).unwrap_or_default();
        }
        for time in times {
            self.times.add(time);
        }
        let beyond = self.judge.take(told.outcome, &told.figures);
        let record = DiagRecord {
            t: now(),
            schedule: self.name.clone(),
            test: self.test,
            outcome: told.outcome,
            why: told.why.map(|why| why.chars().take(WHY).collect()),
            trigger,
            took_ms: took.as_millis() as u64,
            missed,
            figures: told.figures,
            beyond,
            times: (self.times.count() > 0).then(|| self.times.clone()),
            result: heard.result,
        };
        self.note(&record);
        record
    }

    /// A test was due and is not made.
    pub fn skipped(&mut self, why: &str) -> DiagRecord {
        let record = DiagRecord {
            t: now(),
            schedule: self.name.clone(),
            test: self.test,
            outcome: Outcome::Skipped,
            why: Some(why.to_owned()),
            trigger: Trigger::Time,
            took_ms: 0,
            missed: 0,
            figures: Figures::default(),
            beyond: Vec::new(),
            times: None,
            result: None,
        };
        self.note(&record);
        record
    }

    fn note(&mut self, record: &DiagRecord) {
        self.outcomes[record.outcome as usize] += 1;
        self.last = Some(HistoryRow::of(record));
    }

    /// What is to be told of it.
    pub fn status(&self, schedule: &Schedule, next_s: Option<u64>, running: bool, waiting: bool) -> ScheduleStatus {
        ScheduleStatus {
            name: self.name.clone(),
            test: self.test,
            when: schedule.when(),
            next_s,
            running,
            waiting,
            outcomes: self.outcomes,
            last: self.last.clone(),
            severity: self.limits.severity,
            thresholds: if self.limits.enabled { self.judge.status() } else { Vec::new() },
        }
    }
}

fn failed(why: String) -> Summary {
    Summary { outcome: Outcome::Failed, why: Some(why), figures: Figures::default() }
}
