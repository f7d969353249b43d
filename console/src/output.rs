//! Standard output and standard error: lines for people, JSON for programs.

use crate::escape;
use crate::failure::Failure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use std::cell::RefCell;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::rc::Rc;

/// What `poll` says of standard output when nobody reads it any more.
pub const UNREAD: PollFlags = PollFlags::ERR.union(PollFlags::HUP);

/// Whether somebody reads standard output still: a pipe of which sshd closed the other end is read by nobody.
pub fn is_read() -> bool {
    let out = io::stdout();
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default())).is_err() || !fds[0].revents().intersects(UNREAD)
}

/// Where a command writes.
pub struct Output {
    out: Box<dyn Write>,
    /// Programs read this.
    pub json: bool,
    /// A person looks at a terminal.
    pub terminal: bool,
    /// Nothing goes to standard error either.
    pub quiet: bool,
}

/// What was written, in memory.
#[derive(Debug, Clone, Default)]
pub struct Kept(Rc<RefCell<Vec<u8>>>);

impl Kept {
    /// All of it.
    pub fn take(&self) -> Vec<u8> {
        self.0.take()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    /// Standard output.
    pub fn stdout(json: bool) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Self { out: Box::new(BufWriter::with_capacity(64 << 10, stdout)), json, terminal, quiet: false }
    }

    /// For answers that are read and not shown as they come.
    pub fn nowhere() -> Self {
        Self { out: Box::new(io::sink()), json: false, terminal: false, quiet: true }
    }

    /// For answers that are kept: the second has them once the first is gone.
    pub fn kept(json: bool) -> (Self, Kept) {
        let kept = Kept::default();
        (Self { out: Box::new(kept.clone()), json, terminal: false, quiet: true }, kept)
    }

    /// One line of text that holds nothing from strangers, or is escaped.
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.out, "{line}").map_err(Failure::Output)
    }

    /// One value: a line of JSON, spread over several lines for a person.
    pub fn value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let written = if self.terminal { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        let text = written.map_err(|error| Failure::Output(error.into()))?;
        let safe = if self.terminal {
            text.lines().map(|line| escape::json(line.as_bytes())).collect::<Vec<_>>().join("\n")
        } else {
            text
        };
        self.line(&safe)
    }

    /// A line of JSON from the decode role, without its LF: exactly as it came, but harmless on a terminal.
    pub fn json_line(&mut self, line: &[u8]) -> Result<(), Failure> {
        if self.terminal {
            return self.line(&escape::json(line));
        }
        self.bytes(line)?;
        self.bytes(b"\n")
    }

    /// Bytes as they are. Not for terminals.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(Failure::Output)
    }

    /// All that was written becomes visible.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::Output)
    }

    /// The same at the end of the program: a serial line has sent all of it before whoever started us hangs it up.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.flush()?;
        if self.terminal {
            let _ = rustix::termios::tcdrain(io::stdout());
        }
        Ok(())
    }

    /// A remark beside the output, on standard error; not with `--json`.
    pub fn remark(&self, text: &str) {
        if !self.json && !self.quiet {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// What an answer does not show, and why, on standard error; with `--json` as `{"note": …}`.
    pub fn note(&mut self, note: &str) {
        if self.quiet {
            return;
        }
        let _ = self.out.flush();
        let shown = if self.json {
            serde_json::json!({ "note": note }).to_string()
        } else {
            format!("raven: note: {}", escape::text(note))
        };
        let _ = writeln!(io::stderr(), "{shown}");
    }

    /// Why nothing (more) comes, on standard error.
    pub fn complain(&mut self, failure: &Failure) {
        let _ = self.out.flush();
        let text = failure.to_string();
        let shown = if self.json {
            let errors: Vec<&str> = text.lines().collect();
            serde_json::json!({ "errors": errors, "exit": failure.code() }).to_string()
        } else {
            text.lines().map(|line| format!("raven: {}", escape::text(line))).collect::<Vec<_>>().join("\n")
        };
        let mut stderr = io::stderr();
        let _ = writeln!(stderr, "{shown}");
        if stderr.is_terminal() {
            let _ = rustix::termios::tcdrain(&stderr);
        }
    }
}
