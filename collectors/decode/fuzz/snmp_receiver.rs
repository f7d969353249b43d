//! The receiver that SNMP's fuzz inputs are for: knows the keys of the seeds, so that a mutation gets behind them.
//! Shared by the fuzz target and by the test that replays its inputs.

use raven_decode::snmp::{
    Access, AuthProtocol, Communities, Engine, EngineId, Engines, LocalEngine, Manager, Message, Names, Origin,
    Outcome, Own, PrivProtocol, Seconds, Secret, User, Users, answer, as_bytes, as_it_came, check, decode,
};

pub struct Receiver {
    access: Access,
    names: Names,
    /// Answers are as hostile as questions.
    manager: Manager,
}

impl Receiver {
    pub fn new() -> Self {
        let user = |name: &str, auth: Option<AuthProtocol>, privacy: Option<PrivProtocol>| User {
            name: name.to_owned(),
            engine: Engine::Any,
            auth: auth.map(|auth| (auth, Secret::password("maplesyrup"))),
            priv_: privacy.map(|privacy| (privacy, Secret::password("pancakes!"))),
        };
        let users = [
            user("none", None, None),
            user("md5", Some(AuthProtocol::Md5), None),
            user("des", Some(AuthProtocol::Sha1), Some(PrivProtocol::Des)),
            user("aes", Some(AuthProtocol::Sha256), Some(PrivProtocol::Aes128)),
            user("aes256c", Some(AuthProtocol::Sha1), Some(PrivProtocol::Aes256C)),
        ];
        let manager = Manager::by_user(user("aes", Some(AuthProtocol::Sha256), Some(PrivProtocol::Aes128)), 1);
        let manager = manager.expect("this user is sound");
        let users = Users::new(users).expect("these users are sound");
        let local = LocalEngine::new(EngineId::ours(b"fuzz"), 1, Seconds(0), 1);
        Self { access: Access::new(Communities::only(["public"]), users, local), names: Names::standard(), manager }
    }

    /// All that is done with a datagram; whether it was accepted.
    pub fn look(&mut self, raw: &[u8]) -> bool {
        let access = &mut self.access;
        access.engines = Engines::default();
        let is_accepted = match check(raw, access, Seconds(10)) {
            Outcome::Accepted(_) => true,
            Outcome::Refused { reason, reply } => {
                assert!(reason.to_string().len() < 400);
                assert!(reply.is_none_or(|reply| reply.len() < 300 && Message::read(&reply).is_ok()));
                false
            }
        };
        let reading = decode(raw, &mut access.users, &self.names);
        assert!(!is_accepted || (reading.trap.is_some() && reading.reject.is_none()));
        assert!(reading.trap.is_some() || reading.reject.is_some());
        if let Ok(response) = answer(raw, access, Seconds(10)) {
            assert!(Message::read(&response).is_ok());
        }
        let source = "192.0.2.7:162".parse().expect("an address");
        let origin = Origin { id: "fuzz/trap/1", source, received: "2026-11-22T00:35:53.123456Z" };
        let told = as_it_came(raw, &origin).unwrap_or_else(|| as_bytes(Own::Unread, raw, 1, &origin));
        assert!(told.len() < raw.len() + 500);
        let _ = self.manager.hear(raw, |_| true, Seconds(10));
        is_accepted
    }
}
