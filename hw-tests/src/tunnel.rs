//! A tunnel from the box to an operations centre that is reached by it alone: Debian's openvpn on the image, and as server in
//! the venue's namespace.

use crate::machine::{Firmware, Lab, Medium};
use crate::network::Network;
use crate::noc::{self, Noc};
use crate::venue::{self, Remote};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Of the operations centre, behind the tunnel.
const CENTRE: &str = "10.20.0.1";

/// Profile, order and destination over SSH; records arrive, also those that came while the server was away.
pub fn openvpn(lab: &mut Lab) -> Result<()> {
    let network = lab.plug(Network::of(&[venue::GATEWAY, venue::SWITCH])?);
    venue::ran(network.command("ip").args(["addr", "add", &format!("{CENTRE}/32"), "dev", "lo"]))?;
    let noc = Noc::start(&network, lab.work())?;
    let pki = Pki::new(lab.work())?;
    let mut server = Server(pki.server(&network)?);

    let disk = lab.flashed_disk(4)?;
    let mut machine = lab.start(Firmware::Uefi, &Medium::Disk(disk))?;
    let remote = Remote::new(lab)?;
    machine.expect("Telemetry appliance")?;
    venue::set_up(&mut machine, &remote.public_key()?)?;

    remote.status()?;
    println!("{}", remote.once("vpn import noc -", &pki.profile()?)?.trim_end());
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
    server = Server(pki.server(&network)?);
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

/// Keys and certificates of both ends.
struct Pki(PathBuf);

impl Pki {
    fn new(work: &Path) -> Result<Self> {
        let pki = Self(work.join("pki"));
        fs::create_dir_all(&pki.0)?;
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        pki.openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 3650 -subj /CN=ca"))?;
        for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
            fs::write(
                pki.0.join("ext"),
                format!("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage={usage}\n"),
            )?;
            pki.openssl(&format!("req -new {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"))?;
            let sign = "-req -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile ext";
            pki.openssl(&format!("x509 {sign} -in {name}.csr -out {name}.crt"))?;
        }
        venue::ran(Command::new("openvpn").args(["--genkey", "secret"]).arg(pki.0.join("crypt.key")))?;
        Ok(pki)
    }

    fn openssl(&self, line: &str) -> Result<()> {
        venue::ran(Command::new("openssl").args(line.split(' ')).current_dir(&self.0))
    }

    /// As an engineer gets it by e-mail.
    fn profile(&self) -> Result<String> {
        let mut text = "client\ndev tun\nproto udp\nremote 10.77.0.1 1194\nremote-cert-tls server\nnobind\n".to_owned();
        for (tag, file) in [("ca", "ca.crt"), ("cert", "client.crt"), ("key", "client.key"), ("tls-crypt", "crypt.key")]
        {
            let _ = write!(text, "<{tag}>\n{}</{tag}>\n", fs::read_to_string(self.0.join(file))?);
        }
        Ok(text)
    }

    fn server(&self, network: &Network) -> Result<Child> {
        let line = "--dev tun7 --dev-type tun --mode server --tls-server --topology subnet --ifconfig 10.8.77.1 255.255.255.0 \
                    --ifconfig-pool 10.8.77.2 10.8.77.100 --keepalive 1 4 --dh none --proto udp --port 1194 --disable-dco \
                    --ca ca.crt --cert server.crt --key server.key --tls-crypt crypt.key";
        let mut server = network.command("openvpn");
        server.args(line.split_whitespace()).current_dir(&self.0);
        server.args(["--push", "topology subnet", "--push", "route-gateway 10.8.77.1"]);
        server.args(["--push", "route 10.20.0.0 255.255.0.0"]);
        let quiet = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.spawn().context("openvpn (package openvpn)")
    }
}
