//! The crash-proof receive memory: how a datagram gets from the kernel to the store while either side may be killed
//! at any instruction, with nothing lost and nothing doubled.
//!
//! Two memfds that `ravend` makes, keeps and never maps:
//!
//! ```text
//! receive memory  (collector writes, store reads)              words  (store writes, collector reads)
//! ┌────────┬─────────────┬───────────┬──────────┬──────┐       ┌─────────────────────────┐
//! │ header │ descriptors │ UDP slots │ TCP      │ byte │       │ durable, taken, waiting │
//! │        │ 8192 x 32 B │ 256       │ 1024 x   │ ring │       └─────────────────────────┘
//! │        │             │           │ 256 KiB  │ 64M  │
//! └────────┴─────────────┴───────────┴──────────┴──────┘
//! ```
//!
//! 1. The kernel writes datagrams into slots. `msg_len` of a slot is preset to `u32::MAX`; what the kernel filled is
//!    the prefix whose `msg_len` is not that, so the return value of `recvmmsg`, which dies with the process, is not
//!    needed.
//! 2. The collector frames all filled slots as one batch into the byte ring, writes its descriptor, and publishes it
//!    by one atomic store of `published`. That store is the only hand-over.
//! 3. Then it empties the slots and raises `building`. A successor that finds `published >= building` only finishes
//!    the emptying; one that finds filled slots and `published < building` frames the same bytes again as the same
//!    batch.
//! 4. TCP bytes are read into the connection's buffer by `recvmmsg` of one message, for the same reason. What a batch
//!    took from a connection is written beside it as an intent `{batch, positions, mode}` before the publication and
//!    applied after it: a successor applies it exactly when that batch was published.
//! 5. The store copies each batch once, checks the copy, and commits blocks and batch number in one transaction. Only
//!    then it raises `durable`, and only up to there the collector uses ring space again: the ring is the replay log.
//! 6. Nobody trusts the other's words further than clamped lengths: a lying collector can only spoil its own stream.

mod collector;
mod layout;
mod store;

pub use collector::{CollectorMemory, Framing, Recovered, Taken};
pub use layout::{CONNECTIONS, MEMORY_SIZE, WORDS_SIZE, connection_buffer};
pub use store::{Batch, BatchError, StoreMemory, Waiting};

use crate::memory::memfd;
use std::io;
use std::os::fd::OwnedFd;

/// Makes the two memfds of a stream: receive memory and words. Their pages are zero: the first collector fills in
/// the header.
pub fn create(stream: &str) -> io::Result<(OwnedFd, OwnedFd)> {
    let memory = memfd(&format!("raven-receive-{stream}"), MEMORY_SIZE as u64)?;
    let words = memfd(&format!("raven-words-{stream}"), WORDS_SIZE as u64)?;
    Ok((memory, words))
}
