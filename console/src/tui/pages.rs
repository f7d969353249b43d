//! What each page says, as rows of text: pure, of any width. The full screen draws them, the plain dialog prints them.

use super::facts::{Facts, Link};
use crate::escape;
use crate::shown;
use crate::status::screen;
use crate::time;
use raven_model::alert::Severity;
use raven_model::report::{DestinationStatus, Status, VpnTunnel};
use raven_model::units::ByteCount;

/// What a row is, for terminals with colours; its words say it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// A heading.
    Head,
    /// All is well.
    Good,
    /// Worth a look.
    Warn,
    /// To be acted on.
    Fail,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// No control character is in it.
    pub text: String,
    /// What it is.
    pub tone: Tone,
}

impl Row {
    /// A row.
    pub fn of(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }

    fn plain(text: impl Into<String>) -> Self {
        Self::of(Tone::Plain, text)
    }

    fn gap() -> Self {
        Self::plain("")
    }
}

/// The pages behind the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    /// What is wrong and why.
    Status,
    /// Interfaces.
    Network,
    /// What is received.
    Inputs,
    /// What is kept.
    Ring,
    /// Where it goes.
    Uplink,
    /// The machine.
    System,
    /// What alerts told.
    Log,
    /// Tests of the network.
    Test,
}

impl Tab {
    /// All of them; the first has number 1.
    pub const ALL: [Self; 8] =
        [Self::Status, Self::Network, Self::Inputs, Self::Ring, Self::Uplink, Self::System, Self::Log, Self::Test];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "Status",
            Self::Network => "Network",
            Self::Inputs => "Inputs",
            Self::Ring => "Ring",
            Self::Uplink => "Uplink",
            Self::System => "System",
            Self::Log => "Log",
            Self::Test => "Test",
        }
    }

    /// What stands on it; of the page of tests the console knows that.
    pub fn rows(self, facts: &Facts) -> Vec<Row> {
        match (self, &facts.status) {
            (Self::Status, _) => status(facts),
            (Self::Network, _) => network(facts),
            (Self::System, _) => system(facts),
            (Self::Log, _) => log(facts),
            (Self::Test, _) => Vec::new(),
            (_, Err(why)) => away(why),
            (Self::Inputs, Ok(status)) => inputs(status),
            (Self::Ring, Ok(status)) => ring(status),
            (Self::Uplink, Ok(status)) => uplink(status),
        }
    }
}

/// How the box is, in a word, and why.
pub fn health(facts: &Facts) -> (Tone, Vec<String>) {
    let status = match &facts.status {
        Err(why) => return (Tone::Fail, why.lines().map(escape::text).collect()),
        Ok(status) => status,
    };
    let firing = status.firing.iter().map(shown::alert::firing);
    let alerts = screen::given_up(status).into_iter().chain(status.alerts.iter().cloned());
    let alerts = alerts.map(|alert| escape::text(&alert));
    let is_lost = facts.links.iter().all(|link| link.addresses.is_empty() && link.cause.is_some());
    let unreachable = is_lost.then(|| "no interface has an address: the box cannot be reached".to_owned());
    let why: Vec<String> = firing.chain(unreachable).chain(alerts).collect();
    let is_critical = status.firing.iter().any(|firing| firing.severity == Severity::Critical);
    let tone = match why.len() {
        _ if is_critical => Tone::Fail,
        0 => Tone::Good,
        _ => Tone::Warn,
    };
    (tone, why)
}

/// A tone as a word.
pub const fn word(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "OK",
        Tone::Warn => "WARN",
        Tone::Fail => "FAIL",
        Tone::Plain | Tone::Head => "",
    }
}

/// What everybody who stands at the box may see.
pub fn front(facts: &Facts) -> Vec<Row> {
    let mut rows = vec![
        Row::plain(format!("Name      {}", escape::text(facts.name()))),
        Row::plain(format!("Version   {}", version(facts))),
    ];
    rows.extend(facts.links.iter().flat_map(link_short));
    match &facts.status {
        Ok(status) => {
            rows.push(Row::plain(format!("Uplink    {}", uplink_short(status))));
            rows.push(Row::plain(format!("Ring      {}", ring_short(status))));
        }
        Err(_) => rows.push(Row::of(Tone::Fail, "Raven     does not answer")),
    }
    rows.extend(stick(facts).map(|said| Row::plain(format!("USB stick {said}"))));
    rows.push(Row::gap());
    rows.extend(wrong(facts));
    rows
}

/// What came of a USB stick with a configuration.
fn stick(facts: &Facts) -> Option<String> {
    facts.status.as_ref().ok()?.stick.as_ref().map(|stick| escape::text(&stick.said))
}

fn version(facts: &Facts) -> String {
    let running = facts.status.as_ref().map_or(env!("CARGO_PKG_VERSION"), |status| status.version.as_str());
    let slot = facts.host.slot.as_ref().map_or_else(String::new, |slot| format!(", slot {slot}"));
    format!("{}{slot}, up {}", escape::text(running), time::span(facts.host.uptime_s))
}

/// What is wrong, and why.
fn wrong(facts: &Facts) -> Vec<Row> {
    let (tone, why) = health(facts);
    if why.is_empty() {
        return vec![Row::of(tone, "OK: nothing is wrong")];
    }
    let head = Row::of(tone, format!("{}: what is wrong, and why", word(tone)));
    std::iter::once(head).chain(why.into_iter().map(|why| Row::plain(format!("  ! {why}")))).collect()
}

fn link_short(link: &Link) -> Vec<Row> {
    let speed = link.speed_mbps.map_or_else(String::new, |mbps| format!(" {mbps} Mbit/s"));
    let head = format!("{:<9} {}{speed}, MAC {}", escape::text(&link.name), escape::text(&link.state), link.mac);
    let tone = if link.cause.is_some() { Tone::Warn } else { Tone::Plain };
    let cause = link.cause.as_ref().map(|cause| Row::plain(format!("          {}", escape::text(cause))));
    let addresses = link.addresses.iter().filter(|address| !address.starts_with("fe80:"));
    let addresses: Vec<&str> = addresses.map(String::as_str).collect();
    let own = (!addresses.is_empty()).then(|| Row::plain(format!("          {}", addresses.join("  "))));
    std::iter::once(Row::of(tone, head)).chain(cause).chain(own).collect()
}

fn uplink_short(status: &Status) -> String {
    let mut names: Vec<&str> = status.destinations.iter().map(|it| it.name.as_str()).collect();
    names.dedup();
    if names.is_empty() {
        return "none: records are kept here".to_owned();
    }
    let short = |name: &str| {
        let of: Vec<&DestinationStatus> = status.destinations.iter().filter(|it| it.name == name).collect();
        let behind: u64 = of.iter().map(|it| it.lag).sum();
        let well = |it: &&DestinationStatus| ["idle", "sending"].contains(&it.state.as_str());
        let state = of.iter().find(|it| !well(it)).or(of.first()).map_or("", |it| it.state.as_str());
        format!("{} {}, {} behind", escape::text(name), escape::text(state), screen::count(behind))
    };
    names.into_iter().map(short).collect::<Vec<_>>().join("; ")
}

fn ring_short(status: &Status) -> String {
    let Some(ring) = &status.ring else { return "not known yet".to_owned() };
    let day = ring.forecast.iter().find(|forecast| forecast.window == "day").and_then(|day| day.holds_s);
    let holds = day.map_or_else(String::new, |holds| format!(", holds {}", time::span(holds)));
    format!("{:.0} % of {} filled{holds}", ring.fill, screen::size(ring.quota))
}

fn away(why: &str) -> Vec<Row> {
    let head = Row::of(Tone::Fail, "FAIL: Raven does not answer");
    std::iter::once(head).chain(why.lines().map(|line| Row::plain(format!("  {}", escape::text(line))))).collect()
}

/// Lines of a table or block whose first is its heading.
fn block(lines: Vec<String>) -> impl Iterator<Item = Row> {
    let tone = |at| if at == 0 { Tone::Head } else { Tone::Plain };
    let rows: Vec<Row> = lines.into_iter().enumerate().map(|(at, line)| Row::of(tone(at), line)).collect();
    rows.into_iter().chain([Row::gap()])
}

fn status(facts: &Facts) -> Vec<Row> {
    let mut rows = wrong(facts);
    rows.push(Row::gap());
    if let Ok(status) = &facts.status {
        rows.extend(block(screen::processes(status)));
        let missing =
            status.jail_missing.iter().map(|what| Row::plain(format!("jail: {} is missing", escape::text(what))));
        rows.extend(missing);
    }
    rows
}

fn network(facts: &Facts) -> Vec<Row> {
    if facts.links.is_empty() {
        return vec![Row::of(Tone::Fail, "FAIL: there is no network interface")];
    }
    let tunnels = facts.status.as_ref().map_or(&[][..], |status| &status.vpn);
    let ways = facts.status.as_ref().map(ways).unwrap_or_default();
    facts.links.iter().flat_map(link_long).chain(tunnels.iter().flat_map(tunnel)).chain(ways).collect()
}

/// What is odd about the ways that are kept for tunnels; all of them are in `raven net`.
fn ways(status: &Status) -> Vec<Row> {
    let trouble = Some(&status.ways.trouble).filter(|trouble| !trouble.is_empty());
    let trouble = trouble.map(|trouble| Row::of(Tone::Fail, format!("routes: {}", escape::text(trouble))));
    let overlaps = status.ways.overlaps.iter();
    let overlaps = overlaps.map(|overlap| Row::of(Tone::Warn, format!("overlap: {}", escape::text(overlap))));
    trouble.into_iter().chain(overlaps).collect()
}

fn tunnel(tunnel: &VpnTunnel) -> Vec<Row> {
    let is_well = ["up", "off"].contains(&tunnel.state.as_str());
    let carries = if tunnel.carries { ", carries" } else { "" };
    let head = format!("tunnel {}  {}{carries}", tunnel.name, escape::text(&tunnel.state));
    let mut rows = vec![Row::of(if is_well { Tone::Head } else { Tone::Warn }, head)];
    let mut say = |what: &str, value: String| {
        if !value.is_empty() {
            rows.push(Row::plain(format!("  {what:<10} {}", escape::text(&value))));
        }
    };
    say("why", tunnel.cause.clone());
    say("address", tunnel.addresses.join("  "));
    say("server", tunnel.server.map(|server| server.to_string()).unwrap_or_default());
    let pings = tunnel.rtt_ms.map(|ms| format!("{ms:.1} ms, {} % loss", tunnel.loss.unwrap_or(0)));
    say("pings", pings.unwrap_or_default());
    for refused in &tunnel.refused {
        say("not taken", refused.clone());
    }
    rows.push(Row::gap());
    rows
}

fn link_long(link: &Link) -> Vec<Row> {
    let is_well = link.cause.is_none();
    let head = format!("{}  {}", escape::text(&link.name), escape::text(&link.state));
    let mut rows = vec![Row::of(if is_well { Tone::Head } else { Tone::Warn }, head)];
    let mut say = |what: &str, value: String| {
        if !value.is_empty() {
            rows.push(Row::plain(format!("  {what:<10} {}", escape::text(&value))));
        }
    };
    let cable = match link.carrier {
        Some(true) => link.speed_mbps.map_or_else(|| "yes".to_owned(), |mbps| format!("{mbps} Mbit/s")),
        Some(false) => "none".to_owned(),
        None => "not looked at: the interface is down".to_owned(),
    };
    say("why", link.cause.clone().unwrap_or_default());
    say("link", cable);
    say("neighbour", link.neighbour.words().unwrap_or_default());
    say("MAC", link.mac.clone());
    for address in &link.addresses {
        say("address", address.clone());
    }
    say("gateway", link.gateways.join("  "));
    say("DNS", link.dns.join("  "));
    rows.push(Row::gap());
    rows
}

fn inputs(status: &Status) -> Vec<Row> {
    let unread = status.alerts.iter().filter(|alert| alert.contains("inbox"));
    let rows = block(screen::listeners(status));
    rows.chain(unread.map(|alert| Row::of(Tone::Warn, escape::text(alert))))
        .chain([Row::plain(screen::kernel(status))])
        .collect()
}

fn ring(status: &Status) -> Vec<Row> {
    let line = screen::ring(status).unwrap_or_else(|| "RING       not known yet".to_owned());
    block(vec![line]).chain(block(screen::streams(status))).chain(block(screen::forecasts(status))).collect()
}

fn uplink(status: &Status) -> Vec<Row> {
    let mut rows: Vec<Row> = block(screen::destinations(status)).collect();
    for it in &status.destinations {
        let name = format!("{} ({} {}), {}", it.name, it.kind, it.to, it.stream);
        rows.push(Row::plain(format!(
            "{}: {} acknowledged, {} sent again, {} missed, {} refused",
            escape::text(&name),
            screen::count(it.acknowledged),
            screen::count(it.resent),
            screen::count(it.missed),
            screen::count(it.dead.lettered)
        )));
    }
    rows
}

fn system(facts: &Facts) -> Vec<Row> {
    let host = &facts.host;
    let memory = |bytes: u64| ByteCount(bytes & !0xf_ffff).to_string();
    let mut pairs = vec![
        ("Name", facts.name().to_owned()),
        ("Host name", host.name.clone()),
        ("Version", version(facts)),
        ("Machine", host.product.clone().unwrap_or_else(|| "not known".to_owned())),
        ("Kernel", host.kernel.clone()),
        ("Time zone", host.timezone.clone()),
        ("Memory", format!("{} of {} free for programs", memory(host.memory_available), memory(host.memory))),
        ("Load", host.load.clone()),
    ];
    if let Ok(status) = &facts.status {
        pairs.push(("Time", time::format(status.now_ns, 0)));
        pairs.push(("Raven", format!("up {}", time::span(status.uptime_s))));
    }
    if let Ok(status) = &facts.status {
        pairs.extend(status.started_by.map(|by| ("Started by", by.name().to_owned())));
        pairs.extend(status.disks.iter().map(|disk| ("Disk", disk.line())));
    }
    if let Some(said) = stick(facts) {
        pairs.push(("USB stick", said));
    }
    pairs.into_iter().map(|(what, value)| Row::plain(format!("{what:<10} {}", escape::text(&value)))).collect()
}

fn log(facts: &Facts) -> Vec<Row> {
    match &facts.log {
        Err(why) => away(why),
        Ok(lines) if lines.is_empty() => vec![Row::plain("no alert was ever told")],
        Ok(lines) => lines.iter().map(|line| Row::plain(line.clone())).collect(),
    }
}

/// How far the lines of a row behind its first are set in.
pub const INSET: usize = 4;

/// A row in lines of so many columns, at spaces where there are some; what follows is set in.
pub fn wrap(text: &str, width: usize, inset: usize) -> Vec<String> {
    let width = width.max(2 * INSET);
    let (mut lines, mut rest): (Vec<String>, Vec<char>) = (Vec::new(), text.chars().collect());
    loop {
        let (room, margin) = if lines.is_empty() { (width, 0) } else { (width - inset, inset) };
        let columns = |chars: &[char]| ratatui::text::Span::raw(chars.iter().collect::<String>()).width();
        let mut cut = rest.len().min(room);
        while columns(&rest[..cut]) > room {
            cut -= 1;
        }
        if cut < rest.len() {
            cut = rest[..cut].iter().rposition(|c| *c == ' ').filter(|at| *at > cut / 2).unwrap_or(cut);
        }
        let tail = rest.split_off(cut);
        lines.push(format!("{}{}", " ".repeat(margin), rest.iter().collect::<String>().trim_end()));
        rest = tail.into_iter().skip_while(|c| *c == ' ').collect();
        if rest.is_empty() {
            return lines;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_odd_about_ways_stands_on_the_page_of_the_network() {
        let mut status = Status::default();
        assert_eq!(ways(&status), []);
        status.ways.trouble = "rule 7700: no\u{1b}".into();
        status.ways.overlaps = vec!["10.20.0.0/16: eth0 is in 10.20.3.0/24, which is reached over it".into()];
        let texts: Vec<String> = ways(&status).into_iter().map(|row| row.text).collect();
        assert_eq!(
            texts,
            ["routes: rule 7700: no\\x1b", "overlap: 10.20.0.0/16: eth0 is in 10.20.3.0/24, which is reached over it"]
        );
    }

    #[test]
    fn long_rows_are_wrapped_at_spaces_and_nothing_is_lost() {
        assert_eq!(wrap("one two three four", 10, INSET), ["one two", "    three", "    four"]);
        assert_eq!(wrap("", 10, 0), [""]);
        assert_eq!(wrap(&"x".repeat(14), 10, INSET), ["x".repeat(10), format!("    {}", "x".repeat(4))]);
    }

    proptest! {
        #[test]
        fn every_letter_is_on_a_line_that_fits(text in "[a-zü漢 ]{0,80}", width in 8_usize..40) {
            let lines = wrap(&text, width, INSET);
            prop_assert!(lines.iter().all(|line| ratatui::text::Span::raw(line.as_str()).width() <= width));
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}
