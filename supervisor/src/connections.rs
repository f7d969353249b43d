//! Accepted TCP connections: a duplicate of each is kept here, so that a collector's death closes none.

use nix::unistd::dup;
use raven_jail::receive::{CONNECTIONS, connection_buffer};
use raven_model::control::{Connection, ListenerId};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// One connection.
#[derive(Debug)]
pub struct Held {
    /// What the collector is told of it.
    pub connection: Connection,
    /// Our duplicate, where the connection outlives its collector.
    pub socket: Option<OwnedFd>,
}

/// All live connections, by their place in the receive memory.
#[derive(Debug, Default)]
pub struct Connections {
    held: HashMap<u16, Held>,
    per_source: HashMap<IpAddr, u32>,
    last_id: u32,
    last_slot: u16,
}

/// Limits of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// In all.
    pub total: u32,
    /// From one address.
    pub per_source: u32,
}

impl Connections {
    /// Keeps an accepted connection; `None` when a limit is reached (the connection is closed then).
    pub fn add(
        &mut self,
        listener: ListenerId,
        peer: SocketAddr,
        socket: Option<OwnedFd>,
        limits: Limits,
    ) -> Option<&Held> {
        let total = (limits.total as usize).min(CONNECTIONS);
        let from_source = self.per_source.get(&peer.ip()).copied().unwrap_or(0);
        if self.held.len() >= total || from_source >= limits.per_source {
            return None;
        }
        let slot = self.free_slot()?;
        self.last_id = self.last_id.wrapping_add(1);
        self.keep(Held { connection: Connection { id: self.last_id, slot, listener, peer }, socket });
        self.held.get(&slot)
    }

    /// Takes over a connection of an earlier life.
    pub fn restore(&mut self, connection: Connection, socket: OwnedFd) {
        self.last_id = self.last_id.max(connection.id);
        self.keep(Held { connection, socket: Some(socket) });
    }

    /// Forgets the connections that ended with their collector.
    pub fn forget_sessions(&mut self) {
        let ended: Vec<u32> = self.iter().filter(|held| held.socket.is_none()).map(|held| held.connection.id).collect();
        for id in ended {
            self.remove(id);
        }
    }

    fn keep(&mut self, held: Held) {
        *self.per_source.entry(held.connection.peer.ip()).or_insert(0) += 1;
        self.held.insert(held.connection.slot, held);
    }

    /// Places are used in turn, so that a place rests before it is used again.
    fn free_slot(&mut self) -> Option<u16> {
        let places = CONNECTIONS as u16;
        let slot = (1..=places).map(|n| (self.last_slot + n) % places).find(|slot| !self.held.contains_key(slot))?;
        self.last_slot = slot;
        Some(slot)
    }

    /// Forgets a connection that the collector has finished; returns the bytes of the receive memory to give back.
    pub fn remove(&mut self, id: u32) -> Option<(Connection, std::ops::Range<u64>)> {
        let slot = self.held.iter().find(|(_, held)| held.connection.id == id).map(|(&slot, _)| slot)?;
        let held = self.held.remove(&slot)?;
        let source = held.connection.peer.ip();
        if let Some(count) = self.per_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
        Some((held.connection, connection_buffer(slot)))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }
}

impl Held {
    /// A descriptor to pass on; `None` for a connection that ended with its collector.
    pub fn duplicate(&self) -> io::Result<Option<OwnedFd>> {
        Ok(self.socket.as_ref().map(dup).transpose()?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIMITS: Limits = Limits { total: 3, per_source: 2 };

    fn socket() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_source_takes_no_more_than_its_share() {
        let mut connections = Connections::default();
        let (a, b): (SocketAddr, SocketAddr) = ("192.0.2.1:1".parse().unwrap(), "192.0.2.2:1".parse().unwrap());
        let first = connections.add(1, a, Some(socket()), LIMITS).unwrap().connection.clone();
        assert!(connections.add(1, a, Some(socket()), LIMITS).is_some());
        assert!(connections.add(1, a, Some(socket()), LIMITS).is_none(), "third of one source");
        assert!(connections.add(1, b, Some(socket()), LIMITS).is_some());
        assert!(connections.add(1, b, Some(socket()), LIMITS).is_none(), "fourth in all");
        assert!(connections.remove(first.id).is_some());
        let again = connections.add(1, a, Some(socket()), LIMITS).unwrap().connection.clone();
        assert!(again.id != first.id && again.slot != first.slot);
        assert!(connections.add(1, "192.0.2.3:1".parse().unwrap(), None, Limits { total: 9, per_source: 9 }).is_some());
        connections.forget_sessions();
        assert_eq!(connections.iter().count(), 3, "those that outlive their collector stay");
    }
}
