//! `raven dns`, `raven tcp`, `raven tls`, `raven http`, `raven ntp`: services phase by phase.

mod shown;

use super::{WayArgs, milliseconds, run};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Output;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use raven_model::diag::services::{DnsTest, HttpTest, NtpTest, RecordType, TcpTest, TlsTest, Transport};
use raven_model::diag::{Event, Test};
use raven_model::units::{ByteCount, Span};
pub use shown::{dns_server, lines};

/// A type of record, in letters of any case.
fn record() -> impl TypedValueParser<Value = RecordType> {
    let names = RecordType::ALL.map(|(.., name)| name);
    PossibleValuesParser::new(names).try_map(|name| RecordType::named(&name).ok_or("no such record"))
}

/// `raven dns`.
#[derive(Debug, Args)]
pub struct DnsArgs {
    /// What is asked for; with `--type PTR` an address, too
    name: String,
    /// Who is asked [default: the name servers of this box]
    #[arg(short, long = "server", value_name = "ADDRESS[:PORT]")]
    servers: Vec<String>,
    /// Type of the record
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "A", ignore_case = true, value_parser = record())]
    record: RecordType,
    /// By TCP at once
    #[arg(long, conflicts_with = "tls")]
    tcp: bool,
    /// By TLS (port 853)
    #[arg(long)]
    tls: bool,
    /// Datagrams before a server counts as silent
    #[arg(short, long, default_value = "2")]
    count: u8,
    /// An answer that takes longer is none
    #[arg(short = 'W', long, default_value = "2s")]
    timeout: Span,
    #[command(flatten)]
    way: WayArgs,
}

/// `raven tcp`.
#[derive(Debug, Args)]
pub struct TcpArgs {
    /// A name or an address, and a port; an IPv6 address in brackets
    #[arg(value_name = "HOST:PORT", value_parser = host_and_port)]
    target: (String, u16),
    /// For each address
    #[arg(short = 'W', long, default_value = "3s")]
    timeout: Span,
    #[command(flatten)]
    way: WayArgs,
}

/// `raven tls`.
#[derive(Debug, Args)]
pub struct TlsArgs {
    /// A name or an address, and a port; an IPv6 address in brackets
    #[arg(value_name = "HOST:PORT", value_parser = host_and_port)]
    target: (String, u16),
    /// The name that is asked for (SNI) and that the certificate must have [default: HOST]
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// For connecting, and for the handshake
    #[arg(short = 'W', long, default_value = "3s")]
    timeout: Span,
    #[command(flatten)]
    way: WayArgs,
}

/// `raven http`.
#[derive(Debug, Args)]
pub struct HttpArgs {
    /// http:// or https://
    url: String,
    /// For connecting, for the handshake, and for the first byte
    #[arg(short = 'W', long, default_value = "3s")]
    timeout: Span,
    /// For all of the response
    #[arg(short, long, value_name = "TIME", default_value = "30s")]
    max_time: Span,
    /// Bytes of the body that are read before it is given up
    #[arg(short, long, value_name = "SIZE", default_value = "64MiB")]
    limit: ByteCount,
    #[command(flatten)]
    way: WayArgs,
}

/// `raven ntp`.
#[derive(Debug, Args)]
pub struct NtpArgs {
    /// Names and addresses
    #[arg(required = true, value_name = "SERVER")]
    servers: Vec<String>,
    /// Queries to each
    #[arg(short, long, default_value = "4")]
    count: u8,
    /// Between two of them
    #[arg(short, long, default_value = "1s")]
    interval: Span,
    /// An answer that takes longer is none
    #[arg(short = 'W', long, default_value = "1s")]
    timeout: Span,
    #[command(flatten)]
    way: WayArgs,
}

/// For clap.
pub fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let wanted = || "expected HOST:PORT, an IPv6 address in brackets".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or("a port is 1 to 65535")?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare {
        None if host.is_empty() || host.contains(':') => Err(wanted()),
        bare => Ok((bare.unwrap_or(host).to_owned(), port)),
    }
}

/// Runs `raven dns`.
pub fn dns(args: DnsArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let transport = match (args.tcp, args.tls) {
        (true, _) => Transport::Tcp,
        (_, true) => Transport::Tls,
        _ => Transport::Udp,
    };
    let test = DnsTest {
        name: args.name,
        record: args.record,
        servers: args.servers,
        way: args.way.way(),
        transport,
        timeout_ms: milliseconds(args.timeout),
        tries: args.count,
    };
    run(&Test::Dns(test), args.way.ndjson, client, output)
}

/// Runs `raven tcp`.
pub fn tcp(args: TcpArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let (target, port) = args.target;
    let test = TcpTest { target, port, way: args.way.way(), timeout_ms: milliseconds(args.timeout) };
    run(&Test::Tcp(test), args.way.ndjson, client, output)
}

/// Runs `raven tls`.
pub fn tls(args: TlsArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let (target, port) = args.target;
    let timeout_ms = milliseconds(args.timeout);
    let test = TlsTest { target, port, name: args.name, way: args.way.way(), timeout_ms };
    run(&Test::Tls(test), args.way.ndjson, client, output)
}

/// Runs `raven http`.
pub fn http(args: HttpArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let test = HttpTest {
        url: args.url,
        way: args.way.way(),
        timeout_ms: milliseconds(args.timeout),
        whole_ms: milliseconds(args.max_time),
        limit: args.limit.0,
    };
    run(&Test::Http(test), args.way.ndjson, client, output)
}

/// Runs `raven ntp`.
pub fn ntp(args: NtpArgs, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let test = NtpTest {
        servers: args.servers,
        way: args.way.way(),
        count: args.count,
        interval_ms: milliseconds(args.interval),
        timeout_ms: milliseconds(args.timeout),
    };
    run(&Test::Ntp(test), args.way.ndjson, client, output)
}

/// Writes a result of these tests as JSON.
pub(super) fn value(event: &Event, output: &mut Output) -> Result<(), Failure> {
    match event {
        Event::Dns(result) => output.value(result),
        Event::Tcp(result) => output.value(result),
        Event::Tls(result) => output.value(result),
        Event::Http(result) => output.value(result),
        Event::Ntp(results) => output.value(results),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_host_and_a_port_are_both_wanted() {
        assert_eq!(host_and_port("noc.example:443"), Ok(("noc.example".to_owned(), 443)));
        assert_eq!(host_and_port("[2001:db8::1]:443"), Ok(("2001:db8::1".to_owned(), 443)));
        for nonsense in ["noc", "noc:", ":443", "noc:0", "2001:db8::1", "noc:65536"] {
            assert!(host_and_port(nonsense).is_err(), "{nonsense}");
        }
    }
}
