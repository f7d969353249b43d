//! The side of a check that runs in the jail.

use crate::probes::{self, Order, Passed};
use raven_jail::channel::{Channel, inherited};
use raven_jail::sandbox;
use raven_model::table::{Role, table};
use serde::{Deserialize, Serialize};
use std::fs::File;

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// In the jail; lacking these.
    Jailed(Vec<String>),
    /// Not in the jail.
    Refused(String),
    /// The probe worked.
    Worked,
    /// The probe failed with this errno.
    Failed(i32),
}

/// As `raven-worker ROLE`.
pub fn run(role: &str) {
    serve(&Channel::from_fd(inherited(3).unwrap()), Role::named(role).unwrap());
}

/// In no jail, as this program's user; the channel is standard input.
pub fn run_outside() {
    serve(&Channel::from_fd(inherited(0).unwrap()), Role::Uplink);
}

fn serve(channel: &Channel, role: Role) {
    let mut buffer = vec![0; 65536];
    let probes = probes::all();
    let (order, fds) = channel.recv_json::<Order>(&mut buffer).unwrap().unwrap();
    let mut fds = fds.into_iter();
    let mut next = || fds.next().unwrap();
    let (reader, writer, udp) = (File::from(next()), File::from(next()), next());
    let mut passed = Passed { reader, writer, udp, packet: fds.next() };
    if order.jailed {
        let answer = match sandbox::enter(table().spec(role), &table().base, &order.data) {
            Ok(missing) => Answer::Jailed(missing),
            Err(error) => Answer::Refused(error.to_string()),
        };
        channel.send_json(&answer, &[]).unwrap();
    }
    let Some(probe) = order.probe else {
        // Ends with the channel.
        channel.recv(&mut buffer, &mut Vec::new()).unwrap();
        return;
    };
    let answer = match (probes[probe].run)(&order, &mut passed) {
        Ok(()) => Answer::Worked,
        Err(error) => Answer::Failed(error.raw_os_error().unwrap_or(0)),
    };
    channel.send_json(&answer, &[]).unwrap();
}
