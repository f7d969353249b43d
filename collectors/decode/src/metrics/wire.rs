//! The wire format of protobuf: fields one after the other, whatever the schema.
//!
//! <https://protobuf.dev/programming-guides/encoding/>. Groups, which nobody has written for fifteen years, are a fault.

use std::fmt;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Integers, enums, truth.
    Varint(u64),
    /// `double` and `fixed64`.
    Fixed64(u64),
    /// Texts, messages, packed lists.
    Bytes(&'a [u8]),
    /// `float` and `fixed32`.
    Fixed32(u32),
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its number in the schema.
    pub number: u32,
    /// What it holds.
    pub value: Value<'a>,
    /// All of it, with the tag.
    pub whole: &'a [u8],
}

impl<'a> Field<'a> {
    /// What a text, message or list holds; nothing for a number.
    pub const fn bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A number as it stands; nothing for bytes.
    pub const fn number(&self) -> u64 {
        match self.value {
            Value::Varint(n) | Value::Fixed64(n) => n,
            Value::Fixed32(n) => n as u64,
            Value::Bytes(_) => 0,
        }
    }

    /// A `double`.
    pub const fn double(&self) -> f64 {
        f64::from_bits(self.number())
    }
}

/// Why a message cannot be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It ends inside a field.
    Short,
    /// A number of more than 64 bits, or a field 0.
    Number,
    /// A kind of field that there is not.
    Kind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "protobuf: ends inside a field",
            Self::Number => "protobuf: no field has such a number",
            Self::Kind => "protobuf: no field is of that kind",
        })
    }
}

/// The fields of a message. Ends at the first fault, which [`Fields::fault`] then tells; of bytes that are cut the part
/// that is there comes before that.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
    fault: Option<Fault>,
}

impl<'a> Fields<'a> {
    /// Of a message.
    pub const fn of(message: &'a [u8]) -> Self {
        Self { rest: message, fault: None }
    }

    /// What ended them early.
    pub const fn fault(&self) -> Option<Fault> {
        self.fault
    }

    fn field(&mut self) -> Result<Field<'a>, Fault> {
        let start = self.rest;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0).ok_or(Fault::Number)?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(*self.fixed()?)),
            2 => {
                let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let there = len.min(self.rest.len());
                if there < len {
                    self.fault = Some(Fault::Short);
                }
                let (bytes, rest) = self.rest.split_at(there);
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(u32::from_le_bytes(*self.fixed()?)),
            _ => return Err(Fault::Kind),
        };
        Ok(Field { number, value, whole: &start[..start.len() - self.rest.len()] })
    }

    fn varint(&mut self) -> Result<u64, Fault> {
        let (value, rest) = varint(self.rest)?;
        self.rest = rest;
        Ok(value)
    }

    fn fixed<const N: usize>(&mut self) -> Result<&'a [u8; N], Fault> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(Fault::Short)?;
        self.rest = rest;
        Ok(bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.rest.is_empty() || self.fault.is_some() {
            return None;
        }
        match self.field() {
            Ok(field) => Some(field),
            Err(fault) => {
                self.fault = Some(fault);
                None
            }
        }
    }
}

/// A number at the start of `bytes`, and what is behind it.
pub fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), Fault> {
    let mut value = 0_u64;
    for (n, &byte) in bytes.iter().enumerate() {
        let part = u64::from(byte & 0x7f);
        // Ten bytes, of which the last has one bit.
        if n == 9 && byte > 1 {
            return Err(Fault::Number);
        }
        value |= part << (7 * n);
        if byte & 0x80 == 0 {
            return Ok((value, &bytes[n + 1..]));
        }
    }
    Err(Fault::Short)
}

/// Writes bytes as a field.
#[cfg(test)]
pub fn write_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    write_head(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

/// Writes what stands before `len` bytes of a field.
pub fn write_head(out: &mut Vec<u8>, number: u32, len: usize) {
    write_varint(out, u64::from(number) << 3 | 2);
    write_varint(out, len as u64);
}

fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// `sint32` and `sint64`: the sign is the last bit.
pub const fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_as_they_lie() {
        // Field 1 varint 150, field 2 "testing", field 3 a double, field 4 a float.
        let mut bytes = vec![0x08, 0x96, 0x01, 0x12, 0x07];
        bytes.extend(b"testing");
        bytes.extend([0x19, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x25, 1, 0, 0, 0]);
        let fields: Vec<_> = Fields::of(&bytes).collect();
        assert_eq!(fields[0].value, Value::Varint(150));
        assert_eq!(fields[1].bytes(), Some(&b"testing"[..]));
        assert_eq!(fields[2].double().to_bits(), 1.5_f64.to_bits());
        assert_eq!((fields[3].number, fields[3].number()), (4, 1));
        assert_eq!(fields.iter().map(|field| field.whole).collect::<Vec<_>>().concat(), bytes);
        let mut out = Vec::new();
        write_bytes(&mut out, 2, b"testing");
        assert_eq!(out, fields[1].whole);
    }

    #[test]
    fn faults_end_a_message_and_bytes_that_are_cut_come_before() {
        let of = |bytes: &'static [u8]| {
            let mut fields = Fields::of(bytes);
            (fields.by_ref().count(), fields.fault())
        };
        assert_eq!(of(&[]), (0, None));
        assert_eq!(of(&[0x12, 5, b'a']), (1, Some(Fault::Short)));
        assert_eq!(of(&[0x08]), (0, Some(Fault::Short)));
        assert_eq!(of(&[0x09, 1, 2]), (0, Some(Fault::Short)));
        assert_eq!(of(&[0x08, 1, 0x0b]), (1, Some(Fault::Kind)));
        assert_eq!(of(&[0x00, 1]), (0, Some(Fault::Number)));
        assert_eq!(of(&[0xff; 11]), (0, Some(Fault::Number)));
        assert_eq!(of(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), (1, Some(Fault::Short)));
    }

    #[test]
    fn signs_are_the_last_bit() {
        assert_eq!([0, 1, 2, 3, u64::MAX, u64::MAX - 1].map(zigzag), [0, -1, 1, -2, i64::MIN, i64::MAX]);
    }
}
