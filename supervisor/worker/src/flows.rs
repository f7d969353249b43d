//! Datagrams of flows with what is needed to read them: templates and sampling rates, from the context that the blocks
//! bring, else from the stream's table. Shared by those who show datagrams and those who count what is in them.

use crate::decoder::{Decoded, Knowledge};
use raven_buffer::ContextTable;
use raven_decode::flow::Reject;
use raven_decode::flow::decode::TemplateSource;
use raven_decode::flow::sampling::{SamplerKey, Sampling};
use raven_decode::flow::scan::{Scan, scan};
use raven_decode::flow::sets::{Family, SetKind};
use raven_decode::flow::show::{View, to_json};
use raven_decode::flow::template::Template;
use raven_decode::flow::templates::{Exporter, Scope, TemplateKey};
use raven_model::query::Json;
use raven_model::record::{Context, Record};
use raven_model::units::UnixNanos;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;

/// Key of a template's context: this, then [`TemplateKey::to_bytes`].
const TEMPLATE: u8 = b't';
/// Key of a sampling rate's context: this, then [`SamplerKey::to_bytes`].
const SAMPLER: u8 = b's';
/// Templates, and exporters with rates, remembered from block to block: a block brings those that its records need.
const TEMPLATES_KEPT: usize = 4096;

/// What exporters said about their records, as far as the blocks were read.
#[derive(Default)]
pub struct Flows {
    templates: HashMap<TemplateKey, Template>,
    /// Templates that the blocks so far did not bring: from the stream's table, with the definition they come from.
    others: HashMap<TemplateKey, Template>,
    sampling: Sampling,
    /// Those of whom a rate is known, as they were told apart when it came.
    sampled: HashSet<Exporter>,
    /// Read when it is needed first.
    table: Option<ContextTable>,
}

impl Flows {
    /// A block begins. It brings the context that its records need.
    pub fn block(&mut self) {
        if self.templates.len() > TEMPLATES_KEPT {
            self.templates.clear();
        }
        if self.sampled.len() > TEMPLATES_KEPT {
            self.sampled.clear();
        }
    }

    /// Takes in context.
    pub fn context(&mut self, context: &Context<'_>) {
        match context.key.split_first() {
            Some((&TEMPLATE, key)) => {
                let Some(key) = TemplateKey::from_bytes(key) else { return };
                match Template::compile(context.value) {
                    Ok(template) => drop(self.templates.insert(key, template)),
                    // Withdrawn, or nothing that can be read.
                    Err(_) => drop(self.templates.remove(&key)),
                }
            }
            Some((&SAMPLER, key)) => {
                let rate = <[u8; 8]>::try_from(context.value).ok().map(u64::from_le_bytes);
                if let Some((key, rate)) = SamplerKey::from_bytes(key).zip(rate) {
                    self.sampling.restore(key, rate);
                    self.sampled.insert(key.exporter);
                }
            }
            _ => {}
        }
    }

    /// Looks over a datagram and finds the templates that it needs.
    pub fn open<'a>(&mut self, record: &Record<'a>, ring: &Path) -> Result<Scan<'a>, Reject> {
        let scan = scan(record.raw)?;
        if let Scan::Sets(message) = &scan {
            let exporters = exporters(record.received.source);
            for set in message.sets().flatten().filter(|set| set.kind == SetKind::Data) {
                let key = |exporter| {
                    let scope = Scope { exporter, family: message.family, domain: message.domain };
                    TemplateKey { scope, id: set.id }
                };
                let keys = exporters.map(key);
                if !keys.iter().any(|key| self.templates.contains_key(key)) {
                    self.look_up(&keys, record.received.wall, ring);
                }
            }
        }
        Ok(scan)
    }

    /// The definitions that a record needs and its block has not brought so far, each with its key, as far as the
    /// stream's table has them.
    pub fn missing(&mut self, record: &Record<'_>, ring: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.others.clear();
        if self.open(record, ring).is_err() {
            return Vec::new();
        }
        let others = std::mem::take(&mut self.others);
        let with_key = |(key, template): (TemplateKey, Template)| {
            ([&[TEMPLATE][..], &key.to_bytes()].concat(), template.definition().to_vec())
        };
        others.into_iter().map(with_key).collect()
    }

    /// A block begins that is to be read by itself.
    pub fn forget_blocks(&mut self) {
        self.templates.clear();
    }

    /// What was in force then, or came first after it: data can come before its template.
    fn look_up(&mut self, keys: &[TemplateKey; 2], wall: UnixNanos, ring: &Path) {
        let table = self.table.get_or_insert_with(|| ContextTable::load(ring, "flow").unwrap_or_default());
        for key in keys {
            let full = [&[TEMPLATE][..], &key.to_bytes()].concat();
            match table.at(&full, wall) {
                Some(definition) if self.others.get(key).is_some_and(|known| known.definition() == definition) => {}
                Some(definition) => {
                    if let Ok(template) = Template::compile(definition) {
                        self.others.insert(*key, template);
                    }
                }
                None => drop(self.others.remove(key)),
            }
        }
    }

    /// The templates that are known of a sender.
    pub fn templates(&self, source: SocketAddr) -> impl TemplateSource {
        Both { flows: self, exporters: exporters(source) }
    }

    /// What else is known of a sender.
    pub fn view(&self, source: SocketAddr, knowledge: &Knowledge) -> View<'_> {
        let configured = knowledge.sampling.borrow().get(&source.ip()).copied();
        let [plain, with_port] = exporters(source);
        let exporter = if self.sampled.contains(&with_port) { with_port } else { plain };
        View { exporter: Some(exporter), sampling: Some(&self.sampling), configured }
    }

    /// A datagram as JSON.
    pub fn decode(&mut self, record: &Record<'_>, knowledge: &Knowledge) -> Decoded {
        if let Err(reject) = self.open(record, &knowledge.ring) {
            return (None, Some(reject.to_string()));
        }
        let source = record.received.source;
        let mut out = String::new();
        match to_json(record.raw, &self.view(source, knowledge), &self.templates(source), &mut out) {
            Ok(shown) => {
                let faults = (shown.faults > 0).then(|| format!("{} parts of it could not be read", shown.faults));
                let waiting =
                    (shown.undescribed > 0).then(|| format!("{} data sets have no template", shown.undescribed));
                (Json::parse(&out), faults.or(waiting))
            }
            Err(reject) => (None, Some(reject.to_string())),
        }
    }
}

/// Whichever way exporters were told apart when it came.
fn exporters(source: SocketAddr) -> [Exporter; 2] {
    [Exporter::new(source.ip()), Exporter::with_port(source.ip(), source.port())]
}

/// What the blocks brought, else what the table knows.
struct Both<'f> {
    flows: &'f Flows,
    exporters: [Exporter; 2],
}

impl TemplateSource for Both<'_> {
    fn template(&self, family: Family, domain: u32, id: u16) -> Option<&Template> {
        let key = |exporter| TemplateKey { scope: Scope { exporter, family, domain }, id };
        let keys = self.exporters.map(key);
        let of = |known: &'_ HashMap<TemplateKey, Template>, key: &TemplateKey| known.contains_key(key);
        let from = |known| keys.iter().find(|key| of(known, key)).and_then(|key| known.get(key));
        from(&self.flows.templates).or_else(|| from(&self.flows.others))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_decode::flow::flows::flows;
    use raven_model::record::Received;

    const SOURCE: &str = "192.0.2.1:40000";
    /// Octets (4 bytes), by the sampler (2 bytes) that took them.
    const DEFINITION: [u8; 16] = [0, 2, 0, 16, 1, 0, 0, 2, 0, 1, 0, 4, 0, 48, 0, 2];
    /// IPFIX of domain 1: a data set of template 256 with one record.
    const DATA: [u8; 26] = [0, 10, 0, 26, 0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0, 1, 1, 0, 0, 10, 0, 0, 5, 220, 0, 7];

    /// Bytes and rate of a flow.
    type Told = (Option<u64>, Option<u64>);

    /// The flows, and how many data sets have no template.
    fn seen(known: &mut Flows, knowledge: &Knowledge) -> (Vec<Told>, u64) {
        let source = SOURCE.parse().unwrap();
        let record = Record { received: Received::new(source, 1, UnixNanos(1)), raw: &DATA };
        let scan = known.open(&record, &knowledge.ring).unwrap();
        let mut all = Vec::new();
        let rest = flows(
            &scan,
            &known.view(source, knowledge),
            &known.templates(source),
            &mut |seen| all.push((seen.flow.bytes, seen.rate.rate)),
            &mut |_| {},
        );
        (all, rest.undescribed)
    }

    #[test]
    fn templates_and_rates_of_the_context_count_whichever_way_exporters_were_told_apart() {
        for exporter in exporters(SOURCE.parse().unwrap()) {
            let mut known = Flows::default();
            let knowledge = Knowledge::new("/nonexistent".into());
            assert_eq!(seen(&mut known, &knowledge), (Vec::new(), 1), "without its template");
            let scope = Scope { exporter, family: Family::Ipfix, domain: 1 };
            let template = [&[TEMPLATE][..], &TemplateKey { scope, id: 256 }.to_bytes()].concat();
            let sampler = SamplerKey { exporter, domain: 1, id: Some(7) };
            let sampler = [&[SAMPLER][..], &sampler.to_bytes()].concat();
            known.context(&Context { key: &template, value: &DEFINITION });
            known.context(&Context { key: &sampler, value: &1000_u64.to_le_bytes() });
            assert_eq!(seen(&mut known, &knowledge), (vec![(Some(1500), Some(1000))], 0), "{exporter:?}");
        }
    }
}
