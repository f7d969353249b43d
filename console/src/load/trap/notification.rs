//! Notifications of one sender, laid out once for each port: only numbers of fixed width are filled in.

use super::ber::{INTEGER, OCTETS, OID, SEQUENCE, TIME_TICKS, TRAP, all, number, oid, tlv};
use super::usm::User;
use crate::load::bytes::fixed_decimal;
use std::time::Instant;

/// Ports of the switch.
const PORTS: u32 = 48;
/// Index of the port before the first: two bytes wherever it stands, as number and in an object identifier.
const PORTS_FROM: u32 = 10_000;
/// Digits of the number in a mark.
const MARK_DIGITS: usize = 12;

// What is found in a template and filled in. Four bytes whatever their value: BER wants numbers as short as can be.
const REQUEST: u32 = 0x7f52_4551;
const UPTIME: u32 = 0x7f55_5054;
/// Bits of a request's number that count.
const REQUEST_MASK: u64 = 0x3fff_ffff;
const REQUEST_BASE: u32 = 0x4000_0000;
/// Hundredths of a second: a switch that has been up for a month.
const UPTIME_BASE: u32 = 0x1000_0000;

const SYS_UPTIME: &[u32] = &[1, 3, 6, 1, 2, 1, 1, 3, 0];
const TRAP_OID: &[u32] = &[1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];
const LINK: &[u32] = &[1, 3, 6, 1, 6, 3, 1, 1, 5];
const IF_ENTRY: &[u32] = &[1, 3, 6, 1, 2, 1, 2, 2, 1];
/// Where the mark is: below the enterprise number for documentation (RFC 5612).
pub const MARK_OID: &[u32] = &[1, 3, 6, 1, 4, 1, 32_473, 1, 1, 0];

/// Templates, and where their blanks are.
pub struct Notifications {
    templates: Vec<Template>,
    started: Instant,
    user: Option<User>,
}

struct Template {
    bytes: Vec<u8>,
    /// Nowhere where there are varbinds alone.
    request: Option<usize>,
    uptime: usize,
    mark: usize,
}

impl Notifications {
    /// Version 2c.
    pub fn v2c(run: &str, sender: u32, community: &str) -> Self {
        let message =
            |binds: Vec<u8>| all(SEQUENCE, &[number(INTEGER, 1), tlv(OCTETS, community.as_bytes()), pdu(binds)]);
        Self::new(run, sender, None, message)
    }

    /// Version 3: the sender's engine is the one that counts.
    pub fn v3(run: &str, sender: u32, user: User) -> Self {
        let engine = user.engine().to_vec();
        let scoped = |binds: Vec<u8>| all(SEQUENCE, &[tlv(OCTETS, &engine), tlv(OCTETS, b""), pdu(binds)]);
        Self::new(run, sender, Some(user), scoped)
    }

    /// Their varbinds alone, without the header of the list.
    pub fn varbinds(run: &str, sender: u32) -> Self {
        Self::new(run, sender, None, |binds| binds)
    }

    fn new(run: &str, sender: u32, user: Option<User>, wrap: impl Fn(Vec<u8>) -> Vec<u8>) -> Self {
        let mark = format!("raven-mark={run}/{sender}/{}", "#".repeat(MARK_DIGITS));
        let events = (1..=PORTS).flat_map(|port| [(port, false), (port, true)]);
        let templates = events.map(|(port, up)| Template::new(wrap(binds(port, up, &mark)))).collect();
        Self { templates, started: Instant::now(), user }
    }

    /// Number of the request of notification `n`.
    pub const fn request(n: u64) -> u32 {
        REQUEST_BASE | (n & REQUEST_MASK) as u32
    }

    /// Appends notification `n`. All of a sender have the same length.
    pub fn write(&mut self, n: u64, out: &mut Vec<u8>) {
        // A step that shares no factor with their number: neighbours in time are not neighbours in the rack.
        let template = &self.templates[(n.wrapping_mul(29) % self.templates.len() as u64) as usize];
        let elapsed = self.started.elapsed();
        let uptime = UPTIME_BASE + (elapsed.as_millis() / 10) as u32;
        match &mut self.user {
            None => template.fill(n, uptime, out),
            Some(user) => {
                let seconds = elapsed.as_secs() as u32;
                user.wrap(Self::request(n), seconds, out, |out| template.fill(n, uptime, out));
            }
        }
    }
}

impl Template {
    fn new(bytes: Vec<u8>) -> Self {
        let find = |needle: &[u8]| memchr::memmem::find(&bytes, needle);
        let place = |needle: &[u8]| find(needle).expect("it was just written");
        let (request, uptime) = (find(&REQUEST.to_be_bytes()), place(&UPTIME.to_be_bytes()));
        let mark = place(&[b'#'; MARK_DIGITS]);
        Self { bytes, request, uptime, mark }
    }

    fn fill(&self, n: u64, uptime: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let own = &mut out[start..];
        if let Some(request) = self.request {
            own[request..request + 4].copy_from_slice(&Notifications::request(n).to_be_bytes());
        }
        own[self.uptime..self.uptime + 4].copy_from_slice(&uptime.to_be_bytes());
        fixed_decimal(&mut own[self.mark..self.mark + MARK_DIGITS], n);
    }
}

/// linkDown or linkUp (RFC 2863) of a port, with its name and the mark.
fn binds(port: u32, up: bool, mark: &str) -> Vec<u8> {
    let index = PORTS_FROM + port;
    let column = |column: u32| oid(&[IF_ENTRY, &[column, index]].concat());
    let status = if up { 1 } else { 2 };
    let bind = |name: Vec<u8>, value: Vec<u8>| all(SEQUENCE, &[name, value]);
    let link = oid(&[LINK, &[if up { 4 } else { 3 }]].concat());
    debug_assert_eq!(link[0], OID);
    let name = format!("GigabitEthernet1/0/{port:02}");
    [
        bind(oid(SYS_UPTIME), number(TIME_TICKS, UPTIME)),
        bind(oid(TRAP_OID), link),
        bind(column(1), number(INTEGER, index)),
        bind(column(7), number(INTEGER, 1)),
        bind(column(8), number(INTEGER, status)),
        bind(column(2), tlv(OCTETS, name.as_bytes())),
        bind(oid(MARK_OID), tlv(OCTETS, mark.as_bytes())),
    ]
    .concat()
}

/// A trap with these varbinds.
fn pdu(binds: Vec<u8>) -> Vec<u8> {
    let head = [number(INTEGER, REQUEST), number(INTEGER, 0), number(INTEGER, 0)];
    all(TRAP, &[head.concat(), all(SEQUENCE, &[binds])])
}
