//! `raven capture`: frames into a file, which this program writes.

use super::{MeantArgs, event};
use crate::client::{Answer, Client};
use crate::diag::milliseconds;
use crate::escape;
use crate::failure::{Failure, OK, file};
use crate::output::Output;
use clap::Args;
use raven_model::diag::wire::{CaptureOrder, CaptureResult, Event, Order, Purpose};
use raven_model::units::{ByteCount, Span};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// `raven capture`.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// As `raven net` shows it
    interface: String,
    /// File to make; `-`: standard output
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// How long at most
    #[arg(long = "for", value_name = "TIME", default_value = "10s")]
    time: Span,
    /// Frames at most
    #[arg(short = 'c', long, value_name = "N", default_value = "10000")]
    packets: u64,
    /// Bytes of the file at most
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    bytes: ByteCount,
    /// Bytes of each frame at most [default: all]
    #[arg(short, long, value_name = "N")]
    snap: Option<u32>,
    #[command(flatten)]
    meant: MeantArgs,
}

/// Runs `raven capture`.
pub fn capture(args: &CaptureArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let is_stdout = args.file == Path::new("-");
    if is_stdout && output.terminal {
        return Err(Failure::Usage("a capture file is not for a terminal: name a FILE, or pipe it".to_owned()));
    }
    let tap = args.meant.tap(&args.interface, Purpose::Capture, args.snap);
    let order = CaptureOrder {
        for_ms: milliseconds(args.time),
        packets: args.packets,
        bytes: args.bytes.0,
        meant: args.meant.meant(),
    };
    // An answer first: what is refused makes no file.
    let mut answer = client.wire(&tap, &Order::Capture(order))?;
    let result =
        if is_stdout { take(&mut answer, output, Output::bytes)? } else { to_file(&mut answer, &args.file, output)? };
    if output.json && !is_stdout {
        output.value(&result)?;
    } else {
        output.remark(&words(&result));
    }
    Ok(OK)
}

/// Whatever happens, the file keeps what came before. Nobody else may read it: of what passes by there is much that is secret.
fn to_file(answer: &mut Answer, path: &Path, output: &mut Output) -> Result<CaptureResult, Failure> {
    let made = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(file("make", path))?;
    let mut out = BufWriter::with_capacity(256 << 10, made);
    let taken = take(answer, output, |_, bytes| out.write_all(bytes).map_err(file("write", path)));
    out.flush().map_err(file("write", path))?;
    taken.map_err(|failure| failure.kept_in(path))
}

fn take(
    answer: &mut Answer,
    output: &mut Output,
    mut write: impl FnMut(&mut Output, &[u8]) -> Result<(), Failure>,
) -> Result<CaptureResult, Failure> {
    let mut result = None;
    while let Some(line) = answer.next(output)? {
        match event(line)? {
            Event::Captured(told) => result = Some(told),
            part => {
                let bytes = part.bytes().ok_or_else(|| Failure::Protocol("a part that is no base64".to_owned()))?;
                write(output, &bytes)?;
            }
        }
        if answer.is_drained() {
            output.flush()?;
        }
    }
    result.ok_or_else(|| Failure::Protocol("the capture ended without a result".to_owned()))
}

fn words(result: &CaptureResult) -> String {
    let odd = [(result.cut, "cut"), (result.unmeant, "not asked for"), (result.dropped, "lost: they came too fast")];
    let odd: Vec<String> = odd.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what}")).collect();
    let (interface, ended_by) = (escape::text(&result.interface), escape::text(&result.ended_by));
    format!("{interface}: {} frames, {} bytes{}; ended by {ended_by}", result.packets, result.bytes, odd.concat())
}
