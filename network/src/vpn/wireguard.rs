//! One tunnel by WireGuard, as a state machine: what happened goes in, what is to be done comes out. It owns no socket, no
//! device and no clock.
//!
//! WireGuard knows no connection: it exchanges keys when something is to be sent, tries every 5 s while nobody answers, and
//! notices after 15 s at the earliest that its far end forgot them. Here pings decide; where nobody answers any, the bytes
//! that come in. When nothing comes back, its far ends are set anew, which begins the exchange at once, with the addresses
//! that their names have by then.

use super::backoff::{Backoff, remembered};
use super::health::{Pings, Through, Word};
use raven_model::tunnel::WireguardSeen;
use std::time::{Duration, Instant};

/// The device must be there and have its keys by then.
const OPEN: Duration = Duration::from_secs(5);
/// So long an exchange of keys may take before it counts as failed.
const EXCHANGE: Duration = Duration::from_secs(5);
/// Between two beginnings while nobody answers: the first ones, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Pauses after the device could not be made or a name did not resolve: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Between two looks at the far ends, while keys are not exchanged, and while they are.
const LOOK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Keys that are older are not used any more (the WireGuard paper, 6.1, `Reject-After-Time`).
const REJECT: Duration = Duration::from_mins(3);
/// A far end that has nothing to say to our pings says so after 10 s (the WireGuard paper, 6.5, `Keepalive-Timeout`), and
/// the look that finds it comes [`LOOK`] later at most: where nothing was received for so long nothing gets through.
const QUIET: Duration = Duration::from_secs(20);

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The device is there with its addresses and keys.
    Opened,
    /// It cannot be made, or is not there any more.
    Ended(String),
    /// The `net` role put addresses into force, or says why not.
    Applied(Result<(), String>),
    /// How the far ends are.
    Seen(Vec<WireguardSeen>),
    /// A far end's name has another address than the one that is in use.
    Moved,
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
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the device, with addresses and keys.
    Open,
    /// Take it away.
    Close,
    /// Set its far ends anew, by the addresses that their names have now.
    Renew,
    /// Look how they are.
    Look,
    /// Send a ping of this number.
    Ping(u16),
}

#[derive(Debug)]
enum Phase {
    /// Not wanted.
    Off,
    /// To be made then.
    Pausing { until: Instant },
    /// It is made.
    Opening { since: Instant },
    /// It is there.
    Open(Session),
}

/// From one beginning to the next.
#[derive(Debug)]
struct Session {
    begun: Instant,
    /// When it begins anew if nothing comes by then.
    again: Instant,
    looked: Instant,
    pings: Pings,
    /// When keys were exchanged last, as far as was seen.
    exchanged: Option<(u64, Instant)>,
    /// Bytes received, and when they were seen to grow last.
    received: (u64, Instant),
    /// A ping was answered since it began.
    has_answered: bool,
}

/// The tunnel.
#[derive(Debug)]
pub struct WireGuard {
    phase: Phase,
    /// Beginnings since it was well.
    failures: u32,
    words: String,
    refused: Option<String>,
    /// Somebody inside has answered a ping since it was turned on.
    answers: bool,
    /// It was up since it was turned on.
    was_up: bool,
    /// Keys were exchanged when it began last, and nothing came of it.
    had_keys: bool,
    backoff: Backoff,
    /// How the far ends were seen last.
    pub peers: Vec<WireguardSeen>,
}

impl WireGuard {
    /// One that is off.
    pub const fn new(seed: u64) -> Self {
        Self {
            phase: Phase::Off,
            failures: 0,
            words: String::new(),
            refused: None,
            answers: false,
            was_up: false,
            had_keys: false,
            backoff: Backoff::new(seed),
            peers: Vec::new(),
        }
    }

    /// Turns it on or off.
    pub fn want(&mut self, on: bool, now: Instant) -> Vec<Action> {
        match (&self.phase, on) {
            (Phase::Off, true) => {
                (self.failures, self.answers, self.was_up) = (0, false, false);
                self.open(now)
            }
            (Phase::Off, false) | (_, true) => Vec::new(),
            (_, false) => {
                self.phase = Phase::Off;
                self.peers.clear();
                vec![Action::Close]
            }
        }
    }

    /// The pings, while the device is there.
    pub const fn pings(&self) -> Option<&Pings> {
        if let Phase::Open(session) = &self.phase { Some(&session.pings) } else { None }
    }

    /// When [`Event::Tick`] is due at the latest.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        match &self.phase {
            Phase::Off => None,
            Phase::Pausing { until } => Some(*until),
            Phase::Opening { since } => Some(*since + OPEN),
            Phase::Open(session) => {
                let again = if self.is_well(session, now) { session.look() } else { session.again };
                Some(again.min(session.look()).min(session.pings.look(now)))
            }
        }
    }

    /// Its state and why.
    pub fn state(&self, now: Instant) -> (Word, String) {
        match &self.phase {
            Phase::Off => (Word::Off, String::new()),
            Phase::Pausing { until } => {
                let seconds = until.saturating_duration_since(now).as_secs() + 1;
                (Word::Down, format!("{}; next attempt in {seconds} s", self.words))
            }
            Phase::Opening { .. } => (Word::Connecting, "its device is made".to_owned()),
            Phase::Open(session) => self.opened(session, now),
        }
    }

    fn opened(&self, session: &Session, now: Instant) -> (Word, String) {
        if let Some(why) = &self.refused {
            return (Word::Down, why.clone());
        }
        // What each beginning finds anew is told as one thing.
        let is_again = self.had_keys && self.failures > 3 && session.begun + PAUSE.0 > now;
        if session.exchanged.is_none() && !(is_again && self.answers) {
            let is_late = self.failures > 1 || session.begun + EXCHANGE <= now;
            return match (is_late, self.was_up) {
                (false, _) => (Word::Connecting, "waits for the server's first answer".to_owned()),
                (true, true) => (Word::Down, "the server does not answer".to_owned()),
                (true, false) => (Word::Down, "the server does not answer, or does not know this box's key".to_owned()),
            };
        }
        if self.answers && !session.has_answered && self.failures > 0 {
            return match self.failures {
                1..=2 => (Word::Connecting, "keys were exchanged; nothing came back through it yet".to_owned()),
                _ => (Word::Down, "keys were exchanged, and nothing comes back through it".to_owned()),
            };
        }
        if let Some(age) = session.age(now).filter(|age| *age > REJECT) {
            return (Word::HalfOpen, format!("no keys were exchanged for {} s", age.as_secs()));
        }
        let silent = now.duration_since(session.received.1);
        if session.pings.through(now) == Through::Unanswered && silent >= QUIET {
            return (Word::HalfOpen, format!("sent, nothing back for {} s", silent.as_secs()));
        }
        session.pings.word(now)
    }

    fn is_well(&self, session: &Session, now: Instant) -> bool {
        self.refused.is_some() && session.exchanged.is_some() || self.opened(session, now).0.carries()
    }

    /// Takes in what happened.
    pub fn step(&mut self, event: Event, now: Instant) -> Vec<Action> {
        if matches!(self.phase, Phase::Off) {
            return Vec::new();
        }
        match event {
            Event::Opened => {
                self.begin(now);
                return vec![Action::Look];
            }
            Event::Ended(_) if matches!(self.phase, Phase::Pausing { .. }) => {}
            Event::Ended(why) => {
                self.words = why;
                let pause = self.backoff.pause(PAUSE, self.failures);
                self.failures = self.failures.saturating_add(1);
                self.phase = Phase::Pausing { until: now + pause };
                self.peers.clear();
            }
            Event::Applied(result) => self.refused = result.err(),
            Event::Seen(peers) => self.seen(peers, now),
            Event::Moved => {
                if let Phase::Open(session) = &self.phase
                    && !self.is_well(session, now)
                {
                    return self.renew(now);
                }
            }
            Event::Pong(number) => {
                if let Phase::Open(session) = &mut self.phase
                    && session.pings.answer(number, now)
                {
                    session.has_answered = true;
                    // It came through, so keys were exchanged, whether that was looked at or not.
                    if session.exchanged.is_none() {
                        session.exchanged = Some((0, now));
                        session.pings.forget_unanswered();
                    }
                    (self.answers, self.was_up) = (true, true);
                }
            }
            Event::Acknowledged(at) => {
                if let Phase::Open(session) = &mut self.phase
                    && session.pings.acknowledged(at)
                {
                    self.answers = false;
                }
            }
            Event::Returned => return self.returned(now),
            Event::Tick => return self.tick(now),
        }
        Vec::new()
    }

    /// What failed for want of a way need not wait; a cable that is loose is followed once a second.
    fn returned(&mut self, now: Instant) -> Vec<Action> {
        let is_well = matches!(&self.phase, Phase::Open(session) if self.is_well(session, now));
        match &mut self.phase {
            Phase::Pausing { .. } => self.open(now),
            Phase::Open(session) if !is_well => {
                self.failures = self.failures.min(1);
                session.again = session.again.min(session.begun + PAUSE.0);
                if session.again <= now { self.renew(now) } else { Vec::new() }
            }
            _ => Vec::new(),
        }
    }

    fn open(&mut self, now: Instant) -> Vec<Action> {
        self.phase = Phase::Opening { since: now };
        vec![Action::Open]
    }

    fn begin(&mut self, now: Instant) {
        self.had_keys = matches!(&self.phase, Phase::Open(before) if before.exchanged.is_some());
        let again = now + self.backoff.hasty(AGAIN, self.failures);
        let pings = Pings::new(now, self.answers);
        let session =
            Session { begun: now, again, looked: now, pings, exchanged: None, received: (0, now), has_answered: false };
        self.phase = Phase::Open(session);
    }

    fn renew(&mut self, now: Instant) -> Vec<Action> {
        self.failures = self.failures.saturating_add(1);
        self.begin(now);
        vec![Action::Renew]
    }

    fn seen(&mut self, peers: Vec<WireguardSeen>, now: Instant) {
        if let Phase::Open(session) = &mut self.phase {
            let received = peers.iter().map(|peer| peer.received).sum();
            if session.received.0 != received {
                session.received = (received, now);
            }
            let newest = peers.iter().map(|peer| peer.handshake).max().filter(|at| *at > 0);
            // Its clock may be wrong, and be set meanwhile: when it was seen to change is what counts.
            if let Some(newest) = newest.filter(|newest| session.exchanged.is_none_or(|(known, _)| known != *newest)) {
                if session.exchanged.is_none() {
                    session.pings.forget_unanswered();
                }
                session.exchanged = Some((newest, now));
                self.was_up = true;
            }
        }
        self.peers = peers;
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        match &self.phase {
            Phase::Pausing { until } if *until <= now => self.open(now),
            Phase::Opening { since } if *since + OPEN <= now => {
                let mut actions = vec![Action::Close];
                actions.extend(self.step(Event::Ended("its device could not be made in time".to_owned()), now));
                actions
            }
            Phase::Open(session) => {
                let is_well = self.is_well(session, now);
                let is_over = match self.opened(session, now).0 {
                    Word::HalfOpen => true,
                    _ => !is_well && session.again <= now,
                };
                if is_over { self.renew(now) } else { self.tend(is_well, now) }
            }
            _ => Vec::new(),
        }
    }

    /// What is due while a session goes on.
    fn tend(&mut self, is_well: bool, now: Instant) -> Vec<Action> {
        let Phase::Open(session) = &mut self.phase else { return Vec::new() };
        if is_well {
            self.failures = remembered(self.failures, now.duration_since(session.begun));
        }
        let mut actions = Vec::new();
        if session.look() <= now {
            session.looked = now;
            actions.push(Action::Look);
        }
        if session.pings.due(now) <= now {
            actions.push(Action::Ping(session.pings.send(now)));
        }
        actions
    }
}

impl Session {
    /// When the far ends are looked at next.
    fn look(&self) -> Instant {
        self.looked + if self.exchanged.is_some() { LOOK.1 } else { LOOK.0 }
    }

    /// How old the keys are; unknown where a look has not found them yet.
    fn age(&self, now: Instant) -> Option<Duration> {
        self.exchanged.map(|(_, at)| now.duration_since(at))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::tunnel::PublicKey;

    const S: Duration = Duration::from_secs(1);

    /// A tunnel, its clock, and a far end.
    struct Rig {
        tunnel: WireGuard,
        now: Instant,
        /// It exchanges keys, and answers pings.
        lives: (bool, bool),
        handshake: u64,
        received: u64,
        said: Instant,
        renewals: Vec<Instant>,
    }

    impl Rig {
        fn new(lives: (bool, bool)) -> Self {
            let (now, tunnel) = (Instant::now(), WireGuard::new(7));
            let mut rig = Self { tunnel, now, lives, handshake: 0, received: 0, said: now, renewals: vec![] };
            assert_eq!(rig.tunnel.want(true, rig.now), [Action::Open]);
            assert_eq!(rig.tunnel.step(Event::Opened, rig.now), [Action::Look]);
            rig.tunnel.step(Event::Applied(Ok(())), rig.now);
            rig
        }

        fn word(&self) -> (&'static str, String) {
            let (word, cause) = self.tunnel.state(self.now);
            (word.name(), cause)
        }

        /// Lives for so long.
        fn run(&mut self, span: Duration) {
            let end = self.now + span;
            loop {
                let due = self.tunnel.due(self.now).unwrap().max(self.now);
                if due > end {
                    self.now = end;
                    return;
                }
                self.now = due;
                for action in self.tunnel.step(Event::Tick, self.now) {
                    self.act(&action);
                }
            }
        }

        fn act(&mut self, action: &Action) {
            match action {
                Action::Renew => {
                    self.handshake = 0;
                    self.renewals.push(self.now);
                }
                Action::Look => {
                    let is_new = self.handshake == 0 && self.lives.0;
                    self.handshake += u64::from(is_new) * (1_700_000_000 + self.renewals.len() as u64);
                    // It tells every 10 s at least that it lives.
                    if self.lives.0 && self.now >= self.said + 10 * S {
                        (self.said, self.received) = (self.now, self.received + 32);
                    }
                    let seen = WireguardSeen {
                        public_key: PublicKey([1; 32]),
                        endpoint: None,
                        handshake: self.handshake,
                        received: self.received,
                        sent: 0,
                    };
                    self.tunnel.step(Event::Seen(vec![seen]), self.now);
                }
                Action::Ping(number) if self.lives.1 && self.handshake > 0 => {
                    self.now += Duration::from_millis(20);
                    self.tunnel.step(Event::Pong(*number), self.now);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn it_is_up_when_keys_were_exchanged_and_stays_up() {
        let mut rig = Rig::new((true, true));
        assert_eq!(rig.word(), ("connecting", "waits for the server's first answer".to_owned()));
        rig.run(S);
        assert_eq!(rig.word(), ("up", String::new()));
        rig.run(100 * S);
        assert_eq!((rig.word(), rig.renewals.len()), (("up", String::new()), 0));
    }

    #[test]
    fn nothing_back_begins_anew_and_again_until_the_far_end_lives() {
        let mut rig = Rig::new((true, true));
        rig.run(60 * S);
        let died = rig.now;
        rig.lives = (false, false);
        rig.run(4 * S);
        assert!(rig.renewals[0] - died <= 3 * S, "{:?}", rig.renewals[0] - died);
        rig.run(30 * S);
        assert_eq!(rig.word(), ("down", "the server does not answer".to_owned()));
        for pair in rig.renewals.windows(2) {
            assert!(pair[1] - pair[0] <= 3 * S, "a way that heals must not wait: {:?}", pair[1] - pair[0]);
        }
        rig.lives = (true, true);
        rig.run(4 * S);
        assert_eq!(rig.word(), ("up", String::new()));
    }

    #[test]
    fn an_outage_soon_after_a_long_one_is_over_as_fast_as_any() {
        let mut rig = Rig::new((true, true));
        rig.run(60 * S);
        rig.lives = (false, false);
        rig.run(600 * S);
        rig.lives = (true, true);
        while rig.word().0 != "up" {
            rig.run(S);
        }
        rig.run(4 * S);
        rig.lives = (false, false);
        rig.run(15 * S);
        let beginnings = rig.renewals.len();
        rig.run(4 * S);
        assert!(rig.renewals.len() >= beginnings + 2, "{:?}", rig.renewals);
    }

    #[test]
    fn who_never_answers_is_asked_ever_more_seldom() {
        let mut rig = Rig::new((false, false));
        rig.run(3600 * S);
        assert_eq!(rig.word(), ("down", "the server does not answer, or does not know this box's key".to_owned()));
        let pauses: Vec<Duration> = rig.renewals.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses[0] <= 3 * S && *pauses.last().unwrap() >= 24 * S, "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 36 * S), "{pauses:?}");
    }

    #[test]
    fn pings_before_there_were_keys_are_no_loss() {
        let mut rig = Rig::new((true, true));
        rig.run(60 * S);
        rig.lives = (false, false);
        rig.run(900 * S);
        rig.lives = (true, true);
        rig.run(40 * S);
        assert_eq!(rig.word(), ("up", String::new()));
    }

    #[test]
    fn keys_alone_are_not_enough_where_somebody_answered_before() {
        let mut rig = Rig::new((true, true));
        rig.run(60 * S);
        rig.lives = (true, false);
        rig.run(10 * S);
        assert_eq!(rig.word(), ("down", "keys were exchanged, and nothing comes back through it".to_owned()));
        rig.lives = (true, true);
        rig.run(4 * S);
        assert_eq!(rig.word(), ("up", String::new()));
    }

    #[test]
    fn where_nobody_answers_pings_the_bytes_that_come_in_decide() {
        let mut rig = Rig::new((true, false));
        rig.run(60 * S);
        assert_eq!(rig.word(), ("up", "nobody answers pings in it".to_owned()));
        rig.run(119 * S);
        assert_eq!((rig.word().0, rig.renewals.len()), ("up", 0));
        let died = rig.now;
        rig.lives = (false, false);
        rig.run(40 * S);
        assert_eq!((rig.word().0, rig.renewals.is_empty()), ("down", false));
        assert!(rig.renewals[0] - died <= QUIET + LOOK.1, "{:?}", rig.renewals[0] - died);
        rig.lives = (true, false);
        rig.run(60 * S);
        assert_eq!(rig.word(), ("up", "nobody answers pings in it".to_owned()));
    }

    #[test]
    fn keys_that_are_too_old_are_not_used_although_bytes_come_in() {
        let mut rig = Rig::new((true, false));
        rig.run(170 * S);
        assert_eq!((rig.word().0, rig.renewals.len()), ("up", 0));
        rig.run(15 * S);
        assert_eq!(rig.renewals.len(), 1);
    }

    #[test]
    fn a_far_end_that_moved_is_looked_for_at_once_but_not_while_all_is_well() {
        let mut rig = Rig::new((true, true));
        rig.run(60 * S);
        assert_eq!(rig.tunnel.step(Event::Moved, rig.now), []);
        rig.lives = (false, false);
        rig.run(10 * S);
        assert_eq!(rig.tunnel.step(Event::Moved, rig.now), [Action::Renew]);
    }

    #[test]
    fn a_link_that_comes_back_is_used_at_once() {
        let mut rig = Rig::new((true, true));
        rig.run(60 * S);
        assert_eq!(rig.tunnel.step(Event::Returned, rig.now), [], "all is well");
        rig.lives = (false, false);
        rig.run(900 * S);
        let due = rig.tunnel.due(rig.now).unwrap();
        rig.run(2 * S);
        assert_eq!(rig.tunnel.step(Event::Returned, rig.now), [Action::Renew], "due {due:?}");
        assert_eq!(rig.tunnel.step(Event::Returned, rig.now), [], "a loose cable");
        let begun = rig.now;
        rig.run(2 * S);
        assert!(rig.renewals.last().is_some_and(|at| *at > begun && *at <= begun + S), "nor forgotten");
    }

    #[test]
    fn a_device_that_cannot_be_made_is_tried_again_after_growing_pauses() {
        let mut tunnel = WireGuard::new(7);
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        let mut actions = tunnel.want(true, now);
        for _ in 0..10 {
            assert_eq!(actions, [Action::Open]);
            tunnel.step(Event::Ended("vpn-noc is taken by somebody else".to_owned()), now);
            let (word, cause) = tunnel.state(now);
            assert_eq!(word, Word::Down);
            assert!(cause.starts_with("vpn-noc is taken by somebody else; next attempt in "), "{cause}");
            let due = tunnel.due(now).unwrap();
            pauses.push(due - now);
            now = due;
            actions = tunnel.step(Event::Tick, now);
        }
        assert!(pauses[0] <= S * 2 && pauses[9] >= 24 * S && pauses[9] <= 36 * S, "{pauses:?}");
        // One that is never told of is given up too.
        now += 6 * S;
        assert_eq!(tunnel.step(Event::Tick, now), [Action::Close]);
    }

    #[test]
    fn turned_off_it_does_nothing_more() {
        let mut rig = Rig::new((true, true));
        rig.run(5 * S);
        assert_eq!(rig.tunnel.want(false, rig.now), [Action::Close]);
        assert_eq!((rig.word().0, rig.tunnel.due(rig.now)), ("off", None));
        assert_eq!(rig.tunnel.step(Event::Tick, rig.now), []);
        assert_eq!(rig.tunnel.want(true, rig.now), [Action::Open]);
    }
}
