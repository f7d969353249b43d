//! `raven sources`: who is sending. Of one stream the senders; of all of them also the exporters of flows and the SNMPv3
//! engines, as the collectors report them.

mod engines;
mod exporters;
mod senders;

use crate::cli::Stream;
use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK};
use crate::output::Output;
use crate::reports::{self, Reports};
use crate::tail::read_time;
use crate::time;
use clap::Args;
use raven_model::query::{Query, SourceView};
use raven_model::report::{CollectorReport, ListenerStatus};
use raven_model::stream;
use raven_model::units::UnixNanos;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

/// `raven sources`.
#[derive(Debug, Clone, Args)]
pub struct SourcesArgs {
    /// Stream; without it all of them, with exporters and engines.
    #[command(flatten)]
    pub stream: Stream,
    /// Only what was received at or after this time
    #[arg(long, value_name = "TIME", value_parser = read_time, default_value = "10m")]
    pub since: UnixNanos,
}

/// Runs it.
pub fn run(args: &SourcesArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    match args.stream.given() {
        Some(stream) => one(stream, args.since, client, output),
        None => all(args.since, client, output),
    }
}

fn one(stream: stream::Stream, since: UnixNanos, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let mut answer =
        client.query(&Query::Sources { stream: stream.name().to_owned(), since: Some(since), until: None })?;
    let mut views = Vec::new();
    while let Some(line) = answer.next(output)? {
        if output.json {
            output.json_line(line)?;
        } else {
            views.push(serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?);
        }
    }
    if !output.json {
        senders::table(&views, time::now()).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(OK)
}

/// The senders of a stream; `None` where it is not kept.
pub fn of_stream(
    stream: stream::Stream,
    since: UnixNanos,
    client: &Client,
    output: &mut Output,
) -> Result<Option<Vec<SourceView>>, Failure> {
    let query = Query::Sources { stream: stream.name().to_owned(), since: Some(since), until: None };
    views(&query, client, output)
}

/// The senders that a query is about; `None` where its stream is not kept.
pub fn views(query: &Query, client: &Client, output: &mut Output) -> Result<Option<Vec<SourceView>>, Failure> {
    let mut answer = match client.query(query) {
        Ok(answer) => answer,
        Err(Failure::Refused(why)) if why.iter().any(|why| why.starts_with("there is no stream")) => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let mut views = Vec::new();
    while let Some(line) = answer.next(output)? {
        views.push(serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?);
    }
    Ok(Some(views))
}

fn all(since: UnixNanos, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let reports = Reports::fetch(client)?;
    reports.unread.iter().for_each(|problem| output.note(problem));
    let nothing = CollectorReport::default();
    for stream in stream::Stream::ALL {
        let report = reports.collectors.get(&stream);
        let views = of_stream(stream, since, client, output)?;
        if views.is_none() && report.is_none() {
            continue;
        }
        let part = Part {
            stream,
            views: &views.unwrap_or_default(),
            report: report.unwrap_or(&nothing),
            drops: socket_drops(&reports.listeners, stream),
        };
        if output.json { part.json(output)? } else { part.lines().iter().try_for_each(|line| output.line(line))? }
    }
    Ok(OK)
}

/// What the kernel and `ravend` dropped before a collector had it, by listener and reason.
fn socket_drops(listeners: &[ListenerStatus], stream: stream::Stream) -> BTreeMap<String, BTreeMap<String, u64>> {
    let of = listeners.iter().filter(|listener| listener.stream == stream.name());
    of.map(|listener| (reports::name(listener), listener.dropped.clone())).collect()
}

/// One stream.
struct Part<'a> {
    stream: stream::Stream,
    views: &'a [SourceView],
    report: &'a CollectorReport,
    drops: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Part<'_> {
    /// An object a line, told apart by `kind`.
    fn json(&self, output: &mut Output) -> Result<(), Failure> {
        self.views.iter().try_for_each(|view| self.object("sender", view, output))?;
        self.report.exporters.iter().try_for_each(|exporter| self.object("exporter", exporter, output))?;
        self.report.engines.iter().try_for_each(|engine| self.object("engine", engine, output))?;
        let drops = json!({ "listeners": self.drops, "collector": self.report.dropped });
        self.object("drops", &drops, output)
    }

    fn object(&self, kind: &str, value: &impl Serialize, output: &mut Output) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Object<'a, T> {
            stream: &'a str,
            kind: &'a str,
            #[serde(flatten)]
            value: &'a T,
        }
        let object = Object { stream: self.stream.name(), kind, value };
        let line = serde_json::to_vec(&object).map_err(|error| Failure::Output(error.into()))?;
        output.json_line(&line)
    }

    fn lines(&self) -> Vec<String> {
        let now = time::now();
        let mut lines = vec![format!("{} ({})", self.stream.name().to_uppercase(), what(self.stream))];
        lines.extend(senders::table(self.views, now));
        lines.extend(exporters::lines(&self.report.exporters, now));
        lines.extend(engines::lines(&self.report.engines, now));
        lines.extend(self.our_drops());
        lines.push(String::new());
        lines
    }

    fn our_drops(&self) -> Option<String> {
        let listeners = self.drops.iter().flat_map(|(name, drops)| drops.iter().map(move |drop| (drop, Some(name))));
        let own = self.report.dropped.iter().map(|drop| (drop, None));
        let told: Vec<String> = listeners
            .chain(own)
            .filter(|((_, count), _)| **count > 0)
            .map(|((reason, count), name)| {
                let at = name.map(|name| format!(" at {}", escape::text(name))).unwrap_or_default();
                format!("{count} {}{at}", escape::text(reason))
            })
            .collect();
        (!told.is_empty()).then(|| format!("dropped by Raven: {}", told.join(", ")))
    }
}

/// What a stream is, for those who see it first.
const fn what(stream: stream::Stream) -> &'static str {
    match stream {
        stream::Stream::Syslog => "messages of devices",
        stream::Stream::Flow => "NetFlow, IPFIX and sFlow",
        stream::Stream::Trap => "SNMP notifications",
        stream::Stream::Winevent => "Windows events",
        stream::Stream::Metrics => "metrics and log lines pushed by Prometheus and Alloy",
        stream::Stream::Host => "the appliance itself",
        stream::Stream::Diag => "scheduled tests",
        stream::Stream::Alert => "what to act on",
    }
}
