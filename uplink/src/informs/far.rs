//! The way to one manager: a socket, what is known of its engine, and what its answers mean.

use super::window::REPEAT;
use crate::attempt::Failure;
use crate::feed::Feed;
use crate::net;
use crate::source::Source;
use raven_decode::snmp::{Heard, Level, Manager, Report, Seconds, read_users};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// Longest datagram: 65,535 bytes with the headers of UDP and IPv4, or with that of UDP over IPv6.
const DATAGRAM_MAX: [usize; 2] = [65_507, 65_527];

/// Answers to questions before informs can be sent: two are needed.
const INTRODUCTIONS_MAX: u32 = 6;

/// A manager, and the socket to it.
pub struct Far {
    pub peer: SocketAddr,
    pub socket: UdpSocket,
    manager: Manager,
    began: Instant,
    buffer: Vec<u8>,
    /// What came last that was no answer of the manager's, in words.
    strange: Option<String>,
}

/// What came on the socket.
pub enum Came {
    /// Nothing yet.
    Nothing,
    /// What answers nothing that waits.
    Other,
    /// An answer of the manager's.
    Answer(Heard),
}

/// The manager of a destination, as its secrets say.
pub fn manager<S: Source>(feed: &Feed<S>) -> Result<Manager, Failure> {
    let at = |key| format!("uplink.{}.{key}", feed.name);
    if let Some(community) = feed.secrets.get("community", feed.to.community.as_ref())? {
        let community = community.strip_suffix(b"\n").unwrap_or(community);
        let community = community.strip_suffix(b"\r").unwrap_or(community);
        if community.is_empty() {
            return Err(Failure::config(format!("{}: the secret is empty: it has no community", at("community"))));
        }
        return Ok(Manager::by_community(community));
    }
    let file = feed.secrets.get("user", feed.to.user.as_ref())?.unwrap_or_default();
    let wrong = |what: String| Failure::config(format!("{}: {what}", at("user")));
    let users = read_users(&String::from_utf8_lossy(file)).map_err(|error| wrong(error.to_string()))?;
    let [user] = <[_; 1]>::try_from(users)
        .map_err(|users| wrong(format!("the secret has {} entries `[[user]]`: one is expected", users.len())))?;
    Manager::by_user(user, dice()).map_err(|error| wrong(error.to_string()))
}

impl Far {
    /// Makes the socket, and asks for what has to be known before informs can be sent.
    pub async fn open(
        to: &str,
        out: &net::Out,
        manager: Manager,
        within: Duration,
        wait: Duration,
    ) -> Result<Self, Failure> {
        let (socket, peer) = net::datagrams(to, out, within).await?;
        let buffer = vec![0; DATAGRAM_MAX[1]];
        let mut far = Self { peer, socket, manager, began: Instant::now(), buffer, strange: None };
        far.introduce(wait).await?;
        match far.manager.other_engine() {
            Some((wanted, found)) => {
                let words = format!("{peer} is engine {found}, and the user's entry is for engine {wanted}");
                Err(Failure::config(words))
            }
            None => Ok(far),
        }
    }

    async fn introduce(&mut self, wait: Duration) -> Result<(), Failure> {
        let (mut number, deadline) = (first_number(), Instant::now() + wait);
        for _ in 0..INTRODUCTIONS_MAX {
            loop {
                let Some(question) = self.manager.question(number, self.now()) else { return Ok(()) };
                self.socket.send(&question).await.map_err(|error| self.broken(&error))?;
                if self.answered(number, deadline.min(Instant::now() + REPEAT)).await? {
                    break;
                }
                if deadline <= Instant::now() {
                    let words = format!("{} does not say its engine: no answer in {} s", self.peer, wait.as_secs());
                    return Err(Failure::retry(format!("{words}{}", self.strange())));
                }
            }
            number = number.checked_add(1).unwrap_or(1);
        }
        Err(Failure::retry(format!("{} answers, but says neither its engine nor its clock", self.peer)))
    }

    /// Waits for an answer to the question with this number; false when there was none until then.
    async fn answered(&mut self, number: i32, until: Instant) -> Result<bool, Failure> {
        loop {
            let Ok(readable) = timeout_at(until, self.socket.readable()).await else { return Ok(false) };
            readable.map_err(|error| self.broken(&error))?;
            match self.hear(|asked| asked == number)? {
                Came::Nothing | Came::Other => {}
                Came::Answer(Heard::Report { what: Some(what), .. }) => {
                    return self.failure(what).map_or(Ok(true), Err);
                }
                Came::Answer(_) => return Ok(true),
            }
        }
    }

    /// Takes one datagram, if one is there.
    pub fn hear(&mut self, waits: impl Fn(i32) -> bool) -> Result<Came, Failure> {
        let len = match self.socket.try_recv(&mut self.buffer) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Came::Nothing),
            Err(error) => return Err(self.broken(&error)),
        };
        let now = self.now();
        match self.manager.hear(&self.buffer[..len], waits, now) {
            Ok(heard) => Ok(heard.map_or(Came::Other, Came::Answer)),
            Err(refused) => {
                self.strange = Some(refused.to_string());
                Ok(Came::Other)
            }
        }
    }

    /// Why an attempt ends with this Report; `None` for one that a right clock or engine id answers.
    pub fn failure(&self, what: Report) -> Option<Failure> {
        let (peer, user, level) = (self.peer, self.manager.user().unwrap_or_default(), self.manager.level());
        let words = match what {
            Report::UnknownEngine | Report::NotInTimeWindow => return None,
            Report::UnknownUser => format!("{peer} knows no user `{user}` ({what})"),
            Report::WrongDigest => {
                format!("{peer} has another authentication password or protocol for user `{user}` ({what})")
            }
            Report::UnsupportedLevel => {
                format!("{peer} does not take user `{user}` at level {level} ({what})")
            }
            Report::DecryptionError => {
                format!("{peer} has another privacy password or protocol for user `{user}` ({what})")
            }
        };
        Some(Failure::config(words))
    }

    /// A message with these varbinds; the error is why it can never be sent.
    pub fn inform(&mut self, number: i32, varbinds: &[u8]) -> Result<Vec<u8>, String> {
        let now = self.now();
        let message = self.manager.inform(number, varbinds, now);
        let datagram = DATAGRAM_MAX[usize::from(self.peer.is_ipv6())];
        let most = datagram.min(self.manager.max_size());
        if message.len() <= most {
            return Ok(message);
        }
        let whose = if most < datagram { "the manager takes" } else { "a datagram has" };
        Err(format!("its inform has {} bytes, and {whose} {most} at most", message.len()))
    }

    /// Whether it knows our user: it signed what it said.
    pub fn said_its_clock(&self) -> bool {
        self.manager.user().is_some() && self.manager.level() > Level::NoAuth
    }

    /// What more there is to say when nothing was acknowledged.
    pub fn silence(&self) -> String {
        let reason = match (self.manager.user(), self.manager.level()) {
            (None, _) => "; a manager that does not know our community says nothing",
            (Some(_), Level::AuthPriv) => "; it may have another privacy password or protocol, which some do not say",
            (Some(_), _) => "; it may not allow our user to notify it, which some do not say",
        };
        format!("{reason}{}", self.strange())
    }

    fn strange(&self) -> String {
        self.strange.as_ref().map_or(String::new(), |words| format!("; what came was no answer of its: {words}"))
    }

    /// A clock that never goes back; the manager's own counts beside it.
    fn now(&self) -> Seconds {
        Seconds(self.began.elapsed().as_secs())
    }

    pub fn broken(&self, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::retry(format!("{}: nobody listens there", self.peer)),
            _ => Failure::retry(format!("{}: {error}", self.peer)),
        }
    }
}

/// Number of the first message of a socket: whoever does not see our messages shall not know it.
pub fn first_number() -> i32 {
    (dice() >> 34) as i32 + 1
}

/// Different each time.
fn dice() -> u64 {
    RandomState::new().build_hasher().finish()
}
