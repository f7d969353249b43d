//! Our own SNMP engine: an id for the appliance's life, and how often it was started.
//!
//! Senders of informs hold our boots and time for true, and whoever could have us use a number twice could have old
//! informs taken for new ones (RFC 3414, 2.2). So a number is told to nobody before it is on disk:
//!
//! ```text
//!  Unknown ──the store says what it has──▶ Wanted ──the store says that it has ours──▶ Durable
//!                                            ▲ written as context, and again              │
//!                                            └────────── the store has lost it ───────────┘
//! ```
//!
//! A collector that dies in `Wanted` has told nobody; its successor takes the same number.

use super::moment::{Moment, SECOND};
use raven_decode::snmp::EngineId;

/// The context's key. Its value: boots (u64, little-endian), then the engine id.
pub const KEY: &[u8] = b"own";
/// Written anew when the store does not say so long that it has it.
const AGAIN: u64 = 5 * SECOND;
/// And this often at any rate: what was not seen for long is forgotten first, and blocks are evicted.
const REFRESH: u64 = 3600 * SECOND;
/// An engine that was started this often needs another id (RFC 3414, 2.2.2).
const WORN_OUT: u64 = i32::MAX as u64 - 1;

/// Who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Our engine id.
    pub id: EngineId,
    /// Starts of it, this one among them.
    pub boots: u64,
}

impl Identity {
    /// Reads the context's value.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (boots, id) = value.split_first_chunk::<8>()?;
        Some(Self { id: EngineId::new(id)?, boots: u64::from_le_bytes(*boots) })
    }

    /// The context's value.
    pub fn write(self) -> Vec<u8> {
        [&self.boots.to_le_bytes()[..], self.id.as_bytes()].concat()
    }

    fn next(self, fresh: EngineId) -> Self {
        if self.boots >= WORN_OUT { Self { id: fresh, boots: 1 } } else { Self { boots: self.boots + 1, ..self } }
    }
}

/// How far we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Wanted { me: Identity, written: Option<Moment> },
    Durable { me: Identity, written: Moment },
}

/// Our own engine's way to the disk.
#[derive(Debug)]
pub struct Own {
    state: State,
    /// The id of an appliance that has none yet.
    fresh: EngineId,
}

impl Own {
    /// Nothing is known yet. `fresh` is a random id.
    pub const fn new(fresh: EngineId) -> Self {
        Self { state: State::Unknown, fresh }
    }

    /// True when the store has said what it has.
    pub const fn is_known(&self) -> bool {
        !matches!(self.state, State::Unknown)
    }

    /// True when the number is on disk: others may be told of it.
    pub const fn is_durable(&self) -> bool {
        matches!(self.state, State::Durable { .. })
    }

    /// Takes in what the store has on disk. Returns who we are when that has changed.
    pub fn recall(&mut self, stored: Option<Identity>, now: Moment) -> Option<Identity> {
        match self.state {
            State::Unknown => {
                let first = Identity { id: self.fresh, boots: 1 };
                Some(self.want(stored.map_or(first, |stored| stored.next(self.fresh))))
            }
            State::Wanted { me, .. } if stored == Some(me) => {
                self.state = State::Durable { me, written: now };
                None
            }
            // Somebody was more often started than we thought: never the same number twice.
            State::Wanted { me, .. } | State::Durable { me, .. } => {
                let ahead = stored.filter(|stored| stored.id == me.id && stored.boots > me.boots);
                match ahead {
                    Some(stored) => Some(self.want(stored.next(self.fresh))),
                    None if self.is_durable() && stored != Some(me) => {
                        self.want(me);
                        None
                    }
                    None => None,
                }
            }
        }
    }

    const fn want(&mut self, me: Identity) -> Identity {
        self.state = State::Wanted { me, written: None };
        me
    }

    /// What is to be written now.
    pub fn due(&self, now: Moment) -> Option<Identity> {
        match self.state {
            State::Wanted { me, written } if written.is_none_or(|at| now.since(at) > AGAIN) => Some(me),
            State::Durable { me, written } if now.since(written) > REFRESH => Some(me),
            _ => None,
        }
    }

    /// It was written.
    pub const fn wrote(&mut self, now: Moment) {
        match &mut self.state {
            State::Unknown => {}
            State::Wanted { written, .. } => *written = Some(now),
            State::Durable { written, .. } => *written = now,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(n: u8) -> EngineId {
        EngineId::ours(&[n])
    }

    fn at(seconds: u64) -> Moment {
        Moment(seconds * SECOND)
    }

    #[test]
    fn a_number_is_told_to_nobody_before_it_is_on_disk() {
        let mut own = Own::new(id(1));
        assert!(own.due(at(0)).is_none() && !own.is_durable(), "the store has said nothing");
        let me = own.recall(None, at(1)).unwrap();
        assert_eq!((me, own.due(at(1))), (Identity { id: id(1), boots: 1 }, Some(me)));
        own.wrote(at(1));
        assert_eq!(own.due(at(2)), None);
        assert_eq!((own.recall(None, at(2)), own.is_durable()), (None, false));
        assert_eq!(own.due(at(7)), Some(me), "written again");
        assert_eq!((own.recall(Some(me), at(8)), own.is_durable()), (None, true));
        assert_eq!((own.due(at(9)), own.due(at(4000))), (None, Some(me)));
    }

    #[test]
    fn boots_rise_at_each_start_and_the_id_stays() {
        let stored = Identity { id: id(1), boots: 41 };
        let mut own = Own::new(id(2));
        assert_eq!(own.recall(Some(stored), at(0)), Some(Identity { id: id(1), boots: 42 }));
        assert_eq!((own.recall(Some(stored), at(1)), own.is_durable()), (None, false), "that is the former one");
        let late = Identity { id: id(1), boots: 50 };
        assert_eq!(own.recall(Some(late), at(2)), Some(Identity { id: id(1), boots: 51 }));
        let worn = Identity { id: id(1), boots: WORN_OUT };
        assert_eq!(Own::new(id(2)).recall(Some(worn), at(0)), Some(Identity { id: id(2), boots: 1 }));
    }

    #[test]
    fn what_the_store_has_lost_is_written_again() {
        let mut own = Own::new(id(1));
        let me = own.recall(None, at(0)).unwrap();
        own.recall(Some(me), at(1));
        assert_eq!((own.recall(None, at(2)), own.is_durable(), own.due(at(2))), (None, false, Some(me)));
    }

    #[test]
    fn an_identity_reads_back_as_written() {
        let me = Identity { id: id(1), boots: 7 };
        assert_eq!(Identity::read(&me.write()), Some(me));
        assert_eq!((Identity::read(b""), Identity::read(&[0; 10])), (None, None));
    }
}
