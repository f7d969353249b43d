//! Connections to systemd-networkd, which are handed on unread.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_socket, socket};
use nix::unistd::{Uid, geteuid, seteuid};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Where it is asked (Varlink), below `/run`.
const PLACE: &str = "systemd/netif/io.systemd.Network";

/// A connection as the user `uid`, of whom networkd takes questions and no orders: it believes root, and who gets the
/// connection is not root. One that had to wait for others would hold up everything else, so it does not.
pub fn connect(run: &Path, uid: u32) -> Result<OwnedFd, String> {
    let made = || {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        let place = UnixAddr::new(&run.join(PLACE))?;
        as_user(uid, || connect_socket(socket.as_raw_fd(), &place))?;
        Ok(socket)
    };
    made().map_err(|error: Errno| match error {
        Errno::ENOENT | Errno::ECONNREFUSED => "systemd-networkd does not run".to_owned(),
        Errno::EAGAIN => "systemd-networkd has too many others to answer".to_owned(),
        error => format!("systemd-networkd cannot be reached: {error}"),
    })
}

/// Does it with the effective user `uid`, where this is root. There is one thread, and nothing else happens meanwhile.
fn as_user<R>(uid: u32, work: impl FnOnce() -> Result<R, Errno>) -> Result<R, Errno> {
    if !geteuid().is_root() {
        return work();
    }
    seteuid(Uid::from_raw(uid))?;
    let outcome = work();
    seteuid(Uid::from_raw(0)).expect("the real user is still root");
    outcome
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn without_networkd_it_is_said_so() {
        let run = tempfile::tempdir().unwrap();
        let why = || connect(run.path(), geteuid().as_raw()).unwrap_err();
        assert_eq!(why(), "systemd-networkd does not run");
        let place = run.path().join(PLACE);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&place).unwrap());
        assert_eq!(why(), "systemd-networkd does not run");
        let long = run.path().join("x".repeat(120));
        assert!(connect(&long, geteuid().as_raw()).unwrap_err().starts_with("systemd-networkd cannot be reached"));
    }
}
