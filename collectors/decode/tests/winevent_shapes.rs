//! One event as each agent sends it, after the agents' documentation: the corpus has not all of them.

#![allow(clippy::unwrap_used)]

use raven_decode::winevent::{self, Reading, Reason, Reject, Shape, WinEvent};

/// Reads `raw`, checks what all of the samples below have in common, and gives the event.
fn logon(raw: &str) -> WinEvent {
    let Reading { event, reject } = winevent::decode(raw.as_bytes());
    assert_eq!(reject, None, "{raw}");
    assert_eq!(event.provider.as_deref(), Some("Microsoft-Windows-Security-Auditing"), "{raw}");
    assert_eq!((event.event_id, event.record_id), (Some(4624), Some(25049)), "{raw}");
    assert_eq!((event.channel.as_deref(), event.computer.as_deref()), (Some("Security"), Some("dc01.venue")), "{raw}");
    assert_eq!(event.level, Some(0), "{raw}");
    assert!(event.time.as_deref().unwrap().starts_with("2026-11-21T20:15:07"), "{raw}");
    event
}

fn data<'a>(event: &'a WinEvent, name: &str) -> Option<&'a str> {
    event.data.get(name).map(String::as_str)
}

#[test]
fn event_xml_with_rendering_and_unnamed_data() {
    let event = logon(
        r#"<?xml version="1.0" encoding="utf-8"?>
        <Event xmlns="http://schemas.microsoft.com/win/2004/08/events/event"><System>
        <Provider Name="Microsoft-Windows-Security-Auditing" Guid="{5}"/><EventID Qualifiers="0">4624</EventID>
        <Level>0</Level><TimeCreated SystemTime='2026-11-21T20:15:07.1234567Z'/><EventRecordID>25049</EventRecordID>
        <Execution ProcessID="1" ThreadID="2"/><Channel>Security</Channel><Computer>dc01.venue</Computer>
        <Security UserID="S-1-5-18"/></System>
        <EventData><Data Name="TargetUserName">o&apos;neil &#x263a;</Data><Data>a</Data><Data>b</Data>
        <Data Name="Channel">no</Data><Binary>0A0B</Binary></EventData>
        <RenderingInfo Culture="en-US"><Message>An account was logged on.</Message><Level>Information</Level></RenderingInfo></Event>"#,
    );
    assert_eq!(event.message.as_deref(), Some("An account was logged on."));
    assert_eq!(event.user.as_deref(), Some("S-1-5-18"));
    assert_eq!(event.data.len(), 5);
    assert_eq!((data(&event, "TargetUserName"), data(&event, "param2")), (Some("o'neil \u{263a}"), Some("b")));
}

#[test]
fn user_data_without_its_wrapper() {
    let event = winevent::decode(
        br#"<Event><System><EventID>1102</EventID></System><UserData><LogFileCleared xmlns="u"><SubjectUserName>bob</SubjectUserName><A b="1"/></LogFileCleared></UserData></Event>"#,
    )
    .event;
    assert_eq!((data(&event, "SubjectUserName"), data(&event, "A.b")), (Some("bob"), Some("1")));
}

#[test]
fn winlogbeat_nested_and_dotted() {
    for raw in [
        r#"{"@timestamp":"2026-11-21T20:15:07.123Z","host":{"name":"collector"},"log":{"level":"information"},"event":{"code":"4624","provider":"Microsoft-Windows-Security-Auditing","created":"2026-11-21T20:15:09Z"},"message":"m","winlog":{"level":0,"provider_name":"Microsoft-Windows-Security-Auditing","event_id":"4624","channel":"Security","computer_name":"dc01.venue","record_id":25049,"user":{"identifier":"S-1-5-18","name":"SYSTEM","domain":"NT AUTHORITY"},"event_data":{"TargetUserName":"bob","LogonType":"3"}}}"#,
        r#"{"@timestamp":"2026-11-21T20:15:07.123Z","log.level":"information","winlog.keywords":["Audit Success"],"winlog.level":"LogAlways","message":"m","winlog.provider_name":"Microsoft-Windows-Security-Auditing","winlog.event_id":4624,"winlog.channel":"Security","winlog.computer_name":"dc01.venue","winlog.record_id":"25049","winlog.user.identifier":"S-1-5-18","winlog.event_data.TargetUserName":"bob","winlog.event_data.LogonType":3}"#,
    ] {
        let event = logon(raw);
        assert_eq!((event.user.as_deref(), event.message.as_deref()), (Some("S-1-5-18"), Some("m")));
        assert_eq!((event.data.len(), data(&event, "LogonType")), (2, Some("3")));
    }
}

#[test]
fn ecs_alone() {
    let event = winevent::decode(
        br#"{"@timestamp":1795292107123,"host":{"name":"dc01"},"event":{"code":"4624","provider":"P"},"log":{"level":"error"}}"#,
    )
    .event;
    assert_eq!(
        (event.event_id, event.provider.as_deref(), event.computer.as_deref()),
        (Some(4624), Some("P"), Some("dc01"))
    );
    assert_eq!((event.level, event.time.as_deref()), (Some(2), Some("2026-11-21T20:15:07.123Z")));
}

#[test]
fn vector_with_fields_and_with_xml() {
    let event = logon(
        r#"{"channel":"Security","computer":"dc01.venue","event_id":4624,"host":"collector","level":"Information","level_value":0,"provider_name":"Microsoft-Windows-Security-Auditing","record_id":25049,"source_type":"windows_event_log","timestamp":"2026-11-21T20:15:07.123456Z","user_id":"S-1-5-18","event_data":{"TargetUserName":"bob"},"string_inserts":["x"],"message":"m"}"#,
    );
    assert_eq!((data(&event, "TargetUserName"), data(&event, "param1")), (Some("bob"), Some("x")));
    let event = logon(
        r#"{"timestamp":"2026-11-21T20:15:07.1Z","message":"<Event xmlns=\"u\"><System><Provider Name=\"Microsoft-Windows-Security-Auditing\"/><EventID>4624</EventID><Level>0</Level><EventRecordID>25049</EventRecordID><Channel>Security</Channel><Computer>dc01.venue</Computer></System><EventData><Data Name=\"A\">1</Data></EventData></Event>"}"#,
    );
    assert_eq!((event.data.len(), data(&event, "A")), (1, Some("1")));
}

#[test]
fn fluent_bit_winevtlog_and_winlog() {
    let event = logon(
        r#"{"ProviderName":"Microsoft-Windows-Security-Auditing","ProviderGuid":"{5}","Qualifiers":"","EventID":4624,"Version":2,"Level":0,"Task":12544,"Opcode":0,"Keywords":"0x80","TimeCreated":"2026-11-21 20:15:07 +0000","EventRecordID":25049,"ActivityID":"","ProcessID":516,"ThreadID":1,"Channel":"Security","Computer":"dc01.venue","UserID":"","Message":"m","StringInserts":["S-1-0-0","-",3]}"#,
    );
    assert_eq!((event.data.len(), data(&event, "param3"), event.user.as_deref()), (3, Some("3"), None));
    assert_eq!(event.time.as_deref(), Some("2026-11-21T20:15:07+00:00"));
    logon(
        r#"{"RecordNumber":25049,"TimeGenerated":"2026-11-21 20:15:07 +0000","TimeWritten":"2026-11-21 20:15:08 +0000","EventID":4624,"Qualifiers":0,"EventType":"SuccessAudit","EventCategory":12544,"Channel":"Security","Sid":"","SourceName":"Microsoft-Windows-Security-Auditing","ComputerName":"dc01.venue","Data":"","Message":"m","StringInserts":["a"]}"#,
    );
}

#[test]
fn powershell_get_winevent_and_get_eventlog() {
    let event = logon(
        r#"{"Message":"m","Id":4624,"Version":2,"Qualifiers":null,"Level":0,"Task":12544,"Opcode":0,"RecordId":25049,"ProviderName":"Microsoft-Windows-Security-Auditing","LogName":"Security","ProcessId":516,"MachineName":"dc01.venue","UserId":{"BinaryLength":12,"AccountDomainSid":null,"Value":"S-1-5-18"},"TimeCreated":"\/Date(1795292107123)\/","ContainerLog":"C:\\x.evtx","Bookmark":{},"LevelDisplayName":"Information","Properties":[{"Value":"S-1-0-0"},{"Value":3},{"Value":null}]}"#,
    );
    assert_eq!((event.user.as_deref(), event.time.as_deref()), (Some("S-1-5-18"), Some("2026-11-21T20:15:07.123Z")));
    assert_eq!((event.data.len(), data(&event, "param2")), (3, Some("3")));
    let event = winevent::decode(
        r#"{"Id":7036,"Level":null,"LevelDisplayName":"Informationen","TimeCreated":{"value":"\/Date(1795292107123)\/","DisplayHint":2,"DateTime":"Samstag"},"UserId":null,"ProviderName":"SCM","LogName":"System"}"#
            .as_bytes(),
    )
    .event;
    assert_eq!((event.event_id, event.level, event.user), (Some(7036), Some(4), None));
    assert!(event.time.is_some());
    let event = winevent::decode(
        br#"{"EventID":4624,"MachineName":"dc01.venue","Data":[],"Index":25049,"Category":"(12544)","CategoryNumber":12544,"EntryType":8,"Message":"m","Source":"Microsoft-Windows-Security-Auditing","ReplacementStrings":["S-1-0-0","bob"],"InstanceId":4624,"TimeGenerated":"\/Date(1795292107000)\/","TimeWritten":"\/Date(1795292108000)\/","UserName":null,"Site":null,"Container":null}"#,
    )
    .event;
    assert_eq!(
        (event.provider.as_deref(), event.record_id, event.level),
        (Some("Microsoft-Windows-Security-Auditing"), Some(25049), Some(0))
    );
    assert_eq!((data(&event, "param2"), event.time.as_deref()), (Some("bob"), Some("2026-11-21T20:15:07.000Z")));
}

#[test]
fn other_converters_of_xml() {
    for raw in [
        r##"{"Event":{"System":{"Provider":{"@Name":"Microsoft-Windows-Security-Auditing"},"EventID":{"@Qualifiers":"0","#text":"4624"},"Level":"0","TimeCreated":{"@SystemTime":"2026-11-21T20:15:07Z"},"EventRecordID":"25049","Channel":"Security","Computer":"dc01.venue"},"EventData":{"Data":[{"@Name":"A","#text":"1"},{"@Name":"B"},{"@Name":"C","#text":"3"}]}}}"##,
        r#"{"data":{"win":{"system":{"providerName":"Microsoft-Windows-Security-Auditing","eventID":"4624","level":"0","systemTime":"2026-11-21T20:15:07.1Z","eventRecordID":"25049","channel":"Security","computer":"dc01.venue"},"eventdata":{"A":"1","B":"","C":"3"}}}}"#,
    ] {
        let event = logon(raw);
        assert_eq!(
            [data(&event, "A"), data(&event, "B"), data(&event, "C")],
            [Some("1"), Some(""), Some("3")],
            "{raw}"
        );
    }
}

#[test]
fn nxlog_names_the_user_by_domain_and_marks_the_zone_as_assumed() {
    let event = winevent::decode(
        br#"{"EventTime":"2026-11-21 20:15:07","Hostname":"ws5","SeverityValue":3,"Severity":"WARNING","EventID":7,"SourceName":"S","RecordNumber":1,"Channel":"System","AccountName":"SYSTEM","Domain":"NT AUTHORITY","param1":"x","SourceModuleName":"in"}"#,
    )
    .event;
    assert_eq!((event.level, event.user.as_deref()), (Some(3), Some("NT AUTHORITY\\SYSTEM")));
    let json = serde_json::to_value(&event).unwrap();
    assert_eq!((&json["assumed"], &json["data"]), (&serde_json::json!(["zone"]), &serde_json::json!({"param1": "x"})));
}

#[test]
fn what_a_broken_event_says_before_its_fault_is_read() {
    let Reading { event, reject } = winevent::decode(br#"{"EventID":4624,"Channel":"Security","Mess"#);
    assert_eq!((event.event_id, event.channel.as_deref()), (Some(4624), Some("Security")));
    assert!(matches!(reject, Some(Reject::Broken(fault)) if fault.reason == Reason::Truncated && fault.at == 42));
    let Reading { event, reject } = winevent::decode(b"<Event><System><EventID>4624</EventID><Chan");
    assert_eq!(event.event_id, Some(4624));
    assert!(matches!(reject, Some(Reject::Broken(_))));
    assert_eq!(winevent::decode(br#"{"a":1}"#).reject, Some(Reject::NoEvent));
}

fn refused(body: &[u8]) -> (usize, Reason) {
    let refusal = winevent::split(body).unwrap_err();
    (refusal.at, refusal.reason)
}

#[test]
fn a_body_of_no_known_shape_is_refused_with_its_place() {
    for (body, at, reason) in [
        (&b""[..], 0, Reason::Empty),
        (b" \r\n", 0, Reason::Empty),
        (b"hello", 0, Reason::UnknownShape),
        (b"<14>Sep 17 16:37:25 h MSWinEventLog\t1", 0, Reason::Malformed),
        (b"<html></html>", 0, Reason::Malformed),
        (b"\xff\xfe<\0E\0", 0, Reason::Utf16),
        (b"\xfe\xff\0<\0E", 0, Reason::Utf16),
        (b"<\0E\0", 0, Reason::Utf16),
        (br#"{"a":1"#, 6, Reason::Truncated),
        (br#"{"a":1}}"#, 7, Reason::UnknownShape),
        (br#"[{"a":1},{"b":2"#, 15, Reason::Truncated),
        (br#"[{"a":1} {"b":2}]"#, 9, Reason::Malformed),
        (br#"[{"a":1},2]"#, 9, Reason::NotAnEvent),
        (b"{\"a\":1}\n[{\"b\":2}\n", 17, Reason::Truncated),
        (br#"{"index":{"_id":"1"}}"#, 0, Reason::NoEvent),
        (b"<Events><Event></Event>", 23, Reason::Truncated),
        (b"<Events><Event/>text</Events>", 16, Reason::NotAnEvent),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><Event/>", 0, Reason::Malformed),
    ] {
        let text = String::from_utf8_lossy(body);
        if body == br#"{"a":1}}"# || body.starts_with(b"<!DOCTYPE") {
            // What is whole is kept, and so is the rest, as a broken event.
            let split = winevent::split(body).unwrap();
            assert_eq!((split.broken, split.first_fault.unwrap().at), (1, at), "{text}");
            continue;
        }
        assert_eq!(refused(body), (at, reason), "{text}");
    }
}

#[test]
fn a_broken_line_does_not_take_its_neighbours() {
    let good = br#"{"a":"{\"x\":1}"}"#;
    for broken in [
        &br#"{"a":1"#[..],
        br#"{"a":[1,"#,
        br#"{"a":"x"#,
        br#"{"a":"x\"#,
        br#"{"a":{"b":"#,
        br#""b":2}"#,
        b"text",
        b"\xff\x00\xfe",
        br#"{"a" 1}"#,
    ] {
        let body = [&good[..], broken, good, good].join(&b"\r\n"[..]);
        let split = winevent::split(&body).unwrap();
        assert_eq!((split.shape, split.broken), (Shape::Objects, 1));
        let events: Vec<&[u8]> = split.into_iter().map(|range| &body[range]).collect();
        assert_eq!(events, [&good[..], broken, good, good], "{}", String::from_utf8_lossy(broken));
    }
}

#[test]
fn a_broken_element_does_not_take_its_neighbours() {
    let good = b"<Event><A>1</A></Event>";
    for broken in [&b"<Event><A>1</A>"[..], b"<Event><A b='", b"<Event><A>1</B></Event>", b"text &", b"<EventData/>"] {
        let body = [&good[..], broken, good].join(&b"\n"[..]);
        let split = winevent::split(&body).unwrap();
        assert_eq!((split.shape, split.broken), (Shape::Xml, 1));
        let events: Vec<&[u8]> = split.into_iter().map(|range| &body[range]).collect();
        assert_eq!(events, [&good[..], broken, good], "{}", String::from_utf8_lossy(broken));
    }
}

#[test]
fn bulk_actions_are_no_events_and_a_document_may_look_like_one() {
    let body = b"{\"index\":{\"_index\":\"w\"}}\n{\"index\":{\"a\":1}}\n{ \"delete\" : {\"_id\":\"1\"} }\n{\"create\":{}}\n{\"b\":2}\n";
    let split = winevent::split(body).unwrap();
    assert_eq!((split.shape, split.actions, split.broken), (Shape::Bulk, 3, 0));
    let events: Vec<&[u8]> = split.into_iter().map(|range| &body[range]).collect();
    assert_eq!(events, [&br#"{"index":{"a":1}}"#[..], br#"{"b":2}"#]);
}

#[test]
fn arrays_may_be_empty_and_follow_each_other() {
    assert_eq!(winevent::split(b"[]").unwrap().events, []);
    assert_eq!(winevent::split(b"[ {} , {} ]\n[{}]").unwrap().events.len(), 3);
}
