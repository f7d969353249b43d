//! The task of one tunnel by WireGuard: it carries out what [`WireGuard`] wants, and tells it what happened. The kernel's
//! WireGuard is asked for by orders to the `net` role; where the kernel has none, a program carries the packets of a TUN
//! device and is spoken to here.

use super::hall::{Hall, Shown};
use super::ping::Pinger;
use super::tunnel::{Told, addresses, answer, wait};
use super::uapi;
use super::wireguard::{Action, Event, WireGuard};
use raven_model::config::{Address, VpnProfile};
use raven_model::prefix::Prefix;
use raven_model::table::{Role, table};
use raven_model::tunnel::{Carried, Refusal, TunnelAnswer, TunnelName, TunnelOrder, WireguardKey, WireguardPeer};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::rc::Rc;
use std::time::Instant;
use tokio::net::UnixStream;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

/// Longest packet where the profile says nothing, bytes: fits with WireGuard's own 80 into 1500.
const MTU: u32 = 1420;
/// Where the profile says nothing: a box behind a NAT must be found from the far end, and keys are exchanged without
/// anything to send.
const KEEPALIVE: u16 = 25;

/// A tunnel.
pub struct Device {
    name: TunnelName,
    config: VpnProfile,
    profile: raven_profile::WireGuard,
    machine: WireGuard,
    hall: Rc<Hall>,
    inbox: Receiver<Told>,
    /// The kernel has no WireGuard: a program carries it.
    by_program: bool,
    program: Option<Program>,
    pinger: Option<Pinger>,
    /// Orders whose answers are awaited.
    asked: Vec<(u64, Asked)>,
    /// The question to name servers that is not answered yet.
    lookup: Option<JoinHandle<Result<Found, String>>>,
    /// Of each far end, where it may be.
    found: Found,
    /// Which of those is tried.
    turn: usize,
    /// Where its packets go, as the `net` role was told.
    endpoints: Vec<IpAddr>,
    refused: Vec<Refusal>,
}

/// Addresses of each far end.
type Found = Vec<Vec<SocketAddr>>;

/// What an order was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Open,
    Peers,
    Up,
    Look,
}

impl Device {
    /// One that is off.
    pub fn new(
        name: TunnelName,
        config: VpnProfile,
        profile: raven_profile::WireGuard,
        hall: Rc<Hall>,
        inbox: Receiver<Told>,
    ) -> Self {
        let seed = RandomState::new().hash_one(name.as_str());
        Self {
            name,
            config,
            profile,
            machine: WireGuard::new(seed),
            hall,
            inbox,
            by_program: false,
            program: None,
            pinger: None,
            asked: Vec::new(),
            lookup: None,
            found: Vec::new(),
            turn: 0,
            endpoints: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Runs until it is aborted, or nobody wants to tell it anything any more.
    pub async fn run(mut self) {
        self.publish();
        loop {
            let due = self.machine.due(Instant::now());
            let event = tokio::select! {
                told = self.inbox.recv() => match told {
                    None => break,
                    Some(told) => self.told(told),
                },
                found = looked_up(self.lookup.as_mut()) => self.located(found),
                heard = hear(self.program.as_mut()) => self.heard(heard),
                pong = answer(self.pinger.as_ref()) => Some(Event::Pong(pong)),
                () = wait(due) => Some(Event::Tick),
            };
            if let Some(event) = event {
                let actions = self.machine.step(event, Instant::now());
                self.act(actions);
            }
            self.publish();
        }
    }

    fn told(&mut self, told: Told) -> Option<Event> {
        match told {
            Told::Want(on) => {
                let actions = self.machine.want(on, Instant::now());
                self.act(actions);
                None
            }
            // The desk gives none to a WireGuard.
            Told::Code(_) => None,
            Told::Started(Ok(socket)) => match Program::new(socket) {
                Ok(program) => {
                    self.program = Some(program);
                    self.peers()
                }
                Err(error) => Some(self.failed(format!("its socket: {error}"))),
            },
            Told::Started(Err(why)) => Some(self.failed(why)),
            // One that was ended from here is none that ended.
            Told::Ended(how) => self.program.is_some().then(|| self.failed(format!("WireGuard ended: {how}"))),
            Told::Answer(id, answer) => {
                let at = self.asked.iter().position(|(asked, _)| *asked == id)?;
                let (_, asked) = self.asked.swap_remove(at);
                self.answered(asked, answer)
            }
            Told::Returned => Some(Event::Returned),
            Told::Acknowledged(at) => Some(Event::Acknowledged(at)),
            Told::NetBegan => {
                self.asked.clear();
                // Devices and keys are in the kernel still; what `net` knows of them is read out of it.
                if self.machine.pings().is_some() {
                    self.order(Asked::Open);
                    self.order(Asked::Up);
                }
                None
            }
        }
    }

    fn answered(&mut self, asked: Asked, answer: Result<TunnelAnswer, String>) -> Option<Event> {
        let is_opening = self.machine.pings().is_none();
        match (asked, answer) {
            (Asked::Up, Ok(answer)) => {
                self.refused = answer.refused;
                self.watch();
                Some(Event::Applied(Ok(())))
            }
            (Asked::Up, Err(why)) => Some(Event::Applied(Err(why))),
            (Asked::Look, Ok(answer)) => Some(self.seen(answer.peers)),
            (_, Err(why)) => Some(self.failed(why)),
            (Asked::Open, Ok(_)) if !is_opening => None,
            (Asked::Open, Ok(answer)) => {
                self.by_program = matches!(answer.by, Some(Carried::Program(_)));
                if !self.by_program {
                    return self.peers();
                }
                self.hall.start_wireguard(self.name.clone());
                None
            }
            // The first ones: all that is to be ordered is ordered.
            (Asked::Peers, Ok(_)) if is_opening => {
                self.order(Asked::Up);
                Some(Event::Opened)
            }
            (Asked::Peers, Ok(_)) => None,
        }
    }

    /// It is taken away, and made anew after a pause.
    fn failed(&mut self, why: String) -> Event {
        self.close();
        Event::Ended(why)
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            let event = match action {
                Action::Open => {
                    self.look_up();
                    None
                }
                Action::Close => {
                    self.close();
                    None
                }
                Action::Renew => {
                    self.turn = self.turn.wrapping_add(1);
                    self.look_up();
                    self.peers()
                }
                Action::Look => self.look(),
                Action::Ping(number) => {
                    self.pinger.iter().for_each(|pinger| pinger.send(number));
                    None
                }
            };
            if let Some(event) = event {
                let actions = self.machine.step(event, Instant::now());
                debug_assert!(actions.is_empty(), "an end is followed by a pause");
            }
        }
    }

    /// Asks where the far ends are, outside of every tunnel; one question at a time.
    fn look_up(&mut self) {
        if self.lookup.is_none() {
            let hosts: Vec<_> = self.profile.peers.iter().map(|peer| peer.endpoint.clone()).collect();
            self.lookup = Some(tokio::task::spawn_local(async move {
                let mut found = Vec::new();
                for endpoint in hosts {
                    found.push(match endpoint {
                        Some(endpoint) => {
                            let all = addresses(&endpoint.host).await?;
                            all.into_iter().map(|address| SocketAddr::new(address, endpoint.port)).collect()
                        }
                        None => Vec::new(),
                    });
                }
                Ok(found)
            }));
        }
    }

    fn located(&mut self, found: Result<Found, String>) -> Option<Event> {
        self.lookup = None;
        let is_opening = self.machine.pings().is_none();
        match found {
            // It may still be where it was.
            Err(_) if !is_opening => None,
            Err(why) => Some(Event::Ended(why)),
            Ok(found) => {
                let is_other = found != self.found;
                self.found = found;
                if is_opening {
                    self.order(Asked::Open);
                    None
                } else {
                    is_other.then_some(Event::Moved)
                }
            }
        }
    }

    /// Sets key and far ends.
    fn peers(&mut self) -> Option<Event> {
        if !self.by_program {
            self.order(Asked::Peers);
            return None;
        }
        let peers = self.wanted_peers();
        let key = WireguardKey::new(self.profile.private_key.expose());
        let text = uapi::set(&key, self.profile.listen_port, &peers);
        self.say(&text, Asked::Peers)
    }

    fn look(&mut self) -> Option<Event> {
        if !self.by_program {
            self.order(Asked::Look);
            return None;
        }
        self.say(&Zeroizing::new(uapi::GET.to_owned()), Asked::Look)
    }

    fn say(&mut self, text: &Zeroizing<String>, asked: Asked) -> Option<Event> {
        let said = self.program.as_mut().is_some_and(|program| program.say(text, asked));
        (!said).then(|| self.failed("WireGuard takes no orders".to_owned()))
    }

    fn heard(&mut self, heard: io::Result<(Asked, String)>) -> Option<Event> {
        let (asked, answer) = match heard {
            Ok(heard) => heard,
            Err(error) => return Some(self.failed(format!("WireGuard ended: {error}"))),
        };
        let peers = uapi::read(&answer).map(|peers| TunnelAnswer { peers, ..TunnelAnswer::default() });
        self.answered(asked, peers)
    }

    /// What the far ends look like, and whether one of them is elsewhere than where it was looked for.
    fn seen(&mut self, peers: Vec<raven_model::tunnel::WireguardSeen>) -> Event {
        let elsewhere = peers.iter().filter_map(|peer| Some(peer.endpoint?.ip()));
        if elsewhere.into_iter().any(|address| !self.endpoints.contains(&address)) {
            self.order(Asked::Up);
        }
        Event::Seen(peers)
    }

    fn wanted_peers(&self) -> Vec<WireguardPeer> {
        let peers = self.profile.peers.iter().zip(&self.found);
        let peer = |(peer, found): (&raven_profile::wireguard::Peer, &Vec<SocketAddr>)| WireguardPeer {
            public_key: peer.public_key,
            preshared_key: peer.preshared_key.as_ref().map(|key| WireguardKey::new(key.expose())),
            endpoint: found.get(self.turn.checked_rem(found.len()).unwrap_or(0)).copied(),
            keepalive: peer.keepalive.unwrap_or(KEEPALIVE),
            allowed_ips: peer.allowed_ips.clone(),
        };
        peers.map(peer).collect()
    }

    fn order(&mut self, asked: Asked) {
        let tunnel = self.name.clone();
        if matches!(asked, Asked::Open | Asked::Up) {
            self.endpoints = self.found.iter().flatten().map(SocketAddr::ip).collect();
            self.endpoints.extend(self.machine.peers.iter().filter_map(|peer| Some(peer.endpoint?.ip())));
            self.endpoints.sort_unstable();
            self.endpoints.dedup();
        }
        let endpoints = self.endpoints.clone();
        let order = match asked {
            Asked::Open => TunnelOrder::Open { tunnel, by: kinds(), endpoints },
            Asked::Peers => TunnelOrder::Peers {
                tunnel,
                private_key: WireguardKey::new(self.profile.private_key.expose()),
                port: self.profile.listen_port,
                peers: self.wanted_peers(),
            },
            Asked::Look => TunnelOrder::Look { tunnel },
            Asked::Up => TunnelOrder::Up {
                tunnel,
                addresses: self.profile.addresses.iter().map(|a| Address { addr: a.address, len: a.length }).collect(),
                peer: None,
                mtu: Some(self.profile.mtu.map_or(MTU, u32::from)),
                routes: self.profile.peers.iter().flat_map(|peer| peer.allowed_ips.clone()).collect(),
                endpoints,
            },
        };
        match self.hall.order(order) {
            Ok(id) => self.asked.push((id, asked)),
            // Told again when the `net` role begins anew; one that is not carried out in time is a failure by then.
            Err(why) => eprintln!("raven-worker vpn: {}: {why}", self.name),
        }
    }

    /// Pings whoever is inside. There must be addresses.
    fn watch(&mut self) {
        let Some(target) = self.config.probe.or_else(|| guess(&self.profile)) else { return };
        if self.pinger.as_ref().is_some_and(|pinger| pinger.target() == target) {
            return;
        }
        let cookie = RandomState::new().hash_one(Instant::now());
        self.pinger = match Pinger::new(&self.name.device(), target, cookie) {
            Ok(pinger) => Some(pinger),
            Err(error) => {
                eprintln!("raven-worker vpn: {}: no pings: {error}", self.name);
                None
            }
        };
    }

    fn close(&mut self) {
        if self.by_program {
            self.hall.end(self.name.clone());
        }
        (self.program, self.pinger) = (None, None);
        self.asked.clear();
        if let Some(lookup) = self.lookup.take() {
            lookup.abort();
        }
        // The whole device: the kernel's would answer whoever has its key, and one is made for either kind.
        if let Err(why) = self.hall.order(TunnelOrder::Close { tunnel: self.name.clone() }) {
            eprintln!("raven-worker vpn: {}: {why}", self.name);
        }
    }

    fn publish(&self) {
        let now = Instant::now();
        let (word, cause) = self.machine.state(now);
        let mut shown = Shown::new(&self.name, word, cause, now);
        let told = &mut shown.told;
        told.received = self.machine.peers.iter().map(|peer| peer.received).sum();
        told.sent = self.machine.peers.iter().map(|peer| peer.sent).sum();
        if let Some(pings) = self.machine.pings() {
            told.loss = pings.loss(now);
            told.rtt_ms = pings.median().map(|median| median.as_secs_f64() * 1000.0);
            told.addresses = self.profile.addresses.iter().map(ToString::to_string).collect();
            told.server = self.machine.peers.iter().find_map(|peer| Some(peer.endpoint?.ip()));
            told.dns.clone_from(&self.profile.dns);
            told.probe = self.pinger.as_ref().map(Pinger::target);
            told.refused = self.refused.iter().map(|refusal| format!("{}: {}", refusal.what, refusal.why)).collect();
        }
        self.hall.show(&self.name, shown);
    }
}

/// The kernel's, and where it has none a program's.
fn kinds() -> Vec<Carried> {
    vec![Carried::Wireguard, Carried::Program(table().spec(Role::Wireguard).uid)]
}

/// Who may answer pings: a far end's only address, or the first of the own network, where servers mostly are.
fn guess(profile: &raven_profile::WireGuard) -> Option<IpAddr> {
    let own: Vec<IpAddr> = profile.addresses.iter().map(|address| address.address).collect();
    let is_host = |net: &&Prefix| net.len() == if net.addr().is_ipv4() { 32 } else { 128 };
    let hosts = profile.peers.iter().flat_map(|peer| peer.allowed_ips.iter().filter(is_host)).map(Prefix::addr);
    let firsts = profile.addresses.iter().filter_map(|address| first(Prefix::new(address.address, address.length)?));
    let allowed = |addr: &IpAddr| profile.peers.iter().any(|peer| peer.allowed_ips.iter().any(|net| net.holds(*addr)));
    hosts.chain(firsts).find(|addr| !own.contains(addr) && allowed(addr))
}

/// The first address of a network that has more than two.
fn first(net: Prefix) -> Option<IpAddr> {
    match net.addr() {
        IpAddr::V4(v4) if net.len() < 31 => Some(IpAddr::V4((u32::from(v4) + 1).into())),
        IpAddr::V6(v6) if net.len() < 127 => Some(IpAddr::V6((u128::from(v6) + 1).into())),
        _ => None,
    }
}

/// The connection to a WireGuard that runs as a program.
struct Program {
    stream: UnixStream,
    /// The same, to be written to before the event loop knows that it can be.
    writer: net::UnixStream,
    /// What was said and is not answered, in order.
    asked: VecDeque<Asked>,
    answer: Vec<u8>,
}

impl Program {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        let writer = net::UnixStream::from(socket);
        writer.set_nonblocking(true)?;
        let stream = UnixStream::from_std(writer.try_clone()?)?;
        Ok(Self { stream, writer, asked: VecDeque::new(), answer: Vec::new() })
    }

    /// False when it takes nothing: it reads at once, or hangs.
    fn say(&mut self, text: &Zeroizing<String>, asked: Asked) -> bool {
        self.asked.push_back(asked);
        self.writer.write(text.as_bytes()).ok() == Some(text.len())
    }

    /// The next answer.
    async fn hear(&mut self) -> io::Result<(Asked, String)> {
        loop {
            if let Some(end) = self.answer.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.answer.split_off(end + 2);
                let whole = std::mem::replace(&mut self.answer, rest);
                let asked = self.asked.pop_front().ok_or_else(|| io::Error::other("it speaks unasked"))?;
                return Ok((asked, String::from_utf8_lossy(&whole).into_owned()));
            }
            if self.answer.len() > uapi::ANSWER {
                return Err(io::Error::other("its answer has no end"));
            }
            self.stream.readable().await?;
            let mut bytes = vec![0; 16 << 10];
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.answer.extend_from_slice(bytes.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

async fn hear(program: Option<&mut Program>) -> io::Result<(Asked, String)> {
    match program {
        Some(program) => program.hear().await,
        None => std::future::pending().await,
    }
}

async fn looked_up(lookup: Option<&mut JoinHandle<Result<Found, String>>>) -> Result<Found, String> {
    match lookup {
        Some(lookup) => lookup.await.unwrap_or_else(|error| Err(format!("the names of its far ends: {error}"))),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_profile::{Options, Profile, read};

    fn guessed(address: &str, allowed: &str) -> Option<String> {
        let key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
        let text = format!(
            "[Interface]\nPrivateKey = {key}\nAddress = {address}\n[Peer]\nPublicKey = {key}\nEndpoint = 192.0.2.1:51820\nAllowedIPs = {allowed}\n"
        );
        let reading = read(text.as_bytes(), &Options::default());
        let Some(Profile::WireGuard(profile)) = reading.profile else { panic!("{:?}", reading.report) };
        guess(&profile).map(|addr| addr.to_string())
    }

    #[test]
    fn who_may_answer_pings_is_guessed_from_the_profile() {
        for (address, allowed, whom) in [
            ("10.9.0.2/24", "10.9.0.1/32, 10.20.0.0/16", Some("10.9.0.1")),
            ("10.9.0.2/24", "10.9.0.0/24, 10.20.0.0/16", Some("10.9.0.1")),
            ("10.9.0.1/24", "10.9.0.0/24", None),
            ("10.9.0.2/32", "10.20.0.0/16", None),
            ("10.9.0.2/24", "10.20.0.0/16", None),
            ("2001:db8:9::2/64", "2001:db8:9::/64", Some("2001:db8:9::1")),
        ] {
            assert_eq!(guessed(address, allowed).as_deref(), whom, "{address} {allowed}");
        }
    }
}
