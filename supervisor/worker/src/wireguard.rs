//! The role `wireguard`: not ours. The worker jails itself, and becomes Debian's wireguard-go for one tunnel, on a machine
//! whose kernel has no WireGuard.
//!
//! It takes its orders, keys among them, at a socket that `ravend` listens at and passes as standard input; its device is
//! one that the `net` role made for its user, and whose addresses and MTU are set by that role.

use anyhow::{Context, bail};
use raven_jail::sandbox;
use raven_model::control::{Fd, Start};
use raven_model::table::table;
use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;

/// It stays in the foreground, takes orders at its standard input, and logs what went wrong alone.
const ENVIRONMENT: [&CStr; 3] = [c"WG_PROCESS_FOREGROUND=1", c"WG_UAPI_FD=0", c"LOG_LEVEL=error"];

/// Becomes wireguard-go.
pub fn run(start: &Start, fds: Vec<OwnedFd>) -> anyhow::Result<Infallible> {
    let orders = start.fds.iter().zip(fds).find_map(|(name, fd)| match name {
        Fd::Orders { tunnel } => Some((tunnel, fd)),
        _ => None,
    });
    let (tunnel, orders) = orders.context("ravend passed no socket")?;
    let spec = table().spec(start.role);
    let program = spec.program.as_deref().context("the process table names no program")?;
    if !Path::new(program).exists() {
        bail!("this kernel has no WireGuard, and {program} is not there: install the package wireguard-go");
    }
    nix::unistd::dup2_stdin(&orders).context("standard input")?;
    let args = ["wireguard-go".to_owned(), tunnel.device()];
    sandbox::enter(spec, &table().base, &start.data)?;
    Err(sandbox::become_program(program, &args, &ENVIRONMENT).into())
}
