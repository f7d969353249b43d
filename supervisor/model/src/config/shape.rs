//! Which keys there are, and what each may hold: the shape against which a file is held before it becomes a
//! [`Config`](super::Config), so that all that is wrong with it is told at once, each with its place.
//!
//! The types in `config.rs` decide what a value may be; a test holds the keys here against theirs.

use super::error::{Flaw, key_text};
use super::{
    AckClass, Address, Backfill, BitRate, BodyForm, Compression, Dhcp, Disk, Format, Kind, Listen, Mac, Rate, Secret,
    Via,
};
use crate::alert::Severity;
use crate::diag::cron::Cron;
use crate::diag::{Family, Method, bw, services};
use crate::prefix::Prefix;
use crate::tunnel::TunnelName;
use crate::units::{ByteCount, Span};
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// What may stand at one place.
pub(super) enum Shape {
    /// Exactly these keys.
    Table(&'static [(&'static str, Shape)]),
    /// A table per name, and the operator chooses the names.
    Each(&'static Shape),
    /// Any number of these.
    List(&'static Shape),
    /// One value.
    Leaf(Leaf),
}

/// One value.
pub(super) struct Leaf {
    /// Whether the type of `config.rs` takes it.
    check: fn(Spanned<DeValue<'_>>) -> Result<(), toml::de::Error>,
    /// In words.
    expected: &'static str,
    /// The words it may be, when they are few.
    choices: &'static [&'static str],
    /// Whether it may be written in quotes.
    pub(super) text: bool,
}

fn fits<T: DeserializeOwned>(value: Spanned<DeValue<'_>>) -> Result<(), toml::de::Error> {
    T::deserialize(ValueDeserializer::from(value)).map(drop)
}

const fn text<T: DeserializeOwned>(expected: &'static str) -> Shape {
    Shape::Leaf(Leaf { check: fits::<T>, expected, choices: &[], text: true })
}

const fn number(expected: &'static str) -> Shape {
    Shape::Leaf(Leaf { check: fits::<u32>, expected, choices: &[], text: false })
}

const fn truth() -> Shape {
    Shape::Leaf(Leaf { check: fits::<bool>, expected: "`true` or `false`", choices: &[], text: false })
}

const fn choice<T: DeserializeOwned>(expected: &'static str, choices: &'static [&'static str]) -> Shape {
    Shape::Leaf(Leaf { check: fits::<T>, expected, choices, text: true })
}

const LISTEN: Shape = text::<Listen>("a port such as `514`, or an address and port such as `\"192.0.2.1:514\"`");
const NUMBER: Shape = number("a number from 1 on");
const SECRET: Shape = text::<Secret>("the name of a secret such as `\"secret:users.toml\"`");
const TEXT: Shape = text::<String>("a text in quotes");
const BYTES: Shape = text::<ByteCount>("an amount of bytes such as `\"64MiB\"`");
const CONNECTIONS: Shape = number("a number from 1 to 1024");
const STREAM: Shape = text::<String>("the name of a stream, such as `\"syslog\"`");

/// A destination.
pub(super) const DESTINATION: Shape = Shape::Table(&[
    (
        "kind",
        choice::<Kind>(
            "`\"relp\"`, `\"http\"`, `\"syslog\"`, `\"otlp\"`, `\"otlp_metrics\"`, `\"remote_write\"`, `\"nats\"` or `\"udp\"`",
            &["relp", "http", "syslog", "otlp", "otlp_metrics", "remote_write", "nats", "udp", "snmp"],
        ),
    ),
    ("to", text::<String>("`\"host:port\"`, or `\"http://host:port/path\"` for HTTP and OTLP")),
    ("via", choice::<Via>("`\"vpn\"`, or no `via`", &["vpn"])),
    ("streams", Shape::List(&STREAM)),
    ("ack", choice::<AckClass>("`\"accepted\"` or `\"durable\"`", &["accepted", "durable"])),
    ("compression", choice::<Compression>("`\"none\"`, `\"gzip\"` or `\"zstd\"`", &["none", "gzip", "zstd"])),
    ("body", choice::<BodyForm>("`\"ndjson\"` or `\"json\"`", &["ndjson", "json"])),
    ("window", number("a number from 1 to 65536")),
    ("timeout", text::<Span>("a length of time from `\"1s\"` to `\"10m\"`")),
    ("ack_timeout", text::<Span>("a length of time from `\"1s\"` to `\"10m\"`")),
    ("backfill", text::<Backfill>("a share such as `\"80%\"`, or a rate such as `\"2MiB/s\"` or `\"5000records/s\"`")),
    ("pace", text::<Rate>("a rate such as `\"5000records/s\"` or `\"2MiB/s\"`")),
    ("format", choice::<Format>("`\"raw\"` or `\"rfc5424\"`", &["raw", "rfc5424"])),
    ("tls", truth()),
    ("ca", SECRET),
    ("server_name", TEXT),
    ("certificate", SECRET),
    ("key", SECRET),
    ("credentials", SECRET),
    ("proxy", text::<String>("`\"http://host:port\"`")),
    ("proxy_credentials", SECRET),
    ("community", SECRET),
    ("user", SECRET),
]);

const SYSLOG: Shape = Shape::Table(&[
    ("udp", Shape::List(&LISTEN)),
    ("tcp", Shape::List(&LISTEN)),
    ("tls", Shape::List(&LISTEN)),
    ("relp", Shape::List(&LISTEN)),
    ("certificate", SECRET),
    ("key", SECRET),
    ("client_ca", SECRET),
    ("message_limit", text::<ByteCount>("an amount of bytes up to `\"64KiB\"`")),
    ("connections", CONNECTIONS),
    ("connections_per_source", CONNECTIONS),
    ("receive_buffer", BYTES),
]);

const FLOW: Shape = Shape::Table(&[
    ("udp", Shape::List(&LISTEN)),
    ("tcp", Shape::List(&LISTEN)),
    ("exporter_port", truth()),
    ("sampling", Shape::Each(&NUMBER)),
    ("template_lifetime", text::<Span>("a length of time such as `\"24h\"`")),
    ("templates_per_exporter", NUMBER),
    ("templates", NUMBER),
    ("connections", CONNECTIONS),
    ("connections_per_source", CONNECTIONS),
    ("receive_buffer", BYTES),
]);

const TRAP: Shape = Shape::Table(&[
    ("udp", Shape::List(&LISTEN)),
    ("communities", Shape::List(&TEXT)),
    ("sources", Shape::List(&TEXT)),
    ("users", SECRET),
    ("engines", Shape::List(&TEXT)),
    ("storm", NUMBER),
    ("receive_buffer", BYTES),
]);

const WINEVENT: Shape = Shape::Table(&[
    ("http", Shape::List(&LISTEN)),
    ("https", Shape::List(&LISTEN)),
    ("certificate", SECRET),
    ("key", SECRET),
    ("client_ca", SECRET),
    ("credentials", SECRET),
    ("body_limit", BYTES),
    ("event_limit", BYTES),
    ("connections", CONNECTIONS),
    ("connections_per_source", CONNECTIONS),
]);

const METRICS: Shape = Shape::Table(&[
    ("http", Shape::List(&LISTEN)),
    ("https", Shape::List(&LISTEN)),
    ("certificate", SECRET),
    ("key", SECRET),
    ("client_ca", SECRET),
    ("credentials", SECRET),
    ("body_limit", BYTES),
    ("connections", CONNECTIONS),
    ("connections_per_source", CONNECTIONS),
]);

const HOST: Shape =
    Shape::Table(&[("enabled", truth()), ("interval", text::<Span>("a length of time from `\"1s\"` to `\"1h\"`"))]);

const ROOM: Shape = Shape::Table(&[
    ("share", number("a number from 1 to 1000")),
    ("keep", text::<Span>("a length of time such as `\"14d\"`")),
]);

const SPAN: Shape = text::<Span>("a length of time such as `\"10m\"`");
const ENABLED: (&str, Shape) = ("enabled", truth());
const SEVERITY: (&str, Shape) = (
    "severity",
    choice::<Severity>("`\"critical\"`, `\"warning\"` or `\"notice\"`", &["critical", "warning", "notice"]),
);
const AFTER: (&str, Shape) = ("after", SPAN);
const CLEAR: (&str, Shape) = ("clear", SPAN);
/// A rule without settings of its own.
const RULE: Shape = Shape::Table(&[ENABLED, SEVERITY, AFTER, CLEAR]);
const COUNTED: Shape = Shape::Table(&[ENABLED, SEVERITY, CLEAR]);

const ALERT: Shape = Shape::Table(&[
    ENABLED,
    ("storing", RULE),
    ("damaged", COUNTED),
    ("evicting_unforwarded", COUNTED),
    ("drops", COUNTED),
    ("destination_refused", RULE),
    ("destination_down", RULE),
    ("tunnel_down", RULE),
    ("certificate_expiring", Shape::Table(&[ENABLED, SEVERITY, CLEAR, ("below", SPAN)])),
    ("lag", Shape::Table(&[ENABLED, SEVERITY, AFTER, CLEAR, ("above", SPAN)])),
    ("dead_letters", COUNTED),
    ("ring_filling", Shape::Table(&[ENABLED, AFTER, CLEAR])),
    ("time_to_full", Shape::Table(&[ENABLED, SEVERITY, AFTER, CLEAR, ("below", SPAN)])),
    (
        "source_silent",
        Shape::Table(&[
            ENABLED,
            SEVERITY,
            AFTER,
            CLEAR,
            ("regular", SPAN),
            ("storm", NUMBER),
            ("ignore", Shape::List(&TEXT)),
            ("sources", Shape::Each(&SPAN)),
        ]),
    ),
    ("disk_health", Shape::Table(&[ENABLED, CLEAR])),
    ("role_restarting", Shape::Table(&[ENABLED, SEVERITY, CLEAR, ("count", NUMBER), ("within", SPAN)])),
    ("clock", COUNTED),
    ("diag", Shape::Table(&[ENABLED])),
]);

/// A number that the type takes.
const fn of<T: DeserializeOwned>(expected: &'static str) -> Shape {
    Shape::Leaf(Leaf { check: fits::<T>, expected, choices: &[], text: false })
}

const TARGET: Shape = text::<String>("a name or an address");
const TIMEOUT: (&str, Shape) = ("timeout", text::<Span>("a length of time from `\"10ms\"` to `\"1m\"`"));
const PAUSE: (&str, Shape) = ("interval", text::<Span>("a length of time such as `\"1s\"`"));
const SMALL: Shape = of::<u8>("a number from 1 to 255");
const PORT: (&str, Shape) = ("port", of::<u16>("a number from 1 to 65535"));
const BITS: Shape = text::<BitRate>("a rate such as `\"10M\"`, in bits a second");

const BANDWIDTH_SERVER: Shape = Shape::Table(&[
    PORT,
    ("allow", Shape::List(&PREFIX)),
    ("rate", BITS),
    ("time", text::<Span>("a length of time from `\"1s\"` to `\"1h\"`")),
    ("bytes", BYTES),
    ("bytes_per_day", BYTES),
]);

/// A test that is made by itself.
const SCHEDULE: Shape = Shape::Table(&[
    ("every", text::<Span>("a length of time such as `\"1m\"`")),
    (
        "at",
        text::<Cron>("five fields such as `\"*/15 * * * *\"`: minute, hour, day of the month, month, day of the week"),
    ),
    ("exclusive", truth()),
    ("even_while_catching_up", truth()),
    ("interface", text::<String>("the name of a link such as `\"eth1\"`")),
    ("tunnel", TUNNEL),
    ("source", ADDRESS),
    ("family", choice::<Family>("`\"ipv4\"` or `\"ipv6\"`", &["ipv4", "ipv6"])),
    ("alert", THRESHOLDS),
    (
        "ping",
        Shape::Table(&[
            ("targets", Shape::List(&TARGET)),
            ("count", NUMBER),
            PAUSE,
            TIMEOUT,
            ("size", of::<u16>("a number from 16 to 65000")),
            ("dscp", of::<u8>("a number from 0 to 63")),
            ("dont_fragment", truth()),
        ]),
    ),
    (
        "trace",
        Shape::Table(&[
            ("target", TARGET),
            ("method", choice::<Method>("`\"udp\"` or `\"icmp\"`", &["udp", "icmp"])),
            PORT,
            ("hops", SMALL),
            ("count", SMALL),
            ("flows", SMALL),
            PAUSE,
            TIMEOUT,
        ]),
    ),
    ("mtu", Shape::Table(&[("target", TARGET), ("count", SMALL), TIMEOUT])),
    (
        "bandwidth",
        Shape::Table(&[
            ("target", TARGET),
            PORT,
            ("transport", choice::<bw::Transport>("`\"tcp\"` or `\"udp\"`", &["tcp", "udp"])),
            ("direction", choice::<bw::Direction>("`\"up\"`, `\"down\"` or `\"both\"`", &["up", "down", "both"])),
            ("streams", SMALL),
            ("rate", BITS),
            ("time", text::<Span>("a length of time such as `\"5s\"`")),
            ("omit", text::<Span>("a length of time such as `\"2s\"`")),
            ("length", NUMBER),
        ]),
    ),
    (
        "dns",
        Shape::Table(&[
            ("name", text::<String>("a name such as `\"noc.example\"`")),
            (
                "record",
                choice::<services::RecordType>(
                    "`\"A\"`, `\"AAAA\"`, `\"PTR\"`, `\"TXT\"`, `\"SRV\"`, `\"MX\"`, `\"NS\"`, `\"CNAME\"` or `\"SOA\"`",
                    &["A", "AAAA", "PTR", "TXT", "SRV", "MX", "NS", "CNAME", "SOA"],
                ),
            ),
            ("servers", Shape::List(&TARGET)),
            ("transport", choice::<services::Transport>("`\"udp\"`, `\"tcp\"` or `\"tls\"`", &["udp", "tcp", "tls"])),
            TIMEOUT,
            ("count", SMALL),
        ]),
    ),
    ("tcp", Shape::Table(&[("target", TARGET), PORT, TIMEOUT])),
    ("tls", Shape::Table(&[("target", TARGET), PORT, ("name", TEXT), TIMEOUT])),
    (
        "http",
        Shape::Table(&[
            ("url", text::<String>("`\"http://…\"` or `\"https://…\"`")),
            TIMEOUT,
            ("max_time", text::<Span>("a length of time from `\"10ms\"` to `\"10m\"`")),
            ("limit", BYTES),
        ]),
    ),
    ("ntp", Shape::Table(&[("servers", Shape::List(&TARGET)), ("count", SMALL), PAUSE, TIMEOUT])),
]);

const THRESHOLDS: Shape = Shape::Table(&[
    ENABLED,
    SEVERITY,
    ("for", NUMBER),
    ("clear", NUMBER),
    ("failed", truth()),
    ("path_changed", truth()),
    ("loss", of::<f64>("percent, such as `20`")),
    ("p95", SPAN),
    ("time", SPAN),
    ("min_rate", BITS),
    ("min_mtu", of::<u16>("a number from 68 to 65535")),
    ("offset", SPAN),
    ("days_left", NUMBER),
]);

const ADDRESS: Shape = text::<IpAddr>("an address such as `\"192.0.2.1\"`");

const LINK: Shape = Shape::Table(&[
    ("mac", text::<Mac>("a hardware address such as `\"02:00:5e:10:00:01\"`")),
    ("vlan", number("a number from 1 to 4094")),
    ("parent", text::<String>("the name of a link such as `\"eth0\"`")),
    ("dhcp", choice::<Dhcp>("`\"both\"`, `\"ipv4\"`, `\"ipv6\"` or `\"none\"`", &["both", "ipv4", "ipv6", "none"])),
    ("addresses", Shape::List(&text::<Address>("an address with its prefix such as `\"192.0.2.7/24\"`"))),
    ("gateways", Shape::List(&ADDRESS)),
    ("dns", Shape::List(&ADDRESS)),
    ("mtu", number("a number from 1280 to 9216")),
]);

const PREFIX: Shape = text::<Prefix>("a network such as `\"10.20.0.0/16\"`");
const TUNNEL: Shape = text::<TunnelName>("1 to 11 small letters, digits or `-`, a letter first, such as `\"noc\"`");

const VPN: Shape = Shape::Table(&[
    ("order", Shape::List(&TUNNEL)),
    ("networks", Shape::List(&PREFIX)),
    ("never", Shape::List(&PREFIX)),
    ("profile", Shape::Each(&PROFILE)),
]);

const PROFILE: Shape = Shape::Table(&[("version", NUMBER), ("probe", ADDRESS), ("links", Shape::List(&TEXT))]);

const KEYS: Shape = Shape::Table(&[("ssh_keys", Shape::List(&TEXT))]);

/// The whole file.
pub(super) const CONFIG: Shape = Shape::Table(&[
    ("schema", number("`schema = 1`")),
    ("site", Shape::Table(&[("name", text::<String>("a name such as `\"arena-north\"`"))])),
    (
        "system",
        Shape::Table(&[
            ("timezone", text::<String>("a name such as `\"Europe/Berlin\"`")),
            ("ntp", Shape::List(&TEXT)),
        ]),
    ),
    ("network", Shape::Table(&[("dns", Shape::List(&ADDRESS)), ("link", Shape::Each(&LINK))])),
    ("vpn", VPN),
    ("access", Shape::Table(&[("viewer", KEYS), ("operator", KEYS), ("admin", KEYS)])),
    (
        "collect",
        Shape::Table(&[
            ("syslog", SYSLOG),
            ("flow", FLOW),
            ("trap", TRAP),
            ("winevent", WINEVENT),
            ("metrics", METRICS),
            ("host", HOST),
        ]),
    ),
    ("alert", ALERT),
    ("diag", Shape::Table(&[("schedule", Shape::Each(&SCHEDULE)), ("bandwidth_server", BANDWIDTH_SERVER)])),
    (
        "buffer",
        Shape::Table(&[
            ("keep", text::<Span>("a length of time such as `\"14d\"`")),
            ("disk", text::<Disk>("a share such as `\"90%\"` or an amount such as `\"2GiB\"`")),
            ("sync", text::<Span>("a length of time from `\"10ms\"` to `\"1s\"`")),
            ("segment", text::<ByteCount>("an amount of bytes such as `\"256MiB\"`")),
            (
                "streams",
                Shape::Table(&[
                    ("syslog", ROOM),
                    ("flow", ROOM),
                    ("trap", ROOM),
                    ("winevent", ROOM),
                    ("metrics", ROOM),
                    ("host", ROOM),
                    ("alert", ROOM),
                    ("diag", ROOM),
                ]),
            ),
        ]),
    ),
    ("uplink", Shape::Each(&DESTINATION)),
]);

/// What is wrong in a file, each with the byte at which it stands.
pub(super) type Flaws = Vec<(usize, Flaw)>;

/// Holds a file against [`CONFIG`].
pub(super) fn check_file(root: &Spanned<DeTable<'_>>) -> Flaws {
    let mut flaws = Flaws::new();
    let Shape::Table(keys) = CONFIG else { return flaws };
    check_table(keys, root.get_ref(), &mut Vec::new(), &mut flaws);
    flaws.sort_by_key(|(at, _)| *at);
    flaws
}

/// Holds one value against its shape.
pub(super) fn check_value(shape: &Shape, value: &Spanned<DeValue<'_>>, path: &mut Vec<String>, flaws: &mut Flaws) {
    match (shape, value.get_ref()) {
        (Shape::Table(keys), DeValue::Table(table)) => check_table(keys, table, path, flaws),
        (Shape::Each(each), DeValue::Table(table)) => {
            for (name, value) in table {
                inside(path, name.get_ref(), |path| check_value(each, value, path, flaws));
            }
        }
        (Shape::List(item), DeValue::Array(values)) => {
            for (index, value) in values.iter().enumerate() {
                inside(path, &index.to_string(), |path| check_value(item, value, path, flaws));
            }
        }
        (Shape::Leaf(leaf), _) => check_leaf(leaf, value, path, flaws),
        (shape, other) => {
            let message = format!("`{}` is {}", key_text(path), type_words(other));
            flaws.push((value.span().start, flaw(path, message, shape.words())));
        }
    }
}

fn check_table(keys: &'static [(&'static str, Shape)], table: &DeTable<'_>, path: &mut Vec<String>, flaws: &mut Flaws) {
    for (key, value) in table {
        let name: &str = key.get_ref();
        match keys.iter().find(|(known, _)| *known == name) {
            Some((_, shape)) => inside(path, name, |path| check_value(shape, value, path, flaws)),
            None => inside(path, name, |path| flaws.push((key.span().start, unknown(keys, name, path)))),
        }
    }
}

fn check_leaf(leaf: &Leaf, value: &Spanned<DeValue<'_>>, path: &[String], flaws: &mut Flaws) {
    let Err(error) = (leaf.check)(value.clone()) else { return };
    let said = error.message();
    let cut = [";", ","].iter().filter_map(|mark| said.find(&format!("{mark} expected"))).min();
    let said = &said[..cut.unwrap_or(said.len())];
    let key = key_text(path);
    let message = match said.strip_prefix("invalid type: ") {
        Some(_) => format!("`{key}` is {}", type_words(value.get_ref())),
        None => format!("`{key}`: {said}"),
    };
    let mut found = flaw(path, message, leaf.expected.to_owned());
    found.nearest = value.get_ref().as_str().and_then(|text| close_to(text, leaf.choices.iter().copied()));
    flaws.push((value.span().start, found));
}

fn unknown(keys: &[(&'static str, Shape)], name: &str, path: &[String]) -> Flaw {
    let words = || keys.iter().map(|(key, _)| *key);
    let elsewhere = || find_key(&CONFIG, name, &mut Vec::new());
    let nearest = close_to(name, words()).or_else(elsewhere).or_else(|| nearest_to(name, words()));
    let expected = format!("one of {}", words().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "));
    Flaw { nearest, ..flaw(path, format!("unknown key `{}`", key_text(path)), expected) }
}

fn flaw(path: &[String], message: String, expected: String) -> Flaw {
    Flaw { path: path.to_vec(), message, nearest: None, expected: Some(expected) }
}

fn inside<R>(path: &mut Vec<String>, part: &str, work: impl FnOnce(&mut Vec<String>) -> R) -> R {
    path.push(part.to_owned());
    let result = work(path);
    path.pop();
    result
}

impl Shape {
    /// What may stand here, for messages.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Table(keys) => format!(
                "a table with the keys {}",
                keys.iter().map(|(key, _)| format!("`{key}`")).collect::<Vec<_>>().join(", ")
            ),
            Self::Each(_) => "a table such as `[uplink.noc]` or `[network.link.eth0]`".to_owned(),
            Self::List(Self::Leaf(leaf)) => format!("a list in brackets, each {}", leaf.expected),
            Self::List(_) => "a list in brackets".to_owned(),
            Self::Leaf(leaf) => leaf.expected.to_owned(),
        }
    }
}

fn type_words(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(_) => "a text".to_owned(),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(truth) => format!("`{truth}`"),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The full path of a key of that name anywhere in the schema.
fn find_key(shape: &Shape, name: &str, path: &mut Vec<String>) -> Option<String> {
    match shape {
        Shape::Table(keys) => keys.iter().find_map(|(key, below)| {
            inside(path, key, |path| if *key == name { Some(key_text(path)) } else { find_key(below, name, path) })
        }),
        Shape::Each(below) => inside(path, "NAME", |path| find_key(below, name, path)),
        Shape::List(_) | Shape::Leaf(_) => None,
    }
}

/// The word that is `name` but for a slip or two.
fn close_to<'a>(name: &str, words: impl Iterator<Item = &'a str>) -> Option<String> {
    let limit = 1 + name.chars().count() / 3;
    nearest_to(name, words).filter(|word| distance(name, word) <= limit)
}

fn nearest_to<'a>(name: &str, words: impl Iterator<Item = &'a str>) -> Option<String> {
    words.min_by_key(|word| distance(name, word)).map(str::to_owned)
}

/// Letters to insert, remove, change or swap with their neighbour (Damerau-Levenshtein, restricted), case ignored.
/// Names longer than any key are cut, so that a hostile file costs nothing.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let letters = |word: &str| word.chars().take(64).flat_map(char::to_lowercase).collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                let swap = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                change.min(swap).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Destination, Room, Tuning};
    use super::*;
    use crate::alert::Rule;
    use crate::stream::Stream;
    use std::collections::{BTreeMap, BTreeSet};

    fn keys_of_shape(shape: &Shape, path: &str, out: &mut BTreeSet<String>) {
        match shape {
            Shape::Table(keys) => {
                keys.iter().for_each(|(key, below)| keys_of_shape(below, &format!("{path}.{key}"), out));
            }
            Shape::Each(below) => keys_of_shape(below, &format!("{path}.noc"), out),
            Shape::List(_) | Shape::Leaf(_) => {
                out.insert(path.to_owned());
            }
        }
    }

    fn keys_of_value(value: &toml::Value, path: &str, out: &mut BTreeSet<String>) {
        match value {
            toml::Value::Table(table) => {
                table.iter().for_each(|(key, below)| keys_of_value(below, &format!("{path}.{key}"), out));
            }
            _ => {
                out.insert(path.to_owned());
            }
        }
    }

    #[test]
    fn the_shape_has_exactly_the_keys_of_the_types() {
        let mut config = Config::default();
        config.buffer.segment = Some(ByteCount::mib(64));
        let room = Room { share: Some(10), keep: Some(config.buffer.keep) };
        config.buffer.streams = Stream::ALL.into_iter().map(|stream| (stream, room)).collect();
        let secret = || "secret:x".parse().ok();
        let collect = &mut config.collect;
        (collect.syslog.certificate, collect.syslog.key, collect.syslog.client_ca) = (secret(), secret(), secret());
        collect.trap.users = secret();
        let winevent = &mut collect.winevent;
        (winevent.certificate, winevent.key, winevent.client_ca) = (secret(), secret(), secret());
        winevent.credentials = secret();
        let metrics = &mut collect.metrics;
        (metrics.certificate, metrics.key, metrics.client_ca) = (secret(), secret(), secret());
        metrics.credentials = secret();
        collect.flow.sampling.insert("noc".to_owned(), 100);
        let text = "mac = '02:00:5e:10:00:01'\nvlan = 2\nparent = 'eth0'\ndhcp = 'none'\nmtu = 1500";
        config.network.link.insert("noc".to_owned(), toml::from_str(text).expect("valid"));
        config
            .vpn
            .profile
            .insert("noc".parse().expect("valid"), toml::from_str("version = 1\nprobe = '::1'").expect("valid"));
        let text = "kind = 'relp'\nto = 'noc:2514'\nack_timeout = '5s'\npace = '9records/s'";
        let mut noc: Destination = toml::from_str(text).expect("valid");
        (noc.ca, noc.certificate, noc.key, noc.credentials) = (secret(), secret(), secret(), secret());
        (noc.compression, noc.via) = (Some(Compression::Zstd), Some(Via::Vpn));
        noc.server_name = Some("noc.example".to_owned());
        (noc.proxy, noc.proxy_credentials) = (Some("http://proxy:3128".to_owned()), secret());
        (noc.community, noc.user) = (secret(), secret());
        config.uplink.insert("noc".to_owned(), noc);
        let text = "every = '1m'\nat = '* * * * *'\ninterface = 'a'\ntunnel = 'noc'\nsource = '::1'\nfamily = 'ipv6'\n\
                    alert = { loss = 1, p95 = '1s', time = '1s', min_rate = '1M', min_mtu = 1280, offset = '1s', days_left = 7 }\n\
                    ping = {}\ntrace = { port = 7 }\nmtu = {}\nbandwidth = { rate = '1M', length = 7 }\ndns = {}\ntcp = {}\n\
                    tls = { name = 'noc' }\nhttp = {}\nntp = {}";
        config.diag.schedule.insert("noc".to_owned(), toml::from_str(text).expect("valid"));
        let text = "allow = ['10.0.0.0/8']\nrate = '1M'\nbytes = 7";
        config.diag.bandwidth_server = Some(toml::from_str(text).expect("valid"));
        let all = Tuning {
            enabled: Some(true),
            severity: Some(Severity::Notice),
            after: Some(Span::default()),
            clear: Some(Span::default()),
            ..Tuning::default()
        };
        let (counted, span) = (Tuning { after: None, ..all.clone() }, Some(Span::default()));
        config.alert.rules = Rule::ALL
            .into_iter()
            .map(|rule| {
                let tuning = match rule {
                    Rule::Lag => Tuning { above: span, ..all.clone() },
                    Rule::TimeToFull => Tuning { below: span, ..all.clone() },
                    Rule::CertificateExpiring => Tuning { below: span, ..counted.clone() },
                    Rule::Diag => Tuning { enabled: Some(true), ..Tuning::default() },
                    Rule::RingFilling => Tuning { severity: None, ..all.clone() },
                    Rule::DiskHealth => Tuning { severity: None, after: None, ..all.clone() },
                    Rule::RoleRestarting => Tuning { count: Some(1), within: span, ..counted.clone() },
                    Rule::SourceSilent => Tuning {
                        regular: span,
                        storm: Some(1),
                        ignore: Some(vec!["::1".to_owned()]),
                        sources: Some(BTreeMap::from([("noc".to_owned(), Span::default())])),
                        ..all.clone()
                    },
                    Rule::Storing | Rule::DestinationRefused | Rule::DestinationDown | Rule::TunnelDown => all.clone(),
                    _ => counted.clone(),
                };
                (rule, tuning)
            })
            .collect();
        let (mut of_shape, mut of_types) = (BTreeSet::new(), BTreeSet::new());
        keys_of_shape(&CONFIG, "", &mut of_shape);
        keys_of_value(&toml::Value::try_from(&config).expect("has a TOML form"), "", &mut of_types);
        assert_eq!(of_shape, of_types);
        // All secrets are in it.
        config.collect.trap.communities = vec!["c0mmunity".to_owned()];
        let told = config.to_toml_without_secrets();
        assert!(!told.contains("secret:") && !told.contains("c0mmunity"), "{told}");
        assert_eq!(told.matches("\"***\"").count(), config.to_toml().matches("\"secret:").count() + 1);
    }

    #[test]
    fn a_swap_counts_as_one_slip() {
        assert_eq!(distance("upd", "udp"), 1);
        assert_eq!(distance("UDP", "udp"), 0);
        assert_eq!(distance("", "udp"), 3);
        assert_eq!(distance("keeep", "keep"), 1);
    }
}
