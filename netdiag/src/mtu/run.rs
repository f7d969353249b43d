//! Lengths that are tried.

use super::Search;
use crate::failure::{Failure, within};
use crate::ping::{MARK, number, payload};
use crate::probe::{Heard, Kind, Probe, What};
use crate::session::Session;
use crate::targets::resolve;
use raven_model::diag::{Event, Family, Limit, MtuResult, MtuTest};
use raven_model::icmp;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// Longest IP packet.
const MOST: u16 = 65_535;

/// Headers before what a packet carries: of IP, and of IP and TCP.
const fn headers(family: Family) -> (u16, u16) {
    match family {
        Family::Ipv4 => (20, 40),
        Family::Ipv6 => (40, 60),
    }
}

/// What became of one length.
enum Outcome {
    Fits,
    Lost,
    Limited(Limit),
}

struct Run<'a> {
    test: &'a MtuTest,
    session: &'a mut Session,
    probe: Probe,
    to: SocketAddr,
    family: Family,
    cookie: u64,
    sent: u64,
}

/// Makes the test and tells what came of it.
pub fn run(test: &MtuTest, session: &mut Session) -> Result<(), Failure> {
    within("the time to wait in milliseconds", test.timeout_ms.into(), 10, 60_000)?;
    within("tries", test.tries.into(), 1, 10)?;
    let to = resolve(&test.target, &test.way).map_err(|why| Failure::Refused(format!("{}: {why}", test.target)))?;
    let family = Family::of(to.ip());
    let open = || {
        let probe = Probe::open(Kind::Echo, family, &test.way)?;
        probe.set_whole(true)?;
        Ok(probe)
    };
    let probe = open().map_err(|error| Failure::socket(&error, &test.way))?;
    session.say(&Event::Target { target: test.target.clone(), address: to.ip() })?;
    let cookie = RandomState::new().hash_one(0);
    // Who gives back the header alone is believed by the sequence: nobody knows where it begins.
    Run { test, session, probe, to, family, cookie, sent: cookie >> 48 }.run()
}

impl Run<'_> {
    fn run(mut self) -> Result<(), Failure> {
        let (ip, tcp) = headers(self.family);
        // The first link says by itself what it takes.
        let link_mtu = match self.attempt(MOST)? {
            Outcome::Limited(Limit { by: None, mtu }) => Some(mtu),
            _ => None,
        };
        let most = link_mtu.and_then(|mtu| u16::try_from(mtu).ok()).unwrap_or(MOST);
        let mut search = Search::new(ip + (icmp::HEADER + MARK) as u16, most);
        while let Some(length) = search.length() {
            let outcome = self.attempt(length)?;
            let limit = match outcome {
                Outcome::Fits => {
                    search.fits(length);
                    None
                }
                Outcome::Lost => {
                    search.lost(length);
                    None
                }
                Outcome::Limited(limit) => {
                    search.limited(length, limit);
                    Some(limit)
                }
            };
            self.session.say(&Event::Length { bytes: length, fits: matches!(outcome, Outcome::Fits), limit })?;
            self.session.flush()?;
        }
        let mtu = search.mtu();
        let result = MtuResult {
            target: self.test.target.clone(),
            address: self.to.ip(),
            mtu,
            link_mtu,
            mss: mtu.and_then(|mtu| mtu.checked_sub(tcp)),
            limit: search.limit(),
            black_hole: search.is_black_hole(),
        };
        Ok(self.session.say(&Event::Mtu(result))?)
    }

    /// A length, several times where nothing comes back.
    fn attempt(&mut self, length: u16) -> Result<Outcome, Failure> {
        let (ip, _) = headers(self.family);
        let size = usize::from(length.saturating_sub(ip)).saturating_sub(icmp::HEADER).max(MARK);
        for _ in 0..self.test.tries {
            let wanted = self.sent;
            self.sent += 1;
            let until = Instant::now() + Duration::from_millis(self.test.timeout_ms.into());
            // What cannot be sent is told on the error queue, with what would fit.
            let sent = self.probe.send(Some(self.to), wanted as u16, &payload(self.cookie, wanted, size));
            if let Some(outcome) = self.listen((wanted, length), until, sent.is_err())? {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Lost)
    }

    fn listen(
        &mut self,
        (wanted, length): (u64, u16),
        until: Instant,
        is_refused: bool,
    ) -> Result<Option<Outcome>, Failure> {
        while Instant::now() < until {
            while let Ok(Some(Heard { from, what, sequence, payload, .. })) = self.probe.hear() {
                let is_ours = match number(self.cookie, payload) {
                    Some(number) => number == wanted,
                    // A router may give back no more than the header (RFC 792).
                    None => what != What::Reply && payload.len() < MARK && sequence == Some(wanted as u16),
                };
                match what {
                    What::Reply if is_ours && from == Some(self.to.ip()) => return Ok(Some(Outcome::Fits)),
                    // Who says that what it did not take would fit says nothing.
                    What::Icmp { mtu: Some(mtu), .. } if is_ours && mtu < length.into() => {
                        return Ok(Some(Outcome::Limited(Limit { by: from, mtu })));
                    }
                    What::Local { mtu: Some(mtu), .. } if mtu < length.into() => {
                        return Ok(Some(Outcome::Limited(Limit { by: None, mtu })));
                    }
                    _ => {}
                }
            }
            if is_refused {
                return Ok(None);
            }
            self.session.wait(&[self.probe.as_fd()], until)?;
        }
        Ok(None)
    }
}
