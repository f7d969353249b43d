//! The hash tree of a root file system (dm-verity, format 1: the salt stands before each block, SHA-256, blocks of
//! 4 KiB), and how it is told to the kernel. The tree begins at the first block of its partition; there is no
//! superblock, since everything in it comes from the boot loader's command line.

use crate::SECTOR;
use raven_model::hex::{hex, unhex};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

/// Bytes of a data block and of a block of hashes.
pub const BLOCK: usize = 4096;
const DIGEST: usize = 32;

/// What a root file system must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verity {
    /// The hash over everything.
    pub root: [u8; DIGEST],
    /// Length of the file system, in blocks of 4 KiB.
    pub blocks: u64,
    /// Stands before each block that is hashed; at most 256 bytes.
    pub salt: Vec<u8>,
}

/// Not a description of a hash tree.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerityError {
    /// Not three parts.
    #[error("`{0}` is not ROOT.BLOCKS.SALT")]
    Form(String),
    /// A part is not what it should be.
    #[error("`{0}` is no {1}")]
    Part(String, &'static str),
}

impl fmt::Display for Verity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", hex(&self.root), self.blocks, hex(&self.salt))
    }
}

impl FromStr for Verity {
    type Err = VerityError;

    fn from_str(text: &str) -> Result<Self, VerityError> {
        let parts: Vec<&str> = text.split('.').collect();
        let [root, blocks, salt] = parts[..] else { return Err(VerityError::Form(text.to_owned())) };
        let wrong = |what| move |part: &str| VerityError::Part(part.to_owned(), what);
        Ok(Self {
            root: unhex(root)
                .and_then(|r| r.try_into().ok())
                .ok_or_else(|| wrong("hash of 64 hexadecimal digits")(root))?,
            blocks: blocks.parse().ok().filter(|n| *n > 0).ok_or_else(|| wrong("number of blocks")(blocks))?,
            salt: unhex(salt).filter(|s| s.len() <= 256).ok_or_else(|| wrong("salt in hexadecimal digits")(salt))?,
        })
    }
}

impl Verity {
    /// The length of the mapped device, in sectors.
    pub fn sectors(&self) -> u64 {
        self.blocks * (BLOCK as u64 / SECTOR)
    }

    /// The parameters of the device mapper's target `verity` for a data and a hash device (`MAJOR:MINOR` or a path).
    /// A block that is not what it should be stops the kernel, which starts anew after `panic=` seconds: half a system
    /// that goes on with errors would neither be well nor give way to the other slot.
    pub fn table(&self, data: &str, hashes: &str) -> String {
        let salt = if self.salt.is_empty() { "-".to_owned() } else { hex(&self.salt) };
        format!(
            "1 {data} {hashes} {BLOCK} {BLOCK} {} 0 sha256 {} {salt} 1 panic_on_corruption",
            self.blocks,
            hex(&self.root)
        )
    }
}

/// Reads `data` to its end (a last part of a block is filled with zeroes) and returns what it must be and the tree,
/// as it lies on the hash device: the topmost level first.
///
/// # Errors
/// `data` cannot be read or is empty.
pub fn tree(data: &mut impl Read, salt: &[u8]) -> io::Result<(Verity, Vec<u8>)> {
    let mut level = Vec::new();
    let mut blocks = 0;
    let mut block = [0; BLOCK];
    while fill(data, &mut block)? {
        level.extend(digest(salt, &block));
        blocks += 1;
    }
    if blocks == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "an empty file system has no hash"));
    }
    let mut levels = Vec::new();
    while level.len() > DIGEST {
        level.resize(level.len().next_multiple_of(BLOCK), 0);
        let above = level.chunks(BLOCK).flat_map(|block| digest(salt, block)).collect();
        levels.push(std::mem::replace(&mut level, above));
    }
    levels.reverse();
    let root = level.try_into().expect("one digest is left");
    Ok((Verity { root, blocks, salt: salt.to_vec() }, levels.concat()))
}

/// Reads a block; false at the end.
fn fill(data: &mut impl Read, block: &mut [u8; BLOCK]) -> io::Result<bool> {
    let mut have = 0;
    while have < BLOCK {
        match data.read(&mut block[have..])? {
            0 => break,
            n => have += n,
        }
    }
    block[have..].fill(0);
    Ok(have > 0)
}

fn digest(salt: &[u8], block: &[u8]) -> [u8; DIGEST] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    /// `n` bytes that do not repeat by block.
    fn data(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i / 7 + i / BLOCK) as u8).collect()
    }

    #[test]
    fn a_description_is_read_as_it_was_written() {
        let verity = Verity { root: [7; 32], blocks: 3, salt: vec![1, 0xff] };
        assert_eq!(verity.to_string().parse(), Ok(verity));
        for wrong in ["", "aa.3.bb", &format!("{}.0.aa", "11".repeat(32)), &format!("{}.1.a", "11".repeat(32))] {
            assert!(wrong.parse::<Verity>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_changed_bit_changes_the_root() {
        let mut bytes = data(BLOCK * 200);
        let (before, _) = tree(&mut bytes.as_slice(), b"salt").unwrap();
        bytes[BLOCK * 150 + 9] ^= 0x10;
        assert_ne!(tree(&mut bytes.as_slice(), b"salt").unwrap().0.root, before.root);
        assert!(tree(&mut [].as_slice(), b"salt").is_err());
    }

    #[test]
    fn the_kernel_is_told_to_stop_at_a_wrong_block() {
        let verity = Verity { root: [0xab; 32], blocks: 5, salt: vec![] };
        let table = verity.table("254:1", "254:2");
        assert!(
            table.starts_with("1 254:1 254:2 4096 4096 5 0 sha256 abab") && table.ends_with(" - 1 panic_on_corruption")
        );
        assert_eq!(verity.sectors(), 40);
    }

    /// One, two and three levels, and a last block that is not full, as cryptsetup computes them.
    #[test]
    fn veritysetup_finds_the_tree_right() {
        if Command::new("veritysetup").arg("--version").output().is_err() {
            println!("not run: veritysetup is not installed");
            return;
        }
        for bytes in [BLOCK * 2, BLOCK * 128, BLOCK * 129 - 5, BLOCK * 128 * 128 + BLOCK] {
            let (verity, tree) = tree(&mut data(bytes).as_slice(), &[0xca, 0xfe]).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let (image, hashes) = (dir.path().join("image"), dir.path().join("hashes"));
            let mut padded = data(bytes);
            padded.resize(bytes.next_multiple_of(BLOCK), 0);
            std::fs::write(&image, padded).unwrap();
            std::fs::write(&hashes, tree).unwrap();
            let mut check = Command::new("veritysetup");
            check.args(["verify", "--no-superblock", "--salt", "cafe", "--data-blocks", &verity.blocks.to_string()]);
            let output = check.arg(&image).arg(&hashes).arg(hex(&verity.root)).output().unwrap();
            assert!(output.status.success(), "{bytes} bytes: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
