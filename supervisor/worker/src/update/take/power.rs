//! Power cuts while a slot is written to: the disk keeps what was synced, and of all other sectors a random half.
#![allow(clippy::unwrap_used)]

use super::*;
use raven_model::update::{FLOOR, FORMATS, Part, Version};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::LazyLock;

const SECTOR: usize = 512;
const HEADER: &[u8] = b"a header that was vouched for";

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        for shift in [13, -7, 17] {
            self.0 ^= if shift < 0 { self.0 >> -shift } else { self.0 << shift };
        }
        self.0 % n
    }
}

/// A disk with a cache that is lost.
struct Cached {
    kept: Vec<u8>,
    now: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// So many writes and syncs, of all disks together, until the power goes.
    fuse: Rc<Cell<u64>>,
    /// It says that it has synced, and has not.
    lies: bool,
}

impl Cached {
    fn new(content: Vec<u8>, fuse: &Rc<Cell<u64>>, lies: bool) -> Self {
        Self { kept: content.clone(), now: content, dirty: BTreeSet::new(), fuse: Rc::clone(fuse), lies }
    }

    fn burn(&self) -> io::Result<()> {
        let left = self.fuse.get();
        self.fuse.set(left.saturating_sub(1));
        if left == 0 { Err(io::Error::other("no power")) } else { Ok(()) }
    }

    /// What is there when the power is back.
    fn after_the_cut(mut self, random: &mut Random) -> Vec<u8> {
        for sector in std::mem::take(&mut self.dirty) {
            if random.below(2) == 0 {
                let at = sector * SECTOR..((sector + 1) * SECTOR).min(self.now.len());
                self.kept[at.clone()].copy_from_slice(&self.now[at]);
            }
        }
        self.kept
    }
}

impl Disk for Cached {
    fn room(&mut self) -> io::Result<u64> {
        Ok(self.now.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        bytes.copy_from_slice(&self.now[at as usize..at as usize + bytes.len()]);
        Ok(())
    }

    fn write_at(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let at = at as usize;
        self.now[at..at + bytes.len()].copy_from_slice(bytes);
        self.dirty.extend(at / SECTOR..=(at + bytes.len() - 1) / SECTOR);
        self.burn()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.burn()?;
        if !self.lies {
            self.kept.clone_from(&self.now);
            self.dirty.clear();
        }
        Ok(())
    }

    fn forget_cache(&self) {}
}

/// Root, hash tree, kernel, initramfs.
static PARTS: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
    let content = |seed: usize, bytes: usize| (0..bytes).map(|n| (n * seed + n / 253) as u8).collect();
    [content(7, 120_000), content(11, 10_000), content(13, 3_000), content(17, 2_000)]
});

static MANIFEST: LazyLock<Manifest> = LazyLock::new(manifest);

fn manifest() -> Manifest {
    let [root, hashes, kernel, initramfs] =
        PARTS.each_ref().map(|bytes| Part { bytes: bytes.len() as u64, sha256: hex(&sha256(bytes)) });
    Manifest {
        product: "raven".to_owned(),
        machine: "x86-64".to_owned(),
        version: Version(1, 0, 0),
        made_s: 0,
        floor: FLOOR,
        reads_from: FORMATS,
        reads_to: FORMATS,
        verity: String::new(),
        arguments: String::new(),
        root,
        hashes,
        kernel,
        initramfs,
    }
}

/// One attempt, from looking what is there to reading all of it back. Also where it began.
fn attempt(take: &mut Take<Cached>) -> anyhow::Result<u64> {
    while !take.catch_up()? {}
    let (from, all) = (take.offset(), PARTS.concat());
    for chunk in all[from as usize..].chunks(5_000) {
        take.push(chunk)?;
    }
    take.settle()?;
    while !take.check()? {}
    Ok(from)
}

/// How a slot ended after cuts.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Right, gone on with from here the last time.
    Right(u64),
    /// Said to be wrong.
    Told,
    /// Said to be right, and is not.
    Silent,
}

/// A slot that held something else, three cuts at random places, and an attempt with power.
fn after_cuts(seed: u64, lies: bool) -> End {
    let random = &mut Random(seed | 1);
    let mut disks = [vec![0xa5; 122_880], vec![0x5a; 20_480]];
    for cut in 0..4 {
        let fuse = Rc::new(Cell::new(if cut < 3 { random.below(60) } else { u64::MAX }));
        let [root, hashes] = disks.clone().map(|content| Cached::new(content, &fuse, lies));
        let boot = Cached::new(vec![0; 20_000], &Rc::new(Cell::new(u64::MAX)), false);
        let begun = Take::begin(HEADER, MANIFEST.clone(), Place { root, hashes, boot });
        // Cut at its first note: nothing of it is there.
        let Ok(mut take) = begun else { continue };
        let outcome = attempt(&mut take);
        if cut == 3 {
            let [root, hashes, ..] = &*PARTS;
            let is_right = take.place.root.now.starts_with(root) && take.place.hashes.now.starts_with(hashes);
            return match outcome {
                Ok(from) if is_right => End::Right(from),
                Ok(_) => End::Silent,
                Err(_) => End::Told,
            };
        }
        disks = [take.place.root, take.place.hashes].map(|disk| disk.after_the_cut(random));
    }
    End::Told
}

#[test]
fn after_five_hundred_times_three_power_cuts_each_slot_is_right_and_most_were_gone_on_with() {
    let ends: Vec<End> = (1..=500).map(|seed| after_cuts(seed * 0x9e37_79b9, false)).collect();
    let gone_on = ends.iter().filter(|end| matches!(end, End::Right(from) if *from > 0)).count();
    assert!(ends.iter().all(|end| matches!(end, End::Right(_))), "{ends:?}");
    assert!(gone_on > 250, "{gone_on}");
}

/// The control: with a disk that lies about syncs the same cuts do harm, so they are real; and it is told, not started.
#[test]
fn on_a_disk_that_lies_the_loss_is_told_and_never_taken_for_right() {
    let ends: Vec<End> = (1..=500).map(|seed| after_cuts(seed * 0x9e37_79b9, true)).collect();
    let told = ends.iter().filter(|end| **end == End::Told).count();
    assert!(told > 20, "{told}");
    assert!(!ends.contains(&End::Silent), "{ends:?}");
}
