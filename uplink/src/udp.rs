//! Datagrams as they came, to collectors that know nothing else: nothing acknowledges them.
//!
//! Both lanes send from one socket, so that a collector sees one sender, and by one pace. What went out is taken for
//! delivered after [`OVERLAP`]: until then the far end's machine may still say that nobody listens (ICMP), and then it
//! goes out again. More cannot be known.

mod bucket;
mod templates;

use crate::attempt::{Event, Failure};
use crate::envelope::Envelope;
use crate::feed::{Ended, Feed, told};
use crate::lanes::Lane;
use crate::net;
use crate::reader::More;
use crate::source::{Source, SourceError};
use crate::syslog::OVERLAP;
use bucket::{Bucket, PACE};
use raven_model::config::{Destination, Format};
use raven_model::record::Record;
use raven_model::units::Seq;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use templates::{Templates, Told};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

/// Longest datagram: 65,535 bytes with the headers of UDP and IPv4, or with that of UDP over IPv6.
const DATAGRAM_MAX: [usize; 2] = [65_507, 65_527];

/// What was sent within this time is taken for delivered together.
const PART: Duration = Duration::from_millis(100);

/// What the two lanes of a destination share.
pub type Shared = Rc<RefCell<Path>>;

/// The way to a collector.
pub struct Path {
    /// The socket, and how many there were before it.
    socket: Option<Rc<UdpSocket>>,
    count: u64,
    peer: Option<SocketAddr>,
    /// Why the last one was given up.
    fault: Option<Failure>,
    bucket: Bucket,
    told: Told,
}

impl Path {
    /// No socket yet.
    pub fn new(to: &Destination) -> Shared {
        let bucket = Bucket::new(to.pace.unwrap_or(PACE));
        Rc::new(RefCell::new(Self { socket: None, count: 0, peer: None, fault: None, bucket, told: Told::default() }))
    }

    /// Whether a datagram may go out now; if not, when to ask again.
    pub fn ready(&mut self, lane: Lane, now: Instant) -> Result<(), Instant> {
        self.bucket.ready(lane, now)
    }

    /// A datagram of so many bytes went out.
    pub fn spend(&mut self, bytes: usize) {
        self.bucket.spend(bytes);
    }

    /// The socket that `count` counts does not work: neither lane goes on with it.
    fn give_up(&mut self, count: u64, failure: &Failure) {
        if self.count == count {
            self.socket = None;
            self.fault = Some(failure.clone());
        }
    }
}

/// One attempt: send until that fails or shall stop.
pub async fn attempt<S: Source>(feed: &mut Feed<S>) -> Ended {
    let opened = {
        let (path, to, out) = (Rc::clone(&feed.path), feed.to.to.clone(), feed.out.clone());
        let within = feed.timeout();
        feed.or_stop(open(path, to, out, within)).await
    };
    let (socket, peer, count) = match opened {
        None => return Ended::Stopped,
        Some(Err(failure)) => return failure.into(),
        Some(Ok(opened)) => opened,
    };
    feed.event(Event::Connected);
    let mut session = Session {
        envelope: (feed.to.format == Format::Rfc5424).then(|| Envelope::new(&feed.device, &feed.stream)),
        path: Rc::clone(&feed.path),
        feed,
        socket,
        peer,
        count,
        templates: Templates::default(),
        text: Vec::new(),
        parts: VecDeque::new(),
    };
    loop {
        match session.turn().await {
            Ok(false) => {}
            Ok(true) => {
                session.settle(Duration::ZERO);
                return Ended::Stopped;
            }
            Err(failure) => {
                session.path.borrow_mut().give_up(session.count, &failure);
                return failure.into();
            }
        }
    }
}

/// The socket that there is, or a new one.
async fn open(
    path: Shared,
    to: String,
    out: net::Out,
    within: Duration,
) -> Result<(Rc<UdpSocket>, SocketAddr, u64), Failure> {
    let there = |path: &Path| Some((Rc::clone(path.socket.as_ref()?), path.peer?, path.count));
    if let Some(there) = there(&path.borrow()) {
        return Ok(there);
    }
    let (socket, peer) = net::datagrams(&to, &out, within).await?;
    let mut path = path.borrow_mut();
    // The other lane may have been faster.
    if path.socket.is_none() {
        path.socket = Some(Rc::new(socket));
        path.peer = Some(peer);
        path.count += 1;
        path.told.clear();
    }
    there(&path).ok_or_else(|| Failure::retry(format!("{peer}: no socket")))
}

/// Datagrams that went out within [`PART`].
struct Part {
    since: Instant,
    ranges: Vec<(Seq, Seq)>,
}

struct Session<'a, S: Source> {
    feed: &'a mut Feed<S>,
    path: Shared,
    socket: Rc<UdpSocket>,
    peer: SocketAddr,
    /// Which socket of the path it is.
    count: u64,
    envelope: Option<Envelope>,
    templates: Templates,
    text: Vec<u8>,
    /// What is not taken for delivered yet.
    parts: VecDeque<Part>,
}

/// Why no more was sent.
enum Held {
    /// There is nothing to send.
    Empty,
    /// Not before then.
    Paced(Instant),
    /// The socket's buffer is full.
    Full,
    Broken(Failure),
}

/// What a session waits for.
enum Woken {
    Came(io::Result<usize>),
    Loaded(Result<(), SourceError>),
    Writable(io::Result<()>),
    Due,
    Stop,
}

impl<S: Source> Session<'_, S> {
    /// Sends what may be sent, then waits for one thing to happen. True when told to stop.
    async fn turn(&mut self) -> Result<bool, Failure> {
        self.still_good()?;
        self.settle(OVERLAP);
        let held = self.fill();
        if let Held::Broken(failure) = held {
            return Err(failure);
        }
        let empty = matches!(held, Held::Empty);
        if empty && self.parts.is_empty() {
            self.feed.event(Event::CaughtUp);
        }
        let delivered = self.parts.front().map(|part| part.since + OVERLAP);
        let paced = if let Held::Paced(until) = held { Some(until) } else { None };
        let due = delivered.into_iter().chain(paced).min();
        // A collector says nothing, but for answers to informs, which were answered already.
        let mut ignored = [0; 512];
        let Feed { reader, stop, .. } = &mut *self.feed;
        let woken = tokio::select! {
            came = self.socket.recv(&mut ignored) => Woken::Came(came),
            loaded = reader.load(), if empty => Woken::Loaded(loaded),
            writable = self.socket.writable(), if matches!(held, Held::Full) => Woken::Writable(writable),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Woken::Due,
            _ = told(stop) => Woken::Stop,
        };
        match woken {
            Woken::Came(Ok(_)) | Woken::Writable(Ok(())) | Woken::Due => Ok(false),
            Woken::Came(Err(error)) | Woken::Writable(Err(error)) => Err(self.broken(&error)),
            Woken::Loaded(loaded) => loaded.map(|()| false).map_err(|error| Failure::retry(error.0)),
            Woken::Stop => Ok(true),
        }
    }

    /// The other lane may have found that nobody listens.
    fn still_good(&self) -> Result<(), Failure> {
        let path = self.path.borrow();
        if path.count == self.count && path.socket.is_some() {
            return Ok(());
        }
        Err(path.fault.clone().unwrap_or_else(|| Failure::retry(format!("{}: the socket was given up", self.peer))))
    }

    /// What went out longer than `overlap` ago is taken for delivered.
    fn settle(&mut self, overlap: Duration) {
        while let Some(part) = self.parts.pop_front_if(|part| part.since.elapsed() >= overlap) {
            self.feed.standing.borrow_mut().acked_ranges(&part.ranges);
        }
    }

    /// Sends while it may.
    fn fill(&mut self) -> Held {
        if !self.feed.reader.has_run() {
            return Held::Empty;
        }
        let Self { feed, path, socket, peer, envelope, templates, text, parts, .. } = self;
        let Feed { reader, standing, dead, lane, .. } = &mut **feed;
        let templates = RefCell::new(templates);
        let path = &mut *path.borrow_mut();
        let most = DATAGRAM_MAX[usize::from(peer.is_ipv6())];
        let (mut held, mut sent) = (None, false);
        let take = |seq, record: &Record<'_>, listener: &str| {
            let datagram = in_envelope(envelope.as_mut(), text, seq, record, listener);
            if datagram.len() > most {
                let reason = format!("{} bytes, and a datagram has {most} at most", datagram.len());
                held = dead.bury(standing, seq, record, listener, &reason).err().map(Held::Broken);
                return if held.is_some() { More::Undo } else { More::Yes };
            }
            let source = record.received.source;
            match send(socket, path, &templates.borrow(), *lane, source, datagram) {
                Ok(()) => {
                    note_sent(parts, seq);
                    sent = true;
                    More::Yes
                }
                Err(Unsent::Paced(until)) => {
                    held = Some(Held::Paced(until));
                    More::Undo
                }
                Err(Unsent::Failed(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    held = Some(Held::Full);
                    More::Undo
                }
                Err(Unsent::Failed(error)) => {
                    held = Some(Held::Broken(broken(*peer, &error)));
                    More::Undo
                }
            }
        };
        reader.take_with(|context| templates.borrow_mut().note(context), take);
        if sent {
            self.feed.event(Event::Sent);
        }
        // A block is done with: there may be another.
        held.unwrap_or_else(|| Held::Paced(Instant::now()))
    }

    fn broken(&self, error: &io::Error) -> Failure {
        broken(self.peer, error)
    }
}

/// The datagram of a record.
fn in_envelope<'a>(
    envelope: Option<&mut Envelope>,
    text: &'a mut Vec<u8>,
    seq: Seq,
    record: &Record<'a>,
    listener: &str,
) -> &'a [u8] {
    let Some(envelope) = envelope else { return record.raw };
    text.clear();
    envelope.seal(seq, record, listener).write(text);
    text
}

/// Why a datagram did not go out.
enum Unsent {
    Paced(Instant),
    Failed(io::Error),
}

impl From<io::Error> for Unsent {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Sends a datagram, and before it the templates that it needs.
fn send(
    socket: &UdpSocket,
    path: &mut Path,
    templates: &Templates,
    lane: Lane,
    source: SocketAddr,
    datagram: &[u8],
) -> Result<(), Unsent> {
    let Path { bucket, told, .. } = path;
    let now = Instant::now();
    let mut out = |bytes: &[u8]| {
        bucket.ready(lane, now).map_err(Unsent::Paced)?;
        socket.try_send(bytes)?;
        bucket.spend(bytes.len());
        Ok::<_, Unsent>(())
    };
    templates.before(told, datagram, source, now, &mut out)?;
    out(datagram)?;
    told.passed(datagram);
    Ok(())
}

fn note_sent(parts: &mut VecDeque<Part>, seq: Seq) {
    let now = Instant::now();
    match parts.back_mut().filter(|part| now.duration_since(part.since) < PART) {
        None => parts.push_back(Part { since: now, ranges: vec![(seq, seq)] }),
        Some(part) => match part.ranges.last_mut().filter(|(_, last)| last.plus(1) == seq) {
            Some((_, last)) => *last = seq,
            None => part.ranges.push((seq, seq)),
        },
    }
}

fn broken(peer: SocketAddr, error: &io::Error) -> Failure {
    let again = format!("the last {} s are sent again", OVERLAP.as_secs());
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return Failure::retry(format!("{peer}: nobody listens there; {again}"));
    }
    Failure::retry(format!("{peer}: {error}; {again}"))
}
