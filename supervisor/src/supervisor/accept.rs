//! TCP connections: accepted here, read by the collector.

use super::Supervisor;
use crate::connections::Limits;
use crate::fdstore::{self, Stored};
use raven_jail::socket;
use raven_model::control::{ListenerId, ToWorker};
use raven_model::table::Role;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

impl Supervisor {
    pub(super) fn accept_connections(&mut self, id: ListenerId) {
        let syslog = &self.config.collect.syslog;
        let limits = Limits { total: syslog.connections, per_source: syslog.connections_per_source };
        // Bounded, so that a flood of connections starves nobody else in the loop.
        for _ in 0..64 {
            let Some(bound) = self.listeners.get_mut(id) else { return };
            match socket::accept(bound.socket.as_fd()) {
                Ok((socket, peer)) => self.keep_connection(id, peer, socket, limits),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    bound.refused += 1;
                    tracing::warn!(listener = bound.listener.name(), "a connection was not accepted: {error}");
                    return;
                }
            }
        }
    }

    pub(super) fn keep_connection(
        &mut self,
        id: ListenerId,
        peer: std::net::SocketAddr,
        socket: OwnedFd,
        limits: Limits,
    ) {
        let Some(held) = self.connections.add(id, peer, socket, limits) else {
            if let Some(bound) = self.listeners.get_mut(id) {
                bound.refused += 1;
            }
            return;
        };
        fdstore::keep(&Stored::of(&held.connection), held.socket.as_fd());
        let (message, fd) = (ToWorker::Connection(held.connection.clone()), held.duplicate());
        match fd {
            Ok(fd) => self.tell(Role::Syslog, &message, vec![fd]),
            Err(error) => tracing::error!("no descriptor left for a connection: {error}"),
        }
    }

    pub(super) fn forget_connection(&mut self, id: u32) {
        let Some((connection, bytes)) = self.connections.remove(id) else { return };
        fdstore::forget(&Stored::of(&connection));
        let length = (bytes.end - bytes.start).cast_signed();
        let flags = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // Only memory is at stake.
        let _ = nix::fcntl::fallocate(&self.held.memory, flags, bytes.start.cast_signed(), length);
    }
}
