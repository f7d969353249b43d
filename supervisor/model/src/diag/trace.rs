//! Traces that go on, and what they tell.

use super::Hop;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How long a trace is repeated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Watch {
    /// Seconds, 1 to [`Watch::SECONDS`]; without it until the connection is closed.
    pub seconds: Option<u32>,
}

impl Watch {
    /// Longest, seconds: a week.
    pub const SECONDS: u32 = 7 * 24 * 60 * 60;
}

/// A round of all flows is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceRound {
    /// Which, from 1.
    pub round: u32,
    /// The target answered in it, by one flow at least.
    pub reached: bool,
    /// As of [`super::TraceResult::path_hash`].
    pub path_hash: String,
    /// What is known of each hop since the beginning.
    pub hops: Vec<Hop>,
}

/// A flow goes another way than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathChanged {
    /// In which round that was seen, from 1.
    pub round: u32,
    /// Which flow, from 0.
    pub flow: u8,
    /// The first hop that is another one, from 1.
    pub hop: u8,
    /// The way before.
    pub from: FlowPath,
    /// The way now.
    pub to: FlowPath,
}

/// The way of one flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowPath {
    /// Of the hops, 16 hex digits.
    pub hash: String,
    /// Who answered at each hop, the first hop first; nothing for who answered nothing.
    pub hops: Vec<Option<IpAddr>>,
}
