//! `raven update`: a bundle from a file, an address or standard input into the slot that does not run, and what the boot
//! loader knows of the slots.
//!
//! Nothing of a bundle is believed here: its header goes to the jailed role `update`, which says from where on it wants
//! the rest.

mod source;

use crate::client::{Client, unexpected};
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use crate::progress::Bar;
use clap::{Args, Subcommand};
use raven_model::control::{Request, Response};
use raven_model::units::ByteCount;
use raven_model::update::{SlotView, Slots, UpdateLine};
use source::Source;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Bytes that are handed over at a time.
const CHUNK: usize = 256 << 10;
/// How long the reader of the bundle may take to say what went wrong, when the answer is over.
const LAST_WORD: Duration = Duration::from_millis(500);

/// `raven update`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct UpdateArgs {
    /// Update bundle: a file or disk, an http:// or https:// address, or - for standard input
    #[arg(value_name = "FILE|URL|-", required = true)]
    pub bundle: Option<String>,
    /// Take an older release than the one that runs
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Something else than an update
    #[command(subcommand)]
    pub command: Option<UpdateCommand>,
}

/// `raven update …`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum UpdateCommand {
    /// The slots: what they hold, which one runs and which is started next, why one was given up
    Status,
}

/// Runs it: 1 when a slot was given up (`status`), or the bundle was not taken.
pub fn run(args: &UpdateArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    match (&args.command, &args.bundle) {
        (Some(UpdateCommand::Status), _) => status(client, output),
        (None, Some(bundle)) => take(bundle, args.allow_downgrade, client, output),
        (None, None) => Err(Failure::Usage("name a bundle, or say `raven update status`".to_owned())),
    }
}

fn status(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let slots = match client.ask(&Request::Slots)? {
        Response::Slots { slots, .. } => slots,
        other => return Err(unexpected(&other)),
    };
    if output.json {
        output.value(&slots)?;
    } else {
        lines(&slots).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(if slots.slots.iter().any(|slot| slot.given_up.is_some()) { PROBLEM } else { OK })
}

/// Slots for people, a line each.
pub fn lines(slots: &Slots) -> Vec<String> {
    let next = slots.next.as_deref().unwrap_or("none: no slot has tries left, so the first that holds a system");
    let mut lines: Vec<String> = slots.slots.iter().map(|slot| line(slot, slots.running == slot.name)).collect();
    lines.push(format!("next start: {next}"));
    let said = |what: &str, by: &Option<String>| by.as_ref().map(|by| format!("{what}{}", escape::text(by)));
    lines.extend(said("all data are discarded at the next start, asked for by ", &slots.reset));
    lines.extend(said("all data were discarded, asked for by ", &slots.was_reset));
    lines
}

fn line(slot: &SlotView, runs: bool) -> String {
    let version = slot.version.map_or_else(|| "-".to_owned(), |version| version.to_string());
    let state =
        if slot.filled { format!("{} tries left", slot.tries) } else { "empty, or being written to".to_owned() };
    let trial = if slot.on_trial { ", new: it has yet to show that it is well" } else { "" };
    let runs = if runs { ", runs" } else { "" };
    let why = slot.given_up.as_ref().map_or_else(String::new, |why| format!("\n  given up: {}", escape::text(why)));
    format!("slot {}: {version}{runs}, {state}{trial}{why}", slot.name)
}

fn take(bundle: &str, downgrade: bool, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let mut source = Source::open(bundle)?;
    let header = source.header()?;
    let mut answer = client.update(downgrade, &header)?;
    let way = answer.way().map_err(|error| Failure::Protocol(error.to_string()))?;
    let (mut source, mut handing) = (Some(source), None);
    let (mut bar, mut total, mut staged) = (Bar::default(), 0, None);
    let told = loop {
        let line = match answer.next(output) {
            Ok(Some(line)) => line,
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
        };
        match serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))? {
            UpdateLine::From { offset, total: all, version, slot } => {
                total = all;
                if offset > 0 {
                    output.remark(&format!("slot {slot} holds {} of it already", ByteCount(offset)));
                }
                output.remark(&format!("Raven {version}, {}, into slot {slot}", ByteCount(total)));
                if let Some(source) = source.take() {
                    let way = way.try_clone().map_err(|error| Failure::Protocol(error.to_string()))?;
                    handing = Some(hand_over(source, header.len() as u64, offset, total, way));
                }
            }
            UpdateLine::Taken { offset } => {
                let text = format!("{} of {}", ByteCount(offset), ByteCount(total));
                bar.bytes(offset, total, &text, output.json);
            }
            UpdateLine::Checking => bar.bytes(total, total, "read back and handed to the boot loader", output.json),
            UpdateLine::Staged { slot, version } => staged = Some((slot, version)),
        }
    };
    bar.clear();
    // Nobody reads what is still to come when the answer is over.
    let _ = way.shutdown(Shutdown::Both);
    // What went wrong where the bundle comes from says more than that it broke off.
    if let Some(failure) = handing.and_then(|handing| handing.recv_timeout(LAST_WORD).ok()).flatten() {
        return Err(failure);
    }
    told?;
    let (slot, version) = staged.ok_or_else(|| Failure::Protocol("the update ended without a word".to_owned()))?;
    if output.json {
        output.value(&serde_json::json!({ "staged": true, "slot": slot, "version": version }))?;
    } else {
        output.line(&format!(
            "Raven {version} is in slot {slot}, read back and right. It runs from the next start on."
        ))?;
        output
            .line("If it is not well then, the box comes back to what runs now, and `raven update status` says why.")?;
    }
    Ok(OK)
}

/// The bytes that are wanted, by a thread of its own. It says what went wrong with the source; that the role takes no more
/// is told by the answer.
fn hand_over(
    mut source: Source,
    header: u64,
    offset: u64,
    total: u64,
    mut way: UnixStream,
) -> Receiver<Option<Failure>> {
    let (say, said) = channel();
    std::thread::spawn(move || {
        let mut hand = || -> Result<(), Failure> {
            let mut left = total - offset;
            source.go_to(header, offset, total)?;
            let mut chunk = vec![0; CHUNK];
            while left > 0 {
                let most = left.min(CHUNK as u64) as usize;
                match source.read(&mut chunk[..most]) {
                    Ok(0) => break,
                    Ok(n) if way.write_all(&chunk[..n]).is_err() => return Ok(()),
                    Ok(n) => left -= n as u64,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(source.failed(error)),
                }
            }
            Ok(())
        };
        let outcome = hand();
        let _ = way.shutdown(Shutdown::Write);
        let _ = say.send(outcome.err());
    });
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::update::Version;

    #[test]
    fn slots_are_told_with_the_reason_for_going_back() {
        let slot = |name: &str, tries, given_up: Option<&str>| SlotView {
            name: name.to_owned(),
            filled: true,
            version: Some(Version(1, 2, 3)),
            tries,
            on_trial: false,
            given_up: given_up.map(str::to_owned),
        };
        let slots = Slots {
            running: "A".to_owned(),
            next: Some("A".to_owned()),
            slots: vec![slot("A", 3, None), slot("B", 0, Some("ravend cannot be reached"))],
            reset: None,
            was_reset: Some("admin, 2026-11-29T17:00:00Z".to_owned()),
        };
        assert_eq!(
            lines(&slots),
            [
                "slot A: 1.2.3, runs, 3 tries left",
                "slot B: 1.2.3, 0 tries left\n  given up: ravend cannot be reached",
                "next start: A",
                "all data were discarded, asked for by admin, 2026-11-29T17:00:00Z"
            ]
        );
    }
}
