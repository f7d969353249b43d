//! What the appliance signs: not a document, but a statement of its own about one.

use crate::units::UnixNanos;
use serde::{Deserialize, Serialize};

/// A statement of this appliance, signed with its device key (Ed25519, RFC 8032). Device and time are the appliance's
/// word; the digest is that of what the operator brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// `site.name`.
    pub device: String,
    /// When it was signed, by the appliance's clock.
    pub signed_ns: UnixNanos,
    /// SHA-256 of the document, 64 hex digits.
    pub sha256: String,
    /// Public half of the device key, 64 hex digits.
    pub key: String,
    /// Of [`statement`], 128 hex digits.
    pub signature: String,
}

/// The bytes that are signed. A device's name is quoted as JSON does, so that it cannot pass for another line.
pub fn statement(device: &str, signed_ns: UnixNanos, sha256: &str) -> String {
    format!("raven signature 1\ndevice {}\nsigned_ns {}\nsha256 {sha256}\n", serde_json::json!(device), signed_ns.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_cannot_name_itself_into_another_line() {
        let text = statement("a\nsha256 00", UnixNanos(7), "ff");
        assert_eq!(text, "raven signature 1\ndevice \"a\\nsha256 00\"\nsigned_ns 7\nsha256 ff\n");
    }
}
