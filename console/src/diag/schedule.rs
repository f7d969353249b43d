//! `raven diag schedules`, `raven diag history`, `raven diag run`: tests that are made by themselves.

use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use crate::shown::diag::{figures, line};
use crate::status::screen::table;
use crate::tail::read_time;
use crate::time::{ago, now};
use clap::{Args, Subcommand};
use raven_model::calendar::{format, span};
use raven_model::diag::schedule::{
    DiagRecord, Figures, HistoryRow, Outcome, ScheduleOrder, ScheduleReport, ScheduleStatus, ThresholdState,
};
use raven_model::units::UnixNanos;

/// Characters of a sparkline.
const WIDE: usize = 60;

/// `raven diag`.
#[derive(Debug, Subcommand)]
pub enum DiagCommand {
    /// Scheduled tests: when, the last result, and where their thresholds stand
    Schedules,
    /// What a scheduled test came to
    History(HistoryArgs),
    /// Make a scheduled test now
    Run {
        /// `[diag.schedule.NAME]`
        name: String,
    },
}

/// `raven diag history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// `[diag.schedule.NAME]`, also one that is there no more
    name: String,
    /// Only from here on
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    since: Option<UnixNanos>,
    /// The newest N
    #[arg(long, short = 'n', value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=i64::from(ScheduleOrder::ROWS)))]
    last: u32,
}

/// Runs it.
pub fn run(command: DiagCommand, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    match command {
        DiagCommand::Schedules => schedules(client, output),
        DiagCommand::History(args) => history(args, client, output),
        DiagCommand::Run { name } => run_now(name, client, output),
    }
}

fn read<T: serde::de::DeserializeOwned>(line: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))
}

/// 1 when a threshold is passed.
fn schedules(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let mut answer = client.schedule(&ScheduleOrder::List)?;
    let mut code = OK;
    while let Some(line) = answer.next(output)? {
        let report: ScheduleReport = read(line)?;
        if report.schedules.iter().any(is_beyond) {
            code = PROBLEM;
        }
        if output.json {
            output.json_line(line)?;
        } else {
            shown(&report).iter().try_for_each(|line| output.line(line))?;
        }
    }
    Ok(code)
}

fn is_beyond(schedule: &ScheduleStatus) -> bool {
    schedule.thresholds.iter().any(|threshold| threshold.state == ThresholdState::Beyond)
}

fn shown(report: &ScheduleReport) -> Vec<String> {
    let next = |schedule: &ScheduleStatus| match (schedule.running, schedule.waiting, schedule.next_s) {
        (true, ..) => "now".to_owned(),
        (_, true, _) => "waits for others".to_owned(),
        (.., Some(seconds)) => format!("in {}", span(seconds)),
        _ => "-".to_owned(),
    };
    let row = |schedule: &ScheduleStatus| {
        let last = schedule.last.as_ref();
        let figures = last.map(|last| figures(&last.figures)).filter(|figures| !figures.is_empty());
        let why = last.and_then(|last| last.why.as_deref()).map(escape::text);
        vec![
            escape::text(&schedule.name),
            schedule.test.name().to_owned(),
            escape::text(&schedule.when),
            next(schedule),
            last.map_or_else(|| "-".to_owned(), |last| format!("{} {}", last.outcome.name(), ago(last.t, now()))),
            figures.or(why).unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let mut lines = table(&["NAME", "TEST", "WHEN", "NEXT", "LAST", "FIGURES"], report.schedules.iter().map(row));
    let thresholds = report.schedules.iter().flat_map(|schedule| {
        schedule.thresholds.iter().map(|threshold| {
            vec![
                escape::text(&schedule.name),
                threshold.threshold.name().to_owned(),
                escape::text(&threshold.limit),
                if threshold.value.is_empty() { "-".to_owned() } else { escape::text(&threshold.value) },
                threshold.state.name().to_owned(),
            ]
        })
    });
    lines.push(String::new());
    lines.extend(table(&["NAME", "THRESHOLD", "LIMIT", "VALUE", "STATE"], thresholds));
    let history = &report.history;
    if let Some(error) = &history.error {
        lines.push(format!("history: {} ({} results not kept)", escape::text(error), history.lost));
    }
    lines
}

fn history(args: HistoryArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let since = args.since.unwrap_or(UnixNanos(0));
    let order = ScheduleOrder::History { schedule: args.name, since, rows: args.last };
    let mut answer = client.schedule(&order)?;
    let mut rows: Vec<HistoryRow> = Vec::new();
    while let Some(line) = answer.next(output)? {
        if output.json {
            output.json_line(line)?;
        } else {
            rows.push(read(line)?);
        }
    }
    if output.json {
        return Ok(OK);
    }
    if rows.is_empty() {
        output.note("no results are kept of that");
        return Ok(OK);
    }
    let cells = |row: &HistoryRow| {
        let why = row.why.as_deref().map(escape::text).unwrap_or_default();
        vec![format(row.t, 0), row.outcome.name().to_owned(), format!("{} ms", row.took_ms), figures(&row.figures), why]
    };
    for line in table(&["TIME", "RESULT", "TOOK", "FIGURES", "WHY"], rows.iter().map(cells)) {
        output.line(line.trim_end())?;
    }
    for (name, of) in SERIES {
        let values: Vec<Option<f64>> =
            rows.iter().filter(|row| row.outcome != Outcome::Skipped).map(|row| of(&row.figures)).collect();
        if let Some(spark) = sparkline(&values) {
            output.line(&format!("{name:>8}  {spark}"))?;
        }
    }
    Ok(OK)
}

/// A name, and where its number is.
type Series = (&'static str, fn(&Figures) -> Option<f64>);

const SERIES: [Series; 5] = [
    ("loss %", |f| f.loss),
    ("p95 ms", |f| f.rtt.map(|rtt| f64::from(rtt.p95_us) / 1e3)),
    ("time ms", |f| f.time_us.map(|us| f64::from(us) / 1e3)),
    ("Mbit/s", |f| f.rate.map(|rate| rate / 1e6)),
    ("offset ms", |f| f.offset_us.map(|us| us as f64 / 1e3)),
];

/// The newest values as heights between their least and most; a blank where there is none. Nothing where there are none at all.
fn sparkline(values: &[Option<f64>]) -> Option<String> {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = &values[values.len().saturating_sub(WIDE)..];
    let known = || values.iter().flatten().copied();
    let (least, most) = (known().min_by(f64::total_cmp)?, known().max_by(f64::total_cmp)?);
    let bar = |value: f64| {
        let share = if most > least { (value - least) / (most - least) } else { 0.0 };
        BARS[((share * 7.0).round() as usize).min(7)]
    };
    let bars: String = values.iter().map(|value| value.map_or(' ', bar)).collect();
    Some(format!("{bars}  {least:.2} to {most:.2}"))
}

fn run_now(name: String, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let mut answer = client.schedule(&ScheduleOrder::Run { schedule: name })?;
    let mut code = PROBLEM;
    while let Some(told) = answer.next(output)? {
        let record: DiagRecord = read(told)?;
        if record.outcome == Outcome::Well {
            code = OK;
        }
        if output.json {
            output.json_line(told)?;
        } else {
            output.line(&line(&record))?;
        }
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_sparkline_reaches_from_the_least_to_the_most() {
        assert_eq!(sparkline(&[Some(1.0), None, Some(8.0), Some(4.5)]).unwrap(), "▁ █▅  1.00 to 8.00");
        assert_eq!(sparkline(&[Some(3.0)]).unwrap(), "▁  3.00 to 3.00");
        assert_eq!(sparkline(&[None, None]), None);
        assert_eq!(sparkline(&[]), None);
        let many: Vec<Option<f64>> = (0..200).map(|n| Some(f64::from(n))).collect();
        assert!(sparkline(&many).unwrap().ends_with("140.00 to 199.00"));
    }
}
