//! The look at each datagram, and the answers.

use super::clocks::{self, Clocks};
use super::gate::Gate;
use super::inbox::Inbox;
use super::informs::Informs;
use super::moment::Moment;
use super::own::{self, Identity, Own};
use super::remedy;
use super::roster::{Heard, Roster};
use super::sources::Sources;
use raven_decode::snmp::{
    Accepted, Access, Communities, EngineId, LocalEngine, Notification, Outcome, Refused, Seconds, Sender, Users,
    Version, answer, check, read_users,
};
use raven_jail::receive::{Arrived, CollectorMemory, Contexts, Inspect, Verdict};
use raven_model::config::CollectTrap;
use raven_model::control::{Listener, ListenerId};
use raven_model::record::{self, Context};
use raven_model::report::CollectorReport;
use raven_model::stream::Stream;
use raven_model::units::UnixNanos;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Reasons for which a datagram is not kept.
const STORM: u8 = 0;
const DISCOVERY: u8 = 1;
const DROPS: [(u8, &str); 2] = [(STORM, "storm"), (DISCOVERY, "discovery")];

/// Reports that may wait for the end of a round.
const REPORTS: usize = 1024;

/// Sends a datagram from the socket of a listener; false when it did not go out.
pub type Send<'a> = &'a dyn Fn(ListenerId, &[u8], SocketAddr) -> bool;

/// What was sent back, and what was not.
#[derive(Debug, Default, Clone, Copy)]
struct Answers {
    responses: u64,
    reports: u64,
    /// Our own engine is not on disk yet.
    held_back: u64,
    /// Reports above the limit.
    limited: u64,
    /// The socket took them not, or keys have changed.
    failed: u64,
}

/// All that decides about a datagram.
pub struct Desk {
    clock: Box<dyn Fn() -> Moment>,
    now: Moment,
    storm: u32,
    sources: Sources,
    gate: Gate,
    access: Access,
    has_users: bool,
    own: Own,
    clocks: Clocks,
    informs: Informs,
    reports: Vec<(ListenerId, SocketAddr, Vec<u8>)>,
    answers: Answers,
    refused: BTreeMap<&'static str, u64>,
    inbox: Inbox,
    roster: Roster,
}

impl Desk {
    /// As configured; our engine and the clocks of others are recalled later.
    pub fn new(config: &CollectTrap) -> Self {
        Self::with_clock(config, Box::new(Moment::now))
    }

    /// As [`Self::new`], by another clock.
    pub fn with_clock(config: &CollectTrap, clock: Box<dyn Fn() -> Moment>) -> Self {
        let fresh = EngineId::ours(&[random().to_be_bytes(), random().to_be_bytes()].concat());
        // Nobody's: until the store has said what it knows, no message is for us and no number of ours is right.
        let nobody = LocalEngine::new(EngineId::ours(&random().to_be_bytes()), u32::MAX, Seconds(0), random());
        let mut this = Self {
            now: clock(),
            clock,
            storm: config.storm,
            sources: Sources::default(),
            gate: Gate::new(config.storm),
            access: Access::new(Communities::any(), Users::default(), nobody),
            has_users: false,
            own: Own::new(fresh),
            clocks: Clocks::default(),
            informs: Informs::default(),
            reports: Vec::new(),
            answers: Answers::default(),
            refused: BTreeMap::new(),
            inbox: Inbox::default(),
            roster: Roster::default(),
        };
        this.configure(config);
        this
    }

    /// Puts lists and limits into force, for datagrams to come.
    pub fn configure(&mut self, config: &CollectTrap) {
        self.storm = config.storm;
        self.gate.set_storm(config.storm);
        self.sources = Sources::new(&config.sources);
        self.access.communities = match config.communities.as_slice() {
            [] => Communities::any(),
            listed => Communities::only(listed.iter().cloned()),
        };
        if config.users.is_none() {
            (self.access.users, self.has_users) = (Users::default(), false);
            self.inbox.own("users_file", None);
        }
        let approved: Vec<EngineId> = config.engines.iter().filter_map(|engine| engine.parse().ok()).collect();
        let before: Vec<EngineId> = self.access.users.approved().collect();
        for engine in before.iter().filter(|engine| !approved.contains(engine)) {
            self.access.users.disapprove(engine);
        }
        for engine in approved {
            self.access.users.approve(engine);
        }
    }

    /// Puts the users of the file into force. A mistake in it leaves those from before.
    pub fn read_users(&mut self, text: &str) {
        let users = read_users(text).map_err(|error| error.to_string());
        match users.and_then(|users| Users::new(users).map_err(|error| error.to_string())) {
            Ok(mut users) => {
                self.access.users.approved().for_each(|engine| users.approve(engine));
                (self.access.users, self.has_users) = (users, true);
                self.inbox.own("users_file", None);
            }
            Err(error) => self.complain(&format!("{}: {error}", super::USERS)),
        }
    }

    /// Says that the users' file is of no use.
    pub fn complain(&mut self, what: &str) {
        let stay = if self.has_users { "; the users from before stay" } else { "; no SNMPv3 user is let in" };
        eprintln!("raven-worker trap: {what}{stay}");
        self.inbox.own("users_file", Some(format!("{what}{stay}")));
    }

    fn accept(&mut self, arrived: &Arrived<'_>, accepted: &Accepted<'_>, contexts: &mut Contexts) -> Verdict {
        if let Some(learned) = accepted.learned.filter(|learned| self.clocks.is_due(learned)) {
            let (key, value) = (clocks::key(&learned.engine), clocks::value(&learned));
            if contexts.add(&Context { key: &key, value: &value }, arrived.wall) {
                self.clocks.wrote(&learned);
            }
        }
        if accepted.notification == Notification::Inform {
            if accepted.version != Version::V3 || self.own.is_durable() {
                self.informs.add(arrived.listener, arrived.source, arrived.raw);
            } else {
                self.answers.held_back += 1;
            }
        }
        if let Sender::User { name, engine, .. } = accepted.sender {
            let clock = accepted.learned.map(|learned| (learned.boots, learned.time));
            self.hear(arrived, engine, Some(name), clock, true);
        }
        Verdict::Keep
    }

    fn refuse(&mut self, arrived: &Arrived<'_>, reason: &Refused, reply: Option<Vec<u8>>) -> Verdict {
        if let Some(reply) = reply {
            self.report_back(arrived, reply);
        }
        if matches!(reason, Refused::Discovery) {
            return Verdict::Drop(DISCOVERY);
        }
        let engine = remedy::engine_of(reason);
        if let Some(engine) = engine {
            let clock = match reason {
                Refused::NotInTimeWindow { boots, time, .. } => Some((*boots, *time)),
                _ => None,
            };
            self.hear(arrived, engine, user_of(reason), clock, false);
        }
        let has_users = self.has_users;
        *self.refused.entry(reason.label()).or_insert(0) += 1;
        self.inbox.note(arrived, reason.label(), engine, || remedy::of(reason, arrived.raw, has_users));
        Verdict::Refuse
    }

    fn hear(
        &mut self,
        arrived: &Arrived<'_>,
        engine: EngineId,
        user: Option<&[u8]>,
        clock: Option<(i32, i32)>,
        accepted: bool,
    ) {
        // Informs name our own engine.
        if engine != self.access.local.id() {
            let (source, wall) = (arrived.source.ip(), arrived.wall);
            self.roster.note(&Heard { engine, source, user, clock, accepted, wall });
        }
    }

    fn report_back(&mut self, arrived: &Arrived<'_>, reply: Vec<u8>) {
        if !self.own.is_durable() {
            self.answers.held_back += 1;
        } else if self.reports.len() >= REPORTS || !self.gate.may_report(arrived.source.ip(), self.now) {
            self.answers.limited += 1;
        } else {
            self.reports.push((arrived.listener, arrived.source, reply));
        }
    }

    /// Sends reports, and responses to informs whose record is on disk; has the store keep how often we were started.
    /// True while an inform waits.
    pub fn answer(&mut self, memory: &mut CollectorMemory, send: Send<'_>) -> bool {
        self.now = (self.clock)();
        for (listener, peer, bytes) in self.reports.drain(..) {
            *(if send(listener, &bytes, peer) { &mut self.answers.reports } else { &mut self.answers.failed }) += 1;
        }
        self.informs.place(memory);
        while let Some(inform) = self.informs.take_durable(memory) {
            let response = answer(&inform.raw, &mut self.access, self.now.seconds());
            let sent = response.is_ok_and(|response| send(inform.listener, &response, inform.peer));
            *(if sent { &mut self.answers.responses } else { &mut self.answers.failed }) += 1;
        }
        if let Some(me) = self.own.due(self.now) {
            self.keep(me, memory);
        }
        !self.informs.is_empty()
    }

    fn keep(&mut self, me: Identity, memory: &mut CollectorMemory) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        if memory.append_context(&Context { key: own::KEY, value: &me.write() }, UnixNanos(wall)).is_some() {
            memory.hand_over();
            self.own.wrote(self.now);
        }
    }

    /// Adds what it knows to a heartbeat's report.
    pub fn report(
        &self,
        report: &mut CollectorReport,
        memory: &CollectorMemory,
        listeners: &BTreeMap<ListenerId, Listener>,
    ) {
        let counted = |(name, count): (&str, u64)| (count > 0).then(|| (name.to_owned(), count));
        let Answers { responses, reports, held_back, limited, failed } = self.answers;
        let answers = [
            ("responses", responses),
            ("reports", reports),
            ("held_back", held_back),
            ("limited", limited),
            ("failed", failed),
            ("forgotten", self.informs.forgotten()),
        ];
        report
            .dropped
            .extend(DROPS.map(|(reason, name)| (name, memory.dropped(reason))).into_iter().filter_map(counted));
        report.refused.extend(self.refused.iter().map(|(&name, &count)| (name.to_owned(), count)));
        report.answers.extend(answers.into_iter().filter_map(counted));
        report.engines = self.roster.report();
        report.inbox = self.inbox.report(listeners);
    }
}

impl Inspect for Desk {
    fn recall(&mut self, snapshot: &[u8]) {
        self.now = (self.clock)();
        let (now, first, mut stored) = (self.now.seconds(), !self.own.is_known(), None);
        for context in record::Contexts::new(snapshot) {
            if context.key == own::KEY {
                stored = Identity::read(context.value);
            } else if let Some(learned) = clocks::read(context.key, context.value).filter(|_| first) {
                self.access.engines.restore(learned, now);
                self.clocks.wrote(&learned);
            }
        }
        if let Some(me) = self.own.recall(stored, self.now) {
            self.access.local = LocalEngine::new(me.id, me.boots as u32, now, random());
        }
    }

    fn begin(&mut self) {
        self.now = (self.clock)();
    }

    fn inspect(&mut self, arrived: &Arrived<'_>, contexts: &mut Contexts) -> Verdict {
        let source = arrived.source.ip();
        if !self.gate.admit(source, self.now) {
            let storm = self.storm;
            self.inbox.note(arrived, "storm", None, || remedy::of_storm(storm));
            return Verdict::Drop(STORM);
        }
        if !self.sources.allow(source) {
            const REASON: &str = "source_not_allowed";
            *self.refused.entry(REASON).or_insert(0) += 1;
            self.inbox.note(arrived, REASON, None, || remedy::of_source(source));
            return Verdict::Refuse;
        }
        match check(arrived.raw, &mut self.access, self.now.seconds()) {
            Outcome::Accepted(accepted) => self.accept(arrived, &accepted, contexts),
            Outcome::Refused { reason, reply } => self.refuse(arrived, &reason, reply),
        }
    }
}

fn user_of(reason: &Refused) -> Option<&[u8]> {
    match reason {
        Refused::UnknownEngine { proven_by: Some(user), .. }
        | Refused::UnknownUser { user, .. }
        | Refused::Digest { user, .. }
        | Refused::Decryption { user, .. } => Some(user.as_bytes()),
        _ => None,
    }
}

/// Another at each call: std seeds its hashers from the kernel.
fn random() -> u64 {
    RandomState::new().hash_one(Moment::now().0)
}

/// The store counts drops by number, and names them for the account: in the order of [`Stream::drop_reasons`].
const _: () = assert!(Stream::Trap.drop_reasons().len() == DROPS.len());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_knows_the_names_of_our_drops() {
        for (reason, name) in DROPS {
            assert_eq!(Stream::Trap.drop_reasons()[usize::from(reason)], name);
        }
    }
}
