//! `raven lan`: gateways, addresses that two have, DHCP servers.

use super::event;
use crate::client::Client;
use crate::diag::milliseconds;
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use crate::status;
use crate::status::screen::table;
use clap::Args;
use raven_model::diag::wire::{Asked, Event, LanOrder, LanResult, Offer, Order, Purpose, Tap};
use raven_model::report::Status;
use raven_model::units::Span;
use std::fmt::Display;
use std::net::IpAddr;

/// `raven lan`.
#[derive(Debug, Args)]
pub struct LanArgs {
    /// As `raven net` shows it
    interface: String,
    /// How long answers may take: servers look for 1 s to 3 s whether an address is in use before they offer it
    #[arg(short = 'W', long, value_name = "TIME", default_value = "5s")]
    timeout: Span,
    /// Do not ask DHCP servers for an address
    #[arg(long)]
    no_dhcp: bool,
}

/// Runs `raven lan`: 1 when a gateway does not answer, an address is somebody else's too, or several servers offer addresses.
pub fn lan(args: &LanArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let result = ask(client, &status::fetch(client)?, &args.interface, !args.no_dhcp, milliseconds(args.timeout))?;
    if output.json {
        output.value(&result)?;
    } else {
        lines(&result).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(if result.problems.is_empty() { OK } else { PROBLEM })
}

/// Asks at an interface for the gateways and the box's own addresses there, and DHCP servers for an address where that is wanted.
///
/// # Errors
/// Nothing can be sent there, or `ravend` not be asked.
pub fn ask(client: &Client, status: &Status, interface: &str, dhcp: bool, wait_ms: u32) -> Result<LanResult, Failure> {
    let (addresses, gateways) = known(status, interface);
    let interface = interface.to_owned();
    let tap = Tap { interface, purpose: Purpose::Lan, promiscuous: false, outbound: false, snap: None };
    let mut answer = client.wire(&tap, &Order::Lan(LanOrder { addresses, gateways, dhcp, wait_ms }))?;
    let (mut result, mut quiet) = (None, Output::nowhere());
    while let Some(line) = answer.next(&mut quiet)? {
        if let Event::Lan(told) = event(line)? {
            result = Some(told);
        }
    }
    result.ok_or_else(|| Failure::Protocol("the check ended without a result".to_owned()))
}

/// The box's addresses and gateways at an interface.
fn known(status: &Status, interface: &str) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let Some(link) = status.links.iter().find(|link| link.name == interface) else { return (Vec::new(), Vec::new()) };
    let address = |text: &String| text.split('/').next().and_then(|address| address.parse().ok());
    let addresses = link.addresses.iter().filter_map(address).take(LanOrder::ADDRESSES).collect();
    let mut gateways = link.gateways.clone();
    gateways.sort_unstable();
    gateways.dedup();
    gateways.truncate(LanOrder::GATEWAYS);
    (addresses, gateways)
}

fn lines(result: &LanResult) -> Vec<String> {
    let mut lines = vec![format!("{} ({})", escape::text(&result.interface), result.mac)];
    let gateways = result.gateways.iter().map(|asked| asked_row("gateway", asked, "no answer"));
    let addresses = result.addresses.iter().map(|asked| asked_row("own address", asked, "nobody else"));
    lines.extend(table(&["WHAT", "ADDRESS", "WHO ANSWERS"], gateways.chain(addresses)));
    if !result.offers.is_empty() {
        lines.push(String::new());
        let head = ["DHCP SERVER", "MAC", "OFFERS", "GATEWAY", "NAME SERVER", "LEASE", "TIME"];
        lines.extend(table(&head, result.offers.iter().map(offer_row)));
    } else if result.dhcp {
        lines.push("no DHCP server offers an address".to_owned());
    }
    lines.push(String::new());
    if result.problems.is_empty() {
        lines.push("all is well".to_owned());
    }
    lines.extend(result.problems.iter().map(|problem| format!("! {}", escape::text(problem))));
    lines
}

fn asked_row(what: &str, asked: &Asked, nobody: &str) -> Vec<String> {
    let holder = |holder: &raven_model::diag::wire::Holder| match holder.rtt_us {
        Some(us) => format!("{} after {}", holder.mac, ms(us)),
        None => format!("{} without having been asked", holder.mac),
    };
    let who: Vec<String> = asked.holders.iter().map(holder).collect();
    vec![what.to_owned(), asked.address.to_string(), if who.is_empty() { nobody.to_owned() } else { who.join(", ") }]
}

fn offer_row(offer: &Offer) -> Vec<String> {
    let relay = offer.relay.map(|relay| format!(" by relay {relay}")).unwrap_or_default();
    vec![
        format!("{}{relay}", offer.server),
        offer.mac.to_string(),
        offer.mask.map_or_else(
            || offer.address.to_string(),
            |mask| format!("{}/{}", offer.address, mask.to_bits().count_ones()),
        ),
        list(&offer.gateways),
        list(&offer.dns),
        offer.lease_s.map_or_else(|| "-".to_owned(), |lease| format!("{lease} s")),
        ms(offer.rtt_us),
    ]
}

fn list(items: &[impl Display]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(", ") }
}

fn ms(us: u32) -> String {
    format!("{:.1} ms", f64::from(us) / 1000.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::diag::wire::{Holder, Mac};
    use raven_model::report::{LinkState, LinkStatus};

    #[test]
    fn what_is_asked_is_what_the_box_has_at_that_interface() {
        let mut link = LinkStatus::new("eth0", LinkState::Up);
        link.addresses = vec!["192.0.2.1/24".to_owned(), "fe80::1/64".to_owned()];
        link.gateways = vec!["192.0.2.254".parse().unwrap(), "192.0.2.254".parse().unwrap()];
        let status = Status { links: vec![link], ..Status::default() };
        let (addresses, gateways) = known(&status, "eth0");
        assert_eq!((addresses.len(), gateways.len()), (2, 1));
        assert_eq!(known(&status, "eth1"), (Vec::new(), Vec::new()));
    }

    #[test]
    fn who_answers_and_who_offers_is_shown() {
        let holder = Holder { mac: Mac([2; 6]), rtt_us: Some(412) };
        let asked = |address: &str, holders| Asked { address: address.parse().unwrap(), holders };
        let result = LanResult {
            interface: "eth0".to_owned(),
            gateways: vec![asked("192.0.2.254", vec![holder])],
            addresses: vec![asked("192.0.2.1", Vec::new())],
            dhcp: true,
            problems: vec!["two\u{1b}".to_owned()],
            ..LanResult::default()
        };
        let text = lines(&result).join("\n");
        assert!(text.contains("02:02:02:02:02:02 after 0.4 ms") && text.contains("nobody else"), "{text}");
        assert!(text.contains("no DHCP server") && text.ends_with("! two\\x1b"), "{text}");
    }
}
