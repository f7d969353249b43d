//! What the box says of itself, held against the model.

use super::model::{At, Delivery, Route, STREAMS};
use super::rig::Rig;
use raven_buffer::{Block, Found, RingReader};
use raven_model::report::{DestinationStatus, StreamStatus};
use raven_model::stream::Stream;
use raven_model::units::Seq;
use raven_uplink::fleet::Saved;
use std::collections::BTreeSet;
use std::fmt::Debug;

type Checked = Result<(), String>;

#[allow(clippy::needless_pass_by_value)] // plain counts
fn same<T: PartialEq + Debug>(what: &str, box_says: T, model: T) -> Checked {
    if box_says == model { Ok(()) } else { Err(format!("{what}: the box says {box_says:?}, it should be {model:?}")) }
}

fn within(what: &str, box_says: u64, (least, most): (u64, u64)) -> Checked {
    let fits = (least..=most).contains(&box_says);
    if fits { Ok(()) } else { Err(format!("{what}: the box says {box_says}, it should be {least} to {most}")) }
}

/// The identity, for each stream and destination. `whole` also looks at every record.
pub fn check(rig: &mut Rig, whole: bool) -> Checked {
    let report = rig.report.clone().ok_or("the store says nothing")?;
    for stream in STREAMS {
        let status = report.streams.iter().find(|status| status.name == stream.name());
        check_stream(rig, stream, status.ok_or("a stream is missing")?).map_err(|what| format!("{stream}: {what}"))?;
    }
    let destinations = rig.uplink_report().map_or_else(Vec::new, |report| report.destinations);
    for status in &destinations {
        let route = (status.name.clone(), Stream::named(&status.stream).ok_or("a stream is missing")?);
        check_delivery(rig, &route, status).map_err(|what| format!("{} to {}: {what}", route.1, route.0))?;
        if whole {
            check_cursor(rig, &route).map_err(|what| format!("{} to {}: {what}", route.1, route.0))?;
        }
    }
    if whole {
        STREAMS.into_iter().try_for_each(|stream| check_records(rig, stream))?;
    }
    rig.outside.wrong.borrow_mut().take().map_or(Ok(()), Err)
}

/// received = stored + dropped; stored = held + evicted + damaged.
fn check_stream(rig: &Rig, stream: Stream, status: &StreamStatus) -> Checked {
    let model = rig.outside.model.borrow();
    let kept = &model.kept[&stream];
    let stored = kept.records.len() as u64;
    let here = kept.offered - kept.lost_with_power - kept.pending.len() as u64;
    let dropped: u64 = status.dropped_ever.values().sum();
    same("dropped", dropped, kept.dropped)?;
    same("received, and dropped before", status.received + dropped, here)?;
    same("stored", (status.stored, status.counted, status.refused), (stored, stored, 0))?;
    let held = kept.gone.iter().filter(|gone| !**gone).count() as u64;
    same("held, evicted, damaged", (status.held, status.evicted, status.damaged), (held, kept.evicted, kept.damaged))?;
    same("stored = held + evicted + damaged", status.held + status.evicted + status.damaged, status.stored)?;
    same("gaps", status.gaps.len(), 0)?;
    check_ledger(rig, stream)
}

/// Which destinations miss what was evicted.
fn check_ledger(rig: &Rig, stream: Stream) -> Checked {
    let model = rig.outside.model.borrow();
    let ledger = rig.ledger(stream).ok_or("the store is not there")?;
    for ((name, _), delivery) in model.deliveries.iter().filter(|(route, _)| route.1 == stream) {
        let told = ledger.unforwarded.get(name).copied().unwrap_or(0);
        within(&format!("evicted before {name} had it"), told, delivery.evicted_unforwarded)?;
    }
    for loss in &ledger.losses {
        let most = loss.unforwarded.values().max().copied().unwrap_or(0);
        if most > loss.records {
            return Err(format!("{most} records of {} are said to be missed: {loss:?}", loss.records));
        }
        if loss.why == raven_buffer::Why::Age && most > 0 {
            return Err(format!("{most} records went by age before a destination had them: {loss:?}"));
        }
    }
    Ok(())
}

/// stored = forwarded + held + evicted, for one destination.
fn check_delivery(rig: &Rig, route: &Route, status: &DestinationStatus) -> Checked {
    let model = rig.outside.model.borrow();
    let delivery = &model.deliveries[route];
    let stored = model.kept[&route.1].records.len() as u64;
    let count = |at| delivery.count(at);
    same("forwarded", status.acknowledged, count(At::Acked) + count(At::Revived))?;
    let dead = count(At::Dead) + count(At::Revived) + count(At::Dropped);
    let letters = (status.dead.lettered, status.dead.delivered, status.dead.dropped, status.dead.held);
    same("dead letters", letters, (dead, count(At::Revived), count(At::Dropped), count(At::Dead)))?;
    if rig.saves_fail.get() {
        // What was gone before it began is only known from the cursor.
        return Ok(());
    }
    let start = rig.written.borrow().get(route).map_or(0, |saved| saved.counts.start);
    let (gone, lost) = (count(At::Gone), count(At::Lost));
    within("missed, or gone before it began", status.missed + start, (gone, gone + lost))?;
    within("to be sent", status.lag, (count(At::Waiting), count(At::Waiting) + lost))?;
    let identity = status.acknowledged + dead - count(At::Revived) + status.missed + start + status.lag;
    same("forwarded + dead + missed + to be sent", identity, stored)
}

/// The cursor says of each record what is true, and a letter lies there for each that is dead.
fn check_cursor(rig: &Rig, route: &Route) -> Checked {
    let model = rig.outside.model.borrow();
    let (written, delivery) = (rig.written.borrow(), &model.deliveries[route]);
    let saved = written.get(route).filter(|_| delivery.is_saved());
    let Some(Saved { progress, .. }) = saved else { return Ok(()) };
    for (at, seq) in delivery.at.iter().zip(1..) {
        let covered = progress.covers(Seq(seq));
        let fits = match at {
            At::Waiting => !covered,
            At::Lost => true,
            _ => covered,
        };
        if !fits {
            return Err(format!("the cursor says {covered} of record {seq}, which is {at:?}"));
        }
    }
    check_taken(rig, route, delivery)?;
    check_letters(rig, route, delivery)
}

/// What counts as forwarded was taken.
fn check_taken(rig: &Rig, route: &Route, delivery: &Delivery) -> Checked {
    let (model, fars) = (rig.outside.model.borrow(), rig.outside.fars.borrow());
    let records = &model.kept[&route.1].records;
    let taken = fars.get(&route.0).and_then(|far| far.taken.get(&route.1));
    let has = |number| taken.is_some_and(|taken| taken.contains(number));
    let forwarded = delivery.at.iter().zip(records).filter(|(at, _)| matches!(at, At::Acked | At::Revived));
    match forwarded.map(|(_, number)| number).find(|number| !has(number)) {
        Some(number) => Err(format!("message {number} counts as forwarded and was never taken")),
        None => Ok(()),
    }
}

fn check_letters(rig: &Rig, route: &Route, delivery: &Delivery) -> Checked {
    let letters = rig.letters(route);
    let set: BTreeSet<u64> = letters.iter().copied().collect();
    let dead = delivery.at.iter().zip(1_u64..).filter(|(at, _)| **at == At::Dead).map(|(_, seq)| seq).collect();
    if delivery.retrying.is_empty() {
        same("letters on disk", &set, &dead)?;
    }
    same("letters on disk, each once", letters.len(), set.len())
}

/// Each record that is held reads back as it came, and no other.
fn check_records(rig: &Rig, stream: Stream) -> Checked {
    let model = rig.outside.model.borrow();
    let kept = &model.kept[&stream];
    rig.close_readers();
    let mut reader = RingReader::open(&rig.ring(), stream.name()).map_err(|error| error.to_string())?;
    let mut at = Seq(1);
    while at.0 <= kept.records.len() as u64 {
        let block = match reader.find(at).map_err(|error| error.to_string())? {
            Found::Block(block) => Ok(block),
            Found::Gap { next, .. } | Found::Before { first: next } => Err(next),
            Found::Open => rig.open_block(stream, at).ok_or_else(|| Seq(kept.records.len() as u64 + 1)),
        };
        let next = block.as_ref().map_or_else(|next| *next, Block::next);
        if let Some(seq) = (at.0..next.0).find(|seq| kept.gone[*seq as usize - 1] != block.is_err()) {
            return Err(format!("{stream}: record {seq} is there: {}, and should not be so", block.is_ok()));
        }
        for (seq, record) in block.iter().flat_map(Block::records) {
            if rig.outside.texts.of(stream, kept.records[seq.0 as usize - 1]) != record.raw {
                return Err(format!("{stream}: record {seq} is not what came"));
            }
        }
        at = next;
    }
    Ok(())
}
