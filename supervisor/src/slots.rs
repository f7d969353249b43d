//! What `ravend` has done about slots, by the one program that it runs beside its workers: `raven-slot`, as root, with one
//! of the verbs below. Nothing is waited for: the program's end is looked for at each turn of the event loop.

use crate::durable;
use crate::program::ours;
use anyhow::{Context, bail};
use nix::unistd::dup;
use raven_jail::memory::{memfd, reopen_read_only};
use raven_model::table::OperatorRole;
use raven_model::update::{BOOT_MAX, FIXED, MANIFEST_MAX, Slots};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// It mounts, writes 15 MiB and syncs, perhaps on a USB stick.
const PATIENCE: Duration = Duration::from_mins(4);
/// Of its answer, bytes.
const SAID_MAX: u64 = 64 << 10;
/// Of a file with keys, bytes.
const KEYS_MAX: u64 = 16 << 10;

/// What it is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// An operator asks, or nobody has looked yet.
    Show,
    /// The update role is about to write.
    Empty,
    /// All is written.
    Stage,
    /// Somebody of this role has typed the box's name: all data are discarded at the next start.
    Reset(OperatorRole),
}

impl Job {
    const fn verb(self) -> &'static str {
        match self {
            Self::Show => "show",
            Self::Empty => "empty",
            Self::Stage => "stage",
            Self::Reset(role) => reset_verb(role),
        }
    }
}

/// The verb by which somebody of this role has the data partition discarded.
const fn reset_verb(role: OperatorRole) -> &'static str {
    match role {
        OperatorRole::Viewer => "reset-by-viewer",
        OperatorRole::Operator => "reset-by-operator",
        OperatorRole::Admin => "reset-by-admin",
    }
}

/// Where slots and keys are, and what is being done about them.
#[derive(Debug)]
pub struct SlotKeeper {
    folder: PathBuf,
    keys: PathBuf,
    queue: VecDeque<Job>,
    running: Option<Running>,
    /// Header, kernel and initramfs of the update that is under way.
    boot: Option<OwnedFd>,
    /// Nobody has looked yet. `ravend` runs before udev has named the partitions.
    is_new: bool,
    /// What `raven-slot` said last.
    pub known: Option<Slots>,
}

#[derive(Debug)]
struct Running {
    job: Job,
    child: Child,
    since: Instant,
}

impl SlotKeeper {
    /// Of the slots in `folder`.
    pub fn new(folder: &Path, keys: &Path) -> Self {
        let (folder, keys) = (folder.to_owned(), keys.to_owned());
        Self { folder, keys, queue: VecDeque::new(), running: None, boot: None, is_new: true, known: None }
    }

    /// A box that was installed has them.
    pub fn has_slots(&self) -> bool {
        self.folder.join("esp").exists()
    }

    /// Has something done, after what is being done.
    pub fn order(&mut self, job: Job) {
        if job != Job::Show || !self.queue.contains(&job) {
            self.queue.push_back(job);
        }
    }

    /// True while the loop must look soon again.
    pub fn is_busy(&self) -> bool {
        self.running.is_some() || !self.queue.is_empty()
    }

    /// Starts what is due; what has ended, and how.
    pub fn tend(&mut self) -> Option<(Job, anyhow::Result<Slots>)> {
        if self.is_new && self.has_slots() {
            self.is_new = false;
            self.order(Job::Show);
        }
        if self.running.is_none() {
            let job = self.queue.pop_front()?;
            match self.start(job) {
                Ok(running) => self.running = Some(running),
                Err(error) => return Some((job, Err(error))),
            }
        }
        let running = self.running.as_mut()?;
        let ended = match running.child.try_wait() {
            Ok(None) if running.since.elapsed() > PATIENCE => {
                let _ = running.child.kill();
                let _ = running.child.wait();
                Err(anyhow::anyhow!("raven-slot did not end within {} s", PATIENCE.as_secs()))
            }
            Ok(None) => return None,
            Ok(Some(status)) => Ok(status.success()),
            Err(error) => Err(error.into()),
        };
        let running = self.running.take()?;
        let (job, outcome) = (running.job, ended.and_then(|success| running.answer(success)));
        if let Ok(slots) = &outcome {
            self.known = Some(slots.clone());
        }
        Some((job, outcome))
    }

    fn start(&mut self, job: Job) -> anyhow::Result<Running> {
        let program = ours("raven-slot")?;
        let input = match (job, &self.boot) {
            // With an offset of its own: the role moved the one that it has.
            (Job::Stage, Some(boot)) => Stdio::from(reopen_read_only(boot)?),
            (Job::Stage, None) => bail!("no update is under way"),
            _ => Stdio::null(),
        };
        let child = Command::new(&program)
            .env_clear()
            .arg("--slots")
            .arg(&self.folder)
            .arg("--key")
            .arg(&self.keys)
            .arg(job.verb())
            .stdin(input)
            // It says less than a pipe holds, so nobody has to read before its end.
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        Ok(Running { job, child, since: Instant::now() })
    }

    /// The partitions of the slot that does not run, and memory for what starts it.
    pub fn open(&mut self, slots: &Slots) -> anyhow::Result<(String, Vec<OwnedFd>)> {
        let slot = slots.other().context("there is no other slot")?.name.clone();
        let open = |name: String| {
            let path = self.folder.join(name);
            let file = OpenOptions::new().read(true).write(true).open(&path);
            file.map(OwnedFd::from).with_context(|| format!("{}", path.display()))
        };
        let (root, hashes) = (open(slot.clone())?, open(format!("{slot}-hashes"))?);
        let boot = memfd("raven-update", BOOT_MAX + (FIXED + MANIFEST_MAX) as u64)?;
        let fds = vec![root, hashes, dup(&boot)?];
        self.boot = Some(boot);
        Ok((slot, fds))
    }

    /// Public keys of bundles, unread.
    pub fn keys(&self) -> anyhow::Result<Vec<u8>> {
        let wrong = || format!("{}: without it no bundle can be trusted", self.keys.display());
        let file = File::open(&self.keys).with_context(wrong)?;
        let mut text = Vec::new();
        file.take(KEYS_MAX).read_to_end(&mut text).with_context(wrong)?;
        Ok(text)
    }

    /// The memory of an update that is over.
    pub fn forget_boot(&mut self) {
        self.boot = None;
    }
}

impl Running {
    fn answer(mut self, success: bool) -> anyhow::Result<Slots> {
        if success {
            let said = text(self.child.stdout.take())?;
            return serde_json::from_str(&said).context("raven-slot said something else than slots");
        }
        let wrong = text(self.child.stderr.take())?;
        bail!("{}", wrong.trim().trim_start_matches("raven-slot: "))
    }
}

fn text(from: Option<impl io::Read>) -> io::Result<String> {
    let mut text = String::new();
    from.map_or(Ok(0), |from| from.take(SAID_MAX).read_to_string(&mut text))?;
    Ok(text)
}

/// The roles' reports as they are before an update is started for the first time, for `raven health` to compare.
pub fn note_before(data: &Path, report: &str) -> anyhow::Result<()> {
    let folder = data.join("update");
    fs::create_dir_all(&folder)?;
    durable::write_private(&folder.join("before.json"), report)
}

/// What [`note_before`] kept.
pub fn before(data: &Path) -> Option<Box<serde_json::value::RawValue>> {
    serde_json::from_str(&fs::read_to_string(data.join("update/before.json")).ok()?).ok()
}
