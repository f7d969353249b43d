//! How much was stored in the last hour, day and week: what forecasts are made from. Small enough to be kept in the
//! catalogue, so that a restart forgets nothing.
//!
//! Only the time counts in which the store ran, by the clock that is never stepped: a box that was switched off for
//! three days, or whose wall clock was ten years wrong, forecasts the same.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Least time covered before a rate is told.
const LEAST: Duration = Duration::from_secs(10);

/// One window, in slots of the same length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    slot_ms: u64,
    slots: usize,
    /// Bytes of each whole slot, oldest first.
    past: VecDeque<u64>,
    /// The one that is not over.
    open_ms: u64,
    open: u64,
}

impl Window {
    const fn new(slot_minutes: u64, slots: usize) -> Self {
        Self { slot_ms: slot_minutes * 60_000, slots, past: VecDeque::new(), open_ms: 0, open: 0 }
    }

    fn add(&mut self, elapsed_ms: u64, bytes: u64) {
        self.open += bytes;
        self.open_ms += elapsed_ms;
        // After a long sleep the slots before it are of no use any more.
        self.open_ms = self.open_ms.min(self.slot_ms * (self.slots as u64 + 1));
        while self.open_ms >= self.slot_ms {
            self.open_ms -= self.slot_ms;
            self.past.push_back(std::mem::take(&mut self.open));
            if self.past.len() > self.slots {
                self.past.pop_front();
            }
        }
    }

    /// Bytes per second, and over how long.
    fn rate(&self) -> Option<(f64, Duration)> {
        let covered = Duration::from_millis(self.past.len() as u64 * self.slot_ms + self.open_ms);
        let bytes = self.past.iter().sum::<u64>() + self.open;
        (covered >= LEAST).then(|| (bytes as f64 / covered.as_secs_f64(), covered))
    }
}

/// Bytes stored, by minute, quarter of an hour, and two hours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    hour: Window,
    day: Window,
    week: Window,
}

impl Default for History {
    fn default() -> Self {
        Self { hour: Window::new(1, 60), day: Window::new(15, 96), week: Window::new(120, 84) }
    }
}

impl History {
    /// So many bytes were stored in the time since the last call.
    pub fn add(&mut self, elapsed: Duration, bytes: u64) {
        let elapsed_ms = elapsed.as_millis() as u64;
        for window in [&mut self.hour, &mut self.day, &mut self.week] {
            window.add(elapsed_ms, bytes);
        }
    }

    /// Name, bytes per second, and how much of the window is covered; without those of which nothing is known yet.
    pub fn rates(&self) -> impl Iterator<Item = (&'static str, f64, Duration)> {
        let all = [("hour", &self.hour), ("day", &self.day), ("week", &self.week)];
        all.into_iter().filter_map(|(name, window)| window.rate().map(|(rate, covered)| (name, rate, covered)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(history: &History) -> Vec<u64> {
        history.rates().map(|(_, rate, _)| rate.round() as u64).collect()
    }

    #[test]
    fn each_window_has_a_rate_of_its_own() {
        let mut history = History::default();
        // Six days of 100 bytes a second, a day of 10, an hour of nothing but its last minute.
        for second in 0..7 * 86_400_u64 {
            let left = 7 * 86_400 - second;
            let bytes = if left <= 60 {
                6000
            } else if left <= 3600 {
                0
            } else if left <= 86_400 {
                10
            } else {
                100
            };
            history.add(Duration::from_secs(1), bytes);
        }
        // 82,800 s of 10 bytes and a minute of 6000 make 13.75.
        assert_eq!(rates(&history), [100, 14, 88]);
        let covered: Vec<u64> = history.rates().map(|(_, _, covered)| covered.as_secs() / 3600).collect();
        assert_eq!(covered, [1, 24, 168]);
        let text = serde_json::to_vec(&history).expect("plain data");
        assert!(text.len() < 2500, "small: {}", text.len());
        assert_eq!(serde_json::from_slice::<History>(&text).expect("the same"), history);
    }

    #[test]
    fn a_short_life_tells_its_rate_and_how_little_it_is_of() {
        let mut history = History::default();
        history.add(Duration::from_secs(9), 90);
        assert_eq!(history.rates().count(), 0);
        history.add(Duration::from_secs(91), 910);
        assert_eq!(rates(&history), [10, 10, 10]);
        assert!(history.rates().all(|(_, _, covered)| covered == Duration::from_secs(100)));
    }

    #[test]
    fn a_sleep_of_years_takes_no_time_to_enter() {
        let mut history = History::default();
        history.add(Duration::from_hours(10 * 365 * 24), 5);
        assert_eq!(rates(&history), [0, 0, 0]);
    }
}
