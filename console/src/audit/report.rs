//! What an audit found, as JSON and as lines.

use super::ranges::Range;
use crate::escape;
use serde::Serialize;

/// Ranges shown to a person; `--json` has them all.
const SHOWN: usize = 12;

/// The whole.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Something was found and nothing is missing.
    pub ok: bool,
    /// Lines read.
    pub lines: u64,
    /// Lines that say not which record they are.
    pub lines_without_envelope: u64,
    /// With `--marks`: marked messages of runs that were not asked about.
    pub marks_of_other_runs: u64,
    /// Each stream of each device.
    pub streams: Vec<StreamReport>,
    /// Each sender of each run that was asked about.
    pub marks: Vec<MarkReport>,
}

/// One stream of one device. Ranges are first and last, both missing (or doubled).
#[derive(Debug, Clone, Serialize)]
pub struct StreamReport {
    /// Device.
    pub dev: String,
    /// Stream.
    pub stream: String,
    /// Different records.
    pub records: u64,
    /// Lowest seq seen.
    pub first: u64,
    /// Highest seq seen.
    pub last: u64,
    /// Records that are not there and should be.
    pub missing: u64,
    /// Which.
    pub missing_ranges: Vec<Range>,
    /// Copies beyond the first of each record.
    pub duplicates: u64,
    /// Of which.
    pub duplicate_ranges: Vec<Range>,
}

/// One sender of the load generator.
#[derive(Debug, Clone, Serialize)]
pub struct MarkReport {
    /// Name of the run.
    pub mark: String,
    /// Number of the sender.
    pub sender: u32,
    /// Messages it sent.
    pub expected: u64,
    /// Different ones that are there.
    pub seen: u64,
    /// Those that are not.
    pub missing: u64,
    /// Which.
    pub missing_ranges: Vec<Range>,
    /// Copies beyond the first of each.
    pub duplicates: u64,
    /// Of which.
    pub duplicate_ranges: Vec<Range>,
    /// Messages with a number that was never sent.
    pub beyond: u64,
}

impl Report {
    /// For a person.
    pub fn lines(&self) -> Vec<String> {
        let streams = self.streams.iter().flat_map(StreamReport::lines);
        let marks = self.marks.iter().flat_map(MarkReport::lines);
        let without = (self.lines_without_envelope > 0)
            .then(|| format!("{} of {} lines carry no dev, stream and seq", self.lines_without_envelope, self.lines));
        let nothing = (self.streams.is_empty() && self.marks.iter().all(|mark| mark.seen == 0))
            .then(|| "no record was found: nothing is proved".to_owned());
        let missing: u64 = self.streams.iter().map(|s| s.missing).chain(self.marks.iter().map(|m| m.missing)).sum();
        let verdict = match missing {
            0 if self.ok => "nothing is missing".to_owned(),
            0 => "no line carries dev, stream and seq, so what was expected is not there".to_owned(),
            _ => format!("MISSING: {missing}"),
        };
        let last = nothing.unwrap_or(verdict);
        streams.chain(marks).chain(without).chain([last]).collect()
    }
}

impl StreamReport {
    fn lines(&self) -> Vec<String> {
        let name = format!("{} {}", or_dash(&self.dev), or_dash(&self.stream));
        let head = format!(
            "{name}: {} records, seq {} to {}, {} missing, {} duplicates",
            self.records, self.first, self.last, self.missing, self.duplicates
        );
        with_ranges(head, &self.missing_ranges, &self.duplicate_ranges)
    }
}

impl MarkReport {
    fn lines(&self) -> Vec<String> {
        let beyond = if self.beyond > 0 { format!(", {} that were never sent", self.beyond) } else { String::new() };
        let head = format!(
            "run {} sender {}: {} of {} there, {} missing, {} duplicates{beyond}",
            escape::text(&self.mark),
            self.sender,
            self.seen,
            self.expected,
            self.missing,
            self.duplicates
        );
        with_ranges(head, &self.missing_ranges, &self.duplicate_ranges)
    }
}

fn or_dash(name: &str) -> String {
    if name.is_empty() { "-".to_owned() } else { escape::text(name) }
}

fn with_ranges(head: String, missing: &[Range], again: &[Range]) -> Vec<String> {
    let lines = [("missing", missing), ("duplicated", again)];
    let shown = lines
        .into_iter()
        .filter(|(_, ranges)| !ranges.is_empty())
        .map(|(word, ranges)| format!("  {word}: {}", words(ranges)));
    std::iter::once(head).chain(shown).collect()
}

fn words(ranges: &[Range]) -> String {
    let one = |(first, last): &Range| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let text = ranges.iter().take(SHOWN).map(one).collect::<Vec<_>>().join(", ");
    if ranges.len() > SHOWN { format!("{text} and {} more ranges", ranges.len() - SHOWN) } else { text }
}
