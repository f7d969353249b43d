//! The answer to each directive of OpenVPN, up to 2.7, and of programs that read its profiles. Sorted by name. What is
//! not in it is refused. `docs/vpn.md` shows this table; a test holds the two together.

use super::draft::{Draft, Problem};
use super::lines::Line;
use super::{identity, remotes, tls, wishes};

/// Takes the value of one line into the draft.
pub(crate) type Take = fn(&mut Draft<'_>, &Line<'_>) -> Result<(), Problem>;

/// What is done with a directive.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Accept(Take),
    Refuse,
    /// Left out with a warning.
    Drop,
}

/// Whether a directive has its value on the line or in an inline block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Line,
    LineOrBlock,
}

/// What a directive means that stands there twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// One more.
    More,
    /// The last one holds, as in OpenVPN, with a warning.
    Last,
    /// Nobody can know which of them is meant.
    Refused,
}

/// One row.
pub(crate) struct Rule {
    pub name: &'static str,
    /// In operators' words: what an accepted one is, why another one is not.
    pub reason: &'static str,
    pub answer: Answer,
    /// Fewest and most words behind it.
    pub words: (usize, usize),
    pub form: Form,
    pub repeat: Repeat,
    /// May stand in `<connection>`.
    pub in_connection: bool,
}

/// The row of a directive.
pub(crate) fn find(name: &str) -> Option<&'static Rule> {
    RULES.binary_search_by(|rule| rule.name.cmp(name)).ok().and_then(|at| RULES.get(at))
}

/// The known directive that a mistyped one is nearest to, when one is near.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    const LONGEST: usize = 40;
    if name.chars().count() > LONGEST {
        return None;
    }
    let near = 1 + name.chars().count() / 5;
    let distances = RULES.iter().map(|rule| (strsim::osa_distance(rule.name, name), rule.name));
    distances.min().filter(|(distance, _)| *distance <= near).map(|(_, nearest)| nearest)
}

const fn row(name: &'static str, answer: Answer, reason: &'static str) -> Rule {
    let (words, form, repeat) = ((0, 0), Form::Line, Repeat::Last);
    Rule { name, reason, answer, words, form, repeat, in_connection: false }
}

const fn accept(name: &'static str, words: (usize, usize), take: Take, reason: &'static str) -> Rule {
    Rule { words, ..row(name, Answer::Accept(take), reason) }
}

/// Has its value in an inline block, or in a file that is given beside the profile.
const fn block(name: &'static str, words: (usize, usize), take: Take, reason: &'static str) -> Rule {
    let rule = accept(name, words, take, reason);
    Rule { form: Form::LineOrBlock, repeat: Repeat::Refused, ..rule }
}

const fn refuse(name: &'static str, reason: &'static str) -> Rule {
    row(name, Answer::Refuse, reason)
}

const fn leave(name: &'static str, reason: &'static str) -> Rule {
    row(name, Answer::Drop, reason)
}

impl Rule {
    const fn more(self) -> Self {
        Self { repeat: Repeat::More, ..self }
    }

    const fn in_connection(self) -> Self {
        Self { in_connection: true, ..self }
    }
}

const RUNS: &str = "runs a program; Raven runs none";
const LOADS: &str = "loads a library into OpenVPN; Raven loads none";
const WRITES: &str = "writes a file where the profile says; Raven keeps logs and counters itself";
const READS: &str =
    "has OpenVPN read a file or folder of the machine; Raven takes keys from the profile and files given beside it";
const CONTROL: &str = "hands OpenVPN's controls to others; they are Raven's alone";
const SERVER: &str = "is for servers; Raven is a client";
const ETHERNET: &str = "is for tap devices; Raven's tunnels carry IP";
const OLD: &str = "is of an OpenVPN long past and has no meaning any more";
const WINDOWS: &str = "is for Windows";
const APPS: &str = "is for OpenVPN's apps";
const OTHER: &str = "is a command of its own, not a setting of a tunnel";
const TOKEN: &str = "needs a smart card or token; an unattended box has none";
const LOGS: &str = "is about OpenVPN's log, which Raven sets";
const HOLDS: &str = "Raven holds the tunnel and decides when to try again";
const ROUTES: &str = "Raven sets routes itself, for destinations that are told to go through the tunnel";
const STAYS: &str = "Raven keeps device, keys and addresses over reconnects itself";
const USER: &str = "Raven runs OpenVPN as a user of its own without rights";
const SOCKET: &str = "is about sockets and buffers, which Raven leaves to the kernel";
const BINDS: &str = "Raven chooses the own address and port";
const TIMING: &str = "is a fine setting of the handshake; Raven sets its own";
const TLS_LISTS: &str = "the TLS library's own choice holds, which is no weaker";
const ENVIRONMENT: &str = "sets a variable for programs, and Raven runs none";
const ASKS_FOR: &str = "asks OpenVPN to pass over what it does not know; Raven judges each line by itself all the same";
const STAMP: &str = "Raven passes nothing on about the machine";
const WEAKENS: &str = "switches a protection off";

/// The table.
pub(crate) static RULES: &[Rule] = &[
    accept("allow-compression", (1, 1), tls::allow_compression, "`no`; another value is not taken over, Raven never compresses"),
    leave("allow-pull-fqdn", ROUTES),
    leave("allow-recursive-routing", ROUTES),
    accept("askpass", (0, 1), identity::askpass, "asks for the private key's passphrase; naming a file with it is refused"),
    accept("auth", (1, 1), tls::auth, "digest of the HMAC: SHA1, SHA224, SHA256, SHA384 or SHA512"),
    refuse("auth-gen-token", SERVER),
    refuse("auth-gen-token-secret", SERVER),
    leave("auth-nocache", "Raven keeps credentials itself and gives them when they are asked for"),
    leave("auth-retry", HOLDS),
    refuse("auth-token", "is a token of one session that a server gives; a profile has none"),
    leave("auth-token-user", "comes from the server"),
    block("auth-user-pass", (0, 1), identity::auth_user_pass, "user and password: asked for, inline, or from a file given beside the profile"),
    refuse("auth-user-pass-optional", SERVER),
    refuse("auth-user-pass-verify", RUNS),
    refuse("bcast-buffers", SERVER),
    leave("bind", BINDS),
    leave("bind-dev", BINDS),
    leave("block-ipv6", ROUTES),
    leave("block-outside-dns", WINDOWS),
    block("ca", (1, 1), identity::ca, "certificates of the authorities that the server's is held against"),
    refuse("capath", READS),
    refuse("ccd-exclusive", SERVER),
    refuse("cd", READS),
    block("cert", (1, 1), identity::cert, "own certificate, with its chain"),
    refuse("chroot", READS),
    accept("cipher", (1, 1), tls::cipher, "for a server that does not negotiate: AES-GCM or CHACHA20-POLY1305; AES-CBC only with `--allow cbc-ciphers`, else it is left out"),
    accept("client", (0, 0), tls::client, "is a client and takes what the server pushes"),
    refuse("client-cert-not-required", SERVER),
    refuse("client-config-dir", SERVER),
    refuse("client-connect", RUNS),
    refuse("client-crresponse", RUNS),
    refuse("client-disconnect", RUNS),
    refuse("client-nat", "rewrites addresses inside the tunnel"),
    refuse("client-to-client", SERVER),
    accept("comp-lzo", (0, 1), tls::comp_lzo, "`no`: framing without compression; another value is refused (VORACLE)"),
    leave("comp-noadapt", "Raven never compresses"),
    refuse("compat-mode", "lowers what is negotiated to that of an old OpenVPN"),
    accept("compress", (0, 1), tls::compress, "`stub`, `stub-v2` or nothing: framing without compression, `migrate`: nothing; an algorithm is refused (VORACLE)"),
    refuse("config", "reads another profile, which nobody has looked at; put its lines in this one"),
    refuse("connect-freq", SERVER),
    refuse("connect-freq-initial", SERVER),
    leave("connect-retry", HOLDS),
    leave("connect-retry-max", HOLDS),
    leave("connect-timeout", HOLDS),
    accept("connection", (0, 0), remotes::stray_connection, "a block of its own for each remote, with `remote`, `port`, `rport`, `proto`, `http-proxy`, `socks-proxy`"),
    block("crl-verify", (1, 2), identity::crl, "revocation lists for the server's certificate; `dir` is refused"),
    refuse("cryptoapicert", TOKEN),
    leave("daemon", USER),
    accept("data-ciphers", (1, 1), tls::data_ciphers, "ciphers that are negotiated; at least one of AES-GCM and CHACHA20-POLY1305, others are left out"),
    accept("data-ciphers-fallback", (1, 1), tls::cipher, "as `cipher`"),
    accept("dev", (1, 1), tls::dev, "`tun`, or a name together with `dev-type tun`; `tap` is refused. The name is Raven's"),
    refuse("dev-node", READS),
    accept("dev-type", (1, 1), tls::dev_type, "`tun`; `tap` is refused"),
    refuse("dh", SERVER),
    leave("dhcp-internal", WINDOWS),
    accept("dhcp-option", (1, 15), wishes::dhcp_option, "DNS servers and domains, shown as a wish; the rest is left out").more(),
    leave("dhcp-pre-release", WINDOWS),
    leave("dhcp-release", WINDOWS),
    leave("dhcp-renew", WINDOWS),
    refuse("disable", SERVER),
    leave("disable-dco", "Raven decides whether the kernel carries the data"),
    leave("disable-occ", OLD),
    leave("dns", "Raven resolves names by its own configuration"),
    refuse("dns-updown", RUNS),
    refuse("down", RUNS),
    leave("down-pre", ENVIRONMENT),
    refuse("duplicate-cn", SERVER),
    leave("ecdh-curve", TLS_LISTS),
    leave("echo", APPS),
    refuse("engine", LOADS),
    leave("errors-to-stderr", LOGS),
    accept("explicit-exit-notify", (0, 1), tls::exit_notify, "says goodbye over UDP: 1 to 10 times"),
    block("extra-certs", (1, 1), identity::extra_certs, "certificates between the own one and its authority"),
    leave("fast-io", SOCKET),
    leave("float", "a server that moves is found again by a reconnect"),
    accept("fragment", (1, 2), tls::fragment, "largest datagram, 256 to 9000 bytes; UDP only, and the server must have it too"),
    refuse("genkey", OTHER),
    refuse("gremlin", "breaks packets on purpose"),
    leave("group", USER),
    leave("hand-window", TIMING),
    refuse("hash-size", SERVER),
    refuse("help", OTHER),
    accept("http-proxy", (2, 4), remotes::http_proxy, "HTTP proxy for TCP remotes: `none`, `basic`, `ntlm2`, `auto` or `auto-nct`").in_connection(),
    refuse("http-proxy-option", "puts lines of its own into requests to the proxy"),
    refuse("http-proxy-override", APPS),
    leave("http-proxy-retry", HOLDS),
    leave("http-proxy-timeout", HOLDS),
    block("http-proxy-user-pass", (1, 1), remotes::proxy_user_pass, "user and password for the HTTP proxy: inline, or from a file given beside the profile"),
    refuse("ifconfig", "gives the tunnel a fixed address; Raven takes the one that the server gives"),
    refuse("ifconfig-ipv6", "gives the tunnel a fixed address; Raven takes the one that the server gives"),
    refuse("ifconfig-ipv6-pool", SERVER),
    refuse("ifconfig-ipv6-push", SERVER),
    leave("ifconfig-noexec", ROUTES),
    leave("ifconfig-nowarn", ROUTES),
    refuse("ifconfig-pool", SERVER),
    refuse("ifconfig-pool-linear", SERVER),
    refuse("ifconfig-pool-persist", SERVER),
    refuse("ifconfig-push", SERVER),
    refuse("ifconfig-push-constraint", SERVER),
    leave("ignore-unknown-option", ASKS_FOR).more(),
    leave("inactive", HOLDS),
    leave("ip-win32", WINDOWS),
    refuse("ipchange", RUNS),
    refuse("iproute", RUNS),
    refuse("iroute", SERVER),
    refuse("iroute-ipv6", SERVER),
    accept("keepalive", (2, 2), wishes::keepalive, "seconds between pings and until a restart, shown as a wish; Raven has its own"),
    block("key", (1, 1), identity::key, "own private key: PKCS #8, RSA or EC in PEM, encrypted too"),
    accept("key-direction", (1, 1), tls::key_direction, "direction of `tls-auth`: 0 or 1"),
    accept("key-method", (1, 1), tls::key_method, "`2`, which is the only one; 1 is refused"),
    refuse("keying-material-exporter", SERVER),
    refuse("keysize", "is for ciphers that are too weak"),
    refuse("learn-address", RUNS),
    leave("link-mtu", "is replaced by `tun-mtu`"),
    refuse("lladdr", ETHERNET),
    leave("local", BINDS),
    refuse("log", WRITES),
    refuse("log-append", WRITES),
    leave("lport", BINDS),
    leave("machine-readable-output", LOGS),
    refuse("management", CONTROL),
    refuse("management-client", CONTROL),
    refuse("management-client-auth", CONTROL),
    refuse("management-client-group", CONTROL),
    refuse("management-client-pf", CONTROL),
    refuse("management-client-user", CONTROL),
    refuse("management-external-cert", CONTROL),
    refuse("management-external-key", CONTROL),
    refuse("management-forget-disconnect", CONTROL),
    refuse("management-hold", CONTROL),
    refuse("management-log-cache", CONTROL),
    refuse("management-query-passwords", CONTROL),
    refuse("management-query-proxy", CONTROL),
    refuse("management-query-remote", CONTROL),
    refuse("management-signal", CONTROL),
    refuse("management-up-down", CONTROL),
    leave("mark", SOCKET),
    refuse("max-clients", SERVER),
    leave("max-packet-size", "is for `tun-mtu` and `mssfix` to say"),
    leave("max-routes", ROUTES),
    refuse("max-routes-per-client", SERVER),
    refuse("memstats", WRITES),
    refuse("mktun", OTHER),
    leave("mlock", USER),
    refuse("mode", "`server` is for servers, and a client has no other to choose"),
    accept("mssfix", (0, 2), tls::mssfix, "largest TCP segment: 0 (off), or 256 to 9000 bytes with `mtu` or `fixed`"),
    leave("mtu-disc", SOCKET),
    leave("mtu-dynamic", OLD),
    leave("mtu-test", "measures for minutes; `mssfix` needs no measuring"),
    leave("multihome", SERVER),
    leave("mute", LOGS),
    leave("mute-replay-warnings", LOGS),
    accept("ncp-ciphers", (1, 1), tls::data_ciphers, "the old name of `data-ciphers`"),
    leave("ncp-disable", "Raven negotiates ciphers with any server that can"),
    leave("nice", USER),
    refuse("no-iv", WEAKENS),
    leave("no-name-remapping", OLD),
    refuse("no-replay", WEAKENS),
    accept("nobind", (0, 0), tls::nothing, "the own port is any; always so").in_connection(),
    refuse("ns-cert-type", "is not safe, and OpenVPN is giving it up; put `remote-cert-tls server` in its place, which nearly every server's certificate passes"),
    leave("opt-verify", OLD),
    leave("passtos", SOCKET),
    block("peer-fingerprint", (1, 1), identity::peer_fingerprint, "SHA-256 fingerprints, one of which the server's certificate must have").more(),
    leave("persist-key", STAYS),
    leave("persist-local-ip", STAYS),
    leave("persist-remote-ip", STAYS),
    leave("persist-tun", STAYS),
    accept("ping", (1, 1), wishes::ping, "seconds between pings, shown as a wish; Raven has its own"),
    leave("ping-exit", HOLDS),
    accept("ping-restart", (1, 1), wishes::ping_restart, "seconds without an answer until a restart, shown as a wish; Raven has its own"),
    leave("ping-timer-rem", HOLDS),
    refuse("pkcs11-cert-private", TOKEN),
    refuse("pkcs11-id", TOKEN),
    refuse("pkcs11-id-management", TOKEN),
    refuse("pkcs11-id-type", TOKEN),
    refuse("pkcs11-pin-cache", TOKEN),
    refuse("pkcs11-private-mode", TOKEN),
    refuse("pkcs11-protected-authentication", TOKEN),
    refuse("pkcs11-providers", LOADS),
    refuse("pkcs11-sign-mode", TOKEN),
    refuse("pkcs11-slot", TOKEN),
    refuse("pkcs11-slot-type", TOKEN),
    block("pkcs12", (1, 1), identity::pkcs12, "own certificate, key and authorities in one file, kept unopened"),
    refuse("plugin", LOADS),
    accept("port", (1, 1), remotes::port, "port of remotes that name none").in_connection(),
    refuse("port-share", SERVER),
    refuse("preresolve", "asks for names before there is a network"),
    leave("prng", OLD),
    refuse("profile", APPS),
    accept("proto", (1, 1), remotes::proto, "`udp` or `tcp-client` (`tcp`), with 4 or 6 behind it for one family, for remotes that name none").in_connection(),
    leave("proto-force", HOLDS),
    refuse("providers", LOADS),
    accept("pull", (0, 0), tls::pull, "takes what the server pushes; with `tls-client` it is `client`"),
    leave("pull-filter", "Raven decides what it takes of what a server pushes"),
    refuse("push", SERVER),
    leave("push-peer-info", STAMP),
    refuse("push-remove", SERVER),
    refuse("push-reset", SERVER),
    leave("rcvbuf", SOCKET),
    accept("redirect-gateway", (0, 8), wishes::redirect_gateway, "asks for all traffic, shown as a wish; only destinations that are told to go through the tunnel do"),
    leave("redirect-private", ROUTES),
    leave("register-dns", WINDOWS),
    leave("remap-usr1", HOLDS),
    accept("remote", (1, 3), remotes::remote, "server: name or address, port 1 to 65535, protocol; up to 64, tried in their order").more().in_connection(),
    accept("remote-cert-eku", (1, 1), tls::remote_cert_eku, "`TLS Web Server Authentication`: the server's certificate must be one for servers"),
    accept("remote-cert-ku", (1, 15), tls::remote_cert_ku, "key usages of the server's certificate, in hexadecimal digits"),
    accept("remote-cert-tls", (1, 1), tls::remote_cert_tls, "`server`: the server's certificate must be one for servers"),
    accept("remote-random", (0, 0), remotes::remote_random, "remotes are tried in any order"),
    leave("remote-random-hostname", "Raven asks for the name as it stands"),
    leave("reneg-bytes", TIMING),
    leave("reneg-pkts", TIMING),
    accept("reneg-sec", (1, 2), tls::reneg_sec, "seconds until new keys are made; 0: when the server says so"),
    refuse("replay-persist", WRITES),
    leave("replay-window", TIMING),
    leave("resolv-retry", HOLDS),
    refuse("rmtun", OTHER),
    accept("route", (1, 4), wishes::route, "network behind the tunnel, shown as a wish; it must not overlap with the venue's").more(),
    leave("route-delay", ROUTES),
    leave("route-gateway", ROUTES),
    accept("route-ipv6", (1, 3), wishes::route_ipv6, "network behind the tunnel, shown as a wish; it must not overlap with the venue's").more(),
    leave("route-ipv6-gateway", ROUTES),
    leave("route-method", WINDOWS),
    leave("route-metric", ROUTES),
    leave("route-noexec", ROUTES),
    leave("route-nopull", ROUTES),
    refuse("route-pre-down", RUNS),
    refuse("route-up", RUNS),
    accept("rport", (1, 1), remotes::port, "as `port`").in_connection(),
    leave("script-security", "lets programs run; Raven runs none, whatever it says"),
    refuse("secret", "is a key for ever, without TLS: whoever gets it reads everything, also what was sent before"),
    refuse("server", SERVER),
    refuse("server-bridge", SERVER),
    refuse("server-ipv6", SERVER),
    leave("server-poll-timeout", HOLDS),
    leave("session-timeout", HOLDS),
    refuse("setcon", USER),
    leave("setenv", "sets a variable for programs, and Raven runs none. `setenv opt` and a directive behind it is judged as that directive").more(),
    leave("setenv-safe", ENVIRONMENT).more(),
    leave("shaper", "holds the tunnel's speed down; Raven has its own"),
    refuse("show-ciphers", OTHER),
    refuse("show-curves", OTHER),
    refuse("show-digests", OTHER),
    refuse("show-engines", OTHER),
    refuse("show-gateway", OTHER),
    refuse("show-groups", OTHER),
    refuse("show-pkcs11-ids", OTHER),
    refuse("show-pkcs11-objects", OTHER),
    refuse("show-pkcs11-slots", OTHER),
    refuse("show-tls", OTHER),
    leave("single-session", HOLDS),
    leave("sndbuf", SOCKET),
    leave("socket-flags", SOCKET),
    accept("socks-proxy", (1, 3), remotes::socks_proxy, "SOCKS 5 proxy, without user and password or with those of a file given beside the profile").in_connection(),
    leave("socks-proxy-retry", HOLDS),
    block("socks-proxy-user-pass", (1, 1), remotes::proxy_user_pass, "user and password for the SOCKS proxy: inline, or from a file given beside the profile. A word of Raven's own: OpenVPN asks Raven for them"),
    refuse("stale-routes-check", SERVER),
    accept("static-challenge", (2, 3), identity::static_challenge, "asks for a one-time code at each connect, which somebody has to give: `raven vpn connect NAME --code -`"),
    refuse("status", WRITES),
    leave("status-version", LOGS),
    leave("suppress-timestamps", LOGS),
    leave("syslog", LOGS),
    leave("tap-sleep", WINDOWS),
    leave("tcp-nodelay", SOCKET),
    refuse("tcp-queue-limit", SERVER),
    refuse("test-crypto", OTHER),
    block("tls-auth", (1, 2), tls::tls_auth, "key that signs the handshake, with its direction on the line or in `key-direction`"),
    accept("tls-cert-profile", (1, 1), tls::cert_profile, "`legacy`, `preferred` or `suiteb`; `insecure` is refused"),
    leave("tls-cipher", TLS_LISTS),
    leave("tls-ciphersuites", TLS_LISTS),
    accept("tls-client", (0, 0), tls::tls_client, "is a client; with `pull` it is `client`"),
    block("tls-crypt", (1, 1), tls::tls_crypt, "key that encrypts the handshake"),
    block("tls-crypt-v2", (1, 1), tls::tls_crypt_v2, "this client's own key that encrypts the handshake"),
    refuse("tls-crypt-v2-verify", RUNS),
    leave("tls-exit", HOLDS),
    refuse("tls-export-cert", WRITES),
    leave("tls-groups", TLS_LISTS),
    refuse("tls-remote", "is not safe and removed from OpenVPN; put `verify-x509-name NAME name` in its place"),
    refuse("tls-server", SERVER),
    leave("tls-timeout", TIMING),
    refuse("tls-verify", RUNS),
    leave("tls-version-max", TLS_LISTS),
    accept("tls-version-min", (1, 2), tls::version_min, "1.2 or 1.3; less is made 1.2"),
    refuse("tmp-dir", WRITES),
    leave("topology", "comes from the server"),
    leave("tran-window", TIMING),
    accept("tun-mtu", (1, 1), tls::tun_mtu, "largest packet in the tunnel, 576 to 9000 bytes"),
    leave("tun-mtu-extra", ETHERNET),
    leave("tun-mtu-max", "the server pushes no more than `tun-mtu` says"),
    leave("txqueuelen", SOCKET),
    leave("udp-mtu", "is replaced by `tun-mtu`"),
    refuse("up", RUNS),
    leave("up-delay", ENVIRONMENT),
    leave("up-restart", ENVIRONMENT),
    leave("user", USER),
    refuse("username-as-common-name", SERVER),
    leave("verb", LOGS),
    refuse("verify-client-cert", SERVER),
    refuse("verify-hash", "OpenVPN is giving it up; `peer-fingerprint` takes its place"),
    accept("verify-x509-name", (1, 2), tls::verify_x509_name, "the server's certificate must have this `subject`, `name` or `name-prefix`"),
    refuse("version", OTHER),
    refuse("vlan-accept", SERVER),
    refuse("vlan-pvid", SERVER),
    refuse("vlan-tagging", SERVER),
    leave("win-sys", WINDOWS),
    leave("windows-driver", WINDOWS),
    refuse("writepid", WRITES),
    leave("x509-track", ENVIRONMENT),
    refuse("x509-username-field", "changes which name `verify-x509-name` looks at"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_each_directive_once() {
        for pair in RULES.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
        }
    }

    #[test]
    fn a_slip_of_the_finger_is_found() {
        assert_eq!(nearest("remotte"), Some("remote"));
        assert_eq!(nearest("verfy-x509-name"), Some("verify-x509-name"));
        assert_eq!(nearest("correct-horse"), None);
        assert_eq!(nearest(&"a".repeat(10_000)), None);
    }
}
