//! Starting, hearing and reaping workers.

use super::{Supervisor, Token, event};
use crate::listeners::Bound;
use crate::worker::{HOLD_MAX, State};
use anyhow::Context;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::unistd::dup;
use raven_jail::memory::reopen_read_only;
use raven_jail::tun;
use raven_model::config::Config;
use raven_model::control::{Fd, FromWorker, Start, ToWorker};
use raven_model::stream::Stream;
use raven_model::table::Role;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Instant;

impl Supervisor {
    pub(super) fn start_workers(&mut self) {
        for n in 0..self.workers.len() {
            let due = matches!(self.workers[n].state, State::Waiting(at) if at <= Instant::now());
            if let Some(error) = due.then(|| self.start_worker(n).err()).flatten() {
                tracing::error!(role = %self.workers[n].role, "cannot start the worker: {error:#}");
                self.workers[n].state = State::Waiting(Instant::now() + HOLD_MAX);
            }
        }
    }

    pub(super) fn start_worker(&mut self, n: usize) -> anyhow::Result<()> {
        let role = self.workers[n].role;
        let (names, fds) = self.start_fds(role)?;
        let worker = &mut self.workers[n];
        worker.start(self.program.as_fd(), &self.dirs.data)?;
        let start = Start {
            role,
            device: self.config.site.name.clone(),
            boot_id: self.boot_id.clone(),
            data: worker.data_view().map_or_else(PathBuf::new, PathBuf::from),
            config: Some(self.config.clone()),
            listeners: self.listeners.names(),
            environment: BTreeMap::new(),
            fds: names,
        };
        worker.send(&ToWorker::Start(Box::new(start)), fds);
        let (channel, process) = worker.fds().context("a started worker has descriptors")?;
        self.epoll.add(channel, event(Token::Worker(n)))?;
        self.epoll.add(process, event(Token::Process(n)))?;
        self.hand_secrets(role);
        match role.stream() {
            Some(stream) => self.equip_collector(n, stream)?,
            None if role == Role::Decode => self.hand_mibs(),
            None if role == Role::Uplink => self.tell(role, &ToWorker::Carrier(self.carrier.clone()), Vec::new()),
            None => {}
        }
        self.want_write(n);
        Ok(())
    }

    /// Starts a role that runs only while it is needed, unless it does.
    pub(super) fn start_on_demand(&mut self, role: Role) -> anyhow::Result<()> {
        let n = self.worker(role).context("no such role is kept")?;
        if self.workers[n].state == State::Unwanted { self.start_worker(n) } else { Ok(()) }
    }

    pub(super) fn start_fds(&self, role: Role) -> anyhow::Result<(Vec<Fd>, Vec<OwnedFd>)> {
        let (mut names, mut fds) = (Vec::new(), Vec::new());
        for (&stream, held) in &self.held.streams {
            let (collects, stores) = (role.stream() == Some(stream), role == Role::Store);
            if !collects && !stores {
                continue;
            }
            names.extend([Fd::Ring { stream }, Fd::Words { stream }, Fd::Wake { stream }]);
            let (memory, words) = (held.memory.as_fd(), held.words.as_fd());
            if stores {
                fds.extend([reopen_read_only(memory)?, dup(words)?, dup(&held.wake)?]);
            } else {
                fds.extend([dup(memory)?, reopen_read_only(words)?, dup(&held.wake)?]);
            }
        }
        for (reader, store_end, reader_end) in &self.held.tails {
            if role == Role::Store {
                names.push(Fd::Tail { peer: *reader });
                fds.push(dup(store_end)?);
            } else if role == *reader {
                names.push(Fd::Tail { peer: Role::Store });
                fds.push(dup(reader_end)?);
            }
        }
        if let Role::Vpn | Role::Net = role {
            let (vpn, net) = &self.held.tunnels;
            names.push(Fd::Tunnels);
            fds.push(dup(if role == Role::Vpn { vpn } else { net })?);
        }
        if role == Role::Diag {
            // Nothing of it is read here. On a disk that takes nothing tests are made all the same.
            let path = self.dirs.data.join("bandwidth-day");
            let mut options = File::options();
            options.read(true).write(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
            match options.open(&path) {
                Ok(file) => {
                    names.push(Fd::BandwidthDay);
                    fds.push(file.into());
                }
                Err(error) => {
                    tracing::warn!("{}: {error}: a day's bandwidth is forgotten with the role", path.display());
                }
            }
        }
        if role == Role::Update {
            let (name, keys) = self.update_keys()?;
            names.push(name);
            fds.push(keys);
        }
        Ok((names, fds))
    }

    /// Passes all listeners and live connections of its stream to a new collector.
    pub(super) fn equip_collector(&mut self, n: usize, stream: Stream) -> anyhow::Result<()> {
        for bound in self.listeners.iter().filter(|bound| bound.listener.stream == stream) {
            self.workers[n].send(&ToWorker::Listen(bound.listener.clone()), listener_fds(bound)?);
        }
        let Some(connections) = self.connections.get_mut(&stream) else { return Ok(()) };
        connections.forget_sessions();
        for held in connections.iter() {
            if let Some(socket) = held.duplicate()? {
                self.workers[n].send(&ToWorker::Connection(held.connection.clone()), vec![socket]);
            }
        }
        Ok(())
    }

    /// Starts collectors that the configuration now has a use for. One that it has no more use for is left idle.
    pub(super) fn want_collectors(&mut self) {
        for worker in &mut self.workers {
            if is_wanted(worker.role, &self.config) && worker.state == State::Unwanted {
                worker.state = State::Waiting(Instant::now());
            }
        }
    }

    /// Has the loop tell when a worker can take more, or when it says something.
    pub(super) fn want_write(&mut self, n: usize) {
        let flushed = self.workers[n].flush();
        let flags = if flushed { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT };
        if let Some((channel, _)) = self.workers[n].fds() {
            let _ = self.epoll.modify(channel, &mut EpollEvent::new(flags, Token::Worker(n).pack()));
        }
    }

    pub(super) fn hear(&mut self, n: usize) {
        let mut packet = Vec::new();
        while let Some((message, fds)) = self.workers[n].receive(&mut packet) {
            match message {
                FromWorker::Program(order) => self.order_program(&order, fds),
                FromWorker::Carrier(carrier) => self.tell_carrier(carrier),
                FromWorker::Acknowledged { tunnel, ago_ms } => {
                    self.tell(Role::Vpn, &ToWorker::Acknowledged { tunnel, ago_ms }, Vec::new());
                }
                FromWorker::Ready { missing } => self.workers[n].ready(missing),
                FromWorker::Heartbeat { report } => self.workers[n].alive(report),
                FromWorker::Slot(order) => self.order_slot(order),
                FromWorker::Tun => self.hand_tun(n),
                FromWorker::Closed { connection } => {
                    if let Some(stream) = self.workers[n].role.stream() {
                        self.forget_connection(stream, connection);
                    }
                }
                // Of roles that answer once: `configure.rs` hears those.
                FromWorker::Config(_)
                | FromWorker::Keys { .. }
                | FromWorker::DeviceKey { .. }
                | FromWorker::Signed(_)
                | FromWorker::Hashed(_)
                | FromWorker::Verified(_) => {}
            }
        }
        self.want_write(n);
    }

    /// Opens the place of TUN devices for the `net` role, which has no files. Each descriptor is good for one device.
    fn hand_tun(&mut self, n: usize) {
        if self.workers[n].role != Role::Net {
            return;
        }
        let (opened, fds) = match tun::open() {
            Ok(descriptor) => (Ok(()), vec![descriptor]),
            Err(error) => (Err(format!("{}: {error}", tun::PLACE)), Vec::new()),
        };
        self.workers[n].send(&ToWorker::Tun(opened), fds);
    }

    pub(super) fn reap(&mut self, n: usize) -> anyhow::Result<()> {
        self.hear(n);
        self.workers[n].reap()?;
        Ok(())
    }

    pub(super) fn worker(&mut self, role: Role) -> Option<usize> {
        self.workers.iter().position(|worker| worker.role == role)
    }

    pub(super) fn tell(&mut self, role: Role, message: &ToWorker, fds: Vec<OwnedFd>) {
        if let Some(n) = self.worker(role) {
            self.workers[n].send(message, fds);
            self.want_write(n);
        }
    }
}

/// Whether the configuration has a use for a role; what it has none for is started when an operator asks for it.
pub(super) fn is_wanted(role: Role, config: &Config) -> bool {
    match role.stream() {
        Some(stream) => config.collects(stream),
        None if role == Role::Vpn => !config.vpn.order.is_empty(),
        None => !role.is_on_demand(),
    }
}

pub(super) fn listener_fds(bound: &Bound) -> io::Result<Vec<OwnedFd>> {
    Ok(if bound.listener.proto.is_connected() { Vec::new() } else { vec![bound.duplicate()?] })
}
