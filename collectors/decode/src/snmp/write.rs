//! Writing BER: the few shapes that answers, reports and informs are made of.
//!
//! Values are written back to front, so that a length is known when its place comes. Content stays as it was given.

use super::ber::{INTEGER, OCTETS, OID, SEQUENCE};
use super::oid::Oid;

/// Bytes of a message, last first.
#[derive(Debug, Default)]
pub struct Writer {
    reversed: Vec<u8>,
}

impl Writer {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes there are; what a later [`Writer::wrap`] starts from.
    pub fn mark(&self) -> usize {
        self.reversed.len()
    }

    /// Bytes as they are, in front of what is there.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.reversed.extend(bytes.iter().rev());
    }

    /// Makes all that was written since `mark` the content of a value.
    pub fn wrap(&mut self, tag: u8, mark: usize) {
        let length = self.reversed.len().saturating_sub(mark);
        if length < 0x80 {
            self.reversed.push(length as u8);
        } else {
            let digits = length.to_le_bytes();
            let count = digits.len() - digits.iter().rev().take_while(|digit| **digit == 0).count();
            self.reversed.extend(&digits[..count]);
            self.reversed.push(0x80 | count as u8);
        }
        self.reversed.push(tag);
    }

    /// A value with this content.
    pub fn value(&mut self, tag: u8, content: &[u8]) {
        let mark = self.mark();
        self.raw(content);
        self.wrap(tag, mark);
    }

    /// An OCTET STRING.
    pub fn octets(&mut self, content: &[u8]) {
        self.value(OCTETS, content);
    }

    /// An INTEGER.
    pub fn integer(&mut self, number: i32) {
        self.number(INTEGER, number.into());
    }

    /// A number in as few bytes as it fits in.
    pub fn number(&mut self, tag: u8, number: i64) {
        let bytes = number.to_be_bytes();
        let spare = bytes.windows(2).take_while(|pair| matches!((pair[0], pair[1] >> 7), (0, 0) | (0xff, 1))).count();
        self.value(tag, &bytes[spare..]);
    }

    /// An OBJECT IDENTIFIER.
    pub fn oid(&mut self, oid: &Oid) {
        let mark = self.mark();
        let (head, rest) = oid.parts().split_at(oid.parts().len().min(2));
        for part in rest.iter().rev() {
            self.part(*part);
        }
        let root = head.first().copied().unwrap_or(0).min(2);
        self.part((root * 40).saturating_add(head.get(1).copied().unwrap_or(0)));
        self.wrap(OID, mark);
    }

    /// A varbind: a name as it lies in a message, and what `value` writes.
    pub fn varbind(&mut self, oid: &[u8], value: impl FnOnce(&mut Self)) {
        let mark = self.mark();
        value(self);
        self.value(OID, oid);
        self.wrap(SEQUENCE, mark);
    }

    /// One part of an OID, seven bits to the byte.
    fn part(&mut self, part: u32) {
        self.reversed.push((part & 0x7f) as u8);
        let mut rest = part >> 7;
        while rest > 0 {
            self.reversed.push(0x80 | (rest & 0x7f) as u8);
            rest >>= 7;
        }
    }

    /// The message, first byte first.
    pub fn finish(mut self) -> Vec<u8> {
        self.reversed.reverse();
        self.reversed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::ber::Reader;
    use super::*;

    #[test]
    fn numbers_take_as_few_bytes_as_they_need() {
        for (number, bytes) in [
            (0, &[2, 1, 0][..]),
            (127, &[2, 1, 127]),
            (128, &[2, 2, 0, 128]),
            (-128, &[2, 1, 128]),
            (-129, &[2, 2, 255, 127]),
            (65507, &[2, 3, 0, 255, 227]),
        ] {
            let mut writer = Writer::new();
            writer.integer(number);
            assert_eq!(writer.finish(), bytes, "{number}");
        }
        let mut writer = Writer::new();
        writer.number(0x41, u32::MAX.into());
        assert_eq!(writer.finish(), [0x41, 5, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn what_is_written_reads_back() {
        for oid in ["1.3.6.1.6.3.15.1.1.4.0", "2.999.4294967295", "0.0", "1.3.127.128.16384"] {
            let oid: Oid = oid.parse().unwrap();
            let mut writer = Writer::new();
            writer.oid(&oid);
            assert_eq!(Reader::new(&writer.finish()).oid().unwrap().to_oid(), oid);
        }
        for length in [0, 127, 128, 255, 256, 65_535, 65_536] {
            let mut writer = Writer::new();
            let mark = writer.mark();
            writer.octets(&vec![7; length]);
            writer.integer(-5);
            writer.wrap(SEQUENCE, mark);
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes).inside(SEQUENCE).unwrap();
            assert_eq!(reader.integer(), Ok(-5));
            assert_eq!(reader.octets().unwrap().len(), length);
            assert_eq!(reader.end(), Ok(()));
        }
    }
}
