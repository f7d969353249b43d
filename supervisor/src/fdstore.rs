//! Descriptors that outlive `ravend` itself: kept by systemd's descriptor store (`FileDescriptorStoreMax=`), so that a
//! killed `ravend` finds its sockets, its connections and the receive memory again. Without systemd this does nothing.

use raven_jail::channel::inherited;
use raven_model::control::{Connection, ListenerId, Proto};
use raven_model::stream::Stream;
use sd_notify::NotifyState;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a stored descriptor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A bound listener.
    Listener(Stream, Proto, ListenerId),
    /// A collector's receive memory.
    Memory(Stream),
    /// The store's words for it.
    Words(Stream),
    /// An accepted connection: id, slot, listener. The peer is asked from the socket.
    Connection(Stream, u32, u16, ListenerId),
}

impl Stored {
    fn name(&self) -> String {
        match self {
            Self::Listener(stream, proto, id) => format!("{}-{stream}-{id}", proto.name()),
            Self::Memory(stream) => format!("memory-{stream}"),
            Self::Words(stream) => format!("words-{stream}"),
            Self::Connection(stream, id, slot, listener) => format!("connection-{stream}-{id}-{slot}-{listener}"),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let (kind, stream) = (parts.next()?, Stream::named(parts.next()?)?);
        let mut number = || parts.next()?.parse::<u32>().ok();
        match kind {
            "memory" => Some(Self::Memory(stream)),
            "words" => Some(Self::Words(stream)),
            "connection" => {
                let (id, slot, listener) = (number()?, number()?.try_into().ok()?, number()?.try_into().ok()?);
                Some(Self::Connection(stream, id, slot, listener))
            }
            proto => Some(Self::Listener(stream, Proto::named(proto)?, number()?.try_into().ok()?)),
        }
    }

    /// The entry of a connection.
    pub const fn of(stream: Stream, connection: &Connection) -> Self {
        Self::Connection(stream, connection.id, connection.slot, connection.listener)
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
        for stream in Stream::ALL {
            for what in [
                Stored::Memory(stream),
                Stored::Words(stream),
                Stored::Listener(stream, Proto::Udp, 7),
                Stored::Listener(stream, Proto::Https, 8),
                Stored::Connection(stream, 70_000, 1023, 3),
            ] {
                assert_eq!(Stored::parse(&what.name()), Some(what));
            }
        }
        assert_eq!(Stored::parse("udp-syslog-999"), None);
        assert_eq!(Stored::parse("udp-7"), None);
        assert_eq!(Stored::parse("varlink"), None);
    }
}
