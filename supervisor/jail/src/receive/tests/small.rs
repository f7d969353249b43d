//! The memory of a role that appends a record now and then stays small, and is a receive memory like the others.

use super::support::{Memory, Store};
use crate::receive::{Arrived, Blind, CollectorMemory};
use raven_model::units::UnixNanos;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

const MIB: u64 = 1 << 20;

fn small(memory: &Memory) -> CollectorMemory {
    CollectorMemory::open_small(&memory.memory, &memory.words, 7, &mut Blind).unwrap().0
}

/// Bytes that the memory really takes.
fn taken(memory: &Memory) -> u64 {
    File::from(memory.memory.try_clone().unwrap()).metadata().unwrap().blocks() * 512
}

fn append(collector: &mut CollectorMemory, text: &str) {
    let source = "127.0.0.1:0".parse().unwrap();
    let arrived = Arrived { source, listener: 0, wall: UnixNanos(1), raw: text.as_bytes() };
    assert!(collector.append(&arrived, &mut Blind).is_some());
    assert!(collector.hand_over());
}

fn say(collector: &mut CollectorMemory, store: &mut Store, n: usize) {
    collector.rewind().unwrap();
    append(collector, &format!("{n} {}", "x".repeat(6000)));
    store.take_and_commit();
}

#[test]
fn a_small_memory_stays_small_however_many_records_it_has_seen() {
    let memory = Memory::new();
    let (mut collector, mut store) = (small(&memory), memory.store());
    for n in 0..2000 {
        say(&mut collector, &mut store, n);
    }
    assert_eq!(store.kept.len(), 2000);
    assert!(taken(&memory) < MIB / 2, "{} bytes", taken(&memory));
    drop(memory.collector());
    assert!(taken(&memory) > 3 * MIB / 2, "the hot path's is taken ahead");
}

#[test]
fn what_an_outage_of_the_store_made_it_grow_to_is_given_back() {
    let memory = Memory::new();
    let (mut collector, mut store) = (small(&memory), memory.store());
    for n in 0..500 {
        collector.rewind().unwrap();
        append(&mut collector, &format!("{n} {}", "x".repeat(6000)));
    }
    assert!(taken(&memory) > 2 * MIB);
    store.take_and_commit();
    assert_eq!(store.kept.len(), 500);
    say(&mut collector, &mut store, 500);
    assert!(taken(&memory) < MIB, "{} bytes", taken(&memory));
    assert!(store.texts()[500].starts_with("500 "));
}

#[test]
fn a_successor_goes_on_behind_what_is_not_durable_whichever_way_it_opens_the_memory() {
    let memory = Memory::new();
    let mut store = memory.store();
    append(&mut small(&memory), "one");
    let mut second = small(&memory);
    second.rewind().unwrap();
    append(&mut second, "two");
    drop(second);
    append(&mut memory.collector(), "three");
    append(&mut small(&memory), "four");
    store.take_and_commit();
    assert_eq!(store.texts(), ["one", "two", "three", "four"]);
}
