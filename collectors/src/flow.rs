//! The flow collector: NetFlow, IPFIX and sFlow over UDP, IPFIX over TCP (`framing.rs`).
//!
//! Every datagram is kept as it came, whatever it is. It is looked at for three things only:
//!
//! 1. **Context**: templates and sampling rates are learned and put into each batch before the first record that needs
//!    them (`inspect.rs`, `learn.rs`; [`context`] has their form), so that each block can be read by itself.
//! 2. **Loss**: each exporter's own count is followed (`audit.rs`, `sources.rs`).
//! 3. **The inbox**: what cannot be read, and what an operator can do about it (`inbox.rs`).
//!
//! Times of templates are of the monotonic clock, since this collector's start: a step of the wall clock expires
//! nothing. A template that came back from the store counts as sent at that moment.

mod audit;
pub mod context;
mod framing;
mod inbox;
pub mod inspect;
mod learn;
mod recall;
mod report;
mod sources;

use crate::receiver::Kind;
use framing::IpfixFraming;
use inspect::FlowInspect;
use raven_jail::receive::{CollectorMemory, Framing, Inspect};
use raven_model::config::Config;
use raven_model::control::{Listener, ListenerId, Start};
use raven_model::report::CollectorReport;
use std::collections::BTreeMap;

/// What is particular to flow telemetry.
pub struct Flow {
    framing: IpfixFraming,
    inspect: FlowInspect,
}

impl Flow {
    /// As configured.
    pub fn new(start: &Start) -> Self {
        let config = start.config.as_ref().map(|config| config.collect.flow.clone()).unwrap_or_default();
        Self { framing: IpfixFraming, inspect: FlowInspect::new(&config) }
    }
}

impl Kind for Flow {
    fn parts(&mut self) -> (&dyn Framing, &mut dyn Inspect) {
        (&self.framing, &mut self.inspect)
    }

    fn configure(&mut self, config: &Config) {
        self.inspect.configure(&config.collect.flow);
    }

    fn report(
        &mut self,
        report: &mut CollectorReport,
        _: &CollectorMemory,
        listeners: &BTreeMap<ListenerId, Listener>,
    ) {
        self.inspect.report(report, listeners);
    }
}
