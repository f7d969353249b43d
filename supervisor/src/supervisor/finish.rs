//! The end: collectors first, then the store with all that they handed over, then the readers.

use super::{STOP_PATIENCE, Supervisor, Token};
use crate::worker::State;
use nix::sys::epoll::{EpollEvent, EpollTimeout};
use raven_model::stream::Stream;
use raven_model::table::Role;
use sd_notify::NotifyState;
use std::fs;
use std::time::{Duration, Instant};

impl Supervisor {
    /// Collectors first, then the store with all that they handed over, then the readers.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        let collectors = Stream::ALL.map(Stream::collector);
        self.programs.end_all();
        let last = [
            Role::Wire,
            Role::Diag,
            Role::Vpn,
            Role::Net,
            Role::Update,
            Role::Import,
            Role::Store,
            Role::Uplink,
            Role::Decode,
        ];
        for role in collectors.into_iter().chain(last) {
            if role == Role::Store {
                self.tell_drops();
            }
            self.stop_worker(role)?;
        }
        let _ = fs::remove_file(self.dirs.control());
        tracing::info!("stopped");
        Ok(())
    }

    pub(super) fn stop_worker(&mut self, role: Role) -> anyhow::Result<()> {
        let Some(n) = self.worker(role) else { return Ok(()) };
        if self.workers[n].state == State::Unwanted {
            return Ok(());
        }
        self.workers[n].stop();
        let deadline = Instant::now() + STOP_PATIENCE;
        let mut events = [EpollEvent::empty(); 64];
        while self.workers[n].state != State::Stopped {
            if Instant::now() > deadline {
                tracing::error!(%role, "the worker did not finish in {} s: killed", STOP_PATIENCE.as_secs());
                self.workers[n].kill();
                std::thread::sleep(Duration::from_millis(20));
                self.workers[n].reap()?;
                break;
            }
            let count = self.epoll.wait(&mut events, EpollTimeout::from(50_u16)).unwrap_or(0);
            for event in &events[..count] {
                match Token::unpack(event.data()) {
                    Token::Worker(n) => self.hear(n),
                    Token::Process(n) => self.reap(n)?,
                    _ => {}
                }
            }
            // A store or reader that dies now is needed once more.
            self.restart_unfinished(role)?;
        }
        Ok(())
    }

    /// While a collector finishes, the store must run to give its ring space back.
    pub(super) fn restart_unfinished(&mut self, stopping: Role) -> anyhow::Result<()> {
        if stopping.stream().is_some() {
            let Some(n) = self.worker(Role::Store) else { return Ok(()) };
            if matches!(self.workers[n].state, State::Waiting(at) if at <= Instant::now()) {
                self.start_worker(n)?;
            }
        }
        Ok(())
    }
}
