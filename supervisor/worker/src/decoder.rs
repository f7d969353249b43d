//! From stored bytes to what they say: the decoders of all streams, and what some of them need to know besides the
//! record: templates and sampling rates (from the context in the blocks), SNMP users, names of OIDs.

use raven_buffer::ContextTable;
use raven_decode::flow::decode::TemplateSource;
use raven_decode::flow::sampling::{SamplerKey, Sampling};
use raven_decode::flow::scan::{Scan, scan};
use raven_decode::flow::sets::{Family, SetKind};
use raven_decode::flow::show::{View, to_json};
use raven_decode::flow::template::Template;
use raven_decode::flow::templates::{Exporter, Scope, TemplateKey};
use raven_decode::snmp::{Names, Users};
use raven_decode::{snmp, winevent};
use raven_model::query::Json;
use raven_model::record::{Context, Record};
use raven_model::stream::Stream;
use raven_model::units::UnixNanos;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Key of a template's context: this, then [`TemplateKey::to_bytes`].
const TEMPLATE: u8 = b't';
/// Key of a sampling rate's context: this, then [`SamplerKey::to_bytes`].
const SAMPLER: u8 = b's';
/// Templates remembered from block to block: a block brings those that its records need.
const TEMPLATES_KEPT: usize = 4096;

/// What decoders know besides the ring, shared by all clients.
pub struct Knowledge {
    /// `DIR/ring`.
    ring: PathBuf,
    /// SNMPv3 users; a cache of keys within.
    pub users: RefCell<Users>,
    /// Names of OIDs.
    pub names: RefCell<Names>,
    /// Sampling rates that the operator states.
    pub sampling: RefCell<BTreeMap<IpAddr, u64>>,
}

impl Knowledge {
    /// Nothing but standard names.
    pub fn new(ring: PathBuf) -> Rc<Self> {
        Rc::new(Self {
            ring,
            users: RefCell::default(),
            names: RefCell::new(Names::standard()),
            sampling: RefCell::default(),
        })
    }
}

/// What was read from a record: the fields, and why they are not all there.
pub type Decoded = (Option<Json>, Option<String>);

/// Decodes the records of one stream, in the order in which they lie in their blocks.
pub struct Decoder {
    knowledge: Rc<Knowledge>,
    stream: Option<Stream>,
    flows: Flows,
}

#[derive(Default)]
struct Flows {
    templates: HashMap<TemplateKey, Template>,
    /// Templates that the blocks so far did not bring: from the stream's table, with the definition they come from.
    others: HashMap<TemplateKey, Template>,
    sampling: Sampling,
    /// Read when it is needed first.
    table: Option<ContextTable>,
}

impl Decoder {
    /// For the stream of that name.
    pub fn new(stream: &str, knowledge: Rc<Knowledge>) -> Self {
        Self { knowledge, stream: Stream::named(stream), flows: Flows::default() }
    }

    /// A block begins. It brings the context that its records need.
    pub fn block(&mut self) {
        if self.flows.templates.len() > TEMPLATES_KEPT {
            self.flows.templates.clear();
        }
    }

    /// Takes in context.
    pub fn context(&mut self, context: &Context<'_>) {
        if self.stream == Some(Stream::Flow) {
            self.flows.context(context);
        }
    }

    /// Reads a record.
    pub fn decode(&mut self, record: &Record<'_>) -> Decoded {
        let received = &record.received;
        if received.is_unparsed() {
            return (None, Some("a collector died twice over it: not looked at".to_owned()));
        }
        let (decoded, reject) = match self.stream {
            Some(Stream::Syslog) => {
                let reading = raven_decode::syslog(record.raw, received.wall);
                (Json::of(&reading.syslog), reading.reject.map(|reject| reject.to_string()))
            }
            Some(Stream::Flow) => self.flows.decode(record, &self.knowledge),
            Some(Stream::Trap) => {
                let (mut users, names) = (self.knowledge.users.borrow_mut(), self.knowledge.names.borrow());
                let reading = snmp::decode(record.raw, &mut users, &names);
                (reading.trap.as_ref().and_then(Json::of), reading.reject.map(|reject| reject.to_string()))
            }
            Some(Stream::Winevent) => {
                let reading = winevent::decode(record.raw);
                (Json::of(&reading.event), reading.reject.map(|reject| reject.to_string()))
            }
            Some(Stream::Host) => match raven_decode::host::decode(record.raw) {
                Ok(sample) => (Json::of(&sample), None),
                Err(why) => (None, Some(why)),
            },
            None => (None, Some("no decoder for this stream".to_owned())),
        };
        let refused = || "refused when it came: its sender or its credentials were not allowed".to_owned();
        (decoded, reject.or_else(|| received.is_refused().then(refused)))
    }
}

impl Flows {
    fn context(&mut self, context: &Context<'_>) {
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
                }
            }
            _ => {}
        }
    }

    fn decode(&mut self, record: &Record<'_>, knowledge: &Knowledge) -> Decoded {
        let source = record.received.source;
        // Whichever way exporters were told apart when it came.
        let exporters = [Exporter::new(source.ip()), Exporter::with_port(source.ip(), source.port())];
        match scan(record.raw) {
            Ok(Scan::Sets(message)) => {
                let known = |set: &raven_decode::flow::sets::Set<'_>| {
                    let key = |exporter| {
                        let scope = Scope { exporter, family: message.family, domain: message.domain };
                        TemplateKey { scope, id: set.id }
                    };
                    exporters.map(key)
                };
                for set in message.sets().flatten().filter(|set| set.kind == SetKind::Data) {
                    let keys = known(&set);
                    if !keys.iter().any(|key| self.templates.contains_key(key)) {
                        self.look_up(&keys, record.received.wall, &knowledge.ring);
                    }
                }
            }
            Ok(_) => {}
            Err(reject) => return (None, Some(reject.to_string())),
        }
        let configured = knowledge.sampling.borrow().get(&source.ip()).copied();
        let view = View { exporter: Some(exporters[0]), sampling: Some(&self.sampling), configured };
        let mut out = String::new();
        match to_json(record.raw, &view, &Both { flows: self, exporters }, &mut out) {
            Ok(shown) => {
                let faults = (shown.faults > 0).then(|| format!("{} parts of it could not be read", shown.faults));
                let waiting =
                    (shown.undescribed > 0).then(|| format!("{} data sets have no template", shown.undescribed));
                (Json::parse(&out), faults.or(waiting))
            }
            Err(reject) => (None, Some(reject.to_string())),
        }
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
