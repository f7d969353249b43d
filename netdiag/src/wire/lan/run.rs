//! Questions that leave, and what comes back.

use super::Lan;
use crate::failure::{Failure, within};
use crate::session::Session;
use crate::wire::{Tapped, unheard, wall_ns};
use raven_jail::packet::{Batch, send};
use raven_model::diag::wire::{Event, LanOrder};
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

const FRAMES: usize = 32;
/// As much of a frame as the socket gives.
const ROOM: usize = 2048;

/// Asks and waits for as long as ordered.
pub fn run(order: &LanOrder, tapped: &Tapped, session: &mut Session) -> Result<(), Failure> {
    within("addresses", order.addresses.len() as u64, 0, LanOrder::ADDRESSES as u64)?;
    within("gateways", order.gateways.len() as u64, 0, LanOrder::GATEWAYS as u64)?;
    within("the time to wait in milliseconds", order.wait_ms.into(), 500, 30_000)?;
    // Random, so that nobody answers who did not see the question.
    let number = RandomState::new().hash_one(0) as u32;
    let mut lan = Lan::new(order, tapped.link.clone(), number);
    let (socket, mut batch) = (tapped.socket.as_fd(), Batch::new(FRAMES, ROOM));
    let begun = Instant::now();
    let end = begun + Duration::from_millis(order.wait_ms.into());
    while Instant::now() < end {
        if lan.next().is_some_and(|due| begun + due <= Instant::now()) {
            for frame in lan.ask(wall_ns()) {
                send(socket, &frame).map_err(|error| {
                    Failure::Refused(format!("nothing can be sent at {}: {error}", tapped.link.name))
                })?;
            }
        }
        let next = lan.next().map_or(end, |due| (begun + due).min(end));
        session.wait(&[socket], next)?;
        batch.receive(socket).map_err(|error| unheard(tapped, &error))?;
        // What has a VLAN is of another LAN.
        for frame in batch.frames().filter(|frame| frame.vlan.is_none()) {
            lan.hear(frame.bytes, frame.at_ns);
        }
    }
    session.say(&Event::Lan(lan.result())).map_err(Failure::from)
}
