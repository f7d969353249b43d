//! `cargo +nightly fuzz run profile fuzz/corpus tests/data/valid tests/data/wireguard` from the folder above: any
//! bytes. What is taken is written anew and read again as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raven_profile::{Options, Profile, openvpn, read};

fuzz_target!(|bytes: &[u8]| {
    let options = Options::stored(1_780_272_000);
    let Some(mut profile) = read(bytes, &options).profile else { return };
    if let Profile::OpenVpn(profile) = &mut profile {
        profile.wishes = openvpn::Wishes::default();
    }
    let again = read(profile.to_config().expose().as_bytes(), &options);
    assert_eq!(again.profile, Some(profile), "{}", again.report);
});
