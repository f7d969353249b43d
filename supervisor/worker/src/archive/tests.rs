//! Archives as they come: whole, cut, changed, of a newer Raven, or none at all.

use super::items::{Kind, item};
use super::look::Look;
use super::{BlockItem, End, Gap, Head, VERSION, add_block};
use crate::decode::fake::encoded;
use proptest::prelude::*;
use raven_buffer::{Block, Piece};
use raven_model::archive::{ArchiveStream, ArchiveView};
use raven_model::hex::hex;
use raven_model::record::{Frames, Received, write_frame};
use raven_model::units::{Seq, UnixNanos};
use ring::digest;

/// Blocks in each stream, records in each block.
const BLOCKS: u64 = 5;
const EACH: u64 = 4;

fn block(n: u64) -> Vec<u8> {
    let first = 1 + n * EACH;
    let texts: Vec<String> = (first..first + EACH).map(|seq| format!("<13>record {seq}")).collect();
    let messages: Vec<_> = (first..).zip(&texts).map(|(seq, text)| (seq, "192.0.2.1:514", text.as_bytes())).collect();
    encoded(Seq(first), &messages)
}

/// An archive, and where each of its items ends.
fn archive() -> (Vec<u8>, Vec<usize>) {
    archive_of(VERSION)
}

fn archive_of(version: u32) -> (Vec<u8>, Vec<usize>) {
    let streams: Vec<String> = vec!["syslog".to_owned(), "trap".to_owned()];
    let (since, until) = (None, None);
    let head = Head {
        version,
        id: "00".repeat(16),
        device: "arena".to_owned(),
        made_ns: UnixNanos(9),
        raven: "test".to_owned(),
        streams: streams.clone(),
        since,
        until,
    };
    let head = serde_json::to_vec(&head).unwrap();
    let (mut bytes, mut ends, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    let mut add = |kind, content: &[u8]| {
        bytes.extend_from_slice(&item(7, kind, content));
        ends.push(bytes.len());
        hex(digest::digest(&digest::SHA256, &bytes).as_ref())
    };
    add(Kind::Head, &head);
    let mut sha256 = add(Kind::Head, &head);
    for stream in &streams {
        let mut sum = ArchiveStream { stream: stream.clone(), ..ArchiveStream::default() };
        for n in 0..BLOCKS {
            let block = block(n);
            let first = Seq(1 + n * EACH);
            add_block(&mut sum, first, first.plus(EACH), (UnixNanos(first.0), UnixNanos(first.0 + 3)), block.len());
            sha256 = add(Kind::Block, &BlockItem { stream, context: &[], block: &block }.encode());
        }
        sums.push(sum);
    }
    add(Kind::End, &serde_json::to_vec(&End { streams: sums, sha256 }).unwrap());
    (bytes, ends)
}

/// What the store would be given, and the account.
fn read(bytes: &[u8], step: usize) -> anyhow::Result<(Vec<Piece>, ArchiveView)> {
    let (mut look, mut pieces) = (Look::new(), Vec::new());
    for part in bytes.chunks(step) {
        look.push(part);
        while let Some(seen) = look.next()? {
            pieces.push(seen.piece);
        }
    }
    look.end()?;
    Ok((pieces, look.view))
}

fn firsts(pieces: &[Piece]) -> Vec<(String, u64)> {
    pieces.iter().map(|piece| (piece.stream.clone(), piece.first.0)).collect()
}

#[test]
fn a_whole_archive_gives_every_block_as_it_was() {
    let (bytes, _) = archive();
    for step in [1, 999, bytes.len()] {
        let (pieces, view) = read(&bytes, step).unwrap();
        assert!(view.whole && view.problems.is_empty(), "{:?}", view.problems);
        assert_eq!((view.device.as_str(), view.bytes), ("arena", bytes.len() as u64));
        assert_eq!(pieces.len() as u64, 2 * BLOCKS);
        for (piece, n) in pieces.iter().zip((0..BLOCKS).cycle()) {
            let block = Block::decode(piece.first, &block(n)).unwrap();
            assert_eq!(piece.frames, block.bytes());
            assert_eq!((piece.first, piece.count, &piece.device), (block.first, block.count, &"arena".to_owned()));
            assert_eq!((piece.boot_id, &piece.listeners), (block.boot_id, &block.listeners));
        }
        let sum = &view.streams[1];
        assert_eq!((sum.stream.as_str(), sum.blocks, sum.records), ("trap", BLOCKS, BLOCKS * EACH));
        assert_eq!((sum.first_ns, sum.last_ns), (Some(UnixNanos(1)), Some(UnixNanos(BLOCKS * EACH))));
    }
}

#[test]
fn one_that_breaks_off_gives_its_whole_blocks_and_says_so() {
    let (bytes, ends) = archive();
    let (all, _) = read(&bytes, 4096).unwrap();
    for cut in 0..bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let read = read(&bytes[..cut], 4096);
        if whole == 0 {
            assert!(read.unwrap_err().to_string().contains("no archive"), "cut at {cut}");
            continue;
        }
        let (pieces, view) = read.unwrap();
        assert_eq!(pieces, all[..whole.saturating_sub(2)], "cut at {cut}");
        assert!(!view.whole && view.problems.iter().any(|what| what.contains("breaks off")), "{:?}", view.problems);
    }
}

#[test]
fn what_could_not_be_exported_is_told_to_who_imports() {
    let (mut bytes, ends) = archive();
    bytes.truncate(ends[3]);
    let gap = Gap { stream: "syslog".to_owned(), first: Seq(9), next: Seq(13), why: "rotten".to_owned() };
    bytes.extend(item(7, Kind::Gap, &serde_json::to_vec(&gap).unwrap()));
    let (_, view) = read(&bytes, 4096).unwrap();
    assert_eq!(view.streams[0].missing, 4);
    assert!(view.problems[0].contains("records 9 to 12 could not be exported: rotten"), "{:?}", view.problems);
}

#[test]
fn a_newer_archive_and_what_is_none_are_refused_in_words() {
    let error = |bytes: &[u8]| read(bytes, 4096).unwrap_err().to_string();
    assert!(error(&archive_of(VERSION + 1).0).contains("a newer Raven made it"));
    assert!(error(b"").contains("no archive"));
    assert!(error(&vec![b'R'; 3 << 20]).contains("no archive"));
    let mut newer = block(0);
    newer[4] = 99;
    let crc = crc32c::crc32c(&newer[..76]);
    newer[76..80].copy_from_slice(&crc.to_le_bytes());
    let (bytes, ends) = archive();
    let item = item(7, Kind::Block, &BlockItem { stream: "syslog", context: &[], block: &newer }.encode());
    assert!(error(&[&bytes[..ends[1]], &item].concat()).contains("a newer Raven made it"));
}

#[test]
fn an_archive_that_was_put_together_anew_is_noticed() {
    let (bytes, ends) = archive();
    // A block taken out, with all checksums right.
    let altered = [&bytes[..ends[3]], &bytes[ends[4]..]].concat();
    let (pieces, view) = read(&altered, 4096).unwrap();
    assert!(!view.whole && view.problems[0].contains("4 of the 20 records"), "{:?}", view.problems);
    assert_eq!(pieces.len() as u64, 2 * BLOCKS - 1);
    // Two changed places.
    let swapped = [&bytes[..ends[2]], &bytes[ends[3]..ends[4]], &bytes[ends[2]..ends[3]], &bytes[ends[4]..]].concat();
    let (_, view) = read(&swapped, 4096).unwrap();
    assert!(!view.whole && view.problems[0].contains("it was altered"), "{:?}", view.problems);
}

#[test]
fn only_records_of_other_streams_than_flow_are_taken() {
    let (mut run, mut frame) = (Vec::new(), vec![0; 200]);
    for (received, raw) in [
        (Received::context(UnixNanos(1)), &b"\x06\0memoryvalue"[..]),
        (Received::new("192.0.2.1:0".parse().unwrap(), 1, UnixNanos(2)), b"alert"),
    ] {
        let n = write_frame(&mut frame, &received, raw).unwrap();
        run.extend_from_slice(&frame[..n]);
    }
    let left = super::look::records_of(&run);
    let raws: Vec<_> = Frames::new(&left).map(|frame| frame.unwrap().raw.to_vec()).collect();
    assert_eq!(raws, [b"alert".to_vec()]);
}

proptest! {
    #[test]
    fn a_changed_bit_is_named_and_costs_its_block_at_most(at: prop::sample::Index, bit in 0..8) {
        let (mut bytes, _) = archive();
        let (all, _) = read(&bytes, 4096).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let (pieces, view) = read(&bytes, 4096).unwrap();
        prop_assert!(!view.whole || pieces.len() == all.len());
        prop_assert!(pieces.len() + 1 >= all.len());
        prop_assert!(firsts(&pieces).iter().all(|first| firsts(&all).contains(first)));
        prop_assert!(pieces.iter().all(|piece| all.contains(piece)), "what is read is as it was");
        if pieces.len() < all.len() {
            prop_assert!(view.problems.iter().any(|what| what.contains("do not read")), "{:?}", view.problems);
        }
        // One of the two heads may be lost without harm, but not without a word.
        prop_assert!(!view.whole);
    }

    #[test]
    fn any_bytes_are_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..4_usize) {
        let kind = [Kind::Head, Kind::Block, Kind::Gap, Kind::End][kind];
        let (archive, ends) = archive();
        let _ = read(&bytes, 64);
        let _ = read(&[&archive[..ends[1]], &item(7, kind, &bytes)].concat(), 64);
    }
}
