//! Starting, hearing and reaping workers.

use super::{STREAM, Supervisor, Token, event};
use crate::listeners::Bound;
use crate::worker::{HOLD_MAX, State};
use anyhow::Context;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::unistd::dup;
use raven_jail::memory::reopen_read_only;
use raven_model::control::{Fd, FromWorker, Proto, Start, ToWorker};
use raven_model::table::Role;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
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
        if role == Role::Syslog {
            self.equip_collector(n)?;
        }
        self.want_write(n);
        Ok(())
    }

    pub(super) fn start_fds(&self, role: Role) -> anyhow::Result<(Vec<Fd>, Vec<OwnedFd>)> {
        let stream = || STREAM.to_owned();
        let (names, mut fds) = match role {
            Role::Syslog => (
                vec![Fd::Ring { stream: stream() }, Fd::Words { stream: stream() }, Fd::Wake { stream: stream() }],
                vec![dup(&self.held.memory)?, reopen_read_only(self.held.words.as_fd())?, dup(&self.held.wake)?],
            ),
            Role::Store => (
                vec![Fd::Ring { stream: stream() }, Fd::Words { stream: stream() }, Fd::Wake { stream: stream() }],
                vec![reopen_read_only(self.held.memory.as_fd())?, dup(&self.held.words)?, dup(&self.held.wake)?],
            ),
            _ => (Vec::new(), Vec::new()),
        };
        let mut names = names;
        for (reader, store_end, reader_end) in &self.held.tails {
            if role == Role::Store {
                names.push(Fd::Tail { peer: *reader });
                fds.push(dup(store_end)?);
            } else if role == *reader {
                names.push(Fd::Tail { peer: Role::Store });
                fds.push(dup(reader_end)?);
            }
        }
        Ok((names, fds))
    }

    /// Passes all listeners and live connections to a new collector.
    pub(super) fn equip_collector(&mut self, n: usize) -> anyhow::Result<()> {
        for bound in self.listeners.iter() {
            self.workers[n].send(&ToWorker::Listen(bound.listener.clone()), listener_fds(bound)?);
        }
        for held in self.connections.iter() {
            self.workers[n].send(&ToWorker::Connection(held.connection.clone()), vec![held.duplicate()?]);
        }
        Ok(())
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
        while let Some(message) = self.workers[n].receive(&mut packet) {
            match message {
                FromWorker::Ready { missing } => self.workers[n].ready(missing),
                FromWorker::Heartbeat { report } => self.workers[n].alive(report),
                FromWorker::Closed { connection } => self.forget_connection(connection),
                FromWorker::Config(_) => {}
            }
        }
        self.want_write(n);
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

pub(super) fn listener_fds(bound: &Bound) -> io::Result<Vec<OwnedFd>> {
    match bound.listener.proto {
        Proto::Udp => Ok(vec![bound.duplicate()?]),
        Proto::Tcp => Ok(Vec::new()),
    }
}
