//! A tunnel from the box to an operations centre that is reached by it alone: Debian's openvpn on the image, and as server in
//! the venue's namespace.

use crate::machine::{Firmware, Lab, Medium};
use crate::network::Network;
use crate::noc::{self, Noc};
use crate::pki::Pki;
use crate::venue::{self, Remote};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Of the operations centre, behind the tunnel.
const CENTRE: &str = "10.20.0.1";

/// Profile, order and destination over SSH; records arrive, also those that came while the server was away.
pub fn openvpn(lab: &mut Lab) -> Result<()> {
    let network = lab.plug(Network::of(&[venue::GATEWAY, venue::SWITCH])?);
    venue::ran(network.command("ip").args(["addr", "add", &format!("{CENTRE}/32"), "dev", "lo"]))?;
    let noc = Noc::start(&network, lab.work())?;
    let folder = lab.work().join("pki");
    std::fs::create_dir_all(&folder)?;
    let pki = Pki::new(&folder)?;
    let mut server = Server::start(&network, &pki)?;

    let disk = lab.flashed_disk(4)?;
    let mut machine = lab.start(Firmware::Uefi, &Medium::Disk(disk))?;
    let remote = Remote::new(lab)?;
    machine.expect("Telemetry appliance")?;
    venue::set_up(&mut machine, &remote.public_key()?)?;

    remote.status()?;
    println!("{}", remote.once("vpn import noc -", &pki.profile("proto udp\nremote 10.77.0.1 1194")?)?.trim_end());
    remote.says("config confirm")?;
    remote.says("vpn enable noc")?;
    remote.says("config confirm")?;
    let old = format!("to = \"10.77.0.1:{}\"", noc::PORT);
    let text = remote.config()?;
    ensure!(text.contains(&old), "the set-up wrote no such destination:\n{text}");
    let new = text.replace(&old, &format!("to = \"{CENTRE}:{}\"\nvia = \"vpn\"", noc::PORT));
    remote.once("config put -", &new)?;
    let tunnel = up(&remote)?;
    println!("  {tunnel}");
    ensure!(tunnel["addresses"] == serde_json::json!(["10.8.77.2/24"]), "{tunnel}");

    arrives(&network, &noc, "through the tunnel")?;
    server.end();
    std::thread::sleep(Duration::from_secs(5));
    send(&network, "while it is away")?;
    std::thread::sleep(Duration::from_secs(5));
    ensure!(!noc.received().contains("while it is away"), "it was not sent through the tunnel");
    server = Server::start(&network, &pki)?;
    arrives(&network, &noc, "after it is back")?;
    ensure!(noc.received().contains("while it is away"), "what waited was lost");
    drop(server);
    machine.power_off()
}

/// What the box says of the tunnel once pings are answered in it.
fn up(remote: &Remote) -> Result<Value> {
    venue::eventually("the tunnel is up and pings are answered", || {
        let tunnel = remote.status()?["vpn"][0].clone();
        ensure!(tunnel["state"] == "up" && tunnel["rtt_ms"].is_number(), "{tunnel}");
        Ok(tunnel)
    })
}

fn send(network: &Network, text: &str) -> Result<()> {
    let to = format!("{}:514", venue::BOX[0]).parse()?;
    network.send(venue::SWITCH.trim_end_matches("/24"), to, &[format!("<13>{text}")])
}

fn arrives(network: &Network, noc: &Noc, text: &str) -> Result<()> {
    venue::eventually(text, || {
        send(network, text)?;
        std::thread::sleep(Duration::from_secs(1));
        ensure!(noc.received().contains(text), "`{text}` did not come");
        Ok(())
    })
}

struct Server(Child);

impl Server {
    fn start(network: &Network, pki: &Pki) -> Result<Self> {
        let mut server = network.command("openvpn");
        server.args(pki.server("tun7", "udp", 1194, 77));
        let quiet = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(quiet.spawn().context("openvpn (package openvpn)")?))
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
