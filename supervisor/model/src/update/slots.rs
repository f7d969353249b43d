//! What is said about slots: by `raven-slot` to `ravend`, by `ravend` to operators, by the update role to who brings a
//! bundle.

use super::Version;
use serde::{Deserialize, Serialize};

/// A slot as operators see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotView {
    /// `A` or `B`.
    pub name: String,
    /// It holds a system.
    pub filled: bool,
    /// The release that it holds.
    pub version: Option<Version>,
    /// How often it may still be started without showing that it is well.
    pub tries: u8,
    /// New, and has not shown yet that it is well.
    pub on_trial: bool,
    /// Why it was given up.
    pub given_up: Option<String>,
}

/// What the boot loader knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// The slot that runs.
    pub running: String,
    /// The slot that is started next.
    pub next: Option<String>,
    /// A and B.
    pub slots: Vec<SlotView>,
    /// All data are discarded at the next start: who asked for it, and when.
    pub reset: Option<String>,
    /// When they were discarded last, and who had asked for it.
    pub was_reset: Option<String>,
}

impl Slots {
    /// One of them.
    pub fn slot(&self, name: &str) -> Option<&SlotView> {
        self.slots.iter().find(|slot| slot.name == name)
    }

    /// The one that does not run.
    pub fn other(&self) -> Option<&SlotView> {
        self.slots.iter().find(|slot| slot.name != self.running)
    }
}

/// One line of the answer to who brings a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateLine {
    /// The bundle is taken. Send what lies behind the header, from this offset on.
    From {
        /// Bytes behind the header that are in the slot already.
        offset: u64,
        /// Bytes behind the header.
        total: u64,
        /// What it brings.
        version: Version,
        /// Where it goes.
        slot: String,
    },
    /// How far it is, in bytes behind the header.
    Taken {
        /// So many.
        offset: u64,
    },
    /// All is there; it is read back and handed to the boot loader.
    Checking,
    /// The next start is into it.
    Staged {
        /// The slot.
        slot: String,
        /// What it holds.
        version: Version,
    },
}
