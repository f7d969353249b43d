//! A venue and an operations centre with a wire between them: three network namespaces that go away again.

use crate::build::must;
use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::process::Command;

/// Where the appliance and the senders are.
pub const VENUE: &str = "raven-venue";
/// Where the receivers are.
pub const NOC: &str = "raven-noc";
/// Where the wire's ends are.
pub const WIRE: &str = "raven-wire";

/// The wire's ends.
pub const ENDS: [&str; 2] = ["to-venue", "to-noc"];

/// Address of the operations centre, as the venue sees it.
pub const NOC_ADDRESS: &str = "192.0.2.2";
const VENUE_ADDRESS: &str = "192.0.2.1";

/// The namespaces; removed when dropped.
pub struct Net;

impl Net {
    /// Makes them. Those of a run that was killed are removed first.
    pub fn new() -> Result<Self> {
        drop(Self);
        for name in [VENUE, NOC, WIRE] {
            ip(&["netns", "add", name])?;
        }
        let this = Self;
        for (name, address, end) in [(VENUE, VENUE_ADDRESS, ENDS[0]), (NOC, NOC_ADDRESS, ENDS[1])] {
            ip(&["link", "add", "uplink", "netns", name, "type", "veth", "peer", "name", end, "netns", WIRE])?;
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "uplink"])?;
            // Frames leave whole and with their checksums: the wire does not put right what a card would.
            must(
                inside(name, "ethtool")
                    .args(["-K", "uplink", "tx", "off", "gso", "off", "tso", "off"])
                    .stdout(std::process::Stdio::null()),
            )?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "link", "set", "uplink", "up"])?;
            ip(&["-n", WIRE, "link", "set", end, "up"])?;
        }
        Ok(this)
    }

    /// The venue's end of the cable, pulled and put in again.
    pub fn link(up: bool) -> Result<()> {
        ip(&["-n", WIRE, "link", "set", ENDS[0], if up { "up" } else { "down" }])
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [VENUE, NOC, WIRE] {
            if std::path::Path::new("/run/netns").join(name).exists() {
                let _ = ip(&["netns", "delete", name]);
            }
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    must(Command::new("ip").args(arguments))
}

/// A program in a namespace.
pub fn inside(name: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", name]).arg(program);
    command
}

/// The same with our own mounts: `ip` gives its programs a copy of them, which keeps a disk busy that is unmounted here.
pub fn beside(name: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{name}")).arg(program);
    command
}

/// The calling thread goes into a namespace and stays there.
pub fn enter(name: &str) -> Result<()> {
    let file = File::open(format!("/run/netns/{name}")).with_context(|| format!("namespace {name}"))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("namespace {name}"))
}
