//! Descriptors that outlive `ravend` itself: kept by systemd's descriptor store (`FileDescriptorStoreMax=`), so that a
//! killed `ravend` finds its sockets, its connections and the receive memory again. Without systemd this does nothing.

use raven_jail::channel::inherited;
use raven_model::control::{Connection, ListenerId, Proto};
use sd_notify::NotifyState;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a stored descriptor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A bound listener.
    Listener(Proto, ListenerId),
    /// The collector's receive memory.
    Memory,
    /// The store's words.
    Words,
    /// An accepted connection: id, slot, listener. The peer is asked from the socket.
    Connection(u32, u16, ListenerId),
}

impl Stored {
    fn name(&self) -> String {
        match self {
            Self::Listener(proto, id) => format!("{}-{id}", proto.name()),
            Self::Memory => "memory".to_owned(),
            Self::Words => "words".to_owned(),
            Self::Connection(id, slot, listener) => format!("connection-{id}-{slot}-{listener}"),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let kind = parts.next()?;
        let mut number = || parts.next()?.parse::<u32>().ok();
        match kind {
            "memory" => Some(Self::Memory),
            "words" => Some(Self::Words),
            "udp" => Some(Self::Listener(Proto::Udp, number()?.try_into().ok()?)),
            "tcp" => Some(Self::Listener(Proto::Tcp, number()?.try_into().ok()?)),
            "connection" => Some(Self::Connection(number()?, number()?.try_into().ok()?, number()?.try_into().ok()?)),
            _ => None,
        }
    }

    /// The entry of a connection.
    pub const fn of(connection: &Connection) -> Self {
        Self::Connection(connection.id, connection.slot, connection.listener)
    }
}

/// Gives a duplicate to the service manager.
pub fn keep(what: &Stored, fd: BorrowedFd<'_>) {
    let name = what.name();
    if let Err(error) = sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(&name)], &[fd.as_fd()]) {
        tracing::warn!(name, "the service manager does not keep a descriptor: {error}");
    }
}

/// Takes it back.
pub fn forget(what: &Stored) {
    let name = what.name();
    let _ = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name)]);
}

/// What the service manager kept of an earlier life.
pub fn restore() -> Vec<(Stored, OwnedFd)> {
    let Ok(fds) = sd_notify::listen_fds_with_names() else { return Vec::new() };
    let mut kept = Vec::new();
    for (number, name) in fds {
        match (inherited(number), Stored::parse(&name)) {
            (Ok(fd), Some(what)) => kept.push((what, fd)),
            (Ok(_), None) => tracing::warn!(name, "the service manager passed a descriptor that ravend does not know"),
            (Err(error), _) => tracing::warn!(name, "the service manager passed no descriptor {number}: {error}"),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_written() {
        for what in
            [Stored::Memory, Stored::Words, Stored::Listener(Proto::Udp, 7), Stored::Connection(70_000, 1023, 3)]
        {
            assert_eq!(Stored::parse(&what.name()), Some(what));
        }
        assert_eq!(Stored::parse("udp-999"), None);
        assert_eq!(Stored::parse("varlink"), None);
    }
}
