//! The ring against a model: whatever the order of events, no byte is written over before it is durable.

use super::support::Memory;
use crate::receive::layout::RING_AT;
use crate::receive::layout::{BATCH_MAX, DESCRIPTORS, RING};
use crate::receive::ring::Room;
use crate::receive::time::now;
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Debug, Clone)]
enum Event {
    /// A batch of so many bytes is placed, and of that much is used.
    Publish { room: usize, used: usize },
    /// So many batches become durable.
    Durable(usize),
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1..70_000_usize, 4 => 300_000..600_000_usize, 1 => 1_000_000..BATCH_MAX + 1]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let publish = sizes().prop_flat_map(|room| (1..=room).prop_map(move |used| Event::Publish { room, used }));
    let event = prop_oneof![3 => publish, 1 => (1..40_usize).prop_map(Event::Durable)];
    prop::collection::vec(event, 1..400)
}

#[test]
fn a_ring_is_full_one_byte_before_the_tail() {
    let room = Room { published: 9, durable: 3, head: 1_000, tail: 2_000, peak: 0 };
    assert_eq!((room.place(999), room.place(1_000), room.place(1_001)), (Some(1_000), None, None));
    let room = Room { head: RING - 500, tail: 1_000, ..room };
    assert_eq!((room.place(500), room.place(999), room.place(1_000)), (Some(RING - 500), Some(0), None));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_never_lies_on_one_that_is_not_durable(events in events()) {
        let mut room = Room { published: 0, durable: 0, head: 0, tail: 0, peak: 0 };
        let mut live: VecDeque<(usize, usize)> = VecDeque::new();
        for event in events {
            room.tail = live.front().map_or(0, |batch| batch.0);
            match event {
                Event::Publish { room: need, used } => match room.place(need) {
                    Some(at) => {
                        prop_assert!(at + need <= RING);
                        prop_assert!(live.iter().all(|&(from, to)| at + need <= from || to <= at), "{at}+{need} on {live:?}");
                        live.push_back((at, at + used));
                        (room.head, room.published) = (at + used, room.published + 1);
                    }
                    None => prop_assert!(!live.is_empty(), "an empty ring has room for every batch"),
                },
                Event::Durable(n) => {
                    let n = n.min(live.len());
                    live.drain(..n);
                    room.durable += n as u64;
                }
            }
        }
    }

    #[test]
    fn a_store_that_keeps_up_a_little_always_finds_room_again(needs in prop::collection::vec(sizes(), 1..300), kept in 0..8_usize) {
        let mut room = Room { published: 0, durable: 0, head: 0, tail: 0, peak: 0 };
        let mut live: VecDeque<usize> = VecDeque::new();
        for need in needs.into_iter().map(|need| need.min(600_000)) {
            room.tail = live.front().copied().unwrap_or(0);
            let at = room.place(need);
            prop_assert!(at.is_some(), "no room for {need} with {} batches kept: {room:?}", live.len());
            let at = at.unwrap();
            live.push_back(at);
            (room.head, room.published) = (at + need, room.published + 1);
            while live.len() > kept {
                live.pop_front();
                room.durable += 1;
            }
        }
    }

    #[test]
    fn lies_in_the_words_give_no_place_outside_the_ring(
        durable in 0..u64::MAX >> 1,
        ahead in 0..DESCRIPTORS * 2,
        head in prop_oneof![any::<usize>(), 0..2 * RING],
        tail in prop_oneof![any::<usize>(), 0..2 * RING],
        need in prop_oneof![any::<usize>(), 0..2 * BATCH_MAX],
    ) {
        let room = Room { published: durable + ahead, durable, head, tail, peak: 0 };
        if let Some(at) = room.place(need) {
            prop_assert!(need <= BATCH_MAX && at + need <= RING);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_batch_reads_as_it_was_written_however_late(
        steps in prop::collection::vec((sizes(), 0..4_u8, 0..6_u64), 1..80),
    ) {
        let memory = Memory::new();
        let (mut collector, store) = (memory.collector(), memory.store().memory);
        let mut written: VecDeque<(u64, u8, usize)> = VecDeque::new();
        let mut out = Vec::new();
        for (n, (len, what, more)) in (0_u8..).cycle().zip(steps) {
            if let Some(at) = collector.place(len) {
                collector.map.slice_mut(RING_AT + at..RING_AT + at + len).fill(n);
                collector.publish(at, len, u32::from(n), now());
                written.push_back((collector.published(), n, len));
            }
            if what == 0 {
                // The store dies: nothing is durable that was not, and all of it is read again.
                for &(number, fill, len) in &written {
                    let batch = store.take(number, &mut out).unwrap();
                    prop_assert_eq!((batch.count, batch.len), (u32::from(fill), len));
                    prop_assert!(out == vec![fill; len], "batch {} has changed", number);
                }
            } else if what == 1 {
                collector = memory.collector();
            }
            for _ in 0..more.min(written.len() as u64) {
                let (number, fill, len) = written.pop_front().unwrap();
                store.take(number, &mut out).unwrap();
                prop_assert!(out == vec![fill; len], "batch {} has changed", number);
                store.set_durable(number);
            }
        }
    }
}
