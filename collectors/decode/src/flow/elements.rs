//! Information elements: number, name and type (RFC 7012), and where their number is looked up.

mod iana;
mod vendors;

use std::fmt;

/// Abstract data type of an element (RFC 7012, section 3.1). Integers have no width here: the wire says how many
/// bytes there are (RFC 7011, section 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// Bytes without a meaning that is known here.
    Octets,
    /// unsigned8 to unsigned64.
    Unsigned,
    /// signed8 to signed64.
    Signed,
    /// float32 and float64.
    Float,
    /// 1 is true, 2 is false.
    Bool,
    /// Six bytes.
    Mac,
    /// UTF-8, perhaps filled up with NUL.
    Text,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Millis,
    /// NTP timestamp, of which microseconds count.
    Micros,
    /// NTP timestamp.
    Nanos,
    /// IPv4 address.
    V4,
    /// IPv6 address.
    V6,
    /// Values of one element (RFC 6313, section 4.5.1).
    BasicList,
    /// Records of one template (RFC 6313, section 4.5.2).
    SubTemplateList,
    /// Records of several templates (RFC 6313, section 4.5.3).
    SubTemplateMultiList,
    /// Bytes that say nothing: `paddingOctets`.
    Padding,
}

/// One element of a registry.
#[derive(Debug, PartialEq, Eq)]
pub struct Element {
    /// Number within its registry.
    pub id: u16,
    /// Name as the registry has it.
    pub name: &'static str,
    /// How its bytes are read.
    pub kind: Type,
}

impl Element {
    const fn new(id: u16, name: &'static str, kind: Type) -> Self {
        Self { id, name, kind }
    }
}

/// Enterprise number that stands for "the other direction of a biflow" (RFC 5103, section 6.1).
pub const REVERSE: u32 = 29_305;
/// yaf marks the other direction by a bit of the element's number.
const CERT: u32 = 6_871;
const CERT_REVERSE: u16 = 0x4000;
/// ntop's elements: in NetFlow v9 they stand at 57472 and above.
const NTOP: u32 = 35_632;
const NTOP_V9: u16 = 57_472;

/// Which registry a number is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Registry {
    /// IPFIX: IANA's for enterprise 0, else the enterprise's own.
    Ipfix(u32),
    /// Field types of NetFlow v9: IANA's, with vendors' own numbers above.
    V9,
    /// Scope types of NetFlow v9 options (RFC 3954, section 6.1).
    V9Scope,
}

/// What is known about a number: the element, and whether it is about the other direction.
pub fn find(registry: Registry, id: u16) -> (Option<&'static Element>, bool) {
    match registry {
        Registry::Ipfix(0) => (iana(id), false),
        Registry::Ipfix(REVERSE) => (iana(id), true),
        Registry::Ipfix(CERT) if id & CERT_REVERSE != 0 => (vendor(CERT, id & !CERT_REVERSE), true),
        Registry::Ipfix(enterprise) => (vendor(enterprise, id), false),
        Registry::V9 => (v9(id), false),
        Registry::V9Scope => (in_order(V9_SCOPES, id), false),
    }
}

/// The numbers are dense, so the place is found at once.
fn iana(id: u16) -> Option<&'static Element> {
    const PLACES: usize = 530;
    static PLACE: [u16; PLACES] = {
        let mut place = [u16::MAX; PLACES];
        let mut at = 0;
        while at < iana::IANA.len() {
            place[iana::IANA[at].id as usize] = at as u16;
            at += 1;
        }
        place
    };
    let at = *PLACE.get(usize::from(id))?;
    iana::IANA.get(usize::from(at))
}

fn v9(id: u16) -> Option<&'static Element> {
    iana(id)
        .or_else(|| in_order(vendors::V9, id))
        .or_else(|| id.checked_sub(NTOP_V9).and_then(|number| vendor(NTOP, number)))
}

fn vendor(enterprise: u32, id: u16) -> Option<&'static Element> {
    let (_, elements) = vendors::VENDORS.iter().find(|(number, _)| *number == enterprise)?;
    in_order(elements, id)
}

fn in_order(elements: &'static [Element], id: u16) -> Option<&'static Element> {
    elements.binary_search_by_key(&id, |element| element.id).ok().and_then(|at| elements.get(at))
}

static V9_SCOPES: &[Element] = &[
    Element::new(1, "scopeSystem", Type::Unsigned),
    Element::new(2, "scopeInterface", Type::Unsigned),
    Element::new(3, "scopeLineCard", Type::Unsigned),
    Element::new(4, "scopeCache", Type::Unsigned),
    Element::new(5, "scopeTemplate", Type::Unsigned),
];

/// The name under which an element is shown: `octetDeltaCount`, `reverseOctetDeltaCount` (RFC 5103, section 6.1), or
/// `e<enterprise>.<number>` where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    pub(crate) element: Option<&'static Element>,
    pub(crate) reverse: bool,
    pub(crate) enterprise: u32,
    pub(crate) id: u16,
}

impl Name {
    /// The number of one of IANA's elements, in the direction of the flow.
    pub const fn iana(&self) -> Option<u16> {
        if self.enterprise == 0 && !self.reverse { Some(self.id) } else { None }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.element {
            Some(element) if self.reverse => {
                let mut letters = element.name.chars();
                let first = letters.next().map(|letter| letter.to_ascii_uppercase());
                f.write_str("reverse")?;
                first.map_or(Ok(()), |letter| write!(f, "{letter}"))?;
                f.write_str(letters.as_str())
            }
            Some(element) => f.write_str(element.name),
            None => write!(f, "e{}.{}", self.enterprise, self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tables_are_in_order() {
        let ordered = |elements: &[Element]| elements.is_sorted_by(|a, b| a.id < b.id);
        assert!(ordered(iana::IANA) && ordered(vendors::V9) && ordered(V9_SCOPES));
        assert!(vendors::VENDORS.iter().all(|(_, elements)| ordered(elements)));
        assert!(iana::IANA.len() >= 490);
    }

    #[test]
    fn numbers_have_the_names_of_their_registry() {
        let name = |registry, id, enterprise| {
            let (element, reverse) = find(registry, id);
            Name { element, reverse, enterprise, id }.to_string()
        };
        assert_eq!(name(Registry::Ipfix(0), 1, 0), "octetDeltaCount");
        assert_eq!(name(Registry::Ipfix(0), 315, 0), "dataLinkFrameSection");
        assert_eq!(name(Registry::Ipfix(0), 416, 0), "e0.416");
        assert_eq!(name(Registry::Ipfix(REVERSE), 1, REVERSE), "reverseOctetDeltaCount");
        assert_eq!(name(Registry::Ipfix(6871), 16_398, 6871), "reverseInitialTCPFlags");
        assert_eq!(name(Registry::Ipfix(41_916), 4_321, 41_916), "viptelaVPNId");
        assert_eq!(name(Registry::Ipfix(4), 5, 4), "e4.5");
        assert_eq!(name(Registry::V9, 40_000, 0), "aaaUsername");
        assert_eq!(name(Registry::V9, 57_590, 0), "ntopL7Proto");
        assert_eq!(name(Registry::V9Scope, 2, 0), "scopeInterface");
        assert_eq!(find(Registry::Ipfix(0), 530), (None, false));
    }
}
