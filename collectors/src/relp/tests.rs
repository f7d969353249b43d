//! RELP over loopback: what a client says byte by byte, and what it hears when.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::{Memory, connection, from, reasons};
use proptest::prelude::*;
use raven_jail::receive::Blind;
use std::io::Read as _;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const OPEN: &[u8] =
    b"1 open 86 relp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n";

struct Relp {
    client: TcpStream,
    session: RelpSession,
    memory: Memory,
    shared: Rc<Shared>,
    heard: Vec<u8>,
}

impl Relp {
    fn new() -> Self {
        let (client, socket) = connection();
        client.set_nonblocking(true).unwrap();
        let shared = Rc::new(Shared::new(64));
        let session = RelpSession::new(socket, from(), Rc::clone(&shared));
        Self { client, session, memory: Memory::new(), shared, heard: Vec::new() }
    }

    fn opened() -> Self {
        let mut relp = Self::new();
        assert_eq!(relp.say(OPEN), Standing::Open);
        assert!(relp.hear().starts_with("1 rsp "));
        relp
    }

    /// The client writes, the session is served as the loop does.
    fn say(&mut self, bytes: &[u8]) -> Standing {
        self.client.write_all(bytes).unwrap();
        self.serve()
    }

    fn serve(&mut self) -> Standing {
        // Loopback hands over at once, but not always in the same instant.
        std::thread::sleep(Duration::from_micros(200));
        let standing = self.session.serve(&mut self.memory.collector, &mut Blind);
        self.memory.collector.hand_over();
        standing
    }

    fn commit_and_answer(&mut self) -> Standing {
        self.memory.commit();
        self.session.answer(&self.memory.collector)
    }

    /// What the client hears now.
    fn hear(&mut self) -> String {
        std::thread::sleep(Duration::from_micros(200));
        self.heard.clear();
        let _ = self.client.read_to_end(&mut self.heard);
        String::from_utf8(self.heard.clone()).unwrap()
    }
}

#[test]
fn a_session_begins_takes_messages_and_ends() {
    let mut relp = Relp::new();
    relp.say(OPEN);
    let offers = relp.hear();
    let (head, data) = offers.split_once(" 200 OK\n").unwrap();
    assert_eq!(
        head,
        format!("1 rsp {}", "200 OK\n".len() + data.len() - 1),
        "the length of what follows, without its LF"
    );
    assert!(data.starts_with("relp_version=0\nrelp_software=raven,") && data.ends_with("\ncommands=syslog\n"));
    relp.say(b"2 syslog 8 <13>one\n\n3 syslog 7 <13>two\n");
    assert!(relp.session.awaits());
    assert_eq!(relp.commit_and_answer(), Standing::Open);
    assert_eq!(relp.hear(), "2 rsp 6 200 OK\n3 rsp 6 200 OK\n");
    assert_eq!(relp.memory.texts(), ["<13>one\n", "<13>two"], "byte for byte");
    assert_eq!(relp.say(b"4 close 0\n"), Standing::Closed);
    assert_eq!(relp.hear(), "4 rsp 0\n0 serverclose 0\n");
}

#[test]
fn no_message_is_answered_before_it_is_durable_and_the_order_is_kept() {
    let mut relp = Relp::opened();
    relp.say(b"2 syslog 5 first\n");
    relp.memory.take();
    assert_eq!(relp.session.answer(&relp.memory.collector), Standing::Open);
    assert_eq!(relp.hear(), "", "taken by the store, not on the disk");
    // The end and an unknown command are known at once, and wait for their turn.
    assert_eq!(relp.say(b"3 nonsense 0\n4 syslog 6 second\n5 close 0\n"), Standing::Open);
    assert_eq!(relp.hear(), "");
    assert_eq!(relp.commit_and_answer(), Standing::Closed);
    assert_eq!(relp.hear(), "2 rsp 6 200 OK\n3 rsp 19 500 unknown command\n4 rsp 6 200 OK\n5 rsp 0\n0 serverclose 0\n");
}

#[test]
fn a_session_cut_at_any_byte_goes_on() {
    let stream = [OPEN, b"2 syslog 7 <13>one\n3 syslog 3 a\nb\n4 syslog 0\n5 close 0\n"].concat();
    for cut in 1..stream.len() {
        let mut relp = Relp::new();
        relp.say(&stream[..cut]);
        relp.commit_and_answer();
        let mut heard = relp.hear();
        relp.client.write_all(&stream[cut..]).unwrap();
        let standing = relp.serve();
        assert!(standing == Standing::Closed || relp.commit_and_answer() == Standing::Closed, "{cut}");
        heard += &relp.hear();
        assert!(
            heard.ends_with("\n2 rsp 6 200 OK\n3 rsp 6 200 OK\n4 rsp 6 200 OK\n5 rsp 0\n0 serverclose 0\n"),
            "{cut}: {heard}"
        );
        assert_eq!(relp.memory.texts(), ["<13>one", "a\nb"], "{cut}");
    }
}

#[test]
fn a_message_that_breaks_off_is_not_kept_for_its_sender_has_no_answer() {
    let mut relp = Relp::opened();
    relp.say(b"2 syslog 5 whole\n3 syslog 50 half");
    relp.client.shutdown(Shutdown::Write).unwrap();
    relp.serve();
    assert_eq!(relp.commit_and_answer(), Standing::Closed);
    assert_eq!(relp.hear(), "2 rsp 6 200 OK\n", "what was whole is answered even so");
    assert_eq!(relp.memory.texts(), ["whole"]);
}

#[test]
fn a_long_message_is_kept_in_pieces_under_one_answer() {
    let mut relp = Relp::opened();
    relp.say(format!("2 syslog 150 {}\n", "x".repeat(150)).as_bytes());
    relp.commit_and_answer();
    assert_eq!(relp.hear(), "2 rsp 6 200 OK\n");
    let pieces: Vec<_> = relp.memory.kept.iter().map(|(raw, piece)| (raw.len(), *piece)).collect();
    assert_eq!(pieces, [(64, true), (64, true), (22, false)]);
}

#[test]
fn what_is_not_relp_is_closed_and_counted_by_reason() {
    for (bytes, reason) in [
        (&b"<13>plain syslog\n"[..], "relp_plain_text"),
        (b"12 <13>octet cou", "relp_plain_text"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "relp_tls_hello"),
        (b"GET / HTTP/1.1\r\n", "relp_number"),
        (b"1 op3n 0\n", "relp_command"),
        (b"1 open 9999 ", "relp_length"),
        (b"1 open 3 abcd", "relp_frame_end"),
        (b"1 syslog 3 abc\n", "relp_not_open"),
        (b"1 open 14 relp_version=7\n", "relp_offers"),
        (b"1 open 17 commands=eventlog\n", "relp_offers"),
    ] {
        let mut relp = Relp::new();
        assert_eq!(relp.say(bytes), Standing::Closed, "{reason}");
        assert_eq!(reasons(&relp.shared), [reason]);
        assert_eq!(relp.shared.inbox().refused(reason), 1);
        assert!(relp.memory.texts().is_empty());
    }
}

#[test]
fn a_client_whose_version_is_not_served_is_told_so() {
    let mut relp = Relp::new();
    relp.say(b"1 open 14 relp_version=7\n");
    let heard = relp.hear();
    assert!(
        heard.starts_with("1 rsp ") && heard.contains(" 500 ") && heard.ends_with("\n0 serverclose 0\n"),
        "{heard}"
    );
    assert_eq!(version(b"relp_version=1\ncommands=syslog,eventlog"), Some(1));
    assert_eq!(version(b""), Some(0));
}

#[test]
fn a_client_that_sends_without_waiting_is_read_no_further_than_the_window() {
    let mut relp = Relp::opened();
    let flood: Vec<u8> =
        (2..).take(WINDOW + 500).flat_map(|txnr| format!("{txnr} syslog 1 x\n").into_bytes()).collect();
    assert_eq!(relp.say(&flood), Standing::Open);
    assert_eq!(relp.serve(), Standing::Open);
    relp.memory.take();
    assert_eq!(relp.memory.kept.len(), WINDOW);
    let mut heard = String::new();
    // Room was made, and the frames that wait are announced by no socket.
    assert_eq!(relp.commit_and_answer(), Standing::Full);
    for _ in 0..40 {
        heard += &relp.hear();
        relp.serve();
        relp.commit_and_answer();
    }
    assert_eq!(relp.memory.kept.len(), WINDOW + 500);
    assert_eq!(heard.lines().count(), WINDOW + 500);
    assert!(heard.ends_with(&format!("\n{} rsp 6 200 OK\n", WINDOW + 501)));
}

#[test]
fn while_the_ring_is_full_nothing_is_lost_or_doubled() {
    let mut relp = Relp::opened();
    relp.memory.fill();
    assert_eq!(relp.say(b"2 syslog 3 one\n3 syslog 3 two\n"), Standing::Full);
    assert_eq!(relp.serve(), Standing::Full);
    assert!(!relp.session.awaits());
    relp.memory.commit();
    relp.memory.kept.clear();
    assert_eq!(relp.serve(), Standing::Open);
    relp.commit_and_answer();
    assert_eq!(relp.hear(), "2 rsp 6 200 OK\n3 rsp 6 200 OK\n");
    assert_eq!(relp.memory.texts(), ["one", "two"]);
}

#[test]
fn a_client_that_does_not_begin_is_closed_after_ten_seconds_and_an_open_session_never() {
    let mut relp = Relp::new();
    assert!(!relp.session.overdue(Instant::now() + Duration::from_secs(9)));
    assert!(relp.session.overdue(Instant::now() + Duration::from_secs(11)));
    assert_eq!(reasons(&relp.shared), ["relp_open_time"]);
    assert!(!Relp::opened().session.overdue(Instant::now() + Duration::from_hours(99)));
}

#[test]
fn at_a_stop_the_client_is_told_to_go() {
    let mut relp = Relp::opened();
    assert!(relp.session.finish(&mut relp.memory.collector, &mut Blind));
    assert_eq!(relp.hear(), "0 serverclose 0\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_end_or_are_taken(junk in prop::collection::vec(any::<u8>(), 1..200), opened in any::<bool>()) {
        let mut relp = if opened { Relp::opened() } else { Relp::new() };
        relp.say(&junk);
        relp.commit_and_answer();
        relp.serve();
    }
}
