//! How many Windows events a second the collector takes in, and what CPU that costs it.
//!
//! ```text
//! cargo run --profile test-release -p raven-collectors --example winevent_rate -- [SECONDS [CONNECTIONS [gzip|zstd]]]
//! ```
//!
//! The role runs in a process of its own, in its jail. This process plays `ravend`, a store that commits what is
//! awaited every 5 ms, and senders that post bodies of 100 events of about 800 bytes each and wait for the answers.
#![allow(clippy::unwrap_used)]

use nix::sys::eventfd::{EfdFlags, EventFd};
use raven_collectors::winevent::Winevent;
use raven_jail::channel::{Channel, inherited};
use raven_jail::receive::{StoreMemory, Waiting, create};
use raven_jail::sandbox;
use raven_model::config::Config;
use raven_model::control::{Connection, Fd, FromWorker, Listener, PACKET_MAX, Proto, Start, ToWorker};
use raven_model::stream::Stream;
use raven_model::table::{Role, table};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const EVENTS: usize = 100;
const STREAM: Stream = Stream::Winevent;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "role") {
        return role();
    }
    let number = |n: usize, or: u64| arguments.get(n).map_or(or, |text| text.parse().unwrap());
    let (seconds, connections) = (number(0, 5), number(1, 32));
    let packing = arguments.get(2).map_or("identity", String::as_str);

    let (memory, words) = create("winevent").unwrap();
    let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
    let (ours, theirs) = Channel::pair().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("role")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let start = Start {
        role: Role::Winevent,
        device: "rate".to_owned(),
        boot_id: "0".repeat(32),
        data: "/".into(),
        config: Some(Box::new(Config::default())),
        listeners: BTreeMap::new(),
        environment: BTreeMap::new(),
        fds: vec![Fd::Ring { stream: STREAM }, Fd::Words { stream: STREAM }, Fd::Wake { stream: STREAM }],
    };
    let passed = [memory.as_fd(), words.as_fd(), wake.as_fd()];
    ours.send_json(&ToWorker::Start(Box::new(start)), &passed).unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    ours.send_json(&ToWorker::Listen(Listener { id: 1, stream: STREAM, proto: Proto::Http, addr }), &[]).unwrap();

    let ours = Arc::new(ours);
    let (channel, reports) = (Arc::clone(&ours), Arc::new(Mutex::new(String::new())));
    let last = Arc::clone(&reports);
    std::thread::spawn(move || {
        let mut packet = vec![0; PACKET_MAX];
        while let Ok(Some((heard, _))) = channel.recv_json::<FromWorker>(&mut packet) {
            if let FromWorker::Heartbeat { report } = heard {
                report.get().clone_into(&mut last.lock().unwrap());
            }
        }
    });
    let store = StoreMemory::open(&memory, &words).unwrap();
    let kept = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&kept);
    std::thread::spawn(move || keep(&store, &wake, &counts));

    let request = Arc::new(request(packing));
    let (stop, stored) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let senders: Vec<_> = (0..connections)
        .map(|id| {
            let stream = TcpStream::connect(addr).unwrap();
            let (accepted, peer) = socket.accept().unwrap();
            accepted.set_nonblocking(true).unwrap();
            let connection = Connection { id: id as u32 + 1, slot: id as u16, listener: 1, peer };
            ours.send_json(&ToWorker::Connection(connection), &[accepted.as_fd()]).unwrap();
            let (request, stop, stored) = (Arc::clone(&request), Arc::clone(&stop), Arc::clone(&stored));
            std::thread::spawn(move || {
                let _kept = accepted;
                send(stream, &request, &stop, &stored);
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let (begun, before, cpu) = (Instant::now(), stored.load(Relaxed), cpu_of(child.id()));
    std::thread::sleep(Duration::from_secs(seconds));
    let (took, events, cpu) = (begun.elapsed().as_secs_f64(), stored.load(Relaxed) - before, cpu_of(child.id()) - cpu);
    stop.store(true, Relaxed);
    for sender in senders {
        sender.join().unwrap();
    }
    println!(
        "{packing}: {:.0} events/s over {connections} connections; the role: {:.2} CPU-s per million events, {:.0} % of a core; {} of data",
        events as f64 / took,
        cpu / events as f64 * 1e6,
        cpu / took * 100.0,
        data_of(child.id()),
    );
    assert_eq!(kept.load(Relaxed), stored.load(Relaxed), "the store has what was answered");
    println!("last report: {}", reports.lock().unwrap());
    ours.send_json(&ToWorker::Stop, &[]).unwrap();
    assert!(child.wait().unwrap().success());
}

fn role() {
    let channel = Channel::from_fd(inherited(0).unwrap());
    let (first, fds) = channel.recv_json::<ToWorker>(&mut vec![0; PACKET_MAX]).unwrap().unwrap();
    let ToWorker::Start(start) = first else { panic!("the first message is no start") };
    let role = Winevent::new(&start, fds, channel, 1).unwrap();
    let missing = sandbox::enter(table().spec(Role::Winevent), &table().base, "/".as_ref()).unwrap();
    role.ready(missing).unwrap().run().unwrap();
}

/// Takes what is published, and calls it durable.
fn keep(memory: &StoreMemory, wake: &EventFd, kept: &AtomicU64) {
    let (mut taken, mut buffer) = (memory.durable(), Vec::new());
    loop {
        while taken < memory.published() {
            let batch = memory.take(taken + 1, &mut buffer).unwrap();
            memory.taken(batch.len);
            kept.fetch_add(u64::from(batch.count), Relaxed);
            taken += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
        memory.set_durable(taken);
        if memory.wait(Waiting::Idle) == taken {
            let mut poll = [nix::poll::PollFd::new(wake.as_fd(), nix::poll::PollFlags::POLLIN)];
            nix::poll::poll(&mut poll, 100_u16).unwrap();
            let _ = wake.read();
        }
        memory.wait(Waiting::Busy);
    }
}

fn request(packing: &str) -> Vec<u8> {
    let mut body = Vec::new();
    let mut seed = 1_u64;
    let mut dice = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    for number in 0..EVENTS {
        write!(
            body,
            "{{\"EventID\":4624,\"Channel\":\"Security\",\"Computer\":\"DC{:02}.venue.local\",\"EventRecordID\":{number},\"TimeCreated\":\"2026-08-14T18:00:00.{:03}Z\",\"Message\":\"An account was successfully logged on.\\r\\n\\tSecurity ID:\\t\\tS-1-5-{}\",\"EventData\":{{",
            dice() % 20,
            dice() % 1000,
            dice()
        )
        .unwrap();
        // As many short members as a logon has.
        for member in 0..21 {
            let comma = if member == 0 { "" } else { "," };
            write!(body, "{comma}\"TargetField{member}\":\"{:x}\"", dice()).unwrap();
        }
        body.extend_from_slice(b"}}\n");
    }
    println!("a body has {EVENTS} events of {} bytes", body.len() / EVENTS);
    let (body, header) = match packing {
        "gzip" => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            packed.write_all(&body).unwrap();
            (packed.finish().unwrap(), "Content-Encoding: gzip\r\n")
        }
        "zstd" => (zstd::encode_all(&body[..], 3).unwrap(), "Content-Encoding: zstd\r\n"),
        _ => (body, ""),
    };
    let head = format!("POST /ingest HTTP/1.1\r\nHost: raven\r\n{header}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), &body].concat()
}

fn send(stream: TcpStream, request: &[u8], stop: &AtomicBool, stored: &AtomicU64) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while !stop.load(Relaxed) {
        stream.get_mut().write_all(request).unwrap();
        let mut len = 0;
        loop {
            line.clear();
            stream.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                len = value.trim().parse().unwrap();
            }
            assert!(!line.starts_with("HTTP") || line.contains(" 200 "), "{line}");
            if line == "\r\n" {
                break;
            }
        }
        stream.read_exact(&mut vec![0; len]).unwrap();
        stored.fetch_add(EVENTS as u64, Relaxed);
    }
}

/// CPU seconds so far, user and system, of a process with one thread.
fn cpu_of(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn data_of(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    line.unwrap_or_default().trim().to_owned()
}
