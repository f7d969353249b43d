//! What a USB stick brought, as `raven-stick` leaves it: a box that nobody has set up takes it, every other one offers it.

use crate::appliance::{Appliance, Plan, said};
use crate::machine::Cable;
use crate::{eventually, pause, root_only};
use std::fs;
use std::path::{Path, PathBuf};

/// Puts it where `raven-stick` does, whole at once.
fn insert(raven: &Appliance, text: &str, secrets: &[(&str, &str)]) {
    let run = raven.plan.dir.path().join("run/raven");
    let (new, stick) = (run.join("stick.new"), run.join("stick"));
    fs::create_dir_all(new.join("secrets")).unwrap();
    fs::write(new.join("raven.toml"), text).unwrap();
    for (name, content) in secrets {
        fs::write(new.join("secrets").join(name), content).unwrap();
    }
    let _ = fs::remove_dir_all(&stick);
    fs::rename(new, stick).unwrap();
}

fn told(raven: &Appliance) -> (String, bool) {
    let stick = &raven.status()["stick"];
    (stick["said"].as_str().unwrap_or_default().to_owned(), stick["is_offered"] == true)
}

fn device(raven: &Appliance) -> String {
    raven.status()["device"].as_str().unwrap().to_owned()
}

fn secret(raven: &Appliance, name: &str) -> PathBuf {
    raven.plan.config().parent().map(|folder: &Path| folder.join("secrets").join(name)).unwrap()
}

const UPLINK: &str = "[uplink.noc]\nkind = \"http\"\nto = \"http://127.0.0.1:9/\"\ncredentials = \"secret:noc\"\n";

#[test]
fn a_new_box_takes_a_stick_by_itself_and_one_that_is_set_up_offers_it() {
    root_only!();
    let cable = Cable::new("stick");
    // The factory's name: nobody has set this box up.
    let plan = Plan { name: "raven", ..Plan::new() };
    let text = plan.text();
    let raven = cable.start(plan);
    assert_eq!((told(&raven), device(&raven).as_str()), ((String::new(), false), "raven"));
    let none = raven.raven(&["config", "take-stick"]);
    assert!(!none.status.success() && said(&none).contains("no stick"), "{}", said(&none));

    // A mistake changes nothing, is told with its line, and its secrets go.
    insert(&raven, &format!("{text}\n[colect]\n"), &[("noc", "bearer x\n")]);
    eventually("the mistake is told", || told(&raven).0.contains("NOT taken") && told(&raven).0.contains("colect"));
    assert_eq!((told(&raven).1, device(&raven).as_str(), secret(&raven, "noc").exists()), (false, "raven", false));

    insert(&raven, &(text.replace("\"raven\"", "\"first\"") + UPLINK), &[("noc", "bearer x\n"), (".hidden", "x")]);
    eventually("it is in force", || device(&raven) == "first");
    assert_eq!(told(&raven), ("its configuration is in force".to_owned(), false));
    assert_eq!(fs::read_to_string(secret(&raven, "noc")).unwrap(), "bearer x\n");
    assert!(!secret(&raven, ".hidden").exists());
    assert!(fs::read_to_string(raven.plan.config()).unwrap().contains("\"first\""));
    let history = raven.raven(&["config", "history"]);
    assert!(said(&history).contains("stick"), "{}", said(&history));

    // Now somebody has to want it.
    insert(&raven, &text.replace("\"raven\"", "\"second\""), &[]);
    eventually("it is offered", || told(&raven).1);
    pause(1500);
    assert_eq!(device(&raven), "first");
    let taken = raven.raven(&["config", "take-stick"]);
    assert!(taken.status.success(), "{}", said(&taken));
    assert_eq!((device(&raven).as_str(), told(&raven).1), ("second", false));
}
