//! Configurations that come over the control socket, what was in force before, and changes that nobody confirms.

use crate::appliance::{Appliance, Plan, Running, free_port, programs};
use crate::{eventually, pause, root_only};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn file(raven: &Appliance) -> String {
    std::fs::read_to_string(raven.plan.config()).unwrap()
}

/// The configuration with another name of the box.
fn named(plan: &Plan, name: &str) -> String {
    plan.text().replace("name = \"test\"", &format!("name = \"{name}\" # by hand"))
}

fn device(raven: &Appliance) -> String {
    raven.status()["device"].as_str().unwrap().to_owned()
}

fn put(raven: &Appliance, text: &str, confirm: Option<u64>) -> Value {
    raven.ask(&[json!({ "put": { "text": text, "confirm": confirm } })])
}

/// Number and author, the newest first.
fn versions(raven: &Appliance) -> Vec<(u64, String)> {
    let history = raven.ask(&[json!("history")]);
    let version = |v: &Value| (v["number"].as_u64().unwrap(), v["by"].as_str().unwrap().to_owned());
    history["history"].as_array().unwrap().iter().map(version).collect()
}

fn of(versions: &[(u64, &str)]) -> Vec<(u64, String)> {
    versions.iter().map(|(number, by)| (*number, (*by).to_owned())).collect()
}

#[test]
fn a_configuration_that_is_put_is_in_force_in_the_file_and_in_the_history() {
    let raven = Appliance::start();
    let (first, second) = (file(&raven), named(&raven.plan, "north"));
    assert_eq!(put(&raven, &second, None), json!({ "applied": ["site.name: test → north"] }));
    assert_eq!((device(&raven), file(&raven)), ("north".to_owned(), second.clone()));
    assert_eq!(versions(&raven), of(&[(2, "admin"), (1, "start")]));

    let refused = put(&raven, "schema = 1\n[site]\nnmae = \"x\"\n", None);
    assert!(refused["refused"][0].as_str().unwrap().contains(":3:1: "), "{refused}");
    assert_eq!((device(&raven), file(&raven)), ("north".to_owned(), second.clone()));

    assert_eq!(raven.ask(&[json!({ "version": { "number": 1 } })]), json!({ "text": first }));
    assert_eq!(raven.ask(&[json!({ "revert": { "number": 1 } })]), json!({ "applied": ["site.name: north → test"] }));
    assert_eq!((device(&raven), file(&raven)), ("test".to_owned(), first));
    let raven = raven.restart();
    assert_eq!(versions(&raven), of(&[(3, "admin"), (2, "admin"), (1, "start")]));
    assert_eq!(raven.ask(&[json!("text")])["text"], file(&raven));
}

#[test]
fn a_box_without_a_configuration_begins_with_the_factorys_and_keeps_its_own() {
    let plan = Plan::new();
    let factory = plan.dir.path().join("factory.toml");
    let config = plan.dir.path().join("config/raven.toml");
    let start = || {
        let mut ravend = plan.ravend(&programs());
        ravend.arg("--config").arg(&config).arg("--factory").arg(&factory);
        let mut running = Running::spawn(ravend);
        running.wait_ready();
        running.signal(Signal::TERM);
        assert!(running.wait(), "{}", running.log());
    };
    std::fs::write(&factory, plan.text()).unwrap();
    start();
    assert_eq!(std::fs::read_to_string(&config).unwrap(), plan.text());
    assert_eq!(std::fs::metadata(&config).unwrap().permissions().mode() & 0o777, 0o644);
    std::fs::write(&config, named(&plan, "north")).unwrap();
    start();
    assert_eq!(std::fs::read_to_string(&config).unwrap(), named(&plan, "north"));
}

#[test]
fn a_change_that_nobody_confirms_is_taken_back() {
    let raven = Appliance::start();
    let port = free_port();
    let changed = raven.plan.text().replacen("udp = [", &format!("udp = [{port}, "), 1);
    let said = put(&raven, &changed, Some(10));
    assert!(said["applied"].to_string().contains("taken back in 10 s"), "{said}");
    let second = put(&raven, &named(&raven.plan, "other"), None);
    assert!(second["refused"].to_string().contains("raven config confirm"), "{second}");
    eventually("the change is taken back", || file(&raven) == raven.plan.text());
    assert!(!raven.status()["listeners"].to_string().contains(&port.to_string()));
    assert!(raven.ask(&[json!("confirm")])["refused"].is_array());

    put(&raven, &changed, Some(10));
    assert_eq!(raven.ask(&[json!("confirm")]), json!({ "applied": ["confirmed"] }));
    pause(11_000);
    assert_eq!(file(&raven), changed);
}

#[test]
fn a_change_that_nobody_confirms_does_not_outlive_a_power_cut() {
    let mut raven = Appliance::start();
    let first = file(&raven);
    put(&raven, &named(&raven.plan, "north"), Some(3600));
    assert_eq!(device(&raven), "north");
    raven.running.signal(Signal::KILL);
    raven.running.wait();
    let raven = raven.plan.start_again();
    assert_eq!((device(&raven), file(&raven)), ("test".to_owned(), first));
    assert_eq!(versions(&raven), of(&[(3, "revert"), (2, "admin"), (1, "start")]));
}

#[test]
fn what_comes_back_is_remembered_until_it_is_back() {
    root_only!();
    let raven = Appliance::start();
    let first = file(&raven);
    put(&raven, &named(&raven.plan, "north"), Some(10));
    // A file that something is mounted on cannot be replaced.
    let config = raven.plan.config();
    let run = |words: &[&str]| {
        let status = Command::new(words[0]).args(&words[1..]).arg(&config).status().unwrap();
        assert!(status.success(), "{words:?}");
    };
    run(&["mount", "--bind", config.to_str().unwrap()]);
    eventually("it cannot be brought back", || raven.running.log().contains("does not come back"));
    let note = raven.plan.data().join("history/unconfirmed");
    let noted = std::fs::read_to_string(&note);
    run(&["umount"]);
    assert_eq!(noted.unwrap(), "1");
    eventually("it is brought back", || file(&raven) == first);
    eventually("nothing waits any more", || !note.exists());
    assert_eq!(device(&raven), "test");
}
