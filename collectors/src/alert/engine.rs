//! What becomes of what was found: told when it has been so for long enough, told again when it is over for long enough,
//! and nothing in between. Pure: time and findings come in, records come out.
//!
//! ```text
//!   nothing ──bad──▶ pending ──bad for `after`──▶ firing (a record) ──not bad for `clear`──▶ resolved (a record)
//!              ▲        │                           │  ▲
//!              └─not bad┘                           └──┘ bad again, or between the thresholds: the wait begins anew
//! ```
//!
//! What must outlive the process is in [`Memory`]: it goes to the ring in the same batch as the records that changed it.
//! What is pending is not in it: a restart has it wait once more.

use raven_model::alert::{AlertRecord, AlertState, Firing, Memory, Rule, Severity};
use raven_model::calendar::{format, span};
use raven_model::config::Alert;
use raven_model::units::UnixNanos;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most alerts at a time: all of them fit into one context. More wait until some are over.
pub const FIRING_MAX: usize = 100;

/// Characters of a subject that are kept.
const SUBJECT_MAX: usize = 120;

/// Rule and subject.
pub type Key = (Rule, String);

/// Something that is not as it should be. What is not found is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// What it is about.
    pub subject: String,
    /// False between the thresholds: no reason to begin, and none to end.
    pub bad: bool,
    /// Where it is not the rule's.
    pub severity: Option<Severity>,
    /// Since when, where that is known better than by looking.
    pub since: Option<UnixNanos>,
    /// The number.
    pub value: u64,
    /// What and where, with the number.
    pub what: String,
    /// What to do next.
    pub remedy: &'static str,
}

/// A counter that should not rise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Which rule.
    pub rule: Rule,
    /// What it is about.
    pub subject: String,
    /// As it stands.
    pub total: u64,
    /// Words before the number and behind it.
    pub words: (String, String),
    /// What to do next.
    pub remedy: &'static str,
}

/// All that was found in one look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// What is not well.
    pub findings: Vec<Finding>,
    /// Counters as they stand.
    pub counts: Vec<Count>,
    /// Rules of which nothing is known just now: what they had told stays.
    pub unknown: BTreeSet<Rule>,
}

/// When a look was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// By a clock that nobody sets.
    pub steady: Duration,
    /// By the clock on the wall.
    pub wall: UnixNanos,
}

/// The state of all rules.
#[derive(Debug, Default)]
pub struct Engine {
    memory: Memory,
    /// The memory changed without a record.
    unsaved: bool,
    /// Bad since, and not told yet.
    pending: BTreeMap<Key, Now>,
    /// Told, and well since.
    clearing: BTreeMap<Key, Duration>,
    /// Counters at the last look.
    seen: BTreeMap<String, u64>,
    withheld: u64,
}

fn counter(rule: Rule, subject: &str) -> String {
    format!("{rule} {subject}")
}

impl Engine {
    /// Goes on where a predecessor stopped.
    pub fn new(memory: Memory) -> Self {
        Self { memory, ..Self::default() }
    }

    /// What must not be forgotten.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// True once after the memory changed without a record.
    pub fn take_unsaved(&mut self) -> bool {
        std::mem::take(&mut self.unsaved)
    }

    /// Alerts that found no room.
    pub const fn withheld(&self) -> u64 {
        self.withheld
    }

    /// Takes a look in; returns what is to be told.
    pub fn step(&mut self, config: &Alert, look: Look, now: Now) -> Vec<AlertRecord> {
        let Look { findings, counts, unknown } = look;
        let mut found: BTreeMap<Key, Finding> = BTreeMap::new();
        let risen = counts.iter().filter_map(|count| self.rise(count)).collect::<Vec<_>>();
        for mut finding in findings.into_iter().chain(risen) {
            finding.subject = finding.subject.chars().take(SUBJECT_MAX).collect();
            found.insert((finding.rule, finding.subject.clone()), finding);
        }
        found.retain(|(rule, _), _| config.settings(*rule).enabled);
        let is_known = |rule: &Rule| !unknown.contains(rule) || !config.settings(*rule).enabled;
        self.pending.retain(|key, _| found.contains_key(key) || !is_known(&key.0));
        let mut records = self.end(config, &found, is_known, &counts, now);
        self.withheld = 0;
        for (key, finding) in found {
            records.extend(self.begin(config, &key, finding, now));
        }
        self.memory.written += records.len() as u64;
        records
    }

    /// What a counter says: it has risen since it was last told of, or since the last look when that is told.
    fn rise(&mut self, count: &Count) -> Option<Finding> {
        let Count { rule, subject, total, words, remedy } = count;
        let key = counter(*rule, subject);
        let seen = self.seen.insert(key.clone(), *total);
        let told = self.memory.counters.get(&key).copied().unwrap_or(0);
        if *total < told {
            // Its ring was made anew.
            self.memory.counters.insert(key, *total);
            self.unsaved = true;
            return None;
        }
        let since_told = total - told;
        let fresh = self.is_firing(*rule, subject) && seen == Some(*total);
        (since_told > 0 && !fresh).then(|| Finding {
            rule: *rule,
            subject: subject.clone(),
            bad: true,
            severity: None,
            since: None,
            value: since_told,
            what: format!("{} {since_told} {}", words.0, words.1),
            remedy,
        })
    }

    /// Whether that is told and not over.
    pub fn is_firing(&self, rule: Rule, subject: &str) -> bool {
        self.memory.firing.iter().any(|firing| firing.alert == rule && firing.subject == subject)
    }

    fn begin(&mut self, config: &Alert, key: &Key, finding: Finding, now: Now) -> Option<AlertRecord> {
        self.clearing.remove(key);
        if !finding.bad || self.is_firing(finding.rule, &finding.subject) {
            return None;
        }
        let settings = config.settings(finding.rule);
        let since = *self.pending.entry(key.clone()).or_insert(now);
        if now.steady.saturating_sub(since.steady) < settings.after {
            return None;
        }
        if self.memory.firing.len() >= FIRING_MAX {
            self.withheld += 1;
            return None;
        }
        self.pending.remove(key);
        let since_ns = finding.since.unwrap_or(since.wall);
        let record = AlertRecord {
            t: now.wall,
            alert: finding.rule,
            state: AlertState::Firing,
            severity: finding.severity.unwrap_or(settings.severity),
            since_ns,
            value: finding.value,
            text: format!("{}, since {}: {}", finding.what, format(since_ns, 0), finding.remedy),
            subject: finding.subject,
        };
        let AlertRecord { alert, severity, .. } = record;
        let (subject, text) = (record.subject.clone(), record.text.clone());
        self.memory.firing.push(Firing { alert, subject, severity, since_ns, text });
        Some(record)
    }

    /// Ends what has been well for long enough.
    fn end(
        &mut self,
        config: &Alert,
        found: &BTreeMap<Key, Finding>,
        is_known: impl Fn(&Rule) -> bool,
        counts: &[Count],
        now: Now,
    ) -> Vec<AlertRecord> {
        let mut records = Vec::new();
        for firing in std::mem::take(&mut self.memory.firing) {
            let key = (firing.alert, firing.subject.clone());
            if found.contains_key(&key) || !is_known(&firing.alert) {
                self.clearing.remove(&key);
                self.memory.firing.push(firing);
                continue;
            }
            let settings = config.settings(firing.alert);
            let well_since = *self.clearing.entry(key.clone()).or_insert(now.steady);
            if settings.enabled && now.steady.saturating_sub(well_since) < settings.clear {
                self.memory.firing.push(firing);
                continue;
            }
            self.clearing.remove(&key);
            records.push(self.resolved(firing, counts, settings.enabled, now));
        }
        records
    }

    fn resolved(&mut self, firing: Firing, counts: &[Count], is_watched: bool, now: Now) -> AlertRecord {
        let Firing { alert, subject, severity, since_ns, .. } = firing;
        let count = counts.iter().find(|count| count.rule == alert && count.subject == subject);
        let mut value = 0;
        let mut in_all = String::new();
        if let Some(count) = count {
            let told = self.memory.counters.insert(counter(alert, &subject), count.total).unwrap_or(0);
            value = count.total.saturating_sub(told);
            in_all = format!(", {value} in all");
        }
        let lasted = now.wall.0.saturating_sub(since_ns.0) / 1_000_000_000;
        let over = if is_watched { "over" } else { "no longer watched" };
        let text =
            format!("{over} after {}: {alert} of {subject}, since {}{in_all}", span(lasted), format(since_ns, 0));
        AlertRecord { t: now.wall, alert, subject, state: AlertState::Resolved, severity, since_ns, value, text }
    }
}
