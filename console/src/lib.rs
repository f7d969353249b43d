//! `raven`: what an operator types on the console, over SSH or in a script.
//!
//! It talks to `ravend` over `DIR/run/control` and, for stored records, to the jailed `decode` role over a connection
//! that `ravend` hands on. It opens no file of the ring and parses no message: records arrive as JSON lines. Whatever
//! strangers wrote is escaped before it reaches a terminal ([`escape`]).
//!
//! Start with [`cli`] (the commands), then [`client`] (the protocol), then [`status`].

pub mod accept;
pub mod alerts;
pub mod archive;
pub mod audit;
pub mod cli;
pub mod client;
pub mod config;
pub mod dead;
pub mod diag;
pub mod escape;
pub mod export;
pub mod factory_reset;
pub mod failure;
pub mod flows;
pub mod health;
pub mod import;
pub mod inbox;
pub mod load;
pub mod manual;
pub mod net;
pub mod output;
pub mod progress;
pub mod reports;
pub mod ring;
pub mod search;
pub mod session;
pub mod shown;
mod silence;
pub mod sources;
pub mod status;
pub mod support;
pub mod tail;
pub mod time;
pub mod traps;
pub mod tui;
pub mod update;
pub mod uplink;
pub mod vpn;
pub mod why;
mod words;
