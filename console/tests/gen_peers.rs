//! The load generator against the receivers that others wrote: nfcapd, sfcapd, nfdump, snmptrapd, tshark.
//! A test whose peer is not installed says so and passes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod common;

use common::wire::generate;
use raven_console::load::{FlowMark, Mark};
use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const COUNT: u64 = 2400;

/// Whether all of these programs are there.
fn installed(test: &str, programs: &[&str]) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&paths).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let missing = programs.iter().find(|program| !folders.iter().any(|folder| folder.join(program).exists()));
    missing.inspect(|program| eprintln!("SKIPPED {test}: {program} is not installed")).is_none()
}

/// A peer that ends with its test.
struct Peer(Child);

impl Peer {
    fn start(command: &mut Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let peer = Self(child);
        let until = Instant::now() + Duration::from_secs(10);
        while !bound(port) {
            assert!(Instant::now() < until, "{command:?} did not begin to listen");
            thread::sleep(Duration::from_millis(20));
        }
        peer
    }

    /// Asks it to end, and waits.
    fn end(mut self) {
        let pid = self.0.id().to_string();
        Command::new("kill").arg(&pid).status().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether somebody listens on this UDP port.
fn bound(port: u16) -> bool {
    let needle = format!(":{port:04X} ");
    let lines = ["/proc/net/udp", "/proc/net/udp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    lines.iter().flat_map(|text| text.lines()).any(|line| line.get(..40).is_some_and(|start| start.contains(&needle)))
}

fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What nfdump makes of what a collector stored: marks, and sequence errors.
fn nfdump(folder: &Path) -> (BTreeSet<(u32, u64)>, String) {
    let run = |args: &[&str]| {
        let output = Command::new("nfdump").arg("-R").arg(folder).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let csv = run(&["-q", "-o", "fmt:%sa,%sp,%da"]);
    let mark = |line: &str| {
        let mut fields = line.split(',').map(str::trim);
        let source: IpAddr = fields.next()?.parse().ok()?;
        let port = fields.next()?.parse().ok()?;
        FlowMark::read(source, port, fields.next()?.parse().ok()?).map(|mark| (mark.sender, mark.n))
    };
    (csv.lines().filter_map(mark).collect(), run(&["-I"]))
}

fn all_of(senders: u32) -> BTreeSet<(u32, u64)> {
    (0..senders).flat_map(|sender| (0..COUNT / u64::from(senders)).map(move |n| (sender, n))).collect()
}

fn collect(program: &str, verb: &[&str], senders: u32) {
    if !installed(&format!("{verb:?}"), &[program, "nfdump"]) {
        return;
    }
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut command = Command::new(program);
    command.args(["-b", "127.0.0.1", "-p", &port.to_string(), "-t", "2", "-B", "4000000", "-w"]).arg(folder.path());
    let peer = Peer::start(&mut command, port);
    let extra = ["--count", &COUNT.to_string(), "--rate", "24000", "--senders", &senders.to_string(), "--mark", "peer"];
    generate(verb, &format!("127.0.0.1:{port}"), &extra);
    // From files of two seconds: one that ends just then may leave its last file without a name (nfcapd 1.7.1).
    let until = Instant::now() + Duration::from_secs(20);
    let (marks, statistics) = loop {
        let (marks, statistics) = nfdump(folder.path());
        if marks.len() as u64 == COUNT || Instant::now() > until {
            break (marks, statistics);
        }
        thread::sleep(Duration::from_millis(200));
    };
    peer.end();
    assert!(statistics.contains("Sequence failures: 0"), "{statistics}");
    assert!(statistics.contains(&format!("Flows: {COUNT}")), "{statistics}");
    assert_eq!(marks, all_of(senders));
}

#[test]
fn nfcapd_takes_netflow_5() {
    collect("nfcapd", &["netflow", "--version", "5"], 2);
}

#[test]
fn nfcapd_takes_netflow_9() {
    collect("nfcapd", &["netflow", "--version", "9", "--template-every", "20"], 2);
}

#[test]
fn nfcapd_takes_ipfix() {
    // One template packet: nfcapd 1.7.1 leaves the records of options out of its count, RFC 7011, 3.1 has them in.
    collect("nfcapd", &["ipfix"], 2);
}

#[test]
fn sfcapd_takes_sflow() {
    collect("sfcapd", &["sflow"], 1);
}

#[test]
fn snmptrapd_takes_traps_informs_and_decrypts_version_3() {
    if !installed("traps", &["snmptrapd"]) {
        return;
    }
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = file(
        "snmptrapd.conf",
        "authCommunity log public\n\
         createUser -e 0x80007ed804726176656e0000 raven SHA-256 authpass1 AES privpass1\nauthUser log raven priv\n\
         createUser noc SHA-256 authpass1 AES privpass1\nauthUser log noc priv\n",
    );
    let (auth, privacy, log) = (file("auth", "authpass1\n"), file("priv", "privpass1\n"), file("log", ""));
    let mut command = Command::new("snmptrapd");
    command.args(["-f", "-Lf", &log, "-On", "-C", "-c", &config, "-m", "", &format!("udp:127.0.0.1:{port}")]);
    let peer = Peer::start(command.env("SNMP_PERSISTENT_DIR", folder.path()), port);
    let to = format!("127.0.0.1:{port}");
    let run =
        |mark: &str, extra: &[&str]| generate(&["trap", "--count", "300", "--rate", "500", "--mark", mark], &to, extra);
    run("two", &[]);
    let informs = run("inform", &["--inform"]).answers.unwrap();
    let secrets = ["--version", "3", "--user", "noc", "--auth-file", &auth, "--priv-file", &privacy];
    let informs_3 = run("inform-three", &[&["--inform"], &secrets[..]].concat()).answers.unwrap();
    let other = file("other", "authpass2\n");
    let wrong = ["--version", "3", "--user", "noc", "--auth-file", &other, "--to", &to, "--count", "1"];
    let refused = common::raven(&[&["gen", "trap", "--inform"], &wrong[..]].concat());
    run("three", &["--version", "3", "--auth-file", &auth, "--priv-file", &privacy]);
    let until = Instant::now() + Duration::from_secs(20);
    let came = || String::from_utf8_lossy(&std::fs::read(&log).unwrap()).matches("raven-mark=three/").count();
    while came() < 300 && Instant::now() < until {
        thread::sleep(Duration::from_millis(100));
    }
    peer.end();
    for informs in [informs, informs_3] {
        assert_eq!((informs.acknowledged, informs.rejected, informs.unanswered), (300, 0, 0));
    }
    assert!(common::code(&refused) == 1 && common::stderr(&refused).contains("wrongDigest"), "{refused:?}");
    let text = std::fs::read(&log).unwrap();
    for run in ["two", "inform", "inform-three", "three"] {
        let marks = text.split(|byte| *byte == b'\n').filter_map(Mark::find);
        let numbers: BTreeSet<u64> = marks.filter(|mark| mark.run == run.as_bytes()).map(|mark| mark.n).collect();
        assert!(numbers.into_iter().eq(0..300), "{run}");
    }
}

/// tshark reads a capture file that was made of the datagrams: no interface, no rights.
fn tshark(verb: &[&str], port: u16, decode_as: &str, filter: &str) {
    if !installed(&format!("tshark {verb:?}"), &["tshark"]) {
        return;
    }
    let (datagrams, _) = common::wire::datagrams(verb, &["--count", "480", "--rate", "20000"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.pcap");
    std::fs::write(&path, capture(&datagrams, port)).unwrap();
    let read = |filter: &str| {
        let mut command = Command::new("tshark");
        command.args(["-n", "-d", &format!("udp.port=={port},{decode_as}"), "-Y", filter, "-r"]).arg(&path);
        String::from_utf8_lossy(&command.output().unwrap().stdout).lines().count()
    };
    assert_eq!(read(filter), datagrams.len(), "{filter}");
    assert_eq!(read("_ws.malformed || _ws.expert.severity == error"), 0, "{verb:?}");
}

/// A pcap file of IPv4 packets without checksums.
fn capture(datagrams: &[Vec<u8>], port: u16) -> Vec<u8> {
    let mut out: Vec<u8> =
        [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65_535, 228].iter().flat_map(|w| w.to_be_bytes()).collect();
    for datagram in datagrams {
        let len = (datagram.len() + 28) as u32;
        out.extend([0, 0, len, len].iter().flat_map(|word: &u32| word.to_be_bytes()));
        let ip = [0x4500_0000 | len, 0, 0x4011_0000, 0x7f00_0001, 0x7f00_0001];
        out.extend(ip.iter().flat_map(|word: &u32| word.to_be_bytes()));
        let udp = [40_000, port, (datagram.len() + 8) as u16, 0];
        out.extend(udp.iter().flat_map(|word: &u16| word.to_be_bytes()));
        out.extend_from_slice(datagram);
    }
    out
}

#[test]
fn tshark_finds_no_fault() {
    tshark(&["netflow", "--version", "5"], 2055, "cflow", "cflow.version == 5");
    tshark(&["netflow", "--ipv6"], 2055, "cflow", "cflow.version == 9");
    tshark(&["ipfix", "--ipv6"], 2055, "cflow", "cflow.version == 10");
    tshark(&["sflow"], 6343, "sflow", "sflow");
    tshark(&["trap"], 162, "snmp", "snmp.data == 7");
    tshark(&["trap", "--version", "3"], 162, "snmp", "snmp.msgVersion == 3");
}
