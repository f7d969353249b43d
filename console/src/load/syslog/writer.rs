//! Writes the messages of the load generator: cheap enough that sending them is what costs.

use super::families::{self, Part, Template};
use crate::load::bytes::{decimal as number, digits, fixed_hex};
use crate::load::marks::PREFIX;
use crate::load::random::Random;
use clap::ValueEnum;
use raven_model::units::UnixNanos;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// RFC 3164
    #[value(name = "3164")]
    Rfc3164,
    /// RFC 5424
    #[value(name = "5424")]
    Rfc5424,
}

const WORDS: [&str; 8] = ["iphone", "galaxy", "pixel", "macbook", "thinkpad", "ipad", "scanner", "pos"];
const USERS: [&str; 12] =
    ["root", "admin", "anna", "ben", "carla", "deniz", "emil", "fatima", "guest", "oracle", "test", "ubnt"];

/// What follows where a text is too short for the length asked for.
const FILL: &str =
    " site=arena-north tenant=venue-ops class=default severity-source=device path=access/core/edge state=ok";

/// Writes messages, all of the same length.
pub struct Writer {
    format: Format,
    size: usize,
    run: String,
    /// Each as often as it should come.
    templates: Vec<Template>,
    stamp: String,
    second: u64,
    random: Random,
    fill: Vec<u8>,
}

impl Writer {
    /// `size`: bytes of every message, room enough for header and mark.
    pub fn new(format: Format, size: usize, run: &str) -> Self {
        let templates = families::templates();
        let fill = FILL.bytes().cycle().take(size).collect();
        Self {
            format,
            size,
            run: run.to_owned(),
            templates,
            stamp: String::new(),
            second: u64::MAX,
            random: Random::new(0),
            fill,
        }
    }

    /// Bytes of every message.
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The time that the next messages carry.
    pub fn set_time(&mut self, now: UnixNanos) {
        let second = now.0 / 1_000_000_000;
        if self.format == Format::Rfc5424 {
            self.stamp = crate::time::format(now, 3);
        } else if second != self.second {
            self.stamp = stamp_3164(&crate::time::format(now, 0));
        }
        self.second = second;
    }

    /// Appends message `n` of `sender`: exactly [`Writer::size`] bytes.
    pub fn write(&mut self, sender: u32, n: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let choice = self.random.below(self.templates.len() as u64) as usize;
        let template = &self.templates[choice];
        header(out, self.format, template, &self.stamp, &mut self.random);
        for part in &template.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field(kind) => field(out, *kind, &mut self.random),
            }
        }
        let mark_len = 1 + PREFIX.len() + self.run.len() + 1 + digits(u64::from(sender)) + 1 + digits(n);
        let text_end = start + self.size - mark_len;
        if out.len() < text_end {
            let missing = text_end - out.len();
            out.extend_from_slice(&self.fill[..missing]);
        }
        out.truncate(text_end);
        out.push(b' ');
        out.extend_from_slice(PREFIX.as_bytes());
        out.extend_from_slice(self.run.as_bytes());
        out.push(b'/');
        number(out, u64::from(sender));
        out.push(b'/');
        number(out, n);
    }
}

/// `Nov 22 00:30:00` of `2025-11-22T00:30:00Z`; the day is padded with a space (RFC 3164, 4.1.2).
fn stamp_3164(rfc3339: &str) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let part = |range| rfc3339.get(range).unwrap_or_default();
    let month = part(5..7).parse().ok().and_then(|n: usize| MONTHS.get(n.wrapping_sub(1))).unwrap_or(&"Jan");
    let day: u8 = part(8..10).parse().unwrap_or(1);
    format!("{month} {day:>2} {}", part(11..19))
}

fn header(out: &mut Vec<u8>, format: Format, template: &Template, stamp: &str, random: &mut Random) {
    let host = random.below(u64::from(template.hosts)) + 1;
    out.push(b'<');
    out.extend_from_slice(template.priority.as_bytes());
    out.extend_from_slice(if format == Format::Rfc5424 { b">1 " } else { b">" });
    out.extend_from_slice(stamp.as_bytes());
    out.push(b' ');
    out.extend_from_slice(template.host.as_bytes());
    number(out, host);
    out.push(b' ');
    out.extend_from_slice(template.app.as_bytes());
    if format == Format::Rfc5424 {
        out.push(b' ');
        number(out, 400 + host);
        out.extend_from_slice(b" - - ");
    } else {
        out.push(b'[');
        number(out, 400 + host);
        out.extend_from_slice(b"]: ");
    }
}

fn field(out: &mut Vec<u8>, kind: u8, random: &mut Random) {
    match kind {
        b'a' => address(out, b"10.20.", 2, random),
        b'x' => address(out, b"203.0.", 2, random),
        b'p' => number(out, 32_768 + random.below(28_000)),
        b'm' => mac(out, random),
        b'h' => hex(out, 4, random),
        b'i' => number(out, random.below(48)),
        b'k' => number(out, random.below(100_000)),
        b's' => number(out, random.below(100)),
        b'w' => out.extend_from_slice(WORDS[random.below(WORDS.len() as u64) as usize].as_bytes()),
        _ => out.extend_from_slice(USERS[random.below(USERS.len() as u64) as usize].as_bytes()),
    }
}

fn address(out: &mut Vec<u8>, prefix: &[u8], octets: u32, random: &mut Random) {
    out.extend_from_slice(prefix);
    for octet in 0..octets {
        if octet > 0 {
            out.push(b'.');
        }
        number(out, random.below(254) + 1);
    }
}

/// A few makers, many devices.
fn mac(out: &mut Vec<u8>, random: &mut Random) {
    const MAKERS: [&[u8]; 4] = [b"a4:83:e7", b"3c:22:fb", b"f0:18:98", b"00:1b:21"];
    out.extend_from_slice(MAKERS[random.below(4) as usize]);
    for _ in 0..3 {
        out.push(b':');
        hex(out, 2, random);
    }
}

fn hex(out: &mut Vec<u8>, digits: usize, random: &mut Random) {
    let start = out.len();
    out.resize(start + digits, 0);
    fixed_hex(&mut out[start..], random.next());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::load::marks::Mark;

    fn messages(format: Format, count: u64) -> Vec<Vec<u8>> {
        let mut writer = Writer::new(format, 200, "run-1");
        writer.set_time(UnixNanos(1_763_771_400_123_000_000));
        let one = |n| {
            let mut out = Vec::new();
            writer.write(2, n, &mut out);
            out
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn every_message_has_the_length_asked_for_and_a_mark() {
        for format in [Format::Rfc3164, Format::Rfc5424] {
            for (n, message) in messages(format, 5000).iter().enumerate() {
                assert_eq!(message.len(), 200);
                assert_eq!(Mark::find(message), Some(Mark { run: b"run-1", sender: 2, n: n as u64 }));
                assert!(message.iter().all(|b| (b' '..=b'~').contains(b)));
            }
        }
    }

    #[test]
    fn headers_are_those_of_the_rfcs() {
        let old = messages(Format::Rfc3164, 1).remove(0);
        let new = messages(Format::Rfc5424, 1).remove(0);
        assert!(old.windows(17).any(|w| w == b">Nov 22 00:30:00 "), "{}", String::from_utf8_lossy(&old));
        assert!(new.windows(28).any(|w| w == b">1 2025-11-22T00:30:00.123Z "), "{}", String::from_utf8_lossy(&new));
    }

    #[test]
    fn it_compresses_about_as_well_as_real_text() {
        let all: Vec<u8> = messages(Format::Rfc3164, 1300).concat();
        let each = zstd::bulk::compress(&all, 1).unwrap().len() / 1300;
        assert!((32..=48).contains(&each), "{each} bytes a message");
    }
}
