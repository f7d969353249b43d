//! What systemd does for a service with a descriptor store: takes notifications, keeps descriptors
//! (`sd_pid_notify_with_fds(3)`), and hands them to the next process (`sd_listen_fds(3)`).

use command_fds::{CommandFdExt, FdMapping};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Descriptors by name, in the order in which they came; systemd allows a name many times.
type Kept = Arc<Mutex<Vec<(String, OwnedFd)>>>;

/// The store of one service.
pub struct FdStore {
    kept: Kept,
    socket: PathBuf,
}

impl FdStore {
    /// Takes notifications at `socket`, a path that is not there yet.
    pub fn listen(socket: &Path) -> Self {
        let listening = UnixDatagram::bind(socket).unwrap();
        let kept = Kept::default();
        std::thread::spawn({
            let kept = Arc::clone(&kept);
            move || while note(&listening, &kept) {}
        });
        Self { kept, socket: socket.to_owned() }
    }

    /// Names of the descriptors that are kept.
    pub fn names(&self) -> Vec<String> {
        self.kept.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }

    /// The service `of`, with all that is kept. By a shell of one line, because `LISTEN_PID` must be the number of the
    /// process that becomes the service.
    pub fn command(&self, of: &Command) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"]).arg(of.get_program()).args(of.get_args());
        command.env("NOTIFY_SOCKET", &self.socket);
        let kept = self.kept.lock().unwrap();
        if !kept.is_empty() {
            let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
            command.env("LISTEN_FDS", kept.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
            let fds = kept
                .iter()
                .zip(3..)
                .map(|((_, fd), number)| FdMapping { parent_fd: fd.try_clone().unwrap(), child_fd: number });
            command.fd_mappings(fds.collect()).unwrap();
        }
        command
    }
}

/// One notification; false when there will be none any more.
fn note(socket: &UnixDatagram, kept: &Kept) -> bool {
    let mut text = vec![0; 65_536];
    let mut space = [MaybeUninit::uninit(); 8_192];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let Ok(message) = recvmsg(socket, &mut [IoSliceMut::new(&mut text)], &mut beside, RecvFlags::CMSG_CLOEXEC) else {
        return false;
    };
    let fds: Vec<OwnedFd> = beside
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    apply(&String::from_utf8_lossy(&text[..message.bytes]), fds, &mut kept.lock().unwrap());
    true
}

fn apply(text: &str, fds: Vec<OwnedFd>, kept: &mut Vec<(String, OwnedFd)>) {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let name = value("FDNAME").unwrap_or("stored");
    if value("FDSTOREREMOVE") == Some("1") {
        kept.retain(|(kept, _)| kept != name);
    }
    if value("FDSTORE") == Some("1") {
        kept.extend(fds.into_iter().map(|fd| (name.to_owned(), fd)));
    }
}
