//! What receives. One loop per kind of telemetry, each in its own process.
//!
//! A collector owns no capability, opens no file and makes no socket: it reads from the descriptors that `ravend`
//! gave it and writes into the receive memory. What arrived is handed to the store as it arrived, with its source; one
//! that has to look inside ([`flow`], [`trap`]) only finds out what is needed to read it later, whether to vouch for it and
//! what to answer. Start with [`receiver`], the loop that most of them share, then [`syslog`], the simplest of them, and
//! its sessions [`tls`] and [`relp`]. What they cannot serve they say in an [`inbox`]. [`winevent`] and [`metrics`] share
//! a loop of their own, [`http`]. [`host`] is the exception: it listens to nobody, and reads `/proc` and `/sys`; so is
//! [`alert`], which hears what the other roles report.

pub mod alert;
pub mod flow;
pub mod framing;
pub mod host;
pub mod http;
pub mod inbox;
pub mod keygen;
pub mod metrics;
pub mod receiver;
pub mod relp;
pub mod session;
pub mod speaker;
pub mod syslog;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;
pub mod tls;
pub mod trap;
pub mod winevent;

use raven_model::control::{Fd, Start};
use std::os::fd::OwnedFd;

/// Why a collector ended.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// The descriptors passed are not what a collector needs.
    #[error("{0}")]
    Setup(String),
    /// The kernel refused something.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] std::io::Error),
    /// `ravend` said something that is not understood, or is gone.
    #[error(transparent)]
    Channel(#[from] raven_jail::channel::ChannelError),
}

/// What `ravend` passes to every collector: the receive memory of its stream, the store's words, and the store's bell.
struct Passed {
    memory: OwnedFd,
    words: OwnedFd,
    wake: OwnedFd,
}

impl Passed {
    /// Picks them out of the descriptors beside the first message.
    fn of(start: &Start, fds: Vec<OwnedFd>) -> Result<Self, CollectorError> {
        let (mut memory, mut words, mut wake) = (None, None, None);
        for (name, fd) in start.fds.iter().zip(fds) {
            match name {
                Fd::Ring { .. } => memory = Some(fd),
                Fd::Words { .. } => words = Some(fd),
                Fd::Wake { .. } => wake = Some(fd),
                _ => {}
            }
        }
        let missing = || CollectorError::Setup("ravend passed no receive memory".to_owned());
        let (memory, words, wake) =
            (memory.ok_or_else(missing)?, words.ok_or_else(missing)?, wake.ok_or_else(missing)?);
        Ok(Self { memory, words, wake })
    }
}
