//! Pings that leave and come.

use super::{MARK, Pings, Seen, number, payload, renumber};
use crate::failure::{Failure, within};
use crate::probe::{Heard, Kind, Probe, local_words};
use crate::rtt::micros;
use crate::session::{Gone, Session};
use crate::targets::resolve;
use raven_model::diag::{Answer, Event, Family, PingResult, PingTest};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// Where pings leave more often than this, they leave and are read together: the kernel's stamps say when they came.
const TOGETHER: Duration = Duration::from_millis(10);
/// Answers read before pings leave again.
const READ: usize = 4096;

/// A target and its place in the plan.
struct Target {
    name: String,
    address: Result<SocketAddr, String>,
}

struct Run<'a> {
    test: &'a PingTest,
    session: &'a mut Session,
    targets: Vec<Target>,
    /// Of the plan's targets, the place among all.
    places: Vec<usize>,
    pings: Pings,
    probes: BTreeMap<Family, Probe>,
    cookie: u64,
    /// What a ping carries; of the next one its number alone is another.
    bytes: Vec<u8>,
}

/// Makes the test and tells what came of it.
pub fn run(test: &PingTest, session: &mut Session) -> Result<(), Failure> {
    check(test)?;
    let targets: Vec<Target> =
        test.targets.iter().map(|name| Target { name: name.clone(), address: resolve(name, &test.way) }).collect();
    let places: Vec<usize> = (0..targets.len()).filter(|place| targets[*place].address.is_ok()).collect();
    let mut probes = BTreeMap::new();
    let families = targets.iter().filter_map(|target| Some(Family::of(target.address.as_ref().ok()?.ip())));
    for family in families.collect::<BTreeSet<_>>() {
        probes.insert(family, open(test, family)?);
    }
    for target in &targets {
        if let Ok(address) = &target.address {
            session.say(&Event::Target { target: target.name.clone(), address: address.ip() })?;
        }
    }
    let pings = Pings::new(test, places.len(), Instant::now());
    let cookie = RandomState::new().hash_one(0);
    let bytes = payload(cookie, 0, test.size.into());
    Run { test, session, targets, places, pings, probes, cookie, bytes }.run()
}

fn check(test: &PingTest) -> Result<(), Failure> {
    within("targets", test.targets.len() as u64, 1, PingTest::TARGETS as u64)?;
    within("pings", test.count.into(), 1, PingTest::COUNT.into())?;
    within("the interval in milliseconds", test.interval_ms.into(), 10, 600_000)?;
    within("the time to wait in milliseconds", test.timeout_ms.into(), 10, 60_000)?;
    within("the size", test.size.into(), MARK as u64, 65_000)?;
    within("the DSCP", test.dscp.into(), 0, 63)?;
    let rate = test.targets.len() as u64 * 1000 / u64::from(test.interval_ms);
    within("pings a second", rate, 0, PingTest::RATE.into())
}

fn open(test: &PingTest, family: Family) -> Result<Probe, Failure> {
    let open = || {
        let probe = Probe::open(Kind::Echo, family, &test.way)?;
        probe.set_dscp(test.dscp)?;
        probe.set_whole(test.dont_fragment)?;
        Ok(probe)
    };
    open().map_err(|error| Failure::socket(&error, &test.way))
}

impl Run<'_> {
    fn run(mut self) -> Result<(), Failure> {
        while !self.pings.is_over() && !self.places.is_empty() {
            self.send()?;
            self.hear()?;
            self.expire()?;
            self.rest()?;
        }
        let results = (0..self.targets.len()).map(|place| self.result(place)).collect();
        Ok(self.session.say(&Event::Ping(results))?)
    }

    fn send(&mut self) -> Result<(), Gone> {
        while let Some(ping) = self.pings.take(Instant::now()) {
            let Ok(address) = &self.targets[self.places[ping.target]].address else { continue };
            let Some(probe) = self.probes.get(&Family::of(address.ip())) else { continue };
            renumber(&mut self.bytes, ping.number);
            if let Err(error) = probe.send(Some(*address), ping.sequence as u16, &self.bytes) {
                let why = local_words(error.raw_os_error().unwrap_or_default());
                self.failed(ping.number, None, &why)?;
            }
        }
        Ok(())
    }

    fn hear(&mut self) -> Result<(), Gone> {
        for family in [Family::Ipv4, Family::Ipv6] {
            for _ in 0..READ {
                let Some(probe) = self.probes.get_mut(&family) else { break };
                let Ok(Some(Heard { from, at, ttl, what, payload, .. })) = probe.hear() else { break };
                let Some(number) = number(self.cookie, payload) else { continue };
                match what.words(family) {
                    None => self.answered(number, from, at, ttl)?,
                    Some(why) => self.failed(number, from, &why)?,
                }
            }
        }
        Ok(())
    }

    fn answered(&mut self, number: u64, from: Option<IpAddr>, at: Instant, ttl: Option<u8>) -> Result<(), Gone> {
        let ping = self.pings.ping(number);
        let target = &self.targets[self.places[ping.target]];
        // Who knows the number and is somebody else is not the target.
        if target.address.as_ref().ok().map(SocketAddr::ip) != from {
            return Ok(());
        }
        let (rtt, duplicate, reordered) = match self.pings.answer(number, at) {
            Seen::Answer { rtt, reordered } => (rtt, false, reordered),
            Seen::Duplicate => (Duration::ZERO, true, false),
            Seen::Late | Seen::Strange => return Ok(()),
        };
        if !self.test.each {
            return Ok(());
        }
        let (target, sequence) = (target.name.clone(), ping.sequence);
        let answer = Answer { target, sequence, rtt_us: micros(rtt), ttl, duplicate, reordered };
        self.session.say(&Event::Answer(answer))
    }

    fn failed(&mut self, number: u64, by: Option<IpAddr>, why: &str) -> Result<(), Gone> {
        let ping = self.pings.ping(number);
        if !self.pings.fail(number, why) || !self.test.each {
            return Ok(());
        }
        let target = self.targets[self.places[ping.target]].name.clone();
        self.session.say(&Event::Unreachable { target, sequence: ping.sequence, by, why: why.to_owned() })
    }

    fn expire(&mut self) -> Result<(), Gone> {
        // What came in time may not have been read yet.
        let grace = if self.pings.gap() < TOGETHER { 2 * TOGETHER } else { Duration::ZERO };
        let now = Instant::now().checked_sub(grace).unwrap_or_else(Instant::now);
        while let Some(ping) = self.pings.expire(now) {
            if self.test.each {
                let target = self.targets[self.places[ping.target]].name.clone();
                self.session.say(&Event::Lost { target, sequence: ping.sequence })?;
            }
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<(), Gone> {
        let now = Instant::now();
        if self.pings.gap() < TOGETHER && self.pings.due().is_some() {
            return self.session.wait(&[], now + TOGETHER);
        }
        let expires = self.pings.expires().map(|at| at + Duration::from_millis(1));
        let until = self.pings.due().into_iter().chain(expires).min().unwrap_or(now);
        let sockets: Vec<_> = self.probes.values().map(|probe| probe.as_fd()).collect();
        self.session.wait(&sockets, until)
    }

    fn result(&self, place: usize) -> PingResult {
        let target = &self.targets[place];
        let mut result = match self.places.binary_search(&place) {
            Ok(planned) => self.pings.result(planned),
            Err(_) => PingResult { loss: 100.0, ..PingResult::default() },
        };
        result.target.clone_from(&target.name);
        match &target.address {
            Ok(address) => result.address = Some(address.ip()),
            Err(why) => drop(result.errors.insert(why.clone(), self.test.count)),
        }
        result
    }
}
