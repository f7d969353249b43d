//! The programs of tunnels, openvpn or wireguard-go: one for each that the `vpn` role wants. It alone decides when one is
//! started; here they are started, ended and reaped, and what comes of them is told.

use crate::operator;
use anyhow::{Context, bail};
use nix::unistd::{Gid, Uid, chown};
use raven_jail::channel::Channel;
use raven_jail::signals;
use raven_jail::spawn::{Child, SpawnSpec, spawn};
use raven_model::config::Vpn;
use raven_model::control::{Fd, Start, ToWorker};
use raven_model::table::{Role, table};
use raven_model::tunnel::TunnelName;
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one may take to say good-bye to its server.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where programs that speak to a WireGuard look for it; it ends when its socket there goes.
const WIREGUARD: &str = "/run/wireguard";

/// One process.
#[derive(Debug)]
struct Running {
    tunnel: TunnelName,
    child: Child,
    /// It was told to end; killed then.
    ends: Option<Instant>,
}

/// All of them, by numbers of our own.
#[derive(Debug, Default)]
pub struct Programs {
    running: BTreeMap<u32, Running>,
    last: u32,
}

/// Where and as what they are started.
pub struct Place<'a> {
    /// `raven-worker`.
    pub program: BorrowedFd<'a>,
    /// The data directory.
    pub data: &'a Path,
    /// Of the first message, what is the same for all workers.
    pub start: Start,
}

impl Programs {
    /// Starts one, after the one that this tunnel had is ended. Its number, and the socket to which it comes.
    pub fn start(
        &mut self,
        place: Place<'_>,
        vpn: &Vpn,
        (tunnel, link): (&TunnelName, Option<&str>),
        profile: BorrowedFd<'_>,
    ) -> anyhow::Result<(u32, OwnedFd)> {
        let known = vpn.profile.get(tunnel).with_context(|| format!("the configuration has no profile `{tunnel}`"))?;
        if let Some(link) = link.filter(|link| !known.links.iter().any(|allowed| allowed == link)) {
            bail!("the configuration does not let {tunnel} leave over {link}");
        }
        self.kill(tunnel)?;
        let socket = listening(&place.data.join("run/vpn").join(tunnel.as_str()), Role::Openvpn)?;
        let name = Fd::Profile { tunnel: tunnel.clone(), link: link.map(str::to_owned) };
        let number = self.spawn(place, (Role::Openvpn, tunnel), name, profile)?;
        Ok((number, socket))
    }

    /// Starts a WireGuard, after the program that this tunnel had is ended. Its number, and a socket that it reads.
    pub fn start_wireguard(
        &mut self,
        place: Place<'_>,
        vpn: &Vpn,
        tunnel: &TunnelName,
    ) -> anyhow::Result<(u32, OwnedFd)> {
        vpn.profile.get(tunnel).with_context(|| format!("the configuration has no profile `{tunnel}`"))?;
        self.kill(tunnel)?;
        let folder = Path::new(WIREGUARD);
        DirBuilder::new().recursive(true).mode(0o755).create(folder).with_context(|| WIREGUARD.to_owned())?;
        let path = folder.join(format!("{}.sock", tunnel.device()));
        let listener = listening(&path, Role::Wireguard)?;
        // It waits there until it is accepted.
        let socket = UnixStream::connect(&path).with_context(|| path.display().to_string())?;
        let name = Fd::Orders { tunnel: tunnel.clone() };
        let number = self.spawn(place, (Role::Wireguard, tunnel), name, listener.as_fd())?;
        Ok((number, socket.into()))
    }

    fn spawn(
        &mut self,
        place: Place<'_>,
        (role, tunnel): (Role, &TunnelName),
        name: Fd,
        passed: BorrowedFd<'_>,
    ) -> anyhow::Result<u32> {
        let (ours, theirs) = Channel::pair()?;
        let (role, program, data) = (table().spec(role), place.program, place.data);
        let child = spawn(&SpawnSpec { role, program, control: theirs.as_fd(), data })?;
        let start = Start { data: child.data.clone(), fds: vec![name], ..place.start };
        // It reads this one message, also when our end is gone by then.
        ours.send_json(&ToWorker::Start(Box::new(start)), &[passed])?;
        self.last = self.last.wrapping_add(1);
        self.running.insert(self.last, Running { tunnel: tunnel.clone(), child, ends: None });
        Ok(self.last)
    }

    /// Becomes readable when that process has ended.
    pub fn process(&self, number: u32) -> Option<BorrowedFd<'_>> {
        self.running.get(&number).map(|running| running.child.as_fd())
    }

    /// Asks the one of a tunnel to end.
    pub fn end(&mut self, tunnel: &TunnelName) {
        for running in self.running.values_mut().filter(|running| running.tunnel == *tunnel && running.ends.is_none()) {
            running.ends = Some(Instant::now() + PATIENCE);
            signal(running, signals::SIGTERM);
        }
    }

    /// Asks all of them to end.
    pub fn end_all(&mut self) {
        let tunnels: Vec<TunnelName> = self.running.values().map(|running| running.tunnel.clone()).collect();
        for tunnel in &tunnels {
            self.end(tunnel);
        }
    }

    /// Kills those that were told to end and did not.
    pub fn tend(&self) {
        let late = |running: &&Running| running.ends.is_some_and(|at| at <= Instant::now());
        self.running.values().filter(late).for_each(|running| signal(running, signals::SIGKILL));
    }

    /// That process may have ended: of which tunnel, and how.
    pub fn reap(&mut self, number: u32) -> Option<(TunnelName, String)> {
        let end = self.running.get(&number)?.child.try_wait().ok()??;
        let gone = self.running.remove(&number)?;
        Some((gone.tunnel, end.to_string()))
    }

    /// Ends the one of a tunnel without its word, and waits: its successor needs the device.
    fn kill(&mut self, tunnel: &TunnelName) -> anyhow::Result<()> {
        let numbers: Vec<u32> = self.running.iter().filter(|(_, r)| r.tunnel == *tunnel).map(|(n, _)| *n).collect();
        for number in numbers {
            if let Some(running) = self.running.remove(&number) {
                signal(&running, signals::SIGKILL);
                running.child.wait()?;
            }
        }
        Ok(())
    }
}

fn signal(running: &Running, signal: i32) {
    if let Err(error) = running.child.kill(signal) {
        tracing::error!(tunnel = %running.tunnel, "its program cannot be ended: {error}");
    }
}

/// A new socket at `path` to which the user of `role` alone can connect.
fn listening(path: &Path, role: Role) -> anyhow::Result<OwnedFd> {
    let context = || format!("cannot listen on {}", path.display());
    let socket = operator::listen_at(path, 0o600).with_context(context)?;
    if Uid::effective().is_root() {
        let uid = table().spec(role).uid;
        chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))).with_context(context)?;
    }
    Ok(socket)
}
