//! What a process does to files, as strace(1) tells it: every call that changes bytes, lengths or names, and every sync.

use super::{Change, Name, Node, Step};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// All calls by which a file can change or become durable, and those that are needed to follow descriptors.
const CALLS: &str = "open,openat,openat2,creat,close,dup,dup2,dup3,fcntl,lseek,write,writev,pwrite64,pwritev,pwritev2,\
ftruncate,truncate,fallocate,fsync,fdatasync,sync_file_range,msync,sync,syncfs,rename,renameat,renameat2,unlink,\
unlinkat,link,linkat,symlink,symlinkat,mkdir,mkdirat,rmdir,sendfile,copy_file_range,splice,mmap,io_uring_setup";

/// False (told) where there is no strace.
pub fn can_trace() -> bool {
    let there = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        eprintln!("SKIPPED: this test watches system calls, which needs strace");
    }
    there
}

/// Runs `command` to its end and returns all that it did below `root`, with what was there before as first steps
/// (their number is returned too).
pub fn record(command: &Command, root: &Path) -> (Vec<Step>, usize) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut recorder = Recorder::new(root);
    let before = recorder.steps.len();
    let mut strace = Command::new("strace");
    // -xx: strings in hexadecimal, so that no quote or comma stands in one; -s: none is cut short.
    strace.args([
        "-f",
        "-qq",
        "-v",
        "-xx",
        "-s",
        "8388608",
        "-e",
        &format!("trace={CALLS}"),
        "-e",
        "signal=none",
        "-o",
    ]);
    strace.arg(log.path()).arg(command.get_program()).args(command.get_args());
    strace.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = strace.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    for line in fs::read_to_string(log.path()).unwrap().lines() {
        recorder.line(line);
    }
    (recorder.steps, before)
}

/// An open descriptor.
#[derive(Debug, Clone, Copy)]
struct Open {
    node: Node,
    at: u64,
    synced: bool,
}

struct Recorder {
    root: PathBuf,
    names: BTreeMap<Name, Node>,
    nodes: Node,
    lens: HashMap<Node, u64>,
    open: HashMap<i64, Open>,
    /// Begun by a thread and interrupted by another one's line.
    unfinished: HashMap<String, String>,
    said: String,
    steps: Vec<Step>,
}

impl Recorder {
    fn new(root: &Path) -> Self {
        let mut this = Self {
            root: root.to_owned(),
            names: BTreeMap::new(),
            nodes: 1,
            lens: HashMap::new(),
            open: HashMap::new(),
            unfinished: HashMap::new(),
            said: String::new(),
            steps: Vec::new(),
        };
        this.take_in(0, root);
        this
    }

    /// What is there already is durable.
    fn take_in(&mut self, folder: Node, at: &Path) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let node = self.make((folder, name), path.is_dir());
            if path.is_dir() {
                self.take_in(node, &path);
            } else {
                let bytes = fs::read(&path).unwrap();
                self.lens.insert(node, bytes.len() as u64);
                self.steps.push(Step::Write { node, at: 0, bytes, synced: true });
            }
        }
        self.steps.push(Step::Sync { node: folder });
    }

    fn make(&mut self, name: Name, folder: bool) -> Node {
        let node = self.nodes;
        self.nodes += 1;
        self.names.insert(name.clone(), node);
        self.steps.push(Step::Made { node, folder });
        self.steps.push(Step::Names(Change { gone: None, named: Some((name, node)) }));
        node
    }

    /// The name that a path is, when it is below the root.
    fn name(&self, path: &Path) -> Option<Name> {
        let mut parts = path.strip_prefix(&self.root).ok()?.components();
        let last = parts.next_back()?.as_os_str().to_string_lossy().into_owned();
        let mut folder = 0;
        for part in parts {
            folder = *self.names.get(&(folder, part.as_os_str().to_string_lossy().into_owned()))?;
        }
        Some((folder, last))
    }

    fn line(&mut self, line: &str) {
        let Some((thread, rest)) = line.split_once(' ') else { return };
        let rest = rest.trim_start();
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            self.unfinished.insert(thread.to_owned(), begun.to_owned());
        } else if let Some(end) = rest.strip_prefix("<... ").and_then(|rest| rest.split_once("resumed>")) {
            let begun = self.unfinished.remove(thread).unwrap_or_default();
            self.call(&format!("{begun}{}", end.1));
        } else {
            self.call(rest);
        }
    }

    fn call(&mut self, text: &str) {
        let Some((call, result)) = text.rsplit_once(" = ") else { return };
        let Some((name, args)) = call.trim_end().strip_suffix(')').and_then(|call| call.split_once('(')) else {
            return;
        };
        let result: i64 = match result.split(' ').next().unwrap() {
            hex if hex.starts_with("0x") => 0,
            number => number.parse().unwrap_or(-1),
        };
        if result >= 0 {
            self.done(name, &split(args), result);
        }
    }

    fn done(&mut self, call: &str, args: &[&str], result: i64) {
        match call {
            "openat" => self.opened(&path_of(args[1]), args[2], result),
            "close" => drop(self.open.remove(&number(args[0]))),
            "fcntl" if args[1].starts_with("F_DUPFD") => {
                if let Some(open) = self.open.get(&number(args[0])).copied() {
                    self.open.insert(result, open);
                }
            }
            "lseek" => {
                if let Some(open) = self.open.get_mut(&number(args[0])) {
                    open.at = result as u64;
                }
            }
            "write" | "writev" | "pwrite64" | "pwritev" => self.wrote(call, args, result),
            "ftruncate" => self.resized(args),
            "fsync" | "fdatasync" => {
                if let Some(open) = self.open.get(&number(args[0])) {
                    self.steps.push(Step::Sync { node: open.node });
                }
            }
            // Room without length: nothing that a reader could see.
            "fallocate" => assert!(args[1].contains("KEEP_SIZE"), "{args:?}"),
            // The second forms are those of newer machines (arm64).
            "mkdir" => self.made_folder(args[0]),
            "mkdirat" => self.made_folder(args[1]),
            "unlink" => self.renamed(self.name(&path_of(args[0])), None),
            "unlinkat" => self.renamed(self.name(&path_of(args[1])), None),
            "rename" => self.renamed(self.name(&path_of(args[0])), self.name(&path_of(args[1]))),
            "renameat" => self.renamed(self.name(&path_of(args[1])), self.name(&path_of(args[3]))),
            "mmap" => {
                let ours = self.open.contains_key(&args.get(4).map_or(-1, |fd| number(fd)));
                assert!(!ours || !args[2].contains("PROT_WRITE") || !args[3].contains("SHARED"), "mapped to write");
            }
            "fcntl" => {}
            other => {
                let text = args.join(", ");
                let ours = args.iter().any(|arg| arg.contains('"') && self.name(&path_of(arg)).is_some())
                    || self.open.contains_key(&args.first().map_or(-1, |fd| number(fd)));
                assert!(!ours && !other.contains("sync"), "the simulated disk does not know {other}({text})");
            }
        }
    }

    fn opened(&mut self, path: &Path, flags: &str, fd: i64) {
        self.open.remove(&fd);
        let node = if path == self.root {
            0
        } else {
            let Some(name) = self.name(path) else { return };
            match self.names.get(&name).copied() {
                Some(node) => {
                    if flags.contains("O_TRUNC") {
                        self.resize(node, 0);
                    }
                    node
                }
                None if flags.contains("O_CREAT") => self.make(name, false),
                None => panic!("{} was opened and never made", path.display()),
            }
        };
        assert!(!flags.contains("O_APPEND"), "the simulated disk does not know O_APPEND");
        self.open.insert(fd, Open { node, at: 0, synced: flags.contains("SYNC") });
    }

    fn wrote(&mut self, call: &str, args: &[&str], written: i64) {
        let fd = number(args[0]);
        let mut bytes: Vec<u8> = args[1].split('"').skip(1).step_by(2).flat_map(unhex).collect();
        assert!(!args[1].contains("..."), "strace cut a string short");
        bytes.truncate(written as usize);
        let Some(open) = self.open.get_mut(&fd) else {
            if fd == 1 {
                self.told(&String::from_utf8_lossy(&bytes));
            }
            return;
        };
        let at = match call {
            "pwrite64" | "pwritev" => number(args[3]) as u64,
            _ => {
                open.at += bytes.len() as u64;
                open.at - bytes.len() as u64
            }
        };
        let (node, synced) = (open.node, open.synced);
        let len = self.lens.entry(node).or_default();
        *len = (*len).max(at + bytes.len() as u64);
        self.steps.push(Step::Write { node, at, bytes, synced });
    }

    fn told(&mut self, text: &str) {
        self.said.push_str(text);
        while let Some((line, rest)) = self.said.split_once('\n') {
            self.steps.push(Step::Said(line.to_owned()));
            self.said = rest.to_owned();
        }
    }

    fn resized(&mut self, args: &[&str]) {
        if let Some(open) = self.open.get(&number(args[0])) {
            self.resize(open.node, number(args[1]) as u64);
        }
    }

    /// Same length, as when room is given back: nothing that a reader could see.
    fn resize(&mut self, node: Node, len: u64) {
        if self.lens.insert(node, len).unwrap_or(0) != len {
            self.steps.push(Step::Resize { node, len });
        }
    }

    fn made_folder(&mut self, path: &str) {
        if let Some(name) = self.name(&path_of(path)) {
            self.make(name, true);
        }
    }

    fn renamed(&mut self, from: Option<Name>, to: Option<Name>) {
        let Some(from) = from else {
            assert!(to.is_none(), "something came in from elsewhere");
            return;
        };
        let node = self.names.remove(&from).expect("what is renamed was there");
        let named = to.map(|to| {
            self.names.insert(to.clone(), node);
            (to, node)
        });
        self.steps.push(Step::Names(Change { gone: Some(from), named }));
    }
}

/// Arguments, at the commas that are in no bracket.
fn split(args: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, byte) in args.bytes().enumerate() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(args[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(args[from..].trim());
    parts
}

fn number(arg: &str) -> i64 {
    arg.parse().unwrap_or(-1)
}

fn path_of(arg: &str) -> PathBuf {
    let bytes = arg.split('"').nth(1).map(unhex).unwrap_or_default();
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

/// `\x41\x42`.
fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks_exact(4).map(|part| digit(part[2]) << 4 | digit(part[3])).collect()
}
