//! The box and its network: processes, links, addresses, gateways, names, the clock.

use super::facts::{Facts, Target};
use super::ladder::{Rung, State};
use raven_model::diag::PingResult;
use raven_model::diag::services::{DnsResult, DnsServer, NtpResult};
use raven_model::neighbour::Neighbour;
use raven_model::report::{LinkState, LinkStatus, Process};
use std::net::IpAddr;

/// A clock that is further off makes times of records, certificates and one-time codes wrong.
const OFF_US: i64 = 1_000_000;

/// In the order in which each needs those before it.
pub fn rungs(facts: &Facts) -> Vec<Rung> {
    let mut rungs = vec![processes(facts)];
    rungs.extend(links(facts));
    rungs.extend(addresses(facts));
    rungs.extend(gateways(facts));
    rungs.extend(names(facts));
    rungs.extend(clock(facts));
    rungs
}

fn processes(facts: &Facts) -> Rung {
    let ended = |now: &Process| {
        let before = facts.first.processes.iter().find(|process| process.role == now.role);
        before.is_some_and(|before| now.restarts > before.restarts)
    };
    let wrong: Vec<String> = facts
        .then
        .processes
        .iter()
        .filter_map(|process| {
            let why = process.last_end.as_ref().map_or_else(String::new, |end| format!(" (last: {end})"));
            match process.state.as_str() {
                "held" => Some(format!("{} ends again and again, and is held back{why}", process.role)),
                _ if ended(process) => Some(format!("{} ended just now{why}", process.role)),
                _ => None,
            }
        })
        .collect();
    match wrong.split_first() {
        None => Rung::ok("processes", format!("all {} run", facts.then.processes.len())),
        Some((first, rest)) => {
            let remedy =
                "look at the log of ravend (`raven support` brings it); nothing that was received is lost by it";
            Rung::broken("processes", first.clone(), remedy).and(rest.iter().cloned())
        }
    }
}

/// Those that somebody wants: named in the configuration, or of use.
fn wanted(facts: &Facts) -> impl Iterator<Item = &LinkStatus> {
    let network = &facts.config.network.link;
    let is_named = move |link: &LinkStatus| {
        let mac = link.mac.as_deref();
        network.iter().any(|(name, of)| match of.mac {
            Some(wanted) => mac == Some(wanted.to_string().as_str()),
            None => *name == link.name,
        })
    };
    facts
        .then
        .links
        .iter()
        .filter(move |link| is_named(link) || !matches!(link.state, LinkState::NoLink | LinkState::Off))
}

fn links(facts: &Facts) -> Vec<Rung> {
    let links = &facts.then.links;
    if links.is_empty() {
        return vec![Rung::unknown("link", "the net role has not reported any")];
    }
    let dead = |link: &&LinkStatus| matches!(link.state, LinkState::NoLink | LinkState::Off);
    let mut rungs: Vec<Rung> = wanted(facts).filter(dead).map(link).collect();
    if links.iter().all(|link| dead(&link)) {
        // Nobody named any, and none works: all of them.
        let told: Vec<&str> = rungs.iter().map(|rung| rung.subject.as_str()).collect();
        let others: Vec<Rung> = links.iter().filter(|link| !told.contains(&link.name.as_str())).map(link).collect();
        rungs.extend(others);
    }
    if rungs.is_empty() {
        let words = |link: &LinkStatus| {
            let neighbour = other_end(link).map_or_else(String::new, |words| format!(", {words}"));
            format!("{}: {}{neighbour}", link.name, link.state.name())
        };
        let mut told = links.iter().filter(|link| !dead(link)).map(words);
        let first = told.next().unwrap_or_default();
        rungs.push(Rung::ok("link", first).and(told));
        // One that had a cable, and has none, is somebody's.
        let lost = links.iter().filter(dead).filter(|link| link.state == LinkState::NoLink && link.carrier_changes > 2);
        let remedy = "if it is meant to be in use, look at the cable and at its other end";
        rungs.extend(lost.map(|link| {
            Rung::warning("link", format!("it lost its cable ({} changes)", link.carrier_changes), remedy)
                .of(&link.name)
        }));
    }
    rungs
}

fn link(link: &LinkStatus) -> Rung {
    let (evidence, remedy) = match link.state {
        LinkState::Off => (
            link.cause.clone(),
            format!("turn it on: `ip link set {} up`; on the box restart the network from the console", link.name),
        ),
        _ => (
            link.cause.clone(),
            "plug in the cable, look at the lamp of the socket, and see that the switch's port is on".to_owned(),
        ),
    };
    Rung::broken("link", evidence, remedy).of(&link.name)
}

fn other_end(link: &LinkStatus) -> Option<String> {
    let heard = matches!(link.neighbour, Neighbour::Heard(_)).then(|| link.neighbour.words()).flatten();
    heard.map(|words| format!("the other end of the cable is {words}"))
}

fn addresses(facts: &Facts) -> Vec<Rung> {
    let mut rungs = Vec::new();
    for link in wanted(facts).filter(|link| link.carrier) {
        let at = other_end(link);
        if link.state == LinkState::Waiting {
            let remedy = if link.cause.starts_with("DHCP") {
                "look for the DHCP server, and whether the switch's port is in the right VLAN; or give the link an address (`[network.link]`)"
            } else {
                "give the link an address (`[network.link]`), or let it ask by DHCP"
            };
            rungs.push(Rung::broken("address", link.cause.clone(), remedy).of(&link.name).and(at));
        } else if link.cause.starts_with("another machine has") {
            let remedy = "find who else has the address (`raven lan` names its MAC), and give one of the two another";
            rungs.push(Rung::broken("address", link.cause.clone(), remedy).of(&link.name).and(at));
        }
    }
    for lan in &facts.tests.lans {
        for taken in lan.addresses.iter().filter(|asked| !asked.holders.is_empty()) {
            let who = taken.holders.iter().map(|holder| holder.mac.to_string()).collect::<Vec<_>>().join(", ");
            let remedy = "give one of the two another address; the switch knows at which port that hardware address is";
            rungs.push(Rung::broken("address", format!("{who} has {} too", taken.address), remedy).of(&lan.interface));
        }
    }
    if rungs.is_empty() {
        let own = |link: &LinkStatus| {
            link.addresses.iter().filter(|address| !address.starts_with("fe80:")).cloned().collect::<Vec<_>>()
        };
        let told: Vec<String> = wanted(facts).filter(|link| link.carrier).flat_map(own).collect();
        if !told.is_empty() {
            rungs.push(Rung::ok("address", told.join(", ")));
        }
    }
    rungs
}

fn gateways(facts: &Facts) -> Vec<Rung> {
    let links = || facts.then.links.iter().filter(|link| link.carrier);
    let all: Vec<IpAddr> = links().flat_map(|link| link.gateways.clone()).collect();
    if all.is_empty() {
        return if facts.then.links.is_empty() || links().next().is_none() {
            Vec::new()
        } else if needs_gateway(facts) {
            let remedy = "give the link its gateway (`network.link.NAME.gateways`), or let DHCP say it";
            vec![Rung::broken(
                "gateway",
                "there is no default route, and a destination is in none of the links' networks",
                remedy,
            )]
        } else {
            vec![Rung::ok("gateway", "none is needed")]
        };
    }
    links()
        .flat_map(|link| link.gateways.iter().map(move |gateway| (link, *gateway)))
        .map(|(link, gateway)| of_gateway(facts, link, gateway))
        .collect()
}

fn of_gateway(facts: &Facts, link: &LinkStatus, gateway: IpAddr) -> Rung {
    let subject = format!("{gateway} on {}", link.name);
    let at = other_end(link);
    if link.state == LinkState::Trouble && link.cause.contains(&format!("gateway {gateway} ")) {
        let remedy = "is the switch's port in the right VLAN, is the gateway up, and is its address right?";
        return Rung::broken("gateway", link.cause.clone(), remedy).of(subject).and(at);
    }
    let pinged = facts.tests.gateways.iter().find(|result| result.address == Some(gateway));
    match pinged {
        Some(result) if result.received == result.sent && result.sent > 0 => {
            Rung::ok("gateway", answers(result)).of(subject)
        }
        Some(result) if result.received > 0 => {
            let remedy = "look for errors at the cable and at the switch's port, and how busy the gateway is";
            Rung::warning("gateway", answers(result), remedy).of(subject)
        }
        // It answered ARP, or the link would be in trouble: many do not answer pings.
        Some(result) => {
            let errors = result.errors.keys().map(|error| format!("instead of an answer: {error}"));
            let is_there = !result.errors.keys().any(|error| error.contains("host unreachable"));
            if is_there {
                Rung::warning("gateway", "answers no pings", "mostly it is told not to; what is behind it decides")
                    .of(subject)
                    .and(errors)
            } else {
                let remedy = "is the switch's port in the right VLAN, is the gateway up, and is its address right?";
                Rung::broken("gateway", "does not answer ARP", remedy).of(subject).and(errors).and(at)
            }
        }
        None => Rung::unknown("gateway", not_tested(facts)).of(subject),
    }
}

fn answers(result: &PingResult) -> String {
    let time = result.rtt.map_or_else(String::new, |rtt| format!(", {:.1} ms", f64::from(rtt.p50_us) / 1000.0));
    format!("{} of {} pings answered{time}", result.received, result.sent)
}

/// An address that is wanted lies outside of the links' networks, as far as that is known.
fn needs_gateway(facts: &Facts) -> bool {
    let near = |address: IpAddr| {
        let own = facts.then.links.iter().flat_map(|link| link.addresses.iter());
        address.is_loopback()
            || own.filter_map(|own| own.parse().ok()).any(|prefix: raven_model::prefix::Prefix| prefix.holds(address))
    };
    let ends = facts.tests.targets.iter().filter(|target| target.way.interface.is_none());
    let addresses = |target: &Target| {
        let tried = target.seen.tcp.iter().flatten().flat_map(|tcp| tcp.connections.iter().map(|one| one.address.ip()));
        tried.chain(target.host.parse().ok()).collect::<Vec<IpAddr>>()
    };
    ends.flat_map(addresses).any(|address| !near(address))
}

/// In a few words.
pub fn not_tested(facts: &Facts) -> String {
    format!("not tested: {}", facts.tests.refused.as_deref().unwrap_or("it came while this was looked at"))
}

fn names(facts: &Facts) -> Vec<Rung> {
    let mut rungs: Vec<Rung> = facts.tests.names.iter().map(|(name, result)| of_name(facts, name, result)).collect();
    // One name server that is silent is one thing, however many names it was asked for.
    if rungs.len() > 1 && rungs.iter().all(|rung| rung.state == State::Ok) {
        let told: Vec<String> =
            rungs.iter().map(|rung| format!("{}: {}", rung.subject, rung.evidence.join(", "))).collect();
        rungs = vec![Rung::ok("dns", format!("{} names are found", told.len())).and(told)];
    }
    rungs
}

fn of_name(facts: &Facts, name: &str, result: &DnsResult) -> Rung {
    let told: Vec<String> = result.servers.iter().map(said).collect();
    let has = |server: &&DnsServer| server.rcode.as_deref() == Some("NOERROR") && !server.answers.is_empty();
    let found = result.servers.iter().filter(has).count();
    if found == result.servers.len() && found > 0 {
        let answers = |server: &DnsServer| {
            let mut data: Vec<&str> = server.answers.iter().map(|answer| answer.data.as_str()).collect();
            data.sort_unstable();
            data.join(" ")
        };
        let all: Vec<String> = result.servers.iter().map(answers).collect();
        return if all.windows(2).any(|pair| pair[0] != pair[1]) {
            let remedy =
                "ask whoever runs the name servers which is right; `raven dns NAME` shows them beside each other";
            Rung::warning("dns", "name servers do not agree", remedy).of(name).and(told)
        } else {
            Rung::ok("dns", told.join(", ")).of(name)
        };
    }
    if found > 0 {
        let remedy =
            "each lookup that meets the other one takes seconds: see to it, or take it out of the configuration";
        return Rung::warning("dns", "one name server does not know it, or does not answer", remedy).of(name).and(told);
    }
    // What stands in /etc/hosts needs no name server.
    let resolves = facts.tests.targets.iter().any(|target| {
        target.host == name
            && target.seen.tcp.as_ref().is_some_and(|tcp| tcp.as_ref().is_ok_and(|tcp| !tcp.connections.is_empty()))
    });
    if resolves {
        return Rung::ok("dns", "by this box's own list of names (/etc/hosts)").of(name).and(told);
    }
    if result.servers.is_empty() {
        let remedy = "name one in `network.dns`, or let DHCP say it";
        return Rung::broken("dns", "there is no name server", remedy).of(name);
    }
    if result.servers.iter().all(|server| server.rcode.is_none()) {
        let remedy = "is it up, is its address right (`network.dns`), and does a firewall let port 53 through?";
        return Rung::broken("dns", "no name server answers", remedy).of(name).and(told);
    }
    let remedy = "is the name written as it should be, and does the venue's name server know names of outside?";
    Rung::broken("dns", "the name servers do not know the name", remedy).of(name).and(told)
}

fn said(server: &DnsServer) -> String {
    let what = match (&server.rcode, &server.error) {
        (Some(rcode), _) if rcode == "NOERROR" && server.answers.is_empty() => "there is no such record".to_owned(),
        (Some(rcode), _) if rcode == "NOERROR" => {
            server.answers.iter().map(|answer| answer.data.as_str()).collect::<Vec<_>>().join(" ")
        }
        (Some(rcode), _) => rcode.clone(),
        (None, Some(error)) => error.clone(),
        (None, None) => "no answer".to_owned(),
    };
    format!("{} says {what}", server.server)
}

fn clock(facts: &Facts) -> Option<Rung> {
    if facts.config.system.ntp.is_empty() {
        // A machine of somebody else's sets its clock by itself.
        return facts
            .then
            .is_box
            .then(|| Rung::unknown("clock", "no time server is configured (`system.ntp`); the system's own are used"));
    }
    let told: Vec<String> = facts.tests.clocks.iter().map(clock_said).collect();
    let right = |result: &&NtpResult| {
        result.offset_us.is_some() && result.leap.as_deref().is_some_and(|leap| leap != "unsynchronised")
    };
    let best = facts.tests.clocks.iter().filter(right).min_by_key(|result| result.delay_us.unwrap_or(i64::MAX));
    Some(match best.and_then(|best| Some((best, best.offset_us?))) {
        _ if facts.tests.clocks.is_empty() => Rung::unknown("clock", not_tested(facts)),
        Some((best, offset)) if offset.abs() > OFF_US => {
            let behind = if offset > 0 { "behind" } else { "ahead" };
            let evidence = format!("{} s {behind}, says {}", offset.abs() / 1_000_000, best.server);
            let remedy = "times of records are wrong by that, and certificates and one-time codes may be refused: let the clock be set (`system.ntp`), or set it in the firmware";
            Rung::broken("clock", evidence, remedy).and(told)
        }
        Some((best, offset)) => Rung::ok("clock", format!("{:.1} ms from {}", offset as f64 / 1000.0, best.server)),
        None => {
            let remedy =
                "the clock goes on by itself and drifts: is the server up, and does a firewall let port 123 through?";
            Rung::warning("clock", "no time server answers that is right by its own account", remedy).and(told)
        }
    })
}

fn clock_said(result: &NtpResult) -> String {
    let what = match (result.offset_us, &result.error) {
        (Some(offset), _) => {
            let leap = result
                .leap
                .as_deref()
                .filter(|leap| *leap == "unsynchronised")
                .map_or("", |_| ", and is not synchronised itself");
            format!("{:.1} ms from ours{leap}", offset as f64 / 1000.0)
        }
        (None, Some(error)) => error.clone(),
        (None, None) => "no answer".to_owned(),
    };
    format!("{}: {what}", result.server)
}
