//! The console's set-up in lines, by the user as whom it runs, on a box that nobody has set up.

use crate::appliance::{Appliance, Plan};
use crate::root_only;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

const CONSOLE: u32 = 61_100;

fn new_box() -> Appliance {
    let raven = Plan { name: "raven", ..Plan::new() }.start();
    std::fs::set_permissions(raven.plan.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    raven
}

/// What `raven console --plain` says to these lines; it ends with the last of them.
fn console(raven: &Appliance, lines: &[&str]) -> String {
    let mut command = Command::new(raven.programs.join("raven"));
    command.args(["console", "--plain", "--data"]).arg(raven.plan.data()).uid(CONSOLE).gid(CONSOLE);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn file(raven: &Appliance) -> String {
    std::fs::read_to_string(raven.plan.config()).unwrap()
}

#[test]
fn a_new_box_is_set_up_at_the_console_which_asks_for_the_password_from_then_on() {
    root_only!();
    let raven = new_box();
    let before = file(&raven);
    // To the review, where the name and the password are changed; put, keep, look at a page.
    let shown =
        console(&raven, &["1", "2", "2", "arena", "9", "correct horse", "correct horse", "1", "1", "6", "0", "4", "0"]);
    assert!(shown.contains("1  Set up this box") || shown.contains("Enter: set up this box"), "{shown}");
    assert!(shown.contains("* the settings are kept and the password is set"), "{shown}");
    assert!(shown.contains("== Raven arena: System =="), "{shown}");
    let kept = before.replace("name = \"raven\"", "name = \"arena\"");
    assert!(kept.lines().all(|line| file(&raven).contains(line)), "{}", file(&raven));
    assert!(file(&raven).contains("timezone = \"UTC\""), "{}", file(&raven));

    let shown = console(&raven, &["1", "wrong horse", "<", "0"]);
    assert!(shown.contains("! wrong password; the next attempt in 1 s"), "{shown}");
    assert!(!shown.contains("Raven arena: Status"), "{shown}");
    crate::pause(1100);
    let shown = console(&raven, &["1", "correct horse", "2", "0", "4", "0"]);
    assert!(shown.contains("== Raven arena: Network =="), "{shown}");
}

#[test]
fn settings_that_are_not_kept_are_taken_back() {
    root_only!();
    let raven = new_box();
    let before = file(&raven);
    let shown = console(&raven, &["1", "2", "2", "arena", "1", "2", "0"]);
    assert!(shown.contains("* the settings from before are in force again"), "{shown}");
    // At once, not when the minute is over.
    assert_eq!(raven.status()["device"], "raven");
    assert_eq!(file(&raven), before);
}
