//! What both ends say on the control connection, beside JSON.

use std::hash::{BuildHasher as _, RandomState};

/// Bytes of a cookie: 36 characters and a NUL.
pub const COOKIE: usize = 37;
/// Longest parameters that are read, bytes; iperf3 takes no longer ones either.
pub const PARAMS_MAX: usize = 8 * 1024;
/// Longest results that are read, bytes: those of 256 streams have some 70 KiB.
pub const JSON_MAX: usize = 128 * 1024;
/// Length before JSON, bytes, big endian.
pub const LENGTH: usize = 4;
/// What a client's UDP socket says first, and what is said back: as iperf3 has them in memory, on machines of either kind.
pub const HELLO: u32 = 0x3637_3839;
const WELCOME: [u32; 2] = [0x3938_3736, 987_654_321];

/// Where an end is: a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The streams are there.
    TestStart,
    /// Data may flow.
    TestRunning,
    /// The client has had enough.
    TestEnd,
    /// The server wants parameters.
    ParamExchange,
    /// The server wants streams.
    CreateStreams,
    /// The server ends.
    ServerTerminate,
    /// The client ends.
    ClientTerminate,
    /// The server wants results.
    ExchangeResults,
    /// The server has sent its own.
    DisplayResults,
    /// All was said.
    Done,
    /// Another test runs.
    AccessDenied,
    /// Two numbers follow, of iperf3 and of the server's system.
    ServerError,
}

const STATES: [(State, u8); 12] = [
    (State::TestStart, 1),
    (State::TestRunning, 2),
    (State::TestEnd, 4),
    (State::ParamExchange, 9),
    (State::CreateStreams, 10),
    (State::ServerTerminate, 11),
    (State::ClientTerminate, 12),
    (State::ExchangeResults, 13),
    (State::DisplayResults, 14),
    (State::Done, 16),
    (State::AccessDenied, 0xff),
    (State::ServerError, 0xfe),
];

impl State {
    /// On the wire.
    pub fn byte(self) -> u8 {
        STATES.iter().find(|(state, _)| *state == self).map_or(0, |(_, byte)| *byte)
    }

    /// From the wire.
    pub fn of(byte: u8) -> Option<Self> {
        STATES.iter().find(|(_, known)| *known == byte).map(|(state, _)| *state)
    }
}

/// What binds streams to their control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie(pub [u8; COOKIE]);

impl Cookie {
    /// A new one, which nobody can guess.
    pub fn random() -> Self {
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut bytes = [0; COOKIE];
        // Twelve letters of each hash, five bits each; the last byte stays NUL.
        for part in bytes[..COOKIE - 1].chunks_mut(12) {
            let mut bits = RandomState::new().hash_one(0);
            for byte in part {
                *byte = LETTERS[(bits & 31) as usize];
                bits >>= 5;
            }
        }
        Self(bytes)
    }
}

/// Whether a datagram is a client's first.
pub fn is_hello(datagram: &[u8]) -> bool {
    word(datagram).is_some_and(|word| [HELLO, 123_456_789].into_iter().any(|hello| is_either(word, hello)))
}

/// Whether a datagram is a server's answer to it.
pub fn is_welcome(datagram: &[u8]) -> bool {
    word(datagram).is_some_and(|word| WELCOME.into_iter().any(|welcome| is_either(word, welcome)))
}

/// A client's first datagram, as most machines have it in memory.
pub const fn hello() -> [u8; 4] {
    HELLO.to_le_bytes()
}

/// The answer.
pub const fn welcome() -> [u8; 4] {
    WELCOME[0].to_le_bytes()
}

fn word(datagram: &[u8]) -> Option<u32> {
    datagram.try_into().ok().map(u32::from_le_bytes)
}

const fn is_either(word: u32, wanted: u32) -> bool {
    word == wanted || word == wanted.swap_bytes()
}

/// The bytes of JSON behind their length.
pub fn framed(json: &[u8]) -> Vec<u8> {
    [&(json.len() as u32).to_be_bytes(), json].concat()
}

/// How many bytes of JSON follow; nothing where they are too many, or none.
pub fn length(bytes: [u8; LENGTH], most: usize) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(bytes)).ok().filter(|length| (1..=most).contains(length))
}

/// Why a server ends a test: iperf3's own numbers, so that its client says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The time is too long.
    Duration,
    /// Too many streams.
    Streams,
    /// A block is too long, or too short.
    Block,
    /// What is not known here.
    Unknown,
    /// More than the server's rate.
    Rate,
    /// Longer than the server's time.
    Longer,
    /// Parameters that make no sense.
    Params,
    /// The server's time is over.
    Expired,
    /// Nothing came.
    Silence,
}

const REASONS: [(Reason, i32, &str); 9] = [
    (Reason::Duration, 5, "the time is too long"),
    (Reason::Streams, 6, "too many streams"),
    (Reason::Block, 7, "blocks of that length are not taken"),
    (Reason::Unknown, 13, "not known there"),
    (Reason::Rate, 27, "more than the server's rate"),
    (Reason::Longer, 37, "longer than the server lets tests be"),
    (Reason::Params, 114, "parameters that it does not understand"),
    (Reason::Expired, 160, "the server's time or bytes for a test, or for today, are used up"),
    (Reason::Silence, 144, "nothing came there"),
];

impl Reason {
    /// The number that iperf3 has for it.
    pub fn number(self) -> i32 {
        REASONS.iter().find(|(reason, ..)| *reason == self).map_or(0, |(_, number, _)| *number)
    }

    /// In words.
    pub fn words(self) -> &'static str {
        REASONS.iter().find(|(reason, ..)| *reason == self).map_or("", |(.., words)| *words)
    }
}

/// What a server's number means.
pub fn error_words(number: i32) -> String {
    let known = REASONS.iter().find(|(_, known, _)| *known == number);
    known.map_or_else(|| format!("iperf3's error {number}"), |(.., words)| (*words).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_iperf3s_bytes() {
        for (state, byte) in STATES {
            assert_eq!((state.byte(), State::of(byte)), (byte, Some(state)));
        }
        let known = (0..=u8::MAX).filter(|byte| State::of(*byte).is_some()).count();
        assert_eq!(
            (known, State::AccessDenied.byte().cast_signed(), State::ServerError.byte().cast_signed()),
            (12, -1, -2)
        );
    }

    #[test]
    fn cookies_are_36_letters_and_a_nul_and_never_the_same() {
        let (one, other) = (Cookie::random(), Cookie::random());
        assert_ne!(one, other);
        assert!(one.0[..36].iter().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')) && one.0[36] == 0);
    }

    #[test]
    fn first_datagrams_of_either_kind_of_machine_and_of_old_ones_are_known() {
        assert_eq!((&hello(), &welcome()), (b"9876", b"6789"));
        for good in [*b"9876", *b"6789", 123_456_789_u32.to_le_bytes(), 123_456_789_u32.to_be_bytes()] {
            assert!(is_hello(&good));
        }
        for good in [*b"6789", *b"9876", 987_654_321_u32.to_le_bytes(), 987_654_321_u32.to_be_bytes()] {
            assert!(is_welcome(&good));
        }
        for bad in [&b""[..], b"987", b"98765", b"0000"] {
            assert!(!is_hello(bad) && !is_welcome(bad));
        }
    }

    #[test]
    fn lengths_have_a_bound() {
        assert_eq!(framed(b"{}"), b"\0\0\0\x02{}");
        assert_eq!(length([0, 0, 0, 2], PARAMS_MAX), Some(2));
        for bad in [[0, 0, 0, 0], [0, 0, 0x20, 1], [0xff; 4]] {
            assert_eq!(length(bad, PARAMS_MAX), None);
        }
    }

    #[test]
    fn what_a_server_says_has_words() {
        assert_eq!(error_words(27), "more than the server's rate");
        assert_eq!(error_words(-7), "iperf3's error -7");
        assert_eq!((Reason::Longer.number(), Reason::Longer.words()), (37, "longer than the server lets tests be"));
    }
}
