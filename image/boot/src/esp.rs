//! All that is done on the EFI system partition of an installed box, in its folder `raven`:
//!
//! ```text
//! grubenv        what GRUB remembers; written in place, one sector
//! reset          when all data were discarded last, and who asked for it
//! A/  B/         kernel, initramfs, slot.cfg (what GRUB is told), reached (services began), why (it was given up)
//! ```
//! A slot that is written to is empty for GRUB from before the first byte until after the last, so no order of writes
//! in its folder can leave a box that does not start; what switches is the one sector of `grubenv`.

use crate::gpt::Guid;
use crate::handed::Handed;
use crate::slot_file;
use crate::slots::{Env, Slot, State, TRIAL_TRIES, TRIES};
use crate::verdict::without_a_word;
use nix::fcntl::{Flock, FlockArg};
use raven_model::update::{SlotView, Slots};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Longest reason that is kept, characters.
const WHY_MAX: usize = 600;

/// Something on the partition cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum EspError {
    /// A file.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// What GRUB remembers.
    #[error(transparent)]
    Env(#[from] crate::slots::EnvError),
    /// The slot that runs is never written to.
    #[error("slot {0} runs: only the other one can be written to")]
    Running(Slot),
}

/// The partition, mounted, as the slot `running` uses it.
#[derive(Debug)]
pub struct Esp {
    folder: PathBuf,
    running: Slot,
}

impl Esp {
    /// Of what is mounted at `root`.
    pub fn new(root: &Path, running: Slot) -> Self {
        Self { folder: root.join("raven"), running }
    }

    /// What is known of both slots.
    ///
    /// # Errors
    /// The boot loader's memory cannot be read.
    pub fn show(&self) -> Result<Slots, EspError> {
        let (_, env) = self.env(false)?;
        Ok(self.view(&env))
    }

    /// The running slot is well. A trial of the other one is over: it was given up, and why is kept. `data` is the
    /// data partition, where it is known: an order to discard another one was carried out.
    ///
    /// # Errors
    /// Something cannot be written.
    pub fn good(&self, watchdog: bool, data: Option<Guid>) -> Result<Slots, EspError> {
        let (mut file, mut env) = self.env(true)?;
        if let Some(given_up) = env.trial().filter(|slot| *slot != self.running) {
            let starts = TRIAL_TRIES.saturating_sub(env.state(given_up).tries);
            let place = self.place(given_up);
            if !place.join("why").exists() {
                let why = without_a_word(starts, place.join("reached").exists(), watchdog);
                self.keep_why(given_up, &why)?;
            }
        }
        // One that was well before, and whose disk goes bad, say.
        let other = self.running.other();
        let is_worn = env.trial() != Some(other) && env.state(other) == (State { filled: true, tries: 0 });
        if is_worn && !self.place(other).join("why").exists() {
            let dog = if watchdog { "; the watchdog ended the last of these starts" } else { "" };
            self.keep_why(other, &format!("started {TRIES} times without becoming well{dog}"))?;
        }
        if let Some((id, by)) = env.reset()
            && data.is_some_and(|data| data != id)
        {
            put(&self.folder, "reset", format!("{by}\n").as_bytes())?;
            env.forget_reset();
        }
        env.good(self.running);
        write_env(&mut file, &env).map_err(self.wrong("grubenv"))?;
        for name in ["why", "reached"] {
            remove(&self.place(self.running).join(name))?;
        }
        Ok(self.view(&env))
    }

    /// Services of the running slot begin, while it is on trial.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn started(&self) -> Result<Slots, EspError> {
        let (_, env) = self.env(false)?;
        if env.trial() == Some(self.running) {
            put(&self.place(self.running), "reached", b"services\n")?;
        }
        Ok(self.view(&env))
    }

    /// The running slot is not well; why is kept.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn failed(&self, why: &str) -> Result<Slots, EspError> {
        let (_, env) = self.env(false)?;
        self.keep_why(self.running, why)?;
        Ok(self.view(&env))
    }

    /// The other slot is about to be written to: GRUB starts nothing from it.
    ///
    /// # Errors
    /// Something cannot be written.
    pub fn empty(&self) -> Result<Slots, EspError> {
        let (mut file, mut env) = self.env(true)?;
        let slot = self.running.other();
        env.empty(slot);
        write_env(&mut file, &env).map_err(self.wrong("grubenv"))?;
        for name in ["why", "reached", "slot.cfg"] {
            remove(&self.place(slot).join(name))?;
        }
        Ok(self.view(&env))
    }

    /// The other slot holds this system: what starts it is written, and when all of it lies on the disk, GRUB is told.
    ///
    /// # Errors
    /// Something cannot be written; GRUB then goes on with the slot that runs.
    pub fn stage(&self, handed: &Handed<'_>) -> Result<Slots, EspError> {
        let slot = self.running.other();
        self.empty()?;
        let place = self.place(slot);
        fs::create_dir_all(&place).map_err(|error| EspError::File(place.clone(), error))?;
        let manifest = &handed.manifest;
        let text = slot_file::text(manifest.version, &handed.verity, &manifest.arguments);
        for (name, content) in
            [("kernel", handed.kernel), ("initramfs", handed.initramfs), ("slot.cfg", text.as_bytes())]
        {
            put(&place, name, content)?;
        }
        let (mut file, mut env) = self.env(true)?;
        env.stage(slot);
        write_env(&mut file, &env).map_err(self.wrong("grubenv"))?;
        Ok(self.view(&env))
    }

    /// The data partition `data` is discarded at the next start. `by` says who asked for it and when, in a line.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn reset(&self, data: Guid, by: &str) -> Result<Slots, EspError> {
        let (mut file, mut env) = self.env(true)?;
        env.order_reset(data, by);
        write_env(&mut file, &env).map_err(self.wrong("grubenv"))?;
        Ok(self.view(&env))
    }

    /// Whether the running slot is new and has not shown that it is well.
    ///
    /// # Errors
    /// The boot loader's memory cannot be read.
    pub fn on_trial(&self) -> Result<bool, EspError> {
        Ok(self.env(false)?.1.trial() == Some(self.running))
    }

    fn view(&self, env: &Env) -> Slots {
        let slot = |slot: Slot| {
            let (state, place) = (env.state(slot), self.place(slot));
            let text = |name: &str| fs::read_to_string(place.join(name)).ok();
            SlotView {
                name: slot.to_string(),
                filled: state.filled,
                version: text("slot.cfg").and_then(|text| slot_file::version(&text)),
                tries: state.tries,
                on_trial: env.trial() == Some(slot),
                given_up: text("why").map(|why| why.trim().to_owned()).filter(|why| !why.is_empty()),
            }
        };
        let next = env.next().map(|slot| slot.to_string());
        let was_reset = fs::read_to_string(self.folder.join("reset")).ok().map(|by| by.trim().to_owned());
        let reset = env.reset().map(|(_, by)| by.to_owned());
        Slots { running: self.running.to_string(), next, slots: Slot::ALL.map(slot).to_vec(), reset, was_reset }
    }

    fn place(&self, slot: Slot) -> PathBuf {
        self.folder.join(slot.to_string())
    }

    fn keep_why(&self, slot: Slot, why: &str) -> Result<(), EspError> {
        let line: String = why.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(WHY_MAX).collect();
        put(&self.place(slot), "why", (line + "\n").as_bytes())
    }

    /// The boot loader's memory, locked against another `raven-slot` for as long as it is held.
    fn env(&self, write: bool) -> Result<(Flock<File>, Env), EspError> {
        let wrong = self.wrong("grubenv");
        let file = OpenOptions::new().read(true).write(write).open(self.folder.join("grubenv")).map_err(&wrong)?;
        let how = if write { FlockArg::LockExclusive } else { FlockArg::LockShared };
        let mut file = Flock::lock(file, how).map_err(|(_, error)| wrong(error.into()))?;
        let mut block = Vec::new();
        file.read_to_end(&mut block).map_err(wrong)?;
        Ok((file, Env::parse(&block)?))
    }

    fn wrong(&self, name: &str) -> impl Fn(io::Error) -> EspError {
        let path = self.folder.join(name);
        move |error| EspError::File(path.clone(), error)
    }
}

/// In place: the file keeps its clusters, and all that changes is in one sector.
fn write_env(file: &mut File, env: &Env) -> io::Result<()> {
    let block = env.block().map_err(io::Error::other)?;
    file.rewind()?;
    file.write_all(&block)?;
    file.sync_all()
}

/// A file with this content, on the disk when this returns: under another name first.
fn put(folder: &Path, name: &str, content: &[u8]) -> Result<(), EspError> {
    let (new, path) = (folder.join(format!("{name}.new")), folder.join(name));
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| EspError::File(path.clone(), error))
}

fn remove(path: &Path) -> Result<(), EspError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(EspError::File(path.to_owned(), error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gpt::Guid;
    use crate::handed::Handed;
    use raven_model::update::{FLOOR, FORMATS, Manifest, Part, Version};

    fn partition() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for slot in ["A", "B"] {
            fs::create_dir_all(dir.path().join("raven").join(slot)).unwrap();
        }
        fs::write(dir.path().join("raven/grubenv"), Env::new().block().unwrap()).unwrap();
        dir
    }

    fn handed() -> Handed<'static> {
        let part = || Part { bytes: 1, sha256: "0".repeat(64) };
        let verity: crate::verity::Verity = format!("{}.1.aa", "11".repeat(32)).parse().unwrap();
        let manifest = Manifest {
            product: "raven".to_owned(),
            machine: "x86-64".to_owned(),
            version: Version(2, 0, 0),
            made_s: 0,
            floor: FLOOR,
            reads_from: FORMATS,
            reads_to: FORMATS,
            verity: verity.to_string(),
            arguments: "quiet".to_owned(),
            root: part(),
            hashes: part(),
            kernel: part(),
            initramfs: part(),
        };
        Handed { manifest, verity, kernel: b"kernel", initramfs: b"initramfs" }
    }

    /// What GRUB does at a start.
    fn grub(dir: &Path) -> Slot {
        let path = dir.join("raven/grubenv");
        let mut env = Env::parse(&fs::read(&path).unwrap()).unwrap();
        let slot = env.next().unwrap();
        let state = env.state(slot);
        env.put(slot, State { tries: state.tries - 1, ..state });
        fs::write(path, env.block().unwrap()).unwrap();
        slot
    }

    #[test]
    fn a_staged_system_is_started_and_stays_when_it_is_well() {
        let dir = partition();
        let a = Esp::new(dir.path(), Slot::A);
        let staged = a.stage(&handed()).unwrap();
        assert_eq!((staged.next.as_deref(), staged.slot("B").unwrap().version), (Some("B"), Some(Version(2, 0, 0))));
        assert_eq!(fs::read(dir.path().join("raven/B/kernel")).unwrap(), b"kernel");
        assert!(!dir.path().join("raven/B/kernel.new").exists());
        assert_eq!(grub(dir.path()), Slot::B);
        let b = Esp::new(dir.path(), Slot::B);
        assert!(b.on_trial().unwrap() && b.started().unwrap().slot("B").unwrap().on_trial);
        let good = b.good(false, None).unwrap();
        assert_eq!((good.slot("B").unwrap().tries, good.slot("B").unwrap().on_trial), (3, false));
        assert!(!b.on_trial().unwrap() && !dir.path().join("raven/B/reached").exists());
    }

    #[test]
    fn a_system_that_is_never_well_is_given_up_with_its_own_reason_or_with_how_far_it_came() {
        for (word, reached, expected) in [
            (Some("listeners:\n  udp:514 is not bound"), true, "listeners: udp:514 is not bound"),
            (None, true, "started 2 times: its services began"),
            (None, false, "started 2 times: its kernel or its first process"),
        ] {
            let dir = partition();
            Esp::new(dir.path(), Slot::A).stage(&handed()).unwrap();
            for _ in 0..2 {
                assert_eq!(grub(dir.path()), Slot::B);
                let b = Esp::new(dir.path(), Slot::B);
                if reached {
                    b.started().unwrap();
                }
                if let Some(why) = word {
                    b.failed(why).unwrap();
                }
            }
            assert_eq!(grub(dir.path()), Slot::A);
            let a = Esp::new(dir.path(), Slot::A);
            let back = a.good(false, None).unwrap();
            let b = back.slot("B").unwrap();
            assert!(b.given_up.as_deref().unwrap().starts_with(expected), "{b:?}");
            assert_eq!((back.next.as_deref(), b.on_trial), (Some("A"), false));
            // The reason stays until something else goes into the slot.
            assert_eq!(a.good(false, None).unwrap().slot("B"), Some(b));
            assert_eq!(a.empty().unwrap().slot("B").unwrap().given_up, None);
        }
    }

    /// It was well once; then its disk goes bad.
    #[test]
    fn a_system_that_does_not_come_up_any_more_is_told_of() {
        let dir = partition();
        let (a, b) = (Esp::new(dir.path(), Slot::A), Esp::new(dir.path(), Slot::B));
        a.stage(&handed()).unwrap();
        assert_eq!(grub(dir.path()), Slot::B);
        assert_eq!(b.good(false, None).unwrap().slot("A").unwrap().given_up, None);
        assert_eq!([(); 3].map(|()| grub(dir.path())), [Slot::B; 3]);
        assert_eq!(grub(dir.path()), Slot::A);
        let back = a.good(false, None).unwrap();
        let why = back.slot("B").unwrap().given_up.clone().unwrap();
        assert!(why.starts_with("started 3 times without becoming well"), "{why}");
        assert_eq!(back.next.as_deref(), Some("A"));
    }

    #[test]
    fn until_all_of_it_is_there_nothing_is_started_from_the_other_slot() {
        let dir = partition();
        let a = Esp::new(dir.path(), Slot::A);
        a.stage(&handed()).unwrap();
        let empty = a.empty().unwrap();
        assert_eq!((empty.next.as_deref(), empty.slot("B").unwrap().filled), (Some("A"), false));
        // A disk that is full, or a folder that is none.
        fs::remove_dir_all(dir.path().join("raven/B")).unwrap();
        fs::write(dir.path().join("raven/B"), "").unwrap();
        assert!(a.stage(&handed()).is_err());
        assert_eq!(a.show().unwrap().next.as_deref(), Some("A"));
    }

    #[test]
    fn an_order_to_discard_stands_until_the_data_partition_is_another_one() {
        let (dir, old, new) = (partition(), Guid(5), Guid(6));
        let a = Esp::new(dir.path(), Slot::A);
        let by = "admin, 2026-11-29T17:00:00Z";
        assert_eq!(a.reset(old, by).unwrap().reset.as_deref(), Some(by));
        let text = fs::read_to_string(dir.path().join("raven/grubenv")).unwrap();
        assert!(text.contains(&format!("\nRESET={old}\n")), "{text}");
        // GRUB counts, an update comes, nobody could look at the table: it stands.
        grub(dir.path());
        a.stage(&handed()).unwrap();
        for data in [None, Some(old)] {
            let view = a.good(false, data).unwrap();
            assert_eq!((view.reset.as_deref(), view.was_reset), (Some(by), None));
        }
        let view = a.good(false, Some(new)).unwrap();
        assert_eq!((view.reset, view.was_reset.as_deref()), (None, Some(by)));
        assert!(!fs::read_to_string(dir.path().join("raven/grubenv")).unwrap().contains("RESET"));
    }

    #[test]
    fn all_that_grub_remembers_fits_its_sector() {
        let dir = partition();
        let a = Esp::new(dir.path(), Slot::A);
        a.stage(&handed()).unwrap();
        let by = format!("operator {}, 2026-11-29T17:00:00Z", "x".repeat(60));
        assert!(a.reset(Guid(u128::MAX), &by).is_ok());
    }
}
