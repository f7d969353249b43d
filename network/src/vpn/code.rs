//! One-time codes of one tunnel by OpenVPN: who asks for one, the one that an operator gave, and what openvpn is told
//! (management-notes.txt of OpenVPN 2.6, "Challenge/Response Protocol").
//!
//! The profile asks at each connect (static challenge), or the server does once user and password were right (dynamic
//! challenge). A code is used once and never kept: nothing is tried without one, since servers lock accounts.

use super::management::with_code;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use raven_model::vpn::SecretText;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// A code that nobody asked for meanwhile is forgotten: codes that a clock makes hold for half a minute, and a server
/// may take a while to ask.
const LIFE: Duration = Duration::from_mins(2);
/// Bytes of the longest name of a question that is given back: what openvpn reads at its management socket is limited.
const STATE_MAX: usize = 512;
/// Characters of a question that are shown.
const QUESTION_MAX: usize = 120;

/// A server's question.
#[derive(Debug)]
struct Challenge {
    /// How the server calls it.
    state: SecretText,
    /// Of whom it is asked.
    user: String,
    question: String,
}

/// What is known of codes.
#[derive(Debug, Default)]
pub struct Codes {
    /// The profile's question at each connect.
    each_time: Option<String>,
    /// The server's, once.
    asked: Option<Challenge>,
    given: Option<(SecretText, Instant)>,
}

impl Codes {
    /// With the question of the profile.
    pub fn new(each_time: Option<String>) -> Self {
        Self { each_time, asked: None, given: None }
    }

    /// An operator gives one.
    pub fn give(&mut self, code: SecretText, now: Instant) {
        self.given = Some((code, now + LIFE));
    }

    /// Forgets what was given and what the server asked.
    pub fn forget(&mut self) {
        (self.given, self.asked) = (None, None);
    }

    /// When the code that was given is forgotten.
    pub fn ends(&self) -> Option<Instant> {
        self.given.as_ref().map(|(_, end)| *end)
    }

    /// Forgets it then.
    pub fn tick(&mut self, now: Instant) {
        self.given.take_if(|(_, end)| *end <= now);
    }

    /// What is asked before an attempt makes sense, where no code is there.
    pub fn wanted(&self) -> Option<&str> {
        let question = self.asked.as_ref().map(|asked| asked.question.as_str()).or(self.each_time.as_deref());
        question.filter(|_| self.given.is_none())
    }

    /// The server answered user and password by a question, `CRV1:flags:state:user:words`; false when it is none.
    pub fn ask(&mut self, challenge: &str) -> bool {
        self.asked = parse(challenge);
        self.asked.is_some()
    }

    /// What openvpn is told when it asks for user and password, and for a code where `question` is there; `None` when a
    /// code is wanted and there is none.
    pub fn answer(&mut self, question: Option<&str>, login: (&str, &str)) -> Option<(String, Zeroizing<String>)> {
        if self.asked.is_some() {
            let (code, asked) = (self.given.take()?.0, self.asked.take()?);
            let answer = Zeroizing::new(format!("CRV1::{}::{}", asked.state.expose(), code.expose()));
            return Some((asked.user, answer));
        }
        let (user, password) = login;
        let password = match question {
            None => Zeroizing::new(password.to_owned()),
            Some(question) => {
                self.each_time = Some(shown(question));
                with_code(password, self.given.take()?.0.expose())
            }
        };
        Some((user.to_owned(), password))
    }
}

fn parse(challenge: &str) -> Option<Challenge> {
    let mut fields = challenge.strip_prefix("CRV1:")?.splitn(4, ':');
    let (_flags, state, user, words) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let user = String::from_utf8(BASE64.decode(user).ok()?).ok()?;
    let fits = !state.is_empty() && state.len() <= STATE_MAX && !user.is_empty() && !user.contains(char::is_control);
    fits.then(|| Challenge { state: SecretText::new(state), user, question: shown(words) })
}

fn shown(question: &str) -> String {
    question.chars().filter(|c| !c.is_control()).take(QUESTION_MAX).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// As OpenVPN's management-notes.txt has it.
    const CRV1: &str = "CRV1:R,E:Om01u7Fh4LrGBS7uh0SWmzwabUiGiW6l:Y3Ix:Please enter token PIN: now";

    #[test]
    fn a_server_is_answered_by_the_name_of_its_question() {
        let (mut codes, now) = (Codes::default(), Instant::now());
        assert_eq!(codes.wanted(), None);
        assert!(codes.ask(CRV1));
        assert_eq!(codes.wanted(), Some("Please enter token PIN: now"));
        assert_eq!(codes.answer(None, ("cr1", "pw")), None);
        codes.give(SecretText::new("8675309"), now);
        assert_eq!(codes.wanted(), None);
        let (user, password) = codes.answer(None, ("cr", "pw")).unwrap();
        assert_eq!((user.as_str(), password.as_str()), ("cr1", "CRV1::Om01u7Fh4LrGBS7uh0SWmzwabUiGiW6l::8675309"));
        // Once.
        let (user, password) = codes.answer(None, ("cr", "pw")).unwrap();
        assert_eq!((user.as_str(), password.as_str(), codes.wanted()), ("cr", "pw", None));
    }

    #[test]
    fn a_code_that_is_asked_for_at_each_connect_goes_with_the_password_once() {
        let (mut codes, now) = (Codes::new(Some("Code?".to_owned())), Instant::now());
        assert_eq!(codes.wanted(), Some("Code?"));
        codes.give(SecretText::new("123456"), now);
        let (_, password) = codes.answer(Some("Code?"), ("venue7", "pw")).unwrap();
        assert_eq!(password.as_str(), "SCRV1:cHc=:MTIzNDU2");
        assert_eq!(codes.answer(Some("Code?"), ("venue7", "pw")), None);
        assert_eq!(codes.wanted(), Some("Code?"));
    }

    #[test]
    fn a_code_that_nobody_asked_for_is_forgotten() {
        let (mut codes, now) = (Codes::default(), Instant::now());
        codes.give(SecretText::new("123456"), now);
        codes.tick(now + LIFE / 2);
        assert_eq!(codes.ends(), Some(now + LIFE));
        codes.tick(now + LIFE);
        assert_eq!((codes.ends(), codes.answer(Some("Code?"), ("venue7", "pw"))), (None, None));
        assert!(!format!("{:?}", SecretText::new("123456")).contains("123456"));
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let long = format!("CRV1:R:{}:Y3Ix:x", "s".repeat(STATE_MAX + 1));
        for wrong in ["", "CRV1:", "CRV1:R:id:Y3Ix", "CRV1:R::Y3Ix:x", "CRV1:R:id:%:x", "CRV1:R:id:Cg==:x", &long] {
            assert!(!Codes::default().ask(wrong), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_question_or_refused(text in "(CRV1:)?.{0,60}(:.{0,20}){0,4}") {
            let mut codes = Codes::default();
            if codes.ask(&text) {
                prop_assert!(!codes.wanted().unwrap().contains(char::is_control));
            }
        }
    }
}
