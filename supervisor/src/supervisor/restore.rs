//! What outlives `ravend`: taken over from the service manager, or made.

use super::{Held, READERS, STREAM};
use crate::connections::Connections;
use crate::fdstore::{self, Stored};
use crate::listeners::Listeners;
use anyhow::{Context, bail};
use nix::sys::eventfd::EventFd;
use raven_jail::channel::Channel;
use raven_jail::{receive, socket};
use std::os::fd::{AsFd, OwnedFd};

/// What systemd kept of an earlier life, or all new.
pub(super) fn restore(stored: Vec<(Stored, OwnedFd)>) -> anyhow::Result<(Held, Listeners, Connections)> {
    let (mut memory, mut words) = (None, None);
    let (mut listeners, mut connections) = (Listeners::default(), Connections::default());
    for (what, fd) in stored {
        match what {
            Stored::Memory => memory = Some(fd),
            Stored::Words => words = Some(fd),
            Stored::Listener(proto, id) => listeners.restore(id, proto, fd)?,
            Stored::Connection(id, slot, listener) => match socket::peer_addr(fd.as_fd()) {
                Ok(peer) => connections.restore(raven_model::control::Connection { id, slot, listener, peer }, fd),
                // The peer is gone; what it had sent is in the receive memory or was never read.
                Err(_) => fdstore::forget(&Stored::Connection(id, slot, listener)),
            },
        }
    }
    let (memory, words) = if let (Some(memory), Some(words)) = (memory, words) {
        (memory, words)
    } else {
        let (memory, words) = receive::create(STREAM).context("cannot make the receive memory")?;
        fdstore::keep(&Stored::Memory, memory.as_fd());
        fdstore::keep(&Stored::Words, words.as_fd());
        (memory, words)
    };
    let mut tails = Vec::new();
    for reader in READERS {
        let (store_end, reader_end) = Channel::pair()?;
        store_end.set_send_buffer(1 << 20)?;
        for end in [&store_end, &reader_end] {
            nix::fcntl::fcntl(end, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
        }
        tails.push((reader, store_end, reader_end));
    }
    if listeners.iter().count() > 200 {
        bail!("the service manager kept more listeners than a configuration can have");
    }
    Ok((
        Held {
            memory,
            words,
            wake: EventFd::from_value_and_flags(
                0,
                nix::sys::eventfd::EfdFlags::EFD_CLOEXEC | nix::sys::eventfd::EfdFlags::EFD_NONBLOCK,
            )?,
            tails,
        },
        listeners,
        connections,
    ))
}
