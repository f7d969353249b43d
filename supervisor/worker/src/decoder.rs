//! From stored bytes to what they say: the decoders of all streams, and what some of them need to know besides the
//! record: templates and sampling rates (from the context in the blocks), SNMP users, names of OIDs.

use crate::flows::Flows;
use raven_decode::snmp::{Names, Users};
use raven_decode::{metrics, snmp, winevent};
use raven_model::alert::AlertRecord;
use raven_model::diag::schedule::DiagRecord;
use raven_model::query::Json;
use raven_model::record::{Context, Record};
use raven_model::stream::Stream;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;

/// What decoders know besides the ring, shared by all clients.
pub struct Knowledge {
    /// `DIR/ring`.
    pub ring: PathBuf,
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

impl Decoder {
    /// For the stream of that name.
    pub fn new(stream: &str, knowledge: Rc<Knowledge>) -> Self {
        Self { knowledge, stream: Stream::named(stream), flows: Flows::default() }
    }

    /// A block begins. It brings the context that its records need.
    pub fn block(&mut self) {
        self.flows.block();
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
            Some(Stream::Metrics) => {
                let reading = metrics::decode(record.raw);
                (reading.metric.as_ref().and_then(Json::of), reading.reject.map(|reject| reject.to_string()))
            }
            Some(Stream::Host) => match raven_decode::host::decode(record.raw) {
                Ok(sample) => (Json::of(&sample), None),
                Err(why) => (None, Some(why)),
            },
            Some(Stream::Alert) => match AlertRecord::read(record.raw) {
                Ok(alert) => (Json::of(&alert), None),
                Err(why) => (None, Some(why)),
            },
            Some(Stream::Diag) => match DiagRecord::read(record.raw) {
                Ok(result) => (Json::of(&result), None),
                Err(why) => (None, Some(why)),
            },
            None => (None, Some("no decoder for this stream".to_owned())),
        };
        let refused = || "refused when it came: its sender or its credentials were not allowed".to_owned();
        (decoded, reject.or_else(|| received.is_refused().then(refused)))
    }
}
