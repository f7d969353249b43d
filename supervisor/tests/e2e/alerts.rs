//! What goes wrong is told: at a real rsyslog, at a webhook, on the operator's screen; once, also when the way was down
//! or a process died meanwhile, and once more when it is over.

use crate::appliance::{Appliance, Plan, number, said};
use crate::rsyslog::{Rsyslog, is_installed};
use crate::sender::one_datagram;
use crate::{eventually, pause};
use raven_model::alert::{AlertRecord, AlertState, Rule};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Rules with short times; one connection is allowed, a second one is a drop.
fn plan(rules: &str, uplinks: &str) -> Plan {
    let syslog = "tls = []\nconnections = 1".to_owned();
    Plan { syslog, alert: rules.to_owned(), uplinks: uplinks.to_owned(), ..Plan::new() }
}

/// Opens one connection too many.
fn drop_one(raven: &Appliance) {
    let first = TcpStream::connect(("127.0.0.1", raven.plan.port)).unwrap();
    let mut second = TcpStream::connect(("127.0.0.1", raven.plan.port)).unwrap();
    let _ = second.read(&mut [0]);
    drop(first);
}

/// All that was told, from the ring.
fn told(raven: &Appliance) -> Vec<AlertRecord> {
    let output = raven.raven(&["export", "alert", "--format", "ndjson"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let record = |line: &str| serde_json::from_str::<Value>(line).unwrap()["raw"].as_str().unwrap().to_owned();
    text.lines().map(|line| AlertRecord::read(record(line).as_bytes()).unwrap()).collect()
}

fn count(records: &[AlertRecord], rule: Rule, state: AlertState) -> usize {
    records.iter().filter(|record| (record.alert, record.state) == (rule, state)).count()
}

/// Waits until it was told.
fn await_told(raven: &Appliance, rule: Rule, state: AlertState) {
    eventually(&format!("{rule} is {state:?}"), || count(&told(raven), rule, state) > 0);
}

#[test]
fn drops_reach_a_real_rsyslog_by_relp_and_by_plain_syslog_with_their_severity() {
    if !is_installed() {
        return;
    }
    let (mut noc, tcp) = Rsyslog::with_tcp();
    noc.start();
    let only = "streams = [\"alert\"]\n";
    let plain = format!("[uplink.legacy]\nkind = \"syslog\"\nto = \"127.0.0.1:{tcp}\"\n{only}");
    let raven = plan("[alert.drops]\nclear = \"1s\"", &format!("{}{only}{plain}", noc.uplink("noc"))).start();
    drop_one(&raven);
    let has = |state: &str| {
        let received = noc.received();
        let ours = |line: &&str| line.contains("\"alert\":\"drops\"") && line.contains(state);
        let pri = if state.contains("firing") { "<28>1 " } else { "<29>1 " };
        received.lines().filter(ours).filter(|line| line.starts_with(pri)).count() == 2
    };
    eventually("both say that it began", || has("\"state\":\"firing\""));
    eventually("both say that it is over", || has("\"state\":\"resolved\""));
    assert!(noc.received().contains("syslog lost (at tcp:[::]:"), "{}", noc.received());
}

#[test]
fn what_happens_while_the_way_is_down_arrives_when_it_is_up_and_no_death_has_it_told_twice() {
    if !is_installed() {
        return;
    }
    let mut noc = Rsyslog::new();
    let rules = "[alert.drops]\nclear = \"20s\"\n[alert.destination_down]\nafter = \"1s\"\nclear = \"1s\"\n[alert.lag]\nenabled = false";
    let raven = plan(rules, &format!("{}streams = [\"alert\"]\n", noc.uplink("noc"))).start();
    drop_one(&raven);
    await_told(&raven, Rule::Drops, AlertState::Firing);
    await_told(&raven, Rule::DestinationDown, AlertState::Firing);
    raven.kill("alert", Signal::KILL);
    raven.kill("store", Signal::KILL);
    let raven = raven.restart();
    eventually("it is known after the restart", || raven.status()["firing"].as_array().is_some_and(|f| f.len() == 2));
    assert_eq!(raven.raven(&["alerts"]).status.code(), Some(1));
    noc.start();
    let arrived = |what: &str| noc.received().lines().any(|line| what.split(' ').all(|word| line.contains(word)));
    eventually("the drop arrives", || arrived("\"alert\":\"drops\" \"state\":\"firing\""));
    eventually("that the way was down arrives", || arrived("\"alert\":\"destination_down\" \"state\":\"firing\""));
    eventually("that it is up arrives", || arrived("\"alert\":\"destination_down\" \"state\":\"resolved\""));
    await_told(&raven, Rule::Drops, AlertState::Resolved);
    let told = told(&raven);
    for rule in [Rule::Drops, Rule::DestinationDown] {
        for state in [AlertState::Firing, AlertState::Resolved] {
            assert_eq!(count(&told, rule, state), 1, "{rule} {state:?}: {told:#?}");
        }
    }
    eventually("nothing is wrong", || raven.raven(&["alerts"]).status.code() == Some(0));
}

/// What came to a webhook: `Content-Type` and body of each request.
type Hooked = Arc<Mutex<Vec<(String, Value)>>>;

/// Answers one request after the other.
fn webhook() -> (u16, Hooked) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, hooked) = (listener.local_addr().unwrap().port(), Hooked::default());
    let keep = Arc::clone(&hooked);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let keep = Arc::clone(&keep);
            std::thread::spawn(move || serve(stream, &keep));
        }
    });
    (port, hooked)
}

fn serve(stream: TcpStream, hooked: &Hooked) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut content_type) = (0, String::new());
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "content-type" => value.clone_into(&mut content_type),
                "content-encoding" => panic!("a webhook unpacks nothing: {value}"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        hooked.lock().unwrap().push((content_type, serde_json::from_slice(&body).unwrap()));
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    }
}

#[test]
fn a_webhook_gets_one_object_for_each_change() {
    let (port, hooked) = webhook();
    let hook = format!(
        "[uplink.pager]\nkind = \"http\"\nto = \"http://127.0.0.1:{port}/hook\"\nstreams = [\"alert\"]\nbody = \"json\"\n"
    );
    let raven = plan("[alert.drops]\nclear = \"1s\"\nseverity = \"critical\"", &hook).start();
    drop_one(&raven);
    eventually("both changes arrive", || hooked.lock().unwrap().len() == 2);
    let hooked = hooked.lock().unwrap();
    let states: Vec<&str> = hooked.iter().map(|(_, body)| body["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["firing", "resolved"]);
    let (content_type, body) = &hooked[0];
    assert_eq!(
        (content_type.as_str(), &body["dev"], &body["stream"]),
        ("application/json", &"test".into(), &"alert".into())
    );
    assert_eq!((&body["severity"], number(&body["value"])), (&"critical".into(), 1));
    assert!(body["text"].as_str().unwrap().contains("raise `connections`"), "{body}");
}

#[test]
fn a_sender_that_was_regular_and_is_silent_is_told_until_it_is_back() {
    let raven = plan("[alert.source_silent]\nafter = \"2s\"\nregular = \"3s\"", "").start();
    let firing = |raven: &Appliance| raven.status()["firing"].clone();
    for _ in 0..60 {
        one_datagram(raven.udp(), b"<13>alive");
        pause(100);
    }
    eventually("it is missed", || firing(&raven).to_string().contains("syslog 127.0.0.1"));
    let output = raven.raven(&["alerts"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("warning source_silent: 127.0.0.1 (syslog) sent regularly and is silent"),
        "{}",
        said(&output)
    );
    eventually("it is back", || {
        one_datagram(raven.udp(), b"<13>alive");
        firing(&raven).as_array().is_some_and(Vec::is_empty)
    });
    await_told(&raven, Rule::SourceSilent, AlertState::Resolved);
    assert_eq!(count(&told(&raven), Rule::SourceSilent, AlertState::Firing), 1);
}

#[test]
fn alerts_are_listed_for_people_and_for_programs_and_stand_in_the_status() {
    let raven = plan("[alert.drops]\nclear = \"1h\"", "").start();
    let quiet = raven.raven(&["alerts"]);
    assert!(quiet.status.success() && said(&quiet).contains("nothing is wrong"), "{}", said(&quiet));
    drop_one(&raven);
    await_told(&raven, Rule::Drops, AlertState::Firing);
    eventually("it is known", || raven.raven(&["alerts"]).status.code() == Some(1));
    let text = said(&raven.raven(&["alerts"]));
    assert!(text.contains("1 not over:\n  ! warning drops: syslog lost (at tcp:[::]:"), "{text}");
    assert!(text.contains("told:\n"), "{text}");
    let json = said(&raven.raven(&["alerts", "--json"]));
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["firing"]["alert"], &lines[1]["decoded"]["state"]), (&"drops".into(), &"firing".into()));
    let screen = said(&raven.raven(&["status"]));
    assert!(screen.contains("raised and not over: 1 warning: see `raven alerts`"), "{screen}");
}
