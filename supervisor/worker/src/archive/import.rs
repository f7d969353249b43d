//! The `import` role: an operator's archive, read here and brought to the store piece by piece.
//!
//! What does not fit now waits here, and its sender with it: nothing is dropped. A piece that is not answered, because
//! the store was started anew, is brought again; the store knows what it has. The role ends when nobody has asked for
//! anything for a while.

use super::items::CONTENT_MAX;
use super::look::{Look, Seen};
use crate::decode::{Line, Lines};
use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use raven_buffer::Took;
use raven_buffer::tail::{TailClient, TailError};
use raven_jail::channel::{Channel, ChannelError, recv};
use raven_model::archive::{ArchiveLine, ImportOrder};
use raven_model::control::{Fd, FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::query::Reply;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// The role ends when nobody has come for so long: who looks into an archive comes once more to import it.
const IDLE: Duration = Duration::from_secs(5);
/// Pieces under way: 4 MiB of records, in one commit.
const WINDOW: usize = 16;
/// A piece that is not answered for so long is brought again.
const AGAIN: Duration = Duration::from_secs(3);
/// The same when the store says that it takes nothing now.
const LATER: Duration = Duration::from_millis(200);
/// How long the store may take the bytes of a piece.
const HAND_OVER: Duration = Duration::from_millis(500);
/// An operator who waits longer for the store is told.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is told how far it is.
const PROGRESS: Duration = Duration::from_millis(200);
/// Longest order, and how long it may take.
const ORDER_MAX: usize = 4096;
const ORDER: Duration = Duration::from_secs(5);
/// A client that takes nothing of its answer for so long is let go.
const STUCK: Duration = Duration::from_secs(5);
/// Most bytes that are read at a time.
const CHUNK: usize = 256 * 1024;

/// The role's state.
pub struct Import {
    device: String,
    channel: Channel,
    tail: TailClient,
    next_beat: Instant,
    idle_since: Instant,
    stopping: bool,
}

/// A piece that the store has not answered.
struct Way {
    id: u64,
    piece: Vec<u8>,
    sum: usize,
    records: u64,
    /// Bytes that it takes on disk.
    need: u64,
    /// When it is brought, or brought again.
    due: Instant,
    since: Instant,
}

/// One operator's archive.
struct Session {
    socket: OwnedFd,
    lines: Lines,
    order: ImportOrder,
    look: Look,
    under_way: VecDeque<Way>,
    /// No more bytes come.
    is_read: bool,
    told: Instant,
    told_of_store: bool,
    chunk: Vec<u8>,
}

impl Import {
    /// Called inside the jail.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel) -> anyhow::Result<Self> {
        let tail = start.fds.iter().zip(fds).find_map(|(name, fd)| matches!(name, Fd::Tail { .. }).then_some(fd));
        let tail = TailClient::new(tail.context("ravend passed no way to the store")?);
        let now = Instant::now();
        Ok(Self { device: start.device.clone(), channel, tail, next_beat: now, idle_since: now, stopping: false })
    }

    /// Serves one operator after the other, until nobody comes any more.
    pub fn run(mut self) -> anyhow::Result<()> {
        while !self.stopping && self.idle_since.elapsed() < IDLE {
            self.beat()?;
            wait(&mut [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)], Duration::from_millis(200))?;
            if let Some(socket) = self.control(false)? {
                self.serve(socket)?;
                self.idle_since = Instant::now();
            }
        }
        Ok(())
    }

    fn beat(&mut self) -> anyhow::Result<()> {
        if Instant::now() >= self.next_beat {
            self.next_beat = Instant::now() + HEARTBEAT;
            self.channel.send_json(&FromWorker::Heartbeat { report: RawValue::NULL.to_owned() }, &[])?;
        }
        Ok(())
    }

    /// What `ravend` says: perhaps an operator's connection. While one is served others are sent away.
    fn control(&mut self, is_busy: bool) -> anyhow::Result<Option<OwnedFd>> {
        let mut packet = vec![0; PACKET_MAX];
        loop {
            match self.channel.try_recv_json::<ToWorker>(&mut packet) {
                Ok(Some((ToWorker::Client, fds))) => match fds.into_iter().next() {
                    Some(socket) if is_busy => refuse(&socket, "another import is under way: wait for its end"),
                    Some(socket) => return Ok(Some(socket)),
                    None => {}
                },
                Ok(Some((ToWorker::Stop, _)) | None) => {
                    self.stopping = true;
                    return Ok(None);
                }
                // Configuration, secrets: nothing to this role.
                Ok(Some(_)) => {}
                Err(ChannelError::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What goes wrong with an archive is told to who brought it, and ends nothing else.
    fn serve(&mut self, socket: OwnedFd) -> anyhow::Result<()> {
        let mut session = match Session::begin(socket) {
            Ok(Some(session)) => session,
            Ok(None) => return Ok(()),
            Err((socket, error)) => {
                refuse(&socket, &format!("{error:#}"));
                return Ok(());
            }
        };
        session.lines.reply(&Reply::Ok);
        loop {
            self.beat()?;
            self.control(true)?;
            if self.stopping {
                session.lines.reply(&Reply::Error("ravend stops: import it again when it runs".to_owned()));
                let _ = session.send_all();
                return Ok(());
            }
            let step = session.step(&mut self.tail, &self.device);
            match step {
                Ok(false) => session.wait(&self.channel, &self.tail)?,
                Ok(true) => {
                    let _ = session.send_all();
                    return Ok(());
                }
                Err(error) => {
                    session.lines.reply(&Reply::Error(format!("{error:#}")));
                    let _ = session.send_all();
                    return Ok(());
                }
            }
        }
    }
}

impl Session {
    /// Reads the order; what came behind it is the archive's beginning. `None` when the client went away.
    fn begin(socket: OwnedFd) -> Result<Option<Self>, (OwnedFd, anyhow::Error)> {
        let (mut text, mut chunk, until) = (Vec::new(), vec![0; CHUNK], Instant::now() + ORDER);
        let end = loop {
            if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            if text.len() > ORDER_MAX || Instant::now() > until {
                return Err((socket, anyhow::anyhow!("no order came within {} s", ORDER.as_secs())));
            }
            let polled = wait(
                &mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)],
                until.saturating_duration_since(Instant::now()),
            );
            if let Err(error) = polled {
                return Err((socket, error));
            }
            match recv(socket.as_fd(), &mut chunk, &mut Vec::new(), nix::libc::MSG_DONTWAIT) {
                Ok(0) => return Ok(None),
                Ok(n) => text.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Ok(None),
            }
        };
        let order = match serde_json::from_slice(&text[..end]) {
            Ok(order) => order,
            Err(error) => return Err((socket, anyhow::anyhow!("not an order that this raven knows: {error}"))),
        };
        let mut look = Look::new();
        look.push(&text[end + 1..]);
        let (lines, under_way) = (Lines::default(), VecDeque::new());
        let told = Instant::now();
        let told_of_store = false;
        Ok(Some(Self { socket, lines, order, look, under_way, is_read: false, told, told_of_store, chunk }))
    }

    /// Does what can be done without waiting; true when all is done.
    fn step(&mut self, tail: &mut TailClient, device: &str) -> anyhow::Result<bool> {
        self.lines.send(self.socket.as_fd()).context("the client is gone")?;
        self.answers(tail)?;
        self.bring(tail)?;
        let mut more = true;
        while more && self.under_way.len() < WINDOW {
            match self.look.next()? {
                Some(seen) => self.take(tail, seen, device)?,
                None => more = self.read()?,
            }
        }
        if self.told.elapsed() >= PROGRESS {
            self.told = Instant::now();
            self.tell();
        }
        if !self.is_read || !self.under_way.is_empty() {
            return Ok(false);
        }
        self.finish(tail, device)?;
        Ok(true)
    }

    /// True when there are more bytes.
    fn read(&mut self) -> anyhow::Result<bool> {
        if self.is_read {
            return Ok(false);
        }
        match recv(self.socket.as_fd(), &mut self.chunk, &mut Vec::new(), nix::libc::MSG_DONTWAIT) {
            Ok(0) => {
                self.is_read = true;
                self.look.end()?;
                Ok(false)
            }
            Ok(n) => {
                self.look.push(&self.chunk[..n]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("the client is gone"),
        }
    }

    fn take(&mut self, tail: &mut TailClient, seen: Seen, device: &str) -> anyhow::Result<()> {
        let Seen { mut piece, sum, bytes } = seen;
        if piece.device == device && !self.order.same_name && !self.order.check {
            bail!("it comes from a box of our own name, `{device}`: its records may be here as our own");
        }
        if self.order.check {
            piece.frames.clear();
        }
        let now = Instant::now();
        self.under_way.push_back(Way {
            id: tail.new_id(),
            piece: piece.encode(),
            sum,
            records: piece.count.into(),
            need: (bytes + 16).next_multiple_of(4096),
            due: now,
            since: now,
        });
        Ok(())
    }

    /// Brings what is due.
    fn bring(&mut self, tail: &mut TailClient) -> anyhow::Result<()> {
        let now = Instant::now();
        for way in self.under_way.iter_mut().filter(|way| way.due <= now) {
            match tail.piece(way.id, &way.piece, HAND_OVER) {
                Ok(()) => way.due = Instant::now() + AGAIN,
                Err(TailError::Timeout(_)) => {
                    way.due = Instant::now() + LATER;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let waits = self.under_way.front().is_some_and(|way| way.since.elapsed() > PATIENCE);
        if waits && !self.told_of_store {
            self.told_of_store = true;
            self.lines.note("the store takes nothing just now; waiting for it (`raven status` says why)");
        }
        Ok(())
    }

    fn answers(&mut self, tail: &mut TailClient) -> anyhow::Result<()> {
        while tail.receive()?.is_some() {}
        while let Some((id, took)) = tail.took() {
            let Some(at) = self.under_way.iter().position(|way| way.id == id) else { continue };
            if took == Took::Later {
                self.under_way[at].due = Instant::now() + LATER;
                continue;
            }
            let Some(way) = self.under_way.remove(at) else { continue };
            let sum = &mut self.look.view.streams[way.sum];
            match took {
                Took::New => self.look.view.need += way.need,
                Took::Here => sum.here += way.records,
                Took::Stored => sum.imported += way.records,
                Took::Later => {}
                Took::Refused(why) => {
                    let what = format!("{}: {} records were not taken: {why}", sum.stream, way.records);
                    self.look.problem(what);
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self) {
        let view = Box::new(self.look.view.clone());
        self.lines.line(&Line::Archive(&ArchiveLine::View(view)));
    }

    fn finish(&mut self, tail: &mut TailClient, device: &str) -> anyhow::Result<()> {
        let view = &mut self.look.view;
        view.same_name = view.device == device;
        if self.order.check {
            view.free = room(tail)?;
        }
        view.done = true;
        self.tell();
        self.lines.done();
        Ok(())
    }

    /// Waits until something can be done.
    fn wait(&self, channel: &Channel, tail: &TailClient) -> anyhow::Result<()> {
        let mut socket = PollFlags::empty();
        socket.set(PollFlags::POLLIN, !self.is_read && self.under_way.len() < WINDOW);
        socket.set(PollFlags::POLLOUT, !self.lines.is_sent());
        let mut fds = [
            PollFd::new(channel.as_fd(), PollFlags::POLLIN),
            PollFd::new(tail.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.socket.as_fd(), socket),
        ];
        wait(&mut fds, Duration::from_millis(100))
    }

    /// The rest of the answer.
    fn send_all(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + STUCK;
        loop {
            self.lines.send(self.socket.as_fd())?;
            if self.lines.is_sent() {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("the client takes nothing");
            }
            wait(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)], Duration::from_millis(100))?;
        }
    }
}

/// Asked for again while the store is being started anew.
fn room(tail: &mut TailClient) -> anyhow::Result<u64> {
    let mut tries = 0;
    loop {
        match tail.room(Duration::from_secs(1)) {
            Err(TailError::Timeout(_)) if tries < 5 => tries += 1,
            other => return other.context("the store does not say how much room there is"),
        }
    }
}

/// Waits for one of `fds`, and not longer.
pub fn wait(fds: &mut [PollFd<'_>], longest: Duration) -> anyhow::Result<()> {
    match poll(fds, PollTimeout::try_from(longest).unwrap_or(PollTimeout::ZERO)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("poll"),
    }
}

/// All that an operator hears who comes at the wrong time.
pub fn refuse(socket: &OwnedFd, why: &str) {
    let mut lines = Lines::default();
    lines.reply(&Reply::Error(why.to_owned()));
    let _ = lines.send(socket.as_fd());
}

const _: () = assert!(CHUNK < CONTENT_MAX);
