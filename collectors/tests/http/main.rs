//! The collectors that are sent to by HTTP, Windows events and metrics, each as a process of its own in its jail, with a real receive memory, a store that
//! commits when it is told to, and senders over loopback.
//!
//! A harness of its own: the test program is also the role that it starts, and a role enters its jail on the only
//! thread.
#![allow(clippy::unwrap_used)]

mod client;
mod curl;
mod dialects;
mod durability;
mod hostile;
mod limits;
mod metrics;
mod store;
mod support;
mod tls;

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

/// A name that reads as a sentence, and the test.
pub type Test = (&'static str, fn());

/// Makes a list of tests.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => { pub const TESTS: &[$crate::Test] = &[$((stringify!($name), $name)),*]; };
}

/// At a time; most of them wait.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.iter().any(|argument| argument == support::ROLE) {
        support::role();
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = wanted.iter().filter(|argument| !argument.starts_with('-')).collect();
    let all =
        [durability::TESTS, dialects::TESTS, limits::TESTS, hostile::TESTS, tls::TESTS, curl::TESTS, metrics::TESTS]
            .concat();
    let fits = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    let queue = Mutex::new(all.into_iter().filter(|(name, _)| fits(name)).collect::<Vec<_>>());
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some((name, test)) = queue.lock().unwrap().pop() else { return };
            let begun = Instant::now();
            let ended = std::thread::Builder::new().name(name.to_owned()).spawn(test).unwrap().join();
            println!("test {name} ... {} ({:.1?})", if ended.is_ok() { "ok" } else { "FAILED" }, begun.elapsed());
            if ended.is_err() {
                failed.lock().unwrap().push(name);
            }
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    let failed = failed.into_inner().unwrap();
    println!("{} failed: {failed:?}", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
