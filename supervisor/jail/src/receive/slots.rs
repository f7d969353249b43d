//! Datagrams: received into slots, framed from there, handed over, and only then the slots are empty again.

use super::collector::{CollectorMemory, POISON, Taken};
use super::crash::point;
use super::inspect::{Arrived, Inspect, Verdict};
use super::layout::{
    CONTROL, CONTROLS_AT, DEATHS_AT, FAR, FAR_AT, HEADS_AT, NAME, NAMES_AT, NEAR, NEAR_AT, PARTS_AT, RING_AT, SLOT,
    SLOT_HEAD, SLOT_PARTS, SLOTS, head,
};
use super::time::{Clock, now};
use raven_model::record::{self, FrameKind, RAW_MAX, Received, frame_len, write_frame};
use raven_model::units::UnixNanos;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// `msg_len` of a header that the kernel has not filled. Zero would not do: an empty datagram is legal.
pub(super) const EMPTY: u32 = u32::MAX;

/// Ring space that must be free before a socket is looked at: all slots full of what fits their first part. Longer
/// ones may need more and then wait in their slots.
const USUAL: usize = SLOTS * (32 + NEAR);

/// True when an error of a read says that the descriptor is of no use. All others (what ICMP reported, a moment
/// without memory, a link that went down) are said once and the socket goes on.
pub fn ends_socket(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADF | libc::ENOTSOCK | libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM)
    )
}

impl CollectorMemory {
    /// Receives what waits at a UDP socket, at most 256 datagrams, and publishes it as one batch. What finds no room
    /// stays in the slots ([`Self::pending`]) and goes first the next time.
    ///
    /// # Errors
    /// What the socket reports. Unless [`ends_socket`] it is over with that, and what waits can be received.
    #[allow(unsafe_code)]
    pub fn receive(&mut self, socket: BorrowedFd<'_>, listener: u8, inspect: &mut dyn Inspect) -> io::Result<Taken> {
        if !self.hand_over() || self.place(USUAL).is_none() {
            self.stalls += 1;
            return Ok(Taken::Full);
        }
        self.word(head::SLOTS_LISTENER).store(u64::from(listener), Relaxed);
        // SAFETY: SLOTS headers that point into this mapping, see point_slots.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.slot_head(0),
                SLOTS as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        point("slots: received", 0);
        if n < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Taken::Nothing),
                _ => Err(error),
            };
        }
        let received = self.filled_slots();
        self.pending = received;
        self.inspect_slots(inspect);
        self.publish_slots();
        Ok(if received == 0 { Taken::Nothing } else { Taken::Some(received) })
    }

    /// Frames the datagrams in the slots as one batch, hands it over and empties the slots. False when the ring has
    /// no room for them. No batch of connections may be under way.
    pub(super) fn publish_slots(&mut self) -> bool {
        let n = self.pending;
        if n == 0 {
            return true;
        }
        let frames = |slot: usize| match self.findings.verdict(slot) {
            Verdict::Drop(_) => 0,
            _ => frame_len(self.slot_source(slot).ip(), self.slot_len(slot)),
        };
        let total = (0..n).map(frames).sum::<usize>() + self.findings.contexts.frames.len();
        let Some(at) = self.place(total) else { return false };
        let (listener, clock) = (self.word(head::SLOTS_LISTENER).load(Relaxed) as u8, now());
        let (mut used, mut count, mut unparsed) = (0, self.findings.contexts.count, 0);
        for slot in 0..n {
            let before = self.findings.before(slot);
            self.map.slice_mut(RING_AT + at + used..RING_AT + at + used + before.len()).copy_from_slice(before);
            used += before.len();
            if matches!(self.findings.verdict(slot), Verdict::Drop(_)) {
                continue;
            }
            let poison = self.is_poison(slot);
            unparsed += usize::from(poison);
            used += self.frame_slot(slot, listener, at + used, clock, poison);
            count += 1;
        }
        self.word(head::WORKING_ON).store(0, Relaxed);
        point("slots: framed", 0);
        self.word(head::SLOTS_BATCH).store(self.published + 1, Relaxed);
        if count > 0 {
            self.publish(at, used, count, clock);
        }
        self.count(head::UNPARSED, unparsed);
        self.count_drops();
        self.empty_slots();
        true
    }

    /// Looks at each datagram in the slots, once. One over which collectors died is not looked at.
    pub(super) fn inspect_slots(&mut self, inspect: &mut dyn Inspect) {
        self.findings.clear();
        if self.pending == 0 || !inspect.looks() {
            return;
        }
        inspect.begin();
        let mut findings = std::mem::take(&mut self.findings);
        let (listener, clock) = (self.word(head::SLOTS_LISTENER).load(Relaxed) as u8, now());
        for slot in 0..self.pending {
            let verdict = if self.is_poison(slot) {
                Verdict::Keep
            } else {
                self.word(head::WORKING_ON).store(SLOT | slot as u64, Relaxed);
                point("slots: inspecting", slot);
                let wall = UnixNanos(self.slot_time(slot).unwrap_or(clock.wall));
                self.with_slot(slot, |raw| {
                    inspect.inspect(
                        &Arrived { source: self.slot_source(slot), listener, wall, raw },
                        &mut findings.contexts,
                    )
                })
            };
            findings.verdicts.push(verdict);
            findings.ends.push(findings.contexts.frames.len());
        }
        self.word(head::WORKING_ON).store(0, Relaxed);
        self.findings = findings;
    }

    fn is_poison(&self, slot: usize) -> bool {
        self.suspects && self.slot_deaths(slot).load(Relaxed) >= POISON
    }

    fn count_drops(&self) {
        for verdict in &self.findings.verdicts {
            if let Verdict::Drop(reason) = *verdict {
                self.count_drop(reason);
            }
        }
    }

    /// Has `look` see a datagram in one piece.
    fn with_slot<T>(&self, slot: usize, look: impl FnOnce(&[u8]) -> T) -> T {
        let len = self.slot_len(slot);
        let (near, far) = (len.min(NEAR), len.saturating_sub(NEAR));
        let near = self.map.slice(NEAR_AT + slot * NEAR..NEAR_AT + slot * NEAR + near);
        if far == 0 {
            return look(near);
        }
        // A long datagram lies in two parts.
        look(&[near, self.map.slice(FAR_AT + slot * FAR..FAR_AT + slot * FAR + far)].concat())
    }

    /// After a death: slots whose batch was published are emptied, others wait to be handed over.
    pub(super) fn settle_slots(&mut self) {
        self.suspects = (0..SLOTS).any(|slot| self.slot_deaths(slot).load(Relaxed) > 0);
        let batch = self.word(head::SLOTS_BATCH).load(Relaxed);
        if batch != 0 && batch <= self.published {
            self.pending = SLOTS;
            self.empty_slots();
            return;
        }
        // Before any other batch takes that number.
        self.word(head::SLOTS_BATCH).store(0, Relaxed);
        point("slots: number taken back", 0);
        self.pending = self.filled_slots();
        for slot in self.pending..SLOTS {
            self.empty_slot(slot);
        }
    }

    /// Frames a slot. One over which collectors died is only copied, and marked.
    fn frame_slot(&mut self, slot: usize, listener: u8, at: usize, clock: Clock, poison: bool) -> usize {
        let len = self.slot_len(slot);
        let mut received = Received::new(self.slot_source(slot), listener, UnixNanos(clock.wall));
        received.kind = if poison { FrameKind::Unparsed } else { self.findings.verdict(slot).kind() };
        if !poison {
            self.word(head::WORKING_ON).store(SLOT | slot as u64, Relaxed);
            point("slots: framing", slot);
            received.wall = UnixNanos(self.slot_time(slot).unwrap_or(clock.wall));
        }
        let out = self.map.slice_mut(RING_AT + at..RING_AT + at + frame_len(received.source.ip(), len));
        self.with_slot(slot, |raw| write_frame(out, &received, raw)).expect("place() left room for it")
    }

    /// Points the slots' headers at their buffers: the addresses are this process's own.
    #[allow(unsafe_code, clippy::cast_ptr_alignment)] // the layout aligns what lies in pages of their own
    pub(super) fn point_slots(&mut self) {
        let base = self.map.base().as_ptr();
        for slot in 0..SLOTS {
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
    }

    /// Empties the slots that hold datagrams, all of which were handed over.
    pub(super) fn empty_slots(&mut self) {
        // A fresh memory has none pending and all to be written.
        let filled = if self.pending == 0 { SLOTS } else { self.pending };
        for slot in 0..filled {
            self.empty_slot(slot);
            point("slots: emptying", slot);
        }
        if self.suspects {
            for slot in 0..SLOTS {
                self.slot_deaths(slot).store(0, Relaxed);
            }
        }
        point("slots: emptied", 0);
        self.word(head::SLOTS_BATCH).store(0, Relaxed);
        point("slots: done", 0);
        (self.pending, self.suspects) = (0, false);
        self.findings.clear();
    }

    #[allow(unsafe_code)]
    fn empty_slot(&mut self, slot: usize) {
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

    pub(super) fn slot_deaths(&self, slot: usize) -> &AtomicU64 {
        self.word(DEATHS_AT + slot * 8)
    }

    fn slot_source(&self, slot: usize) -> SocketAddr {
        socket_address(self.map.slice(NAMES_AT + slot * NAME..NAMES_AT + (slot + 1) * NAME))
    }

    #[allow(unsafe_code)]
    fn slot_time(&self, slot: usize) -> Option<u64> {
        // SAFETY: a header inside the mapping.
        let len = unsafe { (*self.slot_head(slot)).msg_hdr.msg_controllen }.min(CONTROL);
        kernel_time(self.map.slice(CONTROLS_AT + slot * CONTROL..CONTROLS_AT + slot * CONTROL + len))
    }
}

/// The kernel's receive time in control messages (SCM_TIMESTAMPNS), nanoseconds since 1970.
fn kernel_time(mut control: &[u8]) -> Option<u64> {
    loop {
        let len = usize::from_ne_bytes(*control.first_chunk()?);
        let kind = control.get(8..16)?;
        let (level, kind) = (i32::from_ne_bytes(*kind.first_chunk()?), i32::from_ne_bytes(*kind.last_chunk()?));
        if level == libc::SOL_SOCKET && kind == libc::SCM_TIMESTAMPNS {
            let word = |at: usize| Some(u64::from_ne_bytes(*control.get(at..)?.first_chunk()?));
            return word(16)?.checked_mul(1_000_000_000)?.checked_add(word(24)?);
        }
        // A header is 16 bytes: less would never come to an end.
        control = control.get(len.max(16).checked_next_multiple_of(8)?..)?;
    }
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
