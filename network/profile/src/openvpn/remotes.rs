//! Where the tunnel goes to: `remote`, `<connection>`, proxies.

#![allow(clippy::unnecessary_wraps)] // what takes a line has one type, which the table wants

use super::draft::{Defaults, Draft, Problem, Target};
use super::identity::credentials;
use super::lines::{Line, Word};
use super::{Credentials, Proto, Proxy, ProxyAuth, ProxyKind};
use crate::address::{self, Host};
use crate::report::{Finding, Remedy, Verdict};

/// OpenVPN's own.
pub(super) const PORT: u16 = 1194;
/// As in OpenVPN (CONNECTION_LIST_SIZE).
pub(super) const REMOTES_MAX: usize = 64;

fn host_of(word: usize, text: &Word) -> Result<Host, Problem> {
    Host::parse(&text.text).map_err(|reason| Problem::refused(word, reason))
}

fn port_of(word: usize, text: &Word) -> Result<u16, Problem> {
    address::port(&text.text).map_err(|reason| Problem::refused(word, reason))
}

fn proto_of(word: usize, text: &Word) -> Result<Proto, Problem> {
    match text.text.as_str() {
        "udp" => Ok(Proto::Udp),
        "udp4" => Ok(Proto::Udp4),
        "udp6" => Ok(Proto::Udp6),
        "tcp" | "tcp-client" => Ok(Proto::Tcp),
        "tcp4" | "tcp4-client" => Ok(Proto::Tcp4),
        "tcp6" | "tcp6-client" => Ok(Proto::Tcp6),
        "tcp-server" | "tcp4-server" | "tcp6-server" => {
            Err(Problem::refused(word, "is for servers; Raven is a client"))
        }
        _ => Err(Problem::refused(word, "expected udp, udp4, udp6, tcp-client, tcp4-client or tcp6-client")),
    }
}

/// What holds where this line stands: in a `<connection>`, or outside.
fn defaults<'d>(draft: &'d mut Draft<'_>, line: &Line<'_>) -> &'d mut Defaults {
    match &mut draft.connection {
        Some((defaults, _)) if line.inside.is_some() => defaults,
        _ => &mut draft.defaults,
    }
}

pub(super) fn remote(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    let Some(name) = line.words.get(1) else { return Ok(()) };
    let target = Target {
        line: line.number,
        host: host_of(1, name)?,
        port: line.words.get(2).map(|word| port_of(2, word)).transpose()?,
        proto: line.words.get(3).map(|word| proto_of(3, word)).transpose()?,
    };
    let targets = match &mut draft.connection {
        Some((_, targets)) if line.inside.is_some() => targets,
        _ => &mut draft.targets,
    };
    if targets.len() == REMOTES_MAX {
        return Err(Problem::refused(0, "more than 64 remotes"));
    }
    targets.push(target);
    Ok(())
}

pub(super) fn port(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    let port = line.words.get(1).map(|word| port_of(1, word)).transpose()?;
    defaults(draft, line).port = port;
    Ok(())
}

pub(super) fn proto(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    let proto = line.words.get(1).map(|word| proto_of(1, word)).transpose()?;
    defaults(draft, line).proto = proto;
    Ok(())
}

pub(super) fn remote_random(draft: &mut Draft<'_>, _: &Line<'_>) -> Result<(), Problem> {
    draft.remote_random = true;
    Ok(())
}

/// `connection` on a line of its own, without its brackets.
pub(super) fn stray_connection(_: &mut Draft<'_>, _: &Line<'_>) -> Result<(), Problem> {
    Err(Problem::refused(0, "is a block: <connection> and </connection>, each on a line of its own"))
}

pub(super) fn http_proxy(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    let (Some(host), Some(port)) = (line.words.get(1), line.words.get(2)) else { return Ok(()) };
    let (host, port) = (host_of(1, host)?, port_of(2, port)?);
    let auth = proxy_auth(line)?;
    let file = line.words.get(3).filter(|word| !["auto", "auto-nct", "stdin", "none"].contains(&word.text.as_str()));
    if let Some(file) = file.filter(|_| auth != ProxyAuth::None) {
        draft.proxy_credentials = given(draft, line, file)?.unwrap_or(Credentials::Asked);
    } else if auth != ProxyAuth::None && draft.proxy_credentials == Credentials::None {
        draft.proxy_credentials = Credentials::Asked;
    }
    defaults(draft, line).proxy = Some(Proxy { host, port, kind: ProxyKind::Http(auth) });
    Ok(())
}

/// User and password from the file that a line names in its third word; `None` when they are to be asked for.
fn given(draft: &Draft<'_>, line: &Line<'_>, file: &Word) -> Result<Option<Credentials>, Problem> {
    let words = vec![Word { text: "proxy".to_owned(), column: 1 }, file.clone()];
    let named = Line { number: line.number, words, block: None, inside: line.inside };
    credentials(draft, &named).map_err(|problem| Problem { word: 3, ..problem })
}

/// `http-proxy HOST PORT [auto | auto-nct | FILE [none | basic | ntlm2]]`
fn proxy_auth(line: &Line<'_>) -> Result<ProxyAuth, Problem> {
    let word = |at: usize| line.words.get(at).map(|word| word.text.as_str());
    match (word(3), word(4)) {
        (None | Some("none"), None) | (Some(_), Some("none")) => Ok(ProxyAuth::None),
        (Some("auto"), None) => Ok(ProxyAuth::Auto),
        (Some("auto-nct"), None) => Ok(ProxyAuth::AutoNct),
        (Some(_), None | Some("basic")) => Ok(ProxyAuth::Basic),
        (Some(_), Some("ntlm2")) => Ok(ProxyAuth::Ntlm2),
        (_, Some("ntlm")) => Err(Problem::refused(4, "NTLM version 1 gives the password away; ntlm2 is taken")),
        (_, Some(_)) => Err(Problem::refused(4, "expected none, basic or ntlm2")),
    }
}

pub(super) fn proxy_user_pass(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    draft.proxy_credentials = credentials(draft, line)?.unwrap_or(Credentials::Asked);
    Ok(())
}

pub(super) fn socks_proxy(draft: &mut Draft<'_>, line: &Line<'_>) -> Result<(), Problem> {
    let Some(host) = line.words.get(1) else { return Ok(()) };
    let mut kind = ProxyKind::Socks;
    if let Some(file) = line.words.get(3) {
        let found = given(draft, line, file)?;
        if found.is_some() || draft.proxy_credentials == Credentials::None {
            draft.proxy_credentials = found.unwrap_or(Credentials::Asked);
        }
        kind = ProxyKind::SocksLogin;
    }
    // RFC 1928: 1080 unless something else is said.
    let port = line.words.get(2).map_or(Ok(1080), |word| port_of(2, word))?;
    let host = host_of(1, host)?;
    defaults(draft, line).proxy = Some(Proxy { host, port, kind });
    Ok(())
}

impl Draft<'_> {
    /// Makes a remote of a `<connection>`.
    pub(super) fn close_connection(&mut self, line: u32) {
        let Some((defaults, mut targets)) = self.connection.take() else { return };
        let reason = match (targets.pop(), targets.is_empty()) {
            (Some(_), true) if self.connections.len() == REMOTES_MAX => "is one of more than 64",
            (Some(target), true) => return self.connections.push((line, defaults.complete(target))),
            (Some(_), false) => "has more than one `remote`; give each a block of its own",
            (None, _) => "has no `remote`",
        };
        let remedy = Some(Remedy::LeaveOut);
        let (directive, reason, verdict) = ("connection".to_owned(), reason.to_owned(), Verdict::Refused);
        self.report.add(Finding { line, column: 1, directive, verdict, reason, remedy });
    }
}
