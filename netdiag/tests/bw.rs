//! Bandwidth against Debian's iperf3, as its client and as its server, and against peers that lie.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod chain;

use chain::{Chain, is_possible};
use raven_model::config;
use raven_model::diag::bw::{
    BandwidthResult, BandwidthServer, BandwidthTest, Direction, Interval, Limits, ServerResult, Transfer, Transport,
};
use raven_model::diag::{Event, Way};
use raven_model::units::ByteCount;
use raven_netdiag::bw;
use raven_netdiag::bw::terms::Terms;
use raven_netdiag::failure::Failure;
use raven_netdiag::session::Session;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// One at a time: each takes all of the machine, and no more than four run.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn has_iperf3() -> bool {
    let is_here = Command::new("iperf3").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !is_here {
        eprintln!("iperf3 is not here: nothing to compare with");
    }
    is_here
}

fn test(transport: Transport, direction: Direction, port: u16) -> BandwidthTest {
    BandwidthTest {
        target: "127.0.0.1".to_owned(),
        way: Way::default(),
        port,
        transport,
        direction,
        streams: 1,
        rate: (transport == Transport::Udp).then_some(20_000_000),
        seconds: 1,
        omit: 0,
        length: None,
    }
}

/// What is told behind the word that the answer begins.
fn events(stream: UnixStream) -> impl Iterator<Item = Event> {
    let lines = BufReader::new(stream).lines().map(Result::unwrap).filter(|line| line != "\"ok\"");
    lines.map(|line| serde_json::from_str(&line).unwrap())
}

/// Makes a test; what it told, and how it ended.
fn make(work: impl FnOnce(&mut Session) -> Result<(), Failure> + Send) -> (Vec<Event>, Result<(), Failure>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || events(theirs).collect());
        let mut session = Session::new(ours).unwrap();
        let outcome = work(&mut session);
        session.flush().unwrap();
        drop(session);
        (reader.join().unwrap(), outcome)
    })
}

/// As client of a server that is about to listen.
fn measure(test: &BandwidthTest) -> (BandwidthResult, Vec<Interval>) {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let (mut events, outcome) = make(|session| bw::client::run(test, session));
        match (events.pop(), outcome) {
            (Some(Event::Bandwidth(result)), Ok(())) => {
                let intervals = events.into_iter().filter_map(|event| match event {
                    Event::Interval(interval) => Some(interval),
                    _ => None,
                });
                return (result, intervals.collect());
            }
            (_, Err(Failure::Refused(why))) if why.contains("nobody listens") && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => panic!("{test:?}: {other:?}"),
        }
    }
}

fn iperf3(words: &str) -> Child {
    Command::new("iperf3").args(words.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn json_of(child: Child) -> Value {
    let done = child.wait_with_output().unwrap();
    serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&done.stdout)))
}

/// Within so many percent, or so much.
fn is_near(ours: f64, theirs: f64, percent: f64, slack: f64) -> bool {
    (ours - theirs).abs() <= (theirs.abs() * percent / 100.0).max(slack)
}

fn sum(result: &BandwidthResult, direction: Direction) -> &Transfer {
    result.sums.iter().find(|sum| sum.direction == direction).unwrap()
}

fn number(json: &Value, path: &str) -> f64 {
    json.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}: {:#}", json["end"]))
}

const MODES: [(Direction, u8, u32); 5] = [
    (Direction::Up, 1, 0),
    (Direction::Down, 2, 0),
    (Direction::Both, 2, 0),
    (Direction::Up, 2, 1),
    (Direction::Down, 1, 1),
];

/// The most that lies in the kernel of one stream of TCP, at both ends.
fn buffers() -> f64 {
    let most = |file: &str| -> f64 {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{file}")).unwrap();
        text.split_whitespace().last().unwrap().parse().unwrap()
    };
    most("tcp_rmem") + most("tcp_wmem")
}

/// One direction as the sender and the receiver counted it hangs together: what is on the way makes the difference, and that
/// each end begins and ends by a clock of its own, and the machine may have much else to do: so half of it, and nothing is
/// said of how fast it was. What exactly was counted is held against what iperf3 says of itself.
fn hangs_together(sum: &Transfer, streams: u8, what: &str) {
    let (sent, received) = (sum.sent.bytes as f64, sum.received.bytes as f64);
    assert!((0.8..5.0).contains(&sum.sent.seconds) && (0.8..5.0).contains(&sum.received.seconds), "{what}: {sum:?}");
    let streams = f64::from(streams);
    if let Some(udp) = sum.udp {
        assert!((0.0..=100.0).contains(&udp.loss) && udp.jitter_us > 0.0, "{what}: {sum:?}");
        let lost = udp.lost as f64 * 1460.0;
        assert!(is_near(received + lost, sent, 50.0, streams * 500_000.0), "{what}: {sum:?}");
        assert!(sum.sent.bits_per_second < streams * 21e6, "{what}: {sum:?}");
    } else {
        assert!(is_near(sent, received, 50.0, streams * buffers()), "{what}: {sum:?}");
        assert!(sum.retransmits.is_some() && received > 1e6, "{what}: {sum:?}");
    }
}

#[test]
fn as_client_of_iperf3_every_mode_counts_what_iperf3_counts() {
    let _alone = alone();
    if !has_iperf3() {
        return;
    }
    for transport in [Transport::Tcp, Transport::Udp] {
        for (direction, streams, omit) in MODES {
            let what = format!("{transport:?} {direction:?} -P {streams} -O {omit}");
            let port = free_port();
            let server = iperf3(&format!("-s -1 -J -p {port}"));
            let (result, intervals) = measure(&BandwidthTest { streams, omit, ..test(transport, direction, port) });
            let theirs = json_of(server);
            let ways: &[_] =
                if direction == Direction::Both { &[Direction::Up, Direction::Down] } else { &[direction] };
            for way in ways {
                let ours = sum(&result, *way);
                hangs_together(ours, streams, &what);
                // What iperf3 received, or sent.
                let (key, theirs_by_us) = match (way, direction) {
                    (Direction::Up, _) => ("sum_received", ours.received),
                    (_, Direction::Both) => ("sum_sent_bidir_reverse", ours.sent),
                    _ => ("sum_sent", ours.sent),
                };
                let bytes = number(&theirs, &format!("/end/{key}/bytes"));
                assert!(is_near(theirs_by_us.bytes as f64, bytes, 0.0, 0.5), "{what}: {ours:?} {bytes}");
                let rate = number(&theirs, &format!("/end/{key}/bits_per_second"));
                assert!(is_near(theirs_by_us.bits_per_second, rate, 1.0, 0.0), "{what}: {ours:?} {rate}");
                if let (Some(udp), 0) = (ours.udp, omit) {
                    let packets = number(&theirs, &format!("/end/{key}/packets"));
                    assert!(
                        is_near(udp.sent as f64, packets, 2.0, 300.0 * f64::from(streams)),
                        "{what}: {udp:?} {packets}"
                    );
                }
            }
            assert_eq!(result.streams.len(), usize::from(streams) * ways.len(), "{what}");
            let counted = intervals.iter().filter(|interval| !interval.omitted).count();
            // One more, where the end was late.
            assert!((1..=2).contains(&counted), "{what}: {intervals:?}");
            assert_eq!(intervals.len() - counted, omit as usize, "{what}: {intervals:?}");
            println!("{what}: {:.2} Gbit/s", result.sums[0].received.bits_per_second / 1e9);
        }
    }
}

fn server(limits: Limits) -> BandwidthServer {
    BandwidthServer { port: Some(0), way: Way::default(), seconds: 20, once: true, limits }
}

const FREE: Limits = Limits { rate: None, seconds: 10, bytes: None, allowed: Vec::new() };

/// Serves while `clients` do what they do; what was told.
fn serve(server: &BandwidthServer, clients: impl FnOnce(u16)) -> (Vec<Event>, ServerResult) {
    serve_on(&Terms::default(), server, clients)
}

/// The same, on these terms.
fn serve_on(terms: &Terms, server: &BandwidthServer, clients: impl FnOnce(u16)) -> (Vec<Event>, ServerResult) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut session = Session::new(ours).unwrap();
            bw::server::run(server, &mut session, terms).unwrap();
            session.flush().unwrap();
        });
        let mut lines = events(theirs);
        let Some(Event::Listening { port, .. }) = lines.next() else { panic!("does not listen") };
        clients(port);
        let mut events: Vec<Event> = lines.collect();
        let Some(Event::BandwidthServer(result)) = events.pop() else { panic!("{events:?}") };
        (events, result)
    })
}

fn served(events: &[Event]) -> &BandwidthResult {
    let found = events.iter().find_map(|event| match event {
        Event::Served(result) => Some(result),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{events:?}"))
}

fn whys(events: &[Event]) -> Vec<&str> {
    let mut whys = Vec::new();
    for event in events {
        if let Event::ServedNot { why, .. } = event {
            whys.push(why.as_str());
        }
    }
    whys
}

#[test]
fn as_server_of_iperf3_every_mode_counts_what_iperf3_counts() {
    let _alone = alone();
    if !has_iperf3() {
        return;
    }
    for (transport, words) in [(Transport::Tcp, ""), (Transport::Udp, "-u -b 20M")] {
        for (direction, streams, omit) in MODES {
            let what = format!("{transport:?} {direction:?} -P {streams} -O {omit}");
            let way = match direction {
                Direction::Up => "",
                Direction::Down => "-R",
                Direction::Both => "--bidir",
            };
            let mut theirs = Value::Null;
            let (events, result) = serve(&server(FREE), |port| {
                let words = format!("-c 127.0.0.1 -p {port} -J -t 1 -P {streams} -O {omit} {words} {way}");
                theirs = json_of(iperf3(&words));
            });
            assert!(theirs["error"].is_null(), "{what}: {theirs:#}");
            assert_eq!((result.tests, result.failed), (1, 0), "{what}: {events:?}");
            let ours = served(&events);
            // What is up there is down here.
            let ways: &[_] = match direction {
                Direction::Up => &[(Direction::Down, "")],
                Direction::Down => &[(Direction::Up, "")],
                Direction::Both => &[(Direction::Down, ""), (Direction::Up, "_bidir_reverse")],
            };
            for (way, suffix) in ways {
                let sum = sum(ours, *way);
                hangs_together(sum, streams, &what);
                for (key, volume) in [("sum_sent", sum.sent), ("sum_received", sum.received)] {
                    let (bytes, rate) =
                        (format!("/end/{key}{suffix}/bytes"), format!("/end/{key}{suffix}/bits_per_second"));
                    let (bytes, rate) = (number(&theirs, &bytes), number(&theirs, &rate));
                    assert!(is_near(volume.bytes as f64, bytes, 0.5, 3000.0), "{what} {key}: {sum:?} {bytes}");
                    // A machine that has much else to do is late at either end, and the times are not the same.
                    let is_timely = sum.sent.seconds < 1.05 && sum.received.seconds < 1.05;
                    assert!(
                        !is_timely || is_near(volume.bits_per_second, rate, 6.0, 0.0),
                        "{what} {key}: {sum:?} {rate}"
                    );
                }
                if let Some(udp) = sum.udp {
                    let end = |what: &str| number(&theirs, &format!("/end/sum{suffix}/{what}"));
                    assert!(is_near(udp.lost as f64, end("lost_packets"), 1.0, 2.0), "{what}: {udp:?}");
                    if omit == 0 {
                        assert!(
                            is_near(udp.sent as f64, end("packets"), 2.0, 300.0 * f64::from(streams)),
                            "{what}: {udp:?}"
                        );
                    }
                }
            }
            println!("{what}: {:.2} Gbit/s", ours.sums[0].received.bits_per_second / 1e9);
        }
    }
}

#[test]
fn raven_measures_against_raven_over_ipv6() {
    let _alone = alone();
    let mut measured = None;
    let (events, _) = serve(&server(FREE), |port| {
        let test = BandwidthTest { target: "::1".to_owned(), ..test(Transport::Udp, Direction::Both, port) };
        measured = Some(measure(&test).0);
    });
    let (client, server) = (measured.unwrap(), served(&events).clone());
    assert_eq!(client.address.to_string(), "::1");
    for (here, there) in [(Direction::Up, Direction::Down), (Direction::Down, Direction::Up)] {
        let (here, there) = (sum(&client, here), sum(&server, there));
        assert_eq!((here.sent.bytes, here.received.bytes), (there.sent.bytes, there.received.bytes));
        assert!((1e6..21e6).contains(&here.sent.bits_per_second), "{here:?}");
    }
}

#[test]
fn loss_and_order_on_the_way_are_told_as_iperf3_tells_them() {
    let _alone = alone();
    if !is_possible() || !has_iperf3() {
        return;
    }
    let chain = Chain::new("bw", "plain");
    // One datagram of five; the control connection is left alone.
    chain.rule(2, "forward", "iifname west udp length > 1000 numgen inc mod 5 0 drop");
    let theirs = chain.at_target("iperf3", "-s -1 -J -p 5201");
    let test =
        BandwidthTest { target: chain.target(), rate: Some(5_000_000), ..test(Transport::Udp, Direction::Up, 5201) };
    let (result, _) = chain.inside(|| measure(&test));
    let theirs = json_of(theirs);
    let udp = sum(&result, Direction::Up).udp.unwrap();
    assert!(is_near(udp.loss, 20.0, 3.0, 0.0), "{udp:?}");
    assert!(is_near(udp.lost as f64, number(&theirs, "/end/sum/lost_packets"), 0.0, 0.5), "{udp:?}");
    // By the interface alone, from an address of it; and neither by another one.
    let theirs = chain.at_target("iperf3", "-s -1 -J -p 5202");
    let way = Way { interface: Some("east".to_owned()), source: Some([10, 10, 1, 1].into()), family: None };
    let bound = BandwidthTest { way, port: 5202, transport: Transport::Tcp, rate: Some(8_000_000), ..test.clone() };
    let (result, _) = chain.inside(|| measure(&bound));
    assert!((4e6..8.4e6).contains(&sum(&result, Direction::Up).received.bits_per_second), "{result:?}");
    drop(json_of(theirs));
    let way = Way { interface: Some("lo".to_owned()), ..Way::default() };
    let astray = BandwidthTest { way, ..test };
    let (_, outcome) = chain.inside(|| make(|session| bw::client::run(&astray, session)));
    assert!(matches!(outcome, Err(Failure::Refused(_))), "{outcome:?}");
}

/// What iperf3 says, of this server, and what the server says.
fn refusal(limits: Limits, words: &str) -> (String, String) {
    let mut said = String::new();
    let server = BandwidthServer { once: false, seconds: 3, ..server(limits) };
    let (events, result) = serve(&server, |port| {
        let done = iperf3(&format!("-c 127.0.0.1 -p {port} {words}")).wait_with_output().unwrap();
        assert!(!done.status.success(), "{words}: {done:?}");
        said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    });
    assert_eq!(result.tests, 0, "{words}: {events:?}");
    (said, whys(&events).join("; "))
}

#[test]
fn a_days_bytes_and_the_configured_networks_are_a_limit_of_all_clients() {
    let _alone = alone();
    if !has_iperf3() {
        return;
    }
    let config = |allow: &str| config::BandwidthServer {
        allow: vec![allow.parse().unwrap()],
        bytes_per_day: ByteCount(30_000_000),
        ..config::BandwidthServer::default()
    };
    let (file, server) = (tempfile::tempfile().unwrap(), BandwidthServer { once: false, seconds: 9, ..server(FREE) });
    let terms = Terms::new(Some(config("127.0.0.0/8")), Some(file.try_clone().unwrap()));
    let run = |port: u16, words: &str| {
        let done = iperf3(&format!("-c 127.0.0.1 -p {port} {words}")).wait_with_output().unwrap();
        done.status.success()
    };
    let (events, result) = serve_on(&terms, &server, |port| {
        let outcomes = ["-u -b 80M -t 1", "-t 2", "-t 1"].map(|words| run(port, words));
        assert_eq!(outcomes, [true, false, false]);
    });
    assert_eq!((result.tests, result.failed, terms.left_today()), (1, 2, Some(0)), "{events:?}");
    assert!(whys(&events).iter().all(|why| why.contains("for today, are used up")), "{events:?}");
    // A new process knows, and no more was moved than what lay in the sockets.
    let again = Terms::new(Some(config("127.0.0.0/8")), Some(file));
    assert_eq!(again.left_today(), Some(0));
    assert!(result.bytes < 45_000_000, "{result:?}");
    // Who is not of the networks is turned away, whatever an operator says.
    let terms = Terms::new(Some(config("10.0.0.0/8")), None);
    let server = BandwidthServer { seconds: 3, ..server };
    let (_, result) = serve_on(&terms, &server, |port| assert!(!run(port, "-t 1")));
    assert!(result.tests == 0 && result.refused > 0, "{result:?}");
}

#[test]
fn what_goes_beyond_a_limit_is_refused_or_ended() {
    let _alone = alone();
    if !has_iperf3() {
        return;
    }
    let limited = Limits { rate: Some(50_000_000), seconds: 2, bytes: Some(20_000_000), allowed: Vec::new() };
    let (_, ours) = refusal(limited.clone(), "-t 3");
    assert!(ours.contains("longer than the server lets tests be"), "{ours}");
    let (theirs, ours) = refusal(limited.clone(), "-t 1 -u -b 60M");
    assert!(ours.contains("more than the server's rate"), "{ours}");
    assert!(theirs.contains("bandwidth") || theirs.contains("bitrate"), "{theirs}");
    let (_, ours) = refusal(limited.clone(), "-t 1 -u -b 0");
    assert!(ours.contains("more than the server's rate"), "{ours}");
    let (_, ours) = refusal(Limits { rate: None, ..limited.clone() }, "-t 1");
    assert!(ours.contains("used up"), "{ours}");
    let (theirs, _) = refusal(Limits { allowed: vec!["192.0.2.0/24".parse().unwrap()], ..FREE }, "-t 1");
    assert!(theirs.contains("busy"), "{theirs}");
    // TCP is slowed in both directions.
    let slow = Limits { rate: Some(40_000_000), bytes: None, ..limited };
    let (events, _) = serve(&server(slow), |port| {
        let theirs = json_of(iperf3(&format!("-c 127.0.0.1 -p {port} -J -t 2 -P 2 --bidir")));
        assert!(theirs["error"].is_null(), "{theirs:#}");
    });
    for sum in &served(&events).sums {
        assert!((10e6..44e6).contains(&sum.received.bits_per_second), "{sum:?}");
    }
}

/// A connection from an address that is not the others'.
fn stranger(port: u16) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.2:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    stream
}

fn byte(stream: &mut TcpStream) -> Option<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok().map(|()| byte[0])
}

fn framed(json: &str) -> Vec<u8> {
    [&(json.len() as u32).to_be_bytes(), json.as_bytes()].concat()
}

const COOKIE: [u8; 37] = *b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0";

#[test]
fn hostile_clients_are_turned_away_and_the_next_one_is_served() {
    let _alone = alone();
    let limits = Limits { seconds: 2, ..FREE };
    let (events, result) = serve(&server(limits), |port| {
        // JSON without an end, JSON that is none, and none at all.
        for nonsense in [vec![0xff; 64], framed("{]"), framed(&"[".repeat(8000)), Vec::new()] {
            let mut stream = stranger(port);
            stream.write_all(&COOKIE).unwrap();
            assert_eq!(byte(&mut stream), Some(9));
            stream.write_all(&nonsense).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(byte(&mut stream), Some(0xfe), "{nonsense:?}");
        }
        // Many that say nothing: few are heard out.
        let mut many: Vec<TcpStream> = (0..100).map(|_| stranger(port)).collect();
        assert!(many.iter_mut().filter_map(byte).filter(|byte| *byte == 0xff).count() == 100);
        // A stream with another cookie, and a second client, while one waits for its streams.
        let mut client = stranger(port);
        client.write_all(&COOKIE).unwrap();
        assert_eq!(byte(&mut client), Some(9));
        client.write_all(&framed(r#"{"tcp":true,"time":1,"parallel":1,"len":131072}"#)).unwrap();
        assert_eq!(byte(&mut client), Some(10));
        let mut wrong = stranger(port);
        wrong.write_all(&[b'b'; 37]).unwrap();
        assert_eq!(byte(&mut wrong), Some(0xff));
        let mut stream = stranger(port);
        stream.write_all(&COOKIE).unwrap();
        assert_eq!((byte(&mut client), byte(&mut client)), (Some(1), Some(2)));
        let mut second = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(byte(&mut second), Some(0xff));
        // It sends without an end.
        let began = Instant::now();
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        while stream.write(&[0; 4096]).is_ok() {}
        assert_eq!(byte(&mut client), Some(0xfe));
        assert!(began.elapsed().as_secs() >= 5, "{:?}", began.elapsed());
        measure(&test(Transport::Tcp, Direction::Down, port));
    });
    let whys = whys(&events);
    assert_eq!((result.tests, result.failed, whys.len()), (1, 5, 5), "{whys:?}");
    assert!(result.refused >= 102 && whys[0].contains("more than iperf3 does"), "{result:?} {whys:?}");
    assert!(whys[1].contains("makes no sense") && whys[4].contains("used up"), "{whys:?}");
}

/// A server that says these bytes, whatever the client says; why the client gives up.
fn lied_to(said: &[&[u8]]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let said: Vec<Vec<u8>> = said.iter().map(|bytes| bytes.to_vec()).collect();
    let liar = std::thread::spawn(move || {
        let (mut control, _) = listener.accept().unwrap();
        let mut heard = [0; 4096];
        for bytes in said {
            if control.read(&mut heard).unwrap_or_default() == 0 || control.write_all(&bytes).is_err() {
                break;
            }
        }
        // Streams are taken and kept until it is over.
        listener.set_nonblocking(true).unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        listener.accept().ok()
    });
    let (events, outcome) = make(|session| bw::client::run(&test(Transport::Tcp, Direction::Up, port), session));
    liar.join().unwrap();
    match outcome {
        Err(Failure::Refused(why)) => why,
        other => panic!("{other:?} {events:?}"),
    }
}

#[test]
fn servers_that_lie_are_not_believed() {
    let _alone = alone();
    let huge = [&[13_u8][..], &[0x7f, 0xff, 0xff, 0xff]].concat();
    for (said, why) in [
        (&[&[77_u8][..]][..], "says 77"),
        (&[&[10]], "CreateStreams at the wrong time"),
        (&[&[0xff]], "another test runs"),
        (&[&[0xfe, 0, 0, 0, 27, 0, 0, 0, 0]], "more than the server's rate"),
        (&[&[0xfe, 0, 0]], "the control connection"),
        (&[&[9], &[10, 1, 2, 11]], "the server was stopped"),
        (&[&[9], &[10, 1, 2], &huge], "more than iperf3 does"),
        (&[&[9], &[10, 1, 2], b"\x0d\0\0\0\x04nope"], "makes no sense"),
        (&[&[9], &[10, 1, 2]], "the control connection"),
    ] {
        let told = lied_to(said);
        assert!(told.contains(why), "{said:?}: {told}");
    }
    // Results of streams that never were are not counted.
    let json =
        framed(r#"{"cpu_util_total":1e308,"streams":[{"id":77,"bytes":9e18,"end_time":-5,"retransmits":1e99}]}"#);
    let told = lied_to(&[&[9], &[10, 1, 2], &[13], &json]);
    assert!(told.contains("the control connection"), "{told}");
}

#[test]
fn whoever_goes_away_ends_measurement_and_server() {
    let _alone = alone();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (client, operator) = UnixStream::pair().unwrap();
    let server = BandwidthServer { seconds: 600, ..server(Limits { seconds: 60, ..FREE }) };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| bw::server::run(&server, &mut Session::new(ours).unwrap(), &Terms::default()));
        let mut lines = events(theirs);
        let Some(Event::Listening { port, .. }) = lines.next() else { panic!("does not listen") };
        let long = BandwidthTest { seconds: 60, ..test(Transport::Tcp, Direction::Both, port) };
        let measuring = scope.spawn(move || bw::client::run(&long, &mut Session::new(client).unwrap()));
        std::thread::sleep(Duration::from_millis(700));
        drop(operator);
        assert_eq!(measuring.join().unwrap(), Err(Failure::Gone));
        std::thread::sleep(Duration::from_millis(200));
        drop(lines);
        assert_eq!(serving.join().unwrap(), Err(Failure::Gone));
    });
    assert!(began.elapsed().as_secs() < 60, "it went on");
}
