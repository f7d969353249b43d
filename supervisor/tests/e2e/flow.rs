//! Flows through the whole appliance: every version, real exporters, collectors that die in the middle of a stream, and
//! exports that other tools read.

use crate::appliance::{Appliance, Plan, find, free_port, number, said, sections};
use crate::{eventually, pause};
use raven_model::query::RecordView;
use rustix::process::Signal;
use serde_json::Value;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};

/// Collects flows on this port.
fn raven_at(port: u16) -> Appliance {
    let flow = ("flow", format!("udp = [{port}]\ntcp = [{port}]"));
    Plan { others: sections(&[flow]), ..Plan::new() }.start()
}

fn stored(raven: &Appliance) -> u64 {
    let streams = raven.status()["streams"].clone();
    let flow = streams.as_array().unwrap().iter().find(|stream| stream["name"] == "flow").cloned();
    flow.map_or(0, |flow| number(&flow["stored"]))
}

/// Every datagram with its decoded fields.
fn decoded(raven: &Appliance) -> Vec<Value> {
    let output = raven.raven(&["export", "flow", "--decoded"]);
    assert!(output.status.success(), "{}", said(&output));
    let lines = output.stdout.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    let record = |line: &[u8]| serde_json::from_slice::<RecordView>(line).unwrap();
    lines.map(|line| record(line).decoded.unwrap().read::<Value>().unwrap()).collect()
}

/// Records of a kind in all datagrams.
fn count(datagrams: &[Value], kind: &str) -> usize {
    datagrams.iter().map(|datagram| datagram[kind].as_array().unwrap().len()).sum()
}

fn generate(raven: &Appliance, arguments: &[&str]) -> Value {
    let output = raven.raven(&[&["gen"], arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A number until it rests for a while.
fn settled(mut number: impl FnMut() -> u64) -> u64 {
    let (mut last, mut still) = (number(), 0);
    while still < 10 {
        pause(100);
        let now = number();
        (still, last) = if now == last && now > 0 { (still + 1, last) } else { (0, now) };
    }
    last
}

#[test]
fn every_version_on_one_port_is_stored_decoded_and_audited() {
    let port = free_port();
    let raven = raven_at(port);
    let to = format!("127.0.0.1:{port}");
    let common = ["--to", &to, "--count", "4800", "--rate", "20000"];
    for verb in [
        &["netflow", "--version", "5"][..],
        &["netflow", "--version", "9"],
        &["ipfix"],
        &["ipfix", "--proto", "tcp"],
        &["sflow"],
    ] {
        generate(&raven, &[verb, &common].concat());
    }
    settled(|| stored(&raven));
    let datagrams = decoded(&raven);
    assert_eq!(count(&datagrams, "flows"), 5 * 4800);
    assert_eq!(count(&datagrams, "faults") + count(&datagrams, "undescribed"), 0);
    let rated = |flow: &Value| number(&flow["sampling"]) > 0 && flow["sampling_source"] != "unknown";
    let v9 = datagrams.iter().filter(|datagram| datagram["version"] == "netflow9");
    assert!(v9.flat_map(|datagram| datagram["flows"].as_array().unwrap()).all(rated), "the rate of options data");
    // The exporters' own count agrees.
    let output = raven.raven(&["sources", "--json"]);
    let lines = output.stdout.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let exporters: Vec<Value> = lines.filter(|line| line["kind"] == "exporter").collect();
    assert!(exporters.len() >= 4, "{exporters:?}");
    assert!(exporters.iter().all(|exporter| number(&exporter["lost"]) == 0), "{exporters:?}");
    let top = raven.raven(&["flows", "top", "--by", "exporter", "--since", "10m", "--json"]);
    assert!(said(&top).contains("\"flows\":"), "{}", said(&top));
}

/// NetFlow 9, source id 7. `template`: the id's fields as (element, length).
pub fn v9(sequence: u32, template: Option<[(u16, u16); 2]>) -> Vec<u8> {
    let head = [1000, 1_700_000_000, sequence, 7].map(u32::to_be_bytes).concat();
    let template = template.map(|fields| {
        let fields: Vec<u8> =
            fields.iter().flat_map(|(id, len)| [id.to_be_bytes(), len.to_be_bytes()].concat()).collect();
        [[0_u16, 16, 256, 2].map(u16::to_be_bytes).concat(), fields].concat()
    });
    let data = [&[1, 0, 0, 12][..], &sequence.to_be_bytes(), &(sequence + 1).to_be_bytes()].concat();
    [&[0, 9, 0, 1][..], &head, &template.unwrap_or_default(), &data].concat()
}

/// Octets and packets, and the other way round.
pub const BYTES_FIRST: [(u16, u16); 2] = [(1, 4), (2, 4)];
pub const PACKETS_FIRST: [(u16, u16); 2] = [(2, 4), (1, 4)];

/// What each datagram's one record says.
fn said_by_each(raven: &Appliance) -> Vec<(u64, u64)> {
    decoded(raven).iter().map(|d| (number(&d["flows"][0]["bytes"]), number(&d["flows"][0]["packets"]))).collect()
}

#[test]
fn collectors_and_ravend_that_die_in_a_stream_lose_no_record_and_no_template() {
    let port = free_port();
    let mut raven = raven_at(port);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |sequence, template| socket.send_to(&v9(sequence, template), ("127.0.0.1", port)).unwrap();
    // The template comes once, at the very beginning.
    for sequence in 0..3000 {
        send(sequence, (sequence == 0).then_some(BYTES_FIRST));
        if sequence % 1000 == 500 {
            raven.kill("flow", Signal::KILL);
        }
        if sequence % 100 == 0 {
            pause(5);
        }
    }
    eventually("all datagrams are stored", || stored(&raven) == 3000);
    // So that what was learned is on disk as well; it is written once a second.
    pause(1500);
    raven = raven.restart();
    for sequence in 3000..3100 {
        send(sequence, None);
    }
    eventually("those after the restart too", || stored(&raven) == 3100);
    let all: Vec<_> = (0..3100).map(|n| (n, n + 1)).collect();
    assert_eq!(said_by_each(&raven), all);
}

#[test]
fn a_template_that_changes_its_meaning_decodes_each_side_right() {
    let port = free_port();
    let raven = raven_at(port);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let meaning = |sequence: u32| if (sequence / 50).is_multiple_of(2) { BYTES_FIRST } else { PACKETS_FIRST };
    // Data comes before its template at first.
    socket.send_to(&v9(0, None), ("127.0.0.1", port)).unwrap();
    pause(300);
    for sequence in 1..1000 {
        let template = (sequence == 1 || sequence % 50 == 0).then(|| meaning(sequence));
        socket.send_to(&v9(sequence, template), ("127.0.0.1", port)).unwrap();
        if sequence % 20 == 0 {
            pause(3);
        }
    }
    eventually("all datagrams are stored", || stored(&raven) == 1000);
    pause(1500);
    let expected = |n: u32| {
        let (first, second) = (u64::from(n), u64::from(n) + 1);
        if meaning(n) == BYTES_FIRST { (first, second) } else { (second, first) }
    };
    assert_eq!(said_by_each(&raven), (0..1000).map(expected).collect::<Vec<_>>());
}

/// Whether a program is there; says so when not.
fn has(program: &str) -> bool {
    let found = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|dir| Path::new(dir).join(program).exists());
    if !found {
        eprintln!("not run: {program} is not installed");
    }
    found
}

/// A capture with traffic: what softflowd makes flows of.
fn capture() -> Option<std::path::PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let root = std::env::var_os("RAVEN_CORPUS").map_or(beside, std::path::PathBuf::from);
    let file = root.join("flow/ipfix/pm_400_00/traffic-00.pcap");
    if !file.exists() {
        eprintln!("not run: no corpus at {}", root.display());
    }
    file.exists().then_some(file)
}

#[test]
fn softflowd_is_understood_in_all_its_versions() {
    let Some(capture) = capture().filter(|_| has("softflowd")) else { return };
    for version in ["5", "9", "10"] {
        let port = free_port();
        let raven = raven_at(port);
        let to = format!("127.0.0.1:{port}");
        let mut softflowd = Command::new("softflowd");
        softflowd.args(["-r", capture.to_str().unwrap(), "-n", &to, "-v", version, "-d"]);
        let output = softflowd.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "softflowd -v {version}: {}", said(&output));
        settled(|| stored(&raven));
        let datagrams = decoded(&raven);
        assert!(count(&datagrams, "flows") > 0, "softflowd -v {version}: {}", said(&output));
        assert_eq!(count(&datagrams, "faults") + count(&datagrams, "undescribed"), 0, "softflowd -v {version}");
        let flows = datagrams.iter().flat_map(|datagram| datagram["flows"].as_array().unwrap());
        for flow in flows {
            assert!(flow["src_addr"].is_string() && flow["bytes"].is_u64(), "{flow}");
        }
    }
}

/// Flows that a sender made the appliance hold, all of them understood.
fn understood(raven: &Appliance, sender: &str) -> usize {
    settled(|| stored(raven));
    let datagrams = decoded(raven);
    assert_eq!(count(&datagrams, "faults") + count(&datagrams, "undescribed"), 0, "{sender}");
    count(&datagrams, "flows")
}

#[test]
fn pmacct_is_understood_in_all_its_versions() {
    let Some(capture) = capture().filter(|_| has("pmacctd")) else { return };
    for (plugin, version) in [("nfprobe", "5"), ("nfprobe", "9"), ("nfprobe", "10"), ("sfprobe", "")] {
        let port = free_port();
        let raven = raven_at(port);
        let config = raven.plan.dir.path().join("pmacctd.conf");
        let version_line = if version.is_empty() { String::new() } else { format!("nfprobe_version: {version}\n") };
        let text = format!(
            "daemonize: false\npcap_savefile: {}\nplugins: {plugin}\n{plugin}_receiver: 127.0.0.1:{port}\n{version_line}\
             aggregate: src_host,dst_host,src_port,dst_port,proto,tos,in_iface,out_iface\n",
            capture.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut pmacctd = Command::new("pmacctd");
        let mut running = pmacctd
            .arg("-f")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("pmacctd has sent something", || stored(&raven) > 0 || running.try_wait().unwrap().is_some());
        pause(2000);
        if running.try_wait().unwrap().is_none() {
            crate::appliance::send_signal(running.id(), Signal::INT);
        }
        eventually("pmacctd ends", || running.try_wait().unwrap().is_some());
        assert!(understood(&raven, &format!("{plugin} {version}")) > 0);
    }
}

#[test]
fn what_nfreplay_sends_is_what_nfcapd_had_taken() {
    if !has("nfcapd") || !has("nfdump") || !has("nfreplay") {
        return;
    }
    let (port, other) = (free_port(), free_port());
    let raven = raven_at(port);
    let files = raven.plan.dir.path().join("nf");
    std::fs::create_dir_all(&files).unwrap();
    let mut nfcapd = Command::new("nfcapd");
    nfcapd.args(["-w", files.to_str().unwrap(), "-p", &other.to_string(), "-b", "127.0.0.1", "-t", "2"]);
    let mut nfcapd = nfcapd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    pause(500);
    let to = format!("127.0.0.1:{other}");
    generate(&raven, &["netflow", "--version", "9", "--to", &to, "--count", "960", "--rate", "5000"]);
    eventually("nfcapd has them", || flows_in(&files).0 == 960);
    crate::appliance::send_signal(nfcapd.id(), Signal::TERM);
    nfcapd.wait().unwrap();
    let file = raven.plan.dir.path().join("all");
    assert!(Command::new("nfdump").arg("-R").arg(&files).arg("-w").arg(&file).output().unwrap().status.success());
    let mut nfreplay = Command::new("nfreplay");
    nfreplay.args(["-r", file.to_str().unwrap(), "-H", "127.0.0.1", "-p", &port.to_string(), "-v", "9"]);
    let output = nfreplay.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(understood(&raven, "nfreplay"), 960, "{}", said(&output));
}

#[test]
fn an_export_is_read_by_tshark_with_the_same_counts() {
    if !has("tshark") {
        return;
    }
    let port = free_port();
    let raven = raven_at(port);
    let to = format!("127.0.0.1:{port}");
    generate(&raven, &["netflow", "--version", "9", "--to", &to, "--count", "2400", "--rate", "10000"]);
    let datagrams = settled(|| stored(&raven));
    let file = raven.plan.dir.path().join("flow.pcap");
    let exported = raven.raven(&["export", "flow", "--format", "pcap", file.to_str().unwrap()]);
    assert!(exported.status.success(), "{}", said(&exported));
    let decode_as = format!("udp.port=={port},cflow");
    let mut tshark = Command::new("tshark");
    tshark.args([
        "-r",
        file.to_str().unwrap(),
        "-d",
        &decode_as,
        "-T",
        "fields",
        "-e",
        "cflow.srcaddr",
        "-e",
        "ip.src",
    ]);
    let output = tshark.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.lines().count() as u64, datagrams, "{}", said(&output));
    let flows: usize = text
        .lines()
        .map(|line| line.split('\t').next().unwrap_or_default())
        .filter(|f| !f.is_empty())
        .map(|fields| fields.split(',').count())
        .sum();
    assert_eq!(flows, 2400);
    assert!(text.lines().all(|line| line.ends_with("\t127.0.0.1")), "the true sender");
}

/// NetFlow 9, source id 7, one flow of 3 packets and 1,500 bytes, its template before it where that is wanted.
fn whole_v9(sequence: u32, with_template: bool) -> Vec<u8> {
    const FIELDS: [(u16, u16); 7] = [(8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (1, 4), (2, 4)];
    let head = [1000, 1_700_000_000, sequence, 7].map(u32::to_be_bytes).concat();
    let fields = FIELDS.iter().flat_map(|(id, len)| [id.to_be_bytes(), len.to_be_bytes()].concat());
    let template = [0, 8 + 4 * FIELDS.len() as u16, 256, FIELDS.len() as u16].map(u16::to_be_bytes).concat();
    let template: Vec<u8> = template.into_iter().chain(fields).collect();
    let (ends, counters) = ([0x0a00_0001, 0x0a00_0002, 0x01bb_01bb], [1500, 3]);
    let numbers = |all: &[u32]| all.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    // Padded to four bytes.
    let flow = [&numbers(&ends)[..], &[6], &numbers(&counters), &[0; 3]].concat();
    let set = [256_u16, 4 + flow.len() as u16].map(u16::to_be_bytes).concat();
    let counts = [0, 9, 0, 1 + u8::from(with_template)];
    [&counts[..], &head, if with_template { &template } else { &[] }, &set, &flow].concat()
}

/// Flows and bytes that nfcapd has written into a folder. It begins a file every two seconds: the one it ends with may
/// be left without a name (1.7.1).
fn flows_in(files: &Path) -> (u64, u64) {
    let output = Command::new("nfdump").arg("-R").arg(files).arg("-I").output().unwrap();
    let text = said(&output);
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    (value("Flows: ").unwrap_or_default(), value("Bytes: ").unwrap_or_default())
}

/// From the uplink's jail, with the context that the flow collector wrote.
#[test]
fn a_legacy_collector_that_was_started_anew_gets_the_templates_again_and_misses_nothing() {
    if !has("nfcapd") || !has("nfdump") {
        return;
    }
    let (port, old) = (free_port(), free_port());
    let flow = ("flow", format!("udp = [{port}]"));
    let mut plan = Plan { others: sections(&[flow]), ..Plan::new() };
    plan.uplinks = format!("[uplink.old]\nkind = \"udp\"\nto = \"127.0.0.1:{old}\"\nstreams = [\"flow\"]\n");
    let raven = plan.start();
    let told = || find(&raven.status()["destinations"], "name", "old");
    eventually("the uplink reports", || raven.status()["destinations"].as_array().is_some_and(|all| !all.is_empty()));
    let start = |name: &str| {
        let files = raven.plan.dir.path().join(name);
        std::fs::create_dir_all(&files).unwrap();
        let mut nfcapd = Command::new("nfcapd");
        nfcapd.args(["-w", files.to_str().unwrap(), "-p", &old.to_string(), "-b", "127.0.0.1", "-t", "2"]);
        let running = nfcapd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let bound = format!("0100007F:{old:04X}");
        eventually("nfcapd listens", || std::fs::read_to_string("/proc/net/udp").unwrap().contains(&bound));
        (running, files)
    };
    let stop = |mut running: std::process::Child| {
        crate::appliance::send_signal(running.id(), Signal::TERM);
        running.wait().unwrap();
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |sequence| {
        let sent = socket.send_to(&whole_v9(sequence, sequence == 0), ("127.0.0.1", port));
        assert!(sent.unwrap() > 0);
    };
    let (first, files) = start("first");
    (0..5).for_each(send);
    eventually("five are taken for delivered", || told()["acked_seq"] == 5);
    assert_eq!(told()["ack_class"], "none");
    eventually("nfcapd has them", || flows_in(&files) == (5, 7500));
    stop(first);
    send(5);
    eventually("nobody listens", || told()["state"] == "retrying");
    let (second, files) = start("second");
    (6..10).for_each(send);
    eventually("all are taken for delivered", || told()["acked_seq"] == 10);
    eventually("nfcapd has the others", || flows_in(&files) == (5, 7500));
    stop(second);
}
