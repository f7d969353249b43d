//! The clocks of senders, over restarts: what was learned of an engine goes to the store as context, at each of its
//! starts and once in a minute of its time, not with each trap.

use raven_decode::snmp::{EngineId, Engines, Learned};
use std::collections::HashMap;

/// First byte of the context's key, the engine id behind it. Its value: boots and time (i32, little-endian).
pub const KEY: u8 = b'e';
/// Seconds of an engine's time that may be lost at a restart. The window is 150 s anyway.
const STEP: i32 = 60;

/// What was written.
#[derive(Debug, Default)]
pub struct Clocks {
    written: HashMap<EngineId, (i32, i32)>,
}

impl Clocks {
    /// True when this is to be written.
    pub fn is_due(&self, learned: &Learned) -> bool {
        let written = self.written.get(&learned.engine);
        written.is_none_or(|&(boots, time)| learned.boots != boots || learned.time.saturating_sub(time) >= STEP)
    }

    /// It was written, or the store has it.
    pub fn wrote(&mut self, learned: &Learned) {
        if self.written.len() >= Engines::MAX && !self.written.contains_key(&learned.engine) {
            // All are written once more when they are heard again.
            self.written.clear();
        }
        self.written.insert(learned.engine, (learned.boots, learned.time));
    }
}

/// The context's key.
pub fn key(engine: &EngineId) -> Vec<u8> {
    [&[KEY], engine.as_bytes()].concat()
}

/// The context's value.
pub fn value(learned: &Learned) -> [u8; 8] {
    let mut value = [0; 8];
    value[..4].copy_from_slice(&learned.boots.to_le_bytes());
    value[4..].copy_from_slice(&learned.time.to_le_bytes());
    value
}

/// Reads both; `None` for what is no engine's clock.
pub fn read(key: &[u8], value: &[u8]) -> Option<Learned> {
    let (&KEY, engine) = key.split_first()? else { return None };
    let (boots, time) = value.split_first_chunk::<4>()?;
    let (boots, time) = (i32::from_le_bytes(*boots), i32::from_le_bytes(time.try_into().ok()?));
    Some(Learned { engine: EngineId::new(engine)?, boots, time }).filter(|_| boots >= 0 && time >= 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn learned(boots: i32, time: i32) -> Learned {
        Learned { engine: EngineId::ours(b"x"), boots, time }
    }

    #[test]
    fn a_clock_is_written_at_a_start_and_each_minute() {
        let mut clocks = Clocks::default();
        assert!(clocks.is_due(&learned(1, 0)));
        clocks.wrote(&learned(1, 0));
        assert!(!clocks.is_due(&learned(1, 59)) && clocks.is_due(&learned(1, 60)) && clocks.is_due(&learned(2, 0)));
        for n in 0..=Engines::MAX as u32 {
            clocks.wrote(&Learned { engine: EngineId::ours(&n.to_be_bytes()), ..learned(1, 0) });
        }
        assert!(clocks.written.len() <= Engines::MAX);
    }

    #[test]
    fn a_clock_reads_back_as_written() {
        let one = learned(3, 77);
        assert_eq!(read(&key(&one.engine), &value(&one)), Some(one));
        assert_eq!(read(b"own", &value(&one)), None);
        assert_eq!(read(b"", b""), None);
        assert_eq!(read(&key(&one.engine), &value(&learned(-1, 0))), None);
        assert_eq!(read(&key(&one.engine), b"short"), None);
    }
}
