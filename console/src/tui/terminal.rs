//! The terminal: raw mode, its size, input with a time limit, and leaving it as it was found.
//!
//! A serial line knows no size: the cursor is sent to the far corner and asked where it came to stand, at the start, now
//! and then, and on Ctrl-L.

use super::keys::{ESCAPE, Key, Keys};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::termios::{self, ControlModes, OptionalActions, Termios, Winsize};
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

/// What is drawn for when nobody says otherwise.
pub const USUAL: Size = Size { columns: 80, rows: 24 };
/// A serial line is asked for its size this often.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// Two frames a second leave a line of 115200 baud room to answer.
const SERIAL_FRAME: Duration = Duration::from_millis(500);
const FRAME: Duration = Duration::from_millis(50);
/// To the far corner and back, the question where that is in between.
const PROBE: &[u8] = b"\x1b7\x1b[999;999H\x1b[6n\x1b8";

/// Of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Keys, maybe none, within the time.
    Keys(Vec<Key>),
    /// The line is gone.
    HungUp,
}

/// Standard input and output in raw mode, until it is dropped.
pub struct Terminal {
    found: Termios,
    keys: Keys,
    size: Size,
    /// On a cable.
    pub serial: bool,
    probed: Option<Instant>,
}

impl Terminal {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// Standard input is none.
    pub fn take() -> io::Result<Self> {
        let stdin = io::stdin();
        let found = termios::tcgetattr(&stdin)?;
        let mut raw = found.clone();
        raw.make_raw();
        let name = termios::ttyname(&stdin, Vec::new()).ok();
        let serial = name.is_some_and(|name| is_serial(&name.to_string_lossy()));
        if serial {
            // A cable of three wires has no carrier to wait for.
            raw.control_modes.insert(ControlModes::CLOCAL);
        }
        termios::tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        let mut terminal = Self { found, keys: Keys::default(), size: USUAL, serial, probed: None };
        terminal.look();
        Ok(terminal)
    }

    /// Shortest time from one frame to the next.
    pub const fn frame(&self) -> Duration {
        if self.serial { SERIAL_FRAME } else { FRAME }
    }

    /// Its size as known.
    pub const fn size(&self) -> Size {
        self.size
    }

    /// Asks for the size again: the kernel, or the far end of the cable.
    pub fn look(&mut self) {
        self.probed = None;
        self.look_again();
    }

    fn look_again(&mut self) {
        let known = termios::tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        if let Some(known) = known {
            self.size = Size { columns: known.ws_col, rows: known.ws_row };
        }
        let is_due = self.probed.is_none_or(|probed| probed.elapsed() >= PROBE_EVERY);
        if is_due && (known.is_none() || self.serial) {
            self.probed = Some(Instant::now());
            let _ = self.write(PROBE);
        }
    }

    /// The terminal said where its far corner is.
    fn corner(&mut self, row: u16, column: u16) {
        if !(10..1000).contains(&column) || !(4..1000).contains(&row) {
            return;
        }
        self.size = Size { columns: column, rows: row };
        let size = Winsize { ws_row: row, ws_col: column, ws_xpixel: 0, ws_ypixel: 0 };
        let _ = termios::tcsetwinsize(io::stdin(), size);
    }

    /// Waits so long for keys.
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub fn read(&mut self, limit: Duration) -> io::Result<Input> {
        self.look_again();
        let limit = if self.keys.is_waiting() { ESCAPE } else { limit };
        let stdin = io::stdin();
        if !is_readable(&stdin, limit)? {
            return Ok(Input::Keys(self.keys.lapse().into_iter().collect()));
        }
        let mut bytes = [0; 4096];
        let got = match rustix::io::read(&stdin, &mut bytes) {
            Ok(0) | Err(Errno::IO) => return Ok(Input::HungUp),
            Ok(got) => got,
            Err(Errno::INTR | Errno::AGAIN) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut keys = self.keys.read(&bytes[..got], Instant::now());
        for key in &keys {
            if let Key::Cursor { row, column } = key {
                self.corner(*row, *column);
            }
        }
        keys.retain(|key| !matches!(key, Key::Cursor { .. }));
        Ok(Input::Keys(keys))
    }

    /// Whether senseless input is being ignored.
    pub fn is_noisy(&self) -> bool {
        self.keys.is_noisy()
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The terminal does not take them.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout();
        stdout.write_all(bytes)?;
        stdout.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let last_row = self.size.rows;
        let _ = self.write(format!("\x1b[0m\x1b[{last_row};1H\x1b[K\x1b[?25h").as_bytes());
        let _ = termios::tcdrain(io::stdout());
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, &self.found);
    }
}

/// Whether that terminal is a cable.
pub fn is_serial(name: &str) -> bool {
    ["/dev/ttyS", "/dev/ttyUSB", "/dev/ttyACM", "/dev/ttyAMA"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether standard input has something to be read.
pub fn is_typed() -> bool {
    is_readable(&io::stdin(), Duration::ZERO).unwrap_or(true)
}

fn is_readable(fd: &impl AsFd, limit: Duration) -> io::Result<bool> {
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: i64::from(limit.subsec_nanos()) };
    let mut polled = [PollFd::new(fd, PollFlags::IN)];
    match poll(&mut polled, Some(&limit)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cables_are_told_from_screens_and_from_ssh() {
        assert!(["/dev/ttyS0", "/dev/ttyUSB0", "/dev/ttyACM1", "/dev/ttyAMA0"].into_iter().all(is_serial));
        assert!(!["/dev/tty1", "/dev/pts/3", "/dev/console"].into_iter().any(is_serial));
    }
}
