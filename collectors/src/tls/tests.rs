//! TLS over loopback: a sender made of the same library, a session that is served as the loop does.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::keygen::keys;
use crate::testing::{Memory, connection, from, reasons};
use proptest::prelude::*;
use raven_jail::memory::memfd_of;
use raven_jail::receive::Blind;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// A certificate and its key, PEM.
type Pair = (String, String);

fn secrets(named: &[(&str, &str)]) -> BTreeMap<String, OwnedFd> {
    let each = named.iter();
    each.map(|(name, text)| (format!("collect.syslog.{name}"), memfd_of("secret", text.as_bytes()).unwrap())).collect()
}

/// Credentials that show `server` and ask for certificates of `ca`.
fn credentials(server: &Pair, ca: Option<&str>) -> Credentials {
    let mut credentials = Credentials::new("collect.syslog");
    let mut named = vec![("certificate", server.0.as_str()), ("key", server.1.as_str())];
    named.extend(ca.map(|ca| ("client_ca", ca)));
    credentials.renew(secrets(&named)).unwrap();
    credentials
}

/// A CA and a sender's certificate that it signed.
fn signed_sender() -> (String, Pair) {
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_certificate = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let mut sender = CertificateParams::new(vec!["switch".to_owned()]).unwrap();
    sender.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = sender.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem();
    (ca_certificate, (certificate, key.serialize_pem()))
}

/// What a sender trusts, shows and speaks.
fn sender(trusts: &str, shows: Option<&Pair>, version: &'static SupportedProtocolVersion) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusts.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    match shows {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    }
}

/// Both ends of a connection.
struct Link {
    client: ClientConnection,
    socket: TcpStream,
    session: TlsSession,
}

/// A receive memory and what the sessions share.
struct Collector {
    memory: Memory,
    shared: Rc<Shared>,
}

impl Collector {
    fn new() -> Self {
        Self { memory: Memory::new(), shared: Rc::new(Shared::new(64)) }
    }

    /// A connection whose client has said nothing yet.
    fn link(&self, credentials: &Credentials, config: ClientConfig) -> Link {
        let (socket, ours) = connection();
        socket.set_nonblocking(true).unwrap();
        let session = self.session(credentials, ours);
        let name = ServerName::try_from("raven").unwrap();
        Link { client: ClientConnection::new(Arc::new(config), name).unwrap(), socket, session }
    }

    fn session(&self, credentials: &Credentials, socket: OwnedFd) -> TlsSession {
        TlsSession::new(socket, from(), credentials.server().unwrap(), Rc::clone(&self.shared)).unwrap()
    }

    fn serve(&mut self, session: &mut TlsSession) -> Standing {
        std::thread::sleep(Duration::from_micros(200));
        let standing = session.serve(&mut self.memory.collector, &mut Blind);
        self.memory.collector.hand_over();
        standing
    }

    /// Moves bytes to and fro until both are silent.
    fn exchange(&mut self, link: &mut Link) -> Standing {
        for _ in 0..6 {
            while link.client.wants_write() && link.client.write_tls(&mut link.socket).is_ok() {}
            let standing = self.serve(&mut link.session);
            if standing != Standing::Open {
                return standing;
            }
            if link.client.read_tls(&mut link.socket).is_ok() {
                let _ = link.client.process_new_packets();
            }
        }
        Standing::Open
    }

    /// A connection whose handshake is done.
    fn connected(&mut self, credentials: &Credentials, config: ClientConfig) -> Link {
        let mut link = self.link(credentials, config);
        assert_eq!(self.exchange(&mut link), Standing::Open);
        assert!(!link.client.is_handshaking() && !link.session.tls.is_handshaking());
        link
    }
}

fn say(link: &mut Link, bytes: &[u8]) {
    link.client.writer().write_all(bytes).unwrap();
}

/// A client hello of TLS 1.1 without extensions.
const OLD_HELLO: [u8; 50] = {
    let mut hello = [7; 50];
    let head = [0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    let mut at = 0;
    while at < head.len() {
        hello[at] = head[at];
        at += 1;
    }
    // No session, one cipher (ECDHE-ECDSA-AES128-SHA), no compression.
    let tail = [0, 0, 2, 0xc0, 0x09, 1, 0];
    let mut at = 0;
    while at < tail.len() {
        hello[43 + at] = tail[at];
        at += 1;
    }
    hello
};

fn appliance() -> Pair {
    keys("raven").unwrap()
}

#[test]
fn messages_come_out_byte_for_byte_over_both_versions() {
    let server = appliance();
    let credentials = credentials(&server, None);
    for version in [&TLS12, &TLS13] {
        let mut collector = Collector::new();
        let mut link = collector.connected(&credentials, sender(&server.0, None, version));
        say(&mut link, b"9 <13>hello8 <13>a\nb\0<13>lf framed\n<1\xff3>\xfe\n");
        assert_eq!(collector.exchange(&mut link), Standing::Open);
        collector.memory.commit();
        let raw: Vec<_> = collector.memory.kept.iter().map(|(raw, _)| raw.as_slice()).collect();
        assert_eq!(raw, [&b"<13>hello"[..], b"<13>a\nb\0", b"<13>lf framed", b"<1\xff3>\xfe"], "{version:?}");
        assert!(link.session.plain.capacity() == 0, "an idle connection holds no buffer");
    }
}

#[test]
fn a_message_may_lie_in_any_number_of_tls_records_and_reads() {
    let server = appliance();
    let credentials = credentials(&server, None);
    let stream = b"9 <13>hello8 <13>a\nb\0";
    let mut collector = Collector::new();
    for cut in 1..stream.len() {
        let mut link = collector.connected(&credentials, sender(&server.0, None, &TLS13));
        for part in [&stream[..cut], &stream[cut..]] {
            say(&mut link, part);
            assert_eq!(collector.exchange(&mut link), Standing::Open);
        }
        assert_eq!(collector.memory.texts(), ["<13>hello", "<13>a\nb\0"], "{cut}");
        collector.memory.kept.clear();
    }
    // Encrypted bytes one by one.
    let mut link = collector.connected(&credentials, sender(&server.0, None, &TLS13));
    say(&mut link, stream);
    let mut encrypted = Vec::new();
    link.client.write_tls(&mut encrypted).unwrap();
    for byte in encrypted {
        link.socket.write_all(&[byte]).unwrap();
        assert_eq!(collector.serve(&mut link.session), Standing::Open);
    }
    assert_eq!(collector.memory.texts(), ["<13>hello", "<13>a\nb\0"]);
}

#[test]
fn what_was_begun_is_kept_at_the_end_with_or_without_close_notify() {
    let server = appliance();
    let credentials = credentials(&server, None);
    let mut collector = Collector::new();
    for polite in [true, false] {
        let mut link = collector.connected(&credentials, sender(&server.0, None, &TLS13));
        say(&mut link, b"9 <13>hello99 <13>hal");
        if polite {
            link.client.send_close_notify();
        }
        while link.client.wants_write() {
            link.client.write_tls(&mut link.socket).unwrap();
        }
        if !polite {
            link.socket.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(collector.exchange(&mut link), Standing::Closed);
        assert_eq!(collector.memory.texts(), ["<13>hello", "<13>hal"], "polite: {polite}");
        link.client.read_tls(&mut link.socket).unwrap();
        assert!(link.client.process_new_packets().unwrap().peer_has_closed(), "close_notify comes back");
        collector.memory.kept.clear();
    }
    assert!(reasons(&collector.shared).is_empty());
}

#[test]
fn a_connection_cut_at_any_byte_keeps_whole_records_and_never_panics() {
    let server = appliance();
    let credentials = credentials(&server, None);
    let mut collector = Collector::new();
    let mut link = collector.connected(&credentials, sender(&server.0, None, &TLS13));
    say(&mut link, b"5 <1>ab");
    let mut first = Vec::new();
    link.client.write_tls(&mut first).unwrap();
    for cut in 0..=first.len() {
        let mut link = collector.connected(&credentials, sender(&server.0, None, &TLS13));
        say(&mut link, b"5 <1>ab");
        let mut encrypted = Vec::new();
        link.client.write_tls(&mut encrypted).unwrap();
        link.socket.write_all(&encrypted[..cut]).unwrap();
        link.socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(collector.exchange(&mut link), Standing::Closed);
        assert_eq!(collector.memory.texts().len(), usize::from(cut == first.len()), "{cut}");
        collector.memory.kept.clear();
    }
}

#[test]
fn a_handshake_cut_at_any_byte_is_closed() {
    let server = appliance();
    let credentials = credentials(&server, None);
    let mut collector = Collector::new();
    let mut hello = Vec::new();
    collector.link(&credentials, sender(&server.0, None, &TLS12)).client.write_tls(&mut hello).unwrap();
    for cut in 0..=hello.len() {
        let mut link = collector.link(&credentials, sender(&server.0, None, &TLS12));
        link.socket.write_all(&hello[..cut]).unwrap();
        link.socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(collector.exchange(&mut link), Standing::Closed, "{cut}");
    }
    assert_eq!(reasons(&collector.shared), ["tls_handshake_left"]);
    assert_eq!(collector.shared.inbox().refused("tls_handshake_left"), hello.len() as u64, "silence is no handshake");
}

#[test]
fn a_long_message_is_kept_in_pieces() {
    let server = appliance();
    let credentials = credentials(&server, None);
    let mut collector = Collector::new();
    let mut link = collector.connected(&credentials, sender(&server.0, None, &TLS13));
    say(&mut link, format!("150 <1>{}", "x".repeat(147)).as_bytes());
    collector.exchange(&mut link);
    collector.memory.commit();
    let pieces: Vec<_> = collector.memory.kept.iter().map(|(raw, piece)| (raw.len(), *piece)).collect();
    assert_eq!(pieces, [(64, true), (64, true), (22, false)]);
}

#[test]
fn senders_show_a_certificate_where_a_client_ca_is_configured() {
    let server = appliance();
    let (ca, good) = signed_sender();
    let (_, stranger) = signed_sender();
    let credentials = credentials(&server, Some(&ca));
    for version in [&TLS12, &TLS13] {
        let mut collector = Collector::new();
        let mut link = collector.connected(&credentials, sender(&server.0, Some(&good), version));
        say(&mut link, b"<13>known\n");
        collector.exchange(&mut link);
        assert_eq!(collector.memory.texts(), ["<13>known"]);
        for (shown, reason) in [(None, "tls_no_client_certificate"), (Some(&stranger), "tls_unknown_ca")] {
            let mut collector = Collector::new();
            let mut link = collector.link(&credentials, sender(&server.0, shown, version));
            say(&mut link, b"<13>unknown\n");
            assert_eq!(collector.exchange(&mut link), Standing::Closed);
            assert_eq!(reasons(&collector.shared), [reason], "{version:?}");
            assert!(collector.memory.texts().is_empty(), "nothing of a stranger is kept");
        }
    }
}

#[test]
fn nobody_is_let_in_while_the_client_ca_that_is_wanted_has_not_come() {
    let server = appliance();
    let mut credentials = credentials(&server, None);
    credentials.want_client_ca(true);
    let error = credentials.server().unwrap_err().to_string();
    assert!(error.starts_with("collect.syslog.client_ca has not come"), "{error}");
}

#[test]
fn new_certificates_serve_new_connections_and_old_connections_live_on() {
    let (old, new) = (appliance(), appliance());
    let mut credentials = credentials(&old, None);
    let mut collector = Collector::new();
    let mut before = collector.connected(&credentials, sender(&old.0, None, &TLS13));
    credentials.renew(secrets(&[("certificate", &new.0), ("key", &new.1)])).unwrap();
    let mut after = collector.connected(&credentials, sender(&new.0, None, &TLS13));
    for (link, text) in [(&mut before, "<13>old\n"), (&mut after, "<13>new\n")] {
        say(link, text.as_bytes());
        collector.exchange(link);
    }
    assert_eq!(collector.memory.texts(), ["<13>old", "<13>new"]);
    // One that trusts only the old certificate.
    let mut link = collector.link(&credentials, sender(&old.0, None, &TLS13));
    assert_eq!(collector.exchange(&mut link), Standing::Closed);
    assert_eq!(reasons(&collector.shared), ["tls_sender_refused"]);
}

#[test]
fn secrets_that_are_not_usable_change_nothing_and_say_why() {
    let (server, other) = (appliance(), appliance());
    let mut credentials = credentials(&server, None);
    for (named, wrong) in [
        (vec![("key", other.1.as_str())], "collect.syslog.certificate has not come"),
        (vec![("certificate", "hunter2"), ("key", &other.1)], "collect.syslog.certificate holds no certificate in PEM"),
        (vec![("certificate", &other.0), ("key", "hunter2")], "collect.syslog.key holds no key in PEM"),
        (vec![("certificate", &other.0), ("key", &server.1)], "do not fit together"),
        (
            vec![("certificate", &other.0), ("key", &other.1), ("client_ca", "")],
            "collect.syslog.client_ca holds no certificate",
        ),
    ] {
        let error = credentials.renew(secrets(&named)).unwrap_err().to_string();
        assert!(error.contains(wrong) && !error.contains("hunter2"), "{error}");
    }
    Collector::new().connected(&credentials, sender(&server.0, None, &TLS13));
}

#[test]
fn a_secret_is_read_whole_by_each_collector_that_gets_it() {
    let server = appliance();
    let fds = secrets(&[("certificate", &server.0), ("key", &server.1)]);
    for _ in 0..2 {
        // As over SCM_RIGHTS: another descriptor of the same open file.
        let again = fds.iter().map(|(key, fd)| (key.clone(), fd.try_clone().unwrap())).collect();
        Credentials::new("collect.syslog").renew(again).unwrap();
    }
}

#[test]
fn what_speaks_no_tls_is_told_apart() {
    let server = appliance();
    let credentials = credentials(&server, None);
    for (bytes, reason) in [
        (&b"<13>plain syslog\n"[..], "tls_plain_text"),
        (b"16 <13>plain syslog", "tls_plain_text"),
        (b"GET / HTTP/1.1\r\n", "tls_not_tls"),
        (b"\x80\x2e\x01\x03\x01\x00\x15", "tls_old_version"),
        // As OpenSSL says hello with TLS 1.1, one cipher, no extension.
        (&OLD_HELLO, "tls_old_version"),
        (b"\x16\x03\x01\xff\xff\x01\x00\x00\x00", "tls_broken"),
    ] {
        let mut collector = Collector::new();
        let (mut socket, ours) = connection();
        let mut session = collector.session(&credentials, ours);
        socket.write_all(bytes).unwrap();
        assert_eq!(collector.serve(&mut session), Standing::Closed);
        assert_eq!(reasons(&collector.shared), [reason]);
        assert_eq!(collector.shared.inbox().refused(reason), 1);
        let mut heard = Vec::new();
        drop(session);
        let _ = socket.read_to_end(&mut heard);
        assert!(heard.len() <= 7, "an alert at most");
    }
}

#[test]
fn while_the_ring_is_full_nothing_is_read_and_after_it_nothing_is_missing() {
    let server = appliance();
    let credentials = credentials(&server, None);
    let mut collector = Collector::new();
    let mut link = collector.connected(&credentials, sender(&server.0, None, &TLS13));
    collector.memory.fill();
    let mut said = 0;
    // A megabyte: the session may hold one read of it, the sockets the rest.
    for n in 0..30_000 {
        let text = format!("<13>message number {n:010}\n");
        if link.client.writer().write(text.as_bytes()).unwrap() < text.len() {
            break;
        }
        said += 1;
        while link.client.wants_write() && link.client.write_tls(&mut link.socket).is_ok() {}
    }
    for _ in 0..50 {
        assert_eq!(collector.serve(&mut link.session), Standing::Full);
    }
    let held = link.session.plain.capacity();
    assert!(held <= crate::session::READ + RECORD_MAX + 64, "{held} bytes are held");
    collector.memory.commit();
    collector.memory.kept.clear();
    for _ in 0..200 {
        collector.exchange(&mut link);
        collector.memory.commit();
    }
    assert!(said > 1000);
    let texts = collector.memory.texts();
    assert_eq!(texts.len(), said);
    assert!(texts.iter().enumerate().all(|(n, text)| *text == format!("<13>message number {n:010}")));
}

#[test]
fn a_slow_handshake_is_closed_after_ten_seconds_and_an_idle_connection_never() {
    let server = appliance();
    let credentials = credentials(&server, None);
    let mut collector = Collector::new();
    let mut slow = collector.link(&credentials, sender(&server.0, None, &TLS13));
    assert_eq!(collector.serve(&mut slow.session), Standing::Open);
    assert!(!slow.session.overdue(Instant::now() + Duration::from_secs(9)));
    assert!(slow.session.overdue(Instant::now() + Duration::from_secs(11)));
    assert_eq!(reasons(&collector.shared), ["tls_handshake_time"]);
    let mut idle = collector.connected(&credentials, sender(&server.0, None, &TLS13));
    assert!(!idle.session.overdue(Instant::now() + Duration::from_hours(1000)));
    // At a stop it is asked for what it has, and told to go.
    say(&mut idle, b"<13>begun");
    collector.exchange(&mut idle);
    assert!(idle.session.finish(&mut collector.memory.collector, &mut Blind));
    assert_eq!(collector.memory.texts(), ["<13>begun"]);
    idle.client.read_tls(&mut idle.socket).unwrap();
    assert!(idle.client.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn an_empty_socket_brings_nothing() {
    let server = appliance();
    let credentials = credentials(&server, None);
    let mut collector = Collector::new();
    let mut link = collector.connected(&credentials, sender(&server.0, None, &TLS13));
    collector.serve(&mut link.session);
    assert_eq!((link.session.taken(), link.session.wants_write()), (0, false));
    assert_eq!(link.session.plain.capacity(), 0, "the handshake left no buffer");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_end_or_wait(junk in prop::collection::vec(any::<u8>(), 1..300), hello in any::<bool>()) {
        let server = keys("raven").unwrap();
        let credentials = credentials(&server, None);
        let mut collector = Collector::new();
        let (mut socket, ours) = connection();
        let mut session = collector.session(&credentials, ours);
        let head: &[u8] = if hello { b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x03" } else { b"" };
        socket.write_all(&[head, &junk].concat()).unwrap();
        collector.serve(&mut session);
        prop_assert!(collector.memory.texts().is_empty());
    }
}
