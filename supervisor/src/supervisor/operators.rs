//! What operators' programs ask, on the control socket.

use super::{Supervisor, Token, event};
use crate::operator::{CLIENTS_MAX, Client};
use crate::{configure, secrets, status};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use raven_jail::channel::stream_pair;
use raven_model::control::{Request, Response, ToWorker};
use raven_model::table::{OperatorRole, Role, table};
use std::os::fd::{AsFd, OwnedFd};

/// To those who mean the machine where `ravend` is a program among others.
const NO_BOX: &str = "this machine is not a Raven box: it is for its own operator to do that";

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
                Ok(Some(Ok(request))) => self.respond(&request, &client),
                Ok(Some(Err(refusal))) => (Response::Refused(vec![refusal]), None),
                Ok(None) => {
                    self.clients.insert(n, client);
                    return;
                }
                Err(_) => return,
            };
            client.answer(&response, pass);
        }
        if let Ok(false) = client.write() {
            let flags = EpollFlags::EPOLLOUT;
            let _ = self.epoll.modify(client.fd(), &mut EpollEvent::new(flags, Token::Client(n).pack()));
            self.clients.insert(n, client);
        }
    }

    /// What a client may say: by its user, by a login, or because the box is not set up.
    fn role_of(&mut self, client: &Client) -> Option<OperatorRole> {
        let login = client.session.as_deref().and_then(|token| self.logins.role(token, client.who.uid));
        let first = (client.who.console && !self.logins.has_admin()).then_some(OperatorRole::Admin);
        client.who.role.max(login).max(first)
    }

    fn respond(&mut self, request: &Request, client: &Client) -> (Response, Option<OwnedFd>) {
        let (role, verb) = (self.role_of(client), request.verb());
        let Some(role) = role.filter(|role| table().operator.may(*role, verb)) else {
            let who = role.map_or_else(|| format!("user {}", client.who.uid), |role| format!("a {role}"));
            return (Response::Refused(vec![format!("{who} may not say `{verb}`")]), None);
        };
        match request {
            Request::Query => return self.connect(Role::Decode),
            Request::Deliver => return self.connect(Role::Uplink),
            Request::Import => match self.start_on_demand(Role::Import) {
                Ok(()) => return self.connect(Role::Import),
                Err(error) => (refused(&error.context("the import role cannot be started")), None),
            },
            Request::Status => (Response::Status(Box::new(status::status(self))), None),
            Request::Show => (Response::Config(self.config.clone()), None),
            Request::Sign { sha256 } => {
                let signed = secrets::sign(&self.program, &self.args, &self.config.site.name, sha256);
                (signed.map_or_else(|e| refused(&e.context("nothing was signed")), Response::Signed), None)
            }
            Request::Login { role, password } => {
                let outcome = self.logins.log_in(&self.program, *role, password, client.who.uid);
                (outcome.map_or_else(|e| refused(&e), |token| Response::LoggedIn { token }), None)
            }
            Request::SetPassword { role, password } => {
                let outcome = self.logins.set(&self.program, *role, password);
                (outcome.map_or_else(|e| refused(&e), |()| Response::Done), None)
            }
            Request::Power { action } => {
                let Some(appliance) = &self.appliance else {
                    return (Response::Refused(vec![NO_BOX.to_owned()]), None);
                };
                tracing::warn!(by = %role, "{action:?}");
                (appliance.power(*action).map_or_else(|e| refused(&e), |()| Response::Done), None)
            }
            // It stands before a request and is none.
            Request::Session { .. } => (Response::Done, None),
            request => (self.configure(request, role.name()), None),
        }
    }

    /// The requests about the configuration.
    fn configure(&mut self, request: &Request, by: &str) -> Response {
        let changed = match request {
            Request::Apply { confirm } => self.apply(by, *confirm),
            Request::Put { text, confirm } => self.put(text.as_bytes(), by, *confirm),
            Request::Confirm => self.confirm(),
            Request::Revert { number, confirm } => self.revert(*number, by, *confirm),
            Request::Diff => {
                let file = self.read_config();
                return file
                    .map_or_else(Response::Refused, |file| Response::Diff { running: self.config.clone(), file });
            }
            Request::Text => return text(configure::text(&self.args.config)),
            Request::Version { number } => return text(self.history.text(*number)),
            Request::History => {
                return self.history.versions().map_or_else(|e| refused(&e), Response::History);
            }
            other => Err(vec![format!("`{}` is not about the configuration", other.verb())]),
        };
        changed.map_or_else(Response::Refused, Response::Applied)
    }

    /// A connection between a role and an operator's program.
    fn connect(&mut self, role: Role) -> (Response, Option<OwnedFd>) {
        match stream_pair() {
            Ok((ours, theirs)) => {
                self.tell(role, &ToWorker::Client, vec![ours]);
                (Response::Query, Some(theirs))
            }
            Err(error) => (Response::Refused(vec![format!("no descriptor left for the {role} role: {error}")]), None),
        }
    }
}

fn refused(error: &anyhow::Error) -> Response {
    Response::Refused(vec![format!("{error:#}")])
}

fn text(bytes: anyhow::Result<Vec<u8>>) -> Response {
    match bytes {
        Ok(bytes) => Response::Text(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => refused(&error),
    }
}
