//! A client of OpenVPN, typed. [`read`] makes one of a profile; [`OpenVpn::to_config`] writes it anew.

mod draft;
mod identity;
mod judge;
pub(crate) mod lines;
mod remotes;
pub(crate) mod table;
mod tls;
mod wishes;
mod write;

pub(crate) use wishes::overlap;

use crate::Options;
use crate::address::Host;
use crate::certificate::{Certificate, Crl};
use crate::key::PrivateKey;
use crate::report::Report;
use crate::secret::Secret;
use raven_model::prefix::Prefix;
use std::net::IpAddr;

/// A client's profile. What stands in it can be written as a configuration that OpenVPN 2.6 takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenVpn {
    /// Servers in the order in which they are tried, 1 to 64.
    pub remotes: Vec<Remote>,
    /// Tried in any order instead.
    pub remote_random: bool,
    /// Authorities of the server's certificate.
    pub ca: Vec<Certificate>,
    /// SHA-256 fingerprints, one of which the server's certificate has.
    pub peer_fingerprints: Vec<[u8; 32]>,
    /// Who this client is.
    pub identity: Identity,
    /// Certificates between the own one and its authority.
    pub extra_certs: Vec<Certificate>,
    /// Server certificates that hold no more.
    pub crl: Vec<Crl>,
    /// User and password.
    pub credentials: Credentials,
    /// A one-time code, asked for at each connect beside user and password.
    pub challenge: Option<Challenge>,
    /// User and password of proxies that want some.
    pub proxy_credentials: Credentials,
    /// Protection of the handshake.
    pub control: Control,
    /// How the server is told from another client of its authority.
    pub verify: Verify,
    /// Oldest TLS.
    pub tls_min: TlsVersion,
    /// Algorithms of certificates.
    pub cert_profile: Option<CertProfile>,
    /// Negotiated, in this order; not empty.
    pub data_ciphers: Vec<Cipher>,
    /// For a server that does not negotiate.
    pub fallback: Option<Cipher>,
    /// Digest of the HMAC; OpenVPN's own is SHA1.
    pub auth: Option<Digest>,
    /// Framing of compression, without compression.
    pub framing: Option<Framing>,
    /// Largest packet in the tunnel, bytes.
    pub tun_mtu: Option<u16>,
    /// Largest TCP segment.
    pub mssfix: Option<Mssfix>,
    /// Largest datagram.
    pub fragment: Option<Fragment>,
    /// Seconds until new keys are made; 0: when the server says so.
    pub reneg_sec: Option<u32>,
    /// How often goodbye is said, 1 to 10; UDP only.
    pub exit_notify: Option<u8>,
    /// What the profile would like of the machine. Not written: Raven's configuration has it, or nobody.
    pub wishes: Wishes,
}

impl OpenVpn {
    /// When the first of own certificate, its chain and the server's authorities ends, in seconds since 1970; `None` when
    /// that is not known (PKCS #12, or fingerprints alone).
    pub fn ends(&self) -> Option<i64> {
        let chain: &[Certificate] = match &self.identity {
            Identity::Pem { chain, .. } => chain,
            Identity::None | Identity::Pkcs12(_) => &[],
        };
        let all = chain.iter().chain(&self.extra_certs).chain(&self.ca);
        all.map(|certificate| certificate.validity().not_after).min()
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Name or address.
    pub host: Host,
    /// Not 0.
    pub port: u16,
    /// UDP or TCP.
    pub proto: Proto,
    /// On the way there.
    pub proxy: Option<Proxy>,
}

/// Transport and address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // as OpenVPN names them
pub enum Proto {
    Udp,
    Udp4,
    Udp6,
    Tcp,
    Tcp4,
    Tcp6,
}

impl Proto {
    /// Whether it is UDP.
    pub fn is_udp(self) -> bool {
        matches!(self, Self::Udp | Self::Udp4 | Self::Udp6)
    }

    /// As it is written in a client's configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Udp4 => "udp4",
            Self::Udp6 => "udp6",
            Self::Tcp => "tcp-client",
            Self::Tcp4 => "tcp4-client",
            Self::Tcp6 => "tcp6-client",
        }
    }
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Name or address.
    pub host: Host,
    /// Not 0.
    pub port: u16,
    /// Its protocol.
    pub kind: ProxyKind,
}

/// Protocol of a proxy, and how it knows who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// SOCKS 5 without credentials.
    Socks,
    /// SOCKS 5 with user and password (RFC 1929).
    SocksLogin,
    /// HTTP CONNECT.
    Http(ProxyAuth),
}

impl ProxyKind {
    /// Whether it may ask for user and password.
    pub fn asks(self) -> bool {
        !matches!(self, Self::Socks | Self::Http(ProxyAuth::None))
    }
}

/// How an HTTP proxy knows who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyAuth {
    /// It does not.
    None,
    /// User and password, in the clear.
    Basic,
    /// NTLM version 2.
    Ntlm2,
    /// What the proxy asks for.
    Auto,
    /// What the proxy asks for, except in the clear.
    AutoNct,
}

/// Who this client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Only by user and password.
    None,
    /// By certificate.
    Pem {
        /// The own one first, then its chain.
        chain: Vec<Certificate>,
        /// Its key.
        key: PrivateKey,
    },
    /// By a PKCS #12 file, unopened: whether it wants a passphrase and until when it holds is not known.
    Pkcs12(Secret<Vec<u8>>),
}

/// User and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Not wanted.
    None,
    /// Wanted, and not in the profile.
    Asked,
    /// In the profile.
    Given {
        /// Not empty.
        user: Secret<String>,
        /// Asked for when it is not there.
        password: Option<Secret<String>>,
    },
}

/// A question for a one-time code that is the same each time (`static-challenge`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// As the server's operator put it, 1 to 198 bytes.
    pub question: String,
    /// The answer may be seen while it is typed.
    pub echo: bool,
}

/// Protection of the handshake by a key beside TLS. OpenVPN takes one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// None.
    None,
    /// Signed: `tls-auth`.
    Auth {
        /// 2048 bits.
        key: Secret<Vec<u8>>,
        /// Which halves are whose; without, both ends use the same.
        direction: Option<Direction>,
    },
    /// Encrypted: `tls-crypt`, 2048 bits.
    Crypt(Secret<Vec<u8>>),
    /// Encrypted by a key of this client's own: `tls-crypt-v2`.
    CryptV2(Secret<Vec<u8>>),
}

/// Which half of a key is used for sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Direction {
    Zero,
    One,
}

/// How the server is told from another client of its authority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verify {
    /// Its certificate is one for servers.
    pub usage: Option<ServerUsage>,
    /// Key usages of its certificate, one of which it has in full (`remote-cert-ku`).
    pub key_usages: Vec<u16>,
    /// Its name.
    pub name: Option<X509Name>,
}

/// What says that a certificate is one for servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerUsage {
    /// `remote-cert-tls server`: key usage and extended key usage.
    Tls,
    /// `remote-cert-eku`: extended key usage alone.
    Eku,
}

/// A name that the server's certificate has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Name {
    /// What of the subject.
    pub kind: NameKind,
    /// 1 to 200 bytes.
    pub name: String,
}

/// What of a subject is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// All of it.
    Subject,
    /// The common name.
    Name,
    /// Where the common name begins.
    NamePrefix,
}

impl NameKind {
    /// As OpenVPN writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Name => "name",
            Self::NamePrefix => "name-prefix",
        }
    }
}

/// TLS that is taken at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

impl TlsVersion {
    /// As OpenVPN writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
}

/// Algorithms that certificates may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertProfile {
    /// SHA-1 and newer.
    Legacy,
    /// SHA-2 and newer.
    Preferred,
    /// NSA's Suite B.
    SuiteB,
}

impl CertProfile {
    /// As OpenVPN writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Preferred => "preferred",
            Self::SuiteB => "suiteb",
        }
    }
}

/// Ciphers of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Cipher {
    Aes256Gcm,
    Aes192Gcm,
    Aes128Gcm,
    Chacha20Poly1305,
    Aes256Cbc,
    Aes192Cbc,
    Aes128Cbc,
}

impl Cipher {
    const ALL: [Self; 7] = [
        Self::Aes256Gcm,
        Self::Aes192Gcm,
        Self::Aes128Gcm,
        Self::Chacha20Poly1305,
        Self::Aes256Cbc,
        Self::Aes192Cbc,
        Self::Aes128Cbc,
    ];

    /// Whether it protects against changes by itself.
    pub fn is_aead(self) -> bool {
        !matches!(self, Self::Aes256Cbc | Self::Aes192Cbc | Self::Aes128Cbc)
    }

    /// As OpenVPN writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "AES-256-GCM",
            Self::Aes192Gcm => "AES-192-GCM",
            Self::Aes128Gcm => "AES-128-GCM",
            Self::Chacha20Poly1305 => "CHACHA20-POLY1305",
            Self::Aes256Cbc => "AES-256-CBC",
            Self::Aes192Cbc => "AES-192-CBC",
            Self::Aes128Cbc => "AES-128-CBC",
        }
    }
}

/// Digests of the HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Digest {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Digest {
    /// As OpenVPN writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha224 => "SHA224",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
        }
    }
}

/// Framing of compression, for servers that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// `comp-lzo no`
    LzoNo,
    /// `compress stub`
    Stub,
    /// `compress stub-v2`
    StubV2,
}

/// Largest TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mssfix {
    /// Bytes; 0: off.
    pub max: u16,
    /// What is counted.
    pub base: MssBase,
}

/// What `mssfix` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MssBase {
    /// OpenVPN's packet.
    Packet,
    /// That and the headers of IP and UDP.
    Mtu,
    /// The segment itself.
    Fixed,
}

/// Largest datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Bytes.
    pub max: u16,
    /// The headers of IP and UDP count too.
    pub mtu: bool,
}

/// What a profile would like of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Seconds between pings.
    pub ping: Option<u32>,
    /// Seconds without an answer until a restart.
    pub ping_restart: Option<u32>,
    /// Networks behind the tunnel.
    pub routes: Vec<Prefix>,
    /// All IPv4 traffic.
    pub all_ipv4: bool,
    /// All IPv6 traffic.
    pub all_ipv6: bool,
    /// DNS servers.
    pub dns: Vec<IpAddr>,
    /// DNS domains.
    pub domains: Vec<String>,
}

/// Reads a profile; `None` when it is refused.
pub(crate) fn read(bytes: &[u8], options: &Options, report: &mut Report) -> Option<OpenVpn> {
    let items = lines::items(bytes, options, report);
    let mut draft = draft::Draft::new(options, report);
    for item in &items {
        draft.item(item);
    }
    judge::judge(draft)
}

/// What may be done with each directive: name, `accepted`, `refused` or `left out`, and why. Sorted by name.
pub fn directives() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    table::RULES.iter().map(|rule| {
        let answer = match rule.answer {
            table::Answer::Accept(_) => "accepted",
            table::Answer::Refuse => "refused",
            table::Answer::Drop => "left out",
        };
        (rule.name, answer, rule.reason)
    })
}
