//! What makes most of the traffic: flows counted by a key, in bounded memory.
//!
//! Counters are summed as they were sent. Beside them stands an estimate, each flow's counters times its sampling rate,
//! where every flow of the key has one; nothing is multiplied without being called so.

mod key;
mod table;

use crate::decode::{Blocks, Line, Lines, SLACK_NS, Step, Walk, Walked};
use crate::decoder::Knowledge;
use crate::flows::Flows;
use key::{Applications, Key};
use raven_buffer::Block;
use raven_buffer::block::Entry;
use raven_decode::flow::flows::flows;
use raven_model::prefix::Prefix;
use raven_model::query::{FlowsTop, TopTotal, TopView};
use raven_model::record::{Record, plain_address};
use raven_model::units::Seq;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};
use table::{Sums, Table};

/// Most keys that may be asked for.
const KEYS_SHOWN: usize = 10_000;
/// How often a long count tells how far it is.
const PROGRESS: Duration = Duration::from_secs(2);
const STORE_BUSY: Duration = Duration::from_millis(100);

/// A count under way.
pub struct Top {
    question: FlowsTop,
    knowledge: Rc<Knowledge>,
    flows: Flows,
    applications: Applications,
    table: Table,
    total: TopTotal,
    walk: Option<Walk>,
    told: Instant,
}

impl Top {
    /// Prepares the count.
    pub fn new(question: FlowsTop, knowledge: &Rc<Knowledge>) -> Self {
        let question = FlowsTop { source: question.source.map(plain_address), ..question };
        Self {
            question,
            knowledge: Rc::clone(knowledge),
            flows: Flows::default(),
            applications: Applications::default(),
            table: Table::default(),
            total: TopTotal::default(),
            walk: None,
            told: Instant::now(),
        }
    }

    /// Counts one block, or writes the result.
    pub fn step(&mut self, blocks: &mut impl Blocks, lines: &mut Lines) -> anyhow::Result<Step> {
        let Some(walk) = &mut self.walk else {
            let Some(next) = blocks.next_seq()? else { return Ok(Step::Later(STORE_BUSY)) };
            self.walk = Some(
                Walk::new(blocks.first(), Some(next), self.question.since).of(self.question.source.map(Prefix::from)),
            );
            return Ok(Step::Again);
        };
        let walked = walk.step(blocks)?;
        walk.notes.drain(..).for_each(|note| lines.note(note));
        if std::mem::take(&mut walk.begins_late) {
            lines.note("the time asked for begins before the oldest record held");
        }
        match walked {
            Walked::Block(block, _) if self.is_past(&block) => {
                let more = self.walk.as_mut().is_some_and(|walk| walk.skip_to_import(blocks));
                Ok(if more { Step::Again } else { self.finish(lines) })
            }
            Walked::Block(block, range) => {
                self.add_block(&block, &range);
                self.tell(&block, lines);
                Ok(Step::Again)
            }
            Walked::Again => Ok(Step::Again),
            Walked::Later(wait) => Ok(Step::Later(wait)),
            Walked::End => Ok(self.finish(lines)),
        }
    }

    fn is_past(&self, block: &Block) -> bool {
        self.question.until.is_some_and(|until| block.first_wall().0 >= until.0.saturating_add(SLACK_NS))
    }

    fn add_block(&mut self, block: &Block, range: &Range<Seq>) {
        self.flows.block();
        for entry in block.entries() {
            match entry {
                Entry::Context(_, context) => self.flows.context(&context),
                Entry::Record(seq, record) if range.contains(&seq) && self.is_meant(&record) => self.add(&record),
                Entry::Record(..) => {}
            }
        }
    }

    fn is_meant(&self, record: &Record<'_>) -> bool {
        let (received, question) = (&record.received, &self.question);
        question.since.is_none_or(|since| received.wall >= since)
            && question.until.is_none_or(|until| received.wall < until)
            && question.source.is_none_or(|source| received.source.ip() == source)
    }

    fn add(&mut self, record: &Record<'_>) {
        let (received, total) = (&record.received, &mut self.total);
        total.datagrams += 1;
        total.first_ns = Some(total.first_ns.map_or(received.wall, |first| first.min(received.wall)));
        total.last_ns = total.last_ns.max(Some(received.wall));
        // What nobody vouches for counts for nothing; what killed collectors is not looked at.
        if received.is_unparsed() || received.is_refused() {
            total.unread += 1;
            return;
        }
        let Ok(scan) = self.flows.open(record, &self.knowledge.ring) else {
            total.unread += 1;
            return;
        };
        let (source, by) = (received.source, self.question.by);
        let (table, applications) = (&mut self.table, &mut self.applications);
        let rest = flows(
            &scan,
            &self.flows.view(source, &self.knowledge),
            &self.flows.templates(source),
            &mut |seen| table.add(&Key::of(by, seen, source.ip()), &Sums::of(seen)),
            &mut |options| applications.learn(options),
        );
        total.undescribed += rest.undescribed;
        total.unread += rest.faults;
    }

    fn tell(&mut self, block: &Block, lines: &mut Lines) {
        if self.told.elapsed() < PROGRESS {
            return;
        }
        self.told = Instant::now();
        let end = self.question.until.unwrap_or_else(crate::sources::now);
        let behind = end.0.saturating_sub(block.last_wall().0) / 1_000_000_000;
        lines.note(format!(
            "counting: {} datagrams and {} flows so far, {behind} s of time still to come",
            self.total.datagrams,
            self.table.all().flows
        ));
    }

    fn finish(&mut self, lines: &mut Lines) -> Step {
        let n = (self.question.n as usize).min(KEYS_SHOWN);
        let all = self.table.all();
        let top = self.table.top(n);
        let total =
            TopTotal { keys: top.keys, missing_bytes_max: top.missing_bytes_max, ..std::mem::take(&mut self.total) };
        if total.missing_bytes_max > 0 {
            lines.note(format!(
                "there are more keys than memory for them: those with the fewest bytes were left out on the way, and each \
                 key may be too low by at most {} bytes",
                total.missing_bytes_max
            ));
        }
        for (key, sums) in top.first {
            let (key, name) = key.shown(&self.applications);
            lines.line(&Line::Top(&sums.view(key, name, None)));
        }
        lines.line(&Line::Top(&all.view(None, None, Some(total))));
        Step::Done
    }
}

impl Sums {
    fn view(&self, key: Option<String>, name: Option<String>, total: Option<TopTotal>) -> TopView {
        // Without any flow there is nothing to estimate.
        let is_known = self.flows_without_rate == 0 && self.flows > 0;
        TopView {
            key,
            name,
            flows: self.flows,
            bytes: self.bytes,
            packets: self.packets,
            bytes_estimated: is_known.then_some(self.bytes_estimated),
            packets_estimated: is_known.then_some(self.packets_estimated),
            flows_without_rate: self.flows_without_rate,
            total,
        }
    }
}

#[cfg(test)]
mod tests;
