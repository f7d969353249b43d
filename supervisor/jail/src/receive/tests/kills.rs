//! Collectors die at every named point and at any moment. Whatever happens, each message is there once, and those of a
//! sender are in order.

use super::support::{Dice, End, Lines, Memory, Store, Watch, count, die, in_child, start, wait};
use crate::receive::crash::test::at_each_point;
use crate::receive::{CollectorMemory, Framing, Taken};
use crate::socket;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

const SLOTS: [&str; 9] = [
    "slots: received",
    "slots: inspecting",
    "slots: framing",
    "slots: framed",
    "slots: emptying",
    "slots: emptied",
    "slots: done",
    "slots: number taken back",
    "ring: framed",
];

const HAND_OVER: [&str; 3] = ["ring: half a descriptor", "ring: descriptor", "ring: published"];

const CONNECTIONS: [&str; 14] = [
    "connection: received",
    "connection: counted",
    "connection: read settled",
    "connection: framing",
    "connection: framed",
    "connection: half an intent",
    "connection: intent",
    "connection: mode moved",
    "connection: positions moved",
    "connection: carried out",
    "connection: copied to the front",
    "connection: done",
    "connection: intent taken back",
    "ring: framed",
];

/// Lines that carry their number in the connection; `mode` counts along and out of step it panics. After its beginning
/// and after bytes that were kept unparsed it finds the step again with the second line.
struct Numbered;

impl Framing for Numbered {
    fn take(&self, mode: &mut u64, bytes: &[u8], end: bool, emit: &mut dyn FnMut(&[u8], bool) -> bool) -> usize {
        let mut step = *mode;
        let taken = Lines.take(&mut 0, bytes, end, &mut |raw, piece| {
            let next = match step {
                0 => 1,
                1 => number(raw) + 3,
                _ => {
                    assert_eq!(number(raw) + 2, step, "the mode has lost its step");
                    step + 1
                }
            };
            let emitted = emit(raw, piece);
            step = if emitted { next } else { step };
            emitted
        });
        *mode = step;
        taken
    }
}

/// The second word.
fn number(raw: &[u8]) -> u64 {
    std::str::from_utf8(raw).unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

/// A connection, both ends of it, and what was said on it.
struct Stream {
    ours: TcpStream,
    theirs: OwnedFd,
    lines: usize,
    said: Vec<u8>,
    unsent: Vec<u8>,
}

impl Stream {
    /// To one listener for all, so that no two have the same address: to several the kernel gives a port twice.
    fn new(listener: &TcpListener) -> Self {
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_nonblocking(true).unwrap();
        Self { ours, theirs: listener.accept().unwrap().0.into(), lines: 0, said: Vec::new(), unsent: Vec::new() }
    }

    /// Sends some lines and a part of one, cut anywhere.
    fn say(&mut self, id: usize, dice: &mut Dice) {
        for _ in 0..dice.below(20) {
            let len = if dice.below(8) == 0 { 60_000 } else { 300 };
            let line = format!("{id} {} {}\n", self.lines, "t".repeat(dice.below(len) as usize));
            self.unsent.extend_from_slice(line.as_bytes());
            self.said.extend_from_slice(line.as_bytes());
            self.lines += 1;
        }
        let now = self.unsent.len() - dice.below(1 + self.unsent.len() as u64 / 3) as usize;
        self.send(now);
    }

    fn send(&mut self, bytes: usize) {
        let sent = self.ours.write(&self.unsent[..bytes]).unwrap_or(0);
        self.unsent.drain(..sent);
    }
}

/// Everything that outlives collectors.
struct Scene {
    memory: Memory,
    store: Store,
    udp: OwnedFd,
    addr: SocketAddr,
    sender: UdpSocket,
    datagrams: u64,
    streams: Vec<Stream>,
    dice: Dice,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let memory = Memory::new();
        let mut store = memory.store();
        store.watched = true;
        let (udp, _) = socket::udp("127.0.0.1:0".parse().unwrap(), 32 << 20).unwrap();
        let addr = socket::local_addr(udp.as_fd()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let streams = (0..3).map(|_| Stream::new(&listener)).collect();
        Self { memory, store, udp, addr, sender, datagrams: 0, streams, dice: Dice(seed) }
    }

    /// `D number` and padding, most short, some longer than the first part of a slot.
    fn send_datagrams(&mut self, most: u64) {
        for _ in 0..self.dice.below(most) {
            let len = if self.dice.below(10) == 0 { 9_000 } else { 200 };
            let text = format!("D {} {}", self.datagrams, "u".repeat(self.dice.below(len) as usize));
            self.sender.send_to(text.as_bytes(), self.addr).unwrap();
            self.datagrams += 1;
        }
    }

    fn say_all(&mut self) {
        for (id, stream) in self.streams.iter_mut().enumerate() {
            stream.say(id, &mut self.dice);
        }
    }

    /// A collector at work until nothing more comes.
    fn life(&self) {
        let mut collector = self.collector();
        while self.round(&mut collector) {}
    }

    fn collector(&self) -> CollectorMemory {
        let mut collector = self.memory.watched(&mut Watch::default());
        for slot in 0..self.streams.len() as u16 {
            collector.adopt(slot, 100 + u32::from(slot));
        }
        collector
    }

    /// True when it brought something.
    fn round(&self, collector: &mut CollectorMemory) -> bool {
        let mut watch = Watch::default();
        let mut more = matches!(collector.receive(self.udp.as_fd(), 1, &mut watch), Ok(Taken::Some(_)));
        for (slot, stream) in (0..).zip(&self.streams) {
            let peer = stream.ours.local_addr().unwrap();
            more |= matches!(
                collector.read(slot, stream.theirs.as_fd(), 2, peer, &Numbered, &mut watch),
                Ok(Taken::Some(_))
            );
        }
        collector.hand_over();
        more
    }

    fn store_some(&mut self) {
        self.store.take();
        let behind = self.dice.below(4);
        self.store.commit(behind);
    }

    /// The last collector dies no more; then all is compared.
    fn finish(mut self) {
        while self.streams.iter().any(|stream| !stream.unsent.is_empty()) {
            for stream in &mut self.streams {
                stream.send(stream.unsent.len());
            }
            self.life();
            self.store.take_and_commit();
        }
        self.life();
        self.store.take_and_commit();
        assert!(self.collector().is_drained());
        let datagrams = self.store.kept.iter().filter(|kept| kept.listener == 1).map(|kept| number(&kept.raw));
        assert_eq!(datagrams.collect::<Vec<_>>(), (0..self.datagrams).collect::<Vec<_>>(), "datagrams");
        for (id, stream) in self.streams.iter().enumerate() {
            let heard = self.heard(stream.ours.local_addr().unwrap());
            assert!(heard == stream.said, "connection {id}: {} bytes said, {} heard", stream.said.len(), heard.len());
        }
    }

    /// All that came from a connection, as it was said: lines, and bytes that were kept as they came because two
    /// collectors in turn had died while they framed them.
    fn heard(&self, source: SocketAddr) -> Vec<u8> {
        let from = self.store.kept.iter().filter(|kept| kept.source == source);
        from.flat_map(|kept| [&kept.raw[..], if kept.unparsed { b"" } else { b"\n" }].concat()).collect()
    }
}

/// Kills a collector at the `nth` time that it comes to `point`.
fn die_at(point: &'static str, mut nth: u64) {
    at_each_point(move |name, _| {
        if name == point {
            nth = nth.checked_sub(1).unwrap_or_else(|| die());
        }
    });
}

/// Lives end at `point`, each after another number of times there, until so many have died.
fn collectors_die_at(point: &'static str, lives: u64, seed: u64, say: impl Fn(&mut Scene)) {
    let mut scene = Scene::new(seed);
    let (mut deaths, mut tries) = (0, 0);
    while deaths < lives {
        say(&mut scene);
        // Often at once; at points that come once for each slot also late.
        let most = [1, 1, 3, 40][scene.dice.below(4) as usize];
        let nth = scene.dice.below(most);
        match in_child(|| {
            die_at(point, nth);
            scene.life();
        }) {
            End::Died => deaths += 1,
            End::Finished => {}
            end @ End::Failed(_) => panic!("{point}: {end:?}"),
        }
        scene.store_some();
        tries += 1;
        assert!(tries < 60 + lives * 20, "{point} was reached {deaths} times in {tries} lives");
    }
    scene.finish();
}

#[test]
fn collectors_that_die_anywhere_between_receiving_and_emptying_lose_and_double_no_datagram() {
    for (seed, point) in (1..).zip(SLOTS.iter().chain(&HAND_OVER).filter(|point| !point.ends_with("taken back"))) {
        collectors_die_at(point, count(300, 12), seed, |scene| scene.send_datagrams(60));
    }
}

#[test]
fn collectors_that_die_anywhere_between_reading_and_moving_on_lose_and_double_nothing_of_a_stream() {
    for (seed, point) in
        (100..).zip(CONNECTIONS.iter().chain(&HAND_OVER).filter(|point| !point.ends_with("taken back")))
    {
        collectors_die_at(point, count(300, 12), seed, Scene::say_all);
    }
}

/// The second death comes while what the first left is put right.
#[test]
fn collectors_that_die_while_they_take_over_lose_and_double_nothing() {
    let seconds = SLOTS.iter().chain(&HAND_OVER).chain(&CONNECTIONS);
    for (seed, second) in (200..).zip(seconds) {
        let mut scene = Scene::new(seed);
        let mut deaths = 0;
        for first in SLOTS.iter().chain(&HAND_OVER).chain(&CONNECTIONS).copied() {
            scene.send_datagrams(40);
            scene.say_all();
            let nth = scene.dice.below(3);
            for (point, nth) in [(first, nth), (second, 0)] {
                let end = in_child(|| {
                    die_at(point, nth);
                    scene.life();
                });
                assert!(!matches!(end, End::Failed(_)), "{first}, {second}: {end:?}");
                deaths += u32::from(end == End::Died);
            }
            scene.store_some();
        }
        assert!(deaths > 0, "{second}");
        scene.finish();
    }
}

#[test]
fn collectors_killed_at_any_moment_lose_and_double_nothing() {
    let mut scene = Scene::new(77);
    let mut deaths = 0;
    for _ in 0..count(1_000, 60) {
        let pid = start(|| {
            let mut collector = scene.collector();
            loop {
                scene.round(&mut collector);
            }
        });
        for _ in 0..scene.dice.below(12) {
            scene.send_datagrams(40);
            scene.say_all();
            scene.store_some();
            let pause = scene.dice.below(600);
            std::thread::sleep(std::time::Duration::from_micros(pause));
        }
        // SAFETY: reads no memory; our own child, not yet waited for.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        assert_eq!(wait(pid), End::Died);
        deaths += 1;
        scene.store_some();
    }
    assert!(deaths > 0);
    scene.finish();
}
