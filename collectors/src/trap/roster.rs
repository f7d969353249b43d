//! The SNMPv3 engines that have sent, for the report. Those that were let in once are not pushed out by made-up ones.

use raven_decode::snmp::EngineId;
use raven_model::report::Engine;
use raven_model::units::UnixNanos;
use std::collections::HashMap;
use std::net::IpAddr;

/// Engines that are remembered of those let in once, and of the others.
const KNOWN: usize = 1024;
const STRANGERS: usize = 64;
/// Engines in one report.
const REPORTED: usize = 32;

/// How a message fared.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// Whose it was.
    pub engine: EngineId,
    /// Where from.
    pub source: IpAddr,
    /// As it named its user; `None` when it is not known.
    pub user: Option<&'a [u8]>,
    /// Boots and time, where they are new.
    pub clock: Option<(i32, i32)>,
    /// It was let in.
    pub accepted: bool,
    /// When.
    pub wall: UnixNanos,
}

#[derive(Debug)]
struct Entry {
    source: IpAddr,
    user: Vec<u8>,
    clock: (i32, i32),
    accepted: u64,
    refused: u64,
    last_seen: UnixNanos,
    turn: u64,
}

/// All engines.
#[derive(Debug, Default)]
pub struct Roster {
    known: HashMap<EngineId, Entry>,
    strangers: HashMap<EngineId, Entry>,
    turn: u64,
}

impl Roster {
    /// Notes a message.
    pub fn note(&mut self, heard: &Heard<'_>) {
        self.turn += 1;
        if !self.known.contains_key(&heard.engine) && heard.accepted {
            let fresh = || Entry::new(heard);
            let entry = self.strangers.remove(&heard.engine).unwrap_or_else(fresh);
            make_room(&mut self.known, KNOWN);
            self.known.insert(heard.engine, entry);
        }
        let entry = if let Some(entry) = self.known.get_mut(&heard.engine) {
            entry
        } else {
            if !self.strangers.contains_key(&heard.engine) {
                make_room(&mut self.strangers, STRANGERS);
            }
            self.strangers.entry(heard.engine).or_insert_with(|| Entry::new(heard))
        };
        entry.note(heard, self.turn);
    }

    /// The newest, newest first.
    pub fn report(&self) -> Vec<Engine> {
        let mut entries: Vec<_> = self.known.iter().chain(&self.strangers).collect();
        entries.sort_unstable_by_key(|(_, entry)| std::cmp::Reverse(entry.turn));
        let shown = entries.into_iter().take(REPORTED).map(|(engine, entry)| Engine {
            engine_id: engine.to_string(),
            source: entry.source.to_string(),
            user: String::from_utf8_lossy(&entry.user).into_owned(),
            boots: entry.clock.0 as u32,
            time: entry.clock.1 as u32,
            accepted: entry.accepted,
            refused: entry.refused,
            last_seen_ns: entry.last_seen,
        });
        shown.collect()
    }
}

impl Entry {
    fn new(heard: &Heard<'_>) -> Self {
        Self {
            source: heard.source,
            user: Vec::new(),
            clock: (0, 0),
            accepted: 0,
            refused: 0,
            last_seen: heard.wall,
            turn: 0,
        }
    }

    fn note(&mut self, heard: &Heard<'_>, turn: u64) {
        if let Some(user) = heard.user.filter(|&user| user != self.user) {
            self.user.clear();
            self.user.extend_from_slice(&user[..user.len().min(32)]);
        }
        if let Some(clock) = heard.clock {
            self.clock = clock;
        }
        (self.source, self.last_seen, self.turn) = (heard.source, heard.wall, turn);
        *(if heard.accepted { &mut self.accepted } else { &mut self.refused }) += 1;
    }
}

/// Forgets the one that was silent for longest when there are as many as may be.
fn make_room(entries: &mut HashMap<EngineId, Entry>, most: usize) {
    if entries.len() >= most {
        let silent = entries.iter().min_by_key(|(_, entry)| entry.turn).map(|(engine, _)| *engine);
        silent.map(|engine| entries.remove(&engine));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(n: u32, accepted: bool) -> Heard<'static> {
        Heard {
            engine: EngineId::ours(&n.to_be_bytes()),
            source: IpAddr::from([192, 0, 2, 1]),
            user: Some(b"noc"),
            clock: Some((3, 4)),
            accepted,
            wall: UnixNanos(n.into()),
        }
    }

    #[test]
    fn an_engine_is_told_with_what_it_last_said() {
        let mut roster = Roster::default();
        roster.note(&heard(1, false));
        roster.note(&heard(1, true));
        roster.note(&Heard { clock: None, user: None, source: IpAddr::from([192, 0, 2, 9]), ..heard(1, true) });
        let report = roster.report();
        assert_eq!(report.len(), 1);
        let engine = &report[0];
        assert_eq!((engine.accepted, engine.refused, engine.boots, engine.time), (2, 1, 3, 4));
        assert_eq!((engine.user.as_str(), engine.source.as_str()), ("noc", "192.0.2.9"));
    }

    #[test]
    fn made_up_engines_push_out_only_each_other() {
        let mut roster = Roster::default();
        roster.note(&heard(1, true));
        for n in 2..10_000 {
            roster.note(&heard(n, false));
        }
        assert!(roster.known.len() == 1 && roster.strangers.len() <= STRANGERS);
        roster.note(&heard(1, true));
        assert_eq!((roster.report().len(), roster.report()[0].accepted), (REPORTED, 2));
        for n in 0..3000 {
            roster.note(&heard(n, true));
        }
        assert!(roster.known.len() <= KNOWN);
    }
}
