//! A request that is made.

use super::{Response, Url};
use crate::failure::{Failure, within};
use crate::rtt::micros;
use crate::session::Session;
use crate::stream::{Stream, Trouble};
use crate::tcp::{connect_first, look_up};
use crate::tls::{Trust, shake};
use raven_model::diag::Event;
use raven_model::diag::services::{Connection, HttpResult, HttpTest};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const CHUNK: usize = 32 * 1024;

/// Makes the test and tells what came of it.
pub fn run(test: &HttpTest, session: &mut Session) -> Result<(), Failure> {
    let is_tls = Url::parse(&test.url).is_ok_and(|url| url.is_tls);
    run_with(test, session, &if is_tls { Trust::system() } else { Trust::of([]) })
}

/// The same; the server is judged by this.
pub fn run_with(test: &HttpTest, session: &mut Session, trust: &Trust) -> Result<(), Failure> {
    within("the time to wait in milliseconds", test.timeout_ms.into(), 10, 60_000)?;
    within("the time for all of it in milliseconds", test.whole_ms.into(), 10, 600_000)?;
    let url = Url::parse(&test.url).map_err(Failure::Refused)?;
    let timeout = Duration::from_millis(test.timeout_ms.into());
    let began = Instant::now();
    let found = look_up(&url.host, url.port, &test.way)?;
    let (connections, socket) = connect_first(session, &found.addresses, &test.way, timeout)?;
    let mut told =
        HttpResult { url: test.url.clone(), resolve_us: found.took_us, connections, ..HttpResult::default() };
    match socket {
        Some(socket) => {
            if let Err(trouble) = ask(test, &url, session, trust, socket, &mut told) {
                told.error = Some(trouble.words()?);
            }
        }
        None => told.error = told.connections.last().and_then(Connection::words),
    }
    told.total_us = micros(began.elapsed());
    Ok(session.say(&Event::Http(told))?)
}

fn ask(
    test: &HttpTest,
    url: &Url,
    session: &mut Session,
    trust: &Trust,
    socket: TcpStream,
    told: &mut HttpResult,
) -> Result<(), Trouble> {
    let timeout = Duration::from_millis(test.timeout_ms.into());
    let mut stream = if url.is_tls {
        let (tls, stream) = shake(session, socket, &url.host, trust, Instant::now() + timeout)?;
        let why = tls.error.clone();
        told.tls = Some(tls);
        stream.ok_or_else(|| Trouble::Broken(format!("TLS: {}", why.unwrap_or_default())))?
    } else {
        Stream::plain(socket)
    };
    let asked = Instant::now();
    let mut response = Response::default();
    let done = hear(test, url, session, &mut stream, (asked, &mut response), told);
    told.whole_us = told.first_byte_us.map(|_| micros(asked.elapsed()));
    (told.header_bytes, told.body_bytes) = (response.header_bytes, response.body_bytes);
    told.is_whole = done.is_ok();
    if let Some(head) = response.head {
        (told.version, told.status, told.reason) = (Some(head.version), Some(head.status), head.reason);
        told.headers = head.headers;
    }
    done
}

/// Until the response is whole.
fn hear(
    test: &HttpTest,
    url: &Url,
    session: &mut Session,
    stream: &mut Stream,
    (asked, response): (Instant, &mut Response),
    told: &mut HttpResult,
) -> Result<(), Trouble> {
    let whole = asked + Duration::from_millis(test.whole_ms.into());
    let first = whole.min(asked + Duration::from_millis(test.timeout_ms.into()));
    stream.write_all(session, url.request().as_bytes(), first)?;
    let mut buffer = vec![0; CHUNK];
    while !response.is_over() {
        let until = if told.first_byte_us.is_none() { first } else { whole };
        let n = stream.read(session, &mut buffer, until)?;
        if n == 0 {
            return response.end().map_err(Trouble::Broken);
        }
        told.first_byte_us.get_or_insert_with(|| micros(asked.elapsed()));
        response.push(&buffer[..n]).map_err(Trouble::Broken)?;
        if response.body_bytes > test.limit {
            return Err(Trouble::Broken(format!("the body is longer than {} bytes: given up", test.limit)));
        }
    }
    Ok(())
}
