//! The way to a destination: tunnel, connection, TLS, acknowledgement.

use super::facts::{Facts, Target};
use super::ladder::Rung;
use super::machine::not_tested;
use crate::status::screen::count;
use raven_model::config::{Destination, Via};
use raven_model::diag::services::{Certificate, Outcome, TcpResult, Tls};
use raven_model::diag::{PingResult, TraceResult};
use raven_model::report::{DestinationStatus, VpnTunnel};

/// Where nothing is acknowledged for so long although records wait, the far end does not take them, seconds.
const UNACKNOWLEDGED_S: u64 = 5;
/// A tunnel that came back no longer ago may be one that goes up and down: nothing may have gone through it yet, seconds.
const BACK_S: u64 = 10;
/// A certificate that ends within so many days is to be replaced now.
const SOON_DAYS: i64 = 14;

/// The tunnel first, then each destination by itself.
pub fn rungs(facts: &Facts) -> Vec<Rung> {
    let mut rungs: Vec<Rung> = tunnel(facts).into_iter().collect();
    for (name, to) in facts.destinations() {
        for target in facts.tests.targets.iter().filter(|target| target.destination == *name) {
            rungs.push(connection(facts, target));
            rungs.extend(tls(to, target));
        }
        rungs.push(acknowledgement(facts, name, to));
    }
    if facts.config.uplink.is_empty() {
        let remedy = "name one in `[uplink.NAME]`; until then all is kept, and nothing is sent";
        rungs.push(Rung::broken("acknowledgement", "no destination is configured", remedy));
    }
    rungs
}

fn tunnel(facts: &Facts) -> Option<Rung> {
    if !facts.needs_tunnel() {
        return None;
    }
    let told: Vec<String> = facts.then.vpn.iter().map(words).collect();
    let Some(carries) = facts.tunnel() else {
        let first = facts.then.vpn.first();
        let remedy = match first {
            None => "import a profile (`raven vpn import`) and enable it",
            Some(tunnel) if tunnel.state == "off" => "an operator turned it off: `raven vpn connect NAME`",
            Some(tunnel) => remedy(&tunnel.cause),
        };
        let evidence =
            first.map_or_else(|| "none is configured, and a destination is to be reached by one".to_owned(), words);
        return Some(Rung::broken("tunnel", evidence, remedy).and(told.into_iter().skip(1)));
    };
    let subject = carries.name.as_str();
    if let Some(rung) = unsteady(facts, carries) {
        return Some(rung.of(subject));
    }
    let others = told.iter().filter(|words| !words.starts_with(&format!("{subject} "))).cloned();
    Some(match carries.state.as_str() {
        "up" if facts.then.vpn.first().is_some_and(|first| first.name != carries.name) => {
            let remedy = "see why the preferred one does not carry: `raven vpn status`";
            Rung::warning("tunnel", format!("{}; it is not the preferred one", words(carries)), remedy)
                .of(subject)
                .and(others)
        }
        "up" => Rung::ok("tunnel", words(carries)).of(subject).and(others),
        _ => Rung::warning("tunnel", words(carries), remedy(&carries.cause)).of(subject).and(others),
    })
}

/// One whose server answers, and through which nothing goes, comes up again and again: it is not judged by the second in
/// which it is looked at.
fn unsteady(facts: &Facts, tunnel: &VpnTunnel) -> Option<Rung> {
    let why = tunnel.last_outage.as_ref().filter(|_| tunnel.since_s < BACK_S)?;
    let device = tunnel.name.device();
    let is_through = |target: &&Target| target.way.interface.as_ref() == Some(&device) && target.seen.tcp.is_some();
    let mut through = facts.tests.targets.iter().filter(is_through);
    let is_reached = |target: &Target| matches!(&target.seen.tcp, Some(Ok(tcp)) if is_connected(tcp));
    let was_away = !facts.first.vpn.iter().any(|first| first.name == tunnel.name && first.carries);
    if !was_away && (facts.tests.refused.is_some() || through.clone().next().is_none() || through.any(is_reached)) {
        return None;
    }
    let evidence = format!("{} for {} s; before that: {why}", words(tunnel), tunnel.since_s);
    Some(Rung::broken("tunnel", evidence, remedy(why)))
}

fn words(tunnel: &VpnTunnel) -> String {
    let cause = if tunnel.cause.is_empty() { String::new() } else { format!(": {}", tunnel.cause) };
    let rtt = tunnel.rtt_ms.filter(|_| tunnel.carries).map_or_else(String::new, |rtt| format!(", {rtt:.1} ms"));
    format!("{} is {}{cause}{rtt}", tunnel.name, tunnel.state)
}

/// By what the vpn role says; docs/vpn.md has all of it.
fn remedy(cause: &str) -> &'static str {
    let begins = |words: &str| cause.contains(words);
    if begins("does not resolve") {
        "see the rung dns: the server's name is not found"
    } else if begins("certificate expired") || begins("not yet valid") {
        "look at the clock; if it is right, get a new profile from whoever runs the VPN server"
    } else if begins("auth refused") || begins("credentials") || begins("code") {
        "give it the right user and password, or a code: `raven vpn connect NAME --code -`"
    } else if begins("no route") {
        "see the rungs link, address and gateway: the server is not reached at all"
    } else if begins("nothing comes back") || begins("nothing back") || begins("nothing came back") {
        "what is sent goes out and nothing comes back: a firewall or NAT on the way forgot it, or the far end's inside is down; `raven trace SERVER` shows how far one gets"
    } else if begins("refuses connections") {
        "nobody listens at the server's port: is the VPN server running, and is the port right?"
    } else if begins("loss") {
        "look at the way to the server: `raven trace`, `raven mtu`, and the venue's uplink"
    } else if begins("taken by somebody else") {
        "another program has a device of that name: end it, or rename the profile"
    } else {
        "is the server up, and does a firewall let its port through? `raven trace SERVER` shows how far one gets"
    }
}

/// Whether any of its addresses took the connection.
pub fn is_connected(tcp: &TcpResult) -> bool {
    tcp.connections.iter().any(|connection| connection.outcome == Outcome::Connected)
}

fn connection(facts: &Facts, target: &Target) -> Rung {
    let proxy = if target.is_proxy { "proxy " } else { "" };
    let subject = format!("{} ({proxy}{}:{})", target.destination, target.host, target.port);
    if target.is_of_datagrams {
        return datagrams(target.seen.ping.as_ref()).of(subject);
    }
    let tcp = match &target.seen.tcp {
        Some(Ok(tcp)) => tcp,
        Some(Err(why)) if why.contains("resolve") => {
            return Rung::broken("connection", why.clone(), "see the rung dns: its name is not found").of(subject);
        }
        Some(Err(why)) => return Rung::unknown("connection", format!("not tested: {why}")).of(subject),
        None => return Rung::unknown("connection", not_tested(facts)).of(subject),
    };
    if let Some(connection) = tcp.connections.iter().find(|connection| connection.outcome == Outcome::Connected) {
        let evidence = format!("{} in {:.1} ms", connection.address, f64::from(connection.time_us) / 1000.0);
        return Rung::ok("connection", evidence).of(subject);
    }
    let Some(last) = tcp.connections.first() else {
        return Rung::broken("connection", "its name is not found", "see the rung dns").of(subject);
    };
    let words = |connection: &raven_model::diag::services::Connection| {
        format!("{}: {}", connection.address, connection.words().unwrap_or_default())
    };
    let rest = tcp.connections.iter().skip(1).map(words);
    let way = target.seen.trace.as_ref().map(way_ends);
    let remedy = match last.outcome {
        Outcome::Refused => "nobody listens there: is the receiver running, and is the port right?",
        Outcome::Unreachable => "there is no way to it: see the rungs gateway and tunnel, and whoever says so",
        Outcome::Failed => "this box cannot try: see the rungs link, address and gateway",
        Outcome::Timeout | Outcome::Connected => {
            "a firewall on the way or at the far end drops it, or nobody is there: ask for this port to be let through"
        }
    };
    Rung::broken("connection", words(last), remedy).of(subject).and(rest).and(way)
}

fn way_ends(trace: &TraceResult) -> String {
    if trace.reached {
        return format!("{} itself answers: the port alone is blocked", trace.address);
    }
    let last = trace.hops.iter().rev().find_map(|hop| Some((hop.hop, hop.routers.first()?)));
    match last {
        Some((hop, router)) => {
            let said = router.said.as_ref().map_or_else(String::new, |said| format!(", which says: {said}"));
            format!("the way is seen as far as {} (hop {hop}){said}", router.address)
        }
        None => "not even the first router answers".to_owned(),
    }
}

fn datagrams(ping: Option<&PingResult>) -> Rung {
    match ping {
        Some(ping) if ping.received > 0 => {
            Rung::ok("connection", "datagrams: nobody says whether they are taken; it answers pings")
        }
        Some(ping) => {
            let errors = ping.errors.keys().cloned();
            let remedy = "see the rungs before; `raven trace` shows how far one gets";
            Rung::warning(
                "connection",
                "datagrams: nobody says whether they are taken, and it answers no pings",
                remedy,
            )
            .and(errors)
        }
        None => Rung::unknown("connection", "datagrams: nobody says whether they are taken"),
    }
}

fn tls(to: &Destination, target: &Target) -> Option<Rung> {
    let subject = format!("{} ({}:{})", target.destination, target.host, target.port);
    let rung = match target.seen.tls.as_ref()? {
        Ok(result) => handshake(result.tls.as_ref()?, to.ca.is_some()),
        Err(why) => Rung::unknown("tls", format!("not tested: {why}")),
    };
    Some(rung.of(subject))
}

fn handshake(tls: &Tls, own_authority: bool) -> Rung {
    let own = tls.chain.first();
    if let Some(error) = &tls.error {
        let remedy =
            "does the receiver speak TLS at this port, and does it want a certificate of ours (`certificate`, `key`)?";
        return Rung::broken("tls", error.clone(), remedy);
    }
    let who = own.map(|own| format!("certificate of {}, signed by {}", own.subject, own.issuer));
    if let Some(over) = tls.chain.iter().find(|certificate| certificate.days_left < 0) {
        let evidence = format!("the certificate of {} expired {} days ago", over.subject, -over.days_left);
        let remedy = "look at this box's clock; if it is right, whoever runs the receiver has to renew its certificate";
        return Rung::broken("tls", evidence, remedy).and(who);
    }
    if let Some(misnamed) = &tls.misnamed {
        let remedy =
            "name it as in the certificate (`to` or `server_name`), or have the certificate made for this name";
        return Rung::broken("tls", misnamed.clone(), remedy).and(who);
    }
    match &tls.untrusted {
        // Which authority is configured is a secret's file, which the uplink alone has: it says whether that one signed.
        Some(_) if own_authority => Rung::ok("tls", version(tls, own))
            .and(["signed by an authority of `ca`, if the uplink takes it".to_owned()]),
        Some(why) => {
            let remedy =
                "name the authority that signed it (`ca`), or have a certificate signed by one that the system trusts";
            Rung::broken("tls", why.clone(), remedy).and(who)
        }
        None => match own.filter(|own| own.days_left < SOON_DAYS) {
            Some(own) => {
                let evidence = format!("the certificate of {} ends in {} days", own.subject, own.days_left);
                Rung::warning("tls", evidence, "whoever runs the receiver has to renew it before")
            }
            None => Rung::ok("tls", version(tls, own)),
        },
    }
}

fn version(tls: &Tls, own: Option<&Certificate>) -> String {
    let days = own.map_or_else(String::new, |own| format!(", certificate good for {} days", own.days_left));
    format!("{}{days}", tls.version.as_deref().unwrap_or("handshake done"))
}

fn acknowledgement(facts: &Facts, name: &str, to: &Destination) -> Rung {
    let all: Vec<&DestinationStatus> = facts.delivered(name).collect();
    if all.is_empty() {
        return Rung::unknown("acknowledgement", "the uplink has not reported it").of(name);
    }
    let worst = all.iter().max_by_key(|status| (rank(status), status.lag)).copied();
    let Some(worst) = worst else { return Rung::unknown("acknowledgement", "nothing is sent to it").of(name) };
    if all.iter().all(|status| rank(status) == 0) {
        return Rung::ok("acknowledgement", format!("{} streams, nothing waits", all.len()))
            .of(name)
            .and(moved(facts, name));
    }
    let told = all
        .iter()
        .filter(|status| status.stream != worst.stream && rank(status) > 0)
        .map(|status| stream_words(status));
    of_stream(facts, worst, to).of(name).and(told).and(moved(facts, name))
}

/// The worse, the higher.
fn rank(status: &DestinationStatus) -> u8 {
    match status.state.as_str() {
        "config_error" => 5,
        "retrying" | "stopped" => 4,
        "paused" => 3,
        _ if is_stuck(status) => 4,
        "connecting" => 2,
        _ => u8::from(status.lag > 0 || status.dead.held > 0),
    }
}

/// Connected, and nothing is acknowledged although records wait.
fn is_stuck(status: &DestinationStatus) -> bool {
    ["sending", "connecting"].contains(&status.state.as_str())
        && status.live_lag > 0
        && status.last_ack_s.is_none_or(|age| age >= UNACKNOWLEDGED_S)
}

/// What was acknowledged between the two looks.
fn moved(facts: &Facts, name: &str) -> Option<String> {
    let sum =
        |all: &[DestinationStatus]| all.iter().filter(|one| one.name == name).map(|one| one.acknowledged).sum::<u64>();
    let more = sum(&facts.then.destinations).saturating_sub(sum(&facts.first.destinations));
    (more > 0).then(|| format!("{} records acknowledged while this was looked at", count(more)))
}

fn of_stream(facts: &Facts, status: &DestinationStatus, to: &Destination) -> Rung {
    let evidence = stream_words(status);
    let before = facts.first.destinations.iter().find(|one| one.name == status.name && one.stream == status.stream);
    let acknowledged = before.map_or(0, |before| status.acknowledged.saturating_sub(before.acknowledged));
    match status.state.as_str() {
        "config_error" => Rung::broken(
            "acknowledgement",
            evidence,
            "put its settings or its receiver right: it refuses what is sent; all is kept until then",
        ),
        "paused" => Rung::broken(
            "acknowledgement",
            evidence,
            format!("an operator holds it: `raven uplink resume {}`", status.name),
        ),
        "retrying" | "stopped" => {
            let remedy = if to.via == Some(Via::Vpn) && facts.tunnel().is_none() {
                "see the rung tunnel; all is kept and sent when it is back"
            } else {
                "see the rungs before; all is kept and sent when it is back"
            };
            Rung::broken("acknowledgement", evidence, remedy)
        }
        _ if acknowledged == 0 && is_stuck(status) => {
            let remedy = "the receiver takes the connection and acknowledges nothing: is its disk full, or its queue? Look at its log";
            Rung::broken("acknowledgement", evidence, remedy)
        }
        _ if status.backfill.records > 0 => {
            let remedy = "nothing: it catches up by itself; `raven status` says how long that takes, `uplink.NAME.backfill` how fast it may";
            Rung::warning("acknowledgement", evidence, remedy)
        }
        _ if status.dead.held > 0 => Rung::warning(
            "acknowledgement",
            evidence,
            "see which with `raven dead list`, put it right, then `raven dead retry`",
        ),
        _ => Rung::ok("acknowledgement", evidence),
    }
}

fn stream_words(status: &DestinationStatus) -> String {
    let mut parts = vec![format!("{} {}", status.stream, status.state.replace('_', " "))];
    if status.lag > 0 {
        parts.push(format!("{} records behind", count(status.lag)));
        parts.extend(status.last_ack_s.map(|age| format!("last acknowledgement {age} s ago")));
    }
    if status.dead.held > 0 {
        parts.push(format!("{} refused", count(status.dead.held)));
    }
    let words = parts.join(", ");
    let is_failing = !["idle", "sending"].contains(&status.state.as_str());
    let error = status.last_error.as_ref().filter(|_| is_failing);
    error.map_or_else(|| words.clone(), |error| format!("{words}: {error}"))
}
