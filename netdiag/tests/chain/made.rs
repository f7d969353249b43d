//! Tests made in a chain, and what came of them.
#![allow(dead_code, reason = "each file of tests needs some of it")]

use super::Chain;
use raven_model::diag::{Event, Hop, Method, MtuResult, MtuTest, PingResult, PingTest, TraceResult, TraceTest, Way};
use raven_netdiag::failure::Failure;
use raven_netdiag::session::Session;
use raven_netdiag::{mtu, ping, trace};
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;

/// Makes a test where the box is; what it told.
pub fn make(chain: &Chain, test: impl FnOnce(&mut Session) -> Result<(), Failure> + Send) -> Vec<Event> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let lines = BufReader::new(theirs).lines().map(Result::unwrap);
            lines.filter(|line| line != "\"ok\"").map(|line| serde_json::from_str(&line).unwrap()).collect()
        });
        chain.inside(move || {
            let mut session = Session::new(ours).unwrap();
            test(&mut session).unwrap();
            session.flush().unwrap();
        });
        reader.join().unwrap()
    })
}

pub fn ping_test(targets: &[&str], count: u32, interval_ms: u32) -> PingTest {
    PingTest {
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        way: Way::default(),
        count,
        interval_ms,
        timeout_ms: 2000,
        size: 56,
        dscp: 0,
        dont_fragment: false,
        each: true,
    }
}

pub fn pings(chain: &Chain, test: &PingTest) -> Vec<PingResult> {
    match make(chain, |session| ping::run::run(test, session)).pop() {
        Some(Event::Ping(results)) => results,
        other => panic!("{other:?}"),
    }
}

pub fn trace_test(target: &str, method: Method, rounds: u8, flows: u8) -> TraceTest {
    TraceTest {
        target: target.to_owned(),
        way: Way::default(),
        method,
        port: None,
        hops: 30,
        rounds,
        flows,
        interval_ms: 100,
        timeout_ms: 600,
        names: false,
        watch: None,
    }
}

pub fn traced(chain: &Chain, test: &TraceTest) -> TraceResult {
    match make(chain, |session| trace::run::run(test, session)).pop() {
        Some(Event::Trace(result)) => result,
        other => panic!("{other:?}"),
    }
}

pub fn measured(chain: &Chain, target: &str) -> MtuResult {
    let test = MtuTest { target: target.to_owned(), way: Way::default(), timeout_ms: 250, tries: 3 };
    match make(chain, |session| mtu::run::run(&test, session)).pop() {
        Some(Event::Mtu(result)) => result,
        other => panic!("{other:?}"),
    }
}

/// The first router of each hop.
pub fn way(result: &TraceResult) -> Vec<String> {
    let first = |hop: &Hop| hop.routers.first().map_or_else(|| "*".to_owned(), |router| router.address.to_string());
    result.hops.iter().map(first).collect()
}

/// Of a chain of six nodes.
pub const WAY: [&str; 5] = ["10.10.1.2", "10.11.2.2", "10.12.3.2", "10.13.4.2", "10.14.5.2"];
