//! `cargo +nightly fuzz run certificate` from the folder above: certificates (DER).
#![no_main]

#[path = "../read.rs"]
mod read;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| read::certificate(bytes));
