//! The role `vpn`: profiles, what openvpn reports, and whether anything gets through. It holds no capability, and takes
//! every byte that it reads for hostile: profiles come by e-mail, and openvpn reports what a server sent it.
//!
//! * [`store`] keeps profiles, [`desk`] is what operators say about them.
//! * [`openvpn`] is one tunnel as a state machine, [`management`] and [`pushed`] are what openvpn says, [`causes`] what its
//!   words mean, [`code`] the one-time codes that servers want; [`tunnel`] is the task that lives all that.
//! * [`wireguard`] is one by WireGuard, [`uapi`] what is said to a program that carries it; [`device`] is the task.
//! * [`health`] is whether anything gets through, by [`ping`]; [`backoff`] the pauses of both.
//! * [`choice`] says which tunnels are on, and which carries.
//!
//! It has `ravend` start openvpn, and the `net` role change the kernel: nothing of what a server says reaches either but as
//! checked values.

pub mod backoff;
pub mod causes;
pub mod choice;
pub mod code;
mod desk;
pub mod device;
pub mod hall;
pub mod health;
pub mod management;
pub mod openvpn;
pub mod ping;
pub mod pushed;
pub mod store;
pub mod tunnel;
pub mod uapi;
pub mod wireguard;

use crate::{NetError, hear};
use choice::Choice;
use desk::Desk;
use device::Device;
use hall::{Hall, Shown, now_seconds};
use health::Word;
use raven_jail::channel::Channel;
use raven_model::config::{Config, VpnProfile};
use raven_model::control::{Fd, FromWorker, Start, ToWorker};
use raven_model::report::{VpnReport, VpnTunnel};
use raven_model::tunnel::{Carrier, FromNet, TunnelName, TunnelOrder};
use raven_model::vpn::SecretText;
use raven_profile::Profile;
use serde_json::value::to_raw_value;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use store::Store;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::{JoinHandle, LocalSet};
use tunnel::{Told, Tunnel};

/// How often it says that it lives, and looks whether another tunnel should carry.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What a tunnel that looks a name up may be told meanwhile.
const INBOX: usize = 256;

/// The role.
pub struct Vpn {
    runtime: Runtime,
    hall: Rc<Hall>,
    told: tokio::net::UnixStream,
    net: Option<tokio::net::UnixStream>,
    state: State,
    turned: Receiver<(TunnelName, Turn)>,
}

/// What is known.
struct State {
    hall: Rc<Hall>,
    store: Store,
    config: Rc<Config>,
    choice: Choice,
    running: BTreeMap<TunnelName, Running>,
    turns: Sender<(TunnelName, Turn)>,
    /// Turned off by hand.
    off: Vec<TunnelName>,
    carrier: Carrier,
}

/// What an operator does with a tunnel by hand.
#[derive(Debug)]
enum Turn {
    /// On, and anew.
    On,
    /// Off.
    Off,
    /// On, with a one-time code for its next attempt.
    Code(SecretText),
}

/// A tunnel's task, as it was started.
struct Running {
    config: VpnProfile,
    inbox: Sender<Told>,
    task: JoinHandle<()>,
    wanted: bool,
}

impl Running {
    /// Ends it and all that belongs to it; false.
    fn end(&self, name: &TunnelName, hall: &Hall) -> bool {
        self.task.abort();
        hall.end(name.clone());
        if let Err(why) = hall.order(TunnelOrder::Close { tunnel: name.clone() }) {
            eprintln!("raven-worker vpn: {name}: {why}");
        }
        hall.tunnels.borrow_mut().remove(name);
        false
    }

    /// A tunnel that takes no more has been told enough: its own times end what it waits for.
    fn tell(&self, told: Told) {
        if let Err(error) = self.inbox.try_send(told) {
            eprintln!("raven-worker vpn: a tunnel does not listen: {error}");
        }
    }
}

impl Vpn {
    /// Opens what it needs; comes before the jail.
    pub fn new(start: &Start, fds: Vec<OwnedFd>, channel: Channel) -> Result<Self, NetError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| NetError::Io("event loop", error))?;
        let net = start.fds.iter().zip(fds).find_map(|(name, fd)| (*name == Fd::Tunnels).then_some(fd));
        let net = net.map(Channel::from_fd);
        let entered = runtime.enter();
        let told = crate::listening(&channel)?;
        let net_told = net.as_ref().map(crate::listening).transpose()?;
        drop(entered);
        let hall = Rc::new(Hall::new(channel, net));
        let store = Store::new(start.data.join("vpn"));
        let config = Rc::new(start.config.as_deref().cloned().unwrap_or_default());
        let choice = Choice::new(&config.vpn.order, None);
        let (turns, turned) = mpsc::channel(INBOX);
        let state = State {
            hall: hall.clone(),
            store,
            config,
            choice,
            running: BTreeMap::new(),
            turns,
            off: Vec::new(),
            carrier: Carrier::default(),
        };
        Ok(Self { runtime, hall, told, net: net_told, state, turned })
    }

    /// Says that the jail is closed and the work begins.
    pub fn ready(self, missing: Vec<String>) -> Result<Self, NetError> {
        self.hall.tell(&FromWorker::Ready { missing })?;
        Ok(self)
    }

    /// Works until `ravend` says stop or is gone.
    pub fn run(self) -> Result<(), NetError> {
        let Self { runtime, hall, told, net, mut state, mut turned } = self;
        // The last good one is on the disk, which is reached from within the jail alone.
        state.choice = Choice::new(&state.config.vpn.order, state.store.last_good());
        let tasks = LocalSet::new();
        let work = async {
            let mut beat = tokio::time::interval(HEARTBEAT);
            state.configure();
            state.carry(Carrier::default());
            loop {
                tokio::select! {
                    told = hear(hall.ravend(), &told) => match told? {
                        None | Some((ToWorker::Stop, _)) => return Ok(()),
                        Some((message, fds)) => state.told(message, fds),
                    },
                    told = hear_net(&hall, net.as_ref()) => match told? {
                        // ravend holds the other end too: this one is broken for good.
                        None => return Err(NetError::Deaf),
                        Some(told) => state.net(told),
                    },
                    Some((name, turn)) = turned.recv() => state.turn(name, turn),
                    () = hall.changed.notified() => {}
                    _ = beat.tick() => {
                        let report = to_raw_value(&state.report()).map_err(|error| NetError::Io("report", error.into()))?;
                        hall.tell(&FromWorker::Heartbeat { report })?;
                    }
                }
                state.decide();
            }
        };
        runtime.block_on(tasks.run_until(work))
    }
}

/// The next message of the `net` role.
async fn hear_net(hall: &Hall, net: Option<&tokio::net::UnixStream>) -> Result<Option<FromNet>, NetError> {
    match hall.net().zip(net) {
        Some((channel, net)) => Ok(hear(channel, net).await?.map(|(told, _)| told)),
        None => std::future::pending().await,
    }
}

impl State {
    fn told(&mut self, message: ToWorker, mut fds: Vec<OwnedFd>) {
        match message {
            ToWorker::Configure(config) => {
                self.config = Rc::new(*config);
                self.off.clear();
                self.configure();
            }
            ToWorker::ProgramStarted { tunnel, started } => {
                let started = started.and_then(|()| fds.pop().ok_or_else(|| "no management socket came".to_owned()));
                self.tell(&tunnel, Told::Started(started));
            }
            ToWorker::ProgramEnded { tunnel, how } => self.tell(&tunnel, Told::Ended(how)),
            ToWorker::Acknowledged { tunnel, ago_ms } => {
                let at = Instant::now().checked_sub(Duration::from_millis(ago_ms));
                if let Some(at) = at {
                    self.tell(&tunnel, Told::Acknowledged(at));
                }
            }
            ToWorker::VpnClient { rights } => {
                if let Some(fd) = fds.pop() {
                    desk::serve(self.desk(), fd, rights);
                }
            }
            _ => {}
        }
    }

    fn net(&mut self, told: FromNet) {
        match told {
            FromNet::Began => {
                for running in self.running.values() {
                    running.tell(Told::NetBegan);
                }
                self.prefer();
            }
            FromNet::Returned => {
                for running in self.running.values() {
                    running.tell(Told::Returned);
                }
            }
            // Whose order it was, each of them knows.
            FromNet::Answer { id: Some(id), answer } => {
                for running in self.running.values() {
                    running.tell(Told::Answer(id, answer.clone()));
                }
            }
            FromNet::Answer { id: None, answer } => {
                if let Err(why) = answer {
                    eprintln!("raven-worker vpn: the net role could not read an order: {why}");
                }
            }
        }
    }

    fn tell(&self, tunnel: &TunnelName, told: Told) {
        if let Some(running) = self.running.get(tunnel) {
            running.tell(told);
        }
    }

    fn desk(&self) -> Desk {
        Desk {
            store: self.store.clone(),
            hall: self.hall.clone(),
            config: self.config.clone(),
            turns: self.turns.clone(),
        }
    }

    /// By hand, until the configuration changes.
    fn turn(&mut self, name: TunnelName, turn: Turn) {
        self.off.retain(|off| *off != name);
        match turn {
            Turn::Off => self.off.push(name),
            // It knows by itself whether it has to begin anew.
            Turn::Code(code) => self.tell(&name, Told::Code(code)),
            Turn::On => {
                self.tell(&name, Told::Want(false));
                if let Some(running) = self.running.get_mut(&name) {
                    running.wanted = false;
                }
            }
        }
    }

    /// Ends the tasks of tunnels that are not wanted any more, or otherwise, and starts those that are new.
    fn configure(&mut self) {
        self.forget_unused();
        let vpn = &self.config.vpn;
        let stays = |name: &TunnelName, running: &Running| {
            vpn.order.contains(name) && vpn.profile.get(name).is_some_and(|config| *config == running.config)
        };
        // Ended here and not by itself: a successor of the same name must come after that.
        self.running.retain(|name, running| stays(name, running) || running.end(name, &self.hall));
        self.choice.reorder(&vpn.order);
        for name in vpn.order.clone() {
            if self.running.contains_key(&name) {
                continue;
            }
            match self.start(&name) {
                Ok(running) => drop(self.running.insert(name, running)),
                Err(why) => {
                    self.hall.show(&name, Shown::new(&name, Word::Down, why, Instant::now()));
                }
            }
        }
    }

    /// Those that the configuration names no more are no more shown; before, that is told, as it is their end.
    fn forget_unused(&self) {
        let order = &self.config.vpn.order;
        let unused: Vec<TunnelName> =
            self.hall.tunnels.borrow().keys().filter(|name| !order.contains(name)).cloned().collect();
        for name in unused {
            let off = Shown::new(&name, Word::Off, "vpn.order names it no more".to_owned(), Instant::now());
            self.hall.show(&name, off);
            self.hall.tunnels.borrow_mut().remove(&name);
        }
    }

    fn start(&self, name: &TunnelName) -> Result<Running, String> {
        let config = self.config.vpn.profile.get(name).ok_or("the configuration has no such profile")?.clone();
        let loaded = self.store.load(name, config.version, now_seconds()).map_err(|error| error.to_string())?;
        let (inbox, outbox) = mpsc::channel(INBOX);
        let (own, hall) = ((name.clone(), config.clone()), self.hall.clone());
        let task = match loaded.profile {
            Profile::OpenVpn(profile) => {
                let brought = (profile, loaded.passphrase);
                tokio::task::spawn_local(Tunnel::new(own.0, own.1, brought, hall, outbox).run())
            }
            Profile::WireGuard(profile) => {
                tokio::task::spawn_local(Device::new(own.0, own.1, profile, hall, outbox).run())
            }
        };
        Ok(Running { config, inbox, task, wanted: false })
    }

    /// Which are on, and which carries.
    fn decide(&mut self) {
        let now = Instant::now();
        for (name, shown) in self.hall.tunnels.borrow().iter() {
            self.choice.tell(name, shown.word.carries(), now);
        }
        self.choice.decide(now);
        let wanted = self.choice.wanted(now);
        for (name, running) in &mut self.running {
            let on = wanted.contains(name) && !self.off.contains(name);
            if on != running.wanted {
                running.wanted = on;
                running.tell(Told::Want(on));
            }
        }
        let carrier = self.carrier();
        if carrier != self.carrier {
            self.carry(carrier);
        }
    }

    /// The tunnel that works; while none does the one before, as long as it is wanted.
    fn carrier(&self) -> Carrier {
        let is_there = |name: &&TunnelName| self.running.contains_key(*name) && !self.off.contains(*name);
        let works = self.choice.current();
        let before = self.carrier.tunnel.as_ref().filter(is_there);
        Carrier { tunnel: works.or(before).cloned(), works: works.is_some() }
    }

    fn carry(&mut self, carrier: Carrier) {
        self.carrier = carrier;
        self.prefer();
        if let Err(error) = self.hall.tell(&FromWorker::Carrier(self.carrier.clone())) {
            eprintln!("raven-worker vpn: ravend cannot be told which tunnel carries: {error}");
        }
        if let Some(name) = self.carrier.tunnel.as_ref().filter(|_| self.carrier.works)
            && let Err(error) = self.store.note_good(name)
        {
            eprintln!("raven-worker vpn: {error}");
        }
    }

    fn prefer(&self) {
        let order = TunnelOrder::Prefer { tunnel: self.carrier.tunnel.clone() };
        if let Err(why) = self.hall.order(order)
            && !self.running.is_empty()
        {
            eprintln!("raven-worker vpn: {why}");
        }
    }

    fn report(&self) -> VpnReport {
        let now = Instant::now();
        let tunnels = self.hall.tunnels.borrow();
        let shown = self.config.vpn.order.iter().filter_map(|name| Some((name, tunnels.get(name)?)));
        let tunnels = shown.map(|(name, shown)| self.tunnel(name, shown, now)).collect();
        VpnReport { tunnels, news: self.hall.news() }
    }

    fn tunnel(&self, name: &TunnelName, shown: &Shown, now: Instant) -> VpnTunnel {
        VpnTunnel {
            since_s: now.duration_since(shown.since).as_secs(),
            carries: self.choice.current() == Some(name),
            expires_s: shown.expires.map(|at| at - now_seconds()),
            ..shown.told.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::host::Change;

    fn state(order: &[&str]) -> (State, Channel) {
        let (channel, ravend) = Channel::pair().unwrap();
        let hall = Rc::new(Hall::new(channel, None));
        let (turns, _) = mpsc::channel(1);
        let state = State {
            hall,
            store: Store::new("/nonexistent".into()),
            config: Rc::new(config(order)),
            choice: Choice::new(&[], None),
            running: BTreeMap::new(),
            turns,
            off: Vec::new(),
            carrier: Carrier::default(),
        };
        (state, ravend)
    }

    fn config(order: &[&str]) -> Config {
        let mut config = Config::default();
        config.vpn.order = order.iter().map(|name| name.parse().unwrap()).collect();
        config
    }

    #[test]
    fn that_a_tunnel_is_used_no_more_is_an_event() {
        let (mut state, _ravend) = state(&["noc", "spare"]);
        state.configure();
        state.config = Rc::new(config(&["spare"]));
        state.configure();
        state.configure();
        let told = |change: &Change| match change {
            Change::TunnelState { tunnel, state, cause } => format!("{tunnel} {state}: {cause}"),
            other => panic!("{other:?}"),
        };
        let news = state.hall.news();
        let events: Vec<String> = news.events.iter().map(|event| told(&event.what)).collect();
        let no_profile = "down: the configuration has no such profile";
        assert_eq!(
            events,
            [
                format!("noc {no_profile}"),
                format!("spare {no_profile}"),
                "noc off: vpn.order names it no more".to_owned()
            ]
        );
        assert_eq!(state.report().tunnels.len(), 1);
    }
}
