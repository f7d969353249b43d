//! Names of IP protocols and of the services that a venue's flows show most: for people, so a short table that one can
//! read is better than the registry of 6000.

/// Name of an IP protocol number.
pub const fn protocol(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        2 => "igmp",
        4 => "ipip",
        6 => "tcp",
        17 => "udp",
        41 => "ipv6",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "icmp6",
        88 => "eigrp",
        89 => "ospf",
        103 => "pim",
        112 => "vrrp",
        132 => "sctp",
        _ => return None,
    })
}

/// Name of a service by its protocol (6, 17 or 132) and port.
pub fn service(protocol: u8, port: u16) -> Option<&'static str> {
    let is_there = matches!(protocol, 6 | 17 | 132);
    let found = SERVICES.iter().find(|(number, only, _)| *number == port && (*only == 0 || *only == protocol));
    found.filter(|_| is_there).map(|(.., name)| *name)
}

const ANY: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Port, protocol, name.
const SERVICES: [(u16, u8, &str); 74] = [
    (20, TCP, "ftp-data"),
    (21, TCP, "ftp"),
    (22, TCP, "ssh"),
    (23, TCP, "telnet"),
    (25, TCP, "smtp"),
    (49, ANY, "tacacs"),
    (53, ANY, "dns"),
    (67, UDP, "dhcp"),
    (68, UDP, "dhcp"),
    (69, UDP, "tftp"),
    (80, TCP, "http"),
    (88, ANY, "kerberos"),
    (110, TCP, "pop3"),
    (123, UDP, "ntp"),
    (135, TCP, "msrpc"),
    (137, ANY, "netbios"),
    (138, UDP, "netbios"),
    (139, TCP, "netbios"),
    (143, TCP, "imap"),
    (161, UDP, "snmp"),
    (162, UDP, "snmptrap"),
    (179, TCP, "bgp"),
    (319, UDP, "ptp"),
    (320, UDP, "ptp"),
    (389, ANY, "ldap"),
    (443, TCP, "https"),
    (443, UDP, "quic"),
    (445, TCP, "smb"),
    (464, ANY, "kerberos"),
    (465, TCP, "smtps"),
    (500, UDP, "ike"),
    (514, UDP, "syslog"),
    (514, TCP, "rsh"),
    (515, TCP, "lpd"),
    (546, UDP, "dhcp6"),
    (547, UDP, "dhcp6"),
    (554, ANY, "rtsp"),
    (587, TCP, "submission"),
    (631, ANY, "ipp"),
    (636, TCP, "ldaps"),
    (853, ANY, "dns-tls"),
    (989, TCP, "ftps"),
    (993, TCP, "imaps"),
    (995, TCP, "pop3s"),
    (1194, ANY, "openvpn"),
    (1433, TCP, "mssql"),
    (1521, TCP, "oracle"),
    (1812, UDP, "radius"),
    (1813, UDP, "radius-acct"),
    (1883, TCP, "mqtt"),
    (1900, UDP, "ssdp"),
    (2049, ANY, "nfs"),
    (2055, UDP, "netflow"),
    (3306, TCP, "mysql"),
    (3389, ANY, "rdp"),
    (3478, ANY, "stun"),
    (4500, UDP, "ipsec-nat-t"),
    (4739, ANY, "ipfix"),
    (4789, UDP, "vxlan"),
    (5060, ANY, "sip"),
    (5061, ANY, "sips"),
    (5222, TCP, "xmpp"),
    (5228, TCP, "google-push"),
    (5223, TCP, "apple-push"),
    (5353, UDP, "mdns"),
    (5432, TCP, "postgres"),
    (5568, UDP, "sacn"),
    (5985, TCP, "winrm"),
    (6343, UDP, "sflow"),
    (6379, TCP, "redis"),
    (6454, UDP, "artnet"),
    (6514, TCP, "syslog-tls"),
    (8080, TCP, "http-alt"),
    (51820, UDP, "wireguard"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_named_for_its_protocol() {
        assert_eq!((service(6, 443), service(17, 443)), (Some("https"), Some("quic")));
        assert_eq!((service(17, 53), service(6, 53)), (Some("dns"), Some("dns")));
        assert_eq!((service(1, 53), service(17, 80), service(6, 50_000)), (None, None, None));
        assert_eq!((protocol(6), protocol(255)), (Some("tcp"), None));
    }
}
