//! `raven export`: stored messages to a file or to standard output.

use crate::cli::Stream;
use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK, file};
use crate::output::Output;
use crate::tail::Window;
use clap::{Args, ValueEnum};
use raven_model::query::{Format, Query, Select};
use std::fs::File;
use std::io::{BufRead, BufWriter, Write as _};
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
    let mut reader = client.query(&Query::Records(select(args)))?;
    match &args.out {
        Some(path) => to_file(&mut reader, path, output),
        None => to_output(&mut reader, args.format, output),
    }?;
    Ok(OK)
}

fn select(args: &ExportArgs) -> Select {
    let format = match args.format {
        ExportFormat::Ndjson => Format::Ndjson,
        ExportFormat::Raw => Format::Raw,
    };
    Select {
        stream: args.stream.name(),
        since: args.window.since,
        until: args.window.until,
        decoded: args.decoded,
        format,
        ..Select::default()
    }
}

fn to_file(reader: &mut impl BufRead, path: &Path, output: &mut Output) -> Result<(), Failure> {
    let mut out = BufWriter::new(File::create(path).map_err(file("create", path))?);
    let (mut lines, mut bytes) = (0_u64, 0_u64);
    pass(reader, |chunk| {
        lines += memchr::memchr_iter(b'\n', chunk).count() as u64;
        bytes += chunk.len() as u64;
        out.write_all(chunk).map_err(file("write", path))
    })?;
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(file("write", path))?;
    if output.json {
        return output.value(&serde_json::json!({ "file": path, "lines": lines, "bytes": bytes }));
    }
    output.remark(&format!("{lines} lines, {bytes} bytes written to {}", path.display()));
    Ok(())
}

fn to_output(reader: &mut impl BufRead, format: ExportFormat, output: &mut Output) -> Result<(), Failure> {
    if !output.terminal {
        return pass(reader, |chunk| output.bytes(chunk));
    }
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(|error| broken(&error))? > 0 {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        match format {
            ExportFormat::Ndjson => output.json_line(text)?,
            ExportFormat::Raw => output.line(&escape::bytes(text))?,
        }
        line.clear();
    }
    Ok(())
}

fn pass(reader: &mut impl BufRead, mut take: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    loop {
        let chunk = reader.fill_buf().map_err(|error| broken(&error))?;
        let read = chunk.len();
        if read == 0 {
            return Ok(());
        }
        take(chunk)?;
        reader.consume(read);
    }
}

fn broken(error: &std::io::Error) -> Failure {
    Failure::Protocol(error.to_string())
}
