//! Fourteen days of a small ring in a second or two: store and uplink as they are, with a clock, a disk and operations
//! centres that are made up, and what goes wrong drawn from a seed. At each step the identity must hold, by what the box
//! says of itself (`check`) and by what is counted beside it (`model`):
//!
//! * received = stored + dropped
//! * stored = held + evicted + damaged, for each stream
//! * stored = forwarded + dead letters + missed + to be sent, for each stream and destination
//!
//! The same seed does the same. `cargo xtask soak --seed N --hours H` goes through as many seeds as it has time for.
//!
//! What is not real: collectors hand over but hear no network; destinations are spoken to without a protocol; a kill
//! comes between two turns of a process, not within one (`buffer/tests/crash.rs` and the end-to-end tests do that).

mod check;
mod cursors;
mod far;
mod input;
mod model;
mod rig;
mod source;
mod world;

use model::{At, STREAMS};
use raven_model::config::{Config, Destination};
use raven_model::delivery::{Hold, Which};
use raven_model::stream::Stream;
use rig::Rig;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};
use world::Dice;

const MIB: u64 = 1 << 20;
const DAYS: u64 = 14;
/// A step of the simulated clock; what happens in it happens in its first seconds.
const STEP: Duration = Duration::from_hours(2);
const STEPS: u64 = DAYS * 12;
/// Turns of store and uplink in a step.
const TICKS: u64 = 3;
/// Bytes of the simulated disk.
const DISK: u64 = 40 * MIB;
/// Every so many steps each record and each cursor is looked at.
const WHOLE: u64 = 42;
const DESTINATIONS: [&str; 3] = ["noc", "lab", "cloud"];

/// What a run went through.
#[derive(Debug, Default, Clone, Copy)]
struct Summary {
    stored: u64,
    evicted: u64,
    damaged: u64,
    dropped: u64,
    forwarded: u64,
    dead: u64,
    missed: u64,
    kills: u64,
    faults: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored, evicted, damaged, dropped, forwarded, dead, missed, kills, faults } = self;
        write!(f, "stored {stored} evicted {evicted} damaged {damaged} dropped {dropped} forwarded {forwarded} ")?;
        write!(f, "dead {dead} missed {missed} kills {kills} faults {faults}")
    }
}

/// A run.
struct Soak {
    rig: Rig,
    dice: Dice,
    /// Steps until a destination, the store, the uplink is back.
    away: [u64; 3],
    store_back: u64,
    uplink_back: u64,
    /// What was dropped at the end of the last two steps: a power cut forgets no more than what came since.
    dropped: [[u64; 2]; 2],
    done: Summary,
}

/// Goes through fourteen days; says at which step something was wrong.
fn soak(seed: u64) -> Result<Summary, String> {
    // Memory, where there is some: each commit is flushed, which says nothing here.
    let shm = Path::new("/dev/shm");
    let mut dir = tempfile::Builder::new();
    dir.prefix("raven-soak-");
    let dir = if shm.is_dir() { dir.tempdir_in(shm) } else { dir.tempdir() }.map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut soak = Soak::new(dir.path(), seed);
        for step in 0..STEPS {
            soak.step(step).await.map_err(|what| failed(seed, step, &what))?;
        }
        soak.heal().await.map_err(|what| failed(seed, STEPS, &what))?;
        Ok(soak.summary())
    })
}

fn failed(seed: u64, step: u64, what: &str) -> String {
    format!("seed {seed}, day {} (step {step}): {what}", step / 12 + 1)
}

impl Soak {
    fn new(dir: &Path, seed: u64) -> Self {
        let mut config: Config = serde_json::from_str(r#"{"schema":1}"#).expect("a configuration");
        config.buffer.segment = Some(raven_model::units::ByteCount(MIB));
        config.buffer.keep = raven_model::units::Span(Duration::from_hours(3 * 24));
        config.uplink.insert(DESTINATIONS[0].to_owned(), destination(1, &STREAMS));
        let mut rig = Rig::new(dir, seed, config, DISK);
        rig.start_store();
        rig.start_uplink();
        Self {
            rig,
            dice: Dice(seed),
            away: [0; 3],
            store_back: 0,
            uplink_back: 0,
            dropped: [[0; 2]; 2],
            done: Summary::default(),
        }
    }

    async fn step(&mut self, step: u64) -> Result<(), String> {
        let begun = self.rig.world.elapsed();
        self.outside();
        self.disk();
        self.operator();
        self.processes().await?;
        for _ in 0..TICKS {
            self.arrivals();
            self.rig.tick(Duration::from_millis(120 + self.dice.below(300))).await;
            self.kills();
        }
        if self.rig.has_store() {
            self.rig.settle().await?;
            self.dropped =
                [self.dropped[1], STREAMS.map(|stream| self.rig.outside.model.borrow_mut().kept(stream).dropped)];
            check::check(&mut self.rig, step % WHOLE == WHOLE - 1)?;
        }
        let spent = self.rig.world.elapsed().saturating_sub(begun);
        self.rig.leap(STEP.saturating_sub(spent)).await;
        Ok(())
    }

    /// Operations centres and the ways to them.
    fn outside(&mut self) {
        let mut fars = self.rig.outside.fars.borrow_mut();
        for (n, name) in DESTINATIONS.into_iter().enumerate() {
            let far = fars.entry(name.to_owned()).or_default();
            self.away[n] = self.away[n].saturating_sub(1);
            if self.away[n] == 0 {
                (far.is_up, far.is_silent) = (true, false);
                if self.dice.once_in(10) {
                    // Hours; seldom three days.
                    self.away[n] = if self.dice.once_in(10) { 36 } else { 1 + self.dice.below(8) };
                    (far.is_up, far.is_silent) = if self.dice.once_in(4) { (true, true) } else { (false, false) };
                    self.done.faults += 1;
                }
            }
            if self.dice.once_in(12) {
                far.loses = [0, 0, 5, 40][self.dice.below(4) as usize];
                far.refuses = [0, 0, 97, 31][self.dice.below(4) as usize];
            }
        }
    }

    /// Others take room on the disk, and leave it.
    fn disk(&mut self) {
        if self.dice.once_in(8) {
            self.rig.world.others.set(self.dice.below(DISK / MIB * 5 / 4) * MIB * u64::from(!self.dice.once_in(3)));
        }
        if self.dice.once_in(30) {
            let step = [-7_200, -30, 30, 7_200, 315_360_000][self.dice.below(5) as usize] * 1_000_000_000;
            let stepped = &self.rig.world.stepped_ns;
            stepped.set(if stepped.get() == 0 { step } else { 0 });
            self.done.faults += 1;
        }
        self.rig.saves_fail.set(self.dice.once_in(15));
    }

    /// What the operator changes and orders.
    fn operator(&mut self) {
        if self.dice.once_in(10) {
            let name = DESTINATIONS[self.dice.below(3) as usize].to_owned();
            let (goes, port, streams) = (self.dice.once_in(3), self.dice.below(9), self.dice.below(3) as usize);
            let streams: &[Stream] = [&STREAMS[..], &STREAMS[..1], &STREAMS[1..]][streams];
            self.rig.configure(|config| {
                if goes {
                    config.uplink.remove(&name);
                } else {
                    config.uplink.insert(name, destination(port, streams));
                }
            });
        }
        let name = DESTINATIONS[self.dice.below(3) as usize].to_owned();
        if self.dice.once_in(9) {
            let (held, backfill_only) = (self.dice.once_in(3), self.dice.once_in(2));
            let hold = Hold { destination: name.clone(), backfill_only };
            let _ = self.rig.order(|fleet| fleet.hold(&hold, held));
        }
        let which = Which { destination: Some(name.clone()), ..Which::default() };
        if !self.rig.has_uplink() {
            return;
        }
        if self.dice.once_in(12) {
            self.rig.outside.model.borrow_mut().ordered(&name, false);
            let _ = self.rig.order(|fleet| fleet.retry(&which));
        } else if self.dice.once_in(24) {
            self.rig.outside.model.borrow_mut().ordered(&name, true);
            let _ = self.rig.order(|fleet| fleet.drop_letters(&which));
        }
    }

    /// Processes end and begin.
    async fn processes(&mut self) -> Result<(), String> {
        self.store_back = self.store_back.saturating_sub(1);
        self.uplink_back = self.uplink_back.saturating_sub(1);
        match self.dice.below(50) {
            0..3 if self.rig.has_store() => {
                self.rig.stop_store();
                self.damage();
            }
            3..5 if self.rig.has_uplink() => {
                self.rig.saves_fail.set(false);
                self.rig.stop_uplink().await;
                self.uplink_back = self.dice.below(4);
            }
            5 => self.power_cut()?,
            6 if self.rig.has_store() => {
                self.rig.kill_store();
                self.store_back = self.dice.below(3);
            }
            _ => {}
        }
        if !self.rig.has_store() && self.store_back == 0 {
            self.rig.start_store();
        }
        if !self.rig.has_uplink() && self.uplink_back == 0 {
            self.rig.start_uplink();
        }
        Ok(())
    }

    /// Something happens to the files while the store is down.
    fn damage(&mut self) {
        let stream = STREAMS[self.dice.below(2) as usize];
        let ring = self.rig.ring();
        if self.dice.once_in(3) {
            let roll = self.dice.roll();
            let is_done = self.rig.outside.model.borrow_mut().remove_segment(&ring, stream, roll);
            self.done.faults += u64::from(is_done);
        } else if self.dice.once_in(2) {
            // Only a copy.
            let _ = std::fs::remove_file(ring.join(stream.name()).join("ledger.json"));
            self.done.faults += 1;
        }
    }

    fn power_cut(&mut self) -> Result<(), String> {
        self.rig.power_cut();
        (self.store_back, self.uplink_back) = (0, 0);
        self.done.kills += 2;
        self.rig.start_store();
        self.rig.start_uplink();
        // Drops of the last seconds may be forgotten.
        let mut model = self.rig.outside.model.borrow_mut();
        for (n, stream) in STREAMS.into_iter().enumerate() {
            let said = self.rig.dropped(stream);
            let kept = model.kept(stream);
            if said > kept.dropped || said < self.dropped[0][n] {
                return Err(format!(
                    "{stream}: after a power cut {said} drops, of {:?} {}",
                    self.dropped, kept.dropped
                ));
            }
            kept.offered -= kept.dropped - said;
            kept.dropped = said;
            self.dropped.iter_mut().for_each(|dropped| dropped[n] = dropped[n].min(said));
        }
        Ok(())
    }

    /// Messages come in: most of the time few, now and then a flood.
    fn arrivals(&mut self) {
        for stream in STREAMS {
            let most = match self.dice.below(60) {
                0 => 300,
                1..20 => 0,
                _ => 18,
            };
            let count = self.dice.below(most + 1) / if stream == Stream::Winevent { 3 } else { 1 };
            self.rig.receive(stream, count);
        }
        if self.dice.once_in(50) {
            let lost = self.dice.below(20);
            self.rig.socket.1 += lost;
            let mut model = self.rig.outside.model.borrow_mut();
            let kept = model.kept(Stream::Syslog);
            (kept.offered, kept.dropped) = (kept.offered + lost, kept.dropped + lost);
        }
    }

    /// Between two turns.
    fn kills(&mut self) {
        match self.dice.below(200) {
            0..3 if self.rig.has_store() => {
                self.rig.kill_store();
                self.rig.start_store();
                self.done.kills += 1;
            }
            3..6 if self.rig.has_uplink() => {
                self.rig.kill_uplink();
                self.rig.start_uplink();
                self.done.kills += 1;
            }
            6 if self.rig.has_uplink() => {
                self.rig.kill_uplink();
                self.uplink_back = 1 + self.dice.below(5);
                self.done.kills += 1;
            }
            _ => {}
        }
    }

    /// Nothing is wrong any more: all of it arrives, and the account is exact.
    async fn heal(&mut self) -> Result<(), String> {
        self.rig.saves_fail.set(false);
        self.rig.world.others.set(0);
        for far in self.rig.outside.fars.borrow_mut().values_mut() {
            (far.is_up, far.is_silent, far.loses) = (true, false, 0);
        }
        if !self.rig.has_store() {
            self.rig.start_store();
        }
        if !self.rig.has_uplink() {
            self.rig.start_uplink();
        }
        for name in DESTINATIONS {
            let hold = Hold { destination: name.to_owned(), backfill_only: false };
            let _ = self.rig.order(|fleet| fleet.hold(&hold, false));
        }
        for _ in 0..2000 {
            self.rig.tick(Duration::from_millis(200)).await;
            let report = self.rig.uplink_report();
            if report.is_some_and(|report| report.destinations.iter().all(|status| status.lag == 0)) {
                self.rig.settle().await?;
                return check::check(&mut self.rig, true);
            }
        }
        Err(format!("400 s after all is well not all is forwarded: {:?}", self.rig.uplink_report()))
    }

    fn summary(&self) -> Summary {
        let model = self.rig.outside.model.borrow();
        let mut sum = self.done;
        for kept in model.kept.values() {
            sum.stored += kept.records.len() as u64;
            sum.evicted += kept.evicted;
            sum.damaged += kept.damaged;
            sum.dropped += kept.dropped;
        }
        for delivery in model.deliveries.values() {
            sum.forwarded += delivery.count(At::Acked) + delivery.count(At::Revived);
            sum.dead += delivery.count(At::Dead);
            sum.missed += delivery.count(At::Gone) + delivery.count(At::Lost);
        }
        sum
    }
}

fn destination(port: u64, streams: &[Stream]) -> Destination {
    let streams: Vec<&str> = streams.iter().map(|stream| stream.name()).collect();
    let to = serde_json::json!({ "kind": "relp", "to": format!("192.0.2.1:{port}"), "streams": streams });
    serde_json::from_value(to).expect("a destination")
}

/// Seeds from `RAVEN_SOAK_SEED` on, for `RAVEN_SOAK_HOURS`; a line for each. `cargo xtask soak` runs it.
#[test]
#[ignore = "as long as it is told to"]
fn seeds_for_hours() {
    let number = |name: &str| std::env::var_os(name).and_then(|value| value.to_str()?.parse::<f64>().ok());
    let (first, hours) = (number("RAVEN_SOAK_SEED").unwrap_or(1.0) as u64, number("RAVEN_SOAK_HOURS").unwrap_or(0.01));
    let until = Instant::now() + Duration::from_secs_f64(hours * 3600.0);
    for seed in first.. {
        println!("soak: seed {seed}");
        match soak(seed) {
            Ok(done) => println!("soak: ok {seed}: {done}"),
            Err(what) => {
                println!("soak: wrong {what}");
                panic!("{what}");
            }
        }
        if Instant::now() >= until {
            return;
        }
    }
}

macro_rules! fourteen_days_add_up {
    ($($name:ident: $seed:literal,)*) => {$(
        #[test]
        fn $name() {
            if let Err(what) = soak($seed) {
                panic!("{what}");
            }
        }
    )*};
}

fourteen_days_add_up! {
    fourteen_days_add_up_1: 1, fourteen_days_add_up_2: 2, fourteen_days_add_up_3: 3, fourteen_days_add_up_4: 4,
    fourteen_days_add_up_5: 5, fourteen_days_add_up_6: 6, fourteen_days_add_up_7: 7, fourteen_days_add_up_8: 8,
    fourteen_days_add_up_9: 9, fourteen_days_add_up_10: 10, fourteen_days_add_up_11: 11, fourteen_days_add_up_12: 12,
    fourteen_days_add_up_13: 13, fourteen_days_add_up_14: 14, fourteen_days_add_up_15: 15, fourteen_days_add_up_16: 16,
    fourteen_days_add_up_17: 17, fourteen_days_add_up_18: 18, fourteen_days_add_up_19: 19, fourteen_days_add_up_20: 20,
}
