//! The task of one tunnel by OpenVPN: it carries out what [`OpenVpn`] wants, and tells it what happened.

use super::hall::{Hall, Shown, now_seconds};
use super::health::Word;
use super::management::{self, LINE, Message};
use super::openvpn::{Action, Credentials, Event, OpenVpn};
use super::ping::Pinger;
use super::pushed::Pushed;
use raven_model::config::VpnProfile;
use raven_model::table::{Role, table};
use raven_model::tunnel::{Carried, Refusal, TunnelAnswer, TunnelName, TunnelOrder};
use raven_model::vpn::SecretText;
use raven_profile::openvpn::{Credentials as Login, Remote};
use raven_profile::{Host, Secret};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::{UnixListener, UnixStream, lookup_host};
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep_until, timeout};
use zeroize::Zeroizing;

/// How long a name server may take.
const LOOKUP: Duration = Duration::from_secs(4);
/// Most addresses of servers that are tried.
const ADDRESSES: usize = 16;

/// What a tunnel is told.
#[derive(Debug)]
pub enum Told {
    /// Turn it on or off.
    Want(bool),
    /// A one-time code for its next attempt.
    Code(SecretText),
    /// Its program runs: openvpn comes to this socket, WireGuard is at its other end. Or why it does not.
    Started(Result<OwnedFd, String>),
    /// Its program is gone.
    Ended(String),
    /// The `net` role's answer to the order of that number.
    Answer(u64, Result<TunnelAnswer, String>),
    /// Records were acknowledged through it at that time.
    Acknowledged(Instant),
    /// A link has a cable, an address or a way out that it had not.
    Returned,
    /// The `net` role was started anew: it is to be told again.
    NetBegan,
}

/// A tunnel.
pub struct Tunnel {
    name: TunnelName,
    config: VpnProfile,
    profile: Box<raven_profile::OpenVpn>,
    machine: OpenVpn,
    hall: Rc<Hall>,
    inbox: Receiver<Told>,
    listener: Option<UnixListener>,
    management: Option<Management>,
    pinger: Option<Pinger>,
    /// A process was started and has not ended.
    runs: bool,
    /// The order for its device whose answer is awaited, and the profile that openvpn is started with then.
    opening: Option<(u64, Secret<String>)>,
    /// The order for addresses whose answer is awaited.
    asked: Option<u64>,
    pushed: Option<Pushed>,
    /// The servers by address, as they were looked up last.
    resolved: Vec<Remote>,
    endpoints: Vec<IpAddr>,
    refused: Vec<Refusal>,
    expires: Option<i64>,
}

impl Tunnel {
    /// One that is off.
    pub fn new(
        name: TunnelName,
        config: VpnProfile,
        (mut profile, passphrase): (Box<raven_profile::OpenVpn>, Option<SecretText>),
        hall: Rc<Hall>,
        inbox: Receiver<Told>,
    ) -> Self {
        let expires = profile.ends();
        let credentials = credentials(&mut profile, passphrase);
        let by_proxy = profile.remotes.iter().any(|remote| remote.proxy.is_some());
        let seed = RandomState::new().hash_one(name.as_str());
        Self {
            name,
            config,
            profile,
            machine: OpenVpn::new(credentials, by_proxy, seed),
            hall,
            inbox,
            listener: None,
            management: None,
            pinger: None,
            runs: false,
            opening: None,
            asked: None,
            pushed: None,
            resolved: Vec::new(),
            endpoints: Vec::new(),
            refused: Vec::new(),
            expires,
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
                    Some(told) => self.told(told).await,
                },
                accepted = accept(self.listener.as_ref()) => self.accepted(accepted),
                heard = hear(self.management.as_mut()) => self.heard(heard),
                pong = answer(self.pinger.as_ref()) => vec![Event::Pong(pong)],
                () = wait(due) => vec![Event::Tick],
            };
            for event in event {
                let actions = self.machine.step(event, Instant::now());
                self.act(actions).await;
            }
            self.publish();
        }
    }

    async fn told(&mut self, told: Told) -> Vec<Event> {
        match told {
            Told::Want(on) => {
                let actions = self.machine.want(on, Instant::now());
                self.act(actions).await;
                if !on {
                    self.down();
                }
                Vec::new()
            }
            Told::Code(code) => {
                let actions = self.machine.code(code, Instant::now());
                self.act(actions).await;
                Vec::new()
            }
            Told::Started(Ok(socket)) => {
                self.runs = true;
                let listener = net::UnixListener::from(socket);
                let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
                match listener {
                    Ok(listener) => self.listener = Some(listener),
                    Err(error) => return vec![Event::Ended(format!("no management socket: {error}"))],
                }
                Vec::new()
            }
            // The end of one before: of another version of the profile, or from before it was turned on again.
            Told::Ended(_) if !self.runs => Vec::new(),
            Told::Started(Err(why)) => self.ended(why),
            Told::Ended(how) => self.ended(format!("openvpn ended: {how}")),
            Told::Answer(id, answer) if self.opening.as_ref().is_some_and(|(opening, _)| *opening == id) => {
                let started = answer.and_then(|_| self.opened());
                self.opening = None;
                started.err().map(Event::Ended).into_iter().collect()
            }
            Told::Answer(id, answer) if self.asked == Some(id) => {
                self.asked = None;
                self.refused = answer.as_ref().map(|answer| answer.refused.clone()).unwrap_or_default();
                self.watch();
                vec![Event::Applied(answer.map(drop))]
            }
            Told::Answer(..) => Vec::new(),
            Told::Returned => vec![Event::Returned],
            Told::Acknowledged(at) => vec![Event::Acknowledged(at)],
            Told::NetBegan => {
                if let Err(why) = self.open() {
                    eprintln!("raven-worker vpn: {}: {why}", self.name);
                }
                if let Some(pushed) = self.pushed.clone() {
                    self.up(pushed);
                }
                Vec::new()
            }
        }
    }

    fn accepted(&mut self, accepted: io::Result<UnixStream>) -> Vec<Event> {
        self.listener = None;
        match accepted {
            Ok(stream) => {
                self.management = Some(Management { stream, line: Vec::new() });
                vec![Event::Connected]
            }
            Err(error) => vec![Event::Ended(format!("its management socket: {error}"))],
        }
    }

    /// Its end is told by `ravend`; a broken connection comes before it.
    fn heard(&mut self, heard: io::Result<Vec<Message>>) -> Vec<Event> {
        if let Ok(messages) = heard {
            return messages.into_iter().map(Event::Said).collect();
        }
        self.management = None;
        self.hall.end(self.name.clone());
        Vec::new()
    }

    fn ended(&mut self, why: String) -> Vec<Event> {
        self.runs = false;
        (self.listener, self.management, self.pinger) = (None, None, None);
        vec![Event::Ended(why)]
    }

    async fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start => self.start().await,
                Action::Kill => self.hall.end(self.name.clone()),
                Action::Say(text) => self.say(&text),
                Action::Up(pushed) => self.up(pushed),
                Action::Ping(number) => {
                    if let Some(pinger) = &self.pinger {
                        pinger.send(number);
                    }
                }
            }
        }
    }

    async fn start(&mut self) {
        self.runs = false;
        let failed = match self.begin().await {
            Ok(()) => return,
            Err(why) => why,
        };
        let actions = self.machine.step(Event::Ended(failed), Instant::now());
        debug_assert!(actions.is_empty(), "an end is followed by a pause");
    }

    /// Looks the servers up and has the device made; openvpn is started when it is there.
    async fn begin(&mut self) -> Result<(), String> {
        let mut profile = self.profile.clone();
        profile.remotes = resolve(&self.profile.remotes).await.or_else(|why| self.known(why))?;
        self.endpoints = endpoints(&profile.remotes);
        self.resolved.clone_from(&profile.remotes);
        // Each link has its turn with one server, then with the next.
        let first = self.machine.turn() / self.config.links.len().max(1);
        let remotes = profile.remotes.len().max(1);
        profile.remotes.rotate_left(first % remotes);
        self.opening = Some((self.open()?, profile.to_config()));
        Ok(())
    }

    /// Where the servers were when they were looked up last: a name server that is away is no reason not to try.
    fn known(&self, why: String) -> Result<Vec<Remote>, String> {
        if self.resolved.is_empty() {
            return Err(why);
        }
        eprintln!("raven-worker vpn: {}: {why}: it is tried where it was before", self.name);
        Ok(self.resolved.clone())
    }

    fn open(&self) -> Result<u64, String> {
        let owner = table().spec(Role::Openvpn).uid;
        let (tunnel, endpoints) = (self.name.clone(), self.endpoints.clone());
        self.hall.order(TunnelOrder::Open { tunnel, by: vec![Carried::Program(owner)], endpoints })
    }

    fn opened(&self) -> Result<(), String> {
        let Some((_, profile)) = &self.opening else { return Ok(()) };
        let links = &self.config.links;
        let link = links.get(self.machine.turn().checked_rem(links.len()).unwrap_or(0)).cloned();
        self.hall
            .start(self.name.clone(), link, profile.expose())
            .map_err(|error| format!("it cannot be started: {error}"))
    }

    fn say(&mut self, text: &Zeroizing<String>) {
        let Some(management) = &self.management else { return };
        // It reads at once, or hangs.
        if management.stream.try_write(text.as_bytes()).ok() != Some(text.len()) {
            self.management = None;
            self.hall.end(self.name.clone());
        }
    }

    fn up(&mut self, pushed: Pushed) {
        let order = TunnelOrder::Up {
            tunnel: self.name.clone(),
            addresses: pushed.addresses.clone(),
            peer: pushed.peer,
            mtu: pushed.mtu,
            routes: pushed.routes.clone(),
            endpoints: self.endpoints.clone(),
        };
        match self.hall.order(order) {
            Ok(id) => self.asked = Some(id),
            Err(why) => drop(self.machine.step(Event::Applied(Err(why)), Instant::now())),
        }
        self.pushed = Some(pushed);
    }

    /// Pings whoever is at the far end. There must be addresses.
    fn watch(&mut self) {
        let gateway = self.pushed.as_ref().and_then(|pushed| pushed.gateway);
        let target = self.config.probe.or(gateway);
        let cookie = RandomState::new().hash_one(Instant::now());
        let pinger = target.map(|target| Pinger::new(&self.name.device(), target, cookie));
        self.pinger = match pinger.transpose() {
            Ok(pinger) => pinger,
            Err(error) => {
                eprintln!("raven-worker vpn: {}: no pings: {error}", self.name);
                None
            }
        };
    }

    fn down(&mut self) {
        (self.listener, self.management, self.pinger) = (None, None, None);
        (self.pushed, self.opening, self.asked, self.runs) = (None, None, None, false);
        let _ = self.hall.order(TunnelOrder::Down { tunnel: self.name.clone() });
    }

    fn publish(&self) {
        let now = Instant::now();
        let (word, mut cause) = self.machine.state(now);
        // A server does not say so: it ends the handshake without a word.
        let is_down = matches!(word, Word::Down | Word::Connecting);
        if is_down && self.expires.is_some_and(|at| at <= now_seconds()) {
            cause = format!("certificate expired: one of the profile's, or the clock here is wrong; {cause}");
        }
        if let Some(question) = self.machine.awaited() {
            cause = format!("{cause}: raven vpn connect {} --code - (\"{question}\")", self.name);
        }
        let mut shown = Shown { expires: self.expires, ..Shown::new(&self.name, word, cause, now) };
        let told = &mut shown.told;
        (told.received, told.sent) = (self.machine.received, self.machine.sent);
        if let Some(pings) = self.machine.pings() {
            told.loss = pings.loss(now);
            told.rtt_ms = pings.median().map(|median| median.as_secs_f64() * 1000.0);
        }
        if let Some(pushed) = self.machine.pushed() {
            told.addresses = pushed.addresses.iter().map(ToString::to_string).collect();
            (told.server, told.dns) = (pushed.server, pushed.dns.clone());
            told.probe = self.pinger.as_ref().map(Pinger::target);
            let refused = self.refused.iter().map(|refusal| format!("{}: {}", refusal.what, refusal.why));
            let filtered = self.machine.filtered().iter();
            let filtered = filtered.map(|what| format!("{what}: a server does not decide that here"));
            told.refused = refused.chain(filtered).collect();
        }
        self.hall.show(&self.name, shown);
    }
}

/// What openvpn may ask for, taken out of the profile: over the management socket it stays in memory alone.
fn credentials(profile: &mut raven_profile::OpenVpn, passphrase: Option<SecretText>) -> Credentials {
    let challenge = profile.challenge.as_ref().map(|challenge| challenge.question.clone());
    let mut credentials = Credentials { challenge, ..Credentials::default() };
    let kinds = [
        (&mut profile.credentials, vec![management::Secret::Auth]),
        (&mut profile.proxy_credentials, vec![management::Secret::HttpProxy, management::Secret::SocksProxy]),
    ];
    for (login, asks) in kinds {
        if let Login::Given { user, password } = login {
            let password = SecretText::new(password.as_ref().map_or("", |password| password.expose()));
            for ask in asks {
                credentials.known.insert(ask, (user.expose().clone(), password.clone()));
            }
            *login = Login::Asked;
        }
    }
    if let Some(passphrase) = passphrase {
        credentials.known.insert(management::Secret::PrivateKey, (String::new(), passphrase));
    }
    credentials
}

/// The servers by address, as openvpn gets them. A name that a proxy looks up stays one.
async fn resolve(remotes: &[Remote]) -> Result<Vec<Remote>, String> {
    let (mut resolved, mut failed) = (Vec::new(), None);
    for remote in remotes {
        let outer = remote.proxy.as_ref().map_or(&remote.host, |proxy| &proxy.host);
        match addresses(outer).await {
            Ok(addresses) => {
                for address in addresses {
                    let mut one = remote.clone();
                    match &mut one.proxy {
                        Some(proxy) => proxy.host = Host::Address(address),
                        None => one.host = Host::Address(address),
                    }
                    resolved.push(one);
                }
            }
            Err(why) => failed = Some(why),
        }
    }
    resolved.truncate(ADDRESSES);
    if resolved.is_empty() {
        return Err(failed.unwrap_or_else(|| "the profile names no server".to_owned()));
    }
    Ok(resolved)
}

/// All addresses to which openvpn will speak.
fn endpoints(resolved: &[Remote]) -> Vec<IpAddr> {
    let outer = |remote: &Remote| match remote.proxy.as_ref().map_or(&remote.host, |proxy| &proxy.host) {
        Host::Address(address) => Some(*address),
        Host::Name(_) => None,
    };
    let mut endpoints: Vec<IpAddr> = resolved.iter().filter_map(outer).collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints
}

pub(super) async fn addresses(host: &Host) -> Result<Vec<IpAddr>, String> {
    let name = match host {
        Host::Address(address) => return Ok(vec![*address]),
        Host::Name(name) => name,
    };
    match timeout(LOOKUP, lookup_host((name.as_str(), 0))).await {
        Ok(Ok(found)) => Ok(found.map(|address: SocketAddr| address.ip()).collect()),
        Ok(Err(error)) => Err(format!("endpoint does not resolve: {name}: {error}")),
        Err(_) => Err(format!("endpoint does not resolve: {name}: no answer from DNS in {} s", LOOKUP.as_secs())),
    }
}

/// The connection to openvpn.
struct Management {
    stream: UnixStream,
    /// The line that has begun.
    line: Vec<u8>,
}

impl Management {
    /// What comes next; an error when it ends.
    async fn hear(&mut self) -> io::Result<Vec<Message>> {
        let mut bytes = vec![0; 16 << 10];
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => return Ok(self.take(bytes.get(..len).unwrap_or_default())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whole lines; of one that does not end its beginning is kept.
    fn take(&mut self, bytes: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut lines = bytes.split(|byte| *byte == b'\n');
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            self.keep(line);
            let whole = std::mem::take(&mut self.line);
            messages.push(Message::parse(whole.strip_suffix(b"\r").unwrap_or(&whole)));
        }
        self.keep(last);
        messages
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(part.get(..room).unwrap_or(part));
    }
}

async fn accept(listener: Option<&UnixListener>) -> io::Result<UnixStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

async fn hear(management: Option<&mut Management>) -> io::Result<Vec<Message>> {
    match management {
        Some(management) => management.hear().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn answer(pinger: Option<&Pinger>) -> u16 {
    match pinger {
        Some(pinger) => pinger.answer().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn wait(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
