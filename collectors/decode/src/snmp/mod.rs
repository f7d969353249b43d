//! SNMP notifications: traps and informs of versions 1, 2c and 3.
//!
//! Pure like all of this crate: time, keys and what was learned come in as arguments, messages to send go out as bytes.
//!
//! Read `message.rs` and `pdu.rs` for what a message is. Every value of BER is read by `ber.rs`.

pub mod ber;
mod engine_id;
mod message;
mod oid;
mod pdu;
mod refused;
mod value;

pub use engine_id::{EngineId, NotAnEngineId};
pub use message::{Community, Data, Level, Message, Notification, Scoped, V3, Version};
pub use oid::{MAX_PARTS, NotAnOid, Oid, OidRef};
pub use pdu::{Common, MAX_VARBINDS, Pdu, PduKind, TrapV1, Varbind, Varbinds};
pub use refused::Refused;
pub use value::Value;
