//! Takes an envelope apart again, as `docs/formats.md` tells receivers to.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::collections::BTreeMap;

#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    pub fields: BTreeMap<String, String>,
    pub raw: Vec<u8>,
}

impl Opened {
    pub fn seq(&self) -> u64 {
        self.fields["seq"].parse().unwrap()
    }
}

/// Opens one message.
pub fn open(message: &[u8]) -> Opened {
    let start = find(message, b"[raven@32473 ").expect("the structured data") + b"[raven@32473 ".len();
    let mut fields = BTreeMap::new();
    let mut at = start;
    loop {
        let name_end = at + find(&message[at..], b"=\"").expect("a parameter");
        let name = String::from_utf8(message[at..name_end].to_vec()).unwrap();
        let (value, end) = value(message, name_end + 2);
        fields.insert(name, value);
        at = end + 1;
        if message[end] == b']' {
            break;
        }
    }
    let body = message[at..].strip_prefix(b" ").expect("a space before the body");
    let raw =
        if fields.get("enc").is_some_and(|enc| enc == "b64") { STANDARD.decode(body).unwrap() } else { body.to_vec() };
    Opened { fields, raw }
}

fn value(message: &[u8], mut at: usize) -> (String, usize) {
    let mut value = Vec::new();
    while message[at] != b'"' {
        at += usize::from(message[at] == b'\\');
        value.push(message[at]);
        at += 1;
    }
    (String::from_utf8(value).unwrap(), at + 1)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
