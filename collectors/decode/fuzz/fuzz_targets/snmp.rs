//! `cargo +nightly fuzz run snmp` from the folder above: any datagram, for a receiver that knows the seeds' keys.
#![no_main]

#[path = "../snmp_receiver.rs"]
mod snmp_receiver;

use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

thread_local! {
    /// Made once: a password costs a million hashed bytes.
    static RECEIVER: RefCell<snmp_receiver::Receiver> = RefCell::new(snmp_receiver::Receiver::new());
}

fuzz_target!(|raw: &[u8]| {
    RECEIVER.with_borrow_mut(|receiver| receiver.look(raw));
});
