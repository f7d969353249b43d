//! What a destination of each kind needs, and what it must not have.

use super::check::{host_name, port_number};
use super::error::Flaw;
use super::{AckClass, BodyForm, Compression, Config, Destination, Format, Kind, Secret};
use crate::table::Role;

impl Kind {
    /// As in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relp => "relp",
            Self::Http => "http",
            Self::Syslog => "syslog",
            Self::Otlp => "otlp",
            Self::OtlpMetrics => "otlp_metrics",
            Self::RemoteWrite => "remote_write",
            Self::Nats => "nats",
            Self::Udp => "udp",
            Self::Snmp => "snmp",
        }
    }

    /// Whether nobody acknowledges what is sent.
    pub const fn is_unacknowledged(self) -> bool {
        matches!(self, Self::Syslog | Self::Udp)
    }

    /// Whether `to` is a URL.
    pub const fn has_url(self) -> bool {
        matches!(self, Self::Http | Self::Otlp | Self::OtlpMetrics | Self::RemoteWrite)
    }

    /// Whether it is spoken to by datagrams.
    pub const fn is_of_datagrams(self) -> bool {
        matches!(self, Self::Udp | Self::Snmp)
    }

    /// Whether it is OpenTelemetry's protocol.
    pub const fn is_otlp(self) -> bool {
        matches!(self, Self::Otlp | Self::OtlpMetrics)
    }

    /// Whether numbers are sent and no records.
    pub const fn is_of_metrics(self) -> bool {
        matches!(self, Self::OtlpMetrics | Self::RemoteWrite)
    }
}

impl Destination {
    /// What an acknowledgement of this destination means, as shown: `none` where there is none.
    pub const fn ack_class(&self) -> &'static str {
        match self.ack {
            _ if self.kind.is_unacknowledged() => "none",
            AckClass::Accepted => "accepted",
            AckClass::Durable => "durable",
        }
    }

    /// Compression in force.
    pub fn compression(&self) -> Compression {
        // Webhooks unpack nothing.
        let usual = if self.body == BodyForm::Json { Compression::None } else { Compression::Zstd };
        self.compression.unwrap_or(usual)
    }

    /// Whether the connection is by TLS.
    pub fn speaks_tls(&self) -> bool {
        self.tls || (self.kind.has_url() && self.to.get(..8).is_some_and(|s| s.eq_ignore_ascii_case("https://")))
    }

    /// `host:port` of its proxy.
    pub fn proxy_address(&self) -> Option<&str> {
        let proxy = self.proxy.as_deref()?;
        Some(proxy.strip_prefix("http://").map_or(proxy, |rest| rest.strip_suffix('/').unwrap_or(rest)))
    }

    /// The secrets that it names, by their keys.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &Secret)> {
        let all = [
            ("ca", &self.ca),
            ("certificate", &self.certificate),
            ("key", &self.key),
            ("credentials", &self.credentials),
            ("proxy_credentials", &self.proxy_credentials),
            ("community", &self.community),
            ("user", &self.user),
        ];
        all.into_iter().filter_map(|(key, secret)| Some((key, secret.as_ref()?)))
    }
}

impl Config {
    /// The secrets that a role needs, by the key that names them.
    pub fn secrets(&self, role: Role) -> Vec<(String, &Secret)> {
        if role != Role::Uplink {
            return self.collect.secrets(role).into_iter().map(|(key, secret)| (key.to_owned(), secret)).collect();
        }
        let mut all = Vec::new();
        for (name, to) in &self.uplink {
            all.extend(to.secrets().map(|(key, secret)| (format!("uplink.{name}.{key}"), secret)));
        }
        all
    }
}

/// All that is wrong with its target, TLS and credentials.
pub(super) fn flaws(name: &str, to: &Destination) -> Vec<Flaw> {
    let at = |key: &str, message: &str, expected: &str| Flaw::new(&["uplink", name, key], message, expected);
    let mut flaws: Vec<Flaw> = target(name, to).into_iter().collect();
    if to.tls && to.kind.has_url() {
        flaws.push(at("tls", "`tls` is set beside a URL", "`https://` in `to`"));
    }
    let set = [
        ("ca", to.ca.is_some()),
        ("server_name", to.server_name.is_some()),
        ("certificate", to.certificate.is_some()),
        ("key", to.key.is_some()),
    ];
    if !to.speaks_tls() {
        let expected = if to.kind.has_url() { "`https://` in `to`" } else { "`tls = true` beside it" };
        let idle = set.into_iter().filter(|(_, set)| *set);
        flaws.extend(idle.map(|(key, _)| at(key, &format!("`{key}` is of no use without TLS"), expected)));
    }
    match (&to.certificate, &to.key) {
        (Some(_), None) => flaws.push(at("certificate", "`certificate` is set and `key` is not", "both or none")),
        (None, Some(_)) => flaws.push(at("key", "`key` is set and `certificate` is not", "both or none")),
        _ => {}
    }
    if to.server_name.as_deref().is_some_and(|server| host_name(server).is_err()) {
        flaws.push(at("server_name", "`server_name` is no host name", "a name such as `\"noc.example\"`"));
    }
    let expected = match to.kind {
        Kind::Relp | Kind::Syslog => Some("a client certificate: `certificate` and `key`"),
        Kind::Udp => Some("none"),
        Kind::Snmp => Some("`community` or `user`"),
        _ => None,
    };
    if let Some(expected) = expected.filter(|_| to.credentials.is_some()) {
        flaws.push(at("credentials", &format!("`{}` knows no credentials", to.kind.name()), expected));
    }
    if to.compression.is_some() && to.kind == Kind::RemoteWrite {
        flaws.push(at("compression", "`remote_write` is always compressed by snappy", "no `compression`"));
    }
    if to.body == BodyForm::Json && to.kind != Kind::Http {
        let message = format!("`{}` has a form of its own", to.kind.name());
        flaws.push(at("body", &message, "`kind = \"http\"`"));
    }
    if to.kind.is_unacknowledged() && to.ack == AckClass::Durable {
        let message = format!("nothing acknowledges `{}`", to.kind.name());
        flaws.push(at("ack", &message, "`kind = \"relp\"` for a receiver that says what it has"));
    }
    let has_numbers = |stream: &String| ["host", "diag"].contains(&stream.as_str());
    if to.kind.is_of_metrics() && !to.streams.iter().all(has_numbers) {
        let message = format!("`{}` sends numbers, and streams `host` and `diag` alone have them", to.kind.name());
        flaws.push(at(
            "streams",
            &message,
            "`streams = [\"host\", \"diag\"]` or one of them; the others have kinds of their own",
        ));
    }
    flaws.extend(of_datagrams(name, to));
    flaws.extend(of_snmp(name, to));
    flaws.extend(of_proxy(name, to));
    flaws
}

fn of_proxy(name: &str, to: &Destination) -> Option<Flaw> {
    let at = |key: &str, message: &str, expected: &str| Some(Flaw::new(&["uplink", name, key], message, expected));
    let Some(proxy) = &to.proxy else {
        let idle = to.proxy_credentials.is_some();
        return idle.then(|| {
            at("proxy_credentials", "`proxy_credentials` is of no use without `proxy`", "`proxy` beside it")
        })?;
    };
    if to.kind.is_of_datagrams() {
        return at("proxy", "datagrams go through no proxy", "another kind, or no `proxy`");
    }
    let expected = "`http://host:port` such as `http://proxy.example:3128`";
    if proxy.contains('@') {
        return at(
            "proxy",
            "`proxy` holds a user name, and secrets have no place here",
            "`proxy_credentials` for that",
        );
    }
    let why = if proxy.starts_with("http://") {
        host_port(to.proxy_address()?).err()
    } else {
        Some("does not begin with `http://`")
    };
    at("proxy", &format!("`{}` {}", proxy.escape_debug(), why?), expected)
}

/// What datagrams alone have, and what they cannot have.
fn of_datagrams(name: &str, to: &Destination) -> Vec<Flaw> {
    let at = |key: &str, message: &str, expected: &str| Flaw::new(&["uplink", name, key], message, expected);
    let mut flaws = Vec::new();
    if to.pace.is_some() && !to.kind.is_of_datagrams() {
        flaws.push(at("pace", "`pace` is for datagrams", "`kind = \"udp\"` or `kind = \"snmp\"` beside it"));
    }
    if to.format != Format::Raw && to.kind != Kind::Udp {
        flaws.push(at("format", "`format` is for datagrams as they came", "`kind = \"udp\"` beside it"));
    }
    if to.tls && to.kind.is_of_datagrams() {
        let message = format!("`{}` knows no TLS", to.kind.name());
        flaws.push(at("tls", &message, "`kind = \"syslog\"` or `kind = \"relp\"` with TLS"));
    }
    if to.kind != Kind::Udp {
        return flaws;
    }
    if to.to.contains(',') {
        let each = "one address; for each further collector a table `[uplink.NAME]` of its own";
        flaws.push(at("to", "`to` names several collectors, and nobody says which of them has what", each));
    }
    match &to.streams[..] {
        [one] if ["syslog", "flow", "trap"].contains(&one.as_str()) => {}
        _ => {
            let one = "one of `syslog`, `flow`, `trap`; for each further one a table `[uplink.NAME]` of its own";
            flaws.push(at("streams", "a collector takes one stream of datagrams at a port", one));
        }
    }
    if to.format == Format::Rfc5424 && to.streams.iter().any(|stream| stream != "syslog") {
        flaws.push(at("format", "`rfc5424` is for stream `syslog`", "`raw`"));
    }
    flaws
}

/// What managers alone have, and what they cannot have.
fn of_snmp(name: &str, to: &Destination) -> Vec<Flaw> {
    let at = |key: &str, message: &str, expected: &str| Flaw::new(&["uplink", name, key], message, expected);
    let set = [("community", to.community.is_some()), ("user", to.user.is_some())];
    if to.kind != Kind::Snmp {
        let idle = set.into_iter().filter(|(_, set)| *set);
        return idle.map(|(key, _)| at(key, &format!("`{key}` is for SNMP"), "`kind = \"snmp\"` beside it")).collect();
    }
    let mut flaws = Vec::new();
    let one = "`community = \"secret:NAME\"` for version 2c, or `user = \"secret:NAME\"` for version 3";
    match (&to.community, &to.user) {
        (None, None) => flaws.push(at("kind", "`snmp` has neither `community` nor `user`", one)),
        (Some(_), Some(_)) => flaws.push(at("user", "`community` and `user` are both set", one)),
        _ => {}
    }
    if let Some(other) = to.streams.iter().find(|stream| !["trap", "alert"].contains(&stream.as_str())) {
        let message = format!("`snmp` sends notifications, and stream `{other}` has none");
        flaws.push(at("streams", &message, "`streams = [\"trap\"]`, `[\"alert\"]`, or both"));
    }
    flaws
}

fn target(name: &str, destination: &Destination) -> Option<Flaw> {
    let (result, expected) = if destination.kind.has_url() {
        (url(&destination.to), "`http://host:port/path` such as `http://noc.example:8080/ingest`, or `https://…`")
    } else {
        (addresses(&destination.to), "`host:port` such as `noc.example:2514`, or `[2001:db8::1]:2514`")
    };
    let path = ["uplink", name, "to"];
    // A password must not reach a log by way of the complaint about it.
    let shown =
        if destination.to.contains('@') { "the target" } else { &format!("`{}`", destination.to.escape_debug()) };
    result.err().map(|why| Flaw::new(&path, format!("{shown} {why}"), expected))
}

/// One or more, with commas between.
fn addresses(text: &str) -> Result<(), &'static str> {
    text.split(',').try_for_each(|one| host_port(one.trim()))
}

fn host_port(text: &str) -> Result<(), &'static str> {
    if text.contains("://") {
        return Err("has a scheme, which belongs to HTTP alone");
    }
    let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
    port_number(port)?;
    host_name(host)
}

fn url(text: &str) -> Result<(), &'static str> {
    let rest = ["http://", "https://"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
    let rest = rest.ok_or("does not begin with `http://` or `https://`")?;
    let (authority, path) = rest.split_at(rest.find('/').ok_or("has no path")?);
    if !path.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&b)) {
        return Err("has a path with characters that a URL cannot hold");
    }
    if authority.contains('@') {
        return Err("holds a user name, and secrets have no place here");
    }
    match authority.rsplit_once(':').filter(|_| !authority.ends_with(']')) {
        Some((host, port)) => port_number(port).and_then(|()| host_name(host)),
        None => host_name(authority),
    }
}
