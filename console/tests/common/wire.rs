//! Receivers for the load generator, and readers of what it sends that share no code with it.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)] // each test file uses its own part

use super::{raven, stderr, stdout};
use nix::sys::socket::{setsockopt, sockopt};
use raven_console::load::Summary;
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

/// Runs `raven gen` against a UDP socket; every datagram, and the summary.
pub fn datagrams(verb: &[&str], extra: &[&str]) -> (Vec<Vec<u8>>, Summary) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    widen(&socket);
    let to = socket.local_addr().unwrap().to_string();
    let receiver = thread::spawn(move || {
        let (mut all, mut buffer) = (Vec::new(), vec![0; 65_536]);
        while let Ok(len) = socket.recv(&mut buffer) {
            all.push(buffer[..len].to_vec());
        }
        all
    });
    let summary = generate(verb, &to, extra);
    (receiver.join().unwrap(), summary)
}

/// Runs `raven gen` against a TCP listener; every byte of the one connection, and the summary.
pub fn stream(verb: &[&str], extra: &[&str]) -> (Vec<u8>, Summary) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap().to_string();
    let receiver = thread::spawn(move || {
        let mut bytes = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let summary = generate(verb, &to, extra);
    (receiver.join().unwrap(), summary)
}

/// A busy machine may stop a reader for longer than the usual buffer lasts; only root may have a larger one.
pub fn widen(socket: &UdpSocket) {
    let _ = setsockopt(socket, sockopt::RcvBufForce, &(8 << 20));
}

/// Runs `raven gen`.
pub fn generate(verb: &[&str], to: &str, extra: &[&str]) -> Summary {
    let output = raven(&[&["gen"], verb, &["--to", to], extra].concat());
    serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)))
}

/// Takes big-endian numbers off the front.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }

    pub fn number(&mut self, len: usize) -> u64 {
        self.take(len).iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    pub fn u16(&mut self) -> u16 {
        self.number(2) as u16
    }

    pub fn u32(&mut self) -> u32 {
        self.number(4) as u32
    }
}
