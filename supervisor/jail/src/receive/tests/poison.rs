//! Bytes over which collectors die: looked at twice, then kept as they are. What stands beside them is not blamed.

use super::support::{End, Lines, Memory, Store, die, in_child};
use crate::receive::crash::test::at_each_point;
use crate::receive::{Blind, CollectorMemory, Framing, Taken};
use crate::socket;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

/// A framing with a fault.
struct Faulty;

impl Framing for Faulty {
    fn take(&self, mode: &mut u64, bytes: &[u8], end: bool, emit: &mut dyn FnMut(&[u8], bool) -> bool) -> usize {
        if bytes.contains(&b'!') {
            die();
        }
        Lines.take(mode, bytes, end, emit)
    }
}

/// A look at datagrams with a fault in it: dies over the slots named.
fn die_over(slots: &'static [usize]) {
    at_each_point(move |name, slot| {
        if name == "slots: framing" && slots.contains(&slot) {
            die();
        }
    });
}

struct Scene {
    memory: Memory,
    store: Store,
    udp: OwnedFd,
    sender: UdpSocket,
}

impl Scene {
    fn new() -> Self {
        let memory = Memory::new();
        let store = memory.store();
        let (udp, _) = socket::udp("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(socket::local_addr(udp.as_fd()).unwrap()).unwrap();
        Self { memory, store, udp, sender }
    }

    fn send(&self, n: usize) {
        for n in 0..n {
            self.sender.send(format!("datagram {n}").as_bytes()).unwrap();
        }
    }

    fn receives_over(&self, slots: &'static [usize]) -> End {
        in_child(|| {
            die_over(slots);
            let mut collector = self.memory.collector();
            assert!(matches!(
                collector.receive(self.udp.as_fd(), 4, &mut Blind).unwrap(),
                Taken::Some(_) | Taken::Nothing
            ));
        })
    }

    /// Numbers of the records that were not looked at.
    fn unparsed(&self) -> Vec<usize> {
        (0..self.store.kept.len()).filter(|&n| self.store.kept[n].unparsed).collect()
    }
}

#[test]
fn a_datagram_that_kills_twice_is_kept_unparsed_and_its_neighbours_as_ever() {
    let mut scene = Scene::new();
    scene.send(8);
    assert_eq!(scene.receives_over(&[3]), End::Died);
    assert_eq!(scene.receives_over(&[3]), End::Died);
    assert_eq!(scene.receives_over(&[3]), End::Finished);
    scene.store.take_and_commit();
    assert_eq!(scene.store.texts(), (0..8).map(|n| format!("datagram {n}")).collect::<Vec<_>>());
    assert_eq!(scene.unparsed(), [3]);
    assert!(scene.store.kept.iter().all(|kept| kept.source == scene.sender.local_addr().unwrap()));
    assert_eq!(scene.memory.collector().unparsed(), 1);
}

#[test]
fn two_datagrams_that_kill_in_turn_are_both_kept() {
    let mut scene = Scene::new();
    scene.send(8);
    for _ in 0..4 {
        assert_eq!(scene.receives_over(&[2, 6]), End::Died);
    }
    assert_eq!(scene.receives_over(&[2, 6]), End::Finished);
    scene.store.take_and_commit();
    assert_eq!((scene.store.kept.len(), scene.unparsed()), (8, vec![2, 6]));
}

#[test]
fn a_slot_is_not_blamed_for_what_was_in_it_before() {
    let mut scene = Scene::new();
    scene.send(4);
    assert_eq!(scene.receives_over(&[1]), End::Died);
    assert_eq!(scene.receives_over(&[]), End::Finished);
    scene.send(4);
    assert_eq!(scene.receives_over(&[1]), End::Died);
    assert_eq!(scene.receives_over(&[]), End::Finished);
    scene.store.take_and_commit();
    assert_eq!((scene.store.kept.len(), scene.unparsed()), (8, vec![]));
}

fn streams() -> Vec<(TcpStream, OwnedFd)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = |_| {
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0.into())
    };
    (0..3).map(pair).collect()
}

fn reads_all(memory: &Memory, streams: &[(TcpStream, OwnedFd)]) -> End {
    in_child(|| {
        let mut collector: CollectorMemory = memory.collector();
        for (slot, (ours, theirs)) in (0..).zip(streams) {
            collector.adopt(slot, 50 + u32::from(slot));
            let peer: SocketAddr = ours.local_addr().unwrap();
            while matches!(collector.read(slot, theirs.as_fd(), 1, peer, &Faulty, &mut Blind), Ok(Taken::Some(_))) {}
        }
        collector.hand_over();
    })
}

#[test]
fn a_stream_that_kills_twice_is_kept_unparsed_and_others_as_ever() {
    let memory = Memory::new();
    let mut store = memory.store();
    let mut streams = streams();
    let poison = [&b"before\n"[..], &vec![b'p'; 100_000], b"!\nbehi"].concat();
    streams[0].0.write_all(b"left one\nleft ").unwrap();
    streams[1].0.write_all(&poison).unwrap();
    streams[2].0.write_all(b"right\n").unwrap();
    assert_eq!(reads_all(&memory, &streams), End::Died);
    assert_eq!(reads_all(&memory, &streams), End::Died);
    assert_eq!(reads_all(&memory, &streams), End::Finished);
    streams[0].0.write_all(b"two\n").unwrap();
    streams[1].0.write_all(b"nd\nhealthy again\n").unwrap();
    assert_eq!(reads_all(&memory, &streams), End::Finished);
    store.take_and_commit();
    let of = |n: usize| {
        let source = streams[n].0.local_addr().unwrap();
        store.kept.iter().filter(move |kept| kept.source == source)
    };
    let whole = |n: usize| {
        let parsed = of(n).filter(|kept| !kept.unparsed);
        parsed.map(|kept| String::from_utf8_lossy(&kept.raw).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(whole(0), ["left one", "left two"]);
    assert_eq!(whole(1), ["nd", "healthy again"]);
    assert_eq!(whole(2), ["right"]);
    let unparsed: Vec<_> = of(1).filter(|kept| kept.unparsed).collect();
    assert_eq!(unparsed.iter().flat_map(|kept| kept.raw.clone()).collect::<Vec<_>>(), poison);
    assert_eq!(unparsed.iter().map(|kept| kept.piece).collect::<Vec<_>>(), [true, false]);
    assert_eq!(memory.collector().unparsed(), 2);
}
