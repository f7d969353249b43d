//! One tunnel by OpenVPN, as a state machine: what happened goes in, what is to be done comes out. It owns no socket, no
//! process and no clock.
//!
//! openvpn is kept on hold (`management-hold`): each of its attempts begins when [`OpenVpn`] says so, so the pauses
//! between attempts are ours, and grow. A connection that is lost is begun anew by the same process, at once; an attempt
//! that fails is followed by another process, since a process keeps to its link and to the addresses that it was given.

use super::backoff::{Backoff, HASTY, remembered};
use super::causes;
use super::code::Codes;
use super::health::{Pings, Through, Word};
use super::management::{self, Ask, Message, Order, Secret, Stage, StageName};
use super::pushed::{Pushed, Variables};
use raven_model::vpn::SecretText;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// openvpn must have come to its management socket by then.
const START: Duration = Duration::from_secs(5);
/// A connection must stand by then.
const CONNECT: Duration = Duration::from_secs(20);
/// So long an answer may take while attempts are hasty, and later: openvpn asks ever more seldom, and a way that heals must
/// not wait for it.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(8));
/// So much longer by a proxy: openvpn waits 2 s for more of what an HTTP proxy may say after its answer.
const PROXY: Duration = Duration::from_secs(3);
/// Pauses between attempts: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The longest where the server refuses us: accounts are locked by programs that do not stop trying.
const REFUSED: Duration = Duration::from_mins(5);
/// openvpn was told to begin anew because nothing got through: it says so by then, or hangs and is ended.
const RESTART: Duration = Duration::from_secs(2);

/// What is told while nobody gives the code that is asked for.
const WAITS: &str = "waits for a one-time code";

/// How openvpn tells of what a server pushed and nobody wants.
const FILTERED: &str = "Pushed option removed by filter: '";
/// How openvpn tells that the server says good-bye (explicit-exit-notify). That it begins anew it says only later.
const GOODBYE: &str = "Connection reset command was pushed by server";
/// So many of [`FILTERED`] are told.
const FILTERED_MAX: usize = 16;

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// openvpn came to its management socket.
    Connected,
    /// It said something.
    Said(Message),
    /// It is gone, or could not be started.
    Ended(String),
    /// The `net` role put addresses into force, or says why not.
    Applied(Result<(), String>),
    /// An answer to one of our pings.
    Pong(u16),
    /// Records were acknowledged through it at that time.
    Acknowledged(Instant),
    /// A link has a cable, an address or a way out that it had not.
    Returned,
    /// Time went by.
    Tick,
}

/// What is to be done.
#[derive(PartialEq, Eq)]
pub enum Action {
    /// Start openvpn.
    Start,
    /// Kill it.
    Kill,
    /// Tell it something.
    Say(Zeroizing<String>),
    /// Have this put into force.
    Up(Pushed),
    /// Send a ping of this number.
    Ping(u16),
}

/// Nothing of what is said but its first word: it may be a password.
impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("Start"),
            Self::Kill => f.write_str("Kill"),
            Self::Say(text) => write!(f, "Say({} …)", text.split(' ').next().unwrap_or_default()),
            Self::Up(pushed) => write!(f, "Up({pushed:?})"),
            Self::Ping(number) => write!(f, "Ping({number})"),
        }
    }
}

/// What openvpn may ask for.
#[derive(Debug, Default)]
pub struct Credentials {
    /// By what they are for: user and password.
    pub known: BTreeMap<Secret, (String, SecretText)>,
    /// A one-time code is asked for at each connect, by this question.
    pub challenge: Option<String>,
}

/// Where the process is.
#[derive(Debug)]
enum Phase {
    /// Not wanted.
    Off,
    /// To be started then.
    Pausing { until: Instant },
    /// To be started when an operator gives a one-time code.
    Waiting,
    /// Started, and not yet at its management socket.
    Starting { since: Instant },
    /// On its way to the server, and given up then. Held until it is released.
    Connecting { since: Instant, until: Instant, release: Option<Instant> },
    /// Connected. What was pushed is in force once it is not applied any more.
    Connected { since: Instant, pings: Pings, restarted: Option<Instant>, is_applying: bool },
}

/// The tunnel.
#[derive(Debug)]
pub struct OpenVpn {
    phase: Phase,
    credentials: Credentials,
    /// By what [`PATIENCE`] is longer.
    detour: Duration,
    codes: Codes,
    /// Attempts since it was well.
    failures: u32,
    /// Attempts that failed, ever: the next one takes another link or server.
    turn: usize,
    /// openvpn was started and has not yet tried.
    is_fresh: bool,
    /// The server said good-bye, and openvpn has not yet said that it begins anew.
    is_left: bool,
    cause: Option<&'static str>,
    words: String,
    /// Why the attempt before this one failed, where that is known, until one succeeds.
    before: Option<&'static str>,
    variables: Option<Variables>,
    pushed: Option<Pushed>,
    refused: Option<String>,
    /// Somebody at the far end has answered a ping since it was turned on.
    answers: bool,
    /// What the server pushed and openvpn threw away, as it said.
    filtered: BTreeSet<String>,
    backoff: Backoff,
    /// Bytes of the connection to the server.
    pub received: u64,
    /// The same, sent.
    pub sent: u64,
}

impl OpenVpn {
    /// One that is off.
    pub fn new(credentials: Credentials, by_proxy: bool, seed: u64) -> Self {
        Self {
            phase: Phase::Off,
            codes: Codes::new(credentials.challenge.clone()),
            credentials,
            detour: if by_proxy { PROXY } else { Duration::ZERO },
            failures: 0,
            turn: 0,
            is_fresh: false,
            is_left: false,
            cause: None,
            words: String::new(),
            before: None,
            variables: None,
            pushed: None,
            refused: None,
            answers: false,
            filtered: BTreeSet::new(),
            backoff: Backoff::new(seed),
            received: 0,
            sent: 0,
        }
    }

    /// Turns it on or off.
    pub fn want(&mut self, on: bool, now: Instant) -> Vec<Action> {
        match (&self.phase, on) {
            (Phase::Off, true) => {
                (self.failures, self.cause, self.before, self.answers) = (0, None, None, false);
                self.begin(now)
            }
            (Phase::Off, false) | (_, true) => Vec::new(),
            (_, false) => {
                self.phase = Phase::Off;
                self.codes.forget();
                vec![Action::Kill]
            }
        }
    }

    /// An operator gives a one-time code: the next attempt has it, and begins now.
    pub fn code(&mut self, code: SecretText, now: Instant) -> Vec<Action> {
        self.codes.give(code, now);
        match self.phase {
            Phase::Off => Vec::new(),
            Phase::Waiting | Phase::Pausing { .. } => self.start(now),
            Phase::Starting { .. } | Phase::Connecting { .. } | Phase::Connected { .. } => {
                (self.phase, self.pushed) = (Phase::Pausing { until: now + PAUSE.0 }, None);
                vec![Action::Kill]
            }
        }
    }

    /// The question for the one-time code for which it waits.
    pub fn awaited(&self) -> Option<&str> {
        if matches!(self.phase, Phase::Waiting) { self.codes.wanted() } else { None }
    }

    /// Changes with each attempt that fails, and stays while attempts succeed.
    pub const fn turn(&self) -> usize {
        self.turn
    }

    /// What the server gave it, while it is connected.
    pub fn pushed(&self) -> Option<&Pushed> {
        self.pushed.as_ref().filter(|_| matches!(self.phase, Phase::Connected { .. }))
    }

    /// What the server pushed beside that and nobody wants.
    pub const fn filtered(&self) -> &BTreeSet<String> {
        &self.filtered
    }

    /// The pings, while it is connected.
    pub fn pings(&self) -> Option<&Pings> {
        if let Phase::Connected { pings, .. } = &self.phase { Some(pings) } else { None }
    }

    /// When [`Event::Tick`] is due at the latest.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        match &self.phase {
            Phase::Off | Phase::Waiting => self.codes.ends(),
            Phase::Pausing { until } => Some(*until),
            Phase::Starting { since } => Some(*since + START),
            Phase::Connecting { until, release, .. } => Some(release.unwrap_or(*until)),
            Phase::Connected { pings, .. } => Some(pings.look(now)),
        }
    }

    /// Its state and why.
    pub fn state(&self, now: Instant) -> (Word, String) {
        let cause = self.cause.map(str::to_owned).unwrap_or_default();
        match &self.phase {
            Phase::Off => (Word::Off, String::new()),
            Phase::Pausing { until } => {
                let seconds = until.saturating_duration_since(now).as_secs() + 1;
                (Word::Down, format!("{}; next attempt in {seconds} s", self.cause.unwrap_or(&self.words)))
            }
            Phase::Waiting if cause.is_empty() => (Word::Down, WAITS.to_owned()),
            Phase::Waiting => (Word::Down, format!("{cause}; {WAITS}")),
            Phase::Starting { .. } => (Word::Connecting, self.again("openvpn is started")),
            Phase::Connecting { .. } if !cause.is_empty() => (Word::Down, cause),
            Phase::Connecting { .. } => (Word::Connecting, self.again(&self.words)),
            Phase::Connected { pings, is_applying, .. } => match &self.refused {
                Some(why) => (Word::Down, why.clone()),
                // What is sent by then may leave with an address that the server does not know any more.
                None if *is_applying => (Word::Connecting, words(StageName::Connected).to_owned()),
                None => pings.word(now),
            },
        }
    }

    /// How far it is, and why it is not its first attempt: attempts take longer than the pauses between them.
    fn again(&self, how_far: &str) -> String {
        match self.before {
            Some(before) => format!("{how_far}; attempt before: {before}"),
            None => how_far.to_owned(),
        }
    }

    /// Takes in what happened.
    pub fn step(&mut self, event: Event, now: Instant) -> Vec<Action> {
        self.codes.tick(now);
        if matches!(self.phase, Phase::Off | Phase::Waiting) {
            return Vec::new();
        }
        match event {
            Event::Connected => {
                self.phase = Phase::connecting(now);
                (self.is_fresh, self.is_left) = (true, false);
                vec![say(Order::Tell)]
            }
            Event::Said(message) => self.said(message, now),
            // It was told to end: what follows is decided already.
            Event::Ended(_) if matches!(self.phase, Phase::Pausing { .. }) => Vec::new(),
            Event::Ended(how) => {
                self.words = how;
                self.pause(now);
                Vec::new()
            }
            Event::Applied(result) => {
                self.refused = result.err();
                if let Phase::Connected { is_applying, .. } = &mut self.phase {
                    *is_applying = false;
                }
                Vec::new()
            }
            Event::Pong(sequence) => {
                if let Phase::Connected { pings, .. } = &mut self.phase {
                    self.answers |= pings.answer(sequence, now);
                }
                Vec::new()
            }
            Event::Acknowledged(at) => {
                if let Phase::Connected { pings, .. } = &mut self.phase {
                    self.answers &= !pings.acknowledged(at);
                }
                Vec::new()
            }
            Event::Returned => self.returned(now),
            Event::Tick => self.tick(now),
        }
    }

    /// What failed for want of a way need not wait; a server that refuses us is not asked more often by that.
    fn returned(&mut self, now: Instant) -> Vec<Action> {
        if self.cause.is_some_and(causes::is_refusal) {
            return Vec::new();
        }
        self.failures = self.failures.min(1);
        match &mut self.phase {
            Phase::Pausing { until } => *until = now,
            Phase::Connecting { release: Some(release), .. } => *release = now,
            _ => {}
        }
        self.tick(now)
    }

    /// Starts it, unless somebody has to give a code first.
    fn begin(&mut self, now: Instant) -> Vec<Action> {
        if self.codes.wanted().is_some() {
            self.phase = Phase::Waiting;
            return Vec::new();
        }
        self.start(now)
    }

    fn start(&mut self, now: Instant) -> Vec<Action> {
        self.phase = Phase::Starting { since: now };
        vec![Action::Start]
    }

    /// This process has done what it can.
    fn pause(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Connected { .. }) {
            self.turn = self.turn.wrapping_add(1);
        }
        self.before = self.cause;
        let until = now + self.next_pause();
        let phase = if self.codes.wanted().is_some() { Phase::Waiting } else { Phase::Pausing { until } };
        (self.phase, self.pushed) = (phase, None);
    }

    fn next_pause(&mut self) -> Duration {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        if self.cause.is_some_and(causes::is_refusal) {
            return self.backoff.pause((PAUSE.0, REFUSED), failures);
        }
        self.backoff.hasty(PAUSE, failures)
    }

    fn said(&mut self, message: Message, now: Instant) -> Vec<Action> {
        match message {
            Message::Hold { .. } => self.held(now),
            Message::State(stage) => self.stage(&stage, now),
            Message::Bytes { received, sent } => {
                (self.received, self.sent) = (received, sent);
                Vec::new()
            }
            Message::Ask(ask) => self.answer(&ask, now),
            Message::Rejected { what: Secret::Auth, challenge: Some(challenge) } => self.challenged(&challenge, now),
            Message::Rejected { what, .. } => {
                self.blame(match what {
                    Secret::PrivateKey => "the password of the private key is wrong",
                    Secret::HttpProxy | Secret::SocksProxy => "auth refused by the proxy",
                    Secret::Auth => "auth refused",
                });
                Vec::new()
            }
            Message::UpDown { .. } => {
                self.variables = Some(Variables::default());
                Vec::new()
            }
            Message::Variable { name, value } => {
                if let Some(variables) = &mut self.variables {
                    variables.push(name, value);
                }
                Vec::new()
            }
            Message::VariablesEnd => self.variables_end(),
            Message::Log(line) if line.starts_with(FILTERED) => {
                let option = line.trim_start_matches(FILTERED).trim_end_matches('\'');
                if self.filtered.len() < FILTERED_MAX {
                    self.filtered.insert(option.chars().take(80).collect());
                }
                Vec::new()
            }
            Message::Log(line) if line.starts_with(GOODBYE) && self.pings().is_some() => {
                self.lost("server-pushed-connection-reset", now);
                self.is_left = true;
                Vec::new()
            }
            Message::Log(line) | Message::Fatal(line) | Message::Error(line) => {
                if let Some(cause) = causes::of(&line) {
                    self.blame(cause);
                }
                Vec::new()
            }
            Message::Success(_) | Message::Other => Vec::new(),
        }
    }

    /// The weightiest of what was told of one attempt.
    fn blame(&mut self, cause: &'static str) {
        if self.cause.is_none_or(|before| causes::weight(cause) >= causes::weight(before)) {
            self.cause = Some(cause);
        }
    }

    /// An attempt is about to begin: that of a new process at once, and that after a connection that held for long.
    fn held(&mut self, now: Instant) -> Vec<Action> {
        if !matches!(self.phase, Phase::Connecting { .. }) {
            return Vec::new();
        }
        if std::mem::take(&mut self.is_fresh) {
            self.failures = self.failures.max(1);
            self.forget_cause();
            return self.release(now);
        }
        if self.failures == 0 {
            self.failures = 1;
            return self.release(now);
        }
        let release = Some(now + self.next_pause());
        self.phase = Phase::Connecting { since: now, until: now + CONNECT, release };
        Vec::new()
    }

    fn release(&mut self, now: Instant) -> Vec<Action> {
        self.phase = Phase::Connecting { since: now, until: now + self.patience(), release: None };
        vec![say(Order::Release)]
    }

    fn patience(&self) -> Duration {
        self.detour + if self.failures > HASTY { PATIENCE.1 } else { PATIENCE.0 }
    }

    /// The next attempt may fail by another one.
    fn forget_cause(&mut self) {
        self.cause = None;
        "begins anew".clone_into(&mut self.words);
    }

    fn stage(&mut self, stage: &Stage, now: Instant) -> Vec<Action> {
        let was_connected = match self.phase {
            Phase::Connecting { .. } => std::mem::take(&mut self.is_left),
            Phase::Connected { .. } => true,
            // Last words of a process that is being ended.
            Phase::Off | Phase::Pausing { .. } | Phase::Waiting | Phase::Starting { .. } => return Vec::new(),
        };
        match stage.name {
            StageName::Connected => {
                (self.cause, self.before) = (None, None);
                let pings = Pings::new(now, self.answers);
                let is_applying = self.pushed.is_some();
                self.phase = Phase::Connected { since: now, pings, restarted: None, is_applying };
                self.pushed.clone().map(Action::Up).into_iter().collect()
            }
            StageName::Reconnecting | StageName::Exiting => {
                self.lost(&stage.detail, now);
                if was_connected {
                    return Vec::new();
                }
                self.pause(now);
                vec![Action::Kill]
            }
            name => {
                words(name).clone_into(&mut self.words);
                let patience = self.patience();
                if let Phase::Connecting { since, until, .. } = &mut self.phase {
                    *until = if name.is_answered() { *since + CONNECT } else { (now + patience).max(*until) };
                }
                Vec::new()
            }
        }
    }

    /// The connection is gone. What held for long begins anew without a pause; else the pause is not longer than it held,
    /// so that a cable that is loose costs half of the time at most.
    fn lost(&mut self, detail: &str, now: Instant) {
        self.filtered.clear();
        if let Phase::Connected { since, .. } = self.phase {
            self.failures = remembered(self.failures, now.duration_since(since));
            self.phase = Phase::connecting(now);
        }
        if let Some(cause) = causes::of_detail(detail) {
            self.blame(cause);
        }
        self.words = format!("the connection ended ({detail})");
    }

    fn answer(&mut self, ask: &Ask, now: Instant) -> Vec<Action> {
        let Some((user, password)) = self.credentials.known.get(&ask.what) else {
            self.blame("auth refused: the profile has no credentials, and the server asks for them");
            return vec![Action::Kill];
        };
        let login = (user.as_str(), password.expose());
        let answer = match ask.what {
            Secret::Auth => self.codes.answer(ask.code.as_deref(), login),
            _ => Some((user.clone(), Zeroizing::new(password.expose().to_owned()))),
        };
        let Some((user, password)) = answer else {
            // A connection that begins anew by itself, or new keys: the server wants another code than before.
            self.pause(now);
            return vec![Action::Kill];
        };
        if let Ok(text) = management::credentials(ask.what, ask.user.then_some(&user), &password) {
            return vec![Action::Say(text)];
        }
        self.blame("auth refused: the credentials hold a line break");
        vec![Action::Kill]
    }

    /// User and password were right, and the server has a question.
    fn challenged(&mut self, challenge: &str, now: Instant) -> Vec<Action> {
        if !self.codes.ask(challenge) {
            self.blame("auth refused: the server asks for a one-time code in a way that is not known");
            return Vec::new();
        }
        (self.cause, self.failures) = (None, 0);
        let turn = self.turn;
        self.pause(now);
        // Only this server knows its question.
        self.turn = turn;
        vec![Action::Kill]
    }

    fn variables_end(&mut self) -> Vec<Action> {
        let Some(variables) = self.variables.take() else { return Vec::new() };
        let pushed = variables.read();
        if pushed.addresses.is_empty() {
            return Vec::new();
        }
        self.pushed = Some(pushed.clone());
        vec![Action::Up(pushed)]
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        match &mut self.phase {
            Phase::Pausing { until } if *until <= now => self.begin(now),
            Phase::Starting { since } if *since + START <= now => {
                "openvpn did not come to its management socket".clone_into(&mut self.words);
                self.pause(now);
                vec![Action::Kill]
            }
            Phase::Connecting { release, .. } if release.is_some_and(|at| at <= now) => {
                self.forget_cause();
                self.release(now)
            }
            Phase::Connecting { until, release: None, .. } if *until <= now => {
                self.blame("the server does not answer");
                self.pause(now);
                vec![Action::Kill]
            }
            Phase::Connected { pings, restarted, .. } => {
                let is_dead = matches!(pings.through(now), Through::Nothing { .. });
                match (is_dead, *restarted) {
                    (true, None) => {
                        *restarted = Some(now);
                        self.blame("nothing came back through it");
                        return vec![say(Order::Restart)];
                    }
                    (true, Some(told)) if told + RESTART <= now => {
                        "openvpn hangs".clone_into(&mut self.words);
                        (self.cause, self.failures) = (None, 0);
                        self.pause(now);
                        return vec![Action::Kill];
                    }
                    (true, Some(_)) => {}
                    (false, _) => *restarted = None,
                }
                if pings.due(now) <= now { vec![Action::Ping(pings.send(now))] } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }
}

impl Phase {
    /// It comes to its hold, and begins when it is released.
    fn connecting(now: Instant) -> Self {
        Self::Connecting { since: now, until: now + CONNECT, release: None }
    }
}

fn say(order: Order) -> Action {
    Action::Say(Zeroizing::new(order.text().to_owned()))
}

const fn words(name: StageName) -> &'static str {
    match name {
        StageName::Resolve => "looks the server's name up",
        StageName::TcpConnect => "connects to the server by TCP",
        StageName::Connecting | StageName::Wait => "waits for the server's first answer",
        StageName::Auth => "keys and certificates are exchanged",
        StageName::AuthPending => "the server wants a second factor",
        StageName::GetConfig => "asks the server for addresses",
        StageName::AssignIp | StageName::AddRoutes | StageName::Connected => "addresses are put into force",
        StageName::Reconnecting | StageName::Exiting => "the connection ended",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// A tunnel and its clock.
    struct Rig {
        tunnel: OpenVpn,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let mut credentials = Credentials::default();
            let password = SecretText::new("pass\"word");
            credentials.known.insert(Secret::Auth, ("venue7".to_owned(), password));
            Self { tunnel: OpenVpn::new(credentials, false, 7), now: Instant::now() }
        }

        fn said(&mut self, line: &str) -> Vec<Action> {
            self.tunnel.step(Event::Said(Message::parse(line.as_bytes())), self.now)
        }

        fn word(&self) -> (&'static str, String) {
            let (word, cause) = self.tunnel.state(self.now);
            (word.name(), cause)
        }

        /// Goes on to the next thing that is due.
        fn wait(&mut self) -> Vec<Action> {
            self.now = self.tunnel.due(self.now).unwrap().max(self.now);
            self.tunnel.step(Event::Tick, self.now)
        }

        fn connect(&mut self) {
            for line in [
                ">UPDOWN:UP",
                ">UPDOWN:ENV,ifconfig_local=10.8.77.2",
                ">UPDOWN:ENV,ifconfig_netmask=255.255.255.0",
                ">UPDOWN:ENV,END",
                ">STATE:1,CONNECTED,SUCCESS,10.8.77.2,192.0.2.1,1194,,",
            ] {
                self.said(line);
            }
        }

        /// Wanted, started, connected.
        fn up() -> Self {
            let mut rig = Self::new();
            assert_eq!(rig.tunnel.want(true, rig.now), [Action::Start]);
            assert_eq!(rig.tunnel.step(Event::Connected, rig.now), [say(Order::Tell)]);
            assert_eq!(rig.said(">HOLD:Waiting for hold release:0"), [say(Order::Release)]);
            rig.connect();
            rig.tunnel.step(Event::Applied(Ok(())), rig.now);
            rig
        }

        /// Answers each ping for so long.
        fn live(&mut self, span: Duration) {
            let end = self.now + span;
            while self.now < end {
                for action in self.wait() {
                    let Action::Ping(n) = action else { panic!("{action:?}") };
                    self.now += Duration::from_millis(20);
                    self.tunnel.step(Event::Pong(n), self.now);
                }
            }
        }
    }

    #[test]
    fn a_tunnel_comes_up_and_its_addresses_with_it() {
        let mut rig = Rig::new();
        rig.tunnel.want(true, rig.now);
        rig.tunnel.step(Event::Connected, rig.now);
        rig.said(">HOLD:Waiting for hold release:0");
        rig.said(">STATE:1,WAIT,,,,,,");
        assert_eq!(rig.word(), ("connecting", "waits for the server's first answer".to_owned()));
        rig.said(">UPDOWN:UP");
        rig.said(">UPDOWN:ENV,ifconfig_local=10.8.77.2");
        let actions = rig.said(">UPDOWN:ENV,END");
        assert!(matches!(&actions[..], [Action::Up(pushed)] if pushed.addresses[0].to_string() == "10.8.77.2/32"));
        // As connected it says once more what is to be in force: after a reconnect openvpn may not repeat it.
        assert!(matches!(&rig.said(">STATE:1,CONNECTED,SUCCESS,10.8.77.2,,,,")[..], [Action::Up(_)]));
        assert_eq!(rig.word(), ("connecting", "addresses are put into force".to_owned()));
        rig.tunnel.step(Event::Applied(Ok(())), rig.now);
        assert_eq!(rig.word(), ("up", String::new()));
        rig.tunnel.step(Event::Applied(Err("vpn-noc is taken by somebody else".to_owned())), rig.now);
        assert_eq!(rig.word(), ("down", "vpn-noc is taken by somebody else".to_owned()));
    }

    #[test]
    fn credentials_are_told_once_they_are_asked_for() {
        let mut rig = Rig::new();
        rig.tunnel.want(true, rig.now);
        rig.tunnel.step(Event::Connected, rig.now);
        let actions = rig.said(">PASSWORD:Need 'Auth' username/password");
        let [Action::Say(text)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(**text, "username \"Auth\" \"venue7\"\npassword \"Auth\" \"pass\\\"word\"\n");
        assert_eq!(rig.said(">PASSWORD:Need 'Private Key' password"), [Action::Kill]);
    }

    #[test]
    fn a_profile_that_asks_for_a_code_is_tried_once_for_each_code() {
        let known = BTreeMap::from([(Secret::Auth, ("venue7".to_owned(), SecretText::new("pw")))]);
        let credentials = Credentials { known, challenge: Some("Your code".to_owned()) };
        let mut rig = Rig { tunnel: OpenVpn::new(credentials, false, 7), now: Instant::now() };
        assert_eq!(rig.tunnel.want(true, rig.now), []);
        assert_eq!(rig.word(), ("down", "waits for a one-time code".to_owned()));
        assert_eq!((rig.tunnel.awaited(), rig.tunnel.due(rig.now)), (Some("Your code"), None));
        assert_eq!(rig.tunnel.code(SecretText::new("123456"), rig.now), [Action::Start]);
        rig.tunnel.step(Event::Connected, rig.now);
        rig.said(">HOLD:Waiting for hold release:0");
        let actions = rig.said(">PASSWORD:Need 'Auth' username/password SC:1,Your code");
        let [Action::Say(text)] = &actions[..] else { panic!("{actions:?}") };
        assert!(text.ends_with("password \"Auth\" \"SCRV1:cHc=:MTIzNDU2\"\n"));
        assert!(!format!("{actions:?}{:?}", rig.tunnel).contains("cHc="));
        // It was wrong: nothing more is tried with it.
        rig.said(">LOG:1,,AUTH: Received control message: AUTH_FAILED");
        rig.said(">PASSWORD:Verification Failed: 'Auth'");
        assert_eq!(rig.said(">STATE:1,EXITING,auth-failure,,,,,"), [Action::Kill]);
        rig.tunnel.step(Event::Ended("exit 0".to_owned()), rig.now);
        assert_eq!(rig.word(), ("down", "auth refused; waits for a one-time code".to_owned()));
        rig.now += 3600 * S;
        assert_eq!((rig.tunnel.step(Event::Tick, rig.now), rig.tunnel.due(rig.now)), (vec![], None));
        // A connection that stands and wants new keys wants another code too.
        rig.tunnel.code(SecretText::new("2"), rig.now);
        rig.tunnel.step(Event::Connected, rig.now);
        rig.said(">HOLD:Waiting for hold release:0");
        rig.said(">PASSWORD:Need 'Auth' username/password SC:1,Your code");
        rig.connect();
        assert_eq!(rig.said(">PASSWORD:Need 'Auth' username/password SC:1,Your code"), [Action::Kill]);
        assert_eq!(rig.word().1, "waits for a one-time code");
    }

    #[test]
    fn a_server_that_asks_for_a_code_is_answered_by_the_next_process() {
        let mut rig = Rig::new();
        assert_eq!(rig.tunnel.want(true, rig.now), [Action::Start]);
        for code in ["1", "2"] {
            let turn = rig.tunnel.turn();
            rig.tunnel.step(Event::Connected, rig.now);
            rig.said(">HOLD:Waiting for hold release:0");
            rig.said(">PASSWORD:Need 'Auth' username/password");
            // As openvpn 2.6 tells it.
            rig.said(">LOG:1,,AUTH: Received control message: AUTH_FAILED,CRV1:R,E:b25l:dmVudWU3:Code of the token");
            let line = ">PASSWORD:Verification Failed: 'Auth' ['CRV1:R,E:b25l:dmVudWU3:Code of the token']";
            assert_eq!(rig.said(line), [Action::Kill]);
            assert_eq!(rig.said(">STATE:1,EXITING,auth-failure,,,,,"), []);
            rig.tunnel.step(Event::Ended("exit 0".to_owned()), rig.now);
            assert_eq!(rig.word(), ("down", "waits for a one-time code".to_owned()));
            assert_eq!(rig.tunnel.awaited(), Some("Code of the token"));
            assert_eq!(rig.tunnel.code(SecretText::new(code), rig.now), [Action::Start]);
            assert_eq!(rig.word().1, "openvpn is started", "a question is no failure");
            rig.tunnel.step(Event::Connected, rig.now);
            rig.said(">HOLD:Waiting for hold release:0");
            let actions = rig.said(">PASSWORD:Need 'Auth' username/password");
            let [Action::Say(text)] = &actions[..] else { panic!("{actions:?}") };
            let told = format!("username \"Auth\" \"venue7\"\npassword \"Auth\" \"CRV1::b25l::{code}\"\n");
            assert_eq!(text.as_str(), told);
            assert_eq!(rig.tunnel.turn(), turn, "by another server");
            // It was wrong: the question is asked once more, and no more often than that.
            rig.said(">PASSWORD:Verification Failed: 'Auth'");
            rig.said(">STATE:1,EXITING,auth-failure,,,,,");
            assert!(rig.word().1.starts_with("auth refused; next attempt in "), "{:?}", rig.word());
            assert_eq!(rig.wait(), [Action::Start]);
        }
    }

    #[test]
    fn a_code_that_was_given_before_is_used_when_it_is_asked_for() {
        let mut rig = Rig::up();
        assert_eq!(rig.tunnel.code(SecretText::new("1"), rig.now), [Action::Kill]);
        assert_eq!(rig.wait(), [Action::Start]);
        rig.tunnel.step(Event::Connected, rig.now);
        rig.said(">PASSWORD:Need 'Auth' username/password");
        assert_eq!(rig.said(">PASSWORD:Verification Failed: 'Auth' ['CRV1:R:id:dQ==:Code?']"), [Action::Kill]);
        assert_eq!(rig.wait(), [Action::Start]);
        rig.tunnel.step(Event::Connected, rig.now);
        let actions = rig.said(">PASSWORD:Need 'Auth' username/password");
        assert!(matches!(&actions[..], [Action::Say(text)] if text.contains("CRV1::id::1")));
        // Turned off, all of that is forgotten.
        rig.tunnel.code(SecretText::new("3"), rig.now);
        rig.tunnel.want(false, rig.now);
        assert_eq!(rig.tunnel.due(rig.now), None);
    }

    #[test]
    fn a_server_that_refuses_us_is_asked_ever_more_seldom() {
        let mut rig = Rig::new();
        rig.tunnel.want(true, rig.now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            rig.tunnel.step(Event::Connected, rig.now);
            rig.said(">HOLD:Waiting for hold release:0");
            rig.said(">PASSWORD:Verification Failed: 'Auth'");
            rig.said(">STATE:1,EXITING,auth-failure,,,,,");
            rig.tunnel.step(Event::Ended("exit 1".to_owned()), rig.now);
            assert_eq!(rig.word().0, "down");
            assert!(rig.word().1.starts_with("auth refused; next attempt in "), "{:?}", rig.word());
            let before = rig.now;
            assert_eq!(rig.wait(), [Action::Start]);
            pauses.push(rig.now - before);
        }
        assert!(pauses[0] < S * 2 && pauses[11] > S * 230 && pauses[11] <= S * 360, "{pauses:?}");
    }

    #[test]
    fn nothing_back_is_half_open_and_begun_anew_without_a_pause() {
        let mut rig = Rig::up();
        rig.live(60 * S);
        assert_eq!(rig.word(), ("up", String::new()));
        let died = rig.now;
        let restart = loop {
            let actions = rig.wait();
            if actions == [say(Order::Restart)] {
                break rig.now - died;
            }
        };
        assert!(restart <= 3 * S, "{restart:?}");
        assert_eq!(rig.word(), ("half-open", "sent, nothing back for 2 s".to_owned()));
        rig.said(">STATE:1,RECONNECTING,SIGUSR1,,,,,");
        assert_eq!(rig.word(), ("down", "nothing came back through it".to_owned()));
        assert_eq!(rig.said(">HOLD:Waiting for hold release:1"), [say(Order::Release)]);
        rig.connect();
        rig.tunnel.step(Event::Applied(Ok(())), rig.now);
        assert_eq!((rig.word(), rig.tunnel.turn()), (("up", String::new()), 0));
    }

    #[test]
    fn a_connection_that_is_lost_and_not_had_again_is_sought_by_the_next_process() {
        let mut rig = Rig::up();
        rig.live(60 * S);
        rig.said(">STATE:1,RECONNECTING,ping-restart,,,,,");
        assert_eq!(rig.said(">HOLD:Waiting for hold release:1"), [say(Order::Release)]);
        assert_eq!((rig.said(">STATE:1,RECONNECTING,server_poll,,,,,"), rig.tunnel.turn()), (vec![Action::Kill], 1));
        assert_eq!(rig.wait(), [Action::Start]);
    }

    #[test]
    fn a_server_that_says_good_bye_is_gone_at_once() {
        let mut rig = Rig::up();
        rig.live(60 * S);
        rig.said(">LOG:1,,PUSH: Received control message: 'Connection reset command was pushed by server'");
        assert_eq!(rig.word(), ("up", String::new()));
        assert_eq!(rig.said(">LOG:1,,Connection reset command was pushed by server ('')"), []);
        assert_eq!(rig.word(), ("down", "the server ended the connection".to_owned()));
        // What openvpn says of it later is no second end, and why it was is told until there is another connection.
        assert_eq!(rig.said(">STATE:1,RECONNECTING,server-pushed-connection-reset,,,,,"), []);
        assert_eq!(rig.said(">HOLD:Waiting for hold release:1"), [say(Order::Release)]);
        assert_eq!(rig.word(), ("down", "the server ended the connection".to_owned()));
        assert_eq!(rig.said(">STATE:1,RECONNECTING,server_poll,,,,,"), [Action::Kill]);
    }

    #[test]
    fn a_pause_is_not_longer_than_the_connection_before_it_held() {
        for (held, most) in [(0, 1), (1, 2), (4, 5), (10, 10), (29, 30), (31, 0)] {
            let mut rig = Rig::up();
            rig.tunnel.failures = HASTY + 12;
            rig.live(held * S);
            rig.said(">STATE:1,RECONNECTING,connection-reset,,,,,");
            let lost = rig.now;
            if rig.said(">HOLD:Waiting for hold release:1").is_empty() {
                assert_eq!(rig.wait(), [say(Order::Release)]);
            }
            assert!(rig.now - lost <= most * S, "{held} s held: {:?}", rig.now - lost);
        }
    }

    #[test]
    fn an_openvpn_that_hangs_is_ended_and_another_started_at_once() {
        let mut rig = Rig::up();
        rig.live(5 * S);
        while rig.wait() != [say(Order::Restart)] {}
        let told = rig.now;
        while rig.wait() != [Action::Kill] {}
        assert!(rig.now - told <= 3 * S);
        // That its end is told does not make the pause longer.
        rig.tunnel.step(Event::Ended("SIGKILL".to_owned()), rig.now + S / 10);
        assert!(rig.word().1.starts_with("openvpn hangs; next attempt in "), "{:?}", rig.word());
        assert_eq!(rig.wait(), [Action::Start]);
        assert!(rig.now - told <= 4 * S);
    }

    #[test]
    fn attempts_that_fail_come_after_short_pauses_then_growing_ones_each_by_a_process_of_its_own() {
        let mut rig = Rig::new();
        rig.tunnel.want(true, rig.now);
        let mut pauses = Vec::new();
        for n in 0..HASTY as usize + 10 {
            assert_eq!(rig.tunnel.turn(), n);
            rig.tunnel.step(Event::Connected, rig.now);
            assert_eq!(rig.said(">HOLD:Waiting for hold release:0"), [say(Order::Release)]);
            rig.said(">LOG:1,W,write UDPv4: Network is unreachable (code=101)");
            assert_eq!(rig.said(">STATE:1,RECONNECTING,tls-error,,,,,"), [Action::Kill]);
            assert_eq!(rig.said(">HOLD:Waiting for hold release:5"), []);
            rig.tunnel.step(Event::Ended("exit 0".to_owned()), rig.now);
            assert!(rig.word().1.starts_with("no route; next attempt in "), "{:?}", rig.word());
            let before = rig.now;
            assert_eq!(rig.wait(), [Action::Start]);
            pauses.push(rig.now - before);
        }
        assert!(pauses[..HASTY as usize].iter().all(|pause| *pause <= S * 6 / 10), "{pauses:?}");
        let last = pauses[pauses.len() - 1];
        assert!(last >= S * 24 && last <= S * 36, "{pauses:?}");
    }

    #[test]
    fn a_link_that_comes_back_ends_the_pause_but_not_that_of_a_refusal() {
        let mut rig = Rig::new();
        rig.tunnel.want(true, rig.now);
        for _ in 0..HASTY + 10 {
            rig.tunnel.step(Event::Ended("exit 1".to_owned()), rig.now);
            rig.wait();
        }
        rig.tunnel.step(Event::Ended("exit 1".to_owned()), rig.now);
        assert!(rig.tunnel.due(rig.now).unwrap() > rig.now + 20 * S);
        assert_eq!(rig.tunnel.step(Event::Returned, rig.now), [Action::Start]);
        assert_eq!(rig.tunnel.step(Event::Returned, rig.now), [], "it is on its way");
        rig.tunnel.step(Event::Connected, rig.now);
        rig.said(">PASSWORD:Verification Failed: 'Auth'");
        rig.tunnel.step(Event::Ended("exit 1".to_owned()), rig.now);
        assert_eq!(rig.tunnel.step(Event::Returned, rig.now), []);
    }

    #[test]
    fn an_openvpn_that_does_nothing_is_ended() {
        let mut rig = Rig::new();
        rig.tunnel.want(true, rig.now);
        assert_eq!(rig.wait(), [Action::Kill]);
        assert!(rig.word().1.starts_with("openvpn did not come to its management socket; next"), "{:?}", rig.word());
        assert_eq!(rig.wait(), [Action::Start]);
        rig.tunnel.step(Event::Connected, rig.now);
        rig.said(">HOLD:Waiting for hold release:0");
        while rig.wait() != [Action::Kill] {}
        assert!(rig.word().1.starts_with("the server does not answer"), "{:?}", rig.word());
    }

    #[test]
    fn while_it_is_tried_again_it_is_told_why_it_failed_before() {
        let mut rig = Rig::new();
        rig.tunnel.want(true, rig.now);
        rig.tunnel.step(Event::Connected, rig.now);
        rig.said(">HOLD:Waiting for hold release:0");
        while rig.wait() != [Action::Kill] {}
        assert_eq!(rig.wait(), [Action::Start]);
        let before = "attempt before: the server does not answer";
        assert_eq!(rig.word(), ("connecting", format!("openvpn is started; {before}")));
        rig.tunnel.step(Event::Connected, rig.now);
        rig.said(">HOLD:Waiting for hold release:0");
        rig.said(">STATE:1,AUTH,,,,,,");
        assert_eq!(rig.word(), ("connecting", format!("keys and certificates are exchanged; {before}")));
        rig.connect();
        rig.tunnel.step(Event::Applied(Ok(())), rig.now);
        assert_eq!(rig.word(), ("up", String::new()));
        assert_eq!(
            (rig.tunnel.want(false, rig.now), rig.tunnel.want(true, rig.now)),
            (vec![Action::Kill], vec![Action::Start])
        );
        assert_eq!(rig.word(), ("connecting", "openvpn is started".to_owned()));
    }

    #[test]
    fn who_does_not_answer_is_waited_for_shortly_at_first_and_who_does_for_longer() {
        for (stage, failures, seconds) in
            [("WAIT", 0, 2), ("WAIT", HASTY + 1, 8), ("AUTH", 0, 20), ("GET_CONFIG", 0, 20)]
        {
            let mut rig = Rig::new();
            rig.tunnel.want(true, rig.now);
            rig.tunnel.failures = failures;
            rig.tunnel.step(Event::Connected, rig.now);
            assert_eq!(rig.said(">HOLD:Waiting for hold release:0"), [say(Order::Release)]);
            let begun = rig.now;
            rig.said(&format!(">STATE:1,{stage},,,,,,"));
            assert_eq!(rig.wait(), [Action::Kill]);
            assert_eq!(rig.now - begun, seconds * S, "{stage}");
        }
    }

    #[test]
    fn what_a_server_pushes_and_nobody_wants_is_remembered_and_no_more_of_it_than_can_be_read() {
        let mut rig = Rig::up();
        for n in 0..1000 {
            rig.said(&format!(">LOG:1,,Pushed option removed by filter: 'setenv X {n}'"));
        }
        assert_eq!(rig.tunnel.filtered().len(), FILTERED_MAX);
        assert!(rig.tunnel.filtered().contains("setenv X 0"));
        rig.said(">STATE:1,RECONNECTING,ping-restart,,,,,");
        assert!(rig.tunnel.filtered().is_empty());
    }

    #[test]
    fn turned_off_it_does_nothing_more() {
        let mut rig = Rig::up();
        assert_eq!(rig.tunnel.want(false, rig.now), [Action::Kill]);
        assert_eq!(rig.said(">HOLD:Waiting for hold release:0"), []);
        assert_eq!((rig.word().0, rig.tunnel.due(rig.now)), ("off", None));
        assert_eq!(rig.tunnel.want(true, rig.now), [Action::Start]);
    }
}
