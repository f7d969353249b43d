//! `cargo xtask test`: all that must hold before a change goes in.
//!
//! Unit and property tests run with the checks of a debug build; the end-to-end tests run against programs built
//! nearly as they ship.

mod lanes;

use crate::args::Args;
use crate::{apt, build};
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Profile of the programs that the end-to-end tests run.
const PROFILE: &str = "test-release";

/// The package whose `tests/` drive the whole appliance.
const END_TO_END: &str = "raven-supervisor";

/// End-to-end tests that load the machine, or count what may not be lost while it does: nothing else runs meanwhile.
const LOADING: &[&str] = &[
    "archive::whatever_is_killed",
    "corpus::",
    "damage::",
    "delivery::",
    "disk::",
    "flow::collectors_and_ravend",
    "inputs::",
    "kills::",
    "live_config::",
    "receive::a_graceful_stop",
    "schedules::",
    "search::",
    "tcp::",
];

struct Step {
    name: &'static str,
    took: Duration,
    result: Result<()>,
}

/// Runs every step, also after one failed, and sums up.
pub fn run(mut args: Args) -> Result<()> {
    let full = args.flag("--full");
    args.end()?;
    apt::install(apt::TESTS)?;
    apt::unpack()?;
    let mut steps = Vec::new();
    for (name, step) in steps_of(full) {
        println!("\n=== {name}");
        let started = Instant::now();
        let result = step();
        if let Err(error) = &result {
            println!("FAILED: {error:#}");
        }
        steps.push(Step { name, took: started.elapsed(), result });
    }
    sum_up(&steps)
}

type Run = Box<dyn Fn() -> Result<()>>;

fn steps_of(full: bool) -> Vec<(&'static str, Run)> {
    let mut steps: Vec<(&str, Run)> = vec![
        ("format", cargo(&["fmt", "--all", "--check"])),
        ("clippy", cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("unit, property and integration tests", Box::new(near)),
        ("examples in the docs", cargo(&["test", "--quiet", "--workspace", "--doc"])),
        ("end-to-end tests", Box::new(move || end_to_end(full))),
        ("cargo xtask up", Box::new(up)),
        ("the box in a virtual machine", Box::new(smoke)),
    ];
    if full {
        steps.push(("outage matrix", Box::new(|| matrix("outage"))));
        steps.push(("crash matrix", Box::new(|| matrix("crash"))));
    }
    if Command::new("cargo-deny").arg("--version").output().is_ok_and(|o| o.status.success()) {
        steps.insert(2, ("cargo deny", cargo(&["deny", "--offline", "check", "bans", "licenses", "sources"])));
    }
    steps
}

fn cargo(arguments: &'static [&'static str]) -> Run {
    Box::new(move || build::must(build::cargo().args(arguments)))
}

/// All but the end-to-end tests, which `cargo test` leaves out too.
fn near() -> Result<()> {
    let programs = lanes::build(&["--quiet", "--workspace", "--lib", "--bins", "--tests"])?;
    lanes::run(programs.iter().map(lanes::Program::whole).collect(), lanes::of_this_machine())
}

fn end_to_end(full: bool) -> Result<()> {
    let programs = build::programs(PROFILE)?;
    let mut jobs = Vec::new();
    for program in lanes::build(&["--quiet", "--package", END_TO_END, "--test", "e2e"])? {
        jobs.extend(program.single()?.into_iter().map(|job| job.env("RAVEN_BIN_DIR", &programs)));
    }
    if full {
        jobs = jobs.into_iter().map(lanes::Job::in_full).collect();
    }
    let (alone, beside): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.is_any(LOADING));
    let result = lanes::run(beside, lanes::of_this_machine());
    lanes::run(alone, 1).and(result)
}

/// Many minutes, so only among the long counts.
fn matrix(kind: &str) -> Result<()> {
    let programs = build::programs(PROFILE)?;
    build::must(Command::new(std::env::current_exe()?).args(["matrix", kind, "--bin-dir"]).arg(programs))
}

/// The image, of the programs that the end-to-end tests run: started from a CD by UEFI; by BIOS installed, set up, and
/// sent to over a cable. The rest is `cargo xtask hw-test --all`.
fn smoke() -> Result<()> {
    if !nix::unistd::geteuid().is_root() || std::env::consts::ARCH != "x86_64" {
        println!("not run: an image is built by root, on x86-64");
        return Ok(());
    }
    let xtask = std::env::current_exe()?;
    build::must(Command::new(&xtask).args(["image", "--profile", PROFILE]))?;
    build::must(Command::new(&xtask).args(["hw-test", "iso-uefi-cd"]))?;
    if !Path::new("/dev/net/tun").exists() {
        println!("not run: there is no /dev/net/tun for the box's cable");
        return Ok(());
    }
    build::must(Command::new(&xtask).args(["hw-test", "venue"]))
}

/// The first command of the README: a message that comes in by UDP is acknowledged by the demonstration NOC.
fn up() -> Result<()> {
    let programs = build::programs(PROFILE)?;
    let data = tempfile::tempdir()?;
    let log = data.path().join("noc/received.log");
    let mut up = Command::new(std::env::current_exe()?);
    up.arg("up").arg("--bin-dir").arg(programs).arg("--data").arg(data.path()).args(["--for", "10"]);
    let mut child = up.spawn()?;
    let arrived = keep_sending(&log);
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo xtask up: {status}");
    }
    if !arrived {
        bail!("no message reached {}", log.display());
    }
    Ok(())
}

/// Sends `hello` until it is in `log`, for 30 s at most; before the listener is bound it goes nowhere.
fn keep_sending(log: &Path) -> bool {
    let patience = Instant::now() + Duration::from_secs(30);
    while Instant::now() < patience {
        drop(
            std::net::UdpSocket::bind("127.0.0.1:0")
                .and_then(|s| s.send_to(b"<13>hello from the test", "127.0.0.1:1514")),
        );
        std::thread::sleep(Duration::from_millis(250));
        if std::fs::read_to_string(log).is_ok_and(|text| text.contains("hello from the test")) {
            return true;
        }
    }
    false
}

fn sum_up(steps: &[Step]) -> Result<()> {
    println!("\n=== summary");
    for step in steps {
        let verdict = if step.result.is_ok() { "ok" } else { "FAILED" };
        println!("{verdict:<7} {:>6.1} s  {}", step.took.as_secs_f64(), step.name);
    }
    let failed: Vec<&str> = steps.iter().filter(|s| s.result.is_err()).map(|s| s.name).collect();
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}
