//! The collector of SNMP notifications: traps and informs of versions 1, 2c and 3.
//!
//! The one collector that looks inside what arrives, and answers: what is let in and what is not (`desk.rs`), how much
//! of it from one sender (`gate.rs`, `sources.rs`), informs that are acknowledged once their record is on disk
//! (`informs.rs`), our own engine and the clocks of others, which outlive the process (`own.rs`, `clocks.rs`), and what
//! an operator is told (`inbox.rs`, `remedy.rs`, `roster.rs`). What SNMP is, is in `raven_decode::snmp`.
//!
//! - Everything is kept as it came, refused or not, but for what is above the storm limit and questions for our engine
//!   id; both are counted.
//! - Nobody is answered who is not allowed to send, and nobody is told how often we were started before that number is
//!   on disk.

mod clocks;
mod desk;
mod gate;
mod inbox;
mod informs;
mod moment;
mod own;
mod remedy;
mod roster;
mod sources;
#[cfg(test)]
mod tests;

use crate::receiver::{Kind, Sockets};
use desk::Desk;
use raven_jail::memory::content_of;
use raven_jail::receive::{CollectorMemory, Framing, Inspect};
use raven_jail::socket;
use raven_model::config::{CollectTrap, Config};
use raven_model::control::{Listener, ListenerId, Start};
use raven_model::report::CollectorReport;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use zeroize::Zeroizing;

/// The key of the configuration that names the users' file.
const USERS: &str = "collect.trap.users";

/// What is particular to notifications.
pub struct Trap {
    desk: Desk,
}

impl Trap {
    /// As configured. Users come later, as a secret.
    pub fn new(start: &Start) -> Self {
        let standard = CollectTrap::default();
        Self { desk: Desk::new(start.config.as_ref().map_or(&standard, |config| &config.collect.trap)) }
    }
}

impl Kind for Trap {
    fn parts(&mut self) -> (&dyn Framing, &mut dyn Inspect) {
        (&Datagrams, &mut self.desk)
    }

    fn configure(&mut self, config: &Config) {
        self.desk.configure(&config.collect.trap);
    }

    fn answer(&mut self, sockets: &Sockets<'_>, memory: &mut CollectorMemory) -> bool {
        let send = |listener, bytes: &[u8], peer| match sockets.get(listener) {
            Some(socket) => socket::send_to(socket, bytes, peer).is_ok(),
            None => false,
        };
        self.desk.answer(memory, &send)
    }

    fn report(
        &mut self,
        report: &mut CollectorReport,
        memory: &CollectorMemory,
        listeners: &BTreeMap<ListenerId, Listener>,
    ) {
        self.desk.report(report, memory, listeners);
    }

    fn secrets(&mut self, mut secrets: BTreeMap<String, OwnedFd>) {
        if let Some(fd) = secrets.remove(USERS) {
            match text(fd) {
                Ok(text) => self.desk.read_users(&text),
                Err(error) => self.desk.complain(&format!("{USERS}: {error}")),
            }
        }
    }
}

/// The file of users.
fn text(fd: OwnedFd) -> io::Result<Zeroizing<String>> {
    let text = String::from_utf8(content_of(fd)?).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        io::Error::new(io::ErrorKind::InvalidData, "not UTF-8")
    })?;
    Ok(Zeroizing::new(text))
}

/// There are no streams of notifications.
struct Datagrams;

impl Framing for Datagrams {
    fn take(&self, _: &mut u64, bytes: &[u8], _: bool, _: &mut dyn FnMut(&[u8], bool) -> bool) -> usize {
        bytes.len()
    }
}
