//! Tests of the network that operators ask for: the role `diag`.
//!
//! Each test is a pure plan ([`ping`], [`trace`], [`mtu`]: what is sent when, what an answer says) and, in its `run`, the few lines
//! that own sockets. A test belongs to the connection on which it was asked for, and runs in a thread of its own: who closes
//! the connection ends the test, so that none outlives its operator.
//!
//! What it never does:
//! * hold a capability: echo requests leave by datagram sockets, and what routers say comes by error queues ([`probe`]);
//! * believe an answer: it counts when it carries the number of a probe behind this test's own cookie;
//! * run without an end, or more than [`TESTS`] at a time.

pub mod failure;
pub mod mtu;
pub mod ping;
pub mod probe;
pub mod rtt;
pub mod session;
pub mod targets;
pub mod trace;

use failure::Failure;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use raven_jail::channel::{Channel, ChannelError};
use raven_model::control::{FromWorker, PACKET_MAX, ToWorker};
use raven_model::diag::Test;
use serde_json::value::RawValue;
use session::Session;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Tests at a time.
pub const TESTS: usize = 16;
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The role ends when nobody has asked for anything for so long.
const IDLE: Duration = Duration::from_secs(30);

/// The role.
pub struct Diag {
    channel: Channel,
    running: Arc<AtomicUsize>,
    next_beat: Instant,
    idle_since: Instant,
}

impl Diag {
    /// Called inside the jail.
    pub fn new(channel: Channel) -> Self {
        let now = Instant::now();
        Self { channel, running: Arc::default(), next_beat: now, idle_since: now }
    }

    /// Makes tests until nobody wants any more.
    pub fn run(mut self) -> Result<(), ChannelError> {
        while self.is_wanted() {
            if Instant::now() >= self.next_beat {
                self.next_beat = Instant::now() + HEARTBEAT;
                self.channel.send_json(&FromWorker::Heartbeat { report: RawValue::NULL.to_owned() }, &[])?;
            }
            let mut fds = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
            // An interruption is as good as the end of the time.
            let _ = poll(&mut fds, PollTimeout::from(500_u16));
            if !self.control()? {
                break;
            }
        }
        Ok(())
    }

    fn is_wanted(&mut self) -> bool {
        if self.running.load(Ordering::Relaxed) > 0 {
            self.idle_since = Instant::now();
        }
        self.idle_since.elapsed() < IDLE
    }

    /// What `ravend` says. False when it stops.
    fn control(&mut self) -> Result<bool, ChannelError> {
        let mut packet = vec![0; PACKET_MAX];
        loop {
            match self.channel.try_recv_json::<ToWorker>(&mut packet) {
                Ok(Some((ToWorker::Client, fds))) => fds.into_iter().for_each(|client| self.begin(client)),
                Ok(Some((ToWorker::Stop, _)) | None) => return Ok(false),
                // Configuration, secrets: nothing to this role.
                Ok(Some(_)) => {}
                Err(ChannelError::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    fn begin(&mut self, client: OwnedFd) {
        self.idle_since = Instant::now();
        let Ok(session) = Session::new(UnixStream::from(client)) else { return };
        let running = Arc::clone(&self.running);
        let is_full = running.fetch_add(1, Ordering::Relaxed) >= TESTS;
        let serve = move || {
            serve(session, is_full);
            running.fetch_sub(1, Ordering::Relaxed);
        };
        if std::thread::Builder::new().name("test".to_owned()).spawn(serve).is_err() {
            self.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// One operator, one test.
fn serve(mut session: Session, is_full: bool) {
    let Ok(order) = session.order() else { return };
    let outcome = match serde_json::from_slice::<Test>(&order) {
        _ if is_full => Err(Failure::Refused(format!("{TESTS} tests run already: wait for one of them"))),
        Err(error) => Err(Failure::Refused(format!("not a test that this raven knows: {error}"))),
        Ok(test) => make(&test, &mut session),
    };
    // Who is gone is told nothing.
    let _ = match outcome {
        Ok(()) => session.done(),
        Err(Failure::Gone) => Ok(()),
        Err(failure) => session.refuse(failure.to_string()),
    };
}

fn make(test: &Test, session: &mut Session) -> Result<(), Failure> {
    match test {
        Test::Ping(test) => ping::run::run(test, session),
        Test::Trace(test) => trace::run::run(test, session),
        Test::Mtu(test) => mtu::run::run(test, session),
    }
}
