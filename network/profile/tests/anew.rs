//! Whatever is taken and written anew holds only what the table accepts, and is read again as it is.
//! `RAVEN_PROFILE_MUTATIONS` says how many profiles are changed at random; 5,000 unless told otherwise.
#![allow(clippy::unwrap_used)]

mod support;

use raven_profile::{Options, Profile, Reading, openvpn, read};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::{Case, NOW, Random, cases};

/// Far beyond what any profile takes, also without optimisation on a loaded machine.
const LONGEST: Duration = Duration::from_secs(5);

fn without_wishes(mut profile: Profile) -> Profile {
    if let Profile::OpenVpn(profile) = &mut profile {
        profile.wishes = openvpn::Wishes::default();
    }
    profile
}

/// Holds what came of a profile against the promise; the number of profiles that were taken.
fn promise(name: &str, reading: Reading) -> usize {
    let Some(profile) = reading.profile else {
        assert!(reading.report.is_refused(), "{name}: neither taken nor refused");
        return 0;
    };
    assert!(!reading.report.is_refused(), "{name}: taken and refused");
    let text = profile.to_config();
    let again = read(text.expose().as_bytes(), &Options::stored(NOW));
    let profile = without_wishes(profile);
    assert_eq!(again.profile.as_ref(), Some(&profile), "{name}:\n{}", again.report);
    assert_eq!(again.profile.unwrap().to_config(), text, "{name}");
    if matches!(profile, Profile::OpenVpn(_)) {
        only_accepted(name, text.expose());
    } else {
        only_known(name, text.expose());
    }
    1
}

/// Directives that are accepted, inline blocks that are, and no word that could be a path.
fn only_accepted(name: &str, text: &str) {
    let accepted: BTreeSet<&str> =
        openvpn::directives().filter(|(_, answer, _)| *answer == "accepted").map(|(name, ..)| name).collect();
    let mut block: Option<&str> = None;
    for line in text.lines() {
        assert!(line.len() <= 254 || block.is_some(), "{name}: {line}");
        match (block, line.strip_prefix('<').and_then(|rest| rest.strip_suffix('>'))) {
            (Some(open), Some(tag)) if tag.strip_prefix('/') == Some(open) => block = None,
            (Some(_), _) | (None, Some("connection" | "/connection")) => {}
            (None, Some(tag)) => {
                assert!(accepted.contains(tag), "{name}: <{tag}>");
                block = Some(tag);
            }
            (None, None) => {
                let (directive, rest) = line.split_once(' ').unwrap_or((line, ""));
                assert!(accepted.contains(directive), "{name}: {line}");
                assert!(!rest.contains('/') || directive == "verify-x509-name", "{name}: {line}");
            }
        }
    }
    assert_eq!(block, None, "{name}");
}

fn only_known(name: &str, text: &str) {
    let known = [
        "PrivateKey",
        "Address",
        "ListenPort",
        "MTU",
        "DNS",
        "PublicKey",
        "PresharedKey",
        "AllowedIPs",
        "Endpoint",
        "PersistentKeepalive",
    ];
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('[')) {
        let (key, _) = line.split_once(" = ").unwrap();
        assert!(known.contains(&key), "{name}: {key}");
    }
}

fn all() -> Vec<Case> {
    ["hostile", "valid", "wireguard"].map(cases).into_iter().flatten().collect()
}

#[test]
fn each_profile_is_written_anew_and_read_again() {
    let taken: usize = all().iter().map(|case| promise(&case.name, read(&case.bytes, &case.options))).sum();
    assert!(taken >= 50, "{taken}");
}

#[test]
fn a_profile_cut_off_anywhere_is_judged() {
    for (folder, name) in
        [("valid", "connections"), ("valid", "user-inline"), ("hostile", "setenv-opt"), ("wireguard", "lists")]
    {
        let case = cases(folder).into_iter().find(|case| case.name == name).unwrap();
        for end in 0..case.bytes.len() {
            promise(&case.name, read(&case.bytes[..end], &case.options));
        }
    }
}

#[test]
fn profiles_changed_at_random_are_judged() {
    let count = std::env::var_os("RAVEN_PROFILE_MUTATIONS").map_or(5_000, |n| n.to_str().unwrap().parse().unwrap());
    let (good, bad): (Vec<Case>, Vec<Case>) =
        all().into_iter().partition(|case| read(&case.bytes, &case.options).profile.is_some());
    let (mut random, mut taken, mut slowest) = (Random(0x5eed), 0, Duration::ZERO);
    for round in 0..count {
        let mut one_of = |cases: &'_ [Case]| random.below(cases.len());
        let (case, other) = (&good[one_of(&good)], &bad[one_of(&bad)]);
        let (case, other) = if round % 5 == 0 { (other, case) } else { (case, other) };
        let bytes = changed(&case.bytes, &other.bytes, &mut random);
        let begun = Instant::now();
        let reading = read(&bytes, &case.options);
        slowest = slowest.max(begun.elapsed());
        taken += promise(&format!("{} in round {round}", case.name), reading);
    }
    println!("{count} profiles, {taken} taken, the slowest in {slowest:?}");
    assert!(slowest < LONGEST && taken * 33 > count, "{taken} of {count} taken, the slowest in {slowest:?}");
}

/// One to three changes: a bit, a byte, a line moved, doubled, gone, or of another profile; a cut; a word repeated.
fn changed(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let others: Vec<&[u8]> = other.split(|b| *b == b'\n').collect();
    for _ in 0..=random.below(3) {
        let (at, to) = (place(&lines, random), place(&lines, random));
        match random.below(9) {
            0 => lines.swap(at, to),
            1 => lines.insert(to, lines[at].clone()),
            2 if lines.len() > 1 => drop(lines.remove(at)),
            3 => lines.insert(to, others[random.below(others.len())].to_vec()),
            4 => lines.truncate(at.max(1)),
            5 => lines[at] = [lines[at].as_slice(), b" ", lines[to].as_slice()].concat(),
            _ if lines[at].is_empty() => {}
            6 => {
                let byte = random.below(lines[at].len());
                lines[at][byte] ^= 1 << random.below(8);
            }
            7 => {
                let byte = random.below(lines[at].len());
                lines[at][byte] = random.next() as u8;
            }
            _ => {
                let byte = random.below(lines[at].len());
                let piece = [&b"\""[..], b"'", b"\\", b"#", b"<", b"/", b" ", b"\0", b"--", b"99999", b"\xc3\xa9"]
                    [random.below(11)];
                lines[at].splice(byte..byte, piece.iter().copied());
            }
        }
    }
    lines.join(&b'\n')
}

/// A line, rather one that is not of a key or certificate: of those any change breaks them.
fn place(lines: &[Vec<u8>], random: &mut Random) -> usize {
    let picked: Vec<usize> = (0..6).map(|_| random.below(lines.len())).collect();
    let word = |at: &&usize| lines[**at].len() < 60 && lines[**at].contains(&b' ');
    picked.iter().find(word).or(picked.first()).copied().unwrap_or(0)
}

#[test]
fn the_worst_profiles_take_no_longer() {
    let repeated = |piece: &str| piece.repeat(raven_profile::PROFILE_MAX / piece.len());
    for piece in [
        "a\n",
        "<a>\n",
        "<connection>\n",
        "<connection>\nremote a\n</connection>\n",
        "remotf x\n",
        "#\n",
        "\\",
        "\"a\" ",
        "<ca>\n</ca>\n",
        "-----BEGIN CERTIFICATE-----\n",
        "verb 3\n",
        "route 192.0.2.0 255.255.255.0\n",
        "[Interface]\n",
        "[Peer]\n",
        "setenv opt setenv opt x\n",
    ] {
        let begun = Instant::now();
        for head in ["", "<ca>\n", "[Interface]\n", "[Peer]\nAllowedIPs="] {
            let mut text = repeated(piece);
            text.truncate(raven_profile::PROFILE_MAX - head.len());
            promise(piece, read(format!("{head}{text}").as_bytes(), &Options::default()));
        }
        assert!(begun.elapsed() < 4 * LONGEST, "{piece}: {:?}", begun.elapsed());
    }
    let networks: Vec<String> = (0..12_000).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
    let begun = Instant::now();
    promise(
        "networks",
        read(format!("[Interface]\n[Peer]\nAllowedIPs = {}", networks.join(",")).as_bytes(), &Options::default()),
    );
    assert!(begun.elapsed() < LONGEST);
}
