//! A test for nobody: its events are not sent, and in the end there is what they came to.

use crate::bw::terms::Terms;
use crate::failure::Failure;
use crate::make;
use crate::session::Session;
use raven_model::diag::{Event, Test};
use std::os::unix::net::UnixStream;

/// Most times that are kept of one test.
const TIMES: usize = 64 * 1000;

/// What is kept of a test's events.
#[derive(Debug, Default)]
pub struct Heard {
    /// The last of them.
    pub result: Option<Event>,
    /// Round-trip times, microseconds, in the order in which they were told.
    pub times_us: Vec<u32>,
}

impl Heard {
    /// Takes in a line.
    pub(crate) fn hear(&mut self, line: &[u8]) {
        match serde_json::from_slice::<Event>(line) {
            Ok(Event::Answer(answer)) if !answer.duplicate && self.times_us.len() < TIMES => {
                self.times_us.push(answer.rtt_us);
            }
            Ok(event) if event.is_result() => self.result = Some(event),
            _ => {}
        }
    }
}

/// Makes a test, which ends when the other end of `lifeline` is closed.
pub fn make_quietly(test: &Test, lifeline: UnixStream) -> Result<Heard, Failure> {
    let mut session = Session::quiet(lifeline);
    make(test, &mut session, &Terms::default())?;
    Ok(session.heard())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::diag::services::{TcpResult, TcpTest};
    use raven_model::diag::{PingTest, Way};
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    #[test]
    fn a_test_for_nobody_comes_to_its_result() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let test = TcpTest { target: "127.0.0.1".to_owned(), port, way: Way::default(), timeout_ms: 1000 };
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let heard = make_quietly(&Test::Tcp(test), ours).unwrap();
        let Some(Event::Tcp(TcpResult { connections, .. })) = heard.result else { panic!("{heard:?}") };
        assert_eq!(connections.len(), 1);
    }

    #[test]
    fn a_test_ends_with_its_lifeline() {
        let test = PingTest {
            targets: vec!["127.0.0.1".to_owned()],
            way: Way::default(),
            count: 1000,
            interval_ms: 1000,
            timeout_ms: 1000,
            size: 56,
            dscp: 0,
            dont_fragment: false,
            each: true,
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let began = Instant::now();
        let test = std::thread::spawn(move || make_quietly(&Test::Ping(test), ours).map(drop));
        std::thread::sleep(Duration::from_millis(300));
        drop(theirs);
        // Without the right to ping it is refused at once, which is an end, too.
        assert!(test.join().unwrap().is_err());
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
