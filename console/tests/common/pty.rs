//! A program on a pseudo-terminal, and what a terminal would show of it.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// See the top.
pub struct Pty {
    child: Child,
    master: File,
    /// The terminal's own end, kept open so that what was sent is not lost.
    pub line: File,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

impl Pty {
    /// `raven` on a terminal of this size; 0 columns: the size is not known, as on a serial line.
    pub fn run(mut command: Command, (rows, columns): (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        // A test that leads its session would get it as its own terminal, and be hung up on with it.
        let flags = OpenptFlags::NOCTTY.bits().cast_signed();
        let line = OpenOptions::new().read(true).write(true).custom_flags(flags).open(name).unwrap();
        tcsetwinsize(&line, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        command.env("TERM", "vt220").env_remove("LANG").env_remove("LC_ALL").env_remove("LC_CTYPE");
        let end = || line.try_clone().unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let master = File::from(master);
        let size = if columns == 0 { (30, 100) } else { (rows, columns) };
        let seen = Arc::new(Mutex::new(Seen { parser: vt100::Parser::new(size.0, size.1, 0), bytes: Vec::new() }));
        let (mut reader, filled) = (master.try_clone().unwrap(), Arc::clone(&seen));
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(got @ 1..) = reader.read(&mut chunk) {
                let mut seen = filled.lock().unwrap();
                seen.parser.process(&chunk[..got]);
                seen.bytes.extend_from_slice(&chunk[..got]);
            }
        });
        Self { child, master, line, seen }
    }

    /// Types.
    pub fn send(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).unwrap();
    }

    /// What the terminal shows.
    pub fn shown(&self) -> String {
        self.seen.lock().unwrap().parser.screen().contents()
    }

    /// What it shows once nothing has changed for a second, without the spaces at the ends of its lines.
    pub fn settled(&self) -> Vec<String> {
        let mut bytes = 0;
        while std::mem::replace(&mut bytes, self.bytes().len()) != bytes {
            thread::sleep(Duration::from_secs(1));
        }
        self.shown().lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// All bytes that came.
    pub fn bytes(&self) -> Vec<u8> {
        self.seen.lock().unwrap().bytes.clone()
    }

    /// Waits until the terminal shows what is wanted.
    pub fn until(&self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let shown = self.shown();
            if is_it(&shown) {
                return shown;
            }
            assert!(start.elapsed() < LIMIT, "{what} never came; the terminal shows:\n{shown}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it shows this text.
    pub fn shows(&self, text: &str) -> String {
        self.until(text, |shown| shown.contains(text))
    }

    /// Waits until bytes like these came.
    pub fn sent(&self, wanted: &[u8]) {
        self.until(&String::from_utf8_lossy(wanted), |_| {
            self.bytes().windows(wanted.len()).any(|window| window == wanted)
        });
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its exit code, when it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        let start = Instant::now();
        while self.is_running() {
            assert!(start.elapsed() < LIMIT, "it does not end; the terminal shows:\n{}", self.shown());
            thread::sleep(Duration::from_millis(20));
        }
        self.child.wait().unwrap().code()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
