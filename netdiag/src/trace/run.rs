//! Probes of a trace that leave, and what comes back.

use super::path::flow_port;
use super::tcp::Syns;
use super::{Says, Step, Trace};
use crate::failure::{Failure, within};
use crate::names::{Resolver, TIME};
use crate::ping::{MARK, number, payload};
use crate::probe::{Kind, Probe, What, local_words};
use crate::session::{Gone, Session};
use crate::targets::resolve;
use raven_model::diag::trace::{TraceRound, Watch};
use raven_model::diag::{Event, Family, Hop, Method, TraceResult, TraceTest};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// Where traceroutes have always sent to (traceroute(8)).
const PORT: u16 = 33434;
/// What firewalls let through most often.
const TCP_PORT: u16 = 443;
/// Then the kernel sends a SYN once more (RFC 6298, 2), and what is said may be of either.
const TCP_TIMEOUT: u64 = 1000;
/// Bytes that a probe carries.
const SIZE: usize = 32;

/// What sends.
enum Sender {
    /// One of each flow.
    Datagrams(Vec<Probe>),
    Syns(Syns),
}

struct Run<'a> {
    test: &'a TraceTest,
    session: &'a mut Session,
    to: SocketAddr,
    family: Family,
    sender: Sender,
    trace: Trace,
    names: Resolver,
    cookie: u64,
    /// When a trace that goes on ends.
    end: Option<Instant>,
    /// Rounds that were told.
    told: u32,
}

/// What was heard of a probe.
pub struct Word {
    /// Which; nothing: the oldest of the flow.
    pub number: Option<u64>,
    /// Whose.
    pub flow: u8,
    /// Who says so.
    pub by: IpAddr,
    /// What.
    pub says: Says,
    /// When the kernel got it.
    pub at: Instant,
}

/// Makes the test and tells what came of it.
pub fn run(test: &TraceTest, session: &mut Session) -> Result<(), Failure> {
    let names = Resolver::new(test.names);
    run_with(test, session, names)
}

/// The same; names are asked of these.
pub fn run_with(test: &TraceTest, session: &mut Session, names: Resolver) -> Result<(), Failure> {
    check(test)?;
    let mut to = resolve(&test.target, &test.way).map_err(|why| Failure::Refused(format!("{}: {why}", test.target)))?;
    let family = Family::of(to.ip());
    match test.method {
        Method::Udp => to.set_port(test.port.unwrap_or(PORT)),
        Method::Tcp => to.set_port(test.port.unwrap_or(TCP_PORT)),
        Method::Icmp => {}
    }
    let sender = if test.method == Method::Tcp {
        Sender::Syns(Syns::new(to, &test.way, test.flows))
    } else {
        let probes: io::Result<Vec<Probe>> = (0..test.flows).map(|flow| open(test, to, flow)).collect();
        Sender::Datagrams(probes.map_err(|error| Failure::socket(&error, &test.way))?)
    };
    session.say(&Event::Target { target: test.target.clone(), address: to.ip() })?;
    let now = Instant::now();
    let (trace, cookie) = (Trace::new(test, now), RandomState::new().hash_one(0));
    let seconds = test.watch.and_then(|watch| watch.seconds);
    let end = seconds.map(|seconds| now + Duration::from_secs(seconds.into()));
    Run { test, session, to, family, sender, trace, names, cookie, end, told: 0 }.run()
}

fn check(test: &TraceTest) -> Result<(), Failure> {
    within("hops", test.hops.into(), 1, 64)?;
    within("rounds", test.rounds.into(), 1, 100)?;
    within("flows", test.flows.into(), 1, if test.method == Method::Icmp { 1 } else { 64 })?;
    let least = if test.watch.is_some() { 10 } else { 0 };
    within("the interval in milliseconds", test.interval_ms.into(), least, 60_000)?;
    let most = if test.method == Method::Tcp { TCP_TIMEOUT } else { 60_000 };
    within("the time to wait in milliseconds", test.timeout_ms.into(), 10, most)?;
    within("the port", test.port.unwrap_or(1).into(), 1, 65_535)?;
    let seconds = test.watch.and_then(|watch| watch.seconds).unwrap_or(1);
    within("the time to watch in seconds", seconds.into(), 1, Watch::SECONDS.into())
}

fn open(test: &TraceTest, to: SocketAddr, flow: u8) -> io::Result<Probe> {
    let family = Family::of(to.ip());
    if test.method == Method::Icmp {
        return Probe::open(Kind::Echo, family, &test.way);
    }
    let port = flow_port(to.ip(), flow);
    // Another trace to the same target may have it.
    let probe =
        Probe::open_at(Kind::Udp, family, &test.way, port).or_else(|_| Probe::open(Kind::Udp, family, &test.way))?;
    probe.connect(to)?;
    Ok(probe)
}

impl Sender {
    /// Where something may come, and what can be written then.
    fn sockets(&self) -> (Vec<BorrowedFd<'_>>, Vec<BorrowedFd<'_>>) {
        match self {
            Self::Datagrams(probes) => (probes.iter().map(|probe| probe.as_fd()).collect(), Vec::new()),
            Self::Syns(syns) => (Vec::new(), syns.sockets().collect()),
        }
    }

    fn is_known(&self) -> bool {
        matches!(self, Self::Syns(syns) if syns.is_known())
    }
}

impl Run<'_> {
    fn run(mut self) -> Result<(), Failure> {
        while !self.trace.is_over() {
            while let Some(step) = self.trace.take(Instant::now()) {
                self.send(step)?;
                // What is there already says how far it is: no more is sent beyond the target than must be.
                self.hear()?;
            }
            self.tell()?;
            if self.trace.is_over() {
                break;
            }
            let now = Instant::now();
            let due = if self.sender.is_known() { now } else { self.trace.due(now) };
            self.wait(due)?;
            self.hear()?;
            self.names.turn();
            if self.end.is_some_and(|end| end <= Instant::now()) {
                self.trace.stop();
            }
        }
        self.last_names()?;
        let result = TraceResult {
            target: self.test.target.clone(),
            address: self.to.ip(),
            method: self.test.method,
            reached: self.trace.reached(),
            hops: self.hops(),
            paths: self.trace.paths(),
            path_hash: self.trace.path_hash(),
            changed: self.trace.changes() > 0,
            changes: self.trace.changes(),
        };
        Ok(self.session.say(&Event::Trace(result))?)
    }

    fn wait(&mut self, due: Instant) -> Result<(), Gone> {
        let until =
            self.names.due().into_iter().chain(self.end.filter(|end| *end > Instant::now())).fold(due, Instant::min);
        let (read, write) = self.sender.sockets();
        self.session.wait_both(read.into_iter().chain(self.names.sockets()), write.into_iter(), until)
    }

    /// Names of the last hops, which were asked for just now: a second at most.
    fn last_names(&mut self) -> Result<(), Gone> {
        let end = Instant::now() + TIME;
        while let Some(due) = self.names.due().filter(|_| Instant::now() < end) {
            self.session.wait_both(self.names.sockets(), std::iter::empty(), due.min(end))?;
            self.names.turn();
        }
        Ok(())
    }

    /// What changed, and each round where the trace goes on.
    fn tell(&mut self) -> Result<(), Gone> {
        while let Some(change) = self.trace.change() {
            self.session.say(&Event::PathChanged(change))?;
        }
        let round = self.trace.rounds();
        if self.test.watch.is_some() && round > self.told {
            self.told = round;
            let (path_hash, reached) = (self.trace.path_hash(), self.trace.take_reached());
            self.session.say(&Event::TraceRound(TraceRound { round, reached, path_hash, hops: self.hops() }))?;
        }
        Ok(())
    }

    /// With the names that are known.
    fn hops(&self) -> Vec<Hop> {
        let mut hops = self.trace.hops();
        for router in hops.iter_mut().flat_map(|hop| &mut hop.routers) {
            router.name = self.names.name(router.address);
        }
        hops
    }

    fn send(&mut self, step: Step) -> Result<(), Failure> {
        let sent = match &mut self.sender {
            Sender::Syns(syns) => syns.send(step),
            Sender::Datagrams(probes) => {
                let probe = &probes[usize::from(step.flow)];
                let bytes = payload(self.cookie, step.number, SIZE);
                let to = (self.test.method == Method::Icmp).then_some(self.to);
                probe.set_hops(step.hop).and_then(|()| probe.send(to, step.number as u16, &bytes))
            }
        };
        sent.or_else(|error| {
            let number = error.raw_os_error().unwrap_or_default();
            let is_passing = matches!(number, nix::libc::ENOBUFS | nix::libc::ENETUNREACH | nix::libc::EHOSTUNREACH);
            // A trace that goes on outlives a route that is gone for a while: its probes are lost.
            if self.test.watch.is_some() && is_passing {
                return Ok(());
            }
            let way = &self.test.way;
            Err(match (&self.sender, local_words(number)) {
                (Sender::Syns(_), _) if number == nix::libc::EADDRNOTAVAIL => Failure::socket(&error, way),
                (_, why) => Failure::Refused(format!("{}: {why}", self.test.target)),
            })
        })
    }

    fn hear(&mut self) -> Result<(), Gone> {
        let Self { sender, cookie, to, family, .. } = self;
        let mut words = Vec::new();
        match sender {
            Sender::Syns(syns) => syns.hear(&mut words),
            Sender::Datagrams(probes) => {
                for (flow, probe) in (0..).zip(probes.iter_mut()) {
                    while let Ok(Some(heard)) = probe.hear() {
                        let number = number(*cookie, heard.payload);
                        // Who gives back all of a probe gives back its number; who gives back less cannot.
                        if number.is_none() && heard.payload.len() >= MARK {
                            continue;
                        }
                        let says = says(heard.what, *family, heard.from == Some(to.ip()), number.is_some());
                        if let (Some(by), Some(says)) = (heard.from, says) {
                            words.push(Word { number, flow, by, says, at: heard.at });
                        }
                    }
                }
            }
        }
        for Word { number, flow, by, says, at } in words {
            if let Some(hop) = self.trace.answer(number, flow, by, &says, at) {
                self.names.want(by);
                // Of those that go on, rounds are told.
                if self.test.watch.is_none() {
                    self.session.say(&Event::Hop(self.trace.hop(hop)))?;
                }
            }
        }
        Ok(())
    }
}

/// What is meant by what was heard; nothing where it is of no probe.
pub fn says(what: What, family: Family, is_target: bool, is_numbered: bool) -> Option<Says> {
    match what {
        // Whoever listens at that port may say what it likes.
        What::Reply => (is_target && is_numbered).then_some(Says::Reached),
        What::Icmp { .. } if what.is_time_exceeded(family) => Some(Says::Exceeded),
        What::Icmp { .. } if is_target && what.is_port_unreachable(family) => Some(Says::Reached),
        What::Icmp { .. } => what.words(family).map(Says::Unreachable),
        What::Local { .. } => None,
    }
}
