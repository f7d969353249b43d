//! Tests of the network that operators ask for: the role `diag`. Beside it, the role [`wire`].
//!
//! Each test is a pure plan ([`ping`], [`trace`], [`mtu`], [`dns`], [`http`], [`ntp`]: what is sent when, what an answer says) and, in its `run`, the few lines
//! that own sockets. A test belongs to the connection on which it was asked for, and runs in a thread of its own: who closes
//! the connection ends the test, so that none outlives its operator.
//!
//! What it never does:
//! * hold a capability: echo requests leave by datagram sockets, and what routers say comes by error queues ([`probe`]);
//! * believe an answer: it counts when it carries the number of a probe behind this test's own cookie, or the number and the question
//!   of a query;
//! * send a secret: who is asked is not known to be whom it should be ([`tls`]);
//! * run without an end, or more than [`TESTS`] at a time.

pub mod bw;
pub mod dns;
pub mod failure;
pub mod http;
pub mod mtu;
pub mod names;
pub mod ntp;
mod on_demand;
pub mod ping;
pub mod probe;
pub mod rtt;
pub mod schedule;
pub mod session;
pub mod stream;
pub mod targets;
pub mod tcp;
pub mod tls;
pub mod trace;
pub mod wire;

use bw::terms::Terms;
use failure::Failure;
use on_demand::{OnDemand, Work};
use raven_jail::channel::{Channel, ChannelError};
use raven_model::control::{Fd, Start, ToWorker};
use raven_model::diag::Test;
use session::Session;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Tests at a time.
pub const TESTS: usize = 16;
/// The role ends when nobody has asked for anything for so long.
const IDLE: Duration = Duration::from_secs(30);

/// The role, inside the jail: makes tests until nobody wants any more.
pub fn run(start: &Start, fds: Vec<OwnedFd>, channel: Channel) -> Result<(), ChannelError> {
    let day = start.fds.iter().zip(fds).find_map(|(name, fd)| (*name == Fd::BandwidthDay).then_some(fd));
    let config = start.config.as_ref().and_then(|config| config.diag.bandwidth_server.clone());
    let mut terms = Terms::new(config, day.map(File::from));
    OnDemand::new(channel, TESTS, IDLE).run(|message, clients| match message {
        ToWorker::Client => clients.into_iter().map(|client| (client, work(&terms))).collect(),
        ToWorker::Configure(config) => {
            terms.config = config.diag.bandwidth_server;
            Vec::new()
        }
        // Secrets: nothing to this role.
        _ => Vec::new(),
    })
}

fn work(terms: &Terms) -> Work {
    let terms = terms.clone();
    Box::new(move |session, is_full| serve(session, is_full, &terms))
}

/// One operator, one test.
fn serve(mut session: Session, is_full: bool, terms: &Terms) {
    let Ok(order) = session.order() else { return };
    let outcome = match serde_json::from_slice::<Test>(&order) {
        _ if is_full => Err(Failure::Refused(format!("{TESTS} tests run already: wait for one of them"))),
        Err(error) => Err(Failure::Refused(format!("not a test that this raven knows: {error}"))),
        Ok(test) => make(&test, &mut session, terms),
    };
    // Who is gone is told nothing.
    let _ = match outcome {
        Ok(()) => session.done(),
        Err(Failure::Gone) => Ok(()),
        Err(failure) => session.refuse(failure.to_string()),
    };
}

/// Makes one test, which tells all to this session; a server on these terms.
pub fn make(test: &Test, session: &mut Session, terms: &Terms) -> Result<(), Failure> {
    match test {
        Test::Ping(test) => ping::run::run(test, session),
        Test::Trace(test) => trace::run::run(test, session),
        Test::Mtu(test) => mtu::run::run(test, session),
        Test::Bandwidth(test) => bw::client::run(test, session),
        Test::BandwidthServer(test) => bw::server::run(test, session, terms),
        Test::Dns(test) => dns::run::run(test, session),
        Test::Tcp(test) => tcp::run(test, session),
        Test::Tls(test) => tls::run::run(test, session),
        Test::Http(test) => http::run::run(test, session),
        Test::Ntp(test) => ntp::run::run(test, session),
    }
}
