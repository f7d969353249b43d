//! Frames that are counted as they come.

use super::decode::{Framing, decode, to};
use super::table::Table;
use super::{Tapped, check, unheard, wall_ns};
use crate::failure::{Failure, within};
use crate::session::Session;
use raven_jail::packet::{Batch, Frame, dropped};
use raven_model::diag::wire::{Event, HEADERS, TIME_MAX_MS, ViewOrder};
use raven_model::units::UnixNanos;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// Frames read at once.
const FRAMES: usize = 128;
/// Batches that are read before the time and the operator are looked at again.
const BATCHES: usize = 64;
/// After a small batch more are waited for, so that few frames do not cost a wake-up each.
const SMALL: usize = FRAMES / 4;
const NAP: Duration = Duration::from_millis(5);
/// Looks after the end, for what came before it: a flood, and a clock that is set meanwhile, must not go on for ever.
const LAST: usize = 1000;
const SECOND: Duration = Duration::from_secs(1);

struct View<'a> {
    order: &'a ViewOrder,
    tapped: &'a Tapped,
    framing: Framing,
    table: Table,
    batch: Batch,
    /// What came before is not meant: the socket is older than the order.
    from_ns: u64,
    /// Nor what comes from here on, once that is known.
    until_ns: u64,
}

/// Counts for as long as ordered.
pub fn run(order: &ViewOrder, tapped: &Tapped, session: &mut Session) -> Result<(), Failure> {
    within("the time in milliseconds", order.for_ms.into(), 100, TIME_MAX_MS.into())?;
    check(&order.meant)?;
    let view = View {
        order,
        tapped,
        framing: tapped.framing()?,
        table: Table::default(),
        batch: Batch::new(FRAMES, HEADERS as usize),
        from_ns: wall_ns(),
        until_ns: u64::MAX,
    };
    view.run(session)
}

impl View<'_> {
    fn run(mut self, session: &mut Session) -> Result<(), Failure> {
        // What was dropped before the order is not told.
        let _ = dropped(self.tapped.socket.as_fd());
        let (begun, mut second) = (Instant::now(), 1);
        let end = begun + Duration::from_millis(self.order.for_ms.into());
        let mut told = begun;
        loop {
            let next = (begun + SECOND * second).min(end);
            session.wait(&[self.tapped.socket.as_fd()], next)?;
            let is_quiet = self.read()?;
            let now = Instant::now();
            if now >= next {
                self.table.lost(dropped(self.tapped.socket.as_fd()).unwrap_or(0));
                session.say(&Event::Second(self.table.second(second, (now - told).as_secs_f64())))?;
                (told, second) = (now, second + 1);
                if next == end {
                    break;
                }
            } else if is_quiet {
                session.wait(&[], (now + NAP).min(next))?;
            }
        }
        self.until_ns = wall_ns();
        for _ in 0..LAST {
            if self.read()? {
                break;
            }
        }
        self.table.lost(dropped(self.tapped.socket.as_fd()).unwrap_or(0));
        let (from, until) = (UnixNanos(self.from_ns), UnixNanos(self.until_ns));
        let result = self.table.result(&self.tapped.link.name, from, until);
        session.say(&Event::Wire(result)).map_err(Failure::from)
    }

    /// Reads what is there, as far as one look takes; true when few are left.
    fn read(&mut self) -> Result<bool, Failure> {
        for _ in 0..BATCHES {
            let count = self.batch.receive(self.tapped.socket.as_fd()).map_err(|error| unheard(self.tapped, &error))?;
            let is_within = |frame: &Frame<'_>| (self.from_ns..self.until_ns).contains(&frame.at_ns);
            for frame in self.batch.frames().filter(is_within) {
                match decode(self.framing, frame.bytes, frame.vlan) {
                    None => self.table.malformed += 1,
                    Some(seen) if !seen.is_meant(&self.order.meant) => self.table.unmeant += 1,
                    Some(seen) => self.table.add(seen, to(frame.kind), frame.len, frame.at_ns),
                }
            }
            if count < SMALL {
                return Ok(true);
            }
        }
        // At the end as many as come now are left alone: they are not meant.
        Ok(self.until_ns != u64::MAX && self.batch.frames().last().is_none_or(|frame| frame.at_ns >= self.until_ns))
    }
}
