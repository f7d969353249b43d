#![allow(clippy::unwrap_used)]

use super::super::value::Value;
use super::*;

const VENUE: &str = r#"
-- An invented vendor.
VENUE-GEAR-MIB DEFINITIONS ::= BEGIN
IMPORTS
    MODULE-IDENTITY, OBJECT-TYPE, NOTIFICATION-TYPE, Integer32, enterprises FROM SNMPv2-SMI
    TEXTUAL-CONVENTION, DisplayString, DateAndTime, MacAddress FROM SNMPv2-TC
    venueRoot, DoorState FROM VENUE-TC-MIB
    gone FROM LOST-MIB;

venueGear MODULE-IDENTITY
    LAST-UPDATED "202611250000Z"
    ORGANIZATION "Venue"
    CONTACT-INFO "nobody ::= { here }"
    DESCRIPTION  "Quoted: venueX OBJECT-TYPE ::= { venueRoot 99 }"
    REVISION "202611250000Z" DESCRIPTION "First."
    ::= { venueRoot 1 }

venueObjects OBJECT IDENTIFIER ::= { venueGear 1 }

DoorTemp ::= TEXTUAL-CONVENTION
    DISPLAY-HINT "d-1"
    STATUS current
    DESCRIPTION "Tenths of a degree."
    SYNTAX Integer32 (-400..1000)

doorTable OBJECT-TYPE
    SYNTAX SEQUENCE OF DoorEntry
    MAX-ACCESS not-accessible
    STATUS current
    DESCRIPTION "Doors."
    ::= { venueObjects 1 }
doorEntry OBJECT-TYPE
    SYNTAX DoorEntry MAX-ACCESS not-accessible STATUS current DESCRIPTION "A door."
    INDEX { IMPLIED doorName }
    ::= { doorTable 1 }
DoorEntry ::= SEQUENCE { doorName DisplayString, doorState DoorState, doorTemp DoorTemp, doorMac MacAddress }
doorState OBJECT-TYPE
    SYNTAX DoorState MAX-ACCESS read-only STATUS current DESCRIPTION "" DEFVAL { open } ::= { doorEntry 2 }
doorTemp OBJECT-TYPE
    SYNTAX DoorTemp UNITS "degrees" MAX-ACCESS read-only STATUS current DESCRIPTION "" ::= { doorEntry 3 }
doorMac OBJECT-TYPE SYNTAX MacAddress MAX-ACCESS read-only STATUS current DESCRIPTION "" ::= { doorEntry 4 }
doorSince OBJECT-TYPE SYNTAX DateAndTime MAX-ACCESS read-only STATUS current DESCRIPTION "" ::= { doorEntry 5 }
doorFlags OBJECT-TYPE SYNTAX BITS { lit(0), alarmed(9) } MAX-ACCESS read-only STATUS current DESCRIPTION "" ::= { doorEntry 6 }
doorKind OBJECT-TYPE SYNTAX INTEGER { fire(1), stage(-2) } ACCESS read-only STATUS mandatory DESCRIPTION "" ::= { doorEntry 7 }

doorOpened NOTIFICATION-TYPE
    OBJECTS { doorState, doorTemp } STATUS current DESCRIPTION "A door was opened." ::= { venueGear 0 1 }
END
"#;

const TYPES: &str = r#"
VENUE-TC-MIB { iso org(3) } DEFINITIONS ::= BEGIN
IMPORTS enterprises FROM SNMPv2-SMI TRAP-TYPE FROM RFC-1215;
venueRoot OBJECT IDENTIFIER ::= { enterprises 99999 }
DoorState ::= INTEGER { shut(1), open(2) }
FOO MACRO ::= BEGIN TYPE NOTATION ::= "x" VALUE NOTATION ::= value(VALUE INTEGER) END
oldDoor OBJECT-TYPE SYNTAX INTEGER ACCESS read-only STATUS mandatory ::= { venueRoot 5 }
doorForced TRAP-TYPE ENTERPRISE venueRoot VARIABLES { doorState } DESCRIPTION "Old style." ::= 7
veryCold TRAP-TYPE ENTERPRISE { iso org(3) dod(6) internet(1) mgmt(2) mib-2(1) snmp(11) } ::= 0
END
"#;

fn load_all(texts: &[(&str, &str)]) -> (Names, Loaded) {
    let mut names = Names::standard();
    let files: Vec<MibFile<'_>> = texts.iter().map(|(name, text)| MibFile { name, text }).collect();
    let loaded = load(&files, &mut names);
    (names, loaded)
}

fn oid(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap()).collect()
}

#[test]
fn a_vendor_s_modules_give_names() {
    let (names, loaded) = load_all(&[("venue.mib", VENUE), ("types.mib", TYPES)]);
    assert_eq!(loaded.problems, []);
    assert_eq!(loaded.modules, ["VENUE-GEAR-MIB", "VENUE-TC-MIB"]);
    let unresolved: Vec<String> = loaded.unresolved.iter().map(ToString::to_string).collect();
    assert_eq!(unresolved, ["venue.mib:8: gone FROM LOST-MIB"]);
    for (number, name) in [
        ("1.3.6.1.4.1.99999.1.1.1.1.2.5", "doorState.5"),
        ("1.3.6.1.4.1.99999.1.0.1", "doorOpened"),
        ("1.3.6.1.4.1.99999.0.7", "doorForced"),
        ("1.3.6.1.4.1.99999.5.0", "oldDoor.0"),
        ("1.3.6.1.4.1.99999.99", "venueRoot.99"),
        ("1.3.6.1.6.3.1.1.5.1", "veryCold"),
    ] {
        assert_eq!(names.name(&oid(number)).as_deref(), Some(name));
    }
}

#[test]
fn values_are_shown_by_their_types() {
    let (names, _) = load_all(&[("venue.mib", VENUE), ("types.mib", TYPES)]);
    for (column, value, label) in [
        (2, Value::Integer(2), "open"),
        (3, Value::Integer(-55), "-5.5"),
        (4, Value::Octets(&[0, 0x1b, 1, 2, 3, 4]), "00:1b:01:02:03:04"),
        (5, Value::Octets(&[0x07, 0xea, 11, 25, 9, 8, 7, 0]), "2026-11-25,9:8:7.0"),
        (6, Value::Octets(&[0x80, 0x40]), "lit alarmed"),
        (7, Value::Integer(-2), "stage"),
    ] {
        let object = oid(&format!("1.3.6.1.4.1.99999.1.1.1.1.{column}.5"));
        assert_eq!(names.label(&object, &value).as_deref(), Some(label));
    }
}

#[test]
fn a_bad_module_says_where_and_stops_no_other() {
    let bad = "BAD-MIB DEFINITIONS ::= BEGIN\none OBJECT IDENTIFIER ::= { enterprises }x\ntwo OBJECT-TYPE\n  SYNTAX INTEGER { a(1 }\n  ::= { one 2 }\nthree OBJECT IDENTIFIER ::= { nowhere 3 }\nfour OBJECT IDENTIFIER ::= { enterprises 4 }\nEND\nrubbish\nNEXT-MIB DEFINITIONS ::= BEGIN five OBJECT IDENTIFIER ::= { enterprises 55555 } six NOTIFICATION-TYPE STATUS current\nEND";
    let (names, loaded) = load_all(&[
        ("bad.mib", bad),
        ("empty.mib", ""),
        ("venue.mib", VENUE),
        ("types.mib", TYPES),
        ("again.mib", TYPES),
    ]);
    let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "bad.mib:3: expected `::=`, `OBJECT IDENTIFIER` or a macro of SMI such as `OBJECT-TYPE`, found `two`",
            "bad.mib:4: expected `)`, found `}`",
            "bad.mib:10: expected `DEFINITIONS`, found `NEXT-MIB`",
            "bad.mib:11: expected `::=` at the end of this NOTIFICATION-TYPE, found `END`",
            "empty.mib:1: expected a module: `NAME DEFINITIONS ::= BEGIN`, found nothing",
            "again.mib:2: module VENUE-TC-MIB is in types.mib too: this one is left out",
            "bad.mib:6: `three` hangs below `nowhere`, which no module defines",
        ]
    );
    assert_eq!(names.name(&oid("1.3.6.1.4.1.4")).as_deref(), Some("four"));
    assert_eq!(names.name(&oid("1.3.6.1.4.1.55555")).as_deref(), Some("five"));
    assert_eq!(names.name(&oid("1.3.6.1.4.1.99999.1.0.1")).as_deref(), Some("doorOpened"));
}

#[test]
fn circles_end() {
    let circle = "C DEFINITIONS ::= BEGIN a OBJECT IDENTIFIER ::= { b 1 } b OBJECT IDENTIFIER ::= { a 1 } c OBJECT IDENTIFIER ::= { c 1 }\nT ::= U U ::= T x OBJECT-TYPE SYNTAX T ::= { enterprises 7 } END";
    let (_, loaded) = load_all(&[("c.mib", circle)]);
    assert_eq!(loaded.problems.len(), 3, "{:?}", loaded.problems);
    assert_eq!(loaded.names, 1);
    let link = |number: u32| format!("n{number} OBJECT IDENTIFIER ::= {{ n{} 1 }}\n", number + 1);
    let chain: Vec<String> = (0..5000).map(link).collect();
    let chain = format!("D DEFINITIONS ::= BEGIN {} END", chain.concat());
    let (_, loaded) = load_all(&[("d.mib", &chain)]);
    assert_eq!(loaded.names, 0);
}

#[test]
fn a_module_can_be_cut_anywhere() {
    for end in (0..VENUE.len()).filter(|end| VENUE.is_char_boundary(*end)) {
        load_all_cheaply(&VENUE[..end]);
    }
    for text in [
        "{",
        "'",
        "\"",
        "'x",
        "a ::=",
        "A DEFINITIONS ::= BEGIN",
        "A DEFINITIONS ::= BEGIN \"x\" END",
        "--",
        "::= ::= ::=",
    ] {
        load_all_cheaply(text);
    }
    load_all_cheaply(&format!("A DEFINITIONS ::= BEGIN x OBJECT-TYPE SYNTAX {}", "{".repeat(100_000)));
    load_all_cheaply(&"A ".repeat(50_000));
}

fn load_all_cheaply(text: &str) {
    load(&[MibFile { name: "x", text }], &mut Names::default());
}
