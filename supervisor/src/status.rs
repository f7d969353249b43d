//! What `ravend` itself knows, for `raven status`.

use crate::supervisor::Supervisor;
use crate::worker::State;
use nix::unistd::Uid;
use raven_jail::socket::{self, kernel_udp};
use raven_model::control::RawStatus;
use raven_model::report::{Process, Status};
use raven_model::units::{ByteCount, UnixNanos};
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

/// The status so far as it is ours, and the roles' reports as they came.
pub fn status(supervisor: &Supervisor) -> RawStatus {
    let own = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        device: supervisor.config.site.name.clone(),
        now_ns: now(),
        uptime_s: supervisor.started.elapsed().as_secs(),
        jail_missing: missing(supervisor),
        processes: processes(supervisor),
        listeners: supervisor.listeners.status(),
        kernel: kernel_udp(),
        slots: supervisor.slots.known.clone(),
        alerts: alerts(supervisor),
        is_box: supervisor.is_box(),
        stick: supervisor.stick.as_ref().and_then(|stick| stick.status.clone()),
        ..Status::default()
    };
    let reports = supervisor.workers.iter().filter_map(|w| Some((w.role, w.report.clone()?))).collect();
    RawStatus { own, reports }
}

fn processes(supervisor: &Supervisor) -> Vec<Process> {
    let uid = Uid::effective().as_raw();
    let ravend = Process {
        role: "ravend".to_owned(),
        pid: std::process::id(),
        uid,
        uptime_s: supervisor.started.elapsed().as_secs(),
        capabilities: supervisor.capabilities.clone(),
        state: "running".to_owned(),
        ..Process::default()
    };
    // A collector that nothing is configured for is no process.
    let wanted = supervisor.workers.iter().filter(|worker| worker.state != State::Unwanted);
    std::iter::once(ravend).chain(wanted.map(|worker| worker.process(uid))).collect()
}

/// What an operator should act on, as far as it is known here.
fn alerts(supervisor: &Supervisor) -> Vec<String> {
    let told = supervisor.box_alerts.iter().chain(&supervisor.secrets.alerts).cloned();
    let unconfirmed = supervisor.unconfirmed.as_ref().map(|waits| {
        let left = waits.until.saturating_duration_since(std::time::Instant::now()).as_secs();
        format!("the configuration is taken back in {left} s: `raven config confirm` keeps it")
    });
    unconfirmed.into_iter().chain(told).chain(small_buffers(supervisor)).collect()
}

/// Listeners whose buffer is smaller than configured: without root the kernel stops at `net.core.rmem_max`.
fn small_buffers(supervisor: &Supervisor) -> Vec<String> {
    let bound = supervisor.listeners.iter().filter(|bound| !bound.listener.proto.is_connected());
    let has = bound.map(|bound| (bound, socket::rcvbuf(bound.socket.as_fd()).unwrap_or(0) as u64));
    // The kernel counts its own needs too, and doubles what is asked for.
    let small = has.filter(|(bound, has)| *has < bound.receive_buffer * 2);
    small
        .map(|(bound, has)| {
            let (name, has, wanted) = (bound.listener.name(), ByteCount(has / 2), ByteCount(bound.receive_buffer));
            format!(
                "{name} has a receive buffer of {has}, not {wanted}: start ravend as root, or raise net.core.rmem_max"
            )
        })
        .collect()
}

/// What the jails lack, each once, with the roles that lack it.
fn missing(supervisor: &Supervisor) -> Vec<String> {
    let mut all: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for worker in &supervisor.workers {
        for lack in &worker.missing {
            all.entry(lack).or_default().push(worker.role.name());
        }
    }
    all.into_iter().map(|(lack, roles)| format!("{lack} ({})", roles.join(", "))).collect()
}

pub fn now() -> UnixNanos {
    UnixNanos(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64))
}
