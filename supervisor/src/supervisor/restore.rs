//! What outlives `ravend`: taken over from the service manager, or made.

use super::{Held, HeldStream, READERS};
use crate::connections::Connections;
use crate::fdstore::{self, Stored};
use crate::listeners::Listeners;
use anyhow::{Context, bail};
use nix::sys::eventfd::EventFd;
use raven_jail::channel::Channel;
use raven_jail::{receive, socket};
use raven_model::stream::Stream;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

/// What systemd kept of an earlier life, or all new.
pub(super) fn restore(
    stored: Vec<(Stored, OwnedFd)>,
) -> anyhow::Result<(Held, Listeners, BTreeMap<Stream, Connections>)> {
    let (mut memories, mut words) = (BTreeMap::new(), BTreeMap::new());
    let (mut listeners, mut connections) = (Listeners::default(), BTreeMap::<Stream, Connections>::new());
    for (what, fd) in stored {
        match what {
            Stored::Memory(stream) => drop(memories.insert(stream, fd)),
            Stored::Words(stream) => drop(words.insert(stream, fd)),
            Stored::Listener(stream, proto, id) => listeners.restore(stream, id, proto, fd)?,
            Stored::Connection(stream, id, slot, listener) => match socket::peer_addr(fd.as_fd()) {
                Ok(peer) => {
                    let connection = raven_model::control::Connection { id, slot, listener, peer };
                    connections.entry(stream).or_default().restore(connection, fd);
                }
                // The peer is gone; what it had sent is in the receive memory or was never read.
                Err(_) => fdstore::forget(&Stored::Connection(stream, id, slot, listener)),
            },
        }
    }
    let mut streams = BTreeMap::new();
    for stream in Stream::ALL {
        streams.insert(stream, held(stream, memories.remove(&stream), words.remove(&stream))?);
    }
    let mut tails = Vec::new();
    for reader in READERS {
        let (store_end, reader_end) = pair()?;
        tails.push((reader, store_end, reader_end));
    }
    if listeners.iter().count() > 200 {
        bail!("the service manager kept more listeners than a configuration can have");
    }
    Ok((Held { streams, tails, tunnels: pair()? }, listeners, connections))
}

/// Two ends that outlive those who hold them.
fn pair() -> anyhow::Result<(Channel, Channel)> {
    let (a, b) = Channel::pair()?;
    a.set_send_buffer(1 << 20)?;
    for end in [&a, &b] {
        nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    }
    Ok((a, b))
}

/// The receive memory of a stream: that of an earlier life, or a new one.
fn held(stream: Stream, memory: Option<OwnedFd>, words: Option<OwnedFd>) -> anyhow::Result<HeldStream> {
    let (memory, words) = if let (Some(memory), Some(words)) = (memory, words) {
        (memory, words)
    } else {
        let (memory, words) = receive::create(stream.name()).context("cannot make the receive memory")?;
        fdstore::keep(&Stored::Memory(stream), memory.as_fd());
        fdstore::keep(&Stored::Words(stream), words.as_fd());
        (memory, words)
    };
    let flags = nix::sys::eventfd::EfdFlags::EFD_CLOEXEC | nix::sys::eventfd::EfdFlags::EFD_NONBLOCK;
    Ok(HeldStream { memory, words, wake: EventFd::from_value_and_flags(0, flags)? })
}
