//! What a RELP client waits for: one answer per transaction, in order, each once what it is about is durable. Pure.

use std::collections::VecDeque;
use std::io::Write as _;

/// Transactions without an answer at which no more are read. librelp sends 128 ahead.
pub const WINDOW: usize = 4096;

/// Answers are written out in pieces of about so many bytes.
pub const OUT_MAX: usize = 16 * 1024;

/// What the answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The message is safe.
    Safe,
    /// The session may begin, in that version of the protocol.
    Opened(u8),
    /// It cannot: no version or command in common.
    NotOpened,
    /// The command is not known.
    Unknown,
    /// The session ends.
    Closed,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    /// Durable with this batch; 0 at once.
    batch: u64,
    txnr: u32,
    answer: Answer,
}

/// Answers that are owed, and those that the socket has not taken yet.
#[derive(Debug, Default)]
pub struct Answers {
    owed: VecDeque<Pending>,
    out: Vec<u8>,
    written: usize,
    over: bool,
}

impl Answers {
    /// Owes one, from when `batch` is durable.
    pub fn owe(&mut self, txnr: u32, answer: Answer, batch: u64) {
        self.owed.push_back(Pending { batch, txnr, answer });
    }

    /// Makes those ready whose time has come: in order, and no more than a slow reader may pile up.
    pub fn make_ready(&mut self, is_durable: impl Fn(u64) -> bool) {
        while let Some(&Pending { batch, txnr, answer }) = self.owed.front() {
            if self.over || self.ready().len() >= OUT_MAX || !is_durable(batch) {
                break;
            }
            self.owed.pop_front();
            self.put(txnr, answer);
        }
        if self.owed.is_empty() {
            self.owed = VecDeque::new();
        }
    }

    /// Says goodbye unasked.
    pub fn goodbye(&mut self) {
        if !self.over {
            self.out.extend_from_slice(b"0 serverclose 0\n");
            self.over = true;
        }
    }

    fn put(&mut self, txnr: u32, answer: Answer) {
        match answer {
            Answer::Safe => self.rsp(txnr, "200 OK"),
            Answer::Opened(version) => {
                let software = concat!("raven,", env!("CARGO_PKG_VERSION"), ",", env!("CARGO_PKG_REPOSITORY"));
                let offers = format!("200 OK\nrelp_version={version}\nrelp_software={software}\ncommands=syslog");
                self.rsp(txnr, &offers);
            }
            Answer::NotOpened => {
                self.rsp(txnr, "500 relp_version 0 or 1 and the command syslog are served here");
                self.goodbye();
            }
            Answer::Unknown => self.rsp(txnr, "500 unknown command"),
            Answer::Closed => {
                self.rsp(txnr, "");
                self.goodbye();
            }
        }
    }

    fn rsp(&mut self, txnr: u32, data: &str) {
        let space = if data.is_empty() { "" } else { " " };
        let _ = writeln!(self.out, "{txnr} rsp {}{space}{data}", data.len());
    }

    /// What is to be written.
    pub fn ready(&self) -> &[u8] {
        &self.out[self.written..]
    }

    /// The socket took `n` bytes of it.
    pub fn wrote(&mut self, n: usize) {
        self.written += n;
        if self.written == self.out.len() {
            (self.out, self.written) = (Vec::new(), 0);
        }
    }

    /// True when there is room for another transaction.
    pub fn has_room(&self) -> bool {
        self.owed.len() < WINDOW
    }

    /// True when an answer waits for durability alone.
    pub fn awaits(&self) -> bool {
        !self.owed.is_empty() && !self.over && self.ready().len() < OUT_MAX
    }

    /// True when all was answered and written.
    pub fn is_done(&self) -> bool {
        self.ready().is_empty() && (self.over || self.owed.is_empty())
    }

    /// True when the last word was said.
    pub const fn is_over(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_come_in_order_and_each_when_its_batch_is_durable() {
        let mut answers = Answers::default();
        answers.owe(1, Answer::Opened(0), 0);
        answers.owe(2, Answer::Safe, 5);
        answers.owe(3, Answer::Unknown, 0);
        answers.make_ready(|batch| batch < 5);
        assert!(answers.ready().starts_with(b"1 rsp ") && answers.ready().ends_with(b"\ncommands=syslog\n"));
        answers.wrote(answers.ready().len());
        assert!(answers.awaits() && !answers.is_done(), "the third waits behind the second");
        answers.make_ready(|batch| batch <= 5);
        assert_eq!(answers.ready(), b"2 rsp 6 200 OK\n3 rsp 19 500 unknown command\n");
    }

    #[test]
    fn the_end_is_answered_after_all_before_it_and_nothing_follows() {
        let mut answers = Answers::default();
        answers.owe(8, Answer::Safe, 1);
        answers.owe(9, Answer::Closed, 0);
        answers.owe(10, Answer::Safe, 0);
        answers.make_ready(|_| true);
        assert_eq!(answers.ready(), b"8 rsp 6 200 OK\n9 rsp 0\n0 serverclose 0\n");
        answers.goodbye();
        answers.wrote(10);
        assert!(!answers.is_done());
        answers.wrote(answers.ready().len());
        assert!(answers.is_done() && !answers.awaits());
    }

    #[test]
    fn a_client_that_reads_no_answers_holds_little_memory() {
        let mut answers = Answers::default();
        for txnr in 1..=WINDOW as u32 {
            assert!(answers.has_room());
            answers.owe(txnr, Answer::Safe, 1);
        }
        assert!(!answers.has_room());
        answers.make_ready(|_| true);
        assert!(answers.ready().len() < OUT_MAX + 100 && !answers.awaits() && answers.has_room());
        let mut said = Vec::new();
        while !answers.is_done() {
            said.extend_from_slice(answers.ready());
            answers.wrote(answers.ready().len());
            answers.make_ready(|_| true);
        }
        assert!(String::from_utf8(said).unwrap().ends_with("\n4096 rsp 6 200 OK\n"));
    }
}
