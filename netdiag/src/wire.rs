//! What is on an interface: the role `wire`.
//!
//! `ravend` makes a packet socket when an operator asks ([`raven_jail::packet`] says what each can), and passes it here with the operator's
//! connection. Both are closed together: none outlives its operator, its time, or this process. Frames are read by [`decode`] and
//! counted in a [`table`] ([`view`]), written to a file ([`capture`], [`pcap`]), or are answers to what was asked of a LAN ([`lan`], with
//! [`arp`], [`nd`] and [`dhcp`]).
//!
//! What it never does:
//! * hold a capability, a file or a way to make a socket: frames meet a process with nothing but the socket that they came by;
//! * do with a socket what it was not made for: the order must be of the kind that `ravend` was asked for;
//! * run without an end, or more than [`VIEWS`] at a time.

pub mod arp;
pub mod capture;
pub mod decode;
pub mod dhcp;
pub mod lan;
pub mod nd;
pub mod pcap;
pub mod table;
pub mod view;

use crate::failure::Failure;
use crate::on_demand::{OnDemand, Work};
use crate::session::Session;
use decode::Framing;
use raven_jail::channel::{Channel, ChannelError};
use raven_model::control::ToWorker;
use raven_model::diag::wire::{Link, Meant, Order, PORTS, Purpose};
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Views, captures and checks at a time.
pub const VIEWS: usize = 8;
/// The role ends when nobody has asked for anything for so long.
const IDLE: Duration = Duration::from_secs(5);

/// A packet socket, and where it listens.
#[derive(Debug)]
pub struct Tapped {
    /// The socket.
    pub socket: OwnedFd,
    /// For what it was made.
    pub purpose: Purpose,
    /// Where.
    pub link: Link,
}

impl Tapped {
    /// What its frames begin with.
    fn framing(&self) -> Result<Framing, Failure> {
        let Link { name, kind, .. } = &self.link;
        Framing::of(&self.link).ok_or_else(|| {
            Failure::Refused(format!(
                "{name} is neither Ethernet nor a tunnel (kind {kind}): its frames cannot be read"
            ))
        })
    }
}

/// The role, inside the jail: serves operators until nobody wants anything any more.
pub fn run(channel: Channel) -> Result<(), ChannelError> {
    OnDemand::new(channel, VIEWS, IDLE).run(|message, fds| match (message, <[OwnedFd; 2]>::try_from(fds)) {
        (ToWorker::Tapped { purpose, link }, Ok([client, socket])) => {
            let tapped = Tapped { socket, purpose, link };
            let work: Work = Box::new(move |session, is_full| serve(session, tapped, is_full));
            vec![(client, work)]
        }
        // Configuration, secrets: nothing to this role.
        _ => Vec::new(),
    })
}

/// One operator, one socket.
fn serve(mut session: Session, tapped: Tapped, is_full: bool) {
    let Ok(order) = session.order() else { return };
    let outcome = match serde_json::from_slice::<Order>(&order) {
        _ if is_full => Err(Failure::Refused(format!("{VIEWS} look at interfaces already: wait for one of them"))),
        Err(error) => Err(Failure::Refused(format!("not an order that this raven knows: {error}"))),
        Ok(order) => follow(&order, &tapped, &mut session),
    };
    // Nothing is heard any more when the operator has the answer.
    drop(tapped);
    // Who is gone is told nothing.
    let _ = match outcome {
        Ok(()) => session.done(),
        Err(Failure::Gone) => Ok(()),
        Err(failure) => session.refuse(failure.to_string()),
    };
}

/// Does what was ordered with a socket that was made for it.
pub fn follow(order: &Order, tapped: &Tapped, session: &mut Session) -> Result<(), Failure> {
    match (order, tapped.purpose) {
        (Order::View(order), Purpose::View) => view::run(order, tapped, session),
        (Order::Capture(order), Purpose::Capture) => capture::run(order, tapped, session),
        (Order::Lan(order), Purpose::Lan) => lan::run::run(order, tapped, session),
        _ => Err(Failure::Refused("this socket was asked for to do something else".to_owned())),
    }
}

fn check(meant: &Meant) -> Result<(), Failure> {
    crate::failure::within("ports", meant.ports.len() as u64, 0, PORTS as u64)
}

/// Nothing more can be heard at an interface.
fn unheard(tapped: &Tapped, error: &std::io::Error) -> Failure {
    Failure::Refused(format!("{} cannot be listened at any more: {error}", tapped.link.name))
}

/// The wall clock, nanoseconds since 1970: as the kernel stamps frames.
fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
