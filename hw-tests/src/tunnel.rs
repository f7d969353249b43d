//! A tunnel from the box to an operations centre that is reached by it alone: Debian's openvpn on the image, and as server in
//! the venue's namespace; or the image's kernel, and wireguard-go in the namespace.

use crate::machine::{Firmware, Lab, Medium};
use crate::network::Network;
use crate::noc::{self, Noc};
use crate::pki::Pki;
use crate::venue::{self, Remote};
use crate::wg::Keys;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Of the operations centre, behind the tunnel.
const CENTRE: &str = "10.20.0.1";

/// By OpenVPN, over UDP.
pub fn openvpn(lab: &mut Lab) -> Result<()> {
    let folder = lab.work().join("pki");
    std::fs::create_dir_all(&folder)?;
    let pki = Pki::new(&folder)?;
    let profile = pki.profile("proto udp\nremote 10.77.0.1 1194")?;
    records_arrive(lab, &profile, "10.8.77.2/24", &|network| Server::openvpn(network, &pki))
}

/// By the kernel's WireGuard.
pub fn wireguard(lab: &mut Lab) -> Result<()> {
    let keys = Keys::new()?;
    let config = lab.work().join("far.conf");
    std::fs::write(&config, keys.far_end(51820, "10.9.0.2/32")?)?;
    let profile = keys.profile("10.9.0.2/24", "10.77.0.1:51820", "10.9.0.1/32, 10.20.0.0/16")?;
    records_arrive(lab, &profile, "10.9.0.2/24", &|network| Server::wireguard(network, &config))
}

/// Profile, order and destination over SSH; records arrive, also those that came while the server was away. A change over
/// SSH in the tunnel that ends the tunnel is taken back.
fn records_arrive(
    lab: &mut Lab,
    profile: &str,
    address: &str,
    start: &dyn Fn(&Network) -> Result<Server>,
) -> Result<()> {
    let network = lab.plug(Network::of(&[venue::GATEWAY, venue::SWITCH])?);
    venue::ran(network.command("ip").args(["addr", "add", &format!("{CENTRE}/32"), "dev", "lo"]))?;
    let noc = Noc::start(&network, lab.work())?;
    let mut server = start(&network)?;

    let disk = lab.flashed_disk(4)?;
    let mut machine = lab.start(Firmware::Uefi, &Medium::Disk(disk))?;
    let remote = Remote::new(lab)?;
    machine.expect("Telemetry appliance")?;
    venue::set_up(&mut machine, &remote.public_key()?)?;

    remote.status()?;
    println!("{}", remote.once("vpn import noc -", profile)?.trim_end());
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
    ensure!(tunnel["addresses"] == serde_json::json!([address]), "{tunnel}");

    arrives(&network, &noc, "through the tunnel")?;
    server.end();
    std::thread::sleep(Duration::from_secs(5));
    send(&network, "while it is away")?;
    std::thread::sleep(Duration::from_secs(5));
    ensure!(!noc.received().contains("while it is away"), "it was not sent through the tunnel");
    server = start(&network)?;
    arrives(&network, &noc, "after it is back")?;
    ensure!(noc.received().contains("while it is away"), "what waited was lost");

    let inside = remote.at(address.trim_end_matches("/24"));
    inside.status().context("SSH through the tunnel")?;
    // To a server that is not there.
    let wrong = profile.replace("1194", "1195").replace("51820", "51821");
    let said = inside.once("vpn import noc -", &wrong).unwrap_or_else(|error| format!("{error:#}"));
    println!("  {}", said.trim_end());
    let gone = std::time::Instant::now();
    venue::eventually("the tunnel is gone", || {
        let tunnel = remote.status()?["vpn"][0].clone();
        ensure!(tunnel["state"] != "up", "{tunnel}");
        Ok(())
    })?;
    venue::eventually("the change that cut the operator off is taken back", || {
        ensure!(inside.status()?["vpn"][0]["state"] == "up", "it is not up");
        Ok(())
    })?;
    println!("  SSH through the tunnel works again after {} s", gone.elapsed().as_secs());
    arrives(&network, &noc, "after it was taken back")?;
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

/// The far end.
struct Server(Child);

impl Server {
    fn openvpn(network: &Network, pki: &Pki) -> Result<Self> {
        let mut server = network.command("openvpn");
        server.args(pki.server("tun7", "udp", 1194, 77));
        let quiet = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(quiet.spawn().context("openvpn (package openvpn)")?))
    }

    fn wireguard(network: &Network, config: &Path) -> Result<Self> {
        let device = format!("wgfar{}", std::process::id() % 100_000);
        let socket = Path::new("/run/wireguard").join(format!("{device}.sock"));
        // Of one that was killed.
        let _ = std::fs::remove_file(&socket);
        let mut server = network.command("wireguard-go");
        server
            .args(["-f", &device])
            .env("LOG_LEVEL", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Self(server.spawn().context("wireguard-go (package wireguard-go)")?);
        venue::eventually("the far end takes orders", || {
            venue::ran(network.command("wg").args(["setconf", &device]).arg(config))
        })?;
        venue::ran(network.command("ip").args(["addr", "add", "10.9.0.1/24", "dev", &device]))?;
        venue::ran(network.command("ip").args(["link", "set", &device, "up"]))?;
        Ok(server)
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
