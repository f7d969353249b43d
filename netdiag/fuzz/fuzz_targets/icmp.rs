//! `cargo +nightly fuzz run icmp` from the folder above: answers and errors of ICMP, behind four bytes that say which.
#![no_main]

#[path = "../read.rs"]
mod read;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| read::icmp(bytes));
