//! What a venue's devices say: a few families of messages with the fields that vary in real life, so that a
//! compressor finds about as much in them as in the real thing (some 40 bytes of a 200-byte message).

/// A kind of device.
struct Family {
    /// Facility * 8 + severity.
    priority: &'static str,
    host: &'static str,
    /// Devices of the kind.
    hosts: u32,
    app: &'static str,
    /// How often each of its texts comes, against those of other families.
    weight: u32,
    /// `{a}` private address, `{x}` public address, `{p}` port, `{m}` MAC, `{h}` 4 hex digits, `{i}` 0 to 47,
    /// `{k}` 0 to 99999, `{s}` 0 to 99, `{w}` a word, `{u}` a user.
    texts: &'static [&'static str],
}

const FAMILIES: &[Family] = &[
    Family {
        priority: "134",
        host: "fw-core-",
        hosts: 2,
        app: "filterlog",
        weight: 5,
        texts: &[
            "action=allow proto=tcp src={a}:{p} dst={x}:443 zone=guest>wan rule=112 bytes={k} nat=198.51.100.4:{p}",
            "action=deny proto=udp src={x}:{p} dst={a}:{p} zone=wan>guest rule=999 policy=default-deny",
            "action=allow proto=udp src={a}:{p} dst=10.20.0.53:53 zone=guest>infra rule=20 bytes={s}",
        ],
    },
    Family {
        priority: "141",
        host: "ap-hall-",
        hosts: 90,
        app: "hostapd",
        weight: 3,
        texts: &[
            "wlan{i}: STA {m} IEEE 802.11: associated (aid {s}) rssi=-{s} ssid=Venue-Guest",
            "wlan{i}: STA {m} RADIUS: starting accounting session {h}{h}-{h}{h}",
            "wlan{i}: STA {m} IEEE 802.11: disassociated due to inactivity",
        ],
    },
    Family {
        priority: "30",
        host: "dhcp-",
        hosts: 2,
        app: "dhcpd",
        weight: 2,
        texts: &[
            "DHCPACK on {a} to {m} ({w}-{u}) via 10.20.0.1 lease-duration 3600",
            "DHCPREQUEST for {a} from {m} via eth0.{s}",
        ],
    },
    Family {
        priority: "189",
        host: "sw-access-",
        hosts: 120,
        app: "%LINK-3-UPDOWN",
        weight: 2,
        texts: &[
            "Interface GigabitEthernet1/0/{i}, changed state to up",
            "Interface GigabitEthernet1/0/{i}, changed state to down",
            "MAC {m} moved from port Gi1/0/{i} to port Gi1/0/{i} vlan {s}",
        ],
    },
    Family {
        priority: "190",
        host: "web-",
        hosts: 4,
        app: "nginx",
        weight: 2,
        texts: &[
            "{a} - - \"GET /api/v1/tickets/{k} HTTP/1.1\" 200 {k} \"-\" \"VenueApp/4.{s}\" rt=0.0{s}",
            "{a} - - \"POST /api/v1/scan HTTP/2.0\" 201 {s} \"-\" \"Scanner/{s}\" rt=0.1{s}",
        ],
    },
    Family {
        priority: "86",
        host: "jump-",
        hosts: 2,
        app: "sshd",
        weight: 1,
        texts: &[
            "Failed password for invalid user {u} from {x} port {p} ssh2",
            "Accepted publickey for {u} from {a} port {p} ssh2: ED25519 SHA256:{h}{h}{h}",
        ],
    },
    Family {
        priority: "4",
        host: "edge-",
        hosts: 3,
        app: "kernel",
        weight: 1,
        texts: &[
            "[{k}.{k}] nf_conntrack: table full, dropping packet",
            "[{k}.{k}] TCP: request_sock_TCP: Possible SYN flooding on port {a}:{p}. Sending cookies.",
        ],
    },
];

/// What every text ends with: the identifiers and counters that make real logs hard to compress.
const TAIL: &str = " flow={h}{h}{h} pkts={k} rtt={s}.{s}ms";

/// A piece of a message.
pub enum Part {
    /// As it is.
    Text(&'static str),
    /// A blank, named as in `Family::texts`.
    Field(u8),
}

/// A message with blanks.
pub struct Template {
    /// Facility * 8 + severity.
    pub priority: &'static str,
    /// Name of the device, without its number.
    pub host: &'static str,
    /// Devices of the kind.
    pub hosts: u32,
    /// Program.
    pub app: &'static str,
    /// The text.
    pub parts: Vec<Part>,
}

/// Every text of every family, as often as the family's weight says.
pub fn templates() -> Vec<Template> {
    let weighted = FAMILIES.iter().flat_map(|family| std::iter::repeat_n(family, family.weight as usize));
    weighted.flat_map(|family| family.texts.iter().map(|text| template(family, text))).collect()
}

fn template(family: &'static Family, text: &'static str) -> Template {
    let parts = [text, TAIL].into_iter().flat_map(split).collect();
    Template { priority: family.priority, host: family.host, hosts: family.hosts, app: family.app, parts }
}

fn split(text: &'static str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, field_and_rest)) = rest.split_once('{') {
        let (field, after) = field_and_rest.split_at(1);
        parts.push(Part::Text(before));
        parts.push(Part::Field(field.as_bytes()[0]));
        rest = after.strip_prefix('}').unwrap_or(after);
    }
    parts.push(Part::Text(rest));
    parts
}
