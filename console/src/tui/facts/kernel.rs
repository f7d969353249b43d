//! What the kernel says to everybody: interfaces, addresses, the machine.

use super::Link;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use raven_model::neighbour::Neighbour;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The machine and what runs on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// `Linux 6.18.44`.
    pub kernel: String,
    /// Vendor and product.
    pub product: Option<String>,
    /// `A`, `B`, `the medium`; `None` where Raven was not started from an image of its own.
    pub slot: Option<String>,
    /// `Europe/Berlin`.
    pub timezone: String,
    /// Since boot.
    pub uptime_s: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes that programs could still get.
    pub memory_available: u64,
    /// Load of 1, 5 and 15 minutes.
    pub load: String,
}

/// Reads it.
pub fn host() -> Host {
    let memory = read("/proc/meminfo");
    let load: Vec<String> = read("/proc/loadavg").split_whitespace().take(3).map(str::to_owned).collect();
    Host {
        name: read("/proc/sys/kernel/hostname"),
        kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease")),
        product: product(),
        slot: slot(&read("/proc/cmdline")),
        timezone: timezone(),
        uptime_s: read("/proc/uptime").split('.').next().and_then(|s| s.parse().ok()).unwrap_or(0),
        memory: kib(&memory, "MemTotal:"),
        memory_available: kib(&memory, "MemAvailable:"),
        load: load.join(" "),
    }
}

/// Whether the box runs from the installation medium.
pub fn is_medium() -> bool {
    read("/proc/cmdline").split_whitespace().any(|word| word == "raven.live")
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn product() -> Option<String> {
    let part = |name: &str| read(Path::new("/sys/class/dmi/id").join(name));
    let both = format!("{} {}", part("sys_vendor"), part("product_name"));
    Some(both.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Of the words of `/proc/cmdline`, which the boot loader wrote, the last counts.
fn slot(cmdline: &str) -> Option<String> {
    cmdline.split_whitespace().rev().find_map(|word| match word.strip_prefix("raven.slot=") {
        Some(slot) => Some(slot.to_owned()),
        None => (word == "raven.live").then(|| "none (started from the medium)".to_owned()),
    })
}

fn timezone() -> String {
    let linked = fs::read_link("/etc/localtime").ok();
    let name = linked.and_then(|path| Some(path.to_str()?.split_once("zoneinfo/")?.1.to_owned()));
    name.unwrap_or_else(|| "UTC".to_owned())
}

fn kib(meminfo: &str, key: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    number.unwrap_or(0).saturating_mul(1024)
}

/// All interfaces but the loopback, by name.
pub fn links() -> Vec<Link> {
    // Who may not ask for addresses does not know that there are none.
    let (mut addresses, mut gateways) = (addresses(), gateways());
    let dns = name_servers(&read("/etc/resolv.conf"));
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name != "lo" && Path::new("/sys/class/net").join(name).join("address").exists());
    names.sort();
    let link = |name: String| {
        let addresses = addresses.as_mut().map(|all| all.remove(&name).unwrap_or_default());
        let gateways = gateways.remove(&name).unwrap_or_default();
        let dns = if gateways.is_empty() { Vec::new() } else { dns.clone() };
        link(name, addresses, gateways, dns)
    };
    names.into_iter().map(link).collect()
}

fn link(name: String, addresses: Option<Vec<String>>, gateways: Vec<String>, dns: Vec<String>) -> Link {
    let of = |file: &str| read(Path::new("/sys/class/net").join(&name).join(file));
    // Reading the carrier of an interface that is set down fails.
    let carrier = match of("carrier").as_str() {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    };
    let (state, cause) = match (carrier, addresses.as_ref().is_some_and(Vec::is_empty)) {
        (None, _) => ("down", Some("it is set down".to_owned())),
        (Some(false), _) => ("no link", Some("nothing is plugged in, or the other end is off".to_owned())),
        (Some(true), true) => ("no address", Some("it has a link and no address".to_owned())),
        (Some(true), false) => ("up", None),
    };
    Link {
        mac: of("address"),
        carrier,
        speed_mbps: of("speed").parse().ok(),
        addresses: addresses.unwrap_or_default(),
        gateways,
        dns,
        state: state.to_owned(),
        cause,
        neighbour: Neighbour::Nobody,
        name,
    }
}

/// With their prefixes, by interface; those that only reach the neighbours come last. `None`: not to be had.
fn addresses() -> Option<BTreeMap<String, Vec<String>>> {
    let mut all: BTreeMap<String, Vec<(bool, String)>> = BTreeMap::new();
    for entry in getifaddrs().ok()? {
        let (Some(address), Some(mask)) = (entry.address.as_ref().and_then(ip), entry.netmask.as_ref().and_then(ip))
        else {
            continue;
        };
        let is_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        all.entry(entry.interface_name).or_default().push((is_local, format!("{address}/{}", prefix(mask))));
    }
    let sorted = |mut addresses: Vec<(bool, String)>| {
        addresses.sort_by_key(|(is_local, _)| *is_local);
        addresses.into_iter().map(|(_, address)| address).collect()
    };
    Some(all.into_iter().map(|(name, addresses)| (name, sorted(addresses))).collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

fn prefix(mask: IpAddr) -> u32 {
    match mask {
        IpAddr::V4(v4) => v4.to_bits().leading_ones(),
        IpAddr::V6(v6) => v6.to_bits().leading_ones(),
    }
}

/// Default routes, by interface.
fn gateways() -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (v4, v6) = (read("/proc/net/route"), read("/proc/net/ipv6_route"));
    let routes = v4.lines().filter_map(route).chain(v6.lines().filter_map(route6));
    for (name, gateway) in routes {
        all.entry(name).or_default().push(gateway.to_string());
    }
    all
}

/// A line of `/proc/net/route`, if it is a default route: addresses stand in it in the machine's byte order.
fn route(line: &str) -> Option<(String, IpAddr)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let gateway = u32::from_str_radix(fields.get(2)?, 16).ok()?;
    let is_default = *fields.get(1)? == "00000000" && gateway != 0;
    is_default.then(|| ((*fields[0]).to_owned(), IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes()))))
}

/// The same of `/proc/net/ipv6_route`.
fn route6(line: &str) -> Option<(String, IpAddr)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let gateway = u128::from_str_radix(fields.get(4)?, 16).ok()?;
    let is_default = fields.get(0..2)? == ["00000000000000000000000000000000", "00"] && gateway != 0;
    is_default.then(|| Some(((*fields.get(9)?).to_owned(), IpAddr::V6(Ipv6Addr::from(gateway)))))?
}

fn name_servers(resolv_conf: &str) -> Vec<String> {
    let server = |line: &str| Some(line.strip_prefix("nameserver")?.trim().to_owned());
    resolv_conf.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_what_the_boot_loader_said() {
        assert_eq!(slot("quiet raven.slot=A raven.verity=x"), Some("A".to_owned()));
        assert!(slot("raven.live").is_some_and(|slot| slot.contains("medium")));
        assert_eq!(slot("root=/dev/sda1"), None);
    }

    #[test]
    fn default_routes_are_read() {
        let line = "eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0";
        assert_eq!(route(line), Some(("eth0".to_owned(), IpAddr::from([192, 0, 2, 1]))));
        assert_eq!(route("eth0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0"), None);
        assert_eq!(route(&line.replace("00000000\t0102", "000A000A\t0102")), None, "a route to a network");
        let zero = "0".repeat(32);
        let gateway = format!("20010db8{}1", "0".repeat(23));
        let line = format!("{zero} 00 {zero} 00 {gateway} 00000400 00000001 00000000 00000003 eth0");
        assert_eq!(route6(&line).map(|(_, ip)| ip.to_string()), Some("2001:db8::1".to_owned()));
        assert_eq!(route6("short"), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        let host = host();
        assert!(host.memory > host.memory_available && !host.kernel.is_empty());
        assert!(links().iter().all(|link| link.name != "lo" && !link.state.is_empty()));
    }
}
