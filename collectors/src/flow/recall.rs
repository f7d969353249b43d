//! What the store gives back: the templates and rates that stood in batches of this collector and of those before it.
//!
//! The store is a little behind: it tells what was committed. So what was learned from the wire wins, always. What the
//! store tells again and again is taken the first time only, and what was withdrawn, changed or has expired here is not
//! taken at all: it would come back each second. A template that only came from the store gives way to a newer one
//! from there, for a collector that was killed and started before its last batches were committed.

use super::context::Known;
use super::inspect::FlowInspect;
use super::learn::Happened;
use raven_decode::flow::template::Template;
use raven_decode::flow::templates::{Event, TemplateKey};
use raven_model::record::Contexts;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

/// Most definitions that are remembered as dropped. One that is forgotten may come back from the store once.
const DROPPED: usize = 65_536;

/// What was told and what is not to be told again.
#[derive(Debug, Default)]
pub struct Recalled {
    hasher: RandomState,
    /// Of the newest snapshot.
    told: HashSet<u64>,
    /// Dropped since the start.
    dropped: HashSet<u64>,
    /// Templates that nobody but the store has told, with what it told.
    restored: HashMap<TemplateKey, u64>,
}

impl Recalled {
    fn hash(&self, key: &TemplateKey, definition: &[u8]) -> u64 {
        self.hasher.hash_one((key, definition))
    }

    /// Remembers what became of a template, and gives what matters of it to others.
    pub fn happened(&mut self, event: &Event<'_>) -> Happened {
        match *event {
            Event::Learned(key, template) => {
                let hash = self.hash(key, template.definition());
                self.dropped.remove(&hash);
                self.restored.remove(key);
                Happened::Learned(*key)
            }
            Event::Changed { key, old, new } => {
                self.drop(key, old);
                let hash = self.hash(key, new.definition());
                self.dropped.remove(&hash);
                Happened::Learned(*key)
            }
            Event::Withdrawn(key, template) => {
                self.drop(key, template);
                Happened::Withdrawn(*key)
            }
            Event::Expired(key, template) | Event::Evicted(key, template) => {
                self.drop(key, template);
                Happened::Gone(*key)
            }
        }
    }

    fn drop(&mut self, key: &TemplateKey, template: &Template) {
        self.restored.remove(key);
        if self.dropped.len() < DROPPED {
            let hash = self.hash(key, template.definition());
            self.dropped.insert(hash);
        }
    }
}

impl FlowInspect {
    /// Takes back what a snapshot tells.
    pub(super) fn take_back(&mut self, snapshot: &[u8]) {
        let known: Vec<_> =
            Contexts::new(snapshot).filter_map(|context| Known::read(context.key, context.value)).collect();
        let mut told = HashSet::with_capacity(known.len());
        // The most recently seen stands first; it is to be the one used last.
        for known in known.into_iter().rev() {
            match known {
                Known::Template(key, definition) => {
                    let hash = self.recalled.hash(&key, definition);
                    told.insert(hash);
                    self.take_template(key, definition, hash);
                }
                Known::Rate(key, rate) => {
                    if self.sampling.get(&key).is_none() && rate > 0 {
                        self.sampling.restore(key, rate);
                    }
                }
            }
        }
        self.recalled.told = told;
    }

    fn take_template(&mut self, key: TemplateKey, definition: &[u8], hash: u64) {
        let Self { recalled, templates, .. } = self;
        if definition.is_empty() || recalled.told.contains(&hash) || recalled.dropped.contains(&hash) {
            return;
        }
        let replaces = recalled.restored.get(&key).is_some_and(|old| *old != hash);
        if templates.peek(&key).is_some() && !replaces {
            return;
        }
        // A definition that does not read is of no use to anybody.
        if templates.restore(key, definition, self.now).is_ok() {
            recalled.restored.insert(key, hash);
            if let Some(source) = self.sources.find(&super::sources::SourceKey::of(&key.scope)) {
                source.unmark(key.id);
            }
        }
    }
}
