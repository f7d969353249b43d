//! Tests of the network by the role `diag`, from the command line through `ravend` into its jail and out of a cable.

use crate::appliance::{Appliance, Plan, number, proc_text, said};
use crate::machine::Cable;
use crate::venue::{command_in, is_possible};
use crate::{eventually, root_only};
use raven_model::diag::{Event, MtuResult, PingResult, TraceResult};
use std::process::{Command, Stdio};

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
    let raven = cable.start(Plan::new());

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
