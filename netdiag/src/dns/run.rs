//! Name servers that are asked.

use super::message::question_name;
use super::{CONF_MAX, Talk, Verdict, servers};
use crate::failure::{Failure, within};
use crate::probe::{Heard, Kind, Probe, What};
use crate::session::Session;
use crate::stream::{Stream, Trouble};
use crate::targets::{host_and_port, resolve};
use crate::tcp::connect;
use crate::tls::{Trust, shake};
use raven_model::diag::services::{DnsResult, DnsServer, DnsTest, Transport};
use raven_model::diag::{Event, Family};
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// This box's own.
const CONF: &str = "/etc/resolv.conf";
/// Behind the length of a message over TCP (RFC 1035, 4.2.2).
const MESSAGE_MAX: usize = 65_535;

struct Run<'a> {
    test: &'a DnsTest,
    session: &'a mut Session,
    trust: &'a Trust,
    name: String,
    random: RandomState,
    timeout: Duration,
}

/// Makes the test and tells what came of it.
pub fn run(test: &DnsTest, session: &mut Session) -> Result<(), Failure> {
    let trust = if test.transport == Transport::Tls { Trust::system() } else { Trust::of([]) };
    run_with(test, session, &trust)
}

/// The same; servers of TLS are judged by this.
pub fn run_with(test: &DnsTest, session: &mut Session, trust: &Trust) -> Result<(), Failure> {
    within("the time to wait in milliseconds", test.timeout_ms.into(), 10, 60_000)?;
    within("tries", test.tries.into(), 1, 10)?;
    within("servers", test.servers.len() as u64, 0, DnsTest::SERVERS as u64)?;
    let name = question_name(&test.name, test.record).map_err(Failure::Refused)?;
    let names = if test.servers.is_empty() { own_servers(test)? } else { test.servers.clone() };
    let timeout = Duration::from_millis(test.timeout_ms.into());
    let mut run = Run { test, session, trust, name, random: RandomState::new(), timeout };
    let mut told = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let server = run.server(name, n as u64)?;
        run.session.say(&Event::DnsServer(server.clone()))?;
        run.session.flush()?;
        told.push(server);
    }
    let name = if run.name.is_empty() { ".".to_owned() } else { run.name };
    Ok(session.say(&Event::Dns(DnsResult { name, record: test.record, servers: told }))?)
}

/// Those of this box to which the way leads.
fn own_servers(test: &DnsTest) -> Result<Vec<String>, Failure> {
    let mut conf = String::new();
    let read = File::open(CONF).and_then(|file| file.take(CONF_MAX as u64).read_to_string(&mut conf));
    read.map_err(|error| Failure::Refused(format!("cannot read this box's name servers, {CONF}: {error}")))?;
    let fitting: Vec<_> = servers(&conf).into_iter().filter(|server| resolve(server, &test.way).is_ok()).collect();
    if fitting.is_empty() {
        return Err(Failure::Refused(format!(
            "{CONF} has no name server to which this way leads: name one by --server"
        )));
    }
    Ok(fitting)
}

impl Run<'_> {
    fn server(&mut self, server: &str, n: u64) -> Result<DnsServer, Failure> {
        let transport = self.test.transport;
        let mut told = DnsServer { server: server.to_owned(), transport, ..DnsServer::default() };
        let usual = if transport == Transport::Tls { 853 } else { 53 };
        let found = host_and_port(server).and_then(|(host, port)| {
            let mut to = resolve(host, &self.test.way)?;
            to.set_port(port.unwrap_or(usual));
            Ok((host, to))
        });
        let (host, to) = match found {
            Ok(found) => found,
            Err(why) => {
                told.error = Some(why);
                return Ok(told);
            }
        };
        told.address = Some(to);
        let name = self.name.clone();
        let mut talk = Talk::new(&name, self.test.record, told);
        let done = match transport {
            Transport::Udp => self.by_datagrams(&mut talk, to, n),
            Transport::Tcp | Transport::Tls => self.by_stream(&mut talk, host, to, n),
        };
        if let Err(trouble) = done {
            talk.told.error = Some(trouble.words()?);
        }
        Ok(talk.told)
    }

    fn id(&self, server: u64, attempt: u8) -> u16 {
        self.random.hash_one((server, attempt)) as u16
    }

    fn by_datagrams(&mut self, talk: &mut Talk<'_>, to: SocketAddr, n: u64) -> Result<(), Trouble> {
        let way = &self.test.way;
        let mut probe = Probe::open(Kind::Udp, Family::of(to.ip()), way)
            .map_err(|error| Trouble::Broken(Failure::socket(&error, way).to_string()))?;
        let mut said = None;
        for attempt in 0..self.test.tries {
            let question = talk.ask(self.id(n, attempt), Instant::now());
            let until = Instant::now() + self.timeout;
            if let Err(error) = probe.send(Some(to), 0, &question) {
                said = Some(crate::probe::local_words(error.raw_os_error().unwrap_or_default()));
            }
            match self.listen(talk, &mut probe, (to, &question), until)? {
                Came::Answer => return Ok(()),
                Came::Truncated => {
                    talk.told.transport = Transport::Tcp;
                    return self.by_stream(talk, "", to, n);
                }
                Came::Closed(why) => return Err(Trouble::Broken(why)),
                Came::Nothing(why) => said = why.or(said),
            }
        }
        Err(Trouble::Broken(said.unwrap_or_else(|| "no answer in time".to_owned())))
    }

    fn listen(
        &mut self,
        talk: &mut Talk<'_>,
        probe: &mut Probe,
        (to, question): (SocketAddr, &[u8]),
        until: Instant,
    ) -> Result<Came, Trouble> {
        let (family, mut said) = (Family::of(to.ip()), None);
        while Instant::now() < until {
            match probe.hear() {
                Ok(Some(Heard { what: What::Reply, from, port, at, payload, .. })) => {
                    if (from, port) != (Some(to.ip()), to.port()) {
                        talk.stranger();
                        continue;
                    }
                    match talk.heard(payload, at) {
                        Verdict::Answer => return Ok(Came::Answer),
                        Verdict::Truncated => return Ok(Came::Truncated),
                        Verdict::Ignored => {}
                    }
                }
                // Of this question: what routers give back of it, if anything, begins as it does.
                Ok(Some(Heard { what, from, payload, .. }))
                    if question.starts_with(&payload[..payload.len().min(4)]) =>
                {
                    let by = from.filter(|by| *by != to.ip()).map(|by| format!(", says {by}")).unwrap_or_default();
                    let words = what.words(family).map(|words| format!("{words}{by}"));
                    match words {
                        Some(words) if what.is_port_unreachable(family) => return Ok(Came::Closed(words)),
                        words => said = words.or(said),
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => self.session.wait(&[probe.as_fd()], until)?,
            }
        }
        Ok(Came::Nothing(said))
    }

    /// By TCP, and TLS over it where that is asked for.
    fn by_stream(&mut self, talk: &mut Talk<'_>, host: &str, to: SocketAddr, n: u64) -> Result<(), Trouble> {
        let question = talk.ask(self.id(n, u8::MAX), Instant::now());
        let connected = connect(self.session, to, &self.test.way, self.timeout);
        let (connection, socket) = connected.map_err(|failure| match failure {
            Failure::Gone => Trouble::Gone,
            Failure::Refused(why) => Trouble::Broken(why),
        })?;
        let Some(socket) = socket else {
            return Err(Trouble::Broken(format!("TCP: {}", connection.words().unwrap_or_default())));
        };
        let mut stream = if talk.told.transport == Transport::Tls {
            let (tls, stream) = shake(self.session, socket, host, self.trust, Instant::now() + self.timeout)?;
            talk.told.untrusted = tls.untrusted.or(tls.misnamed);
            stream.ok_or_else(|| Trouble::Broken(format!("TLS: {}", tls.error.unwrap_or_default())))?
        } else {
            Stream::plain(socket)
        };
        let until = Instant::now() + self.timeout;
        let length = (question.len() as u16).to_be_bytes();
        stream.write_all(self.session, &[&length[..], &question].concat(), until)?;
        loop {
            let length = read_exactly(&mut stream, self.session, 2, until)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let message = read_exactly(&mut stream, self.session, length, until)?;
            let now = Instant::now();
            match talk.heard(&message, now) {
                Verdict::Answer => return Ok(()),
                // There is no longer one anywhere: it is taken as it is.
                Verdict::Truncated if talk.heard(&message, now) == Verdict::Answer => return Ok(()),
                _ => {}
            }
        }
    }
}

/// What a question came to.
enum Came {
    Answer,
    Truncated,
    /// Nobody listens there.
    Closed(String),
    /// Nothing in time; what was said meanwhile.
    Nothing(Option<String>),
}

fn read_exactly(stream: &mut Stream, session: &mut Session, n: usize, until: Instant) -> Result<Vec<u8>, Trouble> {
    let mut bytes = vec![0; n.min(MESSAGE_MAX)];
    let mut at = 0;
    while at < bytes.len() {
        match stream.read(session, &mut bytes[at..], until)? {
            0 => return Err(Trouble::Broken("it closed the connection before its answer was whole".to_owned())),
            more => at += more,
        }
    }
    Ok(bytes)
}
