//! `[alert]`: what is watched, and from when on it is told. Every rule has settings that are of use as they are; a table
//! `[alert.NAME]` changes those of one.

use super::error::Flaw;
use crate::alert::{Rule, Severity};
use crate::prefix::Prefix;
use crate::units::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// `[alert]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Alert {
    /// Whether anything is watched at all.
    pub enabled: bool,
    /// What is changed of the rules.
    #[serde(flatten)]
    pub rules: BTreeMap<Rule, Tuning>,
}

impl Default for Alert {
    fn default() -> Self {
        Self { enabled: true, rules: BTreeMap::new() }
    }
}

/// `[alert.NAME]`: what is left out stays as it is. The shape of the file says which rule has which keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    /// Whether it is watched.
    pub enabled: Option<bool>,
    /// How bad it is; not for `ring_filling` and `disk_health`, where what is found decides.
    pub severity: Option<Severity>,
    /// How long it must be so before it is told; of `source_silent`, how long a sender must be silent.
    pub after: Option<Span>,
    /// How long it must be well again before that is told.
    pub clear: Option<Span>,
    /// `lag`: age of the oldest record that is not acknowledged.
    pub above: Option<Span>,
    /// `time_to_full`, `certificate_expiring`: time that is left.
    pub below: Option<Span>,
    /// `role_restarting`: so many starts within `within`.
    pub count: Option<u32>,
    /// `role_restarting`: time in which they are counted.
    pub within: Option<Span>,
    /// `source_silent`: a sender counts as regular when it has sent for so long, never pausing longer than `after`.
    pub regular: Option<Span>,
    /// `source_silent`: with more silent senders than this, one alert is told for all.
    pub storm: Option<u32>,
    /// `source_silent`: senders that are not watched, addresses or prefixes.
    pub ignore: Option<Vec<String>>,
    /// `source_silent`: how long these may be silent, by address or prefix; the longest prefix counts.
    pub sources: Option<BTreeMap<String, Span>>,
}

/// A rule's common settings, as in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether it is watched.
    pub enabled: bool,
    /// How bad it is.
    pub severity: Severity,
    /// How long it must be so.
    pub after: Duration,
    /// How long it must be over.
    pub clear: Duration,
}

/// When senders count as silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// Silent for so long, unless `sources` says otherwise.
    pub after: Duration,
    /// Regular after so long.
    pub regular: Duration,
    /// More than this are a storm.
    pub storm: u32,
    /// Not watched.
    pub ignore: Vec<Prefix>,
    /// Silent for so long, the longest prefix first.
    pub sources: Vec<(Prefix, Duration)>,
}

/// Most senders that are told of one by one: fewer than the store names.
const STORM_MAX: u32 = 50;

/// Longest time of any setting.
const LONGEST: Duration = Duration::from_hours(30 * 24);

impl Alert {
    fn tuning(&self, rule: Rule) -> Tuning {
        self.rules.get(&rule).cloned().unwrap_or_default()
    }

    /// What is in force for a rule.
    pub fn settings(&self, rule: Rule) -> Settings {
        let (severity, after, clear) = defaults(rule);
        let Tuning { enabled, severity: asked, after: asked_after, clear: asked_clear, .. } = self.tuning(rule);
        Settings {
            enabled: self.enabled && enabled.unwrap_or(true),
            severity: asked.unwrap_or(severity),
            // The store knows when a sender counts as silent: there is nothing left to wait for.
            after: if rule == Rule::SourceSilent { Duration::ZERO } else { asked_after.map_or(after, |span| span.0) },
            clear: asked_clear.map_or(clear, |span| span.0),
        }
    }

    /// `alert.lag.above`.
    pub fn lag_above(&self) -> Duration {
        self.tuning(Rule::Lag).above.map_or(Duration::from_mins(10), |span| span.0)
    }

    /// `alert.time_to_full.below`.
    pub fn full_below(&self) -> Duration {
        self.tuning(Rule::TimeToFull).below.map_or(Duration::from_hours(24), |span| span.0)
    }

    /// `alert.certificate_expiring.below`.
    pub fn expiring_below(&self) -> Duration {
        self.tuning(Rule::CertificateExpiring).below.map_or(Duration::from_hours(14 * 24), |span| span.0)
    }

    /// `alert.role_restarting.count` and `within`.
    pub fn restarts(&self) -> (u32, Duration) {
        let tuning = self.tuning(Rule::RoleRestarting);
        (tuning.count.unwrap_or(3), tuning.within.map_or(Duration::from_mins(10), |span| span.0))
    }

    /// `alert.source_silent`; `None` when it is not watched.
    pub fn silence(&self) -> Option<Silence> {
        let tuning = self.tuning(Rule::SourceSilent);
        self.settings(Rule::SourceSilent).enabled.then(|| {
            let after = tuning.after.map_or(defaults(Rule::SourceSilent).1, |span| span.0);
            let sources = tuning.sources.unwrap_or_default();
            let mut sources: Vec<(Prefix, Duration)> =
                sources.iter().filter_map(|(prefix, span)| Some((prefix.parse().ok()?, span.0))).collect();
            sources.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
            Silence {
                after,
                regular: tuning.regular.map_or(after * 3, |span| span.0),
                storm: tuning.storm.unwrap_or(10),
                ignore: tuning.ignore.iter().flatten().filter_map(|prefix| prefix.parse().ok()).collect(),
                sources,
            }
        })
    }

    /// All that is wrong with it.
    pub(super) fn flaws(&self) -> Vec<Flaw> {
        self.rules.iter().flat_map(|(rule, tuning)| flaws(*rule, tuning)).collect()
    }
}

/// Severity, how long it must be so, how long it must be over.
const fn defaults(rule: Rule) -> (Severity, Duration, Duration) {
    const NOW: Duration = Duration::ZERO;
    const TEN: Duration = Duration::from_mins(10);
    const ONE: Duration = Duration::from_mins(1);
    match rule {
        Rule::Storing => (Severity::Critical, Duration::from_secs(5), Duration::from_secs(30)),
        Rule::Damaged => (Severity::Critical, NOW, Duration::from_hours(1)),
        Rule::EvictingUnforwarded => (Severity::Critical, NOW, TEN),
        Rule::Drops | Rule::DeadLetters | Rule::RoleRestarting | Rule::Clock => (Severity::Warning, NOW, TEN),
        // What asks a disk does so hourly, the first time a minute after the start.
        Rule::DiskHealth => (Severity::Warning, NOW, Duration::from_hours(2)),
        Rule::DestinationRefused => (Severity::Critical, Duration::from_secs(30), ONE),
        Rule::DestinationDown => (Severity::Warning, Duration::from_mins(5), ONE),
        Rule::TunnelDown => (Severity::Warning, Duration::from_secs(30), Duration::from_secs(10)),
        Rule::CertificateExpiring => (Severity::Warning, NOW, ONE),
        Rule::Lag => (Severity::Warning, ONE, ONE),
        Rule::RingFilling => (Severity::Notice, NOW, ONE),
        Rule::TimeToFull => (Severity::Warning, TEN, TEN),
        Rule::SourceSilent => (Severity::Warning, TEN, NOW),
        // The role has held several results against it already.
        Rule::Diag => (Severity::Warning, NOW, NOW),
    }
}

fn flaws(rule: Rule, tuning: &Tuning) -> Vec<Flaw> {
    let second = Duration::from_secs(1);
    let spans = [
        ("after", tuning.after, if rule == Rule::SourceSilent { second } else { Duration::ZERO }),
        ("clear", tuning.clear, Duration::ZERO),
        ("above", tuning.above, second),
        ("below", tuning.below, second),
        ("within", tuning.within, second),
        ("regular", tuning.regular, second),
    ];
    let mut flaws: Vec<Flaw> = spans
        .into_iter()
        .filter_map(|(key, span, least)| super::check::span(&["alert", rule.name(), key], span?, least, LONGEST))
        .collect();
    for (key, number, most) in [("count", tuning.count, 1000), ("storm", tuning.storm, STORM_MAX)] {
        flaws.extend(number.and_then(|n| super::check::number(&["alert", rule.name(), key], n, most)));
    }
    let prefix = |path: &[&str], text: &str| {
        let message = format!("`{}` is neither an address nor a prefix", text.escape_debug());
        let expected = "an address or a prefix such as `\"10.20.0.0/16\"`";
        text.parse::<Prefix>().is_err().then(|| Flaw::new(path, message, expected))
    };
    for (index, text) in tuning.ignore.iter().flatten().enumerate() {
        flaws.extend(prefix(&["alert", rule.name(), "ignore", &index.to_string()], text));
    }
    for (text, span) in tuning.sources.iter().flatten() {
        let path = ["alert", rule.name(), "sources", text];
        flaws.extend(prefix(&path, text));
        flaws.extend(super::check::span(&path, *span, second, LONGEST));
    }
    flaws
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Config;
    use super::*;

    fn alert(text: &str) -> Alert {
        Config::from_toml(&format!("schema = 1\n{text}"), "test.toml").unwrap().alert
    }

    #[test]
    fn every_rule_is_watched_without_a_word_in_the_file() {
        let alert = alert("");
        assert!(Rule::ALL.into_iter().all(|rule| alert.settings(rule).enabled));
        assert_eq!(alert.silence().unwrap().regular, Duration::from_mins(30));
    }

    #[test]
    fn one_key_of_one_rule_changes_nothing_else() {
        let alert = alert("[alert.drops]\nclear = '5s'\n[alert.lag]\nenabled = false");
        let drops = alert.settings(Rule::Drops);
        assert_eq!((drops.clear, drops.severity), (Duration::from_secs(5), Severity::Warning));
        assert!(!alert.settings(Rule::Lag).enabled && alert.settings(Rule::Clock).enabled);
    }

    #[test]
    fn one_switch_turns_all_off() {
        let alert = alert("[alert]\nenabled = false");
        assert!(!Rule::ALL.into_iter().any(|rule| alert.settings(rule).enabled));
        assert_eq!(alert.silence(), None);
    }

    #[test]
    fn the_longest_prefix_says_how_long_a_sender_may_be_silent() {
        let alert = alert("[alert.source_silent]\nsources = { '10.0.0.0/8' = '1h', '10.1.2.3' = '1m' }");
        let sources: Vec<_> = alert.silence().unwrap().sources.iter().map(|(_, span)| *span).collect();
        assert_eq!(sources, [Duration::from_mins(1), Duration::from_hours(1)]);
    }
}
