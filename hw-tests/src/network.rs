//! The venue's network: a namespace with a tap that the box is plugged into, or with the interface at which a real box is. Senders and the operations centre live in it.
//! It goes with its value.

use crate::machine::named;
use anyhow::{Context, Result, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

/// In front of the process that made a namespace.
const PREFIX: &str = "raven-venue-";

/// A namespace.
#[derive(Debug)]
pub struct Network {
    name: String,
    link: String,
}

impl Network {
    /// With these addresses, each with its prefix, at the other end of the box's cable.
    ///
    /// # Errors
    /// Not root, or no `ip` (iproute2).
    pub fn of(addresses: &[&str]) -> Result<Self> {
        remove_left_over();
        let real = named("RAVEN_HW_LINK");
        let link = real.clone().unwrap_or_else(|| "tap0".to_owned());
        let network = Self { name: format!("{PREFIX}{}", std::process::id()), link };
        let Self { name, link } = &network;
        ip(&format!("netns add {name}"))?;
        ip(&match real {
            Some(_) => format!("link set {link} netns {name}"),
            None => format!("-n {name} tuntap add dev {link} mode tap"),
        })?;
        for link in ["lo", link] {
            ip(&format!("-n {name} link set {link} up"))?;
        }
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            ip(&format!("-n {name} addr add {address} dev {link}{nodad}"))?;
        }
        Ok(network)
    }

    /// The interface in it at which the box is.
    pub fn link(&self) -> &str {
        &self.link
    }

    /// A program in it, which ends with us.
    pub fn command(&self, program: &str) -> Command {
        let mut command = ends_with_us("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Does it in there.
    pub fn inside<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        let place = File::open(Path::new("/run/netns").join(&self.name)).context("the venue's namespace")?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(place.as_fd(), Some(LinkNameSpaceType::Network))?;
                work()
            });
            thread.join().map_err(|_| anyhow!("what was done in the venue's namespace panicked"))?
        })
    }

    /// Sends datagrams from one of its addresses.
    pub fn send(&self, from: &str, to: SocketAddr, datagrams: &[String]) -> Result<()> {
        let from: IpAddr = from.parse()?;
        self.inside(|| {
            let socket = UdpSocket::bind((from, 0))?;
            for datagram in datagrams {
                socket.send_to(datagram.as_bytes(), to)?;
            }
            Ok(())
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// A program that is killed when this process dies, however that comes.
pub fn ends_with_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// Namespaces of runs that were killed.
fn remove_left_over() {
    let all = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in all.filter_map(|place| place.file_name().into_string().ok()) {
        if name.strip_prefix(PREFIX).is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

fn ip(line: &str) -> Result<()> {
    let output = Command::new("ip").args(line.split(' ')).output().context("ip (package iproute2)")?;
    ensure!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
