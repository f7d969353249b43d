//! Text that an operator looks for in messages.

use memchr::memmem::Finder;
use std::cell::RefCell;

/// All of these, byte for byte or in either case, anywhere or as whole words.
pub struct Text {
    finders: Vec<Finder<'static>>,
    ignore_case: bool,
    words: bool,
    /// What is searched in small letters, when case does not count.
    small: RefCell<Vec<u8>>,
}

impl Text {
    /// Empty texts are in every message.
    pub fn new(texts: &[String], ignore_case: bool, words: bool) -> Self {
        let finder = |text: &String| {
            let text = if ignore_case { text.to_ascii_lowercase() } else { text.clone() };
            Finder::new(text.as_bytes()).into_owned()
        };
        let finders = texts.iter().filter(|text| !text.is_empty()).map(finder).collect();
        Self { finders, ignore_case, words, small: RefCell::default() }
    }

    /// False when no message within these bytes can hold all of it: spares taking them apart.
    pub fn may_be_in(&self, bytes: &[u8]) -> bool {
        self.all(bytes, |finder, bytes| finder.find(bytes).is_some())
    }

    /// True when the message holds all of it.
    pub fn is_in(&self, message: &[u8]) -> bool {
        let found = |finder: &Finder<'_>, message: &[u8]| {
            finder.find_iter(message).any(|at| !self.words || is_word(message, at, finder.needle().len()))
        };
        self.all(message, found)
    }

    fn all(&self, bytes: &[u8], found: impl Fn(&Finder<'_>, &[u8]) -> bool) -> bool {
        if self.finders.is_empty() {
            return true;
        }
        if !self.ignore_case {
            return self.finders.iter().all(|finder| found(finder, bytes));
        }
        let mut small = self.small.borrow_mut();
        small.clear();
        small.extend(bytes.iter().map(u8::to_ascii_lowercase));
        self.finders.iter().all(|finder| found(finder, &small))
    }
}

/// As `grep -w` means it: neither the byte before nor the one behind belongs to a word.
fn is_word(message: &[u8], at: usize, len: usize) -> bool {
    let inside = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let before = at.checked_sub(1).and_then(|at| message.get(at));
    !inside(before) && !inside(message.get(at + len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_in(texts: &[&str], ignore_case: bool, words: bool, message: &str) -> bool {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let text = Text::new(&texts, ignore_case, words);
        let found = text.is_in(message.as_bytes());
        assert!(text.may_be_in(message.as_bytes()) || !found);
        found
    }

    #[test]
    fn all_texts_have_to_be_there() {
        assert!(is_in(&["link", "down"], false, false, "link 7 is down"));
        assert!(!is_in(&["link", "up"], false, false, "link 7 is down"));
        assert!(is_in(&[], false, false, "") && is_in(&[""], true, true, "x"));
    }

    #[test]
    fn case_counts_unless_it_is_told_not_to() {
        assert!(!is_in(&["Deny"], false, false, "DENY tcp"));
        assert!(is_in(&["Deny"], true, false, "DENY tcp"));
    }

    #[test]
    fn a_whole_word_is_found_behind_one_that_only_contains_it() {
        assert!(!is_in(&["10.1.2.3"], false, true, "from 10.1.2.34 and 110.1.2.3"));
        assert!(is_in(&["10.1.2.3"], false, true, "from 10.1.2.34 and 10.1.2.3"));
        assert!(is_in(&["eth0"], false, true, "eth0:up") && !is_in(&["eth0"], false, true, "eth0_1"));
        assert!(is_in(&["aa"], false, true, "aa") && !is_in(&["aa"], false, true, "aaa"));
    }
}
