//! Power cuts at random moments, under load and while an update is written, on a disk that forgets what was not flushed:
//! live, the box starts again from what is left; and from what was asked of the disk, more disks are made that a cut could
//! have left, each judged on this machine. A lying disk is the control: it must be found out.
//!
//! What was done is counted in a file beside the logs, so that a run which was broken off is gone on with.

use crate::judge::{self, Image, Known};
use crate::machine::{Firmware, Lab, Machine, Medium};
use crate::relp::{self, MARK};
use crate::volatile::{Dice, Disk, Log};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// So many live.
const LIVE: u64 = 10;
/// So many judged after each. A cut so early that nothing was asked of the disk gives none.
const IMAGES: u64 = 50;
/// So many of all rounds.
const IMAGES_ALL: u64 = 500;
/// Of the control.
const LIES: u64 = 20;

/// What was done so far.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Count {
    live: u64,
    images: u64,
    /// Images in which something was not yet on the disk, so that the cut mattered.
    torn: u64,
}

impl Count {
    fn of(lab: &Lab) -> (PathBuf, Self) {
        let path = lab.out.join(format!("{}.json", lab.name()));
        let count = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        (path, count)
    }

    fn is_enough(&self) -> bool {
        self.live >= LIVE && self.images >= IMAGES_ALL
    }

    /// One more, which is kept when nothing was wrong.
    fn add(&mut self, judged: &Judged, path: &Path) -> Result<()> {
        ensure!(judged.failed.is_empty(), "round {}: {}", self.live + 1, judged.failed.join("\n"));
        self.live += 1;
        self.images += judged.sound;
        self.torn += judged.torn;
        println!("  {} live, {} images, {} of them with something not flushed", self.live, self.images, self.torn);
        Ok(fs::write(path, serde_json::to_vec(self)?)?)
    }
}

/// Under load: nothing that was acknowledged is missing, and the ring is whole.
pub fn load(lab: &mut Lab) -> Result<()> {
    let (path, mut count) = Count::of(lab);
    let image = loaded_system(lab)?;
    while !count.is_enough() {
        let judged = Round::new(lab, &image, count.live + 1, false)?.load(lab, IMAGES)?;
        count.add(&judged, &path)?;
    }
    let judged = Round::new(lab, &image, 99, true)?.load(lab, LIES)?;
    let (all, found) = (judged.sound + judged.failed.len() as u64, judged.failed.len());
    println!("  control: of {all} images of a disk that lies {found} were found out");
    ensure!(judged.failed.len() as u64 > LIES / 2, "a disk that lies is not found out");
    Ok(fs::remove_file(&path)?)
}

/// What the judge said.
#[derive(Debug, Default)]
struct Judged {
    sound: u64,
    failed: Vec<String>,
    /// As of [`Count`].
    torn: u64,
}

impl Judged {
    fn add(&mut self, what: &str, result: Result<()>) {
        match result {
            Ok(()) => self.sound += 1,
            Err(error) => self.failed.push(format!("{what}: {error:#}")),
        }
    }
}

/// One cut.
struct Round {
    dice: Dice,
    seed: u64,
    /// What is on the disk, and what was before the box was turned on.
    disk: PathBuf,
    before: PathBuf,
    lies: bool,
}

impl Round {
    fn new(lab: &Lab, image: &Path, seed: u64, lies: bool) -> Result<Self> {
        let (disk, before) = (lab.work().join("disk"), lab.work().join("before"));
        if !disk.exists() || lies {
            judge::copy(image, &disk)?;
            fs::File::options().write(true).open(&disk)?.set_len(4 << 30)?;
        }
        judge::copy(&disk, &before)?;
        Ok(Self { dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1), seed, disk, before, lies })
    }

    /// Turns the box on.
    fn start(&self, lab: &mut Lab) -> Result<(Machine, Disk)> {
        let socket = lab.work().join("nbd");
        let disk = Disk::offer(&self.disk, &socket, self.lies)?;
        Ok((lab.start(Firmware::Bios, &Medium::Volatile(socket))?, disk))
    }

    /// Messages come; the power goes; the ring is judged.
    fn load(&mut self, lab: &mut Lab, images: u64) -> Result<Judged> {
        let port = lab.forward("tcp", 2514)?;
        let (mut machine, disk) = self.start(lab)?;
        machine.expect("Raven: starting slot A, tries left:")?;
        machine.expect("Telemetry appliance")?;
        let acknowledged = sender(port, self.seed * 10_000_000);
        let began = acknowledged.recv_timeout(crate::PATIENCE).context("nothing is acknowledged")?;
        let rest = Duration::from_millis(2000 + self.dice.below(20_000));
        machine.listen(rest)?;
        let log = disk.cut(&mut self.dice)?;
        let cut = Instant::now();
        machine.unplug();
        let mut all = vec![began];
        all.extend(acknowledged.try_iter().filter(|(_, at)| *at < cut));
        println!("          {} messages acknowledged in {:.1} s", all.len(), rest.as_secs_f64());
        self.judge(lab, &log, began.1, cut, images, |disk, at| whole_ring(disk, lab.work(), &all, at))
    }

    /// What the cut left, and `images` that others could have left after the moment `from`.
    fn judge(
        &mut self,
        lab: &Lab,
        log: &Log,
        from: Instant,
        cut: Instant,
        images: u64,
        whole: impl Fn(&Path, Instant) -> Result<()>,
    ) -> Result<Judged> {
        let mut judged = Judged::default();
        let (copy, first) = (lab.work().join("copy"), lab.out.join(format!("{}-failed.img", lab.name())));
        judge::copy(&self.disk, &copy)?;
        judged.add("what the cut left", whole(&copy, cut));
        log.at_each(&self.before, &self.points(log, from, images), |point, at, uncertain| {
            judge::copy(&self.before, &copy)?;
            let mut dice = self.dice.clone();
            judged.torn += u64::from(uncertain.some_of_it(&copy, &mut self.dice)? > 0);
            let so_far = judged.failed.len();
            judged.add(&format!("seed {}, event {point}", self.seed), whole(&copy, at));
            if so_far == 0 && !judged.failed.is_empty() && !self.lies {
                // Once more, as it was before it was judged and repaired: to be looked at.
                judge::copy(&self.before, &first)?;
                uncertain.some_of_it(&first, &mut dice)?;
            }
            Ok(())
        })?;
        Ok(judged)
    }

    /// Random events behind the moment `from`, rising.
    fn points(&self, log: &Log, from: Instant, count: u64) -> Vec<usize> {
        let first = log.0.iter().position(|(at, _)| *at >= from).unwrap_or(log.0.len());
        let mut dice = self.dice.clone();
        let mut points: Vec<usize> =
            (0..count).map(|_| first + 1 + dice.below((log.0.len() - first).max(1) as u64) as usize).collect();
        points.sort_unstable();
        points
    }
}

/// The ring is whole and has every number that was acknowledged before `cut`.
fn whole_ring(disk: &Path, work: &Path, acknowledged: &[(u64, Instant)], cut: Instant) -> Result<()> {
    let numbers = Image::of(disk)?.data(work)?.numbers(MARK)?;
    let due = || acknowledged.iter().filter(|(_, at)| *at < cut);
    let missing: Vec<u64> = due().map(|(number, _)| *number).filter(|number| !numbers.contains(number)).collect();
    if !missing.is_empty() {
        bail!("{} of {} acknowledged messages are missing, such as {}", missing.len(), due().count(), missing[0]);
    }
    Ok(())
}

/// Sends as soon as somebody takes it.
fn sender(port: u16, first: u64) -> Receiver<(u64, Instant)> {
    let (to, acknowledged) = mpsc::channel();
    std::thread::spawn(move || {
        let began = Instant::now();
        let mut any = false;
        while !any && began.elapsed() < crate::PATIENCE {
            let _ = relp::send(port, first, |number, at| {
                any = true;
                let _ = to.send((number, at));
            });
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    acknowledged
}

/// The built system, which takes syslog by RELP.
fn loaded_system(lab: &Lab) -> Result<PathBuf> {
    let built = lab.built()?;
    let system = built.changed("load", |tree| {
        Ok(fs::write(
            tree.join("usr/share/raven/raven.toml"),
            "schema = 1\n[collect.syslog]\nrelp = [2514]\n[site]\nname = \"cuts\"\n",
        )?)
    })?;
    built.disk(&system)
}

/// While an update is written, again and again until it is done: the box starts each time, from a slot that is whole.
pub fn update(lab: &mut Lab) -> Result<()> {
    let (path, mut count) = Count::of(lab);
    let built = lab.built()?;
    let old = built.that_always_does("before", &["/usr/bin/raven update /dev/vdb"])?;
    let new = built.changed("next", |_| Ok(()))?;
    let (image, bundle) = (built.disk(&old)?, built.bundle(&new)?);
    let systems = [Known::of(&old)?, Known::of(&new)?];
    while !count.is_enough() {
        let (judged, is_done) = Round::new(lab, &image, count.live + 1, false)?.update(lab, &bundle, &systems)?;
        count.add(&judged, &path)?;
        if is_done {
            // Once more from the beginning.
            fs::remove_file(lab.work().join("disk"))?;
        }
    }
    Ok(fs::remove_file(&path)?)
}

impl Round {
    /// The update goes on; the power goes. Also whether the new system runs now.
    fn update(&mut self, lab: &mut Lab, bundle: &Path, systems: &[Known]) -> Result<(Judged, bool)> {
        lab.carry(bundle);
        let (mut machine, disk) = self.start(lab)?;
        let is_new = machine.expect_one_of(&["starting slot A", "starting slot B"])? == 1;
        machine.expect("is well")?;
        let began = Instant::now();
        let rest = Duration::from_millis(self.dice.below(if is_new { 5_000 } else { 60_000 }));
        machine.listen(rest)?;
        let log = disk.cut(&mut self.dice)?;
        machine.unplug();
        println!("          cut {:.1} s after it was well", rest.as_secs_f64());
        let whole = |disk: &Path, _| Image::of(disk)?.starts(systems).map(drop);
        Ok((self.judge(lab, &log, began, Instant::now(), IMAGES, whole)?, is_new))
    }
}
