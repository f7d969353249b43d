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
use raven_jail::receive::{CollectorMemory, Framing, Inspect};
use raven_jail::socket;
use raven_model::config::{CollectTrap, Config};
use raven_model::control::{Listener, ListenerId, Start};
use raven_model::report::CollectorReport;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use zeroize::Zeroizing;

/// The key of the configuration that names the users' file.
const USERS: &str = "collect.trap.users";
/// Bytes of that file at most.
const USERS_MAX: usize = 1 << 20;

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
            match content(fd) {
                Ok(text) => self.desk.read_users(&text),
                Err(error) => self.desk.complain(&format!("{USERS}: {error}")),
            }
        }
    }
}

/// All of a memfd. By position: its offset is shared with those who got it before.
fn content(fd: OwnedFd) -> io::Result<Zeroizing<String>> {
    let file = File::from(fd);
    let (mut text, mut len) = (Zeroizing::new(vec![0; USERS_MAX + 1]), 0);
    while len < text.len() {
        match file.read_at(&mut text[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    if len > USERS_MAX {
        return Err(invalid("more than 1 MiB"));
    }
    let text = std::str::from_utf8(&text[..len]).map_err(|_| invalid("not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// There are no streams of notifications.
struct Datagrams;

impl Framing for Datagrams {
    fn take(&self, _: &mut u64, bytes: &[u8], _: bool, _: &mut dyn FnMut(&[u8], bool) -> bool) -> usize {
        bytes.len()
    }
}
