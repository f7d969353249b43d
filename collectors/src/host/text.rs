//! What the readers of `/proc` and `/sys` share.

/// Longest name that is kept, characters.
pub const NAME_MAX: usize = 64;
/// Longest path that is kept, characters.
pub const PATH_MAX: usize = 160;
/// Ticks of a second in `/proc` (`USER_HZ`): the same on all machines that Linux runs on now.
pub const TICKS: f64 = 100.0;

/// A name fit to be shown: bounded, without control characters. Interfaces and processes can be named anything.
pub fn name(text: &str) -> String {
    bounded(text, NAME_MAX)
}

/// As [`name`], longer.
pub fn path(text: &str) -> String {
    bounded(text, PATH_MAX)
}

fn bounded(text: &str, max: usize) -> String {
    text.trim().chars().take(max).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A whole number that stands alone, or 0.
pub fn count(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// The `n`th word as a whole number, or 0.
pub fn nth(words: &[&str], n: usize) -> u64 {
    words.get(n).map_or(0, |word| count(word))
}

/// A number of ticks as seconds.
pub fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS
}

/// A decimal, or 0: never what JSON cannot say.
pub fn decimal(text: &str) -> f64 {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite()).unwrap_or(0.0)
}

/// A share to four digits.
pub fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0 && part.is_finite()).then(|| ((part / whole).clamp(0.0, 1.0) * 1e4).round() / 1e4)
}

/// The number behind `key` in lines of `key number`.
pub fn value(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix([' ', '\t', ':']))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_have_no_control_characters() {
        assert_eq!(name("eth0\n"), "eth0");
        assert_eq!(name("a\u{1b}[31mb"), "a?[31mb");
        assert_eq!(name(&"x".repeat(1000)).len(), NAME_MAX);
    }

    #[test]
    fn numbers_are_finite_and_shares_are_shares() {
        assert_eq!((decimal("inf"), decimal("nan"), decimal(" 1.50\n")), (0.0, 0.0, 1.5));
        assert_eq!((count("-1"), count("99999999999999999999"), count(" 7\n")), (0, 0, 7));
        assert_eq!((share(1.0, 3.0), share(5.0, 3.0), share(1.0, 0.0)), (Some(0.3333), Some(1.0), None));
    }

    #[test]
    fn a_key_is_a_whole_word() {
        let text = "oom_kill_x 3\noom_kill 7\nMemFree:   12 kB\n";
        assert_eq!((value(text, "oom_kill"), value(text, "MemFree"), value(text, "oom")), (Some(7), Some(12), None));
    }
}
