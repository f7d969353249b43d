//! What the console does to the box, as a trait, so that screens and wizard are tested without one. The real one is
//! ravend's control socket.

use super::testing::running::Running;
use crate::failure::Failure;
use raven_model::diag::Test;
use raven_model::install::{Disk, Progress};

/// Something to be done to the whole box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Start anew.
    Reboot,
    /// Switch off.
    Off,
}

/// An old configuration, or the one in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Counts up.
    pub number: u32,
    /// In force.
    pub current: bool,
}

/// The box behind the console. Errors: it is not allowed, it is refused in words, or ravend is away.
#[allow(clippy::missing_errors_doc)]
pub trait Appliance {
    /// Logs in with the administrator's password.
    fn log_in(&mut self, password: &str) -> Result<(), Failure>;
    /// Forgets the login.
    fn log_out(&mut self);
    /// The configuration file as it is written. Who gets it is an administrator, by account, by login, or because the
    /// box has no password yet.
    fn text(&mut self) -> Result<String, Failure>;
    /// Puts a configuration into force; what changed. It is taken back after so many seconds unless confirmed.
    fn put(&mut self, text: &str, confirm_s: Option<u64>) -> Result<Vec<String>, Failure>;
    /// Puts the configuration of a USB stick into force, in the same way.
    fn take_stick(&mut self, confirm_s: Option<u64>) -> Result<Vec<String>, Failure>;
    /// Puts a support bundle onto a USB stick; what came of it.
    fn support(&mut self) -> Result<String, Failure>;
    /// Keeps what was put.
    fn confirm(&mut self) -> Result<(), Failure>;
    /// All versions of the configuration.
    fn history(&mut self) -> Result<Vec<Version>, Failure>;
    /// Goes back to one.
    fn revert(&mut self, number: u32) -> Result<(), Failure>;
    /// Sets the administrator's password.
    fn set_password(&mut self, password: &str) -> Result<(), Failure>;
    /// Whether it can be switched off and on from here; without that it is not offered.
    fn has_power(&self) -> bool;
    /// Whether it runs from the installation medium.
    fn is_medium(&self) -> bool;
    /// The disks that it could be installed to, and others.
    fn disks(&mut self) -> Result<Vec<Disk>, Failure>;
    /// Begins to install to one of them; `typed` is its name once more.
    fn install(&mut self, disk: &str, typed: &str) -> Result<(), Failure>;
    /// How far that is.
    fn installed(&mut self) -> Result<Option<Progress>, Failure>;
    /// Discards everything that the box keeps and starts it anew; `typed` is its name.
    fn factory_reset(&mut self, typed: &str) -> Result<(), Failure>;
    /// Begins a test of the network, which ends when what it gives back is dropped. It waits for nothing.
    fn test(&mut self, test: &Test) -> Running;
    /// Reboot or off.
    fn power(&mut self, power: Power) -> Result<(), Failure>;
}
