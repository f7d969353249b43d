//! NetFlow 9 (RFC 3954) and IPFIX (RFC 7011): a header, then sets.
//!
//! ```text
//! v9     version=9 count uptime_ms seconds sequence source_id        20 bytes
//! IPFIX  version=10 length seconds sequence domain                   16 bytes
//! set    id length content…      id 0, 1 (v9) or 2, 3 (IPFIX): templates, options templates; from 256: data
//! ```
//!
//! The count of v9's header is not used: exporters disagree on what it counts.

use super::Reject;
use super::scan::{Header, Version};
use super::wire::Wire;

/// Set ids and template ids from here on are data.
pub const FIRST_DATA_SET: u16 = 256;
/// Field length that stands for "the record says" (RFC 7011, section 7).
pub const VARIABLE: u16 = u16::MAX;
/// More fields than this has no template that a device sends; a record of them would be all header.
pub const MAX_FIELDS: usize = 1_024;

const SET_HEADER: usize = 4;
const ENTERPRISE_BIT: u16 = 0x8000;

/// The two protocols that describe their records by templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// NetFlow 9.
    V9,
    /// IPFIX.
    Ipfix,
}

/// A datagram of NetFlow 9 or IPFIX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The header.
    pub header: Header,
    /// Which of the two.
    pub family: Family,
    /// Source id or observation domain.
    pub domain: u32,
    sets: &'a [u8],
    /// What is wrong with the message's length.
    length: Option<Reject>,
}

impl<'a> Message<'a> {
    pub(super) fn v9(raw: &'a [u8]) -> Result<Self, Reject> {
        let mut wire = Wire::new(raw);
        let mut read = || {
            let [_version, count] = [wire.u16()?, wire.u16()?];
            let [uptime_ms, seconds, sequence, domain] = [wire.u32()?, wire.u32()?, wire.u32()?, wire.u32()?];
            let header = header(Version::V9, sequence, domain, seconds);
            Some((Header { uptime_ms: Some(uptime_ms), count: Some(count.into()), ..header }, domain))
        };
        let (header, domain) = read().ok_or(Reject::HeaderShort)?;
        Ok(Self { header, family: Family::V9, domain, sets: wire.rest(), length: None })
    }

    pub(super) fn ipfix(raw: &'a [u8]) -> Result<Self, Reject> {
        let mut wire = Wire::new(raw);
        let mut read = || {
            let [_version, length] = [wire.u16()?, wire.u16()?];
            let [seconds, sequence, domain] = [wire.u32()?, wire.u32()?, wire.u32()?];
            Some((length, header(Version::Ipfix, sequence, domain, seconds), domain))
        };
        let (length, header, domain) = read().ok_or(Reject::HeaderShort)?;
        let (said, got) = (usize::from(length), raw.len());
        let content = said.saturating_sub(got - wire.len());
        let sets = wire.rest().get(..content);
        let length = (said != got).then_some(Reject::MessageLength { said: length, got: got as u32 });
        Ok(Self { header, family: Family::Ipfix, domain, sets: sets.unwrap_or(wire.rest()), length })
    }

    /// The sets, in order. After a fault there is nothing more.
    pub const fn sets(&self) -> Sets<'a> {
        Sets { wire: Wire::new(self.sets), family: self.family, broken: false }
    }

    /// IPFIX says how long a message is. Where that is not how long the datagram is, what lies behind the message is
    /// not looked at, and what is missing ends the sets.
    pub const fn length_fault(&self) -> Option<Reject> {
        self.length
    }
}

fn header(version: Version, sequence: u32, domain: u32, seconds: u32) -> Header {
    Header {
        version,
        sequence: Some(sequence),
        domain: Some(domain),
        export_ms: Some(u64::from(seconds) * 1_000),
        uptime_ms: None,
        count: None,
        sampling: None,
        agent: None,
    }
}

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// Templates.
    Templates,
    /// Options templates.
    OptionsTemplates,
    /// Records of the template of this number.
    Data,
    /// A number that no specification gives a meaning to.
    Reserved,
}

/// One set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<'a> {
    /// Set id; of data, the template's.
    pub id: u16,
    /// What it holds.
    pub kind: SetKind,
    /// Which protocol's.
    pub family: Family,
    /// Content, without the set's header.
    pub body: &'a [u8],
}

impl<'a> Set<'a> {
    /// The template records of a set of templates; nothing for other sets.
    pub const fn templates(&self) -> TemplateRecords<'a> {
        let body: &[u8] = match self.kind {
            SetKind::Templates | SetKind::OptionsTemplates => self.body,
            SetKind::Data | SetKind::Reserved => &[],
        };
        let options = matches!(self.kind, SetKind::OptionsTemplates);
        TemplateRecords { wire: Wire::new(body), family: self.family, options, broken: false }
    }

    pub(super) fn kind_of(family: Family, id: u16) -> SetKind {
        match (family, id) {
            (Family::V9, 0) | (Family::Ipfix, 2) => SetKind::Templates,
            (Family::V9, 1) | (Family::Ipfix, 3) => SetKind::OptionsTemplates,
            (_, FIRST_DATA_SET..) => SetKind::Data,
            _ => SetKind::Reserved,
        }
    }
}

/// Iterator over the sets of a message.
#[derive(Debug, Clone)]
pub struct Sets<'a> {
    wire: Wire<'a>,
    family: Family,
    broken: bool,
}

impl<'a> Iterator for Sets<'a> {
    type Item = Result<Set<'a>, Reject>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.broken || self.wire.is_empty() {
            return None;
        }
        let before = self.wire;
        let (id, length) = self.wire.u16().zip(self.wire.u16()).unwrap_or_default();
        let body = usize::from(length).checked_sub(SET_HEADER).and_then(|length| self.wire.take(length));
        if let Some(body) = body {
            let kind = Set::kind_of(self.family, id);
            return Some(Ok(Set { id, kind, family: self.family, body }));
        }
        self.broken = true;
        // Some devices fill their datagrams up with zeros (PAN-OS 8.1).
        let padding = before.rest().iter().all(|byte| *byte == 0);
        (!padding).then_some(Err(Reject::SetLength { id, said: length, left: before.len() as u32 }))
    }
}

/// A template as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateRecord<'a> {
    /// Template id.
    pub id: u16,
    /// True for an options template.
    pub options: bool,
    /// How many fields it has; 0 in IPFIX means that the template is withdrawn (RFC 7011, section 8.1).
    pub fields: u16,
    /// How many of these, from the first on, are scope.
    pub scope: u16,
    /// The record, header and all.
    pub bytes: &'a [u8],
    /// Its field specifiers.
    pub(super) specifiers: &'a [u8],
    pub(super) family: Family,
}

impl TemplateRecord<'_> {
    /// True where the exporter takes a template back. `id` below [`FIRST_DATA_SET`] means all of its kind.
    pub const fn is_withdrawal(&self) -> bool {
        self.fields == 0 && matches!(self.family, Family::Ipfix)
    }
}

/// Iterator over the templates of a set.
#[derive(Debug, Clone)]
pub struct TemplateRecords<'a> {
    wire: Wire<'a>,
    family: Family,
    options: bool,
    broken: bool,
}

impl<'a> TemplateRecords<'a> {
    fn read(&mut self) -> Option<TemplateRecord<'a>> {
        let before = self.wire;
        let id = self.wire.u16()?;
        let second = self.wire.u16()?;
        let (fields, scope) = match (self.family, self.options) {
            (_, false) => (second, 0),
            // A withdrawal has no scope count.
            (Family::Ipfix, true) if second == 0 => (0, 0),
            (Family::Ipfix, true) => (second, self.wire.u16()?),
            // Two lengths in bytes (RFC 3954, section 6.1).
            (Family::V9, true) => {
                let options = self.wire.u16()?;
                (second / 4 + options / 4, second / 4)
            }
        };
        let start = self.wire;
        for _ in 0..fields {
            specifier(&mut self.wire, self.family)?;
        }
        let specifiers = start.rest().get(..start.len() - self.wire.len())?;
        let bytes = before.rest().get(..before.len() - self.wire.len())?;
        Some(TemplateRecord { id, options: self.options, fields, scope, bytes, specifiers, family: self.family })
    }

    /// A template's number must be one of data, and a scope cannot be longer than its template. Withdrawals may name
    /// the set's own number.
    fn is_sound(record: &TemplateRecord<'_>) -> bool {
        if record.is_withdrawal() {
            return record.id >= FIRST_DATA_SET || record.id == 2 || record.id == 3;
        }
        record.id >= FIRST_DATA_SET && record.fields > 0 && record.scope <= record.fields
    }
}

impl<'a> Iterator for TemplateRecords<'a> {
    type Item = Result<TemplateRecord<'a>, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        // Zeros at the end are padding: there is no template 0. So are fewer bytes than the least record has, whatever
        // they are (Cisco WLC).
        let padding = self.wire.len() < 4 || self.wire.rest().iter().take(4).all(|byte| *byte == 0);
        if self.broken || padding {
            return None;
        }
        let id = { self.wire }.u16().unwrap_or_default();
        let record = self.read().ok_or(Reject::Template { id }).and_then(|record| {
            if usize::from(record.fields) > MAX_FIELDS {
                return Err(Reject::TemplateFields { id, fields: record.fields });
            }
            Self::is_sound(&record).then_some(record).ok_or(Reject::Template { id })
        });
        self.broken = matches!(record, Err(Reject::Template { .. }));
        Some(record)
    }
}

/// A field specifier: enterprise, number, length.
pub(super) fn specifier(wire: &mut Wire<'_>, family: Family) -> Option<(u32, u16, u16)> {
    let (id, length) = (wire.u16()?, wire.u16()?);
    if family == Family::Ipfix && id & ENTERPRISE_BIT != 0 {
        return Some((wire.u32()?, id & !ENTERPRISE_BIT, length));
    }
    Some((0, id, length))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sets(family: Family, bytes: &[u8]) -> Vec<Result<Set<'_>, Reject>> {
        Sets { wire: Wire::new(bytes), family, broken: false }.collect()
    }

    #[test]
    fn a_set_ends_where_its_length_says() {
        let bytes = [1, 0, 0, 6, 7, 8, 0, 2, 0, 4];
        let v9 = sets(Family::V9, &bytes);
        assert_eq!(v9[0], Ok(Set { id: 256, kind: SetKind::Data, family: Family::V9, body: &[7, 8] }));
        assert_eq!(v9[1].map(|set| set.kind), Ok(SetKind::Reserved));
        assert_eq!(sets(Family::Ipfix, &bytes)[1].map(|set| set.kind), Ok(SetKind::Templates));
    }

    #[test]
    fn a_wrong_length_ends_the_sets_and_zeros_are_padding() {
        let broken = |id, said, left| Err(Reject::SetLength { id, said, left });
        assert_eq!(sets(Family::V9, &[1, 0, 0, 3]), [broken(256, 3, 4)]);
        assert_eq!(sets(Family::V9, &[1, 0, 0, 9, 1]), [broken(256, 9, 5)]);
        assert_eq!(sets(Family::V9, &[1, 0]), [broken(0, 0, 2)]);
        assert_eq!(sets(Family::V9, &[0; 7]), []);
    }

    fn templates(family: Family, id: u16, body: &[u8]) -> Vec<Result<TemplateRecord<'_>, Reject>> {
        Set { id, kind: Set::kind_of(family, id), family, body }.templates().collect()
    }

    #[test]
    fn template_records_follow_each_other() {
        let body = [1, 0, 0, 1, 0, 8, 0, 4, 1, 1, 0, 1, 0x80, 1, 0, 4, 0, 0, 0, 9, 0, 0];
        let records = templates(Family::Ipfix, 2, &body);
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].unwrap().bytes, &body[..8]);
        assert_eq!(records[1].unwrap().bytes, &body[8..20]);
    }

    #[test]
    fn options_templates_count_bytes_in_v9_and_fields_in_ipfix() {
        let v9 = templates(Family::V9, 1, &[1, 0, 0, 4, 0, 4, 0, 1, 0, 4, 0, 34, 0, 4, 0, 0]);
        assert_eq!(v9.len(), 1);
        assert_eq!((v9[0].unwrap().fields, v9[0].unwrap().scope), (2, 1));
        let ipfix = templates(Family::Ipfix, 3, &[1, 0, 0, 2, 0, 1, 0, 149, 0, 4, 0, 34, 0, 4]);
        assert_eq!((ipfix[0].unwrap().fields, ipfix[0].unwrap().scope), (2, 1));
    }

    #[test]
    fn withdrawals_are_of_ipfix() {
        assert!(templates(Family::Ipfix, 2, &[1, 0, 0, 0])[0].unwrap().is_withdrawal());
        assert!(templates(Family::Ipfix, 3, &[0, 3, 0, 0])[0].unwrap().is_withdrawal());
        assert_eq!(templates(Family::V9, 0, &[1, 0, 0, 0]), [Err(Reject::Template { id: 256 })]);
    }

    #[test]
    fn a_template_that_cannot_be_ends_its_set() {
        for body in [&[0, 5, 0, 1, 0, 8, 0, 4][..], &[1, 0, 0, 2, 0, 8, 0, 4], &[1, 0, 0xff, 0xff]] {
            let records = templates(Family::Ipfix, 2, body);
            assert!(matches!(records[..], [Err(Reject::Template { .. })]), "{body:?}: {records:?}");
        }
    }
}
