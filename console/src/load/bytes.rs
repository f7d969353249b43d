//! Writing numbers: big-endian as protocols want them, decimal and hexadecimal as people do.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends to a datagram.
pub trait Put {
    /// A byte.
    fn u8(&mut self, value: u8);
    /// Two bytes.
    fn u16(&mut self, value: u16);
    /// Four bytes.
    fn u32(&mut self, value: u32);
    /// Eight bytes.
    fn u64(&mut self, value: u64);
}

impl Put for Vec<u8> {
    fn u8(&mut self, value: u8) {
        self.push(value);
    }
    fn u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }
}

/// Writes the length of what began at `start` into its second two bytes, where NetFlow 9 and IPFIX have it.
pub fn set_length(buffer: &mut [u8], start: usize) {
    let len = (buffer.len() - start) as u16;
    buffer[start + 2..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Decimal digits of `n`.
pub const fn digits(n: u64) -> usize {
    if n == 0 { 1 } else { n.ilog10() as usize + 1 }
}

/// Appends `n` in decimal.
pub fn decimal(out: &mut Vec<u8>, n: u64) {
    let mut text = [b'0'; 20];
    let at = text.len() - digits(n);
    fixed_decimal(&mut text[at..], n);
    out.extend_from_slice(&text[at..]);
}

/// Fills `place` with the last digits of `n`, zeros before them.
pub fn fixed_decimal(place: &mut [u8], mut n: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
}

/// Fills `place` with the low bits of `bits` as hexadecimal digits.
pub fn fixed_hex(place: &mut [u8], mut bits: u64) {
    for digit in place.iter_mut().rev() {
        *digit = HEX[(bits & 15) as usize];
        bits >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_format_writes_them() {
        for n in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, n);
            assert_eq!(out, n.to_string().into_bytes());
        }
        let mut place = [0; 6];
        fixed_decimal(&mut place, 42);
        assert_eq!(&place, b"000042");
        fixed_hex(&mut place, 0xbeef);
        assert_eq!(&place, b"00beef");
    }
}
