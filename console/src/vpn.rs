//! `raven vpn`: profiles and tunnels. What is in force is said by the configuration; the `vpn` role keeps the profiles
//! themselves, and this program changes the one and tells the other.

mod change;

use crate::client::Client;
use crate::escape;
use crate::failure::{Failure, OK, PROBLEM, file};
use crate::output::Output;
use crate::silence::Silence;
use crate::status::{self, screen};
use crate::time;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use clap::{Args, Subcommand};
use raven_model::report::VpnTunnel;
use raven_model::tunnel::TunnelName;
use raven_model::units::Span;
use raven_model::vpn::{Brought, CODE_MAX, Exported, Kept, Login, SecretText, Verdict, VpnEvent, VpnOrder, Which};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// `raven vpn …`.
#[derive(Debug, Subcommand)]
pub enum VpnCommand {
    /// What each tunnel is in, and why (exit 1 when none carries although some should)
    Status,
    /// Say of a profile (.ovpn, or .conf of wg-quick) what is taken, dropped and refused (exit 1 when something is refused)
    Check(ProfileArgs),
    /// The same, and keep it as a new version of NAME, which comes into force when nothing was refused
    Import {
        /// Name of the tunnel: 1 to 11 small letters, digits or `-`
        name: TunnelName,
        /// The profile
        #[command(flatten)]
        profile: ProfileArgs,
        /// As of `enable`
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Profiles and their versions
    List,
    /// What a profile is, without its secrets
    Show(VersionArgs),
    /// A profile with its secrets, as it is given to openvpn (admins only)
    Export(VersionArgs),
    /// Remove a profile that is not in use, all its versions and their secrets
    Remove {
        /// Which
        name: TunnelName,
    },
    /// Use a profile: behind the others, or before them
    Enable {
        /// Which
        name: TunnelName,
        /// Before the others: the preferred one
        #[arg(long)]
        first: bool,
        /// Until when it is to be confirmed
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Use a profile no more; it is kept
    Disable {
        /// Which
        name: TunnelName,
        /// As of `enable`
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Use these profiles in this order, and no others
    Order {
        /// The preferred one first
        #[arg(required = true)]
        names: Vec<TunnelName>,
        /// As of `enable`
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Turn a tunnel of vpn.order on again, or begin it anew
    Connect {
        /// Which
        name: TunnelName,
        /// With a one-time code, for its next attempt alone: a line of standard input, asked for at a terminal. On a
        /// command line others could read it, so only `-` is taken
        #[arg(long, value_name = "-")]
        code: Option<String>,
    },
    /// Turn a tunnel off until `connect`, a change of the configuration or the next start
    Disconnect {
        /// Which
        name: TunnelName,
    },
    /// What happened to the tunnels lately
    Events,
}

/// A profile from outside.
#[derive(Debug, Clone, Args)]
pub struct ProfileArgs {
    /// The file; `-` for standard input
    pub file: PathBuf,
    /// A file that the profile names, such as ca.crt; as often as needed
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// Leave this line out, as if it did not stand there; as often as needed
    #[arg(long, value_name = "LINE")]
    pub without: Vec<u32>,
    /// Take what is refused by default: no-server-verification, cbc-ciphers, expired-certificate, venue-overlap
    #[arg(long, value_name = "WHAT")]
    pub allow: Vec<String>,
    /// A file with user and password at the server, a line each
    #[arg(long, value_name = "FILE")]
    pub login: Option<PathBuf>,
    /// A file with the password of the private key
    #[arg(long, value_name = "FILE")]
    pub passphrase: Option<PathBuf>,
}

/// A version of a profile.
#[derive(Debug, Clone, Args)]
pub struct VersionArgs {
    /// Which profile
    pub name: TunnelName,
    /// Which of its versions; the newest without it
    #[arg(long)]
    pub version: Option<u32>,
}

/// How a change is confirmed.
#[derive(Debug, Clone, Args)]
pub struct Confirm {
    /// Take the change back by itself unless `raven config confirm` comes within this time: 10s to 1h. Over SSH 60s
    /// without it, since the change may end the session
    #[arg(long, value_name = "TIME", value_parser = crate::config::read_patience)]
    pub confirm: Option<Span>,
}

/// Runs it.
pub fn run(command: &VpnCommand, client: &Client, output: &mut Output) -> Result<u8, Failure> {
    match command {
        VpnCommand::Status => tunnels(client, output),
        VpnCommand::Check(profile) => {
            let verdict: Verdict = one(client, output, &VpnOrder::Check(Box::new(profile.read()?)))?;
            judged(&verdict, output)
        }
        VpnCommand::Import { name, profile, confirm } => import(name, profile, confirm, client, output),
        VpnCommand::List => list(client, output),
        VpnCommand::Show(args) => {
            let verdict: Verdict = one(client, output, &VpnOrder::Show(args.which()))?;
            output.value(&verdict.summary)?;
            Ok(OK)
        }
        VpnCommand::Export(args) => {
            let exported: Exported = one(client, output, &VpnOrder::Export(args.which()))?;
            output.bytes(exported.text.as_bytes())?;
            Ok(OK)
        }
        VpnCommand::Remove { name } => {
            change::forget(name, client, output)?;
            for kept in all::<Kept>(client, output, &VpnOrder::Remove(name.clone()))? {
                output.line(&format!("{}, version {}: removed", kept.name, kept.version))?;
            }
            Ok(OK)
        }
        VpnCommand::Enable { name, first, confirm } => change::enable(name, *first, confirm, client, output),
        VpnCommand::Disable { name, confirm } => change::disable(name, confirm, client, output),
        VpnCommand::Order { names, confirm } => change::order(names, confirm, client, output),
        VpnCommand::Connect { name, code } => {
            let code = code.as_deref().map(|word| code_for(name, word)).transpose()?;
            turn(name, true, code, client, output)
        }
        VpnCommand::Disconnect { name } => turn(name, false, None, client, output),
        VpnCommand::Events => events(client, output),
    }
}

impl ProfileArgs {
    fn read(&self) -> Result<Brought, Failure> {
        let mut files = BTreeMap::new();
        for path in &self.with {
            // As it is named in the profile: without the folder in which it lies here.
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            files.insert(name, encoded(path)?);
        }
        let text = |path: &PathBuf| std::fs::read_to_string(path).map(Zeroizing::new).map_err(file("read", path));
        let login = self.login.as_ref().map(|path| text(path).and_then(|text| login(&text, path))).transpose()?;
        let passphrase = self.passphrase.as_ref().map(text).transpose()?;
        Ok(Brought {
            text: encoded(&self.file)?,
            files,
            without: self.without.iter().copied().collect::<BTreeSet<u32>>(),
            allow: self.allow.iter().cloned().collect(),
            login,
            passphrase: passphrase.map(|text| SecretText::new(text.trim_end_matches(['\n', '\r']))),
        })
    }
}

/// A file in base64.
fn encoded(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    if path == Path::new("-") {
        io::stdin().read_to_end(&mut bytes).map_err(file("read", "standard input"))?;
    } else {
        *bytes = std::fs::read(path).map_err(file("read", path))?;
    }
    Ok(Zeroizing::new(BASE64.encode(&bytes)))
}

/// The code that somebody types, or that a program writes.
fn code_for(name: &TunnelName, word: &str) -> Result<SecretText, Failure> {
    if word != "-" {
        let why = "a code on a command line can be read by others: --code - and type it, or write it to standard input";
        return Err(Failure::Usage(why.to_owned()));
    }
    let silence = io::stdin().is_terminal().then(|| {
        eprint!("one-time code for {name}: ");
        Silence::begin()
    });
    let mut line = Zeroizing::new(String::with_capacity(2 * CODE_MAX));
    let got = io::stdin().lock().take(2 * CODE_MAX as u64).read_line(&mut line);
    got.map_err(file("read", "standard input"))?;
    if silence.is_some() {
        eprintln!();
    }
    let code = line.trim();
    if code.is_empty() {
        return Err(Failure::Usage("standard input held no code".to_owned()));
    }
    Ok(SecretText::new(code))
}

fn login(text: &str, path: &Path) -> Result<Login, Failure> {
    let mut lines = text.lines();
    match (lines.next(), lines.next()) {
        (Some(user), Some(password)) if !user.is_empty() => {
            Ok(Login { user: user.to_owned(), password: SecretText::new(password) })
        }
        _ => Err(Failure::Usage(format!(
            "{}: expected the user in the first line, the password in the second",
            path.display()
        ))),
    }
}

impl VersionArgs {
    fn which(&self) -> Which {
        Which { name: self.name.clone(), version: self.version }
    }
}

/// The lines of an answer.
fn all<T: DeserializeOwned>(client: &Client, output: &mut Output, order: &VpnOrder) -> Result<Vec<T>, Failure> {
    let mut answer = client.vpn(order)?;
    let mut lines = Vec::new();
    while let Some(line) = answer.next(output)? {
        lines.push(serde_json::from_slice(line).map_err(|error| Failure::Protocol(error.to_string()))?);
    }
    Ok(lines)
}

fn one<T: DeserializeOwned>(client: &Client, output: &mut Output, order: &VpnOrder) -> Result<T, Failure> {
    let lines = all(client, output, order)?;
    lines.into_iter().next().ok_or_else(|| Failure::Protocol("the vpn role gave no answer".to_owned()))
}

/// What was thought of a profile.
fn judged(verdict: &Verdict, output: &mut Output) -> Result<u8, Failure> {
    if output.json {
        output.value(verdict)?;
    } else {
        for finding in &verdict.findings {
            output.line(&escape::text(finding))?;
        }
        output.line(if verdict.accepted { "accepted" } else { "refused: nothing was kept" })?;
        if let Some(key) = verdict.summary["public_key"].as_str() {
            output.line(&format!("public key of this box, which the far end has to know: {}", escape::text(key)))?;
        }
    }
    Ok(if verdict.accepted { OK } else { PROBLEM })
}

fn import(
    name: &TunnelName,
    profile: &ProfileArgs,
    confirm: &Confirm,
    client: &Client,
    output: &mut Output,
) -> Result<u8, Failure> {
    let order = VpnOrder::Import { name: name.clone(), brought: Box::new(profile.read()?) };
    let verdict: Verdict = one(client, output, &order)?;
    let code = judged(&verdict, output)?;
    match verdict.version {
        Some(version) => change::version(name, version, confirm, client, output),
        None => Ok(code),
    }
}

fn list(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let kept: Vec<Kept> = all(client, output, &VpnOrder::List)?;
    if output.json {
        return kept.iter().try_for_each(|kept| output.value(kept)).map(|()| OK);
    }
    let rows = kept.iter().map(|kept| {
        vec![
            kept.name.to_string(),
            kept.version.to_string(),
            escape::text(&kept.kind),
            if kept.in_force { "yes" } else { "" }.to_owned(),
            kept.days_left.map(|days| days.to_string()).unwrap_or_default(),
            escape::text(&kept.endpoints.join(", ")),
            escape::text(kept.public_key.as_deref().unwrap_or_default()),
        ]
    });
    let head = ["NAME", "VERSION", "KIND", "IN FORCE", "DAYS LEFT", "SERVERS", "PUBLIC KEY"];
    screen::table(&head, rows).iter().try_for_each(|line| output.line(line))?;
    Ok(OK)
}

fn turn(
    name: &TunnelName,
    on: bool,
    code: Option<SecretText>,
    client: &Client,
    output: &mut Output,
) -> Result<u8, Failure> {
    let _: Vec<serde_json::Value> = all(client, output, &VpnOrder::Turn { name: name.clone(), on, code })?;
    output.line(&format!("{name}: {}", if on { "begun anew" } else { "turned off" }))?;
    Ok(OK)
}

fn events(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    for event in all::<VpnEvent>(client, output, &VpnOrder::Events)? {
        if output.json {
            output.value(&event)?;
            continue;
        }
        let cause = escape::text(&event.cause);
        output.line(&format!(
            "{}  {:<11}  {:<11}  {cause}",
            time::format(event.time_ns, 0),
            event.tunnel,
            event.state
        ))?;
    }
    Ok(OK)
}

fn tunnels(client: &Client, output: &mut Output) -> Result<u8, Failure> {
    let tunnels = status::fetch(client)?.vpn;
    let carries = tunnels.is_empty() || tunnels.iter().any(|tunnel| tunnel.carries);
    if output.json {
        tunnels.iter().try_for_each(|tunnel| output.value(tunnel))?;
    } else if tunnels.is_empty() {
        output.line("no tunnel is configured: `raven vpn import NAME FILE`, then `raven vpn enable NAME`")?;
    } else {
        for line in lines(&tunnels) {
            output.line(&line)?;
        }
    }
    Ok(if carries { OK } else { PROBLEM })
}

/// A table of tunnels, and below it what servers asked for and did not get.
pub fn lines(tunnels: &[VpnTunnel]) -> Vec<String> {
    let rows = tunnels.iter().map(|tunnel| {
        let state = if tunnel.carries { format!("{} *", tunnel.state) } else { tunnel.state.clone() };
        vec![
            tunnel.name.to_string(),
            escape::text(&state),
            escape::text(&tunnel.addresses.join(" ")),
            tunnel.server.map(|server| server.to_string()).unwrap_or_default(),
            tunnel.rtt_ms.map(|ms| format!("{ms:.1} ms")).unwrap_or_default(),
            tunnel.loss.map(|loss| format!("{loss} %")).unwrap_or_default(),
            escape::text(&tunnel.cause),
        ]
    });
    let mut lines = screen::table(&["TUNNEL", "STATE", "ADDRESS", "SERVER", "RTT", "LOSS", "CAUSE"], rows);
    for tunnel in tunnels {
        lines.extend(
            tunnel.refused.iter().map(|refused| format!("{}: not taken: {}", tunnel.name, escape::text(refused))),
        );
    }
    lines
}
