//! A store that keeps everything in memory, and commits when it may.

use nix::sys::eventfd::EventFd;
use raven_jail::receive::{StoreMemory, Waiting};
use raven_model::record::Frames;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Mutex;

/// A record as the store got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub raw: Vec<u8>,
    pub source: SocketAddr,
    pub listener: u8,
    pub piece: bool,
    pub refused: bool,
}

/// What the store is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Commit,
    /// Takes batches, commits none.
    Hold,
    End,
}

pub struct Store {
    pub mode: Mutex<Mode>,
    pub kept: Mutex<Vec<Kept>>,
}

impl Store {
    pub fn run(&self, memory: &StoreMemory, wake: &EventFd) {
        let (mut taken, mut buffer) = (memory.durable(), Vec::new());
        loop {
            let mode = *self.mode.lock().unwrap();
            if mode == Mode::End {
                return;
            }
            while taken < memory.published() {
                let batch = memory.take(taken + 1, &mut buffer).unwrap();
                for record in Frames::new(&buffer) {
                    let record = record.unwrap();
                    let (raw, received) = (record.raw.to_vec(), record.received);
                    let (source, listener) = (received.source, received.listener);
                    let kept = Kept { raw, source, listener, piece: received.piece, refused: received.is_refused() };
                    self.kept.lock().unwrap().push(kept);
                }
                memory.taken(batch.len);
                taken += 1;
            }
            if mode == Mode::Commit {
                memory.set_durable(taken);
            }
            let idle = memory.durable() == memory.published();
            if memory.wait(if idle { Waiting::Idle } else { Waiting::Filling }) == taken {
                let mut poll = [nix::poll::PollFd::new(wake.as_fd(), nix::poll::PollFlags::POLLIN)];
                // An idle store relies on being woken.
                let timeout = if idle && mode == Mode::Commit { 250_u16 } else { 2 };
                if nix::poll::poll(&mut poll, timeout).unwrap() > 0 {
                    wake.read().unwrap();
                }
            }
            memory.wait(Waiting::Busy);
        }
    }
}
