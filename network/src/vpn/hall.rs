//! What the tasks of the role share: the ways to `ravend` and to the `net` role, and what is known of each tunnel.

use super::health::Word;
use raven_jail::channel::{Channel, ChannelError};
use raven_jail::memory::memfd_of;
use raven_model::control::{FromWorker, ProgramOrder};
use raven_model::host::Change;
use raven_model::news::{News, cut};
use raven_model::report::VpnTunnel;
use raven_model::tunnel::{ToNet, TunnelName, TunnelOrder};
use raven_model::units::UnixNanos;
use raven_model::vpn::VpnEvent;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::AsFd;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Events that are remembered.
const EVENTS: usize = 512;

/// One tunnel, as it is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// In a word.
    pub word: Word,
    /// Since when the word is this one.
    pub since: Instant,
    /// When the first of its certificates expires, seconds since 1970.
    pub expires: Option<i64>,
    /// As it is reported, but for what time changes and for whether it carries.
    pub told: VpnTunnel,
}

impl Shown {
    /// A tunnel in this state since now, and nothing more that is known.
    pub fn new(name: &TunnelName, word: Word, cause: String, now: Instant) -> Self {
        let told = VpnTunnel { cause, ..VpnTunnel::new(name.clone(), word.name().to_owned()) };
        Self { word, since: now, expires: None, told }
    }
}

/// Shared by all tasks of the one thread.
#[derive(Debug)]
pub struct Hall {
    ravend: Channel,
    net: Option<Channel>,
    last_order: Cell<u64>,
    /// By their names.
    pub tunnels: RefCell<BTreeMap<TunnelName, Shown>>,
    events: RefCell<VecDeque<VpnEvent>>,
    /// The same, as it is reported.
    news: RefCell<News>,
    /// A word changed since the choice was made.
    pub changed: tokio::sync::Notify,
}

impl Hall {
    /// With these ways out.
    pub fn new(ravend: Channel, net: Option<Channel>) -> Self {
        Self {
            ravend,
            net,
            // An answer to a predecessor's order must not be taken for one to ours.
            last_order: Cell::new(RandomState::new().hash_one(0) >> 1),
            tunnels: RefCell::default(),
            events: RefCell::default(),
            news: RefCell::new(News::new(RandomState::new().hash_one(1))),
            changed: tokio::sync::Notify::new(),
        }
    }

    /// The way to `ravend`.
    pub const fn ravend(&self) -> &Channel {
        &self.ravend
    }

    /// The way to the `net` role.
    pub const fn net(&self) -> Option<&Channel> {
        self.net.as_ref()
    }

    /// Tells `ravend`. What cannot be told is logged: it is read as soon as it has time.
    pub fn tell(&self, message: &FromWorker) -> Result<(), ChannelError> {
        self.ravend.send_json(message, &[])
    }

    /// Has openvpn started with this profile.
    pub fn start(&self, tunnel: TunnelName, link: Option<String>, profile: &str) -> io::Result<()> {
        let memory = memfd_of("raven-profile", profile.as_bytes())?;
        let order = FromWorker::Program(ProgramOrder::Openvpn { tunnel, link });
        self.ravend.send_json(&order, &[memory.as_fd()]).map_err(io::Error::other)
    }

    /// Has a WireGuard started for this tunnel's device.
    pub fn start_wireguard(&self, tunnel: TunnelName) {
        if let Err(error) = self.tell(&FromWorker::Program(ProgramOrder::Wireguard { tunnel })) {
            eprintln!("raven-worker vpn: ravend cannot be told: {error}");
        }
    }

    /// Has it ended.
    pub fn end(&self, tunnel: TunnelName) {
        if let Err(error) = self.tell(&FromWorker::Program(ProgramOrder::End { tunnel })) {
            eprintln!("raven-worker vpn: ravend cannot be told: {error}");
        }
    }

    /// Orders something of the `net` role; the number of the answer.
    pub fn order(&self, order: TunnelOrder) -> Result<u64, String> {
        let net = self.net.as_ref().ok_or("there is no way to the net role")?;
        let id = self.last_order.get() + 1;
        self.last_order.set(id);
        net.try_send_json(&ToNet { id, order }, &[])
            .map_err(|error| format!("the net role takes no order: {error}"))?;
        Ok(id)
    }

    /// Shows how a tunnel is; a word or cause that is new is an event.
    pub fn show(&self, name: &TunnelName, mut shown: Shown) {
        let mut tunnels = self.tunnels.borrow_mut();
        let before = tunnels.get(name);
        shown.told.changes = before.map_or(0, |before| before.told.changes);
        shown.told.last_outage = match shown.word {
            Word::Off => None,
            Word::Down | Word::HalfOpen => Some(steady(&shown.told.cause).to_owned()),
            _ => before.and_then(|before| before.told.last_outage.clone()),
        };
        match before {
            Some(before) if before.word == shown.word => {
                shown.since = before.since;
                if steady(&before.told.cause) != steady(&shown.told.cause) {
                    self.note(name, &shown);
                }
            }
            before => {
                shown.told.changes += u64::from(before.is_some());
                self.note(name, &shown);
                self.changed.notify_one();
            }
        }
        tunnels.insert(name.clone(), shown);
    }

    fn note(&self, tunnel: &TunnelName, shown: &Shown) {
        let event = VpnEvent {
            time_ns: now_ns(),
            tunnel: tunnel.clone(),
            state: shown.word.name().to_owned(),
            cause: steady(&shown.told.cause).to_owned(),
        };
        eprintln!("raven-worker vpn: {tunnel}: {} {}", event.state, event.cause);
        let (state, cause) = (event.state.clone(), cut(&event.cause));
        let what = Change::TunnelState { tunnel: tunnel.to_string(), state, cause };
        self.news.borrow_mut().add(event.time_ns, what);
        let mut events = self.events.borrow_mut();
        if events.len() == EVENTS {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// The newest of it, for the report.
    pub fn news(&self) -> News {
        self.news.borrow().clone()
    }

    /// What happened lately, the oldest first.
    pub fn events(&self) -> Vec<VpnEvent> {
        self.events.borrow().iter().cloned().collect()
    }
}

/// A cause without what counts on: `no route; next attempt in 7 s`, `sent, nothing back for 6 s`, `12 % loss`.
fn steady(cause: &str) -> &str {
    let cause = cause.split("; next attempt").next().unwrap_or(cause);
    let counts = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let cause = cause.split_once(" for ").filter(|(_, rest)| counts(rest)).map_or(cause, |(what, _)| what);
    if cause.ends_with("% loss") { "loss" } else { cause }
}

/// The wall clock.
pub fn now_ns() -> UnixNanos {
    UnixNanos(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64))
}

/// Seconds since 1970.
pub fn now_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn why_it_was_away_is_known_when_it_is_back_and_until_it_is_turned_off() {
        let hall = Hall::new(Channel::pair().unwrap().0, None);
        let name: TunnelName = "noc".parse().unwrap();
        let last = |word: Word, cause: &str| {
            hall.show(&name, Shown::new(&name, word, cause.to_owned(), Instant::now()));
            hall.tunnels.borrow()[&name].told.last_outage.clone()
        };
        assert_eq!(last(Word::Up, ""), None);
        assert_eq!(last(Word::HalfOpen, "sent, nothing back for 6 s").as_deref(), Some("sent, nothing back"));
        assert_eq!(last(Word::Down, "no route; next attempt in 7 s").as_deref(), Some("no route"));
        assert_eq!(last(Word::Connecting, "keys and certificates are exchanged").as_deref(), Some("no route"));
        assert_eq!(last(Word::Up, "").as_deref(), Some("no route"));
        assert_eq!(last(Word::Off, ""), None);
    }

    #[test]
    fn what_counts_on_is_no_event() {
        for (cause, told) in [
            ("no route; next attempt in 7 s", "no route"),
            ("sent, nothing back for 6 s", "sent, nothing back"),
            ("12 % loss", "loss"),
            (
                "waits for a one-time code: raven vpn connect noc --code -",
                "waits for a one-time code: raven vpn connect noc --code -",
            ),
        ] {
            assert_eq!(steady(cause), told);
        }
    }
}
