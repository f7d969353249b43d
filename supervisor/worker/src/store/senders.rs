//! Who sends, and who has stopped: what the rule `source_silent` is held against.
//!
//! A sender is **regular** when it has sent for `regular` without a pause as long as `after`, and **silent** when such a
//! one then pauses that long. When it comes back it must earn that again: one that sends now and then is never regular,
//! so it is never told of. Time counts only while the store runs, by a clock that nobody sets: a box that was off for a
//! night finds nobody silent.
//!
//! Bounded: [`SENDERS_MAX`] senders; those that are not regular make room first, then whoever was quiet for longest. Kept
//! in `ring/senders`, replaced whole once a minute; what a crash forgets of it makes silence up to a minute longer.

use anyhow::Context;
use raven_model::config::Silence;
use raven_model::record::Frames;
use raven_model::report::{SilenceReport, SilentSource};
use raven_model::stream::Stream;
use raven_model::units::UnixNanos;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Senders that are remembered.
const SENDERS_MAX: usize = 4096;
/// Silent ones that are named in a report: more than are ever told of one by one.
const NAMED_MAX: usize = 64;
/// How often they are saved.
const SAVE_EVERY: Duration = Duration::from_mins(1);
/// A sender that was silent for so long is forgotten: it was taken away.
const FORGET_AFTER: Duration = Duration::from_hours(30 * 24);
/// Senders that are looked up once in a second at most, by their address's low bits.
const RECENT: usize = 1024;

/// When a sender was heard, in seconds that the store has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Heard {
    /// Since then it never paused for long.
    steady_since: u64,
    /// Last.
    last: u64,
    /// The same by the wall clock.
    last_ns: UnixNanos,
}

/// As it lies on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    /// Seconds that the store had run.
    ran: u64,
    senders: Vec<(Stream, IpAddr, Heard)>,
}

/// All senders.
#[derive(Debug)]
pub(super) struct Senders {
    path: PathBuf,
    began: Instant,
    /// Seconds that stores ran before this one.
    ran_before: u64,
    heard: HashMap<(Stream, IpAddr), Heard>,
    recent: Vec<Option<(Stream, IpAddr, u64)>>,
    saved_at: Instant,
    complained: bool,
}

impl Senders {
    /// As they were saved; nobody where that cannot be read.
    pub fn open(ring: &Path) -> Self {
        let path = ring.join("senders");
        let saved: Saved = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let now = Instant::now();
        Self {
            path,
            began: now,
            ran_before: saved.ran,
            heard: saved.senders.into_iter().map(|(stream, addr, heard)| ((stream, addr), heard)).collect(),
            recent: vec![None; RECENT],
            saved_at: now,
            complained: false,
        }
    }

    fn clock(&self, now: Instant) -> u64 {
        self.ran_before + now.saturating_duration_since(self.began).as_secs()
    }

    /// Takes in who sent the records of a batch.
    pub fn note(&mut self, stream: Stream, frames: &[u8], silence: &Silence, now: Instant) {
        // What the appliance says of itself is no sender.
        if matches!(stream, Stream::Host | Stream::Alert | Stream::Diag) {
            return;
        }
        let (clock, mut last) = (self.clock(now), None);
        for frame in Frames::new(frames).map_while(Result::ok).filter(|frame| frame.received.is_record()) {
            let addr = frame.received.source.ip();
            if last == Some(addr) {
                continue;
            }
            last = Some(addr);
            let place = &mut self.recent[low_bits(addr) % RECENT];
            if *place != Some((stream, addr, clock)) {
                *place = Some((stream, addr, clock));
                self.hear(stream, addr, frame.received.wall, silence, clock);
            }
        }
    }

    fn hear(&mut self, stream: Stream, addr: IpAddr, wall: UnixNanos, silence: &Silence, clock: u64) {
        let key = (stream, addr);
        if let Some(heard) = self.heard.get_mut(&key) {
            if clock.saturating_sub(heard.last) >= allowed(silence, addr) {
                heard.steady_since = clock;
            }
            (heard.last, heard.last_ns) = (clock, wall);
            return;
        }
        if silence.ignore.iter().any(|prefix| prefix.holds(addr)) {
            return;
        }
        if self.heard.len() >= SENDERS_MAX {
            self.make_room(silence);
        }
        self.heard.insert(key, Heard { steady_since: clock, last: clock, last_ns: wall });
    }

    /// Forgets a sixteenth, so that a flood of made-up senders costs little each.
    fn make_room(&mut self, silence: &Silence) {
        let mut order: Vec<_> =
            self.heard.iter().map(|(key, heard)| (is_regular(heard, silence), heard.last, *key)).collect();
        order.sort_unstable_by_key(|(regular, last, _)| (*regular, *last));
        for (_, _, key) in order.into_iter().take(SENDERS_MAX / 16) {
            self.heard.remove(&key);
        }
    }

    /// Who is silent.
    pub fn report(&mut self, silence: &Silence, now: Instant) -> SilenceReport {
        let clock = self.clock(now);
        self.heard.retain(|(_, addr), heard| {
            clock.saturating_sub(heard.last) < FORGET_AFTER.as_secs()
                && !silence.ignore.iter().any(|prefix| prefix.holds(*addr))
        });
        let regular: Vec<_> = self.heard.iter().filter(|(_, heard)| is_regular(heard, silence)).collect();
        let mut silent: Vec<_> = regular
            .iter()
            .filter(|((_, addr), heard)| clock.saturating_sub(heard.last) >= allowed(silence, *addr))
            .collect();
        silent.sort_unstable_by_key(|(key, heard)| (heard.last, **key));
        let named = silent.iter().take(NAMED_MAX).map(|((stream, source), heard)| SilentSource {
            stream: stream.name().to_owned(),
            source: *source,
            last_ns: heard.last_ns,
            silent_s: clock.saturating_sub(heard.last),
        });
        SilenceReport {
            known: self.heard.len() as u64,
            regular: regular.len() as u64,
            silent: silent.len() as u64,
            longest: named.collect(),
        }
    }

    /// Saves them when it is time or `at_once`.
    pub fn save(&mut self, now: Instant, at_once: bool) {
        if !at_once && now.saturating_duration_since(self.saved_at) < SAVE_EVERY {
            return;
        }
        self.saved_at = now;
        let result = self.write(now);
        // A full disk says so elsewhere.
        if let Err(error) = &result
            && !self.complained
        {
            eprintln!("raven-worker store: {error:#}");
        }
        self.complained = result.is_err();
    }

    fn write(&self, now: Instant) -> anyhow::Result<()> {
        let mut senders: Vec<_> = self.heard.iter().map(|((stream, addr), heard)| (*stream, *addr, *heard)).collect();
        senders.sort_unstable_by_key(|(stream, addr, heard)| (Reverse(heard.last), *stream, *addr));
        let text = serde_json::to_vec(&Saved { ran: self.clock(now), senders })?;
        let new = self.path.with_extension("new");
        let mut file = File::create(&new).with_context(|| format!("cannot make {}", new.display()))?;
        file.write_all(&text)
            .and_then(|()| file.sync_data())
            .with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, &self.path).with_context(|| format!("cannot replace {}", self.path.display()))
    }
}

fn low_bits(addr: IpAddr) -> usize {
    match addr {
        IpAddr::V4(v4) => v4.to_bits() as usize,
        IpAddr::V6(v6) => v6.to_bits() as usize,
    }
}

/// Regular once, regular until it comes back after a pause.
fn is_regular(heard: &Heard, silence: &Silence) -> bool {
    heard.last.saturating_sub(heard.steady_since) >= silence.regular.as_secs()
}

/// How long it may be silent, seconds.
fn allowed(silence: &Silence, addr: IpAddr) -> u64 {
    let own = silence.sources.iter().find(|(prefix, _)| prefix.holds(addr));
    own.map_or(silence.after, |(_, span)| *span).as_secs()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::record::{FRAME_MAX, Received, write_frame};

    fn silence() -> Silence {
        Silence {
            after: Duration::from_secs(10),
            regular: Duration::from_secs(30),
            storm: 10,
            ignore: vec!["10.9.0.0/16".parse().unwrap()],
            sources: vec![("10.1.0.0/16".parse().unwrap(), Duration::from_secs(100))],
        }
    }

    fn frames(addrs: &[&str]) -> Vec<u8> {
        let mut all = Vec::new();
        for addr in addrs {
            let mut frame = vec![0; FRAME_MAX];
            let received = Received::new((addr.parse::<IpAddr>().unwrap(), 514).into(), 1, UnixNanos(7));
            let len = write_frame(&mut frame, &received, b"x").unwrap();
            all.extend_from_slice(&frame[..len]);
        }
        all
    }

    /// Hears `addr` at each of these seconds.
    fn hear(senders: &mut Senders, addr: &str, seconds: impl IntoIterator<Item = u64>) {
        for second in seconds {
            let at = senders.began + Duration::from_secs(second);
            senders.note(Stream::Syslog, &frames(&[addr, addr]), &silence(), at);
        }
    }

    fn silent(senders: &mut Senders, second: u64) -> Vec<String> {
        let report = senders.report(&silence(), senders.began + Duration::from_secs(second));
        report.longest.iter().map(|source| source.source.to_string()).collect()
    }

    #[test]
    fn only_who_sent_regularly_is_missed_and_only_until_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut senders = Senders::open(dir.path());
        hear(&mut senders, "192.0.2.1", (0..=40).step_by(5));
        hear(&mut senders, "192.0.2.2", [0, 40]);
        assert_eq!(silent(&mut senders, 49), [""; 0]);
        assert_eq!(silent(&mut senders, 50), ["192.0.2.1"], "the other one was never regular");
        hear(&mut senders, "192.0.2.1", [60]);
        assert_eq!(silent(&mut senders, 61), [""; 0]);
        assert_eq!(silent(&mut senders, 90), [""; 0], "it must be regular anew");
    }

    #[test]
    fn prefixes_say_who_may_be_silent_for_longer_and_who_is_not_watched() {
        let dir = tempfile::tempdir().unwrap();
        let mut senders = Senders::open(dir.path());
        hear(&mut senders, "10.1.0.1", (0..=40).step_by(5));
        hear(&mut senders, "10.9.0.1", (0..=40).step_by(5));
        assert_eq!(silent(&mut senders, 139), [""; 0]);
        assert_eq!(silent(&mut senders, 140), ["10.1.0.1"]);
        assert_eq!(senders.report(&silence(), senders.began).known, 1);
    }

    #[test]
    fn a_restart_forgets_nobody_and_the_time_between_is_no_silence() {
        let dir = tempfile::tempdir().unwrap();
        let mut senders = Senders::open(dir.path());
        hear(&mut senders, "192.0.2.1", (0..=40).step_by(5));
        senders.save(senders.began + Duration::from_secs(45), true);
        let mut senders = Senders::open(dir.path());
        assert_eq!(silent(&mut senders, 4), [""; 0], "5 s before, 4 s now");
        assert_eq!(silent(&mut senders, 5), ["192.0.2.1"]);
    }

    #[test]
    fn a_flood_of_senders_is_bounded_and_drives_no_regular_one_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut senders = Senders::open(dir.path());
        hear(&mut senders, "192.0.2.1", (0..=40).step_by(5));
        for n in 0..3 * SENDERS_MAX as u32 {
            let addr = IpAddr::from((0x0b00_0000 + n).to_be_bytes());
            senders.hear(Stream::Syslog, addr, UnixNanos(1), &silence(), 41);
        }
        assert!(senders.heard.len() <= SENDERS_MAX);
        assert_eq!(silent(&mut senders, 60), ["192.0.2.1"]);
    }

    #[test]
    fn the_appliance_itself_is_no_sender() {
        let dir = tempfile::tempdir().unwrap();
        let mut senders = Senders::open(dir.path());
        senders.note(Stream::Host, &frames(&["127.0.0.1"]), &silence(), senders.began);
        assert!(senders.heard.is_empty());
    }
}
