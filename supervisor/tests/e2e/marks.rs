//! What of the numbered messages is there, once or more often.

use crate::appliance::Appliance;
use std::collections::BTreeMap;

/// Occurrences of each number, per sender, of one run.
#[derive(Default)]
pub struct Marks {
    seen: BTreeMap<u32, Vec<u8>>,
}

/// What an audit found.
#[derive(Debug, PartialEq, Eq)]
pub struct Audit {
    pub missing: u64,
    pub doubled: u64,
}

/// Everything once.
pub const EXACT: Audit = Audit { missing: 0, doubled: 0 };

impl Marks {
    /// From the ring of an appliance.
    pub fn of_ring(raven: &Appliance, run: &str) -> Self {
        let mut marks = Self::default();
        raven.each_record(&[], |record| marks.note(record.raw.as_deref().unwrap_or_default(), run));
        marks
    }

    /// From lines of text, such as a receiver's file.
    pub fn of_text(text: &str, run: &str) -> Self {
        let mut marks = Self::default();
        text.lines().for_each(|line| marks.note(line, run));
        marks
    }

    fn note(&mut self, text: &str, run: &str) {
        let Some((_, mark)) = text.split_once("raven-mark=") else { return };
        let mark = mark.split(' ').next().unwrap_or_default();
        let mut parts = mark.splitn(3, '/');
        if parts.next() != Some(run) {
            return;
        }
        let mut next =
            || parts.next().and_then(|p| p.parse::<u64>().ok()).unwrap_or_else(|| panic!("damaged mark {mark}"));
        let (sender, n) = (next() as u32, next() as usize);
        let seen = self.seen.entry(sender).or_default();
        if seen.len() <= n {
            seen.resize(n + 1, 0);
        }
        seen[n] = seen[n].saturating_add(1);
    }

    /// Against what `sender` sent: 0 to `sent` - 1.
    pub fn audit(&self, sender: u32, sent: u64) -> Audit {
        let none = Vec::new();
        let seen = self.seen.get(&sender).unwrap_or(&none);
        assert!(seen.len() as u64 <= sent, "sender {sender} sent {sent}, and number {} is there", seen.len() - 1);
        let there = seen.iter().filter(|&&times| times > 0).count() as u64;
        Audit { missing: sent - there, doubled: seen.iter().map(|&times| u64::from(times.saturating_sub(1))).sum() }
    }
}

#[test]
fn an_audit_finds_what_is_missing_and_what_is_doubled() {
    let text = "x raven-mark=r/1/0 y\nraven-mark=r/1/2 z\nraven-mark=r/1/2 z\nraven-mark=other/1/1\nno mark";
    assert_eq!(Marks::of_text(text, "r").audit(1, 4), Audit { missing: 2, doubled: 1 });
}
