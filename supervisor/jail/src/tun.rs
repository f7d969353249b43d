//! The network device of a tunnel: packets that the kernel sends to it are read from a descriptor (TUN).

use crate::channel::check;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Where descriptors for it come from.
pub const PLACE: &str = "/dev/net/tun";

/// From linux/if_tun.h; libcs disagree about the type of these numbers. What the `net` role may do with `ioctl`.
pub(crate) const TUNSETIFF: u64 = 0x4004_54ca;
pub(crate) const TUNGETIFF: u64 = 0x8004_54d2;
pub(crate) const TUNSETPERSIST: u64 = 0x4004_54cb;
pub(crate) const TUNSETOWNER: u64 = 0x4004_54cc;

const IFF_TUN: u16 = 0x0001;
/// No four bytes before each packet.
const IFF_NO_PI: u16 = 0x1000;
/// Only a device that was not there.
const IFF_TUN_EXCL: u16 = 0x8000;

/// `struct ifreq` as far as it is read here: a name, and flags at the head of a union of 24 bytes.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

/// A descriptor of which [`make`] makes one device. Of the network namespace of this process.
///
/// # Errors
/// The kernel has no TUN devices, or not for this user.
pub fn open() -> io::Result<OwnedFd> {
    OpenOptions::new().read(true).write(true).open(PLACE).map(OwnedFd::from)
}

/// Makes the device `name`, which stays until it is removed, and which user `owner` may read and write. Nobody does when
/// this returns.
///
/// # Errors
/// `EBUSY`: there is a device of this name. `EPERM`: without `CAP_NET_ADMIN`.
pub fn make(tun: OwnedFd, name: &str, owner: u32) -> io::Result<()> {
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags: IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL, rest: [0; 22] };
    // The last byte stays zero.
    let place = request.name.get_mut(..name.len()).filter(|place| place.len() < libc::IFNAMSIZ);
    place.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.copy_from_slice(name.as_bytes());
    let tun = File::from(tun);
    // SAFETY: the kernel reads and writes one ifreq, whose size this struct has on 64-bit machines.
    check(unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), TUNSETIFF as _, &raw mut request) })?;
    for (command, value) in [(TUNSETOWNER, owner), (TUNSETPERSIST, 1)] {
        // SAFETY: takes a number.
        check(unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), command as _, libc::c_ulong::from(value)) })?;
    }
    Ok(())
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());
