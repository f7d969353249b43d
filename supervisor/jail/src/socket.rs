//! Sockets that `ravend` binds, and what the kernel knows about them.

use crate::channel::check;
use raven_model::report::KernelUdp;
use std::fs;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `sizeof(struct sock meminfo)` in words, and the place of the drop counter (`SK_MEMINFO_DROPS`).
const MEMINFO_WORDS: usize = 9;
const MEMINFO_DROPS: usize = 8;

/// A bound UDP socket: non-blocking, closed on exec, with receive stamps (`SO_TIMESTAMPNS`) and the drop counter
/// (`SO_RXQ_OVFL`) on each datagram. `receive_buffer` in bytes is asked for beyond `net.core.rmem_max` where
/// `CAP_NET_ADMIN` allows. Returns the socket and the buffer in force as the kernel counts it (twice the payload).
///
/// `[::]` takes IPv4 too; where the machine has no IPv6 it is bound as `0.0.0.0`.
///
/// # Errors
/// The kernel's: address in use, port below 1024 without the right to it.
pub fn udp(addr: SocketAddr, receive_buffer: usize) -> io::Result<(OwnedFd, usize)> {
    let socket = bound(addr, libc::SOCK_DGRAM)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    let wanted = libc::c_int::try_from(receive_buffer).unwrap_or(libc::c_int::MAX);
    if set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, wanted).is_err() {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, wanted)?;
    }
    let effective = rcvbuf(socket.as_fd())?;
    Ok((socket, effective))
}

/// A listening TCP socket: non-blocking, closed on exec. `[::]` as for [`udp`].
///
/// # Errors
/// As for [`udp`].
pub fn tcp_listen(addr: SocketAddr, backlog: u16) -> io::Result<OwnedFd> {
    let socket = bound(addr, libc::SOCK_STREAM)?;
    // SAFETY: reads no memory.
    check(unsafe { libc::listen(socket.as_raw_fd(), libc::c_int::from(backlog)) })?;
    Ok(socket)
}

/// Bytes written to a TCP connection that the far end's kernel has not acknowledged (`SIOCOUTQ`, tcp(7)).
///
/// # Errors
/// The kernel's.
pub fn unacknowledged(connection: BorrowedFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int. TIOCOUTQ and SIOCOUTQ are the same number.
    check(unsafe { libc::ioctl(connection.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or_default())
}

/// What the kernel knows of a TCP connection, as far as anybody here wants to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Segments that were sent again since it began.
    pub retransmits: u32,
    /// Smoothed round-trip time, microseconds.
    pub rtt_us: u32,
    /// Its mean deviation, microseconds.
    pub rtt_var_us: u32,
    /// Congestion window, bytes.
    pub window: u64,
    /// Path MTU, bytes.
    pub path_mtu: u32,
}

/// State of a TCP connection (`TCP_INFO`, tcp(7)).
///
/// # Errors
/// Not a TCP socket.
pub fn tcp_info(connection: BorrowedFd) -> io::Result<TcpInfo> {
    // SAFETY: all zeroes is a valid tcp_info: it is made of numbers.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `info`.
    check(unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    })?;
    let window = u64::from(info.tcpi_snd_cwnd) * u64::from(info.tcpi_snd_mss);
    Ok(TcpInfo {
        retransmits: info.tcpi_total_retrans,
        rtt_us: info.tcpi_rtt,
        rtt_var_us: info.tcpi_rttvar,
        window,
        path_mtu: info.tcpi_pmtu,
    })
}

/// The next connection, non-blocking, without delay (an answer of a few bytes would otherwise wait up to 40 ms for the
/// acknowledgement of the one before it) and closed on exec, and its peer (IPv4 as IPv4, also on a dual-stack socket).
///
/// # Errors
/// `WouldBlock` when there is none; `ConnectionAborted` and the like concern only that connection.
pub fn accept(listener: BorrowedFd) -> io::Result<(OwnedFd, SocketAddr)> {
    // SAFETY: all zeroes is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut len = size_of_val(&storage) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `storage`.
    let fd = check(unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            (&raw mut storage).cast(),
            &raw mut len,
            libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
        )
    })?;
    // SAFETY: a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // One that was reset already refuses this; reading tells.
    let _ = set_option(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
    let peer = from_storage(&storage)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a peer that is neither IPv4 nor IPv6"))?;
    Ok((socket, peer))
}

/// The address that `socket` is bound to.
///
/// # Errors
/// Not an IPv4 or IPv6 socket.
pub fn local_addr(socket: BorrowedFd) -> io::Result<SocketAddr> {
    // SAFETY: all zeroes is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut len = size_of_val(&storage) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `storage`.
    check(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut storage).cast(), &raw mut len) })?;
    from_storage(&storage).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "neither IPv4 nor IPv6"))
}

/// The address at the other end of a connection (IPv4 as IPv4).
///
/// # Errors
/// Not connected any more.
pub fn peer_addr(socket: BorrowedFd) -> io::Result<SocketAddr> {
    // SAFETY: all zeroes is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut len = size_of_val(&storage) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `storage`.
    check(unsafe { libc::getpeername(socket.as_raw_fd(), (&raw mut storage).cast(), &raw mut len) })?;
    from_storage(&storage).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "neither IPv4 nor IPv6"))
}

/// Sends one datagram from a UDP socket without waiting. An IPv4 peer is reached from a dual-stack socket too.
///
/// # Errors
/// `WouldBlock` when the socket has no room; else the kernel's: no route, not a UDP socket.
pub fn send_to(socket: BorrowedFd, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    // Linux takes an IPv4 address on a dual-stack socket as well. Where a kernel does not, the mapped one is asked for:
    // which family the socket has is not known here, and a jailed worker cannot ask.
    match (send_once(socket, bytes, to), to) {
        (Err(error), SocketAddr::V4(v4)) if is_of_the_family(&error) => {
            let mapped = SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0);
            send_once(socket, bytes, mapped.into()).map_err(|_| error)
        }
        (sent, _) => sent,
    }
}

fn is_of_the_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EINVAL | libc::ENETUNREACH))
}

fn send_once(socket: BorrowedFd, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    let (storage, len) = to_storage(to);
    // SAFETY: the kernel reads `bytes` and `len` bytes of `storage`.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            (&raw const storage).cast(),
            len,
        )
    };
    // A datagram goes out whole or not at all.
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Datagrams that the kernel dropped at this socket since it was made (32 bits, wraps).
///
/// # Errors
/// Kernels before 4.12.
pub fn drops(socket: BorrowedFd) -> io::Result<u64> {
    let mut words = [0_u32; MEMINFO_WORDS];
    let mut len = size_of_val(&words) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `words`.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    Ok(u64::from(words[MEMINFO_DROPS]))
}

/// Receive buffer in force, bytes, as the kernel counts it.
///
/// # Errors
/// The kernel's.
pub fn rcvbuf(socket: BorrowedFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    let mut len = size_of_val(&bytes) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `bytes`.
    check(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, (&raw mut bytes).cast(), &raw mut len)
    })?;
    Ok(bytes as usize)
}

/// UDP counters of this network namespace since boot; what the kernel does not show counts as 0.
pub fn kernel_udp() -> KernelUdp {
    let v4 = fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
    sum_udp(&v4, &v6)
}

fn sum_udp(snmp: &str, snmp6: &str) -> KernelUdp {
    let both = |name: &str| snmp_value(snmp, "Udp:", name) + snmp6_value(snmp6, &format!("Udp6{name}"));
    KernelUdp {
        rcvbuf_errors: both("RcvbufErrors"),
        mem_errors: both("MemErrors"),
        in_errors: both("InErrors"),
        csum_errors: both("InCsumErrors"),
    }
}

/// `/proc/net/snmp` has per protocol a line of names and a line of values, each behind the same label.
fn snmp_value(text: &str, label: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(label));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(n, _)| *n == name)
        .and_then(|(_, v)| v.parse().ok())
        .unwrap_or(0)
}

/// `/proc/net/snmp6` has a name and a value per line.
fn snmp6_value(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .find(|(n, _)| *n == name)
        .and_then(|(_, v)| v.trim().parse().ok())
        .unwrap_or(0)
}

fn bound(addr: SocketAddr, kind: libc::c_int) -> io::Result<OwnedFd> {
    match bound_exactly(addr, kind) {
        Err(error) if addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && no_ipv6(&error) => {
            bound_exactly(SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port())), kind)
        }
        result => result,
    }
}

/// Not built in, switched off at boot, or switched off by sysctl.
fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bound_exactly(addr: SocketAddr, kind: libc::c_int) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: reads no memory.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) })?;
    // SAFETY: a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    if kind == libc::SOCK_STREAM {
        // Not for UDP: there it would let a second process take over the port.
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    }
    if addr.is_ipv6() {
        // Only `[::]` means both; a specific IPv6 address never takes IPv4.
        let only = libc::c_int::from(addr.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        set_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, only)?;
    }
    let (storage, len) = to_storage(addr);
    // SAFETY: the kernel reads `len` bytes of `storage`.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const storage).cast(), len) })?;
    Ok(socket)
}

fn to_storage(addr: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeroes is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let len = match addr {
        SocketAddr::V4(v4) => {
            // SAFETY: all zeroes is a valid sockaddr_in.
            let mut raw: libc::sockaddr_in = unsafe { mem::zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            // SAFETY: sockaddr_storage is as large and aligned as any address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(raw) };
            size_of_val(&raw)
        }
        SocketAddr::V6(v6) => {
            // SAFETY: all zeroes is a valid sockaddr_in6.
            let mut raw: libc::sockaddr_in6 = unsafe { mem::zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            // SAFETY: sockaddr_storage is as large and aligned as any address.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(raw) };
            size_of_val(&raw)
        }
    };
    (storage, len as libc::socklen_t)
}

/// The address in `storage`; an IPv4 address inside IPv6 comes out as IPv4.
pub fn from_storage(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in.
            let raw = unsafe { (&raw const *storage).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(raw.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is a sockaddr_in6.
            let raw = unsafe { (&raw const *storage).cast::<libc::sockaddr_in6>().read() };
            let (ip, port) = (Ipv6Addr::from(raw.sin6_addr.s6_addr), u16::from_be(raw.sin6_port));
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddrV4::new(v4, port).into(),
                None => SocketAddrV6::new(ip, port, 0, raw.sin6_scope_id).into(),
            })
        }
        _ => None,
    }
}

/// Sets an option whose value is an int.
///
/// # Errors
/// The kernel's.
pub fn set_option(socket: BorrowedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads one int.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Who is at the other end of a Unix socket, as of when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Process.
    pub pid: u32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Peer {
    /// Of a connected Unix socket.
    ///
    /// # Errors
    /// Not a Unix socket.
    pub fn of(socket: BorrowedFd) -> io::Result<Self> {
        let mut raw = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut len = size_of_val(&raw) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `raw`.
        check(unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut raw).cast(),
                &raw mut len,
            )
        })?;
        Ok(Self { pid: raw.pid as u32, uid: raw.uid, gid: raw.gid, groups: peer_groups(socket)? })
    }

    /// Whether `gid` is its group or one of its supplementary groups.
    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

fn peer_groups(socket: BorrowedFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut len = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `groups`.
        let result = check(unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        });
        let count = len as usize / size_of::<u32>();
        match result {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            // The kernel has put the size that it needs into `len`.
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && count > groups.len() => groups.resize(count, 0),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{TcpStream, UdpSocket};
    use std::thread;
    use std::time::{Duration, Instant};

    /// Repeats `attempt` until it yields something, for 5 s at most.
    fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(value) = attempt() {
                return value;
            }
            assert!(Instant::now() < end, "nothing came of it in 5 s");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_dual_stack_socket_hears_ipv4_and_names_the_peer_as_ipv4() {
        let listener = tcp_listen("[::]:0".parse().unwrap(), 8).unwrap();
        let port = local_addr(listener.as_fd()).unwrap().port();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (_, peer) = eventually(|| accept(listener.as_fd()).ok());
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(peer.is_ipv4());
    }

    #[test]
    fn what_a_full_socket_drops_is_counted() {
        let (socket, effective) = udp("127.0.0.1:0".parse().unwrap(), 4096).unwrap();
        assert!(effective >= 4096, "{effective}");
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..200 {
            sender.send_to(&[0; 1000], local_addr(socket.as_fd()).unwrap()).unwrap();
        }
        assert!(drops(socket.as_fd()).unwrap() > 100);
    }

    #[test]
    fn an_answer_reaches_its_peer_from_sockets_of_each_kind() {
        for (bound, peer) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::]:0", "127.0.0.1:0"), ("[::]:0", "[::1]:0")] {
            let (socket, _) = udp(bound.parse().unwrap(), 4096).unwrap();
            let Ok(peer) = UdpSocket::bind(peer) else { continue };
            peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            send_to(socket.as_fd(), b"answer", peer.local_addr().unwrap()).unwrap();
            let mut buffer = [0; 16];
            let (n, from) = peer.recv_from(&mut buffer).unwrap();
            let port = local_addr(socket.as_fd()).unwrap().port();
            assert_eq!((&buffer[..n], from.port()), (&b"answer"[..], port), "{bound}");
        }
    }

    #[test]
    fn a_connection_tells_its_state_and_other_sockets_have_none() {
        let listener = tcp_listen("127.0.0.1:0".parse().unwrap(), 8).unwrap();
        let client = TcpStream::connect(local_addr(listener.as_fd()).unwrap()).unwrap();
        let info = tcp_info(client.as_fd()).unwrap();
        assert!(info.retransmits == 0 && info.rtt_us > 0 && info.window > 1000, "{info:?}");
        assert!(info.rtt_var_us > 0 && (1280..=65_536).contains(&info.path_mtu), "{info:?}");
        assert!(tcp_info(UdpSocket::bind("127.0.0.1:0").unwrap().as_fd()).is_err());
    }

    #[test]
    fn what_cannot_be_sent_is_an_error() {
        let (socket, _) = udp("127.0.0.1:0".parse().unwrap(), 4096).unwrap();
        assert!(send_to(socket.as_fd(), b"to nobody", "[::1]:9".parse().unwrap()).is_err());
        assert!(send_to(socket.as_fd(), &vec![0; 70_000], "127.0.0.1:9".parse().unwrap()).is_err());
    }

    #[test]
    fn a_second_socket_on_the_same_udp_port_is_refused() {
        let (first, _) = udp("127.0.0.1:0".parse().unwrap(), 4096).unwrap();
        let error = udp(local_addr(first.as_fd()).unwrap(), 4096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn kernel_counters_of_both_families_are_added_whatever_the_column_order() {
        let snmp = "Ip: A B\nIp: 1 2\nUdp: MemErrors InErrors RcvbufErrors InCsumErrors\nUdp: 1 20 300 4000\nUdpLite: MemErrors\nUdpLite: 9\n";
        let snmp6 = "Ip6InReceives  7\nUdp6InErrors \t 10\nUdp6RcvbufErrors 5\n";
        let sum = sum_udp(snmp, snmp6);
        assert_eq!((sum.mem_errors, sum.in_errors, sum.rcvbuf_errors, sum.csum_errors), (1, 30, 305, 4000));
        assert_eq!(sum_udp("", "nonsense"), KernelUdp::default());
    }

    #[test]
    fn a_peer_is_who_it_is() {
        let (a, _b) = crate::channel::stream_pair().unwrap();
        let peer = Peer::of(a.as_fd()).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!((peer.uid, peer.gid), (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
        assert!(peer.in_group(peer.gid));
    }
}
