//! The command line: every command, its arguments and its help.

use crate::client::Client;
use crate::diag::help;
use crate::failure::{Failure, OK};
use crate::output::Output;
use crate::{
    accept, alerts, archive, audit, config, dead, diag, export, factory_reset, flows, health, import, inbox, load,
    manual, net, ring, search, sources, status, support, tail, traps, tui, update, uplink, vpn, why, words,
};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use raven_model::stream;
use std::ffi::OsString;
use std::path::PathBuf;

const AFTER: &str = "\
Exit codes:
  0  done, and nothing was wrong (`status`: it could answer)
  1  a problem was found: something is missing, damaged or refused, or the configuration is bad
  2  the command line makes no sense
  3  ravend cannot be reached

Examples:
  raven                                   the console: pages, and the set-up of the box
  raven status                            everything on one screen
  raven tail --follow --source 10.1.2.3   what one device says, as it says it
  raven tail --since 10m --grep Deny      what happened, by text
  raven search --source 10.1.0.0/16 Deny  in all that is kept, passing over what is not from there
  raven flows top --by app --since 1h     what the traffic is
  raven traps --name linkDown -f          notifications of one kind, as they come
  raven alerts --follow                   what is wrong, and each change of it
  raven ping 192.0.2.1                    the network from here; also trace, mtu, bw, dns, tcp, tls, http, ntp
  raven config check new.toml             every mistake, with its line and remedy";

/// How times are written, for the help of commands that take some.
pub const TIMES: &str = "\
Times: `10m` or `2h` (ago), `now`, `2026-11-22`, `2026-11-22T18:30:00Z`. All times are UTC.";

/// Raven: receives a venue's telemetry, keeps it, delivers it.
#[derive(Debug, Parser)]
#[command(name = "raven", version, after_help = AFTER, disable_help_subcommand = true)]
pub struct Cli {
    /// Data directory of the ravend to talk to
    #[arg(long, global = true, value_name = "DIR", env = "RAVEN_DATA", default_value = "/data")]
    pub data: PathBuf,
    /// Write JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do; without it the console.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The command line of a program that is also a login shell: `raven -c 'raven status --json'` is what SSH makes of a
/// command, and means the words of it.
///
/// # Errors
/// The words make no sense, or help was asked for.
pub fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let [_, flag, line] = arguments.as_slice() else { return Cli::try_parse_from(arguments) };
    if flag != "-c" {
        return Cli::try_parse_from(arguments);
    }
    let line = line.to_str().unwrap_or_default();
    let mut words = words::split(line).map_err(|why| Cli::command().error(ErrorKind::InvalidValue, why))?;
    if words.first().is_none_or(|first| first != "raven") {
        words.insert(0, "raven".to_owned());
    }
    asked_for_help(&mut words);
    Cli::try_parse_from(words)
}

/// `help`, `help ping` and `?`, as one who has no other shell asks for it, mean `--help` and `ping --help`.
fn asked_for_help(words: &mut Vec<String>) {
    if words.get(1).is_some_and(|word| word == "help" || word == "?") {
        words.remove(1);
        words.push("--help".to_owned());
    }
}

/// What `raven` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One screen: processes, listeners, what is kept, destinations, and what needs attention
    Status(status::StatusArgs),
    /// The console: what this box does, on all of the screen, and its set-up
    Console(tui::ConsoleArgs),
    /// Show stored messages, newest last
    #[command(after_help = TIMES)]
    Tail(tail::TailArgs),
    /// Find stored messages by text, sender and time, oldest first
    #[command(after_help = TIMES)]
    Search(search::SearchArgs),
    /// Write stored messages to a file or to standard output
    #[command(after_help = TIMES)]
    Export(export::ExportArgs),
    /// The ring on disk: status, verify, repair, tail, export, import
    #[command(subcommand)]
    Ring(RingCommand),
    /// Who is sending: rate, last seen, what could not be understood; without a stream also exporters and engines
    #[command(after_help = TIMES)]
    Sources(sources::SourcesArgs),
    /// What was not understood or not allowed, and what to do about it (exit 1 when there is something)
    #[command(after_help = TIMES)]
    Inbox(inbox::InboxArgs),
    /// What to act on: alerts that are not over, and the newest that are (exit 1 when one is not over)
    #[command(after_help = TIMES)]
    Alerts(alerts::AlertsArgs),
    /// SNMP notifications as a list, by name
    #[command(after_help = TIMES)]
    Traps(traps::TrapsArgs),
    /// Flows: top
    #[command(subcommand)]
    Flows(flows::FlowsCommand),
    /// Destinations by hand: pause, resume
    #[command(subcommand)]
    Uplink(uplink::UplinkCommand),
    /// Tunnels to the operations centre: status, import, check, list, show, export, remove, enable, disable, order,
    /// connect, disconnect, events
    #[command(subcommand)]
    Vpn(vpn::VpnCommand),
    /// Links, addresses, counters, tunnels' devices, rules and routes; `events`: what changed lately; `firewall`: its rules
    Net(net::NetArgs),
    /// Why is it not forwarding? From the cable to the acknowledgement: what is broken first, and what to do (exit 1 when
    /// something is)
    Why(why::WhyArgs),
    /// The acceptance test of a venue: `why`, the way to each destination measured, an event through each input to the far
    /// end; a signed report (exit 1 when something fails)
    Accept(accept::AcceptArgs),
    /// Whether targets answer, how fast and how many are lost (exit 1 when one answers nothing)
    #[command(after_help = help::PING)]
    Ping(diag::PingArgs),
    /// By which routers a target is reached, and where it breaks (exit 1 when it does)
    #[command(after_help = help::TRACE)]
    Trace(diag::trace::TraceArgs),
    /// The longest packet that reaches a target, and whether longer ones vanish (exit 1 when they do)
    #[command(after_help = help::MTU)]
    Mtu(diag::MtuArgs),
    /// How much gets through to an iperf3 or another Raven; `--server`: this box as the other end, for a while
    #[command(after_help = help::BW)]
    Bw(diag::bw::BwArgs),
    /// What name servers answer, how fast, and whether others answer for them (exit 1 when one has no such record)
    #[command(after_help = help::DNS)]
    Dns(diag::services::DnsArgs),
    /// Whether a port can be connected to, by each address (exit 1 when by none)
    #[command(after_help = help::TCP)]
    Tcp(diag::services::TcpArgs),
    /// TLS: times, version, certificates, and whether they are right (exit 1 when not)
    #[command(after_help = help::TLS)]
    Tls(diag::services::TlsArgs),
    /// One request over HTTP/1.1, phase by phase (exit 1 on an error, or when it is not whole)
    #[command(after_help = help::HTTP)]
    Http(diag::services::HttpArgs),
    /// How far the clock is from those of time servers (exit 1 when one does not answer or is not synchronised)
    #[command(after_help = help::NTP)]
    Ntp(diag::services::NtpArgs),
    /// What arrives on an interface, beside what Raven receives (exit 1 when nobody receives what arrives)
    Wire(diag::wire::WireArgs),
    /// Frames of an interface into a capture file, for tcpdump and Wireshark
    Capture(diag::wire::CaptureArgs),
    /// Gateways, addresses that somebody else has too, DHCP servers (exit 1 when something is wrong)
    Lan(diag::wire::LanArgs),
    /// Scheduled tests: schedules, history, run
    #[command(subcommand)]
    Diag(diag::schedule::DiagCommand),
    /// Records that a destination refuses: list, show, retry, drop
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// The configuration: check, show, diff, apply, put, confirm, history, version, revert
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Generate load, to test a receiver
    #[command(subcommand)]
    Gen(load::GenCommand),
    /// Prove from what a receiver wrote that nothing is missing; `report`: the appliance's own account
    Audit(audit::AuditArgs),
    /// What a shell needs to complete this program's words
    Completions(manual::CompletionsArgs),
    /// The manual page, for `man -l -`
    Man(manual::ManArgs),
    /// Version of this program
    Version,
    /// Bring a new release into the slot that does not run; `status`: what the slots hold
    Update(update::UpdateArgs),
    /// One file for a colleague who is to help: status, configuration without secrets, logs, machine
    Support(support::SupportArgs),
    /// Discard everything that this box keeps (configuration, records, identity) and begin as on its first day
    FactoryReset(factory_reset::FactoryResetArgs),
    /// Whether this box does what it must: configuration, listeners, ring, a record all the way, uplink (exit 1 when not)
    Health(health::HealthArgs),
}

/// `raven ring …`.
#[derive(Debug, Subcommand)]
pub enum RingCommand {
    /// How much each stream holds, since when, and how long it will last
    Status,
    /// Read every block of a stream and check it: checksums, order, gaps against the ledger (exit 1 on problems)
    Verify(ring::VerifyArgs),
    /// Verify, count what is lost, set aside what cannot be opened, write the catalogue anew (exit 1 on problems)
    Repair(ring::VerifyArgs),
    /// As `raven tail`
    #[command(after_help = TIMES)]
    Tail(tail::TailArgs),
    /// Write records into an archive, for another Raven: onto a USB disk when the way out is gone (exit 1 on problems)
    #[command(after_help = TIMES)]
    Export(archive::ArchiveArgs),
    /// Take the records of an archive, each once (exit 1 when something of it is missing)
    Import(import::ImportArgs),
}

/// `STREAM` or `--stream STREAM`.
#[derive(Debug, Clone, Args)]
pub struct Stream {
    /// Stream [default: syslog]
    #[arg(value_name = "STREAM", value_parser = read_stream)]
    positional: Option<stream::Stream>,
    /// The same, by name
    #[arg(long = "stream", value_name = "STREAM", conflicts_with = "positional", value_parser = read_stream)]
    named: Option<stream::Stream>,
}

impl Stream {
    /// The one that was given.
    pub fn given(&self) -> Option<stream::Stream> {
        self.positional.or(self.named)
    }

    /// The one that was given, or syslog.
    pub fn stream(&self) -> stream::Stream {
        self.given().unwrap_or(stream::Stream::Syslog)
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.stream().name().to_owned()
    }
}

/// For clap.
pub fn read_stream(name: &str) -> Result<stream::Stream, String> {
    let all = stream::Stream::ALL.map(stream::Stream::name).join(", ");
    stream::Stream::named(name).ok_or_else(|| format!("there is no such stream; the streams are {all}"))
}

/// Runs the command; the exit code.
pub fn main(cli: Cli) -> u8 {
    let mut output = Output::stdout(cli.json);
    let command = cli.command.unwrap_or(Command::Console(tui::ConsoleArgs::default()));
    let done = run(command, Client::new(&cli.data), &mut output).and_then(|code| output.finish().map(|()| code));
    match done {
        Ok(code) => code,
        Err(failure) if failure.is_closed_pipe() => OK,
        Err(failure) => {
            output.complain(&failure);
            failure.code()
        }
    }
}

/// Runs one command; the exit code.
pub fn run(command: Command, client: Client, output: &mut Output) -> Result<u8, Failure> {
    match command {
        Command::Status(args) => status::run(&args, &client, output),
        Command::Console(args) => tui::run(&args, client, output),
        Command::Tail(args) | Command::Ring(RingCommand::Tail(args)) => tail::run(&args, &client, output),
        Command::Export(args) => export::run(&args, &client, output),
        Command::Search(args) => search::run(&args, &client, output),
        Command::Ring(RingCommand::Status) => ring::status(&client, output),
        Command::Ring(RingCommand::Verify(args)) => ring::verify(&args, false, &client, output),
        Command::Ring(RingCommand::Export(args)) => archive::run(&args, &client, output),
        Command::Ring(RingCommand::Import(args)) => import::run(&args, &client, output),
        Command::Ring(RingCommand::Repair(args)) => ring::verify(&args, true, &client, output),
        Command::Sources(args) => sources::run(&args, &client, output),
        Command::Inbox(args) => inbox::run(&args, &client, output),
        Command::Alerts(args) => alerts::run(&args, &client, output),
        Command::Traps(args) => traps::run(&args, &client, output),
        Command::Flows(command) => flows::run(&command, &client, output),
        Command::Uplink(command) => uplink::run(&command, &client, output),
        Command::Vpn(command) => vpn::run(&command, &client, output),
        Command::Net(args) => net::run(&args, &client, output),
        Command::Why(args) => why::run(&args, &client, output),
        Command::Accept(args) => accept::run(&args, &client, output),
        Command::Ping(args) => diag::ping(args, &client, output),
        Command::Trace(args) => diag::trace::trace(args, &client, output),
        Command::Mtu(args) => diag::mtu(args, &client, output),
        Command::Bw(args) => diag::bw::bw(args, &client, output),
        Command::Dns(args) => diag::services::dns(args, &client, output),
        Command::Tcp(args) => diag::services::tcp(args, &client, output),
        Command::Tls(args) => diag::services::tls(args, &client, output),
        Command::Http(args) => diag::services::http(args, &client, output),
        Command::Ntp(args) => diag::services::ntp(args, &client, output),
        Command::Wire(args) => diag::wire::wire(&args, &client, output),
        Command::Capture(args) => diag::wire::capture(&args, &client, output),
        Command::Lan(args) => diag::wire::lan(&args, &client, output),
        Command::Diag(command) => diag::schedule::run(command, &client, output),
        Command::Dead(command) => dead::run(&command, &client, output),
        Command::Config(command) => config::run(&command, &client, output),
        Command::Gen(command) => load::run(&command, output),
        Command::Audit(args) => audit::run(&args, &client, output),
        Command::Completions(args) => manual::completions(&args, output),
        Command::Man(args) => manual::man(&args, output),
        Command::Version => version(output),
        Command::Update(args) => update::run(&args, &client, output),
        Command::Support(args) => support::run(&args, &client, output),
        Command::FactoryReset(args) => factory_reset::run(&args, &client, output),
        Command::Health(args) => health::run(args, &client, output),
    }
}

fn version(output: &mut Output) -> Result<u8, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if output.json {
        output.value(&serde_json::json!({ "version": version }))?;
    } else {
        output.line(&format!("raven {version}"))?;
    }
    Ok(OK)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        super::parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn as_a_login_shell_it_runs_the_words_of_a_line_and_the_console_without_one() {
        let shell = |line: &str| super::parse(["-raven", "-c", line].map(OsString::from).to_vec());
        for line in ["raven status --json", "status --json"] {
            let cli = shell(line).unwrap();
            assert!(cli.json && matches!(cli.command, Some(Command::Status(_))), "{line}");
        }
        let Some(Command::Tail(tail)) = shell("tail --grep 'two words'").unwrap().command else { panic!("no tail") };
        assert_eq!(tail.grep.as_deref(), Some("two words"));
        assert!(shell("sh -i").is_err() && shell("status; sh").is_err() && shell("tail --grep 'x").is_err());
        assert!(super::parse(vec!["-raven".into()]).unwrap().command.is_none());
    }

    #[test]
    fn as_a_login_shell_it_helps_whoever_asks_for_it_and_names_every_test() {
        let said = |line: &str| super::parse(["-raven", "-c", line].map(OsString::from).to_vec()).unwrap_err();
        for line in ["help", "?", "--help", "raven help"] {
            let error = said(line);
            assert_eq!((error.kind(), error.exit_code()), (ErrorKind::DisplayHelp, 0), "{line}");
            let text = error.to_string();
            for verb in ["ping", "trace", "mtu", "bw", "dns", "tcp", "tls", "http", "ntp"] {
                assert!(text.lines().any(|line| line.trim_start().starts_with(&format!("{verb} "))), "{verb}: {text}");
            }
        }
        for line in ["help ping", "ping --help"] {
            assert!(said(line).to_string().contains("raven ping 192.0.2.1"), "{line}");
        }
        assert!(said("pong").to_string().contains("'--help'"));
    }

    #[test]
    fn every_example_of_a_test_is_a_command_and_stands_in_its_help() {
        let mut verbs = std::collections::BTreeSet::new();
        for example in help::ALL.iter().flat_map(|text| text.lines().skip(1)) {
            let line = example.trim().split("  ").next().unwrap();
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
            let verb = line.split(' ').nth(1).unwrap();
            let long = parse(&format!("raven {verb} --help")).unwrap_err().to_string();
            assert!(long.contains(line), "{line}: {long}");
            verbs.insert(verb);
        }
        assert_eq!(verbs.len(), 9, "{verbs:?}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn data_and_json_stand_before_or_behind_the_command() {
        for line in ["raven --data /x --json status", "raven status --data /x --json"] {
            let cli = parse(line).unwrap();
            assert!(cli.json && cli.data.to_str() == Some("/x"), "{line}");
        }
    }

    #[test]
    fn the_stream_is_a_word_or_an_option_and_never_both() {
        let stream = |line: &str| match parse(line).unwrap().command.unwrap() {
            Command::Tail(args) => args.stream.name(),
            _ => String::new(),
        };
        assert_eq!(stream("raven tail"), "syslog");
        assert_eq!(stream("raven tail trap"), "trap");
        assert_eq!(stream("raven tail --stream trap"), "trap");
        assert!(parse("raven tail trap --stream flow").is_err());
    }

    #[test]
    fn a_stream_that_does_not_exist_is_answered_with_those_that_do() {
        let error = parse("raven tail flows").unwrap_err().to_string();
        assert!(error.contains("the streams are syslog, flow, trap, winevent, metrics, host, alert"), "{error}");
    }

    #[test]
    fn help_names_the_exit_codes() {
        let help = Cli::command().render_help().to_string();
        assert!(
            ["0  done", "1  a problem", "2  the command line", "3  ravend"].iter().all(|code| help.contains(code)),
            "{help}"
        );
    }
}
