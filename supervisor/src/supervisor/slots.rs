//! Slots: what the update role and operators ask, and what `raven-slot` answered.

use super::Supervisor;
use crate::appliance::Appliance;
use crate::slots::{Job, before, note_before};
use raven_jail::memory::memfd_of;
use raven_model::control::{Fd, PowerAction, Response, SlotOrder, ToWorker};
use raven_model::table::{OperatorRole, Role};
use raven_model::update::Slots;
use std::os::fd::OwnedFd;

/// To who would have discarded what no disk keeps.
const NO_DATA_PARTITION: &str = "this is no installed box (it runs from the medium, or ravend was started by hand): it has \
                                 no data partition to be discarded";

impl Supervisor {
    /// What the update role is given at its start.
    pub(super) fn update_keys(&self) -> anyhow::Result<(Fd, OwnedFd)> {
        Ok((Fd::UpdateKeys, memfd_of("raven-update-keys", &self.slots.keys()?)?))
    }

    /// The update role asks for what only root can do. It can have no more done than is listed here.
    pub(super) fn order_slot(&mut self, order: SlotOrder) {
        match order {
            SlotOrder::Open => self.slots.order(Job::Empty),
            SlotOrder::Stage => {
                if let Err(error) = self.note_uplink() {
                    tracing::error!("the uplink's state before the update could not be kept: {error:#}");
                }
                self.slots.order(Job::Stage);
            }
        }
    }

    /// Starts `raven-slot` where that is due, and passes on what it said.
    pub(super) fn tend_slots(&mut self) {
        let Some((job, outcome)) = self.slots.tend() else { return };
        let outcome = outcome.map_err(|error| format!("{error:#}"));
        match job {
            Job::Show => self.answer_slots(&outcome),
            Job::Empty => self.hand_slot(outcome),
            Job::Stage => {
                self.slots.forget_boot();
                match &outcome {
                    Ok(slots) => {
                        tracing::info!("update staged: slot {} starts next", slots.next.as_deref().unwrap_or("?"));
                    }
                    Err(error) => tracing::error!("the update was not staged: {error}"),
                }
                self.tell(Role::Update, &ToWorker::Staged(outcome.map(drop)), Vec::new());
            }
            Job::Reset(role) => self.answer_reset(role, outcome),
        }
    }

    /// A factory reset was asked for by a client that waits for what comes of it.
    pub(super) fn order_reset(&mut self, typed: &str, role: OperatorRole, client: u32) -> Result<(), String> {
        let name = &self.config.site.name;
        if !self.slots.has_slots() {
            return Err(NO_DATA_PARTITION.to_owned());
        }
        if typed != name {
            return Err(format!("to confirm that all that this box keeps is lost, type its name: {name}"));
        }
        if self.asked_reset.is_some() {
            return Err("a factory reset is under way".to_owned());
        }
        tracing::warn!(by = %role, "factory reset ordered");
        self.slots.order(Job::Reset(role));
        self.asked_reset = Some(client);
        Ok(())
    }

    fn answer_reset(&mut self, role: OperatorRole, outcome: Result<Slots, String>) {
        let response = match outcome {
            Ok(_) => {
                tracing::warn!(by = %role, "factory reset: all data are discarded at the next start");
                Response::Applied(self.start_for_reset())
            }
            Err(error) => {
                tracing::error!("factory reset: nothing is discarded: {error}");
                Response::Refused(vec![format!("nothing is discarded: {error}")])
            }
        };
        if let Some((n, mut client)) = self.asked_reset.take().and_then(|n| Some((n, self.clients.remove(&n)?))) {
            client.answer(&response, None);
            self.send_answer(n, client);
        }
    }

    /// Starts the box anew; what follows, in words.
    fn start_for_reset(&self) -> Vec<String> {
        let discarded = "all that this box keeps is discarded at its next start".to_owned();
        let started = match self.appliance.as_ref().map(|_| Appliance::power(PowerAction::Reboot)) {
            Some(Ok(())) => "it starts anew now, and is to be set up at its console".to_owned(),
            Some(Err(error)) => format!("it does not start anew by itself ({error:#}): switch it off and on"),
            None => "start it anew".to_owned(),
        };
        vec![discarded, started]
    }

    fn hand_slot(&mut self, outcome: Result<Slots, String>) {
        let opened = outcome.and_then(|slots| self.slots.open(&slots).map_err(|error| format!("{error:#}")));
        match opened {
            Ok((slot, fds)) => {
                tracing::info!("update: slot {slot} is written to");
                self.tell(Role::Update, &ToWorker::Slot(Ok(slot)), fds);
            }
            Err(error) => {
                tracing::error!("update: {error}");
                self.tell(Role::Update, &ToWorker::Slot(Err(error)), Vec::new());
            }
        }
    }

    /// Everybody who asked meanwhile.
    fn answer_slots(&mut self, outcome: &Result<Slots, String>) {
        for n in std::mem::take(&mut self.asked_slots) {
            let response = match outcome {
                Ok(slots) => Response::Slots { slots: Box::new(slots.clone()), before: before(&self.dirs.data) },
                Err(error) => Response::Refused(vec![error.clone()]),
            };
            if let Some(mut client) = self.clients.remove(&n) {
                client.answer(&response, None);
                self.send_answer(n, client);
            }
        }
    }

    /// The uplink's report, unread.
    fn note_uplink(&self) -> anyhow::Result<()> {
        let uplink = self.workers.iter().find(|worker| worker.role == Role::Uplink);
        match uplink.and_then(|worker| worker.report.as_ref()) {
            Some(report) => note_before(&self.dirs.data, report.get()),
            None => note_before(&self.dirs.data, "null"),
        }
    }
}
