//! Cases that need no appliance: tests of the ring, with more patience than in every build.

use super::super::Outcome;
use crate::build;
use anyhow::Result;

/// Tests of one program of `buffer/tests`.
pub struct Suite {
    program: &'static str,
    /// What their names have in common.
    tests: &'static str,
    /// Rounds of the matrix for each time that the test does what it does in every build.
    rounds: u64,
}

/// Power cuts while the ring is written.
pub const POWER_CUT: Suite = Suite { program: "power_cut", tests: "what_was_acknowledged", rounds: 500 };
/// Power cuts while cursors are written.
pub const CURSORS: Suite = Suite { program: "power_cut", tests: "cursors_are_there", rounds: 250 };
/// Calls of the ring's writer that fail.
pub const FAILING_CALLS: Suite = Suite { program: "failing_calls", tests: "", rounds: 50 };
/// Bits that turn: one for each round.
pub const FLIPS: Suite = Suite { program: "flips", tests: "a_bit_that_turns", rounds: 25 };
/// Files that are cut or gone.
pub const FILES: Suite = Suite { program: "flips", tests: "a_file_that_is_cut", rounds: 1000 };
/// Segments of a later version.
pub const NEWER: Suite = Suite { program: "flips", tests: "later_version", rounds: 1000 };
/// Clocks that jump.
pub const CLOCK: Suite = Suite { program: "clock", tests: "", rounds: 50 };

impl Suite {
    /// Runs them; their line of figures, or why they failed.
    pub fn run(&self, rounds: u64) -> Result<Outcome> {
        let mut test = build::cargo();
        test.args([
            "test",
            "--quiet",
            "--profile",
            "test-release",
            "--package",
            "raven-buffer",
            "--test",
            self.program,
        ]);
        test.args(["--", "--nocapture", self.tests]);
        test.env("RAVEN_TRIALS", (rounds / self.rounds).max(1).to_string());
        let output = test.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let figures: Vec<&str> =
            text.lines().filter_map(|line| line.split_once("figures: ")).map(|(_, told)| told).collect();
        let mut outcome = Outcome { told: figures.join("; "), ..Outcome::default() };
        if !output.status.success() {
            outcome.flaws.push(text);
        } else if figures.is_empty() {
            outcome.flaws.push(format!("the tests said nothing: {text}"));
        }
        Ok(outcome)
    }
}
