//! Frames that are kept as they come: the file goes to the operator, whose program writes it.

use super::decode::{Framing, decode};
use super::pcap::{HEAD, TAG, file_header, packet};
use super::{Tapped, check, unheard, wall_ns};
use crate::failure::{Failure, within};
use crate::session::Session;
use raven_jail::packet::{Batch, dropped};
use raven_model::diag::wire::{CaptureOrder, CaptureResult, Event, SNAP_MAX, TIME_MAX_MS};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// Frames read at once: each has room for the longest.
const FRAMES: usize = 32;
/// Bytes that are sent at once, and how long fewer may wait.
const PART: usize = 48 * 1024;
const PATIENCE: Duration = Duration::from_millis(200);
const NAP: Duration = Duration::from_millis(5);

struct Capture<'a> {
    order: &'a CaptureOrder,
    framing: Framing,
    result: CaptureResult,
    part: Vec<u8>,
    from_ns: u64,
}

/// Keeps what comes until something of the order is reached.
pub fn run(order: &CaptureOrder, tapped: &Tapped, session: &mut Session) -> Result<(), Failure> {
    within("the time in milliseconds", order.for_ms.into(), 100, TIME_MAX_MS.into())?;
    within("packets", order.packets, 1, CaptureOrder::PACKETS)?;
    within("bytes", order.bytes, 1000, CaptureOrder::BYTES)?;
    check(&order.meant)?;
    let framing = tapped.framing()?;
    let part = file_header(framing, SNAP_MAX + TAG);
    let result =
        CaptureResult { interface: tapped.link.name.clone(), bytes: part.len() as u64, ..CaptureResult::default() };
    Capture { order, framing, result, part, from_ns: wall_ns() }.run(tapped, session)
}

impl Capture<'_> {
    fn run(mut self, tapped: &Tapped, session: &mut Session) -> Result<(), Failure> {
        let socket = tapped.socket.as_fd();
        let _ = dropped(socket);
        let mut batch = Batch::new(FRAMES, SNAP_MAX as usize);
        let end = Instant::now() + Duration::from_millis(self.order.for_ms.into());
        let (mut told, mut ended_by) = (Instant::now(), None);
        while ended_by.is_none() {
            session.wait(&[socket], end.min(told + PATIENCE))?;
            let count = batch.receive(socket).map_err(|error| unheard(tapped, &error))?;
            let from_ns = self.from_ns;
            for frame in batch.frames().filter(|frame| frame.at_ns >= from_ns) {
                ended_by = ended_by.or_else(|| self.take(frame.at_ns, frame.bytes, frame.len, frame.vlan));
            }
            let now = Instant::now();
            ended_by = ended_by.or((now >= end).then_some("time"));
            if self.part.len() >= PART || now >= told + PATIENCE || ended_by.is_some() {
                told = now;
                self.tell(session)?;
            }
            if count < FRAMES / 4 && ended_by.is_none() {
                session.wait(&[], end.min(now + NAP))?;
            }
        }
        ended_by.unwrap_or("time").clone_into(&mut self.result.ended_by);
        self.result.dropped = dropped(socket).unwrap_or(0);
        session.say(&Event::Captured(self.result)).map_err(Failure::from)
    }

    /// What ends it, if this frame does.
    fn take(&mut self, at_ns: u64, bytes: &[u8], len: u32, vlan: Option<(u16, u16)>) -> Option<&'static str> {
        let is_all = self.order.meant.ports.is_empty() && self.order.meant.from.is_none();
        let is_meant = is_all || decode(self.framing, bytes, vlan).is_some_and(|seen| seen.is_meant(&self.order.meant));
        if !is_meant {
            self.result.unmeant += 1;
            return None;
        }
        let most = (HEAD + bytes.len()) as u64 + u64::from(TAG);
        if self.result.bytes + most > self.order.bytes {
            return Some("bytes");
        }
        let before = self.part.len();
        self.result.cut += u64::from(packet(&mut self.part, at_ns, bytes, len, vlan));
        self.result.bytes += (self.part.len() - before) as u64;
        self.result.packets += 1;
        (self.result.packets >= self.order.packets).then_some("packets")
    }

    fn tell(&mut self, session: &mut Session) -> Result<(), Failure> {
        // A line is as long as its reader wants to have it in memory.
        for part in self.part.chunks(PART) {
            session.say(&Event::part(part))?;
        }
        self.part.clear();
        Ok(())
    }
}
