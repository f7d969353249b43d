//! Tests of services against servers that lie, stall and break on purpose, and beside Debian's own (dnsmasq, openssl, curl, chronyd)
//! where they are installed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[allow(dead_code, reason = "the other tests use all of it")]
mod chain;

use chain::Chain;
use raven_model::diag::services::{
    DnsResult, DnsServer, DnsTest, HttpResult, HttpTest, NtpResult, NtpTest, Outcome, RecordType, TcpResult, TcpTest,
    Tls, TlsResult, TlsTest, Transport,
};
use raven_model::diag::{Event, Family, Way};
use raven_netdiag::failure::Failure;
use raven_netdiag::session::Session;
use raven_netdiag::tls::Trust;
use raven_netdiag::{dns, http, ntp, tcp, tls};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Makes a test; what it told, or why not.
fn try_make(test: impl FnOnce(&mut Session) -> Result<(), Failure>) -> Result<Vec<Event>, Failure> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(theirs).lines().map(Result::unwrap);
        lines.filter(|line| line != "\"ok\"").map(|line| serde_json::from_str(&line).unwrap()).collect()
    });
    let mut session = Session::new(ours).unwrap();
    let outcome = test(&mut session);
    session.flush().unwrap();
    drop(session);
    outcome.map(|()| reader.join().unwrap())
}

fn make(test: impl FnOnce(&mut Session) -> Result<(), Failure>) -> Event {
    let event = try_make(test).unwrap().pop().unwrap();
    assert!(event.is_result());
    event
}

/// A program of others that goes with the test; none where it is not installed.
struct Program(Child);

impl Program {
    fn start(program: &str, arguments: &str) -> Option<Self> {
        let mut command = Command::new(program);
        command.args(arguments.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().ok();
        if child.is_none() {
            eprintln!("{program} is not here: not run");
        }
        child.map(Self)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn listens(port: u16) {
    let until = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "nobody listens at port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

// DNS

fn dns_test(server: String, record: RecordType, transport: Transport) -> DnsTest {
    DnsTest {
        name: "noc.example".to_owned(),
        record,
        servers: vec![server],
        way: Way::default(),
        transport,
        timeout_ms: 400,
        tries: 2,
    }
}

fn asked_with(test: &DnsTest, trust: &Trust) -> DnsServer {
    match make(|session| dns::run::run_with(test, session, trust)) {
        Event::Dns(DnsResult { mut servers, .. }) => servers.remove(0),
        other => panic!("{other:?}"),
    }
}

fn asked(test: &DnsTest) -> DnsServer {
    asked_with(test, &Trust::of([]))
}

/// The question with these flags, and addresses as its answer.
fn answer(question: &[u8], flags: u16, addresses: &[[u8; 4]]) -> Vec<u8> {
    let mut bytes = question.to_vec();
    bytes[2..4].copy_from_slice(&flags.to_be_bytes());
    bytes[6..8].copy_from_slice(&(addresses.len() as u16).to_be_bytes());
    for address in addresses {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend(address);
    }
    bytes
}

/// A server on both transports of one port: what it sends for a question by datagram, and by TCP.
fn dns_server(
    datagrams: impl Fn(&UdpSocket, &[u8], SocketAddr) + Send + 'static,
    stream: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
) -> SocketAddr {
    let (socket, listener) = loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()) {
            break (socket, listener);
        }
    };
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 600];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            datagrams(&socket, &buffer[..n], from);
        }
    });
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            let mut length = [0; 2];
            if connection.read_exact(&mut length).is_ok() {
                let mut question = vec![0; u16::from_be_bytes(length).into()];
                connection.read_exact(&mut question).unwrap();
                connection.write_all(&stream(&question)).unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    });
    address
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

#[test]
fn a_name_server_that_lies_and_answers_twice_is_believed_only_where_it_answers() {
    let liar = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = dns_server(
        move |socket, question, from| {
            let mut other_id = answer(question, 0x8180, &[[6; 4]]);
            other_id[0] ^= 0xff;
            let mut other_name = answer(question, 0x8180, &[[6; 4]]);
            other_name[13] ^= 1;
            let good = answer(question, 0x8180, &[[192, 0, 2, 1], [192, 0, 2, 2]]);
            liar.send_to(&answer(question, 0x8180, &[[6; 4]]), from).unwrap();
            for bytes in [&other_id, &other_name, &good[..good.len() - 1], &[][..], question, &good, &good] {
                socket.send_to(bytes, from).unwrap();
            }
        },
        |_| Vec::new(),
    );
    let told = asked(&dns_test(server.to_string(), RecordType::A, Transport::Udp));
    let data: Vec<&str> = told.answers.iter().map(|record| record.data.as_str()).collect();
    assert_eq!(data, ["192.0.2.1", "192.0.2.2"], "{told:?}");
    let ignored = told.ignored;
    assert_eq!(
        (ignored.wrong_id, ignored.wrong_question, ignored.wrong_address, ignored.malformed),
        (1, 1, 1, 3),
        "{told:?}"
    );
    assert_eq!((told.rcode.as_deref(), told.sent, told.error), (Some("NOERROR"), 1, None));
    assert!(told.time_us.unwrap() < 400_000 && told.answers[0].ttl == 60);
}

#[test]
fn a_cut_answer_is_asked_for_by_tcp_where_lies_do_not_help_either() {
    let server = dns_server(
        |socket, question, from| drop(socket.send_to(&answer(question, 0x8380, &[]), from)),
        |question| {
            let mut other = answer(question, 0x8180, &[]);
            other[1] ^= 1;
            [framed(&other), framed(&answer(question, 0x8580, &vec![[192, 0, 2, 7]; 300]))].concat()
        },
    );
    let told = asked(&dns_test(server.to_string(), RecordType::A, Transport::Udp));
    assert_eq!(
        (told.transport, told.truncated, told.sent, told.ignored.wrong_id),
        (Transport::Tcp, true, 2, 1),
        "{told:?}"
    );
    assert_eq!((told.answers.len(), told.more, told.flags), (128, 172, ["aa", "rd", "ra"].map(str::to_owned).to_vec()));
    // By TCP at once, and one that closes in the middle.
    let told = asked(&dns_test(server.to_string(), RecordType::A, Transport::Tcp));
    assert_eq!((told.answers.len(), told.truncated), (128, false));
    let short = dns_server(|_, _, _| {}, |_| vec![0, 200, 1]);
    let told = asked(&dns_test(short.to_string(), RecordType::A, Transport::Tcp));
    assert!(told.error.unwrap().contains("before its answer was whole"));
}

#[test]
fn why_a_name_server_does_not_answer_is_told() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let told = asked(&dns_test(silent.local_addr().unwrap().to_string(), RecordType::A, Transport::Udp));
    assert_eq!((told.error.as_deref(), told.sent), (Some("no answer in time"), 2));
    let closed = format!("127.0.0.1:{}", free_port());
    let told = asked(&dns_test(closed.clone(), RecordType::A, Transport::Udp));
    assert_eq!((told.error.as_deref(), told.sent), (Some("port unreachable"), 1));
    let told = asked(&dns_test(closed, RecordType::A, Transport::Tcp));
    assert_eq!(told.error.as_deref(), Some("TCP: refused: nobody listens there"));
    let told = asked(&dns_test("nobody.invalid".to_owned(), RecordType::A, Transport::Udp));
    assert!(told.error.unwrap().contains("does not resolve") && told.address.is_none());
    for (name, servers) in [("a..b", 1), ("noc", 17)] {
        let mut test = dns_test("127.0.0.1".to_owned(), RecordType::A, Transport::Udp);
        test.name = name.to_owned();
        test.servers = vec!["127.0.0.1".to_owned(); servers];
        assert!(matches!(try_make(|session| dns::run::run(&test, session)), Err(Failure::Refused(_))));
    }
}

#[test]
fn dnsmasq_answers_each_type_as_dig_shows_it() {
    let port = free_port();
    let long = format!("--txt-record=long.example,{}", vec!["x".repeat(200); 6].join(","));
    let arguments = format!(
        "--keep-in-foreground --no-resolv --no-hosts --conf-file=/dev/null --listen-address=127.0.0.1 --bind-interfaces \
         --port={port} --pid-file= --user=root --host-record=noc.example,192.0.2.1,2001:db8::1,77 --cname=www.example,noc.example \
         --txt-record=noc.example,hello --mx-host=noc.example,mail.example,10 --srv-host=_ntp._udp.noc.example,noc.example,123,1,2 \
         --local=/example/ {long}"
    );
    let Some(_server) = Program::start("dnsmasq", &arguments) else { return };
    listens(port);
    let server = format!("127.0.0.1:{port}");
    for (name, record, expected) in [
        ("noc.example", RecordType::A, "192.0.2.1"),
        ("noc.example", RecordType::Aaaa, "2001:db8::1"),
        ("192.0.2.1", RecordType::Ptr, "noc.example"),
        ("noc.example", RecordType::Txt, "\"hello\""),
        ("noc.example", RecordType::Mx, "10 mail.example"),
        ("_ntp._udp.noc.example", RecordType::Srv, "1 2 123 noc.example"),
        ("www.example", RecordType::Cname, "noc.example"),
    ] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let told = asked(&DnsTest { name: name.to_owned(), ..dns_test(server.clone(), record, transport) });
            assert_eq!(told.answers.first().map(|record| record.data.as_str()), Some(expected), "{told:?}");
            assert_eq!((told.rcode.as_deref(), told.ignored.sum()), (Some("NOERROR"), 0));
        }
        let asked = if record == RecordType::Ptr { format!("-x {name}") } else { format!("{name} {}", record.name()) };
        let dig = Command::new("dig").args(format!("@127.0.0.1 -p {port} +short {asked}").split_whitespace()).output();
        if let Ok(dig) = dig {
            let text = String::from_utf8_lossy(&dig.stdout).trim().trim_end_matches('.').to_owned();
            assert_eq!(text, expected);
        }
    }
    let none =
        asked(&DnsTest { name: "none.example".to_owned(), ..dns_test(server.clone(), RecordType::A, Transport::Udp) });
    assert_eq!((none.rcode.as_deref(), none.answers.len()), (Some("NXDOMAIN"), 0));
    let long = asked(&DnsTest { name: "long.example".to_owned(), ..dns_test(server, RecordType::Txt, Transport::Udp) });
    assert_eq!((long.truncated, long.transport, long.answers.len()), (true, Transport::Tcp, 1), "{long:?}");
}

// TCP

fn tcp_test(target: &str, port: u16) -> TcpTest {
    TcpTest { target: target.to_owned(), port, way: Way::default(), timeout_ms: 500 }
}

fn connected(test: &TcpTest) -> TcpResult {
    match make(|session| tcp::run(test, session)) {
        Event::Tcp(result) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_address_of_a_name_is_tried_and_a_refusal_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let result = connected(&tcp_test("localhost", port));
    let v4 = result.connections.iter().find(|connection| connection.address.is_ipv4()).unwrap();
    assert_eq!((v4.outcome, v4.source.unwrap().ip().to_string().as_str()), (Outcome::Connected, "127.0.0.1"));
    for v6 in result.connections.iter().filter(|connection| connection.address.is_ipv6()) {
        assert_eq!((v6.outcome, v6.why.as_deref()), (Outcome::Refused, Some("nobody listens there")), "{v6:?}");
    }
    let four =
        Way { family: Some(Family::Ipv4), source: Some([127, 0, 0, 9].into()), interface: Some("lo".to_owned()) };
    let result = connected(&TcpTest { way: four, ..tcp_test("localhost", port) });
    assert_eq!(result.connections.len(), 1);
    assert_eq!(result.connections[0].source.unwrap().ip().to_string(), "127.0.0.9");
    for (interface, source, why) in
        [(Some("eth99"), None, "eth99"), (None, Some([192, 0, 2, 99]), "no address 192.0.2.99")]
    {
        let way = Way { interface: interface.map(str::to_owned), source: source.map(Into::into), family: None };
        match try_make(|session| tcp::run(&TcpTest { way, ..tcp_test("127.0.0.1", port) }, session)) {
            Err(Failure::Refused(words)) => assert!(words.contains(why), "{words}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_forbids_the_way_to_a_port_is_named_and_silence_is_told_from_it() {
    if !chain::is_possible() {
        return;
    }
    let chain = Chain::new("port", "forbidden");
    let target = chain.target();
    let result = chain.inside(|| connected(&tcp_test(&target, 80))).connections.remove(0);
    let by = result.by.map(|by| by.to_string());
    assert_eq!(
        (result.outcome, result.why.as_deref(), by.as_deref()),
        (Outcome::Unreachable, Some("administratively prohibited"), Some("10.12.3.2"))
    );
    let told = chain.inside(|| asked(&dns_test(target.clone(), RecordType::A, Transport::Udp)));
    assert_eq!(told.error.as_deref(), Some("administratively prohibited, says 10.12.3.2"));
    // Nobody has that address on the first link.
    let result =
        chain.inside(|| connected(&TcpTest { timeout_ms: 5000, ..tcp_test("10.10.1.77", 80) })).connections.remove(0);
    assert_eq!(
        (result.outcome, result.why.as_deref()),
        (Outcome::Unreachable, Some("no answer to ARP or neighbour discovery"))
    );
    chain.rule(1, "forward", "iifname west tcp dport 81 drop");
    chain.rule(1, "forward", "iifname west tcp dport 82 reject with tcp reset");
    let result = chain.inside(|| connected(&tcp_test(&target, 81))).connections.remove(0);
    assert_eq!((result.outcome, result.why.as_deref()), (Outcome::Timeout, Some("no answer")));
    let result = chain.inside(|| connected(&tcp_test(&target, 82))).connections.remove(0);
    assert_eq!((result.outcome, result.by), (Outcome::Refused, None));
    let plain = Chain::new("ports", "plain");
    let result = plain.inside(|| connected(&tcp_test(&plain.target_v6(), 80))).connections.remove(0);
    assert_eq!((result.outcome, result.why.as_deref()), (Outcome::Refused, Some("nobody listens there")));
}

#[test]
fn an_operator_who_goes_away_ends_a_request_in_the_middle() {
    let server = http_server(|connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while connection.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let (ours, theirs) = UnixStream::pair().unwrap();
    let began = Instant::now();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(theirs);
    });
    let test = HttpTest { limit: u64::MAX, whole_ms: 60_000, ..http_test(format!("http://{server}/")) };
    let outcome = http::run::run(&test, &mut Session::new(ours).unwrap());
    assert_eq!(outcome, Err(Failure::Gone));
    assert!(began.elapsed() < Duration::from_secs(10));
}

// TLS

/// An authority, and a certificate for this name and these days that it signed.
struct Papers {
    authority: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    pem: String,
    key: KeyPair,
}

impl Papers {
    fn new(name: &str, (from, until): (i32, i32)) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "the venue's authority");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a service");
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &authority).unwrap();
        let pem = own.pem() + &authority.pem();
        Self { authority: authority.der().clone(), pem, chain: vec![own.der().clone(), authority.der().clone()], key }
    }

    fn good() -> Self {
        Self::new("localhost", (2020, 2090))
    }

    fn trust(&self) -> Trust {
        Trust::of([self.authority.clone()])
    }

    fn config(&self, asks: bool) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
        let builder = if asks {
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        Arc::new(builder.with_single_cert(self.chain.clone(), key).unwrap())
    }

    /// A server that has a handshake with each and says this over it.
    fn serve(&self, asks: bool, says: &'static [u8]) -> u16 {
        let (config, listener) = (self.config(asks), TcpListener::bind("127.0.0.1:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = rustls::Stream::new(&mut tls, &mut socket);
                let mut request = [0; 1024];
                if stream.read(&mut request).is_ok_and(|n| n > 0) {
                    let _ = stream.write_all(says);
                }
                tls.send_close_notify();
                let _ = tls.complete_io(&mut socket);
            }
        });
        port
    }
}

fn tls_test(port: u16) -> TlsTest {
    let way = Way { family: Some(Family::Ipv4), ..Way::default() };
    TlsTest { target: "localhost".to_owned(), port, name: None, way, timeout_ms: 2000 }
}

fn shaken(test: &TlsTest, trust: &Trust) -> Tls {
    match make(|session| tls::run::run_with(test, session, trust)) {
        Event::Tls(TlsResult { tls, .. }) => tls.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_certificate_is_shown_and_judged_whatever_is_wrong_with_it() {
    let good = Papers::good();
    let told = shaken(&tls_test(good.serve(false, b"")), &good.trust());
    assert!(told.verified && told.error.is_none() && !told.wants_certificate, "{told:?}");
    assert_eq!(told.version.as_deref(), Some("TLS 1.3"));
    assert!(told.cipher.unwrap().starts_with("TLS_") && told.chain.len() == 2);
    assert_eq!(
        (told.chain[0].subject.as_str(), told.chain[0].names.as_slice()),
        ("CN=a service", &["localhost".to_owned()][..])
    );
    assert!(told.chain[0].issuer.contains("the venue's authority") && told.chain[0].days_left > 365);

    let port = good.serve(true, b"");
    let told = shaken(&tls_test(port), &Trust::of([]));
    assert!(
        !told.verified && told.untrusted.unwrap().contains("nobody whom this system trusts") && told.misnamed.is_none()
    );
    assert!(told.wants_certificate);
    let told = shaken(&TlsTest { name: Some("noc.example".to_owned()), ..tls_test(port) }, &good.trust());
    assert!(!told.verified && told.untrusted.is_none());
    assert_eq!(told.misnamed.as_deref(), Some("its certificate is not for noc.example but for localhost"));

    // Both at once, and the report goes on.
    let old = Papers::new("old.example", (2020, 2021));
    let told = shaken(&tls_test(old.serve(false, b"")), &old.trust());
    assert!(told.untrusted.unwrap().contains("expired") && told.misnamed.unwrap().contains("old.example"));
    assert!(told.error.is_none() && told.chain[0].days_left < -365 && told.version.is_some());
    let early = Papers::new("localhost", (2089, 2090));
    assert!(shaken(&tls_test(early.serve(false, b"")), &early.trust()).untrusted.unwrap().contains("not valid yet"));
}

#[test]
fn what_speaks_no_tls_says_nothing_or_closes_is_told() {
    for (says, stays, why) in [
        (&b"220 mail.example ESMTP\r\n"[..], true, "does not speak TLS"),
        (b"", true, "no answer in time"),
        (b"", false, "closed the connection during the handshake"),
    ] {
        let server = http_server(move |connection| {
            let _ = connection.write_all(says);
            let _ = connection.flush();
            std::thread::sleep(Duration::from_millis(if stays { 1500 } else { 100 }));
        });
        let test = TlsTest { timeout_ms: 700, ..tls_test(server.port()) };
        let told = shaken(&test, &Trust::of([]));
        assert!(told.error.as_ref().unwrap().contains(why) && !told.verified, "{told:?}");
    }
    let refused = make(|session| tls::run::run(&tls_test(free_port()), session));
    let Event::Tls(result) = refused else { panic!("{refused:?}") };
    assert!(result.tls.is_none() && result.connections[0].outcome == Outcome::Refused, "{result:?}");
}

#[test]
fn openssl_is_read_as_it_reads_itself() {
    let papers = Papers::good();
    let folder = std::env::temp_dir().join(format!("raven-services-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (certificate, key) = (folder.join("own.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, &papers.pem).unwrap();
    std::fs::write(&key, papers.key.serialize_pem()).unwrap();
    for (flags, version, cipher) in [
        ("-tls1_3 -ciphersuites TLS_AES_256_GCM_SHA384", "TLS 1.3", "TLS_AES_256_GCM_SHA384"),
        ("-tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305", "TLS 1.2", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ] {
        let port = free_port();
        let (certificate, key) = (certificate.display(), key.display());
        let arguments = format!(
            "s_server -accept {port} -cert {certificate} -cert_chain {certificate} -key {key} -www -quiet {flags}"
        );
        let Some(_server) = Program::start("openssl", &arguments) else { return };
        listens(port);
        let told = shaken(&tls_test(port), &papers.trust());
        assert_eq!(
            (told.version.as_deref(), told.cipher.as_deref(), told.verified),
            (Some(version), Some(cipher), true),
            "{told:?}"
        );
        let told = requested(&http_test(format!("https://localhost:{port}/")), &papers.trust());
        assert_eq!(
            (told.status, told.is_whole, told.tls.unwrap().verified),
            (Some(200), true, true),
            "{:?}",
            told.error
        );
        assert!(told.body_bytes > 100);
    }
    let port = free_port();
    let (certificate, key) = (certificate.display(), key.display());
    let arguments =
        format!("s_server -accept {port} -cert {certificate} -key {key} -www -quiet -tls1_1 -cipher ALL:@SECLEVEL=0");
    if let Some(_server) = Program::start("openssl", &arguments) {
        listens(port);
        let told = shaken(&tls_test(port), &papers.trust());
        assert!(told.error.unwrap().contains("older version than TLS 1.2"));
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn dns_over_tls_is_asked_and_its_certificate_judged() {
    let papers = Papers::good();
    let (config, listener) = (papers.config(false), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(&framed(&answer(&question, 0x8180, &[[192, 0, 2, 5]]))).unwrap();
        }
    });
    let mut test = dns_test(format!("localhost:{port}"), RecordType::A, Transport::Tls);
    test.way.family = Some(Family::Ipv4);
    let told = asked_with(&test, &papers.trust());
    assert_eq!((told.answers[0].data.as_str(), told.untrusted, told.transport), ("192.0.2.5", None, Transport::Tls));
    let told = asked(&DnsTest { servers: vec![format!("127.0.0.1:{port}")], ..test });
    assert!(told.untrusted.unwrap().contains("nobody whom") && told.answers.len() == 1);
}

// HTTP

fn http_server(serve: impl Fn(&mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let _ = connection.read(&mut request);
            serve(&mut connection);
        }
    });
    address
}

fn http_test(url: String) -> HttpTest {
    let way = Way { family: Some(Family::Ipv4), ..Way::default() };
    HttpTest { url, way, timeout_ms: 1000, whole_ms: 3000, limit: 1 << 20 }
}

fn requested(test: &HttpTest, trust: &Trust) -> HttpResult {
    match make(|session| http::run::run_with(test, session, trust)) {
        Event::Http(result) => result,
        other => panic!("{other:?}"),
    }
}

fn got(test: &HttpTest) -> HttpResult {
    requested(test, &Trust::of([]))
}

#[test]
fn each_phase_of_a_request_is_timed_and_a_redirect_is_not_followed() {
    let server = http_server(|connection| {
        std::thread::sleep(Duration::from_millis(200));
        let _ =
            connection.write_all(b"HTTP/1.1 301 Moved Permanently\r\nLocation: http://192.0.2.1/\r\nServer: test\r\n");
        let _ = connection.write_all(b"Set-Cookie: secret=1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n");
        std::thread::sleep(Duration::from_millis(300));
        let _ = connection.write_all(b"0\r\n\r\n");
    });
    let told = got(&http_test(format!("http://localhost:{}/a?b", server.port())));
    assert_eq!((told.status, told.body_bytes, told.is_whole, told.error.as_deref()), (Some(301), 4, true, None));
    let headers: Vec<&str> = told.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(headers, ["location", "server", "transfer-encoding"]);
    let (first, whole) = (told.first_byte_us.unwrap(), told.whole_us.unwrap());
    assert!((200_000..450_000).contains(&first) && (500_000..900_000).contains(&whole), "{first} {whole}");
    assert!(told.total_us >= whole && told.connections[0].time_us < 200_000);
    let format = "%{time_starttransfer} %{time_total}";
    let curl =
        Command::new("curl").args(["-s", "-o", "/dev/null", "-w", format, &format!("http://{server}/")]).output();
    if let Ok(curl) = curl {
        let text = String::from_utf8_lossy(&curl.stdout).into_owned();
        let times: Vec<f64> = text.split(' ').map(|time| time.parse().unwrap()).collect();
        println!("first byte, whole: ours {first} {whole} us, curl's {times:?} s");
        assert!(
            (times[0] * 1e6 - f64::from(first)).abs() < 100_000.0
                && (times[1] * 1e6 - f64::from(whole)).abs() < 200_000.0
        );
    }
}

#[test]
fn a_response_that_never_ends_is_given_up_by_time_and_by_length() {
    let endless = http_server(|connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while connection.write_all(&[b'x'; 8192]).is_ok() {}
    });
    let told = got(&http_test(format!("http://{endless}/")));
    assert!(told.error.unwrap().contains("longer than 1048576 bytes") && told.body_bytes < 2 << 20 && !told.is_whole);
    let told = got(&HttpTest { limit: u64::MAX, whole_ms: 300, ..http_test(format!("http://{endless}/")) });
    assert!(told.error.unwrap().contains("no answer in time") && told.status == Some(200));
    let drops = http_server(|connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nA: ");
        while connection.write_all(b"b").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let began = Instant::now();
    let told = got(&HttpTest { whole_ms: 500, ..http_test(format!("http://{drops}/")) });
    assert!(
        told.error.is_some() && told.status.is_none() && began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    let header = http_server(|connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n");
        while connection.write_all(b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n").is_ok() {}
    });
    assert!(got(&http_test(format!("http://{header}/"))).error.unwrap().contains("header is longer"));
    let silent = http_server(|_| std::thread::sleep(Duration::from_secs(2)));
    let told = got(&HttpTest { timeout_ms: 300, ..http_test(format!("http://{silent}/")) });
    assert_eq!((told.error.as_deref(), told.first_byte_us), (Some("no answer in time"), None));
    let closed = got(&http_test(format!("http://127.0.0.1:{}/", free_port())));
    assert_eq!(closed.error.as_deref(), Some("refused: nobody listens there"));
}

#[test]
fn https_is_timed_with_its_handshake_and_an_untrusted_server_is_told() {
    let papers = Papers::good();
    let port = papers.serve(false, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
    let told = requested(&http_test(format!("https://localhost:{port}/")), &papers.trust());
    assert!(told.is_whole && told.tls.as_ref().unwrap().verified && told.tls.unwrap().handshake_us > 0);
    let told = got(&http_test(format!("https://localhost:{port}/")));
    assert!(told.is_whole && !told.tls.unwrap().verified && told.status == Some(200));
    // An end without close_notify is none: somebody may have cut it.
    let plain = http_server(|connection| drop(connection.write_all(b"SSH-2.0-x\r\n")));
    let told = got(&http_test(format!("https://localhost:{}/", plain.port())));
    assert!(told.error.unwrap().starts_with("TLS: it does not speak TLS"));
    let told = got(&http_test(format!("http://{plain}/")));
    assert!(told.error.unwrap().contains("does not speak HTTP"));
}

// NTP

fn ntp_test(servers: Vec<String>) -> NtpTest {
    NtpTest { servers, way: Way::default(), count: 3, interval_ms: 100, timeout_ms: 300 }
}

fn clocks(test: &NtpTest) -> Vec<NtpResult> {
    match make(|session| ntp::run::run(test, session)) {
        Event::Ntp(results) => results,
        other => panic!("{other:?}"),
    }
}

/// A time server whose clock is so far from ours; what else it does to its answers.
fn time_server(offset_ms: i64, spoil: impl Fn(u32, &mut [u8; 48]) + Send + 'static) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut query, mut n) = ([0; 48], 0);
        while let Ok((48, from)) = socket.recv_from(&mut query) {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            let shifted = i128::try_from(now.as_nanos()).unwrap() + i128::from(offset_ms) * 1_000_000;
            let stamp = ntp::Stamp::of(Duration::from_nanos(u64::try_from(shifted).unwrap())).0.to_be_bytes();
            let mut packet = [0; 48];
            (packet[0], packet[1]) = (4 << 3 | 4, 2);
            packet[12..16].copy_from_slice(&[192, 0, 2, 123]);
            packet[24..32].copy_from_slice(&query[40..]);
            packet[32..40].copy_from_slice(&stamp);
            packet[40..].copy_from_slice(&stamp);
            spoil(n, &mut packet);
            socket.send_to(&packet, from).unwrap();
            n += 1;
        }
    });
    address.to_string()
}

#[test]
fn a_known_offset_is_found_and_the_fastest_answer_counts() {
    let slow = time_server(-86_400_000, |n, _| {
        if n != 1 {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let servers = vec![time_server(90_061_000, |_, _| {}), slow];
    let results = clocks(&ntp_test(servers));
    for (result, expected) in results.iter().zip([90_061_000_000, -86_400_000_000_i64]) {
        let (offset, delay) = (result.offset_us.unwrap(), result.delay_us.unwrap());
        assert_eq!((result.sent, result.received, result.ignored), (3, 3, 0), "{result:?}");
        assert!((offset - expected).abs() < 20_000 && delay < 50_000, "{result:?}");
        assert_eq!((result.stratum, result.reference.as_deref()), (Some(2), Some("192.0.2.123")));
        println!("offset off by {} us, delay {delay} us", offset - expected);
    }
}

#[test]
fn answers_to_nothing_are_ignored_a_kiss_is_obeyed_and_silence_is_told() {
    let forged = time_server(5000, |_, packet| packet[24] ^= 1);
    let kissing = time_server(0, |_, packet| {
        packet[1] = 0;
        packet[12..16].copy_from_slice(b"RATE");
    });
    let unsynchronised = time_server(0, |_, packet| packet[0] |= 0xc0);
    let closed = format!("127.0.0.1:{}", free_port());
    let results = clocks(&ntp_test(vec![forged, kissing, unsynchronised, closed, "nobody.invalid".to_owned()]));
    assert_eq!(
        (results[0].received, results[0].ignored, results[0].error.as_deref()),
        (0, 3, Some("no answer in time"))
    );
    assert_eq!((results[1].sent, results[1].kiss.as_deref(), results[1].offset_us), (1, Some("RATE"), None));
    assert_eq!((results[2].received, results[2].leap.as_deref()), (3, Some("unsynchronised")));
    assert_eq!((results[3].sent, results[3].error.as_deref()), (3, Some("port unreachable")));
    assert!(results[4].error.as_ref().unwrap().contains("does not resolve"));
}

#[test]
fn chronyd_on_this_clock_is_as_late_as_it_is() {
    let port = free_port();
    let folder = std::env::temp_dir().join(format!("raven-chrony-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let conf = folder.join("conf");
    let text = format!(
        "port {port}\nbindaddress 127.0.0.1\nallow\nlocal stratum 7\ncmdport 0\npidfile {}\n",
        folder.join("pid").display()
    );
    std::fs::write(&conf, text).unwrap();
    // -x: it leaves the clock alone.
    let server = Program::start("chronyd", &format!("-x -d -u root -f {}", conf.display()));
    if server.is_some() {
        std::thread::sleep(Duration::from_millis(500));
        let result = clocks(&ntp_test(vec![format!("127.0.0.1:{port}")])).remove(0);
        assert_eq!((result.received, result.stratum, result.leap.as_deref()), (3, Some(7), Some("none")), "{result:?}");
        println!("chronyd: offset {} us, delay {} us", result.offset_us.unwrap(), result.delay_us.unwrap());
        assert!(result.offset_us.unwrap().abs() < 5000 && result.delay_us.unwrap() < 20_000, "{result:?}");
    }
    drop(server);
    std::fs::remove_dir_all(&folder).unwrap();
}
