//! One exporter: its socket, its sequence, its templates.

use super::mark::FlowMark;
use super::templates::{self, Clock, IPV4, IPV6};
use super::v5;
use super::venue::Venue;
use super::{DATAGRAM_MAX, Every, Proto, Version};
use crate::failure::Failure;
use crate::load::args::Plan;
use crate::load::bytes::{Put as _, set_length};
use crate::load::drive::{Sender, Tally};
use crate::load::udp::Udp;
use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

/// Flow records in a datagram, unless told otherwise.
const RECORDS: usize = 24;
/// Devices have been up for an hour.
const UPTIME: u64 = 3_600_000;
/// Of `IPv6`, every so many datagrams.
const IPV6_EVERY: u64 = 8;

/// What an exporter is told.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What it speaks.
    pub version: Version,
    /// Over what.
    pub proto: Proto,
    /// Flow records in a datagram.
    pub records: usize,
    /// When templates come again.
    pub every: Every,
    /// One packet in so many.
    pub sampling: u32,
    /// Some flows go over IPv6.
    pub ipv6: bool,
    /// Many datagrams at once.
    pub gso: bool,
}

/// An exporter.
pub struct Exporter {
    id: u32,
    tag: u16,
    settings: Settings,
    socket: Socket,
    started: Instant,
    sent: u64,
    bytes: u64,
    /// Packets, of all kinds.
    packets: u64,
    /// What the header's sequence counts: v5 flows, v9 packets, IPFIX data records.
    sequence: u32,
    templates_sent: Option<(u64, Instant)>,
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

enum Socket {
    Udp(Udp),
    Tcp(TcpStream),
}

/// How many records fit, or the mistake.
pub fn records_per_datagram(version: Version, asked: Option<u16>) -> Result<usize, Failure> {
    let most = fitting(version, IPV4);
    match asked.map(usize::from) {
        None => Ok(RECORDS.min(most)),
        Some(records) if (1..=most).contains(&records) => Ok(records),
        Some(records) => {
            let wrong =
                format!("--records-per-datagram {records}: expected 1 to {most}, which fit {DATAGRAM_MAX} bytes");
            Err(Failure::Usage(wrong))
        }
    }
}

fn fitting(version: Version, template: u16) -> usize {
    match version {
        Version::V5 => usize::from(v5::RECORDS_MAX).min((DATAGRAM_MAX - v5::HEADER) / v5::RECORD),
        // 20 bytes of header, 4 of the set, 3 that may fill it up.
        _ => (DATAGRAM_MAX - 27) / templates::record_len(version, template),
    }
}

impl Exporter {
    /// Connects.
    pub fn open(id: u32, plan: &Plan, settings: Settings) -> io::Result<Self> {
        let socket = match settings.proto {
            Proto::Udp => Socket::Udp(Udp::open(plan, id, settings.gso)?),
            Proto::Tcp => Socket::Tcp(plan.connect(id)?),
        };
        Ok(Self {
            id,
            tag: FlowMark::tag_of(&plan.run),
            settings,
            socket,
            started: Instant::now(),
            sent: 0,
            bytes: 0,
            packets: 0,
            sequence: 0,
            templates_sent: None,
            buffer: Vec::new(),
            ends: Vec::new(),
        })
    }

    fn templates_due(&self) -> bool {
        let Some((packets, when)) = self.templates_sent else { return true };
        match self.settings.every {
            _ if self.settings.proto == Proto::Tcp => false, // RFC 7011, 10.4: a connection keeps its templates
            Every::Packets(every) => self.packets >= packets + every,
            Every::Time(every) => when.elapsed() >= every,
        }
    }

    /// Templates and what is said about sampling, in a packet of their own.
    fn write_templates(&mut self, now: u64) {
        let version = self.settings.version;
        let start = self.begin(now, 4); // templates: two of flows, one of options; and one record
        templates::write_templates(&mut self.buffer, version);
        templates::write_sampling(&mut self.buffer, version, self.settings.sampling);
        self.end(start, 1);
        self.templates_sent = Some((self.packets, Instant::now()));
    }

    fn write_flows(&mut self, most: u64, now: u64, venue: &mut Venue) -> u64 {
        let Settings { version, records, ipv6, .. } = self.settings;
        let template = if ipv6 && self.packets % IPV6_EVERY == IPV6_EVERY - 1 { IPV6 } else { IPV4 };
        let count = most.min(records.min(fitting(version, template)) as u64);
        let clock = Clock { uptime: self.uptime(), millis: now / 1_000_000 };
        let start = self.begin(now, count as u16);
        let set = self.buffer.len();
        if version != Version::V5 {
            self.buffer.u16(template);
            self.buffer.u16(0);
        }
        for n in self.sent..self.sent + count {
            let flow = venue.flow(FlowMark { tag: self.tag, sender: self.id, n });
            match version {
                Version::V5 => v5::record(&mut self.buffer, &flow, clock.uptime),
                _ => templates::record(&mut self.buffer, version, template, &flow, clock),
            }
        }
        if version != Version::V5 {
            // RFC 3954, 5.3: a flowset ends at four bytes; in IPFIX that is allowed too.
            let fill = (self.buffer.len() - set).wrapping_neg() & 3;
            self.buffer.resize(self.buffer.len() + fill, 0);
            set_length(&mut self.buffer, set);
        }
        self.end(start, count);
        self.sent += count;
        count
    }

    fn uptime(&self) -> u32 {
        (UPTIME + self.started.elapsed().as_millis() as u64) as u32
    }

    /// Writes a header, for `count` records of whatever kind (v5, v9); where it begins.
    fn begin(&mut self, now: u64, count: u16) -> usize {
        let (start, uptime) = (self.buffer.len(), self.uptime());
        let (seconds, nanos) = ((now / 1_000_000_000) as u32, (now % 1_000_000_000) as u32);
        let out = &mut self.buffer;
        match self.settings.version {
            Version::V5 => {
                let (engine, sampling) = (self.id as u8, self.settings.sampling as u16);
                v5::Header { count, uptime, seconds, nanos, sequence: self.sequence, engine, sampling }.write(out);
            }
            Version::V9 => {
                out.u16(9);
                out.u16(count);
                out.u32(uptime);
                out.u32(seconds);
                out.u32(self.sequence);
                out.u32(self.id);
            }
            Version::Ipfix => {
                out.u16(10);
                out.u16(0); // length: at the end
                out.u32(seconds);
                out.u32(self.sequence);
                out.u32(self.id);
            }
        }
        start
    }

    /// Ends a packet that held so many data records.
    fn end(&mut self, start: usize, data_records: u64) {
        let len = self.buffer.len() - start;
        let more = match self.settings.version {
            Version::V9 => 1,
            Version::V5 | Version::Ipfix => data_records as u32,
        };
        if self.settings.version == Version::Ipfix {
            set_length(&mut self.buffer, start);
        }
        self.sequence = self.sequence.wrapping_add(more);
        self.packets += 1;
        self.bytes += len as u64;
        self.ends.push(self.buffer.len());
    }
}

impl Sender for Exporter {
    type Shared = Venue;

    fn unit(&self) -> u64 {
        self.settings.records as u64
    }

    fn most(&self) -> u64 {
        let datagrams = if let Socket::Udp(udp) = &self.socket { udp.batch() } else { 8 };
        (self.settings.records * datagrams) as u64
    }

    fn send(&mut self, count: u64, venue: &mut Venue) -> io::Result<()> {
        let now = crate::time::now().0;
        self.buffer.clear();
        self.ends.clear();
        let mut left = count;
        while left > 0 {
            if self.settings.version != Version::V5 && self.templates_due() {
                self.write_templates(now);
            }
            left -= self.write_flows(left, now, venue);
        }
        match &mut self.socket {
            Socket::Udp(udp) => udp.send(&self.buffer, &self.ends),
            Socket::Tcp(stream) => stream.write_all(&self.buffer),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Socket::Tcp(stream) = &self.socket { stream.shutdown(Shutdown::Write) } else { Ok(()) }
    }

    fn tally(&self) -> Tally {
        let refused = if let Socket::Udp(udp) = &self.socket { udp.refused } else { 0 };
        Tally { sent: self.sent, bytes: self.bytes, refused, answers: None }
    }
}
