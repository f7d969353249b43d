//! A changed configuration: whole or not at all.

use super::workers::listener_fds;
use super::{Supervisor, Token, event};
use crate::appliance::Appliance;
use crate::fdstore::{self, Stored};
use crate::{configure, durable};
use raven_model::config::Config;
use raven_model::control::{Listener, ListenerId, ToWorker};
use raven_model::table::Role;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Shortest and longest time to confirm a change, seconds.
const CONFIRM: RangeInclusive<u64> = 10..=3600;
/// A configuration that could not be brought back is tried again after this time.
const AGAIN: Duration = Duration::from_secs(5);

/// What comes back unless it is confirmed.
#[derive(Debug)]
pub struct Unconfirmed {
    /// When.
    pub until: Instant,
    /// Number in the history.
    pub back_to: u32,
}

type Changed = Result<Vec<String>, Vec<String>>;

impl Supervisor {
    /// Puts what is in the file into force.
    pub(super) fn apply(&mut self, by: &str, confirm: Option<u64>) -> Changed {
        let text = configure::text(&self.args.config).map_err(|error| vec![format!("{error:#}")])?;
        self.change(&text, by, confirm, false)
    }

    /// Puts a text into force and into the file.
    pub(super) fn put(&mut self, text: &[u8], by: &str, confirm: Option<u64>) -> Changed {
        if text.len() as u64 > configure::TEXT_MAX {
            return Err(vec![format!("a configuration has at most {} bytes", configure::TEXT_MAX)]);
        }
        self.change(text, by, confirm, true)
    }

    /// Puts a configuration of the history into force.
    pub(super) fn revert(&mut self, number: u32, by: &str, confirm: Option<u64>) -> Changed {
        let text = self.history.text(number).map_err(|error| vec![format!("{error:#}")])?;
        if self.unconfirmed.as_ref().is_some_and(|waits| waits.back_to == number) {
            return self.take_back();
        }
        self.put(&text, by, confirm)
    }

    /// Keeps what waits for that.
    pub(super) fn confirm(&mut self) -> Changed {
        if self.unconfirmed.is_none() {
            return Err(vec!["nothing waits to be confirmed".to_owned()]);
        }
        self.history.expect(None).map_err(|error| vec![format!("{error:#}")])?;
        self.unconfirmed = None;
        Ok(vec!["confirmed".to_owned()])
    }

    /// Takes back what was not confirmed in time.
    pub(super) fn revert_in_time(&mut self) {
        if self.unconfirmed.as_ref().is_none_or(|waits| Instant::now() < waits.until) {
            return;
        }
        match self.take_back() {
            Ok(changes) => tracing::warn!("the configuration was not confirmed in time: {}", changes.join("; ")),
            Err(errors) => tracing::error!("the configuration before does not come back: {}", errors.join("; ")),
        }
    }

    fn take_back(&mut self) -> Changed {
        let Some(Unconfirmed { back_to, .. }) = self.unconfirmed.take() else { return Ok(Vec::new()) };
        let text = self.history.text(back_to).map_err(|error| vec![format!("{error:#}")]);
        let changes = text.and_then(|text| self.change(&text, "revert", None, true));
        match &changes {
            Ok(_) => {
                if let Err(error) = self.history.expect(None) {
                    tracing::warn!("{error:#}");
                }
            }
            Err(_) => self.unconfirmed = Some(Unconfirmed { until: Instant::now() + AGAIN, back_to }),
        }
        changes
    }

    /// Everything is checked before anything changes, and what comes back when `confirm` runs out is on disk before
    /// the file is replaced: whoever cuts the power in between finds the one or the other.
    fn change(&mut self, text: &[u8], by: &str, confirm: Option<u64>, replaces: bool) -> Changed {
        let whole = |error: anyhow::Error| vec![format!("{error:#}"), "nothing was changed".to_owned()];
        if let Some(waits) = &self.unconfirmed {
            let left = waits.until.saturating_duration_since(Instant::now()).as_secs();
            return Err(vec![format!(
                "another change waits to be confirmed or to be taken back in {left} s: `raven config confirm`, or \
                 `raven config revert {}`",
                waits.back_to
            )]);
        }
        if let Some(seconds) = confirm.filter(|seconds| !CONFIRM.contains(seconds)) {
            return Err(vec![format!("{seconds} s to confirm: it can be {} to {}", CONFIRM.start(), CONFIRM.end())]);
        }
        let config = configure::parse(&self.program, &self.args.data, &self.args.config, text)
            .unwrap_or_else(|error| Err(vec![format!("{error:#}")]))?;
        let new = replaces.then(|| durable::prepare(&self.args.config, text)).transpose().map_err(whole)?;
        let before = self.history.newest();
        let old = self.config.clone();
        let mut changes = self.enforce(config)?;
        let back_to = confirm.and(before.as_ref().ok()).copied();
        // A note that is there already (what it names is being brought back) stays until the file is in its place.
        let noted = if back_to.is_some() { self.history.expect(back_to) } else { Ok(()) };
        if let Err(error) = noted.and_then(|()| new.map_or(Ok(()), durable::Prepared::commit)) {
            if back_to.is_some() {
                let _ = self.history.expect(None);
            }
            self.enforce(old)?;
            return Err(whole(error));
        }
        if let Err(error) = self.history.keep(text, by) {
            changes.push(format!("this version is not in the history: {error:#}"));
        }
        match (confirm, back_to) {
            (Some(seconds), Some(back_to)) => {
                self.unconfirmed = Some(Unconfirmed { until: Instant::now() + Duration::from_secs(seconds), back_to });
                changes.push(format!("taken back in {seconds} s unless you say `raven config confirm`"));
            }
            (Some(_), None) => changes.push("there is nothing in the history to come back to: it stays".to_owned()),
            _ => {}
        }
        Ok(if changes.is_empty() { vec!["nothing has changed".to_owned()] } else { changes })
    }

    /// Puts a configuration into force.
    fn enforce(&mut self, config: Box<Config>) -> Changed {
        let mut changes = self.config.diff(&config);
        let whole = |error: anyhow::Error| vec![format!("{error:#}"), "nothing was changed".to_owned()];
        self.appliance.as_ref().map_or(Ok(()), |_| Appliance::check(&config)).map_err(whole)?;
        let secrets = self.read_secrets(&config).map_err(whole)?;
        self.rebind(&config).map_err(whole)?;
        self.config = config;
        self.secrets = secrets;
        let message = ToWorker::Configure(self.config.clone());
        for role in Role::ALL.into_iter().filter(|role| role.is_kept()) {
            self.tell(role, &message, Vec::new());
            self.hand_secrets(role);
        }
        self.hand_mibs();
        self.want_collectors();
        if let Some(appliance) = &self.appliance {
            self.box_alerts = appliance.put(&self.config);
            changes.extend(self.box_alerts.iter().cloned());
        }
        Ok(changes)
    }

    pub(super) fn read_config(&self) -> Result<Box<Config>, Vec<String>> {
        configure::text(&self.args.config)
            .and_then(|text| configure::parse(&self.program, &self.args.data, &self.args.config, &text))
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
