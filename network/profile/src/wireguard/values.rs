//! Values of wg-quick's keys, taken into the draft.

use super::Address;
use super::read::{Draft, Problem, milder, refused};
use crate::Allow;
use crate::address::{Endpoint, Host, number, port};
use crate::openvpn::overlap;
use crate::pem::unwrap_base64;
use crate::report::{Remedy, Verdict};
use crate::secret::Secret;
use raven_model::prefix::Prefix;
use raven_model::tunnel::PublicKey;
use std::net::IpAddr;

const ALL_TRAFFIC: &str =
    "asks for all traffic; Raven sends only those destinations through a tunnel that are told to go there";

/// 32 bytes in base64, 44 characters.
fn key(value: &str) -> Result<Secret<[u8; 32]>, Problem> {
    let bytes = (value.len() == 44).then(|| unwrap_base64(value)).flatten();
    let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    key.map(Secret::new).ok_or_else(|| refused("expected a key: 32 bytes in base64, 44 characters"))
}

pub(super) fn private_key(draft: &mut Draft<'_>, value: &str) -> Result<(), Problem> {
    let key = key(value)?;
    if *key.expose() == [0; 32] {
        return Err(refused("this is no key but zeros"));
    }
    draft.private_key = Some(key);
    Ok(())
}

pub(super) fn public_key(draft: &mut Draft<'_>, value: &str) -> Result<(), Problem> {
    draft.peer()?.public_key = Some(PublicKey(*key(value)?.expose()));
    Ok(())
}

/// Zeros are WireGuard's word for none.
pub(super) fn preshared_key(draft: &mut Draft<'_>, value: &str) -> Result<(), Problem> {
    draft.peer()?.preshared_key = Some(key(value)?).filter(|key| *key.expose() != [0; 32]);
    Ok(())
}

/// `10.0.0.1/24`, without a length all bits.
fn with_length(text: &str) -> Result<Address, Problem> {
    let flaw = || refused("expected an address or network such as 10.0.0.1/24 or 2001:db8::1/64");
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| flaw())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(most), number).filter(|length| *length <= most).ok_or_else(flaw)?;
    Ok(Address { address, length })
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

/// An own address in the venue's network cannot work; a network around it that is larger than it need be can, since Raven
/// sends only those destinations through a tunnel that are told to go there.
pub(super) fn address(draft: &mut Draft<'_>, value: &str) -> Result<(), Problem> {
    for text in list(value) {
        let own = with_length(text)?;
        let all_bits = if own.address.is_ipv4() { 32 } else { 128 };
        let host = Prefix::new(own.address, all_bits);
        let clash =
            host.and_then(|host| draft.options.venue.iter().find(|venue| !venue.is_empty() && venue.overlaps(&host)));
        if let Some(venue) = clash {
            return Err(refused(format!("{} lies in the venue's {venue}", own.address)));
        }
        if let Some(reason) = Prefix::new(own.address, own.length).and_then(|prefix| overlap(prefix, draft.options)) {
            return Err(Problem { remedy: Some(Remedy::Allow(Allow::VenueOverlap)), ..refused(reason) });
        }
        draft.addresses.push(own);
    }
    Ok(())
}

pub(super) fn dns(draft: &mut Draft<'_>, value: &str) -> Result<(), Problem> {
    let mut domains = false;
    for text in list(value) {
        match text.parse() {
            Ok(address) => draft.dns.push(address),
            Err(_) => domains = true,
        }
    }
    let dropped = || milder(Verdict::Dropped, "domains to search; Raven resolves names by its own configuration");
    if domains { Err(dropped()) } else { Ok(()) }
}

pub(super) fn listen_port(draft: &mut Draft<'_>, value: &str) -> Result<(), Problem> {
    let port = number::<u16>(value).ok_or_else(|| refused("expected a port from 0 to 65535"))?;
    draft.listen_port = Some(port).filter(|port| *port > 0);
    Ok(())
}

pub(super) fn mtu(draft: &mut Draft<'_>, value: &str) -> Result<(), Problem> {
    let mtu = number::<u16>(value).filter(|mtu| (576..=9000).contains(mtu));
    draft.mtu = Some(mtu.ok_or_else(|| refused("expected 576 to 9000 bytes"))?);
    if mtu.is_some_and(|mtu| mtu < 1280) {
        return Err(milder(Verdict::Warning, "IPv6 needs 1280 bytes and will not pass"));
    }
    Ok(())
}

pub(super) fn save_config(_: &mut Draft<'_>, value: &str) -> Result<(), Problem> {
    if value == "false" { Ok(()) } else { Err(refused("writes the profile anew; Raven keeps it as it was imported")) }
}

pub(super) fn table(_: &mut Draft<'_>, value: &str) -> Result<(), Problem> {
    let plain = value == "auto" || value == "off";
    if plain { Ok(()) } else { Err(refused("puts routes into a table of its own; Raven sets routes itself")) }
}

pub(super) fn allowed_ips(draft: &mut Draft<'_>, value: &str) -> Result<(), Problem> {
    let mut milder_problem = None;
    for text in list(value) {
        if text.starts_with(['+', '-']) {
            return Err(refused("+ and - change what is there already; state the networks themselves"));
        }
        let Address { address, length } = with_length(text)?;
        let Some(prefix) = Prefix::new(address, length) else { continue };
        if prefix.len() <= 1 {
            milder_problem = Some(milder(Verdict::Warning, ALL_TRAFFIC));
        } else if let Some(reason) = overlap(prefix, draft.options) {
            return Err(Problem { remedy: Some(Remedy::Allow(Allow::VenueOverlap)), ..refused(reason) });
        }
        if prefix.addr() != address {
            let reason = format!("{address}/{length} is taken as the network {prefix}");
            milder_problem.get_or_insert(milder(Verdict::Warning, reason));
        }
        let line = draft.at.0;
        draft.peer()?.allowed_ips.push((line, prefix));
    }
    milder_problem.map_or(Ok(()), Err)
}

pub(super) fn endpoint(draft: &mut Draft<'_>, value: &str) -> Result<(), Problem> {
    let (host, number) = value.rsplit_once(':').ok_or_else(|| refused("the port is missing: HOST:PORT"))?;
    if host.contains(':') && !host.starts_with('[') {
        return Err(refused(
            "an IPv6 address stands in brackets here, as where it ends is not clear: [2001:db8::1]:51820",
        ));
    }
    let endpoint = Endpoint { host: Host::parse(host).map_err(refused)?, port: port(number).map_err(refused)? };
    draft.peer()?.endpoint = Some(endpoint);
    Ok(())
}

pub(super) fn keepalive(draft: &mut Draft<'_>, value: &str) -> Result<(), Problem> {
    let seconds = if value == "off" { Some(0) } else { number::<u16>(value) };
    let seconds = seconds.ok_or_else(|| refused("expected seconds from 0 to 65535, or off"))?;
    draft.peer()?.keepalive = Some(seconds).filter(|seconds| *seconds > 0);
    Ok(())
}
