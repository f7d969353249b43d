//! A disk that forgets: what the box wrote and did not flush is held in memory, and when the power is cut a random part
//! of it, in random order, has reached the disk. It speaks NBD to one QEMU (the protocol's text: "The NBD protocol", fixed
//! newstyle handshake, simple replies), keeps what was asked of it, and from that makes more disks that a cut could have left.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Written whole or not at all.
pub const SECTOR: usize = 512;
type Sector = [u8; SECTOR];

/// Random numbers that a seed repeats (xorshift).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// From 0 to below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n.max(1)
    }
}

/// What the box asked of the disk, in order.
#[derive(Debug)]
pub enum Event {
    /// Sectors from this one on.
    Write(u64, Box<[u8]>),
    /// All that was written before is on the disk now.
    Flush,
}

/// What was asked, and when it was answered.
#[derive(Debug, Default)]
pub struct Log(pub Vec<(Instant, Event)>);

#[derive(Debug)]
struct State {
    file: File,
    bytes: u64,
    /// Written, not flushed.
    held: BTreeMap<u64, Sector>,
    log: Log,
    /// The control: it says that it flushed, and did not.
    lies: bool,
    is_off: bool,
}

/// A disk that QEMU is connected to, or will be.
#[derive(Debug)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

impl Disk {
    /// The content of `file`, offered at `socket`.
    pub fn offer(file: &Path, socket: &Path, lies: bool) -> Result<Self> {
        let file = File::options().read(true).write(true).open(file)?;
        let bytes = file.metadata()?.len();
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).with_context(|| format!("{}", socket.display()))?;
        let state = State { file, bytes, held: BTreeMap::new(), log: Log::default(), lies, is_off: false };
        let state = Arc::new(Mutex::new(state));
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                // It ends with QEMU.
                let _ = serve(stream, &served);
            }
        });
        Ok(Self { state })
    }

    /// Cuts the power: part of what was not flushed stays. What was asked of the disk comes back. The box itself has to be
    /// killed by whoever holds it.
    pub fn cut(&self, dice: &mut Dice) -> Result<Log> {
        let mut state = lock(&self.state);
        state.is_off = true;
        let held = std::mem::take(&mut state.held);
        let stay = survivors(&held, dice);
        println!("          cut: {} sectors were not flushed, {} of them are on the disk", held.len(), stay.len());
        put(&state.file, stay)?;
        Ok(std::mem::take(&mut state.log))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A random part of what was not flushed: of sectors, or of pages.
fn survivors<'a>(held: &'a BTreeMap<u64, Sector>, dice: &mut Dice) -> Vec<(u64, &'a Sector)> {
    let (whole, share, salt) = ([1, 8][dice.below(2) as usize], dice.below(101), dice.below(1 << 40) + 1);
    let stays = |at: u64| Dice((at / whole).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt).clone_below(100) < share;
    held.iter().filter(|(at, _)| stays(**at)).map(|(at, sector)| (*at, sector)).collect()
}

impl Dice {
    /// A few rounds, so that neighbours differ.
    fn clone_below(mut self, n: u64) -> u64 {
        self.0 |= 1;
        (0..4).for_each(|_| _ = self.below(2));
        self.below(n)
    }
}

fn put<'a>(file: &File, sectors: impl IntoIterator<Item = (u64, &'a Sector)>) -> io::Result<()> {
    sectors.into_iter().try_for_each(|(at, sector)| file.write_all_at(sector, at * SECTOR as u64))
}

impl Log {
    /// At `points`, which rise, brings `disk` (what it was before the first event) to what a cut behind so many events
    /// leaves for certain, and hands on what may or may not be there in addition.
    pub fn at_each(
        &self,
        disk: &Path,
        points: &[usize],
        mut work: impl FnMut(usize, Instant, Uncertain<'_>) -> Result<()>,
    ) -> Result<()> {
        let file = File::options().write(true).open(disk)?;
        let (mut held, mut at) = (BTreeMap::new(), 0);
        for point in points {
            let Some((time, _)) = point.checked_sub(1).and_then(|last| self.0.get(last)) else { continue };
            for (_, event) in &self.0[at..*point] {
                match event {
                    Event::Write(first, bytes) => hold(&mut held, *first, bytes),
                    Event::Flush => put(&file, std::mem::take(&mut held).iter().map(|(at, sector)| (*at, sector)))?,
                }
            }
            at = *point;
            work(*point, *time, Uncertain(&held))?;
        }
        Ok(())
    }
}

/// What was written and not flushed when the power went.
#[derive(Debug)]
pub struct Uncertain<'a>(&'a BTreeMap<u64, Sector>);

impl Uncertain<'_> {
    /// Puts a random part of it on `disk`; returns of how many sectors it was.
    pub fn some_of_it(&self, disk: &Path, dice: &mut Dice) -> Result<usize> {
        put(&File::options().write(true).open(disk)?, survivors(self.0, dice))?;
        Ok(self.0.len())
    }
}

fn hold(held: &mut BTreeMap<u64, Sector>, first: u64, bytes: &[u8]) {
    let (sectors, _) = bytes.as_chunks::<SECTOR>();
    held.extend((first..).zip(sectors.iter().copied()));
}

const FLUSHES: u16 = 1 | 4;
const UNSUPPORTED: u32 = 0x8000_0001;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const EINVAL: u32 = 22;

fn serve(mut stream: UnixStream, state: &Mutex<State>) -> Result<()> {
    shake_hands(&mut stream, lock(state).bytes)?;
    loop {
        let mut head = [0; 28];
        stream.read_exact(&mut head)?;
        ensure!(head[..4] == 0x2560_9513_u32.to_be_bytes(), "no NBD request");
        let kind = u16::from_be_bytes([head[6], head[7]]);
        let at = u64::from_be_bytes(head[16..24].try_into()?);
        let length = u32::from_be_bytes(head[24..28].try_into()?) as usize;
        let mut bytes = vec![0; if kind == WRITE || kind == READ { length } else { 0 }];
        if kind == WRITE {
            stream.read_exact(&mut bytes)?;
        }
        if kind == DISCONNECT {
            return Ok(());
        }
        let error = {
            let mut state = lock(state);
            // Nobody hears of what is done without power.
            ensure!(!state.is_off, "the power is off");
            state.ask(kind, at, &mut bytes).map_or(EINVAL, |()| 0)
        };
        let mut reply = Vec::with_capacity(16 + bytes.len());
        reply.extend(0x6744_6698_u32.to_be_bytes());
        reply.extend(error.to_be_bytes());
        reply.extend(&head[8..16]);
        if kind == READ && error == 0 {
            reply.extend(&bytes);
        }
        stream.write_all(&reply)?;
    }
}

impl State {
    fn ask(&mut self, kind: u16, at: u64, bytes: &mut [u8]) -> Result<()> {
        let sector = at / SECTOR as u64;
        ensure!(at.is_multiple_of(SECTOR as u64) && bytes.len().is_multiple_of(SECTOR), "not whole sectors");
        ensure!(at + bytes.len() as u64 <= self.bytes, "behind the end");
        match kind {
            READ => {
                self.file.read_exact_at(bytes, at)?;
                let (sectors, _) = bytes.as_chunks_mut::<SECTOR>();
                let end = sector + sectors.len() as u64;
                for (at, held) in self.held.range(sector..end) {
                    sectors[(at - sector) as usize] = *held;
                }
            }
            WRITE => {
                hold(&mut self.held, sector, bytes);
                self.log.0.push((Instant::now(), Event::Write(sector, (&*bytes).into())));
            }
            FLUSH => {
                if !self.lies {
                    put(&self.file, std::mem::take(&mut self.held).iter().map(|(at, sector)| (*at, sector)))?;
                    self.log.0.push((Instant::now(), Event::Flush));
                }
            }
            _ => anyhow::bail!("command {kind}"),
        }
        Ok(())
    }
}

/// Until the other side takes the one export that there is.
fn shake_hands(stream: &mut UnixStream, bytes: u64) -> Result<()> {
    stream.write_all(b"NBDMAGICIHAVEOPT\0\x03")?;
    stream.read_exact(&mut [0; 4])?;
    loop {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        let option = u32::from_be_bytes(head[8..12].try_into()?);
        let mut data = vec![0; u32::from_be_bytes(head[12..16].try_into()?) as usize];
        stream.read_exact(&mut data)?;
        let mut reply = |kind: u32, data: &[u8]| -> io::Result<()> {
            stream.write_all(&0x0003_e889_0455_65a9_u64.to_be_bytes())?;
            stream.write_all(&option.to_be_bytes())?;
            stream.write_all(&kind.to_be_bytes())?;
            stream.write_all(&(data.len() as u32).to_be_bytes())?;
            stream.write_all(data)
        };
        match option {
            // Info, and go.
            6 | 7 => {
                let mut export = vec![0, 0];
                export.extend(bytes.to_be_bytes());
                export.extend(FLUSHES.to_be_bytes());
                reply(3, &export)?;
                let sizes = [SECTOR as u32, 4096, 1 << 25].map(u32::to_be_bytes).concat();
                reply(3, &[&[0, 3], sizes.as_slice()].concat())?;
                reply(1, &[])?;
                if option == 7 {
                    return Ok(());
                }
            }
            _ => reply(UNSUPPORTED, &[])?,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn state(lies: bool) -> (tempfile::NamedTempFile, State) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 * SECTOR as u64).unwrap();
        let opened = file.reopen().unwrap();
        let bytes = 64 * SECTOR as u64;
        (file, State { file: opened, bytes, held: BTreeMap::new(), log: Log::default(), lies, is_off: false })
    }

    fn on_disk(file: &Path) -> Vec<u8> {
        std::fs::read(file).unwrap().chunks(SECTOR).map(|sector| sector[0]).collect()
    }

    #[test]
    fn what_was_flushed_is_there_and_of_the_rest_some_is() {
        let (file, mut state) = state(false);
        for n in 0..32 {
            state.ask(WRITE, n * 512, &mut [1; SECTOR]).unwrap();
        }
        state.ask(FLUSH, 0, &mut []).unwrap();
        for n in 0..32 {
            state.ask(WRITE, (n + 32) * 512, &mut [2; SECTOR]).unwrap();
        }
        let mut read = [0; 2 * SECTOR];
        state.ask(READ, 31 * 512, &mut read).unwrap();
        assert_eq!((read[0], read[SECTOR]), (1, 2), "what was written is read, on the disk or not");
        let disk = Disk { state: Arc::new(Mutex::new(state)) };
        let mut some = false;
        let mut dice = Dice(7);
        let base = tempfile::NamedTempFile::new().unwrap();
        base.as_file().set_len(64 * 512).unwrap();
        let log = disk.cut(&mut dice).unwrap();
        assert_eq!(on_disk(file.path())[..32], [1; 32]);
        log.at_each(base.path(), &[1, 33, 65], |point, _, uncertain| {
            let copy = tempfile::NamedTempFile::new()?;
            std::fs::copy(base.path(), copy.path())?;
            uncertain.some_of_it(copy.path(), &mut dice)?;
            let disk = on_disk(copy.path());
            if point > 32 {
                assert_eq!(disk[..32], [1; 32]);
            }
            assert!(point > 33 || disk[33..] == [0; 31]);
            some |= point == 65 && disk[32..].contains(&2);
            Ok(())
        })
        .unwrap();
        assert!(some);
    }

    #[test]
    fn the_control_flushes_nothing() {
        let (file, mut state) = state(true);
        state.ask(WRITE, 0, &mut [1; SECTOR]).unwrap();
        state.ask(FLUSH, 0, &mut []).unwrap();
        assert_eq!(on_disk(file.path())[0], 0);
        assert_eq!(state.log.0.len(), 1);
    }
}
