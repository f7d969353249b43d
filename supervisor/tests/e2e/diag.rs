//! Tests of the network by the role `diag`, from the command line through `ravend` into its jail and out of a cable.

use crate::appliance::{Appliance, Plan, number, proc_text, said, sections};
use crate::machine::Cable;
use crate::pty::Pty;
use crate::venue::{Program, command_in, is_possible};
use crate::{eventually, root_only};
use raven_model::diag::services::{DnsResult, HttpResult, NtpResult, Outcome, TcpResult, TlsResult};
use raven_model::diag::{Event, MtuResult, PingResult, TraceResult};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const CONSOLE: u32 = 61_100;
const VIEWER: u32 = 61_101;
const OPERATOR: u32 = 61_102;
/// Tests that the role makes at a time.
const TESTS: usize = 16;

fn cable(test: &str) -> Cable {
    let cable = Cable::new(test);
    // As the image has it.
    let sysctl = "net.ipv4.ping_group_range=61001 61999";
    assert!(command_in(&cable.names[0], "sysctl").args(["-qw", sysctl]).status().unwrap().success());
    cable
}

/// The role's process, where it runs.
fn process(raven: &Appliance) -> Option<u32> {
    u32::try_from(number(&raven.process("diag")["pid"])).ok().filter(|pid| *pid > 0)
}

#[test]
fn whether_a_target_answers_by_which_way_and_how_long_packets_may_be_is_told() {
    root_only!();
    if !is_possible() {
        return;
    }
    let cable = cable("diag");
    let plan = Plan::new();
    // A disk that does not take what a role would write there is no reason not to test.
    std::fs::create_dir_all(plan.data().join("bandwidth-day")).unwrap();
    let raven = cable.start(plan);

    let told = raven.raven(&["ping", "-c", "3", "-i", "50ms", "192.0.2.2", "2001:db8::2"]);
    let text = said(&told);
    assert!(told.status.success() && text.contains("seq 2: ") && text.contains("0.0 %"), "{text}");
    let told =
        raven.raven(&["ping", "--json", "-c", "2", "-i", "50ms", "-W", "300ms", "192.0.2.2", "192.0.2.77", "x y"]);
    let results: Vec<PingResult> = serde_json::from_slice(&told.stdout).unwrap();
    let received: Vec<u32> = results.iter().map(|result| result.received).collect();
    assert_eq!((received, told.status.code()), (vec![2, 0, 0], Some(1)), "{results:?}");
    assert!(results[2].errors.contains_key("neither a name nor an address"), "{results:?}");

    let told = raven.raven(&["trace", "--json", "-c", "1", "192.0.2.2"]);
    let result: TraceResult = serde_json::from_slice(&told.stdout).unwrap();
    assert!(told.status.success() && result.reached && result.hops.len() == 1, "{result:?}");
    assert!(said(&raven.raven(&["trace", "--icmp", "-I", "eth0", "2001:db8::2"])).contains("answers at hop 1"));

    let told = raven.raven(&["trace", "--json", "192.0.2.2", "--tcp"]);
    let result: TraceResult = serde_json::from_slice(&told.stdout).unwrap();
    assert!(told.status.success() && result.reached && result.hops[0].received == 3, "{result:?}");
    let told = raven.raven(&["trace", "--watch", "--for", "1s", "-i", "100ms", "-n", "--ndjson", "2001:db8::2"]);
    let text = said(&told);
    assert!(told.status.success() && text.matches("trace_round").count() >= 5, "{text}");
    let text = said(&raven.raven(&["trace", "--watch", "--for", "1s", "-i", "100ms", "192.0.2.2"]));
    assert!(text.contains("STDEV") && text.contains("answers at hop 1"), "{text}");

    let told = raven.raven(&["mtu", "--ndjson", "192.0.2.2"]);
    let last = told.stdout.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap();
    let Event::Mtu(MtuResult { mtu, black_hole, .. }) = serde_json::from_slice(last).unwrap() else {
        panic!("{told:?}")
    };
    assert_eq!((mtu, black_hole, told.status.code()), (Some(1500), false, Some(0)));

    // What makes no sense is refused, with the reason.
    for (words, why) in [
        (vec!["ping", "-I", "eth9", "192.0.2.2"], "by the interface eth9"),
        (vec!["ping", "-S", "192.0.2.99", "192.0.2.2"], "this box has no address 192.0.2.99"),
        (vec!["ping", "-i", "1ms", "192.0.2.2"], "must be 10 to 600000"),
        (vec!["trace", "nobody.invalid"], "does not resolve"),
    ] {
        let told = raven.raven(&words);
        assert!(told.status.code() == Some(1) && said(&told).contains(why), "{words:?}: {}", said(&told));
    }

    // All that is foreign is read without any right.
    eventually("its process is told", || process(&raven).is_some());
    let status = proc_text(process(&raven).unwrap(), "status");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
}

#[test]
fn at_the_console_this_box_is_pinged_live_without_a_network_and_a_viewer_is_told_who_may() {
    root_only!();
    if !is_possible() {
        return;
    }
    let cable = cable("diagtab");
    let raven = cable.start(Plan { name: "raven", ..Plan::new() });
    std::fs::set_permissions(raven.plan.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let console = |user: u32| {
        let mut command = Command::new(raven.programs.join("raven"));
        command.arg("--data").arg(raven.plan.data()).arg("console").uid(user).gid(user);
        let mut pty = Pty::run(command, (24, 80));
        pty.shows("t: test the network");
        for (keys, shown) in [("t", "Enter: choose a test"), ("\r", "Which test?"), ("\r", "To whom?")] {
            pty.send(keys.as_bytes());
            pty.shows(shown);
        }
        // To another than those that are offered, or there is none to choose from.
        if pty.shown().contains("Another one") {
            pty.send(b"\x1b[F\r");
        }
        pty.shows("A name or an address");
        pty.send(b"127.0.0.1\r");
        pty.shows("How many pings");
        pty
    };
    // A box that nobody has set up belongs to whoever stands at it.
    let mut pty = console(CONSOLE);
    pty.send(b"3\r");
    pty.shows("3 of 3 answered");
    let shown = pty.shown();
    assert!(shown.contains("OK: ") && shown.contains("LAST MS") && shown.contains("0 %"), "{shown}");
    pty.send(b"r");
    pty.shows("2  ping 127.0.0.1: runs");
    pty.send(b"s");
    pty.until("it is stopped", |shown| shown.contains("stopped") && !shown.contains(": runs"));
    let mut viewer = console(VIEWER);
    viewer.send(b"\r");
    viewer.shows("a viewer may not say `diag`: that takes the role operator");
    let mut operator = console(OPERATOR);
    operator.send(b"1\r");
    operator.shows("1 of 1 answered");
}

#[test]
fn a_test_ends_with_whoever_asked_for_it() {
    root_only!();
    if !is_possible() {
        return;
    }
    let cable = cable("diagend");
    let raven = cable.start(Plan::new());
    let ping = || {
        Command::new(raven.programs.join("raven"))
            .arg("--data")
            .arg(raven.plan.data())
            .args(["ping", "--json", "-c", "100000", "-i", "100ms", "192.0.2.2"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let threads = || {
        let pid = process(&raven)?;
        Some(std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.count())
    };
    let mut all: Vec<_> = (0..TESTS).map(|_| ping()).collect();
    eventually("all run", || threads() == Some(all.len() + 1));
    let refused = ping().wait_with_output().unwrap();
    assert!(said(&refused).contains("tests run already"), "{}", said(&refused));
    for child in &mut all {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    eventually("none runs any more", || threads() == Some(1));
    assert!(raven.raven(&["ping", "-c", "1", "192.0.2.2"]).status.success());
}

#[test]
fn services_are_tested_phase_by_phase_out_of_the_jail() {
    root_only!();
    if !is_possible() {
        return;
    }
    let cable = cable("diagserv");
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("own.pem"), folder.path().join("key.pem"));
    let (certificate, key) = (certificate.display(), key.display());
    let made = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=far -addext subjectAltName=IP:192.0.2.2 \
         -out {certificate} -keyout {key}"
    );
    assert!(Command::new("openssl").args(made.split_whitespace()).output().unwrap().status.success());
    let far =
        |program: &str, words: &str| Program::start(&cable, program, &words.split_whitespace().collect::<Vec<_>>());
    let _openssl = far("openssl", &format!("s_server -accept 443 -cert {certificate} -key {key} -www -quiet"));
    let _dnsmasq = far(
        "dnsmasq",
        "--keep-in-foreground --no-resolv --no-hosts --conf-file=/dev/null --pid-file= --user=root --host-record=noc.example,192.0.2.9",
    );
    let raven = cable.start(Plan::new());
    eventually("the far end serves", || {
        ["192.0.2.2:443", "192.0.2.2:53"].iter().all(|port| raven.raven(&["tcp", port]).status.success())
    });
    let json = |words: &[&str], code: i32| {
        let told = raven.raven(words);
        assert_eq!(told.status.code(), Some(code), "{words:?}: {}", said(&told));
        told.stdout
    };
    for way in [&[][..], &["--tcp"], &["-I", "eth0"]] {
        let words = [&["dns", "noc.example", "--server", "192.0.2.2", "--json"][..], way].concat();
        let result: DnsResult = serde_json::from_slice(&json(&words, 0)).unwrap();
        assert_eq!(result.servers[0].answers[0].data, "192.0.2.9", "{result:?}");
    }
    json(&["dns", "none.example", "--server", "192.0.2.2", "--server", "192.0.2.77", "-W", "200ms"], 1);
    let result: TcpResult = serde_json::from_slice(&json(&["tcp", "192.0.2.2:1", "--json"], 1)).unwrap();
    assert_eq!(result.connections[0].outcome, Outcome::Refused, "{result:?}");

    // The system's authorities can be read, and this one is none of them.
    let result: TlsResult = serde_json::from_slice(&json(&["tls", "192.0.2.2:443", "--json"], 1)).unwrap();
    let tls = result.tls.unwrap();
    // Nine where it was made in this second.
    assert!((8..=9).contains(&tls.chain[0].days_left), "{:?}", tls.chain);
    assert_eq!((tls.misnamed, tls.error), (None, None));
    assert_eq!(tls.untrusted.as_deref(), Some("it is signed by itself, not by an authority that this system trusts"));
    let result: HttpResult = serde_json::from_slice(&json(&["http", "https://192.0.2.2/", "--json"], 1)).unwrap();
    assert_eq!((result.status, result.is_whole), (Some(200), true), "{result:?}");
    let text = said(&raven.raven(&["http", "https://192.0.2.2/", "-S", "192.0.2.1"]));
    assert!(
        text.contains("HTTP/1.0 200") && text.contains("handshake") && text.contains("not to be trusted"),
        "{text}"
    );

    let results: Vec<NtpResult> =
        serde_json::from_slice(&json(&["ntp", "192.0.2.2", "-c", "1", "-W", "300ms", "--json"], 1)).unwrap();
    assert_eq!(results[0].error.as_deref(), Some("port unreachable"));
    assert!(said(&raven.raven(&["http", "http://a b/"])).contains("is no URL"));
}

#[test]
fn who_is_cut_off_leaves_nothing_running_and_what_came_over_ssh_is_a_record() {
    root_only!();
    if !is_possible() {
        return;
    }
    let cable = cable("diagcut");
    let host = sections(&[("host", "interval = \"1s\"".to_owned())]);
    let raven = cable.start(Plan { others: host, ..Plan::new() });
    // As sshd starts a login shell.
    let shell = |line: &str| {
        let mut command = Command::new(raven.programs.join("raven"));
        command
            .args(["-c", line])
            .env("RAVEN_DATA", raven.plan.data())
            .env("SSH_CONNECTION", "192.0.2.9 40000 192.0.2.1 22");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let (ok, nonsense) =
        (shell("ping -c 1 192.0.2.2").wait_with_output().unwrap(), shell("sh -i").wait_with_output().unwrap());
    assert_eq!((ok.status.code(), nonsense.status.code()), (Some(0), Some(2)), "{}", said(&nonsense));

    // It says nothing by itself: only that nobody reads any more can end it.
    let mut cut = shell("ping --json -c 100000 192.0.2.2");
    let threads = || std::fs::read_dir(format!("/proc/{}/task", process(&raven)?)).ok().map(Iterator::count);
    eventually("it runs", || threads() == Some(2));
    drop(cut.stdout.take());
    eventually("it has ended", || cut.try_wait().unwrap().is_some());
    eventually("nothing runs on", || threads().is_none_or(|count| count == 1));

    let sessions = || said(&raven.raven(&["audit", "sessions", "--json"]));
    eventually("all three have ended, and are records", || {
        sessions().matches("\"code\":").count() - sessions().matches("\"code\":null").count() == 3
    });
    let all = sessions();
    for part in [
        "\"words\":\"ping -c 1 192.0.2.2\",\"code\":0",
        "\"words\":\"sh -i\",\"code\":2",
        "\"words\":\"ping --json -c 100000 192.0.2.2\",\"code\":141",
        "\"from\":\"192.0.2.9\"",
        "\"role\":\"admin\"",
    ] {
        assert!(all.contains(part), "{part}\n{all}");
    }
    let told = said(&raven.raven(&["audit", "sessions"]));
    assert!(told.contains("exit 2") && told.contains("cut off"), "{told}");
}

#[test]
fn clients_of_the_configured_networks_measure_with_this_box_until_the_days_bytes_are_used_up() {
    root_only!();
    if !is_possible() {
        return;
    }
    let cable = cable("diagbw");
    let server = "[diag.bandwidth_server]\nport = 5301\nallow = ['192.0.2.0/24']\nbytes_per_day = '20MiB'\n";
    let raven = cable.start(Plan { uplinks: server.to_owned(), ..Plan::new() });
    let wait = || {
        let mut command = Command::new(raven.programs.join("raven"));
        command.arg("--data").arg(raven.plan.data()).args(["bw", "--server", "--for", "2m", "--ndjson"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        (child, line)
    };
    let client = |words: &str| {
        let words = words.split(' ').chain(["-p", "5301", "--connect-timeout", "1000"]);
        let mut iperf3 = command_in(&cable.names[1], "iperf3");
        said(&iperf3.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap())
    };
    let (mut child, line) = wait();
    assert!(line.contains("\"port\":5301,\"left_today\":20971520"), "{line}");
    let told = client("-c 192.0.2.1 -u -b 20M -t 1");
    assert!(told.contains("iperf Done"), "{told}");
    // The firewall lets in nobody else.
    let told = client("-c 2001:db8::1 -t 1");
    assert!(told.contains("unable to connect"), "{told}");
    let told = client("-c 192.0.2.1 -t 3");
    assert!(!told.contains("iperf Done"), "{told}");
    child.kill().unwrap();
    child.wait().unwrap();

    // Neither a new process nor another command gets more of today.
    let pid = process(&raven).and_then(|pid| Pid::from_raw(pid.cast_signed())).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    eventually("its process is gone", || !raven.status()["processes"].to_string().contains("\"diag\""));
    let (mut child, line) = wait();
    assert!(line.contains("\"left_today\":0"), "{line}");
    let told = client("-c 192.0.2.1 -t 1");
    assert!(!told.contains("iperf Done"), "{told}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Each place of a document with what kind of value is there; of a list the first one stands for all.
fn places(at: &str, value: &Value, found: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| places(&format!("{at}/{name}"), value, found));
            "object"
        }
        Value::Array(values) => {
            values.iter().take(1).for_each(|value| places(&format!("{at}/0"), value, found));
            "array"
        }
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Null => "null",
    };
    found.insert(at.to_owned(), kind);
}

/// What programs read of iperf3's JSON.
const TCP: &[&str] = &[
    "/start/connected/0/local_port",
    "/end/sum_sent/bits_per_second",
    "/end/sum_received/bytes",
    "/end/sum_sent/retransmits",
    "/end/cpu_utilization_percent/remote_system",
];
const UDP: &[&str] = &[
    "/start/connected/0/remote_host",
    "/end/sum/jitter_ms",
    "/end/sum/lost_percent",
    "/end/sum/packets",
    "/end/streams/0/udp/bytes",
    "/intervals/0/streams/0/packets",
    "/intervals/0/sum/packets",
];
/// The same, of who sends.
const SENDER: &[&str] = &[
    "/end/streams/0/sender/mean_rtt",
    "/intervals/0/streams/0/snd_cwnd",
    "/intervals/0/streams/0/rttvar",
    "/intervals/0/streams/0/pmtu",
];

#[test]
fn a_measurement_in_the_json_of_iperf3_has_its_fields_in_their_places() {
    root_only!();
    if !is_possible() {
        return;
    }
    let cable = cable("diagjson");
    let _server = Program::start(&cable, "iperf3", &["-s"]);
    let raven = cable.start(Plan::new());
    eventually("the far end serves", || raven.raven(&["tcp", "192.0.2.2:5201"]).status.success());
    let client = |words: &[&str]| {
        let mut iperf3 = command_in(&cable.names[0], "iperf3");
        let output = iperf3.args(["-c", "192.0.2.2", "-J", "-t", "2"]).args(words).stdout(Stdio::piped()).output();
        serde_json::from_slice::<Value>(&output.unwrap().stdout).unwrap()
    };
    let both: &[&str] = &["/end/sum_received_bidir_reverse/bits_per_second", "/intervals/0/sum_bidir_reverse/bytes"];
    for (words, ours, wanted) in [
        (&["-b", "50M"][..], &["-b", "50M"][..], &[TCP, SENDER][..]),
        (&["-b", "50M", "-R", "-P", "2"], &["-b", "50M", "-R", "-P", "2"], &[TCP]),
        (&["-b", "50M", "--bidir", "-O", "1"], &["-b", "50M", "--bidir", "--omit", "1s"], &[TCP, both]),
        (&["-u", "-b", "5M", "-l", "1400"], &["-u", "-b", "5M", "-l", "1400"], &[UDP, &["/start/test_start/blksize"]]),
        (
            &["-u", "-b", "5M", "--bidir"],
            &["-u", "-b", "5M", "--bidir"],
            &[UDP, both, &["/end/sum_bidir_reverse/jitter_ms"]],
        ),
    ] {
        let theirs = client(words);
        let told = raven.raven(&[&["bw", "192.0.2.2", "-J", "-t", "2s"], ours].concat());
        assert_eq!(told.status.code(), Some(0), "{}", said(&told));
        let ours: Value = serde_json::from_slice(&told.stdout).unwrap();
        let (mut here, mut there) = (BTreeMap::new(), BTreeMap::new());
        places("", &ours, &mut here);
        places("", &theirs, &mut there);
        let others: Vec<_> = here.iter().filter(|(place, kind)| there.get(*place) != Some(kind)).collect();
        assert!(others.is_empty(), "{words:?}: not in iperf3's: {others:?}");
        let missing: Vec<_> = wanted.iter().copied().flatten().filter(|place| ours.pointer(place).is_none()).collect();
        assert!(missing.is_empty(), "{words:?}: {missing:?} are not in {ours}");
        let count = |all: &Value, place: &str| all.pointer(place).unwrap().as_array().unwrap().len();
        assert_eq!(count(&ours, "/end/streams"), count(&theirs, "/end/streams"), "{words:?}");
        // One more, where the end was late.
        let [here, there] = [&ours, &theirs].map(|all| count(all, "/intervals"));
        assert!(here.abs_diff(there) <= 1, "{words:?}: {here} intervals beside {there}");
        for sum in ["sum_sent", "sum_received"] {
            let rate = |all: &Value| all["end"][sum]["bits_per_second"].as_f64().unwrap();
            let ratio = rate(&ours) / rate(&theirs);
            assert!((0.7..1.4).contains(&ratio), "{words:?} {sum}: {} beside {}", rate(&ours), rate(&theirs));
            assert_eq!(ours["end"][sum]["sender"], theirs["end"][sum]["sender"], "{words:?} {sum}");
        }
    }
}
