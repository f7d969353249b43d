//! One collector, one store, nobody dies.

use super::support::{Lines, Memory, Store};
use crate::receive::layout::{DESCRIPTORS, RING, RING_FIRST, RING_SOFT, SLOTS};
use crate::receive::{Blind, CollectorMemory, Framing, Taken, Waiting, ends_socket};
use crate::socket;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

const PEER: &str = "192.0.2.9:6000";

fn bound(at: &str) -> (OwnedFd, SocketAddr) {
    let (socket, _) = socket::udp(at.parse().unwrap(), 16 << 20).unwrap();
    let addr = socket::local_addr(socket.as_fd()).unwrap();
    (socket, addr)
}

fn sender(to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket
}

fn stream_pair() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0.into())
}

/// Reads until `want` comes; the store takes and commits meanwhile.
fn read_until(collector: &mut CollectorMemory, store: &mut Store, from: &OwnedFd, framing: &dyn Framing, want: Taken) {
    let patience = Instant::now() + Duration::from_secs(10);
    while collector.read(0, from.as_fd(), 3, PEER.parse().unwrap(), framing, &mut Blind).unwrap() != want {
        assert!(Instant::now() < patience, "{want:?} did not come in 10 s");
        collector.hand_over();
        store.take_and_commit();
    }
    collector.hand_over();
    store.take_and_commit();
}

#[test]
fn every_datagram_comes_out_once_with_its_true_source_and_time() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (both, addr) = bound("[::]:0");
    let v4 = sender((Ipv4Addr::LOCALHOST, addr.port()).into());
    let v6 = sender(format!("[::1]:{}", addr.port()).parse().unwrap());
    let longest = vec![b'x'; 65_507];
    v4.send(b"<13>one").unwrap();
    v6.send(b"<13>two").unwrap();
    v4.send(b"").unwrap();
    v4.send(&longest).unwrap();
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    sleep(Duration::from_millis(20));
    assert_eq!(collector.receive(both.as_fd(), 5, &mut Blind).unwrap(), Taken::Some(4));
    assert_eq!(collector.receive(both.as_fd(), 5, &mut Blind).unwrap(), Taken::Nothing);
    store.take_and_commit();
    let raws: Vec<&[u8]> = store.kept.iter().map(|kept| &kept.raw[..]).collect();
    assert_eq!(raws, [b"<13>one", b"<13>two", &b""[..], &longest]);
    let sources: Vec<SocketAddr> = store.kept.iter().map(|kept| kept.source).collect();
    let (v4, v6) = (v4.local_addr().unwrap(), v6.local_addr().unwrap());
    assert_eq!(sources, [v4, v6, v4, v4]);
    assert!(store.kept.iter().all(|kept| kept.listener == 5 && !kept.unparsed && !kept.piece));
    assert!(store.kept.iter().all(|kept| kept.wall <= before), "the kernel's time, not that of framing");
    assert!(collector.is_drained());
}

#[test]
fn the_ring_goes_round_and_grows_while_the_store_is_behind() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (socket, addr) = bound("127.0.0.1:0");
    let from = sender(addr);
    let mut furthest = 0;
    for n in 0..3_000_u32 {
        from.send(&[n.to_le_bytes().repeat(15_000)].concat()).unwrap();
        assert_eq!(collector.receive(socket.as_fd(), 1, &mut Blind).unwrap(), Taken::Some(1), "datagram {n}");
        furthest = furthest.max(collector.head);
        store.take();
        // Further and further behind, up to 27 MiB, then all at once.
        store.commit(u64::from(n) % 450);
    }
    assert!(furthest > 16 << 20, "the ring grew to {furthest}");
    for (n, kept) in store.kept.iter().enumerate() {
        assert_eq!(kept.raw, (n as u32).to_le_bytes().repeat(15_000), "datagram {n}");
    }
    assert_eq!(store.kept.len(), 3_000);
}

#[test]
fn a_full_ring_is_said_and_loses_nothing() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (socket, addr) = bound("127.0.0.1:0");
    let from = sender(addr);
    let mut sent = 0_u32;
    loop {
        from.send(&sent.to_le_bytes().repeat(16_000)).unwrap();
        sent += 1;
        match collector.receive(socket.as_fd(), 1, &mut Blind).unwrap() {
            Taken::Full => break,
            taken => assert_eq!(taken, Taken::Some(1)),
        }
    }
    assert!(sent as usize > RING / 70_000, "full after {sent}");
    assert_eq!(collector.receive(socket.as_fd(), 1, &mut Blind).unwrap(), Taken::Full);
    assert!(collector.stalls() >= 2);
    store.take_and_commit();
    assert_eq!(collector.receive(socket.as_fd(), 1, &mut Blind).unwrap(), Taken::Some(1));
    store.take_and_commit();
    let numbers: Vec<u32> =
        store.kept.iter().map(|kept| u32::from_le_bytes(*kept.raw.first_chunk().unwrap())).collect();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
}

#[test]
fn without_a_free_descriptor_the_ring_is_full() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (socket, addr) = bound("127.0.0.1:0");
    let from = sender(addr);
    let mut sent = 0_u64;
    while collector.receive(socket.as_fd(), 1, &mut Blind).unwrap() != Taken::Full {
        from.send(&sent.to_le_bytes()).unwrap();
        sent += 1;
    }
    assert_eq!(collector.published(), DESCRIPTORS - 1);
    store.take();
    store.commit(DESCRIPTORS - 3);
    assert_eq!(collector.receive(socket.as_fd(), 1, &mut Blind).unwrap(), Taken::Some(1));
    store.take_and_commit();
    let numbers: Vec<u64> =
        store.kept.iter().map(|kept| u64::from_le_bytes(*kept.raw.first_chunk().unwrap())).collect();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
}

/// Leaves room for what is usual, but not for many long datagrams.
fn nearly_fill(collector: &mut CollectorMemory, socket: &OwnedFd, from: &UdpSocket) -> u32 {
    let mut sent = 0;
    while collector.head + (1 << 20) < RING {
        from.send(&vec![b'f'; 60_000]).unwrap();
        assert_eq!(collector.receive(socket.as_fd(), 1, &mut Blind).unwrap(), Taken::Some(1));
        sent += 1;
    }
    sent
}

#[test]
fn long_datagrams_without_room_wait_in_their_slots_and_outlive_the_collector() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (socket, addr) = bound("127.0.0.1:0");
    let from = sender(addr);
    let filled = nearly_fill(&mut collector, &socket, &from) as usize;
    for n in 0..20_u32 {
        from.send(&n.to_le_bytes().repeat(15_000)).unwrap();
    }
    assert_eq!(collector.receive(socket.as_fd(), 9, &mut Blind).unwrap(), Taken::Some(20));
    assert_eq!(collector.pending(), 20);
    assert!(!collector.hand_over() && !collector.is_drained());
    assert_eq!(collector.receive(socket.as_fd(), 1, &mut Blind).unwrap(), Taken::Full);
    // The next one is at work at once, full ring or not.
    let mut collector = memory.collector();
    assert_eq!((collector.pending(), collector.recovered()), (20, 20));
    assert!(!collector.hand_over());
    store.take_and_commit();
    assert!(collector.hand_over());
    assert_eq!(collector.pending(), 0);
    store.take_and_commit();
    assert_eq!(store.kept.len(), filled + 20);
    for (n, kept) in store.kept[filled..].iter().enumerate() {
        assert_eq!((kept.raw.clone(), kept.listener), ((n as u32).to_le_bytes().repeat(15_000), 9));
    }
}

#[test]
fn a_batch_of_connections_does_not_make_waiting_datagrams_look_published() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (socket, addr) = bound("127.0.0.1:0");
    let from = sender(addr);
    let filled = nearly_fill(&mut collector, &socket, &from) as usize;
    for _ in 0..20 {
        from.send(&vec![b'w'; 60_000]).unwrap();
    }
    collector.receive(socket.as_fd(), 1, &mut Blind).unwrap();
    let (mut client, stream) = stream_pair();
    client.write_all(b"a line\n").unwrap();
    collector.adopt(0, 1);
    let _ = collector.read(0, stream.as_fd(), 3, PEER.parse().unwrap(), &Lines, &mut Blind).unwrap();
    collector.hand_over();
    let mut collector = memory.collector();
    store.take_and_commit();
    collector.adopt(0, 1);
    read_until(&mut collector, &mut store, &stream, &Lines, Taken::Nothing);
    assert_eq!(store.kept.iter().filter(|kept| kept.raw[0] == b'w').count(), 20);
    assert_eq!(store.texts().iter().filter(|text| *text == "a line").count(), 1);
    assert_eq!(store.kept.len(), filled + 21);
}

#[test]
fn an_error_that_a_socket_reports_is_over_when_it_was_said() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (socket, addr) = bound("127.0.0.1:0");
    let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = elsewhere.local_addr().unwrap();
    drop(elsewhere);
    let ours = UdpSocket::from(socket);
    ours.connect(to).unwrap();
    ours.send(b"to nobody").unwrap();
    let socket = OwnedFd::from(ours);
    let error = collector.receive(socket.as_fd(), 1, &mut Blind).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(!ends_socket(&error));
    let back = UdpSocket::bind(to).unwrap();
    back.send_to(b"somebody after all", addr).unwrap();
    assert_eq!(collector.receive(socket.as_fd(), 1, &mut Blind).unwrap(), Taken::Some(1));
    store.take_and_commit();
    assert_eq!(store.texts(), ["somebody after all"]);
}

#[test]
fn a_descriptor_that_is_no_socket_ends_it() {
    let memory = Memory::new();
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(ends_socket(&memory.collector().receive(file.as_fd(), 1, &mut Blind).unwrap_err()));
}

#[test]
fn all_lines_of_a_stream_come_out_once_and_in_order_also_the_last_without_its_end() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (mut client, stream) = stream_pair();
    let lines: Vec<String> = (0..5_000).map(|n| format!("{n} {}", "y".repeat(n % 997))).collect();
    let text = lines.join("\n");
    let writer = std::thread::spawn(move || client.write_all(text.as_bytes()).unwrap());
    collector.adopt(0, 1);
    read_until(&mut collector, &mut store, &stream, &Lines, Taken::End);
    writer.join().unwrap();
    assert_eq!(store.texts(), lines);
    assert!(store.kept.iter().all(|kept| kept.source == PEER.parse().unwrap() && kept.listener == 3));
}

#[test]
fn what_came_before_a_reset_is_kept() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (mut client, stream) = stream_pair();
    client.write_all(b"one\ntwo\nthr").unwrap();
    let abort = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the kernel reads a linger.
    let set = unsafe {
        use std::os::fd::AsRawFd;
        let (value, len) = ((&raw const abort).cast(), size_of_val(&abort) as libc::socklen_t);
        libc::setsockopt(client.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, len)
    };
    assert_eq!(set, 0);
    drop(client);
    collector.adopt(0, 1);
    while !matches!(
        collector.read(0, stream.as_fd(), 3, PEER.parse().unwrap(), &Lines, &mut Blind),
        Ok(Taken::End) | Err(_)
    ) {}
    collector.hand_over();
    store.take_and_commit();
    assert_eq!(store.texts(), ["one", "two", "thr"]);
}

#[test]
fn a_stream_that_ends_while_the_ring_is_full_has_not_ended_before_all_is_framed() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (socket, addr) = bound("127.0.0.1:0");
    let from = sender(addr);
    let (mut client, stream) = stream_pair();
    client.write_all(b"first\nlast").unwrap();
    drop(client);
    collector.adopt(0, 1);
    let filled = nearly_fill(&mut collector, &socket, &from) as usize;
    while collector.place(512 << 10).is_some() {
        from.send(&vec![b'f'; 60_000]).unwrap();
        collector.receive(socket.as_fd(), 1, &mut Blind).unwrap();
    }
    assert_eq!(collector.read(0, stream.as_fd(), 3, PEER.parse().unwrap(), &Lines, &mut Blind).unwrap(), Taken::Full);
    read_until(&mut collector, &mut store, &stream, &Lines, Taken::End);
    assert!(store.kept.len() >= filled + 2);
    assert_eq!(store.texts()[store.kept.len() - 2..], ["first", "last"]);
}

/// Takes nothing, whatever comes.
struct Never;

impl Framing for Never {
    fn take(&self, _: &mut u64, _: &[u8], _: bool, _: &mut dyn FnMut(&[u8], bool) -> bool) -> usize {
        0
    }
}

#[test]
fn bytes_that_no_framing_takes_are_kept_in_pieces() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (mut client, stream) = stream_pair();
    let bytes: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || client.write_all(&sent).unwrap());
    collector.adopt(0, 1);
    read_until(&mut collector, &mut store, &stream, &Never, Taken::End);
    writer.join().unwrap();
    assert_eq!(store.kept.iter().flat_map(|kept| kept.raw.clone()).collect::<Vec<_>>(), bytes);
    assert!(store.kept.iter().all(|kept| kept.unparsed));
    assert!(!store.kept.last().unwrap().piece && store.kept[0].piece);
    assert_eq!(collector.unparsed(), store.kept.len() as u64);
}

/// Every message is longer than a record can be.
struct Endless;

impl Framing for Endless {
    fn take(&self, _: &mut u64, bytes: &[u8], _: bool, emit: &mut dyn FnMut(&[u8], bool) -> bool) -> usize {
        if bytes.len() > 65_536 && emit(bytes, false) { bytes.len() } else { 0 }
    }
}

#[test]
fn a_message_longer_than_a_record_can_be_is_kept_in_pieces() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (mut client, stream) = stream_pair();
    let writer = std::thread::spawn(move || client.write_all(&vec![b'e'; 100_000]).unwrap());
    collector.adopt(0, 1);
    read_until(&mut collector, &mut store, &stream, &Endless, Taken::End);
    writer.join().unwrap();
    assert_eq!(store.kept.iter().map(|kept| kept.raw.len()).sum::<usize>(), 100_000);
}

/// Lines that are numbers, each one more than the one before.
struct Counting;

impl Framing for Counting {
    fn take(&self, mode: &mut u64, bytes: &[u8], end: bool, emit: &mut dyn FnMut(&[u8], bool) -> bool) -> usize {
        let mut next = *mode;
        let taken = Lines.take(&mut 0, bytes, end, &mut |raw, piece| {
            assert_eq!(String::from_utf8_lossy(raw), next.to_string());
            next += 1;
            emit(raw, piece)
        });
        *mode = next;
        taken
    }
}

#[test]
fn what_the_framing_knows_of_a_connection_lives_on_with_it() {
    let memory = Memory::new();
    let mut store = memory.store();
    let (mut client, stream) = stream_pair();
    for n in 0..9 {
        client.write_all(format!("{}\n{}\n", 2 * n, 2 * n + 1).as_bytes()).unwrap();
        let mut collector = memory.collector();
        collector.adopt(0, 1);
        read_until(&mut collector, &mut store, &stream, &Counting, Taken::Nothing);
    }
    assert_eq!(store.kept.len(), 18);
}

#[test]
fn a_place_forgets_the_connection_that_had_it() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (mut first, stream) = stream_pair();
    first.write_all(b"half a li").unwrap();
    collector.adopt(0, 1);
    read_until(&mut collector, &mut store, &stream, &Lines, Taken::Nothing);
    let (mut second, stream) = stream_pair();
    second.write_all(b"whole\n").unwrap();
    collector.adopt(0, 2);
    read_until(&mut collector, &mut store, &stream, &Lines, Taken::Nothing);
    assert_eq!(store.texts(), ["whole"]);
}

#[test]
fn a_calm_memory_gives_its_pages_back_and_goes_on() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (socket, addr) = bound("127.0.0.1:0");
    let from = sender(addr);
    let blocks = || {
        use std::os::unix::fs::MetadataExt;
        std::fs::File::from(memory.memory.try_clone().unwrap()).metadata().unwrap().blocks() * 512
    };
    let (mut client, stream) = stream_pair();
    client.write_all(&vec![b'\n'; 100_000]).unwrap();
    collector.adopt(0, 1);
    read_until(&mut collector, &mut store, &stream, &Lines, Taken::Nothing);
    let idle = blocks();
    nearly_fill(&mut collector, &socket, &from);
    assert!(blocks() > 60 << 20);
    collector.shrink().unwrap();
    assert!(blocks() > 60 << 20, "nothing goes while the store is behind");
    store.take_and_commit();
    collector.shrink().unwrap();
    let most = idle + (RING_SOFT - RING_FIRST) as u64;
    assert!(blocks() < most, "{} bytes are kept, {idle} at first", blocks());
    from.send(&[b'z'; 5_000]).unwrap();
    client.write_all(b"after\n").unwrap();
    assert_eq!(collector.receive(socket.as_fd(), 1, &mut Blind).unwrap(), Taken::Some(1));
    read_until(&mut collector, &mut store, &stream, &Lines, Taken::Nothing);
    assert_eq!(store.kept[store.kept.len() - 2].raw, [b'z'; 5_000]);
    assert_eq!(store.texts().last().unwrap(), "after");
}

#[test]
fn the_store_is_woken_when_idle_or_far_behind_and_also_after_its_restart_only_then() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (socket, addr) = bound("127.0.0.1:0");
    let from = sender(addr);
    let send = |collector: &mut CollectorMemory, bytes: usize| {
        from.send(&vec![0; bytes]).unwrap();
        collector.receive(socket.as_fd(), 1, &mut Blind).unwrap();
    };
    store.memory.wait(Waiting::Idle);
    assert!(!collector.wants_waking());
    send(&mut collector, 10);
    assert!(collector.wants_waking());
    store.memory.wait(Waiting::Busy);
    assert!(!collector.wants_waking());
    for _ in 0..5 {
        send(&mut collector, 60_000);
    }
    store.take_and_commit();
    for _ in 0..8 {
        send(&mut collector, 60_000);
    }
    // It dies with half a megabyte taken and nothing durable; the next one takes it again.
    store.take();
    let mut store = memory.store();
    store.memory.taken_all();
    store.memory.wait(Waiting::Filling);
    assert!(collector.wants_waking());
    store.take();
    assert!(!collector.wants_waking(), "all is taken");
    // The same over a death of the collector.
    let mut collector = memory.collector();
    assert!(!collector.wants_waking());
    send(&mut collector, 60_000);
    assert!(!collector.wants_waking());
    for _ in 0..4 {
        send(&mut collector, 60_000);
    }
    assert!(collector.wants_waking());
}

#[test]
fn a_memory_of_another_length_is_refused_in_words() {
    let memory = Memory::new();
    let short = crate::memory::memfd("short", 4096).unwrap();
    let error = CollectorMemory::open(&short, &memory.words, 7, &mut Blind).unwrap_err();
    assert!(error.to_string().contains("4096 bytes"), "{error}");
    assert!(crate::receive::StoreMemory::open(&short, &memory.words).is_err());
}

#[test]
fn one_call_takes_no_more_than_there_are_slots() {
    let memory = Memory::new();
    let (mut collector, mut store) = (memory.collector(), memory.store());
    let (socket, addr) = bound("127.0.0.1:0");
    let from = sender(addr);
    for n in 0..SLOTS as u32 + 10 {
        from.send(&n.to_le_bytes()).unwrap();
    }
    assert_eq!(collector.receive(socket.as_fd(), 1, &mut Blind).unwrap(), Taken::Some(SLOTS));
    assert_eq!(collector.receive(socket.as_fd(), 1, &mut Blind).unwrap(), Taken::Some(10));
    store.take_and_commit();
    assert_eq!(store.kept.len(), SLOTS + 10);
}
