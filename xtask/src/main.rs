//! `cargo xtask up · test · bench · matrix · soak · image · hw-test`: run, test and measure Raven from its source tree.
//!
//! * [`up`] builds the appliance and runs it without root beside [`noc`], a demonstration operations centre.
//! * [`test`] is what the continuous build calls: lints, unit, property and end-to-end tests.
//! * [`bench`] runs Raven and a reference in the same run and prints ratios.
//! * [`matrix`] breaks the way to the operations centre, or the appliance itself, in every way, and counts what arrives.
//! * [`soak`] goes through simulated fortnights, each from a seed, and holds what the box says against a count beside it.
//! * [`image`] builds what is flashed or burnt; [`hw_test`] starts it in a virtual machine.
//!
//! Nothing here ships with the product; it starts programs and talks to them only by their documented interfaces.

mod appliance;
mod apt;
mod args;
mod bench;
mod build;
mod hw_test;
mod image;
mod interrupt;
mod matrix;
mod noc;
mod soak;
mod test;
mod up;

use args::Args;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  up [--for SECONDS] [--data DIR] [--bin-dir DIR]
        build and run Raven with a demonstration NOC; state in ./raven-data
  test [--full]
        install what the tests need (as root), then lints and all tests;
        --full with the long counts and both matrices
  bench [NAME] [--json] [--quick] [--bin-dir DIR]
        measure against rsyslog, nfdump, net-snmp and the bare machine; NAME is one of
        udp-cpu udp-rate udp-soak tcp-cpu disk catchup idle sink
        flow-cpu flow-rate flow-soak sflow-cpu trap-cpu winevent all-four decode
        search append turnover open;
        --quick: 20 s instead of 60 s for udp-soak, flow-soak and all-four
  matrix outage [--case NAME] [--json] [--bin-dir DIR]
        what can go wrong between venue and operations centre, in network
        namespaces, under load; as root; fails when a record is missing
  matrix crash [--case NAME] [--json] [--rounds N] [--bin-dir DIR]
        processes killed, power cut, disks that fail, bytes that change, under
        load; as root; N kills in all and N flipped bits (1000)
  soak --seed N --hours H [--json]
        fourteen simulated days of store and uplink for each seed from N on, for
        H hours (0.1: six minutes); fails at the first seed whose account does
        not add up, and names it
  image [--config FILE] [--fresh] [--twice] [--profile NAME | --bin-dir DIR] [--key FILE] [--new-key FILE]
        build disk image, installation medium and update bundle into target/image, as root;
        --fresh: with the newest Debian packages; --twice: once more from
        nothing, which must make the same bytes; --profile: of our programs
        (release); --bin-dir: where they are built already, raven-init too;
        --config: a site's configuration for boxes that have none (docs/venue.toml)
  hw-test NAME... | --all [--json] [--key FILE]
        start the built image in QEMU and work at its serial line and screen;
        --key: the one that image was given;
        logs and pictures in target/hw-test
";

fn main() -> ExitCode {
    let mut args = Args::from_env();
    let done = match args.command().as_deref() {
        Some("up") => up::run(args),
        Some("test") => test::run(args),
        Some("bench") => bench::run(args),
        Some("matrix") => matrix::run(args),
        Some("soak") => soak::run(args),
        Some("image") => image::run(args),
        Some("hw-test") => hw_test::run(args),
        Some("count") => bench::sink::count(args),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(anyhow::anyhow!(
            "{}\n\n{USAGE}",
            other.map_or("no command".to_owned(), |o| format!("`{o}` is not a command"))
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
