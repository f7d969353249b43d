//! The collector's side: receives into slots and connection buffers, frames, publishes.

use super::Waiting;
use super::layout::{
    BUFFERS_AT, CONNECTION_BUFFER, CONNECTION_HEAD, CONNECTION_HEADS_AT, CONTROL, CONTROLS_AT, DESCRIPTOR, DESCRIPTORS,
    DESCRIPTORS_AT, FAR, FAR_AT, HEADS_AT, MAGIC, MEMORY_SIZE, NAME, NAMES_AT, NEAR, NEAR_AT, POPULATE, RING, RING_AT,
    RING_SOFT, PARTS_AT, SLOT_HEAD, SLOT_PARTS, SLOTS, WORDS_SIZE, head, word, words,
};
use crate::memory::Mapping;
use raven_model::record::{self, RAW_MAX, Received, frame_len, write_frame};
use raven_model::units::UnixNanos;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;
use std::time::{SystemTime, UNIX_EPOCH};

/// `msg_len` of a slot that the kernel has not filled. Zero would not do: an empty datagram is legal.
const EMPTY: u32 = u32::MAX;

/// The store is woken while it is filling only when it is so many bytes behind.
const BEHIND: u64 = 256 * 1024;

/// Most of the ring that one TCP batch may take.
const TCP_BATCH: usize = 512 << 10;

/// Offsets in a connection's header, behind its `mmsghdr` and `iovec`.
mod at {
    /// Start (low half) and end (high half) of the bytes not yet framed.
    pub const POSITIONS: usize = 80;
    /// Where the read under way puts its bytes.
    pub const READ_AT: usize = 88;
    /// The framer's state.
    pub const MODE: usize = 96;
    /// Intent: applied when this batch was published.
    pub const NEXT_BATCH: usize = 104;
    pub const NEXT_POSITIONS: usize = 112;
    pub const NEXT_MODE: usize = 120;
    /// Connection id plus one; 0 = none.
    pub const OWNER: usize = 128;
}

/// Takes messages out of a byte stream.
pub trait Framing {
    /// Takes whole messages from the start of `bytes`, gives each to `emit` (message, goes on in the next one), and
    /// returns how many bytes are done with. `emit` returns false when there is no room: that message is not taken.
    /// `mode` is the framer's memory of this connection, 0 at first. At the `end` of the stream the rest is a message.
    fn take(&self, mode: &mut u64, bytes: &[u8], end: bool, emit: &mut dyn FnMut(&[u8], bool) -> bool) -> usize;
}

/// What a new collector found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// True when the memory was fresh.
    pub fresh: bool,
    /// Datagrams that its predecessor had received and not handed over.
    pub datagrams: usize,
}

/// What one look at a socket brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// So many datagrams or bytes; more may wait.
    Some(usize),
    /// Nothing was there.
    Nothing,
    /// No room in the ring: try again when the store has gone on.
    Full,
    /// The stream has ended and all of it was published.
    End,
}

/// What framing left in a connection's buffer.
enum Framed {
    All,
    Rest,
    NoRoom,
}

/// The receive memory of one stream, as the collector sees it. One at a time per memory.
#[derive(Debug)]
pub struct CollectorMemory {
    map: Mapping,
    words: Mapping,
    /// TCP frames of the batch being built: ring offset, bytes, records.
    building: Option<(usize, usize, u32)>,
    /// Room behind `building`'s offset.
    room: usize,
    /// Connections that the batch being built took bytes from.
    intents: Vec<u16>,
    published: u64,
    stalls: u64,
}

impl CollectorMemory {
    /// Maps the memory, prefaults what the hot path touches, and takes over what a predecessor left.
    pub fn open(memory: &OwnedFd, words: &OwnedFd, epoch: u64) -> io::Result<(Self, Recovered)> {
        let map = Mapping::shared(memory, MEMORY_SIZE)?;
        let words = Mapping::read_only(words, WORDS_SIZE)?;
        map.populate_write(0..POPULATE)?;
        map.populate_write(RING_AT..RING_AT + RING_SOFT)?;
        let mut this =
            Self { map, words, building: None, room: 0, intents: Vec::with_capacity(64), published: 0, stalls: 0 };
        let recovered = this.take_over(epoch);
        Ok((this, recovered))
    }

    fn take_over(&mut self, epoch: u64) -> Recovered {
        if word(&self.map, head::MAGIC).load(Acquire) != MAGIC {
            self.begin(epoch);
            return Recovered { fresh: true, datagrams: 0 };
        }
        let published = word(&self.map, head::PUBLISHED).load(Acquire);
        let building = word(&self.map, head::BUILDING).load(Relaxed);
        self.published = published;
        for slot in 0..SLOTS {
            self.point_slot(slot);
        }
        for slot in 0..super::CONNECTIONS as u16 {
            self.settle_connection(slot, published);
        }
        let mut datagrams = 0;
        if published < building {
            datagrams = self.filled_slots();
            if datagrams > 0 {
                let listener = word(&self.map, head::SLOTS_LISTENER).load(Relaxed) as u8;
                // The ring had room for it when it was received or has none now: wait for the store.
                while self.publish_slots(datagrams, listener, now()) == Taken::Full {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                return Recovered { fresh: false, datagrams };
            }
        }
        self.reset_slots(SLOTS);
        word(&self.map, head::BUILDING).store(published + 1, Relaxed);
        Recovered { fresh: false, datagrams }
    }

    fn begin(&mut self, epoch: u64) {
        for slot in 0..SLOTS {
            self.point_slot(slot);
        }
        self.reset_slots(SLOTS);
        word(&self.map, head::EPOCH).store(epoch, Relaxed);
        word(&self.map, head::PUBLISHED).store(0, Relaxed);
        word(&self.map, head::BUILDING).store(1, Relaxed);
        word(&self.map, head::MAGIC).store(MAGIC, Release);
    }

    /// Batches published in this epoch.
    pub const fn published(&self) -> u64 {
        self.published
    }

    /// Times the ring was found full.
    pub const fn stalls(&self) -> u64 {
        self.stalls
    }

    /// True when the store has made everything durable.
    pub fn is_drained(&self) -> bool {
        self.durable() >= self.published
    }

    fn durable(&self) -> u64 {
        word(&self.words, words::DURABLE).load(Acquire).min(self.published)
    }

    /// True when the store asked to be woken and there is reason to.
    pub fn wants_waking(&self) -> bool {
        fence(SeqCst);
        let waiting = word(&self.words, words::WAITING).load(SeqCst);
        if waiting == Waiting::Idle as u64 {
            return self.durable() < self.published;
        }
        let bytes = word(&self.map, head::BYTES).load(Relaxed);
        waiting == Waiting::Filling as u64
            && bytes.wrapping_sub(word(&self.words, words::TAKEN).load(Relaxed)) >= BEHIND
    }

    /// Gives pages back that the ring took while the store was behind. Call after a calm minute.
    pub fn shrink(&mut self) -> io::Result<()> {
        if !self.is_drained() || self.building.is_some() {
            return Ok(());
        }
        word(&self.map, head::RING_HEAD).store(0, Relaxed);
        self.map.punch(RING_AT + RING_SOFT..RING_AT + RING)?;
        self.map.punch(FAR_AT..BUFFERS_AT)
    }

    // ---- UDP ----

    /// Receives what waits at a UDP socket, at most 256 datagrams, and publishes it as one batch.
    #[allow(unsafe_code)]
    pub fn receive(&mut self, socket: BorrowedFd<'_>, listener: u8) -> io::Result<Taken> {
        self.publish_connections();
        if self.place(SLOTS * frame_len(IpAddr::V6(Ipv6Addr::UNSPECIFIED), NEAR)).is_none() {
            self.stalls += 1;
            return Ok(Taken::Full);
        }
        word(&self.map, head::SLOTS_LISTENER).store(u64::from(listener), Relaxed);
        // SAFETY: SLOTS headers that point into this mapping, see point_slot.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.slot_head(0),
                SLOTS as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if n < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Taken::Nothing),
                _ => Err(error),
            };
        }
        let n = self.filled_slots();
        if n == 0 {
            return Ok(Taken::Nothing);
        }
        // Long datagrams can need more than was looked for; they stay in their slots until there is room.
        while self.publish_slots(n, listener, now()) == Taken::Full {
            self.stalls += 1;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(Taken::Some(n))
    }

    /// Frames the first `n` slots as batch `building`, publishes it and empties them.
    fn publish_slots(&mut self, n: usize, listener: u8, clock: Clock) -> Taken {
        let total = (0..n).map(|slot| frame_len(self.slot_source(slot).ip(), self.slot_len(slot))).sum();
        let Some(at) = self.place(total) else { return Taken::Full };
        let mut used = 0;
        for slot in 0..n {
            used += self.frame_slot(slot, listener, at + used, clock);
        }
        self.publish(at, used, n as u32, clock);
        self.reset_slots(n);
        word(&self.map, head::BUILDING).store(self.published + 1, Relaxed);
        Taken::Some(n)
    }

    fn frame_slot(&mut self, slot: usize, listener: u8, at: usize, clock: Clock) -> usize {
        let len = self.slot_len(slot);
        let wall = self.slot_time(slot).unwrap_or(clock.wall);
        let received =
            Received { source: self.slot_source(slot), listener, wall: UnixNanos(wall), piece: false, unparsed: false };
        let out = self.map.slice_mut(RING_AT + at..RING_AT + at + frame_len(received.source.ip(), len));
        let (near, far) = (len.min(NEAR), len.saturating_sub(NEAR));
        let near = self.map.slice(NEAR_AT + slot * NEAR..NEAR_AT + slot * NEAR + near);
        if far == 0 {
            return write_frame(out, &received, near).expect("place() left room for it");
        }
        // A long datagram lies in two parts: frame it from a joined copy.
        let joined = [near, self.map.slice(FAR_AT + slot * FAR..FAR_AT + slot * FAR + far)].concat();
        write_frame(out, &received, &joined).expect("place() left room for it")
    }

    /// Points a slot's header at its buffers: the addresses are this process's own.
    #[allow(unsafe_code)]
    fn point_slot(&mut self, slot: usize) {
        let base = self.map.base().as_ptr();
        let header = self.slot_head(slot);
        // SAFETY: all offsets lie inside the mapping by the layout; msg_len is left as it is.
        unsafe {
            let iov = base.add(PARTS_AT + slot * SLOT_PARTS).cast::<libc::iovec>();
            *iov = libc::iovec { iov_base: base.add(NEAR_AT + slot * NEAR).cast(), iov_len: NEAR };
            *iov.add(1) = libc::iovec { iov_base: base.add(FAR_AT + slot * FAR).cast(), iov_len: FAR };
            let msg = &mut (*header).msg_hdr;
            msg.msg_iov = iov;
            msg.msg_iovlen = 2;
            msg.msg_name = base.add(NAMES_AT + slot * NAME).cast();
            msg.msg_control = base.add(CONTROLS_AT + slot * CONTROL).cast();
        }
    }

    #[allow(unsafe_code)]
    fn reset_slots(&mut self, n: usize) {
        for slot in 0..n {
            let header = self.slot_head(slot);
            // SAFETY: a header inside the mapping.
            unsafe {
                let msg = &mut (*header).msg_hdr;
                msg.msg_namelen = NAME as u32;
                msg.msg_controllen = CONTROL;
                msg.msg_flags = 0;
                std::ptr::write_volatile(&raw mut (*header).msg_len, EMPTY);
            }
        }
    }

    #[allow(unsafe_code)]
    fn slot_head(&self, slot: usize) -> *mut libc::mmsghdr {
        // SAFETY: in bounds by the layout.
        let head = unsafe { self.map.base().as_ptr().add(HEADS_AT + slot * SLOT_HEAD) };
        head.cast()
    }

    fn filled_slots(&self) -> usize {
        (0..SLOTS).take_while(|&slot| self.slot_word(slot) != EMPTY).count()
    }

    #[allow(unsafe_code)]
    fn slot_word(&self, slot: usize) -> u32 {
        // SAFETY: a header inside the mapping.
        unsafe { std::ptr::read_volatile(&raw const (*self.slot_head(slot)).msg_len) }
    }

    fn slot_len(&self, slot: usize) -> usize {
        (self.slot_word(slot) as usize).min(RAW_MAX)
    }

    fn slot_source(&self, slot: usize) -> SocketAddr {
        socket_address(self.map.slice(NAMES_AT + slot * NAME..NAMES_AT + (slot + 1) * NAME))
    }

    /// The kernel's receive time in the slot's control messages (SCM_TIMESTAMPNS).
    fn slot_time(&self, slot: usize) -> Option<u64> {
        let control = self.map.slice(CONTROLS_AT + slot * CONTROL..CONTROLS_AT + (slot + 1) * CONTROL);
        let word = |at: usize| control.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
        let int = |at: usize| control.get(at..at + 4)?.try_into().ok().map(i32::from_ne_bytes);
        let mut at = 0;
        while at + 16 <= CONTROL {
            let len = word(at)? as usize;
            if len < 16 {
                return None;
            }
            if int(at + 8)? == libc::SOL_SOCKET && int(at + 12)? == libc::SCM_TIMESTAMPNS {
                return word(at + 16)?.checked_mul(1_000_000_000)?.checked_add(word(at + 24)?);
            }
            at += len.checked_next_multiple_of(8)?;
        }
        None
    }

    // ---- TCP ----

    /// Makes `slot` the place of connection `id`: goes on where a predecessor stopped if it was that already.
    pub fn adopt(&mut self, slot: u16, id: u32) {
        assert!(usize::from(slot) < super::CONNECTIONS, "ravend gives slots below CONNECTIONS");
        if self.connection(slot, at::OWNER).load(Relaxed) != u64::from(id) + 1 {
            for field in [at::POSITIONS, at::READ_AT, at::MODE, at::NEXT_BATCH, at::NEXT_POSITIONS, at::NEXT_MODE] {
                self.connection(slot, field).store(0, Relaxed);
            }
            self.set_read_len(slot, EMPTY);
            self.connection(slot, at::OWNER).store(u64::from(id) + 1, Release);
        }
    }

    /// Reads once from a connection, frames what is whole into the batch being built. Call
    /// [`Self::publish_connections`] after the last connection of a round.
    pub fn read(
        &mut self,
        slot: u16,
        socket: BorrowedFd<'_>,
        listener: u8,
        peer: SocketAddr,
        framing: &dyn Framing,
    ) -> io::Result<Taken> {
        if self.connection(slot, at::NEXT_BATCH).load(Relaxed) > self.published {
            // One intent per connection and batch.
            self.publish_connections();
        }
        if !self.open_building() {
            self.stalls += 1;
            return Ok(Taken::Full);
        }
        let end = self.positions(slot).1;
        let space = CONNECTION_BUFFER - end;
        let read =
            if space == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { self.read_more(slot, socket, end, space) };
        let (got, finished, failed) = match read {
            Ok(0) => (0, true, None),
            Ok(n) => (n, false, None),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                (0, false, None)
            }
            // A reset connection has no more to say, but what it said is kept.
            Err(error) => (0, true, Some(error)),
        };
        let left = loop {
            match self.frame_connection(slot, listener, peer, finished, framing) {
                Framed::All => break false,
                Framed::Rest => break true,
                Framed::NoRoom => {
                    self.publish_connections();
                    if !self.open_building() {
                        self.stalls += 1;
                        return Ok(Taken::Full);
                    }
                }
            }
        };
        match (finished && !left, got) {
            (true, _) => failed.map_or(Ok(Taken::End), Err),
            (false, 0) if finished || space == 0 => Ok(Taken::Full),
            (false, 0) => Ok(Taken::Nothing),
            (false, n) => Ok(Taken::Some(n)),
        }
    }

    /// Publishes the batch being built from connections, if any.
    pub fn publish_connections(&mut self) {
        let Some((offset, used, count)) = self.building.take() else { return };
        if count == 0 && self.intents.is_empty() {
            return;
        }
        if count > 0 {
            self.publish(offset, used, count, now());
            word(&self.map, head::BUILDING).store(self.published + 1, Relaxed);
        } else {
            // Bytes were skipped without a record (frame delimiters): the intent counts as done.
            for &slot in &self.intents {
                self.connection(slot, at::NEXT_BATCH).store(self.published, Relaxed);
            }
        }
        let intents = std::mem::take(&mut self.intents);
        for &slot in &intents {
            self.apply_intent(slot);
        }
        self.intents = intents;
        self.intents.clear();
    }

    fn open_building(&mut self) -> bool {
        match self.building {
            Some((_, used, _)) if self.room - used >= record::FRAME_MAX => return true,
            Some(_) => self.publish_connections(),
            None => {}
        }
        self.room = TCP_BATCH;
        self.building = self.place(TCP_BATCH).map(|offset| (offset, 0, 0));
        self.building.is_some()
    }

    /// Frames what is whole in the buffer into the batch being built, writes the intent.
    fn frame_connection(
        &mut self,
        slot: u16,
        listener: u8,
        peer: SocketAddr,
        finished: bool,
        framing: &dyn Framing,
    ) -> Framed {
        let Some((offset, mut used, mut count)) = self.building else { return Framed::NoRoom };
        let mut mode = self.connection(slot, at::MODE).load(Relaxed);
        let (start, end) = self.positions(slot);
        let received = Received { source: peer, listener, wall: UnixNanos(now().wall), piece: false, unparsed: false };
        let buffer = BUFFERS_AT + usize::from(slot) * CONNECTION_BUFFER;
        let ring = self.map.slice_mut(RING_AT + offset..RING_AT + offset + self.room);
        let mut refused = false;
        let taken =
            framing.take(&mut mode, self.map.slice(buffer + start..buffer + end), finished, &mut |raw, piece| {
                let written = write_frame(&mut ring[used..], &Received { piece, ..received }, raw);
                used += written.unwrap_or(0);
                count += u32::from(written.is_some());
                refused |= written.is_none();
                written.is_some()
            });
        self.building = Some((offset, used, count));
        let start = (start + taken).min(end);
        self.connection(slot, at::NEXT_POSITIONS).store(packed(start, end), Relaxed);
        self.connection(slot, at::NEXT_MODE).store(mode, Relaxed);
        self.connection(slot, at::NEXT_BATCH).store(self.published + 1, Release);
        self.intents.push(slot);
        match (refused, start == end) {
            (true, _) => Framed::NoRoom,
            (false, true) => Framed::All,
            (false, false) => Framed::Rest,
        }
    }

    /// Reads behind `end`; the kernel leaves the number of bytes in shared memory before anything else happens.
    #[allow(unsafe_code)]
    fn read_more(&mut self, slot: u16, socket: BorrowedFd<'_>, end: usize, space: usize) -> io::Result<usize> {
        self.connection(slot, at::READ_AT).store(end as u64, Relaxed);
        self.set_read_len(slot, EMPTY);
        let base = self.map.base().as_ptr();
        let header = self.connection_head(slot);
        // SAFETY: header, iovec and buffer lie in the mapping; the buffer has `space` bytes behind `end`.
        let n = unsafe {
            let iov = header.cast::<u8>().add(64).cast::<libc::iovec>();
            let buffer = base.add(BUFFERS_AT + usize::from(slot) * CONNECTION_BUFFER + end);
            *iov = libc::iovec { iov_base: buffer.cast(), iov_len: space };
            (*header).msg_hdr = std::mem::zeroed();
            (*header).msg_hdr.msg_iov = iov;
            (*header).msg_hdr.msg_iovlen = 1;
            libc::recvmmsg(socket.as_raw_fd(), header, 1, libc::MSG_DONTWAIT, std::ptr::null_mut())
        };
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
        self.set_read_len(slot, EMPTY);
        n as usize
    }

    /// After a death: counts a finished read, then applies the intent if its batch was published.
    fn settle_connection(&mut self, slot: u16, published: u64) {
        if self.connection(slot, at::OWNER).load(Relaxed) == 0 {
            return;
        }
        self.settle_read(slot);
        let next = self.connection(slot, at::NEXT_BATCH).load(Acquire);
        if next > published {
            self.connection(slot, at::NEXT_BATCH).store(0, Relaxed);
        } else if next != 0 {
            self.apply_intent(slot);
        }
    }

    /// Moves the positions behind what was published; brings the rest to the front when the end of the buffer is near.
    fn apply_intent(&mut self, slot: u16) {
        let (start, end) = unpacked(self.connection(slot, at::NEXT_POSITIONS).load(Relaxed));
        self.connection(slot, at::MODE).store(self.connection(slot, at::NEXT_MODE).load(Relaxed), Relaxed);
        self.connection(slot, at::POSITIONS).store(packed(start, end), Release);
        self.connection(slot, at::NEXT_BATCH).store(0, Release);
        let rest = end - start;
        let buffer = BUFFERS_AT + usize::from(slot) * CONNECTION_BUFFER;
        if rest == 0 {
            self.connection(slot, at::POSITIONS).store(0, Release);
        } else if CONNECTION_BUFFER - end < CONNECTION_BUFFER / 4 && start >= rest {
            // Source and target do not overlap, so the copy can be begun again after a death.
            let bytes = self.map.slice(buffer + start..buffer + end);
            self.map.slice_mut(buffer..buffer + rest).copy_from_slice(bytes);
            self.connection(slot, at::POSITIONS).store(packed(0, rest), Release);
        }
    }

    fn positions(&self, slot: u16) -> (usize, usize) {
        unpacked(self.connection(slot, at::POSITIONS).load(Acquire))
    }

    fn connection(&self, slot: u16, field: usize) -> &std::sync::atomic::AtomicU64 {
        word(&self.map, CONNECTION_HEADS_AT + usize::from(slot) * CONNECTION_HEAD + field)
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

    // ---- ring ----

    /// Ring offset for `need` bytes in one piece, or `None` when the store is too far behind.
    fn place(&self, need: usize) -> Option<usize> {
        let durable = self.durable();
        if self.published - durable >= DESCRIPTORS - 1 || need > RING / 2 {
            return None;
        }
        let head = (word(&self.map, head::RING_HEAD).load(Relaxed) as usize).min(RING);
        if durable == self.published {
            return Some(if head + need <= RING_SOFT { head } else { 0 });
        }
        let tail = self.descriptor_offset(durable + 1);
        if head <= tail {
            return (head + need < tail).then_some(head);
        }
        // Once it has wrapped, the ring is no longer than what lies before the tail: wrap only where that is plenty,
        // else grow.
        let plenty = tail >= 2 * (head - tail) + 2 * need;
        if head + need <= RING_SOFT || (!plenty && head + need <= RING) {
            Some(head)
        } else {
            (need < tail).then_some(0)
        }
    }

    fn descriptor_offset(&self, batch: u64) -> usize {
        let at = DESCRIPTORS_AT + (batch % DESCRIPTORS) as usize * DESCRIPTOR;
        (word(&self.map, at + 8).load(Relaxed) & 0xffff_ffff) as usize
    }

    /// Hands a batch over.
    fn publish(&mut self, offset: usize, used: usize, count: u32, clock: Clock) {
        let number = self.published + 1;
        let at = DESCRIPTORS_AT + (number % DESCRIPTORS) as usize * DESCRIPTOR;
        word(&self.map, at).store(number, Relaxed);
        word(&self.map, at + 8).store(packed(offset, used), Relaxed);
        word(&self.map, at + 16).store(u64::from(count), Relaxed);
        word(&self.map, at + 24).store(clock.mono_offset as u64, Relaxed);
        word(&self.map, head::RING_HEAD).store((offset + used) as u64, Relaxed);
        let bytes = word(&self.map, head::BYTES);
        bytes.store(bytes.load(Relaxed).wrapping_add(used as u64), Relaxed);
        word(&self.map, head::PUBLISHED).store(number, Release);
        self.published = number;
    }
}

fn packed(start: usize, end: usize) -> u64 {
    start as u64 | (end as u64) << 32
}

/// Clamped: the words may come from a predecessor that was taken over.
fn unpacked(positions: u64) -> (usize, usize) {
    let end = ((positions >> 32) as usize).min(CONNECTION_BUFFER);
    (((positions & 0xffff_ffff) as usize).min(end), end)
}

/// Both clocks at one moment, nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Clock {
    wall: u64,
    mono_offset: i64,
}

fn now() -> Clock {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    let mono = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_or(0, |t| t.tv_sec() as u64 * 1_000_000_000 + t.tv_nsec() as u64);
    Clock { wall, mono_offset: wall.wrapping_sub(mono) as i64 }
}

/// A `sockaddr_in` or `sockaddr_in6`; mapped addresses become IPv4. Anything else is the unspecified address.
fn socket_address(name: &[u8]) -> SocketAddr {
    let family = i32::from(u16::from_ne_bytes([name[0], name[1]]));
    let port = u16::from_be_bytes([name[2], name[3]]);
    let ip = match family {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::new(name[4], name[5], name[6], name[7])),
        libc::AF_INET6 => {
            <[u8; 16]>::try_from(&name[8..24]).map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |v6| IpAddr::V6(v6.into()))
        }
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    SocketAddr::new(record::plain_address(ip), port)
}
