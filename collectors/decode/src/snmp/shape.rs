//! How a value reads to people: the labels of an enumeration, or a DISPLAY-HINT (RFC 2579, 3.1).

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Characters that a hint may make of a value.
const MAX_SHOWN: usize = 4096;

/// How values of an object are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    /// Number, or bit of BITS, to its label.
    pub labels: BTreeMap<i64, String>,
    /// DISPLAY-HINT, as written.
    pub hint: Option<String>,
}

impl Shape {
    /// Whether it says nothing.
    pub fn is_plain(&self) -> bool {
        self.labels.is_empty() && self.hint.is_none()
    }

    /// A number by its label, else by its hint.
    pub fn integer(&self, number: i64) -> Option<String> {
        match self.labels.get(&number) {
            Some(label) => Some(label.clone()),
            None => integer_by_hint(self.hint.as_deref()?, number),
        }
    }

    /// Octets by their hint, or the labels of the bits that are set.
    pub fn octets(&self, octets: &[u8]) -> Option<String> {
        match &self.hint {
            Some(hint) => octets_by_hint(hint, octets),
            None if self.labels.is_empty() => None,
            None => Some(self.bits(octets)),
        }
    }

    /// Bit 0 is the highest of the first byte (RFC 2578, 7.1.4).
    fn bits(&self, octets: &[u8]) -> String {
        let is_set = |bit: i64| {
            let byte = usize::try_from(bit / 8).ok().and_then(|at| octets.get(at));
            byte.is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0)
        };
        let set = self.labels.iter().filter(|(bit, _)| **bit >= 0 && is_set(**bit)).map(|(_, label)| label.as_str());
        set.collect::<Vec<_>>().join(" ")
    }
}

/// `d`, `d-2`, `x`, `o`, `b`.
fn integer_by_hint(hint: &str, number: i64) -> Option<String> {
    match hint.split_at_checked(1)? {
        ("d", "") => None,
        ("d", decimals) => {
            let decimals: usize = decimals.strip_prefix('-')?.parse().ok().filter(|decimals| *decimals <= 18)?;
            let digits = format!("{:0width$}", number.unsigned_abs(), width = decimals + 1);
            let (whole, fraction) = digits.split_at_checked(digits.len() - decimals)?;
            let sign = if number < 0 { "-" } else { "" };
            let dot = if decimals == 0 { "" } else { "." };
            Some(format!("{sign}{whole}{dot}{fraction}"))
        }
        ("x", "") => Some(format!("{number:x}")),
        ("o", "") => Some(format!("{number:o}")),
        ("b", "") => Some(format!("{number:b}")),
        _ => None,
    }
}

/// One part of a hint for octets.
struct Part {
    repeats: bool,
    length: usize,
    format: char,
    separator: Option<char>,
    terminator: Option<char>,
}

/// `[*]length format [separator [terminator]]`, one behind the other.
fn parts(hint: &str) -> Option<Vec<Part>> {
    let mut chars = hint.chars().peekable();
    let mut parts = Vec::new();
    while chars.peek().is_some() {
        let repeats = chars.next_if_eq(&'*').is_some();
        let digits: String = std::iter::from_fn(|| chars.next_if(char::is_ascii_digit)).take(5).collect();
        let length = digits.parse().ok()?;
        let format = chars.next().filter(|c| matches!(c, 'd' | 'x' | 'o' | 'a' | 't'))?;
        let separator = chars.next_if(|c| !c.is_ascii_digit() && *c != '*');
        let terminator = if repeats { chars.next_if(|c| !c.is_ascii_digit() && *c != '*') } else { None };
        parts.push(Part { repeats, length, format, separator, terminator });
    }
    Some(parts)
}

/// The parts one after the other, the last one again and again until all octets are shown. `None` where the hint or
/// the octets do not allow it.
fn octets_by_hint(hint: &str, octets: &[u8]) -> Option<String> {
    let parts = parts(hint)?;
    let mut rest = octets;
    let mut shown = String::new();
    let mut at = 0;
    while !rest.is_empty() {
        let part = parts.get(at).or(parts.last())?;
        let mut times = 1;
        if part.repeats {
            let (count, behind) = rest.split_first()?;
            (times, rest) = (usize::from(*count), behind);
        } else if part.length == 0 && at + 1 >= parts.len() {
            return None;
        }
        for time in 0..times {
            let (octets, behind) = rest.split_at(part.length.min(rest.len()));
            rest = behind;
            show(&mut shown, part.format, octets)?;
            let last = rest.is_empty() || (part.terminator.is_some() && time + 1 == times);
            shown.extend(part.separator.filter(|_| !last));
        }
        shown.extend(part.terminator.filter(|_| !rest.is_empty()));
        at += 1;
        if shown.len() > MAX_SHOWN || (part.repeats && at > MAX_SHOWN) {
            return None;
        }
    }
    Some(shown)
}

fn show(shown: &mut String, format: char, octets: &[u8]) -> Option<()> {
    if matches!(format, 'a' | 't') {
        let text = std::str::from_utf8(octets).ok().filter(|text| !text.contains(char::is_control))?;
        shown.push_str(text);
        return Some(());
    }
    let number = octets.iter().try_fold(0_u64, |sum, octet| Some(sum.checked_mul(256)? + u64::from(*octet)))?;
    match format {
        'x' => write!(shown, "{number:0width$x}", width = octets.len() * 2).ok(),
        'o' => write!(shown, "{number:o}").ok(),
        _ => write!(shown, "{number}").ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_read_by_their_hint() {
        let date = "2d-1d-1d,1d:1d:1d.1d,1a1d:1d";
        for (hint, octets, shown) in [
            (date, &[0x07, 0xea, 11, 25, 12, 30, 5, 0, b'+', 1, 0][..], "2026-11-25,12:30:5.0,+1:0"),
            (date, &[0x07, 0xea, 11, 25, 12, 30, 5, 0], "2026-11-25,12:30:5.0"),
            ("1x:", &[0, 0x1b, 0x2c, 0xff], "00:1b:2c:ff"),
            ("1d.1d.1d.1d", &[192, 0, 2, 7], "192.0.2.7"),
            ("255a", b"hall 4", "hall 4"),
            ("*1x:/1x:", &[2, 0xaa, 0xbb, 0xcc], "aa:bb/cc"),
            (
                "2x:2x:2x:2x:2x:2x:2x:2x",
                &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                "2001:0db8:0000:0000:0000:0000:0000:0001",
            ),
        ] {
            assert_eq!(octets_by_hint(hint, octets).as_deref(), Some(shown), "{hint}");
        }
    }

    #[test]
    fn numbers_read_by_label_or_hint() {
        let labels = BTreeMap::from([(1, "up".to_owned()), (2, "down".to_owned())]);
        let shape = Shape { labels, hint: None };
        assert_eq!(shape.integer(2).as_deref(), Some("down"));
        assert_eq!(shape.integer(3), None);
        assert_eq!(shape.octets(&[0b0110_0000]).as_deref(), Some("up down"), "as BITS");
        for (hint, number, shown) in
            [("d-2", 2345, "23.45"), ("d-2", -5, "-0.05"), ("d-1", i64::MIN, "-922337203685477580.8"), ("x", 255, "ff")]
        {
            assert_eq!(integer_by_hint(hint, number).as_deref(), Some(shown));
        }
    }

    #[test]
    fn no_hint_runs_for_ever() {
        for hint in ["", "*", "0x", "*0x", "0a:", "1", "99999999999d", "1q", "*1d*1d", "0d1d", "d-99", "\u{e9}1x"] {
            let _ = octets_by_hint(hint, &[0; 1000]);
            let _ = octets_by_hint(hint, &[0xff; 1000]);
            let _ = integer_by_hint(hint, i64::MIN);
        }
    }
}
