//! Names of addresses (PTR, RFC 1035, 3.5), asked for while something else goes on: questions leave when they are due, nobody is
//! waited for, and after [`TIME`] there is no name. [`Names`] owns no socket and no clock; [`Resolver`] owns sockets.

use crate::dns::message::{answers, head, query, question_name};
use crate::dns::servers;
use crate::probe::{Heard, Kind, Probe, What};
use raven_model::diag::services::RecordType;
use raven_model::diag::{Family, Way};
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// A name that is not there by then is none.
pub const TIME: Duration = Duration::from_secs(1);
/// Then the next server is asked, or the only one once more.
const NEXT: Duration = Duration::from_millis(300);
/// Questions about one address, to all servers.
const TRIES: u32 = 3;
/// Addresses that are asked for.
const ADDRESSES: usize = 512;
/// Characters of a name that are kept (RFC 1035, 2.3.4).
const NAME_MAX: usize = 253;
/// This box's own servers.
const CONF: &str = "/etc/resolv.conf";
const CONF_MAX: u64 = 64 * 1024;

/// What is known, and what was asked.
#[derive(Debug)]
pub struct Names {
    found: BTreeMap<IpAddr, Option<String>>,
    open: Vec<Open>,
    servers: usize,
    random: RandomState,
}

#[derive(Debug)]
struct Open {
    address: IpAddr,
    question: String,
    id: u16,
    began: Instant,
    asked: u32,
    /// Of those, how many got nowhere.
    lost: u32,
}

impl Open {
    fn due(&self) -> Instant {
        self.began + if self.asked < TRIES { NEXT * (self.asked - self.lost) } else { TIME }
    }
}

impl Names {
    /// Of so many servers; of none, nothing has a name.
    pub fn new(servers: usize) -> Self {
        Self { found: BTreeMap::new(), open: Vec::new(), servers, random: RandomState::new() }
    }

    /// A name is wanted.
    pub fn want(&mut self, address: IpAddr, now: Instant) {
        if self.servers == 0 || self.found.len() >= ADDRESSES || self.found.contains_key(&address) {
            return;
        }
        let Ok(question) = question_name(&address.to_string(), RecordType::Ptr) else { return };
        self.found.insert(address, None);
        let id = self.random.hash_one(address) as u16;
        self.open.push(Open { address, question, id, began: now, asked: 0, lost: 0 });
    }

    /// The next question that is due, and the server's place. Ends those whose time is over.
    pub fn ask(&mut self, now: Instant) -> Option<(usize, Vec<u8>)> {
        self.open.retain(|open| open.began + TIME > now);
        let open = self.open.iter_mut().find(|open| open.asked < TRIES && open.due() <= now)?;
        let server = open.asked as usize % self.servers;
        open.asked += 1;
        Some((server, query(open.id, &open.question, RecordType::Ptr)))
    }

    /// When something is due; nothing when all is known that can be.
    pub fn due(&self) -> Option<Instant> {
        self.open.iter().map(Open::due).min()
    }

    /// A question got nowhere: the next server is asked at once, and where none can be, there is no name.
    pub fn lost(&mut self, question: &[u8]) {
        let Some(id) = question.first_chunk::<2>().map(|id| u16::from_be_bytes(*id)) else { return };
        if let Some(place) = self.open.iter().position(|open| open.id == id && open.lost < open.asked) {
            self.open[place].lost += 1;
            if self.open[place].lost >= TRIES {
                self.open.swap_remove(place);
            }
        }
    }

    /// A server said this.
    pub fn heard(&mut self, bytes: &[u8]) {
        let Ok((header, Some(question), begin)) = head(bytes) else { return };
        let is_it = |open: &Open| open.id == header.id && question.is(&open.question, RecordType::Ptr);
        let Some(place) = self.open.iter().position(is_it).filter(|_| header.is_answer()) else { return };
        let name = match (header.rcode(), answers(bytes, header, begin)) {
            (0, Ok((records, _))) => {
                let pointer = records.into_iter().find(|record| record.record == "PTR");
                pointer.map(|record| record.data.chars().take(NAME_MAX).collect())
            }
            (3, _) => None,
            // Another server may know more.
            _ => return,
        };
        let open = self.open.swap_remove(place);
        self.found.insert(open.address, name);
    }

    /// An address's name, where it has one.
    pub fn of(&self, address: IpAddr) -> Option<&str> {
        self.found.get(&address)?.as_deref()
    }
}

/// Sockets to this box's servers; questions leave as routes say.
#[derive(Debug)]
pub struct Resolver {
    probes: Vec<Probe>,
    names: Names,
}

impl Resolver {
    /// This box's servers; where there are none, or none is wanted, nothing has a name.
    pub fn new(is_wanted: bool) -> Self {
        let servers = if is_wanted { own_servers() } else { Vec::new() };
        Self::of(&servers)
    }

    /// These, with their ports where they have some.
    pub fn of(servers: &[String]) -> Self {
        let probes: Vec<Probe> = servers.iter().filter_map(|server| open(server)).collect();
        Self { names: Names::new(probes.len()), probes }
    }

    /// See [`Names::want`].
    pub fn want(&mut self, address: IpAddr) {
        self.names.want(address, Instant::now());
    }

    /// Sends what is due and reads what came.
    pub fn turn(&mut self) {
        for probe in &mut self.probes {
            while let Ok(Some(Heard { what, payload, .. })) = probe.hear() {
                match what {
                    What::Reply => self.names.heard(payload),
                    What::Icmp { .. } | What::Local { .. } => self.names.lost(payload),
                }
            }
        }
        while let Some((server, question)) = self.names.ask(Instant::now()) {
            if self.probes[server].send(None, 0, &question).is_err() {
                self.names.lost(&question);
            }
        }
    }

    /// When it must be turned, unless something comes first; nothing: never.
    pub fn due(&self) -> Option<Instant> {
        self.names.due()
    }

    /// Where something may come.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.probes.iter().map(|probe| probe.as_fd())
    }

    /// See [`Names::of`].
    pub fn name(&self, address: IpAddr) -> Option<String> {
        self.names.of(address).map(str::to_owned)
    }
}

fn own_servers() -> Vec<String> {
    let mut conf = String::new();
    let read = File::open(CONF).and_then(|file| file.take(CONF_MAX).read_to_string(&mut conf));
    if read.is_ok() { servers(&conf) } else { Vec::new() }
}

/// Connected, so that nobody else's answer is read.
fn open(server: &str) -> Option<Probe> {
    let (host, port) = crate::targets::host_and_port(server).ok()?;
    let mut to = crate::targets::resolve(host, &Way::default()).ok()?;
    to.set_port(port.unwrap_or(53));
    let probe = Probe::open(Kind::Udp, Family::of(to.ip()), &Way::default()).ok()?;
    probe.connect(to).ok().map(|()| probe)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);
    const HOP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    /// An answer to a question: a PTR of one label, or nothing with this code.
    fn answered(question: &[u8], label: Result<&str, u8>) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2..4].copy_from_slice(&[0x81, 0x80 | label.err().unwrap_or(0)]);
        if let Ok(label) = label {
            bytes[7] = 1;
            bytes.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 0, 60, 0, label.len() as u8 + 2, label.len() as u8]);
            bytes.extend(label.bytes());
            bytes.push(0);
        }
        bytes
    }

    #[test]
    fn each_server_is_asked_in_turn_and_after_a_second_there_is_no_name() {
        let now = Instant::now();
        let mut names = Names::new(2);
        names.want(HOP, now);
        names.want(HOP, now);
        let asked = |names: &mut Names, ms: u32| names.ask(now + MS * ms).map(|(server, _)| server);
        assert_eq!(
            [0, 0, 299, 300, 600, 900].map(|ms| asked(&mut names, ms)),
            [Some(0), None, None, Some(1), Some(0), None]
        );
        assert_eq!(names.due(), Some(now + TIME));
        assert_eq!((asked(&mut names, 1000), names.due(), names.of(HOP)), (None, None, None));
        let mut none = Names::new(0);
        none.want(HOP, now);
        assert_eq!((none.due(), none.ask(now)), (None, None));
    }

    #[test]
    fn where_no_server_can_be_asked_nobody_waits() {
        let now = Instant::now();
        let mut names = Names::new(2);
        names.want(HOP, now);
        let (_, question) = names.ask(now).unwrap();
        // Told twice, it is lost once.
        names.lost(&question);
        names.lost(&question);
        assert_eq!(names.ask(now).map(|(server, _)| server), Some(1));
        names.lost(&question);
        assert_eq!(names.ask(now).map(|(server, _)| server), Some(0));
        names.lost(&[]);
        assert!(names.due().is_some());
        names.lost(&question);
        assert_eq!((names.due(), names.ask(now), names.of(HOP)), (None, None, None));
    }

    #[test]
    fn only_the_answer_to_the_question_names_anybody() {
        let now = Instant::now();
        let mut names = Names::new(1);
        names.want(HOP, now);
        let (_, question) = names.ask(now).unwrap();
        let mut other = question.clone();
        other[0] ^= 1;
        let stranger = query(u16::from_be_bytes([question[0], question[1]]), "2.0.0.10.in-addr.arpa", RecordType::Ptr);
        for lie in [
            answered(&other, Ok("evil")),
            answered(&stranger, Ok("evil")),
            answered(&question, Err(2)),
            question.clone(),
        ] {
            names.heard(&lie);
            assert!(names.of(HOP).is_none() && names.due().is_some());
        }
        names.heard(&answered(&question, Ok("core1\x1b[2J")));
        assert_eq!((names.of(HOP), names.due()), (Some("core1\\027[2J"), None));
        // Nothing is asked twice, and what is known stays.
        names.heard(&answered(&question, Ok("evil")));
        names.want(HOP, now);
        assert_eq!((names.ask(now), names.of(HOP)), (None, Some("core1\\027[2J")));
        let other = IpAddr::from([0_u16; 8]);
        names.want(other, now);
        let (_, question) = names.ask(now).unwrap();
        names.heard(&answered(&question, Err(3)));
        assert_eq!((names.of(other), names.due()), (None, None));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_name_of_bounded_length_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..300), keep in 0_usize..60) {
            let now = Instant::now();
            let mut names = Names::new(1);
            names.want(HOP, now);
            let (_, question) = names.ask(now).unwrap();
            let mut message = answered(&question, Ok("a"));
            message.truncate(keep);
            message.extend(&bytes);
            names.heard(&message);
            prop_assert!(names.of(HOP).is_none_or(|name| name.len() <= NAME_MAX && name.is_ascii()));
        }
    }
}
