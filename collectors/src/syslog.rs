//! The syslog collector: UDP datagrams (RFC 5426) and TCP streams (RFC 6587). Nothing is looked at.

use crate::framing::SyslogFraming;
use crate::receiver::Kind;
use raven_jail::receive::{Blind, Framing, Inspect};
use raven_model::config::Config;
use raven_model::control::Start;

/// What is particular to syslog.
pub struct Syslog {
    framing: SyslogFraming,
    blind: Blind,
}

impl Syslog {
    /// As configured.
    pub fn new(start: &Start) -> Self {
        let limit = start.config.as_ref().map_or(1 << 16, |config| limit(config));
        Self { framing: SyslogFraming { limit }, blind: Blind }
    }
}

impl Kind for Syslog {
    fn parts(&mut self) -> (&dyn Framing, &mut dyn Inspect) {
        (&self.framing, &mut self.blind)
    }

    fn configure(&mut self, config: &Config) {
        self.framing.limit = limit(config);
    }
}

const fn limit(config: &Config) -> usize {
    config.collect.syslog.message_limit.0 as usize
}
