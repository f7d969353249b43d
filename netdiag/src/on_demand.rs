//! A role that runs while somebody wants something: it takes connections from `ravend`, serves each in a thread, and ends when
//! nobody has come for a while.

use crate::session::Session;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use raven_jail::channel::{Channel, ChannelError};
use raven_model::control::{FromWorker, PACKET_MAX, ToWorker};
use serde_json::value::RawValue;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const HEARTBEAT: Duration = Duration::from_secs(1);

/// What is done for one connection; the second says that there are too many already.
pub type Work = Box<dyn FnOnce(Session, bool) + Send>;

/// The role.
pub struct OnDemand {
    channel: Channel,
    running: Arc<AtomicUsize>,
    next_beat: Instant,
    idle_since: Instant,
    most: usize,
    idle: Duration,
}

impl OnDemand {
    /// Called inside the jail. So many are served at a time; it ends when nobody has come for so long.
    pub fn new(channel: Channel, most: usize, idle: Duration) -> Self {
        let now = Instant::now();
        Self { channel, running: Arc::default(), next_beat: now, idle_since: now, most, idle }
    }

    /// Serves until nobody wants anything any more: `work` says of a message which connections it brings, and what is done for each.
    pub fn run(
        mut self,
        mut work: impl FnMut(ToWorker, Vec<OwnedFd>) -> Vec<(OwnedFd, Work)>,
    ) -> Result<(), ChannelError> {
        while self.is_wanted() {
            if Instant::now() >= self.next_beat {
                self.next_beat = Instant::now() + HEARTBEAT;
                self.channel.send_json(&FromWorker::Heartbeat { report: RawValue::NULL.to_owned() }, &[])?;
            }
            let mut fds = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
            // An interruption is as good as the end of the time.
            let _ = poll(&mut fds, PollTimeout::from(500_u16));
            if !self.control(&mut work)? {
                break;
            }
        }
        Ok(())
    }

    fn is_wanted(&mut self) -> bool {
        if self.running.load(Ordering::Relaxed) > 0 {
            self.idle_since = Instant::now();
        }
        self.idle_since.elapsed() < self.idle
    }

    /// What `ravend` says. False when it stops.
    fn control(
        &mut self,
        work: &mut impl FnMut(ToWorker, Vec<OwnedFd>) -> Vec<(OwnedFd, Work)>,
    ) -> Result<bool, ChannelError> {
        let mut packet = vec![0; PACKET_MAX];
        loop {
            match self.channel.try_recv_json::<ToWorker>(&mut packet) {
                Ok(Some((ToWorker::Stop, _)) | None) => return Ok(false),
                Ok(Some((message, fds))) => {
                    for (client, work) in work(message, fds) {
                        self.begin(client, work);
                    }
                }
                Err(ChannelError::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    fn begin(&mut self, client: OwnedFd, work: Work) {
        self.idle_since = Instant::now();
        let Ok(session) = Session::new(UnixStream::from(client)) else { return };
        let running = Arc::clone(&self.running);
        let is_full = running.fetch_add(1, Ordering::Relaxed) >= self.most;
        let serve = move || {
            work(session, is_full);
            running.fetch_sub(1, Ordering::Relaxed);
        };
        if std::thread::Builder::new().name("test".to_owned()).spawn(serve).is_err() {
            self.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
