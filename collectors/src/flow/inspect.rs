//! The look at each datagram. In steady state (templates known and in this batch) it allocates nothing and asks one
//! small table per datagram and one list per data set.

use super::audit::{ONE_BY_ONE, RECORDS, has_restarted};
use super::inbox::{Inbox, Reason};
use super::learn::Happened;
use super::recall::Recalled;
use super::sources::{Mark, SourceKey, Sources, fixed_records};
use raven_decode::flow::elements::Type;
use raven_decode::flow::fields::Flow;
use raven_decode::flow::netflow5::Legacy;
use raven_decode::flow::sampling::Sampling;
use raven_decode::flow::scan::{Header, Scan, Version, scan};
use raven_decode::flow::sets::{Family, Message, Set, SetKind, VARIABLE};
use raven_decode::flow::sflow::{Part, SampleKind, Sflow};
use raven_decode::flow::template::{FieldSpec, Template, TemplateKind};
use raven_decode::flow::templates::{self, Exporter, Scope, TemplateKey, Templates};
use raven_decode::flow::{Limits, Reject};
use raven_jail::receive::{Arrived, Contexts, Inspect, Verdict};
use raven_model::config::CollectFlow;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Sets of a datagram that may stand before their template; more than any datagram has.
const UNRESOLVED: usize = 128;

/// Time since the collector's start.
#[derive(Debug, Clone, Copy)]
enum Clock {
    Real(Instant),
    /// Of tests.
    Set(Duration),
}

/// What a data set holds.
#[derive(Debug, Clone, Copy)]
struct Data {
    records: u32,
    options: bool,
}

/// What is learned from flow datagrams, and what looks at them.
#[derive(Debug)]
pub struct FlowInspect {
    clock: Clock,
    /// As of the batch's begin.
    pub(super) now: Duration,
    expired_at: Duration,
    /// The batch under way, and the datagram; counted from 1.
    pub(super) batch: u64,
    pub(super) datagram: u64,
    exporter_port: bool,
    pub(super) configured: HashMap<IpAddr, u64>,
    pub(super) templates: Templates,
    pub(super) sampling: Sampling,
    pub(super) sources: Sources,
    pub(super) inbox: Inbox,
    /// What became of templates in the set being looked at.
    pub(super) events: Vec<Happened>,
    /// Templates whose new meaning goes out behind the datagram that brought it.
    pub(super) owed: Vec<TemplateKey>,
    pub(super) recalled: Recalled,
}

impl FlowInspect {
    /// As configured.
    pub fn new(config: &CollectFlow) -> Self {
        Self {
            clock: Clock::Real(Instant::now()),
            now: Duration::ZERO,
            expired_at: Duration::ZERO,
            batch: 0,
            datagram: 0,
            exporter_port: config.exporter_port,
            configured: configured(config),
            templates: Templates::new(limits(config)),
            sampling: Sampling::default(),
            sources: Sources::default(),
            inbox: Inbox::default(),
            events: Vec::new(),
            owed: Vec::new(),
            recalled: Recalled::default(),
        }
    }

    /// The configuration has changed. With another meaning of `exporter_port` exporters are learned anew; what was
    /// known under the other one stays until it expires.
    pub fn configure(&mut self, config: &CollectFlow) {
        self.configured = configured(config);
        let (events, recalled) = (&mut self.events, &mut self.recalled);
        self.templates.set_config(limits(config), |event| events.push(recalled.happened(&event)));
        self.forget_marks();
        if self.exporter_port != config.exporter_port {
            self.exporter_port = config.exporter_port;
            self.sources = Sources::default();
        }
    }

    /// Stops the clock at a time since the start, for tests.
    pub const fn set_time(&mut self, now: Duration) {
        self.clock = Clock::Set(now);
    }

    /// The templates that are known.
    pub const fn templates(&self) -> &Templates {
        &self.templates
    }

    pub(super) const fn exporter(&self, source: SocketAddr) -> Exporter {
        if self.exporter_port { Exporter::with_port(source.ip(), source.port()) } else { Exporter::new(source.ip()) }
    }

    /// Brings times up to date: no batch may have begun for long.
    pub(super) fn tick(&mut self) {
        self.now = match self.clock {
            Clock::Real(start) => start.elapsed(),
            Clock::Set(now) => now,
        };
        if self.now.saturating_sub(self.expired_at) >= Duration::from_secs(1) {
            self.expired_at = self.now;
            self.expire();
        }
    }

    /// What all headers say.
    fn greet(&mut self, place: usize, header: &Header, arrived: &Arrived<'_>) {
        let (source, sampled) = self.sources.at(place);
        source.came(arrived.wall);
        if let Some(export_ms) = header.export_ms {
            source.skew_ms = Some(export_ms.cast_signed().saturating_sub((arrived.wall.0 / 1_000_000).cast_signed()));
        }
        if let Some(uptime_ms) = header.uptime_ms {
            if source.uptime_ms.is_some_and(|before| has_restarted(before, uptime_ms)) {
                source.restarted(sampled);
            }
            source.uptime_ms = Some(uptime_ms);
        }
    }

    fn legacy(&mut self, place: usize, legacy: &Legacy<'_>, arrived: &Arrived<'_>) {
        let records = fixed_records(&Scan::Legacy(*legacy));
        let source = self.sources.at(place).0;
        source.records += u64::from(records);
        source.header_rate = legacy.header.sampling.map(u64::from).filter(|rate| *rate > 0);
        if let Some(sequence) = legacy.header.sequence {
            source.audit.arrived(sequence, Some(records), RECORDS);
        }
        if legacy.trailing() > 0 {
            self.fault(place, Reject::Trailing { bytes: legacy.trailing() }, arrived);
        }
    }

    fn sflow(&mut self, place: usize, sflow: &Sflow<'_>, arrived: &Arrived<'_>) {
        let (source, sampled) = self.sources.at(place);
        if let Some(sequence) = sflow.header.sequence {
            source.audit.arrived(sequence, Some(1), ONE_BY_ONE);
        }
        let mut fault = None;
        for part in sflow.samples() {
            match part {
                Ok(Part::Sample(sample)) => {
                    source.records += 1;
                    let kind = match sample.kind {
                        SampleKind::Flow { sampling, .. } => {
                            source.header_rate = Some(sampling.into()).filter(|rate| *rate > 0);
                            0
                        }
                        SampleKind::Counters => 1,
                        SampleKind::Drop { .. } => 2,
                    };
                    source.sample(sample.source, kind, sample.sequence, sampled);
                }
                Ok(Part::Unknown(..)) => source.undescribed += 1,
                Err(reject) => fault = Some(reject),
            }
        }
        if let Some(reject) = fault {
            self.fault(place, reject, arrived);
        }
    }

    fn sets(
        &mut self,
        place: usize,
        exporter: Exporter,
        message: &Message<'_>,
        arrived: &Arrived<'_>,
        contexts: &mut Contexts,
    ) {
        let scope = Scope { exporter, family: message.family, domain: message.domain };
        let (mut unresolved, mut undescribed, mut taught, mut fault) = (0_u128, 0, false, message.length_fault());
        let (mut flows, mut options) = (0_u32, 0_u32);
        let mut count = |data: Data| *(if data.options { &mut options } else { &mut flows }) += data.records;
        for (n, set) in message.sets().enumerate() {
            match set {
                Err(reject) => fault = fault.or(Some(reject)),
                Ok(set) if set.kind == SetKind::Data => {
                    match self.data(place, scope, &set, &message.header, arrived, contexts) {
                        Some(data) => count(data),
                        None if n < UNRESOLVED => unresolved |= 1 << n,
                        None => undescribed += 1,
                    }
                }
                Ok(set) if set.kind == SetKind::Reserved => {}
                Ok(set) => {
                    taught = true;
                    fault = fault.or(self.learn(place, scope, &set, arrived, contexts).err());
                }
            }
        }
        // Sets that stand before their template.
        let late = message.sets().enumerate().take(if unresolved == 0 { 0 } else { UNRESOLVED });
        for set in late.filter_map(|(n, set)| set.ok().filter(|_| unresolved & 1 << n != 0)) {
            let data = if taught { self.data(place, scope, &set, &message.header, arrived, contexts) } else { None };
            if let Some(data) = data {
                count(data);
            } else {
                undescribed += 1;
                self.miss(place, set.id, arrived);
            }
        }
        if flows > 0 || options > 0 {
            self.add_rates(place, scope, arrived, contexts);
        }
        let source = self.sources.at(place).0;
        source.records += u64::from(flows);
        source.undescribed += undescribed;
        if let Some(sequence) = message.header.sequence {
            if message.header.version == Version::V9 {
                source.audit.arrived(sequence, Some(1), ONE_BY_ONE);
            } else {
                let whole = undescribed == 0 && fault.is_none();
                source.audit.arrived(sequence, whole.then_some(flows.saturating_add(options)), RECORDS);
            }
        }
        if let Some(reject) = fault {
            self.fault(place, reject, arrived);
        }
    }

    /// A data set: none where its template is not known.
    #[inline]
    fn data(
        &mut self,
        place: usize,
        scope: Scope,
        set: &Set<'_>,
        header: &Header,
        arrived: &Arrived<'_>,
        contexts: &mut Contexts,
    ) -> Option<Data> {
        let (batch, datagram) = (self.batch, self.datagram);
        if let Some(mark) = self.sources.at(place).0.mark(set.id)
            && mark.batch == batch
            && mark.size > 0
            && !mark.options
            && !mark.nested
        {
            mark.used = datagram;
            return Some(Data { records: set.body.len() as u32 / u32::from(mark.size), options: false });
        }
        self.described(place, scope, set, header, arrived, contexts)
    }

    /// A data set of a template that is not in the batch yet, or whose records have to be looked at.
    fn described(
        &mut self,
        place: usize,
        scope: Scope,
        set: &Set<'_>,
        header: &Header,
        arrived: &Arrived<'_>,
        contexts: &mut Contexts,
    ) -> Option<Data> {
        let template = self.templates.find(scope, set.id, self.now)?;
        let source = self.sources.at(place).0;
        let mark = source.make_mark(set.id);
        mark.used = self.datagram;
        if mark.batch != self.batch && !mark.owed {
            mark_as(mark, template);
            let key = TemplateKey { scope, id: set.id };
            if super::learn::add_template(contexts, &key, template.definition(), arrived.wall) {
                mark.batch = self.batch;
            }
        }
        let (options, nested) = (mark.options, mark.nested);
        if options {
            for record in template.records(set.body) {
                if self.sampling.learn_record(scope.exporter, scope.domain, &record) {
                    source.rates_in = 0;
                }
            }
        } else if source.looked != self.now.as_secs() + 1
            && let Some(record) = template.records(set.body).next()
        {
            let flow = Flow::read(&record, header);
            source.looked = self.now.as_secs() + 1;
            (source.record_rate, source.sampler) = (flow.sampling.filter(|rate| *rate > 0), flow.sampler_id);
        }
        let data = Data { records: template.count(set.body) as u32, options };
        if nested && source.nested_in != self.batch {
            source.nested_in = self.batch;
            self.add_nested(place, scope, arrived, contexts);
        }
        Some(data)
    }

    /// A data set whose template has not come.
    fn miss(&mut self, place: usize, id: u16, arrived: &Arrived<'_>) {
        let source = self.sources.at(place).0;
        let since = source.missing.get_or_insert((id, self.now)).1;
        let waited = self.now.saturating_sub(since);
        if waited >= super::report::PATIENCE {
            self.inbox.note(Reason::NoTemplate, waited.as_secs(), arrived);
        }
    }

    fn fault(&mut self, place: usize, reject: Reject, arrived: &Arrived<'_>) {
        let reason = Reason::of(&reject, arrived.raw);
        let faults = &mut self.sources.at(place).0.faults[reason as usize];
        *faults = faults.saturating_add(1);
        self.inbox.note(reason, 0, arrived);
    }
}

/// Notes of a template what is needed of it in steady state.
pub(super) fn mark_as(mark: &mut Mark, template: &Template) {
    mark.options = template.kind() == TemplateKind::Options;
    let is_list = |field: &FieldSpec| matches!(field.kind, Type::SubTemplateList | Type::SubTemplateMultiList);
    mark.nested = template.family() == Family::Ipfix && template.fields().iter().any(is_list);
    let fixed = template.fields().iter().all(|field| field.length != VARIABLE);
    mark.size = if fixed { u16::try_from(template.min_len()).unwrap_or(0) } else { 0 };
}

impl Inspect for FlowInspect {
    fn recall(&mut self, snapshot: &[u8]) {
        self.tick();
        self.take_back(snapshot);
    }

    fn begin(&mut self) {
        self.batch += 1;
        self.tick();
    }

    fn inspect(&mut self, arrived: &Arrived<'_>, contexts: &mut Contexts) -> Verdict {
        self.datagram += 1;
        if !self.owed.is_empty() {
            self.pay(arrived, contexts);
        }
        let scan = match scan(arrived.raw) {
            Ok(scan) => scan,
            Err(reject) => {
                let detail = if let Reject::Version(version) = reject { version.into() } else { 0 };
                self.inbox.note(Reason::of(&reject, arrived.raw), detail, arrived);
                return Verdict::Keep;
            }
        };
        let exporter = self.exporter(arrived.source);
        let place = self.sources.place(&SourceKey::new(exporter, scan.header()));
        self.greet(place, scan.header(), arrived);
        match &scan {
            Scan::Legacy(legacy) => self.legacy(place, legacy, arrived),
            Scan::Sets(message) => self.sets(place, exporter, message, arrived, contexts),
            Scan::Sflow(sflow) => self.sflow(place, sflow, arrived),
        }
        Verdict::Keep
    }
}

fn limits(config: &CollectFlow) -> templates::Config {
    let limits = Limits {
        per_exporter: config.templates_per_exporter as usize,
        total: config.templates as usize,
        bytes_per_exporter: 8 << 20,
        bytes: 64 << 20,
    };
    templates::Config { limits, lifetime: config.template_lifetime.0 }
}

fn configured(config: &CollectFlow) -> HashMap<IpAddr, u64> {
    let rates = config.sampling.iter();
    rates.filter_map(|(addr, rate)| Some((addr.parse::<IpAddr>().ok()?.to_canonical(), u64::from(*rate)))).collect()
}
