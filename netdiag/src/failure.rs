//! Why a test could not be made.

use crate::session::Gone;
use raven_model::diag::Way;
use std::io;

/// Why.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Failure {
    /// Nobody is there to be told.
    #[error("the operator went away")]
    Gone,
    /// The order makes no sense, or nothing can be sent so.
    #[error("{0}")]
    Refused(String),
}

impl From<Gone> for Failure {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl Failure {
    /// A socket could not be made.
    pub fn socket(error: &io::Error, way: &Way) -> Self {
        let words = match (error.kind(), &way.interface, &way.source) {
            (io::ErrorKind::PermissionDenied, ..) => {
                "this machine does not let Raven ping: net.ipv4.ping_group_range must have its groups, 61001 to 61999"
                    .to_owned()
            }
            (io::ErrorKind::AddrNotAvailable, _, Some(source)) => format!("this box has no address {source}"),
            (_, Some(interface), _) => format!("nothing can be sent by the interface {interface}: {error}"),
            _ => format!("nothing can be sent: {error}"),
        };
        Self::Refused(words)
    }
}

/// A number of the order must be within these.
pub fn within(what: &str, value: u64, least: u64, most: u64) -> Result<(), Failure> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Failure::Refused(format!("{what}: {value}; must be {least} to {most}")))
}
