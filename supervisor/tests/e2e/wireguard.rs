//! Debian's wireguard-go as far end of a tunnel, and a box whose tunnel ends there.

use crate::eventually;
use crate::machine::ip;
use crate::venue::{CENTRE, Far, Venue, command_in};
use crate::wg::Keys;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Whether all is there.
pub fn is_possible() -> bool {
    let programs = ["/usr/bin/wireguard-go", "/usr/bin/wg"].iter().all(|program| Path::new(program).exists());
    if !programs {
        eprintln!("not run: needs wireguard-go and wireguard-tools");
    }
    programs && crate::venue::is_possible()
}

/// The far end: at 10.8.9.1 and fd00:8:9::1, whose peer is at `.2`, at the port of the tests.
pub struct WireGuard {
    name: String,
    device: String,
    pub config: PathBuf,
    child: Option<Child>,
}

/// The box's profile.
pub fn profile(keys: &Keys, endpoint: &str) -> String {
    let behind = "10.8.9.1/32, fd00:8:9::1/128, 10.20.0.0/16, fd00:20::/64";
    keys.profile("10.8.9.2/24, fd00:8:9::2/64", endpoint, behind).unwrap()
}

impl WireGuard {
    pub fn new(venue: &Venue, keys: &Keys) -> Self {
        let config = venue.pki.path("far.conf");
        fs::write(&config, keys.far_end(1194, "10.8.9.2/32, fd00:8:9::2/128").unwrap()).unwrap();
        let device = format!("wgfar{}", std::process::id() % 100_000);
        let mut far = Self { name: venue.cable.names[1].clone(), device, config, child: None };
        far.start();
        far
    }

    fn socket(&self) -> PathBuf {
        Path::new("/run/wireguard").join(format!("{}.sock", self.device))
    }
}

impl Far for WireGuard {
    fn start(&mut self) {
        // Of one that was killed.
        drop(fs::remove_file(self.socket()));
        let mut command = command_in(&self.name, "wireguard-go");
        self.child = Some(command.args(["-f", &self.device]).env("LOG_LEVEL", "error").spawn().unwrap());
        eventually("the far end takes orders", || self.socket().exists());
        let set = Command::new("wg").args(["setconf", &self.device]).arg(&self.config).status().unwrap();
        assert!(set.success());
        for address in ["10.8.9.1/24", "fd00:8:9::1/64 nodad"] {
            ip(&format!("-n {} addr add {address} dev {}", self.name, self.device));
        }
        ip(&format!("-n {} link set {} up", self.name, self.device));
    }

    fn child(&mut self) -> &mut Option<Child> {
        &mut self.child
    }
}

impl Drop for WireGuard {
    fn drop(&mut self) {
        self.kill();
        drop(fs::remove_file(self.socket()));
    }
}

/// A box whose only tunnel ends there, and records that are delivered through it.
pub fn venue(test: &str, endpoint: &str) -> (Venue, WireGuard, Keys) {
    let (venue, keys) = (Venue::bare(test), Keys::new().unwrap());
    let far = WireGuard::new(&venue, &keys);
    venue.import_text("noc", &profile(&keys, endpoint), &[]);
    venue.enable("noc");
    venue.configure(|text| text.replace("[vpn]\n", "[vpn]\nnetworks = [\"10.20.0.0/16\"]\n"));
    venue.deliver();
    assert!(fs::read_to_string(venue.raven.plan.config()).unwrap().contains(CENTRE));
    (venue, far, keys)
}
