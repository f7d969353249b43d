//! The `decode` role: reads stored records for operators, decodes them when asked to, and writes what was asked for.
//!
//! Hostile bytes are looked at here and nowhere else with any right: this process reads the ring, and holds the
//! sockets of the operators that ask. One thread serves all of them in turn, a block at a time, so that one who asks
//! for everything, or takes nothing of what he asked for, stops nobody else.
//!
//! Start with [`client`] (one operator's question), then [`walk`] (how records are found), then [`ring`].

mod archive;
mod check;
mod client;
#[cfg(test)]
pub mod fake;
mod lines;
mod ring;
mod walk;

pub use lines::{Line, Lines};
pub use ring::{Blocks, Clock, Got, Want};
pub use walk::{Looked, SLACK_NS, Step, Walk, Walked};

use crate::decoder::Knowledge;
use anyhow::{Context, bail};
use client::Client;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use raven_buffer::tail::TailClient;
use raven_decode::snmp::{Names, Users, mib, read_users};
use raven_jail::channel::{Channel, ChannelError};
use raven_jail::memory::content_of;
use raven_model::config::Config;
use raven_model::control::{Fd, FromWorker, PACKET_MAX, Start, ToWorker};
use ring::Ring;
use serde_json::value::RawValue;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

const HEARTBEAT: Duration = Duration::from_secs(1);
/// Clients at a time: with the largest answers at once they stay within the memory of the process table.
const CLIENTS_MAX: usize = 32;

/// Tells `ravend` once a second that the role is alive.
pub struct Pulse {
    channel: Channel,
    next: Instant,
}

impl Pulse {
    /// To be called often.
    pub fn beat(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + HEARTBEAT;
            self.channel.send_json(&FromWorker::Heartbeat { report: RawValue::NULL.to_owned() }, &[])?;
        }
        Ok(())
    }
}

/// The role's state.
pub struct Decode {
    pulse: Pulse,
    ring: Ring,
    knowledge: Rc<Knowledge>,
    clients: Vec<Client>,
    stopping: bool,
    packet: Vec<u8>,
}

impl Decode {
    /// Called inside the jail.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel) -> anyhow::Result<Self> {
        let tail = start.fds.iter().zip(fds).find_map(|(name, fd)| matches!(name, Fd::Tail { .. }).then_some(fd));
        let tail = TailClient::new(tail.context("ravend passed no way to the store")?);
        let knowledge = Knowledge::new(start.data.join("ring"));
        if let Some(config) = &start.config {
            know(&knowledge, config);
        }
        Ok(Self {
            knowledge,
            pulse: Pulse { channel, next: Instant::now() },
            ring: Ring::new(start.data.join("ring"), tail).of_device(&start.device),
            clients: Vec::new(),
            stopping: false,
            packet: vec![0; PACKET_MAX],
        })
    }

    /// Serves operators until `ravend` says stop or is gone.
    pub fn run(mut self) -> anyhow::Result<()> {
        while !self.stopping {
            self.pulse.beat()?;
            self.ring.tell_damage();
            let ready = self.wait()?;
            if ready.first() == Some(&true) {
                self.control()?;
            }
            // Clients that were just taken in have no entry in `ready`.
            for (n, client) in self.clients.iter_mut().enumerate() {
                let readable = ready.get(n + 1).copied().unwrap_or(false);
                client.serve(readable, &self.knowledge, &mut self.ring);
                self.pulse.beat()?;
            }
            self.clients.retain(|client| !client.is_done());
        }
        Ok(())
    }

    fn wait(&self) -> anyhow::Result<Vec<bool>> {
        let now = Instant::now();
        let mut timeout = self.pulse.next.saturating_duration_since(now).min(self.ring.due(now));
        let mut fds = vec![PollFd::new(self.pulse.channel.as_fd(), PollFlags::POLLIN)];
        for client in &self.clients {
            let (flags, when) = client.interest(now);
            timeout = timeout.min(when);
            fds.push(PollFd::new(client.as_fd(), flags));
        }
        // Rounded up: a wait cut to whole milliseconds would spin at the end.
        let millis = timeout.as_micros().div_ceil(1000).min(1000) as u16;
        match poll(&mut fds, PollTimeout::from(millis)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        Ok(fds.iter().map(|fd| fd.any().unwrap_or(false)).collect())
    }

    fn control(&mut self) -> anyhow::Result<()> {
        loop {
            match self.pulse.channel.try_recv_json::<ToWorker>(&mut self.packet) {
                Ok(Some((ToWorker::Client, fds))) => {
                    if let Some(socket) = fds.into_iter().next() {
                        self.welcome(socket);
                    }
                }
                Ok(Some((ToWorker::Configure(config), _))) => know(&self.knowledge, &config),
                Ok(Some((ToWorker::Mibs, fds))) => fds.into_iter().for_each(|fd| name_oids(&self.knowledge, fd)),
                Ok(Some((ToWorker::Secrets(names), fds))) => {
                    for (_, fd) in names.iter().zip(fds).filter(|(name, _)| *name == "collect.trap.users") {
                        know_users(&self.knowledge, fd);
                    }
                }
                Ok(Some((ToWorker::Stop, _)) | None) => {
                    self.stopping = true;
                    return Ok(());
                }
                Ok(Some(_)) => bail!("a message that the decode role does not take"),
                Err(ChannelError::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Takes a client in. When there are too many, the one that has taken nothing for the longest time makes room.
    fn welcome(&mut self, socket: OwnedFd) {
        if self.clients.len() >= CLIENTS_MAX {
            let now = Instant::now();
            let stuck = self.clients.iter().enumerate().max_by_key(|(_, client)| client.stuck(now));
            match stuck.filter(|(_, client)| client.stuck(now).is_some()).map(|(n, _)| n) {
                Some(n) => drop(self.clients.swap_remove(n)),
                None => return Client::refuse(socket, &format!("{CLIENTS_MAX} others are asking: try again later")),
            }
        }
        self.clients.push(Client::new(socket));
    }
}

/// What the configuration states of senders.
fn know(knowledge: &Knowledge, config: &Config) {
    let rates = config.collect.flow.sampling.iter();
    let rates = rates.filter_map(|(address, rate)| Some((address.parse().ok()?, u64::from(*rate))));
    *knowledge.sampling.borrow_mut() = rates.collect();
}

/// The users of SNMPv3, by whose keys stored notifications are read.
fn know_users(knowledge: &Knowledge, fd: OwnedFd) {
    let read = content_of(fd).map(Zeroizing::new).map_err(|error| error.to_string());
    let users = read.and_then(|text| read_users(&String::from_utf8_lossy(&text)).map_err(|error| error.to_string()));
    match users.and_then(|users| Users::new(users).map_err(|error| error.to_string())) {
        Ok(users) => *knowledge.users.borrow_mut() = users,
        Err(why) => eprintln!("raven-worker decode: collect.trap.users: {why}"),
    }
}

/// Names of OIDs from the operator's MIB modules, besides the standard ones.
fn name_oids(knowledge: &Knowledge, fd: OwnedFd) {
    let all = match content_of(fd) {
        Ok(all) => all,
        Err(error) => return eprintln!("raven-worker decode: the MIB modules cannot be read: {error}"),
    };
    let modules = modules(&all);
    let files: Vec<_> = modules.iter().map(|(name, text)| mib::MibFile { name, text }).collect();
    let mut names = Names::standard();
    let loaded = mib::load(&files, &mut names);
    for problem in loaded.problems.iter().chain(&loaded.unresolved).take(20) {
        eprintln!("raven-worker decode: {problem}");
    }
    *knowledge.names.borrow_mut() = names;
}

/// `{ name_len u16, name, text_len u32, text } …`, as `ravend` passes them.
fn modules(mut run: &[u8]) -> Vec<(String, String)> {
    fn item<'a>(run: &mut &'a [u8], wide: bool) -> Option<&'a [u8]> {
        let (len, rest) = if wide {
            run.split_first_chunk::<4>().map(|(len, rest)| (u32::from_le_bytes(*len) as usize, rest))?
        } else {
            run.split_first_chunk::<2>().map(|(len, rest)| (usize::from(u16::from_le_bytes(*len)), rest))?
        };
        let (item, rest) = rest.split_at_checked(len)?;
        *run = rest;
        Some(item)
    }
    let mut modules = Vec::new();
    while let Some((name, text)) = item(&mut run, false).and_then(|name| Some((name, item(&mut run, true)?))) {
        modules.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(text).into_owned()));
    }
    modules
}
