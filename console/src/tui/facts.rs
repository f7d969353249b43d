//! What is shown: gathered at one moment, then only looked at. What ravend cannot say because it is away is read from
//! the kernel, so that the front page tells at least addresses and the reason.

pub mod kernel;

use crate::client::Client;
use crate::output::Output;
use crate::shown;
use crate::status;
use kernel::Host;
use raven_model::neighbour::Neighbour;
use raven_model::query::{Query, Select};
use raven_model::report::{LinkState, LinkStatus, Status};
use raven_model::stream::Stream;

/// Lines of the log that are kept for reading.
const LOG_LINES: u64 = 200;

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// `eth0`.
    pub name: String,
    /// `52:54:00:12:34:56`.
    pub mac: String,
    /// Whether something is plugged in; `None` while it is set down.
    pub carrier: Option<bool>,
    /// Megabits a second.
    pub speed_mbps: Option<u64>,
    /// `192.0.2.7/24`.
    pub addresses: Vec<String>,
    /// Default routes.
    pub gateways: Vec<String>,
    /// Name servers.
    pub dns: Vec<String>,
    /// A word: `up`, `no link`, …
    pub state: String,
    /// Why it is not well.
    pub cause: Option<String>,
    /// Who is at the other end of its cable.
    pub neighbour: Neighbour,
}

impl Link {
    /// What the kernel tells everybody, and above it what the net role knows.
    fn told(link: &LinkStatus, kernel: Option<Self>) -> Self {
        let carrier = match link.state {
            LinkState::Off => None,
            LinkState::NoLink => Some(false),
            LinkState::Up | LinkState::Waiting | LinkState::Trouble => Some(true),
        };
        Self {
            name: link.name.clone(),
            mac: link.mac.clone().unwrap_or_default(),
            carrier,
            addresses: link.addresses.clone(),
            gateways: link.gateways.iter().map(ToString::to_string).collect(),
            state: link.state.name().to_owned(),
            cause: Some(link.cause.clone()).filter(|cause| !cause.is_empty()),
            neighbour: link.neighbour.clone(),
            ..kernel.unwrap_or_default()
        }
    }
}

/// All links: as the net role tells, or as the kernel does while it tells nothing.
fn links(status: &Result<Status, String>) -> Vec<Link> {
    let kernel = kernel::links();
    match status {
        Ok(status) if !status.links.is_empty() => {
            let known = |name: &str| kernel.iter().find(|link| link.name == name).cloned();
            status.links.iter().map(|link| Link::told(link, known(&link.name))).collect()
        }
        _ => kernel,
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// What ravend and its roles say; or why nothing is known.
    pub status: Result<Status, String>,
    /// Interfaces without the loopback.
    pub links: Vec<Link>,
    /// The machine.
    pub host: Host,
    /// What alerts told, newest last, as lines; or why there are none.
    pub log: Result<Vec<String>, String>,
}

impl Facts {
    /// Asks ravend, and the kernel; for the log only where none is given.
    pub fn gather(client: &Client, known: Option<Result<Vec<String>, String>>) -> Self {
        let status = status::fetch(client).map_err(|failure| failure.to_string());
        let log = known.unwrap_or_else(|| log(client, status.as_ref().map_err(Clone::clone)?));
        Self { links: links(&status), status, host: kernel::host(), log }
    }

    /// Before anything was gathered.
    pub fn none() -> Self {
        let why = "Raven is being asked".to_owned();
        Self { status: Err(why.clone()), links: kernel::links(), host: kernel::host(), log: Err(why) }
    }

    /// Name of the box.
    pub fn name(&self) -> &str {
        match &self.status {
            Ok(status) if !status.device.is_empty() => &status.device,
            _ => &self.host.name,
        }
    }
}

/// The newest changes that alerts told, oldest first: what a viewer may read too, other than the journal.
fn log(client: &Client, status: &Status) -> Result<Vec<String>, String> {
    if !status.streams.iter().any(|stream| stream.name == Stream::Alert.name()) {
        return Err("nothing is watched: `alert.enabled` is false".to_owned());
    }
    let select =
        Select { stream: Stream::Alert.name().to_owned(), last: Some(LOG_LINES), decoded: true, ..Select::default() };
    let mut answer = client.query(&Query::Records(select)).map_err(|failure| failure.to_string())?;
    let (mut lines, mut nowhere) = (Vec::new(), Output::nowhere());
    while let Some(record) = answer.next(&mut nowhere).map_err(|failure| failure.to_string())? {
        lines.extend(shown::record(Stream::Alert, record));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::neighbour::Heard;

    #[test]
    fn what_the_net_role_knows_stands_above_what_the_kernel_tells_everybody() {
        let told = LinkStatus {
            mac: Some("02:00:5e:10:00:01".into()),
            cause: "gateway 192.0.2.1 does not answer ARP".into(),
            mtu: 1500,
            addresses: vec!["192.0.2.7/24".into()],
            gateways: vec![std::net::Ipv4Addr::new(192, 0, 2, 1).into()],
            neighbour: Neighbour::Heard(Heard {
                system: Some("sw-1".into()),
                port: Some("7".into()),
                ..Heard::default()
            }),
            ..LinkStatus::new("eth0", LinkState::Trouble)
        };
        let kernel = Link { name: "eth0".into(), speed_mbps: Some(1000), state: "up".into(), ..Link::default() };
        let link = Link::told(&told, Some(kernel));
        assert_eq!((link.state.as_str(), link.speed_mbps, link.carrier), ("trouble", Some(1000), Some(true)));
        assert_eq!(link.cause.as_deref(), Some("gateway 192.0.2.1 does not answer ARP"));
        assert_eq!(link.neighbour.words().as_deref(), Some("sw-1 7"));
        let up = LinkStatus { state: LinkState::Up, cause: String::new(), ..told };
        assert_eq!(Link::told(&up, None).cause, None);
        let status = Ok(Status { links: vec![up], ..Status::default() });
        assert_eq!(links(&status).len(), 1);
        assert_eq!(links(&Err("away".into())), kernel::links());
    }
}
