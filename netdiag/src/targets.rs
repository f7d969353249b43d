//! What an operator calls a target, and its address.

use raven_model::diag::{Family, Way};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

/// Longest name (RFC 1035, 2.3.4, and a zone).
const NAME_MAX: usize = 280;

/// The address of a name or a literal, the way's family among several; an IPv6 address keeps its zone (`fe80::1%eth0`).
///
/// # Errors
/// In words: it is no name, or there is no address of that family.
pub fn resolve(target: &str, way: &Way) -> Result<SocketAddr, String> {
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
    found.into_iter().find(fits).ok_or_else(|| match family {
        Some(Family::Ipv4) => "has no IPv4 address".to_owned(),
        Some(Family::Ipv6) => "has no IPv6 address".to_owned(),
        None => "has no address".to_owned(),
    })
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
        let zone = resolve("fe80::1%lo", &any).map(|to| matches!(to, SocketAddr::V6(to) if to.scope_id() == 1));
        assert_eq!(zone, Ok(true));
    }
}
