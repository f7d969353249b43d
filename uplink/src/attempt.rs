//! When a destination is tried again: the classes of failure, back-off, and the state an operator sees. Pure.

use std::time::Duration;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// May pass by itself: tried again with growing pauses.
    Retry,
    /// Needs an operator: told, and tried again seldom, so that it recovers once it is put right.
    Config,
    /// The receiver's certificate is not to be trusted: told like `Config`; but a renewed one may be there at any
    /// moment and nothing of ours is shown before it, so it is tried again as often as after `Retry`.
    Untrusted,
}

/// Why an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub class: Class,
    /// What was tried, on which peer, and what came of it.
    pub words: String,
    /// The destination asked for no new attempt before so long (`Retry-After`, RFC 9110, 10.2.3).
    pub not_before: Option<Duration>,
}

impl Failure {
    /// One that may pass by itself.
    pub fn retry(words: impl Into<String>) -> Self {
        Self { class: Class::Retry, words: words.into(), not_before: None }
    }

    /// One that needs an operator.
    pub fn config(words: impl Into<String>) -> Self {
        Self { class: Class::Config, words: words.into(), not_before: None }
    }
}

/// Longest pause that a destination may ask for by `Retry-After`.
const ASKED_MAX: Duration = Duration::from_mins(5);

/// Lengths of pauses.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Longest pause after the first failure; doubles with each further one.
    pub first: Duration,
    /// Longest pause after any number of failures.
    pub longest: Duration,
    /// Pause after a failure that needs an operator.
    pub config: Duration,
}

impl Default for Pace {
    /// 0.2 s to 2 s, so that a destination is found again within seconds; a minute where an operator is needed.
    fn default() -> Self {
        Self { first: Duration::from_millis(200), longest: Duration::from_secs(2), config: Duration::from_mins(1) }
    }
}

/// What a destination is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// An attempt to connect is under way.
    Connecting,
    /// Connected; records under way.
    Sending,
    /// Connected; nothing to send.
    Idle,
    /// Waits before the next attempt.
    Retrying,
    /// Waits for an operator, and tries seldom.
    ConfigError,
    /// Ended.
    Stopped,
}

impl State {
    /// As in `raven status`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Sending => "sending",
            Self::Idle => "idle",
            Self::Retrying => "retrying",
            Self::ConfigError => "config_error",
            Self::Stopped => "stopped",
        }
    }
}

/// What happens to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection stands and the far end speaks the protocol.
    Connected,
    /// Records went out.
    Sent,
    /// The far end acknowledged records.
    Acked,
    /// Everything stored is acknowledged.
    CaughtUp,
    /// The attempt ended.
    Failed(Failure),
    /// The pause is over.
    Due,
    /// Stop for good.
    Stop,
}

/// Attempts at one destination: a state machine without clock, dice or socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempts {
    /// What it is doing.
    pub state: State,
    /// Failures since the last acknowledgement.
    pub failures: u32,
    /// The last failure, in words; stays after recovery, so that an operator can still read it.
    pub last_error: Option<String>,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { state: State::Connecting, failures: 0, last_error: None }
    }
}

impl Attempts {
    /// Takes an event; returns the pause before the next attempt where one is due. `dice` is 0.0 to 1.0.
    pub fn step(&mut self, event: Event, pace: &Pace, dice: f64) -> Option<Duration> {
        if self.state == State::Stopped {
            return None;
        }
        match event {
            Event::Connected | Event::CaughtUp => self.state = State::Idle,
            Event::Sent => self.state = State::Sending,
            Event::Acked => self.failures = 0,
            Event::Due => self.state = State::Connecting,
            Event::Stop => self.state = State::Stopped,
            Event::Failed(failure) => return Some(self.fail(failure, pace, dice)),
        }
        None
    }

    fn fail(&mut self, failure: Failure, pace: &Pace, dice: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(failure.words);
        let pause = match failure.class {
            Class::Retry => {
                self.state = State::Retrying;
                back_off(self.failures, pace).mul_f64(dice.clamp(0.0, 1.0))
            }
            Class::Untrusted => {
                self.state = State::ConfigError;
                back_off(self.failures, pace).mul_f64(dice.clamp(0.0, 1.0))
            }
            Class::Config => {
                self.state = State::ConfigError;
                pace.config.mul_f64(0.75 + dice.clamp(0.0, 1.0) / 4.0)
            }
        };
        pause.max(failure.not_before.unwrap_or_default().min(ASKED_MAX))
    }
}

/// Longest pause after that many failures in a row. The pause itself is drawn from all below it ("full jitter"), so
/// that venues that lost the same receiver do not come back together.
fn back_off(failures: u32, pace: &Pace) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    pace.first.saturating_mul(1 << doublings).min(pace.longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(events: impl IntoIterator<Item = Event>, dice: f64) -> Vec<u128> {
        let mut attempts = Attempts::default();
        events
            .into_iter()
            .filter_map(|event| attempts.step(event, &Pace::default(), dice))
            .map(|p| p.as_millis())
            .collect()
    }

    fn refused() -> Event {
        Event::Failed(Failure::retry("connect to 192.0.2.1:514: refused"))
    }

    #[test]
    fn pauses_double_up_to_two_seconds() {
        assert_eq!(pauses(vec![refused(); 6], 1.0), [200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(pauses(vec![refused(); 100], 1.0).last(), Some(&2000));
    }

    #[test]
    fn jitter_takes_the_whole_pause_down_to_nothing() {
        assert_eq!(pauses(vec![refused(); 3], 0.5), [100, 200, 400]);
        assert_eq!(pauses(vec![refused(); 3], 0.0), [0, 0, 0]);
    }

    #[test]
    fn an_acknowledgement_resets_the_pause_and_a_mere_connection_does_not() {
        assert_eq!(pauses([refused(), refused(), Event::Connected, refused()], 1.0), [200, 400, 800]);
        assert_eq!(pauses([refused(), refused(), Event::Connected, Event::Acked, refused()], 1.0), [200, 400, 200]);
    }

    #[test]
    fn a_destination_may_ask_for_more_time_but_not_for_ever() {
        let asks = |s| Event::Failed(Failure { not_before: Some(Duration::from_secs(s)), ..Failure::retry("503") });
        assert_eq!(pauses([asks(7)], 0.3), [7000]);
        assert_eq!(pauses([asks(1_000_000)], 0.3), [300_000]);
    }

    #[test]
    fn a_configuration_error_is_told_and_tried_seldom() {
        let mut attempts = Attempts::default();
        let pause = attempts.step(Event::Failed(Failure::config("404 Not Found")), &Pace::default(), 1.0);
        assert_eq!((attempts.state, pause), (State::ConfigError, Some(Duration::from_mins(1))));
        assert_eq!(attempts.last_error.as_deref(), Some("404 Not Found"));
        attempts.step(Event::Due, &Pace::default(), 0.0);
        attempts.step(Event::Connected, &Pace::default(), 0.0);
        assert_eq!(attempts.state, State::Idle, "it recovers by itself once it is put right");
    }

    #[test]
    fn an_expired_certificate_is_told_and_its_renewal_is_found_within_seconds() {
        let mut attempts = Attempts::default();
        let expired = || Failure { class: Class::Untrusted, ..Failure::config("its certificate has expired") };
        for _ in 0..20 {
            let pause = attempts.step(Event::Failed(expired()), &Pace::default(), 1.0);
            assert!(attempts.state == State::ConfigError && pause <= Some(Duration::from_secs(2)), "{pause:?}");
        }
    }

    #[test]
    fn what_is_stopped_stays_stopped() {
        let mut attempts = Attempts::default();
        attempts.step(Event::Stop, &Pace::default(), 0.0);
        assert_eq!(attempts.step(refused(), &Pace::default(), 1.0), None);
        assert_eq!(attempts.state, State::Stopped);
    }
}
