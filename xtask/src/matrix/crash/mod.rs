//! The crash matrix: processes that are killed, power that is cut, disks that fail, bytes that change.
//!
//! Cases with real programs run in a namespace beside real receivers ([`venue`]); those of the ring's files alone are
//! tests of `raven-buffer`, run here with more patience ([`suites`]).

mod disks;
/// The stand-in for systemd is that of the end-to-end tests.
#[allow(clippy::unwrap_used, dead_code)]
#[path = "../../../../supervisor/tests/e2e/fd_store.rs"]
mod fd_store;
mod suites;
mod venue;

use super::{Case, Outcome, Settings};
use anyhow::{Context, Result};
use disks::{Ext4, OnFailing};
use std::time::Duration;
use venue::Venue;

/// How long a fault of the disk lasts.
const FAULT: Duration = Duration::from_secs(10);

/// Of the kills, one in so many is of that process.
const OF_STORE: u64 = 2;
const OF_UPLINK: u64 = 4;
const OF_RAVEND: u64 = 4;

/// Segments so small that many are begun while a case lasts.
const SMALL: &str = "disk = \"256MiB\"\nsegment = \"1MiB\"";

/// All of them.
pub const CASES: [Case<Lab>; 13] = [
    Case { name: "kill-store", run: |lab| lab.kill("store", OF_STORE) },
    Case { name: "kill-uplink", run: |lab| lab.kill("uplink", OF_UPLINK) },
    Case { name: "kill-ravend", run: kill_ravend },
    Case { name: "disk-full", run: disk_full },
    Case { name: "disk-errors", run: disk_errors },
    Case { name: "read-only", run: read_only },
    Case { name: "power-cut", run: |lab| lab.suite(&suites::POWER_CUT) },
    Case { name: "power-cut-cursors", run: |lab| lab.suite(&suites::CURSORS) },
    Case { name: "failing-calls", run: |lab| lab.suite(&suites::FAILING_CALLS) },
    Case { name: "bit-flips", run: |lab| lab.suite(&suites::FLIPS) },
    Case { name: "cut-or-gone", run: |lab| lab.suite(&suites::FILES) },
    Case { name: "newer-segment", run: |lab| lab.suite(&suites::NEWER) },
    Case { name: "clock-jumps", run: |lab| lab.suite(&suites::CLOCK) },
];

/// What came of a case.
pub struct Lab {
    settings: Settings,
    outcome: Option<Outcome>,
}

impl super::Lab for Lab {
    fn start(settings: &Settings) -> Result<Self> {
        Ok(Self { settings: settings.clone(), outcome: None })
    }

    fn judge(self) -> Result<Outcome> {
        self.outcome.context("the case came to no end")
    }
}

impl Lab {
    fn suite(&mut self, suite: &suites::Suite) -> Result<()> {
        self.outcome = Some(suite.run(self.settings.rounds)?);
        Ok(())
    }

    /// A share of all rounds, one at least.
    fn share(&self, of: u64) -> u64 {
        (self.settings.rounds / of).max(1)
    }

    /// Kills a worker at random moments; each time a new one must come.
    fn kill(&mut self, role: &str, of: u64) -> Result<()> {
        let mut venue = Venue::start(&self.settings.programs, SMALL, 2, |_| Ok(()))?;
        let (kills, mut moments) = (self.share(of), Moments(of + 7));
        for _ in 0..kills {
            venue.wait(moments.next())?;
            venue.kill(role)?;
        }
        let mut outcome = venue.judge()?;
        outcome.figures.insert(0, ("kills", kills));
        self.outcome = Some(outcome);
        Ok(())
    }
}

/// Under a stand-in for systemd, which keeps its sockets, connections and receive memory.
fn kill_ravend(lab: &mut Lab) -> Result<()> {
    let mut venue = Venue::start(&lab.settings.programs, SMALL, 2, |_| Ok(()))?;
    let (kills, mut moments) = (lab.share(OF_RAVEND), Moments(11));
    for _ in 0..kills {
        venue.wait(moments.next())?;
        venue.kill_ravend()?;
    }
    let mut outcome = venue.judge()?;
    outcome.figures.insert(0, ("kills", kills));
    lab.outcome = Some(outcome);
    Ok(())
}

/// Others take all the room, and give it back.
fn disk_full(lab: &mut Lab) -> Result<()> {
    let mut venue = Venue::start(&lab.settings.programs, SMALL, 3, super::receiver::Disk::mount)?;
    venue.wait(Duration::from_secs(2))?;
    venue.disk.fill()?;
    // Until what was allocated ahead is full as well.
    venue.wait(FAULT * 3)?;
    venue.disk.free()?;
    lab.outcome = Some(venue.judge()?);
    Ok(())
}

/// The device answers each write with an error, and the file system above gives up after the first ones. Then there is
/// a sound device with the same bytes.
fn disk_errors(lab: &mut Lab) -> Result<()> {
    let mut venue = Venue::start(&lab.settings.programs, SMALL, 2, OnFailing::mount)?;
    venue.wait(Duration::from_secs(3))?;
    venue.disk.fail()?;
    let said = venue.said_while(FAULT)?;
    venue.kill_and(OnFailing::check)?;
    let named = said.contains("input/output error") || said.contains("read-only");
    lab.outcome = Some(venue.judge()?.unless(named, "the failing disk was not named"));
    Ok(())
}

/// The file system stops taking writes under load, as ext4 does after an error; it is checked and mounted again, and
/// Raven is started anew.
fn read_only(lab: &mut Lab) -> Result<()> {
    let mut venue = Venue::start(&lab.settings.programs, SMALL, 2, Ext4::mount)?;
    venue.wait(Duration::from_secs(3))?;
    venue.disk.stop_writing()?;
    let said = venue.said_while(FAULT)?;
    venue.kill_and(Ext4::check)?;
    lab.outcome = Some(venue.judge()?.unless(said.contains("read-only"), "the read-only disk was not named"));
    Ok(())
}

impl Outcome {
    fn unless(mut self, holds: bool, flaw: &str) -> Self {
        if !holds {
            self.flaws.push(flaw.to_owned());
        }
        self
    }
}

/// Random times of less than a quarter of a second (xorshift).
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_micros(self.0 % 250_000)
    }
}
