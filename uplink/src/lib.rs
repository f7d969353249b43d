//! Delivery: takes records from the ring and hands them to destinations until those acknowledge.
//!
//! What it never does:
//! * move a cursor before the destination acknowledged (at least once: after a restart it sends again what was not);
//! * let one destination wait for another: each has its own task, connection and cursor, and holds at most its window
//!   and one block;
//! * trust an answer: everything that comes from a destination is bounded;
//! * write to the ring, or read below the fence that the store sets before it evicts.
//!
//! Start with [`lanes`] (what is sent next) and [`feed`] (one lane of a destination and stream), then [`relp`], [`http`]
//! and their neighbours (how they are spoken to), then
//! [`progress`] (what is acknowledged) and [`attempt`] (when it is tried again).

pub mod attempt;
pub mod cursors;
pub mod dead;
mod desk;
pub mod envelope;
pub mod feed;
pub mod fleet;
pub mod http;
pub mod informs;
pub mod lanes;
mod link;
pub mod metrics;
pub mod nats;
pub mod ndjson;
mod net;
mod orders;
pub mod otlp;
pub mod pacer;
pub mod progress;
mod proto;
mod proxy;
pub mod reader;
pub mod relp;
pub mod remote_write;
pub mod ring;
pub mod secrets;
pub mod session;
pub mod sim;
pub mod source;
pub mod standing;
pub mod syslog;
mod text;
mod tls;
pub mod udp;
mod uplink;
mod wait;

pub use uplink::{Uplink, UplinkError};
