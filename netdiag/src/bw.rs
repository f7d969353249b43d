//! How much gets through: iperf3's protocol, as its client and as its server, so that the other end may be any iperf3.
//!
//! There is one control connection, over which both ends say where they are ([`protocol::State`]), what is to be done
//! ([`params::Params`]) and what came of it ([`results::Results`]), and as many streams of data as are wanted.
//!
//! ```text
//! client                          server
//!   ── cookie, 37 bytes ─────────▶
//!   ◀───────────── ParamExchange ──
//!   ── length, JSON ─────────────▶
//!   ◀───────────── CreateStreams ──
//!   ══ each stream: cookie ══════▶     (UDP: a datagram, and one back)
//!   ◀──── TestStart, TestRunning ──
//!   ══ data, either way ══════════
//!   ── TestEnd ──────────────────▶
//!   ◀─────────── ExchangeResults ──
//!   ── length, JSON ─────────────▶
//!   ◀─────────────── length, JSON ──
//!   ◀──────────── DisplayResults ──
//!   ── Done ─────────────────────▶
//! ```
//!
//! [`protocol`], [`params`], [`results`], [`datagram`], [`pace`] and [`meter`] are pure. [`stream`] moves the bytes: a thread for each
//! stream, which blocks, and takes no memory once it runs; [`flow`] is all of them. [`client`] and [`server`] own control connections.
//!
//! What it never does:
//! * believe a length, a number or a count of the other end: each has a bound ([`protocol::JSON_MAX`], [`params::Params::plan`]);
//! * wait without an end: each step of the other end has its time ([`control::STEP`]);
//! * serve two clients at a time.

pub mod client;
pub mod control;
pub mod datagram;
pub mod flow;
pub mod meter;
pub mod pace;
pub mod params;
pub mod protocol;
pub mod results;
pub mod server;
pub mod stream;
pub mod terms;

use crate::failure::Failure;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Measurements at a time, servers among them: each has up to 64 threads.
pub const TESTS: usize = 4;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// A place among [`TESTS`].
struct Place;

impl Place {
    fn take() -> Result<Self, Failure> {
        let place = Self;
        if RUNNING.fetch_add(1, Ordering::Relaxed) >= TESTS {
            return Err(Failure::Refused(format!("{TESTS} measurements run already: wait for one of them")));
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}
