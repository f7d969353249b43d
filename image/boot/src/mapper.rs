//! Messages to the device mapper (`struct dm_ioctl`, linux/dm-ioctl.h, version 4): made here, sent by [`raven_jail`].

use raven_jail::device_mapper::{self, Command, HEADER};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// Nothing is ever written through a device made here.
const READ_ONLY: u32 = 1;
const NAME_BYTES: usize = 128;
/// Where the fields of the header lie.
const DEVICE: usize = 40;
const NAME: usize = 48;

/// One stretch of a mapped device, from its first sector on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `linear` or `verity`.
    pub kind: &'static str,
    /// Length in sectors.
    pub sectors: u64,
    /// As the target reads them.
    pub parameters: String,
}

/// Makes the read-only device `name` and returns its path.
///
/// # Errors
/// The kernel's: no such target, devices that do not exist or are in use, parameters that it does not take.
pub fn make(control: &File, name: &str, target: &Target) -> io::Result<String> {
    let mut made = message(name, None);
    device_mapper::call(control.as_fd(), Command::Create, &mut made)?;
    device_mapper::call(control.as_fd(), Command::Load, &mut message(name, Some(target)))?;
    device_mapper::call(control.as_fd(), Command::Resume, &mut message(name, None))?;
    Ok(format!("/dev/dm-{}", minor(&made)))
}

/// The bytes of one message.
fn message(name: &str, target: Option<&Target>) -> Vec<u8> {
    let body = target.map(table).unwrap_or_default();
    let mut bytes = vec![0; HEADER];
    let size = (HEADER + body.len()) as u32;
    let words = [4, 0, 0, size, HEADER as u32, u32::from(target.is_some()), 0, READ_ONLY];
    for (place, word) in bytes.chunks_mut(4).zip(words) {
        place.copy_from_slice(&u32::to_ne_bytes(word));
    }
    let length = name.len().min(NAME_BYTES - 1);
    bytes[NAME..NAME + length].copy_from_slice(&name.as_bytes()[..length]);
    bytes.extend(body);
    bytes
}

/// `struct dm_target_spec` and its parameters, ended by a zero and filled up to eight bytes.
fn table(target: &Target) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(0_u64.to_ne_bytes());
    bytes.extend(target.sectors.to_ne_bytes());
    bytes.extend([0; 8]); // status and next: only in answers, only with more targets
    let mut kind = [0; 16];
    kind[..target.kind.len()].copy_from_slice(target.kind.as_bytes());
    bytes.extend(kind);
    bytes.extend(target.parameters.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// The minor number in an answer (`huge_encode_dev`: twenty bits around the major's twelve).
fn minor(answer: &[u8]) -> u64 {
    let device = answer[DEVICE..DEVICE + 8].try_into().map_or(0, u64::from_ne_bytes);
    (device & 0xff) | ((device >> 12) & 0xf_ff00)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_table_lies_behind_the_header_as_the_kernel_reads_it() {
        let target = Target { kind: "linear", sectors: 77, parameters: "8:0 2048".to_owned() };
        let bytes = message("raven-root", Some(&target));
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!([word(0), word(12), word(16), word(20)], [4, bytes.len() as u32, 312, 1]);
        assert_eq!(word(28), READ_ONLY);
        assert_eq!(&bytes[48..59], b"raven-root\0");
        assert_eq!(&bytes[312 + 8..312 + 16], 77_u64.to_ne_bytes());
        assert_eq!(&bytes[312 + 24..312 + 31], b"linear\0");
        assert_eq!(&bytes[312 + 40..312 + 49], b"8:0 2048\0");
        assert_eq!(bytes.len() % 8, 0);
    }

    #[test]
    fn minor_numbers_beyond_a_byte_are_found() {
        let mut answer = vec![0; 312];
        answer[40..48].copy_from_slice(&0x0010_fd07_u64.to_ne_bytes());
        assert_eq!(minor(&answer), 0x107);
    }
}
