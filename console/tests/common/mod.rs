//! A stand-in for ravend: answers on a control socket as the protocol says, with answers that a test wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)] // each test file uses its own part

pub mod facts;
pub mod pty;
pub mod wire;

use raven_model::control::{Request, Response};
use raven_model::diag::{Event, Test};
use raven_model::query::{Query, Reply};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// How the stand-in answers a query: the first reply, the lines, the last reply; without that the answer breaks off.
pub type Answer = (Reply, Vec<u8>, Option<Reply>);

/// A running stand-in. Its thread ends with the test.
pub struct FakeRavend {
    dir: tempfile::TempDir,
    queries: Arc<Mutex<Vec<Query>>>,
    ended: Arc<AtomicUsize>,
}

impl FakeRavend {
    /// `respond` answers control requests, `answer` queries.
    pub fn start(
        respond: impl Fn(&Request) -> Response + Send + 'static,
        answer: impl Fn(&Query) -> Answer + Send + Sync + Clone + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let listener = UnixListener::bind(dir.path().join("run/control")).unwrap();
        let queries = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&queries);
        let ended = Arc::<AtomicUsize>::default();
        let end = Arc::clone(&ended);
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(&stream.unwrap(), &respond, &answer, &seen, &end);
            }
        });
        Self { dir, queries, ended }
    }

    /// That answers every query with these lines.
    pub fn with_lines(lines: &str) -> Self {
        let last = Reply::Done(lines.lines().count() as u64);
        Self::ending_with(lines, Some(last))
    }

    /// That answers every query with these lines and goes away.
    pub fn breaking_off_after(lines: &str) -> Self {
        Self::ending_with(lines, None)
    }

    /// The same, with that end.
    pub fn ending_with(lines: &str, last: Option<Reply>) -> Self {
        let lines = lines.as_bytes().to_vec();
        Self::start(|_| Response::Query, move |_| (Reply::Ok, lines.clone(), last.clone()))
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self.dir.path()
    }

    /// Tests of the network that ended because their connection did.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    /// The queries that came.
    pub fn queries(&self) -> Vec<Query> {
        self.queries.lock().unwrap().clone()
    }

    /// Runs `raven` against it.
    pub fn raven(&self, args: &[&str]) -> Output {
        raven(&[&["--data", self.data().to_str().unwrap()], args].concat())
    }
}

fn serve(
    stream: &UnixStream,
    respond: &impl Fn(&Request) -> Response,
    answer: &(impl Fn(&Query) -> Answer + Send + Clone + 'static),
    seen: &Arc<Mutex<Vec<Query>>>,
    ended: &Arc<AtomicUsize>,
) {
    let mut reader = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        serde_json::from_str::<Request>(&line).unwrap()
    };
    let mut request = next();
    if matches!(request, Request::Session { .. }) {
        // It has no answer.
        respond(&request);
        request = next();
    }
    let response = respond(&request);
    let mut text = serde_json::to_vec(&response).unwrap();
    text.push(b'\n');
    if !matches!(response, Response::Query) {
        let mut stream = stream;
        stream.write_all(&text).unwrap();
        return;
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [theirs.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(stream, &[IoSlice::new(&text)], &mut control, SendFlags::empty()).unwrap();
    if matches!(request, Request::Diag) {
        let ended = Arc::clone(ended);
        thread::spawn(move || test(ours, &ended));
        return;
    }
    let (answer, seen) = (answer.clone(), Arc::clone(seen));
    thread::spawn(move || decode(&ours, &answer, &seen));
}

/// The diag role: pings are answered, but for every fourth, until nobody listens; the target `silent` is not said a word of.
fn test(mut stream: UnixStream, ended: &AtomicUsize) {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    let Test::Ping(ping) = serde_json::from_str::<Test>(&line).unwrap() else { return };
    let target = ping.targets[0].clone();
    if target == "silent" {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    } else {
        let mut say = |value: serde_json::Value| writeln!(stream, "{value}").is_ok();
        say(serde_json::to_value(Reply::Ok).unwrap());
        for sequence in 0.. {
            let rtt_us = 400 + sequence % 7;
            let event = if sequence % 4 == 3 {
                Event::Lost { target: target.clone(), sequence }
            } else {
                let (target, ttl) = (target.clone(), Some(64));
                Event::Answer(raven_model::diag::Answer {
                    target,
                    sequence,
                    rtt_us,
                    ttl,
                    duplicate: false,
                    reordered: false,
                })
            };
            if !say(serde_json::to_value(event).unwrap()) {
                break;
            }
            thread::sleep(std::time::Duration::from_millis(30));
        }
    }
    ended.fetch_add(1, Ordering::Relaxed);
}

fn decode(mut stream: &UnixStream, answer: &impl Fn(&Query) -> Answer, seen: &Mutex<Vec<Query>>) {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let query: Query = serde_json::from_str(&line).unwrap();
    let (reply, lines, last) = answer(&query);
    seen.lock().unwrap().push(query);
    let mut text = serde_json::to_vec(&reply).unwrap();
    text.push(b'\n');
    text.extend_from_slice(&lines);
    if let Some(last) = last {
        serde_json::to_writer(&mut text, &last).unwrap();
        text.push(b'\n');
    }
    // The client may have gone: `raven tail | head` does.
    let _ = stream.write_all(&text);
}

impl pty::Pty {
    /// `raven` with these arguments on a terminal.
    pub fn raven(args: &[&str], size: (u16, u16)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raven"));
        command.args(args);
        Self::run(command, size)
    }
}

/// Runs the program.
pub fn raven(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raven")).env_remove("RAVEN_DATA").args(args).output().unwrap()
}

/// What it wrote.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it complained of.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Its exit code.
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}
