//! What may be answered, with errors in operators' words. ravend checks the whole once more.

use super::answers::UPLINK;
use raven_model::config::{Address, Config, ConfigError};
use raven_model::prefix::Prefix;
use std::net::{IpAddr, Ipv4Addr};
use toml_edit::{Array, DocumentMut, InlineTable, value};

/// A word for nothing, where Enter alone takes something else.
const NONE: &str = "none";

/// A host name, which is also the name of the site (RFC 1123, 2.1; at most 64 as the kernel has it).
pub fn name(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() <= 64 && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is no host name; expected letters, digits and `-`, at most 64, such as `arena-west`"))
}

/// A time zone of the box's own list, which is empty where the box has none.
pub fn timezone(text: &str, zones: &[String]) -> Result<String, String> {
    if let Some(zone) = zones.iter().find(|zone| zone.eq_ignore_ascii_case(text)) {
        return Ok(zone.clone());
    }
    let is_word = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-/".contains(&b));
    if zones.is_empty() && is_word {
        return Ok(text.to_owned());
    }
    let wanted = text.to_lowercase().replace(' ', "_");
    let near: Vec<&str> =
        zones.iter().map(String::as_str).filter(|zone| zone.to_lowercase().contains(&wanted)).collect();
    match near.as_slice() {
        [one] if !wanted.is_empty() => Ok((*one).to_owned()),
        [] => Err(format!("there is no time zone `{text}`; expected one such as `Europe/Berlin`, or `UTC`")),
        near => Err(format!("`{text}` could be {}", near[..near.len().min(6)].join(", "))),
    }
}

/// An address with its prefix; none when nothing is said.
pub fn address(text: &str, is_v6: bool) -> Result<Option<String>, String> {
    if text.is_empty() || text == NONE {
        return Ok(None);
    }
    let (family, example) = if is_v6 { (6, "2001:db8::2/64") } else { (4, "192.0.2.7/24") };
    let address = text.parse::<Address>().ok().filter(|address| address.addr.is_ipv6() == is_v6);
    let wrong = || format!("`{text}` is no IPv{family} address with its prefix, such as `{example}`");
    address.map(|address| Some(address.to_string())).ok_or_else(wrong)
}

/// A gateway on the network of `address` or, of IPv6, on the link; none when nothing is said.
pub fn gateway(text: &str, address: &str) -> Result<Option<String>, String> {
    if text.is_empty() || text == NONE {
        return Ok(None);
    }
    let gateway: IpAddr = text.parse().map_err(|_| format!("`{text}` is no address, such as `192.0.2.1`"))?;
    let own: Address = address.parse()?;
    let is_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
    match Prefix::new(own.addr, own.len) {
        _ if gateway == own.addr => Err(format!("`{text}` is the address of this box itself")),
        Some(network) if network.holds(gateway) || (is_local && own.addr.is_ipv6()) => Ok(Some(gateway.to_string())),
        _ => Err(format!("`{text}` is not on the network of {address}, so it cannot be reached")),
    }
}

/// The first address of the network, where the gateway mostly is; nothing if that is the box itself.
pub fn usual_gateway(address: &str) -> String {
    let Ok(Address { addr: IpAddr::V4(own), len: len @ ..=30 }) = address.parse() else { return String::new() };
    let first = (own.to_bits() & u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)) + 1;
    if first == own.to_bits() { String::new() } else { Ipv4Addr::from_bits(first).to_string() }
}

/// A VLAN (IEEE 802.1Q: 1 to 4094); none when nothing is said.
pub fn vlan(text: &str) -> Result<Option<u16>, String> {
    if text.is_empty() || text == NONE {
        return Ok(None);
    }
    let id = text.parse().ok().filter(|id| (1..=4094).contains(id));
    id.map(Some).ok_or_else(|| format!("`{text}` is no VLAN; expected a number from 1 to 4094, or nothing"))
}

/// Addresses with spaces or commas between.
pub fn addresses(text: &str) -> Result<Vec<String>, String> {
    words(text)
        .map(|word| word.parse::<IpAddr>().map(|ip| ip.to_string()))
        .collect::<Result<_, _>>()
        .map_err(|_| format!("`{text}`: expected addresses with spaces between, such as `192.0.2.53 2001:db8::53`"))
}

/// Names or addresses with spaces or commas between.
pub fn hosts(text: &str) -> Result<Vec<String>, String> {
    words(text)
        .map(|word| if word.parse::<IpAddr>().is_ok() { Ok(word.to_owned()) } else { name(word) })
        .collect::<Result<_, _>>()
        .map_err(|_| format!("`{text}`: expected names or addresses with spaces between, such as `ntp.example.org`"))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', ',']).filter(|word| !word.is_empty() && *word != NONE)
}

/// Where a destination is, by the rules of the configuration.
pub fn uplink(kind: &str, to: &str) -> Result<String, String> {
    let mut destination = InlineTable::new();
    destination.insert("kind", kind.into());
    destination.insert("to", to.into());
    by_rules("uplink", UPLINK, destination)?;
    Ok(to.to_owned())
}

/// What the configuration's own rules say of `[table.name]` with these keys.
fn by_rules(table: &str, name: &str, keys: InlineTable) -> Result<(), String> {
    let mut document = DocumentMut::new();
    document["schema"] = value(1);
    document[table][name] = value(keys);
    let errors = Config::from_toml(&document.to_string(), "answer").err().unwrap_or_default();
    let words = |error: ConfigError| match error.expected {
        None => error.message,
        Some(expected) => format!("{}; expected {expected}", error.message),
    };
    let errors: Vec<String> = errors.into_iter().map(words).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

/// Fewest characters of a password.
pub const PASSWORD_MIN: usize = 8;
/// Most bytes of one.
pub const PASSWORD_MAX: usize = 1024;

/// A password that is long enough; nothing for none.
pub fn password(text: &str) -> Result<String, String> {
    if text.is_empty() || (text.chars().count() >= PASSWORD_MIN && text.len() <= PASSWORD_MAX) {
        return Ok(text.to_owned());
    }
    Err(format!("a password has {PASSWORD_MIN} to {PASSWORD_MAX} characters"))
}

/// A line of an `id_….pub` file; nothing for none.
pub fn ssh_key(text: &str) -> Result<String, String> {
    if text.is_empty() || text == NONE {
        return Ok(String::new());
    }
    if text.contains("PRIVATE KEY") {
        return Err("that is a private key: keep it to yourself and give the line of the file that ends in .pub".into());
    }
    let mut keys = InlineTable::new();
    keys.insert("ssh_keys", [text].into_iter().collect::<Array>().into());
    by_rules("access", "admin", keys)?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_names() {
        assert!(["raven", "arena-west", "a.example.org", "1"].iter().all(|text| name(text).is_ok()));
        assert!(["", "-a", "a-", "a_b", "a..b", "ü", "a b"].iter().all(|text| name(text).is_err()));
        assert!(name(&"a".repeat(65)).is_err());
    }

    #[test]
    fn a_time_zone_is_found_by_a_part_of_its_name() {
        let zones = ["UTC", "Europe/Berlin", "Europe/Madrid", "America/New_York"].map(str::to_owned);
        assert_eq!(timezone("berlin", &zones), Ok("Europe/Berlin".to_owned()));
        assert_eq!(timezone("new york", &zones), Ok("America/New_York".to_owned()));
        assert!(timezone("europe", &zones).is_err_and(|why| why.contains("Europe/Berlin, Europe/Madrid")));
        assert!(timezone("Atlantis", &zones).is_err());
        assert_eq!(timezone("Europe/Paris", &[]), Ok("Europe/Paris".to_owned()));
        assert!(timezone("a b", &[]).is_err());
    }

    #[test]
    fn addresses_carry_a_prefix_and_gateways_lie_on_the_network() {
        assert_eq!(address("192.0.2.7/24", false), Ok(Some("192.0.2.7/24".to_owned())));
        assert_eq!(address("", false), Ok(None));
        for wrong in ["192.0.2.7", "192.0.2.7/33", "192.0.2.7/0", "2001:db8::1/64", "224.0.0.1/4", "0.0.0.0/8", "x/24"]
        {
            assert!(address(wrong, false).is_err(), "{wrong}");
        }
        assert!(address("2001:db8::1/64", true).is_ok() && address("192.0.2.7/24", true).is_err());
        assert!(gateway("192.0.2.1", "192.0.2.7/24").is_ok());
        assert!(gateway("198.51.100.1", "192.0.2.7/24").is_err_and(|why| why.contains("not on the network")));
        assert!(gateway("192.0.2.7", "192.0.2.7/24").is_err_and(|why| why.contains("itself")));
        assert!(gateway("fe80::1", "2001:db8::2/64").is_ok());
        assert!(gateway("fe80::1", "192.0.2.7/24").is_err());
        assert_eq!(usual_gateway("192.0.2.7/24"), "192.0.2.1");
        assert_eq!(usual_gateway("192.0.2.1/24"), "");
        assert_eq!(usual_gateway("192.0.2.7/32"), "");
    }

    #[test]
    fn lists_vlans_passwords_and_keys_are_checked() {
        assert_eq!(addresses("192.0.2.53, 2001:db8::53").map(|list| list.len()), Ok(2));
        assert!(
            addresses("dns.example").is_err() && hosts("ntp.example.org 192.0.2.1").is_ok() && hosts("a b_c").is_err()
        );
        assert_eq!((vlan(""), vlan("20")), (Ok(None), Ok(Some(20))));
        assert!(vlan("0").is_err() && vlan("4095").is_err());
        assert!(
            password("short").is_err()
                && password(&"x".repeat(1025)).is_err()
                && password("").is_ok()
                && password("long enough").is_ok()
        );
        let key = format!("ssh-ed25519 AAAA{} me@home", "x".repeat(70));
        assert!(ssh_key(&key).is_ok() && ssh_key("ssh-ed25519 x").is_err());
        assert!(ssh_key("-----BEGIN OPENSSH PRIVATE KEY-----").is_err_and(|why| why.contains("private")));
    }

    #[test]
    fn destinations_follow_the_rules_of_the_configuration() {
        assert!(uplink("relp", "noc.example.org:2514").is_ok());
        assert!(uplink("relp", "no port").is_err());
        assert!(uplink("http", "https://noc.example.org/in").is_ok());
    }
}
