//! Messages of DNS (RFC 1035, 4) as far as a question and its answer need them: pure functions over bytes.

use raven_model::diag::services::{DnsRecord, RecordType};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of the header.
pub const HEADER: usize = 12;
/// Longest name on the wire (2.3.4).
const NAME_MAX: usize = 255;
/// Longest label.
const LABEL_MAX: usize = 63;
/// Class IN.
const INTERNET: u16 = 1;
/// Records of an answer that are kept.
pub const RECORDS: usize = 128;
/// Bytes of data of a record that nobody can read (RFC 3597), and of all texts of one.
const DATA_SHOWN: usize = 512;

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// It ends in the middle of something.
    #[error("the message is cut")]
    Cut,
    /// A name is too long, points forward, or has a label of a kind that there is not.
    #[error("a name is none")]
    Name,
    /// Data of a record have another length than what is in them.
    #[error("a record has the wrong length")]
    Length,
}

/// What the header says (4.1.1; RFC 4035, 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The question's number.
    pub id: u16,
    /// As on the wire.
    pub flags: u16,
    /// How many questions and records of the answer follow.
    counts: (u16, u16),
}

impl Header {
    /// QR: an answer, to a plain query.
    pub const fn is_answer(self) -> bool {
        self.flags & 0xf800 == 0x8000
    }

    /// TC: cut, since a datagram would have been too long.
    pub const fn is_truncated(self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// Response code, 0 to 15.
    pub const fn rcode(self) -> u8 {
        (self.flags & 0x0f) as u8
    }

    /// In words of RFC 6895, 2.3.
    pub fn rcode_name(self) -> String {
        let names = [
            "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
            "NOTAUTH", "NOTZONE",
        ];
        let code = self.rcode();
        names.get(usize::from(code)).map_or_else(|| format!("RCODE{code}"), |name| (*name).to_owned())
    }

    /// Those that are set.
    pub fn flag_names(self) -> Vec<String> {
        let all = [(0x0400, "aa"), (0x0200, "tc"), (0x0100, "rd"), (0x0080, "ra"), (0x0020, "ad"), (0x0010, "cd")];
        all.into_iter().filter(|(bit, _)| self.flags & bit != 0).map(|(_, name)| name.to_owned()).collect()
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// As in zone files, without the dot at the end.
    pub name: String,
    /// Type.
    pub record: u16,
    /// Class.
    pub class: u16,
}

impl Question {
    /// The same, whatever the letters' case (4343).
    pub fn is(&self, name: &str, record: RecordType) -> bool {
        self.name.eq_ignore_ascii_case(name) && self.record == record.number() && self.class == INTERNET
    }
}

/// The name as it is asked for: without the dot at the end, an address as its name in the reverse tree.
///
/// # Errors
/// In words: it cannot be a name.
pub fn question_name(name: &str, record: RecordType) -> Result<String, String> {
    match (record, name.parse()) {
        (RecordType::Ptr, Ok(std::net::IpAddr::V4(v4))) => {
            let [a, b, c, d] = v4.octets();
            return Ok(format!("{d}.{c}.{b}.{a}.in-addr.arpa"));
        }
        (RecordType::Ptr, Ok(std::net::IpAddr::V6(v6))) => {
            let digits = v6.octets().into_iter().rev().flat_map(|byte| [byte & 0x0f, byte >> 4]);
            return Ok(digits.fold(String::new(), |name, digit| format!("{name}{digit:x}.")) + "ip6.arpa");
        }
        _ => {}
    }
    let bare = name.strip_suffix('.').unwrap_or(name);
    if !bare.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
        return Err(format!("`{name}` is no name: letters, digits, - and _, and of other alphabets the form xn--…"));
    }
    let is_label = |label: &str| (1..=LABEL_MAX).contains(&label.len());
    // With lengths before labels and the root's behind.
    if !bare.is_empty() && (bare.len() + 2 > NAME_MAX || !bare.split('.').all(is_label)) {
        return Err(format!("`{name}` is no name: a label is 1 to {LABEL_MAX} characters, all of it 253 at most"));
    }
    Ok(bare.to_owned())
}

/// A question, with the wish that the server finds the answer (RD). Of a name of [`question_name`].
pub fn query(id: u16, name: &str, record: RecordType) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + name.len() + 6);
    for word in [id, 0x0100, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend(record.number().to_be_bytes());
    bytes.extend(INTERNET.to_be_bytes());
    bytes
}

/// Where in a message something is read.
#[derive(Debug, Clone, Copy)]
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Bad> {
        let end = self.at.checked_add(n).ok_or(Bad::Cut)?;
        let bytes = self.message.get(self.at..end).ok_or(Bad::Cut)?;
        self.at = end;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, Bad> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn word(&mut self) -> Result<u16, Bad> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn long(&mut self) -> Result<u32, Bad> {
        self.take(4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A name (4.1.4). Each pointer must point before where the name, or the part that it led to, began: so it ends.
    fn name(&mut self) -> Result<String, Bad> {
        let (mut text, mut length) = (String::new(), 1);
        let (mut from, mut lead) = (*self, None);
        let mut began = from.at;
        loop {
            let size = from.byte()?;
            match size >> 6 {
                0 if size == 0 => break,
                0 => {
                    length += 1 + usize::from(size);
                    if length > NAME_MAX {
                        return Err(Bad::Name);
                    }
                    if !text.is_empty() {
                        text.push('.');
                    }
                    label(&mut text, from.take(size.into())?);
                }
                3 => {
                    let to = usize::from(size & 0x3f) << 8 | usize::from(from.byte()?);
                    lead = lead.or(Some(from.at));
                    if to >= began {
                        return Err(Bad::Name);
                    }
                    (from.at, began) = (to, to);
                }
                _ => return Err(Bad::Name),
            }
        }
        self.at = lead.unwrap_or(from.at);
        Ok(text)
    }
}

/// A label as in zone files (5.1).
fn label(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'.' | b'\\' => text.extend(['\\', char::from(*byte)]),
            _ if byte.is_ascii_graphic() => text.push(char::from(*byte)),
            _ => drop(write!(text, "\\{byte:03}")),
        }
    }
}

/// The root's name is a dot.
fn or_root(name: String) -> String {
    if name.is_empty() { ".".to_owned() } else { name }
}

/// Header and first question; no question where there is none. The rest is where records begin.
pub fn head(message: &[u8]) -> Result<(Header, Option<Question>, usize), Bad> {
    let mut reader = Reader { message, at: 0 };
    let (id, flags, counts) = (reader.word()?, reader.word()?, (reader.word()?, reader.word()?));
    reader.take(4)?;
    let mut first = None;
    for _ in 0..counts.0 {
        let question = Question { name: reader.name()?, record: reader.word()?, class: reader.word()? };
        first = first.or(Some(question));
    }
    Ok((Header { id, flags, counts }, first, reader.at))
}

/// Records of the answer, which begin there; and how many there are besides.
pub fn answers(message: &[u8], header: Header, begin: usize) -> Result<(Vec<DnsRecord>, u32), Bad> {
    let mut reader = Reader { message, at: begin };
    let kept = usize::from(header.counts.1).min(RECORDS);
    let records = (0..kept).map(|_| record(&mut reader)).collect::<Result<Vec<_>, _>>()?;
    Ok((records, u32::from(header.counts.1) - kept as u32))
}

fn record(reader: &mut Reader<'_>) -> Result<DnsRecord, Bad> {
    let name = or_root(reader.name()?);
    let (number, class, ttl, length) = (reader.word()?, reader.word()?, reader.long()?, reader.word()?);
    let begin = reader.at;
    reader.take(length.into())?;
    // Names in data may point before it, and must end where it does.
    let mut inside = Reader { message: &reader.message[..reader.at], at: begin };
    let known = RecordType::ALL.into_iter().find(|(_, n, _)| *n == number && class == INTERNET);
    let data = match known {
        Some((kind, ..)) => data(kind, &mut inside).map_err(|_| Bad::Length)?,
        None => unknown(inside.take(length.into())?),
    };
    if inside.at != reader.at {
        return Err(Bad::Length);
    }
    let record = known.map_or_else(|| format!("TYPE{number}"), |(.., name)| name.to_owned());
    // The highest bit means nothing (RFC 2181, 8).
    let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
    Ok(DnsRecord { name, record, ttl, data })
}

fn data(kind: RecordType, inside: &mut Reader<'_>) -> Result<String, Bad> {
    Ok(match kind {
        RecordType::A => Ipv4Addr::from(inside.long()?).to_string(),
        RecordType::Aaaa => {
            let octets: [u8; 16] = inside.take(16)?.try_into().map_err(|_| Bad::Length)?;
            Ipv6Addr::from(octets).to_string()
        }
        RecordType::Ns | RecordType::Cname | RecordType::Ptr => or_root(inside.name()?),
        RecordType::Mx => format!("{} {}", inside.word()?, or_root(inside.name()?)),
        RecordType::Srv => {
            let [priority, weight, port] = [inside.word()?, inside.word()?, inside.word()?];
            format!("{priority} {weight} {port} {}", or_root(inside.name()?))
        }
        RecordType::Soa => {
            let (server, mailbox) = (or_root(inside.name()?), or_root(inside.name()?));
            let [serial, refresh, retry, expire, least] =
                [inside.long()?, inside.long()?, inside.long()?, inside.long()?, inside.long()?];
            format!("{server} {mailbox} {serial} {refresh} {retry} {expire} {least}")
        }
        RecordType::Txt => texts(inside)?,
    })
}

fn texts(inside: &mut Reader<'_>) -> Result<String, Bad> {
    let mut shown = String::new();
    while inside.at < inside.message.len() {
        let length = inside.byte()?;
        let bytes = inside.take(length.into())?;
        if shown.len() > DATA_SHOWN {
            continue;
        }
        shown.push_str(if shown.is_empty() { "\"" } else { " \"" });
        for byte in bytes {
            match byte {
                b'"' | b'\\' => shown.extend(['\\', char::from(*byte)]),
                b' '..=b'~' => shown.push(char::from(*byte)),
                _ => drop(write!(shown, "\\{byte:03}")),
            }
        }
        shown.push('"');
    }
    Ok(shown)
}

/// RFC 3597, 5.
fn unknown(bytes: &[u8]) -> String {
    let mut shown = format!("\\# {}", bytes.len());
    for (n, byte) in bytes.iter().take(DATA_SHOWN / 2).enumerate() {
        let _ = write!(shown, "{}{byte:02x}", if n == 0 { " " } else { "" });
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// An answer as a server sends it: the question, then these records, whose names point to the question's.
    fn answer(record: RecordType, data: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = query(7, "noc.example.org", record);
        bytes[2..4].copy_from_slice(&0x8180_u16.to_be_bytes());
        bytes[6..8].copy_from_slice(&(data.len() as u16).to_be_bytes());
        for (number, data) in data {
            bytes.extend([0xc0, HEADER as u8]);
            bytes.extend(number.to_be_bytes());
            bytes.extend([0, 1, 0, 0, 1, 44]);
            bytes.extend((data.len() as u16).to_be_bytes());
            bytes.extend(data);
        }
        bytes
    }

    fn all() -> Vec<u8> {
        let to_example = [0xc0, HEADER as u8 + 4];
        let soa = [&to_example[..], &to_example, &[0; 20]].concat();
        answer(
            RecordType::A,
            &[
                (1, vec![192, 0, 2, 1]),
                (28, vec![0; 16]),
                (5, [&b"\x03www"[..], &to_example].concat()),
                (15, [&[0, 10][..], &to_example].concat()),
                (16, b"\x05v=\"a\x01\x00".to_vec()),
                (33, [&[0, 1, 0, 2, 0x13, 0xc4][..], &to_example].concat()),
                (6, soa),
                (12, vec![0]),
                (65, vec![1, 2, 255]),
            ],
        )
    }

    fn read(message: &[u8]) -> Result<(Header, Option<Question>, Vec<DnsRecord>, u32), Bad> {
        let (header, question, begin) = head(message)?;
        let (records, more) = answers(message, header, begin)?;
        Ok((header, question, records, more))
    }

    #[test]
    fn each_type_is_read_as_zone_files_have_it() {
        let (header, question, records, more) = read(&all()).unwrap();
        assert!(header.is_answer() && !header.is_truncated() && question.unwrap().is("NOC.example.ORG", RecordType::A));
        assert_eq!((header.rcode_name().as_str(), header.flag_names().join(" ").as_str()), ("NOERROR", "rd ra"));
        let data: Vec<&str> = records.iter().map(|record| record.data.as_str()).collect();
        let expected = [
            "192.0.2.1",
            "::",
            "www.example.org",
            "10 example.org",
            "\"v=\\\"a\\001\" \"\"",
            "1 2 5060 example.org",
            "example.org example.org 0 0 0 0 0",
            ".",
            "\\# 3 0102ff",
        ];
        assert_eq!((data, more), (expected.to_vec(), 0));
        assert!(records.iter().all(|record| record.name == "noc.example.org" && record.ttl == 300));
        assert_eq!(records[8].record, "TYPE65");
    }

    #[test]
    fn addresses_are_asked_for_in_the_reverse_tree_and_what_is_no_name_is_refused() {
        assert_eq!(question_name("192.0.2.1", RecordType::Ptr).unwrap(), "1.2.0.192.in-addr.arpa");
        let v6 = question_name("2001:db8::1", RecordType::Ptr).unwrap();
        assert!(v6.starts_with("1.0.0.0.") && v6.ends_with(".8.b.d.0.1.0.0.2.ip6.arpa") && v6.len() == 72, "{v6}");
        assert_eq!(question_name("noc.example.", RecordType::A).unwrap(), "noc.example");
        assert_eq!(question_name(".", RecordType::Ns).unwrap(), "");
        let long = vec!["a".repeat(63); 4].join(".");
        for nonsense in ["a..b", ".a", "a b", "bücher", "x\\y", &"a".repeat(64), &long] {
            assert!(question_name(nonsense, RecordType::A).is_err(), "{nonsense}");
        }
        assert!(question_name(&long[..253], RecordType::A).is_ok());
    }

    #[test]
    fn names_that_point_at_themselves_or_forward_are_none() {
        let good = answer(RecordType::A, &[(5, vec![0xc0, HEADER as u8])]);
        assert!(read(&good).is_ok());
        // Of the record's name, and of its data.
        for at in [good.len() - 14, good.len() - 2] {
            for pointer in [[0xc0, at as u8], [0xc0, at as u8 + 1], [0xff, 0xff], [0x80, 0], [0x40, 0]] {
                let mut message = good.clone();
                message[at..at + 2].copy_from_slice(&pointer);
                assert!(matches!(read(&message), Err(Bad::Length | Bad::Name)), "{at} {pointer:?}");
            }
        }
        // Each part is allowed, all of it is too long.
        let mut message = query(1, &vec!["a".repeat(60); 4].join("."), RecordType::A);
        message[4..8].copy_from_slice(&[0, 2, 0, 0]);
        message.extend([&[20][..], &[b'x'; 20], &[0xc0, HEADER as u8, 0, 1, 0, 1]].concat());
        assert_eq!(head(&message), Err(Bad::Name));
    }

    #[test]
    fn a_message_cut_anywhere_is_none() {
        let message = all();
        for n in 0..message.len() {
            assert!(read(&message[..n]).is_err(), "{n}");
        }
    }

    #[test]
    fn only_so_many_records_are_kept() {
        let (_, _, records, more) = read(&answer(RecordType::A, &vec![(1, vec![0; 4]); 200])).unwrap();
        assert_eq!((records.len(), more), (RECORDS, 72));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes);
        }

        #[test]
        fn any_byte_of_an_answer_may_be_another(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
            let mut message = all();
            for (at, byte) in changes {
                let at = at % message.len();
                message[at] = byte;
            }
            if let Ok((_, _, records, _)) = read(&message) {
                // A byte becomes four characters at most.
                prop_assert!(records.iter().all(|record| record.name.len() <= 4 * NAME_MAX && record.data.is_ascii()));
            }
        }

        #[test]
        fn what_is_asked_can_be_read(name in "([a-z0-9_-]{1,20}\\.){0,6}[a-z]{1,20}", id: u16) {
            let (header, question, _) = head(&query(id, &name, RecordType::Srv)).unwrap();
            prop_assert!(header.id == id && !header.is_answer() && question.unwrap().is(&name, RecordType::Srv));
        }
    }
}
