//! The fuzz targets' inputs, replayed with a stable compiler: seeds, and each of them with bytes changed, left out and doubled.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../fuzz/read.rs"]
mod read;

use std::path::Path;

/// Changes of each input.
const CHANGES: u64 = 400;

/// Inputs of a target; at least four, so that an empty folder does not pass.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let inputs: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(inputs.len() >= 4, "{} inputs of {target}", inputs.len());
    inputs
}

fn replay(target: &str, read: fn(&[u8])) {
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |most: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice >> 8) as usize % most.max(1)
    };
    for input in inputs(target) {
        read(&input);
        (0..input.len()).for_each(|n| read(&input[..n]));
        for _ in 0..CHANGES {
            let mut changed = input.clone();
            for _ in 0..=roll(4) {
                let at = roll(changed.len());
                match roll(4) {
                    0 => changed.insert(at, roll(256) as u8),
                    1 if !changed.is_empty() => drop(changed.remove(at)),
                    2 => changed.extend_from_within(at..),
                    _ => changed.iter_mut().skip(at).take(1).for_each(|byte| *byte = roll(256) as u8),
                }
            }
            read(&changed);
        }
    }
}

#[test]
fn every_message_of_dns_is_read_or_refused() {
    replay("message", read::message);
}

#[test]
fn every_response_of_http_is_the_same_in_whatever_pieces_it_comes() {
    replay("response", read::response);
}

#[test]
fn every_packet_of_ntp_counts_once_at_most() {
    replay("packet", read::packet);
}

#[test]
fn every_word_of_an_iperf3_is_read_or_refused() {
    replay("params", read::params);
}

#[test]
fn every_certificate_is_described_in_bounds() {
    replay("certificate", read::certificate);
}

#[test]
fn every_answer_and_error_of_icmp_is_what_it_is() {
    replay("icmp", read::icmp);
}

#[test]
fn every_frame_is_read_or_is_malformed() {
    replay("frame", read::frame);
    // Those that answer something are such.
    let of = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frame").join(name);
        read::answer(&std::fs::read(path).unwrap()[1..])
    };
    let holders = |name: &str| of(name).gateways.iter().map(|gateway| gateway.holders.len()).collect::<Vec<_>>();
    assert_eq!((holders("arp"), holders("neighbour"), of("offer").offers.len()), (vec![1, 0], vec![0, 1], 1));
}
