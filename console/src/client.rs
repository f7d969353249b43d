//! Talks to `ravend` over its control socket, and to the `decode` role over the connection that `ravend` hands on.

use crate::failure::Failure;
use crate::output::{self, Output};
use crate::progress::Bar;
use raven_model::archive::ImportOrder;
use raven_model::config::Config;
use raven_model::control::{RawStatus, Request, Response};
use raven_model::delivery::Order;
use raven_model::diag::Test;
use raven_model::diag::schedule::ScheduleOrder;
use raven_model::diag::wire;
use raven_model::query::{Progress, Query, Reply};
use raven_model::vpn::VpnOrder;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSliceMut, Read as _, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Most bytes of an answer on the control socket.
const ANSWER_MAX: usize = 16 << 20;

/// Longest wait for an answer: applying a configuration binds sockets and starts a worker.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where `ravend` listens.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    /// A login, by whose rights requests are said.
    token: Option<String>,
}

impl Client {
    /// For the `ravend` that runs with this data directory.
    pub fn new(data: &Path) -> Self {
        Self { socket: data.join("run/control"), token: None }
    }

    /// From now on by the rights of this login, or of none.
    pub fn set_session(&mut self, token: Option<String>) {
        self.token = token;
    }

    /// Sends one request, gets its answer.
    pub fn ask(&self, request: &Request) -> Result<Response, Failure> {
        match self.exchange(request)?.0 {
            Response::Refused(why) => Err(Failure::Refused(why)),
            other => Ok(other),
        }
    }

    /// What `ravend` knows and what the roles report, as it came.
    pub fn status(&self) -> Result<RawStatus, Failure> {
        match self.ask(&Request::Status)? {
            Response::Status(raw) => Ok(*raw),
            other => Err(unexpected(&other)),
        }
    }

    /// The configuration in force.
    pub fn config(&self) -> Result<Config, Failure> {
        match self.ask(&Request::Show)? {
            Response::Config(config) => Ok(*config),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the `decode` role.
    pub fn query(&self, query: &Query) -> Result<Answer, Failure> {
        self.converse("decode", &Request::Query, query)
    }

    /// Tells the uplink.
    pub fn deliver(&self, order: &Order) -> Result<Answer, Failure> {
        self.converse("uplink", &Request::Deliver, order)
    }

    /// Tells the vpn role.
    pub fn vpn(&self, order: &VpnOrder) -> Result<Answer, Failure> {
        self.converse("vpn", &Request::Vpn { rights: order.rights() }, order)
    }

    /// Has the diag role make a test, which ends with the connection.
    pub fn diag(&self, test: &Test) -> Result<Answer, Failure> {
        self.diag_held(test, |_| ())
    }

    /// The same; who is to end it gets the connection before the first answer.
    pub fn diag_held(&self, test: &Test, hold: impl FnOnce(&UnixStream)) -> Result<Answer, Failure> {
        let mut line = serde_json::to_vec(test).map_err(|error| Failure::Protocol(error.to_string()))?;
        line.push(b'\n');
        let stream = self.connected(&Request::Diag)?;
        hold(&stream);
        answered("diag", stream, &line)
    }

    /// Has the wire role look at an interface, by a socket that goes with the connection.
    pub fn wire(&self, tap: &wire::Tap, order: &wire::Order) -> Result<Answer, Failure> {
        self.converse("wire", &Request::Wire(tap.clone()), order)
    }

    /// Asks the schedule role.
    pub fn schedule(&self, order: &ScheduleOrder) -> Result<Answer, Failure> {
        let run = matches!(order, ScheduleOrder::Run { .. });
        self.converse("schedule", &Request::Schedule { run }, order)
    }

    /// Tells the import role; the archive goes [its way](Answer::way).
    pub fn import(&self, order: &ImportOrder) -> Result<Answer, Failure> {
        self.converse("import", &Request::Import, order)
    }

    /// Brings the update role a bundle's header; the rest goes [its way](Answer::way) when it was asked for.
    pub fn update(&self, downgrade: bool, header: &[u8]) -> Result<Answer, Failure> {
        self.hand("update", &Request::Update { downgrade }, header)
    }

    /// The newest lines of the system's journal, or of the kernel's alone: a file.
    pub fn journal(&self, kernel: bool) -> Result<File, Failure> {
        match self.exchange(&Request::Journal { kernel })? {
            (Response::Query, Some(fd)) => Ok(File::from(fd)),
            (Response::Refused(why), _) => Err(Failure::Refused(why)),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Puts a file onto a USB stick; what came of it, in words.
    pub fn give(&self, name: &str, content: &[u8]) -> Result<String, Failure> {
        let (response, fd) = self.exchange(&Request::Give { name: name.to_owned() })?;
        let mut stream = match (response, fd) {
            (Response::Query, Some(fd)) => UnixStream::from(fd),
            (Response::Refused(why), _) => return Err(Failure::Refused(why)),
            (other, _) => return Err(unexpected(&other)),
        };
        // Who takes nothing says why.
        let _ = stream.write_all(content);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = String::new();
        let heard = stream.take(ANSWER_MAX as u64).read_to_string(&mut said);
        heard.map_err(|error| Failure::Protocol(error.to_string()))?;
        let said = said.trim().to_owned();
        if said.starts_with(name) { Ok(said) } else { Err(Failure::Refused(vec![said])) }
    }

    fn converse(&self, role: &'static str, way: &Request, words: &impl serde::Serialize) -> Result<Answer, Failure> {
        // It may hold keys and passwords.
        let line = serde_json::to_vec(words).map_err(|error| Failure::Protocol(error.to_string()))?;
        let mut line = Zeroizing::new(line);
        line.push(b'\n');
        self.hand(role, way, &line)
    }

    /// Gets a connection to a role, and says the first words there.
    fn hand(&self, role: &'static str, way: &Request, words: &[u8]) -> Result<Answer, Failure> {
        answered(role, self.connected(way)?, words)
    }

    /// A connection to a role.
    fn connected(&self, way: &Request) -> Result<UnixStream, Failure> {
        match self.exchange(way)? {
            (Response::Query, Some(fd)) => Ok(UnixStream::from(fd)),
            (Response::Query, None) => {
                Err(Failure::Protocol("the answer to a query came without a connection".to_owned()))
            }
            (Response::Refused(why), _) => Err(Failure::Refused(why)),
            (other, _) => Err(unexpected(&other)),
        }
    }

    fn exchange(&self, request: &Request) -> Result<(Response, Option<OwnedFd>), Failure> {
        let stream = UnixStream::connect(&self.socket).map_err(|source| self.unreachable(source))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|source| self.unreachable(source))?;
        if let Some(token) = &self.token {
            let session = Request::Session { token: token.clone() };
            send_line(&stream, &session).map_err(|source| self.unreachable(source))?;
        }
        send_line(&stream, request).map_err(|source| self.unreachable(source))?;
        let (line, fd) = receive(&stream).map_err(|error| Failure::Protocol(error.to_string()))?;
        let response = serde_json::from_slice(&line)
            .map_err(|error| Failure::Protocol(format!("{error} (is it another version?)")))?;
        Ok((response, fd))
    }

    fn unreachable(&self, source: io::Error) -> Failure {
        let hint = match source.kind() {
            io::ErrorKind::NotFound => {
                "is it running with this data directory? give the directory with --data or RAVEN_DATA"
            }
            io::ErrorKind::PermissionDenied => "only root, the user that runs ravend and the viewers' group may use it",
            io::ErrorKind::ConnectionRefused => "the socket is left over from a ravend that is gone: start ravend",
            _ => "look at the log of ravend",
        };
        Failure::Unreachable { path: self.socket.clone(), source, hint }
    }
}

/// Says the first words to a role; its answer from behind the reply on.
fn answered(role: &'static str, stream: UnixStream, words: &[u8]) -> Result<Answer, Failure> {
    // Who is refused at the door finds it closed before having asked; the reason lies there all the same.
    let asked = (&stream).write_all(words);
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    let reply = match (first_line(role, &mut reader), asked) {
        (Err(_), Err(error)) => return Err(Failure::Protocol(format!("the {role} role went away: {error}"))),
        (reply, _) => reply?,
    };
    match reply {
        Reply::Ok => Ok(Answer {
            role,
            reader,
            line: Vec::new(),
            lines: 0,
            is_whole: false,
            progress: None,
            bar: Bar::default(),
        }),
        Reply::Error(why) => Err(Failure::Refused(vec![why])),
        other => Err(Failure::Protocol(format!("the {role} role began its answer with {other:?}"))),
    }
}

/// The lines of an answer, as they come.
pub struct Answer {
    role: &'static str,
    reader: BufReader<UnixStream>,
    line: Vec<u8>,
    lines: u64,
    is_whole: bool,
    progress: Option<Progress>,
    bar: Bar,
}

impl Answer {
    /// The next line, without its LF; `None` when the answer is whole. Notes go to standard error. An answer that ends
    /// without saying so broke off: that is a [`Failure::BrokenOff`], whatever came before.
    pub fn next(&mut self, output: &mut Output) -> Result<Option<&[u8]>, Failure> {
        while !self.is_whole {
            self.read_line()?;
            let reply = Reply::on_line(&self.line);
            if !matches!(reply, Some(Reply::Progress(_))) {
                self.bar.clear();
            }
            match reply {
                None => {
                    self.lines += 1;
                    return Ok(Some(&self.line));
                }
                Some(Reply::Progress(progress)) => {
                    output.flush()?;
                    if !output.quiet {
                        self.bar.search(&progress, output.json);
                    }
                    self.progress = Some(progress);
                }
                Some(Reply::Note(note)) => output.note(&note),
                Some(Reply::Done(lines)) if lines == self.lines => self.is_whole = true,
                Some(Reply::Done(lines)) => return Err(self.broken_off(&format!("it should have had {lines}"))),
                // A test that cannot be made to its end has an outcome all the same.
                Some(Reply::Error(why)) if self.role == "diag" => return Err(Failure::Refused(vec![why])),
                Some(Reply::Error(why)) => return Err(self.broken_off(&why)),
                Some(Reply::Ok) => return Err(self.broken_off("then came another answer")),
            }
        }
        Ok(None)
    }

    fn read_line(&mut self) -> Result<(), Failure> {
        self.line.clear();
        if self.is_drained() {
            await_line(self.reader.get_ref())?;
        }
        if let Err(error) = self.reader.read_until(b'\n', &mut self.line) {
            return Err(self.broken_off(&error.to_string()));
        }
        // A last line without its LF was cut, and may be half a record.
        match self.line.pop() {
            Some(b'\n') => Ok(()),
            _ => Err(self.broken_off(&format!("the {} role went away; look at the log of ravend", self.role))),
        }
    }

    fn broken_off(&self, why: &str) -> Failure {
        Failure::BrokenOff { lines: self.lines, why: why.to_owned(), kept: None }
    }

    /// How far the work was when that was told last.
    pub const fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// The connection, for what is to be sent while the answer comes.
    pub fn way(&self) -> io::Result<UnixStream> {
        self.reader.get_ref().try_clone()
    }

    /// True when the next line has not arrived yet: time to show what was written.
    pub fn is_drained(&self) -> bool {
        self.reader.buffer().is_empty()
    }
}

/// Waits until there is something to read, and no longer than somebody reads what is written: who ran this over SSH, and is
/// gone, has nothing run on.
fn await_line(stream: &UnixStream) -> Result<(), Failure> {
    let out = io::stdout();
    loop {
        let mut fds = [PollFd::new(stream, PollFlags::IN), PollFd::new(&out, PollFlags::empty())];
        match poll(&mut fds, None) {
            Ok(_) if fds[1].revents().intersects(output::UNREAD) => {
                return Err(Failure::Output(io::ErrorKind::BrokenPipe.into()));
            }
            Ok(_) if !fds[0].revents().is_empty() => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::Output(error.into())),
        }
    }
}

/// For an answer of the wrong kind.
pub fn unexpected(response: &Response) -> Failure {
    let name = match response {
        Response::Status(_) => "status",
        Response::Config(_) => "a configuration",
        Response::Query => "a query connection",
        Response::Applied(_) => "applied",
        Response::Diff { .. } => "a difference",
        Response::Text(_) => "a text",
        Response::History(_) => "a history",
        Response::Signed(_) => "a signature",
        Response::LoggedIn { .. } => "a login",
        Response::Disks(_) => "disks",
        Response::Progress(_) => "progress",
        Response::Done => "done",
        Response::Refused(_) => "refused",
        Response::Slots { .. } => "slots",
    };
    Failure::Protocol(format!("it answered with {name}, which was not asked for"))
}

fn send_line(mut stream: &UnixStream, value: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Reads one line, and the descriptor that came with it. A second descriptor is closed at once.
fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let (mut line, mut fd) = (Vec::new(), None);
    let mut chunk = vec![0; 64 << 10];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = match recvmsg(stream, &mut [IoSliceMut::new(&mut chunk)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(got) => got,
            // A stopped and continued process, on a socket with a time limit.
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {} s", PATIENCE.as_secs())));
            }
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fd = fds.fold(fd, |kept, new| kept.or(Some(new)));
            }
        }
        let part = &chunk[..got.bytes];
        if let Some(end) = part.iter().position(|b| *b == b'\n') {
            line.extend_from_slice(&part[..end]);
            return Ok((line, fd));
        }
        line.extend_from_slice(part);
        if part.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without an answer"));
        }
        if line.len() > ANSWER_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer has no end"));
        }
    }
}

fn first_line(role: &str, reader: &mut impl BufRead) -> Result<Reply, Failure> {
    let mut line = Vec::new();
    let broken = |error: String| Failure::Protocol(format!("the {role} role gave no answer: {error}"));
    reader.read_until(b'\n', &mut line).map_err(|error| broken(error.to_string()))?;
    serde_json::from_slice(&line).map_err(|error| broken(error.to_string()))
}
