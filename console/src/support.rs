//! `raven support`: one file with what a colleague needs to help, and no secret in it.
//!
//! Everything is asked for as an operator would ask, in this process; what cannot be had is named in `missing.txt` with the
//! reason. Two things keep secrets out: the configuration comes from the typed one (no comments) with `***` for secrets,
//! and of addresses of HTTP only the host stays, since a path or a query can hold a token ([`without_paths`]).

mod machine;

use crate::cli;
use crate::client::{Client, unexpected};
use crate::failure::{Failure, OK, file};
use crate::output::Output;
use crate::tui::facts::Facts;
use crate::tui::pages::Tab;
use crate::{archive, status, time};
use clap::Args;
use raven_model::control::{Request, Response};
use raven_model::units::ByteCount;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Most bytes of a journal in the bundle; of others; what is longer loses its oldest lines.
const LOG_MAX: u64 = 2 << 20;
const PART_MAX: usize = 1 << 20;
/// Most bytes of all parts together, before they are compressed.
const ALL_MAX: usize = 16 << 20;
const LEVEL: i32 = 9;
const ENDING: &str = "tar.zst";

/// What is asked for by commands of this program: file and words.
const COMMANDS: [(&str, &str); 10] = [
    ("status.json", "status --json"),
    ("status.txt", "status"),
    ("slots.txt", "update status"),
    ("history.txt", "config history"),
    ("audit.json", "audit report --json"),
    ("ring.txt", "ring status"),
    ("net.txt", "net"),
    ("net-events.txt", "net events"),
    ("alerts.txt", "alerts"),
    ("dead.txt", "dead list"),
];

/// `raven support`.
#[derive(Debug, Args)]
pub struct SupportArgs {
    /// File to make, the folder in which to make one, or - for standard output
    #[arg(value_name = "FILE|FOLDER|-", default_value = "-")]
    pub target: PathBuf,
    /// Onto the USB stick that is in the box instead
    #[arg(long, conflicts_with = "target")]
    pub stick: bool,
}

/// A file of the bundle, or why it is not in it.
#[derive(Debug)]
struct Part {
    name: &'static str,
    content: Result<Vec<u8>, String>,
}

/// Runs it.
pub fn run(args: &SupportArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    if args.stick {
        output.line(&onto_stick(client)?)?;
        return Ok(OK);
    }
    if args.target == Path::new("-") {
        if output.terminal || io::stdout().is_terminal() {
            return Err(Failure::Usage("a bundle is no text: say a FILE, or redirect standard output".to_owned()));
        }
        let (bytes, missing) = bundle(client)?;
        output.bytes(&bytes)?;
        output.remark(&told(&bytes, missing));
        return Ok(OK);
    }
    let path = archive::path(&args.target, &status::fetch(client)?, ENDING);
    let (bytes, missing) = bundle(client)?;
    let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
    let written = made.and_then(|mut made| made.write_all(&bytes).and_then(|()| made.sync_all()));
    written.map_err(file("write", &path))?;
    output.line(&format!("{}: {}", path.display(), told(&bytes, missing)))?;
    Ok(OK)
}

fn told(bytes: &[u8], missing: usize) -> String {
    let missing = if missing == 0 { String::new() } else { format!(", {missing} things are missing: missing.txt") };
    format!("{}{missing}", ByteCount(bytes.len() as u64))
}

/// The bundle, a tar compressed by zstd, and how many things are missing in it.
///
/// # Errors
/// The archive cannot be made.
pub fn bundle(client: &Client) -> Result<(Vec<u8>, usize), Failure> {
    let (files, missing) = files(gather(client));
    packed(&files).map(|bytes| (bytes, missing)).map_err(Failure::Output)
}

/// Puts a bundle onto a USB stick; what came of it, in words.
///
/// # Errors
/// There is no stick, it is full, or nobody may do that.
pub fn onto_stick(client: &Client) -> Result<String, Failure> {
    let name = archive::path(Path::new("/"), &status::fetch(client)?, ENDING);
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (bytes, missing) = bundle(client)?;
    Ok(format!("{}: {}", client.give(&name, &bytes)?, told(&bytes, missing)))
}

fn gather(client: &Client) -> Vec<Part> {
    let part = |name, content: Result<String, String>| Part { name, content: content.map(String::into_bytes) };
    let facts = Facts::gather(client, Some(Ok(Vec::new())));
    let page = |tab: Tab| {
        let rows: Vec<String> = tab.rows(&facts).into_iter().map(|row| row.text + "\n").collect();
        rows.concat()
    };
    let mut parts: Vec<Part> =
        COMMANDS.into_iter().map(|(name, words)| Part { name, content: said(words, client) }).collect();
    parts.extend([
        part("config.toml", configuration(client).map_err(|failure| failure.to_string())),
        part("install.json", installation(client).map_err(|failure| failure.to_string())),
        part("network.txt", Ok(page(Tab::Network))),
        part("system.txt", Ok(page(Tab::System))),
        part("processes.txt", machine::processes().map_err(|error| format!("/proc: {error}"))),
        part("disks.txt", machine::disks().map_err(|error| format!("/proc/self/mounts: {error}"))),
        Part { name: "journal.txt", content: journal(client, false).map_err(|failure| failure.to_string()) },
        Part { name: "kernel.txt", content: journal(client, true).map_err(|failure| failure.to_string()) },
    ]);
    parts.extend(
        machine::FILES
            .map(|(name, path)| part(name, std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}")))),
    );
    parts
}

/// What a command of this program says.
fn said(words: &str, client: &Client) -> Result<Vec<u8>, String> {
    let words = std::iter::once("raven").chain(words.split(' ')).map(OsString::from).collect();
    let cli = cli::parse(words).map_err(|error| error.to_string())?;
    let (mut output, said) = Output::kept(cli.json);
    let command = cli.command.ok_or("no command")?;
    let code = cli::run(command, client.clone(), &mut output);
    drop(output);
    // That something is wrong is what it says, and no reason to leave it out.
    code.map(|_| said.take()).map_err(|failure| failure.to_string())
}

fn configuration(client: &Client) -> Result<String, Failure> {
    match client.ask(&Request::Show)? {
        Response::Config(config) => Ok(config.to_toml_without_secrets()),
        other => Err(unexpected(&other)),
    }
}

fn installation(client: &Client) -> Result<String, Failure> {
    match client.ask(&Request::Progress)? {
        Response::Progress(progress) => {
            serde_json::to_string_pretty(&progress).map_err(|error| Failure::Protocol(error.to_string()))
        }
        other => Err(unexpected(&other)),
    }
}

/// The end of the journal.
fn journal(client: &Client, kernel: bool) -> Result<Vec<u8>, Failure> {
    let mut file = client.journal(kernel)?;
    let mut text = Vec::new();
    let read = file.seek(SeekFrom::End(0)).and_then(|len| {
        // One more than may stay, so that it is seen and told that something is cut.
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_MAX + 1)))?;
        file.take(LOG_MAX + 1).read_to_end(&mut text)
    });
    read.map_err(|error| Failure::Protocol(format!("the journal: {error}")))?;
    if text.is_empty() {
        return Err(Failure::Refused(vec!["the journal is empty".to_owned()]));
    }
    Ok(text)
}

/// Everything within its bounds, with the list of what is missing; how many things are.
fn files(parts: Vec<Part>) -> (Vec<(&'static str, Vec<u8>)>, usize) {
    let (mut files, mut missing, mut left) = (Vec::new(), Vec::new(), ALL_MAX);
    for Part { name, content } in parts {
        let text = match content {
            Ok(content) => without_paths(&String::from_utf8_lossy(&content)),
            Err(why) => {
                missing.push(format!("{name}: {}\n", without_paths(&why).replace('\n', "; ")));
                continue;
            }
        };
        let most = left.min(if name.starts_with("journal") || name.starts_with("kernel.") {
            LOG_MAX as usize
        } else {
            PART_MAX
        });
        let end = end_of(&text, most);
        if end.len() < text.len() {
            missing.push(format!("{name}: cut at its beginning: its last {} bytes are here\n", end.len()));
        }
        left -= end.len();
        files.push((name, end.as_bytes().to_vec()));
    }
    let count = missing.len();
    let list = if count == 0 { "nothing is missing\n".to_owned() } else { missing.concat() };
    files.push(("missing.txt", list.into_bytes()));
    (files, count)
}

/// The last whole lines that fit.
fn end_of(text: &str, most: usize) -> &str {
    if text.len() <= most {
        return text;
    }
    let from = (text.len() - most..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text[from..].split_once('\n').map_or("", |(_, lines)| lines)
}

/// The text with `***` for what follows the host of each address of HTTP.
fn without_paths(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://").map(|at| at + 3).filter(|_| rest.contains("http")) {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        rest = after;
        if !before.ends_with("http://") && !before.ends_with("https://") {
            continue;
        }
        let ends = |c: char| c.is_whitespace() || "\"'`,;)<>".contains(c);
        let (address, behind) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
        match address.find(['/', '?', '#']).filter(|at| at + 1 < address.len()) {
            Some(host) => out.extend([&address[..host], "/***"]),
            None => out.push_str(address),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

fn packed(files: &[(&'static str, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(zstd::Encoder::new(Vec::new(), LEVEL)?);
    let now = time::now().0 / 1_000_000_000;
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        tar.append_data(&mut header, Path::new("raven-support").join(name), content.as_slice())?;
    }
    tar.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn part(name: &'static str, content: Result<&str, &str>) -> Part {
        Part { name, content: content.map(|text| text.as_bytes().to_vec()).map_err(str::to_owned) }
    }

    fn missing(files: &[(&'static str, Vec<u8>)]) -> String {
        String::from_utf8(files.last().filter(|(name, _)| *name == "missing.txt").unwrap().1.clone()).unwrap()
    }

    #[test]
    fn what_is_not_there_is_named_with_its_reason() {
        let (files, count) = files(vec![part("a", Ok("x\n")), part("journal.txt", Err("no\njournal"))]);
        assert_eq!((count, files.len()), (1, 2));
        assert_eq!(missing(&files), "journal.txt: no; journal\n");
        assert_eq!(missing(&super::files(vec![part("a", Ok(""))]).0), "nothing is missing\n");
    }

    #[test]
    fn what_is_too_long_keeps_its_newest_lines_and_says_so() {
        let long = (0..200_000).fold(String::new(), |all, n| all + "line " + &n.to_string() + "\n");
        let (files, count) = files(vec![part("status.txt", Ok(&long))]);
        let kept = std::str::from_utf8(&files[0].1).unwrap();
        assert!(kept.starts_with("line ") && kept.ends_with("line 199999\n") && kept.len() <= PART_MAX);
        assert_eq!(count, 1);
        assert!(missing(&files).starts_with("status.txt: cut at its beginning"));
        // All together are bounded too.
        let many = (0..40).map(|_| part("status.txt", Ok(&long))).collect();
        let all: usize = super::files(many).0.iter().map(|(_, content)| content.len()).sum();
        assert!(all <= ALL_MAX + PART_MAX, "{all}");
    }

    #[test]
    fn of_an_address_only_the_host_stays() {
        for (text, shown) in [
            ("to https://noc.example:8443/hook/T0K3N?key=S3CRET, and", "to https://noc.example:8443/***, and"),
            ("\"http://noc?token=S3CRET\" x", "\"http://noc/***\" x"),
            ("(http://noc/) http://noc", "(http://noc/) http://noc"),
            ("nats://a/b http://c/d", "nats://a/b http://c/***"),
            ("ünicode https://ä/ü", "ünicode https://ä/***"),
            ("://", "://"),
        ] {
            assert_eq!(without_paths(text), shown);
        }
    }

    #[test]
    fn tar_and_zstd_unpack_it() {
        let bytes = packed(&[("a.txt", b"one".to_vec()), ("b.txt", b"two".to_vec())]).unwrap();
        let mut tar = tar::Archive::new(zstd::Decoder::new(bytes.as_slice()).unwrap());
        let names: Vec<PathBuf> = tar.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(names, [PathBuf::from("raven-support/a.txt"), PathBuf::from("raven-support/b.txt")]);
    }
}
