//! What the heartbeat says of exporters and of the inbox. Bounded, so that it stays far below one packet of the control
//! channel: 64 exporters and 64 items of a few hundred bytes each.

use super::inbox::Reason;
use super::inspect::FlowInspect;
use super::sources::Source;
use raven_decode::flow::sampling::SamplingSource;
use raven_decode::flow::scan::Version;
use raven_decode::flow::templates::Scope;
use raven_model::control::{Listener, ListenerId};
use raven_model::report::{CollectorReport, Exporter, InboxItem};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Most exporters in a heartbeat.
const EXPORTERS: usize = 64;
/// How long data sets wait for their template before an operator is told.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The templates of one domain.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    templates: u32,
    newest: Duration,
    refresh: Option<Duration>,
}

impl FlowInspect {
    /// Adds exporters, the busiest since the last report first, and the inbox.
    pub fn report(&mut self, report: &mut CollectorReport, listeners: &BTreeMap<ListenerId, Listener>) {
        self.tick();
        report.exporters_evicted = self.sources.evicted;
        report.inbox = self.inbox.items().iter().map(|item| inbox_item(item, listeners)).collect();
        let told = self.told();
        let mut sources: Vec<&mut Source> = self.sources.iter_mut().collect();
        sources.sort_unstable_by_key(|source| std::cmp::Reverse((source.datagrams - source.reported, source.seen.0)));
        let now = self.now;
        for source in &mut sources {
            source.reported = source.datagrams;
        }
        let busiest: Vec<&Source> = sources.into_iter().take(EXPORTERS).map(|source| &*source).collect();
        report.exporters = busiest
            .into_iter()
            .map(|source| {
                let rate = rate(source, &self.sampling, &self.configured);
                exporter(source, told.get(&scope_of(source)).copied(), now, rate)
            })
            .collect();
    }

    fn told(&self) -> HashMap<Scope, Told> {
        let mut all: HashMap<Scope, Told> = HashMap::new();
        for (key, entry) in self.templates.iter() {
            let told = all.entry(key.scope).or_default();
            told.templates += 1;
            if entry.last_seen >= told.newest {
                told.newest = entry.last_seen;
                told.refresh = entry.refresh.or(told.refresh);
            }
        }
        all
    }
}

fn scope_of(source: &Source) -> Scope {
    use raven_decode::flow::sets::Family;
    let family = if source.key.version == Version::V9 { Family::V9 } else { Family::Ipfix };
    Scope { exporter: source.key.exporter, family, domain: source.key.domain }
}

fn exporter(
    source: &Source,
    told: Option<Told>,
    now: Duration,
    (sampling, sampling_source): (Option<u64>, SamplingSource),
) -> Exporter {
    let key = &source.key;
    let told = told.filter(|_| matches!(key.version, Version::V9 | Version::Ipfix));
    let (lost, lost_unit) = source.lost();
    let faults = Reason::ALL.into_iter().map(|reason| (reason.name().to_owned(), source.faults[reason as usize]));
    Exporter {
        source: match key.exporter.port {
            0 => key.exporter.addr.to_string(),
            port => std::net::SocketAddr::new(key.exporter.addr, port).to_string(),
        },
        version: key.version.name().to_owned(),
        domain: key.domain,
        datagrams: source.datagrams,
        records: source.records,
        templates: told.map_or(0, |told| told.templates),
        template_age_s: told.map(|told| now.saturating_sub(told.newest).as_secs()),
        template_refresh_s: told.and_then(|told| told.refresh).map(|refresh| refresh.as_secs()),
        undescribed: source.undescribed,
        sampling,
        sampling_source: sampling_source.name().to_owned(),
        lost,
        lost_unit: lost_unit.to_owned(),
        reordered: source.audit.reordered,
        resets: source.audit.resets,
        clock_skew_ms: source.skew_ms,
        malformed: faults.filter(|(_, count)| *count > 0).map(|(name, count)| (name, count.into())).collect(),
        last_seen_ns: source.seen,
    }
}

/// 1 in how many packets, and who says so: the record, else options, else the header, else the operator.
fn rate(
    source: &Source,
    sampling: &raven_decode::flow::sampling::Sampling,
    configured: &HashMap<std::net::IpAddr, u64>,
) -> (Option<u64>, SamplingSource) {
    let key = &source.key;
    let options = || {
        let of_domain = sampling.rate(key.exporter, key.domain, source.sampler);
        // Without a look at a flow the sampler is not known: any of the domain shows how it samples.
        let any = || sampling.of(&key.exporter).find(|(sampler, _)| sampler.domain == key.domain);
        of_domain.or_else(|| any().map(|(_, rate)| rate))
    };
    let has_options = matches!(key.version, Version::V9 | Version::Ipfix);
    let ways = [
        (source.record_rate, SamplingSource::Record),
        (has_options.then(options).flatten(), SamplingSource::Options),
        (source.header_rate, SamplingSource::Header),
        (configured.get(&key.exporter.addr).copied(), SamplingSource::Configured),
    ];
    let found = ways.into_iter().find(|(rate, _)| rate.is_some());
    found.unwrap_or((None, SamplingSource::Unknown))
}

fn inbox_item(item: &super::inbox::Item, listeners: &BTreeMap<ListenerId, Listener>) -> InboxItem {
    InboxItem {
        stream: "flow".to_owned(),
        source: item.source.to_string(),
        listener: listeners.get(&item.listener).map(Listener::name).unwrap_or_default(),
        reason: item.reason.name().to_owned(),
        count: item.count,
        first_seen_ns: item.first,
        last_seen_ns: item.last,
        first_bytes: item.first_bytes(),
        remedy: item.reason.remedy(item.detail),
    }
}
