//! What a client still has to take of its answer.

use raven_model::archive::ArchiveLine;
use raven_model::query::{LossView, RecordView, Reply, SourceView, TopView, VerifyView};
use raven_model::update::UpdateLine;
use std::io;
use std::os::fd::BorrowedFd;

/// Room that is kept between blocks; what a large block took beyond is given back.
const KEPT: usize = 256 * 1024;

/// A line of the answer itself.
pub enum Line<'a> {
    /// A record.
    Record(&'a RecordView),
    /// A sender.
    Source(&'a SourceView),
    /// A key of flows.
    Top(&'a TopView),
    /// An entry of the ledger.
    Loss(&'a LossView),
    /// How far a check is.
    Verify(&'a VerifyView),
    /// A part of an archive.
    Archive(&'a ArchiveLine),
    /// How far an update is.
    Update(&'a UpdateLine),
}

/// Lines of an answer that were not sent yet.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    sent: usize,
    written: u64,
}

impl Lines {
    /// A line of the answer itself.
    pub fn line(&mut self, line: &Line<'_>) {
        // Text and numbers always serialise.
        let _ = match line {
            Line::Record(view) => serde_json::to_writer(&mut self.bytes, view),
            Line::Source(view) => serde_json::to_writer(&mut self.bytes, view),
            Line::Top(view) => serde_json::to_writer(&mut self.bytes, view),
            Line::Loss(view) => serde_json::to_writer(&mut self.bytes, view),
            Line::Verify(view) => serde_json::to_writer(&mut self.bytes, view),
            Line::Archive(line) => serde_json::to_writer(&mut self.bytes, line),
            Line::Update(line) => serde_json::to_writer(&mut self.bytes, line),
        };
        self.bytes.push(b'\n');
        self.written += 1;
    }

    /// Something that the operator should know about the answer.
    pub fn note(&mut self, text: impl Into<String>) {
        self.reply(&Reply::Note(text.into()));
    }

    /// The answer begins, or nothing (more) comes.
    pub fn reply(&mut self, reply: &Reply) {
        // Text and numbers always serialise.
        let _ = serde_json::to_writer(&mut self.bytes, reply);
        self.bytes.push(b'\n');
    }

    /// The answer is whole.
    pub fn done(&mut self) {
        self.reply(&Reply::Done(self.written));
    }

    /// True when all is sent.
    pub const fn is_sent(&self) -> bool {
        self.sent >= self.bytes.len()
    }

    /// Sends what the client takes now; returns how many bytes. Nobody else waits for it.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let before = self.sent;
        while self.sent < self.bytes.len() {
            match raven_jail::channel::try_send(socket, &self.bytes[self.sent..], &[]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(self.sent - before),
                Err(error) => return Err(error),
            }
        }
        let sent = self.sent - before;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.sent = 0;
        Ok(sent)
    }

    /// What was written, for tests.
    #[cfg(test)]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}
