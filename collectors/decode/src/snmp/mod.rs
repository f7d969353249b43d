//! SNMP notifications: traps and informs of versions 1, 2c and 3.
//!
//! Pure like all of this crate: time, keys and what was learned come in as arguments, messages to send go out as bytes.
//!
//! Two looks at a datagram that came. [`check`] is the collector's: it reads the message, holds it against the [`Access`] that
//! the configuration gives, and says whether to keep it and what to answer. [`decode`] is the view's: it reads the same
//! bytes again, later, and names what they say; it never looks at the time window, which is long over.
//!
//! The other way, upstream: `restate.rs` makes of a stored record what a manager is told, [`Manager`] puts that into
//! informs and reads what comes back.
//!
//! Read `message.rs` and `pdu.rs` for what a message is, `usm.rs` for how one of version 3 is let in, `users.rs` and
//! `engine.rs` for what that depends on, `reply.rs` for what is sent back, `view.rs` for what is shown, and `names.rs`
//! and `mib/` for where names come from. Every value of BER is read by `ber.rs`.
//!
//! # What a caller can rely on
//!
//! - What [`check`] accepts, [`decode`] reads, as long as the keys are the same.
//! - Nothing is accepted from a user below the level of the user's secrets, nor by a user without an engine id from an
//!   engine that nobody approved.
//! - A message is refused before anything is learned from it, unless its digest is right.
//! - Memory is bounded: tables by their `MAX`, a message's parts by the datagram they are slices of.

pub mod ber;
mod check;
mod convert;
mod crypto;
mod engine;
mod engine_id;
mod keys;
mod manager;
mod message;
pub mod mib;
mod names;
mod oid;
mod pdu;
mod protocol;
mod refused;
mod reply;
mod restate;
mod seal;
mod shape;
mod user;
mod users;
mod users_file;
mod usm;
mod value;
mod view;
mod write;

pub use check::{Accepted, Access, Communities, Outcome, Sender, answer, check};
pub use engine::{Engines, Learned, LocalEngine, Seconds, TIME_WINDOW};
pub use engine_id::{EngineId, NotAnEngineId};
pub use keys::Secret;
pub use manager::{Heard, Manager};
pub use message::{Community, Data, Level, Message, Notification, Scoped, V3, Version};
pub use names::Names;
pub use oid::{MAX_PARTS, NotAnOid, Oid, OidRef};
pub use pdu::{Common, MAX_VARBINDS, Pdu, PduKind, TrapV1, Varbind, Varbinds};
pub use protocol::{AuthProtocol, PrivProtocol, UnknownProtocol};
pub use refused::Refused;
pub use reply::Report;
pub use restate::{Origin, Own, as_bytes, as_it_came};
pub use shape::Shape;
pub use user::{Engine, User, UserError, UserFault};
pub use users::{MAX_USERS, Users};
pub use users_file::{UsersFileError, read_users};
pub use value::Value;
pub use view::{Reading, Shown, Trap, VarbindView, decode};
