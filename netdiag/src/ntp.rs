//! Queries to time servers (RFC 5905 as SNTP, 14), as conversations that own no socket: packets, offset and delay, and the answer
//! that counts.

pub mod run;

use raven_model::diag::services::{NtpAnswer, NtpResult};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Bytes of a packet without extensions (7.3).
pub const PACKET: usize = 48;
/// Seconds from 1900, where NTP begins, to 1970.
const SINCE_1900: u64 = 2_208_988_800;
/// Stratum of a server that is not synchronised.
const UNSYNCHRONISED: u8 = 16;

/// A time of NTP: seconds since 1900 in 32 bits, which begin anew in 2036, and a fraction in 32 more (6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Of a time since 1970.
    pub fn of(since_1970: Duration) -> Self {
        let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
        Self(since_1970.as_secs().wrapping_add(SINCE_1900) << 32 | fraction)
    }

    /// What lies between, in fractions: right as long as that is under 68 years, whatever the era.
    const fn since(self, before: Self) -> i64 {
        self.0.wrapping_sub(before.0).cast_signed()
    }
}

/// Fractions in microseconds.
const fn microseconds(fractions: i128) -> i64 {
    ((fractions * 1_000_000) >> 32) as i64
}

/// A query: nothing but the mark in the place of the time at which it left, which comes back as the origin of the answer. It is
/// no time, so that nobody who does not see it can guess it (9.2 lets a client do so).
pub fn query(mark: u64) -> [u8; PACKET] {
    let mut packet = [0; PACKET];
    // Leap 0, version 4, mode 3: client.
    packet[0] = 4 << 3 | 3;
    packet[40..].copy_from_slice(&mark.to_be_bytes());
    packet
}

/// An answer (7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Leap indicator, 0 to 3.
    pub leap: u8,
    /// 0: a kiss of death.
    pub stratum: u8,
    /// In 1/65536 s.
    pub root_delay: u32,
    /// In 1/65536 s.
    pub root_dispersion: u32,
    /// Whom the server follows, or why it does not answer.
    pub reference: [u8; 4],
    /// The query's mark.
    pub origin: u64,
    /// When the server got the query.
    pub receive: Stamp,
    /// When the answer left.
    pub transmit: Stamp,
}

/// Reads an answer of a server; nothing where it is none.
pub fn decode(packet: &[u8]) -> Option<Answer> {
    let packet: &[u8; PACKET] = packet.get(..PACKET)?.try_into().ok()?;
    let long = |at: usize| packet[at..at + 4].iter().fold(0, |long, byte| long << 8 | u32::from(*byte));
    let stamp = |at: usize| u64::from(long(at)) << 32 | u64::from(long(at + 4));
    let (version, mode) = (packet[0] >> 3 & 7, packet[0] & 7);
    if !(1..=4).contains(&version) || mode != 4 {
        return None;
    }
    Some(Answer {
        leap: packet[0] >> 6,
        stratum: packet[1],
        root_delay: long(4),
        root_dispersion: long(8),
        reference: [packet[12], packet[13], packet[14], packet[15]],
        origin: stamp(24),
        receive: Stamp(stamp(32)),
        transmit: Stamp(stamp(40)),
    })
}

impl Answer {
    /// Offset of the server's clock and delay of the way, microseconds (8), of a query that left and was answered then.
    pub fn times(&self, left: Stamp, came: Stamp) -> (i64, i64) {
        let out = i128::from(self.receive.since(left));
        let back = i128::from(self.transmit.since(came));
        let stay = i128::from(self.transmit.since(self.receive));
        let offset = microseconds(i128::midpoint(out, back));
        let delay = microseconds(i128::from(came.since(left)) - stay);
        (offset, delay.max(0))
    }

    /// Kiss code, or what the server follows: letters, or the address of a server.
    fn reference_words(&self) -> String {
        if self.stratum > 1 {
            return Ipv4Addr::from(self.reference).to_string();
        }
        let letters = self.reference.iter().take_while(|byte| **byte != 0);
        letters.map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' }).collect()
    }

    fn leap_words(&self) -> &'static str {
        match self.leap {
            0 => "none",
            1 => "insert",
            2 => "delete",
            _ => "unsynchronised",
        }
    }
}

/// 16.16 seconds (6) in microseconds.
fn short(value: u32) -> u32 {
    u32::try_from((u64::from(value) * 1_000_000) >> 16).unwrap_or(u32::MAX)
}

/// A query that waits for its answer.
#[derive(Debug, Clone, Copy)]
struct Open {
    mark: u64,
    /// Wall clock and the clock that nobody sets, at the same moment.
    wall: Stamp,
    left: Instant,
}

/// Queries to one server.
#[derive(Debug, Default)]
pub struct Talk {
    open: Option<Open>,
    /// What is known.
    pub told: NtpResult,
}

impl Talk {
    /// With a server.
    pub const fn new(told: NtpResult) -> Self {
        Self { open: None, told }
    }

    /// Whether it may be asked (again): it did not say that it does not want to be.
    pub const fn may_ask(&self) -> bool {
        self.told.address.is_some() && self.told.kiss.is_none()
    }

    /// Whether an answer may come.
    pub const fn is_waiting(&self) -> bool {
        self.open.is_some()
    }

    /// A query, which leaves now. An answer to the one before counts no more.
    pub fn ask(&mut self, mark: u64, wall: Stamp, now: Instant) -> [u8; PACKET] {
        self.open = Some(Open { mark, wall, left: now });
        self.told.sent += 1;
        query(mark)
    }

    /// Something came from somebody else.
    pub const fn stranger(&mut self) {
        self.told.ignored = self.told.ignored.saturating_add(1);
    }

    /// Something came from the server. What it says, where it is an answer.
    pub fn heard(&mut self, packet: &[u8], at: Instant) -> Option<NtpAnswer> {
        let answer = decode(packet).zip(self.open).filter(|(answer, open)| answer.origin == open.mark);
        let Some((answer, open)) = answer else {
            self.stranger();
            return None;
        };
        self.open = None;
        if answer.stratum == 0 {
            self.told.kiss = Some(answer.reference_words());
            return None;
        }
        // A clock that is set meanwhile does no harm.
        let spent = Stamp::of(at.saturating_duration_since(open.left)).0.wrapping_sub(SINCE_1900 << 32);
        let (offset_us, delay_us) = answer.times(open.wall, Stamp(open.wall.0.wrapping_add(spent)));
        self.told.received += 1;
        if self.told.delay_us.is_none_or(|best| delay_us < best) {
            self.keep(&answer, offset_us, delay_us);
        }
        Some(NtpAnswer { server: self.told.server.clone(), offset_us, delay_us })
    }

    fn keep(&mut self, answer: &Answer, offset_us: i64, delay_us: i64) {
        let told = &mut self.told;
        (told.offset_us, told.delay_us) = (Some(offset_us), Some(delay_us));
        told.stratum = Some(answer.stratum.min(UNSYNCHRONISED));
        told.reference = Some(answer.reference_words());
        told.leap = Some(answer.leap_words().to_owned());
        told.root_delay_us = Some(short(answer.root_delay));
        told.root_dispersion_us = Some(short(answer.root_dispersion));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    /// As a server answers, whose clock says these times.
    fn answer(mark: u64, receive: Stamp, transmit: Stamp) -> [u8; PACKET] {
        let mut packet = query(mark);
        packet[0] = 4 << 3 | 4;
        packet[1] = 1;
        packet[4..8].copy_from_slice(&0x8000_u32.to_be_bytes());
        packet[12..16].copy_from_slice(b"GPS\0");
        packet[24..32].copy_from_slice(&mark.to_be_bytes());
        packet[32..40].copy_from_slice(&receive.0.to_be_bytes());
        packet[40..].copy_from_slice(&transmit.0.to_be_bytes());
        packet
    }

    fn talk() -> Talk {
        Talk::new(NtpResult {
            server: "noc".to_owned(),
            address: Some(([192, 0, 2, 1], 123).into()),
            ..NtpResult::default()
        })
    }

    #[test]
    fn offset_and_delay_are_those_of_the_answer_that_was_fastest() {
        let (now, wall) = (Instant::now(), Duration::from_secs(1_790_000_000));
        let mut talk = talk();
        // The server is 2 s ahead and takes 5 ms; the way takes as long in both directions, once 10 ms and once 3 ms.
        for (mark, way) in [(7, 10 * MS), (8, 3 * MS), (9, 50 * MS)] {
            talk.ask(mark, Stamp::of(wall), now);
            let got = wall + Duration::from_secs(2) + way;
            let told =
                talk.heard(&answer(mark, Stamp::of(got), Stamp::of(got + 5 * MS)), now + 2 * way + 5 * MS).unwrap();
            assert!(
                (told.offset_us - 2_000_000).abs() < 3
                    && told.delay_us.abs_diff(2 * i64::try_from(way.as_micros()).unwrap()) < 3,
                "{told:?}"
            );
        }
        let told = &talk.told;
        assert!((told.delay_us.unwrap() - 6000).abs() < 3 && told.received == 3, "{told:?}");
        assert_eq!(
            (told.stratum, told.reference.as_deref(), told.leap.as_deref()),
            (Some(1), Some("GPS"), Some("none"))
        );
        assert_eq!(told.root_delay_us, Some(500_000));
    }

    #[test]
    fn what_answers_no_query_of_ours_is_ignored() {
        let (now, wall) = (Instant::now(), Stamp::of(Duration::from_secs(1_790_000_000)));
        let mut talk = talk();
        let good = answer(7, wall, wall);
        assert_eq!(talk.heard(&good, now), None);
        talk.ask(7, wall, now);
        assert_eq!(talk.heard(&answer(8, wall, wall), now), None);
        assert_eq!(talk.heard(&query(7), now), None);
        assert!(talk.heard(&good, now).is_some());
        assert_eq!(talk.heard(&good, now), None, "it came twice");
        assert_eq!((talk.told.ignored, talk.told.received), (4, 1));
    }

    #[test]
    fn a_kiss_of_death_is_obeyed() {
        let (now, wall) = (Instant::now(), Stamp(0));
        let mut talk = talk();
        talk.ask(7, wall, now);
        let mut kiss = answer(7, wall, wall);
        kiss[1] = 0;
        kiss[12..16].copy_from_slice(b"RATE");
        assert_eq!(talk.heard(&kiss, now), None);
        assert_eq!((talk.told.kiss.as_deref(), talk.may_ask(), talk.told.received), (Some("RATE"), false, 0));
    }

    #[test]
    fn the_second_era_begins_without_a_leap() {
        let before = Duration::from_secs((1 << 32) - SINCE_1900 - 1);
        let (left, came) = (Stamp::of(before), Stamp::of(before + Duration::from_secs(2)));
        let server = Stamp::of(before + Duration::from_secs(1));
        assert!(server.0 < left.0);
        let answer = decode(&answer(1, server, server)).unwrap();
        assert_eq!(answer.times(left, came), (0, 2_000_000));
    }

    #[test]
    fn a_packet_cut_anywhere_is_none() {
        let packet = answer(7, Stamp(0), Stamp(0));
        assert!((0..PACKET).all(|n| decode(&packet[..n]).is_none()) && decode(&packet).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100), mark: u64, wall: u64, took in 0_u64..100_000) {
            let now = Instant::now();
            let mut talk = talk();
            talk.ask(mark, Stamp(wall), now);
            let mut bytes = bytes;
            if bytes.len() >= PACKET {
                bytes[0] = bytes[0] & 0xc0 | 4 << 3 | 4;
                bytes[24..32].copy_from_slice(&mark.to_be_bytes());
            }
            let told = talk.heard(&bytes, now + took as u32 * MS);
            prop_assert!(told.is_none_or(|told| told.delay_us >= 0));
        }

        #[test]
        fn any_clock_is_found(offset_us in -2_000_000_000_000_i64..2_000_000_000_000, way_us in 0_u64..1_000_000, stay_us in 0_u64..1_000_000) {
            let us = |us: u64| Duration::from_micros(us);
            let (wall, now) = (us(1_790_000_000_000_000), Instant::now());
            let there = us(1_790_000_000_000_000_u64.checked_add_signed(offset_us).unwrap() + way_us);
            let mut talk = talk();
            talk.ask(1, Stamp::of(wall), now);
            let packet = answer(1, Stamp::of(there), Stamp::of(there + us(stay_us)));
            let told = talk.heard(&packet, now + us(2 * way_us + stay_us)).unwrap();
            prop_assert!((told.offset_us - offset_us).abs() < 3 && told.delay_us.abs_diff(2 * way_us.cast_signed()) < 3, "{:?}", told);
        }
    }
}
