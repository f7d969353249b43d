//! Waiting for an answer, no longer than it is worth.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// Between two tries to reach a receiver that is away.
pub const RETRY: Duration = Duration::from_millis(100);

/// Whether something can be read (the end, too) within `time`.
pub fn readable(socket: &impl AsFd, time: Duration) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: time.as_secs().min(3600).cast_signed(), tv_nsec: i64::from(time.subsec_nanos()) };
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
