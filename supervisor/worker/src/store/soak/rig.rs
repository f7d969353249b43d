//! The box in the middle of it: receive memories, a store, an uplink, and the one who starts and kills them.

use super::super::Store;
use super::super::world::World as _;
use super::cursors::{Cursors, route};
use super::far::Outside;
use super::input::{DISLIKE, Input, Picky, RING_FULL};
use super::model::{Route, STREAMS};
use super::source::{Shared, Way};
use super::world::Simulated;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use raven_buffer::tail::{Low, Request};
use raven_buffer::{Block, Ledger, RingError};
use raven_jail::channel::Channel;
use raven_jail::receive::Arrived;
use raven_model::config::{Config, Destination};
use raven_model::control::{Dropped, Fd, FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::report::StoreReport;
use raven_model::stream::Stream;
use raven_model::table::Role;
use raven_model::units::Seq;
use raven_uplink::attempt::Pace;
use raven_uplink::cursors::DiskCursors;
use raven_uplink::dead::Letter;
use raven_uplink::fleet::{Base, Fleet, Route as Name, Saved};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::{advance, sleep};

/// Pauses are what the far ends ask for: the uplink's own are drawn from dice that no seed sets.
const PACE: Pace = Pace { first: Duration::ZERO, longest: Duration::ZERO, config: Duration::ZERO };

/// An uplink that lives.
struct Uplink {
    local: LocalSet,
    fleet: Fleet<Way, Cursors>,
    way: Rc<Way>,
}

/// All of it.
pub struct Rig {
    pub world: Rc<Simulated>,
    pub outside: Rc<Outside>,
    pub config: Config,
    pub inputs: BTreeMap<Stream, Input>,
    pub report: Option<StoreReport>,
    /// What was last written of each cursor.
    pub written: Rc<RefCell<BTreeMap<Route, Saved>>>,
    /// Cursors cannot be saved.
    pub saves_fail: Rc<Cell<bool>>,
    /// What the listeners' socket says that it dropped, and which socket it is.
    pub socket: (u64, u64),
    data: PathBuf,
    store: Shared,
    ravend: Option<Channel>,
    uplink: Option<Uplink>,
    /// What it delivers.
    running: BTreeSet<Route>,
    tail: [OwnedFd; 2],
    next_number: u32,
    epoch: u64,
    packet: Vec<u8>,
}

impl Rig {
    pub fn new(data: &Path, seed: u64, config: Config, disk: u64) -> Self {
        let tail = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).expect("a pair");
        for stream in STREAMS {
            std::fs::create_dir_all(data.join("ring").join(stream.name())).expect("a folder");
        }
        Self {
            world: Rc::new(Simulated::new(disk)),
            outside: Outside::new(seed),
            config,
            inputs: STREAMS.into_iter().map(|stream| (stream, Input::new(stream, 1))).collect(),
            report: None,
            written: Rc::default(),
            saves_fail: Rc::default(),
            socket: (1, 0),
            data: data.to_owned(),
            store: Rc::default(),
            ravend: None,
            uplink: None,
            running: BTreeSet::new(),
            tail: [tail.0, tail.1],
            next_number: 1,
            epoch: 1,
            packet: vec![0; PACKET_MAX],
        }
    }

    pub fn ring(&self) -> PathBuf {
        self.data.join("ring")
    }

    pub fn cursors(&self) -> PathBuf {
        self.data.join("cursors")
    }

    // ---- the store ----

    pub fn has_store(&self) -> bool {
        self.ravend.is_some()
    }

    pub fn start_store(&mut self) {
        if let Some(uplink) = &self.uplink {
            uplink.way.close();
        }
        let (ravend, channel) = Channel::pair().expect("a channel");
        let (mut names, mut fds) = (vec![Fd::Tail { peer: Role::Uplink }], vec![self.tail[0].try_clone().expect("fd")]);
        for (&stream, input) in &self.inputs {
            names.extend([Fd::Ring { stream }, Fd::Words { stream }, Fd::Wake { stream }]);
            fds.extend(input.fds.iter().map(|fd| fd.try_clone().expect("fd")));
        }
        let start = Start {
            role: Role::Store,
            device: "soak".to_owned(),
            boot_id: format!("{:032x}", self.epoch),
            data: self.data.clone(),
            config: Some(Box::new(self.config.clone())),
            listeners: BTreeMap::from([(1, "udp:[::]:514".to_owned())]),
            environment: BTreeMap::new(),
            fds: names,
        };
        let store = unlocked(|| {
            let fds = fds.iter().map(|fd| fd.try_clone().expect("fd")).collect();
            let channel = Channel::from_fd(channel.as_fd().try_clone_to_owned().expect("fd"));
            Store::within(Rc::clone(&self.world) as _, &start, fds, channel)
        });
        *self.store.borrow_mut() = Some(store);
        self.ravend = Some(ravend);
        self.tell_drops();
    }

    /// As SIGKILL: what is not committed is in the receive memories, for the next one.
    pub fn kill_store(&mut self) {
        (*self.store.borrow_mut(), self.ravend) = (None, None);
    }

    /// As SIGTERM.
    pub fn stop_store(&mut self) {
        let store = self.store.borrow_mut().take();
        if let Some(store) = store {
            store.finish().expect("all of it is stored");
        }
        self.ravend = None;
        self.look(false);
    }

    /// What the sockets of the listeners have dropped so far.
    fn tell_drops(&mut self) {
        let (source, count) = self.socket;
        let (listener, reason) = ("udp:[::]:514".to_owned(), "socket_buffer".to_owned());
        let drops = vec![Dropped { stream: Stream::Syslog, listener, reason, source, count }];
        self.tell_store(&ToWorker::Dropped(drops));
    }

    fn tell_store(&mut self, message: &ToWorker) {
        let mut store = self.store.borrow_mut();
        if let (Some(ravend), Some(store)) = (&self.ravend, store.as_mut()) {
            ravend.send_json(message, &[]).expect("sent");
            store.control().expect("heard");
        }
    }

    /// A round of the store, and what it says.
    fn store_round(&mut self) {
        if let Some(store) = self.store.borrow_mut().as_mut() {
            store.round().expect("a round");
            store.hear_reader(0);
        }
        if let Some(ravend) = &self.ravend {
            while let Ok(Some((message, _))) = ravend.try_recv_json::<FromWorker>(&mut self.packet) {
                if let FromWorker::Heartbeat { report } = message {
                    self.report = Some(serde_json::from_str(report.get()).expect("a report"));
                }
            }
        }
        self.look(false);
    }

    /// The model learns what is durable and what was evicted.
    fn look(&mut self, is_told: bool) {
        let ring = self.ring();
        let mut model = self.outside.model.borrow_mut();
        for (stream, input) in &self.inputs {
            model.durable(*stream, input.seen.durable());
            model.look(&ring, *stream, is_told);
        }
    }

    /// What the ring says that it lost.
    pub fn ledger(&self, stream: Stream) -> Option<Ledger> {
        let store = self.store.borrow();
        Some(store.as_ref()?.kept.iter().find(|kept| kept.stream == stream)?.writer.ledger().clone())
    }

    /// Drops that the store knows of.
    pub fn dropped(&self, stream: Stream) -> u64 {
        let (mut store, now) = (self.store.borrow_mut(), self.world.now());
        let kept = store.iter_mut().flat_map(|store| &mut store.kept).find(|kept| kept.stream == stream);
        kept.map_or(0, |kept| kept.writer.status(now).dropped_ever.values().sum())
    }

    /// The block of the open segment that holds `seq`.
    pub fn open_block(&self, stream: Stream, seq: Seq) -> Option<Block> {
        let store = self.store.borrow();
        let kept = store.as_ref()?.kept.iter().find(|kept| kept.stream == stream)?;
        let (first, value) = kept.writer.block_at(seq).ok()??;
        Block::decode(first, &value).ok().filter(|_| first <= seq)
    }

    // ---- the uplink ----

    /// Lets go of the segments that the uplink has open.
    pub fn close_readers(&self) {
        if let Some(uplink) = &self.uplink {
            uplink.way.close();
        }
    }

    /// The dead letters on disk.
    pub fn letters(&self, (name, stream): &Route) -> Vec<u64> {
        let path = self.cursors().join("dead-letters").join(format!("{name}.{stream}.ndjson"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(Letter::parse).map(|letter| letter.seq.0).collect()
    }

    pub fn has_uplink(&self) -> bool {
        self.uplink.is_some()
    }

    pub fn start_uplink(&mut self) {
        let way = Way::new(self.ring(), Rc::clone(&self.store), self.tail[1].try_clone().expect("fd"));
        let way = Rc::new(way);
        let disk = unlocked(|| DiskCursors::open(&self.cursors()));
        let cursors = Cursors {
            disk: Rc::new(RefCell::new(disk)),
            outside: Rc::clone(&self.outside),
            written: Rc::clone(&self.written),
            fail: Rc::clone(&self.saves_fail),
        };
        let base = Base {
            device: "soak".to_owned(),
            cursors: self.cursors(),
            pace: PACE,
            source: Rc::clone(&way),
            speak: Some(self.outside.speak()),
        };
        self.uplink = Some(Uplink { local: LocalSet::new(), fleet: Fleet::new(base, cursors), way });
        self.configure_uplink();
    }

    fn configure_uplink(&mut self) {
        let mut model = self.outside.model.borrow_mut();
        model.deliveries.values_mut().for_each(|delivery| delivery.is_wanted = false);
        let of = |(name, to): (&String, &Destination)| {
            to.streams.iter().map(|s| route(&(name.clone(), s.clone()))).collect()
        };
        let wanted: Vec<Route> = self.config.uplink.iter().flat_map::<Vec<Route>, _>(of).collect();
        for route in &wanted {
            model.want(route);
        }
        if self.uplink.is_some() {
            for route in wanted.iter().filter(|route| !self.running.contains(*route)) {
                model.letters(route, &self.letters(route).into_iter().collect());
            }
            self.running = wanted.into_iter().collect();
        }
        drop(model);
        let Some(Uplink { local, fleet, .. }) = &mut self.uplink else { return };
        let _inside = local.enter();
        fleet.configure("soak", &self.config.uplink);
    }

    /// As SIGKILL.
    pub fn kill_uplink(&mut self) {
        self.running.clear();
        if self.uplink.take().is_some() {
            self.outside.model.borrow_mut().uplink_killed();
        }
    }

    /// As SIGTERM.
    pub async fn stop_uplink(&mut self) {
        self.running.clear();
        if let Some(Uplink { local, mut fleet, .. }) = self.uplink.take() {
            local.run_until(fleet.stop()).await;
        }
        self.outside.model.borrow_mut().uplink_killed();
    }

    /// An order to the uplink.
    pub fn order<T>(&mut self, order: impl FnOnce(&mut Fleet<Way, Cursors>) -> T) -> Option<T> {
        let Uplink { local, fleet, .. } = self.uplink.as_mut()?;
        let _inside = local.enter();
        Some(order(fleet))
    }

    pub fn uplink_report(&mut self) -> Option<raven_model::report::UplinkReport> {
        self.uplink.as_mut().map(|uplink| uplink.fleet.report())
    }

    /// Answers the store's fences, saves, and tells how far it is.
    fn uplink_round(&mut self) {
        let Some(Uplink { fleet, way, .. }) = &mut self.uplink else { return };
        for stream in STREAMS {
            way.find_head(stream.name());
        }
        for (stream, token, [first, below]) in way.fences() {
            let unforwarded = fleet.fence(&stream, first, below);
            self.outside.model.borrow_mut().fence(Stream::named(&stream).expect("a stream"), below.0);
            fleet.save();
            way.tell(&Request::FenceDone { token, stream, unforwarded: unforwarded.into_iter().collect() });
        }
        fleet.save();
        let low = |((destination, stream), low): (Name, Seq)| Low { destination, stream, low };
        way.tell(&Request::Cursors(fleet.marks().into_iter().map(low).collect()));
    }

    // ---- both ----

    /// The operator changed the configuration.
    pub fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.tell_store(&ToWorker::Configure(Box::new(self.config.clone())));
        self.configure_uplink();
    }

    /// The power goes: processes, receive memories and sockets with it.
    pub fn power_cut(&mut self) {
        self.kill_store();
        self.kill_uplink();
        self.epoch += 1;
        self.socket = (self.socket.0 + 1, 0);
        let tail = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).expect("a pair");
        self.tail = [tail.0, tail.1];
        for stream in STREAMS {
            self.outside.model.borrow_mut().power_cut(stream);
            self.inputs.insert(stream, Input::new(stream, self.epoch));
        }
    }

    /// `count` messages come in.
    pub fn receive(&mut self, stream: Stream, count: u64) {
        let input = self.inputs.get_mut(&stream).expect("an input");
        input.collector.rewind().expect("rewound");
        let mut model = self.outside.model.borrow_mut();
        let kept = model.kept(stream);
        for _ in 0..count {
            let number = self.next_number;
            self.next_number += 1;
            kept.offered += 1;
            let is_disliked = stream == Stream::Winevent && number.is_multiple_of(23);
            let text = if is_disliked { DISLIKE.to_vec() } else { self.outside.texts.of(stream, number) };
            let source = "192.0.2.7:40000".parse().expect("an address");
            let arrived = Arrived { source, listener: 1, wall: self.world.wall(), raw: &text };
            match input.collector.append(&arrived, &mut Picky) {
                Some(batch) if !is_disliked => kept.pending.push_back((batch, number)),
                Some(_) => kept.dropped += 1,
                None => {
                    input.collector.count_drop(RING_FULL);
                    kept.dropped += 1;
                }
            }
        }
        input.collector.hand_over();
    }

    /// Time goes by; the uplink's tasks do what they do in it.
    async fn pass(&self, time: Duration) {
        match &self.uplink {
            Some(uplink) => uplink.local.run_until(sleep(time)).await,
            None => sleep(time).await,
        }
    }

    /// Time goes by, then the store and the uplink have a turn.
    pub async fn tick(&mut self, time: Duration) {
        self.pass(time).await;
        self.store_round();
        self.uplink_round();
        self.look(true);
    }

    /// Time leaps: nothing comes in, and of each task's pauses one is over.
    pub async fn leap(&mut self, time: Duration) {
        match &self.uplink {
            Some(uplink) => uplink.local.run_until(advance(time)).await,
            None => advance(time).await,
        }
    }

    /// Until all that was handed over is on disk, and the store has said so.
    pub async fn settle(&mut self) -> Result<(), String> {
        self.tell_drops();
        for _ in 0..50 {
            let waits = |input: &Input| input.seen.durable() < input.seen.published();
            if !self.inputs.values().any(waits) {
                // What is evicted behind a report is in the next.
                let before = self.evicted();
                self.report = None;
                self.tick(Duration::from_millis(1100)).await;
                if self.evicted() == before {
                    return Ok(());
                }
                continue;
            }
            self.tick(Duration::from_millis(120)).await;
        }
        Err("what was handed over did not come to disk, or there was no end of evictions".to_owned())
    }

    fn evicted(&self) -> u64 {
        self.outside.model.borrow().kept.values().map(|kept| kept.evicted).sum()
    }
}

/// Opens what the one before has just let go: while another test starts a process, that one holds copies of our
/// descriptors for a moment, and the lock with them.
fn unlocked<T, E: Into<anyhow::Error>>(mut open: impl FnMut() -> Result<T, E>) -> T {
    for _ in 0..500 {
        match open().map_err(Into::<anyhow::Error>::into) {
            Ok(open) => return open,
            Err(error) if matches!(error.downcast_ref(), Some(RingError::Locked { .. })) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("{error:#}"),
        }
    }
    panic!("locked for five seconds")
}
