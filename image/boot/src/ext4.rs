//! Whether an ext4 says of itself that it has to be checked: its superblock, 1024 bytes into the partition
//! (the kernel's Documentation/filesystems/ext4/super.rst).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const MAGIC: (usize, u16) = (0x38, 0xef53);
/// Bit 1: an error was found.
const STATE: usize = 0x3a;
const HAS_ERRORS: u16 = 2;
/// How many errors were found since the last check, 32 bits.
const ERROR_COUNT: usize = 0x194;

/// Why it is not mounted as it is.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// The disk does not answer.
    #[error("its first block cannot be read: {0}")]
    Read(#[from] io::Error),
    /// Something else.
    #[error("it holds no ext4")]
    None,
    /// `e2fsck` is to look first.
    #[error("its file system found errors in itself")]
    Errors,
}

/// A journal that has to be played back is well: mounting does that.
///
/// # Errors
/// It has to be checked first, or is no ext4.
pub fn is_well(partition: &Path) -> Result<(), Ext4Error> {
    let mut superblock = [0; 1024];
    File::open(partition)?.read_exact_at(&mut superblock, 1024)?;
    let word = |at: usize| u16::from_le_bytes([superblock[at], superblock[at + 1]]);
    if word(MAGIC.0) != MAGIC.1 {
        return Err(Ext4Error::None);
    }
    if word(STATE) & HAS_ERRORS != 0 || superblock[ERROR_COUNT..ERROR_COUNT + 4] != [0; 4] {
        return Err(Ext4Error::Errors);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    /// What e2fsprogs makes and marks.
    #[test]
    fn one_that_found_errors_is_left_to_be_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data");
        std::fs::write(&file, vec![0; 8 << 20]).unwrap();
        assert!(matches!(is_well(&file), Err(Ext4Error::None)));
        let e2fs = |program: &str, args: &[&str]| {
            Command::new(program).args(args).arg(&file).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output()
        };
        match e2fs("mke2fs", &["-q", "-t", "ext4"]) {
            Ok(output) => assert!(output.status.success()),
            Err(_) => return println!("not run: mke2fs (package e2fsprogs) is not installed"),
        }
        is_well(&file).unwrap();
        for [field, ill, well] in [["state", "3", "1"], ["error_count", "1", "0"]] {
            let set = |value: &str| {
                assert!(
                    e2fs("debugfs", &["-w", "-R", &format!("set_super_value {field} {value}")])
                        .unwrap()
                        .status
                        .success()
                );
            };
            set(ill);
            assert!(matches!(is_well(&file), Err(Ext4Error::Errors)), "{field}");
            set(well);
            is_well(&file).unwrap();
        }
        assert!(matches!(is_well(Path::new("/nowhere")), Err(Ext4Error::Read(_))));
    }
}
