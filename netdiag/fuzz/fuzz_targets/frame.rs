//! `cargo +nightly fuzz run frame` from the folder above: frames on a wire.
#![no_main]

#[path = "../read.rs"]
mod read;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| read::frame(bytes));
