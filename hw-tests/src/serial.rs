//! The serial line: what the box says is read, waited for and kept.

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, speed, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a box that is emulated on a busy machine may take for anything.
pub const PATIENCE: Duration = Duration::from_mins(7);

/// One end of a serial line.
#[derive(Debug)]
pub struct Serial {
    /// Never waited at: it is polled.
    line: OwnedFd,
    log: File,
    /// What was said and not yet waited for.
    heard: Vec<u8>,
}

impl Serial {
    /// Connects to QEMU's socket; everything heard goes to `log` too.
    pub fn connect(socket: &Path, log: &Path) -> Result<Self> {
        let line = reached(socket)?;
        line.set_nonblocking(true)?;
        Self::at(line.into(), log)
    }

    /// Opens a serial device with a box at its other end: 115200 bits a second, 8 bits, no parity.
    pub fn device(path: &Path, log: &Path) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let line = rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("{}", path.display()))?;
        let mut terminal = tcgetattr(&line).with_context(|| format!("{} is no serial line", path.display()))?;
        terminal.make_raw();
        terminal.set_speed(speed::B115200)?;
        tcsetattr(&line, OptionalActions::Flush, &terminal)?;
        Self::at(line, log)
    }

    fn at(line: OwnedFd, log: &Path) -> Result<Self> {
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        Ok(Self { line, log, heard: Vec::new() })
    }

    /// Waits for `what`; returns what was said before it. What comes after it stays for the next time.
    ///
    /// # Errors
    /// It was not said in time, with what was said last; the line was closed; `never` was said first.
    pub fn expect(&mut self, what: &str, never: &[&str], patience: Duration) -> Result<String> {
        let began = Instant::now();
        loop {
            let text = plain(&self.heard);
            if let Some(bad) = never.iter().find(|bad| text.split(what).next().unwrap_or_default().contains(**bad)) {
                bail!("the box said `{bad}`:\n{}", last_lines(&text));
            }
            if let Some((before, after)) = text.split_once(what) {
                self.heard = after.as_bytes().to_vec();
                return Ok(before.to_owned());
            }
            if began.elapsed() > patience {
                bail!("`{what}` was not said within {} s; last:\n{}", patience.as_secs(), last_lines(&text));
            }
            self.hear().with_context(|| format!("waiting for `{what}`; last:\n{}", last_lines(&text)))?;
        }
    }

    /// Waits until one of these is said, and says which; what comes behind it stays.
    pub fn expect_one_of(&mut self, whats: &[&str], patience: Duration) -> Result<usize> {
        let began = Instant::now();
        loop {
            let text = plain(&self.heard);
            let first = whats.iter().enumerate().filter_map(|(n, what)| Some((text.find(what)?, n, what))).min();
            if let Some((at, n, what)) = first {
                self.heard = text.as_bytes()[at + what.len()..].to_vec();
                return Ok(n);
            }
            if began.elapsed() > patience {
                bail!("none of {whats:?} was said within {} s; last:\n{}", patience.as_secs(), last_lines(&text));
            }
            self.hear().with_context(|| format!("waiting for one of {whats:?}; last:\n{}", last_lines(&text)))?;
        }
    }

    /// What is said in so much time, and nothing of before; not longer than until it says `enough`.
    pub fn said_in(&mut self, time: Duration, enough: Option<&str>) -> Result<String> {
        self.heard.clear();
        let began = Instant::now();
        loop {
            let text = plain(&self.heard);
            if began.elapsed() >= time || enough.is_some_and(|enough| text.contains(enough)) {
                return Ok(text);
            }
            self.hear()?;
        }
    }

    /// Types. A line that is full waits for the box, which may wait for somebody to read: so that is done meanwhile.
    ///
    /// # Errors
    /// The line was closed, or took nothing for long.
    pub fn send(&mut self, keys: &[u8]) -> Result<()> {
        let (mut rest, mut last) = (keys, Instant::now());
        while !rest.is_empty() {
            match rustix::io::write(&self.line, rest) {
                Ok(n) => (rest, last) = (&rest[n..], Instant::now()),
                Err(Errno::AGAIN | Errno::INTR) => self.hear_or(PollFlags::OUT)?,
                Err(error) => return Err(error.into()),
            }
            if last.elapsed() > PATIENCE {
                bail!("the serial line takes nothing any more");
            }
        }
        Ok(())
    }

    fn hear(&mut self) -> Result<()> {
        self.hear_or(PollFlags::empty())
    }

    /// Reads what there is; waits for it, or for `also`, half a second at most.
    fn hear_or(&mut self, also: PollFlags) -> Result<()> {
        let mut fds = [PollFd::new(&self.line, PollFlags::IN | also)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 500_000_000 }))?;
        if !fds[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return Ok(());
        }
        let mut bytes = [0; 4096];
        match rustix::io::read(&self.line, &mut bytes) {
            Ok(0) => bail!("the box has gone"),
            Ok(n) => {
                self.log.write_all(&bytes[..n])?;
                self.heard.extend(&bytes[..n]);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Connects to a socket that QEMU opens soon.
pub fn reached(socket: &Path) -> Result<UnixStream> {
    let began = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if began.elapsed() > Duration::from_secs(20) => {
                bail!("QEMU does not open {}: {error}", socket.display())
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Text without carriage returns and without the sequences that choose colours and the like (ECMA-48: CSI); one that moves
/// the cursor is a space, since spaces between words are not drawn.
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {}
            '\x1b' if chars.peek() == Some(&'[') => {
                chars.next();
                if chars.by_ref().find(|c| ('@'..='~').contains(c)) == Some('H') {
                    plain.push(' ');
                }
            }
            c => plain.push(c),
        }
    }
    plain
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::net::UnixListener;

    fn line(said: &[u8]) -> (Serial, UnixStream, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let serial = Serial::connect(&socket, &dir.path().join("log")).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        other.write_all(said).unwrap();
        (serial, other, dir)
    }

    #[test]
    fn what_was_waited_for_divides_what_was_said() {
        let (mut serial, _other, dir) = line(b"a\r\n\x1b[1;31mready\x1b[0m\r\nb\n");
        assert_eq!(serial.expect("ready", &[], PATIENCE).unwrap(), "a\n");
        assert_eq!(serial.expect("b", &[], PATIENCE).unwrap(), "\n");
        assert!(std::fs::read_to_string(dir.path().join("log")).unwrap().contains("\x1b[1;31mready"));
    }

    #[test]
    fn a_serial_device_is_read_and_typed_on_as_it_is() {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let dir = tempfile::tempdir().unwrap();
        let other = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&other).unwrap();
        unlockpt(&other).unwrap();
        let path = std::path::PathBuf::from(ptsname(&other, Vec::new()).unwrap().to_str().unwrap());
        let mut serial = Serial::device(&path, &dir.path().join("log")).unwrap();
        rustix::io::write(&other, b"a\x03\r\nready\r\n").unwrap();
        assert_eq!(serial.expect("ready", &[], PATIENCE).unwrap(), "a\x03\n");
        serial.send(b"x\ry\x0c").unwrap();
        let mut typed = [0; 8];
        let typed = rustix::io::read(&other, &mut typed).map(|n| typed[..n].to_vec()).unwrap();
        assert_eq!(typed, b"x\ry\x0c");
        let not = dir.path().join("file");
        std::fs::write(&not, "").unwrap();
        assert!(format!("{:#}", Serial::device(&not, &dir.path().join("log")).unwrap_err()).contains("no serial line"));
    }

    #[test]
    fn what_must_never_be_said_ends_the_wait() {
        let (mut serial, _other, _dir) = line(b"FAILED: no disk\nready\n");
        let error = serial.expect("ready", &["FAILED"], PATIENCE).unwrap_err().to_string();
        assert!(error.contains("no disk"), "{error}");
        let (mut serial, _other, _dir) = line(b"ready\nFAILED\n");
        assert!(serial.expect("ready", &["FAILED"], PATIENCE).is_ok());
    }

    #[test]
    fn silence_and_an_end_are_errors_with_the_last_words() {
        let (mut serial, other, _dir) = line(b"almost\n");
        let error = serial.expect("ready", &[], Duration::from_secs(1)).unwrap_err().to_string();
        assert!(error.contains("almost"), "{error}");
        drop(other);
        assert!(format!("{:#}", serial.expect("ready", &[], PATIENCE).unwrap_err()).contains("gone"));
    }
}
