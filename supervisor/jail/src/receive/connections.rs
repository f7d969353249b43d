//! Streams: read into a buffer per connection, framed from there. What a batch took from a connection is written
//! beside it as an intent before the hand-over and carried out after it.

use super::collector::{CollectorMemory, POISON, Taken};
use super::crash::point;
use super::inspect::{Arrived, CONTEXT_MAX, Contexts, Inspect, Verdict};
use super::layout::{
    BUFFERS_AT, CONNECTION, CONNECTION_BUFFER, CONNECTION_HEAD, CONNECTION_HEADS_AT, CONNECTIONS, RING_AT, head,
};
use super::slots::EMPTY;
use super::time::now;
use raven_model::record::{Context, FRAME_MAX, FrameKind, RAW_MAX, Received, frame_len, write_frame};
use raven_model::units::UnixNanos;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Most of the ring that one TCP batch may take.
const TCP_BATCH: usize = 512 << 10;

/// Reads on before an error counts as the end: `recvmmsg` reports a reset before the bytes that came ahead of it.
const ERRORS_MAX: usize = 3;

/// Offsets in a connection's header, behind its `mmsghdr` and `iovec`.
mod at {
    /// Start (low half) and end (high half) of the bytes not yet framed.
    pub const POSITIONS: usize = 80;
    /// Where the read under way puts its bytes.
    pub const READ_AT: usize = 88;
    /// The framer's state.
    pub const MODE: usize = 96;
    /// Intent: carried out when this batch was published; 0 = none.
    pub const NEXT_BATCH: usize = 104;
    pub const NEXT_POSITIONS: usize = 112;
    pub const NEXT_MODE: usize = 120;
    /// Connection id plus one; 0 = none.
    pub const OWNER: usize = 128;
    /// Collectors that died while they framed it.
    pub const DEATHS: usize = 136;
}

/// Takes messages out of a byte stream.
pub trait Framing {
    /// Takes whole messages from the start of `bytes`, gives each to `emit` (message, goes on in the next one), and
    /// returns how many bytes are done with. `emit` returns false when there is no room: that message is not taken.
    /// A message has 65,536 bytes at most. `mode` is the framer's memory of this connection, 0 at first. At the `end` of the stream the rest is a message.
    fn take(&self, mode: &mut u64, bytes: &[u8], end: bool, emit: &mut dyn FnMut(&[u8], bool) -> bool) -> usize;
}

/// A batch of TCP frames under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Building {
    /// Where it begins in the ring.
    offset: usize,
    /// Bytes and records so far.
    used: usize,
    count: u32,
    unparsed: usize,
    /// Something was looked at: context was added for this batch.
    begun: bool,
}

/// What became of a message.
enum Added {
    Kept,
    Dropped(u8),
    NoRoom,
}

impl Building {
    /// Looks at a message and frames it, its context first. Without room nothing was looked at.
    fn add(
        &mut self,
        ring: &mut [u8],
        arrived: &Arrived<'_>,
        piece: bool,
        kind: FrameKind,
        inspect: &mut dyn Inspect,
        contexts: &mut Contexts,
    ) -> Added {
        let looks = kind == FrameKind::Plain && inspect.looks();
        let room = frame_len(arrived.source.ip(), arrived.raw.len()) + if looks { CONTEXT_MAX } else { 0 };
        if arrived.raw.len() > RAW_MAX || ring.len() - self.used < room {
            return Added::NoRoom;
        }
        let mut received = Received { piece, kind, ..Received::new(arrived.source, arrived.listener, arrived.wall) };
        if looks {
            if !self.begun {
                inspect.begin();
                self.begun = true;
            }
            contexts.clear();
            let verdict = inspect.inspect(arrived, contexts);
            let frames = contexts.frames();
            ring[self.used..self.used + frames.len()].copy_from_slice(frames);
            self.used += frames.len();
            self.count += contexts.count;
            if let Verdict::Drop(reason) = verdict {
                return Added::Dropped(reason);
            }
            received.kind = verdict.kind();
        }
        let Some(written) = write_frame(&mut ring[self.used..], &received, arrived.raw) else { return Added::NoRoom };
        self.used += written;
        self.count += 1;
        self.unparsed += usize::from(kind == FrameKind::Unparsed);
        Added::Kept
    }
}

/// A connection that is read.
#[derive(Clone, Copy)]
struct Source {
    slot: u16,
    listener: u8,
    peer: SocketAddr,
    /// It has no more to say.
    finished: bool,
}

/// What framing left in a connection's buffer.
#[derive(PartialEq, Eq)]
enum Framed {
    All,
    Rest,
    /// Nothing was taken: there is no room to read more, or a message is longer than a record can be.
    Stuck,
    NoRoom,
}

impl CollectorMemory {
    /// Makes `slot` the place of connection `id`: goes on where a predecessor stopped if it was that already.
    pub fn adopt(&mut self, slot: u16, id: u32) {
        assert!(usize::from(slot) < CONNECTIONS, "ravend gives slots below CONNECTIONS");
        if self.connection(slot, at::OWNER).load(Relaxed) != u64::from(id) + 1 {
            self.disown(slot);
            self.connection(slot, at::OWNER).store(u64::from(id) + 1, Release);
        }
    }

    pub(super) fn disown(&mut self, slot: u16) {
        self.connection(slot, at::OWNER).store(0, Relaxed);
        point("connection: disowned", 0);
        let fields =
            [at::POSITIONS, at::READ_AT, at::MODE, at::NEXT_BATCH, at::NEXT_POSITIONS, at::NEXT_MODE, at::DEATHS];
        for field in fields {
            self.connection(slot, field).store(0, Relaxed);
        }
        self.set_read_len(slot, EMPTY);
        point("connection: cleared", 0);
    }

    /// Reads once from a connection, frames what is whole into the batch being built. Call [`Self::hand_over`] after
    /// the last connection of a round.
    ///
    /// # Errors
    /// The stream has ended with that error, and all that came before was framed.
    pub fn read(
        &mut self,
        slot: u16,
        socket: BorrowedFd<'_>,
        listener: u8,
        peer: SocketAddr,
        framing: &dyn Framing,
        inspect: &mut dyn Inspect,
    ) -> io::Result<Taken> {
        if self.connection(slot, at::NEXT_BATCH).load(Relaxed) > self.published {
            // One intent per connection and batch.
            self.publish_connections();
        }
        if !self.open_building() {
            self.stalls += 1;
            return Ok(Taken::Full);
        }
        let read = self.read_some(slot, socket);
        let finished = matches!(read, Ok(Taken::End) | Err(_));
        let source = Source { slot, listener, peer, finished };
        if !self.frame_all(source, framing, inspect) {
            self.stalls += 1;
            return Ok(Taken::Full);
        }
        read
    }

    /// Frames what is left in the buffer as if the stream had ended: a message that was begun is kept as far as it
    /// came. For a graceful stop; false when the ring has no room.
    pub fn finish(
        &mut self,
        slot: u16,
        listener: u8,
        peer: SocketAddr,
        framing: &dyn Framing,
        inspect: &mut dyn Inspect,
    ) -> bool {
        if self.connection(slot, at::NEXT_BATCH).load(Relaxed) > self.published {
            self.publish_connections();
        }
        self.open_building() && self.frame_all(Source { slot, listener, peer, finished: true }, framing, inspect)
    }

    /// Frames a message that was received by other means (TLS, HTTP, RELP) into the batch being built, in pieces when it
    /// is longer than a record can be. Returns the number of the batch that holds its end, which goes out with
    /// [`Self::hand_over`] or when it is full; `None` when the ring has no room now: none of it was framed, or, of a long
    /// one, only a beginning, and all of it is to be given again.
    pub fn append(&mut self, arrived: &Arrived<'_>, inspect: &mut dyn Inspect) -> Option<u64> {
        let mut pieces = arrived.raw.chunks(RAW_MAX).peekable();
        loop {
            let raw = pieces.next().unwrap_or_default();
            let piece = pieces.peek().is_some();
            let batch = self.append_piece(&Arrived { raw, ..*arrived }, piece, inspect)?;
            if !piece {
                return Some(batch);
            }
        }
    }

    /// Frames context that goes with no message: what the collector itself has to keep. Goes out as [`Self::append`]
    /// says; `None` when there is no room now, or ever for one that is longer than a record can be.
    pub fn append_context(&mut self, context: &Context<'_>, wall: UnixNanos) -> Option<u64> {
        if !self.open_building() {
            self.stalls += 1;
            return None;
        }
        let mut building = self.building?;
        self.contexts.clear();
        if !self.contexts.add(context, wall) {
            return None;
        }
        let frames = self.contexts.frames();
        // An open batch has room for it.
        let at = RING_AT + building.offset + building.used;
        self.map.slice_mut(at..at + frames.len()).copy_from_slice(frames);
        building.used += frames.len();
        building.count += self.contexts.count;
        self.building = Some(building);
        Some(self.published + 1)
    }

    /// As [`Self::append`], for a message that its framing may have cut already: `piece` says that it goes on in the
    /// next one. It has 65,536 bytes at most.
    pub fn append_piece(&mut self, arrived: &Arrived<'_>, piece: bool, inspect: &mut dyn Inspect) -> Option<u64> {
        if !self.open_building() {
            self.stalls += 1;
            return None;
        }
        let mut building = self.building?;
        let mut contexts = std::mem::take(&mut self.contexts);
        let ring = self.map.slice_mut(RING_AT + building.offset..RING_AT + building.offset + TCP_BATCH);
        let added = building.add(ring, arrived, piece, FrameKind::Plain, inspect, &mut contexts);
        self.contexts = contexts;
        self.building = Some(building);
        if let Added::Dropped(reason) = added {
            self.count_drop(reason);
        }
        // An open batch has room for the longest piece.
        (!matches!(added, Added::NoRoom)).then_some(self.published + 1)
    }

    /// Reads what is there. A buffer without room counts as one byte: look again when it was framed.
    fn read_some(&mut self, slot: u16, socket: BorrowedFd<'_>) -> io::Result<Taken> {
        let mut last = None;
        for _ in 0..ERRORS_MAX {
            let end = self.positions(slot).1;
            if end == CONNECTION_BUFFER {
                return Ok(Taken::Some(1));
            }
            match self.read_more(slot, socket, end) {
                Ok(0) => return last.map_or(Ok(Taken::End), Err),
                Ok(n) => return Ok(Taken::Some(n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Taken::Nothing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => last = Some(error),
            }
        }
        last.map_or(Ok(Taken::Nothing), Err)
    }

    /// Frames what is whole in the buffer; false when the ring has no room for it.
    fn frame_all(&mut self, source: Source, framing: &dyn Framing, inspect: &mut dyn Inspect) -> bool {
        let mut raw = self.connection_deaths(source.slot).load(Relaxed) >= POISON;
        loop {
            match self.frame_connection(source, raw, framing, inspect) {
                Framed::All => return true,
                Framed::Rest if !source.finished => return true,
                // The framing can do nothing with it, however long it waits.
                Framed::Rest | Framed::Stuck => {
                    raw = true;
                    self.publish_connections();
                }
                Framed::NoRoom => self.publish_connections(),
            }
            if !self.open_building() {
                return false;
            }
        }
    }

    /// Publishes the batch being built from connections, if any.
    pub(super) fn publish_connections(&mut self) {
        let Some(Building { offset, used, count, unparsed, .. }) = self.building.take() else { return };
        let mut intents = std::mem::take(&mut self.intents);
        if count > 0 {
            self.publish(offset, used, count, now());
            self.count(head::UNPARSED, unparsed);
        }
        // Without a record (bytes between messages, or nothing new) no batch goes out, and nothing is lost by doing
        // it again.
        for slot in intents.drain(..) {
            self.carry_out(slot);
        }
        self.intents = intents;
    }

    fn open_building(&mut self) -> bool {
        match self.building {
            Some(Building { used, .. }) if TCP_BATCH - used >= FRAME_MAX + CONTEXT_MAX => return true,
            Some(_) => self.publish_connections(),
            None => {}
        }
        // Datagrams that wait go first.
        if !self.publish_slots() {
            return false;
        }
        self.building =
            self.place(TCP_BATCH).map(|offset| Building { offset, used: 0, count: 0, unparsed: 0, begun: false });
        self.building.is_some()
    }

    /// Frames what is whole in the buffer into the batch being built, writes the intent. `raw`: all of it, in pieces,
    /// without looking at it.
    fn frame_connection(
        &mut self,
        source: Source,
        raw: bool,
        framing: &dyn Framing,
        inspect: &mut dyn Inspect,
    ) -> Framed {
        let Some(mut building) = self.building else { return Framed::NoRoom };
        let slot = source.slot;
        let mut mode = if raw { 0 } else { self.connection(slot, at::MODE).load(Relaxed) };
        let (start, end) = self.positions(slot);
        let buffer = BUFFERS_AT + usize::from(slot) * CONNECTION_BUFFER;
        let bytes = self.map.slice(buffer + start..buffer + end);
        let ring = self.map.slice_mut(RING_AT + building.offset..RING_AT + building.offset + TCP_BATCH);
        let kind = if raw { FrameKind::Unparsed } else { FrameKind::Plain };
        let (wall, mut contexts) = (UnixNanos(now().wall), std::mem::take(&mut self.contexts));
        let (empty, mut refused) = (building.used == 0, false);
        let mut dropped = Vec::new();
        let mut emit = |message: &[u8], piece: bool| {
            let arrived = Arrived { source: source.peer, listener: source.listener, wall, raw: message };
            match building.add(ring, &arrived, piece, kind, inspect, &mut contexts) {
                Added::Kept => true,
                Added::Dropped(reason) => {
                    dropped.push(reason);
                    true
                }
                Added::NoRoom => {
                    refused = true;
                    false
                }
            }
        };
        let taken = if raw {
            in_pieces(bytes, &mut emit)
        } else {
            self.word(head::WORKING_ON).store(CONNECTION | u64::from(slot), Relaxed);
            point("connection: framing", usize::from(slot));
            framing.take(&mut mode, bytes, source.finished, &mut emit)
        };
        self.word(head::WORKING_ON).store(0, Relaxed);
        point("connection: framed", 0);
        self.contexts = contexts;
        for reason in dropped {
            self.count_drop(reason);
        }
        self.building = Some(building);
        let start = (start + taken).min(end);
        self.intend(slot, start, end, mode);
        match (refused, start == end) {
            (true, _) if empty && taken == 0 => Framed::Stuck,
            (true, _) => Framed::NoRoom,
            (false, true) => Framed::All,
            (false, false) if taken == 0 && end == CONNECTION_BUFFER && !can_move(start, end) => Framed::Stuck,
            (false, false) => Framed::Rest,
        }
    }

    fn intend(&mut self, slot: u16, start: usize, end: usize, mode: u64) {
        self.connection(slot, at::NEXT_POSITIONS).store(packed(start, end), Relaxed);
        self.connection(slot, at::NEXT_MODE).store(mode, Relaxed);
        point("connection: half an intent", 0);
        self.connection(slot, at::NEXT_BATCH).store(self.published + 1, Release);
        point("connection: intent", 0);
        self.intents.push(slot);
    }

    /// Reads behind `end`; the kernel leaves the number of bytes in shared memory before anything else happens.
    #[allow(unsafe_code, clippy::cast_ptr_alignment)] // a header begins at a multiple of 256
    fn read_more(&mut self, slot: u16, socket: BorrowedFd<'_>, end: usize) -> io::Result<usize> {
        self.connection(slot, at::READ_AT).store(end as u64, Relaxed);
        self.set_read_len(slot, EMPTY);
        let base = self.map.base().as_ptr();
        let header = self.connection_head(slot);
        // SAFETY: header, iovec and buffer lie in the mapping; the buffer has that many bytes behind `end`.
        let n = unsafe {
            let iov = header.cast::<u8>().add(64).cast::<libc::iovec>();
            let buffer = base.add(BUFFERS_AT + usize::from(slot) * CONNECTION_BUFFER + end);
            *iov = libc::iovec { iov_base: buffer.cast(), iov_len: CONNECTION_BUFFER - end };
            (*header).msg_hdr = std::mem::zeroed();
            (*header).msg_hdr.msg_iov = iov;
            (*header).msg_hdr.msg_iovlen = 1;
            libc::recvmmsg(socket.as_raw_fd(), header, 1, libc::MSG_DONTWAIT, std::ptr::null_mut())
        };
        point("connection: received", 0);
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(self.settle_read(slot))
    }

    /// Counts what a read brought into the buffer, once however often it is called.
    fn settle_read(&mut self, slot: u16) -> usize {
        let n = self.read_len(slot);
        if n == EMPTY {
            return 0;
        }
        let read_at = self.connection(slot, at::READ_AT).load(Relaxed) as usize;
        let (start, _) = self.positions(slot);
        let end = read_at.saturating_add(n as usize).min(CONNECTION_BUFFER);
        self.connection(slot, at::POSITIONS).store(packed(start.min(end), end), Release);
        point("connection: counted", 0);
        self.set_read_len(slot, EMPTY);
        point("connection: read settled", 0);
        n as usize
    }

    /// After a death: counts a finished read, then carries the intent out if its batch was published.
    pub(super) fn settle_connection(&mut self, slot: u16) {
        if self.connection(slot, at::OWNER).load(Relaxed) == 0 {
            return;
        }
        self.settle_read(slot);
        let next = self.connection(slot, at::NEXT_BATCH).load(Acquire);
        if next > self.published {
            // Before any other batch takes that number.
            self.connection(slot, at::NEXT_BATCH).store(0, Relaxed);
            point("connection: intent taken back", 0);
        } else if next != 0 {
            self.carry_out(slot);
        }
    }

    /// Moves the positions behind what was handed over; brings the rest to the front when the end of the buffer is
    /// near.
    fn carry_out(&mut self, slot: u16) {
        let (start, end) = unpacked(self.connection(slot, at::NEXT_POSITIONS).load(Relaxed));
        let rest = end - start;
        self.connection(slot, at::MODE).store(self.connection(slot, at::NEXT_MODE).load(Relaxed), Relaxed);
        point("connection: mode moved", 0);
        self.connection(slot, at::POSITIONS).store(packed(start, end), Release);
        point("connection: positions moved", 0);
        if rest == 0 || self.connection_deaths(slot).load(Relaxed) < POISON {
            self.connection_deaths(slot).store(0, Relaxed);
        }
        self.connection(slot, at::NEXT_BATCH).store(0, Release);
        point("connection: carried out", 0);
        if rest == 0 {
            self.connection(slot, at::POSITIONS).store(0, Release);
        } else if CONNECTION_BUFFER - end < CONNECTION_BUFFER / 4 && can_move(start, end) {
            let buffer = BUFFERS_AT + usize::from(slot) * CONNECTION_BUFFER;
            let bytes = self.map.slice(buffer + start..buffer + end);
            self.map.slice_mut(buffer..buffer + rest).copy_from_slice(bytes);
            point("connection: copied to the front", 0);
            self.connection(slot, at::POSITIONS).store(packed(0, rest), Release);
        }
        point("connection: done", 0);
    }

    /// Gives the pages of empty buffers back; a byte that arrives takes one again.
    pub(super) fn shrink_connections(&mut self) -> io::Result<()> {
        for slot in 0..CONNECTIONS as u16 {
            let owned = self.connection(slot, at::OWNER).load(Relaxed) != 0;
            if owned && self.positions(slot) == (0, 0) && self.connection(slot, at::NEXT_BATCH).load(Relaxed) == 0 {
                let at = BUFFERS_AT + usize::from(slot) * CONNECTION_BUFFER;
                self.map.punch(at..at + CONNECTION_BUFFER)?;
            }
        }
        Ok(())
    }

    fn positions(&self, slot: u16) -> (usize, usize) {
        unpacked(self.connection(slot, at::POSITIONS).load(Acquire))
    }

    pub(super) fn connection_deaths(&self, slot: u16) -> &AtomicU64 {
        self.connection(slot, at::DEATHS)
    }

    fn connection(&self, slot: u16, field: usize) -> &AtomicU64 {
        self.word(CONNECTION_HEADS_AT + usize::from(slot) * CONNECTION_HEAD + field)
    }

    #[allow(unsafe_code)]
    fn connection_head(&self, slot: u16) -> *mut libc::mmsghdr {
        // SAFETY: in bounds by the layout: `adopt` checked the slot.
        let head = unsafe { self.map.base().as_ptr().add(CONNECTION_HEADS_AT + usize::from(slot) * CONNECTION_HEAD) };
        head.cast()
    }

    #[allow(unsafe_code)]
    fn read_len(&self, slot: u16) -> u32 {
        // SAFETY: a header inside the mapping.
        unsafe { std::ptr::read_volatile(&raw const (*self.connection_head(slot)).msg_len) }
    }

    #[allow(unsafe_code)]
    fn set_read_len(&mut self, slot: u16, len: u32) {
        // SAFETY: a header inside the mapping.
        unsafe { std::ptr::write_volatile(&raw mut (*self.connection_head(slot)).msg_len, len) }
    }
}

/// Gives all of `bytes` to `emit` in pieces that a record can hold; returns how many were taken.
fn in_pieces(bytes: &[u8], emit: &mut dyn FnMut(&[u8], bool) -> bool) -> usize {
    let mut taken = 0;
    for piece in bytes.chunks(RAW_MAX) {
        let more = taken + piece.len() < bytes.len();
        if !emit(piece, more) {
            break;
        }
        taken += piece.len();
    }
    taken
}

/// Source and target of a move to the front do not overlap, so that the copy can be begun again after a death.
const fn can_move(start: usize, end: usize) -> bool {
    start >= end - start
}

fn packed(start: usize, end: usize) -> u64 {
    start as u64 | (end as u64) << 32
}

/// Clamped: the words may come from a predecessor that was taken over.
fn unpacked(positions: u64) -> (usize, usize) {
    let end = ((positions >> 32) as usize).min(CONNECTION_BUFFER);
    (((positions & 0xffff_ffff) as usize).min(end), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_overlap_is_moved() {
        assert!(can_move(100, 200) && can_move(150, 200));
        assert!(!can_move(99, 200) && !can_move(0, 1));
    }

    #[test]
    fn positions_are_clamped_to_the_buffer() {
        assert_eq!(unpacked(packed(3, 9)), (3, 9));
        assert_eq!(unpacked(packed(9, 3)), (3, 3));
        assert_eq!(unpacked(u64::MAX), (CONNECTION_BUFFER, CONNECTION_BUFFER));
    }
}
