//! `raven ring import`: the records of an archive that another Raven exported, into this one.
//!
//! The archive goes twice through the jailed `import` role: once to be looked at, once to be stored. Here nothing of it
//! is read but bytes.

use crate::archive::{account, progress};
use crate::client::{Answer, Client};
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM, file};
use crate::output::Output;
use crate::progress::Bar;
use clap::Args;
use raven_model::archive::{ArchiveLine, ArchiveView, ImportOrder};
use raven_model::units::ByteCount;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Bytes that are handed over at a time.
const CHUNK: usize = 256 << 10;

/// `raven ring import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Archive that `raven ring export` made
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only look what is in it, whether it is whole, and whether it fits
    #[arg(long)]
    pub dry_run: bool,
    /// Import it although the oldest records here have to go for it
    #[arg(long)]
    pub make_room: bool,
    /// Import it although it comes from a box of this one's own name (one that this one replaces)
    #[arg(long)]
    pub same_name: bool,
}

/// Runs it: 1 when something of the archive is missing or damaged, or was not taken.
pub fn run(args: &ImportArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let mut archive = File::open(&args.file).map_err(file("open", &args.file))?;
    let pass = Pass { archive: &mut archive, path: &args.file, client };
    let looked = pass.go(ImportOrder { check: true, same_name: args.same_name }, output)?;
    if !output.json {
        account(&looked, output)?;
        output.flush()?;
    }
    let here: u64 = looked.streams.iter().map(|stream| stream.here).sum();
    let records: u64 = looked.streams.iter().map(|stream| stream.records).sum();
    let code = if looked.problems.is_empty() { OK } else { PROBLEM };
    if args.dry_run || here == records {
        let what = format!(
            "{} of its {records} records are new here and take about {}; there is room for {}",
            records - here,
            ByteCount(looked.need),
            ByteCount(looked.free)
        );
        let what = if here == records { "all of it is here already: nothing to do".to_owned() } else { what };
        return end(&looked, &what, code, output);
    }
    allowed(args, &looked)?;
    let pass = Pass { archive: &mut archive, path: &args.file, client };
    let done = pass.go(ImportOrder { check: false, same_name: args.same_name }, output)?;
    let imported: u64 = done.streams.iter().map(|stream| stream.imported).sum();
    let here: u64 = done.streams.iter().map(|stream| stream.here).sum();
    if !output.json {
        // What the look did not show: it was not taken.
        for problem in done.problems.iter().filter(|problem| !looked.problems.contains(problem)) {
            output.line(&format!("problem: {}", escape::text(problem)))?;
        }
    }
    let what = format!("{imported} records imported, {here} were here already");
    end(&done, &what, if done.problems.is_empty() { OK } else { PROBLEM }, output)
}

fn end(view: &ArchiveView, what: &str, code: u8, output: &mut Output) -> Result<u8, Failure> {
    if output.json {
        output.value(view)?;
    } else {
        output.line(what)?;
    }
    Ok(code)
}

/// What must be said before records come or go that nobody meant.
fn allowed(args: &ImportArgs, looked: &ArchiveView) -> Result<(), Failure> {
    if looked.same_name && !args.same_name {
        let device = escape::text(&looked.device);
        return Err(Failure::Refused(vec![
            format!("it was made by a box of this one's own name, {device}: what is kept here may be the same records"),
            "if it was another box, or its ring was lost, say so with --same-name".to_owned(),
        ]));
    }
    // Blocks are packed anew, and a segment is begun ahead.
    if looked.need + looked.need / 8 > looked.free && !args.make_room {
        return Err(Failure::Refused(vec![
            format!(
                "it takes about {}, and there is room for {}: the oldest records here would go",
                ByteCount(looked.need),
                ByteCount(looked.free)
            ),
            "if that is meant, say so with --make-room; or raise `buffer.disk`".to_owned(),
        ]));
    }
    Ok(())
}

/// The archive on its way through the import role.
struct Pass<'a> {
    archive: &'a mut File,
    path: &'a Path,
    client: &'a Client,
}

impl Pass<'_> {
    fn go(self, order: ImportOrder, output: &mut Output) -> Result<ArchiveView, Failure> {
        let Self { archive, path, client } = self;
        let unread = || file("read", path);
        let total = archive.metadata().map_err(unread())?.len();
        archive.rewind().map_err(unread())?;
        let mut answer = client.import(&order)?;
        let way = answer.way().map_err(|error| Failure::Protocol(error.to_string()))?;
        let (told, handed) = std::thread::scope(|scope| {
            let hand = scope.spawn(|| hand_over(archive, &way));
            let told = hear(&mut answer, total, output);
            // Nobody reads what is still to come when the answer is over.
            let _ = way.shutdown(Shutdown::Both);
            (told, hand.join())
        });
        let told = told?;
        match handed {
            Ok(Err(error)) => Err(unread()(error)),
            _ => Ok(told),
        }
    }
}

/// Its bytes, to the end. Only what goes wrong with the file is an error: the rest is told by the answer.
fn hand_over(archive: &mut File, mut way: &UnixStream) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match archive.read(&mut chunk)? {
            0 => break,
            n if way.write_all(&chunk[..n]).is_err() => return Ok(()),
            _ => {}
        }
    }
    let _ = way.shutdown(Shutdown::Write);
    Ok(())
}

fn hear(answer: &mut Answer, total: u64, output: &mut Output) -> Result<ArchiveView, Failure> {
    let (mut bar, mut view) = (Bar::default(), ArchiveView::default());
    while let Some(line) = answer.next(output)? {
        let line = serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?;
        if let ArchiveLine::View(now) = line {
            view = *now;
            bar.bytes(view.bytes, total, &progress(&view), output.json);
        }
    }
    bar.clear();
    if view.done {
        Ok(view)
    } else {
        Err(Failure::Protocol("the import broke off before its end; say it again: nothing comes twice".to_owned()))
    }
}
