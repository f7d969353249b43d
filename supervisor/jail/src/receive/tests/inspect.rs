//! Messages are looked at: context, verdicts, the snapshot, and what others than datagrams and plain streams bring.

use super::support::{Memory, Store, Watch};
use crate::receive::{Arrived, CollectorMemory, Inspect, SNAPSHOT_MAX, Taken};
use crate::socket;
use raven_model::record::{Context, Frames, RAW_MAX, Received};
use raven_model::units::UnixNanos;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};

fn sent(messages: &[&[u8]]) -> OwnedFd {
    let (to, _) = socket::udp("127.0.0.1:0".parse().unwrap(), 32 << 20).unwrap();
    let from = UdpSocket::bind("127.0.0.1:0").unwrap();
    for message in messages {
        from.send_to(message, socket::local_addr(to.as_fd()).unwrap()).unwrap();
    }
    to
}

fn watched(memory: &Memory) -> Store {
    let mut store = memory.store();
    store.watched = true;
    store
}

/// Sends until datagrams wait in the slots for room in the ring; returns how many were sent.
fn fill(collector: &mut CollectorMemory, watch: &mut Watch, long: &[u8]) -> usize {
    for round in 1..200 {
        let socket = sent(&[long; 20]);
        collector.receive(socket.as_fd(), 1, watch).unwrap();
        if collector.pending() > 0 {
            return round * 20;
        }
    }
    panic!("the ring is never full");
}

#[test]
fn context_stands_before_what_needs_it_and_verdicts_are_kept() {
    let memory = Memory::new();
    let (mut watch, mut store) = (Watch::default(), watched(&memory));
    let mut collector = memory.watched(&mut watch);
    let socket = sent(&[b"one", b"refuse this", b"drop this", b"fourth"]);
    assert_eq!(collector.receive(socket.as_fd(), 1, &mut watch).unwrap(), Taken::Some(4));
    store.take_and_commit();
    assert_eq!(store.texts(), ["one", "refuse this", "fourth"]);
    assert_eq!(store.kept.iter().map(|kept| kept.refused).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!((collector.dropped(3), collector.dropped(2), watch.looks), (1, 0, 4));
}

#[test]
fn a_batch_of_which_nothing_is_kept_is_none() {
    let memory = Memory::new();
    let mut watch = Watch::default();
    let mut collector = memory.watched(&mut watch);
    // The first of a batch brings context.
    for _ in 0..2 {
        let socket = sent(&[b"drop"]);
        collector.receive(socket.as_fd(), 1, &mut watch).unwrap();
    }
    let mut store = memory.store();
    store.take_and_commit();
    assert_eq!((store.kept.len(), collector.dropped(3), collector.pending()), (0, 2, 0));
}

#[test]
fn datagrams_that_wait_for_room_are_looked_at_once() {
    let memory = Memory::new();
    let (mut watch, mut store) = (Watch::default(), watched(&memory));
    let mut collector = memory.watched(&mut watch);
    let long = vec![b'x'; 60_000];
    let sent_so_far = fill(&mut collector, &mut watch, &long);
    assert!(!collector.hand_over() && !collector.hand_over());
    assert_eq!(watch.looks, sent_so_far);
    store.take_and_commit();
    assert!(collector.hand_over());
    store.take_and_commit();
    assert_eq!((watch.looks, store.kept.len()), (sent_so_far, sent_so_far));
}

#[test]
fn what_a_dead_collector_left_is_looked_at_by_the_next() {
    let memory = Memory::new();
    let (mut watch, mut store) = (Watch::default(), watched(&memory));
    let mut collector = memory.watched(&mut watch);
    let long = vec![b'x'; 60_000];
    let all = fill(&mut collector, &mut watch, &long);
    let left = collector.pending();
    drop(collector);
    store.take_and_commit();
    let mut next = Watch::default();
    drop(memory.watched(&mut next));
    assert_eq!(next.looks, left);
    store.take_and_commit();
    assert_eq!(store.kept.len(), all);
}

#[test]
fn a_snapshot_reaches_the_collector_of_now_and_the_next() {
    let memory = Memory::new();
    let mut watch = Watch::default();
    let mut collector = memory.watched(&mut watch);
    let store = memory.store();
    collector.recall(&mut watch);
    assert!(watch.recalled.is_empty());
    for text in [&b"first"[..], b"second, longer", b"3rd"] {
        store.memory.set_snapshot(text);
        collector.recall(&mut watch);
        assert_eq!(watch.recalled, text);
    }
    watch.recalled.clear();
    collector.recall(&mut watch);
    assert!(watch.recalled.is_empty(), "told only when it has changed");
    drop(memory.watched(&mut watch));
    assert_eq!(watch.recalled, b"3rd");
    store.memory.set_snapshot(&vec![7; SNAPSHOT_MAX + 1]);
    collector.recall(&mut watch);
    assert_eq!(watch.recalled.len(), SNAPSHOT_MAX);
}

#[test]
fn context_reaches_the_store_without_a_message() {
    let memory = Memory::new();
    let mut collector = memory.collector();
    let store = memory.store().memory;
    let context = Context { key: b"own", value: b"kept" };
    let batch = collector.append_context(&context, UnixNanos(9)).unwrap();
    assert_eq!((batch, collector.published()), (1, 0), "it goes out with the next hand-over");
    assert!(collector.hand_over() && collector.published() == 1);
    let mut copy = Vec::new();
    assert_eq!(store.take(1, &mut copy).unwrap().count, 1);
    let frames: Vec<_> = Frames::new(&copy).collect::<Result<_, _>>().unwrap();
    assert_eq!((frames.len(), frames[0].received), (1, Received::context(UnixNanos(9))));
    assert_eq!(Context::read(frames[0].raw), Some(context));
    store.set_durable(1);
    assert!(collector.is_durable(batch));
    let long = vec![0; RAW_MAX];
    assert_eq!(collector.append_context(&Context { key: b"k", value: &long }, UnixNanos(9)), None);
    assert!(collector.hand_over() && collector.published() == 1, "nothing of it was framed");
}

#[test]
fn context_without_a_message_waits_for_room() {
    let memory = Memory::new();
    let (mut watch, mut store) = (Watch::default(), watched(&memory));
    let mut collector = memory.watched(&mut watch);
    fill(&mut collector, &mut watch, &vec![b'x'; 60_000]);
    let context = Context { key: b"own", value: b"kept" };
    assert_eq!(collector.append_context(&context, UnixNanos(9)), None);
    store.take_and_commit();
    assert!(collector.append_context(&context, UnixNanos(9)).is_some());
}

#[test]
fn what_comes_by_other_means_is_framed_and_awaited() {
    let memory = Memory::new();
    let (mut watch, mut store) = (Watch::default(), watched(&memory));
    let mut collector = memory.watched(&mut watch);
    let arrived = |raw| Arrived { source: "192.0.2.9:8084".parse().unwrap(), listener: 4, wall: UnixNanos(5), raw };
    let long = vec![b'y'; RAW_MAX + 10];
    let first = collector.append(&arrived(b"by HTTP"), &mut watch).unwrap();
    let last = collector.append(&arrived(&long), &mut watch).unwrap();
    assert!(!store.memory.is_awaited());
    assert!(collector.hand_over());
    collector.await_published();
    assert!(store.memory.is_awaited() && !collector.is_durable(first));
    store.take_and_commit();
    assert!(collector.is_durable(last) && !store.memory.is_awaited());
    let kept: Vec<_> = store.kept.iter().map(|kept| (kept.raw.len(), kept.piece, kept.wall)).collect();
    assert_eq!(kept, [(7, false, 5), (RAW_MAX, true, 5), (10, false, 5)]);
}

#[test]
fn without_room_nothing_more_is_taken_by_other_means() {
    let memory = Memory::new();
    let mut watch = Watch::default();
    let mut collector = memory.watched(&mut watch);
    let raw = vec![b'z'; 60_000];
    let arrived = Arrived { source: "192.0.2.9:1".parse().unwrap(), listener: 4, wall: UnixNanos(5), raw: &raw };
    let mut taken = 0;
    while collector.append(&arrived, &mut watch).is_some() {
        taken += 1;
    }
    assert!(watch.looks == taken && taken > 500, "{taken}");
    let mut store = watched(&memory);
    store.take_and_commit();
    assert!(collector.append(&arrived, &mut watch).is_some());
    watch.begin();
}
