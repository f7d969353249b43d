//! What the collector costs by each transport: `peers bench`, built with the profile `test-release`.

use crate::collector::Running;
use raven_collectors::keygen::keys;
use raven_model::control::Proto;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

const MESSAGES: usize = 1_000_000;

/// RELP transactions under way.
const WINDOW: usize = 1024;

/// Idle TLS connections.
const IDLE: usize = 400;

/// CPU for a million messages of 200 bytes, and memory of idle TLS connections.
pub fn run() {
    let (certificate, key) = keys("raven").unwrap();
    let mut running = Running::start(&[("certificate", &certificate), ("key", &key)]);
    running.keep = false;
    let body = format!("<13>{}", "m".repeat(196));
    for proto in [Proto::Tcp, Proto::Tls, Proto::Relp] {
        let (before, begun) = (cpu(running.pid()), Instant::now());
        let (addr, trusted, body) = (running.addr[&proto], certificate.clone(), body.clone());
        let sender = std::thread::spawn(move || match proto {
            Proto::Tls => {
                let mut stream = connect(addr, &trusted);
                send(&mut stream, &body);
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            }
            Proto::Relp => send_relp(&mut TcpStream::connect(addr).unwrap(), &body),
            _ => send(&mut TcpStream::connect(addr).unwrap(), &body),
        });
        while !sender.is_finished() {
            running.step();
        }
        sender.join().unwrap();
        (0..100).for_each(|_| running.step());
        let spent = cpu(running.pid()) - before;
        println!("{}: {spent:.2} CPU-s per million, {:.1} s", proto.name(), begun.elapsed().as_secs_f32());
    }
    idle(&mut running, &certificate);
}

/// Memory and CPU of connections that only shake hands.
fn idle(running: &mut Running, trusted: &str) {
    let (memory, spent) = (anonymous(running.pid()), cpu(running.pid()));
    let (addr, trusted) = (running.addr[&Proto::Tls], trusted.to_owned());
    let clients = std::thread::spawn(move || (0..IDLE).map(|_| connect(addr, &trusted)).collect::<Vec<_>>());
    while !clients.is_finished() {
        running.step();
    }
    let clients = clients.join().unwrap();
    println!(
        "{IDLE} idle TLS connections: {} KiB each, {:.2} CPU-ms per handshake",
        (anonymous(running.pid()) - memory) / IDLE,
        (cpu(running.pid()) - spent) * 1000.0 / IDLE as f64
    );
    drop(clients);
}

/// Octet counting, many messages in a write.
fn send(to: &mut impl Write, body: &str) {
    let many = format!("{} {body}", body.len()).repeat(100);
    (0..MESSAGES / 100).for_each(|_| to.write_all(many.as_bytes()).unwrap());
}

fn send_relp(to: &mut TcpStream, body: &str) {
    let (mut answered, mut answers, mut many) = (0, vec![0; 64 * 1024], Vec::new());
    to.write_all(b"1 open 30 relp_version=0\ncommands=syslog\n").unwrap();
    for n in (0..MESSAGES).step_by(WINDOW / 4) {
        many.clear();
        for txnr in n + 2..n + 2 + WINDOW / 4 {
            writeln!(many, "{txnr} syslog {} {body}", body.len()).unwrap();
        }
        to.write_all(&many).unwrap();
        // The answer to `open` has four lines.
        while n + WINDOW / 4 + 4 > answered + WINDOW {
            let got = to.read(&mut answers).unwrap();
            assert!(got > 0, "the collector closed");
            answered += answers[..got].iter().map(|&b| usize::from(b == b'\n')).sum::<usize>();
        }
    }
}

/// A connection whose handshake is done.
fn connect(addr: SocketAddr, trusted: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), ServerName::try_from("raven").unwrap()).unwrap();
    let mut stream = StreamOwned::new(client, TcpStream::connect(addr).unwrap());
    stream.conn.complete_io(&mut stream.sock).unwrap();
    stream
}

/// utime and stime of a process, seconds.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Anonymous memory of a process, KiB.
fn anonymous(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
