//! What operators' programs ask, on the control socket.

use super::{Supervisor, Token, event};
use crate::appliance::Appliance;
use crate::installer::Installer;
use crate::operator::{CLIENTS_MAX, Client};
use crate::slots::Job;
use crate::{configure, secrets, status};
use nix::libc;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use raven_jail::channel::stream_pair;
use raven_jail::packet;
use raven_model::control::{Audited, Request, Response, ToWorker};
use raven_model::diag::wire::{HEADERS, Purpose, SNAP_MAX, Tap};
use raven_model::host::Change;
use raven_model::news::cut;
use raven_model::table::{OperatorRole, Role, table};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// To who asks for slots where there are none.
const NO_SLOTS: &str = "this is no installed box (it runs from the medium, or ravend was started by hand): there are no \
                        slots to update";

/// To who would install where nothing is to be installed.
const NO_MEDIUM: &str = "this is not the installation medium: it was started from a disk, or ravend by hand";
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
                Ok(Some(Ok(request))) => match self.role_for(&request, &client) {
                    Ok(_) if matches!(request, Request::Slots) && self.slots.has_slots() => {
                        // The answer comes when `raven-slot` has ended.
                        self.slots.order(Job::Show);
                        self.asked_slots.push(n);
                        self.clients.insert(n, client);
                        return;
                    }
                    Ok(role) if let Request::FactoryReset { typed } = &request => {
                        match self.order_reset(typed, role, n) {
                            Ok(()) => {
                                self.clients.insert(n, client);
                                return;
                            }
                            Err(refusal) => (Response::Refused(vec![refusal]), None),
                        }
                    }
                    Ok(_) if let Request::Journal { kernel } = request => match self.journal.begin(kernel, n) {
                        Ok(()) => {
                            self.clients.insert(n, client);
                            return;
                        }
                        Err(error) => (refused(&error), None),
                    },
                    Ok(role) => self.respond(&request, role, client.who.uid),
                    Err(refusal) => (Response::Refused(vec![refusal]), None),
                },
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

    /// What a client may say: by its user, by a login, or because the box is not set up.
    fn role_of(&mut self, client: &Client) -> Option<OperatorRole> {
        let login = client.session.as_deref().and_then(|token| self.logins.role(token, client.who.uid));
        let first = (client.who.console && !self.logins.has_admin()).then_some(OperatorRole::Admin);
        client.who.role.max(login).max(first)
    }

    /// By which role a client may say this, or why it may not.
    fn role_for(&mut self, request: &Request, client: &Client) -> Result<OperatorRole, String> {
        let (role, verb) = (self.role_of(client), request.verb());
        role.filter(|role| table().operator.may(*role, verb)).ok_or_else(|| {
            let who = role.map_or_else(|| format!("user {}", client.who.uid), |role| format!("a {role}"));
            let least = OperatorRole::ALL.into_iter().find(|role| table().operator.may(*role, verb));
            let takes = least.map_or_else(String::new, |least| format!(": that takes the role {least}"));
            format!("{who} may not say `{verb}`{takes}")
        })
    }

    /// What an operator did from afar is logged, and becomes a record.
    fn note(&mut self, told: &Audited, role: OperatorRole) {
        let keys = &self.config.access.of(role).ssh_keys;
        let comment = |line: &String| line.strip_prefix(told.key.as_deref()?).map(|rest| cut(rest.trim()));
        let who = keys.iter().find_map(comment).filter(|who| !who.is_empty());
        let from = told.from.map(|from| from.to_string());
        let key = told.fingerprint.as_deref().map(cut);
        let (words, ended) = (cut(&told.words), told.ended);
        match ended {
            None => tracing::info!(%role, who, key, from, words, "an operator's command begins"),
            Some(ended) => {
                tracing::info!(%role, who, from, words, code = ended.code, ms = ended.ms, "an operator's command ended");
            }
        }
        let (code, ms) = (ended.map(|ended| ended.code), ended.map(|ended| ended.ms));
        let what =
            Change::OperatorCommand { session: told.session, role: role.to_string(), who, key, from, words, code, ms };
        self.audit.add(status::now(), what);
    }

    fn respond(&mut self, request: &Request, role: OperatorRole, uid: u32) -> (Response, Option<OwnedFd>) {
        match request {
            Request::Query => self.connect(Role::Decode, &ToWorker::Client),
            Request::Deliver => self.connect(Role::Uplink, &ToWorker::Client),
            Request::Import => match self.start_on_demand(Role::Import) {
                Ok(()) => self.connect(Role::Import, &ToWorker::Client),
                Err(error) => (refused(&error.context("the import role cannot be started")), None),
            },
            Request::Diag => match self.start_on_demand(Role::Diag) {
                Ok(()) => self.connect(Role::Diag, &ToWorker::Client),
                Err(error) => (refused(&error.context("the diag role cannot be started")), None),
            },
            Request::Wire(tap) => self.tap(tap, role, uid),
            Request::Schedule { run } => match self.start_on_demand(Role::Schedule) {
                Ok(()) => self.connect(Role::Schedule, &ToWorker::ScheduleClient { run: *run }),
                Err(error) => (refused(&error.context("the schedule role cannot be started")), None),
            },
            Request::Vpn { rights } => match self.start_on_demand(Role::Vpn) {
                Ok(()) => self.connect(Role::Vpn, &ToWorker::VpnClient { rights: *rights }),
                Err(error) => (refused(&error.context("the vpn role cannot be started")), None),
            },
            Request::Audit(audited) => {
                self.note(audited, role);
                (Response::Done, None)
            }
            Request::Slots => (Response::Refused(vec![NO_SLOTS.to_owned()]), None),
            Request::Update { .. } if !self.slots.has_slots() => (Response::Refused(vec![NO_SLOTS.to_owned()]), None),
            Request::Update { downgrade } => match self.start_on_demand(Role::Update) {
                Ok(()) => self.connect(Role::Update, &ToWorker::Bundle { downgrade: *downgrade }),
                Err(error) => (refused(&error.context("the update role cannot be started")), None),
            },
            Request::Status => (Response::Status(Box::new(status::status(self))), None),
            Request::Show => (Response::Config(self.config.clone()), None),
            Request::Sign { sha256 } => {
                let signed = secrets::sign(&self.program, &self.args, &self.config.site.name, sha256);
                (signed.map_or_else(|e| refused(&e.context("nothing was signed")), Response::Signed), None)
            }
            Request::Login { role, password } => {
                let outcome = self.logins.log_in(&self.program, *role, password, uid);
                (outcome.map_or_else(|e| refused(&e), |token| Response::LoggedIn { token }), None)
            }
            Request::SetPassword { role, password } => {
                let outcome = self.logins.set(&self.program, *role, password);
                (outcome.map_or_else(|e| refused(&e), |()| Response::Done), None)
            }
            Request::Power { .. } if self.appliance.is_none() => (Response::Refused(vec![NO_BOX.to_owned()]), None),
            Request::Power { action } => {
                tracing::warn!(by = %role, "{action:?}");
                (Appliance::power(*action).map_or_else(|e| refused(&e), |()| Response::Done), None)
            }
            Request::Give { name } => match self.stick.as_mut().map(|stick| stick.give(name)) {
                Some(Ok(fd)) => (Response::Query, Some(fd)),
                Some(Err(error)) => (refused(&error), None),
                None => (Response::Refused(vec![NO_BOX.to_owned()]), None),
            },
            Request::Disks | Request::Install { .. } if !is_live() => {
                (Response::Refused(vec![NO_MEDIUM.to_owned()]), None)
            }
            Request::Disks => (Installer::disks().map_or_else(|e| refused(&e), Response::Disks), None),
            Request::Install { disk, typed } => {
                (self.installer.begin(disk, typed).map_or_else(|e| refused(&e), |()| Response::Done), None)
            }
            Request::Progress => (Response::Progress(self.installer.tend()), None),
            // It stands before a request and is none.
            Request::Session { .. } => (Response::Done, None),
            request => (self.configure(request, role.name()), None),
        }
    }

    /// Hands the journal to who asked for it.
    pub(super) fn tend_journal(&mut self) {
        let Some((n, said)) = self.journal.tend() else { return };
        let Some(mut client) = self.clients.remove(&n) else { return };
        match said {
            Ok(file) => client.answer(&Response::Query, Some(file)),
            Err(error) => client.answer(&refused(&error), None),
        }
        self.send_answer(n, client);
    }

    /// The requests about the configuration.
    fn configure(&mut self, request: &Request, by: &str) -> Response {
        let changed = match request {
            Request::Apply { confirm } => self.apply(by, *confirm),
            Request::Put { text, confirm } => self.put(text.as_bytes(), by, *confirm),
            Request::TakeStick { confirm } => self.take_offered(by, *confirm),
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

    /// A connection to the `wire` role, with a packet socket for what the operator asks. No byte of it is read here.
    fn tap(&mut self, tap: &Tap, role: OperatorRole, uid: u32) -> (Response, Option<OwnedFd>) {
        if let Some(fault) = tap.fault() {
            return (Response::Refused(vec![fault]), None);
        }
        let name = tap.interface.as_str();
        let made = match tap.purpose {
            Purpose::View => packet::listen(tap, HEADERS),
            Purpose::Capture => packet::listen(tap, tap.snap.unwrap_or(SNAP_MAX)),
            Purpose::Lan => packet::talk(name),
        };
        let (socket, link) = match made {
            Ok(made) => made,
            Err(error) => return (Response::Refused(vec![untapped(name, &error)]), None),
        };
        if let Err(error) = self.start_on_demand(Role::Wire) {
            return (refused(&error.context("the wire role cannot be started")), None);
        }
        let verb = Request::Wire(tap.clone()).verb();
        tracing::warn!(by = %role, uid, interface = name, promiscuous = tap.promiscuous, "{verb}: a packet socket is given");
        let message = ToWorker::Tapped { purpose: tap.purpose, link };
        match stream_pair() {
            Ok((ours, theirs)) => {
                self.tell(Role::Wire, &message, vec![ours, socket]);
                (Response::Query, Some(theirs))
            }
            Err(error) => (Response::Refused(vec![format!("no descriptor left for the wire role: {error}")]), None),
        }
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

/// Whether the box runs from the installation medium.
fn is_live() -> bool {
    std::fs::read_to_string("/proc/cmdline").is_ok_and(|line| line.split_whitespace().any(|word| word == "raven.live"))
}

/// Why there is no packet socket.
fn untapped(name: &str, error: &io::Error) -> String {
    match (error.kind(), error.raw_os_error()) {
        (_, Some(libc::ENODEV)) => format!("there is no interface `{name}`: see `raven net`"),
        (io::ErrorKind::PermissionDenied, _) => {
            format!("ravend may not listen at {name}: it lacks CAP_NET_RAW (it was not started as root)")
        }
        _ => format!("nothing can be heard at {name}: {error}"),
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
