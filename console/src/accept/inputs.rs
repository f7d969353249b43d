//! One synthetic event through each input, as a device would send it, looked for in the ring and at each destination. They are
//! records like all others: who reads them at the far end sees that a box was accepted.

use super::report::{Check, Verdict};
use crate::client::Client;
use crate::failure::Failure;
use crate::load::{self, GenCommand};
use crate::output::Output;
use crate::{status, time};
use clap::Parser;
use raven_model::config::{Config, Wanted};
use raven_model::control::Proto;
use raven_model::prefix::Prefix;
use raven_model::query::{Query, RecordView, Select};
use raven_model::report::Status;
use raven_model::stream::Stream;
use raven_model::units::{Seq, UnixNanos};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Until it is in the ring, and from then on until each destination has acknowledged it.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(15));
const EVERY: Duration = Duration::from_millis(250);
/// How far a clock may be behind for a record that was just sent.
const BEFORE_NS: u64 = 60_000_000_000;

/// The generators' own words.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Words {
    #[command(subcommand)]
    command: GenCommand,
}

/// One that was sent.
struct Sent {
    input: String,
    stream: Stream,
    seq: Seq,
}

/// Each input that is configured.
pub fn checks(facts: &crate::why::facts::Facts, client: &Client) -> Result<Vec<Check>, Failure> {
    let (mut checks, mut sent) = (Vec::new(), Vec::new());
    let run = format!("accept-{:x}", time::now().0 / 1_000_000);
    let since = UnixNanos(time::now().0.saturating_sub(BEFORE_NS));
    for (number, wanted) in facts.config.collect.wanted().iter().enumerate() {
        let input = format!("{} {} {}", wanted.stream, wanted.proto.name(), wanted.listen);
        let mark = format!("{run}-{number}");
        // The one before may have been of the same stream.
        let last = sent.iter().rfind(|sent: &&Sent| sent.stream == wanted.stream).map(|sent| Seq(sent.seq.0 + 1));
        let before = last.unwrap_or_else(|| next_seq(&facts.then, wanted.stream));
        match send(&facts.config, wanted, &mark) {
            Err(Unsent::Cannot(why)) => checks.push(Check::new("stored", &input, Verdict::Untested, why, "")),
            Err(Unsent::Failed(why)) => {
                let remedy = "see the rung listener; is the input's certificate or limit in the way?";
                checks.push(Check::new("stored", &input, Verdict::Fail, why, remedy));
            }
            Ok(()) => {
                let (check, seq) = stored(client, wanted, &mark, since, before, &input);
                sent.extend(seq.map(|seq| Sent { input, stream: wanted.stream, seq }));
                checks.push(check);
            }
        }
    }
    checks.extend(delivered(facts, client, &sent)?);
    Ok(checks)
}

/// Why an event was not sent.
enum Unsent {
    /// It cannot be tried from here.
    Cannot(String),
    /// It was tried.
    Failed(String),
}

fn send(config: &Config, wanted: &Wanted, mark: &str) -> Result<(), Unsent> {
    let cannot = |why: &str| Err(Unsent::Cannot(why.to_owned()));
    let collect = &config.collect;
    match (wanted.stream, wanted.proto) {
        (_, Proto::Https) => return cannot("not sent: HTTPS is tried by a forwarder that has its credentials"),
        (Stream::Syslog, Proto::Tls | Proto::Relp)
            if collect.syslog.client_ca.is_some() && wanted.proto == Proto::Tls =>
        {
            return cannot("not sent: senders must show a certificate, and this box has none of theirs");
        }
        (Stream::Winevent, _) if collect.winevent.credentials.is_some() => {
            return cannot("not sent: its credentials are secrets");
        }
        (Stream::Metrics, _) if collect.metrics.credentials.is_some() => {
            return cannot("not sent: its credentials are secrets");
        }
        _ => {}
    }
    let to = own(wanted.listen.0);
    if wanted.stream == Stream::Metrics {
        return push(to, mark).map_err(|error| Unsent::Failed(format!("cannot send to {to}: {error}")));
    }
    let proto = wanted.proto.name();
    let to = to.to_string();
    let community = collect.trap.communities.first().map_or("public", String::as_str);
    let common = ["--to", &to, "--count", "1", "--mark", mark, "--i-mean-it"];
    let kind: &[&str] = match (wanted.stream, wanted.listen.0.port()) {
        (Stream::Syslog, _) if wanted.proto == Proto::Tls => {
            &["syslog", "--proto", "tls", "--insecure", "--format", "5424"]
        }
        (Stream::Syslog, _) if wanted.proto == Proto::Relp => {
            &["syslog", "--proto", "relp", "--patience", "5s", "--format", "5424"]
        }
        (Stream::Syslog, _) => &["syslog", "--proto", proto, "--format", "5424"],
        (Stream::Flow, 6343) => &["sflow"],
        (Stream::Flow, 4739) => &["ipfix", "--proto", proto],
        (Stream::Flow, _) if wanted.proto == Proto::Tcp => &["ipfix", "--proto", "tcp"],
        (Stream::Flow, _) => &["netflow"],
        (Stream::Trap, _) => &["trap", "--community", community],
        (Stream::Winevent, _) => &["winevent", "--patience", "5s"],
        _ => return cannot("not sent: nobody sends to it from outside"),
    };
    let words = Words::try_parse_from(kind.iter().chain(&common)).map_err(|error| Unsent::Failed(error.to_string()))?;
    let sent = load::run(&words.command, &mut Output::nowhere());
    sent.map(drop).map_err(|failure| Unsent::Failed(failure.to_string()))
}

/// As Loki's clients push a line: what goes into the stream `metrics` as it came.
fn push(to: SocketAddr, mark: &str) -> std::io::Result<()> {
    let body = format!(
        r#"{{"streams":[{{"stream":{{"job":"raven-accept"}},"values":[["{}","acceptance test {mark}"]]}}]}}"#,
        time::now().0
    );
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE.0)?;
    stream.set_read_timeout(Some(PATIENCE.0))?;
    let head = format!(
        "POST /loki/api/v1/push HTTP/1.1\r\nHost: {to}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())?;
    let mut answer = [0; 64];
    let len = stream.read(&mut answer)?;
    let status = String::from_utf8_lossy(&answer[..len]);
    match status.split_whitespace().nth(1) {
        Some(code) if code.starts_with('2') => Ok(()),
        _ => Err(std::io::Error::other(format!("answered {}", status.lines().next().unwrap_or("nothing")))),
    }
}

/// This box's own address of a listener. `[::]` takes IPv4 too; a machine without IPv6 has only that.
fn own(listen: SocketAddr) -> SocketAddr {
    let ip = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    SocketAddr::new(ip, listen.port())
}

fn next_seq(status: &Status, stream: Stream) -> Seq {
    status.streams.iter().find(|known| known.name == stream.name()).map_or(Seq(0), |known| known.next_seq)
}

fn stored(
    client: &Client,
    wanted: &Wanted,
    mark: &str,
    since: UnixNanos,
    before: Seq,
    input: &str,
) -> (Check, Option<Seq>) {
    // Marks of flows are in addresses; from this box nobody else sends any.
    let grep = if wanted.stream == Stream::Flow { Vec::new() } else { vec![mark.to_owned()] };
    let source = Some(Prefix::from(own(wanted.listen.0).ip()));
    let select = Select {
        stream: wanted.stream.name().to_owned(),
        since: Some(since),
        from: Some(before),
        grep,
        source,
        last: Some(1),
        ..Select::default()
    };
    let began = Instant::now();
    while began.elapsed() < PATIENCE.0 {
        match newest(client, &select) {
            Ok(Some(record)) if record.refused => {
                let remedy = "the input takes it from senders that are allowed alone: `raven inbox` says why";
                return (Check::new("stored", input, Verdict::Look, "stored as refused", remedy), Some(record.seq));
            }
            Ok(Some(record)) => {
                let evidence = format!("record {} after {:.1} s", record.seq.0, began.elapsed().as_secs_f64());
                return (Check::new("stored", input, Verdict::Pass, evidence, ""), Some(record.seq));
            }
            Ok(None) => std::thread::sleep(EVERY),
            Err(why) => {
                return (Check::new("stored", input, Verdict::Fail, why.to_string(), "see the rung stored"), None);
            }
        }
    }
    let evidence = format!("not in the ring after {} s", PATIENCE.0.as_secs());
    (
        Check::new(
            "stored",
            input,
            Verdict::Fail,
            evidence,
            "see the rungs listener, receive and stored, and `raven inbox`",
        ),
        None,
    )
}

fn newest(client: &Client, select: &Select) -> Result<Option<RecordView>, Failure> {
    let mut answer = client.query(&Query::Records(select.clone()))?;
    let mut found = None;
    while let Some(line) = answer.next(&mut Output::nowhere())? {
        found = Some(serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?);
    }
    Ok(found)
}

/// Each destination and stream that an event went into: whether it was acknowledged there.
fn delivered(facts: &crate::why::facts::Facts, client: &Client, sent: &[Sent]) -> Result<Vec<Check>, Failure> {
    let began = Instant::now();
    let wanted: Vec<(&String, &Sent)> = facts
        .config
        .uplink
        .iter()
        .flat_map(|(name, to)| {
            sent.iter()
                .filter(|sent| to.streams.iter().any(|stream| stream == sent.stream.name()))
                .map(move |sent| (name, sent))
        })
        .collect();
    let mut open: Vec<usize> = (0..wanted.len()).collect();
    let mut took = vec![None; wanted.len()];
    while !open.is_empty() && began.elapsed() < PATIENCE.1 {
        let now = status::fetch(client)?;
        open.retain(|at| {
            let (name, sent) = wanted[*at];
            let is_there = is_acknowledged(&facts.then, &now, name, sent);
            if is_there {
                took[*at] = Some(began.elapsed());
            }
            !is_there
        });
        if !open.is_empty() {
            std::thread::sleep(EVERY);
        }
    }
    let check = |((name, sent), took): (&(&String, &Sent), &Option<Duration>)| {
        let subject = format!("{} to {name}", sent.input);
        match took {
            Some(_) => {
                let class = facts.config.uplink.get(*name).map_or("", |to| to.ack_class());
                let said = if class == "none" {
                    "sent; nothing acknowledges it there".to_owned()
                } else {
                    format!("acknowledged ({class})")
                };
                Check::new("delivered", &subject, Verdict::Pass, said, "")
            }
            None => Check::new(
                "delivered",
                &subject,
                Verdict::Fail,
                format!("not acknowledged after {} s", PATIENCE.1.as_secs()),
                "see the rungs of this destination",
            ),
        }
    };
    Ok(wanted.iter().zip(&took).map(check).collect())
}

/// Everything up to it is; or, where an outage left something behind, the live lane has more than before and nothing waits.
fn is_acknowledged(then: &Status, now: &Status, name: &str, sent: &Sent) -> bool {
    let of = |status: &Status| {
        status.destinations.iter().find(|one| one.name == name && one.stream == sent.stream.name()).cloned()
    };
    let Some(now) = of(now) else { return false };
    let before = of(then).map_or(0, |before| before.acknowledged);
    now.acked_seq.0 >= sent.seq.0 || (now.backfill.records > 0 && now.acknowledged > before && now.live_lag == 0)
}
