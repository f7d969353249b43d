//! One sender of traps: nobody answers.

use super::notification::Notifications;
use crate::load::args::Plan;
use crate::load::drive::{Sender, Tally};
use crate::load::udp::Udp;
use std::io;

/// A socket and its count.
pub struct TrapSender {
    udp: Udp,
    notifications: Notifications,
    sent: u64,
    bytes: u64,
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

impl TrapSender {
    /// Connects.
    pub fn open(id: u32, plan: &Plan, gso: bool, notifications: Notifications) -> io::Result<Self> {
        let udp = Udp::open(plan, id, gso)?;
        Ok(Self { udp, notifications, sent: 0, bytes: 0, buffer: Vec::new(), ends: Vec::new() })
    }
}

impl Sender for TrapSender {
    type Shared = ();

    fn most(&self) -> u64 {
        self.udp.batch() as u64
    }

    fn send(&mut self, count: u64, (): &mut ()) -> io::Result<()> {
        self.buffer.clear();
        self.ends.clear();
        for n in self.sent..self.sent + count {
            self.notifications.write(n, &mut self.buffer);
            self.ends.push(self.buffer.len());
        }
        self.sent += count;
        self.bytes += self.buffer.len() as u64;
        self.udp.send(&self.buffer, &self.ends)
    }

    fn tally(&self) -> Tally {
        Tally { sent: self.sent, bytes: self.bytes, refused: self.udp.refused, answers: None }
    }
}
