//! A record sent through a real input of this box, and looked for in the ring. It is a record like all others: it is kept
//! and delivered, so that who reads it at the far end sees that a box was looked at.

use crate::client::Client;
use crate::time;
use raven_model::query::{Query, Select};
use raven_model::report::ListenerStatus;
use raven_model::units::UnixNanos;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// A record is in the ring a tenth of a second after it came; this is for a machine under heavy load.
const PATIENCE: Duration = Duration::from_secs(8);
const EVERY: Duration = Duration::from_millis(200);
/// How far a clock may be behind for a record that was just sent.
const BEFORE_NS: u64 = 60_000_000_000;

/// Sends it by the first input of syslog that takes plain text, and waits until it can be read.
pub fn sent(client: &Client, listeners: &[ListenerStatus]) -> Result<String, String> {
    let Some((proto, to)) = input(listeners) else {
        return Ok("not sent: no plain input of syslog is configured".to_owned());
    };
    let mark = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
    let now = time::now();
    let text = format!("<46>1 {} - raven-health - - - canary {mark}", time::format(now, 3));
    send(proto, to, &text).map_err(|error| format!("cannot send to {proto}:{to}: {error}"))?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if is_kept(client, &mark, now)? {
            return Ok(format!("sent to {proto}:{to} and read back from the ring"));
        }
        std::thread::sleep(EVERY);
    }
    Err(format!("a record sent to {proto}:{to} was not in the ring after {} s", PATIENCE.as_secs()))
}

/// Where to send: this box's own address of a listener.
fn input(listeners: &[ListenerStatus]) -> Option<(&'static str, SocketAddr)> {
    ["udp", "tcp"].into_iter().find_map(|proto| {
        let fits = |listener: &&ListenerStatus| listener.stream == "syslog" && listener.proto == proto;
        let addr: SocketAddr = listeners.iter().find(fits)?.addr.parse().ok()?;
        let ip = match addr.ip() {
            // `[::]` takes both; a machine without IPv6 has only the other one.
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        Some((proto, SocketAddr::new(ip, addr.port())))
    })
}

fn send(proto: &str, to: SocketAddr, text: &str) -> std::io::Result<()> {
    if proto == "udp" {
        let any = if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        return UdpSocket::bind((any, 0))?.send_to(text.as_bytes(), to).map(drop);
    }
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.write_all(format!("{text}\n").as_bytes())
}

fn is_kept(client: &Client, mark: &str, sent: UnixNanos) -> Result<bool, String> {
    let select = Select {
        stream: "syslog".to_owned(),
        since: Some(UnixNanos(sent.0.saturating_sub(BEFORE_NS))),
        grep: vec![mark.to_owned()],
        last: Some(1),
        ..Select::default()
    };
    let mut quiet = crate::output::Output::stdout(true);
    let mut answer = client.query(&Query::Records(select)).map_err(|error| error.to_string())?;
    answer.next(&mut quiet).map(|line| line.is_some()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_goes_to_a_plain_input_at_an_address_of_this_box() {
        let listener = |stream: &str, proto: &str, addr: &str| ListenerStatus {
            stream: stream.to_owned(),
            proto: proto.to_owned(),
            addr: addr.to_owned(),
            ..ListenerStatus::default()
        };
        let all = [
            listener("flow", "udp", "[::]:2055"),
            listener("syslog", "tls", "[::]:6514"),
            listener("syslog", "tcp", "10.0.0.2:514"),
        ];
        assert_eq!(input(&all), Some(("tcp", "10.0.0.2:514".parse().unwrap())));
        let with_udp = [&all[..], &[listener("syslog", "udp", "[::]:514")]].concat();
        assert_eq!(input(&with_udp), Some(("udp", "127.0.0.1:514".parse().unwrap())));
        assert_eq!(input(&all[..2]), None);
    }
}
