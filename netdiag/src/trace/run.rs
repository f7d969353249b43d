//! Probes of a trace that leave, and what comes back.

use super::{Says, Step, Trace};
use crate::failure::{Failure, within};
use crate::ping::{number, payload};
use crate::probe::{Kind, Probe, What, local_words};
use crate::session::{Gone, Session};
use crate::targets::resolve;
use raven_model::diag::{Event, Family, Method, TraceResult, TraceTest};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::time::Instant;

/// Where traceroutes have always sent to (traceroute(8)).
const PORT: u16 = 33434;
/// Bytes that a probe carries.
const SIZE: usize = 32;

struct Run<'a> {
    test: &'a TraceTest,
    session: &'a mut Session,
    to: SocketAddr,
    family: Family,
    /// One of each flow.
    probes: Vec<Probe>,
    trace: Trace,
    cookie: u64,
}

/// What was heard of a probe.
struct Word {
    number: Option<u64>,
    flow: u8,
    by: IpAddr,
    says: Says,
    at: Instant,
}

/// Makes the test and tells what came of it.
pub fn run(test: &TraceTest, session: &mut Session) -> Result<(), Failure> {
    within("hops", test.hops.into(), 1, 64)?;
    within("rounds", test.rounds.into(), 1, 100)?;
    within("flows", test.flows.into(), 1, if test.method == Method::Icmp { 1 } else { 64 })?;
    within("the interval in milliseconds", test.interval_ms.into(), 10, 60_000)?;
    within("the time to wait in milliseconds", test.timeout_ms.into(), 10, 60_000)?;
    let mut to = resolve(&test.target, &test.way).map_err(|why| Failure::Refused(format!("{}: {why}", test.target)))?;
    let family = Family::of(to.ip());
    let kind = if test.method == Method::Icmp { Kind::Echo } else { Kind::Udp };
    if kind == Kind::Udp {
        to.set_port(test.port.unwrap_or(PORT));
    }
    let open = |_| {
        let probe = Probe::open(kind, family, &test.way)?;
        if kind == Kind::Udp {
            probe.connect(to)?;
        }
        Ok(probe)
    };
    let probes: Result<Vec<Probe>, std::io::Error> = (0..test.flows).map(open).collect();
    let probes = probes.map_err(|error| Failure::socket(&error, &test.way))?;
    session.say(&Event::Target { target: test.target.clone(), address: to.ip() })?;
    let (trace, cookie) = (Trace::new(test, Instant::now()), RandomState::new().hash_one(0));
    Run { test, session, to, family, probes, trace, cookie }.run()
}

impl Run<'_> {
    fn run(mut self) -> Result<(), Failure> {
        while !self.trace.is_over() {
            while let Some(step) = self.trace.take(Instant::now()) {
                self.send(step)?;
            }
            if self.trace.is_over() {
                break;
            }
            let sockets: Vec<_> = self.probes.iter().map(|probe| probe.as_fd()).collect();
            self.session.wait(&sockets, self.trace.due(Instant::now()))?;
            self.hear()?;
        }
        let result = TraceResult {
            target: self.test.target.clone(),
            address: self.to.ip(),
            method: self.test.method,
            reached: self.trace.reached(),
            hops: self.trace.hops(),
            paths: self.trace.paths(),
            path_hash: self.trace.path_hash(),
            changed: self.trace.changed(),
        };
        Ok(self.session.say(&Event::Trace(result))?)
    }

    fn send(&mut self, step: Step) -> Result<(), Failure> {
        let probe = &self.probes[usize::from(step.flow)];
        let bytes = payload(self.cookie, step.number, SIZE);
        let to = (self.test.method == Method::Icmp).then_some(self.to);
        let sent = probe.set_hops(step.hop).and_then(|()| probe.send(to, step.number as u16, &bytes));
        sent.map_err(|error| {
            let why = local_words(error.raw_os_error().unwrap_or_default());
            Failure::Refused(format!("{}: {why}", self.test.target))
        })
    }

    fn hear(&mut self) -> Result<(), Gone> {
        let Self { probes, cookie, to, family, .. } = self;
        let mut words = Vec::new();
        for (flow, probe) in (0..).zip(probes.iter_mut()) {
            while let Ok(Some(heard)) = probe.hear() {
                let number = number(*cookie, heard.payload);
                let says = says(heard.what, *family, heard.from == Some(to.ip()), number.is_some());
                if let (Some(by), Some(says)) = (heard.from, says) {
                    words.push(Word { number, flow, by, says, at: heard.at });
                }
            }
        }
        for Word { number, flow, by, says, at } in words {
            if let Some(hop) = self.trace.answer(number, flow, by, &says, at) {
                self.session.say(&Event::Hop(self.trace.hop(hop)))?;
            }
        }
        Ok(())
    }
}

/// What is meant by what was heard; nothing where it is of no probe.
fn says(what: What, family: Family, is_target: bool, is_numbered: bool) -> Option<Says> {
    match what {
        // Whoever listens at that port may say what it likes.
        What::Reply => (is_target && is_numbered).then_some(Says::Reached),
        What::Icmp { .. } if what.is_time_exceeded(family) => Some(Says::Exceeded),
        What::Icmp { .. } if is_target && what.is_port_unreachable(family) => Some(Says::Reached),
        What::Icmp { .. } => what.words(family).map(Says::Unreachable),
        What::Local { .. } => None,
    }
}
