//! The control socket: who is at the other end, what they may say, and getting the answer out without waiting.

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket};
use nix::unistd::Uid;
use raven_jail::channel::recv;
use raven_jail::socket::Peer;
use raven_model::control::{Request, Response};
use raven_model::table::{OperatorRole, Operators, table};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

/// Longest request of who may send configurations (1 MiB of text, escaped), and of others; bytes.
const REQUEST_MAX: usize = 4 << 20;
const SHORT_MAX: usize = 4096;
/// Bytes read at a time.
const READ: usize = 64 << 10;
/// Clients at a time; more wait in the socket's queue.
pub const CLIENTS_MAX: usize = 64;

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who {
    /// Its user.
    pub uid: u32,
    /// By its user and groups alone.
    pub role: Option<OperatorRole>,
    /// The console, whose rights depend on who is logged in.
    pub console: bool,
}

impl Who {
    fn of(peer: &Peer, operators: &Operators) -> Self {
        let is_owner = peer.uid == 0 || peer.uid == Uid::effective().as_raw();
        let has = |role: &OperatorRole| {
            let operator = operators.of(*role);
            *role == OperatorRole::Admin && is_owner || peer.uid == operator.uid || peer.in_group(operator.gid)
        };
        let console = peer.uid == operators.console;
        let role = OperatorRole::ALL.into_iter().rev().find(has);
        Self { uid: peer.uid, role: role.or(console.then_some(OperatorRole::Viewer)), console }
    }
}

/// A connected operator's program.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    /// Who it is.
    pub who: Who,
    /// The login by which it says its request.
    pub session: Option<String>,
    request: Vec<u8>,
    answer: Vec<u8>,
    sent: usize,
    pass: Option<OwnedFd>,
    /// When it connected: a silent one is let go.
    pub since: Instant,
}

/// Binds the control socket. What an earlier life left there is replaced (the lock says that it is gone).
pub fn listen_at(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    // Until then none but root and who started ravend can connect.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listen(&socket, Backlog::new(16)?)?;
    Ok(socket)
}

impl Client {
    /// The next client that waits.
    pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Self> {
        let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        let socket = raven_jail::channel::inherited(fd)?;
        let who = Who::of(&Peer::of(socket.as_fd())?, &table().operator);
        let (request, answer) = (Vec::new(), Vec::new());
        Ok(Self { socket, who, session: None, request, answer, sent: 0, pass: None, since: Instant::now() })
    }

    /// To poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// True while an answer is not wholly sent.
    pub fn is_answering(&self) -> bool {
        !self.answer.is_empty()
    }

    /// Reads what is there. `Ok(Some(request))` when the line is whole; `Err` when the client is done with or to be
    /// let go.
    pub fn read(&mut self) -> io::Result<Option<Result<Request, String>>> {
        let mut buffer = vec![0; READ];
        loop {
            let mut fds = Vec::new();
            match recv(self.socket.as_fd(), &mut buffer, &mut fds, nix::libc::MSG_DONTWAIT) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.request.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
            // The console can be an admin.
            let is_admin = self.who.console || self.who.role == Some(OperatorRole::Admin);
            if self.request.len() > if is_admin { REQUEST_MAX } else { SHORT_MAX } {
                return Err(ErrorKind::InvalidData.into());
            }
            while let Some(line) = self.line() {
                match serde_json::from_slice(&line) {
                    Ok(Request::Session { token }) => self.session = Some(token),
                    Ok(request) => return Ok(Some(Ok(request))),
                    Err(error) => return Ok(Some(Err(format!("not a request that this ravend knows: {error}")))),
                }
            }
        }
    }

    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.request.iter().position(|&b| b == b'\n')?;
        let rest = self.request.split_off(end + 1);
        Some(std::mem::replace(&mut self.request, rest))
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
