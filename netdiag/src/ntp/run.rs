//! Time servers that are asked, all of them at once in each round.

use super::{Stamp, Talk};
use crate::failure::{Failure, within};
use crate::probe::{Heard, Kind, Probe, What, local_words};
use crate::session::Session;
use crate::targets::{host_and_port, resolve};
use raven_model::diag::services::{NtpResult, NtpTest};
use raven_model::diag::{Event, Family};
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

/// Where time servers listen.
const PORT: u16 = 123;

/// A server and the socket by which it is asked, and nobody else.
struct Asked {
    talk: Talk,
    to: Option<(SocketAddr, Probe)>,
    /// What was said instead of an answer.
    said: Option<String>,
}

/// Makes the test and tells what came of it.
pub fn run(test: &NtpTest, session: &mut Session) -> Result<(), Failure> {
    within("servers", test.servers.len() as u64, 1, NtpTest::SERVERS as u64)?;
    within("queries", test.count.into(), 1, 20)?;
    within("the interval in milliseconds", test.interval_ms.into(), 100, 60_000)?;
    within("the time to wait in milliseconds", test.timeout_ms.into(), 10, 60_000)?;
    let mut all = test.servers.iter().map(|server| Asked::new(server, test)).collect::<Result<Vec<_>, _>>()?;
    let random = RandomState::new();
    let mut next = Instant::now();
    for round in 0..test.count {
        while Instant::now() < next && all.iter().any(|asked| asked.talk.may_ask()) {
            session.wait(&[], next)?;
        }
        next = Instant::now() + Duration::from_millis(test.interval_ms.into());
        for (n, asked) in all.iter_mut().enumerate() {
            asked.ask(random.hash_one((round, n)));
        }
        listen(&mut all, session, Instant::now() + Duration::from_millis(test.timeout_ms.into()))?;
    }
    Ok(session.say(&Event::Ntp(all.into_iter().map(Asked::result).collect()))?)
}

/// Until all have answered, or then.
fn listen(all: &mut [Asked], session: &mut Session, until: Instant) -> Result<(), Failure> {
    while Instant::now() < until && all.iter().any(|asked| asked.talk.is_waiting() && asked.said.is_none()) {
        for asked in all.iter_mut() {
            asked.hear(session, until)?;
        }
        if all.iter().any(|asked| asked.talk.is_waiting() && asked.said.is_none()) {
            let sockets: Vec<BorrowedFd<'_>> =
                all.iter().filter_map(|asked| asked.to.as_ref().map(|(_, probe)| probe.as_fd())).collect();
            session.wait(&sockets, until)?;
        }
    }
    Ok(())
}

impl Asked {
    fn new(server: &str, test: &NtpTest) -> Result<Self, Failure> {
        let mut told = NtpResult { server: server.to_owned(), ..NtpResult::default() };
        let found = host_and_port(server).and_then(|(host, port)| {
            let mut to = resolve(host, &test.way)?;
            to.set_port(port.unwrap_or(PORT));
            Ok(to)
        });
        let to = match found {
            Ok(to) => {
                told.address = Some(to);
                let probe = Probe::open(Kind::Udp, Family::of(to.ip()), &test.way);
                Some((to, probe.map_err(|error| Failure::socket(&error, &test.way))?))
            }
            Err(why) => {
                told.error = Some(why);
                None
            }
        };
        Ok(Self { talk: Talk::new(told), to, said: None })
    }

    fn ask(&mut self, mark: u64) {
        let Some((to, probe)) = self.to.as_ref().filter(|_| self.talk.may_ask()) else { return };
        self.said = None;
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let packet = self.talk.ask(mark, Stamp::of(wall), Instant::now());
        if let Err(error) = probe.send(Some(*to), 0, &packet) {
            self.said = Some(local_words(error.raw_os_error().unwrap_or_default()));
        }
    }

    /// All that came so far.
    fn hear(&mut self, session: &mut Session, until: Instant) -> Result<(), Failure> {
        let Some((to, probe)) = &mut self.to else { return Ok(()) };
        let family = Family::of(to.ip());
        while let Ok(Some(Heard { from, port, what, at, payload, .. })) = probe.hear() {
            match what {
                What::Reply if (from, port) == (Some(to.ip()), to.port()) => {
                    if let Some(answer) = self.talk.heard(payload, at) {
                        session.say(&Event::NtpAnswer(answer))?;
                    }
                }
                What::Reply => self.talk.stranger(),
                what => {
                    let by = from.filter(|by| *by != to.ip()).map(|by| format!(", says {by}")).unwrap_or_default();
                    self.said = what.words(family).map(|words| format!("{words}{by}"));
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }

    fn result(self) -> NtpResult {
        let mut told = self.talk.told;
        if told.received == 0 && told.error.is_none() && told.kiss.is_none() {
            told.error = Some(self.said.unwrap_or_else(|| "no answer in time".to_owned()));
        }
        told
    }
}
