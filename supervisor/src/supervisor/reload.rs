//! A changed configuration: whole or not at all.

use super::workers::listener_fds;
use super::{Supervisor, Token, event};
use crate::configure;
use crate::fdstore::{self, Stored};
use raven_model::config::Config;
use raven_model::control::{Listener, ListenerId, ToWorker};
use raven_model::table::Role;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

impl Supervisor {
    pub(super) fn apply(&mut self) -> Result<Vec<String>, Vec<String>> {
        let config = self.read_config()?;
        let changes = self.config.diff(&config);
        let whole = |error: anyhow::Error| vec![format!("{error:#}"), "nothing was changed".to_owned()];
        let secrets = self.read_secrets(&config).map_err(whole)?;
        self.rebind(&config).map_err(whole)?;
        self.config = config;
        self.secrets = secrets;
        let message = ToWorker::Configure(self.config.clone());
        for role in Role::ALL.into_iter().filter(|role| !role.answers_once()) {
            self.tell(role, &message, Vec::new());
            self.hand_secrets(role);
        }
        self.hand_mibs();
        self.want_collectors();
        Ok(if changes.is_empty() { vec!["nothing has changed".to_owned()] } else { changes })
    }

    pub(super) fn read_config(&self) -> Result<Box<Config>, Vec<String>> {
        configure::read(&self.program, &self.args.data, &self.args.config)
            .unwrap_or_else(|error| Err(vec![format!("{error:#}")]))
    }

    /// Binds what is new and lets go of what is not wanted; on an error nothing has changed.
    pub(super) fn rebind(&mut self, config: &Config) -> anyhow::Result<()> {
        let change = self.listeners.prepare(&config.collect)?;
        let (added, removed) = self.listeners.accept(change);
        self.watch_listeners(&added)?;
        for bound in self.listeners.iter().filter(|b| added.contains(&b.listener.id)) {
            fdstore::keep(&stored(&bound.listener), bound.socket.as_fd());
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
            tracing::info!("listening on {} for {}", listener.name(), listener.stream);
            self.tell(listener.stream.collector(), &ToWorker::Listen(listener), fds);
        }
        for bound in removed {
            tracing::info!("no longer listening on {}", bound.listener.name());
            fdstore::forget(&stored(&bound.listener));
            self.tell(bound.listener.stream.collector(), &ToWorker::Unlisten(bound.listener.id), Vec::new());
        }
        Ok(())
    }

    /// TCP listeners are accepted from here; UDP sockets are never read by `ravend`.
    pub(super) fn watch_listeners(&self, ids: &[ListenerId]) -> anyhow::Result<()> {
        for bound in self.listeners.iter().filter(|b| ids.contains(&b.listener.id) && b.listener.proto.is_connected()) {
            self.epoll.add(&bound.socket, event(Token::Listener(bound.listener.id)))?;
        }
        Ok(())
    }
}

const fn stored(listener: &Listener) -> Stored {
    Stored::Listener(listener.stream, listener.proto, listener.id)
}
