//! A small stand-in for systemd: starts ravend, keeps its descriptors, and hands them to the next one.

use crate::appliance::{Appliance, Plan, Running, programs};
use crate::fd_store::FdStore;
use rustix::process::Signal;

/// A ravend under supervision.
pub struct Systemd {
    store: FdStore,
    raven: Option<Appliance>,
}

impl Systemd {
    /// Starts the first ravend.
    pub fn start(plan: Plan) -> Self {
        let mut systemd = Self { store: FdStore::listen(&plan.dir.path().join("notify")), raven: None };
        systemd.launch(plan);
        systemd
    }

    pub fn raven(&self) -> &Appliance {
        self.raven.as_ref().unwrap()
    }

    /// Names of the descriptors that are kept.
    pub fn kept(&self) -> Vec<String> {
        self.store.names()
    }

    /// SIGKILL, and the next ravend with what the last one left.
    pub fn kill_and_restart(&mut self) {
        let Appliance { plan, running, .. } = self.raven.take().unwrap();
        running.signal(Signal::KILL);
        drop(running);
        self.launch(plan);
    }

    fn launch(&mut self, plan: Plan) {
        let programs = programs();
        let running = Running::spawn(self.store.command(&plan.ravend(&programs)));
        let raven = Appliance { plan, programs, running };
        raven.running.wait_ready();
        self.raven = Some(raven);
    }
}
