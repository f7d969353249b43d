//! The syslog collector: UDP datagrams (RFC 5426), TCP streams (RFC 6587), TLS (RFC 5425) and RELP. Nothing is looked
//! at, but for the first bytes of a plain connection: a TLS sender there is shown to the operator.

use crate::framing::SyslogFraming;
use crate::inbox::{From, Trouble};
use crate::receiver::{Kind, Session};
use crate::relp::RelpSession;
use crate::session::{Shared, is_tls_hello};
use crate::tls::{Credentials, TlsSession};
use raven_jail::receive::{Arrived, CollectorMemory, Contexts, Framing, Inspect, Verdict};
use raven_model::config::Config;
use raven_model::control::{Connection, Listener, ListenerId, Proto, Start};
use raven_model::report::CollectorReport;
use raven_model::stream::Stream;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

const TLS_ON_PLAIN: Trouble = Trouble {
    reason: "tls_hello_on_plain_port",
    remedy: "TLS hello on the plain TCP port: send to a port in collect.syslog.tls, or switch TLS off on the sender",
};

/// Length of the header of a TLS record (RFC 8446, 5.1).
const TLS_HEADER: usize = 5;

/// What is particular to syslog.
pub struct Syslog {
    framing: PlainFraming,
    watch: Watch,
    shared: Rc<Shared>,
    credentials: Credentials,
}

impl Syslog {
    /// As configured.
    pub fn new(start: &Start) -> Self {
        let limit = start.config.as_ref().map_or(1 << 16, |config| limit(config));
        let shared = Rc::new(Shared::new(limit));
        let hello = Rc::new(Cell::new(false));
        let mut credentials = Credentials::new("collect.syslog");
        credentials.want_client_ca(start.config.as_ref().is_some_and(|config| wants_client_ca(config)));
        Self {
            framing: PlainFraming { syslog: SyslogFraming { limit }, hello: Rc::clone(&hello) },
            watch: Watch { hello, shared: Rc::clone(&shared) },
            shared,
            credentials,
        }
    }
}

impl Kind for Syslog {
    fn parts(&mut self) -> (&dyn Framing, &mut dyn Inspect) {
        (&self.framing, &mut self.watch)
    }

    fn session(
        &mut self,
        listener: &Listener,
        connection: &Connection,
        socket: OwnedFd,
    ) -> Result<Box<dyn Session>, String> {
        let from = From { peer: connection.peer, listener: listener.id };
        let shared = Rc::clone(&self.shared);
        match listener.proto {
            Proto::Relp => Ok(Box::new(RelpSession::new(socket, from, shared))),
            Proto::Tls => {
                let config = self.credentials.server().map_err(|error| error.to_string())?;
                let session = TlsSession::new(socket, from, config, shared).map_err(|error| error.to_string())?;
                Ok(Box::new(session))
            }
            Proto::Udp | Proto::Tcp | Proto::Http | Proto::Https => {
                Err(format!("{} is no session of syslog", listener.name()))
            }
        }
    }

    fn configure(&mut self, config: &Config) {
        self.framing.syslog.limit = limit(config);
        self.shared.set_limit(limit(config));
        self.credentials.want_client_ca(wants_client_ca(config));
    }

    fn report(
        &mut self,
        report: &mut CollectorReport,
        _: &CollectorMemory,
        listeners: &BTreeMap<ListenerId, Listener>,
    ) {
        self.shared.inbox().report(Stream::Syslog.name(), report, listeners);
    }

    fn secrets(&mut self, secrets: BTreeMap<String, OwnedFd>) {
        if secrets.is_empty() {
            // No listener speaks TLS.
            return;
        }
        let wrong = self.credentials.renew(secrets).err().map(|error| error.to_string());
        if let Some(wrong) = &wrong {
            eprintln!("raven-worker syslog: {wrong}");
        }
        self.shared.inbox().own("tls_credentials", wrong);
    }
}

const fn limit(config: &Config) -> usize {
    config.collect.syslog.message_limit.0 as usize
}

const fn wants_client_ca(config: &Config) -> bool {
    config.collect.syslog.client_ca.is_some()
}

/// Syslog over plain TCP, and a TLS hello at its start as a message of its own.
struct PlainFraming {
    syslog: SyslogFraming,
    /// Set while such a message is given.
    hello: Rc<Cell<bool>>,
}

impl Framing for PlainFraming {
    fn take(&self, mode: &mut u64, bytes: &[u8], end: bool, emit: &mut dyn FnMut(&[u8], bool) -> bool) -> usize {
        // A connection of which nothing is known yet has mode 0.
        if *mode != 0 || !is_tls_hello(bytes) {
            return self.syslog.take(mode, bytes, end, emit);
        }
        let said = TLS_HEADER + usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
        let len = said.min(self.syslog.limit);
        if bytes.len() < len && !end {
            return 0;
        }
        let message = &bytes[..len.min(bytes.len())];
        self.hello.set(true);
        let taken = emit(message, false);
        self.hello.set(false);
        if !taken {
            return 0;
        }
        message.len() + self.syslog.take(mode, &bytes[message.len()..], end, emit)
    }
}

/// Looks at the one message that the framing found strange; at no datagram.
struct Watch {
    hello: Rc<Cell<bool>>,
    shared: Rc<Shared>,
}

impl Inspect for Watch {
    fn looks(&self) -> bool {
        self.hello.get()
    }

    fn recall(&mut self, _: &[u8]) {}

    fn begin(&mut self) {}

    fn inspect(&mut self, arrived: &Arrived<'_>, _: &mut Contexts) -> Verdict {
        let from = From { peer: arrived.source, listener: arrived.listener };
        self.shared.inbox().note(from, TLS_ON_PLAIN, arrived.raw, arrived.wall);
        Verdict::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start of what `openssl s_client` sends.
    const HELLO: &[u8] = b"\x16\x03\x01\x00\x08\x01\x00\x00\x04\x03\x03\n\x02";

    /// What comes out of a fresh connection, and whether it was taken for a hello.
    fn framed(stream: &[u8], cut: usize) -> Vec<(Vec<u8>, bool)> {
        let hello = Rc::new(Cell::new(false));
        let framing = PlainFraming { syslog: SyslogFraming { limit: 64 }, hello: Rc::clone(&hello) };
        let (mut mode, mut buffer, mut out) = (0, Vec::new(), Vec::new());
        let reads: Vec<&[u8]> = stream.chunks(cut).collect();
        for (n, read) in reads.iter().enumerate() {
            buffer.extend_from_slice(read);
            let used = framing.take(&mut mode, &buffer, n + 1 == reads.len(), &mut |raw, _| {
                out.push((raw.to_vec(), hello.get()));
                true
            });
            buffer.drain(..used);
        }
        assert!(buffer.is_empty());
        out
    }

    #[test]
    fn a_tls_hello_on_the_plain_port_is_seen_and_kept() {
        let stream = [HELLO, b"<13>then syslog\n"].concat();
        for cut in 6..stream.len() {
            assert_eq!(framed(&stream, cut), [(HELLO.to_vec(), true), (b"<13>then syslog".to_vec(), false)], "{cut}");
        }
        assert_eq!(framed(&HELLO[..9], 99), [(HELLO[..9].to_vec(), true)], "one that breaks off");
    }

    #[test]
    fn later_in_a_connection_nothing_is_a_hello() {
        let stream = [b"<13>syslog first\n", HELLO].concat();
        assert!(framed(&stream, 99).iter().all(|(_, hello)| !hello));
    }
}
