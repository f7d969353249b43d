//! A handshake that is made.

use super::{Trust, shake};
use crate::failure::{Failure, within};
use crate::session::Session;
use crate::tcp::{connect_first, look_up};
use raven_model::diag::Event;
use raven_model::diag::services::{TlsResult, TlsTest};
use std::time::{Duration, Instant};

/// Makes the test and tells what came of it.
pub fn run(test: &TlsTest, session: &mut Session) -> Result<(), Failure> {
    run_with(test, session, &Trust::system())
}

/// The same; the server is judged by this.
pub fn run_with(test: &TlsTest, session: &mut Session, trust: &Trust) -> Result<(), Failure> {
    within("the time to wait in milliseconds", test.timeout_ms.into(), 10, 60_000)?;
    let timeout = Duration::from_millis(test.timeout_ms.into());
    let found = look_up(&test.target, test.port, &test.way)?;
    let (connections, socket) = connect_first(session, &found.addresses, &test.way, timeout)?;
    let tls = match socket {
        Some(socket) => {
            let name = test.name.as_deref().unwrap_or(&test.target);
            Some(shake(session, socket, name, trust, Instant::now() + timeout)?.0)
        }
        None => None,
    };
    let (target, port) = (test.target.clone(), test.port);
    Ok(session.say(&Event::Tls(TlsResult { target, port, resolve_us: found.took_us, connections, tls }))?)
}
