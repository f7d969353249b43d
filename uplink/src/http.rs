//! HTTP: bodies by POST over one kept connection; 2xx acknowledges the whole body. NDJSON, OTLP and Prometheus' remote
//! write differ by what a body is made of ([`body`]) and by what an answer says beside its status.
//!
//! A body that is too large, too slow or refused makes the next one half as long, each that is taken twice as long:
//! so a refused body is bisected down to the record that the receiver does not want, and a slow link gets bodies that
//! fit its time.

pub mod body;
pub mod url;

use crate::attempt::{Class, Event, Failure};
use crate::feed::{Ended, Feed, told};
use crate::link::Dial;
use crate::secrets::Own;
use crate::source::Source;
use crate::{otlp, remote_write, tls};
use body::{Body, Builder};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use raven_model::config::Kind;
use raven_model::units::Seq;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};
use url::Target;

/// Most bytes of an answer's head, and of an answer's body that are read to keep the connection.
const ANSWER_MAX: usize = 64 * 1024;

/// Records refused one by one, with none taken in between, after which it is the destination that is wrong.
const SUSPECTS_MAX: usize = 16;

/// How long to wait for another record that could show that it is the record, not the destination, that is wrong.
const SUSPECT_WAIT: Duration = Duration::from_secs(2);

/// What is remembered from one attempt to the next.
#[derive(Debug, Default)]
pub struct Memory {
    /// Most records of the next body; none: the window.
    cap: Option<usize>,
    /// Records refused by themselves; whether they or the destination are at fault is not known yet.
    suspects: BTreeSet<Seq>,
    /// Records acknowledged, by either lane, when the first suspect was refused.
    suspected_at: u64,
    /// Suspects from before the destination took another record: one more refusal, and they are at fault.
    probation: BTreeSet<Seq>,
    /// At fault.
    poison: BTreeSet<Seq>,
    /// The last refusal of a single record.
    reason: String,
}

/// One attempt: deliver bodies until one fails or it shall stop. The connection is made when there is something to
/// send, and again without ado when it was closed between two bodies.
pub async fn attempt<S: Source>(feed: &mut Feed<S>, memory: &mut Memory) -> Ended {
    let (target, dial) = match prepare(feed) {
        Ok(prepared) => prepared,
        Err(failure) => return failure.into(),
    };
    let mut session = Session {
        builder: Builder::new(&feed.device, &feed.stream, &feed.to),
        dial,
        feed,
        memory,
        target,
        connection: None,
    };
    loop {
        match session.turn().await {
            Ok(true) => return Ended::Stopped,
            Ok(false) => {}
            Err(failure) => return failure.into(),
        }
    }
}

fn prepare<S: Source>(feed: &Feed<S>) -> Result<(Target, Dial), Failure> {
    let mut target = Target::parse(&feed.to.to).map_err(Failure::config)?;
    target.authorization = authorization(feed)?;
    let dial = Dial::to(&target.authority, feed)?;
    Ok((target, dial))
}

/// The `Authorization` header, where there are credentials.
fn authorization<S: Source>(feed: &Feed<S>) -> Result<Option<HeaderValue>, Failure> {
    let Some(shown) = feed.secrets.credentials("credentials", feed.to.credentials.as_ref())? else { return Ok(None) };
    let text = Own::authorization(shown);
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| Failure::config(format!("uplink.{}.credentials: not fit for a header", feed.name)))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

struct Session<'a, S: Source> {
    feed: &'a mut Feed<S>,
    memory: &'a mut Memory,
    target: Target,
    dial: Dial,
    builder: Builder,
    connection: Option<Connection>,
}

/// What became of a body.
enum Outcome {
    Taken,
    /// The receiver will not have these records, or not so many at once.
    Refused(String),
    /// It has newer ones, or takes none so old: each by itself would be refused too, for good.
    TooOld(String),
    Failed(Failure),
}

impl<S: Source> Session<'_, S> {
    /// Connects, waits for records, sends one body. True when told to stop.
    async fn turn(&mut self) -> Result<bool, Failure> {
        if self.feed.stopping() {
            return Ok(true);
        }
        self.connect().await?;
        if self.connection.is_none() {
            return Ok(true);
        }
        if !self.feed.reader.has_run() {
            return self.wait().await;
        }
        let body = self.build()?;
        if body.ranges.is_empty() {
            return Ok(false);
        }
        self.feed.event(Event::Sent);
        let outcome = self.post(&body).await;
        self.settle(&body, outcome)?;
        Ok(false)
    }

    /// Leaves no connection when told to stop.
    async fn connect(&mut self) -> Result<(), Failure> {
        if self.connection.as_ref().is_some_and(Connection::is_open) {
            return Ok(());
        }
        self.connection = None;
        if let Some(made) = self.feed.or_stop(Connection::make(self.dial.clone())).await {
            self.connection = Some(made?);
            self.feed.event(Event::Connected);
        }
        Ok(())
    }

    /// Waits for records. True when told to stop.
    async fn wait(&mut self) -> Result<bool, Failure> {
        // The live lane may have jumped over some: those are the other lane's now.
        let floor = self.feed.reader.floor();
        self.memory.suspects.retain(|seq| *seq >= floor);
        let suspects = !self.memory.suspects.is_empty();
        if !suspects {
            self.feed.event(Event::CaughtUp);
        }
        let Feed { reader, stop, .. } = &mut *self.feed;
        let loaded = tokio::select! {
            loaded = reader.load() => Some(loaded),
            _ = told(stop) => return Ok(true),
            () = tokio::time::sleep(SUSPECT_WAIT), if suspects => None,
        };
        match loaded {
            Some(loaded) => loaded.map(|()| false).map_err(|error| Failure::retry(error.0)),
            None => self.judge().map(|()| false),
        }
    }

    /// Makes the next body; writes what is known to be refused to the dead letters on the way.
    fn build(&mut self) -> Result<Body, Failure> {
        let cap = self.memory.cap.unwrap_or(usize::MAX).min(self.feed.to.window as usize);
        let kind = self.feed.to.kind;
        let Feed { reader, standing, dead, .. } = &mut *self.feed;
        let mut unwritable = None;
        let (builder, memory) = (&mut self.builder, &mut *self.memory);
        builder.fill(reader, standing, cap, |seq, record, listener| {
            if memory.suspects.contains(&seq) {
                return body::Choice::Leave;
            }
            let unfit = body::unfit(kind, record);
            if unfit.is_none() && !memory.poison.contains(&seq) {
                return body::Choice::Send;
            }
            match dead.add(seq, record, listener, unfit.as_ref().unwrap_or(&memory.reason)) {
                Ok(()) => {
                    memory.poison.remove(&seq);
                    body::Choice::Bury
                }
                Err(error) => {
                    unwritable = Some(format!("{}: {error}", dead.path().display()));
                    body::Choice::Halt
                }
            }
        });
        unwritable.map_or_else(|| self.builder.finish().map_err(Failure::retry), |words| Err(Failure::config(words)))
    }

    /// Sends a body and waits for the answer.
    async fn post(&mut self, body: &Body) -> Outcome {
        let answer = self.exchange(body).await;
        let peer = &self.target.authority;
        let (count, seconds) = (body.count, self.feed.ack_timeout().as_secs());
        let failure = match answer {
            Some(Ok(Ok(answer))) if self.feed.to.kind.is_otlp() && answer.status.is_success() => {
                return otlp_outcome(&answer, peer);
            }
            Some(Ok(Ok(answer))) => {
                let of_time = self.feed.to.kind == Kind::RemoteWrite && remote_write::is_of_time(&answer.says);
                return if of_time && !answer.status.is_success() {
                    Outcome::TooOld(answer.words(peer))
                } else {
                    answer.outcome(peer)
                };
            }
            Some(Ok(Err(error))) => match tls::below(&error) {
                Some(error) => tls::broken(peer, error, ""),
                None => Failure::retry(format!("{peer}: {}, {count} records under way", chain(&error))),
            },
            Some(Err(_)) => {
                self.memory.halve(count);
                Failure::retry(format!("{peer} acknowledged nothing for {seconds} s, {count} records under way"))
            }
            None => Failure::retry(format!("stopped with {count} records under way to {peer}")),
        };
        self.connection = None;
        Outcome::Failed(failure)
    }

    /// `None` when told to stop and the answer did not come in the grace; an error of the clock when it is late.
    async fn exchange(&mut self, body: &Body) -> Option<Result<Result<Answer, hyper::Error>, Elapsed>> {
        let connection = self.connection.as_mut()?;
        let deadline = Instant::now() + self.feed.ack_timeout();
        let request = self.target.request(body);
        let exchange = timeout_at(deadline, connection.exchange(request, deadline, self.feed.to.kind.is_otlp()));
        tokio::pin!(exchange);
        let grace = tokio::select! {
            answer = &mut exchange => return Some(answer),
            grace = told(&mut self.feed.stop) => grace,
        };
        timeout(grace, exchange).await.ok()
    }

    fn settle(&mut self, body: &Body, outcome: Outcome) -> Result<(), Failure> {
        match outcome {
            Outcome::Taken => {
                self.feed.standing.borrow_mut().acked_ranges(&body.ranges);
                self.taken(body);
            }
            Outcome::Refused(words) => self.refused(body, words)?,
            Outcome::TooOld(words) => self.too_old(body, words),
            Outcome::Failed(failure) => return Err(failure),
        }
        Ok(())
    }

    /// The destination takes records, so the suspects are at fault, unless it was put right just now: try them again.
    fn taken(&mut self, body: &Body) {
        let memory = &mut *self.memory;
        memory.grow(self.feed.to.window as usize);
        memory.probation.retain(|seq| !body.ranges.iter().any(|(first, last)| (first..=last).contains(&seq)));
        if !memory.suspects.is_empty() {
            self.put_on_probation();
        }
    }

    fn refused(&mut self, body: &Body, words: String) -> Result<(), Failure> {
        let memory = &mut *self.memory;
        if body.count > 1 {
            memory.halve(body.count);
            self.feed.reader.rewind();
            return Ok(());
        }
        memory.reason = words;
        if memory.suspects.is_empty() {
            memory.suspected_at = self.feed.standing.borrow().acked_count();
        }
        for (seq, _) in &body.ranges {
            if memory.probation.remove(seq) {
                memory.poison.insert(*seq);
                self.feed.reader.rewind();
            } else {
                memory.suspects.insert(*seq);
            }
        }
        if memory.suspects.len() > SUSPECTS_MAX { self.judge() } else { Ok(()) }
    }

    /// No proof is needed that it takes others. Halved all the same: those behind may be young enough.
    fn too_old(&mut self, body: &Body, words: String) {
        let memory = &mut *self.memory;
        if body.count > 1 {
            memory.halve(body.count);
        } else {
            memory.reason = words;
            memory.poison.extend(body.ranges.iter().map(|(seq, _)| *seq));
        }
        self.feed.reader.rewind();
    }

    fn put_on_probation(&mut self) {
        let memory = &mut *self.memory;
        memory.probation.append(&mut memory.suspects);
        memory.cap = Some(1);
        self.feed.reader.rewind();
    }

    /// This lane had nothing else taken. When the other lane had, the suspects are at fault: a destination that refuses
    /// old records takes new ones. Dead letters that were sent again by hand show nothing: they stay what they are.
    fn judge(&mut self) -> Result<(), Failure> {
        let mut standing = self.feed.standing.borrow_mut();
        let by_hand = self.memory.suspects.iter().all(|seq| standing.retries.holds(*seq));
        if by_hand {
            standing.retries.give_up();
        }
        let other_lane_is_taken = standing.acked_count() > self.memory.suspected_at;
        drop(standing);
        if by_hand {
            self.memory.suspects.clear();
            Ok(())
        } else if other_lane_is_taken {
            self.put_on_probation();
            Ok(())
        } else {
            Err(self.refuses_everything())
        }
    }

    fn refuses_everything(&mut self) -> Failure {
        self.memory.suspects.clear();
        self.memory.probation.clear();
        Failure::config(format!("{}, for every record tried", self.memory.reason))
    }
}

impl Memory {
    fn halve(&mut self, count: usize) {
        self.cap = Some((count / 2).max(1));
    }

    fn grow(&mut self, window: usize) {
        self.cap = self.cap.map(|cap| cap.saturating_mul(2)).filter(|cap| *cap < window);
    }
}

/// An answer, its body read as far as the limit.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    /// All of it; none when it was too long or broke off.
    body: Option<Bytes>,
    /// The beginning of its body, fit for a log.
    says: String,
}

impl Answer {
    fn words(&self, peer: &str) -> String {
        let says = if self.says.is_empty() { String::new() } else { format!(" ({})", self.says) };
        format!("{peer} answered {}{says}", self.status)
    }

    fn outcome(self, peer: &str) -> Outcome {
        let words = self.words(peer);
        match self.status.as_u16() {
            200..=299 => Outcome::Taken,
            400 | 413 | 422 => Outcome::Refused(words),
            408 | 429 | 500..=599 => {
                Outcome::Failed(Failure { class: Class::Retry, words, not_before: self.retry_after })
            }
            _ => Outcome::Failed(Failure::config(words)),
        }
    }
}

/// A connection and the task that drives it.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    async fn make(dial: Dial) -> Result<Self, Failure> {
        let link = dial.open().await?;
        let peer = link.peer;
        let handshake = http1::Builder::new().max_buf_size(ANSWER_MAX).handshake(TokioIo::new(link)).await;
        let (sender, connection) = handshake.map_err(|error| Failure::retry(format!("{peer}: {}", chain(&error))))?;
        // Its errors come out of the exchange as well.
        let driver = tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }

    fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends one request. The answer counts from its status on; its body is read so that the connection can be kept, and
    /// where it says what was taken (`whole`).
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
        whole: bool,
    ) -> Result<Answer, hyper::Error> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let (status, retry_after) = (response.status(), retry_after(response.headers(), SystemTime::now()));
        let taken = status.is_success();
        let wait = if taken && !whole { deadline.min(Instant::now() + Duration::from_secs(1)) } else { deadline };
        let body = timeout_at(wait, read_bounded(response)).await.ok().flatten();
        if body.is_none() {
            self.driver.abort();
        }
        let says = body.as_ref().map(|body| printable(body)).unwrap_or_default();
        Ok(Answer { status, retry_after, body, says })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A body; `None` when it is too long or does not end well: the connection is of no more use then.
async fn read_bounded(response: Response<Incoming>) -> Option<Bytes> {
    Some(Limited::new(response.into_body(), ANSWER_MAX).collect().await.ok()?.to_bytes())
}

/// The beginning of a body, fit for a log.
fn printable(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// OTLP: 200 can say that some records were refused (`partial_success`).
fn otlp_outcome(answer: &Answer, peer: &str) -> Outcome {
    let Some(body) = &answer.body else {
        return Outcome::Failed(Failure::retry(format!("{peer} answered {} and broke off", answer.status)));
    };
    let Some(rejected) = otlp::rejected(body) else {
        let words = format!("{peer} answered {} without a body of OTLP", answer.status);
        return Outcome::Failed(Failure::config(words));
    };
    match rejected {
        (0, _) => Outcome::Taken,
        (count, why) => Outcome::Refused(format!("{peer} refused {count} records ({})", printable(why))),
    }
}

/// Seconds or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap<HeaderValue>, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = url::http_date(text)?;
    Some(Duration::from_secs(at.saturating_sub(now.duration_since(UNIX_EPOCH).ok()?.as_secs())))
}

/// An error with its causes: hyper's outermost one says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = format!("{words}: {inner}");
        cause = inner.source();
    }
    words
}

impl Target {
    fn request(&self, body: &Body) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.bytes.clone()));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("raven/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in &body.headers {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, seconds) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_refused_body_halves_the_next_and_a_taken_one_doubles_it_up_to_the_window() {
        let mut memory = Memory::default();
        memory.halve(8192);
        memory.halve(3);
        memory.halve(1);
        assert_eq!(memory.cap, Some(1));
        let mut caps = Vec::new();
        while let Some(cap) = memory.cap {
            caps.push(cap);
            memory.grow(16);
        }
        assert_eq!(caps, [1, 2, 4, 8]);
    }

    #[test]
    fn statuses_have_their_classes() {
        let class = |status| match (Answer {
            status: StatusCode::from_u16(status).expect("valid"),
            retry_after: None,
            body: None,
            says: String::new(),
        })
        .outcome("noc")
        {
            Outcome::Taken => "taken",
            Outcome::Refused(_) => "refused",
            Outcome::TooOld(_) => "too old",
            Outcome::Failed(Failure { class: Class::Retry, .. }) => "retry",
            Outcome::Failed(_) => "config",
        };
        for (status, expected) in [
            (200, "taken"),
            (202, "taken"),
            (204, "taken"),
            (301, "config"),
            (400, "refused"),
            (401, "config"),
            (403, "config"),
            (404, "config"),
            (408, "retry"),
            (413, "refused"),
            (422, "refused"),
            (429, "retry"),
            (500, "retry"),
            (503, "retry"),
        ] {
            assert_eq!(class(status), expected, "{status}");
        }
    }
}
