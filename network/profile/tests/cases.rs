//! Profiles as they come by e-mail: hostile ones are refused for what they do, valid ones are taken for what they say.
#![allow(clippy::unwrap_used)]

mod support;

use raven_profile::openvpn::{Cipher, Control, Credentials, Direction, Framing, Identity, MssBase, Proto, ServerUsage};
use raven_profile::{Allow, Format, OpenVpn, Options, PROFILE_MAX, Profile, Secret, Verdict, read};
use support::{Case, NOW, cases, hold};

fn case(folder: &str, name: &str) -> Case {
    cases(folder).into_iter().find(|case| case.name == name).unwrap()
}

fn open_vpn(name: &str) -> OpenVpn {
    let case = case("valid", name);
    match read(&case.bytes, &case.options).profile {
        Some(Profile::OpenVpn(profile)) => *profile,
        other => panic!("{name}: {other:?}"),
    }
}

fn hold_all(folder: &str, fewest: usize, taken: impl Fn(&Case) -> bool) {
    let cases = cases(folder);
    assert!(cases.len() >= fewest, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let reading = read(&case.bytes, &case.options);
        wrong.extend(hold(case, &reading.report.findings));
        if reading.profile.is_some() != taken(case) {
            wrong.push(format!("{}: taken: {}\n{}", case.name, reading.profile.is_some(), reading.report));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn hostile_profiles_are_refused_for_what_they_do() {
    hold_all("hostile", 32, |_| false);
}

#[test]
fn valid_profiles_are_taken() {
    hold_all("valid", 20, |_| true);
}

#[test]
fn profiles_of_wg_quick_are_judged() {
    let refuses = |case: &Case| case.expected.iter().any(|(verdict, ..)| *verdict == Verdict::Refused);
    hold_all("wireguard", 20, |case| !refuses(case));
}

#[test]
fn findings_stand_by_line_and_say_nothing_of_keys() {
    for folder in ["hostile", "valid", "wireguard"] {
        for case in cases(folder) {
            let report = read(&case.bytes, &case.options).report;
            let lines: Vec<u32> = report.findings.iter().map(|finding| finding.line).collect();
            assert!(lines.is_sorted(), "{}: {lines:?}", case.name);
            let said = format!("{report}{}", serde_json::to_string(&report).unwrap());
            let text = String::from_utf8_lossy(&case.bytes);
            let words = text.split(|c: char| c.is_whitespace() || "<>=".contains(c));
            let base64 =
                |word: &&str| word.len() >= 24 && word.chars().all(|c| c.is_ascii_alphanumeric() || "+/".contains(c));
            let keyish = words.filter(base64).filter(|word| word.chars().any(|c| c.is_ascii_digit()));
            keyish.for_each(|word| assert!(!said.contains(word), "{}: {word}", case.name));
            for word in ["hunter", "proxypass", "bob"] {
                assert!(!said.contains(word), "{}: {word}", case.name);
            }
        }
    }
}

#[test]
fn debug_shows_no_secret() {
    for (folder, secrets) in [
        ("valid", ["hunter2", "proxypass", "PRIVATE"]),
        ("wireguard", ["AQgPFh0kKzI5QEdOVVxjanF4f4aNlJuiqbC3vsXM09o", "P0ZNVFtiaXB3foWM", "1, 8, 15, 22"]),
    ] {
        for case in cases(folder) {
            let said = format!("{:?}", read(&case.bytes, &case.options));
            for secret in secrets {
                assert!(!said.contains(secret), "{}: {said}", case.name);
            }
        }
    }
}

#[test]
fn a_profile_that_is_too_large_or_empty_is_not_looked_at() {
    let case = case("valid", "easy-rsa");
    let with = |length: usize| {
        let mut bytes = case.bytes.clone();
        while bytes.len() < length {
            bytes.extend_from_slice(&b"# 0123456\n"[..(length - bytes.len()).min(10)]);
        }
        read(&bytes, &case.options)
    };
    assert!(with(PROFILE_MAX).profile.is_some());
    assert!(with(PROFILE_MAX + 1).report.to_string().contains("262145 bytes"), "{}", with(PROFILE_MAX + 1).report);
    assert!(with(300 * 1024).profile.is_none());
    assert!(read(b" \r\n", &case.options).report.to_string().contains("is empty"));
    assert!(read(b"", &case.options).report.is_refused());
}

#[test]
fn formats_are_told_apart_unless_they_are_given() {
    let (ovpn, conf) = (case("valid", "easy-rsa"), case("wireguard", "comments-crlf-bom"));
    assert!(matches!(read(&ovpn.bytes, &ovpn.options).profile, Some(Profile::OpenVpn(_))));
    assert!(matches!(read(&conf.bytes, &conf.options).profile, Some(Profile::WireGuard(_))));
    let forced = |format| Options { format: Some(format), ..Options::default() };
    assert!(read(&ovpn.bytes, &forced(Format::WireGuard)).report.is_refused());
    assert!(read(&conf.bytes, &forced(Format::OpenVpn)).report.is_refused());
}

#[test]
fn values_are_those_of_the_profile() {
    let profile = open_vpn("connections");
    let remotes: Vec<String> = profile
        .remotes
        .iter()
        .map(|r| format!("{} {} {} {}", r.host, r.port, r.proto.word(), r.proxy.is_some()))
        .collect();
    assert_eq!(
        remotes,
        ["a.example.com 1194 udp false", "b.example.com 443 tcp-client true", "192.0.2.7 443 tcp4-client true"]
    );
    assert_eq!(open_vpn("ipv6").remotes[0].proto, Proto::Udp6);
    assert_eq!((open_vpn("ipv6").ends(), open_vpn("pkcs12-file").ends()), (Some(2_335_219_200), None));
    assert!(open_vpn("ipv6").remote_random);
    let provider = open_vpn("provider");
    assert_eq!((provider.framing, provider.reneg_sec), (Some(Framing::LzoNo), Some(0)));
    assert_eq!(provider.mssfix.map(|mssfix| (mssfix.max, mssfix.base)), Some((1450, MssBase::Packet)));
    assert_eq!((provider.wishes.ping, provider.wishes.ping_restart), (Some(15), Some(0)));
    assert_eq!(provider.credentials, Credentials::Asked);
    let name = open_vpn("hash-in-quotes").verify.name.unwrap();
    assert_eq!(name.name, "C=DE, O=a # b; \"c\" \\, CN=server");
    assert_eq!(open_vpn("mikrotik").data_ciphers.last(), Some(&Cipher::Aes256Cbc));
    assert_eq!(open_vpn("unifi").fallback, None);
    assert_eq!(open_vpn("old-tls-words").data_ciphers, [Cipher::Aes128Gcm, Cipher::Aes256Gcm]);
    assert_eq!(open_vpn("fingerprint").peer_fingerprints.len(), 2);
}

#[test]
fn keys_and_credentials_are_those_of_the_profile() {
    for name in ["key-direction-outside", "tls-auth-on-the-line", "inline-pointers"] {
        match open_vpn(name).control {
            Control::Auth { key, direction } => {
                assert_eq!((key.expose().len(), direction), (256, Some(Direction::One)));
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let given = |user: &str, password: &str| Credentials::Given {
        user: Secret::new(user.to_owned()),
        password: Some(Secret::new(password.to_owned())),
    };
    assert_eq!(open_vpn("user-inline").credentials, given("bob", "p a\"s\\s # w;rd </x>"));
    assert_eq!(open_vpn("user-file").credentials, given("bob", "hunter2"));
    assert_eq!(open_vpn("proxy").proxy_credentials, given("proxyuser", "proxypass"));
    assert_eq!(open_vpn("socks-proxy").proxy_credentials, given("proxyuser", "proxypass"));
    assert_eq!(open_vpn("socks-proxy-file").proxy_credentials, given("bob", "hunter2"));
    let (inline, file) = (open_vpn("pkcs12-inline"), open_vpn("pkcs12-file"));
    assert!(matches!(inline.identity, Identity::Pkcs12(_)));
    assert_eq!(inline, file);
    let challenge = open_vpn("one-time-code").challenge.unwrap();
    assert_eq!((challenge.question.as_str(), challenge.echo), ("Code, please", true));
    assert_eq!(open_vpn("packets").verify.usage, Some(ServerUsage::Tls));
}

#[test]
fn wishes_are_kept_and_not_written() {
    let profile = open_vpn("wishes");
    let routes: Vec<String> = profile.wishes.routes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]);
    assert!(profile.wishes.all_ipv4 && profile.wishes.all_ipv6);
    assert_eq!((profile.wishes.dns.len(), profile.wishes.domains.len()), (1, 1));
    let config = profile.to_config();
    for word in ["route", "redirect", "dhcp", "keepalive", "ping"] {
        assert!(!config.expose().contains(word), "{word}");
    }
}

#[test]
fn the_files_that_a_profile_needs_are_named() {
    let case = case("hostile", "ca-traversal");
    let report = read(&case.bytes, &case.options).report;
    assert_eq!(report.files_needed(), ["../../etc/ssl/ca.crt", "client.crt", "client.key"]);
}

#[test]
fn a_summary_shows_what_is_not_secret() {
    let case = case("valid", "access-server");
    let profile = read(&case.bytes, &case.options).profile.unwrap();
    let summary = serde_json::to_value(profile.summary(NOW)).unwrap();
    assert_eq!(summary["format"], "openvpn");
    assert_eq!(summary["remotes"][2]["proto"], "tcp-client");
    assert_eq!(summary["handshake"], "tls-crypt-v2");
    assert_eq!(summary["certificates"][0]["role"], "own");
    assert_eq!(summary["certificates"][0]["until"], "2044-01-01");
    assert_eq!(summary["certificates"][0]["days_left"], 6423);
    assert_eq!(summary["certificates"][1]["role"], "ca");
    let case = cases("wireguard").into_iter().find(|case| case.name == "plain").unwrap();
    let summary = serde_json::to_value(read(&case.bytes, &case.options).profile.unwrap().summary(NOW)).unwrap();
    assert_eq!(summary["peers"][0]["endpoint"], "vpn.example.com:51820");
    // As `wg pubkey` computes it.
    assert_eq!(summary["public_key"], "yP7Kgb4ZbN8sreq/E8SQPXYy3OSVWqaLbl2a3vVOJhY=");
    assert_eq!(summary["peers"][0]["preshared_key"], true);
    assert_eq!(summary["peers"][0]["allowed_ips"][0], "10.10.0.0/16");
    assert_eq!(summary["peers"][0]["public_key"].as_str().unwrap().len(), 44);
}

#[test]
fn what_may_be_allowed_has_a_word() {
    for allow in Allow::ALL {
        assert_eq!(allow.word().parse(), Ok(allow));
        assert_eq!(serde_json::to_value(allow).unwrap(), allow.word());
    }
    assert!("scripts".parse::<Allow>().is_err());
}
