//! `cargo +nightly fuzz run packet` from the folder above: packets of NTP.
#![no_main]

#[path = "../read.rs"]
mod read;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| read::packet(bytes));
