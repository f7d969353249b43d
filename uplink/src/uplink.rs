//! The role: takes its configuration and orders from `ravend`, keeps cursors, reports each second.

use crate::attempt::Pace;
use crate::cursors::DiskCursors;
use crate::desk::{self, Visit};
use crate::fleet::{Base, Fleet};
use crate::ring::{Fence, Ring};
use crate::wait::Readable;
use raven_buffer::RingError;
use raven_buffer::tail::Low;
use raven_jail::channel::{Channel, ChannelError};
use raven_model::config::Config;
use raven_model::control::{FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::report::UplinkReport;
use raven_model::tunnel::Carrier;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{MissedTickBehavior, interval};

/// Cursors are saved at most five times a second, all in one commit: each costs a flush of the disk.
const SAVE_EVERY: Duration = Duration::from_millis(200);

/// Threads that look names up, at most: one per destination whose DNS is silent.
const RESOLVERS_MAX: usize = 16;

/// Stack of such a thread, bytes. getaddrinfo(3) is content with little.
const RESOLVER_STACK: usize = 256 * 1024;

/// Why the uplink ends.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// Without cursors it would send everything again and again.
    #[error("uplink: {0}")]
    Cursors(#[from] RingError),
    /// `ravend` is gone, or speaks another version.
    #[error("uplink: {0}")]
    Control(#[from] ChannelError),
    /// The kernel refuses what a runtime needs.
    #[error("uplink: cannot {doing}: {source}")]
    Runtime {
        /// What.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// The uplink role, ready to run.
#[derive(Debug)]
pub struct Uplink {
    device: String,
    config: Option<Config>,
    ring: PathBuf,
    cursors: PathBuf,
    tail: OwnedFd,
}

impl Uplink {
    /// From `ravend`'s first message; `tail` is the descriptor that it names [`raven_model::control::Fd::Tail`].
    pub fn new(start: &Start, tail: OwnedFd) -> Self {
        Self {
            device: start.device.clone(),
            config: start.config.as_deref().cloned(),
            ring: start.data.join("ring"),
            cursors: start.data.join("cursors"),
            tail,
        }
    }

    /// Delivers until `ravend` says stop or is gone. Cursors are saved then.
    pub fn run(self, control: Channel) -> Result<(), UplinkError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(RESOLVERS_MAX)
            .thread_stack_size(RESOLVER_STACK)
            .build()
            .map_err(|source| UplinkError::Runtime { doing: "start the runtime", source })?;
        let done = LocalSet::new().block_on(&runtime, self.work(control));
        // A name that is still being looked up must not hold the end up.
        runtime.shutdown_background();
        done
    }

    async fn work(self, control: Channel) -> Result<(), UplinkError> {
        let (ring, fences) = Ring::open(self.ring, self.tail)
            .map_err(|source| UplinkError::Runtime { doing: "listen to the store", source })?;
        let store = DiskCursors::open(&self.cursors)?;
        let base = Base {
            device: self.device.clone(),
            cursors: self.cursors,
            pace: Pace::default(),
            source: Rc::clone(&ring),
            speak: None,
        };
        let listener = tokio::task::spawn_local(Rc::clone(&ring).listen());
        let mut office =
            Office { device: self.device, ring, fleet: Fleet::new(base, store), watchers: BTreeMap::new() };
        if let Some(config) = &self.config {
            office.configure(config);
        }
        let done = office.run(&control, fences).await;
        office.fleet.stop().await;
        listener.abort();
        done
    }
}

/// All that is going on.
struct Office {
    device: String,
    ring: Rc<Ring>,
    fleet: Fleet<Ring, DiskCursors>,
    /// Tasks that watch a stream.
    watchers: BTreeMap<String, [JoinHandle<()>; 2]>,
}

impl Office {
    async fn run(&mut self, control: &Channel, mut fences: Receiver<Fence>) -> Result<(), UplinkError> {
        let deaf = |source| UplinkError::Runtime { doing: "listen to ravend", source };
        let orders = Readable::of(control.as_fd()).map_err(deaf)?;
        let (mut save, mut beat) = (interval(SAVE_EVERY), interval(Duration::from_secs(1)));
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut packet = vec![0; PACKET_MAX];
        let (desk, mut visits) = channel(desk::ORDERS_MAX);
        loop {
            tokio::select! {
                ready = orders.wait() => {
                    ready.map_err(deaf)?;
                    match next_order(control, &mut packet)? {
                        Order::None => orders.drained(),
                        Order::NotOurs => {}
                        Order::Configure(config) => self.configure(&config),
                        Order::Client(fd) => desk::receive(fd, desk.clone()),
                        Order::Carrier(carrier) => self.fleet.carrier(carrier),
                        Order::Secrets(came) => self.fleet.secrets(|secrets| secrets.take(came.into_iter())),
                        Order::Stop => return Ok(()),
                    }
                }
                Some(visit) = visits.recv() => self.serve(visit),
                Some(fence) = fences.recv() => self.fence(fence),
                _ = save.tick() => self.fleet.save(),
                _ = beat.tick() => {
                    self.tell_cursors();
                    report(control, &self.fleet.report())?;
                    if let Some((tunnel, ago)) = self.fleet.acknowledged() {
                        let ago_ms = ago.as_millis() as u64;
                        say(control, &FromWorker::Acknowledged { tunnel, ago_ms })?;
                    }
                }
            }
        }
    }

    fn configure(&mut self, config: &Config) {
        // `site.name` may change at run time; without a configuration the name of the start stays.
        self.device.clone_from(&config.site.name);
        self.fleet.tunnelled(&config.vpn.networks);
        self.fleet.configure(&self.device, &config.uplink);
        let wanted: Vec<&String> = config.uplink.values().flat_map(|to| &to.streams).collect();
        self.watchers.retain(|stream, tasks| {
            let stay = wanted.contains(&stream);
            if !stay {
                tasks.iter().for_each(JoinHandle::abort);
            }
            stay
        });
        for stream in wanted {
            let ring = &self.ring;
            self.watchers.entry(stream.clone()).or_insert_with(|| {
                let watch = tokio::task::spawn_local(Rc::clone(ring).watch(stream.clone()));
                [watch, tokio::task::spawn_local(Rc::clone(ring).measure(stream.clone()))]
            });
        }
    }

    fn serve(&mut self, Visit { order, answer }: Visit) {
        use raven_model::delivery::Order as Wanted;
        match order {
            Wanted::Pause(hold) => answer.finish(self.fleet.hold(&hold, true)),
            Wanted::Resume(hold) => answer.finish(self.fleet.hold(&hold, false)),
            Wanted::List(which) => {
                let files = self.fleet.letters(&which);
                answer.letters(which, files, false);
            }
            Wanted::Show(which) => {
                let files = self.fleet.letters(&which);
                answer.letters(which, files, true);
            }
            Wanted::Retry(which) => answer.finish(self.fleet.retry(&which)),
            Wanted::Drop(which) => answer.finish(self.fleet.drop_letters(&which)),
        }
    }

    /// The answer lets the store remove records for good, so what it counts must be durable first.
    fn fence(&mut self, fence: Fence) {
        let unforwarded = self.fleet.fence(&fence.stream, fence.first, fence.below);
        self.fleet.save();
        self.ring.fence_done(fence, unforwarded);
    }

    fn tell_cursors(&self) {
        let low = |((destination, stream), low)| Low { destination, stream, low };
        self.ring.tell_cursors(self.fleet.marks().into_iter().map(low).collect());
    }
}

/// What `ravend` wants.
enum Order {
    /// Nothing, just now.
    None,
    /// Meant for other roles.
    NotOurs,
    Configure(Box<Config>),
    /// An operator's program wants to be heard.
    Client(OwnedFd),
    Secrets(Vec<(String, OwnedFd)>),
    /// Another tunnel carries.
    Carrier(Carrier),
    Stop,
}

fn next_order(control: &Channel, packet: &mut [u8]) -> Result<Order, UplinkError> {
    match control.try_recv_json::<ToWorker>(packet) {
        Ok(Some((ToWorker::Configure(config), _))) => Ok(Order::Configure(config)),
        Ok(Some((ToWorker::Carrier(carrier), _))) => Ok(Order::Carrier(carrier)),
        Ok(Some((ToWorker::Client, fds))) => Ok(fds.into_iter().next().map_or(Order::NotOurs, Order::Client)),
        Ok(Some((ToWorker::Secrets(names), fds))) => Ok(Order::Secrets(names.into_iter().zip(fds).collect())),
        // The far end is gone: so is what this process was started for.
        Ok(Some((ToWorker::Stop, _)) | None) => Ok(Order::Stop),
        Ok(Some(_)) => Ok(Order::NotOurs),
        Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(Order::None),
        Err(error) => Err(error.into()),
    }
}

fn report(control: &Channel, report: &UplinkReport) -> Result<(), UplinkError> {
    let report = serde_json::value::to_raw_value(report).expect("a report is plain data");
    say(control, &FromWorker::Heartbeat { report })
}

/// Something that is said again each second.
fn say(control: &Channel, message: &FromWorker) -> Result<(), UplinkError> {
    match control.try_send_json(message, &[]) {
        // `ravend` is behind: the next second will do.
        Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => Ok(other?),
    }
}
