//! The real box: ravend's control socket.

use super::appliance::{Appliance, Power, Version};
use super::facts::kernel;
use super::testing::running::Running;
use crate::client::{Client, unexpected};
use crate::failure::Failure;
use raven_model::control::{Password, PowerAction, Request, Response};
use raven_model::diag::Test;
use raven_model::install::{Disk, Progress};
use raven_model::table::OperatorRole;

/// A connection's rights, and the login that gives more.
pub struct Ravend {
    client: Client,
    is_box: bool,
    is_medium: bool,
}

impl Ravend {
    /// Not logged in.
    pub fn new(client: Client) -> Self {
        Self { client, is_box: kernel::host().slot.is_some(), is_medium: kernel::is_medium() }
    }

    fn done(&self, request: &Request) -> Result<(), Failure> {
        match self.client.ask(request)? {
            Response::Done | Response::Applied(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

impl Appliance for Ravend {
    fn log_in(&mut self, password: &str) -> Result<(), Failure> {
        let password = Password(password.to_owned());
        match self.client.ask(&Request::Login { role: OperatorRole::Admin, password })? {
            Response::LoggedIn { token } => {
                self.client.set_session(Some(token));
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    }

    fn log_out(&mut self) {
        self.client.set_session(None);
    }

    fn text(&mut self) -> Result<String, Failure> {
        match self.client.ask(&Request::Text)? {
            Response::Text(text) => Ok(text),
            other => Err(unexpected(&other)),
        }
    }

    fn put(&mut self, text: &str, confirm_s: Option<u64>) -> Result<Vec<String>, Failure> {
        match self.client.ask(&Request::Put { text: text.to_owned(), confirm: confirm_s })? {
            Response::Applied(lines) => Ok(lines),
            other => Err(unexpected(&other)),
        }
    }

    fn take_stick(&mut self, confirm_s: Option<u64>) -> Result<Vec<String>, Failure> {
        match self.client.ask(&Request::TakeStick { confirm: confirm_s })? {
            Response::Applied(lines) => Ok(lines),
            other => Err(unexpected(&other)),
        }
    }

    fn support(&mut self) -> Result<String, Failure> {
        crate::support::onto_stick(&self.client)
    }

    fn confirm(&mut self) -> Result<(), Failure> {
        self.done(&Request::Confirm)
    }

    fn history(&mut self) -> Result<Vec<Version>, Failure> {
        match self.client.ask(&Request::History)? {
            Response::History(versions) => {
                let short = |version: &raven_model::control::Version| Version {
                    number: version.number,
                    current: version.current,
                };
                Ok(versions.iter().map(short).collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    fn revert(&mut self, number: u32) -> Result<(), Failure> {
        self.done(&Request::Revert { number, confirm: None })
    }

    fn set_password(&mut self, password: &str) -> Result<(), Failure> {
        let password = Password(password.to_owned());
        self.done(&Request::SetPassword { role: OperatorRole::Admin, password })
    }

    /// Elsewhere than on a box of its own, ravend leaves that to whoever runs the machine.
    fn has_power(&self) -> bool {
        self.is_box
    }

    fn is_medium(&self) -> bool {
        self.is_medium
    }

    fn disks(&mut self) -> Result<Vec<Disk>, Failure> {
        match self.client.ask(&Request::Disks)? {
            Response::Disks(disks) => Ok(disks),
            other => Err(unexpected(&other)),
        }
    }

    fn install(&mut self, disk: &str, typed: &str) -> Result<(), Failure> {
        self.done(&Request::Install { disk: disk.to_owned(), typed: typed.to_owned() })
    }

    fn installed(&mut self) -> Result<Option<Progress>, Failure> {
        match self.client.ask(&Request::Progress)? {
            Response::Progress(progress) => Ok(progress),
            other => Err(unexpected(&other)),
        }
    }

    fn factory_reset(&mut self, typed: &str) -> Result<(), Failure> {
        match self.client.ask(&Request::FactoryReset { typed: typed.to_owned() })? {
            Response::Applied(_) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn test(&mut self, test: &Test) -> Running {
        Running::begin(self.client.clone(), test.clone())
    }

    fn power(&mut self, power: Power) -> Result<(), Failure> {
        let action = match power {
            Power::Reboot => PowerAction::Reboot,
            Power::Off => PowerAction::Off,
        };
        self.done(&Request::Power { action })
    }
}
