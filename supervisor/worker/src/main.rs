//! `raven-worker ROLE`: started by `ravend` alone. Takes its first message, builds what the role needs, enters the
//! jail, says that it is ready, and runs the role.
//!
//! [`store`] and [`decode`] join the ring with the receive memory and with the decoders; the other roles live in
//! their own crates.

mod archive;
mod config;
mod decode;
mod decoder;
mod flows;
mod login;
mod openvpn;
mod schedule;
mod select;
mod sign;
mod sources;
mod store;
mod text;
mod top;
mod update;
mod wireguard;

use anyhow::{Context, bail};
use nix::sys::stat::{Mode, umask};
use raven_collectors::receiver::Receiver;
use raven_jail::channel::Channel;
use raven_jail::sandbox;
use raven_jail::spawn::CONTROL_FD;
use raven_model::control::{FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::table::{Role, table};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    match Role::named(&name).context("usage: raven-worker ROLE; started by ravend, not by hand").and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("raven-worker {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(role: Role) -> anyhow::Result<()> {
    let channel = Channel::inherited(CONTROL_FD).context("no control channel: started by ravend, not by hand")?;
    let (start, fds) = first_message(&channel)?;
    // Readers of the ring come in by their group; nobody else does.
    umask(Mode::from_bits_truncate(0o027));
    if start.role != role {
        bail!("started as {role}, told to be {}", start.role);
    }
    match role {
        Role::Syslog => {
            let kind = raven_collectors::syslog::Syslog::new(&start);
            let collector = Receiver::new(&start, fds, channel, epoch(), kind)?;
            jail(&start, |ready| collector.ready(ready))?.run()?;
        }
        Role::Host => {
            let host = raven_collectors::host::Host::new(&start, fds, channel, epoch())?;
            jail(&start, |ready| host.ready(ready))?.run()?;
        }
        Role::Alert => {
            let alert = raven_collectors::alert::Alert::new(&start, fds, channel, epoch())?;
            jail(&start, |ready| alert.ready(ready))?.run()?;
        }
        Role::Schedule => {
            let schedule = schedule::Schedule::new(&start, fds, channel, epoch())?;
            jail(&start, |ready| schedule.ready(ready))?.run()?;
        }
        Role::Keygen => {
            enter(&start)?;
            let (certificate, key) = raven_collectors::keygen::keys(&start.device)?;
            channel.send_json(&FromWorker::Keys { certificate, key }, &[])?;
        }
        Role::Sign => {
            answer(&start, &channel, || sign::answer(&start, fds))?;
        }
        Role::Login => {
            answer(&start, &channel, || login::answer(&start, fds))?;
        }
        Role::Net => {
            let net = raven_network::Net::new(&start, fds, channel)?;
            jail(&start, |ready| net.ready(ready))?.run()?;
        }
        Role::Vpn => {
            let vpn = raven_network::vpn::Vpn::new(&start, fds, channel)?;
            jail(&start, |ready| vpn.ready(ready))?.run()?;
        }
        Role::Diag => {
            enter_ready(&start, &channel)?;
            raven_netdiag::run(&start, fds, channel)?;
        }
        Role::Wire => {
            enter_ready(&start, &channel)?;
            raven_netdiag::wire::run(channel)?;
        }
        Role::Openvpn => match openvpn::run(&start, fds)? {},
        Role::Wireguard => match wireguard::run(&start, fds)? {},
        Role::Winevent => {
            let collector = raven_collectors::winevent::Winevent::new(&start, fds, channel, epoch())?;
            jail(&start, |ready| collector.ready(ready))?.run()?;
        }
        Role::Metrics => {
            let collector = raven_collectors::metrics::Metrics::new(&start, fds, channel, epoch())?;
            jail(&start, |ready| collector.ready(ready))?.run()?;
        }
        Role::Flow => {
            let kind = raven_collectors::flow::Flow::new(&start);
            let collector = Receiver::new(&start, fds, channel, epoch(), kind)?;
            jail(&start, |ready| collector.ready(ready))?.run()?;
        }
        Role::Trap => {
            let kind = raven_collectors::trap::Trap::new(&start);
            let collector = Receiver::new(&start, fds, channel, epoch(), kind)?;
            jail(&start, |ready| collector.ready(ready))?.run()?;
        }
        Role::Store => {
            // It alone writes with LMDB, to a file for each stream.
            raven_jail::memory::large_allocations_apart();
            let missing = enter(&start)?;
            store::Store::new(&start, fds, channel)?.run(missing)?;
        }
        Role::Uplink => {
            enter_ready(&start, &channel)?;
            let tail = fds.into_iter().next().context("ravend passed no way to the store")?;
            raven_uplink::Uplink::new(&start, tail).run(channel)?;
        }
        Role::Decode => {
            enter_ready(&start, &channel)?;
            decode::Decode::new(&start, fds, channel)?.run()?;
        }
        Role::Import => {
            enter_ready(&start, &channel)?;
            archive::import::Import::new(&start, fds, channel)?.run()?;
        }
        Role::Update => {
            enter_ready(&start, &channel)?;
            update::Update::new(&start, fds, channel)?.run()?;
        }
        Role::Config => {
            answer(&start, &channel, || Ok(FromWorker::Config(config::read(&start, fds))))?;
        }
    }
    Ok(())
}

/// Random, so that batch numbers of another life of a receive memory are not taken for ours.
fn epoch() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn first_message(channel: &Channel) -> anyhow::Result<(Start, Vec<OwnedFd>)> {
    let mut packet = vec![0; PACKET_MAX];
    match channel.recv_json(&mut packet)? {
        Some((ToWorker::Start(start), fds)) => Ok((*start, fds)),
        Some(_) => bail!("the first message of ravend is not a start"),
        None => bail!("ravend is gone"),
    }
}

fn enter(start: &Start) -> anyhow::Result<Vec<String>> {
    Ok(sandbox::enter(table().spec(start.role), &table().base, &start.data)?)
}

/// Enters the jail, and says one thing.
fn answer(start: &Start, channel: &Channel, made: impl FnOnce() -> anyhow::Result<FromWorker>) -> anyhow::Result<()> {
    enter(start)?;
    Ok(channel.send_json(&made()?, &[])?)
}

/// Enters the jail, and says so.
fn enter_ready(start: &Start, channel: &Channel) -> anyhow::Result<()> {
    let missing = enter(start)?;
    Ok(channel.send_json(&FromWorker::Ready { missing }, &[])?)
}

/// Enters the jail, then has `ready` say so.
fn jail<T, E>(start: &Start, ready: impl FnOnce(Vec<String>) -> Result<T, E>) -> anyhow::Result<T>
where
    E: Into<anyhow::Error>,
{
    let missing = enter(start)?;
    ready(missing).map_err(Into::into)
}
