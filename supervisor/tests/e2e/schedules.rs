//! Tests that are made by themselves: record, delivery, history, alert, and what they cost the messages that come in.

use crate::appliance::{Appliance, Plan, free_port, number, programs, said};
use crate::marks::{EXACT, Marks};
use crate::rsyslog::{Rsyslog, is_installed};
use crate::sender::Sender;
use crate::{count, eventually, pause};
use raven_model::alert::{AlertRecord, AlertState, Rule};
use raven_model::diag::schedule::{DiagRecord, HistoryRow, Outcome, ScheduleReport, Threshold, ThresholdState};
use rustix::process::Signal;
use serde_json::Value;
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A name server that has an address for every name.
fn name_server() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut query) {
            let mut answer = query[..n].to_vec();
            // An answer, recursion available; one record.
            (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
            answer.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
            let _ = socket.send_to(&answer, from);
        }
    });
    port
}

/// The raw records of a stream.
fn raw(raven: &Appliance, stream: &str) -> Vec<String> {
    let output = raven.raven(&["export", stream, "--format", "ndjson"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let record = |line: &str| serde_json::from_str::<Value>(line).unwrap()["raw"].as_str().unwrap().to_owned();
    text.lines().map(record).collect()
}

fn made(raven: &Appliance, schedule: &str) -> Vec<DiagRecord> {
    let all = raw(raven, "diag");
    let all = all.iter().map(|record| DiagRecord::read(record.as_bytes()).unwrap());
    all.filter(|record| record.schedule == schedule).collect()
}

fn alerts(raven: &Appliance, subject: &str, state: AlertState) -> usize {
    let all = raw(raven, "alert");
    let all = all.iter().map(|record| AlertRecord::read(record.as_bytes()).unwrap());
    all.filter(|alert| alert.alert == Rule::Diag && alert.subject == subject && alert.state == state).count()
}

fn state_of(raven: &Appliance, schedule: &str) -> Option<ThresholdState> {
    let told = raven.raven(&["diag", "schedules", "--json"]);
    let report: ScheduleReport = serde_json::from_slice(&told.stdout).ok()?;
    let status = report.schedules.into_iter().find(|status| status.name == schedule)?;
    status.thresholds.iter().find(|threshold| threshold.threshold == Threshold::Failed).map(|threshold| threshold.state)
}

/// Has a test made; how it ended.
fn run(raven: &Appliance, schedule: &str) -> Option<Outcome> {
    let told = raven.raven(&["diag", "run", schedule, "--json"]);
    serde_json::from_slice::<DiagRecord>(&told.stdout).ok().map(|record| record.outcome)
}

/// Twice in a row, whatever its own time brings between.
fn twice(raven: &Appliance, schedule: &str, expected: Outcome) {
    for _ in 0..2 {
        eventually("it is made when it is asked for", || run(raven, schedule) == Some(expected));
    }
}

#[test]
fn a_test_that_was_due_is_a_record_delivered_a_row_of_history_and_an_alert_that_begins_and_ends() {
    if !is_installed() {
        return;
    }
    let mut noc = Rsyslog::new();
    noc.start();
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, dns) = (door.local_addr().unwrap().port(), name_server());
    let schedules = format!(
        "[diag.schedule.door]\nevery = \"10s\"\ntcp = {{ target = \"127.0.0.1\", port = {port} }}\nalert = {{ for = 2, clear = 2 }}\n\
         [diag.schedule.names]\nevery = \"10s\"\ndns = {{ name = \"noc.example\", servers = [\"127.0.0.1:{dns}\"] }}\n\
         [diag.schedule.gateway]\nevery = \"1s\"\nping = {{ targets = [\"127.0.0.1\"], count = 1 }}\nalert = {{ enabled = false }}\n"
    );
    let uplinks = format!("{schedules}{}streams = [\"diag\", \"alert\"]\n", noc.uplink("noc"));
    let raven = Plan { alert: String::new(), uplinks, ..Plan::new() }.start();

    for schedule in ["door", "names"] {
        eventually(schedule, || made(&raven, schedule).iter().any(|record| record.outcome == Outcome::Well));
        eventually("it is delivered", || noc.received().contains(&format!("\"schedule\":\"{schedule}\"")));
    }
    // The kernel may not let the role ping here: that is a result, too.
    eventually("pings", || made(&raven, "gateway").len() >= 3);
    let text = said(&raven.raven(&["tail", "diag", "--last", "200"]));
    assert!(text.contains("names dns well") && text.contains("door tcp well"), "{text}");

    drop(door);
    twice(&raven, "door", Outcome::Bad);
    eventually("the alert begins", || alerts(&raven, "door failed", AlertState::Firing) == 1);
    assert_eq!(raven.raven(&["diag", "schedules"]).status.code(), Some(1));

    // Neither the end of the role nor that of all of it ends an alert or has it told once more.
    let before = raven.process("schedule");
    raven.kill("schedule", Signal::KILL);
    raven.restarted("schedule", &before);
    eventually("it is known to the next one", || state_of(&raven, "door") == Some(ThresholdState::Beyond));
    let raven = raven.restart();
    eventually("and after a start", || state_of(&raven, "door") == Some(ThresholdState::Beyond));
    pause(3_000);
    assert_eq!(alerts(&raven, "door failed", AlertState::Firing), 1);
    assert_eq!(alerts(&raven, "door failed", AlertState::Resolved), 0);

    let door = TcpListener::bind(("127.0.0.1", port)).unwrap();
    twice(&raven, "door", Outcome::Well);
    eventually("the alert ends", || alerts(&raven, "door failed", AlertState::Resolved) == 1);
    for state in ["firing", "resolved"] {
        let told = format!("\"state\":\"{state}\"");
        let has = |line: &str| line.contains("door failed") && line.contains(&told);
        eventually("the operations centre hears of it", || noc.received().lines().any(has));
    }
    drop(door);

    let told = raven.raven(&["diag", "history", "door", "--json"]);
    let rows: Vec<HistoryRow> =
        told.stdout.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let outcomes = |outcome| rows.iter().filter(|row| row.outcome == outcome).count();
    assert!(outcomes(Outcome::Well) >= 3 && outcomes(Outcome::Bad) >= 2, "{rows:?}");
    assert!(rows.windows(2).all(|two| two[0].t <= two[1].t));
    assert!(said(&raven.raven(&["diag", "history", "door"])).contains("time ms"));
    let process = raven.process("schedule");
    assert_eq!(process["capabilities"].as_array().map(Vec::len), Some(0), "{process}");
    assert_eq!(number(&process["restarts"]), 0, "after the start of all: {}", raven.status()["processes"]);
}

/// `raven bw --server` for a while; it ends with this.
struct Server(Child);

impl Server {
    fn start(raven: &Appliance, port: u16) -> Self {
        let mut command = Command::new(programs().join("raven"));
        command.arg("--data").arg(raven.plan.data()).args(["bw", "--server", "-p", &port.to_string(), "--for", "2m"]);
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn scheduled_tests_cost_the_messages_that_come_in_none() {
    let (dns, port) = (name_server(), free_port());
    let mut schedules = format!(
        "[diag.schedule.up]\nevery = \"10m\"\nbandwidth = {{ target = \"127.0.0.1\", port = {port}, time = \"3s\" }}\n\
         [diag.schedule.names]\nevery = \"10s\"\ndns = {{ name = \"noc.example\", servers = [\"127.0.0.1:{dns}\"] }}\n"
    );
    schedules.extend((0..16).map(|n| {
        format!(
            "[diag.schedule.ping-{n}]\nevery = \"1s\"\nping = {{ targets = [\"127.0.0.1\"], count = 5, interval = \"100ms\" }}\n"
        )
    }));
    let raven = Plan { uplinks: schedules, ..Plan::new() }.start();
    let _server = Server::start(&raven, port);
    let (rate, began) = (count(100_000, 10_000), Instant::now());
    let sender = Sender::udp(raven.udp(), "schedules", 0, rate.into());
    eventually("a bandwidth test beside it", || run(&raven, "up") == Some(Outcome::Well));
    eventually("all others, too", || (0..16).all(|n| made(&raven, &format!("ping-{n}")).len() >= 3));
    let sent = sender.stop();
    println!("{:.0} messages a second of {rate} that were asked for", sent as f64 / began.elapsed().as_secs_f64());
    raven.settle(sent);
    assert_eq!((Marks::of_ring(&raven, "schedules").audit(0, sent), raven.dropped()), (EXACT, 0), "of {sent}");
    // While bandwidth was measured no other test began.
    let bandwidth = made(&raven, "up").into_iter().find(|record| record.outcome == Outcome::Well).unwrap();
    let (from, to) = (bandwidth.t.0 - bandwidth.took_ms * 1_000_000, bandwidth.t.0);
    let other = |record: &DiagRecord| {
        let began = record.t.0 - record.took_ms * 1_000_000;
        record.outcome != Outcome::Skipped && began > from + 50_000_000 && began + 50_000_000 < to
    };
    assert!(!(0..16).any(|n| made(&raven, &format!("ping-{n}")).iter().any(other)));
}
