//! Informs of ours against our own receiver: discovery, time, keys, and everything that an answer may not do.

#![allow(clippy::unwrap_used)]

use raven_decode::snmp::{
    Access, AuthProtocol, Communities, Engine, EngineId, Heard, LocalEngine, Manager, Origin, Outcome, Own,
    PrivProtocol, Report, Seconds, Secret, User, Users, answer, as_bytes, check,
};

const ID: i32 = 7;

fn user(auth: Option<(AuthProtocol, &str)>, privacy: Option<(PrivProtocol, &str)>) -> User {
    User {
        name: "noc".to_owned(),
        engine: Engine::Approved,
        auth: auth.map(|(protocol, password)| (protocol, Secret::password(password))),
        priv_: privacy.map(|(protocol, password)| (protocol, Secret::password(password))),
    }
}

fn usual() -> User {
    user(Some((AuthProtocol::Sha256, "maplesyrup")), Some((PrivProtocol::Aes128, "pancakes!")))
}

/// A receiver of informs that knows this user; started an hour before `now` 10,000.
fn receiver(user: User, boots: u32) -> Access {
    let local = LocalEngine::new(EngineId::ours(b"manager"), boots, Seconds(6400), 1);
    Access::new(Communities::only(["n0c"]), Users::new([user]).unwrap(), local)
}

fn varbinds() -> Vec<u8> {
    let origin = Origin { id: "arena/trap/1", source: "192.0.2.7:162".parse().unwrap(), received: "now" };
    as_bytes(Own::Unread, b"bytes", 1, &origin)
}

/// What a receiver sends back.
fn reply(raw: &[u8], access: &mut Access, now: Seconds) -> Option<Vec<u8>> {
    match check(raw, access, now) {
        Outcome::Accepted(_) => Some(answer(raw, access, now).unwrap()),
        Outcome::Refused { reply, .. } => reply,
    }
}

/// Asks until all is known, and sends an inform; what was heard of each.
fn talk(manager: &mut Manager, access: &mut Access, now: Seconds) -> Vec<Heard> {
    let mut heard = Vec::new();
    for _ in 0..3 {
        let Some(question) = manager.question(ID, now) else { break };
        let Some(reply) = reply(&question, access, now) else { return heard };
        heard.push(manager.hear(&reply, |id| id == ID, now).unwrap().unwrap());
        if heard.len() == 2 && !matches!(heard[1], Heard::Report { what: Some(Report::NotInTimeWindow), .. }) {
            return heard;
        }
    }
    let inform = manager.inform(ID, &varbinds(), now);
    if let Some(reply) = reply(&inform, access, now) {
        heard.push(manager.hear(&reply, |id| id == ID, now).unwrap().unwrap());
    }
    heard
}

const DISCOVERED: Heard = Heard::Report { id: ID, what: Some(Report::UnknownEngine) };
const OF_NO_TIME: Heard = Heard::Report { id: ID, what: Some(Report::NotInTimeWindow) };
const TAKEN: Heard = Heard::Response { id: ID, error: 0 };

fn reported(what: Report) -> Heard {
    Heard::Report { id: ID, what: Some(what) }
}

#[test]
fn an_inform_is_answered_with_every_pair_of_protocols() {
    for auth in AuthProtocol::ALL {
        for privacy in [None].into_iter().chain(PrivProtocol::ALL.map(Some)) {
            let user = user(Some((auth, "maplesyrup")), privacy.map(|privacy| (privacy, "pancakes!")));
            let mut manager = Manager::by_user(user.clone(), 5).unwrap();
            let heard = talk(&mut manager, &mut receiver(user, 3), Seconds(10_000));
            assert_eq!(heard, [DISCOVERED, OF_NO_TIME, TAKEN], "{auth} {privacy:?}");
        }
    }
    let mut manager = Manager::by_user(user(None, None), 5).unwrap();
    assert_eq!(talk(&mut manager, &mut receiver(user(None, None), 3), Seconds(10_000)), [DISCOVERED, TAKEN]);
    let mut manager = Manager::by_community("n0c");
    assert_eq!(talk(&mut manager, &mut receiver(usual(), 3), Seconds(10_000)), [TAKEN]);
    let mut stranger = Manager::by_community("public");
    assert_eq!(talk(&mut stranger, &mut receiver(usual(), 3), Seconds(10_000)), [], "nobody says what is wrong");
}

#[test]
fn wrong_credentials_are_told_apart() {
    let told = |ours: User| {
        let mut manager = Manager::by_user(ours, 5).unwrap();
        *talk(&mut manager, &mut receiver(usual(), 3), Seconds(10_000)).last().unwrap()
    };
    let (auth, privacy) = (Some((AuthProtocol::Sha256, "maplesyrup")), Some((PrivProtocol::Aes128, "pancakes!")));
    assert_eq!(told(User { name: "other".to_owned(), ..usual() }), reported(Report::UnknownUser));
    assert_eq!(told(user(Some((AuthProtocol::Sha256, "wrongwrong")), privacy)), reported(Report::WrongDigest));
    assert_eq!(told(user(Some((AuthProtocol::Sha512, "maplesyrup")), privacy)), reported(Report::WrongDigest));
    assert_eq!(told(user(auth, None)), reported(Report::UnsupportedLevel));
    assert_eq!(told(user(auth, Some((PrivProtocol::Aes128, "wrongwrong")))), reported(Report::DecryptionError));
    assert_eq!(told(user(auth, privacy)), TAKEN);
}

#[test]
fn a_manager_that_was_started_anew_is_found_again() {
    let mut manager = Manager::by_user(usual(), 5).unwrap();
    assert_eq!(talk(&mut manager, &mut receiver(usual(), 3), Seconds(10_000)).last(), Some(&TAKEN));
    let mut again = receiver(usual(), 4);
    assert_eq!(talk(&mut manager, &mut again, Seconds(10_100)), [OF_NO_TIME], "it says its clock, signed");
    assert_eq!(talk(&mut manager, &mut again, Seconds(10_100)), [TAKEN]);
    assert_eq!(talk(&mut manager, &mut again, Seconds(20_000)), [TAKEN], "its clock goes on here, too");
    let local = LocalEngine::new(EngineId::ours(b"another"), 1, Seconds(0), 1);
    let mut other = Access::new(Communities::default(), Users::new([usual()]).unwrap(), local);
    assert_eq!(talk(&mut manager, &mut other, Seconds(20_000)), [DISCOVERED], "whoever has another id is another");
}

#[test]
fn an_entry_for_one_engine_is_for_no_other() {
    let expected: EngineId = "8000000001020304".parse().unwrap();
    let mut manager = Manager::by_user(User { engine: Engine::Id(expected), ..usual() }, 5).unwrap();
    assert_eq!(manager.other_engine(), None);
    let question = manager.question(ID, Seconds(10_000)).unwrap();
    let reply = reply(&question, &mut receiver(usual(), 3), Seconds(10_000)).unwrap();
    manager.hear(&reply, |_| true, Seconds(10_000)).unwrap();
    assert_eq!(manager.other_engine(), Some((expected, EngineId::ours(b"manager"))));
}

#[test]
fn no_answer_counts_but_the_manager_s_own() {
    let now = Seconds(10_000);
    let mut access = receiver(usual(), 3);
    let mut manager = Manager::by_user(usual(), 5).unwrap();
    assert_eq!(talk(&mut manager, &mut access, now).last(), Some(&TAKEN));
    let inform = manager.inform(ID, &varbinds(), now);
    let response = reply(&inform, &mut access, now).unwrap();
    assert_eq!(manager.hear(&response, |_| false, now), Ok(None), "nobody waits for it");
    for at in 0..response.len() {
        let mut wrong = response.clone();
        wrong[at] ^= 1;
        let heard = manager.hear(&wrong, |id| id == ID, now);
        assert!(!matches!(heard, Ok(Some(Heard::Response { .. }))), "byte {at} changed: {heard:?}");
        assert!(manager.hear(&response[..at], |_| true, now).is_err());
    }
    // A Response of somebody who knows no secret.
    let mut open = Manager::by_user(user(None, None), 5).unwrap();
    let mut forger = receiver(user(None, None), 3);
    talk(&mut open, &mut forger, now);
    let forged = reply(&open.inform(ID, &varbinds(), now), &mut forger, now).unwrap();
    assert!(manager.hear(&forged, |_| true, now).is_err());
    assert_eq!(manager.hear(&response, |id| id == ID, now), Ok(Some(TAKEN)));
    // An old one, of before the manager's last start.
    let mut again = receiver(usual(), 4);
    talk(&mut manager, &mut again, now);
    assert!(manager.hear(&response, |_| true, now).is_err());
}
