//! A manager that is made up: takes informs by our own collector's rules, and answers as a test wants.

use raven_decode::snmp::{Access, Data, Message, Outcome, Scoped, Seconds, answer, check};
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What becomes of an inform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Answered.
    Usual,
    /// Answered twice.
    Twice,
    /// Not answered.
    Lost,
    /// Answered with this error-status, twice.
    Error(u8),
    /// Three answers that are none: for a request that nobody made, by another community, and the inform itself.
    Forged,
}

/// Ids of records (`DEVICE/STREAM/SEQ`) in the order in which they came first, and how often each came.
#[derive(Debug, Default, Clone)]
pub struct Told {
    pub order: Vec<String>,
    pub times: BTreeMap<String, u32>,
}

pub struct SimManager {
    pub port: u16,
    told: Arc<Mutex<Told>>,
    access: Arc<Mutex<Access>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SimManager {
    /// `rule` gets the seq of a record, and how often it came before.
    pub fn start(access: Access, rule: impl FnMut(u64, u32) -> Answer + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (told, stop) = (Arc::<Mutex<Told>>::default(), Arc::new(AtomicBool::new(false)));
        let access = Arc::new(Mutex::new(access));
        let port = socket.local_addr().unwrap().port();
        let work = work(socket, Arc::clone(&access), rule, Arc::clone(&told), Arc::clone(&stop));
        Self { port, told, access, stop, thread: Some(std::thread::spawn(work)) }
    }

    pub fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }

    /// Another is there in its place.
    pub fn becomes(&self, access: Access) {
        *self.access.lock().unwrap() = access;
    }
}

impl Drop for SimManager {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

fn work(
    socket: UdpSocket,
    access: Arc<Mutex<Access>>,
    mut rule: impl FnMut(u64, u32) -> Answer + Send + 'static,
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
) -> impl FnOnce() + Send {
    move || {
        let mut buffer = vec![0; 65_536];
        while !stop.load(Ordering::Relaxed) {
            let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
            let mut access = access.lock().unwrap();
            for reply in replies(&buffer[..len], &mut access, &mut rule, &told) {
                socket.send_to(&reply, from).unwrap();
            }
        }
    }
}

fn replies(
    raw: &[u8],
    access: &mut Access,
    rule: &mut impl FnMut(u64, u32) -> Answer,
    told: &Mutex<Told>,
) -> Vec<Vec<u8>> {
    let now = Seconds(10_000);
    match check(raw, access, now) {
        Outcome::Refused { reply, .. } => return reply.into_iter().collect(),
        Outcome::Accepted(_) => {}
    }
    let (usual, id) = (answer(raw, access, now).unwrap(), id_of(raw));
    let seq: u64 = id.rsplit('/').next().unwrap().parse().unwrap();
    let mut told = told.lock().unwrap();
    let before = *told.times.get(&id).unwrap_or(&0);
    if before == 0 {
        told.order.push(id.clone());
    }
    told.times.insert(id, before + 1);
    match rule(seq, before) {
        Answer::Usual => vec![usual],
        Answer::Twice => vec![usual.clone(), usual],
        Answer::Lost => vec![],
        Answer::Error(status) => {
            let mut wrong = usual;
            let at = status_at(&wrong);
            wrong[at] = status;
            vec![wrong.clone(), wrong]
        }
        Answer::Forged => {
            let (mut other, mut stranger) = (usual.clone(), usual);
            let at = status_at(&other) - 3;
            other[at] ^= 0x80;
            let at = stranger.windows(3).position(|part| part == b"n0c").unwrap();
            stranger[at] = b'N';
            vec![other, stranger, raw.to_vec(), b"no SNMP".to_vec()]
        }
    }
}

/// Where the value of error-status is, in a Response without an error of version 2c.
fn status_at(response: &[u8]) -> usize {
    response.windows(6).position(|part| part == [2, 1, 0, 2, 1, 0]).unwrap() + 2
}

/// The record that an inform in the clear tells of.
fn id_of(raw: &[u8]) -> String {
    let varbinds = match Message::read(raw).unwrap() {
        Message::Community(message) => message.pdu.varbinds(),
        Message::V3(message) => {
            let Data::Plain(content) = message.data else { panic!("encrypted") };
            Scoped::read(content).unwrap().pdu.varbinds()
        }
    };
    let id = varbinds.iter().find(|varbind| varbind.oid.to_oid().to_string() == "1.3.6.1.4.1.32473.1.1.1.0");
    let raven_decode::snmp::Value::Octets(id) = id.unwrap().value else { panic!("no text") };
    String::from_utf8(id.to_vec()).unwrap()
}

/// Traps of version 2c with the marks `mark-FIRST.` and so on.
pub fn marked(first: u64, count: u64) -> Vec<Vec<u8>> {
    (first..first + count).map(|n| trap(&format!("mark-{n:06}."))).collect()
}

/// linkDown, and a text of 1 to 60 bytes.
fn trap(text: &str) -> Vec<u8> {
    let wrap = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
    let varbind = |oid: &[u8], value: &[u8]| wrap(0x30, &[&wrap(6, oid)[..], value].concat());
    let down = wrap(6, b"\x2b\x06\x01\x06\x03\x01\x01\x05\x03");
    let list = [
        varbind(b"\x2b\x06\x01\x02\x01\x01\x03\x00", &[0x43, 1, 1]),
        varbind(b"\x2b\x06\x01\x06\x03\x01\x01\x04\x01\x00", &down),
        varbind(b"\x2b\x06\x01\x02\x01\x02\x02\x01\x02\x07", &wrap(4, text.as_bytes())),
    ]
    .concat();
    let numbers = [2, 1, 1, 2, 1, 0, 2, 1, 0];
    let pdu = wrap(0xa7, &[&numbers[..], &wrap(0x30, &list)].concat());
    wrap(0x30, &[&[2, 1, 1][..], &wrap(4, b"public"), &pdu].concat())
}
