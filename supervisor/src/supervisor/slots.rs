//! Slots: what the update role and operators ask, and what `raven-slot` answered.

use super::Supervisor;
use crate::slots::{Job, before, note_before};
use raven_jail::memory::memfd_of;
use raven_model::control::{Fd, Response, SlotOrder, ToWorker};
use raven_model::table::Role;
use raven_model::update::Slots;
use std::os::fd::OwnedFd;

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
        }
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
