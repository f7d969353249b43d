//! `cargo +nightly fuzz run params` from the folder above: what an iperf3 says, JSON and datagrams.
#![no_main]

#[path = "../read.rs"]
mod read;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| read::params(bytes));
