//! `[diag.bandwidth_server]`: who may measure bandwidth with this box as the other end, and how much of its link that takes.
//! The firewall lets those through; whether anybody listens is up to operators (`raven bw --server`).

use super::check::{bytes, span};
use super::error::Flaw;
use super::schedule::BitRate;
use crate::diag::bw::{BandwidthTest, Limits, PORT};
use crate::prefix::Prefix;
use crate::units::{ByteCount, Span};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::Duration;

/// Most prefixes: each is two rules of the firewall.
const PREFIXES: usize = 64;

/// `[diag.bandwidth_server]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BandwidthServer {
    /// Where it listens, TCP and UDP.
    pub port: u16,
    /// Who may; nobody else is let in.
    pub allow: Vec<Prefix>,
    /// Most bits a second in each direction, all streams together.
    pub rate: Option<BitRate>,
    /// The longest test.
    pub time: Span,
    /// The most bytes of a test, both directions together.
    pub bytes: Option<ByteCount>,
    /// The most bytes of all tests of a day (UTC), both directions together.
    pub bytes_per_day: ByteCount,
}

impl Default for BandwidthServer {
    fn default() -> Self {
        Self {
            port: PORT,
            allow: Vec::new(),
            rate: None,
            time: Span(Duration::from_mins(1)),
            bytes: None,
            bytes_per_day: ByteCount(20 << 30),
        }
    }
}

impl BandwidthServer {
    /// Whether it may ask.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|prefix| prefix.holds(address))
    }

    /// What an operator set, and no more than this.
    pub fn narrow(&self, limits: &Limits) -> Limits {
        let less = |ours: Option<u64>, theirs: Option<u64>| ours.into_iter().chain(theirs).min();
        Limits {
            rate: less(self.rate.map(|rate| rate.0), limits.rate),
            seconds: u32::try_from(self.time.0.as_secs()).unwrap_or(u32::MAX).min(limits.seconds),
            bytes: less(self.bytes.map(|bytes| bytes.0), limits.bytes),
            allowed: limits.allowed.clone(),
        }
    }

    /// What the types cannot say.
    pub(super) fn flaws(&self) -> Vec<Flaw> {
        let path = |key| ["diag", "bandwidth_server", key];
        let mut flaws = Vec::new();
        if self.port == 0 {
            flaws.push(Flaw::new(&path("port"), "`port` is 0".to_owned(), "a number from 1 to 65535"));
        }
        if !(1..=PREFIXES).contains(&self.allow.len()) {
            let message = format!("`allow` has {} entries", self.allow.len());
            flaws.push(Flaw::new(
                &path("allow"),
                message,
                format!("1 to {PREFIXES} networks such as `\"10.20.0.0/16\"`"),
            ));
        }
        if self.rate.is_some_and(|rate| rate.0 == 0) {
            flaws.push(Flaw::new(&path("rate"), "`rate` is 0".to_owned(), "a rate such as `\"100M\"`"));
        }
        let longest = Duration::from_secs(BandwidthTest::SECONDS.into());
        flaws.extend(span(&path("time"), self.time, Duration::from_secs(1), longest));
        flaws.extend(self.bytes.and_then(|most| bytes(&path("bytes"), most, 1, u64::MAX >> 1)));
        flaws.extend(bytes(&path("bytes_per_day"), self.bytes_per_day, 1, u64::MAX >> 1));
        flaws
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::config::Config;
    use crate::diag::bw::Limits;

    fn of(text: &str) -> Result<Config, String> {
        let text = format!("schema = 1\n[diag.bandwidth_server]\n{text}");
        Config::from_toml(&text, "test.toml").map_err(|errors| format!("{errors:?}"))
    }

    #[test]
    fn an_operator_may_ask_for_less_than_the_configuration_and_for_no_more() {
        let config = of("allow = ['10.0.0.0/8']\nrate = '50M'\ntime = '10s'").unwrap();
        let server = config.diag.bandwidth_server.unwrap();
        assert!(server.allows([10, 1, 2, 3].into()) && !server.allows([192, 0, 2, 1].into()));
        let narrowed = server.narrow(&Limits { rate: None, seconds: 60, bytes: Some(7), allowed: Vec::new() });
        assert_eq!((narrowed.rate, narrowed.seconds, narrowed.bytes), (Some(50_000_000), 10, Some(7)));
        let narrowed = server.narrow(&Limits { rate: Some(1), seconds: 3, bytes: None, allowed: Vec::new() });
        assert_eq!((narrowed.rate, narrowed.seconds, narrowed.bytes), (Some(1), 3, None));
    }

    #[test]
    fn who_may_must_be_said() {
        for (text, why) in [
            ("port = 5201", "1 to 64 networks"),
            ("allow = []", "1 to 64 networks"),
            ("allow = ['10.0.0.0/8']\nport = 0", "1 to 65535"),
            ("allow = ['10.0.0.0/8']\ntime = '2h'", "1s to 1h"),
            ("allow = ['10.0.0.0/8']\nbytes_per_day = 0", "`bytes_per_day` is"),
            ("allow = ['10.0.0.0/8']\nrate = '0M'", "a rate such as"),
            ("allow = ['ten']", "a network such as"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
