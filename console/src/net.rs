//! `raven net`: links, addresses and the ways that packets take, what changed of them lately, and the firewall's rules, each
//! with its reason.
//!
//! The `net` role reports them; what only files of the kernel say (speed, name servers) is read from those.

use crate::client::{Client, unexpected};
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use crate::status::screen::{count, size, table};
use crate::time;
use crate::tui::facts::{Link as Known, kernel};
use clap::{Args, Subcommand};
use raven_model::config::Config;
use raven_model::control::{RawStatus, Request, Response};
use raven_model::firewall::{self, Chain};
use raven_model::host::Change;
use raven_model::report::{LinkStatus, NetReport, WaysStatus};
use raven_model::table::Role;
use raven_model::tunnel::{Traffic, TunnelState, TunnelStatus};
use serde_json::{Value, json};

/// `raven net …`.
#[derive(Debug, Args)]
pub struct NetArgs {
    /// What of it; without it links, addresses, counters, tunnels' devices, rules and routes
    #[command(subcommand)]
    pub command: Option<NetCommand>,
}

/// What is shown instead.
#[derive(Debug, Subcommand)]
pub enum NetCommand {
    /// What changed lately: carriers, addresses, default routes, neighbours, where vpn.networks lead
    Events,
    /// The rules of the firewall, and why each is there
    Firewall,
}

/// Runs it.
pub fn run(args: &NetArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    if let Some(NetCommand::Firewall) = args.command {
        return firewall(client, output);
    }
    let Some(report) = report(&client.status()?)? else {
        output.line("the net role has not reported yet: ask again in a moment")?;
        return Ok(PROBLEM);
    };
    if args.command.is_some() { events(&report, output) } else { show(&report, output) }
}

fn report(raw: &RawStatus) -> Result<Option<NetReport>, Failure> {
    let report = raw.reports.get(&Role::Net).map(|report| serde_json::from_str(report.get()));
    report.transpose().map_err(|error| Failure::Protocol(format!("the report of net cannot be read: {error}")))
}

fn show(report: &NetReport, output: &mut Output) -> Result<u8, Failure> {
    let kernel = kernel::links();
    if output.json {
        output.value(&whole(report, &kernel))?;
    } else {
        lines(report, &kernel).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(OK)
}

/// For programs.
fn whole(report: &NetReport, kernel: &[Known]) -> Value {
    let link = |link: &LinkStatus| {
        let mut value = serde_json::to_value(link).unwrap_or_default();
        value["speed_mbps"] = json!(known(&link.name, kernel).and_then(|known| known.speed_mbps));
        value
    };
    let links: Vec<Value> = report.links.iter().map(link).collect();
    json!({ "links": links, "dns": name_servers(kernel), "tunnels": report.tunnels, "ways": report.ways })
}

fn known<'a>(name: &str, kernel: &'a [Known]) -> Option<&'a Known> {
    kernel.iter().find(|known| known.name == name)
}

fn name_servers(kernel: &[Known]) -> Vec<String> {
    let mut all: Vec<String> = kernel.iter().flat_map(|link| link.dns.clone()).collect();
    all.sort();
    all.dedup();
    all
}

/// For people.
pub fn lines(report: &NetReport, kernel: &[Known]) -> Vec<String> {
    let mut parts = vec![links(&report.links, kernel), addresses(&report.links), counters(report)];
    let servers = name_servers(kernel);
    let servers = if servers.is_empty() { "none".to_owned() } else { servers.join("  ") };
    parts.push(vec![format!("NAME SERVERS  {}", escape::text(&servers))]);
    if !report.tunnels.is_empty() {
        parts.push(table(
            &["TUNNEL", "DEVICE", "STATE", "ADDRESS", "MTU", "TABLE", "ROUTES"],
            report.tunnels.iter().map(tunnel),
        ));
        parts.extend([report.tunnels.iter().flat_map(refusals).collect::<Vec<_>>()]);
    }
    parts.extend(ways(&report.ways));
    parts.retain(|part| !part.is_empty());
    parts.join(&String::new())
}

fn links(links: &[LinkStatus], kernel: &[Known]) -> Vec<String> {
    let row = |link: &LinkStatus| {
        let speed = known(&link.name, kernel).and_then(|known| known.speed_mbps);
        let gateways: Vec<String> = link.gateways.iter().map(ToString::to_string).collect();
        vec![
            escape::text(&link.name),
            link.state.name().to_owned(),
            if link.carrier { "yes" } else { "no" }.to_owned(),
            speed.map_or_else(String::new, |mbps| format!("{mbps} Mbit/s")),
            link.mtu.to_string(),
            link.mac.as_deref().map(escape::text).unwrap_or_default(),
            gateways.join(" "),
            link.neighbour.words().map(|who| escape::text(&who)).unwrap_or_default(),
            escape::text(&link.cause),
        ]
    };
    table(&["LINK", "STATE", "CARRIER", "SPEED", "MTU", "MAC", "GATEWAY", "NEIGHBOUR", "CAUSE"], links.iter().map(row))
}

fn addresses(links: &[LinkStatus]) -> Vec<String> {
    let of = |link: &LinkStatus| {
        let from = link.origins.iter().map(|origin| origin.name().to_owned()).chain(std::iter::repeat(String::new()));
        let name = escape::text(&link.name);
        let row = |(address, from): (&String, String)| vec![escape::text(address), name.clone(), from];
        link.addresses.iter().zip(from).map(row).collect::<Vec<_>>()
    };
    table(&["ADDRESS", "LINK", "FROM"], links.iter().flat_map(of))
}

fn counters(report: &NetReport) -> Vec<String> {
    let row = |name: &str, traffic: &Traffic, flaps: String| {
        let wrong = |errors: u64, dropped: u64| [count(errors), count(dropped)];
        let mut row = vec![escape::text(name), size(traffic.rx_bytes), count(traffic.rx_packets)];
        row.extend(wrong(traffic.rx_errors, traffic.rx_dropped));
        row.extend([size(traffic.tx_bytes), count(traffic.tx_packets)]);
        row.extend(wrong(traffic.tx_errors, traffic.tx_dropped));
        row.push(flaps);
        row
    };
    let links = report.links.iter().map(|link| row(&link.name, &link.traffic, link.carrier_changes.to_string()));
    let tunnels = report.tunnels.iter().map(|tunnel| row(&tunnel.device, &tunnel.traffic, String::new()));
    let head =
        ["DEVICE", "IN", "PACKETS", "ERRORS", "DROPPED", "OUT", "PACKETS", "ERRORS", "DROPPED", "CARRIER CHANGES"];
    table(&head, links.chain(tunnels))
}

fn tunnel(tunnel: &TunnelStatus) -> Vec<String> {
    let state = match tunnel.state {
        TunnelState::Up if tunnel.carries => "up *",
        TunnelState::Up => "up",
        TunnelState::Waiting => "waiting",
        TunnelState::Down => "down",
        TunnelState::Gone => "gone",
    };
    let addresses: Vec<String> = tunnel.addresses.iter().map(ToString::to_string).collect();
    vec![
        tunnel.name.to_string(),
        escape::text(&tunnel.device),
        state.to_owned(),
        addresses.join(" "),
        tunnel.mtu.to_string(),
        tunnel.table.to_string(),
        tunnel.routes_taken.to_string(),
    ]
}

fn refusals(tunnel: &TunnelStatus) -> Vec<String> {
    let said = |refusal: &raven_model::tunnel::Refusal| {
        format!("{}: not taken: {}: {}", tunnel.name, escape::text(&refusal.what), escape::text(&refusal.why))
    };
    tunnel.refused.iter().map(said).collect()
}

/// Rules and routes that Raven holds, and what is odd about them.
fn ways(ways: &WaysStatus) -> Vec<Vec<String>> {
    let rule = |rule: &raven_model::tunnel::HeldRule| {
        let (priority, table) = (rule.priority.to_string(), rule.table.to_string());
        vec![priority, escape::text(&rule.packets), table, rule.why.words().to_owned()]
    };
    let route = |route: &raven_model::tunnel::HeldRoute| {
        let into = route.device.as_deref().map_or_else(|| "nowhere".to_owned(), escape::text);
        vec![route.table.to_string(), route.to.to_string(), into, route.why.words().to_owned()]
    };
    let mut parts = Vec::new();
    if !ways.held_rules.is_empty() {
        parts.push(table(&["RULE", "PACKETS", "TABLE", "WHY"], ways.held_rules.iter().map(rule)));
        parts.push(more(ways.rules, ways.held_rules.len(), "rules"));
    }
    if !ways.held_routes.is_empty() {
        parts.push(table(&["TABLE", "TO", "INTO", "WHY"], ways.held_routes.iter().map(route)));
        parts.push(more(ways.routes, ways.held_routes.len(), "routes"));
    }
    parts.push(ways.overlaps.iter().map(|overlap| format!("OVERLAP  {}", escape::text(overlap))).collect());
    let trouble = (!ways.trouble.is_empty()).then(|| format!("TROUBLE  {}", escape::text(&ways.trouble)));
    parts.push(trouble.into_iter().collect());
    parts
}

fn more(all: u32, shown: usize, what: &str) -> Vec<String> {
    let left = (all as usize).saturating_sub(shown);
    (left > 0).then(|| format!("... and {left} {what} more")).into_iter().collect()
}

fn events(report: &NetReport, output: &mut Output) -> Result<u8, Failure> {
    let events = &report.news.events;
    if output.json {
        return events.iter().try_for_each(|event| output.value(event)).map(|()| OK);
    }
    if events.is_empty() {
        output.line("nothing changed since the net role was started")?;
    }
    for event in events {
        let (of, what) = words(&event.what);
        output.line(&format!("{}  {:<8}  {}", time::format(event.t, 0), escape::text(&of), escape::text(&what)))?;
    }
    let older = report.news.count.saturating_sub(events.len() as u64);
    if older > 0 {
        output.line(&format!("... and {older} before: raven tail host"))?;
    }
    Ok(OK)
}

/// Of what, and what happened to it.
fn words(what: &Change) -> (String, String) {
    let of = |interface: &String, what: String| (interface.clone(), what);
    match what {
        Change::InterfaceAdded { interface } => of(interface, "is there".to_owned()),
        Change::InterfaceGone { interface } => of(interface, "is gone".to_owned()),
        Change::CarrierUp { interface } => of(interface, "has a carrier".to_owned()),
        Change::CarrierDown { interface } => of(interface, "lost its carrier".to_owned()),
        Change::CarrierFlapped { interface, changes } => {
            of(interface, format!("its carrier went and came, {changes} changes"))
        }
        Change::LinkState { interface, state, cause } if cause.is_empty() => of(interface, state.clone()),
        Change::LinkState { interface, state, cause } => of(interface, format!("{state}: {cause}")),
        Change::AddressAdded { interface, address } => of(interface, format!("has address {address}")),
        Change::AddressGone { interface, address } => of(interface, format!("lost address {address}")),
        Change::GatewayAdded { interface, gateway } => of(interface, format!("default route to {gateway}")),
        Change::GatewayGone { interface, gateway } => of(interface, format!("no default route to {gateway} any more")),
        Change::NeighbourChanged { interface, neighbour: Some(who) } => of(interface, format!("neighbour {who}")),
        Change::NeighbourChanged { interface, neighbour: None } => of(interface, "no neighbour is heard".to_owned()),
        Change::NetworkLed { network, into: Some(device) } => of(network, format!("leads into {device}")),
        Change::NetworkLed { network, into: None } => of(network, "unreachable: no tunnel carries".to_owned()),
        other => (String::new(), serde_json::to_string(other).unwrap_or_default()),
    }
}

/// By the configuration in force, of which `ravend` makes what it gives to nft.
fn firewall(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let config: Box<Config> = match client.ask(&Request::Show)? {
        Response::Config(config) => config,
        other => return Err(unexpected(&other)),
    };
    let is_box = client.status()?.own.is_box;
    let rules = firewall::rules(&config);
    if output.json {
        output.value(&json!({ "in_force": is_box, "rules": rules }))?;
        return Ok(OK);
    }
    if !is_box {
        output.line(
            "this machine is no Raven box: its firewall is its operator's. On a box these rules would be in force:",
        )?;
    }
    for chain in Chain::ALL {
        let of_it = rules.iter().filter(|rule| rule.chain == chain);
        let rows = of_it.map(|rule| vec![escape::text(&rule.rule), escape::text(&rule.why)]);
        let head = chain.name().to_uppercase();
        table(&[&head, "WHY"], rows).iter().try_for_each(|line| output.line(line))?;
        output.line("")?;
    }
    output.line("FORWARD   none: a box passes nothing on")?;
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::report::{LinkState, Origin};
    use raven_model::tunnel::{HeldRoute, HeldRule, Why};

    fn some() -> NetReport {
        let link = LinkStatus {
            carrier: true,
            mtu: 1500,
            addresses: vec!["192.0.2.7/24".into(), "fe80::1/64".into()],
            origins: vec![Origin::Dhcp, Origin::LinkLocal],
            cause: "odd\u{1b}[31m".into(),
            traffic: Traffic { rx_bytes: 5_000_000, rx_errors: 3, ..Traffic::default() },
            ..LinkStatus::new("eth0", LinkState::Trouble)
        };
        let to = "10.20.0.0/16".parse().expect("a network");
        let ways = WaysStatus {
            rules: 5,
            routes: 1,
            held_rules: vec![HeldRule {
                priority: 7700,
                packets: "to 10.20.0.0/16".into(),
                table: 7700,
                why: Why::Networks,
            }],
            held_routes: vec![HeldRoute { table: 7700, to, device: None, why: Why::Nowhere }],
            overlaps: vec!["10.20.0.0/16: eth0 is in 10.20.3.0/24".into()],
            trouble: "rule 7700: no".into(),
        };
        NetReport { links: vec![link], ways, ..NetReport::default() }
    }

    #[test]
    fn links_ways_and_troubles_are_on_the_screen_with_their_reasons() {
        let kernel =
            [Known { name: "eth0".into(), speed_mbps: Some(1000), dns: vec!["192.0.2.53".into()], ..Known::default() }];
        let screen = lines(&some(), &kernel).join("\n");
        for part in [
            "eth0  trouble  yes      1000 Mbit/s  1500",
            "odd\\x1b[31m",
            "192.0.2.7/24  eth0  DHCP",
            "fe80::1/64    eth0  link-local",
            "NAME SERVERS  192.0.2.53",
            "7700  to 10.20.0.0/16  7700   vpn.networks: through the tunnel that carries, or not at all",
            "... and 4 rules more",
            "7700   10.20.0.0/16  nowhere  unreachable while no tunnel carries: nothing leaves in clear",
            "OVERLAP  10.20.0.0/16: eth0 is in 10.20.3.0/24",
            "TROUBLE  rule 7700: no",
        ] {
            assert!(screen.contains(part), "{part}\n{screen}");
        }
        assert!(!screen.contains("routes more") && !screen.contains('\u{1b}'), "{screen}");
    }

    #[test]
    fn programs_get_all_of_it() {
        let kernel = [Known { name: "eth0".into(), speed_mbps: Some(1000), ..Known::default() }];
        let value = whole(&some(), &kernel);
        assert_eq!(
            (&value["links"][0]["speed_mbps"], &value["links"][0]["traffic"]["rx_errors"]),
            (&json!(1000), &json!(3))
        );
        assert_eq!(value["links"][0]["origins"], json!(["dhcp", "link_local"]));
        assert_eq!(value["ways"]["held_routes"][0]["why"], "nowhere");
    }

    #[test]
    fn an_event_is_told_in_words() {
        let interface = || "eth0".to_owned();
        let said = |what: &Change| words(what).1;
        assert_eq!(said(&Change::CarrierDown { interface: interface() }), "lost its carrier");
        let gone = Change::AddressGone { interface: interface(), address: "192.0.2.7/24".into() };
        assert_eq!(words(&gone), (interface(), "lost address 192.0.2.7/24".into()));
        let led = Change::NetworkLed { network: "10.20.0.0/16".into(), into: None };
        assert_eq!(words(&led), ("10.20.0.0/16".into(), "unreachable: no tunnel carries".into()));
    }
}
