//! What operators' programs ask, on the control socket.

use super::{Supervisor, Token, event};
use crate::operator::{CLIENTS_MAX, Client};
use crate::slots::Job;
use crate::{secrets, status};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use raven_jail::channel::stream_pair;
use raven_model::control::{Request, Response, ToWorker};
use raven_model::table::Role;
use std::os::fd::{AsFd, OwnedFd};

/// To who asks for slots where there are none.
const NO_SLOTS: &str = "this is no installed box (it runs from the medium, or ravend was started by hand): there are no \
                        slots to update";

impl Supervisor {
    pub(super) fn accept_client(&mut self) {
        if self.clients.len() >= CLIENTS_MAX {
            return;
        }
        let Ok(client) = Client::accept(self.control.as_fd()) else { return };
        self.last_client = self.last_client.wrapping_add(1);
        if self.epoll.add(client.fd(), event(Token::Client(self.last_client))).is_ok() {
            self.clients.insert(self.last_client, client);
        }
    }

    pub(super) fn serve_client(&mut self, n: u32) {
        let Some(mut client) = self.clients.remove(&n) else { return };
        if !client.is_answering() {
            let (response, pass) = match client.read() {
                Ok(Some(Ok(Request::Slots))) if self.slots.has_slots() => {
                    // The answer comes when `raven-slot` has ended.
                    self.slots.order(Job::Show);
                    self.asked_slots.push(n);
                    self.clients.insert(n, client);
                    return;
                }
                Ok(Some(Ok(request))) => self.respond(&request),
                Ok(Some(Err(refusal))) => (Response::Refused(vec![refusal]), None),
                Ok(None) => {
                    self.clients.insert(n, client);
                    return;
                }
                Err(_) => return,
            };
            client.answer(&response, pass);
        }
        self.send_answer(n, client);
    }

    /// Sends what the client takes now, and keeps it while there is more.
    pub(super) fn send_answer(&mut self, n: u32, mut client: Client) {
        if let Ok(false) = client.write() {
            let flags = EpollFlags::EPOLLOUT;
            let _ = self.epoll.modify(client.fd(), &mut EpollEvent::new(flags, Token::Client(n).pack()));
            self.clients.insert(n, client);
        }
    }

    pub(super) fn respond(&mut self, request: &Request) -> (Response, Option<OwnedFd>) {
        let response = match request {
            Request::Slots => Response::Refused(vec![NO_SLOTS.to_owned()]),
            Request::Update { .. } if !self.slots.has_slots() => Response::Refused(vec![NO_SLOTS.to_owned()]),
            Request::Update { downgrade } => match self.start_on_demand(Role::Update) {
                Ok(()) => return self.connect(Role::Update, &ToWorker::Bundle { downgrade: *downgrade }),
                Err(error) => Response::Refused(vec![format!("the update role cannot be started: {error:#}")]),
            },
            Request::Status => Response::Status(Box::new(status::status(self))),
            Request::Show => Response::Config(self.config.clone()),
            Request::Apply => match self.apply() {
                Ok(changes) => Response::Applied(changes),
                Err(errors) => Response::Refused(errors),
            },
            Request::Diff => match self.read_config() {
                Ok(file) => Response::Diff { running: self.config.clone(), file },
                Err(errors) => Response::Refused(errors),
            },
            Request::Sign { sha256 } => {
                match secrets::sign(&self.program, &self.args, &self.config.site.name, sha256) {
                    Ok(signature) => Response::Signed(signature),
                    Err(error) => Response::Refused(vec![format!("nothing was signed: {error:#}")]),
                }
            }
            Request::Query => return self.connect(Role::Decode, &ToWorker::Client),
            Request::Deliver => return self.connect(Role::Uplink, &ToWorker::Client),
            Request::Import => match self.start_on_demand(Role::Import) {
                Ok(()) => return self.connect(Role::Import, &ToWorker::Client),
                Err(error) => Response::Refused(vec![format!("the import role cannot be started: {error:#}")]),
            },
        };
        (response, None)
    }

    /// A connection between a role and an operator's program.
    fn connect(&mut self, role: Role, message: &ToWorker) -> (Response, Option<OwnedFd>) {
        match stream_pair() {
            Ok((ours, theirs)) => {
                self.tell(role, message, vec![ours]);
                (Response::Query, Some(theirs))
            }
            Err(error) => (Response::Refused(vec![format!("no descriptor left for the {role} role: {error}")]), None),
        }
    }
}
