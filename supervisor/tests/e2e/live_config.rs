//! The configuration changes while messages arrive.

use crate::appliance::{Appliance, free_port, said};
use crate::marks::{EXACT, Marks};
use crate::sender::{Sender, one_datagram};
use crate::{eventually, pause};
use rustix::process::Signal;

/// Rewrites the configuration: `find` becomes `replace`.
fn edit(raven: &Appliance, find: &str, replace: &str) {
    let text = std::fs::read_to_string(raven.plan.config()).unwrap();
    assert!(text.contains(find), "{text}");
    std::fs::write(raven.plan.config(), text.replace(find, replace)).unwrap();
}

fn listens_on(raven: &Appliance, proto: &str, port: u16) -> bool {
    let status = raven.status();
    let mut listeners = status["listeners"].as_array().unwrap().iter();
    listeners.any(|l| l["proto"] == proto && l["addr"].as_str().unwrap().ends_with(&format!(":{port}")))
}

/// Adds and removes a second UDP listener by `reload`, several times, while the first one receives.
fn a_change_costs_the_other_listeners_nothing(reload: impl Fn(&Appliance)) {
    let raven = Appliance::start();
    let (first, second) = (raven.plan.port, free_port());
    let (one, both) = (format!("udp = [{first}]"), format!("udp = [{first}, {second}]"));
    let sender = Sender::udp(raven.udp(), "reload", 0, 20_000);
    for round in 0..3 {
        edit(&raven, &one, &both);
        reload(&raven);
        eventually("the new listener is bound", || listens_on(&raven, "udp", second));
        let text = format!("by the second listener, round {round}");
        one_datagram(format!("127.0.0.1:{second}").parse().unwrap(), format!("<13>{text}").as_bytes());
        edit(&raven, &both, &one);
        reload(&raven);
        eventually("the new listener is gone", || !listens_on(&raven, "udp", second));
        raven.record_with(&text);
    }
    let sent = sender.stop();
    raven.settle(sent + 3);
    assert_eq!(Marks::of_ring(&raven, "reload").audit(0, sent), EXACT);
}

#[test]
fn config_apply_changes_listeners_and_loses_no_datagram_on_the_others() {
    a_change_costs_the_other_listeners_nothing(|raven| {
        let output = raven.raven(&["config", "apply"]);
        assert!(output.status.success(), "{}", said(&output));
    });
}

#[test]
fn sighup_changes_listeners_and_loses_no_datagram_on_the_others() {
    a_change_costs_the_other_listeners_nothing(|raven| raven.running.signal(Signal::HUP));
}

#[test]
fn a_bad_configuration_is_refused_with_its_place_and_changes_nothing() {
    let raven = Appliance::start();
    let before = raven.raven(&["config", "show"]);
    edit(&raven, "segment =", "segmnt =");
    let output = raven.raven(&["config", "apply"]);
    let text = said(&output);
    assert!(!output.status.success(), "{text}");
    // File, line 9, column 1, and the key that was meant.
    assert!(
        text.contains("raven.toml:") && text.contains(":1") && text.contains("segmnt") && text.contains("segment"),
        "{text}"
    );
    raven.running.signal(Signal::HUP);
    pause(500);
    assert_eq!(raven.raven(&["config", "show"]).stdout, before.stdout);
    one_datagram(raven.udp(), b"<13>still here");
    raven.record_with("still here");
}

#[test]
fn a_port_in_use_is_refused_by_name_and_changes_nothing() {
    let raven = Appliance::start();
    let taken = std::net::TcpListener::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let first = raven.plan.port;
    edit(&raven, &format!("tcp = [{first}]"), &format!("tcp = [{first}, {port}]"));
    let output = raven.raven(&["config", "apply"]);
    assert!(!output.status.success() && said(&output).contains(&port.to_string()), "{}", said(&output));
    assert!(listens_on(&raven, "tcp", first) && !listens_on(&raven, "tcp", port));
}

#[test]
fn config_check_answers_without_a_running_ravend() {
    let raven = Appliance::start();
    let plan = raven.stop();
    let programs = crate::appliance::programs();
    let config = plan.config();
    let check = |text: &str| {
        std::fs::write(&config, text).unwrap();
        crate::appliance::raven(&programs, &plan.data(), &["config", "check", config.to_str().unwrap()])
    };
    let good = check(&plan.text());
    assert!(good.status.success(), "{}", said(&good));
    let bad = check("schema = 1\n[site]\nnmae = \"x\"\n");
    assert!(
        !bad.status.success() && said(&bad).contains("raven.toml:3:1") && said(&bad).contains("name"),
        "{}",
        said(&bad)
    );
}
