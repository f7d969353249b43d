//! Every SNMP datagram of the corpus: those of net-snmp's own tools against what snmptrapd logged of them, field by
//! field; those of others against what tshark reads.

#![allow(clippy::unwrap_used)]

#[path = "support/snmp.rs"]
mod snmp;
mod support;

use raven_decode::snmp::{
    Access, Data, Level, Message, Names, Notification, Outcome, Reading, Refused, Report, Scoped, Seconds, Sender,
    Shown, Trap, VarbindView, answer, check, decode,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Any time at all: for traps the sender's clock counts.
const NOW: Seconds = Seconds(10_000);

/// As `snmptrapd -On` prints a value.
fn as_snmptrapd(varbind: &VarbindView) -> String {
    let number = |name: &str| format!("{name}: {}", plain(&varbind.value));
    match (&*varbind.kind, &varbind.value) {
        ("Integer32", _) => number("INTEGER"),
        ("Gauge32" | "Counter32" | "Counter64" | "IpAddress", _) => number(&varbind.kind),
        ("ObjectIdentifier", Shown::Text(oid)) => format!("OID: .{oid}"),
        ("Null", _) => "NULL".to_owned(),
        ("TimeTicks", Shown::Unsigned(ticks)) => format!("Timeticks: ({ticks}) {}", clock(*ticks)),
        ("OctetString", Shown::Text(text)) if text.is_empty() => "\"\"".to_owned(),
        ("OctetString", Shown::Text(text)) if text.is_ascii() => format!("STRING: \"{text}\""),
        // snmptrapd takes all that is not ASCII for bytes.
        ("OctetString", Shown::Text(text)) => format!("Hex-STRING: {}", spaced(text.as_bytes())),
        ("HexString", Shown::Text(hex)) => {
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
            format!("Hex-STRING: {}", spaced(&bytes))
        }
        ("Float" | "Double", Shown::Float(number)) => format!("Opaque: Float: {number:.6}"),
        ("Integer64", _) => number("Opaque: Int64"),
        ("Unsigned64", _) => number("Opaque: UInt64"),
        other => panic!("{other:?}"),
    }
}

fn plain(value: &Shown) -> String {
    match value {
        Shown::Text(text) => text.clone(),
        value => serde_json::to_string(value).unwrap(),
    }
}

fn spaced(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02X} ").unwrap();
        text
    })
}

/// `2 days, 1:02:03.04`.
fn clock(ticks: u64) -> String {
    let (seconds, rest) = (ticks / 100, ticks % 100);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let days = match days {
        0 => String::new(),
        1 => "1 day, ".to_owned(),
        days => format!("{days} days, "),
    };
    format!("{days}{hours}:{minutes:02}:{:02}.{rest:02}", seconds % 60)
}

/// What snmptrapd logged of a case, in our words.
fn compare(case: &Value, trap: &Trap) {
    let golden = case["varbinds"].as_array().unwrap();
    assert_eq!(trap.varbinds.len(), golden.len(), "{case}");
    for (ours, theirs) in trap.varbinds.iter().zip(golden) {
        assert_eq!(format!(".{}", ours.oid), theirs[0].as_str().unwrap(), "{case}");
        let (ours, theirs) = (as_snmptrapd(ours), theirs[1].as_str().unwrap());
        // snmptrapd cuts a double's digits off at 128 characters; of long octets, only their first line of 16 was kept.
        let is_cut = theirs.len() > 120 || theirs.len() == "Hex-STRING: ".len() + 16 * 3;
        assert!(ours == theirs || (is_cut && ours.starts_with(theirs)), "{ours} {theirs}");
    }
    let line = case["snmptrapd"][0].as_str().unwrap();
    let cells: Vec<&str> = line.split('|').collect();
    if cells[0] == "V1" {
        assert_eq!(trap.version, "1");
        assert_eq!(trap.agent_addr.as_deref(), Some(cells[1]));
        assert_eq!(format!(".{}", trap.enterprise.as_deref().unwrap()), cells[2]);
        assert_eq!(trap.generic.unwrap().to_string(), cells[3]);
        assert_eq!(trap.specific.unwrap().to_string(), cells[5].trim_start_matches('.'));
        assert_eq!(trap.uptime.unwrap().to_string(), cells[6]);
    } else {
        let oid = golden[1][1].as_str().unwrap().trim_start_matches("OID: .");
        assert_eq!(trap.trap_oid.as_deref(), Some(oid));
        assert!(golden[0][1].as_str().unwrap().starts_with(&format!("Timeticks: ({}) ", trap.uptime.unwrap())));
    }
}

/// The receiver as it was when this message for it was sent: its boots and time are in the message.
fn receiver_at(raw: &[u8], cases: &[Value]) -> Access {
    match Message::read(raw) {
        Ok(Message::V3(v3)) if v3.engine_id == snmp::receiver().as_bytes() => {
            snmp::access(cases, v3.boots.cast_unsigned(), Seconds(NOW.0 - u64::try_from(v3.time).unwrap()))
        }
        _ => snmp::access(cases, 1, Seconds(0)),
    }
}

#[test]
fn net_snmp_s_notifications_read_as_snmptrapd_reads_them() {
    let Some(corpus) = snmp::corpus() else { return };
    let (cases, names) = (snmp::cases(&corpus), Names::standard());
    let (mut accepted, mut refused) = (0, 0);
    for case in &cases {
        let datagrams = snmp::of_file(&corpus.join(case["file"].as_str().unwrap()));
        assert_eq!(datagrams.len(), case["datagrams"].as_array().unwrap().len());
        // Of an inform of version 3, the first datagram only asks for the engine id.
        let last = datagrams.iter().rfind(|datagram| datagram.to_us).unwrap();
        let mut access = receiver_at(&last.raw, &cases);
        match check(&last.raw, &mut access, NOW) {
            Outcome::Accepted(notification) => {
                assert_eq!(case["accepted"], true, "{case}");
                let is_inform = case["cmd"][0] == "snmpinform";
                assert_eq!(notification.notification == Notification::Inform, is_inform);
                assert_eq!(notification.learned.is_some(), has_sender_s_clock(&notification.sender));
                let Reading { trap, reject } = decode(&last.raw, &mut access.users, &names);
                assert_eq!(reject, None);
                let trap = trap.unwrap();
                assert_eq!(trap.kind.as_deref(), Some(if is_inform { "inform" } else { "trap" }));
                compare(case, &trap);
                accepted += 1;
            }
            Outcome::Refused { reason, reply } => {
                assert_eq!(case["accepted"], false, "{reason}: {case}");
                assert!(matches!(reason, Refused::Digest { .. }), "{reason}");
                assert_eq!(reply, None, "traps are not answered");
                let Reading { reject, .. } = decode(&last.raw, &mut access.users, &names);
                assert!(matches!(reject, Some(Refused::Digest { .. })));
                refused += 1;
            }
        }
    }
    assert_eq!((accepted, refused), (21, 1));
}

/// Authentic traps of version 3 tell the time.
fn has_sender_s_clock(sender: &Sender<'_>) -> bool {
    matches!(sender, Sender::User { engine, level, .. } if *engine == snmp::sender() && *level != Level::NoAuth)
}

/// The same but for what a receiver is free to choose: salt, digest, what is encrypted, and the size it can take.
fn parts(raw: &[u8], open: impl Fn(&[u8]) -> String) -> String {
    match Message::read(raw).unwrap() {
        Message::Community(message) => format!("{message:?}"),
        Message::V3(v3) => {
            let data = match v3.data {
                Data::Plain(content) => format!("{:?}", Scoped::read(content).unwrap()),
                Data::Encrypted(_) => open(raw),
            };
            let (level, reportable) = (v3.level, v3.reportable);
            format!(
                "{} {level} {reportable} {:?} {} {} {:?} {} {data}",
                v3.id,
                v3.engine_id,
                v3.boots,
                v3.time,
                v3.user,
                v3.salt.len()
            )
        }
    }
}

#[test]
fn informs_are_answered_as_snmptrapd_answers_them() {
    let Some(corpus) = snmp::corpus() else { return };
    let (cases, mut answered) = (snmp::cases(&corpus), 0);
    for case in cases.iter().filter(|case| case["cmd"][0] == "snmpinform") {
        let datagrams = snmp::of_file(&corpus.join(case["file"].as_str().unwrap()));
        let [.., request, theirs] = &datagrams[..] else { unreachable!() };
        // snmptrapd's clock may have gone on by a second before it answered.
        let at = match Message::read(&theirs.raw).unwrap() {
            Message::V3(v3) => v3.time,
            Message::Community(_) => 0,
        };
        let mut access = receiver_at(&request.raw, &cases);
        let now = Seconds(
            NOW.0
                + match Message::read(&request.raw).unwrap() {
                    Message::V3(v3) => u64::try_from(at - v3.time).unwrap(),
                    Message::Community(_) => 0,
                },
        );
        let ours = answer(&request.raw, &mut access, now).unwrap();
        let open = |_: &[u8]| "encrypted".to_owned();
        assert_eq!(parts(&ours, open), parts(&theirs.raw, open), "{case}");
        // What is encrypted decrypts by the same keys: neither is a notification, which is what is found inside.
        for response in [&ours, &theirs.raw] {
            let Reading { trap, reject } = decode(response, &mut access.users, &Names::default());
            assert_eq!(trap, None);
            assert_eq!(reject.unwrap().to_string(), "not a notification: Response");
        }
        answered += 1;
    }
    assert_eq!(answered, 8);
}

#[test]
fn a_sender_that_asks_is_told_our_engine_id() {
    let Some(corpus) = snmp::corpus() else { return };
    let (cases, mut asked) = (snmp::cases(&corpus), 0);
    for case in cases.iter().filter(|case| case["cmd"][0] == "snmpinform" && !case["v3"].is_null()) {
        let datagrams = snmp::of_file(&corpus.join(case["file"].as_str().unwrap()));
        let Message::V3(theirs) = Message::read(&datagrams[1].raw).unwrap() else { unreachable!() };
        let (boots, time) = (theirs.boots.cast_unsigned(), u64::try_from(theirs.time).unwrap());
        let mut access = snmp::access(&cases, boots, Seconds(NOW.0 - time));
        let Outcome::Refused { reason, reply } = check(&datagrams[0].raw, &mut access, NOW) else { unreachable!() };
        assert_eq!((Report::of(&reason), &reason), (Some(Report::UnknownEngine), &Refused::Discovery));
        let ours = reply.unwrap();
        let Message::V3(report) = Message::read(&ours).unwrap() else { unreachable!() };
        assert_eq!((report.id, report.engine_id), (theirs.id, theirs.engine_id));
        assert_eq!((report.boots, report.time, report.level), (theirs.boots, theirs.time, Level::NoAuth));
        let of = |v3: &raven_decode::snmp::V3<'_>| match v3.data {
            Data::Plain(content) => {
                format!("{:?}", Scoped::read(content).unwrap().pdu.varbinds().iter().next().unwrap().oid)
            }
            Data::Encrypted(_) => unreachable!(),
        };
        assert_eq!(of(&report), of(&theirs));
        asked += 1;
    }
    assert_eq!(asked, 7);
}

/// What tshark calls malformed, or does not take for SNMP, is refused; what it reads, we read alike.
#[test]
fn captures_of_others_read_as_the_analyser_reads_them() {
    let Some(corpus) = snmp::corpus() else { return };
    let (mut read, mut refused, names) = (0, 0, Names::standard());
    for expected in support::json_lines(&corpus.join("expected/tshark.jsonl")) {
        let file = expected["file"].as_str().unwrap();
        let path = ["", "malformed"].map(|dir| corpus.join(dir).join(file)).into_iter().find(|path| path.exists());
        let datagrams = snmp::of_file(&path.unwrap());
        let at = expected["pkt"].as_u64().unwrap() as usize - 1;
        let Some(datagram) = datagrams.iter().find(|datagram| datagram.index == at) else {
            assert_ne!(expected["proto"], "SNMP", "{expected}");
            continue;
        };
        let Reading { trap, reject } = decode(&datagram.raw, &mut raven_decode::snmp::Users::default(), &names);
        let is_notification = matches!(expected["pdu_tag"].as_str().unwrap(), "4" | "7");
        let Some(trap) = trap else {
            // PROTOS counts on readers that take a message with a fault; we take none.
            assert!(!is_notification || matches!(reject, Some(Refused::Malformed(_))), "{expected} {reject:?}");
            eprintln!("{file} {at}: {}", reject.unwrap());
            refused += 1;
            continue;
        };
        assert!(is_notification, "{expected}");
        let text = |field: &str| expected[field].as_str().map(str::to_owned).filter(|text| !text.is_empty());
        assert_eq!(trap.community, text("community"));
        assert_eq!(trap.user, text("user"));
        assert_eq!(trap.enterprise, text("enterprise"));
        assert_eq!(trap.agent_addr, text("agent_addr"));
        assert_eq!(trap.generic.map(|number| number.to_string()), text("generic"));
        assert_eq!(trap.specific.map(|number| number.to_string()), text("specific"));
        let oids: Vec<&str> = trap.varbinds.iter().map(|varbind| varbind.oid.as_str()).collect();
        let theirs: Vec<&str> = expected["oids"].as_array().unwrap().iter().map(|oid| oid.as_str().unwrap()).collect();
        assert_eq!(oids, theirs, "{expected}");
        read += 1;
    }
    eprintln!("{read} read, {refused} refused");
    assert!(read >= 6 && refused >= 15, "{read} {refused}");
}

#[test]
fn of_what_others_sent_only_the_sound_traps_of_known_communities_are_accepted() {
    let Some(corpus) = snmp::corpus() else { return };
    let mut access = snmp::access(&snmp::cases(&corpus), 1, Seconds(0));
    let (mut accepted, mut refused) = (Vec::new(), BTreeMap::new());
    for datagram in snmp::datagrams(&corpus).iter().filter(|datagram| !datagram.file.starts_with("netsnmp_")) {
        match check(&datagram.raw, &mut access, NOW) {
            Outcome::Accepted(_) => accepted.push(format!("{} {}", datagram.file, datagram.index)),
            Outcome::Refused { reason, .. } => *refused.entry(reason.label()).or_insert(0) += 1,
        }
    }
    let protos = (0..6).map(|n| format!("suricata-verify_public-wiresharkwiki-c06-snmpv1-trap-app-r1-1-12.pcap {n}"));
    let mut expected: Vec<String> = protos.collect();
    expected.extend(
        ["sharpsnmplib_fivevarbinds.dat 0", "sharpsnmplib_novarbind.dat 0", "zeek_snmpv1_trap.pcap 0"]
            .map(str::to_owned),
    );
    accepted.sort();
    expected.sort();
    assert_eq!(accepted, expected);
    let of = |label: &str| refused.get(label).copied().unwrap_or(0);
    assert_eq!((of("malformed"), of("not_a_notification"), of("unknown_engine"), of("discovery")), (12, 2, 3, 1));
}
