//! `raven export`: stored messages to a file or to standard output.

mod pcap;

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
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The same, by name
    #[arg(long, short, value_name = "FILE", conflicts_with = "file")]
    pub out: Option<PathBuf>,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// One JSON object a line; every byte of every message comes back
    Ndjson,
    /// The messages as received, each followed by a line feed
    Raw,
    /// A capture file for Wireshark and others: each message a UDP datagram from its sender to its listener
    Pcap,
}

/// Runs it.
pub fn run(args: &ExportArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    if args.decoded && args.format != ExportFormat::Ndjson {
        return Err(Failure::Usage(
            "--decoded adds fields to ndjson; the other formats have no place for them".to_owned(),
        ));
    }
    let path = args.file.as_ref().or(args.out.as_ref());
    if args.format == ExportFormat::Pcap && path.is_none() && output.terminal {
        return Err(Failure::Usage("a capture file is not for a terminal: name a FILE, or pipe it".to_owned()));
    }
    let mut answer = client.query(&Query::Records(select(args)))?;
    match path {
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
    let mut write = |part: &[u8]| {
        bytes += part.len() as u64;
        out.write_all(part).map_err(file("write", path))
    };
    let passed = write(&begin(format)).and_then(|()| {
        pass(answer, format, output, |_, record| {
            lines += 1;
            write(record)
        })
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
    output.bytes(&begin(format))?;
    pass(answer, format, output, |output, record| match (format, record) {
        (ExportFormat::Raw, [message @ .., b'\n']) if output.terminal => output.line(&escape::bytes(message)),
        (ExportFormat::Ndjson, [line @ .., b'\n']) if output.terminal => output.json_line(line),
        _ => output.bytes(record),
    })
}

/// What stands in front of all records.
fn begin(format: ExportFormat) -> Vec<u8> {
    if format == ExportFormat::Pcap { pcap::file_header() } else { Vec::new() }
}

/// Hands on each record as it is to be written.
fn pass(
    answer: &mut Answer,
    format: ExportFormat,
    output: &mut Output,
    mut take: impl FnMut(&mut Output, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut odd = pcap::Odd::default();
    let mut written = Vec::new();
    while let Some(line) = answer.next(output)? {
        written.clear();
        match format {
            ExportFormat::Ndjson => written.extend_from_slice(line),
            ExportFormat::Raw => written.extend_from_slice(&message(line)?.1),
            ExportFormat::Pcap => {
                let (view, raw) = message(line)?;
                written = pcap::packets(&view, &raw, &mut odd);
            }
        }
        if format != ExportFormat::Pcap {
            written.push(b'\n');
        }
        take(output, &written)?;
    }
    odd.notes().iter().for_each(|note| output.note(note));
    Ok(())
}

/// A record, and its message exactly as it was received.
fn message(line: &[u8]) -> Result<(RecordView, Vec<u8>), Failure> {
    let view: Option<RecordView> = serde_json::from_slice(line).ok();
    view.and_then(|view| view.raw_bytes().map(|raw| (view, raw)))
        .ok_or_else(|| Failure::Protocol(format!("a record without its message: {}", escape::bytes(line))))
}
