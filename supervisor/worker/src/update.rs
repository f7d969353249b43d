//! The `update` role: an operator's bundle, on its way into the slot that does not run.
//!
//! Nothing is written before the signature was found right and the manifest was found to be for this box. Then `ravend`
//! has the boot loader forget the slot and gives its two partitions here; [`take`] fills them. What starts the system
//! goes into memory, and root looks at it once more. The role ends when nobody has asked for anything for a while.

mod take;

use crate::archive::import::{refuse, wait};
use crate::decode::{Line, Lines};
use anyhow::{Context as _, bail};
use nix::poll::{PollFd, PollFlags};
use raven_jail::channel::{Channel, ChannelError, recv};
use raven_jail::memory::content_of;
use raven_model::control::{Fd, FromWorker, PACKET_MAX, SlotOrder, Start, ToWorker};
use raven_model::query::Reply;
use raven_model::update::{BundleError, FIXED, FORMATS, Header, MANIFEST_MAX, Manifest, UpdateLine, Version, keys};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::value::RawValue;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use take::{Place, Take};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// The role ends when nobody has come for so long.
const IDLE: Duration = Duration::from_secs(5);
/// How long the header may take.
const HEADER: Duration = Duration::from_secs(20);
/// How long `ravend` may take for what it is asked: it mounts and syncs the EFI system partition.
const ROOT: Duration = Duration::from_mins(5);
/// Who brings nothing for so long is let go; what is in the slot stays there.
const SILENT: Duration = Duration::from_mins(5);
/// A client that takes nothing of its answer for so long is let go.
const STUCK: Duration = Duration::from_secs(5);
/// How often it is told how far it is.
const PROGRESS: Duration = Duration::from_millis(250);
/// Most bytes that are read at a time.
const CHUNK: usize = 256 * 1024;

/// The role's state.
pub struct Update {
    channel: Channel,
    keys: Vec<Vec<u8>>,
    next_beat: Instant,
    idle_since: Instant,
    stopping: bool,
    /// What `ravend` answered, until it is looked at.
    answer: Option<(ToWorker, Vec<OwnedFd>)>,
}

impl Update {
    /// Called inside the jail.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel) -> anyhow::Result<Self> {
        let trusted = start.fds.iter().zip(fds).find_map(|(name, fd)| (*name == Fd::UpdateKeys).then_some(fd));
        let text = content_of(trusted.context("ravend passed no keys")?)?;
        let now = Instant::now();
        let keys = keys(&String::from_utf8_lossy(&text));
        Ok(Self { channel, keys, next_beat: now, idle_since: now, stopping: false, answer: None })
    }

    /// Serves one operator after the other, until nobody comes any more.
    pub fn run(mut self) -> anyhow::Result<()> {
        while !self.stopping && self.idle_since.elapsed() < IDLE {
            self.beat()?;
            wait(&mut [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)], Duration::from_millis(200))?;
            if let Some((socket, downgrade)) = self.control(false)? {
                let mut lines = Lines::default();
                if let Err(error) = self.serve(&socket, downgrade, &mut lines) {
                    lines.reply(&Reply::Error(format!("{error:#}")));
                }
                send_all(&mut lines, &socket);
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
    fn control(&mut self, is_busy: bool) -> anyhow::Result<Option<(OwnedFd, bool)>> {
        let mut packet = vec![0; PACKET_MAX];
        loop {
            match self.channel.try_recv_json::<ToWorker>(&mut packet) {
                Ok(Some((ToWorker::Bundle { downgrade }, fds))) => match fds.into_iter().next() {
                    Some(socket) if is_busy => refuse(&socket, "another update is under way: wait for its end"),
                    Some(socket) => return Ok(Some((socket, downgrade))),
                    None => {}
                },
                Ok(Some((answer @ (ToWorker::Slot(_) | ToWorker::Staged(_)), fds))) => {
                    self.answer = Some((answer, fds));
                }
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

    /// One bundle, from its first byte until the boot loader has it.
    fn serve(&mut self, socket: &OwnedFd, downgrade: bool, lines: &mut Lines) -> anyhow::Result<()> {
        let header = self.header(socket)?;
        let manifest = vouched(&header, &self.keys)?;
        manifest.taken_by(Version::own(), FORMATS, downgrade)?;
        let (slot, place) = self.open()?;
        let mut take = Take::begin(&header, manifest, place)?;
        while !take.catch_up()? {
            self.tend()?;
        }
        lines.reply(&Reply::Ok);
        let (total, version) = (take.manifest.bytes(), take.manifest.version);
        tell(lines, socket, &UpdateLine::From { offset: take.offset(), total, version, slot: slot.clone() })?;
        let taken = self.take(socket, &mut take, lines);
        // Also of what broke off: it is gone on with from here.
        take.settle()?;
        taken?;
        tell(lines, socket, &UpdateLine::Checking)?;
        while !take.check()? {
            self.tend()?;
        }
        self.stage()?;
        tell(lines, socket, &UpdateLine::Staged { slot, version })?;
        lines.done();
        Ok(())
    }

    /// Exactly the header: what comes behind it is asked for later.
    fn header(&mut self, socket: &OwnedFd) -> anyhow::Result<Vec<u8>> {
        let (mut header, until) = (Vec::new(), Instant::now() + HEADER);
        let mut chunk = vec![0; FIXED + MANIFEST_MAX];
        loop {
            let len = Header::len(&header)?;
            match len {
                Some(len) if header.len() == len => return Ok(header),
                Some(len) if header.len() > len => bail!("bytes came before they were asked for"),
                _ => {}
            }
            if Instant::now() > until {
                bail!("no bundle came within {} s", HEADER.as_secs());
            }
            match self.read(socket, &mut chunk)? {
                None => {}
                Some(0) => Header::cut(&header).map(drop)?,
                Some(n) => header.extend_from_slice(&chunk[..n]),
            }
        }
    }

    fn take(&mut self, socket: &OwnedFd, take: &mut Take<File>, lines: &mut Lines) -> anyhow::Result<()> {
        let (mut heard, mut told) = (Instant::now(), Instant::now());
        let mut chunk = vec![0; CHUNK];
        while !take.is_full() {
            match self.read(socket, &mut chunk)? {
                Some(0) => {
                    let (has, of) = (take.offset(), take.manifest.bytes());
                    bail!("{}; what came is kept, say it again to go on", BundleError::Cut { has, of });
                }
                Some(n) => {
                    take.push(&chunk[..n])?;
                    heard = Instant::now();
                }
                None if heard.elapsed() > SILENT => bail!("nothing came for {} s", SILENT.as_secs()),
                None => {}
            }
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                tell(lines, socket, &UpdateLine::Taken { offset: take.offset() })?;
            }
        }
        Ok(())
    }

    /// What came; `None` when nothing did for a moment.
    fn read(&mut self, socket: &OwnedFd, chunk: &mut [u8]) -> anyhow::Result<Option<usize>> {
        self.tend()?;
        let mut fds =
            [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        wait(&mut fds, Duration::from_millis(200))?;
        match recv(socket.as_fd(), chunk, &mut Vec::new(), nix::libc::MSG_DONTWAIT) {
            Ok(n) => Ok(Some(n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("the client is gone"),
        }
    }

    /// The slot that `ravend` gives; what stands there is started no more.
    fn open(&mut self) -> anyhow::Result<(String, Place<File>)> {
        match self.ask(SlotOrder::Open)? {
            (ToWorker::Slot(Ok(slot)), fds) => Ok((slot, Place::new(fds)?)),
            (ToWorker::Slot(Err(why)), _) => bail!("{why}"),
            _ => bail!("ravend answered something else"),
        }
    }

    fn stage(&mut self) -> anyhow::Result<()> {
        match self.ask(SlotOrder::Stage)? {
            (ToWorker::Staged(Ok(())), _) => Ok(()),
            (ToWorker::Staged(Err(why)), _) => bail!("{why}"),
            _ => bail!("ravend answered something else"),
        }
    }

    fn ask(&mut self, order: SlotOrder) -> anyhow::Result<(ToWorker, Vec<OwnedFd>)> {
        self.answer = None;
        self.channel.send_json(&FromWorker::Slot(order), &[])?;
        let until = Instant::now() + ROOT;
        while Instant::now() < until {
            self.tend()?;
            if let Some(answer) = self.answer.take() {
                return Ok(answer);
            }
            wait(&mut [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)], Duration::from_millis(200))?;
        }
        bail!("ravend gave no answer within {} s", ROOT.as_secs())
    }

    /// What must be done however long an update takes.
    fn tend(&mut self) -> anyhow::Result<()> {
        self.beat()?;
        self.control(true)?;
        if self.stopping {
            bail!("ravend stops: say it again when it runs, what came is kept");
        }
        Ok(())
    }
}

/// The manifest of a header that one of `keys` signed.
fn vouched(header: &[u8], keys: &[Vec<u8>]) -> Result<Manifest, BundleError> {
    let header = Header::cut(header)?;
    let signed = header.signed();
    let right = |key: &Vec<u8>| UnparsedPublicKey::new(&ED25519, key).verify(&signed, header.signature).is_ok();
    if keys.iter().any(right) { header.read() } else { Err(BundleError::Signature) }
}

fn tell(lines: &mut Lines, socket: &OwnedFd, line: &UpdateLine) -> anyhow::Result<()> {
    lines.line(&Line::Update(line));
    lines.send(socket.as_fd()).map(drop).context("the client is gone")
}

/// The rest of the answer, to who still takes it.
fn send_all(lines: &mut Lines, socket: &OwnedFd) {
    let until = Instant::now() + STUCK;
    while lines.send(socket.as_fd()).is_ok() && !lines.is_sent() && Instant::now() < until {
        let _ = wait(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], Duration::from_millis(100));
    }
}
