//! The newest reports of the collectors, for commands that show what they saw.

use crate::client::Client;
use crate::failure::Failure;
use raven_model::control::RawStatus;
use raven_model::report::{CollectorReport, ListenerStatus};
use raven_model::stream::Stream;
use std::collections::BTreeMap;

/// Reports by stream. A stream that nobody collects has none.
#[derive(Debug, Default)]
pub struct Reports {
    /// What each collector says.
    pub collectors: BTreeMap<Stream, CollectorReport>,
    /// The sockets, as `ravend` knows them.
    pub listeners: Vec<ListenerStatus>,
    /// Reports that are missing or cannot be read, in words.
    pub unread: Vec<String>,
}

impl Reports {
    /// Asks `ravend`.
    pub fn fetch(client: &Client) -> Result<Self, Failure> {
        client.status().map(|raw| Self::of(&raw))
    }

    /// Of a status that was asked for.
    pub fn of(raw: &RawStatus) -> Self {
        let mut reports = Self { listeners: raw.own.listeners.clone(), ..Self::default() };
        for stream in Stream::ALL {
            let role = stream.collector();
            let runs =
                |process: &raven_model::report::Process| process.role == role.name() && process.state != "unwanted";
            match raw.reports.get(&role).map(|report| serde_json::from_str(report.get())) {
                Some(Ok(report)) => drop(reports.collectors.insert(stream, report)),
                Some(Err(error)) => reports.unread.push(format!("the report of {role} cannot be read: {error}")),
                None if raw.own.processes.iter().any(runs) => {
                    reports.unread.push(format!("no report from {role} yet: what it saw is not shown"));
                }
                None => {}
            }
        }
        reports
    }
}

/// Of a listener, as in the reports: `udp:[::]:514`.
pub fn name(listener: &ListenerStatus) -> String {
    format!("{}:{}", listener.proto, listener.addr)
}
