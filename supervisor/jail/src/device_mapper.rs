//! The one call to the kernel's device mapper, for `raven-init`, which has nobody else to make it.

use crate::channel::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes of `struct dm_ioctl`.
pub const HEADER: usize = 312;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// A new device without a table.
    Create,
    /// A table for it.
    Load,
    /// The table comes into force.
    Resume,
}

impl Command {
    /// `_IOWR(0xfd, n, struct dm_ioctl)`.
    fn number(self) -> libc::c_ulong {
        let n = match self {
            Self::Create => 3,
            Self::Load => 9,
            Self::Resume => 6,
        };
        0xc000_0000 | ((HEADER as libc::c_ulong) << 16) | 0xfd00 | n
    }
}

/// Sends `message`, a `struct dm_ioctl` with what follows it; the kernel writes its answer over it.
///
/// # Errors
/// The kernel's, and `InvalidInput` when the message's own length is not that of the buffer.
pub fn call(control: BorrowedFd, command: Command, message: &mut [u8]) -> io::Result<()> {
    let said = message.get(12..16).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    if message.len() < HEADER || said.is_none_or(|said| said as usize != message.len()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a message to the device mapper of a wrong length"));
    }
    // SAFETY: the kernel reads and writes no more than the length in the header, which was just compared with the
    // buffer's (dm-ioctl.c: copy_params, and copy_to_user of at most `data_size`).
    check(unsafe { libc::ioctl(control.as_raw_fd(), command.number(), message.as_mut_ptr()) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn a_message_that_lies_about_its_length_is_not_sent() {
        let null = File::open("/dev/null").unwrap();
        for (length, said) in [(311, 311_u32), (312, 313), (400, 312)] {
            let mut message = vec![0; length];
            message[12..16].copy_from_slice(&said.to_ne_bytes());
            let error = call(null.as_fd(), Command::Create, &mut message).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        let mut message = vec![0; 312];
        message[12..16].copy_from_slice(&312_u32.to_ne_bytes());
        assert_eq!(call(null.as_fd(), Command::Create, &mut message).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(Command::Create.number(), 0xc138_fd03);
    }
}
