//! Keys and certificates of a VPN's two ends, made by openssl and openvpn. End-to-end tests use this file too.

use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `ca.crt`; `server` and `client`, each with `.crt` and `.key`; `crypt.key` (tls-crypt): in one folder.
pub struct Pki(PathBuf);

impl Pki {
    /// Makes them in a folder that is there.
    pub fn new(folder: &Path) -> Result<Self> {
        let pki = Self(folder.to_owned());
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        pki.run("openssl", &format!("req -x509 {key} -keyout ca.key -out ca.crt -days 3650 -subj /CN=ca"))?;
        for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
            let extensions =
                format!("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage={usage}\n");
            fs::write(pki.path("ext"), extensions)?;
            pki.run("openssl", &format!("req -new {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"))?;
            let sign = "-req -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile ext";
            pki.run("openssl", &format!("x509 {sign} -in {name}.csr -out {name}.crt"))?;
        }
        pki.run("openvpn", "--genkey secret crypt.key")?;
        Ok(pki)
    }

    /// Of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A client's profile with these lines, as an engineer gets it by e-mail.
    pub fn profile(&self, lines: &str) -> Result<String> {
        let crypt = ("tls-crypt", "crypt.key");
        self.profile_of(lines, &[("ca", "ca.crt"), ("cert", "client.crt"), ("key", "client.key"), crypt])
    }

    /// The same, with these files in it, each behind its directive.
    pub fn profile_of(&self, lines: &str, files: &[(&str, &str)]) -> Result<String> {
        let mut text = format!("client\ndev tun\nremote-cert-tls server\nnobind\n{lines}\n");
        for (tag, file) in files {
            let _ = write!(text, "<{tag}>\n{}</{tag}>\n", fs::read_to_string(self.path(file))?);
        }
        Ok(text)
    }

    /// A server's options: of a tunnel 10.8.`net`.0/24 at the device `device`, by `proto`, at `port`.
    pub fn server(&self, device: &str, proto: &str, port: u16, net: u8) -> Vec<String> {
        self.server_of(device, proto, (port, net), &[("cert", "server.crt"), ("tls-crypt", "crypt.key")])
    }

    /// The same, with these files beside the authority and the key, each behind its directive.
    pub fn server_of(&self, device: &str, proto: &str, (port, net): (u16, u8), files: &[(&str, &str)]) -> Vec<String> {
        let line = format!(
            "--dev {device} --dev-type tun --mode server --tls-server --topology subnet --ifconfig 10.8.{net}.1 255.255.255.0 \
             --ifconfig-pool 10.8.{net}.2 10.8.{net}.100 --keepalive 1 4 --dh none --proto {proto} --port {port} --disable-dco --verb 3"
        );
        let mut options: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for (option, file) in [("ca", "ca.crt"), ("key", "server.key")].iter().chain(files) {
            options.extend([format!("--{option}"), self.path(file).display().to_string()]);
        }
        let gateway = format!("route-gateway 10.8.{net}.1");
        for push in ["topology subnet", &gateway, "route 10.20.0.0 255.255.0.0"] {
            options.extend(["--push".to_owned(), push.to_owned()]);
        }
        options
    }

    fn run(&self, program: &str, line: &str) -> Result<()> {
        let done = Command::new(program).args(line.split(' ')).current_dir(&self.0).output();
        let done = done.with_context(|| program.to_owned())?;
        ensure!(done.status.success(), "{program} {line}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }
}
