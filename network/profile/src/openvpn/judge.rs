//! What a profile must have as a whole, once its lines are read: a server that can be told from an impostor, an identity
//! that belongs together and is in its time, remotes that OpenVPN would take.

use super::draft::Draft;
use super::{Cipher, Control, Credentials, Identity, OpenVpn, Proxy, ProxyKind, Remote, Verify};
use crate::certificate::{Certificate, Validity, day};
use crate::key::Match;
use crate::report::{Finding, Remedy, Verdict};
use crate::{Allow, PROFILE_MAX};

/// Negotiated when the profile does not say: OpenVPN's own list.
const CIPHERS: [Cipher; 3] = [Cipher::Aes256Gcm, Cipher::Aes128Gcm, Cipher::Chacha20Poly1305];
/// Days before its end from which on a certificate is worth a warning.
const SOON: i64 = 30;

/// Adds what is missing to the report; `None` when the profile cannot be made of what is there.
pub(super) fn judge(mut draft: Draft<'_>) -> Option<OpenVpn> {
    if draft.report.is_full() {
        return None;
    }
    is_client(&mut draft);
    let mut remotes = remotes(&mut draft);
    server(&mut draft);
    let identity = identity(&mut draft);
    times(&mut draft);
    packets(&mut draft, &remotes);
    proxies(&mut draft, &mut remotes);
    challenge(&mut draft);
    ciphers(&mut draft);
    if draft.report.is_refused() {
        return None;
    }
    let profile = finish(&mut draft, remotes, identity?);
    let length = profile.to_config().expose().len();
    if length > PROFILE_MAX {
        let reason = format!("written anew it has {length} bytes; {PROFILE_MAX} are the most");
        draft.report.whole("", Verdict::Refused, reason);
    }
    Some(profile)
}

fn is_client(draft: &mut Draft<'_>) {
    let client = draft.client || (draft.tls_client && draft.pull);
    if !client && !draft.was_refused(&["client"]) {
        let reason =
            "is missing, or `tls-client` with `pull`: Raven takes profiles of clients that a server configures";
        draft.report.whole("client", Verdict::Refused, reason);
    }
    if draft.named_device && !draft.tun {
        let reason = "does not say whether it is tun; `dev-type tun` is missing";
        draft.at("dev", Verdict::Refused, reason, Some(Remedy::LeaveOut));
    }
}

/// With `<connection>`, remotes outside of it do not count in OpenVPN.
fn remotes(draft: &mut Draft<'_>) -> Vec<Remote> {
    let targets = std::mem::take(&mut draft.targets);
    let connections = std::mem::take(&mut draft.connections);
    if connections.is_empty() {
        if targets.is_empty() && !draft.was_refused(&["remote"]) {
            draft.report.whole("remote", Verdict::Refused, "is missing: there is no server to connect to");
        }
        return targets.into_iter().map(|target| draft.defaults.complete(target)).collect();
    }
    for target in targets {
        let reason = "stands outside of <connection>, where there are some: OpenVPN does not count it".to_owned();
        let (directive, verdict) = ("remote".to_owned(), Verdict::Dropped);
        let finding = Finding { line: target.line, column: 1, directive, verdict, reason, remedy: None };
        draft.report.add(finding);
    }
    connections.into_iter().map(|(_, remote)| remote).collect()
}

/// Whether an impostor would be found out.
fn server(draft: &mut Draft<'_>) {
    let believed = draft.ca.is_empty() && draft.peer_fingerprints.is_empty() && draft.pkcs12.is_none();
    if believed && !draft.was_refused(&["ca", "peer-fingerprint", "pkcs12"]) {
        let reason = "is missing, and `peer-fingerprint` too: any server would be believed";
        draft.report.whole("ca", Verdict::Refused, reason);
    }
    let Verify { usage, key_usages, name } = &draft.verify;
    let verified = usage.is_some() || name.is_some() || !key_usages.is_empty();
    let names = ["remote-cert-tls", "remote-cert-eku", "remote-cert-ku", "verify-x509-name", "peer-fingerprint"];
    if verified || !draft.peer_fingerprints.is_empty() || draft.was_refused(&names) {
        return;
    }
    let allowed = draft.options.allows(Allow::NoServerVerification);
    let reason = "is missing, and `verify-x509-name` too: any client of the same authority could pose as the server. \
                  Ask for a profile with one of them, or put `remote-cert-tls server` in, if the server's certificate is \
                  one for servers";
    let (verdict, reason, remedy) = if allowed {
        let reason = "is missing; allowed: any client of the same authority could pose as the server";
        (Verdict::Warning, reason, None)
    } else {
        (Verdict::Refused, reason, Some(Remedy::Allow(Allow::NoServerVerification)))
    };
    draft.at("remote-cert-tls", verdict, reason, remedy);
}

fn identity(draft: &mut Draft<'_>) -> Option<Identity> {
    let (cert, key) = (std::mem::take(&mut draft.cert), draft.key.take());
    match (cert.first().cloned(), key, draft.pkcs12.take()) {
        (None, None, Some(bytes)) => {
            draft.at("pkcs12", Verdict::Note, "is kept unopened: until when it holds is not known", None);
            Some(Identity::Pkcs12(bytes))
        }
        (None, None, None) => {
            let nobody = draft.credentials == Credentials::None;
            if nobody && !draft.was_refused(&["cert", "key", "pkcs12", "auth-user-pass"]) {
                let reason = "is missing, and `auth-user-pass` too: the server could not know who this is";
                draft.report.whole("cert", Verdict::Refused, reason);
            }
            Some(Identity::None)
        }
        (Some(own), Some(key), None) => {
            together(draft, &own, &cert, &key);
            Some(Identity::Pem { chain: cert, key })
        }
        (Some(_), None, _) => missing(draft, "key", "is missing, and `cert` is of no use without"),
        (None, Some(_), _) => missing(draft, "cert", "is missing, and `key` is of no use without"),
        (Some(_), Some(_), Some(_)) => missing(draft, "pkcs12", "stands beside `cert` and `key`; which one is meant?"),
    }
}

fn missing(draft: &mut Draft<'_>, name: &'static str, reason: &str) -> Option<Identity> {
    if draft.was_refused(&[name]) {
        return None;
    }
    let remedy = draft.seen.contains_key(name).then_some(Remedy::LeaveOut);
    draft.at(name, Verdict::Refused, reason, remedy);
    None
}

/// Whether certificate, key and authority are of one piece.
fn together(draft: &mut Draft<'_>, own: &Certificate, chain: &[Certificate], key: &crate::PrivateKey) {
    match key.fits(own) {
        Match::Yes => {}
        Match::No => {
            let reason = "is not the key of `cert`; one of the two is from another profile";
            draft.at("key", Verdict::Refused, reason, Some(Remedy::LeaveOut));
        }
        Match::Unknown if key.needs_passphrase() => {
            draft.at("key", Verdict::Note, "needs a passphrase; whether it belongs to `cert` shows only then", None);
        }
        Match::Unknown => {
            draft.at(
                "key",
                Verdict::Warning,
                "is of a kind of which Raven cannot see whether it belongs to `cert`",
                None,
            );
        }
    }
    let mut issuers = chain.iter().chain(&draft.extra_certs).chain(&draft.ca);
    if !draft.ca.is_empty() && !issuers.any(|issuer| own.names_as_issuer(issuer)) {
        let reason = "is not issued by an authority of `ca`; right only if the server trusts another for its clients";
        draft.at("cert", Verdict::Warning, reason, None);
    }
    if !own.is_for_clients() {
        draft.at("cert", Verdict::Warning, "is not one for clients (extended key usage); many servers refuse it", None);
    }
    if let Some(own) = chain.first() {
        in_time(draft, "cert", own);
    }
}

fn times(draft: &mut Draft<'_>) {
    for ca in draft.ca.clone() {
        in_time(draft, "ca", &ca);
    }
    let now = draft.options.now;
    let next = draft.crl.iter().filter_map(crate::Crl::next_update).min();
    if let Some(next) = next.filter(|next| *next < now) {
        let reason = format!("held until {}; OpenVPN connects nowhere with an old list", day(next));
        draft.at("crl-verify", Verdict::Warning, reason, None);
    }
}

fn in_time(draft: &mut Draft<'_>, name: &'static str, certificate: &Certificate) {
    let (now, Validity { not_before, not_after }) = (draft.options.now, certificate.validity());
    let (subject, until) = (certificate.subject(), day(not_after));
    let days = certificate.validity().days_left(now);
    if not_after < now && draft.options.allows(Allow::ExpiredCertificate) {
        draft.at(name, Verdict::Warning, format!("{subject} held until {until}"), None);
    } else if not_after < now {
        let reason = format!("{subject} held until {until}, and it is {} now; ask for a new one", day(now));
        draft.at(name, Verdict::Refused, reason, Some(Remedy::Allow(Allow::ExpiredCertificate)));
    } else if not_before > now {
        let reason =
            format!("{subject} holds from {} on, and it is {} now; is the clock right?", day(not_before), day(now));
        draft.at(name, Verdict::Warning, reason, None);
    } else if days < SOON {
        draft.at(name, Verdict::Warning, format!("{subject} holds until {until}, {days} days more"), None);
    }
}

fn packets(draft: &mut Draft<'_>, remotes: &[Remote]) {
    if draft.fragment.is_some() && !remotes.iter().all(|remote| remote.proto.is_udp()) {
        draft.at("fragment", Verdict::Refused, "is for UDP, and not every remote is", Some(Remedy::LeaveOut));
    }
    if draft.exit_notify.is_some() && !remotes.iter().any(|remote| remote.proto.is_udp()) {
        draft.exit_notify = None;
        draft.at("explicit-exit-notify", Verdict::Dropped, "is for UDP, and no remote is", None);
    }
    if draft.key_direction.is_some() && !matches!(draft.control, Control::Auth { .. }) {
        draft.at("key-direction", Verdict::Dropped, "is for `tls-auth`, which the profile does not have", None);
    }
}

fn proxies(draft: &mut Draft<'_>, remotes: &mut [Remote]) {
    if draft.seen.contains_key("socks-proxy-user-pass") {
        // OpenVPN asks for them only where a word behind the port says that there are some.
        let socks = remotes.iter_mut().filter_map(|remote| remote.proxy.as_mut());
        socks.filter(|proxy| proxy.kind == ProxyKind::Socks).for_each(|proxy| proxy.kind = ProxyKind::SocksLogin);
    }
    let http = |remote: &&Remote| matches!(remote.proxy, Some(Proxy { kind: ProxyKind::Http(_), .. }));
    if remotes.iter().filter(http).any(|remote| remote.proto.is_udp()) {
        let reason = "carries TCP only, and a remote that goes through it is UDP";
        draft.at("http-proxy", Verdict::Refused, reason, Some(Remedy::LeaveOut));
    }
    let asks = |remote: &&Remote| remote.proxy.as_ref().is_some_and(|proxy| proxy.kind.asks());
    let first = remotes.first().and_then(|remote| remote.proxy.as_ref());
    let differ = remotes.iter().any(|remote| remote.proxy.as_ref() != first);
    if differ && remotes.iter().any(|remote| asks(&remote)) {
        let reason = "wants user and password, which OpenVPN knows for one proxy only; have all remotes go through it";
        draft.at(seen(draft, "proxy"), Verdict::Refused, reason, None);
    }
    let wanted = remotes.iter().any(|remote| asks(&remote));
    if !wanted && draft.proxy_credentials != Credentials::None {
        draft.proxy_credentials = Credentials::None;
        let reason = "is for a proxy that asks for user and password, and no remote has one";
        draft.at(seen(draft, "proxy-user-pass"), Verdict::Dropped, reason, None);
    }
}

/// The directive of an HTTP or of a SOCKS proxy, whichever stood there.
fn seen(draft: &Draft<'_>, what: &str) -> &'static str {
    let names = ["http-proxy", "socks-proxy", "http-proxy-user-pass", "socks-proxy-user-pass"];
    let of = |name: &&&str| name.split_once('-').is_some_and(|(_, rest)| rest == what);
    let mut stood = names.iter().filter(of).filter(|name| draft.seen.contains_key(**name));
    stood.next().copied().unwrap_or("http-proxy")
}

/// A one-time code goes beside a password, or nowhere.
fn challenge(draft: &mut Draft<'_>) {
    if draft.challenge.is_some() && draft.credentials == Credentials::None {
        draft.challenge = None;
        let reason = "goes with `auth-user-pass`, which the profile does not have";
        draft.at("static-challenge", Verdict::Dropped, reason, None);
    }
}

/// A cipher for servers that do not negotiate is worth nothing unless it may be negotiated too.
fn ciphers(draft: &mut Draft<'_>) {
    if draft.data_ciphers.is_empty() {
        draft.data_ciphers = CIPHERS.into();
    }
    if let Some(fallback) = draft.fallback.filter(|fallback| !draft.data_ciphers.contains(fallback)) {
        draft.data_ciphers.push(fallback);
    }
    if let Some(weak) = draft.data_ciphers.iter().find(|cipher| !cipher.is_aead()) {
        let names = ["cipher", "data-ciphers-fallback", "data-ciphers", "ncp-ciphers"];
        let name = names.into_iter().find(|name| draft.seen.contains_key(name)).unwrap_or("data-ciphers");
        draft.at(name, Verdict::Warning, format!("{} is no AEAD cipher; allowed", weak.word()), None);
    }
}

fn finish(draft: &mut Draft<'_>, remotes: Vec<Remote>, identity: Identity) -> OpenVpn {
    let mut control = std::mem::replace(&mut draft.control, Control::None);
    if let Control::Auth { direction, .. } = &mut control {
        *direction = draft.key_direction;
    }
    OpenVpn {
        remotes,
        remote_random: draft.remote_random,
        ca: std::mem::take(&mut draft.ca),
        peer_fingerprints: std::mem::take(&mut draft.peer_fingerprints),
        identity,
        extra_certs: std::mem::take(&mut draft.extra_certs),
        crl: std::mem::take(&mut draft.crl),
        credentials: std::mem::replace(&mut draft.credentials, Credentials::None),
        challenge: draft.challenge.take(),
        proxy_credentials: std::mem::replace(&mut draft.proxy_credentials, Credentials::None),
        control,
        verify: std::mem::take(&mut draft.verify),
        tls_min: draft.tls_min,
        cert_profile: draft.cert_profile,
        data_ciphers: std::mem::take(&mut draft.data_ciphers),
        fallback: draft.fallback,
        auth: draft.auth,
        framing: draft.framing,
        tun_mtu: draft.tun_mtu,
        mssfix: draft.mssfix,
        fragment: draft.fragment,
        reneg_sec: draft.reneg_sec,
        exit_notify: draft.exit_notify,
        wishes: std::mem::take(&mut draft.wishes),
    }
}
