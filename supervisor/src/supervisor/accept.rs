//! Connections: accepted here, read by the collector of their stream.

use super::Supervisor;
use crate::connections::Limits;
use crate::fdstore::{self, Stored};
use nix::unistd::dup;
use raven_jail::socket;
use raven_model::control::{Listener, ListenerId, ToWorker};
use raven_model::stream::Stream;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

impl Supervisor {
    pub(super) fn accept_connections(&mut self, id: ListenerId) {
        // Bounded, so that a flood of connections starves nobody else in the loop.
        for _ in 0..64 {
            let Some(bound) = self.listeners.get_mut(id) else { return };
            match socket::accept(bound.socket.as_fd()) {
                Ok((socket, peer)) => {
                    let listener = bound.listener.clone();
                    self.keep_connection(&listener, peer, socket);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    bound.refused += 1;
                    tracing::warn!(listener = bound.listener.name(), "a connection was not accepted: {error}");
                    return;
                }
            }
        }
    }

    fn keep_connection(&mut self, listener: &Listener, peer: SocketAddr, socket: OwnedFd) {
        let stream = listener.stream;
        let (total, per_source) = self.config.collect.connection_limits(stream);
        let kept = if listener.proto.outlives_collector() { dup(&socket).map(Some) } else { Ok(None) };
        let kept = match kept {
            Ok(kept) => kept,
            Err(error) => return tracing::error!("no descriptor left for a connection: {error}"),
        };
        let connections = self.connections.entry(stream).or_default();
        let Some(held) = connections.add(listener.id, peer, kept, Limits { total, per_source }) else {
            if let Some(bound) = self.listeners.get_mut(listener.id) {
                bound.refused += 1;
            }
            return;
        };
        if let Some(socket) = &held.socket {
            fdstore::keep(&Stored::of(stream, &held.connection), socket.as_fd());
        }
        let message = ToWorker::Connection(held.connection.clone());
        self.tell(stream.collector(), &message, vec![socket]);
    }

    pub(super) fn forget_connection(&mut self, stream: Stream, id: u32) {
        let removed = self.connections.get_mut(&stream).and_then(|connections| connections.remove(id));
        let (Some((connection, bytes)), Some(held)) = (removed, self.held.streams.get(&stream)) else { return };
        fdstore::forget(&Stored::of(stream, &connection));
        let length = (bytes.end - bytes.start).cast_signed();
        let flags = nix::fcntl::FallocateFlags::FALLOC_FL_PUNCH_HOLE | nix::fcntl::FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // Only memory is at stake.
        let _ = nix::fcntl::fallocate(&held.memory, flags, bytes.start.cast_signed(), length);
    }
}
