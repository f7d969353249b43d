//! What an exporter's own count says is missing: lost at the exporter or on the way, and not by Raven.
//!
//! A message says how much came before it (`sequence`) and holds `n` more. From what is expected next:
//!
//! - ahead, by no more than a [`Rule::jump`]: a gap; what is in it is lost until it comes.
//! - behind, inside a gap: it came late. The gap is filled, nothing was lost.
//! - behind, no further than [`Rule::late`]: came before. Three of these in a row that follow each other are not
//!   repeats: the count began anew.
//! - anything else: the count began anew, as it does when the exporter starts; so does a time of its start that went
//!   back ([`Audit::restarted`]).
//!
//! Numbers wrap at 2^32. The count begins with the first message that this collector sees: what was missing before it
//! is not known.

/// Gaps that are remembered; what lies in older ones stays lost.
const GAPS: usize = 8;
/// So many in a row that were seen before, and follow each other, are a count that began anew.
const STRAYS: u8 = 3;

/// How far off a number may be.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Farthest behind that a repeat is.
    pub late: u32,
    /// Longest gap that is loss and no new count.
    pub jump: u32,
}

/// For counts of datagrams or samples: 64 of them, and minutes of a busy exporter.
pub const ONE_BY_ONE: Rule = Rule { late: 64, jump: 1 << 17 };
/// For counts of flow records: 64 datagrams of the usual 30 and more.
pub const RECORDS: Rule = Rule { late: 64 * 64, jump: 1 << 23 };

#[derive(Debug, Clone, Copy, Default)]
struct Gap {
    start: u32,
    len: u32,
}

/// One count.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    next: Option<u32>,
    gaps: [Gap; GAPS],
    newest_gap: u8,
    stray_next: u32,
    strays: u8,
    /// Missing, in the count's own unit.
    pub lost: u64,
    /// Messages that came late.
    pub reordered: u64,
    /// Times that the count began anew.
    pub resets: u64,
}

impl Audit {
    /// A message came. `n` is how much it holds; when that is not known, neither is what comes next.
    #[inline]
    pub fn arrived(&mut self, sequence: u32, n: Option<u32>, rule: Rule) {
        if self.next == Some(sequence) {
            self.strays = 0;
        } else if !self.takes(sequence, n.unwrap_or(1), rule) {
            return;
        }
        self.next = n.map(|n| sequence.wrapping_add(n));
    }

    /// False for one that changes nothing of what comes next.
    fn takes(&mut self, sequence: u32, n: u32, rule: Rule) -> bool {
        let Some(next) = self.next else { return true };
        let ahead = sequence.wrapping_sub(next);
        let behind = next.wrapping_sub(sequence);
        if ahead <= rule.jump {
            self.open(next, ahead);
            return true;
        }
        if ahead >= 1 << 31 && self.fill(sequence, n) {
            self.reordered += 1;
            return false;
        }
        if behind <= rule.late && !self.strays_follow(sequence, n) {
            return false;
        }
        self.restarted();
        true
    }

    fn open(&mut self, start: u32, len: u32) {
        self.lost += u64::from(len);
        self.strays = 0;
        self.newest_gap = (self.newest_gap + 1) % GAPS as u8;
        self.gaps[usize::from(self.newest_gap)] = Gap { start, len };
    }

    /// Takes what came late out of its gap, which may leave two.
    fn fill(&mut self, sequence: u32, n: u32) -> bool {
        let Some(gap) = self.gaps.iter_mut().find(|gap| sequence.wrapping_sub(gap.start) < gap.len) else {
            return false;
        };
        let before = sequence.wrapping_sub(gap.start);
        let filled = n.min(gap.len - before);
        let behind = Gap { start: sequence.wrapping_add(filled), len: gap.len - before - filled };
        gap.len = before;
        self.lost -= u64::from(filled);
        if behind.len > 0 {
            self.newest_gap = (self.newest_gap + 1) % GAPS as u8;
            let slot = self.gaps.iter().position(|gap| gap.len == 0).unwrap_or(usize::from(self.newest_gap));
            self.gaps[slot] = behind;
        }
        true
    }

    fn strays_follow(&mut self, sequence: u32, n: u32) -> bool {
        self.strays = if self.strays > 0 && self.stray_next == sequence { self.strays + 1 } else { 1 };
        self.stray_next = sequence.wrapping_add(n);
        self.strays >= STRAYS
    }

    /// The count begins anew.
    pub fn restarted(&mut self) {
        self.resets += 1;
        self.next = None;
        self.strays = 0;
        self.gaps = [Gap::default(); GAPS];
    }
}

/// True when a time since the exporter's start, in milliseconds, says that it has started again. A minute back is a
/// message that came late; the time itself wraps after 49.7 days.
pub const fn has_restarted(before_ms: u32, now_ms: u32) -> bool {
    now_ms.wrapping_sub(before_ms).cast_signed() < -60_000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lost, reordered, resets after these messages.
    fn story(rule: Rule, messages: &[(u32, u32)]) -> (u64, u64, u64) {
        let mut audit = Audit::default();
        for &(sequence, n) in messages {
            audit.arrived(sequence, Some(n), rule);
        }
        (audit.lost, audit.reordered, audit.resets)
    }

    #[test]
    fn what_is_in_order_is_not_lost() {
        assert_eq!(story(ONE_BY_ONE, &[(7, 1), (8, 1), (9, 1)]), (0, 0, 0));
        assert_eq!(story(RECORDS, &[(7, 30), (37, 0), (37, 2), (39, 30)]), (0, 0, 0));
    }

    #[test]
    fn a_gap_is_lost_until_it_comes() {
        assert_eq!(story(ONE_BY_ONE, &[(1, 1), (5, 1), (6, 1)]), (3, 0, 0));
        assert_eq!(story(ONE_BY_ONE, &[(1, 1), (5, 1), (3, 1), (6, 1)]), (2, 1, 0));
        assert_eq!(story(ONE_BY_ONE, &[(1, 1), (5, 1), (3, 1), (2, 1), (4, 1), (6, 1)]), (0, 3, 0));
        assert_eq!(story(RECORDS, &[(0, 30), (60, 30), (30, 30), (90, 30)]), (0, 1, 0));
    }

    #[test]
    fn a_repeat_is_neither_loss_nor_disorder() {
        assert_eq!(story(ONE_BY_ONE, &[(1, 1), (2, 1), (2, 1), (1, 1), (3, 1)]), (0, 0, 0));
        assert_eq!(story(RECORDS, &[(0, 30), (30, 30), (0, 30), (60, 30)]), (0, 0, 0));
    }

    #[test]
    fn a_count_that_begins_anew_is_no_loss() {
        assert_eq!(story(ONE_BY_ONE, &[(1_000_000, 1), (0, 1), (1, 1)]), (0, 0, 1));
        assert_eq!(story(ONE_BY_ONE, &[(0, 1), (1_000_000, 1), (1_000_001, 1)]), (0, 0, 1));
        let short: Vec<_> = (20..40).chain(0..10).map(|n| (n, 1)).collect();
        assert_eq!(story(ONE_BY_ONE, &short), (0, 0, 1), "a short life, then another");
    }

    #[test]
    fn numbers_wrap() {
        assert_eq!(story(ONE_BY_ONE, &[(u32::MAX, 1), (0, 1), (2, 1), (1, 1)]), (0, 1, 0));
        assert_eq!(story(RECORDS, &[(u32::MAX - 9, 30), (20, 30), (80, 1)]), (30, 0, 0));
        assert_eq!(story(ONE_BY_ONE, &[(u32::MAX - 1, 1), (3, 1), (u32::MAX, 1), (0, 1)]), (2, 2, 0));
    }

    #[test]
    fn after_an_unknown_count_nothing_is_expected() {
        let mut audit = Audit::default();
        audit.arrived(0, Some(10), RECORDS);
        audit.arrived(12, None, RECORDS);
        audit.arrived(500, Some(10), RECORDS);
        assert_eq!((audit.lost, audit.resets), (2, 0));
    }

    #[test]
    fn an_uptime_that_goes_back_is_a_restart() {
        assert!(has_restarted(1_000_000, 5_000));
        assert!(!has_restarted(1_000_000, 990_000), "came late");
        assert!(!has_restarted(u32::MAX - 5, 20), "wrapped");
    }

    #[test]
    fn any_numbers_keep_the_sums() {
        let (mut audit, mut dice) = (Audit::default(), 1_u32);
        for _ in 0..100_000 {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let near = audit.next.unwrap_or_default().wrapping_add(dice >> 26).wrapping_sub(32);
            let sequence = if dice.is_multiple_of(97) { dice } else { near };
            audit.arrived(sequence, (dice & 0x300 != 0).then_some(dice >> 8 & 15), ONE_BY_ONE);
        }
        assert!(audit.lost < 1 << 40);
    }
}
