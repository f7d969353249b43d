//! `[diag.schedule.NAME]`: tests of the network that are made by themselves. When, which test with the options that it has by
//! hand, by which way, and from when on a result is told as an alert.

use super::bandwidth_server::BandwidthServer;
use super::error::Flaw;
use crate::alert::Severity;
use crate::diag::bw::{self, BandwidthTest, Direction};
use crate::diag::cron::Cron;
use crate::diag::schedule::{TestKind, Threshold};
use crate::diag::services::{DnsTest, HttpTest, NtpTest, RecordType, TcpTest, TlsTest, Transport};
use crate::diag::{Family, Method, MtuTest, PingTest, Test, TraceTest, Way};
use crate::tunnel::TunnelName;
use crate::units::{ByteCount, Span};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// Most schedules.
pub const SCHEDULES: usize = 64;
/// Most targets of a ping that is made by itself.
const TARGETS: usize = 64;
/// Most pings to each.
const PINGS: u32 = 1000;
/// Longest bandwidth test, seconds, with what is not counted of it.
const BANDWIDTH_S: u64 = 60;
const DAY: Duration = Duration::from_hours(24);

/// `[diag]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Diag {
    /// Tests by name.
    pub schedule: BTreeMap<String, Schedule>,
    /// This box as the other end of bandwidth tests.
    pub bandwidth_server: Option<BandwidthServer>,
}

/// `[diag.schedule.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// So often; or `at`.
    pub every: Option<Span>,
    /// At these times, UTC; or `every`.
    pub at: Option<Cron>,
    /// No other scheduled test runs beside it; of bandwidth always.
    pub exclusive: bool,
    /// A bandwidth test is made also while the uplink catches up.
    pub even_while_catching_up: bool,
    /// By this interface alone.
    pub interface: Option<String>,
    /// Through this tunnel alone.
    pub tunnel: Option<TunnelName>,
    /// From this address of the box.
    pub source: Option<IpAddr>,
    /// Only to addresses of this family, where a name has both.
    pub family: Option<Family>,
    /// What is told as an alert.
    pub alert: Thresholds,
    /// The test: exactly one of these.
    pub ping: Option<Ping>,
    /// As `raven trace`.
    pub trace: Option<Trace>,
    /// As `raven mtu`.
    pub mtu: Option<Mtu>,
    /// As `raven bw`.
    pub bandwidth: Option<Bandwidth>,
    /// As `raven dns`.
    pub dns: Option<Dns>,
    /// As `raven tcp`.
    pub tcp: Option<Tcp>,
    /// As `raven tls`.
    pub tls: Option<Tls>,
    /// As `raven http`.
    pub http: Option<Http>,
    /// As `raven ntp`.
    pub ntp: Option<Ntp>,
}

/// `[diag.schedule.NAME.alert]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Whether anything is told.
    pub enabled: bool,
    /// How bad it is.
    pub severity: Severity,
    /// Results in a row that must be beyond a threshold, 1 to 1000.
    #[serde(rename = "for")]
    pub results: u32,
    /// Results in a row that must be within it again, 1 to 1000.
    pub clear: u32,
    /// That a test is not well, or cannot be made.
    pub failed: bool,
    /// That the path is another one.
    pub path_changed: bool,
    /// More than these percent are lost.
    pub loss: Option<f64>,
    /// The 95th percentile of round-trip times is longer.
    pub p95: Option<Span>,
    /// It takes longer.
    pub time: Option<Span>,
    /// Less gets through.
    pub min_rate: Option<BitRate>,
    /// Longest packets are shorter, bytes.
    pub min_mtu: Option<u16>,
    /// The clock is further off.
    pub offset: Option<Span>,
    /// The certificate ends within so many days.
    pub days_left: Option<u32>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            enabled: true,
            severity: Severity::Warning,
            results: 3,
            clear: 3,
            failed: true,
            path_changed: false,
            loss: None,
            p95: None,
            time: None,
            min_rate: None,
            min_mtu: None,
            offset: None,
            days_left: None,
        }
    }
}

impl Thresholds {
    /// Whether a result is held against it.
    pub const fn has(&self, threshold: Threshold) -> bool {
        match threshold {
            Threshold::Failed => self.failed,
            Threshold::PathChanged => self.path_changed,
            Threshold::Loss => self.loss.is_some(),
            Threshold::P95 => self.p95.is_some(),
            Threshold::Time => self.time.is_some(),
            Threshold::MinRate => self.min_rate.is_some(),
            Threshold::MinMtu => self.min_mtu.is_some(),
            Threshold::Offset => self.offset.is_some(),
            Threshold::DaysLeft => self.days_left.is_some(),
        }
    }
}

/// Bits a second. In text: `10M`, `1.5G`, `64k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitRate(pub u64);

impl FromStr for BitRate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no rate; expected for example `10M` or `1.5G`, in bits a second");
        let units = [('k', 1e3), ('K', 1e3), ('M', 1e6), ('G', 1e9)];
        let (number, factor) =
            units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(*unit)?, *factor))).unwrap_or((text, 1.0));
        let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let bits = plain.then(|| number.parse::<f64>().ok()).flatten().ok_or_else(wrong)? * factor;
        if bits <= BandwidthTest::RATE as f64 { Ok(Self(bits.round() as u64)) } else { Err(wrong()) }
    }
}

impl fmt::Display for BitRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("G", 1_000_000_000), ("M", 1_000_000), ("k", 1_000)];
        match units.into_iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => self.0.fmt(f),
        }
    }
}

impl Serialize for BitRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BitRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The options of a test, its defaults, and what they become.
macro_rules! options {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $key:ident: $type:ty = $default:expr,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$doc])* pub $key: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }
    };
}

const fn seconds(n: u64) -> Span {
    Span(Duration::from_secs(n))
}

const fn millis(n: u64) -> Span {
    Span(Duration::from_millis(n))
}

options! {
    /// `ping = { … }`.
    Ping {
        /// Names and addresses, 1 to 64.
        targets: Vec<String> = Vec::new(),
        /// Pings to each, 1 to 1000.
        count: u32 = 5,
        /// Between two of them, 10 ms to 10 min.
        interval: Span = seconds(1),
        /// An answer that takes longer is none, 10 ms to 1 min.
        timeout: Span = seconds(1),
        /// Bytes behind the ICMP header, 16 to 65,000.
        size: u16 = 56,
        /// Differentiated Services Code Point, 0 to 63.
        dscp: u8 = 0,
        /// Nobody may fragment it.
        dont_fragment: bool = false,
    }
}

options! {
    /// `trace = { … }`.
    Trace {
        /// A name or an address.
        target: String = String::new(),
        /// What is sent.
        method: Method = Method::Udp,
        /// Of UDP; without it 33434.
        port: Option<u16> = None,
        /// Hops at most, 1 to 64.
        hops: u8 = 30,
        /// Probes to each hop by each flow, 1 to 100.
        count: u8 = 3,
        /// 1 to 64.
        flows: u8 = 1,
        /// Between two rounds, 10 ms to 1 min.
        interval: Span = millis(200),
        /// An answer that takes longer is none, 10 ms to 1 min.
        timeout: Span = seconds(1),
    }
}

options! {
    /// `mtu = { … }`.
    Mtu {
        /// A name or an address.
        target: String = String::new(),
        /// Probes of one length before it counts as lost, 1 to 10.
        count: u8 = 3,
        /// An answer that takes longer is none, 10 ms to 1 min.
        timeout: Span = millis(500),
    }
}

options! {
    /// `bandwidth = { … }`.
    Bandwidth {
        /// A name or an address.
        target: String = String::new(),
        /// Where it listens.
        port: u16 = bw::PORT,
        /// TCP or UDP.
        transport: bw::Transport = bw::Transport::Tcp,
        /// Where bytes go.
        direction: Direction = Direction::Up,
        /// In each direction, 1 to 32.
        streams: u8 = 1,
        /// Of each stream; without it TCP as fast as can be, UDP 1 Mbit/s.
        rate: Option<BitRate> = None,
        /// How long is measured, whole seconds.
        time: Span = seconds(5),
        /// How long bytes flow before that, whole seconds; both together at most a minute.
        omit: Span = seconds(0),
        /// Bytes that are written at once.
        length: Option<u32> = None,
    }
}

options! {
    /// `dns = { … }`.
    Dns {
        /// What is asked for.
        name: String = String::new(),
        /// Type of the record.
        record: RecordType = RecordType::A,
        /// Who is asked; without any those of the box.
        servers: Vec<String> = Vec::new(),
        /// How.
        transport: Transport = Transport::Udp,
        /// An answer that takes longer is none, 10 ms to 1 min.
        timeout: Span = seconds(2),
        /// Datagrams before a server counts as silent, 1 to 10.
        count: u8 = 2,
    }
}

options! {
    /// `tcp = { … }`.
    Tcp {
        /// A name or an address.
        target: String = String::new(),
        /// 1 to 65,535.
        port: u16 = 0,
        /// For each address, 10 ms to 1 min.
        timeout: Span = seconds(3),
    }
}

options! {
    /// `tls = { … }`.
    Tls {
        /// A name or an address.
        target: String = String::new(),
        /// 1 to 65,535.
        port: u16 = 443,
        /// The name that is asked for; without it the target.
        name: Option<String> = None,
        /// For connecting and for the handshake, 10 ms to 1 min.
        timeout: Span = seconds(3),
    }
}

options! {
    /// `http = { … }`.
    Http {
        /// `http://` or `https://`.
        url: String = String::new(),
        /// For connecting, for the handshake, and for the first byte, 10 ms to 1 min.
        timeout: Span = seconds(3),
        /// For all of the response, 10 ms to 10 min.
        max_time: Span = seconds(30),
        /// Bytes of the body that are read.
        limit: ByteCount = ByteCount::mib(1),
    }
}

options! {
    /// `ntp = { … }`.
    Ntp {
        /// Names and addresses, 1 to 16.
        servers: Vec<String> = Vec::new(),
        /// Queries to each, 1 to 20.
        count: u8 = 4,
        /// Between two of them, 100 ms to 1 min.
        interval: Span = seconds(1),
        /// An answer that takes longer is none, 10 ms to 1 min.
        timeout: Span = seconds(1),
    }
}

fn ms(span: Span) -> u32 {
    u32::try_from(span.0.as_millis()).unwrap_or(u32::MAX)
}

impl Schedule {
    /// Which test it is; none where nothing or several are given.
    pub fn kind(&self) -> Option<TestKind> {
        let [kind] = self.kinds()[..] else { return None };
        Some(kind)
    }

    fn kinds(&self) -> Vec<TestKind> {
        let given = [
            self.ping.is_some(),
            self.trace.is_some(),
            self.mtu.is_some(),
            self.bandwidth.is_some(),
            self.dns.is_some(),
            self.tcp.is_some(),
            self.tls.is_some(),
            self.http.is_some(),
            self.ntp.is_some(),
        ];
        TestKind::ALL.into_iter().zip(given).filter_map(|(kind, given)| given.then_some(kind)).collect()
    }

    /// No other scheduled test runs beside it.
    pub const fn is_exclusive(&self) -> bool {
        self.exclusive || self.bandwidth.is_some()
    }

    /// `every 1m`, `at */5 * * * *`.
    pub fn when(&self) -> String {
        match (self.every, &self.at) {
            (Some(every), _) => format!("every {every}"),
            (None, Some(at)) => format!("at {at}"),
            (None, None) => "never".to_owned(),
        }
    }

    /// How packets leave.
    pub fn way(&self) -> Way {
        let interface = self.interface.clone().or_else(|| self.tunnel.as_ref().map(TunnelName::device));
        Way { interface, source: self.source, family: self.family }
    }

    /// What the `diag` role would be asked for the same test.
    pub fn test(&self) -> Option<Test> {
        let way = self.way();
        Some(match self.kind()? {
            TestKind::Ping => Test::Ping(self.ping.as_ref()?.test(way)),
            TestKind::Trace => Test::Trace(self.trace.as_ref()?.test(way)),
            TestKind::Mtu => {
                let Mtu { target, count, timeout } = self.mtu.clone()?;
                Test::Mtu(MtuTest { target, way, timeout_ms: ms(timeout), tries: count })
            }
            TestKind::Bandwidth => Test::Bandwidth(self.bandwidth.as_ref()?.test(way)),
            TestKind::Dns => {
                let Dns { name, record, servers, transport, timeout, count } = self.dns.clone()?;
                Test::Dns(DnsTest { name, record, servers, way, transport, timeout_ms: ms(timeout), tries: count })
            }
            TestKind::Tcp => {
                let Tcp { target, port, timeout } = self.tcp.clone()?;
                Test::Tcp(TcpTest { target, port, way, timeout_ms: ms(timeout) })
            }
            TestKind::Tls => {
                let Tls { target, port, name, timeout } = self.tls.clone()?;
                Test::Tls(TlsTest { target, port, name, way, timeout_ms: ms(timeout) })
            }
            TestKind::Http => {
                let Http { url, timeout, max_time, limit } = self.http.clone()?;
                Test::Http(HttpTest { url, way, timeout_ms: ms(timeout), whole_ms: ms(max_time), limit: limit.0 })
            }
            TestKind::Ntp => {
                let Ntp { servers, count, interval, timeout } = self.ntp.clone()?;
                Test::Ntp(NtpTest { servers, way, count, interval_ms: ms(interval), timeout_ms: ms(timeout) })
            }
        })
    }
}

impl Ping {
    fn test(&self, way: Way) -> PingTest {
        PingTest {
            targets: self.targets.clone(),
            way,
            count: self.count,
            interval_ms: ms(self.interval),
            timeout_ms: ms(self.timeout),
            size: self.size,
            dscp: self.dscp,
            dont_fragment: self.dont_fragment,
            each: true,
        }
    }
}

impl Trace {
    fn test(&self, way: Way) -> TraceTest {
        TraceTest {
            target: self.target.clone(),
            way,
            method: self.method,
            port: self.port,
            hops: self.hops,
            rounds: self.count,
            flows: self.flows,
            interval_ms: ms(self.interval),
            timeout_ms: ms(self.timeout),
            names: false,
            watch: None,
        }
    }
}

impl Bandwidth {
    fn test(&self, way: Way) -> BandwidthTest {
        let seconds = |span: Span| u32::try_from(span.0.as_secs()).unwrap_or(u32::MAX);
        BandwidthTest {
            target: self.target.clone(),
            way,
            port: self.port,
            transport: self.transport,
            direction: self.direction,
            streams: self.streams,
            rate: self.rate.map(|rate| rate.0),
            seconds: seconds(self.time),
            omit: seconds(self.omit),
            length: self.length,
        }
    }
}

/// What is wrong with one schedule: flaws with their place.
struct Check<'a> {
    name: &'a str,
    flaws: Vec<Flaw>,
}

impl Check<'_> {
    fn say(&mut self, key: &[&str], message: impl Into<String>, expected: impl Into<String>) {
        let path: Vec<&str> = ["diag", "schedule", self.name].into_iter().chain(key.iter().copied()).collect();
        self.flaws.push(Flaw::new(&path, message.into(), expected.into()));
    }

    fn span(&mut self, key: &[&str], value: Span, least: Duration, most: Duration) {
        if !(least..=most).contains(&value.0) {
            let last = key.last().copied().unwrap_or_default();
            self.say(key, format!("`{last}` is {value}"), format!("{} to {}", Span(least), Span(most)));
        }
    }

    fn timeout(&mut self, test: &str, value: Span) {
        self.span(&[test, "timeout"], value, Duration::from_millis(10), Duration::from_mins(1));
    }

    fn number(&mut self, key: &[&str], value: u64, least: u64, most: u64) {
        if !(least..=most).contains(&value) {
            let last = key.last().copied().unwrap_or_default();
            self.say(key, format!("`{last}` is {value}"), format!("a number from {least} to {most}"));
        }
    }

    fn text(&mut self, test: &str, key: &str, value: &str) {
        if value.is_empty() {
            self.say(&[test], format!("`{test}` has no `{key}`"), format!("`{key}` in it"));
        } else if value.len() > 2048 || value.chars().any(|c| c.is_control() || c.is_whitespace()) {
            self.say(
                &[test, key],
                format!("`{key}` is too long or has characters that none has"),
                "a name or an address",
            );
        }
    }

    fn list(&mut self, test: &str, key: &str, values: &[String], least: usize, most: usize) {
        if values.len() < least {
            self.say(&[test], format!("`{test}` has no `{key}`"), format!("`{key}` in it"));
        } else if values.len() > most {
            self.say(&[test, key], format!("`{key}` has {} entries", values.len()), format!("{most} at most"));
        }
        for (n, value) in values.iter().enumerate() {
            if value.is_empty() || value.len() > 300 || value.chars().any(|c| c.is_control() || c.is_whitespace()) {
                self.say(
                    &[test, key, &n.to_string()],
                    format!("`{}` is no target", value.escape_debug()),
                    "a name or an address",
                );
            }
        }
    }
}

impl Diag {
    /// What the types cannot say.
    pub(super) fn flaws(&self) -> Vec<Flaw> {
        let mut flaws: Vec<Flaw> = self.schedule.iter().flat_map(|(name, schedule)| schedule.flaws(name)).collect();
        if self.schedule.len() > SCHEDULES {
            let message = format!("there are {} schedules", self.schedule.len());
            flaws.push(Flaw::new(&["diag", "schedule"], message, format!("{SCHEDULES} at most")));
        }
        flaws.extend(self.bandwidth_server.iter().flat_map(BandwidthServer::flaws));
        flaws
    }
}

impl Schedule {
    fn flaws(&self, name: &str) -> Vec<Flaw> {
        let mut check = Check { name, flaws: Vec::new() };
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=32).contains(&name.len()) || !name.bytes().all(fine) {
            let message = format!("`{}` is no name for a schedule", name.escape_debug());
            check.say(&[], message, "1 to 32 small letters, digits or `-`");
        }
        let all = || TestKind::ALL.map(|kind| format!("`{kind}`")).join(", ");
        match self.kinds()[..] {
            [kind] => {
                self.check_time(kind, &mut check);
                self.check_thresholds(kind, &mut check);
            }
            [] => check.say(&[], format!("`{name}` has no test"), format!("one of {}", all())),
            [first, second, ..] => {
                check.say(&[second.name()], format!("there is `{first}` already"), "one test for each schedule");
            }
        }
        self.check_way(&mut check);
        self.check_options(&mut check);
        check.flaws
    }

    fn check_time(&self, kind: TestKind, check: &mut Check<'_>) {
        let least = match kind {
            TestKind::Ping => Duration::from_secs(1),
            TestKind::Bandwidth => Duration::from_mins(10),
            _ => Duration::from_secs(10),
        };
        match (self.every, &self.at) {
            (Some(every), None) => check.span(&["every"], every, least, DAY * 31),
            (None, Some(at)) => {
                let gap = Duration::from_mins(at.shortest_gap_minutes().into());
                if gap < least {
                    let message = format!("`{at}` comes after {}", Span(gap));
                    check.say(&["at"], message, format!("{} between two tests of bandwidth", Span(least)));
                }
            }
            (Some(_), Some(_)) => check.say(&["at"], "there is `every` already", "one of them"),
            (None, None) => check.say(&[], "it says not when", "`every` = a length of time, or `at` = five fields"),
        }
        if self.even_while_catching_up && kind != TestKind::Bandwidth {
            let message = format!("`{kind}` is made in any case");
            check.say(&["even_while_catching_up"], message, "with `bandwidth` alone");
        }
        if let (Some(ping), Some(every)) = (&self.ping, self.every) {
            let takes = ping.interval.0.saturating_mul(ping.count.saturating_sub(1));
            if takes >= every.0 {
                let message = format!("the pings take {}, and the next are due after {every}", Span(takes));
                check.say(&["every"], message, "a longer time, or fewer pings");
            }
        }
    }

    fn check_thresholds(&self, kind: TestKind, check: &mut Check<'_>) {
        let alert = &self.alert;
        for threshold in Threshold::ALL.into_iter().filter(|threshold| alert.has(*threshold) && !threshold.is_of(kind))
        {
            let of = TestKind::ALL.into_iter().filter(|kind| threshold.is_of(*kind));
            let of = of.map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", ");
            check.say(&["alert", threshold.name()], format!("`{kind}` has no `{threshold}`"), format!("with {of}"));
        }
        check.number(&["alert", "for"], alert.results.into(), 1, 1000);
        check.number(&["alert", "clear"], alert.clear.into(), 1, 1000);
        if alert.loss.is_some_and(|loss| !(0.0..100.0).contains(&loss)) {
            check.say(&["alert", "loss"], "`loss` is no share", "percent, from 0 to below 100");
        }
        let (least, most) = (Duration::from_millis(1), Duration::from_mins(10));
        for (key, span) in [("p95", alert.p95), ("time", alert.time)] {
            if let Some(span) = span {
                check.span(&["alert", key], span, least, most);
            }
        }
        if let Some(span) = alert.offset {
            check.span(&["alert", "offset"], span, least, DAY * 365);
        }
        if let Some(days) = alert.days_left {
            check.number(&["alert", "days_left"], days.into(), 1, 3650);
        }
        if let Some(mtu) = alert.min_mtu {
            check.number(&["alert", "min_mtu"], mtu.into(), 68, 65_535);
        }
    }

    fn check_way(&self, check: &mut Check<'_>) {
        if let Some(interface) = &self.interface {
            let fine =
                (1..=15).contains(&interface.len()) && interface.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
            if !fine {
                let message = format!("`{}` is no name of a link", interface.escape_debug());
                check.say(&["interface"], message, "the name of a link such as `\"eth1\"`");
            }
            if self.tunnel.is_some() {
                check.say(&["tunnel"], "there is `interface` already", "one of them");
            }
        }
    }

    fn check_options(&self, check: &mut Check<'_>) {
        let (ten, minute) = (Duration::from_millis(10), Duration::from_mins(1));
        if let Some(ping) = &self.ping {
            check.list("ping", "targets", &ping.targets, 1, TARGETS);
            check.number(&["ping", "count"], ping.count.into(), 1, PINGS.into());
            check.span(&["ping", "interval"], ping.interval, ten, minute * 10);
            check.timeout("ping", ping.timeout);
            check.number(&["ping", "size"], ping.size.into(), 16, 65_000);
            check.number(&["ping", "dscp"], ping.dscp.into(), 0, 63);
        }
        if let Some(trace) = &self.trace {
            check.text("trace", "target", &trace.target);
            for (key, value, most) in
                [("hops", trace.hops, 64), ("count", trace.count, 100), ("flows", trace.flows, 64)]
            {
                check.number(&["trace", key], value.into(), 1, most);
            }
            check.span(&["trace", "interval"], trace.interval, ten, minute);
            check.timeout("trace", trace.timeout);
        }
        if let Some(mtu) = &self.mtu {
            check.text("mtu", "target", &mtu.target);
            check.number(&["mtu", "count"], mtu.count.into(), 1, 10);
            check.timeout("mtu", mtu.timeout);
        }
        if let Some(bandwidth) = &self.bandwidth {
            bandwidth.check(check);
        }
        self.check_services(check);
    }

    fn check_services(&self, check: &mut Check<'_>) {
        if let Some(dns) = &self.dns {
            check.text("dns", "name", &dns.name);
            check.list("dns", "servers", &dns.servers, 0, DnsTest::SERVERS);
            check.number(&["dns", "count"], dns.count.into(), 1, 10);
            check.timeout("dns", dns.timeout);
        }
        if let Some(tcp) = &self.tcp {
            check.text("tcp", "target", &tcp.target);
            check.number(&["tcp", "port"], tcp.port.into(), 1, 65_535);
            check.timeout("tcp", tcp.timeout);
        }
        if let Some(tls) = &self.tls {
            check.text("tls", "target", &tls.target);
            check.number(&["tls", "port"], tls.port.into(), 1, 65_535);
            check.timeout("tls", tls.timeout);
        }
        if let Some(http) = &self.http {
            check.text("http", "url", &http.url);
            if !http.url.is_empty() && !["http://", "https://"].iter().any(|scheme| http.url.starts_with(scheme)) {
                check.say(&["http", "url"], "`url` does not begin with `http://` or `https://`", "a whole URL");
            }
            check.timeout("http", http.timeout);
            let (least, most) = (Duration::from_millis(10), Duration::from_mins(10));
            check.span(&["http", "max_time"], http.max_time, least, most);
        }
        if let Some(ntp) = &self.ntp {
            check.list("ntp", "servers", &ntp.servers, 1, NtpTest::SERVERS);
            check.number(&["ntp", "count"], ntp.count.into(), 1, 20);
            let (least, most) = (Duration::from_millis(100), Duration::from_mins(1));
            check.span(&["ntp", "interval"], ntp.interval, least, most);
            check.timeout("ntp", ntp.timeout);
        }
    }
}

impl Bandwidth {
    fn check(&self, check: &mut Check<'_>) {
        check.text("bandwidth", "target", &self.target);
        check.number(&["bandwidth", "port"], self.port.into(), 1, 65_535);
        check.number(&["bandwidth", "streams"], self.streams.into(), 1, BandwidthTest::STREAMS.into());
        let (time, omit) = (self.time.0, self.omit.0);
        let whole = |span: Duration| span.subsec_nanos() == 0;
        if !whole(time) || !whole(omit) || time.is_zero() || (time + omit).as_secs() > BANDWIDTH_S {
            let message = format!("`time` is {} and `omit` is {}", self.time, self.omit);
            check.say(&["bandwidth", "time"], message, format!("whole seconds, together {BANDWIDTH_S} at most"));
        }
        if let Some(length) = self.length {
            let (least, most) = if self.transport == bw::Transport::Udp { (16, 65_507) } else { (1, 1 << 20) };
            check.number(&["bandwidth", "length"], length.into(), least, most);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Config;
    use super::*;

    fn schedules(text: &str) -> BTreeMap<String, Schedule> {
        Config::from_toml(&format!("schema = 1\n{text}"), "test.toml").unwrap().diag.schedule
    }

    #[test]
    fn a_schedule_becomes_the_test_that_the_same_command_makes() {
        let text = "[diag.schedule.gw]\nevery = '1m'\ntunnel = 'noc'\nping = { targets = ['192.0.2.1'], count = 3 }\n[vpn.profile.noc]\nversion = 1";
        let all = schedules(text);
        let Some(Test::Ping(ping)) = all["gw"].test() else { panic!("no ping") };
        assert_eq!((ping.count, ping.interval_ms, ping.timeout_ms, ping.size), (3, 1000, 1000, 56));
        assert_eq!(ping.way.interface.as_deref(), Some("vpn-noc"));
        assert!(all["gw"].alert.failed && !all["gw"].is_exclusive());
    }

    #[test]
    fn bandwidth_is_always_alone() {
        let all = schedules("[diag.schedule.b]\nat = '7 3 * * *'\nbandwidth = { target = 'noc' }");
        assert!(all["b"].is_exclusive());
        assert_eq!(all["b"].when(), "at 7 3 * * *");
    }

    #[test]
    fn rates_read_back_as_written() {
        for (text, bits) in [("10M", 10_000_000), ("1.5G", 1_500_000_000), ("64k", 64_000), ("7", 7)] {
            let rate: BitRate = text.parse().unwrap();
            assert_eq!(rate.0, bits);
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        for wrong in ["", "M", "-1", "1e5", "10MB", "nan", "inf", "2000000G"] {
            assert!(wrong.parse::<BitRate>().is_err(), "{wrong}");
        }
    }
}
