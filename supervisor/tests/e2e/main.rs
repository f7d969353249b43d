//! The whole appliance, driven from outside: real programs, real sockets, real kills.
//!
//! `cargo xtask test` builds the programs and runs each of these in a process of its own, those that load the machine one
//! at a time; `RAVEN_BIN_DIR` names the folder of the programs, `RAVEN_FULL=1` asks for the long counts. Start with [`appliance`], then read any test.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod accept;
mod alerts;
mod appliance;
mod archive;
mod console;
mod corpus;
mod damage;
mod delivery;
mod destinations;
mod diag;
mod disk;
mod disk_health;
mod fd_store;
mod flow;
mod history;
mod inputs;
mod jail;
mod kills;
mod live_config;
mod logins;
mod machine;
mod marks;
mod metrics;
mod neighbours;
#[path = "../../../hw-tests/src/pki.rs"]
mod pki;
#[path = "../../../console/tests/common/pty.rs"]
#[allow(dead_code)] // the console's tests use the rest
mod pty;
mod receive;
mod rsyslog;
#[path = "../../../hw-tests/src/scan.rs"]
mod scan;
mod schedules;
mod search;
mod seen;
mod sender;
mod stick;
mod support;
mod systemd;
mod tcp;
mod trap;
mod update;
mod venue;
mod vpn;
mod vpn_faults;
mod vpn_inputs;
mod vpn_kinds;
mod vpn_outages;
mod vpn_secrets;
mod vpn_wireguard;
#[path = "../../../hw-tests/src/wg.rs"]
mod wg;
mod why;
mod wire;
mod wireguard;

use std::time::{Duration, Instant};

/// Whether the long counts are asked for.
fn full() -> bool {
    std::env::var_os("RAVEN_FULL").is_some()
}

/// A count: as asked in full, or fewer to finish soon.
fn count(full_count: u32, reduced: u32) -> u32 {
    if full() { full_count } else { reduced }
}

/// Waits until `done`; after a minute the test has failed.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_mins(1);
    while !done() {
        assert!(Instant::now() < patience, "never: {what}");
        pause(50);
    }
}

/// Milliseconds of rest.
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// For tests of what only root can see or do.
macro_rules! root_only {
    () => {
        if !crate::is_root() {
            eprintln!("not run: needs root");
            return;
        }
    };
}
use root_only;
