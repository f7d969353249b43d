//! A place in a message, and the few moves that every grammar here is made of.

/// Bytes still to be read. Copying it is how a parser remembers where it was.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Runs `parse`; where it finds nothing, nothing has been read.
    pub fn attempt<T>(&mut self, parse: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let before = *self;
        let found = parse(self);
        if found.is_none() {
            *self = before;
        }
        found
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    /// One byte, if it is `expected`.
    pub fn eat(&mut self, expected: u8) -> Option<()> {
        self.eat_if(|byte| byte == expected).map(|_| ())
    }

    /// One byte, if `wanted` says so.
    pub fn eat_if(&mut self, wanted: impl FnOnce(u8) -> bool) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        wanted(first).then(|| {
            self.rest = rest;
            first
        })
    }

    /// Exactly these bytes.
    pub fn eat_all(&mut self, expected: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    /// As many bytes as `wanted` says, at most `max`; possibly none.
    pub fn take_while(&mut self, max: usize, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let n = self.rest.iter().take(max).take_while(|byte| wanted(**byte)).count();
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        taken
    }

    /// Leaves out spaces; says how many.
    pub fn skip_spaces(&mut self) -> usize {
        self.take_while(usize::MAX, |byte| byte == b' ').len()
    }

    /// A decimal number of `min` to `max` digits. `max` is at most 9, so that it fits.
    pub fn number(&mut self, min: usize, max: usize) -> Option<u32> {
        let digits = self.digits(min, max)?;
        Some(digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
    }

    /// `min` to `max` digits.
    pub fn digits(&mut self, min: usize, max: usize) -> Option<&'a [u8]> {
        let before = *self;
        let digits = self.take_while(max, |byte| byte.is_ascii_digit());
        if digits.len() < min {
            *self = before;
            return None;
        }
        Some(digits)
    }
}

/// Bytes as text; what is not UTF-8 becomes U+FFFD. Nothing for nothing.
pub fn text(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}
