//! This box as the server, for a while: one client at a time, each within limits, and everybody else is turned away.

use super::control::{Control, STEP, Wait, refused};
use super::flow::{Caps, Flow};
use super::params::{Params, Plan};
use super::protocol::{COOKIE, JSON_MAX, PARAMS_MAX, Reason, State, is_hello, welcome};
use super::results::Results;
use super::stream::plain;
use super::terms::Terms;
use crate::failure::{Failure, within};
use crate::session::{Gone, Session};
use nix::sys::socket::{MsgFlags, SockaddrStorage, recv, recvfrom, send};
use raven_model::diag::bw::{BandwidthResult, BandwidthServer, BandwidthTest, Limits, PORT, ServerResult, Transport};
use raven_model::diag::{Event, Family, Way};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// Connections that have not said yet who they are, and those of one address: more are turned away.
const WAITING: usize = 64;
const WAITING_EACH: usize = 4;
/// They must have said it by then.
const COOKIE_BY: Duration = Duration::from_secs(3);
/// Connections that are taken at once, so that a flood of them does not keep the test from its clock.
const ACCEPTED: usize = 16;
const BACKLOG: i32 = 64;
/// How often limits are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// A client's clock, and its way here, may be so late.
const GRACE: Duration = Duration::from_secs(5);
/// UDP may be so much faster than its limit, percent, in the mean of at least a second.
const RATE_MARGIN: u64 = 110;
/// After a client that failed: one that makes nonsense fails seldom.
const PAUSE: Duration = Duration::from_millis(100);
/// Datagrams that may lie in a socket from before it was a stream.
const STALE: usize = 4096;

/// Somebody who has connected and not said yet who it is.
struct Newcomer {
    control: Control,
    peer: SocketAddr,
    cookie: Vec<u8>,
    until: Instant,
}

/// Whom the server has time for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Anybody,
    /// Streams of the client at this address.
    Streams(IpAddr),
    Nobody,
}

struct Server<'a> {
    test: &'a BandwidthServer,
    terms: &'a Terms,
    /// Those of the test, as far as the terms let it.
    limits: Limits,
    session: &'a mut Session,
    listener: Socket,
    port: u16,
    waiting: Vec<Newcomer>,
    result: ServerResult,
}

/// Waits for clients and tells what came of them.
pub fn run(test: &BandwidthServer, session: &mut Session, terms: &Terms) -> Result<(), Failure> {
    let _place = super::Place::take()?;
    within("the time in seconds", test.seconds.into(), 1, BandwidthServer::SECONDS.into())?;
    within("the seconds of one test", test.limits.seconds.into(), 1, BandwidthTest::SECONDS.into())?;
    within("the rate in bits a second", test.limits.rate.unwrap_or(1), 1, BandwidthTest::RATE)?;
    within("the bytes of one test", test.limits.bytes.unwrap_or(1), 1, u64::MAX)?;
    within("prefixes", test.limits.allowed.len() as u64, 0, BandwidthServer::PREFIXES as u64)?;
    let configured = terms.config.as_ref().map_or(PORT, |config| config.port);
    let wanted = test.port.unwrap_or(configured);
    let open = || {
        let listener = bind(Type::STREAM, wanted, &test.way)?;
        listener.listen(BACKLOG)?;
        let port = listener.local_addr()?.as_socket().map_or(wanted, |address| address.port());
        Ok((listener, port))
    };
    let (listener, port) = open().map_err(|error: io::Error| match error.kind() {
        ErrorKind::AddrInUse => Failure::Refused(format!("somebody else listens at port {wanted} already")),
        ErrorKind::PermissionDenied => Failure::Refused(format!("port {wanted} is not for Raven to listen at")),
        _ => Failure::socket(&error, &test.way),
    })?;
    session.say(&Event::Listening { port, left_today: terms.left_today() })?;
    let (limits, waiting, result) = (terms.narrow(&test.limits), Vec::new(), ServerResult::default());
    Server { test, terms, limits, session, listener, port, waiting, result }.run()
}

impl Wait for Server<'_> {
    /// Whoever comes meanwhile is turned away.
    fn wait(&mut self, socket: BorrowedFd<'_>, until: Instant) -> Result<(), Gone> {
        self.session.wait(&[socket, self.listener.as_fd()], until)?;
        self.admit(Open::Nobody);
        Ok(())
    }
}

impl Server<'_> {
    fn run(mut self) -> Result<(), Failure> {
        let until = Instant::now() + Duration::from_secs(self.test.seconds.into());
        while Instant::now() < until && !(self.test.once && self.result.tests > 0) {
            self.wait_for_newcomers(None, until)?;
            self.admit(Open::Anybody);
            let Some(newcomer) = self.hear() else { continue };
            let address = newcomer.peer.ip();
            match self.serve(&newcomer) {
                Ok(result) => {
                    self.result.tests += 1;
                    self.session.say(&Event::Served(result))?;
                }
                Err(Failure::Gone) => return Err(Failure::Gone),
                Err(Failure::Refused(why)) => {
                    self.result.failed += 1;
                    self.session.say(&Event::ServedNot { address, why })?;
                    let pause = Instant::now() + PAUSE;
                    while Instant::now() < pause {
                        self.session.wait(&[], pause)?;
                    }
                }
            }
        }
        Ok(self.session.say(&Event::BandwidthServer(self.result))?)
    }

    /// Waits until somebody connects, or says something; `besides` may say something, too.
    fn wait_for_newcomers(&mut self, besides: Option<BorrowedFd<'_>>, until: Instant) -> Result<(), Gone> {
        let mut fds = vec![self.listener.as_fd()];
        fds.extend(self.waiting.iter().map(|newcomer| newcomer.control.as_fd()));
        fds.extend(besides);
        // Who says nothing is turned away in time.
        let soon = if self.waiting.is_empty() { until } else { until.min(Instant::now() + LOOK) };
        self.session.wait(&fds, soon)
    }

    /// Takes connections that wait.
    fn admit(&mut self, open: Open) {
        for _ in 0..ACCEPTED {
            // One that is gone again is nothing; no descriptor left: later.
            let Ok((socket, address)) = self.listener.accept() else { return };
            let peer = address.as_socket().map(plain);
            let peer = peer.filter(|peer| self.may(peer.ip(), open));
            match (peer, Control::new(socket)) {
                (Some(peer), Ok(control)) => {
                    let (cookie, until) = (Vec::with_capacity(COOKIE), Instant::now() + COOKIE_BY);
                    self.waiting.push(Newcomer { control, peer, cookie, until });
                }
                (_, Ok(control)) => self.refuse(&control),
                _ => self.result.refused += 1,
            }
        }
    }

    fn may(&self, address: IpAddr, open: Open) -> bool {
        let allowed = &self.limits.allowed;
        let is_allowed = allowed.is_empty() || allowed.iter().any(|prefix| prefix.holds(address));
        let is_allowed = is_allowed && self.terms.allow(address);
        let same = self.waiting.iter().filter(|newcomer| newcomer.peer.ip() == address).count();
        let has_room = match open {
            Open::Anybody => same < WAITING_EACH,
            Open::Streams(client) => client == address,
            Open::Nobody => false,
        };
        is_allowed && has_room && self.waiting.len() < WAITING
    }

    fn refuse(&mut self, control: &Control) {
        self.result.refused += 1;
        // Who does not take a byte gets none.
        let _ = send(
            control.socket().as_raw_fd(),
            &[State::AccessDenied.byte()],
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        );
    }

    /// Somebody who has said who it is; who has not in time is turned away.
    fn hear(&mut self) -> Option<Newcomer> {
        let mut ready = None;
        let mut late = Vec::new();
        for (n, newcomer) in self.waiting.iter_mut().enumerate() {
            let mut buffer = [0; COOKIE];
            let room = COOKIE - newcomer.cookie.len();
            match newcomer.control.peek(&mut buffer[..room]) {
                Ok(got) => newcomer.cookie.extend_from_slice(&buffer[..got]),
                Err(_) => newcomer.until = Instant::now(),
            }
            if newcomer.cookie.len() == COOKIE {
                ready = ready.or(Some(n));
            } else if newcomer.until <= Instant::now() {
                late.push(n);
            }
        }
        let found = ready.map(|n| (n, self.waiting.remove(n)));
        let behind = found.as_ref().map_or(usize::MAX, |(n, _)| *n);
        for n in late.into_iter().rev() {
            let newcomer = self.waiting.remove(if n > behind { n - 1 } else { n });
            self.refuse(&newcomer.control);
        }
        found.map(|(_, newcomer)| newcomer)
    }

    /// One client.
    fn serve(&mut self, client: &Newcomer) -> Result<BandwidthResult, Failure> {
        let control = &client.control;
        control.state(State::ParamExchange)?;
        let params: Result<Params, Failure> = control.read_json(PARAMS_MAX, self);
        let params = params.inspect_err(|_| drop(give_up(control, Reason::Params)))?;
        let plan = params.plan().and_then(|plan| plan.within(&self.limits).map(|()| plan));
        let plan = plan.map_err(|reason| give_up(control, reason))?;
        if self.terms.left_today() == Some(0) {
            return Err(give_up(control, Reason::Expired));
        }
        let sockets = self.gather(client, &plan)?;
        control.state(State::TestStart)?;
        control.state(State::TestRunning)?;
        let bytes = self.limits.bytes.into_iter().chain(self.terms.left_today()).min();
        let budget = bytes.map(|bytes| Arc::new(AtomicU64::new(bytes)));
        let flow = Flow::start(&plan, false, sockets, &Caps { rate: self.limits.rate, budget });
        let mut flow = flow.map_err(|error| Failure::Refused(format!("streams cannot be started: {error}")))?;
        let mut spent = 0;
        let measured = self.measure(control, &plan, &mut flow, &mut spent);
        self.result.bytes = self.result.bytes.saturating_add(flow.bytes());
        self.spend(&flow, &mut spent);
        measured?;
        flow.stop();
        control.state(State::ExchangeResults)?;
        let theirs: Results = control.read_json(JSON_MAX, self)?;
        control.json(&flow.results())?;
        control.state(State::DisplayResults)?;
        // All is known; who just goes has said enough.
        if control.next(self) == Err(Failure::Gone) {
            return Err(Failure::Gone);
        }
        Ok(flow.joined(&plan, &theirs, &client.peer.ip().to_string(), client.peer, self.port))
    }

    /// The client's streams, in the order in which they came.
    fn gather(&mut self, client: &Newcomer, plan: &Plan) -> Result<Vec<Socket>, Failure> {
        let (from, to) = plan.counts();
        let mut door = match plan.transport {
            Transport::Udp => Some(self.door().map_err(|error| Failure::socket(&error, &self.test.way))?),
            Transport::Tcp => None,
        };
        client.control.state(State::CreateStreams)?;
        let (until, mut sockets) = (Instant::now() + STEP, Vec::new());
        while sockets.len() < from + to {
            if Instant::now() >= until {
                return Err(give_up(&client.control, Reason::Silence));
            }
            let besides = door.as_ref().map_or(client.control.as_fd(), |door| door.as_fd());
            self.wait_for_newcomers(Some(besides), until.min(Instant::now() + LOOK))?;
            if client.control.peek(&mut [0])? > 0 {
                return Err(refused("the client ended it before it began"));
            }
            let socket = match &door {
                Some(open) => {
                    self.admit(Open::Nobody);
                    let socket = greet(open, client.peer.ip());
                    if let Some(socket) = &socket {
                        // The next stream's first datagram may come as soon as this one is answered.
                        door = Some(self.door().map_err(|error| Failure::socket(&error, &self.test.way))?);
                        // A client that hears nothing of it ends it.
                        let _ = send(socket.as_raw_fd(), &welcome(), MsgFlags::MSG_NOSIGNAL);
                    }
                    socket
                }
                None => self.tcp_stream(client),
            };
            if let Some(socket) = socket {
                let is_set = prepare(&socket, plan, self.limits.rate);
                is_set.map_err(|error| Failure::Refused(format!("a stream cannot be set up: {error}")))?;
                sockets.push(socket);
            }
        }
        Ok(sockets)
    }

    /// Where datagrams come in.
    fn door(&self) -> io::Result<Socket> {
        bind(Type::DGRAM, self.port, &self.test.way)
    }

    fn tcp_stream(&mut self, client: &Newcomer) -> Option<Socket> {
        self.admit(Open::Streams(client.peer.ip()));
        let newcomer = self.hear()?;
        if newcomer.cookie != client.cookie {
            self.refuse(&newcomer.control);
            return None;
        }
        newcomer.control.socket().try_clone().ok()
    }

    /// What moved since `spent` is of today's bytes.
    fn spend(&self, flow: &Flow, spent: &mut u64) {
        let bytes = flow.bytes();
        self.terms.spend(bytes.saturating_sub(std::mem::replace(spent, bytes)));
    }

    fn measure(&mut self, control: &Control, plan: &Plan, flow: &mut Flow, spent: &mut u64) -> Result<(), Failure> {
        let last = flow.end(self.limits.seconds) + GRACE;
        loop {
            if let Some(interval) = flow.tick() {
                self.spend(flow, spent);
                self.session.say(&Event::Interval(interval))?;
            }
            if Instant::now() >= last || flow.is_spent() {
                return Err(give_up(control, Reason::Expired));
            }
            if plan.transport == Transport::Udp && self.is_too_fast(flow) {
                return Err(give_up(control, Reason::Rate));
            }
            Wait::wait(self, control.as_fd(), flow.due().min(Instant::now() + LOOK))?;
            let mut byte = [0];
            // A stream that broke: the client says why, or that it was its end.
            let has_said = control.peek(&mut byte)? > 0;
            let state = match (has_said, flow.is_broken()) {
                (true, _) => State::of(byte[0]),
                (false, true) => Some(control.next(self)?),
                (false, false) => continue,
            };
            match state {
                Some(State::TestEnd) => break,
                Some(State::ClientTerminate) => return Err(refused("the client ended it")),
                _ => return Err(refused("the client says what makes no sense here")),
            }
        }
        if let Some(interval) = flow.finish() {
            self.session.say(&Event::Interval(interval))?;
        }
        Ok(())
    }

    fn is_too_fast(&self, flow: &Flow) -> bool {
        let Some(rate) = self.limits.rate else { return false };
        let (bytes, elapsed) = flow.received();
        let most = u128::from(rate) * elapsed.as_millis() * u128::from(RATE_MARGIN) / 100_000;
        elapsed >= Duration::from_secs(1) && u128::from(bytes) * 8 > most
    }
}

/// Tells the client why the test ends.
fn give_up(control: &Control, reason: Reason) -> Failure {
    let number = reason.number().to_be_bytes();
    // Who is gone is told nothing.
    let _ = control.say(&[&[State::ServerError.byte()], &number[..], &[0; 4]].concat());
    Failure::Refused(reason.words().to_owned())
}

/// Makes the door a stream, when the client's first datagram is there. From then on it hears that client alone;
/// it is not answered yet.
fn greet(door: &Socket, client: IpAddr) -> Option<Socket> {
    let mut buffer = [0; 8];
    let got = recvfrom::<SockaddrStorage>(door.as_raw_fd(), &mut buffer);
    let (length, from) = got.ok()?;
    let from = from.as_ref().and_then(address)?;
    if from.ip().to_canonical() != client || !is_hello(buffer.get(..length)?) {
        return None;
    }
    door.connect(&SockAddr::from(from)).ok()?;
    // What came from others before is thrown away; the client sends nothing before it is answered.
    let mut stale = [0; 8];
    for _ in 0..STALE {
        if recv(door.as_raw_fd(), &mut stale, MsgFlags::MSG_DONTWAIT).is_err() {
            break;
        }
    }
    door.try_clone().ok()
}

fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = from.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    v4.or_else(|| {
        from.as_sockaddr_in6().map(|v6| SocketAddrV6::new(v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id()).into())
    })
}

/// As the client asks, and as slow as the limit wants it.
fn prepare(socket: &Socket, plan: &Plan, most: Option<u64>) -> io::Result<()> {
    if let Some(window) = plan.window {
        socket.set_recv_buffer_size(window)?;
        socket.set_send_buffer_size(window)?;
    }
    if plan.transport == Transport::Tcp {
        socket.set_tcp_nodelay(plan.no_delay)?;
        // What lies here is on the link already: a tenth of a second of it.
        if let Some(most) = most {
            socket.set_recv_buffer_size((most / 80).clamp(64 << 10, 4 << 20) as usize)?;
        }
    }
    if plan.tos > 0 {
        // A socket has one of both.
        let is_set = socket.set_tos_v4(plan.tos.into()).or_else(|_| socket.set_tclass_v6(plan.tos.into()));
        is_set?;
    }
    Ok(())
}

/// Listens where `way` says, at all addresses of both families without it.
fn bind(kind: Type, port: u16, way: &Way) -> io::Result<Socket> {
    let any = match way.family {
        Some(Family::Ipv4) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let is_dual = way.source.is_none() && way.family.is_none();
    match bind_at(kind, SocketAddr::new(way.source.unwrap_or(any), port), way, is_dual) {
        // No IPv6 on this machine.
        Err(error)
            if is_dual && matches!(error.raw_os_error(), Some(nix::libc::EAFNOSUPPORT | nix::libc::EADDRNOTAVAIL)) =>
        {
            bind_at(kind, SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port), way, false)
        }
        bound => bound,
    }
}

fn bind_at(kind: Type, at: SocketAddr, way: &Way, is_dual: bool) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(at), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    // Of UDP: each stream is a socket of its own at the same port, connected to its client.
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(!is_dual)?;
    }
    if let Some(interface) = &way.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.bind(&SockAddr::from(at))?;
    Ok(socket)
}
