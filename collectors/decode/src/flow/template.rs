//! A template, compiled: what a record's bytes are, field by field.
//!
//! Its definition is kept as it stands on the wire: a set with one template record in it. The set's id tells protocol
//! and kind, so the definition alone is enough to compile the template again, anywhere.

use super::Reject;
use super::elements::{Name, Registry, Type, find};
use super::fields::Slot;
use super::sets::{FIRST_DATA_SET, Family, Set, SetKind, TemplateRecord, VARIABLE, specifier};
use super::value::Value;
use super::wire::Wire;
use std::collections::HashMap;

/// What a template describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TemplateKind {
    /// Flow records.
    Data,
    /// Records about the exporter itself.
    Options,
}

/// One field of a template.
#[derive(Debug, Clone, Copy)]
pub struct FieldSpec {
    /// How it is called.
    pub name: Name,
    /// Bytes; [`VARIABLE`] where the record says.
    pub length: u16,
    /// How its bytes are read.
    pub kind: Type,
    /// True for a scope field of an options template.
    pub scope: bool,
    /// Which of the fields that all versions share it fills.
    pub(super) slot: Slot,
    /// Place of the next field of the same name.
    pub(super) next: Option<u16>,
    /// False where a field of the same name stands before it.
    pub(super) first: bool,
}

/// A compiled template.
#[derive(Debug, Clone)]
pub struct Template {
    id: u16,
    kind: TemplateKind,
    family: Family,
    scope: u16,
    fields: Box<[FieldSpec]>,
    /// Length of a record; of one with fields of variable length, the least.
    min_len: usize,
    variable: bool,
    definition: Box<[u8]>,
}

impl Template {
    /// Compiles a definition: a set of one template record, as [`Template::definition`] gives it.
    pub fn compile(definition: &[u8]) -> Result<Self, Reject> {
        let mut wire = Wire::new(definition);
        let (id, length) = wire.u16().zip(wire.u16()).ok_or(Reject::HeaderShort)?;
        if usize::from(length) != definition.len() {
            return Err(Reject::SetLength { id, said: length, left: definition.len() as u32 });
        }
        let family = if id < 2 { Family::V9 } else { Family::Ipfix };
        let set = Set { id, kind: Set::kind_of(family, id), family, body: wire.rest() };
        let record = set.templates().next().unwrap_or(Err(Reject::Template { id: 0 }))?;
        Self::of(&record)
    }

    /// Compiles a template as it was found in a datagram.
    pub fn of(record: &TemplateRecord<'_>) -> Result<Self, Reject> {
        if record.fields == 0 || record.id < FIRST_DATA_SET {
            return Err(Reject::Template { id: record.id });
        }
        let fields = fields(record);
        let lengths = fields.iter().map(|field| if field.length == VARIABLE { 1 } else { usize::from(field.length) });
        Ok(Self {
            id: record.id,
            kind: if record.options { TemplateKind::Options } else { TemplateKind::Data },
            family: record.family,
            scope: record.scope,
            min_len: lengths.sum(),
            variable: fields.iter().any(|field| field.length == VARIABLE),
            fields,
            definition: definition(record).into(),
        })
    }

    /// Template id.
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// Flow records or options.
    pub const fn kind(&self) -> TemplateKind {
        self.kind
    }

    /// Which protocol's numbers the fields have.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// How many of the fields on the wire are scope.
    pub const fn scope(&self) -> u16 {
        self.scope
    }

    /// The fields that have bytes. A field of length 0 says nothing and is left out.
    pub fn fields(&self) -> &[FieldSpec] {
        &self.fields
    }

    /// Length of a record, or the least one.
    pub const fn min_len(&self) -> usize {
        self.min_len
    }

    /// The template as it stands on the wire: a set with this one record.
    pub fn definition(&self) -> &[u8] {
        &self.definition
    }

    /// True where `record` says the same as this template, byte for byte.
    pub fn is(&self, record: &TemplateRecord<'_>) -> bool {
        let same_kind = (self.kind == TemplateKind::Options) == record.options;
        same_kind && self.family == record.family && self.definition.get(4..) == Some(record.bytes)
    }

    /// Bytes of memory, about.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.definition.len() + size_of_val(&*self.fields)
    }

    /// The records of a data set's content. Bytes at its end that are too few for a record are padding.
    pub const fn records<'t, 'a>(&'t self, body: &'a [u8]) -> Records<'t, 'a> {
        Records { template: self, wire: Wire::new(body) }
    }

    /// How many records a data set's content holds: what IPFIX's sequence numbers count.
    pub fn count(&self, body: &[u8]) -> usize {
        if self.variable { self.records(body).count() } else { body.len().checked_div(self.min_len).unwrap_or(0) }
    }
}

fn definition(record: &TemplateRecord<'_>) -> Vec<u8> {
    let id: u16 = match (record.family, record.options) {
        (Family::V9, options) => options.into(),
        (Family::Ipfix, false) => 2,
        (Family::Ipfix, true) => 3,
    };
    let length = (record.bytes.len() + 4) as u16;
    [&id.to_be_bytes()[..], &length.to_be_bytes(), record.bytes].concat()
}

/// What makes two fields have one name.
#[derive(PartialEq, Eq, Hash)]
enum Alike {
    Name(&'static str, bool),
    Number(u32, u16),
}

fn fields(record: &TemplateRecord<'_>) -> Box<[FieldSpec]> {
    let mut wire = Wire::new(record.specifiers);
    let mut fields: Vec<FieldSpec> = Vec::with_capacity(record.fields.into());
    let mut last_of: HashMap<Alike, usize> = HashMap::new();
    for at in 0..record.fields {
        let Some((enterprise, id, length)) = specifier(&mut wire, record.family) else { break };
        let scope = at < record.scope;
        if length == 0 {
            continue;
        }
        let registry = match record.family {
            Family::V9 if scope => Registry::V9Scope,
            Family::V9 => Registry::V9,
            Family::Ipfix => Registry::Ipfix(enterprise),
        };
        let (element, reverse) = find(registry, id);
        let alike = element.map_or(Alike::Number(enterprise, id), |element| Alike::Name(element.name, reverse));
        let before = last_of.insert(alike, fields.len());
        let place = fields.len() as u16;
        if let Some(before) = before.and_then(|before| fields.get_mut(before)) {
            before.next = Some(place);
        }
        fields.push(FieldSpec {
            name: Name { element, reverse, enterprise, id },
            length,
            kind: element.map_or(Type::Octets, |element| element.kind),
            scope,
            slot: Slot::of(registry, id),
            next: None,
            first: before.is_none(),
        });
    }
    fields.into_boxed_slice()
}

/// Iterator over the records of a data set.
#[derive(Debug, Clone)]
pub struct Records<'t, 'a> {
    template: &'t Template,
    wire: Wire<'a>,
}

impl<'a> Records<'_, 'a> {
    /// What has not been read. After the last record: padding, or bytes that are no record.
    pub const fn left(&self) -> &'a [u8] {
        self.wire.rest()
    }
}

impl<'t, 'a> Iterator for Records<'t, 'a> {
    type Item = Record<'t, 'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let template = self.template;
        if self.wire.len() < template.min_len || template.min_len == 0 {
            return None;
        }
        if !template.variable {
            return self.wire.take(template.min_len).map(|bytes| Record { template, bytes });
        }
        let mut wire = self.wire;
        for field in &template.fields {
            field.take(&mut wire)?;
        }
        let bytes = self.wire.take(self.wire.len() - wire.len())?;
        Some(Record { template, bytes })
    }
}

impl FieldSpec {
    #[inline]
    fn take<'a>(&self, wire: &mut Wire<'a>) -> Option<&'a [u8]> {
        if self.length == VARIABLE { wire.variable() } else { wire.take(self.length.into()) }
    }
}

/// One record, and what describes it.
#[derive(Debug, Clone, Copy)]
pub struct Record<'t, 'a> {
    /// What describes it.
    pub template: &'t Template,
    /// Its bytes.
    pub bytes: &'a [u8],
}

impl<'t, 'a> Record<'t, 'a> {
    /// The fields, in the template's order.
    #[inline]
    pub fn fields(&self) -> Fields<'t, 'a> {
        Fields { specs: self.template.fields.iter(), wire: Wire::new(self.bytes) }
    }
}

/// One field of a record.
#[derive(Debug, Clone, Copy)]
pub struct Field<'t, 'a> {
    /// What describes it.
    pub spec: &'t FieldSpec,
    /// Its bytes, without the length of one of variable length.
    pub bytes: &'a [u8],
}

impl<'a> Field<'_, 'a> {
    /// The bytes as a typed value.
    #[inline]
    pub fn value(&self) -> Value<'a> {
        Value::read(self.spec.kind, self.bytes)
    }
}

/// Iterator over the fields of a record.
#[derive(Debug, Clone)]
pub struct Fields<'t, 'a> {
    specs: std::slice::Iter<'t, FieldSpec>,
    wire: Wire<'a>,
}

impl<'t, 'a> Iterator for Fields<'t, 'a> {
    type Item = Field<'t, 'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let spec = self.specs.next()?;
        Some(Field { spec, bytes: spec.take(&mut self.wire)? })
    }
}

impl<'a> Set<'a> {
    /// True for a data set.
    pub const fn is_data(&self) -> bool {
        matches!(self.kind, SetKind::Data)
    }

    /// The records, by `template`.
    pub const fn records<'t>(&self, template: &'t Template) -> Records<'t, 'a> {
        template.records(self.body)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Template 256: source address, an interface name of variable length, two times the same counter.
    const DEFINITION: &[u8] = &[0, 2, 0, 24, 1, 0, 0, 4, 0, 8, 0, 4, 0, 82, 0xff, 0xff, 0, 1, 0, 1, 0, 1, 0, 2];

    #[test]
    fn a_definition_compiles_to_itself() {
        let template = Template::compile(DEFINITION).unwrap();
        assert_eq!(template.definition(), DEFINITION);
        assert_eq!((template.id(), template.kind(), template.family()), (256, TemplateKind::Data, Family::Ipfix));
        assert_eq!(template.min_len(), 8);
        let [_, _, first, second] = template.fields() else { panic!("four fields") };
        assert_eq!((first.next, first.first, second.next, second.first), (Some(3), true, None, false));
    }

    #[test]
    fn records_of_variable_length_are_read_to_the_padding() {
        let template = Template::compile(DEFINITION).unwrap();
        let body = [10, 0, 0, 1, 2, b'g', b'1', 7, 0, 8, 10, 0, 0, 2, 255, 0, 1, b'x', 1, 0, 2, 0, 0];
        let records: Vec<_> = template.records(&body).collect();
        assert_eq!(template.count(&body), 2);
        let values: Vec<_> = records[1].fields().map(|field| field.value()).collect();
        let expected = [Value::V4([10, 0, 0, 2].into()), Value::Text(b"x"), Value::Unsigned(1), Value::Unsigned(2)];
        assert_eq!(values, expected);
    }

    #[test]
    fn fields_without_bytes_make_no_records() {
        let template = Template::compile(&[0, 2, 0, 12, 1, 0, 0, 1, 0, 8, 0, 0]).unwrap();
        assert_eq!((template.fields().len(), template.count(&[0; 99])), (0, 0));
        assert_eq!(template.records(&[0; 99]).count(), 0);
    }

    #[test]
    fn what_is_no_template_does_not_compile() {
        for bytes in [&b""[..], &[0, 2, 0, 4], &[0, 2, 0, 8, 1, 0, 0, 0], &[1, 0, 0, 12, 1, 0, 0, 1, 0, 8, 0, 4]] {
            assert!(Template::compile(bytes).is_err(), "{bytes:?}");
        }
        let [mut shorter, mut longer] = [DEFINITION.to_vec(), DEFINITION.to_vec()];
        shorter.pop();
        longer.push(0);
        assert!(Template::compile(&shorter).is_err() && Template::compile(&longer).is_err());
    }
}
