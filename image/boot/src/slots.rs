//! Slots and the boot loader's memory of them.
//!
//! GRUB keeps variables in a file of exactly 1,024 bytes (`grubenv`) on the EFI system partition. Before it starts a
//! slot it takes one from the slot's tries; the running slot gives them back when it is well. A slot without tries is
//! not chosen again. Everything we keep lies in the first 512 bytes, so that a power cut leaves the old or the new
//! block, never a part of both.
//!
//! `RESET` is the identity of the data partition that is to be discarded, which GRUB passes on to the kernel's command
//! line; `RESET_BY` says who asked for it and when.

use crate::gpt::Guid;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Tries that a slot has until it must have shown that it is well.
pub const TRIES: u8 = 3;

/// Tries of a system that was just brought by an update: one of them may end by a power cut.
pub const TRIAL_TRIES: u8 = 2;

/// Bytes of the environment block.
pub const ENV_SIZE: usize = 1024;

const SIGNATURE: &str = "# GRUB Environment Block\n";

/// What a sector holds; more than this may be torn.
const ATOMIC: usize = 512;

/// A place for a system on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The one beside it.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

impl FromStr for Slot {
    type Err = EnvError;

    fn from_str(text: &str) -> Result<Self, EnvError> {
        match text {
            "A" => Ok(Self::A),
            "B" => Ok(Self::B),
            other => Err(EnvError::Slot(other.to_owned())),
        }
    }
}

/// The boot loader's memory cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// No environment block of GRUB.
    #[error("grubenv: not an environment block of GRUB ({0} bytes, 1,024 are expected)")]
    Format(usize),
    /// More than fits the part that is written at once.
    #[error("grubenv: {0} bytes of variables do not fit in one sector of 512")]
    Full(usize),
    /// No such slot.
    #[error("`{0}` is no slot; slots are A and B")]
    Slot(String),
}

/// What GRUB knows of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Whether it holds a system at all.
    pub filled: bool,
    /// How often it may still be started without showing that it is well.
    pub tries: u8,
}

/// The variables of the environment block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// A new disk: a system in slot A, nothing in B.
    pub fn new() -> Self {
        let mut env = Self::default();
        env.set("ORDER", "A B");
        env.put(Slot::A, State { filled: true, tries: TRIES });
        env.put(Slot::B, State { filled: false, tries: 0 });
        env
    }

    /// Reads a block.
    ///
    /// # Errors
    /// It has another size or does not begin as GRUB's blocks do.
    pub fn parse(block: &[u8]) -> Result<Self, EnvError> {
        let text = (block.len() == ENV_SIZE).then_some(block).and_then(|block| std::str::from_utf8(block).ok());
        let text = text.and_then(|text| text.strip_prefix(SIGNATURE)).ok_or(EnvError::Format(block.len()))?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.split_once('='));
        Ok(Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }

    /// The block to write.
    ///
    /// # Errors
    /// There is more than a sector holds.
    pub fn block(&self) -> Result<Vec<u8>, EnvError> {
        let mut text = SIGNATURE.to_owned();
        for (name, value) in &self.0 {
            text.extend([name.as_str(), "=", value, "\n"]);
        }
        if text.len() > ATOMIC {
            return Err(EnvError::Full(text.len()));
        }
        let mut block = text.into_bytes();
        block.resize(ENV_SIZE, b'#');
        Ok(block)
    }

    /// Slots in the order in which they are tried; A and B where the variable says nothing of use.
    pub fn order(&self) -> Vec<Slot> {
        let order: Vec<Slot> =
            self.0.get("ORDER").into_iter().flat_map(|o| o.split(' ')).filter_map(|s| s.parse().ok()).collect();
        if order.is_empty() { vec![Slot::A, Slot::B] } else { order }
    }

    /// What is known of `slot`.
    pub fn state(&self, slot: Slot) -> State {
        let value = |what: &str| self.0.get(&format!("{slot}_{what}")).map(String::as_str);
        let tries = value("LEFT").and_then(|left| left.parse().ok()).unwrap_or(0);
        State { filled: value("OK") == Some("1"), tries }
    }

    /// Says of `slot` that it is `state`.
    pub fn put(&mut self, slot: Slot, state: State) {
        self.set(&format!("{slot}_OK"), if state.filled { "1" } else { "0" });
        self.set(&format!("{slot}_LEFT"), &state.tries.to_string());
    }

    /// `slot` runs and is well: it has all its tries again, it is the one to start, and no trial goes on.
    pub fn good(&mut self, slot: Slot) {
        self.put(slot, State { filled: true, tries: TRIES });
        self.first(slot);
        self.0.remove("TRIAL");
    }

    /// `slot` is about to be written to: nothing is started from it, whatever happens meanwhile.
    pub fn empty(&mut self, slot: Slot) {
        self.put(slot, State { filled: false, tries: 0 });
        self.first(slot.other());
        if self.trial() == Some(slot) {
            self.0.remove("TRIAL");
        }
    }

    /// `slot` holds a new system, which is started next and has to show that it is well.
    pub fn stage(&mut self, slot: Slot) {
        self.put(slot, State { filled: true, tries: TRIAL_TRIES });
        self.first(slot);
        self.set("TRIAL", &slot.to_string());
    }

    /// The slot whose system is new and has not shown that it is well.
    pub fn trial(&self) -> Option<Slot> {
        self.0.get("TRIAL")?.parse().ok()
    }

    /// The data partition `data` is to be discarded.
    pub fn order_reset(&mut self, data: Guid, by: &str) {
        self.set("RESET", &data.to_string());
        self.set("RESET_BY", by);
    }

    /// The data partition that is to be discarded, and who asked for it.
    pub fn reset(&self) -> Option<(Guid, &str)> {
        Some((self.0.get("RESET")?.parse().ok()?, self.0.get("RESET_BY").map_or("", String::as_str)))
    }

    /// It is.
    pub fn forget_reset(&mut self) {
        self.0.remove("RESET");
        self.0.remove("RESET_BY");
    }

    fn first(&mut self, slot: Slot) {
        self.set("ORDER", &format!("{slot} {}", slot.other()));
    }

    /// The slot that GRUB starts next, by the same rule as `grub.cfg`.
    pub fn next(&self) -> Option<Slot> {
        self.order().into_iter().find(|slot| {
            let state = self.state(*slot);
            state.filled && state.tries > 0
        })
    }

    fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_block_is_read_as_it_was_written() {
        let env = Env::new();
        let block = env.block().unwrap();
        assert_eq!(block.len(), ENV_SIZE);
        assert!(block.starts_with(b"# GRUB Environment Block\nA_LEFT=3\nA_OK=1\n"));
        assert_eq!(Env::parse(&block), Ok(env));
    }

    #[test]
    fn a_new_disk_starts_a_and_never_the_empty_b() {
        let mut env = Env::new();
        assert_eq!(env.next(), Some(Slot::A));
        env.put(Slot::A, State { filled: true, tries: 0 });
        assert_eq!(env.next(), None);
    }

    #[test]
    fn a_slot_that_is_never_well_gives_way_after_its_tries() {
        let mut env = Env::new();
        env.put(Slot::B, State { filled: true, tries: TRIES });
        env.set("ORDER", "B A");
        let mut started = Vec::new();
        for _ in 0..4 {
            let slot = env.next().unwrap();
            let state = env.state(slot);
            env.put(slot, State { tries: state.tries - 1, ..state });
            started.push(slot);
        }
        assert_eq!(started, [Slot::B, Slot::B, Slot::B, Slot::A]);
        env.good(Slot::B);
        assert_eq!(env.next(), Some(Slot::B));
    }

    #[test]
    fn an_update_never_leaves_the_box_without_the_slot_that_runs() {
        let mut env = Env::new();
        env.empty(Slot::B);
        assert_eq!((env.next(), env.state(Slot::B).filled), (Some(Slot::A), false));
        env.stage(Slot::B);
        assert_eq!((env.next(), env.trial()), (Some(Slot::B), Some(Slot::B)));
        let mut started = Vec::new();
        for _ in 0..3 {
            let slot = env.next().unwrap();
            let state = env.state(slot);
            env.put(slot, State { tries: state.tries - 1, ..state });
            started.push(slot);
        }
        assert_eq!(started, [Slot::B, Slot::B, Slot::A]);
        // A is back, and what is next in B has nothing to do with it.
        env.good(Slot::A);
        assert_eq!((env.next(), env.trial(), env.order()[0]), (Some(Slot::A), None, Slot::A));
    }

    #[test]
    fn a_new_system_that_is_well_stays() {
        let mut env = Env::new();
        env.stage(Slot::B);
        env.good(Slot::B);
        assert_eq!((env.next(), env.trial(), env.state(Slot::B).tries), (Some(Slot::B), None, TRIES));
        // The other way round, over what runs no more.
        env.empty(Slot::A);
        env.stage(Slot::A);
        assert_eq!(Env::parse(&env.block().unwrap()).unwrap().next(), Some(Slot::A));
    }

    #[test]
    fn variables_of_others_stay() {
        let mut env = Env::parse(&padded("# GRUB Environment Block\nextra=quiet\nA_OK=1\n")).unwrap();
        env.good(Slot::A);
        assert!(String::from_utf8(env.block().unwrap()).unwrap().contains("extra=quiet\n"));
    }

    #[test]
    fn what_is_no_block_is_refused_and_what_does_not_fit_is_not_written() {
        assert_eq!(Env::parse(b"A_OK=1"), Err(EnvError::Format(6)));
        assert_eq!(Env::parse(&[0xff; ENV_SIZE]), Err(EnvError::Format(ENV_SIZE)));
        let mut env = Env::new();
        env.set("extra", &"x".repeat(500));
        assert!(matches!(env.block(), Err(EnvError::Full(_))));
    }

    fn padded(text: &str) -> Vec<u8> {
        let mut block = text.as_bytes().to_vec();
        block.resize(ENV_SIZE, b'#');
        block
    }
}
