//! Which records a far end refused, from one attempt to the next.

use raven_model::units::Seq;
use std::collections::BTreeMap;

/// After so many refusals of one record, while others are taken, it goes to the dead letters.
const REFUSALS: u32 = 5;

/// Refused records remembered, at most.
const REFUSED_MAX: usize = 256;

/// What is remembered from one attempt to the next.
#[derive(Debug, Default)]
pub struct Memory {
    /// Records that were refused: how often, and the acknowledgements counted at the first time.
    refused: BTreeMap<Seq, (u32, u64)>,
}

impl Memory {
    /// It was refused, when so many acknowledgements were counted.
    pub(crate) fn refused(&mut self, seq: Seq, acked: u64) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.pop_first();
        }
        self.refused.entry(seq).or_insert((0, acked)).0 += 1;
    }

    /// Why `seq` goes to the dead letters: refused often enough while others were taken.
    #[inline]
    pub(crate) fn poison(&self, seq: Seq, acked: impl FnOnce() -> u64) -> Option<String> {
        if self.refused.is_empty() {
            return None;
        }
        let (times, before) = *self.refused.get(&seq)?;
        if times < REFUSALS || acked() == before {
            return None;
        }
        Some(format!("refused {times} times"))
    }

    /// It is in the dead letters: sent again, it begins anew.
    pub(crate) fn forget(&mut self, seq: Seq) {
        self.refused.remove(&seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_poison_only_when_others_are_taken() {
        let mut memory = Memory::default();
        for _ in 0..REFUSALS {
            assert_eq!(memory.poison(Seq(7), || 10), None);
            memory.refused(Seq(7), 10);
        }
        assert_eq!(memory.poison(Seq(7), || 10), None, "nothing else was taken: the receiver refuses everything");
        assert_eq!(memory.poison(Seq(7), || 11), Some("refused 5 times".to_owned()));
        assert_eq!(memory.poison(Seq(8), || 11), None);
    }
}
