//! Packets and descriptors between processes.
//!
//! A [`Channel`] is one end of a `SOCK_SEQPACKET` pair: a packet arrives whole or not at all. [`send_line`] and
//! [`recv`] serve stream sockets (the control socket) in the same way.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Most descriptors in one packet.
pub const FDS_MAX: usize = 64;

/// Bytes of control data that hold [`FDS_MAX`] descriptors, in 8-byte words so that it is aligned as the kernel wants.
const CONTROL_WORDS: usize = 2 + FDS_MAX * size_of::<RawFd>() / 8 + 1;

/// A packet could not be sent or read.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket.
    #[error("control channel: {0}")]
    Io(#[from] io::Error),
    /// The text of the packet.
    #[error("control channel: a packet of {bytes} bytes is not what was expected: {error}")]
    Json {
        /// Its length.
        bytes: usize,
        /// Why.
        error: serde_json::Error,
    },
}

/// One end of a pair of connected `SOCK_SEQPACKET` sockets.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Two connected ends, closed on exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = socket_pair(libc::SOCK_SEQPACKET)?;
        Ok((Self(a), Self(b)))
    }

    /// An end that was inherited or received.
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The descriptor that `ravend` left at number `fd` for this process; call once per number.
    ///
    /// # Errors
    /// `fd` is not open.
    pub fn inherited(fd: RawFd) -> io::Result<Self> {
        inherited(fd).map(Self)
    }

    /// Sends one packet. Without descriptors this is `write`, so that a role without `sendmsg` can call it.
    ///
    /// # Errors
    /// `WouldBlock` when the peer is behind and the channel is non-blocking; `BrokenPipe` when it is gone;
    /// `InvalidInput` for an empty packet, which a peer could not tell from the end.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd]) -> io::Result<()> {
        if bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty packet"));
        }
        let sent = if fds.is_empty() { write(self.as_fd(), bytes)? } else { send_with(self.as_fd(), bytes, fds, 0)? };
        if sent == bytes.len() { Ok(()) } else { Err(io::Error::new(io::ErrorKind::WriteZero, "a packet was cut")) }
    }

    /// As [`send`](Self::send), but never waits.
    ///
    /// # Errors
    /// `WouldBlock` when the peer is behind. Needs `sendmsg`.
    pub fn try_send(&self, bytes: &[u8], fds: &[BorrowedFd]) -> io::Result<()> {
        if bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty packet"));
        }
        send_with(self.as_fd(), bytes, fds, libc::MSG_DONTWAIT).map(drop)
    }

    /// Waits for one packet, puts its bytes in `buf` and adds its descriptors (close-on-exec) to `fds`. Returns its
    /// length; 0 when the peer is gone.
    ///
    /// # Errors
    /// `InvalidData` when the packet did not fit; its descriptors are closed.
    pub fn recv(&self, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        recv(self.as_fd(), buf, fds, 0)
    }

    /// As [`recv`](Self::recv), but never waits.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there.
    pub fn try_recv(&self, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
        recv(self.as_fd(), buf, fds, libc::MSG_DONTWAIT)
    }

    /// Sends `message` as JSON.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_json<T: Serialize + ?Sized>(&self, message: &T, fds: &[BorrowedFd]) -> Result<(), ChannelError> {
        Ok(self.send(&to_json(message)?, fds)?)
    }

    /// Sends `message` as JSON; never waits.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn try_send_json<T: Serialize + ?Sized>(&self, message: &T, fds: &[BorrowedFd]) -> Result<(), ChannelError> {
        Ok(self.try_send(&to_json(message)?, fds)?)
    }

    /// Waits for a JSON packet of at most `buf.len()` bytes; `None` when the peer is gone.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), or the packet is not a `T`; its descriptors are closed then.
    pub fn recv_json<T: DeserializeOwned>(&self, buf: &mut [u8]) -> Result<Option<(T, Vec<OwnedFd>)>, ChannelError> {
        let mut fds = Vec::new();
        let len = self.recv(buf, &mut fds)?;
        from_json(&buf[..len], fds)
    }

    /// As [`recv_json`](Self::recv_json), but never waits.
    ///
    /// # Errors
    /// `WouldBlock` inside [`ChannelError::Io`] when nothing is there.
    pub fn try_recv_json<T: DeserializeOwned>(
        &self,
        buf: &mut [u8],
    ) -> Result<Option<(T, Vec<OwnedFd>)>, ChannelError> {
        let mut fds = Vec::new();
        let len = self.try_recv(buf, &mut fds)?;
        from_json(&buf[..len], fds)
    }

    /// Largest packet and queue that the socket takes towards the peer, bytes. The kernel doubles it for its own
    /// needs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        crate::socket::set_option(
            self.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUF,
            libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX),
        )
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

/// Two connected stream sockets (`AF_UNIX`), closed on exec.
///
/// # Errors
/// The kernel's: no descriptors left.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    socket_pair(libc::SOCK_STREAM)
}

/// Takes over descriptor number `fd`, which the parent left open for this process; call once per number.
///
/// # Errors
/// `fd` is not open.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_SETFD reads no memory.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: open, as just seen; the caller promises that nobody else here owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends all of `line` over a stream socket, the descriptors with its first byte.
///
/// # Errors
/// `BrokenPipe` when the peer is gone.
pub fn send_line(socket: BorrowedFd, line: &[u8], fds: &[BorrowedFd]) -> io::Result<()> {
    let mut sent = send_with(socket, line, fds, 0)?;
    while sent < line.len() {
        sent += send_with(socket, &line[sent..], &[], 0)?;
    }
    Ok(())
}

/// Sends what fits now of `bytes` over a stream socket, the descriptors with the first byte. Returns how many went.
///
/// # Errors
/// `WouldBlock` when nothing fits; `BrokenPipe` when the peer is gone.
pub fn try_send(socket: BorrowedFd, bytes: &[u8], fds: &[BorrowedFd]) -> io::Result<usize> {
    if fds.is_empty() {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the kernel reads `bytes.len()` bytes of `bytes`.
        return retry(|| unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) });
    }
    send_with(socket, bytes, fds, libc::MSG_DONTWAIT)
}

/// Reads what is there: one packet, or some bytes of a stream. Descriptors are added to `fds`. `flags` may hold
/// `MSG_DONTWAIT`. Returns 0 when the peer is gone.
///
/// # Errors
/// `InvalidData` when a packet or its descriptors did not fit (they are closed then).
pub fn recv(socket: BorrowedFd, buf: &mut [u8], fds: &mut Vec<OwnedFd>, flags: libc::c_int) -> io::Result<usize> {
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let mut message = header(&mut part);
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let len = retry(|| {
        // SAFETY: all that `message` points to lives until the end of this function.
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags | libc::MSG_CMSG_CLOEXEC) }
    })?;
    let received = received_fds(&message);
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a packet is longer than {} bytes or has over {FDS_MAX} descriptors", buf.len()),
        ));
    }
    fds.extend(received);
    Ok(len)
}

/// Takes what descriptors the kernel put into the control data of `message`.
fn received_fds(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel filled the control data; the CMSG functions stay inside msg_controllen.
    let mut head = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !head.is_null() {
        // SAFETY: not null, so a whole header inside the control data, which is aligned for it.
        let (level, kind, len) = unsafe { ((*head).cmsg_level, (*head).cmsg_type, (*head).cmsg_len as usize) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: reads no memory.
            let bytes = len - unsafe { libc::CMSG_LEN(0) } as usize;
            for index in 0..bytes / size_of::<RawFd>() {
                // SAFETY: the data of this header holds `bytes` bytes of descriptors, all new and ours.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd_place(head, index).read_unaligned()) });
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        head = unsafe { libc::CMSG_NXTHDR(message, head) };
    }
    fds
}

/// Where descriptor `index` lies behind `head`; read and write it unaligned.
///
/// # Safety
/// `head` is a header inside control data with room for it.
#[allow(clippy::cast_ptr_alignment)] // callers read and write unaligned
unsafe fn fd_place(head: *const libc::cmsghdr, index: usize) -> *mut RawFd {
    // SAFETY: inside the control data, as the caller says.
    unsafe { libc::CMSG_DATA(head).cast::<RawFd>().add(index) }
}

fn send_with(socket: BorrowedFd, bytes: &[u8], fds: &[BorrowedFd], flags: libc::c_int) -> io::Result<usize> {
    if fds.len() > FDS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("over {FDS_MAX} descriptors in one packet")));
    }
    let mut control = [0_u64; CONTROL_WORDS];
    // sendmsg does not write to the bytes; iovec has no const twin.
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut message = header(&mut part);
    if !fds.is_empty() {
        message.msg_control = control.as_mut_ptr().cast();
        put_fds(&mut message, fds);
    }
    retry(|| {
        // SAFETY: all that `message` points to lives until the end of this function.
        unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags | libc::MSG_NOSIGNAL) }
    })
}

/// Writes one `SCM_RIGHTS` header into the control data of `message`, which holds [`CONTROL_WORDS`] words.
fn put_fds(message: &mut libc::msghdr, fds: &[BorrowedFd]) {
    let bytes = size_of_val(fds) as libc::c_uint;
    // SAFETY: CMSG_SPACE of FDS_MAX descriptors fits into CONTROL_WORDS; callers bound the number of `fds`.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(bytes) as _;
        let head = libc::CMSG_FIRSTHDR(message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(bytes) as _;
        for (index, fd) in fds.iter().enumerate() {
            fd_place(head, index).write_unaligned(fd.as_raw_fd());
        }
    }
}

fn header(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all zeroes is a valid msghdr: no address, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = ptr::from_mut(part);
    message.msg_iovlen = 1;
    message
}

fn write(socket: BorrowedFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel reads `bytes.len()` bytes of `bytes`.
    retry(|| unsafe { libc::write(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
}

fn socket_pair(kind: libc::c_int) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: the kernel writes two numbers.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) })?;
    // SAFETY: two new descriptors that nobody else owns.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

fn to_json<T: Serialize + ?Sized>(message: &T) -> Result<Vec<u8>, ChannelError> {
    serde_json::to_vec(message).map_err(|error| ChannelError::Json { bytes: 0, error })
}

fn from_json<T: DeserializeOwned>(bytes: &[u8], fds: Vec<OwnedFd>) -> Result<Option<(T, Vec<OwnedFd>)>, ChannelError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let message = serde_json::from_slice(bytes).map_err(|error| ChannelError::Json { bytes: bytes.len(), error })?;
    Ok(Some((message, fds)))
}

/// Repeats a call that a signal interrupted.
pub(crate) fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(n) => return Ok(n),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// -1 means errno.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};

    #[test]
    fn a_descriptor_arrives_with_its_packet_and_closes_on_exec() {
        let (a, b) = Channel::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        a.send_json("take this", &[writer.as_fd()]).unwrap();
        drop(writer);
        let (text, mut fds) = b.recv_json::<String>(&mut [0; 100]).unwrap().unwrap();
        assert_eq!((text.as_str(), fds.len()), ("take this", 1));
        // SAFETY: reads no memory.
        assert_eq!(unsafe { libc::fcntl(fds[0].as_raw_fd(), libc::F_GETFD) }, libc::FD_CLOEXEC);
        File::from(fds.remove(0)).write_all(b"hello").unwrap();
        let mut heard = String::new();
        reader.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello");
    }

    #[test]
    fn a_packet_that_does_not_fit_is_an_error_and_its_descriptors_are_closed() {
        let (a, b) = Channel::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        a.send(&[1; 101], &[writer.as_fd()]).unwrap();
        drop(writer);
        let mut fds = Vec::new();
        assert_eq!(b.recv(&mut [0; 100], &mut fds).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(fds.is_empty());
        // The end of the pipe: nobody holds its writer any more.
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn as_many_descriptors_as_allowed_arrive_and_one_more_is_refused() {
        let (a, b) = Channel::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        a.send(b"x", &[null.as_fd(); FDS_MAX]).unwrap();
        let mut fds = Vec::new();
        assert_eq!(b.recv(&mut [0; 10], &mut fds).unwrap(), 1);
        assert_eq!(fds.len(), FDS_MAX);
        assert_eq!(a.send(b"x", &[null.as_fd(); FDS_MAX + 1]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn packets_keep_their_borders_and_the_end_is_seen() {
        let (a, b) = Channel::pair().unwrap();
        a.send(b"one", &[]).unwrap();
        a.send(b"two", &[]).unwrap();
        assert_eq!(a.send(b"", &[]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        drop(a);
        let (mut buf, mut fds) = ([0; 100], Vec::new());
        assert_eq!(b.recv(&mut buf, &mut fds).unwrap(), 3);
        assert_eq!(b.try_recv(&mut buf, &mut fds).unwrap(), 3);
        assert_eq!(&buf[..3], b"two");
        assert_eq!(b.recv(&mut buf, &mut fds).unwrap(), 0);
        assert_eq!(b.send(b"anyone?", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_peer_that_does_not_read_holds_nobody_up() {
        let (a, b) = Channel::pair().unwrap();
        assert_eq!(b.try_recv(&mut [0; 10], &mut Vec::new()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let full = (0..100_000).find_map(|_| a.try_send(&[0; 1000], &[]).err()).unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_largest_control_packet_passes() {
        let (a, b) = Channel::pair().unwrap();
        let packet = vec![7; raven_model::control::PACKET_MAX];
        a.try_send(&packet, &[]).unwrap();
        let mut buf = vec![0; packet.len()];
        assert_eq!(b.recv(&mut buf, &mut Vec::new()).unwrap(), packet.len());
        assert_eq!(buf, packet);
    }

    #[test]
    fn a_packet_that_is_not_what_was_expected_is_an_error() {
        let (a, b) = Channel::pair().unwrap();
        a.send(b"{\"half\":", &[]).unwrap();
        assert!(matches!(b.recv_json::<String>(&mut [0; 100]), Err(ChannelError::Json { bytes: 8, .. })));
    }

    #[test]
    fn a_line_and_a_descriptor_pass_over_a_stream() {
        let (a, b) = stream_pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        send_line(a.as_fd(), b"\"query\"\n", &[null.as_fd()]).unwrap();
        let (mut buf, mut fds) = ([0; 100], Vec::new());
        let len = recv(b.as_fd(), &mut buf, &mut fds, 0).unwrap();
        assert_eq!((&buf[..len], fds.len()), (&b"\"query\"\n"[..], 1));
    }
}
