//! Signals as something to poll.

use crate::channel::{check, retry};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub use libc::{SIGABRT, SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGSEGV, SIGSTOP, SIGSYS, SIGTERM};

/// A signalfd, non-blocking.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks `signals` in this thread and reads them from now on. [`crate::spawn`] unblocks them in children.
    ///
    /// # Errors
    /// The kernel's: no descriptors left.
    pub fn new(signals: &[libc::c_int]) -> io::Result<Self> {
        // SAFETY: all zeroes is a valid set; sigemptyset and sigaddset write only to it.
        let set = unsafe {
            let mut set: libc::sigset_t = mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in signals {
                libc::sigaddset(&raw mut set, *signal);
            }
            set
        };
        // SAFETY: both calls only read the set.
        let fd = unsafe {
            check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
            check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?
        };
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next signal that came; `None` when there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next(&self) -> io::Result<Option<libc::c_int>> {
        // SAFETY: all zeroes is a valid value of this plain struct.
        let mut info: libc::signalfd_siginfo = unsafe { mem::zeroed() };
        // SAFETY: the kernel writes at most the size of the struct.
        let read = retry(|| unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size_of_val(&info)) });
        match read {
            Ok(_) => Ok(Some(info.ssi_signo.cast_signed())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `SIGKILL` for 9; the number where it has no name.
pub fn name(signal: libc::c_int) -> String {
    nix::sys::signal::Signal::try_from(signal)
        .map_or_else(|_| format!("signal {signal}"), |known| known.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_signal_is_read_once_and_named() {
        let signals = Signals::new(&[SIGHUP]).unwrap();
        assert_eq!(signals.next().unwrap(), None);
        // SAFETY: to this thread, which blocks it.
        unsafe { libc::raise(SIGHUP) };
        assert_eq!(signals.next().unwrap(), Some(SIGHUP));
        assert_eq!(signals.next().unwrap(), None);
        assert_eq!((name(SIGSYS).as_str(), name(99).as_str()), ("SIGSYS", "signal 99"));
    }
}
