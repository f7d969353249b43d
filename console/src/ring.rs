//! `raven ring`: what the ring holds, whether it is sound, and what can be done when it is not.

use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use crate::progress::Bar;
use crate::status::{self, screen};
use clap::Args;
use raven_model::query::{Query, VerifyView};

/// `raven ring verify` and `repair`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// Stream.
    #[command(flatten)]
    pub stream: crate::cli::Stream,
}

/// `raven ring status`.
pub fn status(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let status = status::fetch(client)?;
    if output.json {
        output.value(&status.streams)?;
        return Ok(OK);
    }
    let streams = screen::streams(&status).into_iter();
    for line in streams.chain(screen::ring(&status)).chain(screen::forecasts(&status)) {
        output.line(&line)?;
    }
    Ok(OK)
}

/// `raven ring verify`, and with `repair` what the store does about it: 1 when anything is wrong.
pub fn verify(args: &VerifyArgs, repair: bool, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let mut answer = client.query(&Query::Verify { stream: args.stream.name(), repair })?;
    let mut bar = Bar::default();
    let mut last = None;
    let mut told = 0;
    while let Some(line) = answer.next(output)? {
        let view: VerifyView = serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?;
        if output.json {
            output.json_line(line)?;
        } else {
            bar.clear();
            for problem in view.problems.iter().skip(told) {
                output.line(&format!("problem: {}", escape::text(problem)))?;
            }
            bar.check(&view);
        }
        output.flush()?;
        told = told.max(view.problems.len());
        last = Some(view);
    }
    bar.clear();
    let Some(view) = last.filter(|view| view.done) else {
        return Err(Failure::Protocol("the check broke off before its end; look at the log of ravend".to_owned()));
    };
    if !output.json {
        for done in &view.repairs {
            output.line(&format!("done: {}", escape::text(done)))?;
        }
        output.line(&verdict(&view))?;
    }
    Ok(if view.problems.is_empty() { OK } else { PROBLEM })
}

fn verdict(view: &VerifyView) -> String {
    let stream = escape::text(&view.stream);
    let held = if view.records == 0 {
        "it holds nothing".to_owned()
    } else {
        format!("{} records, seq {} to {}", view.records, view.first_seq, view.next_seq.0.saturating_sub(1))
    };
    match view.problems.len() {
        0 => format!("{stream}: sound; {held}"),
        n => format!("{stream}: {n} problems; {held}"),
    }
}
