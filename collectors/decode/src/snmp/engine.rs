//! Engines and their clocks: our own, and what is known of those that send to us (RFC 3414, 2.2, 2.3 and 3.2.7).
//!
//! For a trap the sender's clock counts, for an inform ours. What is known of a sender's clock only ever moves
//! forward, which is what makes an old message worthless to whoever recorded it.

use super::engine_id::EngineId;
use super::refused::Refused;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// How far two clocks may be apart, in s (RFC 3414, 2.2.3).
pub const TIME_WINDOW: i32 = 150;
/// An engine that was started this often needs new keys (RFC 3414, 2.2.2).
const MAX_BOOTS: i32 = i32::MAX;

/// Seconds of a clock that never goes back, such as CLOCK_BOOTTIME.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Seconds(pub u64);

impl Seconds {
    /// As an engine counts them: up to 2^31 - 1, where it stays.
    fn since(self, earlier: Self) -> i32 {
        i32::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(i32::MAX)
    }
}

/// Our own engine.
#[derive(Debug, Clone)]
pub struct LocalEngine {
    id: EngineId,
    boots: i32,
    started: Seconds,
    salt: u64,
    /// What was reported, for the reports themselves.
    pub(super) reported: [u32; 6],
}

impl LocalEngine {
    /// `boots` has to be one more at each start, and to be kept where a loss of power does not reach it; `salt_seed`
    /// should be a random number.
    pub fn new(id: EngineId, boots: u32, started: Seconds, salt_seed: u64) -> Self {
        let boots = i32::try_from(boots).unwrap_or(MAX_BOOTS);
        Self { id, boots, started, salt: salt_seed, reported: [0; 6] }
    }

    /// Our id.
    pub const fn id(&self) -> EngineId {
        self.id
    }

    /// snmpEngineBoots.
    pub const fn boots(&self) -> i32 {
        self.boots
    }

    /// snmpEngineTime in s.
    pub fn time(&self, now: Seconds) -> i32 {
        now.since(self.started)
    }

    /// Eight bytes that were not used since the start (RFC 3414, 8.1.1.1; RFC 3826, 3.1.2.1).
    pub(super) fn next_salt(&mut self) -> [u8; 8] {
        self.salt = self.salt.wrapping_add(1);
        self.salt.to_be_bytes()
    }

    /// Whether a message for us is of now (RFC 3414, 3.2.7 a).
    pub(super) fn check(&self, boots: i32, time: i32, now: Seconds) -> Result<(), Refused> {
        let expected_time = self.time(now);
        if self.boots != MAX_BOOTS && boots == self.boots && time.abs_diff(expected_time) <= TIME_WINDOW.unsigned_abs()
        {
            return Ok(());
        }
        let (engine, expected_boots) = (self.id, self.boots);
        Err(Refused::NotInTimeWindow { engine, boots, time, expected_boots, expected_time })
    }
}

/// What is known of a sender's clock, as it is kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// Whose.
    pub engine: EngineId,
    /// snmpEngineBoots.
    pub boots: i32,
    /// latestReceivedEngineTime in s.
    pub time: i32,
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    boots: i32,
    /// latestReceivedEngineTime.
    time: i32,
    /// When that was received.
    heard: Seconds,
}

/// The clocks of those who send traps.
#[derive(Debug, Default)]
pub struct Engines {
    clocks: HashMap<EngineId, Clock>,
}

impl Engines {
    /// Clocks that are kept. When there are more, the one not heard of for longest is forgotten.
    pub const MAX: usize = 8192;

    /// Takes back what was kept. A restart cannot tell how long it took, so that time is taken to have stood still.
    /// What was heard since is newer.
    pub fn restore(&mut self, learned: Learned, now: Seconds) {
        let known = self.clocks.get(&learned.engine).map(|clock| (clock.boots, clock.time));
        if known.is_none_or(|known| (learned.boots, learned.time) > known) {
            self.set(learned, now);
        }
    }

    /// All that is known.
    pub fn iter(&self) -> impl Iterator<Item = Learned> {
        self.clocks.iter().map(|(engine, clock)| Learned { engine: *engine, boots: clock.boots, time: clock.time })
    }

    /// snmpEngineBoots of an engine, and its snmpEngineTime by now; none where nothing is known of it.
    pub(super) fn clock(&self, engine: &EngineId, now: Seconds) -> Option<(i32, i32)> {
        let clock = self.clocks.get(engine)?;
        Some((clock.boots, clock.time.saturating_add(now.since(clock.heard))))
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.clocks.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.clocks.is_empty()
    }

    fn set(&mut self, learned: Learned, now: Seconds) {
        if self.clocks.len() >= Self::MAX && !self.clocks.contains_key(&learned.engine) {
            let oldest = self.clocks.iter().min_by_key(|(_, clock)| clock.heard).map(|(engine, _)| *engine);
            oldest.map(|engine| self.clocks.remove(&engine));
        }
        self.clocks.insert(learned.engine, Clock { boots: learned.boots, time: learned.time, heard: now });
    }

    /// Takes the clock of an authentic message, and says whether the message is of now (RFC 3414, 3.2.7 b). What is
    /// new should be kept over restarts.
    pub(super) fn check(
        &mut self,
        engine: EngineId,
        boots: i32,
        time: i32,
        now: Seconds,
    ) -> Result<Option<Learned>, Refused> {
        let refuse = |expected_boots, expected_time| {
            Err(Refused::NotInTimeWindow { engine, boots, time, expected_boots, expected_time })
        };
        if boots == MAX_BOOTS {
            return refuse(MAX_BOOTS - 1, time);
        }
        let newest = self.clocks.get(&engine).map(|clock| (clock.boots, clock.time));
        if newest.is_none_or(|newest| (boots, time) > newest) {
            let learned = Learned { engine, boots, time };
            self.set(learned, now);
            return Ok(Some(learned));
        }
        let Some(clock) = self.clocks.get(&engine) else { return Ok(None) };
        let expected = clock.time.saturating_add(now.since(clock.heard));
        if boots < clock.boots || time < expected.saturating_sub(TIME_WINDOW) {
            return refuse(clock.boots, expected);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn id(number: u32) -> EngineId {
        EngineId::ours(&number.to_be_bytes())
    }

    #[test]
    fn for_us_a_message_is_of_this_boot_and_within_150_seconds() {
        let local = LocalEngine::new(id(1), 3, Seconds(1000), 0);
        let at = |boots, time| local.check(boots, time, Seconds(1500)).is_ok();
        assert!(at(3, 500) && at(3, 350) && at(3, 650));
        assert!(!at(3, 349) && !at(3, 651) && !at(2, 500) && !at(4, 500));
        let worn_out = LocalEngine::new(id(1), u32::MAX, Seconds(0), 0);
        assert!(worn_out.check(i32::MAX, 0, Seconds(0)).is_err());
    }

    #[test]
    fn a_sender_s_clock_only_moves_forward() {
        let mut engines = Engines::default();
        let mut at = |boots, time, now| engines.check(id(2), boots, time, Seconds(now));
        assert_eq!(at(5, 1000, 0), Ok(Some(Learned { engine: id(2), boots: 5, time: 1000 })));
        assert_eq!(at(5, 1000, 10), Ok(None), "twice within the window is the network's doing");
        assert_eq!(at(5, 900, 10), Ok(None), "overtaken on the way");
        assert!(at(5, 859, 10).is_err(), "more than 150 s behind 1010");
        assert!(at(5, 1000, 151).is_err(), "the same one later");
        assert!(at(4, 99_999, 10).is_err(), "an earlier boot");
        assert!(at(6, 0, 10).unwrap().is_some(), "started anew");
        assert!(at(5, 1200, 20).is_err());
        assert!(at(i32::MAX, 0, 20).is_err());
    }

    #[test]
    fn what_was_learned_survives_a_restart() {
        let mut engines = Engines::default();
        engines.check(id(2), 5, 1000, Seconds(77)).unwrap();
        let kept: Vec<String> = engines.iter().map(|learned| serde_json::to_string(&learned).unwrap()).collect();
        assert_eq!(kept, [r#"{"engine":"800000000500000002","boots":5,"time":1000}"#]);
        let mut engines = Engines::default();
        engines.restore(serde_json::from_str(&kept[0]).unwrap(), Seconds(3));
        assert!(engines.check(id(2), 5, 849, Seconds(3)).is_err());
        assert_eq!(engines.check(id(2), 5, 850, Seconds(3)), Ok(None));
        engines.restore(Learned { engine: id(2), boots: 4, time: 9999 }, Seconds(4));
        assert_eq!(engines.iter().next().map(|learned| learned.boots), Some(5), "only forward");
    }

    #[test]
    fn the_table_forgets_who_was_silent_longest() {
        let mut engines = Engines::default();
        for number in 0..=Engines::MAX as u32 {
            engines.check(id(number), 1, 1, Seconds(number.into())).unwrap();
        }
        assert_eq!(engines.len(), Engines::MAX);
        assert!(engines.iter().all(|learned| learned.engine != id(0)));
    }
}
