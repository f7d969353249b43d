//! A collector that was taken over writes what it likes. Neither the store nor the next collector falls over it.

use super::support::{Lines, Memory};
use crate::memory::Mapping;
use crate::receive::layout::{
    BATCH_MAX, CONNECTION_HEADS_AT, CONTROLS_AT, DEATHS_AT, DESCRIPTORS, DESCRIPTORS_AT, HEADS_AT, MAGIC, MEMORY_SIZE,
    NAMES_AT, RING, descriptor_at, head, word,
};
use crate::receive::{BatchError, Blind, CollectorMemory, StoreMemory, Taken};
use crate::socket;
use proptest::prelude::*;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

/// What a liar writes: small numbers, large ones, nearly right ones.
fn lies() -> impl Strategy<Value = u64> {
    let halves = prop_oneof![
        Just(0_u64),
        Just(1),
        Just(u64::from(u32::MAX)),
        0..300_u64,
        Just(RING as u64),
        Just(RING as u64 - 1),
        Just(BATCH_MAX as u64 + 1),
        0..RING as u64,
    ];
    prop_oneof![
        any::<u64>(),
        (halves.clone(), halves).prop_map(|(low, high)| low | high << 32),
        Just(u64::MAX),
        Just(u64::MAX - 7),
        Just(1 << 63),
        Just(DESCRIPTORS),
        Just(u64::MAX - 15),
        (0..64_u64).prop_map(|n| n),
        Just(2 << 32),
        Just((1 << 32) + 255),
        Just((1 << 32) + 256),
    ]
}

/// Words anywhere that a collector keeps state.
fn places() -> impl Strategy<Value = usize> {
    let in_area = |at: usize, words: usize| (0..words).prop_map(move |n| at + n * 8);
    prop_oneof![
        4 => in_area(head::EPOCH, 8),
        2 => in_area(DESCRIPTORS_AT, 64),
        2 => in_area(HEADS_AT, 128),
        1 => in_area(NAMES_AT, 64),
        2 => in_area(CONTROLS_AT, 128),
        1 => in_area(DEATHS_AT, 16),
        4 => in_area(CONNECTION_HEADS_AT, 96),
    ]
}

/// A memory that was used, then written over.
fn spoilt(lies: &[(usize, u64)], durable: u64) -> Memory {
    let memory = Memory::new();
    drop(memory.collector());
    let map = Mapping::shared(&memory.memory, MEMORY_SIZE).unwrap();
    for &(at, lie) in lies {
        word(&map, at).store(lie, Relaxed);
    }
    word(&map, head::MAGIC).store(MAGIC, Relaxed);
    StoreMemory::open(&memory.memory, &memory.words).unwrap().set_durable(durable);
    memory
}

/// The store skips what is no batch, as it does in earnest.
fn catch_up(store: &StoreMemory, kept: &mut Vec<u8>) {
    let mut out = Vec::new();
    for number in store.durable() + 1..=store.published() {
        if store.take(number, &mut out).is_ok() {
            kept.extend_from_slice(&out);
        }
        assert!(out.len() <= BATCH_MAX && out.capacity() <= 2 * BATCH_MAX);
    }
    store.set_durable(store.published().max(store.durable()));
}

#[test]
fn a_batch_lies_in_the_ring_and_is_no_longer_than_full_slots() {
    let take = |at: usize, len: usize| {
        let memory = spoilt(&[(descriptor_at(1), 1), (descriptor_at(1) + 8, at as u64 | (len as u64) << 32)], 0);
        let store = StoreMemory::open(&memory.memory, &memory.words).unwrap();
        store.take(1, &mut Vec::new()).map(|batch| batch.len)
    };
    let memory = spoilt(&[(descriptor_at(1), 1 + DESCRIPTORS)], 0);
    let store = StoreMemory::open(&memory.memory, &memory.words).unwrap();
    let used_again = BatchError::Number { expected: 1, found: 1 + DESCRIPTORS };
    assert_eq!(store.take(1, &mut Vec::new()), Err(used_again));
    assert_eq!(take(0, BATCH_MAX), Ok(BATCH_MAX));
    assert_eq!(take(RING - 10, 10), Ok(10));
    for (at, len) in [(0, BATCH_MAX + 1), (RING - 10, 11), (RING, 1), (u32::MAX as usize, u32::MAX as usize)] {
        assert!(take(at, len).is_err(), "{at}+{len}");
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_reads_nothing_outside_the_ring_and_takes_no_more_memory_than_a_batch_has(
        lies in prop::collection::vec((places(), lies()), 1..60), numbers in prop::collection::vec(lies(), 1..20), durable in 0..100_u64,
    ) {
        let memory = spoilt(&lies, durable);
        let store = StoreMemory::open(&memory.memory, &memory.words).unwrap();
        let _ = (store.epoch(), store.taken_all());
        prop_assert!(store.published() <= durable + DESCRIPTORS);
        let mut out = Vec::new();
        for number in numbers.into_iter().chain(durable..durable + 80) {
            match store.take(number, &mut out) {
                Ok(batch) => prop_assert_eq!((batch.number, batch.len), (number, out.len())),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
            prop_assert!(out.len() <= BATCH_MAX && out.capacity() <= 2 * BATCH_MAX);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_next_collector_is_at_work_again_whatever_it_finds(
        lies in prop::collection::vec((places(), lies()), 1..60), durable in prop_oneof![Just(0_u64), 0..100_u64, Just(u64::MAX)],
    ) {
        let memory = spoilt(&lies, durable);
        let (socket, _) = socket::udp("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        from.send_to(b"a good datagram", socket::local_addr(socket.as_fd()).unwrap()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let peer = client.local_addr().unwrap();
        client.write_all(b"a good line\n").unwrap();
        drop(client);
        let stream = listener.accept().unwrap().0;
        let (mut collector, _) = CollectorMemory::open(&memory.memory, &memory.words, 7, &mut Blind).unwrap();
        let store = StoreMemory::open(&memory.memory, &memory.words).unwrap();
        // A place that the liar has not said is this connection's own.
        collector.adopt(0, 0xdead_beef);
        let (mut kept, mut ended) = (Vec::new(), false);
        for _ in 0..50 {
            let _ = collector.receive(socket.as_fd(), 1, &mut Blind).unwrap();
            if !ended {
                ended = collector.read(0, stream.as_fd(), 1, peer, &Lines, &mut Blind).unwrap() == Taken::End;
            }
            collector.hand_over();
            let _ = collector.wants_waking();
            if durable != u64::MAX {
                catch_up(&store, &mut kept);
            }
        }
        collector.shrink().unwrap();
        if durable != u64::MAX {
            prop_assert!(ended && contains(&kept, b"a good datagram") && contains(&kept, b"a good line"));
        }
    }
}
