//! `raven export`: stored messages to a file or to standard output.

use crate::cli::Stream;
use crate::client::{Answer, Client};
use crate::escape;
use crate::failure::{Failure, OK, file};
use crate::output::Output;
use crate::tail::Window;
use clap::{Args, ValueEnum};
use raven_model::query::{Query, RecordView, Select};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// `raven export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Stream.
    #[command(flatten)]
    pub stream: Stream,
    /// How messages are written
    #[arg(long, value_enum, default_value_t = ExportFormat::Ndjson)]
    pub format: ExportFormat,
    /// With ndjson: add the fields read from each message, or why there are none
    #[arg(long)]
    pub decoded: bool,
    /// Which part of the stream.
    #[command(flatten)]
    pub window: Window,
    /// File to write; without it standard output
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One JSON object a line; every byte of every message comes back
    Ndjson,
    /// The messages as received, each followed by a line feed
    Raw,
}

/// Runs it.
pub fn run(args: &ExportArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    if args.decoded && args.format == ExportFormat::Raw {
        return Err(Failure::Usage("--decoded adds fields to ndjson; --format raw has no place for them".to_owned()));
    }
    let mut answer = client.query(&Query::Records(select(args)))?;
    match &args.out {
        Some(path) => to_file(&mut answer, args.format, path, output),
        None => to_output(&mut answer, args.format, output),
    }?;
    Ok(OK)
}

fn select(args: &ExportArgs) -> Select {
    Select {
        stream: args.stream.name(),
        since: args.window.since,
        until: args.window.until,
        decoded: args.decoded,
        ..Select::default()
    }
}

/// Whatever happens, the file keeps what came before.
fn to_file(answer: &mut Answer, format: ExportFormat, path: &Path, output: &mut Output) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(256 << 10, File::create(path).map_err(file("create", path))?);
    let (mut lines, mut bytes) = (0_u64, 0_u64);
    let passed = pass(answer, format, output, |_, record| {
        lines += 1;
        bytes += record.len() as u64 + 1;
        out.write_all(record).and_then(|()| out.write_all(b"\n")).map_err(file("write", path))
    });
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(file("write", path))?;
    passed.map_err(|failure| failure.kept_in(path))?;
    if output.json {
        return output.value(&serde_json::json!({ "file": path, "lines": lines, "bytes": bytes }));
    }
    output.remark(&format!("{lines} messages, {bytes} bytes written to {}", path.display()));
    Ok(())
}

fn to_output(answer: &mut Answer, format: ExportFormat, output: &mut Output) -> Result<(), Failure> {
    pass(answer, format, output, |output, record| match format {
        ExportFormat::Raw if output.terminal => output.line(&escape::bytes(record)),
        ExportFormat::Ndjson if output.terminal => output.json_line(record),
        _ => output.bytes(record).and_then(|()| output.bytes(b"\n")),
    })
}

/// Hands on each record as it is to be written, without the LF behind it.
fn pass(
    answer: &mut Answer,
    format: ExportFormat,
    output: &mut Output,
    mut take: impl FnMut(&mut Output, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    while let Some(line) = answer.next(output)? {
        match format {
            ExportFormat::Ndjson => take(output, line)?,
            ExportFormat::Raw => take(output, &message(line)?)?,
        }
    }
    Ok(())
}

/// The message exactly as it was received.
fn message(line: &[u8]) -> Result<Vec<u8>, Failure> {
    let view: Result<RecordView, _> = serde_json::from_slice(line);
    view.ok()
        .and_then(|view| view.raw_bytes())
        .ok_or_else(|| Failure::Protocol(format!("a record without its message: {}", escape::bytes(line))))
}
