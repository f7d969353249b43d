//! How fast delivery is: records per second of processor time, to a receiver on this machine that costs nothing.
//!
//! `cargo run --release -p raven-uplink --example rate -- relp|http [none|gzip|zstd] [records]`
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use raven_model::config::Destination;
use raven_uplink::attempt::Pace;
use raven_uplink::fleet::{Base, CursorStore, Fleet, Route, Saved};
use raven_uplink::sim::{SimRing, frames};
use raven_uplink::standing::Paused;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

struct NoCursors;

impl CursorStore for NoCursors {
    fn load(&mut self, _: &Route) -> Option<Saved> {
        None
    }
    fn save(&mut self, _: &[(Route, Saved)]) -> Result<(), String> {
        Ok(())
    }
    fn load_paused(&mut self, _: &str) -> Paused {
        Paused::default()
    }
    fn save_paused(&mut self, _: &str, _: Paused) -> Result<(), String> {
        Ok(())
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let kind = args.first().map_or("relp", String::as_str).to_owned();
    let compression = args.get(1).map_or("zstd", String::as_str).to_owned();
    let records: u64 = args.get(2).map_or(3_000_000, |n| n.parse().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = if kind == "relp" { relp_sink } else { http_sink };
    std::thread::spawn(move || listener.incoming().for_each(|stream| serve(stream.unwrap())));
    let to = if kind == "relp" { addr.to_string() } else { format!("http://{addr}/") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, deliver(&kind, &compression, &to, records));
}

async fn deliver(kind: &str, compression: &str, to: &str, records: u64) {
    let ring = SimRing::new();
    fill(&ring, records);
    let base = Base {
        device: "arena-north".to_owned(),
        cursors: std::env::temp_dir(),
        pace: Pace::default(),
        source: Rc::clone(&ring),
        speak: None,
    };
    let mut fleet = Fleet::new(base, NoCursors);
    let to: Destination =
        serde_json::from_value(serde_json::json!({ "kind": kind, "to": to, "compression": compression })).unwrap();
    let (begun, cpu) = (Instant::now(), cpu());
    fleet.configure("arena-north", &BTreeMap::from([("noc".to_owned(), to)]));
    while fleet.report().destinations[0].lag > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), self::cpu() - cpu);
    let million = records as f64 / 1e6;
    println!(
        "{kind} {compression}: {:.0} K records per CPU-second, {:.0} K/s by the clock, {:.2} CPU-s per million",
        million / cpu * 1e3,
        million / wall * 1e3,
        cpu / million
    );
    println!(
        "  received {} MB, {} RELP frames; first message {} bytes",
        BYTES.load(Relaxed) / 1_000_000,
        MESSAGES.load(Relaxed),
        raw_len(&ring)
    );
}

fn raw_len(ring: &SimRing) -> usize {
    use raven_uplink::source::{Piece, Run as _, Source as _};
    let mut piece = std::pin::pin!(ring.piece("syslog", raven_model::units::Seq(1)));
    match piece.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(Ok(Piece::Run(run))) => {
            let raw_len = |entry: raven_buffer::Entry<'_>| match entry {
                raven_buffer::Entry::Record(_, record) => Some(record.raw.len()),
                raven_buffer::Entry::Context(..) => None,
            };
            run.entries_from(run.first()).find_map(raw_len).unwrap_or_default()
        }
        _ => 0,
    }
}

/// Blocks of 1,200 realistic messages of 200 bytes, two hundred different blocks.
fn fill(ring: &SimRing, records: u64) {
    let message = |n: u64| {
        let mut text = format!(
            "<{}>Nov 22 00:{:02}:{:02} gate-{:02} kernel: [{}.{:06}] IN=eth{} OUT= SRC=10.{}.{}.{} DST=192.0.2.{} LEN={} TTL={} ID={} PROTO=TCP SPT={} DPT=443 WINDOW=",
            n % 192,
            n / 60 % 60,
            n % 60,
            n % 40,
            n / 7,
            n * 7919 % 1_000_000,
            n % 4,
            n % 13,
            n * 31 % 256,
            n * 17 % 256,
            n % 256,
            40 + n * 13 % 1460,
            30 + n % 98,
            n * 40_503 % 65_536,
            1024 + n * 104_729 % 60_000,
        );
        while text.len() < 200 {
            text.push_str(&(n * 2_654_435_761 % 99_991).to_string());
        }
        text.truncate(200);
        text
    };
    let blocks: Vec<_> = (0..200)
        .map(|block| {
            let texts: Vec<String> = (0..1200).map(|n| message(block * 1200 + n)).collect();
            frames(texts.iter().map(String::as_bytes))
        })
        .collect();
    for block in 0..records / 1200 {
        ring.append("syslog", &blocks[block as usize % blocks.len()], 1200);
    }
}

/// What the receiver got: bytes, and RELP messages.
static BYTES: AtomicU64 = AtomicU64::new(0);
static MESSAGES: AtomicU64 = AtomicU64::new(0);

/// Acknowledges each frame and looks at nothing else.
fn relp_sink(mut stream: TcpStream) {
    let mut buf = vec![0; 1 << 20];
    let (mut end, mut out) = (0, Vec::new());
    while let Ok(n) = stream.read(&mut buf[end..]) {
        if n == 0 {
            return;
        }
        end += n;
        BYTES.fetch_add(n as u64, Relaxed);
        let mut at = 0;
        while let Some((txnr_len, len)) = relp_frame(&buf[at..end]) {
            out.extend_from_slice(&buf[at..at + txnr_len]);
            out.extend_from_slice(if buf[at + txnr_len + 1] == b'o' {
                b" rsp 37 200 OK\nrelp_version=0\ncommands=syslog\n"
            } else {
                b" rsp 6 200 OK\n"
            });
            at += len;
            MESSAGES.fetch_add(1, Relaxed);
        }
        buf.copy_within(at..end, 0);
        end -= at;
        if stream.write_all(&out).is_err() {
            return;
        }
        out.clear();
    }
}

fn relp_frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let a = bytes.iter().take(12).position(|b| *b == b' ')?;
    let b = a + 1 + bytes[a + 1..].iter().take(12).position(|b| *b == b' ')?;
    let c = b + 1 + bytes[b + 1..].iter().take(12).position(|b| *b == b' ' || *b == b'\n')?;
    let len = bytes[b + 1..c].iter().fold(0, |n, digit| n * 10 + usize::from(digit - b'0'));
    let end = if len == 0 { c + 1 } else { c + 1 + len + 1 };
    (end <= bytes.len()).then_some((a, end))
}

/// Reads bodies by their length and answers 204.
fn http_sink(mut stream: TcpStream) {
    let mut buf = vec![0; 1 << 20];
    let mut head = Vec::new();
    loop {
        let Ok(n @ 1..) = stream.read(&mut buf) else { return };
        head.extend_from_slice(&buf[..n]);
        BYTES.fetch_add(n as u64, Relaxed);
        let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&head[..end]).to_lowercase();
        let length: usize =
            text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().trim().parse().unwrap();
        let mut left = length - (head.len() - end - 4);
        while left > 0 {
            let Ok(n @ 1..) = stream.read(&mut buf) else { return };
            left -= n;
            BYTES.fetch_add(n as u64, Relaxed);
        }
        head.clear();
        if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
            return;
        }
    }
}

/// Seconds on a processor of this thread.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}
