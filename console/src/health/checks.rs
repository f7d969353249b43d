//! The looks that need nothing but what `ravend` said.

use raven_model::config::Wanted;
use raven_model::control::RawStatus;
use raven_model::report::{DestinationStatus, ListenerStatus, Process, StoreReport, UplinkReport};
use raven_model::table::Role;
use std::net::SocketAddr;

/// States of a destination to which records go, or would.
const GOOD: [&str; 2] = ["sending", "idle"];

/// Every listener that the configuration wants is bound.
pub fn listeners(wanted: &[Wanted], bound: &[ListenerStatus]) -> Result<String, String> {
    let is_bound = |want: &&Wanted| {
        bound.iter().any(|listener| {
            listener.stream == want.stream.name()
                && listener.proto == want.proto.name()
                && listener.addr.parse::<SocketAddr>().is_ok_and(|addr| same(addr, want.listen.0))
        })
    };
    let missing: Vec<String> = wanted
        .iter()
        .filter(|want| !is_bound(want))
        .map(|want| format!("{} for {}", want.listen, want.stream))
        .collect();
    if missing.is_empty() {
        Ok(format!("all {} are bound", wanted.len()))
    } else {
        Err(format!("not bound: {}", missing.join(", ")))
    }
}

/// Port 0 is any port.
fn same(bound: SocketAddr, wanted: SocketAddr) -> bool {
    bound.ip() == wanted.ip() && (wanted.port() == 0 || bound.port() == wanted.port())
}

/// The store commits, and no stream has an error.
pub fn ring(status: &RawStatus) -> Result<String, String> {
    let report = status.reports.get(&Role::Store).ok_or("the store has not reported yet")?;
    let report: StoreReport =
        serde_json::from_str(report.get()).map_err(|error| format!("the store's report cannot be read: {error}"))?;
    let errors: Vec<String> = report
        .streams
        .iter()
        .filter_map(|stream| stream.error.as_ref().map(|error| format!("{}: {error}", stream.name)))
        .collect();
    if errors.is_empty() {
        Ok(format!("{} streams are written to without an error", report.streams.len()))
    } else {
        Err(errors.join("; "))
    }
}

/// All run, and none was started again between the two looks.
pub fn processes(first: &[Process], then: &[Process]) -> Result<String, String> {
    let wrong: Vec<String> = then
        .iter()
        .filter_map(|now| {
            let before = first.iter().find(|process| process.role == now.role);
            let restarted = before.is_some_and(|before| now.restarts > before.restarts);
            let why = now.last_end.as_ref().map_or_else(String::new, |end| format!(" ({end})"));
            match (now.state.as_str(), restarted) {
                ("running", false) => None,
                ("running", true) => Some(format!("{} ends again and again{why}", now.role)),
                (state, _) => Some(format!("{} is {state}{why}", now.role)),
            }
        })
        .collect();
    if wrong.is_empty() { Ok(format!("all {} run", then.len())) } else { Err(wrong.join(", ")) }
}

/// What the uplink says of its destinations.
pub fn uplink_report(status: &RawStatus) -> Option<UplinkReport> {
    serde_json::from_str(status.reports.get(&Role::Uplink)?.get()).ok()
}

/// No destination that was well before the update is worse now. One that is not configured any more is not missed.
pub fn uplink(before: Option<&UplinkReport>, now: Option<&UplinkReport>) -> Result<String, String> {
    let now = now.ok_or("the uplink has not reported yet")?;
    let is_good = |destination: &DestinationStatus| GOOD.contains(&destination.state.as_str());
    let Some(before) = before else {
        let good = now.destinations.iter().filter(|d| is_good(d)).count();
        return Ok(format!("{good} of {} are well; nothing to compare with", now.destinations.len()));
    };
    let worse: Vec<String> = before
        .destinations
        .iter()
        .filter(|before| is_good(before))
        .filter_map(|before| {
            let same = |d: &&DestinationStatus| d.name == before.name && d.stream == before.stream;
            now.destinations.iter().find(same).filter(|now| !is_good(now))
        })
        .map(|now| {
            let why = now.last_error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            format!("{} ({}) was well before the update and is {} now{why}", now.name, now.stream, now.state)
        })
        .collect();
    if worse.is_empty() {
        Ok("no destination is worse than before the update".to_owned())
    } else {
        Err(worse.join("; "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::config::Config;

    fn bound(stream: &str, proto: &str, addr: &str) -> ListenerStatus {
        let (stream, proto, addr) = (stream.to_owned(), proto.to_owned(), addr.to_owned());
        ListenerStatus { stream, proto, addr, ..ListenerStatus::default() }
    }

    #[test]
    fn a_listener_that_is_not_bound_is_named() {
        let wanted = Config::default().collect.wanted();
        let all: Vec<ListenerStatus> = wanted
            .iter()
            .map(|want| bound(want.stream.name(), want.proto.name(), &want.listen.0.to_string()))
            .collect();
        assert!(listeners(&wanted, &all).is_ok());
        for missing in 0..all.len() {
            let mut less = all.clone();
            let gone = less.remove(missing);
            let why = listeners(&wanted, &less).unwrap_err();
            assert!(why.contains(&gone.stream), "{why}");
        }
    }

    fn process(role: &str, state: &str, restarts: u64) -> Process {
        Process { role: role.to_owned(), state: state.to_owned(), restarts, ..Process::default() }
    }

    #[test]
    fn a_process_that_does_not_run_or_ends_again_and_again_is_named() {
        let well = [process("store", "running", 3), process("syslog", "running", 0)];
        assert!(processes(&well, &well).is_ok());
        let held = [process("store", "running", 3), process("syslog", "held", 0)];
        assert_eq!(processes(&well, &held), Err("syslog is held".to_owned()));
        let again = [process("store", "running", 4), process("syslog", "running", 0)];
        assert_eq!(processes(&well, &again), Err("store ends again and again".to_owned()));
    }

    fn report(state: &str) -> UplinkReport {
        let destination = DestinationStatus { name: "noc".into(), state: state.into(), ..DestinationStatus::default() };
        UplinkReport { destinations: vec![destination] }
    }

    #[test]
    fn only_a_destination_that_was_well_counts() {
        assert!(uplink(Some(&report("idle")), Some(&report("sending"))).is_ok());
        assert!(uplink(Some(&report("retrying")), Some(&report("retrying"))).is_ok());
        assert!(uplink(Some(&report("sending")), Some(&report("retrying"))).unwrap_err().contains("noc"));
        assert!(uplink(Some(&report("sending")), Some(&UplinkReport { destinations: vec![] })).is_ok());
        assert!(uplink(None, Some(&report("retrying"))).is_ok());
        assert!(uplink(None, None).is_err());
    }
}
