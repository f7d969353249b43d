//! What stands between a cable and an acknowledgement, in its order.

use serde::Serialize;

/// How a rung is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It holds.
    Ok,
    /// It holds, and something about it should be looked at.
    Warning,
    /// It does not hold.
    Broken,
    /// It could not be looked at.
    Unknown,
}

impl State {
    /// In front of a line.
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok     ",
            Self::Warning => "LOOK   ",
            Self::Broken => "BROKEN ",
            Self::Unknown => "?      ",
        }
    }
}

/// One rung.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rung {
    /// `processes`, `link`, `address`, `gateway`, `dns`, `clock`, `tunnel`, `connection`, `tls`, `acknowledgement`, `listener`,
    /// `receive`, `stored`, `decoded`, `sender` or `wire`.
    pub name: &'static str,
    /// Of what: a link, a destination, a sender; empty where there is but one.
    pub subject: String,
    /// How it is.
    pub state: State,
    /// What is known, the most telling first.
    pub evidence: Vec<String>,
    /// What to do; empty where nothing is to be done.
    pub remedy: String,
}

impl Rung {
    /// All is well.
    pub fn ok(name: &'static str, evidence: impl Into<String>) -> Self {
        Self::new(name, State::Ok, evidence, "")
    }

    /// It does not hold.
    pub fn broken(name: &'static str, evidence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, State::Broken, evidence, remedy)
    }

    /// Something about it should be looked at.
    pub fn warning(name: &'static str, evidence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, State::Warning, evidence, remedy)
    }

    /// It could not be looked at.
    pub fn unknown(name: &'static str, evidence: impl Into<String>) -> Self {
        Self::new(name, State::Unknown, evidence, "")
    }

    fn new(name: &'static str, state: State, evidence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, subject: String::new(), state, evidence: vec![evidence.into()], remedy: remedy.into() }
    }

    /// Of whom it is.
    #[must_use]
    pub fn of(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// More that is known.
    #[must_use]
    pub fn and(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        self.evidence.extend(evidence);
        self
    }
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ladder {
    /// `site.name`.
    pub device: String,
    /// Nothing is broken.
    pub well: bool,
    /// Place in `rungs` of the first that is broken: what is behind it may be broken because of it.
    pub first_broken: Option<usize>,
    /// In their order.
    pub rungs: Vec<Rung>,
}

impl Ladder {
    /// Of these.
    pub fn new(device: &str, rungs: Vec<Rung>) -> Self {
        let first_broken = rungs.iter().position(|rung| rung.state == State::Broken);
        Self { device: device.to_owned(), well: first_broken.is_none(), first_broken, rungs }
    }

    /// Nobody can be asked.
    pub fn unreachable(why: &str) -> Self {
        let remedy = "start ravend (`systemctl status raven`); on the box restart it from the console, page System";
        Self::new("this box", vec![Rung::broken("processes", why, remedy).of("ravend")])
    }

    /// The first that is broken.
    pub fn broken(&self) -> Option<&Rung> {
        self.rungs.get(self.first_broken?)
    }
}
