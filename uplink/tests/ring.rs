//! The whole role: a ring on disk, a store that answers over the pair, `ravend`'s channel, and a RELP receiver.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use raven_buffer::tail::{Reply, Request, TailServer};
use raven_buffer::{BatchMark, RingWriter, WriterOptions};
use raven_jail::channel::Channel;
use raven_model::control::{Fd, FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::record::{Received, frame_len, write_frame};
use raven_model::report::{DestinationStatus, UplinkReport};
use raven_model::table::Role;
use raven_model::units::{Seq, UnixNanos};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::{config, envelope, uplinks};

type Taken = Arc<Mutex<BTreeMap<u64, (u32, Vec<u8>)>>>;

/// A RELP receiver, a thread for each of its connections (both lanes have one), and what it took.
fn receiver() -> (String, Taken) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (addr, taken) = (listener.local_addr().unwrap().to_string(), Taken::default());
    let shared = Arc::clone(&taken);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, shared) = (stream.unwrap(), Arc::clone(&shared));
            std::thread::spawn(move || take(stream, &shared));
        }
    });
    (addr, taken)
}

fn take(mut stream: TcpStream, taken: &Taken) {
    let (mut buf, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        buf.extend_from_slice(&chunk[..n]);
        let (mut at, mut out) = (0, Vec::new());
        while let Some((txnr, command, data, len)) = support::receiver::relp_frame(&buf[at..]) {
            at += len;
            let text = if command == "open" { "200 OK\nrelp_version=0\ncommands=syslog" } else { "200 OK" };
            if command == "syslog" {
                let opened = envelope::open(&data);
                taken.lock().unwrap().entry(opened.seq()).or_insert((0, opened.raw)).0 += 1;
            }
            out.extend_from_slice(&support::receiver::rsp(txnr, text));
        }
        buf.drain(..at);
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// As the shared one, with digits that zstd cannot shorten, so that several segments fill.
fn numbered(seq: u64) -> String {
    let noise = |n: u64| {
        (seq * 8 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(n as u32 * 7).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let noise = (1..=8).map(|n| format!("{:016x}", noise(n))).collect::<Vec<_>>().concat();
    format!("{} {noise}", support::numbered(seq))
}

/// What the test tells the store to do.
enum Do {
    /// Store so many numbered records, a commit for each hundred.
    Append(u64),
    Fence(Seq),
    End,
}

struct Store {
    orders: Sender<Do>,
    fenced: Receiver<Vec<(String, u64)>>,
    thread: JoinHandle<()>,
}

impl Store {
    fn start(ring: &Path, tail: OwnedFd) -> Self {
        let options = WriterOptions {
            quota_bytes: 256 << 20,
            segment_bytes: Some(1 << 20),
            keep: Duration::from_hours(1),
            boot_id: [7; 16],
        };
        let (mut writer, _) = RingWriter::open(ring, "syslog", options).unwrap();
        writer.set_listeners(BTreeMap::from([(1, "udp:[::]:514".to_owned())]));
        let ((orders, orders_in), (fenced_out, fenced)) = (channel(), channel());
        let thread = std::thread::spawn(move || serve(&mut writer, tail, &orders_in, &fenced_out));
        Self { orders, fenced, thread }
    }

    fn end(self) {
        self.orders.send(Do::End).unwrap();
        self.thread.join().unwrap();
    }
}

fn serve(writer: &mut RingWriter, tail: OwnedFd, orders: &Receiver<Do>, fenced: &Sender<Vec<(String, u64)>>) {
    let mut server = TailServer::new(tail);
    let mut waits: BTreeMap<u64, Seq> = BTreeMap::new();
    let mut batch = 0;
    loop {
        match orders.recv_timeout(Duration::from_millis(1)) {
            Ok(Do::Append(count)) => append(writer, count, &mut batch),
            Ok(Do::Fence(below)) => {
                server.reply(&Reply::Fence { token: 9, stream: "syslog".to_owned(), first: Seq(1), below }).unwrap();
            }
            Ok(Do::End) => return,
            Err(_) => {}
        }
        while let Ok(Some(request)) = server.receive() {
            match request {
                Request::Block { id, from, .. } => answer(writer, &mut server, id, from),
                Request::Wait { id, from, .. } => drop(waits.insert(id, from)),
                Request::FenceDone { token: 9, unforwarded, .. } => fenced.send(unforwarded).unwrap(),
                _ => {}
            }
        }
        let next = writer.next_seq();
        let due: Vec<(u64, Seq)> = waits.extract_if(.., |_, from| *from < next).collect();
        for (id, from) in due {
            answer(writer, &mut server, id, from);
        }
        server.flush().unwrap();
    }
}

fn answer(writer: &RingWriter, server: &mut TailServer, id: u64, from: Seq) {
    if from < writer.open_first() {
        server.reply(&Reply::Sealed { id }).unwrap();
    } else if let Some((first, value)) = writer.block_at(from).unwrap() {
        server.block(id, first, &value).unwrap();
    } else {
        server.reply(&Reply::Next { id, next_seq: writer.next_seq() }).unwrap();
    }
}

fn append(writer: &mut RingWriter, count: u64, batch: &mut u64) {
    let from = writer.next_seq().0;
    for start in (from..from + count).step_by(100) {
        let end = (start + 100).min(from + count);
        let mut frames = Vec::new();
        for seq in start..end {
            let text = numbered(seq);
            let source: std::net::SocketAddr = "192.0.2.7:40000".parse().unwrap();
            let received = Received::new(source, 1, UnixNanos(1_795_307_753_000_000_000 + seq));
            let at = frames.len();
            frames.resize(at + frame_len(source.ip(), text.len()), 0);
            write_frame(&mut frames[at..], &received, text.as_bytes()).unwrap();
        }
        *batch += 1;
        writer.append(&frames, (end - start) as u32, 0).unwrap();
        if (*batch).is_multiple_of(20) || end == from + count {
            writer.commit(BatchMark { epoch: 1, batch: *batch, pos: 0 }).unwrap();
        }
    }
}

/// The role in a thread, and `ravend`'s end of its channel.
struct Role1 {
    control: Channel,
    thread: JoinHandle<()>,
}

impl Role1 {
    fn start(data: &Path, tail: &OwnedFd, to: &str) -> Self {
        let (control, theirs) = Channel::pair().unwrap();
        let config = config(uplinks(&format!("noc kind=relp window=256 to={to}\ndead kind=relp to=127.0.0.1:1")));
        let start = Start {
            role: Role::Uplink,
            device: "arena".to_owned(),
            boot_id: "07".repeat(16),
            data: data.to_owned(),
            config: Some(Box::new(config)),
            listeners: BTreeMap::new(),
            environment: BTreeMap::new(),
            fds: vec![Fd::Tail { peer: Role::Store }],
        };
        let uplink = raven_uplink::Uplink::new(&start, tail.try_clone().unwrap());
        let thread = std::thread::spawn(move || uplink.run(theirs).unwrap());
        Self { control, thread }
    }

    /// Reads heartbeats until one satisfies `done`.
    fn until(&self, what: &str, done: impl Fn(&DestinationStatus) -> bool) -> DestinationStatus {
        let (begun, mut buf) = (Instant::now(), vec![0; PACKET_MAX]);
        let mut last = None;
        while begun.elapsed() < Duration::from_mins(1) {
            let Ok(Some((FromWorker::Heartbeat { report }, _))) = self.control.recv_json::<FromWorker>(&mut buf) else {
                panic!("no heartbeat")
            };
            let report: UplinkReport = serde_json::from_str(report.get()).unwrap();
            let noc = report.destinations.into_iter().find(|status| status.name == "noc").unwrap();
            if done(&noc) {
                return noc;
            }
            last = Some(noc);
        }
        panic!("waited 60 s until {what}: {last:?}");
    }

    fn stop(self) {
        self.control.send_json(&ToWorker::Stop, &[]).unwrap();
        self.thread.join().unwrap();
    }
}

/// Both ends of the pair between store and uplink; like `ravend`, the test keeps them across restarts.
fn tail_pair() -> (OwnedFd, OwnedFd) {
    let (a, b) = Channel::pair().unwrap();
    let nonblocking = |channel: Channel| {
        let socket = UnixDatagram::from(OwnedFd::from(channel));
        socket.set_nonblocking(true).unwrap();
        OwnedFd::from(socket)
    };
    (nonblocking(a), nonblocking(b))
}

fn assert_all(taken: &Taken, count: u64, doubled_at_most: u64) {
    let taken = taken.lock().unwrap();
    assert_eq!((1..=count).filter(|seq| !taken.contains_key(seq)).count(), 0, "missing");
    assert!(taken.iter().all(|(seq, (_, raw))| *raw == numbered(*seq).into_bytes()), "altered");
    let doubled: u64 = taken.values().map(|(times, _)| u64::from(times - 1)).sum();
    assert!(doubled <= doubled_at_most, "{doubled} doubled");
}

#[test]
fn the_role_delivers_sealed_and_newest_records_across_restarts_of_itself_and_of_the_store() {
    let data = tempfile::tempdir().unwrap();
    let (ring, (ours, theirs), (addr, taken)) = (data.path().join("ring"), tail_pair(), receiver());
    let store = Store::start(&ring, theirs.try_clone().unwrap());
    store.orders.send(Do::Append(200_000)).unwrap();
    let role = Role1::start(data.path(), &ours, &addr);
    role.until("some is delivered", |noc| noc.acked_seq >= Seq(1000));
    role.stop();
    let sealed = raven_buffer::RingReader::open(&ring, "syslog").unwrap().sealed().len();
    assert!(sealed >= 2, "{sealed} sealed segments: those are to be read as well");

    let role = Role1::start(data.path(), &ours, &addr);
    role.until("the backlog is delivered", |noc| noc.acked_seq == Seq(200_000) && noc.lag == 0);
    store.end();
    let store = Store::start(&ring, theirs.try_clone().unwrap());
    store.orders.send(Do::Append(5_000)).unwrap();
    let noc = role.until("the head is delivered after the store was restarted", |noc| {
        noc.acked_seq == Seq(205_000) && noc.lag == 0
    });
    assert_eq!((noc.missed, noc.resent), (0, 0));
    role.stop();
    store.end();
    assert_all(&taken, 205_000, 256);
}

#[test]
fn a_fence_is_answered_with_what_each_destination_has_not_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let (ring, (ours, theirs), (addr, _)) = (data.path().join("ring"), tail_pair(), receiver());
    let store = Store::start(&ring, theirs);
    store.orders.send(Do::Append(3_000)).unwrap();
    let role = Role1::start(data.path(), &ours, &addr);
    role.until("all is delivered", |noc| noc.acked_seq == Seq(3_000));
    store.orders.send(Do::Fence(Seq(1_001))).unwrap();
    let mut unforwarded = store.fenced.recv_timeout(Duration::from_secs(30)).unwrap();
    unforwarded.sort();
    assert_eq!(unforwarded, [("dead".to_owned(), 1_000), ("noc".to_owned(), 0)]);
    role.stop();
    store.end();
}
