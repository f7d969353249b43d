//! What receives. One loop per kind of telemetry, each in its own process.
//!
//! A collector owns no capability, opens no file and makes no socket: it reads from the descriptors that `ravend`
//! gave it and writes into the receive memory. What arrived is handed to the store as it arrived, with its source; one
//! that has to look inside ([`trap`]) only decides whether to vouch for it and what to answer. Start with [`receiver`],
//! the loop that they share, then [`syslog`], the simplest of them.

pub mod framing;
pub mod receiver;
pub mod syslog;
pub mod trap;

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
