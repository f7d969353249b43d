//! What an operator calls a target, and its address.

use raven_model::diag::{Family, Way};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

/// Longest name (RFC 1035, 2.3.4, and a zone).
const NAME_MAX: usize = 280;
/// Addresses of one name that are tried.
pub const ADDRESSES: usize = 16;

/// The address of a name or a literal, the way's family among several; an IPv6 address keeps its zone (`fe80::1%eth0`).
///
/// # Errors
/// In words: it is no name, or there is no address of that family.
pub fn resolve(target: &str, way: &Way) -> Result<SocketAddr, String> {
    resolve_all(target, way).map(|all| all[0])
}

/// All of them, at least one and [`ADDRESSES`] at most, in the order in which programs would try them (RFC 6724).
///
/// # Errors
/// As of [`resolve`].
pub fn resolve_all(target: &str, way: &Way) -> Result<Vec<SocketAddr>, String> {
    let literal = target.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(target);
    if literal.is_empty() || literal.len() > NAME_MAX || literal.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("neither a name nor an address".to_owned());
    }
    let family = way.family.or_else(|| way.source.map(Family::of));
    let fits = |address: &SocketAddr| family.is_none_or(|family| family == Family::of(address.ip()));
    let found: Vec<SocketAddr> = match literal.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, 0)],
        Err(_) => (literal, 0).to_socket_addrs().map_err(|error| format!("does not resolve: {error}"))?.collect(),
    };
    let all: Vec<SocketAddr> = found.into_iter().filter(fits).take(ADDRESSES).collect();
    if !all.is_empty() {
        return Ok(all);
    }
    Err(match family {
        Some(Family::Ipv4) => "has no IPv4 address".to_owned(),
        Some(Family::Ipv6) => "has no IPv6 address".to_owned(),
        None => "has no address".to_owned(),
    })
}

/// `HOST`, `HOST:PORT`, `ADDRESS`, `[ADDRESS]:PORT`: the host without brackets, and the port where there is one.
///
/// # Errors
/// In words: that is no port.
pub fn host_and_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let no_port = |_| format!("`{text}`: a port is 1 to 65535");
    let port = |digits: &str| digits.parse::<std::num::NonZeroU16>().map(|port| Some(port.get())).map_err(no_port);
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(digits) => Ok((host, port(digits)?)),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(format!("`{text}` is neither [ADDRESS] nor [ADDRESS]:PORT")),
        };
    }
    match text.split_once(':') {
        // More colons than one: an IPv6 address.
        Some((host, digits)) if !digits.contains(':') => Ok((host, port(digits)?)),
        _ => Ok((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_stand_for_themselves_and_nonsense_for_nothing() {
        let any = Way::default();
        let v4 = Way { family: Some(Family::Ipv4), ..Way::default() };
        let from_v6 = Way { source: Some(IpAddr::from([0_u16; 8])), ..Way::default() };
        assert_eq!(resolve("192.0.2.1", &any), Ok(([192, 0, 2, 1], 0).into()));
        assert_eq!(resolve("[::1]", &any).map(|to| to.ip().to_string()), Ok("::1".to_owned()));
        assert_eq!(resolve("::1", &v4), Err("has no IPv4 address".to_owned()));
        assert_eq!(resolve("127.0.0.1", &from_v6), Err("has no IPv6 address".to_owned()));
        for nonsense in ["", " ", "a b", "x\u{7}", &"n".repeat(300)] {
            assert_eq!(resolve(nonsense, &any), Err("neither a name nor an address".to_owned()), "{nonsense:?}");
        }
        for (text, parts) in [
            ("noc", ("noc", None)),
            ("noc:53", ("noc", Some(53))),
            ("::1", ("::1", None)),
            ("[::1]", ("::1", None)),
            ("[fe80::1%lo]:853", ("fe80::1%lo", Some(853))),
        ] {
            assert_eq!(host_and_port(text), Ok(parts));
        }
        for nonsense in ["noc:0", "noc:x", "noc:65536", "[::1]x", "[::1]:"] {
            assert!(host_and_port(nonsense).is_err(), "{nonsense}");
        }
        let zone = resolve("fe80::1%lo", &any).map(|to| matches!(to, SocketAddr::V6(to) if to.scope_id() == 1));
        assert_eq!(zone, Ok(true));
    }
}
