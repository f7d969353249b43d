//! Passwords and codes that are typed are not shown.

use rustix::termios::{self, LocalModes, OptionalActions};
use std::io;

/// A terminal that shows nothing of what is typed; nothing where standard input is none.
#[derive(Debug)]
pub struct Silence(Option<termios::Termios>);

impl Silence {
    /// Until it is dropped.
    pub fn begin() -> Self {
        let found = termios::tcgetattr(io::stdin()).ok();
        if let Some(mut silent) = found.clone() {
            silent.local_modes.remove(LocalModes::ECHO);
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, &silent);
        }
        Self(found)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(found) = &self.0 {
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, found);
        }
    }
}
