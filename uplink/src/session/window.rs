//! Records under way on one connection: which number carries which record. Numbers are those of RELP. Pure.

use crate::relp::frame::TXNR_MAX;
use raven_model::units::Seq;
use std::collections::VecDeque;

/// Marks an answered transaction; no record has this seq.
const ANSWERED: Seq = Seq(0);

/// Transactions sent and not yet answered, in order of sending.
#[derive(Debug)]
pub struct Window {
    /// Number of the first transaction in `under_way`.
    first: u32,
    under_way: VecDeque<Seq>,
    limit: usize,
}

impl Window {
    /// Empty; the first transaction gets the number `next`, at most `limit` are under way.
    pub const fn new(next: u32, limit: usize) -> Self {
        Self { first: next, under_way: VecDeque::new(), limit }
    }

    /// Whether another record may be sent.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.under_way.len() < self.limit
    }

    /// Whether so much may be sent that walking a block for it is worth while: an eighth of the window.
    #[inline]
    pub fn has_much_room(&self) -> bool {
        self.under_way.len() <= self.limit - self.limit.div_ceil(8)
    }

    /// Whether everything is answered.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Number for the next transaction, which carries `seq`.
    #[inline]
    pub fn send(&mut self, seq: Seq) -> u32 {
        let txnr = self.next();
        self.under_way.push_back(seq);
        txnr
    }

    /// Transactions sent since the oldest that is not answered.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Number that the next transaction gets.
    #[inline]
    pub fn next(&self) -> u32 {
        let sum = self.first + self.under_way.len() as u32;
        if sum > TXNR_MAX { sum - TXNR_MAX } else { sum }
    }

    /// The record of an answered transaction; `None` for a number that is not under way.
    #[inline]
    pub fn answered(&mut self, txnr: u32) -> Option<Seq> {
        let place = if txnr >= self.first { txnr - self.first } else { (txnr + TXNR_MAX).checked_sub(self.first)? };
        let entry = self.under_way.get_mut(place as usize).filter(|seq| **seq != ANSWERED)?;
        let seq = std::mem::replace(entry, ANSWERED);
        while self.under_way.front() == Some(&ANSWERED) {
            self.under_way.pop_front();
            self.first = if self.first == TXNR_MAX { 1 } else { self.first + 1 };
        }
        Some(seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_records_in_any_order() {
        let mut window = Window::new(2, 10);
        let numbers: Vec<u32> = (101..=105).map(|seq| window.send(Seq(seq))).collect();
        assert_eq!(numbers, [2, 3, 4, 5, 6]);
        assert_eq!(window.answered(4), Some(Seq(103)));
        assert_eq!(window.answered(4), None, "an answer counts once");
        for (txnr, seq) in [(2, 101), (3, 102), (6, 105), (5, 104)] {
            assert_eq!(window.answered(txnr), Some(Seq(seq)));
        }
        assert!(window.is_empty());
    }

    #[test]
    fn an_answer_to_nothing_is_none() {
        let mut window = Window::new(1, 10);
        window.send(Seq(1));
        for txnr in [0, 2, 99, TXNR_MAX] {
            assert_eq!(window.answered(txnr), None, "{txnr}");
        }
    }

    #[test]
    fn numbers_begin_again_at_one() {
        let mut window = Window::new(TXNR_MAX - 1, 10);
        let numbers: Vec<u32> = (1..=4).map(|seq| window.send(Seq(seq))).collect();
        assert_eq!(numbers, [TXNR_MAX - 1, TXNR_MAX, 1, 2]);
        assert_eq!(window.answered(1), Some(Seq(3)));
        assert_eq!(window.answered(TXNR_MAX - 1), Some(Seq(1)));
        assert_eq!(window.answered(TXNR_MAX), Some(Seq(2)));
        assert_eq!(window.answered(2), Some(Seq(4)));
        assert_eq!(window.send(Seq(5)), 3);
    }

    #[test]
    fn a_full_window_has_no_room_until_its_oldest_is_answered() {
        let mut window = Window::new(1, 2);
        window.send(Seq(1));
        window.send(Seq(2));
        assert!(!window.has_room());
        window.answered(2);
        assert!(!window.has_room(), "the oldest bounds the memory");
        window.answered(1);
        assert!(window.has_room());
    }
}
