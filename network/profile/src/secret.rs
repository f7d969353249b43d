//! Keys and passwords: wiped when dropped, never shown.

use std::fmt;
use zeroize::Zeroize;

/// A value that is wiped when it is dropped. Debug shows `(secret)`; there is no Display and no Serialize, so that it
/// reaches no log and no answer unless [`Secret::expose`] stands there.
///
/// It lies on the heap, so that moving it leaves no copy behind.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(Box<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes a value in.
    pub fn new(value: T) -> Self {
        Self(Box::new(value))
    }

    /// The value itself: for the file or the descriptor that it goes into, never for a message.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".to_owned())), "(secret)");
        assert_eq!(format!("{:?}", Some(Secret::new([7_u8; 32]))), "Some((secret))");
    }
}
