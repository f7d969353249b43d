//! `raven audit sessions`: who came over SSH, what was said, and what came of it, by the records of stream `host`.

use crate::client::Client;
use crate::failure::{Failure, OK};
use crate::output::Output;
use crate::session::CUT_OFF;
use crate::status::screen::table;
use crate::{escape, time};
use clap::Args;
use raven_model::host::{Change, HostEvent};
use raven_model::query::{Query, RecordView, Select};
use raven_model::stream::Stream;
use raven_model::units::UnixNanos;
use serde::Serialize;
use std::collections::BTreeMap;

/// What such a record has in it.
const MARK: &str = "\"event\":\"operator_command\"";

/// `raven audit sessions`.
#[derive(Debug, Clone, Args)]
#[command(after_help = crate::cli::TIMES)]
pub struct SessionsArgs {
    /// Since then; without it a day ago
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = since)]
    pub since: UnixNanos,
}

fn since(text: &str) -> Result<UnixNanos, String> {
    time::parse(text, time::now())
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Said {
    began_ns: UnixNanos,
    role: String,
    who: Option<String>,
    key: Option<String>,
    from: Option<String>,
    words: String,
    code: Option<u8>,
    ms: Option<u64>,
}

/// Runs it.
pub fn run(args: &SessionsArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let select = Select {
        stream: Stream::Host.name().to_owned(),
        since: Some(args.since),
        grep: vec![MARK.to_owned()],
        ..Select::default()
    };
    let mut answer = client.query(&Query::Records(select))?;
    let mut events = Vec::new();
    while let Some(line) = answer.next(output)? {
        let record: RecordView = serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?;
        events.extend(record.raw.and_then(|raw| serde_json::from_str::<HostEvent>(&raw).ok()));
    }
    let said = joined(events);
    if output.json {
        said.iter().try_for_each(|one| output.value(one))?;
    } else {
        table(&["TIME", "ROLE", "WHO", "FROM", "RESULT", "TOOK", "SAID"], said.iter().map(row))
            .iter()
            .try_for_each(|line| output.line(line))?;
    }
    Ok(OK)
}

/// Beginnings with their ends, in the order in which they began.
fn joined(events: Vec<HostEvent>) -> Vec<Said> {
    let (mut said, mut places): (Vec<Said>, BTreeMap<u64, usize>) = Default::default();
    for HostEvent { t, what } in events {
        let Change::OperatorCommand { session, role, who, key, from, words, code, ms } = what else { continue };
        let one = Said { began_ns: t, role, who, key, from, words, code, ms };
        if let Some(begun) = places.get(&session).and_then(|at| said.get_mut(*at)) {
            (begun.code, begun.ms) = (one.code, one.ms);
        } else {
            places.insert(session, said.len());
            said.push(one);
        }
    }
    said
}

fn row(said: &Said) -> Vec<String> {
    let dash = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| escape::text(text));
    let result = match said.code {
        Some(0) => "ok".to_owned(),
        Some(CUT_OFF) => "cut off".to_owned(),
        Some(code) => format!("exit {code}"),
        None => "no end".to_owned(),
    };
    let took = said.ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1000.0));
    let who = said.who.as_ref().or(said.key.as_ref());
    vec![
        time::format(said.began_ns, 0),
        said.role.clone(),
        dash(who),
        dash(said.from.as_ref()),
        result,
        took,
        escape::text(&said.words),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_belongs_to_its_beginning_and_one_that_was_cut_off_has_none() {
        let event = |t, session, words: &str, code| HostEvent {
            t: UnixNanos(t),
            what: Change::OperatorCommand {
                session,
                role: "viewer".to_owned(),
                who: None,
                key: None,
                from: None,
                words: words.to_owned(),
                code,
                ms: code.map(|_| 1500),
            },
        };
        let said =
            joined(vec![event(1, 7, "status", None), event(2, 8, "ping x", None), event(3, 7, "status", Some(0))]);
        let rows: Vec<String> = said.iter().map(|one| row(one)[4..].join(" ")).collect();
        assert_eq!(rows, ["ok 1.5 s status", "no end - ping x"]);
    }
}
