//! The crash-proof receive memory: how a datagram gets from the kernel to the store while either side may be killed
//! at any instruction, with nothing lost and nothing doubled.
//!
//! Two memfds that `ravend` makes, keeps and never maps:
//!
//! ```text
//! receive memory  (collector writes, store reads)              words  (store writes, collector reads)
//! ┌────────┬─────────────┬───────────┬──────┬──────────┐       ┌─────────────────────────┐
//! │ header │ descriptors │ UDP slots │ byte │ TCP      │       │ durable, taken, waiting │
//! │        │ 8192 x 32 B │ 256       │ ring │ 1024 x   │       └─────────────────────────┘
//! │        │             │           │ 64M  │ 256 KiB  │
//! └────────┴─────────────┴───────────┴──────┴──────────┘
//! ```
//!
//! 1. The kernel writes datagrams into slots. `msg_len` of a slot is preset to `u32::MAX`; what the kernel filled is
//!    the prefix whose `msg_len` is not that, so the return value of `recvmmsg`, which dies with the process, is not
//!    needed.
//! 2. The collector frames all filled slots as one batch into the byte ring, writes its descriptor, notes beside the
//!    slots under which number they go, and publishes the batch by one atomic store of `published`. That store is the
//!    only hand-over.
//! 3. Then it empties the slots. A successor that finds the slots' number published only finishes the emptying; one
//!    that finds filled slots and no such number frames the same bytes again.
//! 4. TCP bytes are read into the connection's buffer by `recvmmsg` of one message, for the same reason. What a batch
//!    took from a connection is written beside it as an intent `{batch, positions, mode}` before the publication and
//!    carried out after it: a successor carries it out exactly when that batch was published.
//! 5. The store copies each batch once, checks the copy, and commits blocks and batch number in one transaction. Only
//!    then it raises `durable`, and only up to there the collector uses ring space again: the ring is the replay log.
//!    Without room, datagrams wait in their slots and the rest in the sockets; nobody sleeps over it.
//! 6. Nobody trusts the other's words further than clamped lengths: a lying collector can only spoil its own stream.
//! 7. Each message may be looked at before it is framed ([`Inspect`]): that adds context to the batch, marks the message
//!    as refused, or drops it under a counted reason. What the store remembers of context comes back in a snapshot
//!    behind its words, so that the next collector knows it.
//! 8. A sender that waits for durability (an HTTP answer, a RELP response, an SNMP response) has the batch `awaited`: the
//!    store then commits soon, and the collector looks whether the batch is durable.
//! 9. While a slot or a connection is framed, `working_on` names it. A successor counts the death there; at the second
//!    one the bytes are kept without being looked at, marked `unparsed`. What stands beside them is not blamed.

mod collector;
mod connections;
mod crash;
mod inspect;
mod layout;
mod ring;
mod slots;
mod store;
#[cfg(test)]
mod tests;
mod time;

pub use collector::{CollectorMemory, Recovered, Taken};
pub use connections::Framing;
pub use inspect::{Arrived, Blind, CONTEXT_MAX, Contexts, Inspect, Verdict};
pub use layout::{CONNECTIONS, DROP_REASONS, MEMORY_SIZE, SNAPSHOT_MAX, WORDS_SIZE, connection_buffer};
pub use slots::ends_socket;
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
