//! Who may say what on the control socket: by user, by login, and at a box that is not set up.

use crate::appliance::Appliance;
use crate::{eventually, pause, root_only};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

const CONSOLE: u32 = 61_100;

/// Says requests as another user: who is at the other end of a socket is a thread's user.
fn ask_as(raven: &Appliance, user: u32, requests: &[Value]) -> Value {
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let (user, group) = (rustix::thread::Uid::from_raw(user), rustix::thread::Gid::from_raw(user));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            raven.ask(requests)
        });
        asked.join().unwrap()
    })
}

fn start() -> Appliance {
    let raven = Appliance::start();
    std::fs::set_permissions(raven.plan.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    raven
}

fn password(verb: &str, password: &str) -> Value {
    json!({ verb: { "role": "admin", "password": password } })
}

#[test]
fn each_user_of_the_box_may_say_what_the_table_says() {
    root_only!();
    let raven = start();
    let may = |user, request: Value| ask_as(&raven, user, &[request]).get("refused").is_none();
    for (user, looks, acts, changes) in [
        (61_101, true, false, false),
        (61_102, true, true, false),
        (61_103, true, true, true),
        (1, false, false, false),
    ] {
        let shows = may(user, json!("show"));
        assert_eq!((shows, may(user, json!("deliver")), may(user, json!("history"))), (looks, acts, changes), "{user}");
    }
}

#[test]
fn the_console_is_an_admin_until_there_is_a_password_and_then_by_it() {
    root_only!();
    let raven = start();
    assert!(ask_as(&raven, CONSOLE, &[json!("history")])["history"].is_array());
    assert!(ask_as(&raven, CONSOLE, &[password("set_password", "short")])["refused"].is_array());
    assert_eq!(ask_as(&raven, CONSOLE, &[password("set_password", "correct horse")]), "done");
    assert!(ask_as(&raven, CONSOLE, &[json!("history")])["refused"].is_array());
    assert!(ask_as(&raven, CONSOLE, &[json!("show")])["config"].is_object());

    let wrong = ask_as(&raven, CONSOLE, &[password("login", "correct horsf")]);
    assert_eq!(wrong["refused"][0], "wrong password; the next attempt in 1 s");
    let early = ask_as(&raven, CONSOLE, &[password("login", "correct horse")]);
    assert!(early["refused"][0].as_str().unwrap().contains("the next attempt"), "{early}");
    pause(1100);
    let login = ask_as(&raven, CONSOLE, &[password("login", "correct horse")]);
    let session = json!({ "session": login["logged_in"] });
    assert!(ask_as(&raven, CONSOLE, &[session.clone(), json!("history")])["history"].is_array(), "{login}");
    assert!(ask_as(&raven, 61_101, &[session.clone(), json!("history")])["refused"].is_array(), "another user's");
    assert!(ask_as(&raven, CONSOLE, &[json!({ "session": { "token": "0" } }), json!("history")])["refused"].is_array());

    // Root gives it another, and who was logged in by the old one is no longer.
    assert_eq!(raven.ask(&[password("set_password", "battery staple")]), "done");
    assert!(ask_as(&raven, CONSOLE, &[session, json!("history")])["refused"].is_array());
    let log = raven.running.log();
    assert!(log.contains("wrong password") && !log.contains("horse"), "{log}");
    let hash = raven.plan.data().join("secrets/admin.password");
    let stored = std::fs::read_to_string(&hash).unwrap();
    assert!(stored.starts_with("$argon2id$"), "{stored}");
    assert_eq!(std::fs::metadata(&hash).unwrap().permissions().mode() & 0o777, 0o600);

    let raven = raven.restart();
    eventually("the new password fits", || {
        ask_as(&raven, CONSOLE, &[password("login", "battery staple")])["logged_in"].is_object()
    });
}
