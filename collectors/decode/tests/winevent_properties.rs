//! Whatever arrives as a Windows event: no panic, no event outside of its body, no more out than went in.
//!
//! `RAVEN_FULL=1` mutates a million bodies in place of 20,000.

#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use raven_decode::winevent::{self, EVENT_MAX, Reading};
use std::time::{Duration, Instant};

/// A byte that is not UTF-8 becomes three.
const LOSSY: usize = 3;
/// Most data, and the longest name of it: those may repeat what stood once in the event.
const NAMES_MAX: usize = 1024 * 300;

fn check_decode(raw: &[u8]) -> Reading {
    let reading = winevent::decode(raw);
    let event = &reading.event;
    let texts = [&event.provider, &event.channel, &event.computer, &event.user, &event.message];
    let size = texts.iter().filter_map(|text| text.as_ref()).map(String::len).sum::<usize>();
    let (names, values) = event.data.iter().fold((0, 0), |(n, v), (name, value)| (n + name.len(), v + value.len()));
    // A field and an item of data may be the same value.
    assert!(size + values <= raw.len() * LOSSY * 2 + 64, "{size} + {values} bytes read from {}", raw.len());
    assert!(names <= NAMES_MAX && names <= (raw.len() + 16) * 256, "{names} bytes of names");
    assert!(event.level.is_none_or(|level| level <= 5));
    assert!(event.time.is_some() || event.assumed.is_empty());
    if let Some(time) = &event.time {
        assert!(support::is_rfc3339(time), "{time}");
    }
    let json = serde_json::to_vec(event).unwrap();
    assert_eq!(&serde_json::from_slice::<winevent::WinEvent>(&json).unwrap(), event);
    reading
}

/// Splits a body and reads each event of it.
fn check(body: &[u8]) {
    match winevent::split(body) {
        Err(refusal) => assert!(refusal.at <= body.len(), "{refusal}"),
        Ok(split) => {
            assert!(split.broken <= split.events.len());
            assert_eq!(split.broken > 0, split.first_fault.is_some());
            let mut behind = 0;
            for range in split {
                assert!(behind <= range.start && !range.is_empty() && range.len() <= EVENT_MAX);
                behind = range.end;
                check_decode(&body[range]);
            }
            assert!(behind <= body.len());
        }
    }
    check_decode(body);
}

/// One event of each kind, short enough to be cut at every byte.
const SAMPLES: [&str; 9] = [
    r##"{"Event":{"#attributes":{"xmlns":"u"},"System":{"Provider":{"#attributes":{"Name":"P"}},"EventID":{"#text":1},"Level":4,"TimeCreated":{"#attributes":{"SystemTime":"2026-11-21T20:15:07.1Z"}},"EventRecordID":5,"Channel":"C","Computer":"h"},"EventData":{"Data":{"#text":["a","\ud83d\ude00\\"]},"Binary":null}}}"##,
    r#"[{"winlog":{"provider_name":"P","event_id":"1","event_data":{"a.b":[1,{"c":"\"x"}]}},"@timestamp":1603279688.8},{"winlog.event_id":2}]"#,
    "{\"create\":{}}\n{\"EventID\":7,\"EventTime\":\"2020-09-22 14:53:01\",\"SeverityValue\":2}\r\n{\"index\":{}}\n{\"a\":\"\u{e9}\"}\n",
    r#"{"Id":1,"TimeCreated":"\/Date(1603279688823+0200)\/","UserId":{"Value":"S-1-5-18"},"Properties":[{"Value":1}]}"#,
    r#"{"message":"<Event><System><EventID>1</EventID></System></Event>","TimeGenerated":"20191224135910.000000+540"}"#,
    "\u{feff}<?xml version='1.0'?><Events><Event xmlns='u'><System><Provider Name=\"P\"/><EventID>1</EventID></System><EventData><Data Name='a'>&lt;&#x41;</Data><Data>b</Data><![CDATA[x]]></EventData></Event></Events>",
    "<Event><UserData><W><a b='1'>c</a></W></UserData><RenderingInfo><Level>Error</Level></RenderingInfo></Event>\n<Event/>",
    "<14>Sep 17 16:37:25 h MSWinEventLog\t1\tSecurity\t6\tFri Sep 17 16:37:25 2021\t4608\tP\tN/A\tN/A\tSuccess Audit\th\tx\t\ttext\t15",
    "A service was installed.\r\n\r\nSubject:\r\n\tSecurity ID:\t\tSYSTEM\r\n",
];

#[test]
fn every_sample_can_be_cut_at_every_byte_and_any_bit_can_flip() {
    for sample in SAMPLES {
        let bytes = sample.as_bytes();
        for at in 0..=bytes.len() {
            check(&bytes[..at]);
            check(&bytes[at..]);
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check(&flipped);
        }
    }
}

#[test]
fn hostile_bodies_take_little_time() {
    let start = Instant::now();
    for body in [
        "[".repeat(1 << 20),
        "{\"a\":".repeat(1 << 18),
        "{\"a\":[\n".repeat(1 << 17),
        format!("{{}}\n{}", "{\"a\":[\n".repeat(1 << 17)),
        format!("{{}}\n{}", "{\n".repeat(1 << 18)),
        format!("[{}", "{},".repeat(1 << 18)),
        format!("<Event/>{}", "<Event><!--".repeat(1 << 16)),
        format!("<Event/>{}-->", "<Event><!--".repeat(1 << 16)),
        format!("<Event/>{}", "<Event a='".repeat(1 << 16)),
        format!("<Event/>{}", "<Event>".repeat(1 << 16)),
        format!("<Event>{}</Event>", "<a>".repeat(1 << 16)),
        format!("{{\"a\":\"{}\"}}", "\\\\".repeat(1 << 18)),
        format!("{{\"a\":\"{}\"}}", "\\\"".repeat(1 << 18)),
        format!("{{\"{}\":{{{}\"x\":1}}}}", "k".repeat(1 << 18), "\"b\":1,".repeat(1 << 16)),
        format!("{{\"EventData\":{{{}\"x\":1}}}}", "\"b\":1,".repeat(1 << 16)),
        format!("{{\"EventID\":{}}}", "9".repeat(1 << 18)),
        format!("<Event a='{}'/>", "&amp;".repeat(1 << 16)),
        format!("<Event>{}</Event>", "&#x41;".repeat(1 << 16)),
        format!("<Event {}/>", "a='1' ".repeat(1 << 16)),
        format!("MSWinEventLog\t{}", "\t".repeat(1 << 18)),
        ":\n".repeat(1 << 18),
    ] {
        let one = Instant::now();
        check(body.as_bytes());
        let head: String = body.chars().take(24).collect();
        assert!(one.elapsed() < Duration::from_secs(20), "{head}: {:?}", one.elapsed());
    }
    eprintln!("all in {:?}", start.elapsed());
}

#[test]
fn numbers_of_any_size_are_text_or_null() {
    for number in ["1e999", "-1", "18446744073709551616", "00004624", "0x10", "4.5", "NaN", "9e9e9"] {
        let raw = format!(r#"{{"EventID":{number},"RecordNumber":{number},"EventTime":{number},"a":{number}}}"#);
        let event = check_decode(raw.as_bytes()).event;
        assert_eq!(event.data["a"], number);
        assert!(event.event_id.is_none_or(|id| id == 4624), "{number}");
    }
}

#[test]
fn what_is_not_utf8_is_shown_as_such() {
    for raw in [
        &b"{\"EventID\":1,\"Hostname\":\"a\xff\xfe\"}"[..],
        b"<Event><System><EventID>1</EventID><Computer>a\xff\xfe</Computer></System></Event>",
    ] {
        let event = check_decode(raw).event;
        assert_eq!((event.event_id, event.computer.as_deref()), (Some(1), Some("a\u{fffd}\u{fffd}")));
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same seed, the same bodies.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `end`; 0 for 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// The kinds of `mutate.py` beside the corpus.
fn mutate(random: &mut Random, body: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
    let mut out = body.to_vec();
    let at = random.below(out.len());
    let end = (at + 1 + random.below(64)).min(out.len());
    match random.below(10) {
        0 => out.truncate(at),
        1 => {
            for _ in 0..=random.below(4) {
                let at = random.below(out.len());
                out[at] ^= 1 << random.below(8);
            }
        }
        2 => out[at] = b"{}[]\",:\\<>&\n\0\xff"[random.below(14)],
        3 => out.splice(at..at, body[at..end].to_vec()).for_each(drop),
        4 => out.drain(at..end).for_each(drop),
        5 => out[at..end].fill(0),
        6 => {
            let other = &pool[random.below(pool.len())];
            out.truncate(at);
            out.extend_from_slice(&other[random.below(other.len())..]);
        }
        7 => out = (0..random.below(300)).map(|_| random.next() as u8).collect(),
        8 => {
            let other = pool[random.below(pool.len())].clone();
            out.push(b"\n, [{<"[random.below(6)]);
            out.extend(other);
        }
        _ => out.truncate(random.below(17)),
    }
    out
}

/// Bodies of the corpus that are short enough, as they are and several in one.
fn pool() -> Vec<Vec<u8>> {
    let mut pool: Vec<Vec<u8>> = SAMPLES.iter().map(|sample| sample.as_bytes().to_vec()).collect();
    let Some(windows) = support::windows() else { return pool };
    for dir in
        std::fs::read_dir(windows).unwrap().map(|dir| dir.unwrap().path()).filter(|dir| !dir.ends_with("expected"))
    {
        let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort_unstable();
        for file in files {
            let raw = std::fs::read(&file).unwrap();
            let lines: Vec<&[u8]> =
                raw.split(|byte| *byte == b'\n').filter(|l| (1..1500).contains(&l.len())).take(3).collect();
            pool.extend(lines.iter().map(|line| line.to_vec()));
            if let [a, b, ..] = lines[..] {
                pool.push([a, b].join(&b'\n'));
                pool.push([&b"["[..], a, b",", b, b"]"].concat());
            }
        }
    }
    pool.sort_unstable();
    pool
}

#[test]
fn mutated_bodies_are_read_or_refused() {
    let count = if std::env::var_os("RAVEN_FULL").is_some() { 1_000_000 } else { 20_000 };
    let pool = pool();
    let mut random = Random(1);
    for _ in 0..count {
        let body = pool[random.below(pool.len())].clone();
        let mut body = mutate(&mut random, &body, &pool);
        if random.below(4) == 0 && !body.is_empty() {
            body = mutate(&mut random, &body, &pool);
        }
        check(&body);
    }
    eprintln!("{count} bodies from {}", pool.len());
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            "\"",
            ",",
            ":",
            "\\",
            "\n",
            "\r\n",
            " ",
            "null",
            "1e9",
            "{}",
            "\"a\":",
            "\"EventID\":",
            "\"EventData\":",
            "\"Data\":",
            "\"#text\":",
            "\"@Name\":",
            "\\ud83d",
            "{\"index\":{}}",
            "<Event>",
            "</Event>",
            "<Events>",
            "</Events>",
            "<Data Name='",
            "<Data>",
            "</Data>",
            "<EventData>",
            "</EventData>",
            "<UserData>",
            "'/>",
            "&lt;",
            "&#x110000;",
            "<!--",
            "-->",
            "<![CDATA[",
            "]]>",
            "<?xml",
            "?>",
            "MSWinEventLog\t",
            "\t",
            "/Date(",
            ")/",
            "\u{feff}",
            "\u{e9}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 1..4),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read(raw in prop::collection::vec(any::<u8>(), 0..512)) {
        check(&raw);
    }

    #[test]
    fn any_order_of_pieces_is_read(pieces in prop::collection::vec(piece(), 0..32)) {
        check(&pieces.concat());
    }

    #[test]
    fn an_event_reads_back_as_written(id: u32, record: u64, values in prop::collection::btree_map("[a-zA-Z][a-z]{0,8}[0-9]", any::<String>(), 0..8)) {
        let json = serde_json::json!({"winlog": {"event_id": id, "record_id": record, "event_data": values}}).to_string();
        let event = check_decode(json.as_bytes()).event;
        prop_assert_eq!((event.event_id, event.record_id), (Some(id), Some(record)));
        prop_assert_eq!(&event.data, &values);
        prop_assert_eq!(winevent::split(json.as_bytes()).unwrap().events, vec![0..json.len()]);
    }
}
