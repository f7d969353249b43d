//! What is known of the box, its network and its destinations: what the roles report, twice, and what tests say now.

use super::ladder::{Ladder, Rung};
use super::{WhyArgs, machine, records, way};
use crate::client::Client;
use crate::diag::wire::{ask, glance};
use crate::failure::Failure;
use crate::output::Output;
use crate::reports::Reports;
use crate::{sources, status, time};
use raven_model::config::{Config, Destination, Via};
use raven_model::diag::services::{
    DnsResult, DnsTest, NtpResult, NtpTest, RecordType, TcpResult, TcpTest, TlsResult, TlsTest,
};
use raven_model::diag::wire::{LanResult, WireReport};
use raven_model::diag::{Event, Method, PingResult, PingTest, Test, TraceResult, TraceTest, Way};
use raven_model::query::SourceView;
use raven_model::report::{DestinationStatus, SilenceReport, Status, StoreReport, VpnTunnel};
use raven_model::stream::Stream;
use raven_model::table::Role;
use raven_model::units::UnixNanos;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Between the two looks at what the roles count, at least.
const APART: Duration = Duration::from_millis(2500);
/// Targets of one destination that are tested.
const TARGETS: usize = 4;
/// Links that are looked at, for how long each is watched, and how long somebody may take to say that an address is theirs,
/// milliseconds.
const LINKS: usize = 4;
const WATCHED_MS: u32 = 2000;
const ASKED_MS: u32 = 1500;
/// What a sender sent is counted over so long.
const WINDOW_NS: u64 = 600_000_000_000;

/// All of it.
#[derive(Debug)]
pub struct Facts {
    /// In force.
    pub config: Config,
    /// When looked at first.
    pub first: Status,
    /// The same [`APART`] later.
    pub then: Status,
    /// What the collectors saw by then.
    pub reports: Reports,
    /// Senders that are silent; none where nobody watches that.
    pub silence: Option<SilenceReport>,
    /// What tests say.
    pub tests: Tests,
    /// One destination is asked about, and no other.
    pub only: Option<String>,
    /// One sender is asked about.
    pub sender: Option<Sender>,
}

/// What tests say.
#[derive(Debug, Default)]
pub struct Tests {
    /// Why none was made.
    pub refused: Option<String>,
    /// Gateways.
    pub gateways: Vec<PingResult>,
    /// Names of destinations and time servers, by what name servers say of them.
    pub names: BTreeMap<String, DnsResult>,
    /// Time servers.
    pub clocks: Vec<NtpResult>,
    /// Ends of destinations.
    pub targets: Vec<Target>,
    /// What arrives at each link, beside what was received of it.
    pub wires: Vec<WireReport>,
    /// Who answers at each link for the box's own addresses.
    pub lans: Vec<LanResult>,
}

/// An end of a destination.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name of the destination.
    pub destination: String,
    /// Name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// It is a proxy, behind which the destination is.
    pub is_proxy: bool,
    /// Datagrams are sent to it, of which nobody says whether they are taken.
    pub is_of_datagrams: bool,
    /// TLS is spoken, and this is the name in its certificate.
    pub tls: Option<String>,
    /// How it is reached.
    pub way: Way,
    /// What came of it.
    pub seen: Seen,
}

/// What came of the tests of a [`Target`].
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// A connection, or why none could be tried.
    pub tcp: Option<Result<TcpResult, String>>,
    /// TLS.
    pub tls: Option<Result<TlsResult, String>>,
    /// Of datagrams: pings.
    pub ping: Option<PingResult>,
    /// Where the way ends, when nobody says anything.
    pub trace: Option<TraceResult>,
}

/// A sender.
#[derive(Debug)]
pub struct Sender {
    /// Its address.
    pub address: IpAddr,
    /// What is stored of it, of the last ten minutes.
    pub stored: Vec<(Stream, SourceView)>,
}

impl Facts {
    /// Asks, and tests.
    pub fn gather(args: &WhyArgs, client: &Client) -> Result<Self, Failure> {
        let began = Instant::now();
        let config = client.config()?;
        if let Some(name) = args.destination.as_ref().filter(|name| !config.uplink.contains_key(*name)) {
            let all: Vec<&str> = config.uplink.keys().map(String::as_str).collect();
            return Err(Failure::Usage(format!("there is no destination `{name}`; there are: {}", all.join(", "))));
        }
        let first = status::merge(&client.status()?);
        let mut facts = Self {
            then: first.clone(),
            first,
            config,
            reports: Reports::default(),
            silence: None,
            tests: Tests::default(),
            only: args.destination.clone(),
            sender: None,
        };
        if args.passive {
            facts.tests.refused = Some("nothing was sent (--passive)".to_owned());
        } else {
            facts.tests = facts.test(client);
        }
        facts.sender = args.sender.map(|address| sender(address, client)).transpose()?;
        thread::sleep(APART.saturating_sub(began.elapsed()));
        let then = client.status()?;
        facts.then = status::merge(&then);
        if facts.tests.refused.is_none() {
            let late = facts.untested_gateways();
            facts.tests.gateways.extend(ping(client, late, Way::default()).unwrap_or_default());
        }
        facts.reports = Reports::of(&then);
        let store =
            then.reports.get(&Role::Store).and_then(|report| serde_json::from_str::<StoreReport>(report.get()).ok());
        facts.silence = store.and_then(|store| store.silence);
        Ok(facts)
    }

    /// From the cable to the acknowledgement.
    pub fn judge(&self) -> Ladder {
        let mut rungs: Vec<Rung> = machine::rungs(self);
        rungs.extend(way::rungs(self));
        rungs.extend(records::rungs(self));
        Ladder::new(&self.then.device, rungs)
    }

    /// Destinations that are asked about.
    pub fn destinations(&self) -> impl Iterator<Item = (&String, &Destination)> {
        self.config.uplink.iter().filter(|(name, _)| self.only.as_ref().is_none_or(|only| only == *name))
    }

    /// What the uplink says of one.
    pub fn delivered(&self, name: &str) -> impl Iterator<Item = &DestinationStatus> {
        self.then.destinations.iter().filter(move |status| status.name == name)
    }

    /// The tunnel that carries.
    pub fn tunnel(&self) -> Option<&VpnTunnel> {
        self.then.vpn.iter().find(|tunnel| tunnel.carries)
    }

    /// Tunnels are needed.
    pub fn needs_tunnel(&self) -> bool {
        self.destinations().any(|(_, to)| to.via == Some(Via::Vpn)) || !self.config.vpn.order.is_empty()
    }

    /// Those that no test has asked yet: a link may have learnt of one while others were asked.
    pub fn untested_gateways(&self) -> Vec<String> {
        let all: BTreeSet<IpAddr> = self.then.links.iter().flat_map(|link| link.gateways.clone()).collect();
        let is_tested = |gateway: &IpAddr| self.tests.gateways.iter().any(|result| result.address == Some(*gateway));
        all.iter().filter(|gateway| !is_tested(gateway)).map(ToString::to_string).collect()
    }

    /// All at once: none waits for another.
    fn test(&self, client: &Client) -> Tests {
        let gateways = self.untested_gateways();
        let mut targets: Vec<Target> = self.destinations().flat_map(|(name, to)| self.targets(name, to)).collect();
        let with_cable = self.first.links.iter().filter(|link| link.carrier && self.only.is_none());
        let links: Vec<String> = with_cable.map(|link| link.name.clone()).take(LINKS).collect();
        let servers = &self.config.system.ntp;
        let hosts = targets.iter().map(|target| &target.host).chain(servers);
        let names: BTreeSet<String> = hosts.filter(|host| host.parse::<IpAddr>().is_err()).cloned().collect();
        let (mut tests, seen) = thread::scope(|scope| {
            let pings = scope.spawn(|| ping(client, gateways, Way::default()));
            let asked: Vec<_> =
                names.iter().map(|name| scope.spawn(move || Some((name.clone(), resolve(client, name)?)))).collect();
            let clocks = scope.spawn(|| clocks(client, servers));
            let looks: Vec<_> = targets.iter().map(|target| scope.spawn(|| target.look(client))).collect();
            let wires: Vec<_> =
                links.iter().map(|link| scope.spawn(|| glance(client, link, WATCHED_MS, &self.first))).collect();
            let lans: Vec<_> =
                links.iter().map(|link| scope.spawn(|| ask(client, &self.first, link, false, ASKED_MS))).collect();
            let seen: Vec<Seen> = looks.into_iter().map(|look| look.join().unwrap_or_default()).collect();
            let pinged = pings.join().unwrap_or_else(|_| Err("the test broke off".to_owned()));
            let tests = Tests {
                refused: pinged.as_ref().err().cloned(),
                gateways: pinged.unwrap_or_default(),
                names: asked.into_iter().filter_map(|asked| asked.join().ok()?).collect(),
                clocks: clocks.join().unwrap_or_default(),
                targets: Vec::new(),
                wires: wires.into_iter().filter_map(|wire| wire.join().ok()?.ok()).collect(),
                lans: lans.into_iter().filter_map(|lan| lan.join().ok()?.ok()).collect(),
            };
            (tests, seen)
        });
        for (target, seen) in targets.iter_mut().zip(seen) {
            target.seen = seen;
        }
        tests.targets = targets;
        tests
    }

    /// Its ends, as far as they can be reached at all: without a tunnel there is none behind it.
    fn targets(&self, name: &str, to: &Destination) -> Vec<Target> {
        let way = match (to.via, self.first.vpn.iter().find(|tunnel| tunnel.carries)) {
            (Some(Via::Vpn), None) => return Vec::new(),
            (Some(Via::Vpn), Some(tunnel)) => Way { interface: Some(tunnel.name.device()), ..Way::default() },
            (None, _) => Way::default(),
        };
        let target = |(host, port): (String, u16), is_proxy: bool| Target {
            destination: name.to_owned(),
            tls: (to.speaks_tls() && !is_proxy).then(|| to.server_name.clone().unwrap_or_else(|| host.clone())),
            host,
            port,
            is_proxy,
            is_of_datagrams: to.kind.is_of_datagrams(),
            way: way.clone(),
            seen: Seen::default(),
        };
        match to.proxy_address() {
            Some(proxy) => host_and_port(proxy, 3128).map(|end| target(end, true)).into_iter().collect(),
            None => ends(to).into_iter().take(TARGETS).map(|end| target(end, false)).collect(),
        }
    }
}

impl Target {
    fn look(&self, client: &Client) -> Seen {
        let mut seen = Seen::default();
        if self.is_of_datagrams {
            seen.ping = ping(client, vec![self.host.clone()], self.way.clone()).ok().and_then(|mut all| all.pop());
            return seen;
        }
        let test = TcpTest { target: self.host.clone(), port: self.port, way: self.way.clone(), timeout_ms: 3000 };
        let tcp = match make(client, &Test::Tcp(test)) {
            Ok(Event::Tcp(result)) => Ok(result),
            Ok(_) => Err("the diag role answered something else".to_owned()),
            Err(why) => Err(why),
        };
        let is_connected = tcp.as_ref().is_ok_and(way::is_connected);
        if let (true, Some(name)) = (is_connected, &self.tls) {
            seen.tls = Some(self.look_at_tls(client, name));
        }
        if !is_connected && tcp.as_ref().is_ok_and(|tcp| !tcp.connections.is_empty()) {
            seen.trace = self.trace(client);
        }
        seen.tcp = Some(tcp);
        seen
    }

    fn look_at_tls(&self, client: &Client, name: &str) -> Result<TlsResult, String> {
        let test = TlsTest {
            target: self.host.clone(),
            port: self.port,
            name: Some(name.to_owned()),
            way: self.way.clone(),
            timeout_ms: 5000,
        };
        match make(client, &Test::Tls(test))? {
            Event::Tls(result) => Ok(result),
            _ => Err("the diag role answered something else".to_owned()),
        }
    }

    fn trace(&self, client: &Client) -> Option<TraceResult> {
        let test = TraceTest {
            target: self.host.clone(),
            way: self.way.clone(),
            method: Method::Udp,
            port: None,
            hops: 16,
            rounds: 1,
            flows: 1,
            interval_ms: 200,
            timeout_ms: 800,
            names: false,
            watch: None,
        };
        match make(client, &Test::Trace(test)) {
            Ok(Event::Trace(result)) => Some(result),
            _ => None,
        }
    }
}

fn sender(address: IpAddr, client: &Client) -> Result<Sender, Failure> {
    let since = UnixNanos(time::now().0.saturating_sub(WINDOW_NS));
    let mut stored = Vec::new();
    for stream in Stream::ALL {
        let views = sources::of_stream(stream, since, client, &mut Output::nowhere())?.unwrap_or_default();
        stored.extend(views.into_iter().filter(|view| view.addr == address).map(|view| (stream, view)));
    }
    Ok(Sender { address, stored })
}

/// Has a test made; its result, or why there is none.
pub fn make(client: &Client, test: &Test) -> Result<Event, String> {
    make_with(client, test, |_| {})
}

/// The same; `f` gets what comes before the result.
pub fn make_with(client: &Client, test: &Test, mut f: impl FnMut(Event)) -> Result<Event, String> {
    let words = |failure: Failure| failure.to_string();
    let mut answer = client.diag(test).map_err(words)?;
    let mut quiet = Output::nowhere();
    while let Some(line) = answer.next(&mut quiet).map_err(words)? {
        let event: Event = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if event.is_result() {
            return Ok(event);
        }
        f(event);
    }
    Err("the test ended without a result".to_owned())
}

fn ping(client: &Client, targets: Vec<String>, way: Way) -> Result<Vec<PingResult>, String> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let test = PingTest {
        targets,
        way,
        count: 4,
        interval_ms: 200,
        timeout_ms: 1000,
        size: 56,
        dscp: 0,
        dont_fragment: false,
        each: false,
    };
    match make(client, &Test::Ping(test))? {
        Event::Ping(results) => Ok(results),
        _ => Err("the diag role answered something else".to_owned()),
    }
}

/// IPv4 first; IPv6 where there is none.
fn resolve(client: &Client, name: &str) -> Option<DnsResult> {
    let ask = |record| {
        let test = DnsTest {
            name: name.to_owned(),
            record,
            servers: Vec::new(),
            way: Way::default(),
            transport: raven_model::diag::services::Transport::Udp,
            timeout_ms: 1500,
            tries: 2,
        };
        match make(client, &Test::Dns(test)) {
            Ok(Event::Dns(result)) => Some(result),
            _ => None,
        }
    };
    let v4 = ask(RecordType::A)?;
    if v4.servers.iter().any(|server| !server.answers.is_empty())
        || v4.servers.iter().all(|server| server.rcode.is_none())
    {
        return Some(v4);
    }
    ask(RecordType::Aaaa).filter(|v6| v6.servers.iter().any(|server| !server.answers.is_empty())).or(Some(v4))
}

fn clocks(client: &Client, servers: &[String]) -> Vec<NtpResult> {
    if servers.is_empty() {
        return Vec::new();
    }
    let servers = servers.iter().take(NtpTest::SERVERS).cloned().collect();
    let test = NtpTest { servers, way: Way::default(), count: 2, interval_ms: 200, timeout_ms: 1500 };
    match make(client, &Test::Ntp(test)) {
        Ok(Event::Ntp(results)) => results,
        _ => Vec::new(),
    }
}

/// Hosts and ports of a destination.
fn ends(to: &Destination) -> Vec<(String, u16)> {
    if !to.kind.has_url() {
        return to.to.split(',').filter_map(|one| host_and_port(one.trim(), 0)).collect();
    }
    let Some((scheme, rest)) = to.to.split_once("://") else { return Vec::new() };
    let authority = rest.split('/').next().unwrap_or(rest);
    let usual = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    host_and_port(authority, usual).into_iter().collect()
}

/// `host:port`, `[v6]:port`, or a host alone where there is a usual port.
fn host_and_port(text: &str, usual: u16) -> Option<(String, u16)> {
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    match text.rsplit_once(':').filter(|_| !text.ends_with(']')) {
        Some((host, port)) => Some((bare(host), port.parse().ok()?)),
        None => (usual > 0).then(|| (bare(text), usual)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_of_destinations() {
        let pair = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(host_and_port("noc.example:2514", 0), pair("noc.example", 2514));
        assert_eq!(host_and_port("[2001:db8::1]:2514", 0), pair("2001:db8::1", 2514));
        assert_eq!(host_and_port("[2001:db8::1]", 443), pair("2001:db8::1", 443));
        assert_eq!(host_and_port("noc.example", 443), pair("noc.example", 443));
        assert_eq!(host_and_port("noc.example", 0), None);
    }
}
