//! What every generator is told: where to, how fast, how much, how many senders.

use super::marks;
use super::pace::Pace;
use crate::failure::Failure;
use clap::Args;
use raven_model::units::Span;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// Flags of every generator.
#[derive(Debug, Clone, Args)]
pub struct CommonArgs {
    /// Where to send
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:1514")]
    pub to: String,
    /// Records per second of all senders together; 0 = as fast as possible
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub rate: u64,
    /// Records to send
    #[arg(long, value_name = "N", required_unless_present = "duration")]
    pub count: Option<u64>,
    /// How long to send, such as `60s`
    #[arg(long, value_name = "TIME")]
    pub duration: Option<Span>,
    /// Sockets, each with a count of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub senders: u32,
    /// Every sender from a loopback address of its own: 127.1.0.1, 127.1.0.2, …
    #[arg(long)]
    pub own_addresses: bool,
    /// Name of this run, in every mark: letters, digits, `-`, `_`, `.` [default: the time]
    #[arg(long, value_name = "ID", value_parser = marks::read_run)]
    pub mark: Option<String>,
    /// Rise from nothing to the rate in this time
    #[arg(long, value_name = "TIME")]
    pub ramp: Option<Span>,
    /// Send to a machine that is not this one. It is a flood: be sure that it is yours
    #[arg(long)]
    pub i_mean_it: bool,
}

/// [`CommonArgs`], checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the run.
    pub run: String,
    /// Target.
    pub to: SocketAddr,
    /// Transport, for the summary and errors.
    pub proto: &'static str,
    /// Number of senders.
    pub senders: u32,
    /// When what is due.
    pub pace: Pace,
    own_addresses: bool,
}

impl CommonArgs {
    /// Checks them. A load generator is a weapon: away from this machine it wants to be told twice.
    pub fn plan(&self, proto: &'static str) -> Result<Plan, Failure> {
        if !(1..=1000).contains(&self.senders) {
            return Err(Failure::Usage(format!("--senders {}: expected 1 to 1000", self.senders)));
        }
        let failed = |source| Failure::Send { to: self.to.clone(), proto, source };
        let to = self.to.to_socket_addrs().map_err(failed)?.next();
        let to = to.ok_or_else(|| Failure::Usage(format!("{} has no address", self.to)))?;
        if !to.ip().is_loopback() && !self.i_mean_it {
            return Err(Failure::Usage(format!("{to} is not this machine; if you may flood it, say --i-mean-it")));
        }
        if self.own_addresses && !(to.ip().is_loopback() && to.is_ipv4()) {
            return Err(Failure::Usage("--own-addresses needs an IPv4 loopback target".to_owned()));
        }
        let run = self.mark.clone().unwrap_or_else(|| format!("{:x}", crate::time::now().0));
        Ok(Plan { run, to, proto, senders: self.senders, pace: self.pace(), own_addresses: self.own_addresses })
    }

    fn pace(&self) -> Pace {
        Pace {
            rate: self.rate,
            ramp: self.ramp.map_or(Duration::ZERO, |ramp| ramp.0),
            count: self.count,
            duration: self.duration.map(|span| span.0),
        }
    }
}

impl Plan {
    /// Where a sender sends from, port 0.
    pub fn from(&self, sender: u32) -> SocketAddr {
        match (self.own_addresses, self.to.is_ipv4()) {
            (true, _) => own_address(sender),
            (false, true) => SocketAddr::from(([0, 0, 0, 0], 0)),
            (false, false) => SocketAddr::from(([0_u16; 8], 0)),
        }
    }

    /// A TCP connection of a sender.
    pub fn connect(&self, sender: u32) -> io::Result<TcpStream> {
        let stream =
            if self.own_addresses { connect_from(self.from(sender), self.to)? } else { TcpStream::connect(self.to)? };
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// That sending failed.
    pub fn failed(&self, source: io::Error) -> Failure {
        Failure::Send { to: self.to.to_string(), proto: self.proto, source }
    }
}

/// 127.1.x.y of this sender.
fn own_address(sender: u32) -> SocketAddr {
    let n = sender + 1;
    SocketAddr::from((Ipv4Addr::new(127, 1, (n / 250) as u8, (n % 250 + 1) as u8), 0))
}

fn connect_from(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&fd, &from)?;
    connect(&fd, &to)?;
    Ok(TcpStream::from(fd))
}
