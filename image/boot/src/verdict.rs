//! What follows from how well the running system is. A new one has to be well in all that `raven health` looks at, or
//! the box starts anew and in the end goes back; one that was well before is never left for what may be the venue's
//! fault (a destination that is down), only for not running at all.

/// How well the running system is, as `raven health` found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// In all.
    Well,
    /// `ravend` answers, but something is not as it must be; what, in words.
    Ill(String),
    /// `ravend` does not answer; why, in words.
    Silent(String),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its tries are given back.
    Good,
    /// The same, and what is not well is said.
    GoodButIll(String),
    /// The try stays spent; what is not well is said.
    Leave(String),
    /// The try stays spent, the reason is kept, and the box starts anew.
    Restart(String),
}

/// Decides.
pub fn verdict(on_trial: bool, health: Health) -> Verdict {
    match (on_trial, health) {
        (_, Health::Well) => Verdict::Good,
        (true, Health::Ill(why) | Health::Silent(why)) => Verdict::Restart(why),
        (false, Health::Ill(why)) => Verdict::GoodButIll(why),
        (false, Health::Silent(why)) => Verdict::Leave(why),
    }
}

/// A system that left no word: how far it came, from what it left on the EFI system partition and from what the watchdog
/// says of the last restart.
pub fn without_a_word(starts: u8, reached_services: bool, watchdog: bool) -> String {
    let times = if starts == 1 { "once".to_owned() } else { format!("{starts} times") };
    let far = if reached_services {
        "its services began to start, but it never said whether it is well"
    } else {
        "its kernel or its first process failed or hung before any service started"
    };
    let dog = if watchdog { "; the watchdog ended the last of these starts" } else { "" };
    format!("started {times}: {far}{dog}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_system_is_left_for_being_ill() {
        let ill = || Health::Ill("no listener".to_owned());
        let silent = || Health::Silent("no answer".to_owned());
        assert_eq!(verdict(true, Health::Well), Verdict::Good);
        assert_eq!(verdict(true, ill()), Verdict::Restart("no listener".to_owned()));
        assert_eq!(verdict(true, silent()), Verdict::Restart("no answer".to_owned()));
        assert_eq!(verdict(false, Health::Well), Verdict::Good);
        assert_eq!(verdict(false, ill()), Verdict::GoodButIll("no listener".to_owned()));
        assert_eq!(verdict(false, silent()), Verdict::Leave("no answer".to_owned()));
    }

    #[test]
    fn how_far_it_came_is_said() {
        assert!(
            without_a_word(2, false, true)
                .ends_with("any service started; the watchdog ended the last of these starts")
        );
        assert!(without_a_word(1, true, false).starts_with("started once: its services"));
    }
}
