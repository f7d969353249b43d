//! What every part of Raven must agree on: typed configuration, the record as it lies in memory and in the ring,
//! the messages between processes, what the operator is shown, and the process table.
//!
//! This crate does no I/O and holds no `unsafe`. Start with [`record`] (one syslog line as it is kept), then
//! [`table`] (which process may do what), then [`control`] (what they say to each other).

pub mod alert;
pub mod archive;
pub mod calendar;
pub mod config;
pub mod control;
pub mod delivery;
pub mod diag;
pub mod firewall;
pub mod hex;
pub mod host;
pub mod icmp;
pub mod install;
pub mod neighbour;
pub mod news;
pub mod prefix;
pub mod query;
pub mod record;
pub mod report;
pub mod services;
pub mod signature;
pub mod stream;
pub mod table;
pub mod text;
pub mod tunnel;
pub mod units;
pub mod update;
pub mod vpn;
