//! JSON, written as it comes: no tree is built, whatever a datagram says.

use super::elements::Name;
use super::value::text;
use std::fmt::{Display, Write as _};
use std::net::{IpAddr, Ipv4Addr};

/// Appends to a text. Commas are put where a value follows another.
#[derive(Debug)]
pub(super) struct Json<'o> {
    out: &'o mut String,
}

impl<'o> Json<'o> {
    pub(super) const fn new(out: &'o mut String) -> Self {
        Self { out }
    }

    fn comma(&mut self) {
        if !matches!(self.out.as_bytes().last(), None | Some(b'{' | b'[' | b':' | b'\n')) {
            self.out.push(',');
        }
    }

    pub(super) fn object(&mut self, content: impl FnOnce(&mut Self)) {
        self.comma();
        self.out.push('{');
        content(self);
        self.out.push('}');
    }

    pub(super) fn array(&mut self, content: impl FnOnce(&mut Self)) {
        self.comma();
        self.out.push('[');
        content(self);
        self.out.push(']');
    }

    /// The name of an element as a key.
    pub(super) fn key(&mut self, name: Name) -> &mut Self {
        match name.element {
            Some(element) if !name.reverse => self.name(element.name),
            _ => {
                self.comma();
                let _ = write!(self.out, "\"{name}\":");
                self
            }
        }
    }

    /// A key of ours; needs no escapes.
    pub(super) fn name(&mut self, name: &'static str) -> &mut Self {
        self.comma();
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
        self
    }

    /// What is JSON already.
    pub(super) fn raw(&mut self, json: &str) {
        self.comma();
        self.out.push_str(json);
    }

    pub(super) fn number(&mut self, n: u64) {
        self.comma();
        self.digits(n);
    }

    fn digits(&mut self, n: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = n;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.out.push_str(str::from_utf8(&digits[at..]).unwrap_or_default());
    }

    pub(super) fn v4(&mut self, addr: Ipv4Addr) {
        self.comma();
        let [a, b, c, d] = addr.octets();
        self.out.push('"');
        for (end, octet) in [('.', a), ('.', b), ('.', c), ('"', d)] {
            self.digits(octet.into());
            self.out.push(end);
        }
    }

    pub(super) fn addr(&mut self, addr: IpAddr) {
        match addr {
            IpAddr::V4(addr) => self.v4(addr),
            IpAddr::V6(addr) => self.plain(addr),
        }
    }

    /// A word of ours.
    pub(super) fn word(&mut self, word: &'static str) {
        self.comma();
        self.out.push('"');
        self.out.push_str(word);
        self.out.push('"');
    }

    pub(super) fn signed(&mut self, n: i64) {
        self.comma();
        let _ = write!(self.out, "{n}");
    }

    /// A float; JSON has none that is infinite or not a number.
    pub(super) fn float(&mut self, n: f64) {
        self.comma();
        if n.is_finite() {
            let _ = write!(self.out, "{n:?}");
        } else {
            self.out.push_str("null");
        }
    }

    pub(super) fn boolean(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    /// Something whose text needs no escapes: an address, a name.
    pub(super) fn plain(&mut self, value: impl Display) {
        self.comma();
        let _ = write!(self.out, "\"{value}\"");
    }

    pub(super) fn hex(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.comma();
        self.out.push('"');
        for byte in bytes {
            self.out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            self.out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        self.out.push('"');
    }

    /// Text of a device: without the NULs at its end, escaped (RFC 8259, section 7).
    pub(super) fn text(&mut self, bytes: &[u8]) {
        self.comma();
        self.out.push('"');
        for c in text(bytes).chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                c if c < ' ' => {
                    let _ = write!(self.out, "\\u{:04x}", u32::from(c));
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_json() {
        let mut out = String::new();
        Json::new(&mut out).object(|json| {
            json.name("a").number(u64::MAX);
            json.key(Name { element: None, reverse: false, enterprise: 1, id: 2 }).text(b"\"\\\n\x01\xff\xc3\xa9\0\0");
            json.name("l").array(|json| {
                json.number(0);
                json.float(f64::NAN);
                json.float(1.5);
                json.hex(&[0, 0xaf]);
                json.signed(-3);
            });
            json.name("o").object(|_| {});
        });
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        let expected = serde_json::json!({
            "a": u64::MAX, "e1.2": "\"\\\n\u{1}\u{fffd}é", "l": [0, null, 1.5, "00af", -3], "o": {}
        });
        assert_eq!(value, expected);
    }
}
