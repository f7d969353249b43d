//! What changed between two reports: for the `host` stream, and for `raven net events`. Pure.

use raven_model::host::Change;
use raven_model::neighbour::Neighbour;
use raven_model::news::cut;
use raven_model::report::{LinkStatus, NetReport, WaysStatus};
use raven_model::tunnel::Why;
use std::collections::BTreeMap;

/// Changes, in the order in which links are reported; of one link the cable's first.
pub fn between(then: &NetReport, now: &NetReport) -> Vec<Change> {
    let mut changes = Vec::new();
    for link in &then.links {
        if find(&now.links, &link.name).is_none() {
            changes.push(Change::InterfaceGone { interface: link.name.clone() });
        }
    }
    for link in &now.links {
        if let Some(before) = find(&then.links, &link.name) {
            of_link(before, link, &mut changes);
        } else {
            changes.push(Change::InterfaceAdded { interface: link.name.clone() });
            changes.push(state(link));
        }
    }
    changes.extend(led(&then.ways, &now.ways));
    changes
}

/// Whether something can be reached by it that could not before.
pub const fn opens_a_way(change: &Change) -> bool {
    matches!(change, Change::CarrierUp { .. } | Change::AddressAdded { .. } | Change::GatewayAdded { .. })
}

fn find<'a>(links: &'a [LinkStatus], name: &str) -> Option<&'a LinkStatus> {
    links.iter().find(|link| link.name == name)
}

fn of_link(then: &LinkStatus, now: &LinkStatus, changes: &mut Vec<Change>) {
    changes.extend(carrier(then, now));
    if then.state != now.state || steady(&then.cause) != steady(&now.cause) {
        changes.push(state(now));
    }
    let interface = || now.name.clone();
    let (gone, added) = differ(&then.addresses, &now.addresses);
    changes.extend(gone.map(|address| Change::AddressGone { interface: interface(), address: address.clone() }));
    changes.extend(added.map(|address| Change::AddressAdded { interface: interface(), address: address.clone() }));
    let (gone, added) = differ(&then.gateways, &now.gateways);
    changes.extend(gone.map(|gateway| Change::GatewayGone { interface: interface(), gateway: gateway.to_string() }));
    changes.extend(added.map(|gateway| Change::GatewayAdded { interface: interface(), gateway: gateway.to_string() }));
    changes.extend(neighbour(then, now));
}

/// The kernel counts each time that it went or came, also those between two looks.
fn carrier(then: &LinkStatus, now: &LinkStatus) -> Option<Change> {
    let interface = now.name.clone();
    let times = now.carrier_changes.saturating_sub(then.carrier_changes);
    match (then.carrier, now.carrier) {
        (false, true) => Some(Change::CarrierUp { interface }),
        (true, false) => Some(Change::CarrierDown { interface }),
        (true, true) if times > 0 => Some(Change::CarrierFlapped { interface, changes: times.into() }),
        _ => None,
    }
}

fn state(link: &LinkStatus) -> Change {
    Change::LinkState {
        interface: link.name.clone(),
        state: link.state.name().to_owned(),
        cause: cut(steady(&link.cause)),
    }
}

/// A cause without what counts on: `DHCP: no answer for 12 s`.
fn steady(cause: &str) -> &str {
    cause.split(" for ").next().unwrap_or(cause)
}

/// What went, and what came.
fn differ<'a, T: PartialEq>(then: &'a [T], now: &'a [T]) -> (impl Iterator<Item = &'a T>, impl Iterator<Item = &'a T>) {
    (then.iter().filter(|one| !now.contains(one)), now.iter().filter(|one| !then.contains(one)))
}

/// Not to know who it is, for a while, is no change; nor is how many more there are on a shared cable.
fn neighbour(then: &LinkStatus, now: &LinkStatus) -> Option<Change> {
    let who = |neighbour: &Neighbour| match neighbour {
        Neighbour::Heard(heard) => {
            Neighbour::Heard(raven_model::neighbour::Heard { others: 0, ..heard.clone() }).words()
        }
        Neighbour::Nobody | Neighbour::Unknown(_) => None,
    };
    let is_known = |neighbour: &Neighbour| !matches!(neighbour, Neighbour::Unknown(_));
    let (before, after) = (who(&then.neighbour), who(&now.neighbour));
    (is_known(&now.neighbour) && before != after)
        .then(|| Change::NeighbourChanged { interface: now.name.clone(), neighbour: after.as_deref().map(cut) })
}

/// Where each of `vpn.networks` leads; one that was not there before has not changed.
fn led(then: &WaysStatus, now: &WaysStatus) -> Vec<Change> {
    let before = ways(then);
    let change = |(network, into): (String, Option<String>)| {
        let was = before.get(&network)?;
        (*was != into).then_some(Change::NetworkLed { network, into })
    };
    ways(now).into_iter().filter_map(change).collect()
}

fn ways(status: &WaysStatus) -> BTreeMap<String, Option<String>> {
    let mut all = BTreeMap::new();
    for route in &status.held_routes {
        match route.why {
            Why::Carried => drop(all.insert(route.to.to_string(), route.device.clone())),
            Why::Nowhere => drop(all.entry(route.to.to_string()).or_insert(None)),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::neighbour::Heard;
    use raven_model::report::LinkState;
    use raven_model::tunnel::HeldRoute;
    use serde_json::Value;

    fn link() -> LinkStatus {
        LinkStatus {
            carrier: true,
            carrier_changes: 1,
            addresses: vec!["192.0.2.7/24".to_owned()],
            gateways: vec!["192.0.2.1".parse().unwrap()],
            ..LinkStatus::new("eth0", LinkState::Up)
        }
    }

    fn with(links: &[LinkStatus]) -> NetReport {
        NetReport { links: links.to_vec(), ..NetReport::default() }
    }

    /// Each change as a record has it, without the name of the link.
    fn said(then: &NetReport, now: &NetReport) -> Vec<String> {
        let words = |change: &Change| {
            let Value::Object(fields) = serde_json::to_value(change).unwrap() else { panic!() };
            let of = |name: &str| fields.get(name).map(|value| value.as_str().unwrap_or("-").to_owned());
            let parts = ["event", "state", "cause", "address", "gateway", "neighbour", "network", "into"];
            parts.into_iter().filter_map(of).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
        };
        between(then, now).iter().map(words).collect()
    }

    fn changed(change: impl FnOnce(&mut LinkStatus)) -> Vec<String> {
        let mut now = link();
        change(&mut now);
        said(&with(&[link()]), &with(&[now]))
    }

    #[test]
    fn what_is_as_it_was_is_no_event() {
        assert_eq!(changed(|link| link.traffic.rx_bytes = 7), [""; 0]);
        let waits = |cause: &str| LinkStatus { state: LinkState::Waiting, cause: cause.to_owned(), ..link() };
        let [one, two] = ["DHCP: no answer for 4 s", "DHCP: no answer for 5 s"].map(waits);
        assert_eq!(said(&with(&[one]), &with(&[two])), [""; 0]);
        assert_eq!(changed(|link| link.neighbour = Neighbour::Unknown("networkd is away".to_owned())), [""; 0]);
    }

    #[test]
    fn each_change_of_a_link_is_told() {
        let out = changed(|link| {
            (link.carrier, link.carrier_changes, link.state) = (false, 2, LinkState::NoLink);
            "no link on eth0: is the cable in, and its other end on?".clone_into(&mut link.cause);
            (link.addresses, link.gateways) = (Vec::new(), Vec::new());
        });
        assert_eq!(
            out,
            [
                "carrier_down",
                "link_state no link no link on eth0: is the cable in, and its other end on?",
                "address_gone 192.0.2.7/24",
                "gateway_gone 192.0.2.1",
            ]
        );
        assert_eq!(changed(|link| link.carrier_changes = 3), ["carrier_flapped"]);
        let moved = changed(|link| {
            link.addresses = vec!["192.0.2.8/24".to_owned()];
            link.gateways.push("192.0.2.2".parse().unwrap());
        });
        assert_eq!(moved, ["address_gone 192.0.2.7/24", "address_added 192.0.2.8/24", "gateway_added 192.0.2.2"]);
        assert_eq!(said(&with(&[link()]), &with(&[])), ["interface_gone"]);
        assert_eq!(said(&with(&[]), &with(&[link()])), ["interface_added", "link_state up"]);
    }

    #[test]
    fn a_neighbour_comes_and_goes_by_what_it_is_called() {
        let heard = |others| Neighbour::Heard(Heard { system: Some("sw-1".to_owned()), others, ..Heard::default() });
        assert_eq!(changed(|link| link.neighbour = heard(0)), ["neighbour_changed sw-1"]);
        let with = |neighbour| with(&[LinkStatus { neighbour, ..link() }]);
        assert_eq!(said(&with(heard(0)), &with(heard(3))), [""; 0]);
        assert_eq!(said(&with(heard(3)), &with(Neighbour::Nobody)), ["neighbour_changed -"]);
    }

    #[test]
    fn a_network_that_is_led_elsewhere_is_told() {
        let route = |device: Option<&str>, why| HeldRoute {
            table: 7700,
            to: "10.20.0.0/16".parse().unwrap(),
            device: device.map(str::to_owned),
            why,
        };
        let ways = |held_routes: Vec<HeldRoute>| NetReport {
            ways: WaysStatus { held_routes, ..WaysStatus::default() },
            ..NetReport::default()
        };
        let nowhere = || route(None, Why::Nowhere);
        let (none, noc) = (ways(vec![nowhere()]), ways(vec![nowhere(), route(Some("vpn-noc"), Why::Carried)]));
        assert_eq!(said(&none, &noc), ["network_led 10.20.0.0/16 vpn-noc"]);
        assert_eq!(said(&noc, &none), ["network_led 10.20.0.0/16 -"]);
        assert_eq!(said(&ways(Vec::new()), &noc), [""; 0]);
    }
}
