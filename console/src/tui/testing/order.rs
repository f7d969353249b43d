//! What was answered, and the test that comes of it.

use super::around::Around;
use crate::diag::services::host_and_port;
use crate::tui::question::Answer;
use raven_model::diag::bw::{self, BandwidthTest, Direction};
use raven_model::diag::services::{DnsTest, HttpTest, NtpTest, RecordType, TcpTest, TlsTest, Transport};
use raven_model::diag::{Method, MtuTest, PingTest, Test, TraceTest, Way};
use std::net::IpAddr;

/// What can be tested here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Whether targets answer.
    #[default]
    Ping,
    /// The routers on the way.
    Trace,
    /// The longest packet.
    Mtu,
    /// Name servers.
    Dns,
    /// A port.
    Tcp,
    /// A TLS server.
    Tls,
    /// A request.
    Http,
    /// A clock.
    Ntp,
    /// How much gets through.
    Bandwidth,
}

impl Kind {
    /// All of them, as they are offered.
    pub const ALL: [Self; 9] =
        [Self::Ping, Self::Trace, Self::Mtu, Self::Dns, Self::Tcp, Self::Tls, Self::Http, Self::Ntp, Self::Bandwidth];

    /// As its command, but for bandwidth.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Trace => "trace",
            Self::Mtu => "mtu",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Ntp => "ntp",
            Self::Bandwidth => "bandwidth",
        }
    }

    /// What it tells.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Ping => "whether targets answer, how fast, how many are lost",
            Self::Trace => "by which routers, and where it breaks",
            Self::Mtu => "the longest packet, and whether longer ones vanish",
            Self::Dns => "what name servers answer",
            Self::Tcp => "whether a port can be connected to",
            Self::Tls => "version, certificates, what is wrong with them",
            Self::Http => "one request, phase by phase",
            Self::Ntp => "how far the clock is off",
            Self::Bandwidth => "how much gets through to an iperf3",
        }
    }

    /// The question for its target.
    pub const fn asks(self) -> &'static str {
        match self {
            Self::Dns => "Which name?",
            Self::Http => "Which URL?",
            Self::Ntp => "Which time server?",
            _ => "To whom?",
        }
    }

    /// How one is typed.
    pub const fn typed(self) -> &'static str {
        match self {
            Self::Ping => "A name or an address; several with spaces between",
            Self::Trace | Self::Mtu => "A name or an address",
            Self::Dns => "A name; for PTR an address",
            Self::Tcp | Self::Tls => "HOST:PORT, an IPv6 address in brackets",
            Self::Http => "http:// or https://",
            Self::Ntp => "A name or an address of a time server",
            Self::Bandwidth => "HOST or HOST:PORT (5201), where iperf3 or another Raven listens",
        }
    }
}

/// What a bandwidth test moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Flow {
    /// TCP from this box.
    #[default]
    Up,
    /// TCP to this box.
    Down,
    /// TCP, both at once.
    Both,
    /// UDP from this box, 10 Mbit/s.
    UdpUp,
    /// The same to it.
    UdpDown,
}

impl Flow {
    /// All of them, as they are offered.
    pub const ALL: [Self; 5] = [Self::Up, Self::Down, Self::Both, Self::UdpUp, Self::UdpDown];

    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Up => "TCP from this box",
            Self::Down => "TCP to this box",
            Self::Both => "TCP both ways at once",
            Self::UdpUp => "UDP from this box, 10 Mbit/s: what is lost",
            Self::UdpDown => "UDP to this box, 10 Mbit/s: what is lost",
        }
    }
}

/// A question that is answered in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// By which interface.
    Way,
    /// How many pings.
    Count,
    /// What a trace sends.
    Method,
    /// Type of a record.
    Record,
    /// What a bandwidth test moves.
    Flow,
    /// For how long.
    Seconds,
}

/// See the top.
#[derive(Debug, Default)]
pub struct Order {
    /// What is tested.
    pub kind: Kind,
    /// Of whom: one, but for pings.
    pub targets: Vec<String>,
    /// Of dns: who is asked; none: those of this box.
    pub server: Option<String>,
    interface: Option<String>,
    count: u32,
    /// Which of a trace's four.
    method: usize,
    record: usize,
    flow: Flow,
    seconds: u32,
}

impl Order {
    /// Of which nothing else is answered yet.
    pub fn of(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Takes an answer; true: it is good.
    ///
    /// # Errors
    /// It makes no sense, in words.
    pub fn take(&mut self, answer: &Answer, field: Field, around: &Around) -> Result<bool, String> {
        match (field, answer) {
            (Field::Way, Answer::Option(at)) => {
                self.interface = around.ways().into_iter().nth(*at).and_then(|(_, name)| name);
            }
            (Field::Method, Answer::Option(at)) => self.method = *at,
            (Field::Record, Answer::Option(at)) => self.record = *at,
            (Field::Flow, Answer::Option(at)) => self.flow = Flow::ALL.get(*at).copied().unwrap_or_default(),
            (Field::Count, Answer::Line(line)) => self.count = number(line, 0, PingTest::COUNT)?,
            (Field::Seconds, Answer::Line(line)) => self.seconds = number(line, 1, BandwidthTest::SECONDS)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn target(&self) -> String {
        self.targets.first().cloned().unwrap_or_default()
    }

    /// All of it is this box itself.
    pub fn is_own(&self) -> bool {
        let is_own = |target: &String| target.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        !self.targets.is_empty() && self.targets.iter().all(is_own)
    }

    /// Whether targets can be such.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        let target = self.target();
        match self.kind {
            Kind::Tcp | Kind::Tls => host_and_port(&target).map(|_| ()),
            Kind::Http if !target.starts_with("http://") && !target.starts_with("https://") => {
                Err("a URL begins with http:// or https://".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The test.
    ///
    /// # Errors
    /// A target makes no sense.
    pub fn test(&self) -> Result<Test, String> {
        let (target, way) = (self.target(), Way { interface: self.interface.clone(), ..Way::default() });
        Ok(match self.kind {
            Kind::Ping => Test::Ping(PingTest {
                targets: self.targets.clone(),
                way,
                count: if self.count == 0 { PingTest::COUNT } else { self.count },
                interval_ms: 1000,
                timeout_ms: 1000,
                size: 56,
                dscp: 0,
                dont_fragment: false,
                each: true,
            }),
            Kind::Trace => Test::Trace(self.trace(target, way)),
            Kind::Mtu => Test::Mtu(MtuTest { target, way, timeout_ms: 500, tries: 3 }),
            Kind::Dns => Test::Dns(DnsTest {
                name: target,
                record: RecordType::ALL.get(self.record).map_or(RecordType::A, |(record, ..)| *record),
                servers: self.server.clone().into_iter().collect(),
                way,
                transport: Transport::Udp,
                timeout_ms: 2000,
                tries: 2,
            }),
            Kind::Tcp => {
                let (target, port) = host_and_port(&target)?;
                Test::Tcp(TcpTest { target, port, way, timeout_ms: 3000 })
            }
            Kind::Tls => {
                let (target, port) = host_and_port(&target)?;
                Test::Tls(TlsTest { target, port, name: None, way, timeout_ms: 3000 })
            }
            Kind::Http => {
                Test::Http(HttpTest { url: target, way, timeout_ms: 3000, whole_ms: 30_000, limit: 64 << 20 })
            }
            Kind::Ntp => {
                Test::Ntp(NtpTest { servers: vec![target], way, count: 4, interval_ms: 1000, timeout_ms: 1000 })
            }
            Kind::Bandwidth => Test::Bandwidth(self.bandwidth(target, way)),
        })
    }

    fn trace(&self, target: String, way: Way) -> TraceTest {
        let (method, flows, rounds) = match self.method {
            1 => (Method::Icmp, 1, 10),
            2 => (Method::Udp, 16, 3),
            3 => (Method::Tcp, 1, 10),
            _ => (Method::Udp, 1, 10),
        };
        TraceTest {
            target,
            way,
            method,
            port: (method == Method::Tcp).then_some(443),
            hops: 30,
            rounds,
            flows,
            interval_ms: 200,
            timeout_ms: 1000,
            names: true,
            watch: None,
        }
    }

    fn bandwidth(&self, target: String, way: Way) -> BandwidthTest {
        let (target, port) = host_and_port(&target).unwrap_or((target, bw::PORT));
        let (transport, direction) = match self.flow {
            Flow::Up => (bw::Transport::Tcp, Direction::Up),
            Flow::Down => (bw::Transport::Tcp, Direction::Down),
            Flow::Both => (bw::Transport::Tcp, Direction::Both),
            Flow::UdpUp => (bw::Transport::Udp, Direction::Up),
            Flow::UdpDown => (bw::Transport::Udp, Direction::Down),
        };
        let rate = (transport == bw::Transport::Udp).then_some(10_000_000);
        let seconds = self.seconds.max(1);
        BandwidthTest { target, way, port, transport, direction, streams: 1, rate, seconds, omit: 0, length: None }
    }
}

fn number(line: &str, least: u32, most: u32) -> Result<u32, String> {
    let number = line.trim().parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("`{line}` is none of {least} to {most}"))
}
