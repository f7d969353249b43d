//! A changed configuration: whole or not at all.

use super::workers::listener_fds;
use super::{Supervisor, Token, event};
use crate::configure;
use crate::fdstore::{self, Stored};
use raven_model::config::Config;
use raven_model::control::{Listener, ListenerId, Proto, ToWorker};
use raven_model::table::Role;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

impl Supervisor {
    pub(super) fn apply(&mut self) -> Result<Vec<String>, Vec<String>> {
        let config = self.read_config()?;
        let changes = self.config.diff(&config);
        self.rebind(&config).map_err(|error| vec![format!("{error:#}"), "nothing was changed".to_owned()])?;
        self.config = config;
        let message = ToWorker::Configure(self.config.clone());
        for role in [Role::Store, Role::Syslog, Role::Uplink, Role::Decode] {
            self.tell(role, &message, Vec::new());
        }
        Ok(if changes.is_empty() { vec!["nothing has changed".to_owned()] } else { changes })
    }

    pub(super) fn read_config(&self) -> Result<Box<Config>, Vec<String>> {
        configure::read(&self.program, &self.args.data, &self.args.config)
            .unwrap_or_else(|error| Err(vec![format!("{error:#}")]))
    }

    /// Binds what is new and lets go of what is not wanted; on an error nothing has changed.
    pub(super) fn rebind(&mut self, config: &Config) -> anyhow::Result<()> {
        let change = self.listeners.prepare(&config.collect.syslog)?;
        let (added, removed) = self.listeners.accept(change);
        self.watch_listeners(&added)?;
        for bound in self.listeners.iter().filter(|b| added.contains(&b.listener.id)) {
            fdstore::keep(&Stored::Listener(bound.listener.proto, bound.listener.id), bound.socket.as_fd());
        }
        // The store must know the names before records come from them.
        let names = self.listeners.names();
        self.tell(Role::Store, &ToWorker::Listeners(names), Vec::new());
        let new: Vec<(Listener, Vec<OwnedFd>)> = self
            .listeners
            .iter()
            .filter(|b| added.contains(&b.listener.id))
            .map(|b| Ok((b.listener.clone(), listener_fds(b)?)))
            .collect::<io::Result<_>>()?;
        for (listener, fds) in new {
            tracing::info!("listening on {}", listener.name());
            self.tell(Role::Syslog, &ToWorker::Listen(listener), fds);
        }
        for bound in removed {
            tracing::info!("no longer listening on {}", bound.listener.name());
            fdstore::forget(&Stored::Listener(bound.listener.proto, bound.listener.id));
            self.tell(Role::Syslog, &ToWorker::Unlisten(bound.listener.id), Vec::new());
        }
        Ok(())
    }

    /// TCP listeners are accepted from here; UDP sockets are never read by `ravend`.
    pub(super) fn watch_listeners(&self, ids: &[ListenerId]) -> anyhow::Result<()> {
        for bound in self.listeners.iter().filter(|b| ids.contains(&b.listener.id) && b.listener.proto == Proto::Tcp) {
            self.epoll.add(&bound.socket, event(Token::Listener(bound.listener.id)))?;
        }
        Ok(())
    }
}
