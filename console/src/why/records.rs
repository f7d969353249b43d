//! What senders send, up to where it is kept: listeners, what is lost before the ring, the ring, what is not understood, who is
//! silent.

use super::facts::{Facts, Sender};
use super::ladder::Rung;
use crate::health::checks;
use crate::status::screen::count;
use crate::time;
use raven_model::report::{InboxItem, SilentSource};
use raven_model::stream::Stream;
use std::collections::BTreeMap;

/// Senders and reasons that are named.
const NAMED: usize = 6;

/// In the order in which a record meets them.
pub fn rungs(facts: &Facts) -> Vec<Rung> {
    if let Some(sender) = &facts.sender {
        let mut rungs = vec![listeners(facts), receive(facts)];
        rungs.extend(wires(facts));
        rungs.push(of_sender(facts, sender));
        return rungs;
    }
    let mut rungs = vec![listeners(facts), receive(facts)];
    rungs.extend(wires(facts));
    rungs.extend(stored(facts));
    rungs.extend(decoded(facts));
    rungs.extend(senders(facts));
    rungs
}

fn listeners(facts: &Facts) -> Rung {
    match checks::listeners(&facts.config.collect.wanted(), &facts.then.listeners) {
        Ok(evidence) => Rung::ok("listener", evidence),
        Err(evidence) => {
            let remedy = "another program has the port, or ravend may not bind it: look at its log, and `ss -lunp`";
            Rung::broken("listener", evidence, remedy)
        }
    }
}

/// By reason, of all that is told with a name before it.
type Counts = BTreeMap<String, u64>;

/// What was lost before the ring, by place and reason.
fn lost(status: &raven_model::report::Status) -> Counts {
    let mut lost = Counts::new();
    for listener in &status.listeners {
        for (reason, count) in &listener.dropped {
            *lost
                .entry(format!("{} {} at {}:{}", listener.stream, reason, listener.proto, listener.addr))
                .or_default() += count;
        }
    }
    for stream in &status.streams {
        for (reason, count) in &stream.dropped {
            *lost.entry(format!("{} {reason} in the collector", stream.name)).or_default() += count;
        }
    }
    lost
}

fn receive(facts: &Facts) -> Rung {
    let (before, now) = (lost(&facts.first), lost(&facts.then));
    let grown: Vec<String> = now
        .iter()
        .filter_map(|(what, count)| {
            let more = count.saturating_sub(before.get(what).copied().unwrap_or(0));
            (more > 0).then(|| format!("{}: {more} more while this was looked at", what.replace('_', " ")))
        })
        .collect();
    let kernel = |status: &raven_model::report::Status| status.kernel.rcvbuf_errors + status.kernel.mem_errors;
    let in_kernel = kernel(&facts.then).saturating_sub(kernel(&facts.first));
    let told = (in_kernel > 0).then(|| format!("the kernel of this machine dropped {in_kernel} datagrams meanwhile"));
    if let Some((first, rest)) = grown.split_first() {
        return Rung::broken("receive", first.clone(), lost_remedy(first))
            .and(rest.iter().take(NAMED).cloned())
            .and(told);
    }
    let ever: Vec<String> = now
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(what, n)| format!("{}: {}", what.replace('_', " "), count(*n)))
        .collect();
    match ever.split_first() {
        None => Rung::ok("receive", "nothing was lost before it was stored"),
        Some((first, rest)) => {
            let evidence = format!("nothing is lost now; earlier: {first}");
            Rung::warning("receive", evidence, lost_remedy(first)).and(rest.iter().take(NAMED).cloned())
        }
    }
}

fn lost_remedy(what: &str) -> &'static str {
    if what.contains("socket buffer") {
        "more came at once than the socket holds: raise its `receive_buffer`, or find who sends so much (`raven sources`)"
    } else if what.contains("storm") {
        "one sender sends faster than `collect.STREAM.storm` allows: find out why, or raise it"
    } else if what.contains("not allowed") {
        "senders that `allow` does not name: add them, or have them stop"
    } else {
        "`raven inbox` shows examples and what to do"
    }
}

/// What arrives and nobody gets.
fn wires(facts: &Facts) -> Vec<Rung> {
    facts
        .tests
        .wires
        .iter()
        .map(|report| {
            let link = &report.wire.interface;
            let found: Vec<_> = report.findings.iter().filter(|finding| finding.kind != "not_counted").collect();
            let Some((first, rest)) = found.split_first() else {
                let sent: u64 = report.senders.iter().map(|sender| sender.wire).sum();
                let evidence = format!("{sent} datagrams for the listeners in two seconds, all received");
                return Rung::ok("wire", evidence).of(link);
            };
            let rest = rest.iter().take(NAMED).map(|finding| finding.text.clone());
            Rung::broken("wire", first.text.clone(), wire_remedy(&first.kind)).of(link).and(rest)
        })
        .collect()
}

fn wire_remedy(kind: &str) -> &'static str {
    match kind {
        "nobody_listens" => {
            "have it send to a port where somebody listens (`raven status`), or let `collect` listen there too"
        }
        "other_address" => "have it send to an address of this box (`raven net`)",
        _ => {
            "it arrives, and does not come to the listener: this box's firewall drops it (`raven net firewall`, `nft list ruleset`)"
        }
    }
}

fn stored(facts: &Facts) -> Vec<Rung> {
    let errors: Vec<&raven_model::report::StreamStatus> =
        facts.then.streams.iter().filter(|stream| stream.error.is_some()).collect();
    if let Some(first) = errors.first() {
        let told =
            errors.iter().skip(1).filter_map(|stream| Some(format!("{}: {}", stream.name, stream.error.as_ref()?)));
        let remedy = "make room or look at the disk (`raven status`, `raven ring status`); what comes meanwhile waits in memory, and is lost when that is full";
        return vec![Rung::broken("stored", first.error.clone().unwrap_or_default(), remedy).of(&first.name).and(told)];
    }
    if facts.then.ring.is_none() {
        return vec![Rung::broken("stored", "the store has not reported", "see the rung processes")];
    }
    let missed: u64 = facts.then.streams.iter().map(|stream| stream.evicted_unforwarded).sum();
    let before: u64 = facts.first.streams.iter().map(|stream| stream.evicted_unforwarded).sum();
    if missed > before {
        let remedy =
            "the ring is full and a destination is behind: bring it back, or give the ring more disk (`buffer.disk`)";
        return vec![Rung::broken(
            "stored",
            format!("{} records went that no destination had", count(missed - before)),
            remedy,
        )];
    }
    let stored: u64 = facts.then.streams.iter().map(|stream| stream.stored).sum();
    let damaged: u64 = facts.then.streams.iter().map(|stream| stream.damaged).sum();
    if damaged > 0 {
        let remedy =
            "the disk gave back other bytes than were written: `raven ring verify`, and look at the disk's health";
        return vec![Rung::warning("stored", format!("{} records are damaged on disk", count(damaged)), remedy)];
    }
    vec![Rung::ok("stored", format!("{} records since the ring was made", count(stored)))]
}

fn decoded(facts: &Facts) -> Vec<Rung> {
    let mut items: Vec<&InboxItem> = facts.reports.collectors.values().flat_map(|report| report.inbox.iter()).collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.last_seen_ns));
    let words = |item: &&InboxItem| {
        format!(
            "{} of {} at {}: {} ({})",
            item.stream,
            item.source,
            item.listener,
            item.reason.replace('_', " "),
            count(item.count)
        )
    };
    match items.split_first() {
        None => vec![Rung::ok("decoded", "all of it is understood, as far as the collectors look")],
        Some((first, rest)) => {
            let remedy = if first.remedy.is_empty() { "see `raven inbox`" } else { first.remedy.as_str() };
            vec![Rung::warning("decoded", words(first), remedy).and(rest.iter().take(NAMED).map(words))]
        }
    }
}

fn senders(facts: &Facts) -> Vec<Rung> {
    let Some(silence) = &facts.silence else { return Vec::new() };
    let words = |silent: &SilentSource| {
        format!(
            "{} has sent no {} for {} s; the last at {}",
            silent.source,
            silent.stream,
            silent.silent_s,
            time::format(silent.last_ns, 0)
        )
    };
    match silence.longest.split_first() {
        None => vec![Rung::ok(
            "sender",
            format!("{} known, none of the {} regular ones is silent", silence.known, silence.regular),
        )],
        Some((first, rest)) => {
            let remedy = "is it up, does it still send here (address and port), and does anything on the way drop it? `raven wire` shows whether it arrives; `raven ping` whether it is there";
            let rung = Rung::broken("sender", words(first), remedy).of(first.source.to_string());
            vec![rung.and(rest.iter().take(NAMED).map(words))]
        }
    }
}

/// Stored, understood, delivered.
fn of_sender(facts: &Facts, sender: &Sender) -> Rung {
    let subject = sender.address.to_string();
    if sender.stored.is_empty() {
        let known: Vec<String> = facts
            .reports
            .collectors
            .iter()
            .flat_map(|(stream, report)| report.inbox.iter().map(move |item| (stream, item)))
            .filter(|(_, item)| item.source == subject)
            .map(|(stream, item)| format!("{stream}: {} at {}", item.reason.replace('_', " "), item.listener))
            .collect();
        let remedy = "does it send here (address and port), and does anything on the way drop it? `raven wire --from ADDRESS` shows whether it arrives";
        return Rung::broken("sender", "nothing of it was stored within ten minutes", remedy).of(subject).and(known);
    }
    let words = |(stream, view): &(Stream, raven_model::query::SourceView)| {
        let newest = time::format(view.last_seen_ns, 0);
        let mut parts =
            vec![format!("{stream}: {} records within ten minutes, the newest at {newest}", count(view.records))];
        if view.not_understood > 0 {
            parts.push(format!("{} not understood", count(view.not_understood)));
        }
        let behind = facts.then.destinations.iter().filter(|one| one.stream == stream.name() && one.lag > 0);
        parts.extend(behind.map(|one| format!("{} is {} records behind", one.name, count(one.lag))));
        parts.join("; ")
    };
    let mut told = sender.stored.iter().map(words);
    let first = told.next().unwrap_or_default();
    if sender.stored.iter().any(|(_, view)| view.not_understood > 0) {
        return Rung::warning("sender", first, "`raven inbox` shows what is not understood, and why")
            .of(subject)
            .and(told);
    }
    Rung::ok("sender", first).of(subject).and(told)
}
