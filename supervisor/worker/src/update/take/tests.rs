#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;
use raven_model::update::{FLOOR, FORMATS, Part, Version};
use std::fs::OpenOptions;
use std::path::Path;

const HEADER: &[u8] = b"a header that was vouched for";

fn content(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n * 7 + n / 255) as u8 ^ seed).collect()
}

fn parts() -> [Vec<u8>; 4] {
    [content(1, 3_000_000), content(2, 50_000), content(3, 70_000), content(4, 9_000)]
}

fn manifest() -> Manifest {
    let part = |bytes: &Vec<u8>| Part { bytes: bytes.len() as u64, sha256: hex(&sha256(bytes)) };
    let [root, hashes, kernel, initramfs] = parts();
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
        root: part(&root),
        hashes: part(&hashes),
        kernel: part(&kernel),
        initramfs: part(&initramfs),
    }
}

fn slot() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [("root", 4_000_000), ("hashes", 100_000), ("boot", 0)] {
        File::create(dir.path().join(name)).unwrap().set_len(bytes).unwrap();
    }
    dir
}

fn begin_as(dir: &Path, header: &[u8]) -> anyhow::Result<Take<File>> {
    let open = |name: &str| OpenOptions::new().read(true).write(true).open(dir.join(name)).unwrap();
    let mut take =
        Take::begin(header, manifest(), Place { root: open("root"), hashes: open("hashes"), boot: open("boot") })?;
    while !take.catch_up()? {}
    Ok(take)
}

fn begin(dir: &Path) -> anyhow::Result<Take<File>> {
    begin_as(dir, HEADER)
}

fn checked(take: &mut Take<File>) -> anyhow::Result<()> {
    while !take.check()? {}
    Ok(())
}

/// The whole of a bundle behind its header lies where it belongs.
fn is_there(dir: &Path) {
    let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
    let [root, hashes, kernel, initramfs] = parts();
    assert!(read("root").starts_with(&root) && read("hashes").starts_with(&hashes));
    assert_eq!(read("boot"), [HEADER, &kernel, &initramfs].concat());
}

#[test]
fn what_comes_lies_where_it_belongs_and_is_read_back() {
    let dir = slot();
    let mut take = begin(dir.path()).unwrap();
    for chunk in parts().concat().chunks(99_991) {
        take.push(chunk).unwrap();
    }
    assert!(take.is_full() && take.push(b"more").is_err());
    take.settle().unwrap();
    checked(&mut take).unwrap();
    is_there(dir.path());
}

#[test]
fn a_bundle_that_broke_off_goes_on_where_it_was_and_another_begins_anew() {
    let dir = slot();
    let all = parts().concat();
    let mut take = begin(dir.path()).unwrap();
    take.push(&all[..1_000_000]).unwrap();
    take.settle().unwrap();
    drop(take);
    assert_eq!(begin(dir.path()).unwrap().offset(), 1_000_000);
    let mut take = begin(dir.path()).unwrap();
    // Into the kernel, which is kept in memory alone.
    take.push(&all[1_000_000..3_060_000]).unwrap();
    take.settle().unwrap();
    let mut take = begin(dir.path()).unwrap();
    assert_eq!(take.offset(), 3_050_000);
    take.push(&all[3_050_000..]).unwrap();
    checked(&mut take).unwrap();
    is_there(dir.path());
    assert_eq!(begin_as(dir.path(), b"another").unwrap().offset(), 0);
    // And by that the first one is forgotten.
    assert_eq!(begin(dir.path()).unwrap().offset(), 0);
}

#[test]
fn what_was_not_synced_is_not_taken_for_there() {
    let dir = slot();
    let mut take = begin(dir.path()).unwrap();
    take.push(&parts()[0][..10_000]).unwrap();
    drop(take);
    assert_eq!(begin(dir.path()).unwrap().offset(), 0);
}

#[test]
fn one_changed_bit_is_found_in_each_part() {
    let all = parts().concat();
    for at in [0, 1_500_000, 2_999_999, 3_000_000, 3_050_000, 3_125_000, all.len() - 1] {
        let dir = slot();
        let mut changed = all.clone();
        changed[at] ^= 4;
        let mut take = begin(dir.path()).unwrap();
        let error = take.push(&changed).unwrap_err().to_string();
        assert!(error.contains("another SHA-256"), "{error}");
        take.settle().unwrap();
        // Nothing of it is taken for there.
        assert_eq!(begin(dir.path()).unwrap().offset(), 0);
    }
}

#[test]
fn a_slot_that_changed_under_a_note_is_found_and_the_next_time_all_comes_anew() {
    let dir = slot();
    let all = parts().concat();
    let mut take = begin(dir.path()).unwrap();
    take.push(&all[..1_000_000]).unwrap();
    take.settle().unwrap();
    OpenOptions::new().write(true).open(dir.path().join("root")).unwrap().write_all_at(b"x!", 5000).unwrap();
    let mut take = begin(dir.path()).unwrap();
    let error = take.push(&all[1_000_000..]).unwrap_err().to_string();
    assert!(error.contains("say it again"), "{error}");
    assert_eq!(begin(dir.path()).unwrap().offset(), 0);
}

#[test]
fn a_disk_that_gives_back_something_else_is_found() {
    let dir = slot();
    let mut take = begin(dir.path()).unwrap();
    take.push(&parts().concat()).unwrap();
    take.settle().unwrap();
    OpenOptions::new().write(true).open(dir.path().join("hashes")).unwrap().write_all_at(b"x!", 4000).unwrap();
    let error = checked(&mut take).unwrap_err().to_string();
    assert!(error.contains("the disk gave back"), "{error}");
}

#[test]
fn a_slot_that_is_too_small_is_told_before_anything_is_written() {
    let dir = slot();
    OpenOptions::new().write(true).open(dir.path().join("root")).unwrap().set_len(2_999_999).unwrap();
    assert!(begin(dir.path()).err().unwrap().to_string().contains("room for"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// However it is cut into pieces and broken off, the end is the same.
    #[test]
    fn any_way_of_breaking_off_ends_in_the_same_slot(cuts in proptest::collection::vec(1_usize..900_000, 1..8), durable: bool) {
        let dir = slot();
        let all = parts().concat();
        for cut in cuts {
            let mut take = begin(dir.path()).unwrap();
            let at = take.offset() as usize;
            take.push(&all[at..all.len().min(at + cut)]).unwrap();
            if durable {
                take.settle().unwrap();
            }
        }
        let mut take = begin(dir.path()).unwrap();
        let at = take.offset() as usize;
        take.push(&all[at..]).unwrap();
        take.settle().unwrap();
        checked(&mut take).unwrap();
        is_there(dir.path());
    }
}
