//! The control socket: who is at the other end, what they may say, and getting the answer out without waiting.

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket};
use nix::unistd::Uid;
use raven_jail::channel::recv;
use raven_jail::socket::Peer;
use raven_model::control::{Request, Response};
use raven_model::table::{Operators, table};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

/// Longest request, bytes.
const REQUEST_MAX: usize = 4096;
/// Clients at a time; more wait in the socket's queue.
pub const CLIENTS_MAX: usize = 64;

/// A connected operator's program.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    peer: Peer,
    request: Vec<u8>,
    answer: Vec<u8>,
    sent: usize,
    pass: Option<OwnedFd>,
    /// When it connected: a silent one is let go.
    pub since: Instant,
}

/// Binds the control socket. What an earlier life left there is replaced (the lock says that it is gone).
pub fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    // Who may connect is decided by SO_PEERCRED: members of the viewers' group are not in the file's mode.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    listen(&socket, Backlog::new(16)?)?;
    Ok(socket)
}

/// What the table lets `peer` say.
fn may(peer: &Peer, verb: &str, operators: &Operators) -> bool {
    let admin = peer.uid == 0 || peer.uid == Uid::effective().as_raw();
    let viewer = operators.viewer.gid.is_some_and(|gid| peer.in_group(gid));
    let allows = |verbs: &[String]| verbs.iter().any(|v| v == verb);
    admin && allows(&operators.admin.verbs) || viewer && allows(&operators.viewer.verbs)
}

impl Client {
    /// The next client that waits.
    pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Self> {
        let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        let socket = raven_jail::channel::inherited(fd)?;
        let peer = Peer::of(socket.as_fd())?;
        Ok(Self { socket, peer, request: Vec::new(), answer: Vec::new(), sent: 0, pass: None, since: Instant::now() })
    }

    /// To poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// True while an answer is not wholly sent.
    pub fn is_answering(&self) -> bool {
        !self.answer.is_empty()
    }

    /// Reads what is there. `Ok(Some(request))` when the line is whole and allowed; `Err` when the client is done
    /// with or to be let go.
    pub fn read(&mut self) -> io::Result<Option<Result<Request, String>>> {
        let mut buffer = [0; REQUEST_MAX];
        let mut fds = Vec::new();
        let n = recv(self.socket.as_fd(), &mut buffer, &mut fds, nix::libc::MSG_DONTWAIT);
        match n {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => self.request.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        if self.request.len() > REQUEST_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        let Some(end) = self.request.iter().position(|&b| b == b'\n') else { return Ok(None) };
        let request: Result<Request, String> = serde_json::from_slice(&self.request[..end])
            .map_err(|e| format!("not a request that this ravend knows: {e}"));
        Ok(Some(request.and_then(|request| {
            if may(&self.peer, request.verb(), &table().operator) {
                Ok(request)
            } else {
                Err(format!("user {} may not say `{}`", self.peer.uid, request.verb()))
            }
        })))
    }

    /// Begins the answer; a descriptor goes with its first byte.
    pub fn answer(&mut self, response: &Response, pass: Option<OwnedFd>) {
        self.answer = serde_json::to_vec(response).unwrap_or_else(|_| b"{\"refused\":[\"internal error\"]}".to_vec());
        self.answer.push(b'\n');
        (self.sent, self.pass) = (0, pass);
    }

    /// Sends on; `Ok(true)` when all is sent.
    pub fn write(&mut self) -> io::Result<bool> {
        while self.sent < self.answer.len() {
            let fds: Vec<BorrowedFd<'_>> = self.pass.iter().map(AsFd::as_fd).collect();
            match raven_jail::channel::try_send(self.socket.as_fd(), &self.answer[self.sent..], &fds) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            self.pass = None;
        }
        Ok(true)
    }
}
