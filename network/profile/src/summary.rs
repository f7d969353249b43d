//! What may be shown of a profile: nothing secret.

use crate::address::{Endpoint, Host};
use crate::certificate::{Certificate, day};
use crate::openvpn::{Cipher, Control, Credentials, Digest, Identity, OpenVpn, ServerUsage};
use crate::wireguard::{self, WireGuard};
use raven_model::prefix::Prefix;
use serde::Serialize;
use std::net::IpAddr;

/// A profile, as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "format", rename_all = "lowercase")]
pub enum Summary {
    /// OpenVPN's
    OpenVpn(OpenVpnSummary),
    /// wg-quick's
    WireGuard(WireGuardSummary),
}

/// A profile of OpenVPN, as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenVpnSummary {
    /// In the order in which they are tried.
    pub remotes: Vec<RemoteSummary>,
    /// Or in any.
    pub remote_random: bool,
    /// How the server is told from others, in words; empty: it is not.
    pub verification: Vec<String>,
    /// Protection of the handshake: `tls-auth`, `tls-crypt`, `tls-crypt-v2` or `none`.
    pub handshake: &'static str,
    /// `certificate`, `pkcs12` or `none`.
    pub identity: &'static str,
    /// Own, chain and authorities.
    pub certificates: Vec<CertificateSummary>,
    /// User and password: `none`, `asked` or `given`.
    pub credentials: &'static str,
    /// Asked for at each connect: the question for a one-time code.
    pub one_time_code: Option<String>,
    /// User and password for a proxy: `none`, `asked` or `given`.
    pub proxy_credentials: &'static str,
    /// The private key wants a passphrase; `null`: not known.
    pub needs_passphrase: Option<bool>,
    /// Negotiated, in this order.
    pub ciphers: Vec<&'static str>,
    /// For a server that does not negotiate.
    pub fallback_cipher: Option<&'static str>,
    /// Digest of the HMAC.
    pub auth: &'static str,
    /// TLS that is taken at least.
    pub tls_min: &'static str,
    /// Largest packet in the tunnel, bytes.
    pub mtu: Option<u16>,
    /// Networks that the profile would like to reach.
    pub routes: Vec<Prefix>,
    /// The profile would like to carry all traffic.
    pub all_traffic: bool,
    /// DNS servers that it would like.
    pub dns: Vec<IpAddr>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemoteSummary {
    /// Name or address.
    pub host: Host,
    /// Port.
    pub port: u16,
    /// As OpenVPN names it.
    pub proto: &'static str,
    /// On the way there.
    pub proxy: Option<Endpoint>,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CertificateSummary {
    /// `own`, `chain` or `ca`.
    pub role: &'static str,
    /// Whom it names.
    pub subject: String,
    /// First second, since 1970.
    pub not_before: i64,
    /// Last second, since 1970.
    pub not_after: i64,
    /// Its day, such as 2027-05-31.
    pub until: String,
    /// Whole days left; negative when it is over.
    pub days_left: i64,
}

/// A profile of wg-quick, as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WireGuardSummary {
    /// The public half of the own key, in base64: what the far end has to know of this box.
    pub public_key: String,
    /// Own addresses.
    pub addresses: Vec<String>,
    /// Own UDP port.
    pub listen_port: Option<u16>,
    /// Largest packet in the tunnel, bytes.
    pub mtu: Option<u16>,
    /// DNS servers that the profile would like.
    pub dns: Vec<IpAddr>,
    /// The other ends.
    pub peers: Vec<PeerSummary>,
}

/// Another end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PeerSummary {
    /// In base64, as `wg show` has it.
    pub public_key: String,
    /// There is a key beside it.
    pub preshared_key: bool,
    /// Networks behind it.
    pub allowed_ips: Vec<Prefix>,
    /// Where it is.
    pub endpoint: Option<Endpoint>,
    /// Seconds.
    pub keepalive: Option<u16>,
}

pub(crate) fn open_vpn(profile: &OpenVpn, now: i64) -> OpenVpnSummary {
    let wishes = &profile.wishes;
    let (identity, needs_passphrase) = match &profile.identity {
        Identity::None => ("none", Some(false)),
        Identity::Pem { key, .. } => ("certificate", Some(key.needs_passphrase())),
        Identity::Pkcs12(_) => ("pkcs12", None),
    };
    OpenVpnSummary {
        remotes: remotes(profile),
        remote_random: profile.remote_random,
        verification: verification(profile),
        handshake: match &profile.control {
            Control::None => "none",
            Control::Auth { .. } => "tls-auth",
            Control::Crypt(_) => "tls-crypt",
            Control::CryptV2(_) => "tls-crypt-v2",
        },
        identity,
        certificates: certificates(profile, now),
        credentials: whence(&profile.credentials),
        one_time_code: profile.challenge.as_ref().map(|challenge| challenge.question.clone()),
        proxy_credentials: whence(&profile.proxy_credentials),
        needs_passphrase,
        ciphers: profile.data_ciphers.iter().map(|cipher| cipher.word()).collect(),
        fallback_cipher: profile.fallback.map(Cipher::word),
        auth: profile.auth.map_or("SHA1", Digest::word),
        tls_min: profile.tls_min.word(),
        mtu: profile.tun_mtu,
        routes: wishes.routes.clone(),
        all_traffic: wishes.all_ipv4 || wishes.all_ipv6,
        dns: wishes.dns.clone(),
    }
}

fn whence(credentials: &Credentials) -> &'static str {
    match credentials {
        Credentials::None => "none",
        Credentials::Asked | Credentials::Given { password: None, .. } => "asked",
        Credentials::Given { .. } => "given",
    }
}

fn remotes(profile: &OpenVpn) -> Vec<RemoteSummary> {
    let remotes = profile.remotes.iter().map(|remote| RemoteSummary {
        host: remote.host.clone(),
        port: remote.port,
        proto: remote.proto.word(),
        proxy: remote.proxy.as_ref().map(|proxy| Endpoint { host: proxy.host.clone(), port: proxy.port }),
    });
    remotes.collect()
}

fn verification(profile: &OpenVpn) -> Vec<String> {
    let mut said = Vec::new();
    match profile.verify.usage {
        Some(ServerUsage::Tls) => said.push("remote-cert-tls server".to_owned()),
        Some(ServerUsage::Eku) => said.push("remote-cert-eku".to_owned()),
        None => {}
    }
    if !profile.verify.key_usages.is_empty() {
        said.push("remote-cert-ku".to_owned());
    }
    if let Some(name) = &profile.verify.name {
        said.push(format!("verify-x509-name {} {}", name.kind.word(), crate::report::shown(&name.name)));
    }
    if !profile.peer_fingerprints.is_empty() {
        said.push("peer-fingerprint".to_owned());
    }
    said
}

fn certificates(profile: &OpenVpn, now: i64) -> Vec<CertificateSummary> {
    let chain: &[Certificate] = match &profile.identity {
        Identity::Pem { chain, .. } => chain,
        Identity::None | Identity::Pkcs12(_) => &[],
    };
    let own = chain.iter().take(1).map(|certificate| ("own", certificate));
    let others = chain.iter().skip(1).chain(&profile.extra_certs).map(|certificate| ("chain", certificate));
    let ca = profile.ca.iter().map(|certificate| ("ca", certificate));
    let all = own.chain(others).chain(ca).map(|(role, certificate)| CertificateSummary {
        role,
        subject: certificate.subject().to_owned(),
        not_before: certificate.validity().not_before,
        not_after: certificate.validity().not_after,
        until: day(certificate.validity().not_after),
        days_left: certificate.validity().days_left(now),
    });
    all.collect()
}

pub(crate) fn wire_guard(profile: &WireGuard) -> WireGuardSummary {
    let peers = profile.peers.iter().map(|peer| PeerSummary {
        public_key: peer.public_key.to_string(),
        preshared_key: peer.preshared_key.is_some(),
        allowed_ips: peer.allowed_ips.clone(),
        endpoint: peer.endpoint.clone(),
        keepalive: peer.keepalive,
    });
    WireGuardSummary {
        public_key: wireguard::public_key(&profile.private_key).to_string(),
        addresses: profile.addresses.iter().map(ToString::to_string).collect(),
        listen_port: profile.listen_port,
        mtu: profile.mtu,
        dns: profile.dns.clone(),
        peers: peers.collect(),
    }
}
