//! Destinations that need secrets, from the jail in which the uplink lives.

use crate::appliance::{Appliance, Plan, said};
use crate::eventually;
use crate::rsyslog::{Rsyslog, is_installed};
use crate::sender::one_datagram;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs openssl in `dir`; false where there is none.
fn openssl(dir: &Path, arguments: &str) -> bool {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output();
    output.is_ok_and(|output| output.status.success())
}

/// An authority `NAME.pem`, and a certificate `NAME-end.pem` with its key for 127.0.0.1.
fn authority(dir: &Path, name: &str) -> bool {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    std::fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(dir, &format!("req -x509 {key} -keyout {name}.key -out {name}.pem -days 30 -subj /CN={name}"))
        && openssl(dir, &format!("req {key} -keyout {name}-end.key -out {name}.csr -subj /CN=end"))
        && openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA {name}.pem -CAkey {name}.key -CAcreateserial -out {name}-end.pem -days 30 -extfile names"
            ),
        )
}

/// Puts a file among the secrets of an appliance.
fn secret(plan: &Plan, name: &str, from: &Path) {
    let dir = plan.dir.path().join("secrets");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::copy(from, dir.join(name)).unwrap();
    std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o600)).unwrap();
}

fn last_error(raven: &Appliance, name: &str) -> String {
    raven.destination(name)["last_error"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn relp_over_tls_and_plain_syslog_arrive_and_a_secret_that_is_put_right_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    if !is_installed() {
        return;
    }
    if !authority(dir.path(), "noc") || !authority(dir.path(), "other") {
        eprintln!("not run: needs openssl");
        return;
    }
    let file = |name: &str| dir.path().join(name);
    let files: [PathBuf; 3] = ["noc.pem", "noc-end.pem", "noc-end.key"].map(file);
    let (mut noc, tcp) = Rsyslog::with_tls_and_tcp(&files);
    noc.start();
    let mut plan = Plan::new();
    let keys = "ca = \"secret:ca.pem\"\ncertificate = \"secret:raven.pem\"\nkey = \"secret:raven.key\"\n";
    plan.uplinks = format!(
        "{tls}tls = true\n{keys}{untold}tls = true\n[uplink.legacy]\nkind = \"syslog\"\nto = \"127.0.0.1:{tcp}\"\n",
        tls = noc.uplink("tls"),
        untold = noc.uplink("untold"),
    );
    for (name, from) in [("ca.pem", "other.pem"), ("raven.pem", "noc-end.pem"), ("raven.key", "noc-end.key")] {
        secret(&plan, name, &file(from));
    }
    let raven = plan.start();
    one_datagram(raven.udp(), b"<13>hello over TLS");
    raven.settle(1);
    eventually("the plain one arrives", || noc.received().contains("hello over TLS"));
    eventually("its cursor follows", || raven.destination("legacy")["acked_seq"] == 1);
    assert_eq!(raven.destination("legacy")["ack_class"], "none");
    eventually("the wrong authority shows", || raven.destination("tls")["state"] == "config_error");
    assert!(last_error(&raven, "tls").contains("signed by nobody whom we trust"), "{}", last_error(&raven, "tls"));
    // Without `ca` the system's authorities count, which the jail lets it read where there are any.
    let untold = last_error(&raven, "untold");
    let bundle = Path::new("/etc/ssl/certs/ca-certificates.crt").exists();
    assert_eq!(untold.contains("signed by nobody whom we trust"), bundle, "{untold}");
    secret(&raven.plan, "ca.pem", &file("noc.pem"));
    let applied = raven.raven(&["config", "apply"]);
    assert!(applied.status.success(), "{}", said(&applied));
    eventually("it arrives", || raven.destination("tls")["acked_seq"] == 1);
    assert_eq!(noc.received().matches("hello over TLS").count(), 2);
    assert!(!raven.running.log().contains("PRIVATE KEY"));
}

#[test]
fn a_destination_whose_secret_is_not_there_says_so_and_stops_no_other() {
    if !is_installed() {
        return;
    }
    let mut noc = Rsyslog::new();
    noc.start();
    let mut plan = Plan::new();
    plan.uplinks = format!(
        "{}[uplink.web]\nkind = \"http\"\nto = \"https://127.0.0.1:9/in\"\ncredentials = \"secret:absent\"\n",
        noc.uplink("noc")
    );
    let raven = plan.start();
    one_datagram(raven.udp(), b"<13>hello");
    raven.settle(1);
    eventually("the other has it", || raven.destination("noc")["acked_seq"] == 1);
    eventually("it is said", || last_error(&raven, "web").contains("secret:absent has not come"));
    let output = raven.raven(&["config", "apply"]);
    assert!(!output.status.success() && said(&output).contains("uplink.web.credentials"), "{}", said(&output));
}
