//! Keys of WireGuard's two ends and what is written with them, by wireguard-tools. End-to-end tests use this file too.

use anyhow::{Context, Result, ensure};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// The private key of each end, and one that they share.
pub struct Keys {
    pub far: String,
    pub near: String,
    pub shared: String,
}

impl Keys {
    pub fn new() -> Result<Self> {
        Ok(Self { far: wg("genkey", "")?, near: wg("genkey", "")?, shared: wg("genpsk", "")? })
    }

    /// The far end's, for `wg setconf`: at this port, with the box at these addresses inside.
    pub fn far_end(&self, port: u16, inside: &str) -> Result<String> {
        let (far, shared, near) = (&self.far, &self.shared, wg("pubkey", &self.near)?);
        Ok(format!(
            "[Interface]\nPrivateKey = {far}\nListenPort = {port}\n[Peer]\nPublicKey = {near}\nPresharedKey = {shared}\n\
             AllowedIPs = {inside}\n"
        ))
    }

    /// The box's profile, as an engineer gets it by e-mail.
    pub fn profile(&self, addresses: &str, endpoint: &str, behind: &str) -> Result<String> {
        let (near, shared, far) = (&self.near, &self.shared, wg("pubkey", &self.far)?);
        Ok(format!(
            "[Interface]\nPrivateKey = {near}\nAddress = {addresses}\n[Peer]\nPublicKey = {far}\n\
             PresharedKey = {shared}\nAllowedIPs = {behind}\nEndpoint = {endpoint}\n"
        ))
    }
}

/// `wg genkey` and the like.
pub fn wg(verb: &str, input: &str) -> Result<String> {
    let mut wg = Command::new("wg");
    let mut wg =
        wg.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("package wireguard-tools")?;
    wg.stdin.take().context("wg's standard input")?.write_all(input.as_bytes())?;
    let done = wg.wait_with_output()?;
    ensure!(done.status.success(), "wg {verb}: {}", done.status);
    Ok(String::from_utf8(done.stdout)?.trim().to_owned())
}
