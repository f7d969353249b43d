//! `raven alerts`: what is wrong now, as the `alert` role says, and what was told of it, from its stream.

use crate::client::Client;
use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use crate::shown;
use crate::status::fetch;
use crate::tail::read_time;
use clap::Args;
use raven_model::alert::Firing;
use raven_model::query::{Query, Select};
use raven_model::stream::Stream;
use raven_model::units::UnixNanos;

/// `raven alerts`.
#[derive(Debug, Clone, Args)]
pub struct AlertsArgs {
    /// Go on with new ones as they are told
    #[arg(long, short)]
    pub follow: bool,
    /// Of those that were told, the newest N
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    pub last: u64,
    /// Of those that were told, only from here on
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    pub since: Option<UnixNanos>,
}

/// Runs it: 1 when something is wrong now. With `--json` a line `{"firing": …}` for each that is not over, then the
/// records.
pub fn run(args: &AlertsArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let status = fetch(client)?;
    if !status.processes.iter().any(|process| process.role == "alert") {
        output.note("nothing is watched: `alert.enabled` is false");
    }
    if output.json {
        for firing in &status.firing {
            let line = serde_json::to_vec(&serde_json::json!({ "firing": firing }));
            output.json_line(&line.map_err(|error| Failure::Output(error.into()))?)?;
        }
    } else {
        now(&status.firing).iter().try_for_each(|line| output.line(line))?;
    }
    if status.streams.iter().any(|stream| stream.name == Stream::Alert.name()) {
        told(args, client, output)?;
    }
    Ok(if status.firing.is_empty() { OK } else { PROBLEM })
}

fn now(firing: &[Firing]) -> Vec<String> {
    if firing.is_empty() {
        return vec!["nothing is wrong".to_owned()];
    }
    let head = format!("{} not over:", firing.len());
    std::iter::once(head).chain(firing.iter().map(|firing| format!("  ! {}", shown::alert::firing(firing)))).collect()
}

/// What was told, oldest first.
fn told(args: &AlertsArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let select = Select {
        stream: Stream::Alert.name().to_owned(),
        since: args.since,
        last: Some(args.last),
        follow: args.follow,
        decoded: true,
        ..Select::default()
    };
    let mut answer = client.query(&Query::Records(select))?;
    let mut is_first = true;
    loop {
        if answer.is_drained() {
            output.flush()?;
        }
        let Some(record) = answer.next(output)? else { return Ok(()) };
        if output.json {
            output.json_line(record)?;
            continue;
        }
        if std::mem::take(&mut is_first) {
            output.line("told:")?;
        }
        for line in shown::record(Stream::Alert, record) {
            output.line(&format!("  {line}"))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::alert::{Rule, Severity};

    #[test]
    fn what_is_not_over_is_said_with_its_severity_and_no_control_character() {
        assert_eq!(now(&[]), ["nothing is wrong"]);
        let firing = Firing {
            alert: Rule::Lag,
            subject: "noc".to_owned(),
            severity: Severity::Warning,
            since_ns: UnixNanos(1),
            text: "noc is \u{1b}behind".to_owned(),
        };
        assert_eq!(now(&[firing]), ["1 not over:", "  ! warning lag: noc is \\x1bbehind"]);
    }
}
