//! A ring whose writer says what it promises, and what holds the ring against it.

use super::process::told;
use super::{Batch, MIB, START_NS, mark, options, read_all, reopen};
use raven_buffer::verify::verify;
use raven_buffer::{Piece, RingWriter, Took, Why};
use raven_model::units::{Seq, UnixNanos};
use std::collections::BTreeMap;
use std::path::Path;

/// Records of a batch.
const RECORDS: u64 = 10;

/// Small segments and a small ring, so that many are begun, sealed and evicted.
pub const SEGMENT: u64 = MIB / 4;
pub const QUOTA: u64 = 2 * MIB;

/// Batch number n holds records 10 n + 1 to 10 n + 10, and knows a context of the same number.
pub fn batch(n: u64) -> Batch {
    let mut records = Batch::default();
    records.context(n, b"key", &n.to_le_bytes());
    records.extend(&Batch::noisy(n * RECORDS + 1, RECORDS as u32, 400));
    records
}

/// True of each fourth batch: another box received it.
pub const fn is_of_another_box(n: u64) -> bool {
    n % 4 == 3
}

/// The batch as a piece of another box. There they follow one another.
fn piece(n: u64, frames: Vec<u8>) -> Piece {
    let wall = |i: u64| UnixNanos(START_NS + (n * RECORDS + i) * 1_000_000);
    Piece {
        stream: "syslog".to_owned(),
        device: "arena".to_owned(),
        first: Seq(n / 4 * RECORDS + 1),
        count: RECORDS as u32,
        first_wall: wall(1),
        last_wall: wall(RECORDS),
        boot_id: [9; 16],
        mono_offset_ns: 77,
        listeners: BTreeMap::from([(1, "udp:[::]:9999".to_owned())]),
        frames,
    }
}

/// Takes a batch into memory, as a piece where it is one.
pub fn put(writer: &mut RingWriter, n: u64) {
    let records = batch(n);
    if is_of_another_box(n) {
        assert_eq!(writer.import(&piece(n, records.bytes)), Ok(Took::Stored), "batch {n}");
    } else {
        writer.append(&records.bytes, records.count, 5).unwrap();
    }
}

/// Pieces of which it is not known rightly whether they are here.
pub fn mistaken(writer: &mut RingWriter, stored: u64) -> Vec<String> {
    let pieces = (0..stored + 8).filter(|n| is_of_another_box(*n));
    let flaw = |n| {
        let right = if n < stored { Took::Here } else { Took::New };
        let took = writer.import(&piece(n, Vec::new()));
        (took != Ok(right)).then(|| format!("batch {n} of {stored}, of another box: {took:?}"))
    };
    pieces.filter_map(flaw).collect()
}

/// Opens a ring, holds it against what was promised (`ack` batches stored, records below `evict` perhaps gone,
/// `contexts` saved), goes on, and says `sound` or what is wrong.
pub fn verdict(ring: &Path) -> String {
    let (mut writer, recovery) = match reopen(ring, &options(QUOTA, SEGMENT)) {
        Ok(opened) => opened,
        Err(error) => return format!("it does not open: {error}"),
    };
    let mut flaws = recovery.notes;
    flaws.extend(lost(&writer, ring));
    let stored = writer.mark().map_or(0, |mark| mark.batch);
    if writer.next_seq().0 != stored * RECORDS + 1 {
        flaws.push(format!("the mark says {stored} batches, the next seq is {}", writer.next_seq()));
    }
    let context = writer.contexts().in_force(b"key").map(|value| u64::from_le_bytes(value.try_into().unwrap()));
    // A stranger's is none of ours.
    let saved = (0..told("contexts")).rev().find(|n| !is_of_another_box(*n));
    if context < saved || context.is_some_and(is_of_another_box) {
        flaws.push(format!("context {context:?} is older than what was saved"));
    }
    flaws.extend(mistaken(&mut writer, stored));
    // It goes on, and the whole adds up.
    put(&mut writer, stored);
    if let Err(error) = writer.commit(mark(stored + 1)) {
        flaws.push(error.to_string());
    }
    drop(writer);
    flaws.extend(verify(ring, "syslog", |_| {}).unwrap().problems);
    if flaws.is_empty() { "sound".to_owned() } else { flaws.join("; ") }
}

/// Acknowledged records that are not there byte for byte, and evicted ones whose eviction was not announced.
fn lost(writer: &RingWriter, ring: &Path) -> Vec<String> {
    let (acked, evicted) = (told("ack") * RECORDS, told("evict"));
    let mut flaws = Vec::new();
    let (mut expected, mut of_batch) = (Vec::new(), None);
    let mut next = writer.first_seq();
    let gaps = read_all(writer, ring, |seq, _, raw| {
        let number = (seq.0 - 1) / RECORDS;
        if of_batch != Some(number) {
            (of_batch, expected) = (Some(number), raws(number));
        }
        if raw != expected[((seq.0 - 1) % RECORDS) as usize] {
            flaws.push(format!("record {seq} has other bytes"));
        }
        if seq < next {
            flaws.push(format!("record {seq} is there twice"));
        }
        next = seq.plus(1);
    });
    flaws.extend(gaps.iter().map(|(from, to)| format!("records {from} to {to} cannot be read")));
    if writer.next_seq().0 <= acked {
        flaws.push(format!("{acked} records were acknowledged, it ends before {}", writer.next_seq()));
    }
    if writer.first_seq().0 > evicted.max(1) {
        flaws.push(format!("it begins at {}, only those before {evicted} were to be evicted", writer.first_seq()));
    }
    let others = writer.ledger().losses.iter().filter(|loss| loss.why != Why::Space);
    flaws.extend(others.map(|loss| format!("counted as lost: {loss:?}")));
    flaws
}

fn raws(number: u64) -> Vec<Vec<u8>> {
    let batch = batch(number);
    let frames = raven_model::record::Frames::new(&batch.bytes).map(Result::unwrap);
    frames.filter(|frame| frame.received.is_record()).map(|frame| frame.raw.to_vec()).collect()
}
