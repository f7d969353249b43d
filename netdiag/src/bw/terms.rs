//! On what terms this box is a server of bandwidth tests: what the configuration says, and what is left of today.

use raven_model::config::BandwidthServer;
use raven_model::diag::bw::Limits;
use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// See the top. Without a configuration operators set limits as they like.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// `[diag.bandwidth_server]`.
    pub config: Option<BandwidthServer>,
    /// Of all servers.
    day: Arc<Mutex<Day>>,
}

impl Terms {
    /// Of which a day's bytes are kept in this file.
    pub fn new(config: Option<BandwidthServer>, file: Option<File>) -> Self {
        Self { config, day: Arc::new(Mutex::new(Day::new(file))) }
    }

    /// Whether a client at this address may ask.
    pub fn allow(&self, address: IpAddr) -> bool {
        self.config.as_ref().is_none_or(|config| config.allows(address))
    }

    /// What an operator set, and no more than the configuration.
    pub fn narrow(&self, limits: &Limits) -> Limits {
        self.config.as_ref().map_or_else(|| limits.clone(), |config| config.narrow(limits))
    }

    /// Bytes that may be moved today still; none: as many as they like.
    pub fn left_today(&self) -> Option<u64> {
        let most = self.config.as_ref()?.bytes_per_day.0;
        Some(most.saturating_sub(self.day().bytes(SystemTime::now())))
    }

    /// So many were moved.
    pub fn spend(&self, bytes: u64) {
        self.day().add(bytes, SystemTime::now());
    }

    fn day(&self) -> std::sync::MutexGuard<'_, Day> {
        self.day.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Length of what is in the file: the day and its bytes, a line of two numbers that are always as long.
const LINE: usize = 32;

/// Bytes of a day, which outlive the process in a file.
#[derive(Debug, Default)]
struct Day {
    file: Option<File>,
    /// Since 1970, UTC.
    number: u64,
    bytes: u64,
}

impl Day {
    fn new(file: Option<File>) -> Self {
        let mut line = [0; LINE];
        let read = file.as_ref().and_then(|file| file.read_exact_at(&mut line, 0).ok());
        let text = read.and_then(|()| std::str::from_utf8(&line).ok()).unwrap_or_default();
        let mut numbers = text.split_ascii_whitespace().map_while(|number| number.parse().ok());
        // What cannot be read is no day: nothing was moved on it.
        let (number, bytes) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self { file, number, bytes }
    }

    fn bytes(&mut self, now: SystemTime) -> u64 {
        let today = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
        if self.number != today {
            (self.number, self.bytes) = (today, 0);
        }
        self.bytes
    }

    fn add(&mut self, bytes: u64, now: SystemTime) {
        self.bytes = self.bytes(now).saturating_add(bytes);
        let line = format!("{:010} {:020}\n", self.number, self.bytes);
        let kept = self.file.as_ref().map(|file| file.write_all_at(line.as_bytes(), 0));
        if let Some(Err(error)) = kept {
            eprintln!("raven-worker diag: bytes of today's bandwidth tests are kept until it ends only: {error}");
            self.file = None;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;
    use std::time::Duration;

    #[test]
    fn a_days_bytes_outlive_the_process_and_end_with_the_day() {
        let mut file = tempfile::tempfile().unwrap();
        let noon = UNIX_EPOCH + Duration::from_hours(24 * 20_000 + 12);
        let mut day = Day::new(Some(file.try_clone().unwrap()));
        day.add(5, noon);
        day.add(u64::MAX, noon);
        let mut again = Day::new(Some(file.try_clone().unwrap()));
        assert_eq!((again.number, again.bytes(noon)), (20_000, u64::MAX));
        again.add(3, noon + Duration::from_hours(12));
        assert_eq!(Day::new(Some(file.try_clone().unwrap())).bytes(noon + Duration::from_hours(13)), 3);
        // Whatever is in the file.
        for garbage in [&b""[..], b"7", b"0000020000 lots\n              \n", &[0xff; 64]] {
            file.set_len(0).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            file.write_all(garbage).unwrap();
            assert_eq!(Day::new(Some(file.try_clone().unwrap())).bytes(noon), 0);
        }
    }

    #[test]
    fn what_is_left_is_of_all_servers_together() {
        let config = BandwidthServer { bytes_per_day: raven_model::units::ByteCount(10), ..BandwidthServer::default() };
        let (one, free) = (Terms::new(Some(config), None), Terms::default());
        let other = one.clone();
        one.spend(4);
        other.spend(5);
        assert_eq!((one.left_today(), free.left_today()), (Some(1), None));
        one.spend(5);
        assert_eq!(other.left_today(), Some(0));
    }
}
