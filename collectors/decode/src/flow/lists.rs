//! Structured data (RFC 6313): a field that holds a list of values or of records.
//!
//! ```text
//! basicList             semantic element length [enterprise] value…
//! subTemplateList       semantic template record…
//! subTemplateMultiList  semantic { template length record… }…
//! ```

use super::elements::{Element, Name, Registry, Type, find};
use super::sets::{Family, VARIABLE, specifier};
use super::value::Value;
use super::wire::Wire;

/// Lists may hold lists; deeper than this they are shown as bytes.
pub const MAX_DEPTH: usize = 4;

/// A list whose content has not been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List<'a> {
    /// Values of one element.
    Basic(&'a [u8]),
    /// Records of one template.
    SubTemplate(&'a [u8]),
    /// Records of several templates.
    SubTemplateMulti(&'a [u8]),
}

/// How the entries of a list belong together (RFC 6313, section 4.4).
pub const fn semantic_name(semantic: u8) -> &'static str {
    match semantic {
        0 => "noneOf",
        1 => "exactlyOneOf",
        2 => "oneOrMoreOf",
        3 => "allOf",
        4 => "ordered",
        _ => "undefined",
    }
}

/// The values of a basicList.
#[derive(Debug, Clone)]
pub struct BasicValues<'a> {
    /// How the values belong together.
    pub semantic: u8,
    /// The element that they are values of.
    pub name: Name,
    kind: Type,
    length: u16,
    wire: Wire<'a>,
}

impl<'a> BasicValues<'a> {
    /// Reads the head of a basicList.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut wire = Wire::new(bytes);
        let semantic = wire.u8()?;
        let (enterprise, id, length) = specifier(&mut wire, Family::Ipfix)?;
        let (element, reverse) = find(Registry::Ipfix(enterprise), id);
        let kind = element.map_or(Type::Octets, |element: &Element| element.kind);
        Some(Self { semantic, name: Name { element, reverse, enterprise, id }, kind, length, wire })
    }
}

impl<'a> Iterator for BasicValues<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = match self.length {
            0 => None,
            VARIABLE => self.wire.variable(),
            length => self.wire.take(length.into()),
        };
        bytes.map(|bytes| Value::read(self.kind, bytes))
    }
}

/// Records of one template within a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubRecords<'a> {
    /// Template of the same domain.
    pub template: u16,
    /// Records, end to end.
    pub body: &'a [u8],
}

/// The parts of a subTemplateList (one) or subTemplateMultiList.
#[derive(Debug, Clone)]
pub struct SubTemplates<'a> {
    /// How the entries belong together.
    pub semantic: u8,
    multi: bool,
    wire: Wire<'a>,
}

impl<'a> SubTemplates<'a> {
    /// Reads the head of a list of records.
    pub fn read(bytes: &'a [u8], multi: bool) -> Option<Self> {
        let mut wire = Wire::new(bytes);
        Some(Self { semantic: wire.u8()?, multi, wire })
    }
}

impl<'a> Iterator for SubTemplates<'a> {
    type Item = SubRecords<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let template = self.wire.u16()?;
        let length = if self.multi { usize::from(self.wire.u16()?).checked_sub(4)? } else { self.wire.len() };
        Some(SubRecords { template, body: self.wire.take(length)? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_basic_list_has_values_of_one_element() {
        let list = BasicValues::read(&[3, 0, 10, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 9]).unwrap();
        assert_eq!((list.semantic, list.name.to_string()), (3, "ingressInterface".to_owned()));
        assert_eq!(list.collect::<Vec<_>>(), [Value::Unsigned(1), Value::Unsigned(2)]);
        let of_texts = BasicValues::read(&[3, 0, 82, 0xff, 0xff, 2, b'a', b'b', 1, b'c', 5]).unwrap();
        assert_eq!(of_texts.collect::<Vec<_>>(), [Value::Text(b"ab"), Value::Text(b"c")]);
        assert_eq!(BasicValues::read(&[3, 0, 10, 0, 0, 1, 2]).unwrap().count(), 0, "values without bytes do not end");
    }

    #[test]
    fn records_of_several_templates() {
        let parts = SubTemplates::read(&[3, 1, 0, 0, 6, 7, 8, 1, 1, 0, 4, 1, 2, 0, 3], true).unwrap();
        let parts: Vec<_> = parts.collect();
        assert_eq!(parts, [SubRecords { template: 256, body: &[7, 8] }, SubRecords { template: 257, body: &[] }]);
        let one: Vec<_> = SubTemplates::read(&[3, 1, 0, 7, 8], false).unwrap().collect();
        assert_eq!(one, [SubRecords { template: 256, body: &[7, 8] }]);
    }
}
