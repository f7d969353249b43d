//! Installation from the medium: the disks of the box, and how far it is. `raven-install` writes these as JSON, `ravend`
//! passes them on.

use serde::{Deserialize, Serialize};

/// A disk of the box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// As the kernel calls it: `sda`, `nvme0n1`. Typed to confirm that it is meant.
    pub name: String,
    /// What its maker calls it; empty where it does not say.
    pub model: String,
    /// Size.
    pub bytes: u64,
    /// It is plugged in from outside.
    pub usb: bool,
    /// What is on it, a line each; empty when nothing was found.
    pub holds: Vec<String>,
    /// Why it cannot be installed to.
    pub refused: Option<String>,
}

/// How far an installation is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// To which disk.
    pub disk: String,
    /// Bytes written.
    pub done: u64,
    /// Bytes to write; 0 while that is not known.
    pub total: u64,
    /// Everything is on the disk: the box can be started from it.
    pub finished: bool,
    /// Why it is over without that.
    pub failed: Option<String>,
}
