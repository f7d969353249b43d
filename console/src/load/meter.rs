//! Hands out what is due, to one thread or to many.

use super::pace::Pace;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shortest sleep when nothing is due: many devices send evenly, not in lumps, and lumps flatter a receiver.
const TICK: Duration = Duration::from_micros(50);

/// Longest sleep, so that the end of a run is seen.
const NAP: Duration = Duration::from_millis(5);

/// The pace of a run, and how much of it was handed out.
#[derive(Debug)]
pub struct Meter {
    pace: Pace,
    started: Instant,
    given: AtomicU64,
    /// Ctrl-C: nothing more is handed out, and the run ends with its sums.
    stop: Arc<AtomicBool>,
}

/// What a sender should do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Send so many.
    Now(u64),
    /// Ask again after this time.
    Later(Duration),
    /// Nothing more will come.
    Done,
}

impl Meter {
    /// Starts now. From here on SIGINT and SIGTERM end the run in order.
    pub fn start(pace: Pace) -> Self {
        let stop = Arc::<AtomicBool>::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // Where it cannot be caught, the signal ends the program as before.
            let _ = signal_hook::flag::register(signal, Arc::clone(&stop));
        }
        Self { pace, started: Instant::now(), given: AtomicU64::new(0), stop }
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// As many whole `unit`s as are due, at most `most`; fewer than a unit only at the very end of a count.
    pub fn ask(&self, unit: u64, most: u64) -> Due {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Due::Done;
            }
            let given = self.given.load(Ordering::Relaxed);
            let Some(due) = self.pace.due(self.elapsed(), given) else { return Due::Done };
            if due < unit && due < self.pace.left(given) {
                return Due::Later(self.until(unit - due));
            }
            let some = due.min(most);
            let take = if some > unit { some - some % unit } else { some };
            if take == 0 {
                return Due::Later(TICK);
            }
            if self.given.compare_exchange(given, given + take, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Due::Now(take);
            }
        }
    }

    /// Sleeps until something is due; `None` when nothing more will come.
    pub fn wait(&self, unit: u64, most: u64) -> Option<u64> {
        loop {
            match self.ask(unit, most) {
                Due::Now(count) => return Some(count),
                Due::Later(time) => std::thread::sleep(time),
                Due::Done => return None,
            }
        }
    }

    fn until(&self, records: u64) -> Duration {
        Duration::from_secs_f64(records as f64 / self.pace.rate.max(1) as f64).clamp(TICK, NAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAT: Pace = Pace { rate: 0, ramp: Duration::ZERO, count: Some(50), duration: None };

    #[test]
    fn whole_units_go_out_and_the_rest_comes_last() {
        let meter = Meter::start(FLAT);
        assert_eq!(meter.ask(24, 47), Due::Now(24));
        assert_eq!(meter.ask(24, 24), Due::Now(24));
        assert_eq!(meter.ask(24, 24), Due::Now(2));
        assert_eq!(meter.ask(24, 24), Due::Done);
    }

    #[test]
    fn many_threads_get_the_count_between_them() {
        let meter = Meter::start(Pace { count: Some(100_000), ..FLAT });
        let sum: u64 = std::thread::scope(|scope| {
            let one = || std::iter::from_fn(|| meter.wait(7, 70)).sum::<u64>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
        });
        assert_eq!(sum, 100_000);
    }

    #[test]
    fn what_is_not_due_is_waited_for_no_longer_than_a_nap() {
        let meter = Meter::start(Pace { rate: 1, ..FLAT });
        assert!(matches!(meter.ask(10, 10), Due::Later(time) if time == NAP));
    }
}
