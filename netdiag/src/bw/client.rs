//! This box as the client.

use super::control::{Control, STEP, Wait, refused};
use super::flow::{Caps, Flow};
use super::params::Plan;
use super::protocol::{Cookie, JSON_MAX, State, error_words, hello, is_welcome};
use super::results::Results;
use crate::failure::{Failure, within};
use crate::session::{Gone, Session};
use crate::targets::resolve;
use nix::sys::socket::{MsgFlags, recv, send};
use raven_model::diag::bw::{BandwidthTest, Transport};
use raven_model::diag::{Event, Way};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// A first datagram that is not answered is sent again.
const HELLO_AGAIN: Duration = Duration::from_secs(1);

struct Client<'a> {
    test: &'a BandwidthTest,
    session: &'a mut Session,
    to: SocketAddr,
    cookie: Cookie,
}

impl Wait for Session {
    fn wait(&mut self, socket: BorrowedFd<'_>, until: Instant) -> Result<(), Gone> {
        Self::wait(self, &[socket], until)
    }
}

/// Makes the test and tells what came of it.
pub fn run(test: &BandwidthTest, session: &mut Session) -> Result<(), Failure> {
    let _place = super::Place::take()?;
    within("the port", test.port.into(), 1, 65_535)?;
    within("streams", test.streams.into(), 1, BandwidthTest::STREAMS.into())?;
    within("the time in seconds", test.seconds.into(), 1, BandwidthTest::SECONDS.into())?;
    within("what is not counted, in seconds", test.omit.into(), 0, BandwidthTest::OMIT.into())?;
    within("the rate in bits a second", test.rate.unwrap_or_default(), 0, BandwidthTest::RATE)?;
    let lengths = if test.transport == Transport::Udp { (16, 65_507) } else { (1, 1 << 20) };
    within("the length in bytes", test.length.map_or(16, u64::from), lengths.0, lengths.1)?;
    let mut to = resolve(&test.target, &test.way).map_err(|why| Failure::Refused(format!("{}: {why}", test.target)))?;
    to.set_port(test.port);
    session.say(&Event::Target { target: test.target.clone(), address: to.ip() })?;
    session.flush()?;
    Client { test, session, to, cookie: Cookie::random() }.run()
}

impl Client<'_> {
    fn run(mut self) -> Result<(), Failure> {
        let control = self.connect().and_then(Control::new);
        let control = control.map_err(|error| self.unreachable(&error))?;
        let mss = control.socket().tcp_mss().ok().map(|mss| mss as usize);
        let plan = Plan::of(self.test, mss);
        control.say(&self.cookie.0)?;
        self.expect(&control, State::ParamExchange)?;
        control.json(&plan.params())?;
        self.expect(&control, State::CreateStreams)?;
        let sockets = self.streams(&plan)?;
        self.expect(&control, State::TestStart)?;
        self.expect(&control, State::TestRunning)?;
        let flow = Flow::start(&plan, true, sockets, &Caps::default());
        let mut flow = flow.map_err(|error| Failure::Refused(format!("streams cannot be started: {error}")))?;
        self.measure(&control, &mut flow)?;
        control.state(State::TestEnd)?;
        // Receivers read on meanwhile: a server that is stuck in a full connection would not listen.
        self.expect(&control, State::ExchangeResults)?;
        flow.stop();
        control.json(&flow.results())?;
        let theirs: Results = control.read_json(JSON_MAX, self.session)?;
        self.expect(&control, State::DisplayResults)?;
        control.state(State::Done)?;
        let result = flow.joined(&plan, &theirs, &self.test.target, self.to, self.test.port);
        Ok(self.session.say(&Event::Bandwidth(result))?)
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                Failure::Refused(format!("{}: nobody listens at port {}", self.test.target, self.to.port()))
            }
            io::ErrorKind::TimedOut => {
                Failure::Refused(format!("{}: port {} does not answer", self.test.target, self.to.port()))
            }
            _ => Failure::socket(error, &self.test.way),
        }
    }

    fn connect(&self) -> io::Result<Socket> {
        let socket = open(Type::STREAM, self.to, &self.test.way)?;
        socket.connect_timeout(&SockAddr::from(self.to), CONNECT)?;
        Ok(socket)
    }

    /// The server says this, or why it does not.
    fn expect(&mut self, control: &Control, wanted: State) -> Result<(), Failure> {
        let state = control.next(self.session)?;
        if state == wanted { Ok(()) } else { Err(self.ended(control, state)) }
    }

    /// Why the server ends the test.
    fn ended(&mut self, control: &Control, state: State) -> Failure {
        match state {
            State::AccessDenied => refused("the server refuses: another test runs, or this box is not allowed"),
            State::ServerTerminate => refused("the server was stopped"),
            State::ServerError => match control.read(8, self.session) {
                Ok(numbers) => {
                    let number = numbers.first_chunk().map_or(0, |number| i32::from_be_bytes(*number));
                    Failure::Refused(format!("the server ends the test: {}", error_words(number)))
                }
                Err(failure) => failure,
            },
            other => Failure::Refused(format!("the server says {other:?} at the wrong time")),
        }
    }

    fn streams(&mut self, plan: &Plan) -> Result<Vec<Socket>, Failure> {
        let (from, to) = plan.counts();
        let mut sockets = Vec::new();
        for _ in 0..from + to {
            let socket = match plan.transport {
                Transport::Tcp => self.tcp_stream(plan),
                Transport::Udp => self.udp_stream(),
            };
            sockets.push(socket?);
        }
        Ok(sockets)
    }

    fn tcp_stream(&self, plan: &Plan) -> Result<Socket, Failure> {
        let connect = || {
            let socket = self.connect()?;
            socket.set_tcp_nodelay(plan.no_delay)?;
            socket.set_write_timeout(Some(CONNECT))?;
            // It is shorter than any buffer.
            send(socket.as_raw_fd(), &self.cookie.0, MsgFlags::MSG_NOSIGNAL)?;
            Ok(socket)
        };
        connect().map_err(|error| self.unreachable(&error))
    }

    fn udp_stream(&mut self) -> Result<Socket, Failure> {
        let connect = || {
            let socket = open(Type::DGRAM, self.to, &self.test.way)?;
            socket.connect(&SockAddr::from(self.to))?;
            Ok(socket)
        };
        let socket = connect().map_err(|error| self.unreachable(&error))?;
        let until = Instant::now() + STEP;
        while Instant::now() < until {
            // A port that is closed yet is told by the next call on the socket.
            let _ = send(socket.as_raw_fd(), &hello(), MsgFlags::MSG_NOSIGNAL);
            let again = (Instant::now() + HELLO_AGAIN).min(until);
            while Instant::now() < again {
                self.session.wait(&[socket.as_fd()], again)?;
                let mut answer = [0; 64];
                match recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT) {
                    Ok(n) if is_welcome(answer.get(..n).unwrap_or_default()) => return Ok(socket),
                    // Data of a stream that runs already may overtake the answer.
                    _ => {}
                }
            }
        }
        Err(Failure::Refused(format!("{}: UDP port {} does not answer", self.test.target, self.to.port())))
    }

    fn measure(&mut self, control: &Control, flow: &mut Flow) -> Result<(), Failure> {
        let end = flow.end(self.test.seconds);
        loop {
            if Instant::now() >= end {
                break;
            }
            if let Some(interval) = flow.tick() {
                self.session.say(&Event::Interval(interval))?;
            }
            self.session.wait(&[control.as_fd()], flow.due().min(end))?;
            let mut byte = [0];
            if control.peek(&mut byte)? > 0 {
                let state = State::of(byte[0]).ok_or_else(|| refused("the server says nonsense"))?;
                return Err(self.ended(control, state));
            }
            if flow.is_broken() {
                // The server says why, if it can.
                let state = control.next(self.session)?;
                return Err(self.ended(control, state));
            }
        }
        if let Some(interval) = flow.finish() {
            self.session.say(&Event::Interval(interval))?;
        }
        Ok(self.session.flush()?)
    }
}

/// A socket that leaves as `way` says.
fn open(kind: Type, to: SocketAddr, way: &Way) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(to), kind, Some(protocol))?;
    if let Some(interface) = &way.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if let Some(source) = way.source {
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    }
    Ok(socket)
}
