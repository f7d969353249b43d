//! The tables of docs/vpn.md are those of the code. `RAVEN_ACCEPT=1` writes them anew.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const BEGIN: &str = "<!-- written by network/profile/tests/docs.rs from here -->\n";
const END: &str = "<!-- to here -->\n";

/// Directives with the same reason stand in one row.
fn rows(of: &str, table: &[(String, &str, &str)]) -> String {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, answer, reason) in table {
        if *answer == of {
            by_reason.entry(reason).or_default().push(name);
        }
    }
    let mut rows: Vec<(Vec<&str>, &str)> = by_reason.into_iter().map(|(reason, names)| (names, reason)).collect();
    rows.sort();
    let mut out = String::new();
    for (names, reason) in rows {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        writeln!(out, "| {} | {} |", names.join(" "), reason.replace('|', "\\|")).unwrap();
    }
    out
}

fn tables() -> String {
    let open_vpn: Vec<_> =
        raven_profile::openvpn::directives().map(|(name, answer, reason)| (name.to_owned(), answer, reason)).collect();
    let wire_guard: Vec<_> = raven_profile::wireguard::directives().collect();
    let mut out = String::new();
    for (program, table) in [("OpenVPN", open_vpn), ("WireGuard (wg-quick)", wire_guard)] {
        for (answer, head) in [("accepted", "what it is"), ("refused", "why"), ("left out", "why")] {
            let rows = rows(answer, &table);
            write!(out, "### {program}: {answer}\n| directive | {head} |\n|---|---|\n{rows}\n").unwrap();
        }
    }
    out
}

#[test]
fn the_tables_of_the_documentation_are_those_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/vpn.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("docs/vpn.md has the line where its tables begin");
    let (found, after) = rest.split_once(END).expect("docs/vpn.md has the line where its tables end");
    let tables = tables();
    if std::env::var_os("RAVEN_ACCEPT").is_some() {
        std::fs::write(&path, [before, BEGIN, &tables, END, after].concat()).unwrap();
        return;
    }
    assert!(found == tables, "docs/vpn.md is behind the code; RAVEN_ACCEPT=1 cargo test -p raven-profile --test docs");
}
