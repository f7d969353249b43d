//! The wire format of protobuf, as far as destinations need it. Pure.

/// Wire types.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;

/// Appends the key of a field: below 16, so that it is one byte.
fn key(out: &mut Vec<u8>, field: u8, wire: u8) {
    out.push(field << 3 | wire);
}

/// Appends the opening of a message of `len` bytes, which the caller appends.
pub(crate) fn open(out: &mut Vec<u8>, field: u8, len: usize) {
    key(out, field, BYTES);
    varint(out, len as u64);
}

/// Appends a string, bytes, or a message.
pub(crate) fn field_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    open(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends an integer that is not negative, an enum or a `bool`.
pub(crate) fn field_number(out: &mut Vec<u8>, field: u8, number: u64) {
    key(out, field, VARINT);
    varint(out, number);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(crate) const fn varint_len(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a `double`.
pub(crate) fn field_double(out: &mut Vec<u8>, field: u8, number: f64) {
    field_fixed(out, field, number.to_bits());
}

/// Appends a `fixed64`.
pub(crate) fn field_fixed(out: &mut Vec<u8>, field: u8, number: u64) {
    key(out, field, FIXED64);
    out.extend_from_slice(&number.to_le_bytes());
}

/// Puts what is in `message` from `at` on into field `field`, behind `head`.
pub(crate) fn enclose(message: &mut Vec<u8>, at: usize, field: u8, head: &[u8]) {
    let mut opening = Vec::with_capacity(12 + head.len());
    open(&mut opening, field, head.len() + message.len() - at);
    opening.extend_from_slice(head);
    message.splice(at..at, opening);
}

/// What a field holds.
pub(crate) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// Takes one field off the front; `None` when it is not protobuf.
pub(crate) fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = take_varint(bytes)?;
    let content = match tag & 7 {
        0 => Field::Number(take_varint(bytes)?),
        1 => take(bytes, 8).map(|_| Field::Fixed)?,
        2 => {
            let len = usize::try_from(take_varint(bytes)?).ok()?;
            Field::Bytes(take(bytes, len)?)
        }
        5 => take(bytes, 4).map(|_| Field::Fixed)?,
        _ => return None,
    };
    Some((tag >> 3, content)).filter(|(field, _)| *field > 0)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_enclosed_with_its_length() {
        let mut message = b"ab".to_vec();
        enclose(&mut message, 1, 2, b"head");
        assert_eq!(message, b"a\x12\x05headb");
        let mut long = vec![0; 300];
        enclose(&mut long, 0, 1, b"");
        assert_eq!(take_varint(&mut &long[1..]), Some(300));
    }

    proptest! {
        #[test]
        fn a_varint_is_as_long_as_it_says(number: u64) {
            let mut out = Vec::new();
            varint(&mut out, number);
            prop_assert_eq!(out.len(), varint_len(number));
            prop_assert_eq!(take_varint(&mut &out[..]), Some(number));
        }
    }
}
