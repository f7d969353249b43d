//! Processes of Raven: `/proc/PID/stat` of those whose name begins with `raven`.

use super::source::Source;
use super::text::{TICKS, count, name, nth, seconds};
use raven_model::host::RavenProcess;
use raven_model::table::Role;

/// Raven's processes, in the order of their names. `page` is the size of a page in bytes.
pub fn processes(source: &impl Source, page: u64) -> Vec<RavenProcess> {
    let pids = source.names("/proc").into_iter().filter_map(|name| name.parse::<u32>().ok());
    let mut found: Vec<RavenProcess> =
        pids.filter_map(|pid| process(&source.text(&format!("/proc/{pid}/stat"))?, page)).collect();
    found.sort_by(|a, b| (&a.name, a.pid).cmp(&(&b.name, b.pid)));
    found
}

/// `7 (raven:host) S 1 …` (proc(5)). The name may hold anything, so it ends at the last `)`.
pub fn process(stat: &str, page: u64) -> Option<RavenProcess> {
    let (pid, rest) = stat.split_once(" (")?;
    let (comm, rest) = rest.rsplit_once(')')?;
    if !comm.starts_with("raven") {
        return None;
    }
    let words: Vec<&str> = rest.split_whitespace().collect();
    // The first word here is field 3 of the manual.
    let field = |n: usize| nth(&words, n - 3);
    Some(RavenProcess {
        name: name(comm),
        pid: count(pid) as u32,
        start_s: field(22) as f64 / TICKS,
        cpu_s: seconds(field(14).saturating_add(field(15))),
        rss_bytes: field(24).saturating_mul(page),
        threads: field(20) as u32,
    })
}

/// True for those that are kept running, so that a new one in the place of an old one is a restart.
pub fn is_kept_running(process: &str) -> bool {
    let role = process.strip_prefix("raven:").and_then(Role::named);
    process == "ravend" || role.is_some_and(Role::is_kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::host::source::Scripted;
    use proptest::prelude::*;

    const NUMBERS: &str = "S 1 26193 31635 0 -1 4194304 117 0 0 0 250 50 0 0 20 0 3 0 435997 3133440 388 18446744073709551615 94369132974080";

    #[test]
    fn a_process_is_read_by_the_manual() {
        let process = process(&format!("26212 (raven:store) {NUMBERS}"), 4096).unwrap();
        assert_eq!((process.name.as_str(), process.pid, process.threads), ("raven:store", 26_212, 3));
        assert_eq!((process.cpu_s, process.start_s, process.rss_bytes), (3.0, 4359.97, 388 * 4096));
    }

    #[test]
    fn a_name_with_brackets_and_spaces_shifts_no_field() {
        let hostile = process(&format!("7 (raven) R 1 (x\n) {NUMBERS}"), 1).unwrap();
        assert_eq!((hostile.name.as_str(), hostile.threads), ("raven) R 1 (x", 3));
        assert_eq!(process(&format!("7 (cat) {NUMBERS}"), 1), None);
        assert_eq!(process("7 (raven", 1), None);
        assert_eq!(process("7 (ravend)", 1).unwrap().threads, 0);
    }

    #[test]
    fn only_ravens_processes_are_listed() {
        let mut source = Scripted::default();
        source
            .set("/proc/9/stat", &format!("9 (raven:host) {NUMBERS}"))
            .set("/proc/10/stat", &format!("10 (ravend) {NUMBERS}"))
            .set("/proc/11/stat", &format!("11 (bash) {NUMBERS}"))
            .set("/proc/stat", "cpu 1");
        let names: Vec<String> = processes(&source, 1).into_iter().map(|process| process.name).collect();
        assert_eq!(names, ["raven:host", "ravend"]);
    }

    #[test]
    fn programs_of_operators_and_roles_that_end_are_not_restarted() {
        assert!(is_kept_running("ravend") && is_kept_running("raven:store"));
        for other in ["raven", "raven-worker", "raven:config", "raven:keygen", "raven:what"] {
            assert!(!is_kept_running(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "[0-9]{0,3} \\((raven)?(\\PC|[0-9 )(\n-]){0,80}") {
            let _ = process(&text, u64::MAX);
        }
    }
}
