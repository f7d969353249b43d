//! What the boot loader tells `raven-init`, on the kernel's command line:
//! `raven.slot=A` or `raven.live`, `raven.verity=ROOT.BLOCKS.SALT`, and `raven.reset=GUID` after a factory reset was asked
//! for.

use crate::gpt::Guid;
use crate::slots::Slot;
use crate::verity::{Verity, VerityError};
use std::fmt;

/// Where the root file system is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// In a slot of a disk that Raven was installed on.
    Slot(Slot),
    /// On the installation medium; what is written goes to memory.
    Live,
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "slot {slot}"),
            Self::Live => f.write_str("the medium"),
        }
    }
}

/// One start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// Where the root is.
    pub medium: Medium,
    /// What it must be.
    pub verity: Verity,
    /// The data partition that a factory reset discards. What is no identity asks for nothing.
    pub reset: Option<Guid>,
}

/// The boot loader's words make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    /// Neither word is there.
    #[error("the kernel's command line has neither raven.slot=A, raven.slot=B nor raven.live")]
    NoMedium,
    /// Something else than A or B.
    #[error("raven.slot={0}: slots are A and B")]
    Slot(String),
    /// Without it anything could be started.
    #[error("the kernel's command line has no raven.verity=ROOT.BLOCKS.SALT")]
    NoVerity,
    /// Not a description of a hash tree.
    #[error("raven.verity: {0}")]
    Verity(#[from] VerityError),
}

/// Reads `/proc/cmdline`. Of a word that comes twice the last counts, as in the kernel.
///
/// # Errors
/// A word is missing or makes no sense.
pub fn parse(cmdline: &str) -> Result<Boot, CmdlineError> {
    let verity = value(cmdline, "raven.verity").ok_or(CmdlineError::NoVerity)?.parse()?;
    let reset = value(cmdline, "raven.reset").and_then(|id| id.parse().ok());
    Ok(Boot { medium: medium(cmdline)?, verity, reset })
}

/// Only where the root is, for programs that run from it.
///
/// # Errors
/// As for [`parse`].
pub fn medium(cmdline: &str) -> Result<Medium, CmdlineError> {
    match value(cmdline, "raven.slot") {
        Some(slot) => slot.parse().map(Medium::Slot).map_err(|_| CmdlineError::Slot(slot.to_owned())),
        None if cmdline.split_whitespace().any(|word| word == "raven.live") => Ok(Medium::Live),
        None => Err(CmdlineError::NoMedium),
    }
}

fn value<'a>(cmdline: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = cmdline.split_whitespace().rev().filter_map(|word| word.split_once('='));
    pairs.find(|(n, _)| *n == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ROOT: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff.12800.beef";

    #[test]
    fn a_slot_and_its_root_are_read() {
        let boot = parse(&format!("console=ttyS0 quiet raven.slot=B raven.verity={ROOT}\n")).unwrap();
        assert_eq!(boot.medium, Medium::Slot(Slot::B));
        assert_eq!((boot.verity.blocks, boot.verity.salt.as_slice()), (12800, [0xbe, 0xef].as_slice()));
    }

    #[test]
    fn a_reset_names_the_partition_that_it_means_or_is_none() {
        let reset = |words: &str| parse(&format!("raven.slot=A {words} raven.verity={ROOT}")).unwrap().reset;
        assert_eq!(reset("raven.reset=c12a7328-f81f-11d2-ba4b-00a0c93ec93b"), Some(crate::gpt::ESP));
        for none in ["", "raven.reset", "raven.reset=", "raven.reset=1", "raven.reset=yes"] {
            assert_eq!(reset(none), None, "{none}");
        }
    }

    #[test]
    fn the_last_word_counts() {
        assert_eq!(medium("raven.slot=A raven.slot=B"), Ok(Medium::Slot(Slot::B)));
    }

    #[test]
    fn a_start_without_a_root_hash_is_refused() {
        assert_eq!(parse("raven.live"), Err(CmdlineError::NoVerity));
        assert_eq!(parse(&format!("raven.verity={ROOT}")), Err(CmdlineError::NoMedium));
        assert_eq!(medium("raven.slot=C"), Err(CmdlineError::Slot("C".to_owned())));
        assert!(matches!(parse("raven.live raven.verity=12.x"), Err(CmdlineError::Verity(_))));
    }
}
