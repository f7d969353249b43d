//! The acceptance test of a venue: what it says, in each form, and what the far end got of it.

use crate::appliance::{Plan, free_port, said, sections};
use crate::machine::ip;
use crate::root_only;
use crate::venue::{BEYOND, Venue, is_possible};
use serde_json::Value;
use std::fs;
use std::process::{Command, Output};

/// Text of a check, as it stands in the report for people.
fn verdicts<'a>(report: &'a Value, section: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let sections = report["sections"].as_array().unwrap();
    let checks = sections.iter().find(|part| part["name"] == section).unwrap()["checks"].as_array().unwrap();
    let text = |check: &'a Value, key: &str| check[key].as_str().unwrap();
    checks.iter().map(|check| (text(check, "name"), text(check, "subject"), text(check, "verdict"))).collect()
}

/// `raven accept` at the box: it sends to the box's own addresses.
fn accept(venue: &Venue, words: &[&str]) -> Output {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &venue.cable.names[0]]).arg(venue.raven.programs.join("raven"));
    command.arg("--data").arg(venue.raven.plan.data()).arg("accept").args(words).output().unwrap()
}

#[test]
fn an_event_through_each_input_reaches_the_far_end_and_the_report_is_signed() {
    root_only!();
    if !is_possible() {
        return;
    }
    let [netflow, ipfix, trap, winevent, metrics, relp, tls] = std::array::from_fn(|_| free_port());
    let others = sections(&[
        ("flow", format!("udp = [{netflow}, 6343]\ntcp = [{ipfix}]")),
        ("trap", format!("udp = [{trap}]\ncommunities = [\"venue\"]")),
        ("winevent", format!("http = [{winevent}]")),
        ("metrics", format!("http = [{metrics}]")),
    ]);
    let plan = Plan { syslog: format!("tls = [{tls}]\nrelp = [{relp}]"), others, ..Plan::new() };
    let syslog = plan.port;
    let venue = Venue::of("accept", plan);
    ip(&format!("-n {} route add default via 192.0.2.2", venue.cable.names[0]));
    let uplink = venue.noc.uplink("noc").replace("127.0.0.1", BEYOND);
    venue.configure(|text| text + &uplink);
    venue.send("the-first");
    venue.arrives("the-first");

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (page, signed) = (path("report.html"), path("report.json"));
    let told = accept(&venue, &["--html", &page, "--sign", &signed]);
    let text = said(&told);
    println!("{text}");
    assert!(told.status.success(), "{text}");
    let document = fs::read_to_string(&signed).unwrap();
    let report: Value = serde_json::from_str(document.lines().next().unwrap()).unwrap();
    assert_eq!(report["passed"], true);

    // All inputs, each stored and delivered.
    let events = verdicts(&report, "events");
    for input in [
        format!("syslog udp [::]:{syslog}"),
        format!("syslog tcp [::]:{syslog}"),
        format!("syslog tls [::]:{tls}"),
        format!("syslog relp [::]:{relp}"),
        format!("flow udp [::]:{netflow}"),
        "flow udp [::]:6343".to_owned(),
        format!("flow tcp [::]:{ipfix}"),
        format!("trap udp [::]:{trap}"),
        format!("winevent http [::]:{winevent}"),
        format!("metrics http [::]:{metrics}"),
    ] {
        let to = format!("{input} to noc");
        assert!(events.contains(&("stored", &input, "pass")), "{input}: {events:?}");
        assert!(events.contains(&("delivered", &to, "pass")), "{to}: {events:?}");
    }
    for stream in ["syslog", "flow", "trap", "winevent", "metrics"] {
        let mark = format!("stream=\"{stream}\"");
        assert!(venue.noc.received().contains(&mark), "{mark}");
    }
    assert_eq!(report["paths"][0]["rtts_us"].as_array().unwrap().iter().filter(|rtt| rtt.is_u64()).count(), 50);

    // To be looked at in a browser.
    if let Some(place) = std::env::var_os("RAVEN_REPORT") {
        fs::copy(&page, place).unwrap();
    }

    // Text and page say what the signed report says.
    let html = fs::read_to_string(&page).unwrap();
    for section in report["sections"].as_array().unwrap() {
        for check in section["checks"].as_array().unwrap() {
            for word in [&check["name"], &check["subject"], &check["evidence"][0]] {
                let word = word.as_str().unwrap();
                assert!(text.contains(word), "{word}\n{text}");
                assert!(html.contains(&word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")), "{word}");
            }
        }
    }
    assert!(html.contains(&format!("PASSED: {} passed", report["counts"]["pass"])) && !html.contains("src="), "{html}");

    // Both are as the device signed them, and not when a letter is another one.
    let key = said(&venue.raven.raven(&["audit", "key"]));
    for file in [&page, &signed] {
        let told = venue.raven.raven(&["audit", "verify", file, "--key", key.trim()]);
        assert!(told.status.success(), "{}", said(&told));
        let altered = fs::read_to_string(file).unwrap().replacen("\"passed\":true", "\"passed\":false", 1);
        fs::write(file, altered).unwrap();
        let told = venue.raven.raven(&["audit", "verify", file]);
        assert_eq!(told.status.code(), Some(1), "{}", said(&told));
    }
}

#[test]
fn a_box_whose_receiver_is_away_fails_with_the_reason() {
    root_only!();
    if !is_possible() {
        return;
    }
    let mut venue = Venue::bare("acceptno");
    let uplink = venue.noc.uplink("noc").replace("127.0.0.1", "192.0.2.2");
    venue.noc.stop();
    venue.configure(|text| text + &uplink);
    let told = accept(&venue, &["--json"]);
    assert_eq!(told.status.code(), Some(1), "{}", said(&told));
    let report: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(report["passed"], false);
    let failed = verdicts(&report, "destinations");
    assert!(failed.iter().any(|(name, _, verdict)| (*name, *verdict) == ("connection", "fail")), "{failed:?}");
    let events = verdicts(&report, "events");
    assert!(events.iter().any(|(name, _, verdict)| (*name, *verdict) == ("stored", "pass")), "{events:?}");
    assert!(events.iter().all(|(name, _, verdict)| *name != "delivered" || *verdict == "fail"), "{events:?}");
}
