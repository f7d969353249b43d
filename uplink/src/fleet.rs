//! All destinations of the uplink: started, changed and ended as the configuration says, each on its own.

use crate::attempt::{Attempts, Pace};
use crate::dead::DeadLetters;
use crate::feed::{Feed, STOP_GRACE, Speak};
use crate::lanes::{Board, Lane, class};
use crate::net::Out;
use crate::progress::Progress;
use crate::reader::Reader;
use crate::secrets::{Own, Secrets};
use crate::source::Source;
use crate::standing::{Counts, Paused, Shared, Standing, Way};
use crate::udp;
use raven_model::config::{Destination, Kind, Via};
use raven_model::prefix::Prefix;
use raven_model::report::UplinkReport;
use raven_model::tunnel::{Carrier, TunnelName};
use raven_model::units::Seq;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant};

/// Destination and stream.
pub type Route = (String, String);

/// A cursor as it is saved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// What is acknowledged.
    pub progress: Progress,
    /// What became of records that were not.
    pub counts: Counts,
}

/// Where cursors outlive the process.
pub trait CursorStore {
    /// The cursor of a destination and stream, if there is one.
    fn load(&mut self, route: &Route) -> Option<Saved>;
    /// Makes these durable, all or none.
    fn save(&mut self, cursors: &[(Route, Saved)]) -> Result<(), String>;
    /// What an operator holds of a destination.
    fn load_paused(&mut self, destination: &str) -> Paused;
    /// Makes that durable.
    fn save_paused(&mut self, destination: &str, paused: Paused) -> Result<(), String>;
}

/// What all destinations share.
pub struct Base<S: Source> {
    /// `site.name`.
    pub device: String,
    /// Directory of cursors and dead letters.
    pub cursors: PathBuf,
    /// Lengths of pauses.
    pub pace: Pace,
    /// The ring.
    pub source: Rc<S>,
    /// How destinations are spoken to, where their kind does not say: simulations.
    pub speak: Option<Speak<S>>,
}

/// A destination and stream at work.
pub(crate) struct Running {
    pub(crate) route: Route,
    to: Destination,
    out: Out,
    secrets: Own,
    pub(crate) standing: Shared,
    pub(crate) dead: DeadLetters,
    stop: watch::Sender<Option<Duration>>,
    tasks: [JoinHandle<()>; 2],
}

impl Running {
    fn is_finished(&self) -> bool {
        self.tasks.iter().all(JoinHandle::is_finished)
    }
}

/// Starts a lane, once its predecessor has ended.
fn begin<S: Source>(feed: Feed<S>, before: Option<JoinHandle<()>>) -> JoinHandle<()> {
    tokio::task::spawn_local(async move {
        if let Some(before) = before {
            // It ends within its grace; an abort cannot happen. Two at a time would send everything twice.
            let _ = before.await;
            feed.standing.borrow_mut().attempts[feed.lane as usize] = Attempts::default();
        }
        feed.run().await;
    })
}

/// All destinations.
pub struct Fleet<S: Source, C> {
    base: Base<S>,
    pub(crate) store: C,
    secrets: Secrets,
    /// The tunnel that carries.
    carrier: Carrier,
    /// Networks that are reached through it alone.
    tunnelled: Vec<Prefix>,
    /// The newest acknowledgement through it that was told.
    told: Option<Instant>,
    pub(crate) running: BTreeMap<Route, Running>,
    /// What the streams of a destination share.
    boards: BTreeMap<String, Rc<RefCell<Board>>>,
    /// Told to stop; their last acknowledgements still count.
    leaving: Vec<Running>,
    /// Why cursors could not be saved.
    unsaved: Option<String>,
}

impl<S: Source, C: CursorStore> Fleet<S, C> {
    /// None yet.
    pub fn new(base: Base<S>, store: C) -> Self {
        Self {
            base,
            store,
            secrets: Secrets::default(),
            carrier: Carrier::default(),
            tunnelled: Vec::new(),
            told: None,
            running: BTreeMap::new(),
            boards: BTreeMap::new(),
            leaving: Vec::new(),
            unsaved: None,
        }
    }

    /// Starts what is new, ends what is gone, and starts anew what changed; leaves all others alone.
    pub fn configure(&mut self, device: &str, uplinks: &BTreeMap<String, Destination>) {
        let renamed = device != self.base.device;
        device.clone_into(&mut self.base.device);
        let wanted: BTreeMap<Route, &Destination> = uplinks
            .iter()
            .flat_map(|(name, to)| to.streams.iter().map(move |stream| ((name.clone(), stream.clone()), to)))
            .collect();
        let (stay, go): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_values().partition(|running| wanted.contains_key(&running.route));
        for running in go {
            let _ = running.stop.send(Some(STOP_GRACE));
            self.leaving.push(running);
        }
        self.running = stay.into_iter().map(|running| (running.route.clone(), running)).collect();
        for (route, to) in wanted {
            let old = self.running.remove(&route);
            let running = match old {
                Some(same) if same.to == *to && same.out == self.out(to) && !renamed => same,
                Some(changed) => self.replace(changed, to, STOP_GRACE),
                None => self.start(&route, to),
            };
            self.running.insert(route, running);
        }
    }

    /// Secrets have come: destinations whose secrets changed begin anew with them.
    pub fn secrets(&mut self, change: impl FnOnce(&mut Secrets)) {
        change(&mut self.secrets);
        for running in std::mem::take(&mut self.running).into_values() {
            let route = running.route.clone();
            let same = running.secrets == self.secrets.of(&route.0);
            let to = running.to.clone();
            let running = if same { running } else { self.replace(running, &to, STOP_GRACE) };
            self.running.insert(route, running);
        }
    }

    /// Networks that are reached through tunnels alone; comes before the configuration that they are of.
    pub fn tunnelled(&mut self, networks: &[Prefix]) {
        self.tunnelled = networks.to_vec();
    }

    /// Another tunnel carries, or the same one again: destinations that are reached through it begin anew, at once.
    pub fn carrier(&mut self, carrier: Carrier) {
        let works_again = carrier.works && !self.carrier.works;
        // What is under way by a tunnel that died is not answered any more.
        let grace = if self.carrier.works { STOP_GRACE } else { Duration::ZERO };
        self.carrier = carrier;
        for running in std::mem::take(&mut self.running).into_values() {
            let (route, to) = (running.route.clone(), running.to.clone());
            let same = running.out == self.out(&to) && !(works_again && to.via.is_some());
            let running = if same { running } else { self.replace(running, &to, grace) };
            self.running.insert(route, running);
        }
    }

    /// How long ago something was acknowledged through the tunnel, when that was not told yet.
    pub fn acknowledged(&mut self) -> Option<(TunnelName, Duration)> {
        let tunnel = self.carrier.tunnel.clone()?;
        let through = Out::Tunnel(Some(tunnel.device()));
        let of_it = self.running.values().filter(|running| running.out == through);
        let newest = of_it.filter_map(|running| running.standing.borrow().last_ack()).max()?;
        if self.told.is_some_and(|told| told >= newest) {
            return None;
        }
        self.told = Some(newest);
        Some((tunnel, newest.elapsed()))
    }

    /// A name may stand for any address; an address is in one of the networks or not.
    fn may_be_tunnelled(&self, to: &Destination) -> bool {
        let address = to.to.parse::<SocketAddr>().ok();
        self.tunnelled.iter().any(|net| address.is_none_or(|address| net.holds(address.ip())))
    }

    fn out(&self, to: &Destination) -> Out {
        let device = self.carrier.tunnel.as_ref().map(TunnelName::device);
        match to.via {
            Some(Via::Vpn) => Out::Tunnel(device),
            None if !self.may_be_tunnelled(to) => Out::default(),
            None => Out::Routes { tunnelled: self.tunnelled.clone(), device },
        }
    }

    fn start(&mut self, route: &Route, to: &Destination) -> Running {
        // One that is still leaving knows more than what is saved.
        if let Some(at) = self.leaving.iter().position(|leaving| leaving.route == *route) {
            let leaving = self.leaving.swap_remove(at);
            return self.replace(leaving, to, STOP_GRACE);
        }
        let saved = self.store.load(route);
        if saved.is_none() {
            eprintln!("uplink.{}: no cursor for stream {}: starts at the oldest record of the ring", route.0, route.1);
        }
        let mut standing = Standing::new(saved, self.way(route, to));
        standing.paused = self.store.load_paused(&route.0);
        let dead = DeadLetters::new(&self.base.cursors, &self.base.device, &route.0, &route.1);
        match dead.seqs() {
            Ok(letters) => standing.reconcile(&letters),
            Err(error) => eprintln!("uplink.{}: {}: {error}", route.0, dead.path().display()),
        }
        self.spawn(route.clone(), to, Rc::new(RefCell::new(standing)), dead, None)
    }

    fn way(&mut self, (name, stream): &Route, to: &Destination) -> Way {
        let board = Rc::clone(self.boards.entry(name.clone()).or_default());
        Way {
            board,
            class: class(stream),
            cap: to.backfill,
            ordered: to.kind == Kind::RemoteWrite,
            unacknowledged: to.kind.is_unacknowledged(),
        }
    }

    fn replace(&mut self, old: Running, to: &Destination, grace: Duration) -> Running {
        let _ = old.stop.send(Some(grace));
        let way = self.way(&old.route, to);
        old.standing.borrow_mut().change_way(way);
        let dead = DeadLetters::new(&self.base.cursors, &self.base.device, &old.route.0, &old.route.1);
        dead.take_over(&old.dead);
        self.spawn(old.route, to, old.standing, dead, Some(old.tasks))
    }

    fn spawn(
        &self,
        route: Route,
        to: &Destination,
        standing: Shared,
        dead: DeadLetters,
        before: Option<[JoinHandle<()>; 2]>,
    ) -> Running {
        let (stop, stopped) = watch::channel(None);
        let secrets = self.secrets.of(&route.0);
        let path = udp::Path::new(to);
        let out = self.out(to);
        let feed = |lane| Feed {
            device: self.base.device.clone(),
            name: route.0.clone(),
            stream: route.1.clone(),
            to: to.clone(),
            out: out.clone(),
            pace: self.base.pace,
            lane,
            reader: Reader::new(Rc::clone(&self.base.source), &route.1, Rc::clone(&standing), lane),
            standing: Rc::clone(&standing),
            dead: dead.clone(),
            secrets: secrets.clone(),
            path: Rc::clone(&path),
            speak: self.base.speak.clone(),
            stop: stopped.clone(),
        };
        let [live, backfill] = before.map_or([None, None], |tasks| tasks.map(Some));
        let tasks = [begin(feed(Lane::Live), live), begin(feed(Lane::Backfill), backfill)];
        Running { route, to: to.clone(), out, secrets, standing, dead, stop, tasks }
    }

    /// Saves the cursors that moved, in one commit.
    pub fn save(&mut self) {
        for running in self.running.values() {
            let head = self.base.source.next_seq(&running.route.1);
            let mut standing = running.standing.borrow_mut();
            standing.lanes.note_head(Instant::now(), head);
            standing.clear_letters(&running.dead);
        }
        let moved: Vec<&Running> =
            self.running.values().chain(&self.leaving).filter(|running| running.standing.borrow().unsaved).collect();
        if !moved.is_empty() {
            let cursors: Vec<(Route, Saved)> =
                moved.iter().map(|running| (running.route.clone(), running.standing.borrow().saved())).collect();
            let saved = self.store.save(&cursors);
            if saved.is_ok() {
                moved
                    .iter()
                    .zip(&cursors)
                    .for_each(|(running, (_, saved))| running.standing.borrow_mut().note_saved(saved));
            }
            // Delivery goes on: what is acknowledged and not saved is sent again after a restart.
            self.unsaved = saved.err().map(|words| format!("cursors cannot be saved: {words}"));
        }
        self.leaving.retain(|leaving| !leaving.is_finished() || leaving.standing.borrow().unsaved);
    }

    /// How far the destinations have acknowledged, as far as that is durable: the store may remove what lies below.
    pub fn marks(&self) -> Vec<(Route, Seq)> {
        self.running.values().map(|running| (running.route.clone(), running.standing.borrow().durable_low)).collect()
    }

    /// The store is about to evict `first` up to `below`, which is the oldest that there is: no destination reads there
    /// any more. Returns how many of those records each had not acknowledged. What went before, while a destination was
    /// not configured or the uplink was down, is entered as missed too, and is not of this eviction.
    pub fn fence(&mut self, stream: &str, first: Seq, below: Seq) -> BTreeMap<String, u64> {
        let fenced = self.running.values().filter(|running| running.route.1 == stream);
        let gone = |running: &Running| {
            let mut standing = running.standing.borrow_mut();
            standing.gone_below(first);
            standing.gone_below(below)
        };
        fenced.map(|running| (running.route.0.clone(), gone(running))).collect()
    }

    /// What operators see. Call once per second.
    pub fn report(&mut self) -> UplinkReport {
        let source = &self.base.source;
        let status = |running: &Running| {
            let (name, stream) = &running.route;
            let mut status = running.standing.borrow_mut().status(name, stream, &running.to, source.next_seq(stream));
            if self.unsaved.is_some() {
                status.last_error.clone_from(&self.unsaved);
            }
            status
        };
        UplinkReport { destinations: self.running.values().map(status).collect() }
    }

    /// Ends all destinations, waits for what is under way for as long as they grant, and saves.
    pub async fn stop(&mut self) {
        let all: Vec<Running> =
            std::mem::take(&mut self.running).into_values().chain(std::mem::take(&mut self.leaving)).collect();
        for running in &all {
            let _ = running.stop.send(Some(STOP_GRACE));
        }
        for mut running in all {
            for task in &mut running.tasks {
                let _ = task.await;
            }
            self.leaving.push(running);
        }
        self.save();
    }
}
