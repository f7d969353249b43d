//! `cargo +nightly fuzz run message` from the folder above: messages of DNS.
#![no_main]

#[path = "../read.rs"]
mod read;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| read::message(bytes));
