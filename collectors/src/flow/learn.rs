//! Templates and sampling rates as they come, and their context frames.
//!
//! A frame stands before the datagram that it is added with. That is right for a new template, and for a changed one
//! unless the same datagram has records of the old meaning ahead of the change: then the new one is owed, and goes out
//! before the next datagram.
//!
//! What data sets need may take all of a batch's room for context. What was only learned, and sampling rates, may take
//! half, so that a flood of templates does not leave out those that are in use; a template that was left out is added
//! with the first data set that needs it.

use super::context::{sampler_key, template_key};
use super::inspect::{FlowInspect, mark_as};
use super::sources::SourceKey;
use raven_decode::flow::Reject;
use raven_decode::flow::sets::Set;
use raven_decode::flow::templates::{Scope, TemplateKey};
use raven_jail::receive::{Arrived, CONTEXT_MAX, Contexts};
use raven_model::record::Context;
use raven_model::units::UnixNanos;

/// Most templates that are owed at a time.
const OWED: usize = 64;
/// Most rates of one exporter in a batch: as many as are asked for a flow.
const RATES: usize = 64;

/// What became of a template, as far as it is needed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// It is new, or means something else.
    Learned(TemplateKey),
    /// The exporter took it back.
    Withdrawn(TemplateKey),
    /// It is not known any more.
    Gone(TemplateKey),
}

/// Adds a template's frame; an empty definition withdraws it.
pub fn add_template(contexts: &mut Contexts, key: &TemplateKey, definition: &[u8], wall: UnixNanos) -> bool {
    contexts.add(&Context { key: &template_key(key), value: definition }, wall)
}

fn half_full(contexts: &Contexts) -> bool {
    contexts.frames().len() > CONTEXT_MAX / 2
}

impl FlowInspect {
    /// Takes the templates of a set.
    pub(super) fn learn(
        &mut self,
        place: usize,
        scope: Scope,
        set: &Set<'_>,
        arrived: &Arrived<'_>,
        contexts: &mut Contexts,
    ) -> Result<(), Reject> {
        let (events, recalled) = (&mut self.events, &mut self.recalled);
        let learned = self.templates.learn(scope, set, self.now, |event| events.push(recalled.happened(&event)));
        if !self.events.is_empty() {
            let mut events = std::mem::take(&mut self.events);
            for event in events.drain(..) {
                match event {
                    Happened::Learned(key) => self.say_new(place, &key, arrived, contexts),
                    Happened::Withdrawn(key) => self.say_withdrawn(place, &key, arrived, contexts),
                    Happened::Gone(key) => self.unmark(&key),
                }
            }
            self.events = events;
        }
        learned
    }

    fn say_new(&mut self, place: usize, key: &TemplateKey, arrived: &Arrived<'_>, contexts: &mut Contexts) {
        // It may have been driven out since, by others of the same set.
        let Some(entry) = self.templates.peek(key) else { return };
        let source = self.sources.at(place).0;
        if source.missing.is_some_and(|(id, _)| id == key.id) {
            source.missing = None;
        }
        let owed = self.owed.contains(key);
        let mark = source.make_mark(key.id);
        mark_as(mark, &entry.template);
        mark.batch = 0;
        if owed || mark.used == self.datagram {
            mark.owed = true;
            self.owe(*key);
        } else if !half_full(contexts) && add_template(contexts, key, entry.template.definition(), arrived.wall) {
            mark.batch = self.batch;
        }
    }

    fn say_withdrawn(&mut self, place: usize, key: &TemplateKey, arrived: &Arrived<'_>, contexts: &mut Contexts) {
        let source = self.sources.at(place).0;
        let used = source.mark(key.id).is_some_and(|mark| mark.used == self.datagram);
        source.unmark(key.id);
        if used {
            self.owe(*key);
        } else {
            add_template(contexts, key, &[], arrived.wall);
        }
    }

    fn owe(&mut self, key: TemplateKey) {
        if self.owed.len() < OWED && !self.owed.contains(&key) {
            self.owed.push(key);
        }
    }

    /// Adds what earlier datagrams owe.
    pub(super) fn pay(&mut self, arrived: &Arrived<'_>, contexts: &mut Contexts) {
        let mut owed = std::mem::take(&mut self.owed);
        for key in owed.drain(..) {
            let definition = self.templates.peek(&key).map_or(&[][..], |entry| entry.template.definition());
            let added = add_template(contexts, &key, definition, arrived.wall);
            if let Some(mark) = self.sources.find(&SourceKey::of(&key.scope)).and_then(|source| source.mark(key.id)) {
                mark.owed = false;
                mark.batch = if added { self.batch } else { 0 };
            }
        }
        self.owed = owed;
    }

    /// Adds the exporter's sampling rates, once per batch: of all its domains, since some devices tell them
    /// in another than that of their flows.
    pub(super) fn add_rates(&mut self, place: usize, scope: Scope, arrived: &Arrived<'_>, contexts: &mut Contexts) {
        let source = self.sources.at(place).0;
        if source.rates_in == self.batch {
            return;
        }
        source.rates_in = self.batch;
        for (key, rate) in self.sampling.of(&scope.exporter).take(RATES) {
            if half_full(contexts) {
                break;
            }
            contexts.add(&Context { key: &sampler_key(key), value: &rate.to_le_bytes() }, arrived.wall);
        }
    }

    /// Adds all templates of a domain, once per batch: records of lists (RFC 6313) name any of them.
    pub(super) fn add_nested(&mut self, place: usize, scope: Scope, arrived: &Arrived<'_>, contexts: &mut Contexts) {
        let source = self.sources.at(place).0;
        for (key, entry) in self.templates.all_of(&scope.exporter).filter(|(key, _)| key.scope == scope) {
            if half_full(contexts) {
                break;
            }
            let mark = source.make_mark(key.id);
            if mark.batch == self.batch || mark.owed {
                continue;
            }
            mark_as(mark, &entry.template);
            if add_template(contexts, key, entry.template.definition(), arrived.wall) {
                mark.batch = self.batch;
            }
        }
    }

    /// Drops templates that were not sent for too long.
    pub(super) fn expire(&mut self) {
        let (events, recalled) = (&mut self.events, &mut self.recalled);
        self.templates.expire(self.now, |event| events.push(recalled.happened(&event)));
        self.forget_marks();
    }

    /// Forgets the marks of templates that are gone.
    pub(super) fn forget_marks(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in events.drain(..) {
            if let Happened::Gone(key) = event {
                self.unmark(&key);
            }
        }
        self.events = events;
    }

    fn unmark(&mut self, key: &TemplateKey) {
        if let Some(source) = self.sources.find(&SourceKey::of(&key.scope)) {
            source.unmark(key.id);
        }
    }
}
