//! OpenVPN's management interface, as text (management-notes.txt of OpenVPN 2.6): what it says is parsed here, what it is
//! told is written here.
//!
//! What openvpn says is made of what a server sent it. Lines are cut at [`LINE`], values keep no control characters, and
//! what is not known is [`Message::Other`], never an error.

use std::fmt::Write;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// Longest line that is looked at, bytes; openvpn itself cuts at less.
pub const LINE: usize = 4096;

/// What openvpn says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// It does nothing until it is let go; it would have waited for so many seconds by itself.
    Hold {
        /// Seconds.
        wait: u32,
    },
    /// Where it is.
    State(Stage),
    /// Bytes of the connection to the server so far.
    Bytes {
        /// Received.
        received: u64,
        /// Sent.
        sent: u64,
    },
    /// It wants to know something secret.
    Ask(Ask),
    /// What it was told was wrong.
    Rejected {
        /// Of which.
        what: Secret,
        /// The server's question for a one-time code (`CRV1:…`), where it asks one.
        challenge: Option<String>,
    },
    /// The device has its addresses, or loses them. A variable for each of what the server pushed follows.
    UpDown {
        /// Up.
        up: bool,
    },
    /// One of these variables.
    Variable {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// That was the last one.
    VariablesEnd,
    /// A line of its log.
    Log(String),
    /// It ends, and why.
    Fatal(String),
    /// An order was taken.
    Success(String),
    /// An order was not taken.
    Error(String),
    /// All else.
    Other,
}

/// What may be asked for, by openvpn's own names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Secret {
    /// User and password at the server.
    Auth,
    /// Password of the private key.
    PrivateKey,
    /// User and password at an HTTP proxy.
    HttpProxy,
    /// User and password at a SOCKS proxy.
    SocksProxy,
}

impl Secret {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Auth, "Auth"),
        (Self::PrivateKey, "Private Key"),
        (Self::HttpProxy, "HTTP Proxy"),
        (Self::SocksProxy, "SOCKS Proxy"),
    ];

    /// As openvpn calls it.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(secret, _)| *secret == self).map_or("", |(_, name)| name)
    }

    fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, name)| *name == text).map(|(secret, _)| secret)
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// For what.
    pub what: Secret,
    /// A user name too.
    pub user: bool,
    /// A one-time code too, and the server's words for it.
    pub code: Option<String>,
}

/// Where openvpn is on its way to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Which.
    pub name: StageName,
    /// Why, in openvpn's words: `ping-restart`, `auth-failure`; or `SUCCESS`.
    pub detail: String,
    /// Our address in the tunnel.
    pub local: Option<IpAddr>,
    /// The server.
    pub server: Option<IpAddr>,
    /// Our IPv6 address in the tunnel.
    pub local_v6: Option<IpAddr>,
}

/// Names of stages, in their usual order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageName {
    /// It begins.
    Connecting,
    /// It looks a name up.
    Resolve,
    /// It connects by TCP.
    TcpConnect,
    /// It waits for the server's first answer.
    Wait,
    /// Keys and certificates are looked at.
    Auth,
    /// The server wants something more, such as a second factor.
    AuthPending,
    /// It asks for addresses and the like.
    GetConfig,
    /// It has an address.
    AssignIp,
    /// It has routes.
    AddRoutes,
    /// Done.
    Connected,
    /// It begins anew.
    Reconnecting,
    /// It ends.
    Exiting,
}

impl StageName {
    /// The server has said something.
    pub const fn is_answered(self) -> bool {
        !matches!(self, Self::Connecting | Self::Resolve | Self::TcpConnect | Self::Wait)
    }
}

const STAGES: [(&str, StageName); 12] = [
    ("CONNECTING", StageName::Connecting),
    ("RESOLVE", StageName::Resolve),
    ("TCP_CONNECT", StageName::TcpConnect),
    ("WAIT", StageName::Wait),
    ("AUTH", StageName::Auth),
    ("AUTH_PENDING", StageName::AuthPending),
    ("GET_CONFIG", StageName::GetConfig),
    ("ASSIGN_IP", StageName::AssignIp),
    ("ADD_ROUTES", StageName::AddRoutes),
    ("CONNECTED", StageName::Connected),
    ("RECONNECTING", StageName::Reconnecting),
    ("EXITING", StageName::Exiting),
];

impl Message {
    /// What a line, without its end, says.
    pub fn parse(line: &[u8]) -> Self {
        let line = plain(line);
        let Some(told) = line.strip_prefix('>') else { return answer(&line) };
        let (kind, rest) = told.split_once(':').unwrap_or((told, ""));
        let known = match kind {
            "HOLD" => Some(hold(rest)),
            "STATE" => stage(rest).map(Self::State),
            "BYTECOUNT" => bytes(rest),
            "PASSWORD" => password(rest),
            "UPDOWN" => up_down(rest),
            // time, flags, words
            "LOG" => rest.splitn(3, ',').nth(2).map(|words| Self::Log(words.to_owned())),
            "FATAL" => Some(Self::Fatal(rest.to_owned())),
            _ => None,
        };
        known.unwrap_or(Self::Other)
    }
}

/// As text, without control characters, and not longer than a line may be.
fn plain(line: &[u8]) -> String {
    let line = line.get(..LINE).unwrap_or(line);
    String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).collect()
}

fn answer(line: &str) -> Message {
    let words = |prefix| line.strip_prefix(prefix).map(|words: &str| words.trim_start().to_owned());
    let success = words("SUCCESS:").map(Message::Success);
    success.or_else(|| words("ERROR:").map(Message::Error)).unwrap_or(Message::Other)
}

/// `Waiting for hold release:N`
fn hold(rest: &str) -> Message {
    let wait = rest.rsplit(':').next().and_then(|number| number.trim().parse().ok());
    Message::Hold { wait: wait.unwrap_or(0) }
}

/// `time,name,detail,local,server,port,our address,our port,local IPv6`
fn stage(rest: &str) -> Option<Stage> {
    let fields: Vec<&str> = rest.split(',').collect();
    let field = |n: usize| fields.get(n).copied().unwrap_or("");
    let (_, name) = STAGES.into_iter().find(|(text, _)| *text == field(1))?;
    let address = |n| field(n).parse().ok();
    Some(Stage { name, detail: field(2).to_owned(), local: address(3), server: address(4), local_v6: address(8) })
}

fn bytes(rest: &str) -> Option<Message> {
    let (received, sent) = rest.split_once(',')?;
    Some(Message::Bytes { received: received.parse().ok()?, sent: sent.parse().ok()? })
}

/// `Need 'Auth' username/password [SC:flags,question]`, `Need 'Private Key' password`,
/// `Verification Failed: 'Auth' ['CRV1:…']`
fn password(rest: &str) -> Option<Message> {
    if let Some(rest) = rest.strip_prefix("Verification Failed: ") {
        let (what, rest) = quoted(rest)?;
        let challenge = rest.trim().strip_prefix("['").and_then(|text| text.strip_suffix("']"));
        let challenge = challenge.filter(|text| text.starts_with("CRV1:")).map(str::to_owned);
        return Some(Message::Rejected { what, challenge });
    }
    let (what, rest) = quoted(rest.strip_prefix("Need ")?)?;
    let code =
        rest.split_once(" SC:").map(|(_, code)| code.split_once(',').map_or(code, |(_, words)| words).to_owned());
    Some(Message::Ask(Ask { what, user: rest.trim_start().starts_with("username/"), code }))
}

/// A known name between apostrophes, and what follows it.
fn quoted(text: &str) -> Option<(Secret, &str)> {
    let (name, rest) = text.strip_prefix('\'')?.split_once('\'')?;
    Some((Secret::named(name)?, rest))
}

fn up_down(rest: &str) -> Option<Message> {
    match rest {
        "UP" => Some(Message::UpDown { up: true }),
        "DOWN" => Some(Message::UpDown { up: false }),
        "ENV,END" => Some(Message::VariablesEnd),
        _ => {
            let (name, value) = rest.strip_prefix("ENV,")?.split_once('=')?;
            Some(Message::Variable { name: name.to_owned(), value: value.to_owned() })
        }
    }
}

/// What openvpn is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Tell of each stage, of bytes each second, and of warnings; sent once, at the beginning.
    Tell,
    /// Go on.
    Release,
    /// Begin anew.
    Restart,
    /// End.
    End,
}

impl Order {
    /// As it is sent.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Tell => "state on\nbytecount 1\nlog on\n",
            Self::Release => "hold release\n",
            Self::Restart => "signal SIGUSR1\n",
            Self::End => "signal SIGTERM\n",
        }
    }
}

/// A user name or password that cannot be said: the interface knows lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user name or password with a line break or NUL cannot be used with OpenVPN")]
pub struct Unspeakable;

/// The answer to [`Ask`]. `user` where one was asked for.
pub fn credentials(what: Secret, user: Option<&str>, password: &str) -> Result<Zeroizing<String>, Unspeakable> {
    let mut text = Zeroizing::new(String::new());
    if let Some(user) = user {
        let _ = writeln!(text, "username \"{}\" \"{}\"", what.name(), escaped(user)?.as_str());
    }
    let _ = writeln!(text, "password \"{}\" \"{}\"", what.name(), escaped(password)?.as_str());
    Ok(text)
}

/// A password with a one-time code (static challenge): `SCRV1:base64:base64`.
pub fn with_code(password: &str, code: &str) -> Zeroizing<String> {
    let encode = |text: &str| Zeroizing::new(BASE64.encode(text));
    Zeroizing::new(format!("SCRV1:{}:{}", encode(password).as_str(), encode(code).as_str()))
}

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;

fn escaped(text: &str) -> Result<Zeroizing<String>, Unspeakable> {
    if text.contains(['\n', '\r', '\0']) {
        return Err(Unspeakable);
    }
    // Room for all, so that no copy stays behind in freed memory.
    let mut out = Zeroizing::new(String::with_capacity(2 * text.len()));
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn parsed(line: &str) -> Message {
        Message::parse(line.as_bytes())
    }

    #[test]
    fn stages_bytes_and_holds_are_read_as_openvpn_2_6_writes_them() {
        let stage =
            |name, detail: &str| Stage { name, detail: detail.to_owned(), local: None, server: None, local_v6: None };
        assert_eq!(parsed(">STATE:1764460000,WAIT,,,,,,"), Message::State(stage(StageName::Wait, "")));
        assert_eq!(
            parsed(">STATE:1764460000,RECONNECTING,ping-restart,,,,,"),
            Message::State(stage(StageName::Reconnecting, "ping-restart"))
        );
        let connected = Stage {
            local: Some("10.8.77.2".parse().unwrap()),
            server: Some("192.0.2.1".parse().unwrap()),
            local_v6: Some("fd00::2".parse().unwrap()),
            ..stage(StageName::Connected, "SUCCESS")
        };
        let line = ">STATE:1764460001,CONNECTED,SUCCESS,10.8.77.2,192.0.2.1,1194,192.0.2.9,40000,fd00::2";
        assert_eq!(parsed(line), Message::State(connected));
        assert_eq!(parsed(">BYTECOUNT:1234,99"), Message::Bytes { received: 1234, sent: 99 });
        assert_eq!(parsed(">HOLD:Waiting for hold release:10"), Message::Hold { wait: 10 });
        assert_eq!(parsed("SUCCESS: hold release succeeded"), Message::Success("hold release succeeded".to_owned()));
        assert_eq!(parsed(">LOG:1764460000,W,WARNING: a, b"), Message::Log("WARNING: a, b".to_owned()));
        for other in ["", ">", ">STATE:", ">STATE:1,NOWHERE,", ">BYTECOUNT:x,y", ">PASSWORD:Need", "END", ">INFO:hello"]
        {
            assert_eq!(parsed(other), Message::Other, "{other}");
        }
    }

    #[test]
    fn questions_are_read_with_what_they_want() {
        let ask = |what, user, code: Option<&str>| Message::Ask(Ask { what, user, code: code.map(str::to_owned) });
        assert_eq!(parsed(">PASSWORD:Need 'Auth' username/password"), ask(Secret::Auth, true, None));
        assert_eq!(parsed(">PASSWORD:Need 'Private Key' password"), ask(Secret::PrivateKey, false, None));
        assert_eq!(
            parsed(">PASSWORD:Need 'Auth' username/password SC:1,Please enter token, now"),
            ask(Secret::Auth, true, Some("Please enter token, now"))
        );
        let rejected =
            |challenge: Option<&str>| Message::Rejected { what: Secret::Auth, challenge: challenge.map(str::to_owned) };
        assert_eq!(parsed(">PASSWORD:Verification Failed: 'Auth'"), rejected(None));
        assert_eq!(
            parsed(">PASSWORD:Verification Failed: 'Auth' ['CRV1:R,E:id:dXNlcg==:Code?']"),
            rejected(Some("CRV1:R,E:id:dXNlcg==:Code?"))
        );
        assert_eq!(parsed(">PASSWORD:Need 'Moon' password"), Message::Other);
    }

    #[test]
    fn a_password_cannot_become_an_order() {
        let text = credentials(Secret::Auth, Some("us\"er"), "p\\w \"signal SIGTERM\"").unwrap();
        assert_eq!(*text, "username \"Auth\" \"us\\\"er\"\npassword \"Auth\" \"p\\\\w \\\"signal SIGTERM\\\"\"\n");
        for wrong in ["a\nsignal SIGTERM", "a\r", "\0"] {
            assert_eq!(credentials(Secret::Auth, None, wrong), Err(Unspeakable));
            assert_eq!(credentials(Secret::Auth, Some(wrong), "x"), Err(Unspeakable));
        }
        assert_eq!(*with_code("pw", "123456"), "SCRV1:cHc=:MTIzNDU2");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_without_control_characters(bytes in proptest::collection::vec(any::<u8>(), 0..6000), kind in 0..8_usize) {
            let kinds = ["", ">STATE:1,CONNECTED,", ">PASSWORD:Need 'Auth'", ">UPDOWN:ENV,", ">LOG:1,W,", ">FATAL:", ">HOLD:", "ERROR:"];
            let line = [kinds[kind].as_bytes(), &bytes].concat();
            let told = match Message::parse(&line) {
                Message::Variable { name, value } => name + &value,
                Message::Log(text) | Message::Fatal(text) | Message::Error(text) => text,
                Message::State(stage) => stage.detail,
                _ => String::new(),
            };
            prop_assert!(told.len() <= 3 * LINE && !told.chars().any(char::is_control));
        }
    }
}
