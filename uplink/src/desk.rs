//! What operators say to the uplink: one order per connection, which `ravend` made and handed on.

use crate::dead::{DeadLetters, Letter};
use crate::fleet::Route;
use raven_model::delivery::{LetterView, Order, Which};
use raven_model::query::Reply;
use serde::Serialize;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::UnixStream;
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;

/// Orders that wait, at most.
pub const ORDERS_MAX: usize = 16;

/// Longest order, bytes.
const ORDER_MAX: u64 = 64 * 1024;

/// A silent operator's program, or one that does not read, is let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// An order and who gave it.
pub struct Visit {
    /// What to do.
    pub order: Order,
    /// To whom to answer.
    pub answer: Answer,
}

/// The connection to an operator's program.
pub struct Answer {
    out: BufWriter<UnixStream>,
    lines: u64,
}

/// Reads the order and passes it on; answers at once when it makes no sense.
pub fn receive(fd: OwnedFd, orders: Sender<Visit>) {
    tokio::task::spawn_local(async move {
        if let Err(error) = listen(fd, orders).await {
            eprintln!("uplink: an operator's connection: {error}");
        }
    });
}

async fn listen(fd: OwnedFd, orders: Sender<Visit>) -> io::Result<()> {
    let stream = net::UnixStream::from(fd);
    stream.set_nonblocking(true)?;
    let mut reader = BufReader::new(UnixStream::from_std(stream)?);
    let mut line = Vec::new();
    timeout(PATIENCE, (&mut reader).take(ORDER_MAX).read_until(b'\n', &mut line)).await??;
    let mut answer = Answer { out: BufWriter::new(reader.into_inner()), lines: 0 };
    match serde_json::from_slice(&line) {
        Ok(order) => {
            // The uplink is about to end when nobody takes it: the closed connection says so.
            let _ = orders.send(Visit { order, answer }).await;
            Ok(())
        }
        Err(error) => answer.say(&Reply::Error(format!("not an order that this uplink knows: {error}"))).await,
    }
}

impl Answer {
    /// Answers with these lines, or says why nothing was done.
    pub fn finish<T: Serialize + 'static>(mut self, lines: Result<Vec<T>, String>) {
        tokio::task::spawn_local(async move {
            let _ = match lines {
                Err(why) => self.say(&Reply::Error(why)).await,
                Ok(lines) => self.all(&lines).await,
            };
        });
    }

    /// Answers with dead letters, read while they are sent.
    pub fn letters(mut self, which: Which, files: Vec<(Route, DeadLetters)>, whole: bool) {
        tokio::task::spawn_local(async move {
            if let Err(error) = self.list(&which, &files, whole).await {
                let _ = self.say(&Reply::Error(error.to_string())).await;
            }
        });
    }

    async fn all<T: Serialize>(&mut self, lines: &[T]) -> io::Result<()> {
        self.say(&Reply::Ok).await?;
        for line in lines {
            self.line(&serde_json::to_vec(line)?).await?;
        }
        self.done().await
    }

    async fn list(&mut self, which: &Which, files: &[(Route, DeadLetters)], whole: bool) -> io::Result<()> {
        self.say(&Reply::Ok).await?;
        for (route, letters) in files {
            for line in letters.lines()? {
                let line = line?;
                let Some(letter) = Letter::parse(&line) else { continue };
                if which.has(letter.seq) {
                    let shown =
                        if whole { shown_whole(route, &line)? } else { serde_json::to_vec(&letter.view(route))? };
                    self.line(&shown).await?;
                }
                // Delivery goes on beside a long list.
                tokio::task::consume_budget().await;
            }
        }
        self.done().await
    }

    async fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.lines += 1;
        let out = &mut self.out;
        timeout(PATIENCE, async {
            out.write_all(line).await?;
            out.write_all(b"\n").await
        })
        .await?
    }

    async fn say(&mut self, reply: &Reply) -> io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        timeout(PATIENCE, self.out.write_all(&line)).await??;
        timeout(PATIENCE, self.out.flush()).await?
    }

    async fn done(&mut self) -> io::Result<()> {
        self.say(&Reply::Done(self.lines)).await
    }
}

/// The line of the file with the destination in front: `{"destination":"noc",…`.
fn shown_whole((name, _): &Route, line: &str) -> io::Result<Vec<u8>> {
    let mut shown = b"{\"destination\":".to_vec();
    serde_json::to_writer(&mut shown, name)?;
    shown.push(b',');
    shown.extend_from_slice(line.trim_start_matches('{').as_bytes());
    Ok(shown)
}

impl Letter {
    fn view(&self, (name, stream): &Route) -> LetterView {
        let record = self.record();
        LetterView {
            destination: name.clone(),
            stream: stream.clone(),
            seq: self.seq,
            dead_ns: self.dead_ns,
            received_ns: record.received.wall,
            size: record.raw.len() as u64,
            reason: self.reason.clone(),
        }
    }
}
