//! Who is let in and who is not: net-snmp's own messages against receivers that are set up in other ways.

#![allow(clippy::unwrap_used)]

#[path = "support/snmp.rs"]
mod snmp;
mod support;

use raven_decode::snmp::{
    Accepted, Access, AuthProtocol, Communities, Data, Engine, EngineId, Level, LocalEngine, Message, Names, Outcome,
    PrivProtocol, Refused, Report, Scoped, Seconds, Secret, User, Users, answer, check, decode,
};
use std::path::Path;

const NOW: Seconds = Seconds(10_000);
const AUTH: &str = "ravenAuth1";
const PRIV: &str = "ravenPriv1";

/// The last datagram that the sender sent.
fn sent(corpus: &Path, file: &str) -> Vec<u8> {
    let datagrams = snmp::of_file(&corpus.join(format!("netsnmp_v3_{file}.pcap")));
    datagrams.into_iter().rfind(|datagram| datagram.to_us).unwrap().raw
}

fn user(name: &str, engine: Engine, auth: &str, privacy: Option<(PrivProtocol, &str)>) -> User {
    User {
        name: name.to_owned(),
        engine,
        auth: Some((AuthProtocol::Sha1, Secret::password(auth))),
        priv_: privacy.map(|(protocol, secret)| (protocol, Secret::password(secret))),
    }
}

/// A receiver with this one user, whose clock agrees with an inform of net-snmp's.
fn access_for(raw: &[u8], ours: EngineId, user: User) -> Access {
    let Ok(Message::V3(v3)) = Message::read(raw) else { unreachable!() };
    let local = if v3.engine_id == ours.as_bytes() {
        LocalEngine::new(ours, v3.boots.cast_unsigned(), Seconds(NOW.0 - u64::try_from(v3.time).unwrap()), 1)
    } else {
        LocalEngine::new(ours, 1, Seconds(0), 1)
    };
    Access::new(Communities::default(), Users::new([user]).unwrap(), local)
}

fn refused(raw: &[u8], access: &mut Access) -> (Refused, Option<Vec<u8>>) {
    match check(raw, access, NOW) {
        Outcome::Refused { reason, reply } => (reason, reply),
        Outcome::Accepted(accepted) => panic!("{accepted:?}"),
    }
}

fn accepted<'a>(raw: &'a [u8], access: &mut Access, now: Seconds) -> Result<Accepted<'a>, Refused> {
    match check(raw, access, now) {
        Outcome::Accepted(accepted) => Ok(accepted),
        Outcome::Refused { reason, .. } => Err(reason),
    }
}

/// That a Report says this, is for this message, and comes from us; its level.
fn reports(reply: &[u8], what: Report, to: &[u8], access: &Access) -> Level {
    let (Ok(Message::V3(report)), Ok(Message::V3(to))) = (Message::read(reply), Message::read(to)) else {
        unreachable!()
    };
    assert_eq!((report.id, report.reportable, report.engine_id), (to.id, false, access.local.id().as_bytes()));
    let Data::Plain(content) = report.data else { unreachable!() };
    let scoped = Scoped::read(content).unwrap();
    assert_eq!(scoped.engine_id, access.local.id().as_bytes());
    let varbind = scoped.pdu.varbinds().iter().next().unwrap();
    assert_eq!(varbind.oid.to_oid().to_string(), format!("1.3.6.1.6.3.15.1.1.{}.0", what as u32));
    report.level
}

#[test]
fn each_reason_has_its_report() {
    let Some(corpus) = snmp::corpus() else { return };
    let ours = snmp::receiver();
    let inform = sent(&corpus, "inform_priv_sha_des");
    let des = Some((PrivProtocol::Des, PRIV));
    let name = "priv_sha_des";
    for (user, reason, report) in [
        (user("other", Engine::Approved, AUTH, des), "unknown user `priv_sha_des`", Report::UnknownUser),
        (user(name, Engine::Approved, "wrongpass1", des), "wrong digest: user `priv_sha_des`", Report::WrongDigest),
        (
            user(name, Engine::Approved, AUTH, None),
            "unsupported level: user `priv_sha_des` sent authPriv, expected authNoPriv",
            Report::UnsupportedLevel,
        ),
        (
            user(name, Engine::Approved, AUTH, Some((PrivProtocol::Des, "wrongpriv1"))),
            "decryption error: user `priv_sha_des`",
            Report::DecryptionError,
        ),
        (
            user(name, Engine::Approved, AUTH, Some((PrivProtocol::Aes128, PRIV))),
            "decryption error: user `priv_sha_des`",
            Report::DecryptionError,
        ),
    ] {
        let mut access = access_for(&inform, ours, user);
        let (why, reply) = refused(&inform, &mut access);
        assert!(why.to_string().starts_with(reason), "{why}");
        assert_eq!(reports(&reply.unwrap(), report, &inform, &access), Level::NoAuth);
        assert!(answer(&inform, &mut access, NOW).is_err(), "what was refused is not answered either");
    }
}

#[test]
fn a_sender_with_a_wrong_clock_is_told_ours_with_a_digest() {
    let Some(corpus) = snmp::corpus() else { return };
    let inform = sent(&corpus, "inform_auth_sha");
    let mut access = access_for(&inform, snmp::receiver(), user("auth_sha", Engine::Approved, AUTH, None));
    access.local = LocalEngine::new(snmp::receiver(), 77, Seconds(0), 1);
    let (reason, reply) = refused(&inform, &mut access);
    assert!(matches!(reason, Refused::NotInTimeWindow { expected_boots: 77, expected_time: 10_000, .. }), "{reason}");
    let reply = reply.unwrap();
    assert_eq!(reports(&reply, Report::NotInTimeWindow, &inform, &access), Level::Auth);
    let Ok(Message::V3(report)) = Message::read(&reply) else { unreachable!() };
    assert_eq!((report.boots, report.time, report.user), (77, 10_000, &b"auth_sha"[..]));
    // The digest is right, or that would be the reason.
    let reading = decode(&reply, &mut access.users, &Names::default());
    assert_eq!(reading.reject.unwrap().to_string(), "not a notification: Report");
}

#[test]
fn an_inform_for_another_engine_is_sent_back_to_ask() {
    let Some(corpus) = snmp::corpus() else { return };
    let inform = sent(&corpus, "inform_auth_sha");
    let ours = EngineId::ours(b"replaced");
    for engine in [Engine::Any, Engine::Approved] {
        let mut access = access_for(&inform, ours, user("auth_sha", engine, AUTH, None));
        let (reason, reply) = refused(&inform, &mut access);
        match reason {
            Refused::InformForAnother(engine) => assert_eq!(engine, snmp::receiver()),
            Refused::UnknownEngine { engine, proven_by } => {
                assert_eq!((engine, proven_by.as_deref()), (snmp::receiver(), Some("auth_sha")));
            }
            other => panic!("{other}"),
        }
        assert_eq!(reports(&reply.unwrap(), Report::UnknownEngine, &inform, &access), Level::NoAuth);
    }
}

#[test]
fn an_unknown_engine_waits_for_approval() {
    let Some(corpus) = snmp::corpus() else { return };
    let trap = sent(&corpus, "trap_auth_sha");
    let ours = EngineId::ours(b"x");
    let mut access = access_for(&trap, ours, user("auth_sha", Engine::Approved, AUTH, None));
    let (reason, reply) = refused(&trap, &mut access);
    assert_eq!(
        reason.to_string(),
        "unknown engine 8000000001020304: not approved yet; it knows the secret of user `auth_sha`"
    );
    assert_eq!((reply, access.engines.len()), (None, 0));
    access.users.approve(snmp::sender());
    assert!(accepted(&trap, &mut access, NOW).is_ok());

    for (engine, is_accepted) in
        [(Engine::Any, true), (Engine::Id(snmp::sender()), true), (Engine::Id(snmp::receiver()), false)]
    {
        let mut access = access_for(&trap, ours, user("auth_sha", engine, AUTH, None));
        assert_eq!(accepted(&trap, &mut access, NOW).is_ok(), is_accepted, "{engine:?}");
    }
    let wrong = sent(&corpus, "trap_wrongpass");
    let mut access = access_for(&wrong, ours, user("auth_sha", Engine::Approved, AUTH, None));
    assert!(matches!(refused(&wrong, &mut access).0, Refused::Digest { .. }), "nobody is asked to approve a forger");
}

/// influxdata/telegraf#16222: the settings of version 3 were ignored, and unauthenticated traps accepted.
#[test]
fn a_secret_cannot_be_left_out() {
    let Some(corpus) = snmp::corpus() else { return };
    let ours = EngineId::ours(b"x");
    let bare = sent(&corpus, "trap_noauth_u");
    let mut access = access_for(&bare, ours, user("noauth_u", Engine::Any, AUTH, None));
    let (reason, _) = refused(&bare, &mut access);
    assert_eq!(reason.to_string(), "unsupported level: user `noauth_u` sent noAuthNoPriv, expected authNoPriv");
    let signed = sent(&corpus, "trap_auth_sha");
    let user = user("auth_sha", Engine::Any, AUTH, Some((PrivProtocol::Aes128, PRIV)));
    let mut access = access_for(&signed, ours, user);
    assert!(matches!(refused(&signed, &mut access).0, Refused::Level { .. }));
    // Taking the flag off a signed message does not help, for the flag is signed too; nor does cutting the digest.
    let mut access = access_for(&signed, ours, self::user("auth_sha", Engine::Any, AUTH, None));
    assert!(accepted(&signed, &mut access, NOW).is_ok());
    let flags = signed.windows(3).position(|bytes| bytes == [4, 1, 1]).unwrap() + 2;
    let mut bare = signed.clone();
    bare[flags] = 0;
    assert!(matches!(refused(&bare, &mut access).0, Refused::Level { .. }));
}

#[test]
fn a_recorded_trap_is_worthless_later() {
    let Some(corpus) = snmp::corpus() else { return };
    for (file, name, privacy) in
        [("trap_auth_sha", "auth_sha", None), ("trap_priv_sha_des", "priv_sha_des", Some((PrivProtocol::Des, PRIV)))]
    {
        let trap = sent(&corpus, file);
        let mut access = access_for(&trap, EngineId::ours(b"x"), user(name, Engine::Any, AUTH, privacy));
        let learned = accepted(&trap, &mut access, NOW).unwrap().learned.unwrap();
        assert_eq!(accepted(&trap, &mut access, Seconds(NOW.0 + 150)).unwrap().learned, None);
        let later = accepted(&trap, &mut access, Seconds(NOW.0 + 151)).unwrap_err();
        assert!(matches!(later, Refused::NotInTimeWindow { .. }), "{later}");
        // What was learned is kept over a restart.
        let mut access = access_for(&trap, EngineId::ours(b"x"), user(name, Engine::Any, AUTH, privacy));
        access.engines.restore(learned, Seconds(5));
        assert!(accepted(&trap, &mut access, Seconds(156)).is_err());
        let mut later = learned;
        later.time += 151;
        access.engines.restore(later, Seconds(5));
        assert!(accepted(&trap, &mut access, Seconds(5)).is_err());
        let reading = decode(&trap, &mut access.users, &Names::default());
        assert_eq!(
            (reading.reject, reading.trap.unwrap().varbinds.len()),
            (None, 7),
            "a view does not ask for the time"
        );
    }
}

#[test]
fn communities_are_on_the_list_or_refused() {
    let Some(corpus) = snmp::corpus() else { return };
    let raw = snmp::of_file(&corpus.join("netsnmp_v2c_linkdown.pcap"))[0].raw.clone();
    let local = LocalEngine::new(EngineId::ours(b"x"), 1, Seconds(0), 1);
    let with = |communities| {
        let mut access = Access::new(communities, Users::default(), local.clone());
        accepted(&raw, &mut access, NOW).map(|_| ())
    };
    assert_eq!(with(Communities::default()), Err(Refused::Community));
    assert_eq!(with(Communities::only(["Public", "publi", "public2", ""])), Err(Refused::Community));
    assert_eq!(with(Communities::only(["other", "public"])), Ok(()));
    assert_eq!(with(Communities::any()), Ok(()));
    assert_eq!(format!("{:?}", Communities::only(["secret"])), "1 communities");
}

#[test]
fn what_cannot_be_decrypted_still_says_who_sent_it() {
    let Some(corpus) = snmp::corpus() else { return };
    let trap = sent(&corpus, "trap_priv_sha256_aes");
    let reading = decode(&trap, &mut Users::default(), &Names::default());
    let shown = reading.trap.unwrap();
    assert_eq!(
        (shown.user.as_deref(), shown.engine_id.as_deref()),
        (Some("priv_sha256_aes"), Some("8000000001020304"))
    );
    assert_eq!((shown.kind, shown.varbinds.len()), (None, 0));
    assert!(matches!(reading.reject, Some(Refused::UnknownUser { .. })));
}

#[test]
fn a_view_is_json_with_these_names() {
    let Some(corpus) = snmp::corpus() else { return };
    let raw = snmp::of_file(&corpus.join("netsnmp_v1_generic2.pcap"))[0].raw.clone();
    let trap = decode(&raw, &mut Users::default(), &Names::standard()).trap.unwrap();
    let json = serde_json::to_value(&trap).unwrap();
    let expected = serde_json::json!({
        "version": "1", "community": "public", "user": null, "engine_id": null, "context": null, "type": "trap",
        "uptime": 123_456, "trap_oid": "1.3.6.1.6.3.1.1.5.3", "trap_name": "linkDown",
        "enterprise": "1.3.6.1.4.1.9.1.1208", "agent_addr": "192.0.2.77", "generic": 2, "specific": 0,
        "varbinds": [{ "oid": "1.3.6.1.2.1.2.2.1.1.3", "name": "ifIndex.3", "type": "Integer32", "value": 3 }],
    });
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<raven_decode::snmp::Trap>(json).unwrap(), trap);
}
