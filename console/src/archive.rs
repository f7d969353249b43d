//! `raven ring export`: records into a file that is carried to another Raven, where `raven ring import` takes them.
//!
//! The decode role makes the archive; here its bytes are written as they come, and made durable at the end.

use crate::cli::read_stream;
use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM, file};
use crate::output::Output;
use crate::progress::Bar;
use crate::status::{self, screen};
use crate::tail::Window;
use crate::time;
use clap::Args;
use raven_model::archive::{ArchiveLine, ArchiveSelect, ArchiveStream, ArchiveView};
use raven_model::query::Query;
use raven_model::report::Status;
use raven_model::stream::Stream;
use raven_model::units::ByteCount;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// `raven ring export`.
#[derive(Debug, Clone, Args)]
pub struct ArchiveArgs {
    /// File to make, or the folder (a USB disk) in which to make one
    #[arg(value_name = "FILE|FOLDER")]
    pub target: PathBuf,
    /// Only this stream; may be given several times [default: all that are kept]
    #[arg(long = "stream", value_name = "STREAM", value_parser = read_stream)]
    pub streams: Vec<Stream>,
    /// Which part of the streams.
    #[command(flatten)]
    pub window: Window,
}

/// Runs it: 1 when records that were asked for are not in it.
pub fn run(args: &ArchiveArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let status = status::fetch(client)?;
    let select = select(args, &status);
    let path = path(&args.target, &status, "rvna");
    // An answer first: a question that is refused makes no file.
    let mut answer = client.query(&Query::Archive(select.clone()))?;
    let made = File::options().write(true).create_new(true).open(&path).map_err(file("make", &path))?;
    let about = estimate(&select, &status);
    warn_of_room(&path, about, output);
    let mut out = BufWriter::with_capacity(256 << 10, made);
    let (mut bar, mut view) = (Bar::default(), ArchiveView::default());
    let passed = loop {
        let line = match answer.next(output) {
            Ok(Some(line)) => line,
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure.kept_in(&path)),
        };
        let line: ArchiveLine = serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?;
        let written = match line {
            ArchiveLine::View(now) => {
                view = *now;
                bar.bytes(view.bytes, about, &progress(&view), output.json);
                Ok(())
            }
            ArchiveLine::Part(_) => {
                let bytes = line.bytes().ok_or_else(|| Failure::Protocol("a part that is no base64".to_owned()))?;
                out.write_all(&bytes)
            }
        };
        if let Err(error) = written {
            break Err(cut_short(&path, &error));
        }
    };
    bar.clear();
    // Whatever happened, what was written is to be there when the disk is pulled out.
    let durable = out.flush().and_then(|()| out.get_ref().sync_all()).and_then(|()| sync_folder(&path));
    passed?;
    durable.map_err(|error| cut_short(&path, &error))?;
    if !view.done {
        return Err(Failure::Protocol("the export broke off before its end; look at the log of ravend".to_owned()));
    }
    tell(&view, &path, output)?;
    Ok(if view.problems.is_empty() { OK } else { PROBLEM })
}

fn select(args: &ArchiveArgs, status: &Status) -> ArchiveSelect {
    let kept = status.streams.iter().map(|stream| stream.name.clone());
    let mut asked: Vec<String> = Vec::new();
    for stream in &args.streams {
        if !asked.iter().any(|name| name == stream.name()) {
            asked.push(stream.name().to_owned());
        }
    }
    let streams = if asked.is_empty() { kept.collect() } else { asked };
    ArchiveSelect { streams, since: args.window.since, until: args.window.until }
}

/// In a folder a file is named by the box, the time and what it is.
pub fn path(target: &Path, status: &Status, extension: &str) -> PathBuf {
    if !target.is_dir() {
        return target.to_owned();
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let device: String = status.device.chars().map(plain).collect();
    let stamp: String = time::format(status.now_ns, 0).chars().filter(char::is_ascii_alphanumeric).collect();
    target.join(format!("raven-{device}-{stamp}.{extension}"))
}

/// Bytes that it may become, at most about so many: all that is kept of these streams.
fn estimate(select: &ArchiveSelect, status: &Status) -> u64 {
    let meant = status.streams.iter().filter(|stream| select.streams.contains(&stream.name));
    meant.map(|stream| stream.bytes_disk).sum()
}

fn warn_of_room(path: &Path, about: u64, output: &mut Output) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(disk) = rustix::fs::statvfs(folder) else { return };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < about {
        let (free, about) = (ByteCount(free), ByteCount(about));
        output.note(&format!("{} has {free} free; all of these streams are about {about}", folder.display()));
    }
}

/// What came before it is good.
fn cut_short(path: &Path, error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full: export the rest to another one with --since",
        io::ErrorKind::FileTooLarge => {
            "a file on FAT has at most 4 GiB: format the disk as exFAT or ext4, or export in parts by --since and --until"
        }
        _ => "look at the disk",
    };
    let kept = "is incomplete: what was written can be imported, what came behind is missing";
    Failure::Refused(vec![
        format!("cannot write {}: {error}", path.display()),
        hint.to_owned(),
        format!("{} {kept}", path.display()),
    ])
}

/// The name of a new file is durable when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems of USB disks do not know this.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

/// How far it is, for the bar.
pub fn progress(view: &ArchiveView) -> String {
    let records: u64 = view.streams.iter().map(|stream| stream.records).sum();
    format!("{}, {records} records", ByteCount(view.bytes))
}

fn tell(view: &ArchiveView, path: &Path, output: &mut Output) -> Result<(), Failure> {
    if output.json {
        return output.value(&serde_json::json!({ "file": path, "archive": view }));
    }
    account(view, output)?;
    output.line(&format!("{} of it in {}", ByteCount(view.bytes), path.display()))
}

/// What is in an archive, for people.
pub fn account(view: &ArchiveView, output: &mut Output) -> Result<(), Failure> {
    for problem in &view.problems {
        output.line(&format!("problem: {}", escape::text(problem)))?;
    }
    let (device, made) = (escape::text(&view.device), time::format(view.made_ns, 0));
    output.line(&format!("archive of {device}, made {made}"))?;
    let head = ["STREAM", "RECORDS", "SEQ", "FIRST", "LAST", "BYTES"].map(str::to_owned).to_vec();
    let rows = std::iter::once(head).chain(view.streams.iter().map(row)).collect();
    screen::columns(rows).iter().try_for_each(|line| output.line(line))
}

fn row(stream: &ArchiveStream) -> Vec<String> {
    let at = |wall: Option<_>| wall.map_or_else(|| "-".to_owned(), |wall| time::format(wall, 0));
    let seqs = match stream.records {
        0 => "-".to_owned(),
        _ => format!("{}-{}", stream.first_seq, stream.next_seq.0.saturating_sub(1)),
    };
    let (name, records) = (escape::text(&stream.stream), stream.records.to_string());
    vec![name, records, seqs, at(stream.first_ns), at(stream.last_ns), ByteCount(stream.bytes).to_string()]
}
