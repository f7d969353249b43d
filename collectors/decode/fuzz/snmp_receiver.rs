//! The receiver that SNMP's fuzz inputs are for: knows the keys of the seeds, so that a mutation gets behind them.
//! Shared by the fuzz target and by the test that replays its inputs.

use raven_decode::snmp::{
    Access, AuthProtocol, Communities, Engine, EngineId, Engines, LocalEngine, Message, Names, Outcome, PrivProtocol,
    Seconds, Secret, User, Users, answer, check, decode, to_v2c,
};

pub struct Receiver {
    access: Access,
    names: Names,
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
        let users = Users::new(users).expect("these users are sound");
        let local = LocalEngine::new(EngineId::ours(b"fuzz"), 1, Seconds(0), 1);
        Self { access: Access::new(Communities::only(["public"]), users, local), names: Names::standard() }
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
        if let Ok(Message::Community(message)) = Message::read(raw) {
            assert!(to_v2c(&message, 1).is_none_or(|converted| Message::read(&converted).is_ok()));
        }
        is_accepted
    }
}
