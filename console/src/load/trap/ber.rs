//! As much of BER (X.690) as SNMP needs. Writing allocates: it makes templates, not datagrams.

/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// OCTET STRING.
pub const OCTETS: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub const OID: u8 = 0x06;
/// SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// TimeTicks (RFC 2578).
pub const TIME_TICKS: u8 = 0x43;
/// SNMPv2-Trap.
pub const TRAP: u8 = 0xa7;

/// Tag, length, content.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        len @ 0..=0x7f => out.push(len as u8),
        len @ 0x80..=0xff => out.extend_from_slice(&[0x81, len as u8]),
        len => out.extend_from_slice(&[0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// Several, one behind the other, inside of one.
pub fn all(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(tag, &parts.concat())
}

/// A number that is not negative, in as few bytes as it needs.
pub fn number(tag: u8, value: u32) -> Vec<u8> {
    let bytes = u64::from(value).to_be_bytes();
    let needed = (32 - value.leading_zeros()) as usize / 8 + 1; // with a bit for the sign
    tlv(tag, &bytes[8 - needed..])
}

/// An object identifier of at least two parts.
pub fn oid(parts: &[u32]) -> Vec<u8> {
    let mut content = vec![(parts[0] * 40 + parts[1]) as u8];
    for part in &parts[2..] {
        let groups = (32 - part.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let more = if group > 0 { 0x80 } else { 0 };
            content.push((part >> (7 * group)) as u8 & 0x7f | more);
        }
    }
    tlv(OID, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_x690_wants() {
        for (value, bytes) in [
            (0, &[2, 1, 0][..]),
            (127, &[2, 1, 127]),
            (128, &[2, 2, 0, 128]),
            (0x7fff, &[2, 2, 0x7f, 0xff]),
            (0x4000_0000, &[2, 4, 0x40, 0, 0, 0]),
            (u32::MAX, &[2, 5, 0, 255, 255, 255, 255]),
        ] {
            assert_eq!(number(INTEGER, value), bytes);
        }
    }

    #[test]
    fn object_identifiers_are_those_of_the_books() {
        assert_eq!(oid(&[1, 3, 6, 1, 4, 1, 32_473, 0]), [6, 9, 0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 0]);
    }
}
