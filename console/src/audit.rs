//! `raven audit`: reads what a receiver wrote and says which records are missing and which came more than once.

mod flows;
mod identity;
mod line;
mod ranges;
mod report;
mod sessions;
pub(crate) mod signed;

use crate::client::Client;
use crate::failure::{Failure, OK, PROBLEM, file};
use crate::load::{FlowMark, Mark, Summary};
use crate::output::Output;
use clap::{Args, Subcommand, ValueEnum};
use line::{Envelope, LINE_MAX};
pub use ranges::RangeSet;
pub use report::{MarkReport, Report, StreamReport};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

const AFTER: &str = "\
Counts the `dev`, `stream` and `seq` that travel with every record. It is missing when it lies between the first and
the last seq seen (or inside --expect-first to --expect-next) and no line has it. Duplicates are reported and are no
error: a receiver tells them apart by dev, stream and seq. Exit 0 when nothing is missing, 1 otherwise, also when
nothing was found at all. Files may be .gz or .zst; `-` is standard input.

Marks of syslog, traps and Windows events are text anywhere in a line; those of flows are read from the addresses and
source ports in `decoded.flows` of `raven export flow --decoded`.";

/// `raven audit`.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct AuditArgs {
    /// Instead of a receiver's files: the appliance itself
    #[command(subcommand)]
    pub command: Option<AuditCommand>,
    /// What the receiver wrote
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How it wrote
    #[arg(long, value_enum, default_value_t = Shape::Auto)]
    pub format: Shape,
    /// First seq that must be there, in every stream found
    #[arg(long, value_name = "SEQ")]
    pub expect_first: Option<u64>,
    /// One after the last seq that must be there
    #[arg(long, value_name = "SEQ")]
    pub expect_next: Option<u64>,
    /// What `raven gen` printed: every mark of the run must be there. May be given more than once
    #[arg(long, value_name = "SUMMARY")]
    pub marks: Vec<PathBuf>,
}

/// `raven audit …` without a receiver's files.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// The appliance's own account: every record received is stored or dropped for a reason, held or gone for one, and
    /// delivered or still to be (exit 1 when the sums do not agree)
    Report(identity::ReportArgs),
    /// Is a signed report as the appliance signed it (exit 1 when not)? Needs no appliance
    Verify(signed::VerifyArgs),
    /// The public half of the appliance's device key
    Key,
    /// Who came over SSH, what was said, and what came of it
    Sessions(sessions::SessionsArgs),
}

/// How a receiver wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Line by line, whichever it is
    Auto,
    /// Lines with the RFC 5424 envelope `[raven@32473 dev="…" stream="…" seq="…"]`
    Rsyslog,
    /// One JSON object a line with dev, stream and seq
    Ndjson,
}

/// Runs it.
pub fn run(args: &AuditArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    match &args.command {
        Some(AuditCommand::Report(args)) => return identity::run(args, client, output),
        Some(AuditCommand::Verify(args)) => return signed::verify(args, output),
        Some(AuditCommand::Key) => return signed::key(client, output),
        Some(AuditCommand::Sessions(args)) => return sessions::run(args, client, output),
        None => {}
    }
    if args.expect_first.zip(args.expect_next).is_some_and(|(first, next)| first > next) {
        return Err(Failure::Usage("--expect-first is above --expect-next".to_owned()));
    }
    let mut audit = Audit::new(args.format, &read_summaries(&args.marks)?).map_err(Failure::Usage)?;
    for path in &args.files {
        let reader = open(path).map_err(file("read", path))?;
        audit.read(reader).map_err(file("read", path))?;
    }
    let report = audit.report(args.expect_first, args.expect_next);
    if output.json {
        output.value(&report)?;
    } else {
        report.lines().iter().try_for_each(|line| output.line(line))?;
    }
    Ok(if report.ok { OK } else { PROBLEM })
}

fn read_summaries(paths: &[PathBuf]) -> Result<Vec<Summary>, Failure> {
    let read = |path: &PathBuf| {
        let text = std::fs::read(path).map_err(file("read", path))?;
        serde_json::from_slice(&text).map_err(|error| file("read", path)(error.into()))
    };
    paths.iter().map(read).collect()
}

/// Opens a file, packed or not: its first bytes tell.
fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let raw: Box<dyn Read> = if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut raw = BufReader::with_capacity(256 << 10, raw);
    let head = raw.fill_buf()?;
    let (gzip, zstd) = (head.starts_with(&[0x1f, 0x8b]), head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    Ok(match (gzip, zstd) {
        (true, _) => Box::new(BufReader::with_capacity(256 << 10, flate2::bufread::MultiGzDecoder::new(raw))),
        (_, true) => Box::new(BufReader::with_capacity(256 << 10, zstd::Decoder::with_buffer(raw)?)),
        _ => Box::new(raw),
    })
}

/// What was seen of one stream of one device.
struct Seen {
    dev: String,
    stream: String,
    seqs: RangeSet,
    again: RangeSet,
    duplicates: u64,
}

/// What was sent by, and seen of, one sender of the load generator.
struct Sent {
    run: String,
    sender: u32,
    count: u64,
    seen: RangeSet,
    again: RangeSet,
    duplicates: u64,
    beyond: u64,
}

/// Reads lines, remembers ranges.
pub struct Audit {
    shape: Shape,
    streams: Vec<Seen>,
    /// Where the stream of the last line is: nearly always that of the next.
    last: usize,
    senders: BTreeMap<(Vec<u8>, u32), Sent>,
    /// Runs of flows, by what their marks say of the run's name.
    flow_runs: BTreeMap<u16, Vec<u8>>,
    lines: u64,
    without_envelope: u64,
    marks_of_nobody: u64,
}

impl Audit {
    /// That expects the marks of these runs; an error when those of two cannot be told apart.
    pub fn new(shape: Shape, summaries: &[Summary]) -> Result<Self, String> {
        let sent = |run: &str, sender, count| Sent {
            run: run.to_owned(),
            sender,
            count,
            seen: RangeSet::default(),
            again: RangeSet::default(),
            duplicates: 0,
            beyond: 0,
        };
        let of_run = |summary: &Summary| {
            let key = |sender| (summary.mark.clone().into_bytes(), sender);
            summary.senders.iter().map(|s| (key(s.sender), sent(&summary.mark, s.sender, s.count))).collect::<Vec<_>>()
        };
        Ok(Self {
            shape,
            streams: Vec::new(),
            last: 0,
            senders: summaries.iter().flat_map(of_run).collect(),
            flow_runs: flow_runs(summaries)?,
            lines: 0,
            without_envelope: 0,
            marks_of_nobody: 0,
        })
    }

    /// Takes in a file.
    pub fn read(&mut self, mut reader: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        while next_line(&mut reader, &mut line)? {
            self.line(&line);
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) {
        self.lines += 1;
        match Envelope::find(line, self.shape) {
            Some(envelope) => self.stream(&envelope).note(envelope.seq),
            None => self.without_envelope += 1,
        }
        if !self.senders.is_empty()
            && let Some(mark) = Mark::find(line)
        {
            self.mark(mark.run.to_vec(), mark.sender, mark.n);
        }
        if !self.flow_runs.is_empty() {
            for mark in flows::marks(line) {
                let run = self.flow_runs.get(&mark.tag).cloned().unwrap_or_default();
                self.mark(run, mark.sender, mark.n);
            }
        }
    }

    fn mark(&mut self, run: Vec<u8>, sender: u32, n: u64) {
        match self.senders.get_mut(&(run, sender)) {
            Some(sent) => sent.note(n),
            None => self.marks_of_nobody += 1,
        }
    }

    fn stream(&mut self, envelope: &Envelope<'_>) -> &mut Seen {
        let is_it = |seen: &Seen| seen.dev == envelope.dev && seen.stream == envelope.stream;
        if !self.streams.get(self.last).is_some_and(is_it) {
            self.last = self.streams.iter().position(is_it).unwrap_or(self.streams.len());
        }
        if self.last == self.streams.len() {
            let (dev, stream) = (envelope.dev.to_string(), envelope.stream.to_string());
            self.streams.push(Seen {
                dev,
                stream,
                seqs: RangeSet::default(),
                again: RangeSet::default(),
                duplicates: 0,
            });
        }
        &mut self.streams[self.last]
    }

    /// What it comes to.
    pub fn report(&self, first: Option<u64>, next: Option<u64>) -> Report {
        let streams: Vec<StreamReport> = self.streams.iter().map(|seen| seen.report(first, next)).collect();
        let marks: Vec<MarkReport> = self.senders.values().map(Sent::report).collect();
        let found = !streams.is_empty() || marks.iter().any(|mark| mark.seen > 0);
        let complete = streams.iter().all(|s| s.missing == 0) && marks.iter().all(|m| m.missing == 0);
        let asked = streams.is_empty() && (first.is_some() || next.is_some());
        Report {
            ok: found && complete && !asked,
            lines: self.lines,
            lines_without_envelope: self.without_envelope,
            marks_of_other_runs: self.marks_of_nobody,
            streams,
            marks,
        }
    }
}

/// A flow holds twelve bits about the name of its run.
fn flow_runs(summaries: &[Summary]) -> Result<BTreeMap<u16, Vec<u8>>, String> {
    let mut runs = BTreeMap::new();
    for summary in summaries.iter().filter(|summary| summary.kind.marks_flows()) {
        let before = runs.insert(FlowMark::tag_of(&summary.mark), summary.mark.clone().into_bytes());
        if let Some(before) = before {
            let before = String::from_utf8_lossy(&before).into_owned();
            return Err(format!(
                "flows of the runs {before} and {} cannot be told apart: audit one by one",
                summary.mark
            ));
        }
    }
    Ok(runs)
}

impl Seen {
    fn note(&mut self, seq: u64) {
        if !self.seqs.insert(seq) {
            self.duplicates += 1;
            self.again.insert(seq);
        }
    }

    fn report(&self, first: Option<u64>, next: Option<u64>) -> StreamReport {
        let (seen_first, seen_next) = self.seqs.bounds().unwrap_or((0, 0));
        let missing = self.seqs.missing(first.unwrap_or(seen_first), next.unwrap_or(seen_next));
        StreamReport {
            dev: self.dev.clone(),
            stream: self.stream.clone(),
            records: self.seqs.len(),
            first: seen_first,
            last: seen_next.saturating_sub(1),
            missing: ranges::total(&missing),
            missing_ranges: ranges::inclusive(&missing),
            duplicates: self.duplicates,
            duplicate_ranges: ranges::inclusive(&self.again.ranges()),
        }
    }
}

impl Sent {
    fn note(&mut self, n: u64) {
        if n >= self.count {
            self.beyond += 1;
        } else if !self.seen.insert(n) {
            self.duplicates += 1;
            self.again.insert(n);
        }
    }

    fn report(&self) -> MarkReport {
        let missing = self.seen.missing(0, self.count);
        MarkReport {
            mark: self.run.clone(),
            sender: self.sender,
            expected: self.count,
            seen: self.seen.len(),
            missing: ranges::total(&missing),
            missing_ranges: ranges::inclusive(&missing),
            duplicates: self.duplicates,
            duplicate_ranges: ranges::inclusive(&self.again.ranges()),
            beyond: self.beyond,
        }
    }
}

/// Reads a line without its LF; of one that is longer than any record can be, only the beginning.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let mut any = false;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(any);
        }
        any = true;
        let end = memchr::memchr(b'\n', chunk);
        let part = &chunk[..end.unwrap_or(chunk.len())];
        line.extend_from_slice(&part[..part.len().min(LINE_MAX - line.len())]);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}
