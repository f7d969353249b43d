//! Writes a profile anew, from its values alone, in a fixed order. The same values give the same bytes.
//!
//! What depends on the run (device, management, users, `disable-dco`) is not in it: whoever starts OpenVPN adds that.

use super::tls::{V2_LABEL, write_static};
use super::{
    Challenge, Control, Credentials, Framing, Identity, MssBase, OpenVpn, Proxy, ProxyAuth, ProxyKind, Remote,
    ServerUsage,
};
use super::{Direction, Verify};
use crate::pem;
use crate::secret::Secret;
use std::fmt::Write as _;

/// Room for the longest text, so that no copy of a key stays behind when it grows.
const ROOM: usize = 2 * crate::PROFILE_MAX;

/// A word in double quotes, as OpenVPN reads it.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        // Writing into a String does not fail.
        let _ = writeln!($out, $($arg)*);
    }};
}

impl OpenVpn {
    /// The profile as a configuration for OpenVPN 2.6, which [`crate::read`] gives back as it is (without its wishes).
    /// It holds keys.
    pub fn to_config(&self) -> Secret<String> {
        let mut out = String::with_capacity(ROOM);
        out.push_str("client\ndev tun\nnobind\nallow-compression no\n");
        self.write_remotes(&mut out);
        self.write_verification(&mut out);
        self.write_ciphers(&mut out);
        self.write_packets(&mut out);
        self.write_credentials(&mut out);
        self.write_certificates(&mut out);
        self.write_control(&mut out);
        Secret::new(out)
    }

    /// Remotes with a proxy each are blocks; else they are lines, behind the proxy that all of them have.
    fn write_remotes(&self, out: &mut String) {
        let first = self.remotes.first().and_then(|remote| remote.proxy.as_ref());
        let shared = self.remotes.iter().all(|remote| remote.proxy.as_ref() == first);
        if shared {
            write_proxy(out, first);
            for remote in &self.remotes {
                write_remote(out, remote);
            }
        } else {
            for remote in &self.remotes {
                out.push_str("<connection>\n");
                write_remote(out, remote);
                write_proxy(out, remote.proxy.as_ref());
                out.push_str("</connection>\n");
            }
        }
        if self.remote_random {
            out.push_str("remote-random\n");
        }
    }

    fn write_verification(&self, out: &mut String) {
        let Verify { usage, key_usages, name } = &self.verify;
        match usage {
            Some(ServerUsage::Tls) => out.push_str("remote-cert-tls server\n"),
            Some(ServerUsage::Eku) => out.push_str("remote-cert-eku \"TLS Web Server Authentication\"\n"),
            None => {}
        }
        if !key_usages.is_empty() {
            let usages: Vec<String> = key_usages.iter().map(|usage| format!("{usage:x}")).collect();
            line!(out, "remote-cert-ku {}", usages.join(" "));
        }
        if let Some(name) = name {
            line!(out, "verify-x509-name {} {}", quoted(&name.name), name.kind.word());
        }
        line!(out, "tls-version-min {}", self.tls_min.word());
        if let Some(profile) = self.cert_profile {
            line!(out, "tls-cert-profile {}", profile.word());
        }
    }

    fn write_ciphers(&self, out: &mut String) {
        let names: Vec<&str> = self.data_ciphers.iter().map(|cipher| cipher.word()).collect();
        line!(out, "data-ciphers {}", names.join(":"));
        if let Some(cipher) = self.fallback {
            line!(out, "data-ciphers-fallback {}", cipher.word());
        }
        if let Some(digest) = self.auth {
            line!(out, "auth {}", digest.word());
        }
        match self.framing {
            Some(Framing::LzoNo) => out.push_str("comp-lzo no\n"),
            Some(Framing::Stub) => out.push_str("compress stub\n"),
            Some(Framing::StubV2) => out.push_str("compress stub-v2\n"),
            None => {}
        }
    }

    fn write_packets(&self, out: &mut String) {
        if let Some(mtu) = self.tun_mtu {
            line!(out, "tun-mtu {mtu}");
        }
        if let Some(fragment) = self.fragment {
            line!(out, "fragment {}{}", fragment.max, if fragment.mtu { " mtu" } else { "" });
        }
        if let Some(mssfix) = self.mssfix {
            let base = match mssfix.base {
                MssBase::Packet => "",
                MssBase::Mtu => " mtu",
                MssBase::Fixed => " fixed",
            };
            line!(out, "mssfix {}{base}", mssfix.max);
        }
        if let Some(seconds) = self.reneg_sec {
            line!(out, "reneg-sec {seconds}");
        }
        if let Some(times) = self.exit_notify {
            line!(out, "explicit-exit-notify {times}");
        }
    }

    fn write_credentials(&self, out: &mut String) {
        match &self.credentials {
            Credentials::Asked => out.push_str("auth-user-pass\n"),
            given => write_given(out, "auth-user-pass", given),
        }
        if let Some(Challenge { question, echo }) = &self.challenge {
            line!(out, "static-challenge {} {}", quoted(question), u8::from(*echo));
        }
        let socks = |remote: &Remote| remote.proxy.as_ref().is_some_and(|proxy| proxy.kind == ProxyKind::SocksLogin);
        let tag = if self.remotes.iter().any(socks) { "socks-proxy-user-pass" } else { "http-proxy-user-pass" };
        write_given(out, tag, &self.proxy_credentials);
    }

    fn write_certificates(&self, out: &mut String) {
        block(out, "ca", !self.ca.is_empty(), |out| self.ca.iter().for_each(|ca| ca.write(out)));
        block(out, "peer-fingerprint", !self.peer_fingerprints.is_empty(), |out| {
            for print in &self.peer_fingerprints {
                let pairs: Vec<String> = print.iter().map(|byte| format!("{byte:02x}")).collect();
                line!(out, "{}", pairs.join(":"));
            }
        });
        block(out, "crl-verify", !self.crl.is_empty(), |out| self.crl.iter().for_each(|crl| crl.write(out)));
        match &self.identity {
            Identity::None => {}
            Identity::Pem { chain, key } => {
                block(out, "cert", true, |out| chain.iter().for_each(|cert| cert.write(out)));
                block(out, "key", true, |out| key.write(out));
            }
            Identity::Pkcs12(bytes) => {
                block(out, "pkcs12", true, |out| pem::wrap(out, &pem::base64_of(bytes.expose())));
            }
        }
        let extra = &self.extra_certs;
        block(out, "extra-certs", !extra.is_empty(), |out| extra.iter().for_each(|cert| cert.write(out)));
    }

    fn write_control(&self, out: &mut String) {
        match &self.control {
            Control::None => {}
            Control::Auth { key, direction } => {
                match direction {
                    Some(Direction::Zero) => out.push_str("key-direction 0\n"),
                    Some(Direction::One) => out.push_str("key-direction 1\n"),
                    None => {}
                }
                block(out, "tls-auth", true, |out| write_static(out, key.expose()));
            }
            Control::Crypt(key) => block(out, "tls-crypt", true, |out| write_static(out, key.expose())),
            Control::CryptV2(key) => {
                block(out, "tls-crypt-v2", true, |out| pem::write(out, V2_LABEL, &[], key.expose()));
            }
        }
    }
}

fn write_remote(out: &mut String, remote: &Remote) {
    line!(out, "remote {} {} {}", remote.host, remote.port, remote.proto.word());
}

/// Credentials come from the block, or are asked for: OpenVPN wants a word there to know that there are some.
fn write_proxy(out: &mut String, proxy: Option<&Proxy>) {
    let Some(proxy) = proxy else { return };
    let (name, auth) = match proxy.kind {
        ProxyKind::Socks => ("socks-proxy", ""),
        ProxyKind::SocksLogin => ("socks-proxy", " stdin"),
        ProxyKind::Http(ProxyAuth::None) => ("http-proxy", ""),
        ProxyKind::Http(ProxyAuth::Basic) => ("http-proxy", " stdin basic"),
        ProxyKind::Http(ProxyAuth::Ntlm2) => ("http-proxy", " stdin ntlm2"),
        ProxyKind::Http(ProxyAuth::Auto) => ("http-proxy", " auto"),
        ProxyKind::Http(ProxyAuth::AutoNct) => ("http-proxy", " auto-nct"),
    };
    line!(out, "{name} {} {}{auth}", proxy.host, proxy.port);
}

fn write_given(out: &mut String, tag: &str, credentials: &Credentials) {
    let Credentials::Given { user, password } = credentials else { return };
    block(out, tag, true, |out| {
        out.extend([user.expose(), "\n"]);
        if let Some(password) = password {
            out.extend([password.expose(), "\n"]);
        }
    });
}

fn block(out: &mut String, tag: &str, wanted: bool, content: impl FnOnce(&mut String)) {
    if wanted {
        out.extend(["<", tag, ">\n"]);
        content(out);
        out.extend(["</", tag, ">\n"]);
    }
}
