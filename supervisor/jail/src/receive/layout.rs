//! Where things lie in the receive memory, and the shared view of it.

use crate::memory::Mapping;
use raven_model::record::FRAME_MAX;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;

/// Version of this layout; a collector finding another starts anew.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"RAVENRX3");

/// Batches that may be published and not yet durable.
pub(super) const DESCRIPTORS: u64 = 8192;
/// Bytes of a descriptor: batch u64, offset u32, length u32, count u32, end u32 (bytes published since the epoch began,
/// modulo 2^32), monotonic offset i64.
pub(super) const DESCRIPTOR: usize = 32;
/// Datagrams of one `recvmmsg`.
pub(super) const SLOTS: usize = 256;
/// First part of a datagram; nearly all of syslog fits.
pub(super) const NEAR: usize = 2048;
/// The rest: in a sparse area, touched only by long datagrams. Together 65,536: no datagram is cut.
pub(super) const FAR: usize = 65_536 - NEAR;
/// Room for a `sockaddr_in6`, rounded up.
pub(super) const NAME: usize = 32;
/// Room for SCM_TIMESTAMPNS and SO_RXQ_OVFL.
pub(super) const CONTROL: usize = 64;
/// TCP connections at a time.
pub const CONNECTIONS: usize = 1024;
/// Bytes of a connection's header.
pub(super) const CONNECTION_HEAD: usize = 256;
/// Bytes of a connection's buffer.
pub(super) const CONNECTION_BUFFER: usize = 256 * 1024;
/// The ring wraps here as long as there is room before it, so that an idle box keeps few pages.
pub(super) const RING_SOFT: usize = 4 << 20;
/// So much of it is taken at the start; the rest when it is first used, so that a quiet box does not hold it.
pub(super) const RING_FIRST: usize = 1 << 20;
/// Most bytes of one batch: every slot full. A batch of TCP is smaller.
pub(super) const BATCH_MAX: usize = SLOTS * FRAME_MAX;
/// Most that the ring grows to while the store is behind: 3 s of 100,000 messages a second.
pub(super) const RING: usize = 64 << 20;

const PAGE: usize = 4096;
const fn pages(n: usize) -> usize {
    n.div_ceil(PAGE) * PAGE
}

pub(super) const DESCRIPTORS_AT: usize = PAGE;
pub(super) const HEADS_AT: usize = DESCRIPTORS_AT + DESCRIPTORS as usize * DESCRIPTOR;
/// Size of an `mmsghdr`: the kernel wants them side by side.
pub(super) const SLOT_HEAD: usize = size_of::<libc::mmsghdr>();
/// Two `iovec` per slot.
pub(super) const SLOT_PARTS: usize = 2 * size_of::<libc::iovec>();
pub(super) const PARTS_AT: usize = HEADS_AT + pages(SLOTS * SLOT_HEAD);
pub(super) const NAMES_AT: usize = PARTS_AT + pages(SLOTS * SLOT_PARTS);
pub(super) const CONTROLS_AT: usize = NAMES_AT + pages(SLOTS * NAME);
/// A u64 per slot: collectors that died while they framed it.
pub(super) const DEATHS_AT: usize = CONTROLS_AT + pages(SLOTS * CONTROL);
pub(super) const NEAR_AT: usize = DEATHS_AT + pages(SLOTS * 8);
pub(super) const CONNECTION_HEADS_AT: usize = NEAR_AT + SLOTS * NEAR;
/// Everything before this is touched at start, so that no page fault can come between the kernel's taking of a
/// datagram and its `msg_len`.
pub(super) const POPULATE: usize = CONNECTION_HEADS_AT + CONNECTIONS * CONNECTION_HEAD;
pub(super) const RING_AT: usize = pages(POPULATE);
pub(super) const FAR_AT: usize = RING_AT + RING;
pub(super) const BUFFERS_AT: usize = FAR_AT + pages(SLOTS * FAR);
/// Bytes of the receive memory; most of them are never touched.
pub const MEMORY_SIZE: usize = BUFFERS_AT + CONNECTIONS * CONNECTION_BUFFER;
/// Where the snapshot begins behind the store's words.
pub(super) const SNAPSHOT_AT: usize = PAGE;
/// Most bytes of a snapshot; untouched pages take no memory.
pub const SNAPSHOT_MAX: usize = 8 << 20;
/// Bytes of the store's words and of the snapshot behind them.
pub const WORDS_SIZE: usize = SNAPSHOT_AT + SNAPSHOT_MAX;
/// Reasons for which a collector may drop a message, a count each.
pub const DROP_REASONS: usize = 24;

/// Words of the header, as byte offsets.
pub(super) mod head {
    pub const MAGIC: usize = 0;
    /// Random; batch numbers are dense within it.
    pub const EPOCH: usize = 8;
    /// Number of the newest batch handed over.
    pub const PUBLISHED: usize = 16;
    /// Number under which the datagrams in the slots are handed over; 0 = not yet decided.
    pub const SLOTS_BATCH: usize = 24;
    /// Listener whose datagrams are in the slots.
    pub const SLOTS_LISTENER: usize = 32;
    /// What is being framed: [`super::SLOT`] or [`super::CONNECTION`] plus its number; 0 = nothing.
    pub const WORKING_ON: usize = 40;
    /// Datagrams taken over from dead predecessors.
    pub const RECOVERED: usize = 48;
    /// Records framed without being looked at.
    pub const UNPARSED: usize = 56;
    /// Newest batch that a sender waits for.
    pub const AWAITED: usize = 64;
    /// A count per reason of messages that were dropped: [`super::DROP_REASONS`] words.
    pub const DROPPED: usize = 128;
}

/// The word of a reason to drop; one that does not exist counts as the last.
pub(super) const fn drop_word(reason: usize) -> usize {
    head::DROPPED + (if reason < DROP_REASONS { reason } else { DROP_REASONS - 1 }) * 8
}

/// Kinds of places in [`head::WORKING_ON`].
pub(super) const SLOT: u64 = 1 << 32;
pub(super) const CONNECTION: u64 = 2 << 32;

/// Words of the store, as byte offsets, each in a cache line of its own.
pub(super) mod words {
    /// Batches up to here are on disk.
    pub const DURABLE: usize = 0;
    /// Bytes taken since the epoch began, modulo 2^32.
    pub const TAKEN: usize = 64;
    /// [`super::super::Waiting`].
    pub const WAITING: usize = 128;
    /// Odd while the snapshot is being written; 0 = there is none.
    pub const SNAPSHOT: usize = 192;
    /// Bytes of the snapshot.
    pub const SNAPSHOT_LEN: usize = 256;
}

/// Where the buffer of a connection lies in the memory: `ravend` gives its pages back when the connection is gone.
pub fn connection_buffer(slot: u16) -> Range<u64> {
    let at = (BUFFERS_AT + usize::from(slot) * CONNECTION_BUFFER) as u64;
    at..at + CONNECTION_BUFFER as u64
}

/// The descriptor of a batch.
pub(super) const fn descriptor_at(batch: u64) -> usize {
    DESCRIPTORS_AT + (batch % DESCRIPTORS) as usize * DESCRIPTOR
}

/// Both ends know how long the memory is; another length is of another version and would end the process on access.
pub(super) fn expect_len(fd: &OwnedFd, len: usize) -> io::Result<()> {
    let stat = nix::sys::stat::fstat(fd)?;
    if usize::try_from(stat.st_size) == Ok(len) {
        return Ok(());
    }
    let text = format!("the receive memory has {} bytes, this version needs {len}", stat.st_size);
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// A shared 64-bit word.
#[allow(unsafe_code, clippy::cast_ptr_alignment)] // checked: a mapping starts at a page
pub(super) fn word(map: &Mapping, at: usize) -> &AtomicU64 {
    assert!(at.is_multiple_of(8) && at + 8 <= map.len(), "word {at} lies outside the mapping");
    // SAFETY: in bounds and aligned (a mapping starts at a page); lives as long as the mapping; any bit pattern is a
    // u64; all processes use the word atomically.
    unsafe { &*map.base().as_ptr().add(at).cast::<AtomicU64>() }
}
