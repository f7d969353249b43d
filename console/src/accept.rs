//! `raven accept`: the acceptance test of a venue. The whole ladder of `raven why`, the way to each destination measured, and one
//! synthetic event through each input to the far end; the outcome as text, as JSON that the device signs, and as one page of
//! HTML that shows the same.

pub(crate) mod html;
mod inputs;
mod measured;
mod report;

use crate::audit::signed;
use crate::client::Client;
use crate::failure::{Failure, OK, PROBLEM, file};
use crate::output::Output;
use crate::why::WhyArgs;
use crate::why::facts::Facts;
use clap::Args;
use report::{Acceptance, Section};
use std::path::{Path, PathBuf};

/// `raven accept`.
#[derive(Debug, Clone, Args)]
pub struct AcceptArgs {
    /// The report as one page of HTML, to FILE; `-`: to standard output, in place of the text
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// The report as JSON with the device's signature, to FILE: see `raven audit verify`
    #[arg(long, value_name = "FILE")]
    pub sign: Option<PathBuf>,
    /// Send no synthetic events
    #[arg(long)]
    pub no_events: bool,
}

/// Runs it: 1 when something failed.
pub fn run(args: &AcceptArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let acceptance = make(args, client, output)?;
    let document = serde_json::to_string(&acceptance).map_err(|error| Failure::Protocol(error.to_string()))?;
    // It stands in a page too: in JSON this is the same text.
    let document = document.replace('<', "\\u003c");
    let signature = signed::of(&document, client)?;
    if let Some(path) = &args.sign {
        std::fs::write(path, format!("{document}\n{signature}\n")).map_err(file("write", path))?;
    }
    let page = args.html.as_ref().map(|path| (path, html::page(&acceptance, &document, &signature)));
    match page {
        Some((path, page)) if path == Path::new("-") => output.line(page.trim_end())?,
        page => {
            if let Some((path, page)) = page {
                std::fs::write(path, page).map_err(file("write", path))?;
            }
            if output.json {
                output.line(&document)?;
            } else {
                report::lines(&acceptance).iter().try_for_each(|line| output.line(line))?;
            }
        }
    }
    Ok(if acceptance.passed { OK } else { PROBLEM })
}

fn make(args: &AcceptArgs, client: &Client, output: &mut Output) -> Result<Acceptance, Failure> {
    let began_ns = crate::time::now();
    output.remark("looking at the box and the way to each destination …");
    let all = WhyArgs { destination: None, sender: None, all: true, passive: false };
    let facts = Facts::gather(&all, client)?;
    let mut sections = report::of_ladder(&facts.judge());
    output.remark("measuring the way to each destination …");
    let (paths, measured) = measured::paths(&facts, client);
    sections.push(Section::new("paths", "The way to each destination, measured", measured));
    if args.no_events {
        sections.push(Section::new(
            "events",
            "One event through each input",
            vec![report::Check::untested("events", "not asked for (--no-events)")],
        ));
    } else {
        output.remark("sending one event through each input …");
        sections.push(Section::new(
            "events",
            "One event through each input, to the far end",
            inputs::checks(&facts, client)?,
        ));
    }
    sections.push(Section::new("storage", "What is kept", report::storage(&facts)));
    Ok(Acceptance::new(&facts, began_ns, crate::time::now(), sections, paths))
}
