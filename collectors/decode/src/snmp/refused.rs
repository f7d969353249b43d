//! Why a datagram is not taken, in the words of those who have to make it work.

use super::ber::Fault;
use super::engine_id::EngineId;
use super::message::Level;
use super::pdu::PduKind;
use std::fmt;

/// Why a datagram is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Not SNMP, or SNMP with a fault.
    Malformed(Fault),
    /// A version that is none of 1, 2c, 3.
    Version(i32),
    /// SNMP, but nothing that a receiver of notifications is sent.
    NotANotification(PduKind),
    /// A community that is not on the list.
    Community,
    /// A security model other than USM (3).
    SecurityModel(i32),
    /// msgFlags ask for privacy without authentication (RFC 3412, 7.2).
    PrivacyWithoutAuthentication,
    /// Someone asked for our engine id, as informs begin (RFC 3414, section 4). Nothing is wrong.
    Discovery,
    /// From an engine that nobody has approved.
    UnknownEngine {
        /// Its id.
        engine: EngineId,
        /// The user whose authentication secret made the digest: the sender knows it, only the engine is new.
        proven_by: Option<String>,
    },
    /// An inform for an engine other than ours: the sender must ask for our id anew, as it is told.
    InformForAnother(EngineId),
    /// No such user for this engine.
    UnknownUser {
        /// As sent.
        user: String,
        /// As sent.
        engine: EngineId,
    },
    /// Protected less than the user's entry asks for, or by what the user has no secret for.
    Level {
        /// Who.
        user: String,
        /// How the message was protected.
        sent: Level,
        /// How it has to be.
        expected: Level,
    },
    /// The digest is not the one that the user's secret makes.
    Digest {
        /// Who.
        user: String,
        /// As sent.
        engine: EngineId,
    },
    /// Old, sent again, or with a clock that was set back (RFC 3414, 3.2.7).
    NotInTimeWindow {
        /// Whose clock it is.
        engine: EngineId,
        /// Boots that the message has.
        boots: i32,
        /// Time that the message has, in s.
        time: i32,
        /// Boots that were expected.
        expected_boots: i32,
        /// Time that was expected, in s.
        expected_time: i32,
    },
    /// It does not decrypt to a ScopedPDU: another privacy secret or protocol.
    Decryption {
        /// Who.
        user: String,
        /// As sent.
        engine: EngineId,
    },
}

impl Refused {
    /// A name for a counter: one word for each kind.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Version(_) => "unknown_version",
            Self::NotANotification(_) => "not_a_notification",
            Self::Community => "wrong_community",
            Self::SecurityModel(_) => "unknown_security_model",
            Self::PrivacyWithoutAuthentication => "privacy_without_authentication",
            Self::Discovery => "discovery",
            Self::UnknownEngine { .. } => "unknown_engine",
            Self::InformForAnother(_) => "inform_for_another_engine",
            Self::UnknownUser { .. } => "unknown_user",
            Self::Level { .. } => "wrong_level",
            Self::Digest { .. } => "wrong_digest",
            Self::NotInTimeWindow { .. } => "not_in_time_window",
            Self::Decryption { .. } => "decryption_error",
        }
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Malformed(fault)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(fault) => write!(f, "malformed: {fault}"),
            Self::Version(version) => write!(f, "unknown version {version}: expected 0 (v1), 1 (v2c) or 3 (v3)"),
            Self::NotANotification(kind) => write!(f, "not a notification: {kind}"),
            Self::Community => f.write_str("wrong community: not on the list"),
            Self::SecurityModel(model) => write!(f, "unknown security model {model}: expected 3 (USM)"),
            Self::PrivacyWithoutAuthentication => f.write_str("malformed: privacy without authentication"),
            Self::Discovery => f.write_str("asked for the engine id, which was answered"),
            Self::UnknownEngine { engine, proven_by: None } => write!(f, "unknown engine {engine}: not approved yet"),
            Self::UnknownEngine { engine, proven_by: Some(user) } => {
                write!(
                    f,
                    "unknown engine {engine}: not approved yet; it knows the secret of user `{}`",
                    user.escape_debug()
                )
            }
            Self::InformForAnother(engine) => write!(f, "inform for engine {engine}, which is not ours"),
            Self::UnknownUser { user, engine } => {
                write!(f, "unknown user `{}` of engine {engine}", user.escape_debug())
            }
            Self::Level { user, sent, expected } => {
                write!(f, "unsupported level: user `{}` sent {sent}, expected {expected}", user.escape_debug())
            }
            Self::Digest { user, engine } => write!(
                f,
                "wrong digest: user `{}` of engine {engine} has another authentication secret or protocol",
                user.escape_debug()
            ),
            Self::NotInTimeWindow { engine, boots, time, expected_boots, expected_time } => write!(
                f,
                "not in time window: engine {engine} says boot {boots}, {time} s; expected boot {expected_boots}, \
                 {expected_time} s"
            ),
            Self::Decryption { user, engine } => write!(
                f,
                "decryption error: user `{}` of engine {engine} has another privacy secret or protocol",
                user.escape_debug()
            ),
        }
    }
}

impl std::error::Error for Refused {}
