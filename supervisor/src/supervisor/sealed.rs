//! Secrets and MIB modules, on their way to the roles that need them.

use super::Supervisor;
use crate::secrets::{self, Secrets};
use raven_jail::channel::FDS_MAX;
use raven_model::config::Config;
use raven_model::control::ToWorker;
use raven_model::table::Role;

impl Supervisor {
    /// All secrets that a new configuration names, or why one of them cannot be read.
    pub(super) fn read_secrets(&self, config: &Config) -> anyhow::Result<Secrets> {
        Secrets::read(&self.program, &self.args, config)
    }

    /// Gives a role the secrets in force.
    pub(super) fn hand_secrets(&mut self, role: Role) {
        match self.secrets.of(role, &self.config) {
            Ok((mut names, mut fds)) => {
                // Collectors have a few. The uplink takes what comes beside what it has, so its may come in parts.
                while !names.is_empty() {
                    let rest = names.len().min(FDS_MAX);
                    let (more_names, more_fds) = (names.split_off(rest), fds.split_off(rest));
                    self.tell(role, &ToWorker::Secrets(names), fds);
                    (names, fds) = (more_names, more_fds);
                }
            }
            Err(error) => tracing::error!(%role, "no descriptor left for secrets: {error}"),
        }
    }

    /// Gives the decode role the operator's MIB modules.
    pub(super) fn hand_mibs(&mut self) {
        match secrets::mibs(&self.args.config) {
            Ok(fd) => self.tell(Role::Decode, &ToWorker::Mibs, vec![fd]),
            Err(error) => tracing::error!("the MIB modules cannot be read: {error:#}"),
        }
    }
}
