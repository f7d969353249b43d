//! `raven audit report`: the appliance's own account. Every record that came in is stored or was dropped for a reason;
//! what was stored is held, or was evicted, or is damaged; and each destination has it, or will get it, or is known not
//! to get it. The numbers of a line come from different places, so that a mistake in one of them shows.

use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM};
use crate::output::Output;
use crate::status;
use crate::time;
use clap::Args;
use raven_model::query::{LossView, Query, RecordView, Select};
use raven_model::report::{DestinationStatus, Gap, Status, StreamStatus};
use raven_model::units::{Seq, UnixNanos};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// An account that does not add up is taken again so often, after so long.
const AGAIN: u32 = 2;
const MOMENT: Duration = Duration::from_millis(1200);

/// `raven audit report`.
#[derive(Debug, Clone, Args)]
#[command(after_help = crate::cli::TIMES)]
pub struct ReportArgs {
    /// Losses since then, one by one; the sums are always those since the ring was made
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Also writes the report, signed with the device key, to FILE: see `raven audit verify`
    #[arg(long, value_name = "FILE")]
    pub sign: Option<PathBuf>,
}

/// The whole account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// The identity holds everywhere.
    pub ok: bool,
    /// `site.name`.
    pub device: String,
    /// Version of `ravend`.
    pub version: String,
    /// When this was taken.
    pub now_ns: UnixNanos,
    /// Each stream of the ring.
    pub streams: Vec<StreamAccount>,
    /// Each destination and stream.
    pub destinations: Vec<DestinationAccount>,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamAccount {
    /// Stream.
    pub name: String,
    /// What came in since the ring was made: handed over by the collector, and dropped before that.
    pub received: u64,
    /// Records that were given a number.
    pub stored: u64,
    /// Of these, records that another box received.
    #[serde(default)]
    pub imported: u64,
    /// What came in and was not stored, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Records held.
    pub held: u64,
    /// Records removed for room or age.
    pub evicted: u64,
    /// Of these, records that some destination had not acknowledged.
    pub evicted_unforwarded: u64,
    /// Records lost to damage.
    pub damaged: u64,
    /// Oldest record held.
    pub first_seq: Seq,
    /// One after the newest.
    pub next_seq: Seq,
    /// Receive time of the oldest.
    pub oldest_ns: Option<UnixNanos>,
    /// By listener: what is stored of it, and what its socket dropped.
    pub sources: BTreeMap<String, SourceAccount>,
    /// Its identity holds.
    pub ok: bool,
    /// What does not add up, in words.
    pub problems: Vec<String>,
    /// Records that are not there and that no loss explains.
    pub gaps: Vec<GapAccount>,
    /// Losses that are explained: those of the ledger that are kept one by one.
    pub losses: Vec<LossView>,
}

/// What came by one listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceAccount {
    /// Records stored.
    pub stored: u64,
    /// Dropped at its socket, or refused, by reason.
    pub dropped: BTreeMap<String, u64>,
}

/// Records that are missing without a reason. The times are those of its neighbours.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GapAccount {
    /// First of them.
    pub first: Seq,
    /// Last of them.
    pub last: Seq,
    /// How many.
    pub records: u64,
    /// Receive time of the record before.
    pub after_ns: Option<UnixNanos>,
    /// Receive time of the record behind.
    pub before_ns: Option<UnixNanos>,
}

/// One destination and stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DestinationAccount {
    /// Destination.
    pub name: String,
    /// Stream.
    pub stream: String,
    /// What its acknowledgement means.
    pub ack_class: String,
    /// Everything up to here is settled: acknowledged, or known not to come.
    pub low: Seq,
    /// Settled records above it.
    pub above: u64,
    /// Records that it acknowledged.
    pub acknowledged: u64,
    /// Records that it refused, kept as dead letters.
    pub dead_lettered: u64,
    /// Records that were gone before it was configured.
    pub before: u64,
    /// Records evicted or damaged before it had them.
    pub evicted_unforwarded: u64,
    /// Records stored and not settled: they are still to be sent.
    pub held: u64,
    /// The sums agree with what the stream has stored.
    pub ok: bool,
    /// What does not add up, in words.
    pub problems: Vec<String>,
    /// As of the stream: what is missing there cannot be delivered either.
    pub gaps: Vec<GapAccount>,
}

/// Runs it.
pub fn run(args: &ReportArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let since = args.since.as_deref().map(|text| time::parse(text, time::now())).transpose().map_err(Failure::Usage)?;
    let mut account = take(client, since, output)?;
    // A commit that is being repeated is half counted for a moment.
    for _ in 0..AGAIN {
        if account.ok {
            break;
        }
        std::thread::sleep(MOMENT);
        account = take(client, since, output)?;
    }
    if let Some(path) = &args.sign {
        super::signed::write(&account, client, path)?;
    }
    if output.json {
        output.value(&account)?;
    } else {
        lines(&account).iter().try_for_each(|line| output.line(line))?;
    }
    Ok(if account.ok { OK } else { PROBLEM })
}

/// Asks `ravend` for its sums and the `decode` role for what explains them.
pub fn take(client: &Client, since: Option<UnixNanos>, output: &mut Output) -> Result<Account, Failure> {
    let (status, listeners) = status::fetch_with_counts(client)?;
    if status.ring.is_none() {
        return Err(Failure::Protocol("the store has not reported yet: try again in a second".to_owned()));
    }
    let mut account = of(&status);
    for stream in &mut account.streams {
        let ours = |listener: &&raven_model::report::ListenerStatus| listener.stream == stream.name;
        for listener in status.listeners.iter().filter(ours) {
            let name = crate::reports::name(listener);
            let count = listeners.get(&name).cloned().unwrap_or_default();
            let mut dropped = count.dropped_ever;
            if count.refused > 0 {
                dropped.insert("refused_batch".to_owned(), count.refused);
            }
            stream.sources.insert(name, SourceAccount { stored: count.records, dropped });
        }
        stream.losses = losses(client, &stream.name, since, output)?;
        for gap in &mut stream.gaps {
            (gap.after_ns, gap.before_ns) = neighbours(client, &stream.name, gap, output)?;
        }
    }
    Ok(account)
}

fn losses(
    client: &Client,
    stream: &str,
    since: Option<UnixNanos>,
    output: &mut Output,
) -> Result<Vec<LossView>, Failure> {
    let mut answer = client.query(&Query::Losses { stream: stream.to_owned() })?;
    let mut losses = Vec::new();
    while let Some(line) = answer.next(output)? {
        let loss: LossView = serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?;
        // One whose time is not known may be of any time.
        if since.is_none_or(|since| loss.last_ns.is_none_or(|last| last >= since)) {
            losses.push(loss);
        }
    }
    Ok(losses)
}

/// Receive times of the records around a gap.
fn neighbours(
    client: &Client,
    stream: &str,
    gap: &GapAccount,
    output: &mut Output,
) -> Result<(Option<UnixNanos>, Option<UnixNanos>), Failure> {
    let from = Some(Seq(gap.first.0.saturating_sub(1).max(1)));
    let select = Select { stream: stream.to_owned(), from, ..Select::default() };
    let mut answer = client.query(&Query::Records(select))?;
    let mut before = None;
    while let Some(line) = answer.next(output)? {
        let record: RecordView = serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?;
        if record.seq > gap.last {
            return Ok((before, Some(record.received_ns)));
        }
        before = Some(record.received_ns);
    }
    Ok((before, None))
}

/// The account of a status, as far as it has the numbers.
pub fn of(status: &Status) -> Account {
    let streams: Vec<StreamAccount> = status.streams.iter().map(stream).collect();
    let destinations: Vec<DestinationAccount> = status
        .destinations
        .iter()
        .map(|destination| self::destination(destination, streams.iter().find(|s| s.name == destination.stream)))
        .collect();
    Account {
        ok: streams.iter().all(|stream| stream.ok) && destinations.iter().all(|destination| destination.ok),
        device: status.device.clone(),
        version: status.version.clone(),
        now_ns: status.now_ns,
        streams,
        destinations,
    }
}

fn stream(stream: &StreamStatus) -> StreamAccount {
    let mut dropped = stream.dropped_ever.clone();
    if stream.refused > 0 {
        dropped.insert("refused_batch".to_owned(), stream.refused);
    }
    let before_the_store: u64 = stream.dropped_ever.values().sum();
    let mut problems = Vec::new();
    let mut check = |what: &str, whole: u64, parts: u64| {
        if whole != parts {
            problems.push(format!("{what}: {whole} is not {parts}"));
        }
    };
    check("received = stored + dropped, by the collectors' and the store's counts", stream.received, {
        stream.counted + stream.refused
    });
    check("numbers given = records stored, by listener", stream.stored, stream.counted);
    check("stored = held + evicted + damaged", stream.stored, stream.held + stream.evicted + stream.damaged);
    problems.extend(
        stream
            .gaps
            .iter()
            .map(|gap| format!("records {} to {} are not held and the ledger does not say why", gap.first, gap.last)),
    );
    StreamAccount {
        name: stream.name.clone(),
        received: stream.received + before_the_store,
        stored: stream.stored,
        imported: stream.imported,
        dropped,
        held: stream.held,
        evicted: stream.evicted,
        evicted_unforwarded: stream.evicted_unforwarded,
        damaged: stream.damaged,
        first_seq: stream.first_seq,
        next_seq: stream.next_seq,
        oldest_ns: stream.oldest_ns,
        sources: BTreeMap::new(),
        ok: problems.is_empty(),
        problems,
        gaps: stream.gaps.iter().map(gap).collect(),
        losses: Vec::new(),
    }
}

fn gap(gap: &Gap) -> GapAccount {
    GapAccount {
        first: gap.first,
        last: gap.last,
        records: gap.last.0 - gap.first.0 + 1,
        after_ns: None,
        before_ns: None,
    }
}

fn destination(destination: &DestinationStatus, stream: Option<&StreamAccount>) -> DestinationAccount {
    let settled = destination.acked_seq.0 + destination.acked_above;
    let mut problems = Vec::new();
    let stored = stream.map_or(0, |stream| stream.stored);
    // The uplink's report and the store's are up to a second apart, and records go on coming: the uplink may be behind.
    if settled > stored {
        problems.push(format!("it has settled {settled} records, and only {stored} were stored"));
    }
    let DestinationStatus { acknowledged, missed, dead, .. } = destination;
    let known = acknowledged + missed + dead.lettered;
    if known > settled {
        problems.push(format!(
            "acknowledged {acknowledged}, missed {missed} and refused {}: more than the {settled} it has settled",
            dead.lettered
        ));
    }
    DestinationAccount {
        name: destination.name.clone(),
        stream: destination.stream.clone(),
        ack_class: destination.ack_class.clone(),
        low: destination.acked_seq,
        above: destination.acked_above,
        acknowledged: *acknowledged,
        dead_lettered: dead.lettered,
        before: settled.saturating_sub(known),
        evicted_unforwarded: *missed,
        held: stored.saturating_sub(settled),
        ok: problems.is_empty() && stream.is_none_or(|stream| stream.gaps.is_empty()),
        problems,
        gaps: stream.map_or_else(Vec::new, |stream| stream.gaps.clone()),
    }
}

fn lines(account: &Account) -> Vec<String> {
    let verdict = if account.ok { "every record is accounted for" } else { "NOT every record is accounted for" };
    let head = format!("{} at {}: {verdict}", escape::text(&account.device), time::format(account.now_ns, 0));
    let streams = account.streams.iter().flat_map(stream_lines);
    std::iter::once(head).chain(streams).chain(account.destinations.iter().flat_map(destination_lines)).collect()
}

fn stream_lines(stream: &StreamAccount) -> Vec<String> {
    let name = escape::text(&stream.name);
    let dropped: u64 = stream.dropped.values().sum();
    let reasons: Vec<String> =
        stream.dropped.iter().filter(|(_, n)| **n > 0).map(|(why, n)| format!("{n} {}", escape::text(why))).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    let mut lines = vec![
        format!("{name}: received {} = stored {} + dropped {dropped}{reasons}", stream.received, stream.stored),
        format!(
            "{name}: stored {} = held {} + evicted {} + damaged {}; evicted before every destination had it: {}",
            stream.stored, stream.held, stream.evicted, stream.damaged, stream.evicted_unforwarded
        ),
    ];
    if stream.imported > 0 {
        lines.push(format!("{name}: of them {} were received by another box and imported", stream.imported));
    }
    lines.extend(stream.losses.iter().filter(|loss| loss.why != "age").map(|loss| {
        let who: Vec<String> =
            loss.unforwarded.iter().map(|(name, n)| format!("{n} not at {}", escape::text(name))).collect();
        let who = if who.is_empty() { String::new() } else { format!(": {}", who.join(", ")) };
        let when = range(loss.first_ns, loss.last_ns);
        format!("  lost ({}) {} to {}{when}{who}", escape::text(&loss.why), loss.first, loss.last)
    }));
    lines.extend(stream.gaps.iter().map(|gap| {
        let when = range(gap.after_ns, gap.before_ns);
        format!("  GAP {} to {}, {} records{when}, without a reason in the ledger", gap.first, gap.last, gap.records)
    }));
    lines.extend(stream.problems.iter().map(|problem| format!("  WRONG {}", escape::text(problem))));
    lines
}

fn destination_lines(destination: &DestinationAccount) -> Vec<String> {
    let name = escape::text(&format!("{}/{}", destination.name, destination.stream));
    let sums = format!(
        "{name}: stored {} = acknowledged {} ({}) + to be sent {} + missed {} + dead letters {} + before it {}",
        destination.low.0 + destination.above + destination.held,
        destination.acknowledged,
        escape::text(&destination.ack_class),
        destination.held,
        destination.evicted_unforwarded,
        destination.dead_lettered,
        destination.before
    );
    let wrong = destination.problems.iter().map(|problem| format!("  WRONG {}", escape::text(problem)));
    std::iter::once(sums).chain(wrong).collect()
}

fn range(from: Option<UnixNanos>, to: Option<UnixNanos>) -> String {
    let shown = |at: Option<UnixNanos>| at.map_or_else(|| "?".to_owned(), |at| time::format(at, 0));
    if from.is_none() && to.is_none() { String::new() } else { format!(", {} to {}", shown(from), shown(to)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::report::DeadStatus;

    fn sound() -> StreamStatus {
        StreamStatus {
            name: "syslog".into(),
            received: 103,
            refused: 3,
            counted: 100,
            stored: 100,
            held: 60,
            evicted: 35,
            damaged: 5,
            first_seq: Seq(36),
            next_seq: Seq(101),
            dropped_ever: BTreeMap::from([("socket_buffer".to_owned(), 7)]),
            ..StreamStatus::default()
        }
    }

    fn status(stream: StreamStatus, acked: u64, missed: u64) -> Status {
        let noc = DestinationStatus {
            name: "noc".into(),
            stream: "syslog".into(),
            acked_seq: Seq(acked),
            acknowledged: acked.saturating_sub(missed + 7),
            missed,
            dead: DeadStatus { lettered: 5, held: 5, ..DeadStatus::default() },
            ..DestinationStatus::default()
        };
        Status { streams: vec![stream], destinations: vec![noc], ..Status::default() }
    }

    #[test]
    fn sums_that_agree_are_an_account() {
        let account = of(&status(sound(), 90, 10));
        let stream = &account.streams[0];
        assert!(account.ok, "{account:?}");
        assert_eq!((stream.received, stream.stored, stream.dropped["refused_batch"]), (110, 100, 3));
        assert_eq!(stream.received, stream.stored + stream.dropped.values().sum::<u64>());
        let noc = &account.destinations[0];
        assert_eq!((noc.acknowledged, noc.evicted_unforwarded, noc.dead_lettered), (73, 10, 5));
        assert_eq!((noc.before, noc.held), (2, 10));
        assert!(lines(&account)[0].ends_with("every record is accounted for"));
    }

    #[test]
    fn each_sum_that_does_not_agree_is_named() {
        for (spoil, says) in [
            ((|s: &mut StreamStatus| s.received += 1) as fn(&mut StreamStatus), "received = stored + dropped"),
            (|s| s.counted -= 1, "numbers given"),
            (|s| s.held -= 1, "stored = held + evicted + damaged"),
            (|s| s.evicted += 1, "stored = held + evicted + damaged"),
        ] {
            let mut stream = sound();
            spoil(&mut stream);
            let account = of(&status(stream, 90, 0));
            assert!(!account.ok && account.streams[0].problems.iter().any(|p| p.starts_with(says)), "{account:?}");
        }
    }

    #[test]
    fn a_gap_is_named_at_the_stream_and_at_its_destinations() {
        let mut stream = sound();
        stream.gaps = vec![Gap { first: Seq(50), last: Seq(54) }];
        let account = of(&status(stream, 90, 0));
        assert!(!account.ok && !account.destinations[0].ok);
        assert_eq!(account.streams[0].gaps[0].records, 5);
        assert!(lines(&account).iter().any(|line| line.contains("GAP 50 to 54, 5 records")), "{:?}", lines(&account));
    }

    #[test]
    fn a_destination_cannot_have_more_than_was_stored() {
        assert!(!of(&status(sound(), 101, 0)).ok);
        assert!(!of(&status(sound(), 90, 91)).ok);
    }
}
