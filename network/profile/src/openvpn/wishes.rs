//! What a profile would like of the machine: routes, DNS, pings. Kept to be shown; none of it is written anew.

use super::draft::{Draft, Problem};
use super::lines::Line;
use crate::address::number;
use crate::report::{Remedy, Verdict};
use crate::{Allow, Options};
use raven_model::prefix::{self, Prefix};
use std::net::{IpAddr, Ipv4Addr};

/// Of each kind.
const WISHES_MAX: usize = 256;
const OUTSIDE: &str = "goes by the venue's own gateway, which Raven's routes do anyway";
const ALL_TRAFFIC: &str =
    "asks for all traffic; Raven sends only those destinations through a tunnel that are told to go there";

type Taken = Result<(), Problem>;

fn word<'l>(line: &'l Line<'_>, at: usize) -> &'l str {
    line.words.get(at).map_or("", |word| word.text.as_str())
}

fn seconds(line: &Line<'_>, at: usize) -> Result<u32, Problem> {
    let found = number::<u32>(word(line, at)).filter(|seconds| *seconds <= 24 * 3600);
    found.ok_or_else(|| Problem::refused(at, "expected seconds from 0 to 86400"))
}

pub(super) fn keepalive(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    (draft.wishes.ping, draft.wishes.ping_restart) = (Some(seconds(line, 1)?), Some(seconds(line, 2)?));
    Ok(())
}

pub(super) fn ping(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    draft.wishes.ping = Some(seconds(line, 1)?);
    Ok(())
}

pub(super) fn ping_restart(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    draft.wishes.ping_restart = Some(seconds(line, 1)?);
    Ok(())
}

/// `route NETWORK [NETMASK [GATEWAY [METRIC]]]`
pub(super) fn route(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    if word(line, 3) == "net_gateway" || matches!(word(line, 1), "remote_host" | "net_gateway" | "vpn_gateway") {
        return Err(Problem::dropped(0, OUTSIDE));
    }
    let expected = |at, what: &str| Problem::refused(at, format!("expected {what}"));
    let network: Ipv4Addr = word(line, 1).parse().map_err(|_| expected(1, "an IPv4 address"))?;
    let length = match word(line, 2) {
        "" | "default" => 32,
        netmask => {
            let netmask = netmask.parse().ok().and_then(prefix::netmask_len);
            netmask.ok_or_else(|| expected(2, "a netmask such as 255.255.255.0"))?
        }
    };
    match Prefix::new(network.into(), length) {
        Some(prefix) => wish(draft, line, "route", prefix),
        None => Err(expected(1, "an IPv4 address")),
    }
}

/// `route-ipv6 NETWORK/BITS [GATEWAY [METRIC]]`
pub(super) fn route_ipv6(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    if matches!(word(line, 2), "net_gateway" | "net_gateway_ipv6") {
        return Err(Problem::dropped(0, OUTSIDE));
    }
    let (address, length) = word(line, 1).split_once('/').unwrap_or((word(line, 1), "128"));
    let address = address.parse().ok().filter(IpAddr::is_ipv6);
    let prefix = address.and_then(|address| Prefix::new(address, number(length)?));
    match prefix {
        Some(prefix) => wish(draft, line, "route-ipv6", prefix),
        None => Err(Problem::refused(1, "expected an IPv6 network such as 2001:db8::/32")),
    }
}

/// A route to everything, also in its two halves, is a wish for all traffic; others must not overlap with the venue's.
fn wish(draft: &mut Draft<'_>, line: &Line<'_>, rule: &'static str, prefix: Prefix) -> Taken {
    if prefix.len() <= 1 {
        draft.wishes.all_ipv4 |= prefix.addr().is_ipv4();
        draft.wishes.all_ipv6 |= prefix.addr().is_ipv6();
        let warning = Problem::dropped(0, ALL_TRAFFIC);
        draft.note(line, rule, Problem { verdict: Verdict::Warning, ..warning });
        return Ok(());
    }
    if let Some(reason) = overlap(prefix, draft.options) {
        let remedy = Some(Remedy::Allow(Allow::VenueOverlap));
        return Err(Problem { remedy, ..Problem::refused(1, reason) });
    }
    if draft.wishes.routes.len() == WISHES_MAX {
        return Err(Problem::dropped(0, "more than 256 routes; this one is not shown"));
    }
    draft.wishes.routes.push(prefix);
    Ok(())
}

/// Names a network of the venue that overlaps with `prefix`, unless that is allowed.
pub(crate) fn overlap(prefix: Prefix, options: &Options) -> Option<String> {
    let clash = options.venue.iter().find(|venue| venue.overlaps(&prefix))?;
    let allowed = options.allows(Allow::VenueOverlap);
    (!allowed)
        .then(|| format!("{prefix} overlaps with the venue's {clash}; nobody could say which of the two is meant"))
}

pub(super) fn redirect_gateway(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    let flags: Vec<&str> = line.words.iter().skip(1).map(|word| word.text.as_str()).collect();
    let known =
        ["autolocal", "block-local", "bypass-dhcp", "bypass-dns", "def1", "local", "ipv6", "!ipv4", "!ipv6", "v6only"];
    if let Some(at) = flags.iter().position(|flag| !known.contains(flag)) {
        return Err(Problem::refused(at + 1, "a flag that is not known"));
    }
    draft.wishes.all_ipv4 |= !flags.contains(&"!ipv4");
    draft.wishes.all_ipv6 |= flags.contains(&"ipv6");
    let warning = Problem::dropped(0, ALL_TRAFFIC);
    draft.note(line, "redirect-gateway", Problem { verdict: Verdict::Warning, ..warning });
    Ok(())
}

pub(super) fn dhcp_option(draft: &mut Draft<'_>, line: &Line<'_>) -> Taken {
    let kind = word(line, 1).to_ascii_uppercase();
    if draft.wishes.dns.len() + draft.wishes.domains.len() >= WISHES_MAX {
        return Err(Problem::dropped(0, "more than 256 of them; this one is not shown"));
    }
    match (kind.as_str(), word(line, 2)) {
        ("DNS" | "DNS6", address) => {
            let address = address.parse().map_err(|_| Problem::refused(2, "expected an address"))?;
            draft.wishes.dns.push(address);
        }
        ("DOMAIN" | "DOMAIN-SEARCH" | "ADAPTER_DOMAIN_SUFFIX", name) => match crate::Host::parse(name) {
            Ok(crate::Host::Name(name)) => draft.wishes.domains.push(name),
            _ => return Err(Problem::refused(2, "expected a domain")),
        },
        _ => {
            return Err(Problem::dropped(
                1,
                "is for DNS and domains, which Raven shows; another use of it has no effect",
            ));
        }
    }
    Ok(())
}
