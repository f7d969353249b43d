//! `cargo +nightly fuzz run response` from the folder above: responses of HTTP.
#![no_main]

#[path = "../read.rs"]
mod read;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| read::response(bytes));
