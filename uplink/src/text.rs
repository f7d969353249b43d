//! Numbers, times and addresses as text, without the formatting machinery: these run for each record sent.

use raven_model::calendar::date_of;
use raven_model::units::UnixNanos;
use std::io::Write as _;
use std::net::IpAddr;

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// Appends `n` in decimal.
#[inline]
pub(crate) fn decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    while n >= 100 {
        let pair = (n % 100) as usize * 2;
        n /= 100;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if n >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[n as usize * 2..n as usize * 2 + 2]);
    } else {
        at -= 1;
        digits[at] = b'0' + n as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends an address: IPv4 dotted, IPv6 as RFC 5952 says.
#[inline]
pub(crate) fn address(out: &mut Vec<u8>, addr: IpAddr) {
    match addr {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            decimal(out, u64::from(a));
            for octet in [b, c, d] {
                out.push(b'.');
                decimal(out, u64::from(octet));
            }
        }
        IpAddr::V6(v6) => write!(out, "{v6}").expect("a Vec takes every write"),
    }
}

/// Writes receive times as RFC 3339 in UTC with microseconds; remembers the second that it wrote last.
#[derive(Debug, Default)]
pub(crate) struct Stamp {
    second: Option<u64>,
    text: Vec<u8>,
}

impl Stamp {
    /// Appends `2026-11-22T00:35:53.123456Z`.
    #[inline]
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, at: UnixNanos) {
        let second = at.0 / 1_000_000_000;
        if self.second != Some(second) {
            self.text = civil(second).into_bytes();
            self.second = Some(second);
        }
        out.extend_from_slice(&self.text);
        fraction(out, (at.0 % 1_000_000_000 / 1000) as u32);
    }
}

/// Appends `.123456Z`.
fn fraction(out: &mut Vec<u8>, micros: u32) {
    let mut text = *b".000000Z";
    for (place, value) in [(1, micros / 10_000), (3, micros / 100 % 100), (5, micros % 100)] {
        let pair = value as usize * 2;
        text[place..place + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    out.extend_from_slice(&text);
}

/// `2026-11-22T00:35:53`.
fn civil(second: u64) -> String {
    let (year, month, day) = date_of((second / 86_400).cast_signed());
    let time = second % 86_400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for n in [0, 1, 9, 10, 99, 100, 101, 999, 1000, 65_535, 999_999_999, u64::MAX] {
            assert_eq!(text(|out| decimal(out, n)), n.to_string());
        }
    }

    #[test]
    fn addresses_are_written_as_the_standard_library_writes_them() {
        for addr in ["0.0.0.0", "192.0.2.107", "255.255.255.255", "::1", "2001:db8::7"] {
            assert_eq!(text(|out| address(out, addr.parse().expect("valid"))), addr);
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc_with_microseconds() {
        let mut stamp = Stamp::default();
        for (nanos, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399_999_999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400_000_001_000, "2000-02-29T00:00:00.000001Z"),
            (1_795_307_753_123_456_789, "2026-11-22T00:35:53.123456Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(text(|out| stamp.write(out, UnixNanos(nanos))), expected);
        }
    }
}
