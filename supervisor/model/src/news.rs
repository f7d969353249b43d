//! What happened lately, as the roles `net` and `vpn` report it: the host role makes records of the `host` stream of it,
//! each once, whoever of them dies meanwhile.
//!
//! A report holds the newest events, each with its number. Who reads remembers of each role which life it was and which
//! number it took last ([`Mark`]). What scrolled off between two reports is counted.

use crate::host::{Change, HostEvent};
use crate::units::UnixNanos;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Events in a report, which has to fit into a packet.
pub const NEWS_MAX: usize = 64;
/// Bytes of a text in an event.
const TEXT_MAX: usize = 200;

/// The newest events of one life of a role.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// Tells this life of the role from others: random.
    pub life: u64,
    /// Events of this life so far: the number of the newest; the first is 1.
    pub count: u64,
    /// The newest [`NEWS_MAX`], the oldest first.
    pub events: VecDeque<HostEvent>,
}

impl News {
    /// None yet, of this life.
    pub const fn new(life: u64) -> Self {
        Self { life, count: 0, events: VecDeque::new() }
    }

    /// One more.
    pub fn add(&mut self, t: UnixNanos, what: Change) {
        if self.events.len() >= NEWS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(HostEvent { t, what });
        self.count += 1;
    }
}

/// What of a role's news was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Of which life.
    pub life: u64,
    /// Up to this number.
    pub number: u64,
}

impl Mark {
    /// Takes what is new: the events, and how many more there were that are not told any more.
    pub fn take<'a>(&mut self, news: &'a News) -> (impl Iterator<Item = &'a HostEvent> + use<'a>, u64) {
        let taken = if self.life == news.life { self.number.min(news.count) } else { 0 };
        *self = Self { life: news.life, number: news.count };
        let new = news.count - taken;
        let told = new.min(news.events.len() as u64);
        (news.events.iter().skip(news.events.len() - told as usize), new - told)
    }
}

/// Marks that must not be forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Counts how often they were written: the newest have most.
    pub written: u64,
    /// By the role's name.
    pub marks: BTreeMap<String, Mark>,
}

/// A text that is cut to what an event may hold.
pub fn cut(text: &str) -> String {
    let end = (0..=text.len().min(TEXT_MAX)).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mark: &mut Mark, news: &News) -> (Vec<u64>, u64) {
        let (events, missed) = mark.take(news);
        (events.map(|event| event.t.0).collect(), missed)
    }

    fn add(news: &mut News, times: std::ops::RangeInclusive<u64>) {
        times.for_each(|t| news.add(UnixNanos(t), Change::OomKill { count: 1 }));
    }

    #[test]
    fn each_event_is_taken_once_and_those_of_another_life_are_all_new() {
        let (mut news, mut mark) = (News::new(7), Mark::default());
        assert_eq!(told(&mut mark, &news), (vec![], 0));
        add(&mut news, 1..=3);
        assert_eq!(told(&mut mark, &news), (vec![1, 2, 3], 0));
        assert_eq!(told(&mut mark, &news), (vec![], 0));
        add(&mut news, 4..=4);
        assert_eq!(told(&mut mark, &news), (vec![4], 0));
        let mut next = News::new(8);
        add(&mut next, 5..=6);
        assert_eq!(told(&mut mark, &next), (vec![5, 6], 0));
    }

    #[test]
    fn what_scrolled_off_is_counted() {
        let (mut news, mut mark) = (News::new(7), Mark::default());
        add(&mut news, 1..=70);
        let (events, missed) = told(&mut mark, &news);
        assert_eq!((events.len(), events.first(), missed), (NEWS_MAX, Some(&7), 6));
        add(&mut news, 71..=72);
        assert_eq!(told(&mut mark, &news), (vec![71, 72], 0));
        // A report that contradicts itself, which is not ours, does no harm.
        let odd = News { count: 1, ..news };
        assert_eq!(told(&mut mark, &odd), (vec![], 0));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"ä".repeat(150)).len(), TEXT_MAX);
        assert_eq!(cut(&format!("x{}", "ä".repeat(150))).len(), TEXT_MAX - 1);
    }
}
