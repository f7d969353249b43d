//! What the box should say of itself, counted beside it: from what was given to it, from what its destinations were
//! given, and from the names of the files in its ring. Nothing here is read from its ledger, its cursors or its reports.

use raven_model::stream::Stream;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

/// The two streams that are kept; the second one's collector drops some of what it receives.
pub const STREAMS: [Stream; 2] = [Stream::Syslog, Stream::Winevent];

/// Destination and stream.
pub type Route = (String, Stream);

/// Where a record stands with a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// To be sent.
    Waiting,
    /// Gone from the ring, and the uplink may not know it yet.
    Lost,
    /// Gone from the ring, and the uplink has been told.
    Gone,
    /// The uplink has the destination's answer.
    Acked,
    /// Refused, and among the dead letters.
    Dead,
    /// A dead letter that was taken when it was sent again.
    Revived,
    /// A dead letter that the operator dropped.
    Dropped,
}

/// A stream as it should be.
#[derive(Debug, Default)]
pub struct Kept {
    /// Records that its collector was given.
    pub offered: u64,
    /// Of those, dropped and counted by the collector, or by a listener's socket before it.
    pub dropped: u64,
    /// Of those, in memory when the power went.
    pub lost_with_power: u64,
    /// Handed over and not on disk: batch, record.
    pub pending: VecDeque<(u64, u32)>,
    /// The record with seq n at n - 1.
    pub records: Vec<u32>,
    /// Whether the one with seq n is gone, at n - 1.
    pub gone: Vec<bool>,
    pub evicted: u64,
    pub damaged: u64,
    /// First seqs of the segments, as last seen.
    segments: BTreeSet<u64>,
}

/// A destination's place in a stream as it should be.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Whether it is configured.
    pub is_wanted: bool,
    /// It has no cursor on disk: what is gone was never its own.
    is_fresh: bool,
    /// It had none when the uplink was last told of an eviction.
    was_fresh: bool,
    pub at: Vec<At>,
    pub counts: BTreeMap<At, u64>,
    /// Dead letters that the operator has sent again.
    pub retrying: BTreeSet<u64>,
    /// Since the cursor was saved: seq, and where it stood before.
    unsaved: Vec<(u64, At)>,
    /// Records that the ring's ledger may say were evicted before this destination had them: least and most.
    pub evicted_unforwarded: (u64, u64),
}

impl Delivery {
    pub fn count(&self, at: At) -> u64 {
        self.counts.get(&at).copied().unwrap_or(0)
    }

    /// Whether the cursor on disk says all that the uplink knows.
    pub fn is_saved(&self) -> bool {
        self.unsaved.is_empty()
    }

    fn put(&mut self, seq: u64, at: At) {
        let place = &mut self.at[seq as usize - 1];
        *self.counts.entry(*place).or_default() -= 1;
        *self.counts.entry(at).or_default() += 1;
        *place = at;
    }

    fn note(&mut self, seq: u64, at: At) {
        self.unsaved.push((seq, self.at[seq as usize - 1]));
        self.put(seq, at);
    }

    fn push(&mut self, at: At) {
        self.at.push(at);
        *self.counts.entry(at).or_default() += 1;
    }
}

/// All of it.
#[derive(Debug, Default)]
pub struct Model {
    pub kept: BTreeMap<Stream, Kept>,
    pub deliveries: BTreeMap<Route, Delivery>,
}

impl Model {
    pub fn kept(&mut self, stream: Stream) -> &mut Kept {
        self.kept.entry(stream).or_default()
    }

    fn of(&mut self, stream: Stream) -> (&mut Kept, impl Iterator<Item = &mut Delivery>) {
        let kept = self.kept.entry(stream).or_default();
        (kept, self.deliveries.iter_mut().filter(move |(route, _)| route.1 == stream).map(|(_, delivery)| delivery))
    }

    /// All batches up to `batch` are on disk.
    pub fn durable(&mut self, stream: Stream, batch: u64) {
        let (kept, deliveries) = self.of(stream);
        let before = kept.records.len();
        while let Some((_, record)) = kept.pending.pop_front_if(|(number, _)| *number <= batch) {
            kept.records.push(record);
            kept.gone.push(false);
        }
        let stored = kept.records.len() - before;
        deliveries.for_each(|delivery| (0..stored).for_each(|_| delivery.push(At::Waiting)));
    }

    /// The power went: what was not on disk is nowhere.
    pub fn power_cut(&mut self, stream: Stream) {
        let kept = self.kept(stream);
        kept.lost_with_power += kept.pending.len() as u64;
        kept.pending.clear();
    }

    /// Looks which segments are there. One that is not any more was evicted: the oldest ones go. `is_told`: the uplink
    /// knows, and has said what each destination misses.
    pub fn look(&mut self, ring: &Path, stream: Stream, is_told: bool) {
        let now = segments(ring, stream);
        let (kept, mut deliveries) = self.of(stream);
        let before = std::mem::replace(&mut kept.segments, now);
        let Some(last) = before.iter().rev().find(|first| !kept.segments.contains(first)) else { return };
        let end = before.range(last + 1..).next().or(kept.segments.range(last + 1..).next());
        let end = end.copied().unwrap_or(kept.records.len() as u64 + 1);
        let begin = before.first().copied().unwrap_or(1);
        let gone: Vec<u64> = (begin..end).filter(|seq| !kept.gone[*seq as usize - 1]).collect();
        kept.evicted += gone.len() as u64;
        for seq in &gone {
            kept.gone[*seq as usize - 1] = true;
        }
        deliveries.by_ref().for_each(|delivery| delivery.lose(&gone, is_told));
    }

    /// A segment was removed by somebody else while the store was down. Returns whether there was one to remove.
    pub fn remove_segment(&mut self, ring: &Path, stream: Stream, dice: u64) -> bool {
        let (kept, deliveries) = self.of(stream);
        let sealed: Vec<u64> = kept.segments.iter().rev().skip(1).rev().copied().collect();
        let Some(first) = sealed.get(dice as usize % sealed.len().max(1)).copied() else { return false };
        fs::remove_file(ring.join(stream.name()).join(format!("{first:016x}.mdb"))).expect("it was there");
        kept.segments.remove(&first);
        let end = kept.segments.range(first..).next().copied().expect("the open one");
        let lost: Vec<u64> = (first..end).filter(|seq| !kept.gone[*seq as usize - 1]).collect();
        kept.damaged += lost.len() as u64;
        for seq in &lost {
            kept.gone[*seq as usize - 1] = true;
        }
        for delivery in deliveries {
            for seq in
                lost.iter().filter(|seq| delivery.at[**seq as usize - 1] == At::Waiting).copied().collect::<Vec<_>>()
            {
                delivery.put(seq, At::Lost);
            }
        }
        true
    }

    /// A destination that is configured. One that was never before begins at the oldest record.
    pub fn want(&mut self, route: &Route) {
        let gone = self.kept(route.1).gone.clone();
        let delivery = self.deliveries.entry(route.clone()).or_insert_with(|| {
            let mut delivery = Delivery { is_fresh: true, ..Delivery::default() };
            for gone in gone {
                delivery.push(if gone { At::Lost } else { At::Waiting });
            }
            delivery
        });
        delivery.is_wanted = true;
    }

    /// The uplink was told that all below `below` goes; returns how many records each destination had not acknowledged.
    pub fn fence(&mut self, stream: Stream, below: u64) {
        let (_, deliveries) = self.of(stream);
        for delivery in deliveries.filter(|delivery| delivery.is_wanted) {
            delivery.was_fresh = delivery.is_fresh;
            for seq in 1..below {
                if matches!(delivery.at[seq as usize - 1], At::Waiting | At::Lost) {
                    delivery.note(seq, At::Gone);
                }
            }
        }
    }

    /// The uplink took answers.
    pub fn acked(&mut self, route: &Route, seqs: &[u64]) {
        let delivery = self.deliveries.get_mut(route).expect("a destination");
        for seq in seqs {
            delivery.retrying.remove(seq);
            match delivery.at[*seq as usize - 1] {
                At::Waiting | At::Lost => delivery.note(*seq, At::Acked),
                At::Dead => delivery.note(*seq, At::Revived),
                _ => {}
            }
        }
    }

    /// A refused record became a dead letter.
    pub fn buried(&mut self, route: &Route, seq: u64) {
        let delivery = self.deliveries.get_mut(route).expect("a destination");
        delivery.retrying.remove(&seq);
        if matches!(delivery.at[seq as usize - 1], At::Waiting | At::Lost) {
            delivery.note(seq, At::Dead);
        }
    }

    /// The operator drops dead letters, or has them sent again.
    pub fn ordered(&mut self, name: &str, drop: bool) {
        let wanted = |(route, delivery): &(&Route, &mut Delivery)| route.0 == name && delivery.is_wanted;
        for (_, delivery) in self.deliveries.iter_mut().filter(wanted) {
            let dead: Vec<u64> =
                (1..).zip(&delivery.at).filter(|(_, at)| **at == At::Dead).map(|(seq, _)| seq).collect();
            if drop {
                // What is on its way is not dropped.
                for seq in dead.into_iter().filter(|seq| !delivery.retrying.contains(seq)).collect::<Vec<_>>() {
                    delivery.note(seq, At::Dropped);
                }
            } else {
                delivery.retrying.extend(dead);
            }
        }
    }

    /// An uplink begins, or a destination that was away from the configuration: letters that lie there are dead whatever
    /// the cursor says, none other is, and none is on its way.
    pub fn letters(&mut self, route: &Route, letters: &BTreeSet<u64>) {
        let delivery = self.deliveries.get_mut(route).expect("a destination");
        delivery.retrying.clear();
        for seq in 1..=delivery.at.len() as u64 {
            match (delivery.at[seq as usize - 1], letters.contains(&seq)) {
                (At::Dead, true) => {}
                (At::Dead, false) => delivery.note(seq, At::Dropped),
                (_, true) => delivery.note(seq, At::Dead),
                _ => {}
            }
        }
    }

    /// The cursor is on disk.
    pub fn saved(&mut self, route: &Route) {
        let delivery = self.deliveries.get_mut(route).expect("a destination");
        delivery.unsaved.clear();
        delivery.is_fresh = false;
    }

    /// The uplink was killed: what its cursors did not say is forgotten, and sent again where it is still there.
    pub fn uplink_killed(&mut self) {
        for (route, delivery) in &mut self.deliveries {
            delivery.retrying.clear();
            let gone = &self.kept[&route.1].gone;
            while let Some((seq, before)) = delivery.unsaved.pop() {
                let is_lost = before == At::Waiting && gone[seq as usize - 1];
                delivery.put(seq, if is_lost { At::Lost } else { before });
            }
        }
    }
}

impl Delivery {
    /// Records have been evicted.
    fn lose(&mut self, gone: &[u64], is_told: bool) {
        let at = |seq: &u64| self.at[*seq as usize - 1];
        // Those that the fence made `Gone` are the ones that it said.
        let missed = gone.iter().filter(|seq| matches!(at(seq), At::Gone)).count() as u64;
        let waiting: Vec<u64> = gone.iter().copied().filter(|seq| at(seq) == At::Waiting).collect();
        let (least, most) = match (self.is_wanted, is_told) {
            (false, _) => (0, 0),
            (true, true) if self.was_fresh => (0, missed),
            (true, true) => (missed, missed),
            // The store goes by the marks that it was told last: never less than what is missed.
            (true, false) if self.is_fresh => (0, gone.len() as u64),
            (true, false) => (waiting.len() as u64, gone.len() as u64),
        };
        self.evicted_unforwarded = (self.evicted_unforwarded.0 + least, self.evicted_unforwarded.1 + most);
        for seq in waiting {
            self.put(seq, At::Lost);
        }
    }
}

/// First seqs of the segments of a stream, by their names.
pub fn segments(ring: &Path, stream: Stream) -> BTreeSet<u64> {
    let files = fs::read_dir(ring.join(stream.name())).into_iter().flatten().flatten();
    let name = |file: fs::DirEntry| file.file_name().into_string().ok();
    let first = |name: String| u64::from_str_radix(name.strip_suffix(".mdb").filter(|hex| hex.len() == 16)?, 16).ok();
    files.filter_map(name).filter_map(first).collect()
}
