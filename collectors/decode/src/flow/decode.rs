//! Walks a datagram with the templates that are known, and hands out what it holds.
//!
//! Templates within the datagram count from where they stand, before those that the caller knows. A data set whose
//! template comes only behind it is held back to the end: its bytes are the same and its meaning is then known.

use super::Reject;
use super::scan::Scan;
use super::sets::{FIRST_DATA_SET, Family, Set, SetKind, TemplateRecord};
use super::sflow::{Format, Part, Sample};
use super::template::{Template, TemplateKind};
use std::collections::BTreeMap;

/// Where templates come from: a cache, or what was stored beside the records.
pub trait TemplateSource {
    /// The template of this number in this protocol and domain, of the exporter that the source is for.
    fn template(&self, family: Family, domain: u32, id: u16) -> Option<&Template>;
}

/// No template but those in the datagram itself.
#[derive(Debug, Clone, Copy)]
pub struct NoTemplates;

impl TemplateSource for NoTemplates {
    fn template(&self, _: Family, _: u32, _: u16) -> Option<&Template> {
        None
    }
}

/// Something that a datagram holds.
#[derive(Debug)]
pub enum Item<'t, 'a> {
    /// Records, and what describes them.
    Set {
        /// Set id; none in versions 1 to 7.
        set: Option<u16>,
        /// What describes the records.
        template: &'t Template,
        /// The records, end to end: [`Template::records`] reads them.
        body: &'a [u8],
        /// The other templates, for lists of records.
        known: &'t Known<'t>,
    },
    /// A sample of sFlow.
    Sample(Sample<'a>),
    /// A set without a template, or of a reserved number.
    Undescribed(Set<'a>),
    /// A sample of a format that is not known.
    UnknownSample(Format, &'a [u8]),
    /// Something could not be read. What lies behind it may be missing.
    Fault(Reject),
}

/// Templates as they are at some place of a datagram.
pub struct Known<'s> {
    source: &'s dyn TemplateSource,
    family: Family,
    domain: u32,
    /// Of the datagram itself; none for one that was withdrawn.
    own: BTreeMap<u16, Option<Template>>,
    /// All of this kind were withdrawn: data, options.
    gone: [bool; 2],
}

impl std::fmt::Debug for Known<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("domain", &self.domain).field("own", &self.own).finish_non_exhaustive()
    }
}

impl<'s> Known<'s> {
    fn new(source: &'s dyn TemplateSource, family: Family, domain: u32) -> Self {
        Self { source, family, domain, own: BTreeMap::new(), gone: [false; 2] }
    }

    /// The template of a number.
    pub fn get(&self, id: u16) -> Option<&Template> {
        match self.own.get(&id) {
            Some(own) => own.as_ref(),
            None => self.given(id).filter(|template| !self.gone[place(template.kind())]),
        }
    }

    fn given(&self, id: u16) -> Option<&'s Template> {
        self.source.template(self.family, self.domain, id)
    }

    fn take(&mut self, set: &Set<'_>) -> Result<(), Reject> {
        for record in set.templates() {
            let record = record?;
            if record.is_withdrawal() {
                self.withdraw(&record);
            } else if !self.get(record.id).is_some_and(|known| known.is(&record)) {
                self.own.insert(record.id, Some(Template::of(&record)?));
            }
        }
        Ok(())
    }

    fn withdraw(&mut self, record: &TemplateRecord<'_>) {
        if record.id >= FIRST_DATA_SET {
            self.own.insert(record.id, None);
            return;
        }
        let kind = if record.id == 2 { TemplateKind::Data } else { TemplateKind::Options };
        self.gone[place(kind)] = true;
        self.own.retain(|_, own| own.as_ref().is_none_or(|template| template.kind() != kind));
    }
}

const fn place(kind: TemplateKind) -> usize {
    match kind {
        TemplateKind::Data => 0,
        TemplateKind::Options => 1,
    }
}

/// Hands out what a datagram holds, in order; see the module about sets that stand before their template.
pub fn walk<'a>(scan: &Scan<'a>, source: &dyn TemplateSource, visit: &mut dyn FnMut(Item<'_, 'a>)) {
    match scan {
        Scan::Legacy(legacy) => {
            let known = Known::new(source, Family::V9, 0);
            visit(Item::Set { set: None, template: legacy.template(), body: legacy.body(), known: &known });
            if legacy.trailing() > 0 {
                visit(Item::Fault(Reject::Trailing { bytes: legacy.trailing() }));
            }
        }
        Scan::Sets(message) => {
            let mut known = Known::new(source, message.family, message.domain);
            message.length_fault().into_iter().for_each(|fault| visit(Item::Fault(fault)));
            let mut later: Vec<Set<'a>> = Vec::new();
            for set in message.sets() {
                match set {
                    Ok(set) => step(&mut known, set, &mut later, visit),
                    Err(fault) => visit(Item::Fault(fault)),
                }
            }
            for set in later {
                visit(described(&known, set).unwrap_or(Item::Undescribed(set)));
            }
        }
        Scan::Sflow(sflow) => {
            for part in sflow.samples() {
                visit(match part {
                    Ok(Part::Sample(sample)) => Item::Sample(sample),
                    Ok(Part::Unknown(format, body)) => Item::UnknownSample(format, body),
                    Err(fault) => Item::Fault(fault),
                });
            }
        }
    }
}

fn step<'a>(known: &mut Known<'_>, set: Set<'a>, later: &mut Vec<Set<'a>>, visit: &mut dyn FnMut(Item<'_, 'a>)) {
    match set.kind {
        SetKind::Templates | SetKind::OptionsTemplates => {
            known.take(&set).err().into_iter().for_each(|fault| visit(Item::Fault(fault)));
        }
        SetKind::Data => match described(known, set) {
            Some(item) => visit(item),
            None => later.push(set),
        },
        SetKind::Reserved => visit(Item::Undescribed(set)),
    }
}

fn described<'t, 'a>(known: &'t Known<'t>, set: Set<'a>) -> Option<Item<'t, 'a>> {
    known.get(set.id).map(|template| Item::Set { set: Some(set.id), template, body: set.body, known })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::scan::scan;
    use super::*;

    /// An IPFIX message of domain 1 with these sets.
    fn message(sets: &[(u16, &[u8])]) -> Vec<u8> {
        let sets: Vec<u8> = sets
            .iter()
            .flat_map(|(id, body)| [&id.to_be_bytes()[..], &(body.len() as u16 + 4).to_be_bytes(), body].concat())
            .collect();
        let head = [10, sets.len() as u16 + 16].map(u16::to_be_bytes).concat();
        [&head[..], &[0, 0, 0, 9, 0, 0, 0, 5, 0, 0, 0, 1], &sets].concat()
    }

    fn told(raw: &[u8], source: &dyn TemplateSource) -> Vec<String> {
        let mut told = Vec::new();
        walk(&scan(raw).unwrap(), source, &mut |item| {
            told.push(match item {
                Item::Set { set, template, body, .. } => {
                    let name = template.fields().first().map(|field| field.name.to_string());
                    format!("{} {} {}", set.unwrap(), name.unwrap(), template.count(body))
                }
                Item::Undescribed(set) => format!("undescribed {} {}", set.id, set.body.len()),
                other => format!("{other:?}"),
            });
        });
        told
    }

    const SRC: &[u8] = &[1, 0, 0, 1, 0, 8, 0, 4];
    const DST: &[u8] = &[1, 0, 0, 1, 0, 12, 0, 4];
    const DATA: &[u8] = &[10, 0, 0, 1, 10, 0, 0, 2];

    #[test]
    fn templates_count_from_where_they_stand() {
        let raw = message(&[(2, SRC), (256, DATA), (2, DST), (256, DATA)]);
        assert_eq!(told(&raw, &NoTemplates), ["256 sourceIPv4Address 2", "256 destinationIPv4Address 2"]);
    }

    #[test]
    fn data_before_its_template_is_read_at_the_end() {
        let raw = message(&[(256, DATA), (257, DATA), (2, SRC)]);
        assert_eq!(told(&raw, &NoTemplates), ["256 sourceIPv4Address 2", "undescribed 257 8"]);
    }

    #[test]
    fn a_withdrawn_template_describes_nothing() {
        for withdrawal in [&[1, 0, 0, 0][..], &[0, 2, 0, 0]] {
            let raw = message(&[(2, SRC), (2, withdrawal), (256, DATA), (4, DATA)]);
            assert_eq!(told(&raw, &NoTemplates), ["undescribed 4 8", "undescribed 256 8"]);
        }
    }

    #[test]
    fn what_cannot_be_read_leaves_its_neighbours_alone() {
        let raw = message(&[(2, SRC), (2, &[1, 1, 0, 9]), (256, DATA)]);
        assert_eq!(told(&raw, &NoTemplates), ["Fault(Template { id: 257 })", "256 sourceIPv4Address 2"]);
        let mut cut = message(&[(2, SRC), (256, DATA), (256, DATA)]);
        cut.pop();
        let told = told(&cut, &NoTemplates);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("MessageLength") && told[2].contains("SetLength"));
    }
}
