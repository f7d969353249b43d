//! A test that is being made: what is told comes by a channel, so that nobody waits for it, and who drops it ends it.

use crate::client::Client;
use crate::failure::Failure;
use crate::output::Output;
use raven_model::diag::{Event, Test};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Events that wait to be looked at; then the test waits.
const WAITING: usize = 1024;

/// What is told of a test.
#[derive(Debug)]
pub enum News {
    /// Something happened.
    Event(Box<Event>),
    /// All was told.
    Over,
    /// No more comes, and why.
    Failed(String),
}

/// See the top.
pub struct Running {
    news: Receiver<News>,
    end: Option<Box<dyn FnOnce() + Send>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl Running {
    /// Of which this is told, and which ends so.
    pub fn new(news: Receiver<News>, end: impl FnOnce() + Send + 'static) -> Self {
        Self { news, end: Some(Box::new(end)) }
    }

    /// Has the diag role make it.
    pub fn begin(client: Client, test: Test) -> Self {
        let (sender, news) = mpsc::sync_channel(WAITING);
        let held = Arc::<Mutex<Held>>::default();
        let ends = Arc::clone(&held);
        thread::spawn(move || {
            let told = hear(&client, &test, &held, &sender);
            let last = told.map_or_else(|failure| News::Failed(failure.to_string()), |()| News::Over);
            // Who does not want it any more is told nothing.
            let _ = sender.send(last);
        });
        Self::new(news, move || lock(&ends).end())
    }

    /// What is new, without waiting.
    pub fn news(&self) -> Option<News> {
        match self.news.try_recv() {
            Ok(news) => Some(news),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => Some(News::Over),
        }
    }

    /// The next that is told within this time.
    pub fn wait(&self, limit: Duration) -> Option<News> {
        match self.news.recv_timeout(limit) {
            Ok(news) => Some(news),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(News::Over),
        }
    }
}

/// The connection of a test, which is the test.
#[derive(Default)]
struct Held {
    stream: Option<UnixStream>,
    is_over: bool,
}

impl Held {
    /// The connection is there; maybe nobody wants it any more.
    fn hold(&mut self, stream: &UnixStream) {
        self.stream = stream.try_clone().ok();
        if self.is_over {
            self.end();
        }
    }

    fn end(&mut self) {
        self.is_over = true;
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn lock(held: &Mutex<Held>) -> std::sync::MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hear(client: &Client, test: &Test, held: &Mutex<Held>, sender: &SyncSender<News>) -> Result<(), Failure> {
    let mut answer = client.diag_held(test, |stream| lock(held).hold(stream))?;
    let mut nowhere = Output::nowhere();
    while let Some(line) = answer.next(&mut nowhere)? {
        let event = serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?;
        if sender.send(News::Event(Box::new(event))).is_err() {
            break;
        }
    }
    Ok(())
}
