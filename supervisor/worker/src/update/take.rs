//! A bundle on its way to the disk: what comes is written where it belongs, hashed as it goes, noted when it is durable,
//! and in the end read back.
//!
//! How far the slot holds which bundle is noted in the last block of the hash tree's partition, which no tree of a slot
//! reaches: the note lies where the bytes are, so it is right for this disk whatever becomes of the data partition. It
//! is written after what it speaks of was synced, in one sector:
//! ```text
//! RVNTAKEN │ SHA-256 of the bundle's header │ bytes behind the header, u64 │ SHA-256 of all this
//! ```
//! Kernel and initramfs go to memory and are not noted: they come anew when an update is gone on with.

use anyhow::{Context as _, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use raven_model::hex::hex;
use raven_model::update::{BundleError, Manifest, PROGRESS, PartName};
use ring::digest::{Context, SHA256, digest};
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

const MAGIC: &[u8; 8] = b"RVNTAKEN";
/// Bytes of a note.
const NOTE: usize = 8 + 32 + 8 + 32;
/// So many bytes are written between two syncs; fewer in tests, whose bundles are small.
const SYNC: u64 = if cfg!(test) { 16 << 10 } else { 8 << 20 };
/// Read back at a time.
const CHUNK: usize = 1 << 20;

/// A partition: a file, or in tests a disk that loses power.
pub trait Disk {
    /// Bytes that it has.
    fn room(&mut self) -> io::Result<u64>;
    /// Reads all of `bytes`.
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of `bytes`; durable after [`sync`](Self::sync).
    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// What was written lies on the disk afterwards.
    fn sync(&mut self) -> io::Result<()>;
    /// What is read next comes from the disk.
    fn forget_cache(&self);
}

impl Disk for File {
    fn room(&mut self) -> io::Result<u64> {
        self.seek(SeekFrom::End(0))
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget_cache(&self) {
        // Of a plain file, as in tests, the kernel may keep what it likes.
        let _ = posix_fadvise(self, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

/// Where a system goes.
#[derive(Debug)]
pub struct Place<D> {
    root: D,
    hashes: D,
    /// Memory: header, kernel, initramfs.
    boot: D,
}

impl Place<File> {
    /// As `ravend` passes them.
    pub fn new(fds: Vec<OwnedFd>) -> anyhow::Result<Self> {
        let mut files = fds.into_iter().map(File::from);
        let mut next = || files.next().context("ravend passed no slot");
        Ok(Self { root: next()?, hashes: next()?, boot: next()? })
    }
}

/// A bundle that is being taken.
pub struct Take<D> {
    /// What it is.
    pub manifest: Manifest,
    place: Place<D>,
    name: [u8; 32],
    header: u64,
    /// Bytes behind the header that are written.
    offset: u64,
    synced: u64,
    /// Up to here the slot is read again before more is taken.
    noted: u64,
    began: u64,
    hash: Context,
    /// The part that is read back, and how far.
    checked: (PartName, u64),
}

impl<D: Disk> Take<D> {
    /// Looks how much of it the slot holds.
    pub fn begin(header: &[u8], manifest: Manifest, mut place: Place<D>) -> anyhow::Result<Self> {
        for (file, part, kept) in
            [(&mut place.root, PartName::Root, 0), (&mut place.hashes, PartName::Hashes, PROGRESS)]
        {
            let (room, bytes) = (file.room()?, manifest.part(part).bytes);
            ensure!(
                room >= bytes + kept,
                "the slot's {} has room for {room} bytes, the bundle's has {bytes}",
                part.name()
            );
        }
        place.boot.write_at(header, 0)?;
        let name = sha256(header);
        let kept = manifest.offset(PartName::Kernel);
        let noted = read_note(&mut place.hashes, &name)?.min(kept);
        let mut take = Self {
            manifest,
            place,
            name,
            header: header.len() as u64,
            offset: 0,
            synced: noted,
            noted,
            began: noted,
            hash: Context::new(&SHA256),
            checked: (PartName::Root, 0),
        };
        if noted == 0 {
            // Another bundle's note must not outlive its bytes.
            take.note(0)?;
        }
        Ok(take)
    }

    /// Reads some of what is there already; true when all of it was read.
    pub fn catch_up(&mut self) -> anyhow::Result<bool> {
        let Some((part, at, left)) = self.manifest.at(self.offset).filter(|_| self.offset < self.noted) else {
            return Ok(true);
        };
        let mut chunk = vec![0; left.min(self.noted - self.offset).min(CHUNK as u64) as usize];
        self.file(part).read_at(&mut chunk, at)?;
        self.count(part, at, left, &chunk)?;
        Ok(false)
    }

    /// Bytes behind the header that it has.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// All of it came.
    pub fn is_full(&self) -> bool {
        self.offset == self.manifest.bytes()
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            let (part, at, left) = self.manifest.at(self.offset).context("the bundle has bytes behind its end")?;
            let (now, later) = bytes.split_at(bytes.len().min(left as usize));
            let to = at + if part >= PartName::Kernel { self.header + self.before(part) } else { 0 };
            self.file_mut(part).write_at(now, to).with_context(|| format!("writing the slot's {}", part.name()))?;
            self.count(part, at, left, now)?;
            if self.offset - self.synced >= SYNC {
                self.settle()?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Makes durable what came, and notes it.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        let kept = self.offset.min(self.manifest.offset(PartName::Kernel));
        if kept > self.synced {
            self.place.root.sync().and_then(|()| self.place.hashes.sync()).context("syncing the slot")?;
            self.note(kept)?;
        }
        Ok(())
    }

    /// Reads back some of the slot, from the disk and not from memory; true when all of it is as it was signed.
    pub fn check(&mut self) -> anyhow::Result<bool> {
        let (part, at) = self.checked;
        if part >= PartName::Kernel {
            return Ok(true);
        }
        if at == 0 {
            self.hash = Context::new(&SHA256);
            self.file(part).forget_cache();
        }
        let left = self.manifest.part(part).bytes - at;
        let mut chunk = vec![0; left.min(CHUNK as u64) as usize];
        self.file(part).read_at(&mut chunk, at)?;
        self.hash.update(&chunk);
        self.checked.1 += chunk.len() as u64;
        if chunk.len() as u64 == left {
            self.part_ends(part, "the disk gave back something else than was written to it")?;
            let next = if part == PartName::Root { PartName::Hashes } else { PartName::Kernel };
            self.checked = (next, 0);
        }
        Ok(false)
    }

    /// Hashes what was written or is there; at the end of a part its digest must be right.
    fn count(&mut self, part: PartName, at: u64, left: u64, bytes: &[u8]) -> anyhow::Result<()> {
        if at == 0 {
            self.hash = Context::new(&SHA256);
        }
        self.hash.update(bytes);
        self.offset += bytes.len() as u64;
        if bytes.len() as u64 == left {
            let resumed = self.began > self.manifest.offset(part);
            self.part_ends(
                part,
                if resumed { "it began with what the slot held from before: say it again" } else { "" },
            )?;
        }
        Ok(())
    }

    fn part_ends(&mut self, part: PartName, more: &str) -> anyhow::Result<()> {
        let hash = std::mem::replace(&mut self.hash, Context::new(&SHA256));
        if hex(hash.finish().as_ref()) == self.manifest.part(part).sha256 {
            return Ok(());
        }
        // The next one begins at its beginning; nothing of this one is noted any more.
        self.offset = 0;
        self.note(0)?;
        let wrong = BundleError::Digest(part.name());
        Err(if more.is_empty() { wrong.into() } else { anyhow::anyhow!("{wrong}; {more}") })
    }

    /// Bytes of the memory's files before this one.
    fn before(&self, part: PartName) -> u64 {
        self.manifest.offset(part) - self.manifest.offset(PartName::Kernel)
    }

    const fn file(&self, part: PartName) -> &D {
        match part {
            PartName::Root => &self.place.root,
            PartName::Hashes => &self.place.hashes,
            PartName::Kernel | PartName::Initramfs => &self.place.boot,
        }
    }

    const fn file_mut(&mut self, part: PartName) -> &mut D {
        match part {
            PartName::Root => &mut self.place.root,
            PartName::Hashes => &mut self.place.hashes,
            PartName::Kernel | PartName::Initramfs => &mut self.place.boot,
        }
    }

    fn note(&mut self, offset: u64) -> anyhow::Result<()> {
        let mut note = [&MAGIC[..], &self.name, &offset.to_le_bytes()].concat();
        note.extend(sha256(&note));
        let hashes = &mut self.place.hashes;
        let at = hashes.room()? - PROGRESS;
        hashes.write_at(&note, at).and_then(|()| hashes.sync()).context("noting how far the slot is")?;
        (self.synced, self.noted) = (offset, offset);
        Ok(())
    }
}

/// How far the slot holds the bundle of this name; 0 of another one.
fn read_note(hashes: &mut impl Disk, name: &[u8; 32]) -> anyhow::Result<u64> {
    let at = hashes.room()? - PROGRESS;
    let mut note = [0; NOTE];
    hashes.read_at(&mut note, at)?;
    let (said, sum) = note.split_at(NOTE - 32);
    let offset = said.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let right = said.starts_with(MAGIC) && said[8..40] == *name && sum == sha256(said);
    Ok(if right { offset } else { 0 })
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod power;
#[cfg(test)]
mod tests;
