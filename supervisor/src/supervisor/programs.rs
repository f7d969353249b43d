//! What the `vpn` role orders, and what is told about it.

use super::{Supervisor, Token, event};
use crate::configure;
use crate::programs::Place;
use anyhow::Context;
use raven_model::control::{ProgramOrder, ToWorker};
use raven_model::table::Role;
use raven_model::tunnel::{Carrier, TunnelName};
use std::os::fd::{AsFd, OwnedFd};

impl Supervisor {
    pub(super) fn order_program(&mut self, order: &ProgramOrder, fds: Vec<OwnedFd>) {
        match order {
            ProgramOrder::End { tunnel } => self.programs.end(tunnel),
            ProgramOrder::Openvpn { tunnel, link } => {
                let started = self.start_openvpn(tunnel, link.as_deref(), fds);
                self.tell_started(tunnel, started);
            }
            ProgramOrder::Wireguard { tunnel } => {
                let started = self.start_wireguard(tunnel);
                self.tell_started(tunnel, started);
            }
        }
    }

    fn tell_started(&mut self, tunnel: &TunnelName, started: anyhow::Result<OwnedFd>) {
        let (started, socket) = match started {
            Ok(socket) => (Ok(()), vec![socket]),
            Err(error) => (Err(format!("{error:#}")), Vec::new()),
        };
        self.tell(Role::Vpn, &ToWorker::ProgramStarted { tunnel: tunnel.clone(), started }, socket);
    }

    fn start_wireguard(&mut self, tunnel: &TunnelName) -> anyhow::Result<OwnedFd> {
        let start = configure::start_once(Role::Wireguard, &self.config.site.name);
        let place = Place { program: self.program.as_fd(), data: &self.dirs.data, start };
        let (number, socket) = self.programs.start_wireguard(place, &self.config.vpn, tunnel)?;
        self.watch_program(number)?;
        Ok(socket)
    }

    fn watch_program(&self, number: u32) -> anyhow::Result<()> {
        if let Some(process) = self.programs.process(number) {
            self.epoll.add(process, event(Token::Program(number)))?;
        }
        Ok(())
    }

    fn start_openvpn(&mut self, tunnel: &TunnelName, link: Option<&str>, fds: Vec<OwnedFd>) -> anyhow::Result<OwnedFd> {
        let profile = fds.into_iter().next().context("the vpn role passed no profile")?;
        let start = configure::start_once(Role::Openvpn, &self.config.site.name);
        let place = Place { program: self.program.as_fd(), data: &self.dirs.data, start };
        let (number, socket) = self.programs.start(place, &self.config.vpn, (tunnel, link), profile.as_fd())?;
        self.watch_program(number)?;
        Ok(socket)
    }

    pub(super) fn reap_program(&mut self, number: u32) {
        if let Some((tunnel, how)) = self.programs.reap(number) {
            tracing::info!(%tunnel, "its program ended: {how}");
            self.tell(Role::Vpn, &ToWorker::ProgramEnded { tunnel, how }, Vec::new());
        }
    }

    pub(super) fn tell_carrier(&mut self, carrier: Carrier) {
        self.carrier = carrier;
        self.tell(Role::Uplink, &ToWorker::Carrier(self.carrier.clone()), Vec::new());
    }
}
