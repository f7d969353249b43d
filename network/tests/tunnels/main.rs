//! The role `net` in its jail, with a network namespace of its own, does what it is ordered over a real pair of sockets:
//! held against what `ip` shows, and against packets.
//!
//! The program is its own worker, as in the escape test of `raven-jail`: `raven-worker net` is a copy of it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod cases;
mod hostile;
mod place;

use raven_jail::channel::Channel;
use raven_jail::sandbox;
use raven_jail::spawn::CONTROL_FD;
use raven_model::control::{PACKET_MAX, Start, ToWorker};
use raven_model::table::table;
use raven_network::Net;
use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

/// A check and its name.
type Check = (&'static str, fn());

const CHECKS: [Check; 9] = [
    ("orders make what they say, once", cases::orders_make_what_they_say),
    ("nothing leaks while the tunnel is down, and all arrives while it is up", cases::nothing_leaks),
    ("what is somebody else's is not touched", cases::what_is_foreign_stays),
    ("a restart of the role is not felt", cases::a_restart_is_not_felt),
    ("the venue may change at any time", cases::the_venue_changes),
    ("what was taken away comes back", cases::what_was_taken_away_comes_back),
    ("one tunnel takes over from another", cases::one_takes_over_from_another),
    ("without the capability it says so and watches on", cases::without_the_capability),
    ("hostile orders harm nobody", hostile::orders_harm_nobody),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["raven-worker", "net"] => worker(),
        [_, "--list", ..] | [] => {}
        [_, ref filters @ ..] => return run(filters),
    }
    ExitCode::SUCCESS
}

/// As `raven-worker net` does.
fn worker() {
    let channel = Channel::inherited(CONTROL_FD).unwrap();
    let Some((ToWorker::Start(start), fds)) = channel.recv_json(&mut vec![0; PACKET_MAX]).unwrap() else {
        panic!("the first message is a start");
    };
    let start: Start = *start;
    let net = Net::new(&start, fds, channel).unwrap();
    let missing = sandbox::enter(table().spec(start.role), &table().base, &start.data).unwrap();
    net.ready(missing).unwrap().run().unwrap();
}

fn run(filters: &[&str]) -> ExitCode {
    if !place::is_possible() {
        println!("not run: needs root, network namespaces, /dev/net/tun, ip and python3");
        return ExitCode::SUCCESS;
    }
    let words: Vec<_> = filters.iter().filter(|filter| !filter.starts_with('-')).collect();
    let mut failed = 0;
    for (name, check) in CHECKS.iter().filter(|(name, _)| words.is_empty() || words.iter().any(|w| name.contains(**w)))
    {
        let ok = panic::catch_unwind(AssertUnwindSafe(check)).is_ok();
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        failed += u32::from(!ok);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
