//! Sockets that probe without any capability: ICMP echo by datagrams (icmp(7), where net.ipv4.ping_group_range lets the role) and
//! UDP. What routers say comes back on the socket's error queue (IP_RECVERR, ip(7)), with the packet that it is of.

use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv4RecvTtl, Ipv6RecvErr, Ipv6RecvHopLimit, ReceiveTimestampns};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use raven_model::diag::{Family, Way};
use raven_model::icmp;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

/// Longest that is read.
const READ_MAX: usize = 65_535;
/// How `IP_MTU_DISCOVER` is set: routers may fragment; they may not, and neither may the kernel, whatever it knows of the way.
const FRAGMENT: i32 = 0;
const WHOLE: i32 = 3;
/// `SO_EE_ORIGIN_LOCAL`, linux/errqueue.h.
const LOCAL: u8 = 1;
/// So many errors of packets before may lie there, of which each costs a call that sends nothing: liars may send many.
const PENDING: usize = 4;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ICMP echo requests.
    Echo,
    /// Datagrams.
    Udp,
}

/// A socket of one family.
#[derive(Debug)]
pub struct Probe {
    socket: Socket,
    family: Family,
    kind: Kind,
    buffer: Vec<u8>,
    /// What the kernel says beside a message.
    control: Vec<u8>,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard<'a> {
    /// From whom; unknown for what this box says itself.
    pub from: Option<IpAddr>,
    /// Its port; 0 of ICMP.
    pub port: u16,
    /// When the kernel got it.
    pub at: Instant,
    /// Time to live that was left of it.
    pub ttl: Option<u8>,
    /// What it is.
    pub what: What,
    /// Sequence of an ICMP header.
    pub sequence: Option<u16>,
    /// What was behind the header: of the answer, or of the packet that an error is of.
    pub payload: &'a [u8],
}

/// What was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An answer of the target.
    Reply,
    /// An ICMP error of this type and code.
    Icmp {
        /// As on the wire: 3 or 1, "destination unreachable", …
        kind: u8,
        /// As on the wire.
        code: u8,
        /// What would fit, where it is "packet too big".
        mtu: Option<u32>,
    },
    /// This box cannot send it.
    Local {
        /// `errno`.
        errno: i32,
        /// What would fit, where that is why.
        mtu: Option<u32>,
    },
}

impl Probe {
    /// Leaves as `way` says.
    ///
    /// # Errors
    /// `PermissionDenied`: the group may not ping. `NoSuchDevice`-like ones: there is no such interface or address.
    pub fn open(kind: Kind, family: Family, way: &Way) -> io::Result<Self> {
        Self::open_at(kind, family, way, 0)
    }

    /// The same, from this port; 0: any.
    ///
    /// # Errors
    /// As of [`open`](Self::open). `AddrInUse`: somebody else has the port.
    pub fn open_at(kind: Kind, family: Family, way: &Way, port: u16) -> io::Result<Self> {
        let (domain, icmp) = match family {
            Family::Ipv4 => (Domain::IPV4, Protocol::ICMPV4),
            Family::Ipv6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let protocol = if kind == Kind::Echo { icmp } else { Protocol::UDP };
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
        socket.set_nonblocking(true)?;
        // A test of thousands of targets gets their answers at once.
        let _ = socket.set_recv_buffer_size(4 << 20);
        if let Some(interface) = &way.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        socket.bind(&SockAddr::from(SocketAddr::new(way.source.unwrap_or(any(family)), port)))?;
        hear_errors(&socket, family)?;
        match family {
            Family::Ipv4 => setsockopt(&socket, Ipv4RecvTtl, &true)?,
            Family::Ipv6 => setsockopt(&socket, Ipv6RecvHopLimit, &true)?,
        }
        Ok(Self { socket, family, kind, buffer: vec![0; READ_MAX], control: nix::cmsg_space!(TimeSpec, [u8; 128]) })
    }

    /// Datagrams go to this one alone, and errors are of those alone.
    pub fn connect(&self, to: SocketAddr) -> io::Result<()> {
        self.socket.connect(&to.into())
    }

    /// Differentiated Services Code Point of what is sent.
    pub fn set_dscp(&self, dscp: u8) -> io::Result<()> {
        let class = u32::from(dscp) << 2;
        match self.family {
            Family::Ipv4 => self.socket.set_tos_v4(class),
            Family::Ipv6 => self.socket.set_tclass_v6(class),
        }
    }

    /// Time to live (hop limit) of what is sent.
    pub fn set_hops(&self, hops: u8) -> io::Result<()> {
        set_hops(&self.socket, self.family, hops)
    }

    /// Whether nobody may fragment what is sent, this box neither.
    pub fn set_whole(&self, whole: bool) -> io::Result<()> {
        use nix::libc;
        let mode = if whole { WHOLE } else { FRAGMENT };
        let (level, option) = match self.family {
            Family::Ipv4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
            Family::Ipv6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
        };
        raven_jail::socket::set_option(self.socket.as_fd(), level, option, mode)
    }

    /// Sends one: `to` where it is not connected. Errors that lie there from packets before are told once each and are none
    /// of this one.
    pub fn send(&self, to: Option<SocketAddr>, sequence: u16, payload: &[u8]) -> io::Result<()> {
        let header = icmp::request(self.family, sequence);
        // Nothing is put together: the kernel takes both from where they are.
        let parts = [IoSlice::new(if self.kind == Kind::Echo { &header } else { &[] }), IoSlice::new(payload)];
        let to = to.map(SockAddr::from);
        let send = || match &to {
            Some(to) => self.socket.send_to_vectored(&parts, to),
            None => self.socket.send_vectored(&parts),
        };
        let mut sent = send();
        for _ in 0..PENDING {
            if sent.is_ok() {
                break;
            }
            sent = send();
        }
        sent.map(drop)
    }

    /// The next answer, or what a router said; nothing when there is none.
    pub fn hear(&mut self) -> io::Result<Option<Heard<'_>>> {
        let Self { socket, family, kind, buffer, control } = self;
        // Answers first: there are more of them, and each costs one call so.
        for flags in [MsgFlags::empty(), MsgFlags::MSG_ERRQUEUE] {
            match read(socket.as_fd(), buffer, control, flags | MsgFlags::MSG_DONTWAIT) {
                Ok(got) => return Ok(Some(got.of(*family, *kind, buffer))),
                Err(Errno::EAGAIN) => {}
                // Told of on the error queue, too.
                Err(_) if flags.is_empty() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

impl AsFd for Probe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A message as the kernel gave it.
struct Got {
    len: usize,
    from: Option<SocketAddr>,
    stamp: Option<Duration>,
    ttl: Option<u8>,
    error: Option<(Told, Option<IpAddr>)>,
}

/// What the kernel tells of an error (`struct sock_extended_err`, ip(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// This box, ICMP or ICMPv6.
    pub origin: u8,
    /// Type of ICMP.
    pub kind: u8,
    /// Code of ICMP.
    pub code: u8,
    /// `errno`.
    pub errno: u32,
    /// What would fit, where it is about that.
    pub info: u32,
}

impl From<nix::libc::sock_extended_err> for Told {
    fn from(error: nix::libc::sock_extended_err) -> Self {
        let (origin, kind, code) = (error.ee_origin, error.ee_type, error.ee_code);
        Self { origin, kind, code, errno: error.ee_errno, info: error.ee_info }
    }
}

/// What bytes of a socket mean: an answer, or what an error is of.
pub fn decode(family: Family, kind: Kind, bytes: &[u8], error: Option<Told>) -> Heard<'_> {
    let error = error.map(|error| (error, None));
    Got { len: bytes.len(), from: None, stamp: None, ttl: None, error }.of(family, kind, bytes)
}

fn read(socket: BorrowedFd<'_>, buffer: &mut [u8], control: &mut [u8], flags: MsgFlags) -> Result<Got, Errno> {
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(control), flags)?;
    let mut got = Got { len: message.bytes, from: None, stamp: None, ttl: None, error: None };
    got.from = message.address.and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))
    });
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::ScmTimestampns(stamp) => got.stamp = Some(Duration::from(stamp)),
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                got.ttl = u8::try_from(ttl).ok();
            }
            ControlMessageOwned::Ipv4RecvErr(error, by) => {
                let by = by.map(|by| IpAddr::V4(Ipv4Addr::from(u32::from_be(by.sin_addr.s_addr))));
                got.error = Some((error.into(), by));
            }
            ControlMessageOwned::Ipv6RecvErr(error, by) => {
                got.error = Some((error.into(), by.map(|by| IpAddr::V6(Ipv6Addr::from(by.sin6_addr.s6_addr)))));
            }
            _ => {}
        }
    }
    Ok(got)
}

/// What lies on the error queue of a socket of TCP, and who says it.
pub fn said(socket: BorrowedFd<'_>, family: Family) -> Option<(Option<IpAddr>, What)> {
    said_at(socket, family).map(|(by, what, _)| (by, what))
}

/// The same, and when the kernel got it.
pub fn said_at(socket: BorrowedFd<'_>, family: Family) -> Option<(Option<IpAddr>, What, Instant)> {
    let (mut buffer, mut control) = ([0; 512], nix::cmsg_space!(TimeSpec, [u8; 128]));
    let got = read(socket, &mut buffer, &mut control, MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT).ok()?;
    got.error.is_some().then(|| got.of(family, Kind::Udp, &buffer)).map(|heard| (heard.from, heard.what, heard.at))
}

/// What routers say is kept on the error queue (`IP_RECVERR`), and when it came.
pub fn hear_errors(socket: &Socket, family: Family) -> io::Result<()> {
    setsockopt(socket, ReceiveTimestampns, &true)?;
    match family {
        Family::Ipv4 => setsockopt(socket, Ipv4RecvErr, &true)?,
        Family::Ipv6 => setsockopt(socket, Ipv6RecvErr, &true)?,
    }
    Ok(())
}

/// Time to live (hop limit) of what a socket sends.
pub fn set_hops(socket: &Socket, family: Family, hops: u8) -> io::Result<()> {
    match family {
        Family::Ipv4 => socket.set_ttl_v4(hops.into()),
        Family::Ipv6 => socket.set_unicast_hops_v6(hops.into()),
    }
}

/// No address of the box in particular.
pub const fn any(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

impl Got {
    fn of(self, family: Family, kind: Kind, buffer: &[u8]) -> Heard<'_> {
        let bytes = buffer.get(..self.len).unwrap_or_default();
        let parts = match kind {
            Kind::Udp => None,
            // What an error gives back is the request.
            Kind::Echo if self.error.is_some() => icmp::parts(bytes),
            Kind::Echo => icmp::reply(family, bytes),
        };
        let (sequence, payload) = match (kind, parts) {
            (Kind::Udp, _) => (None, bytes),
            (Kind::Echo, Some((sequence, payload))) => (Some(sequence), payload),
            (Kind::Echo, None) => (None, &[][..]),
        };
        let (what, from) = match self.error {
            None => (What::Reply, self.from.map(|from| from.ip())),
            Some((Told { origin: LOCAL, errno, info, .. }, _)) => {
                let errno = errno.cast_signed();
                (What::Local { errno, mtu: (errno == nix::libc::EMSGSIZE).then_some(info) }, None)
            }
            Some((Told { kind, code, info, .. }, by)) => {
                let too_big = match family {
                    Family::Ipv4 => (kind, code) == (3, 4),
                    Family::Ipv6 => kind == 2,
                };
                (What::Icmp { kind, code, mtu: (too_big && info > 0).then_some(info) }, by)
            }
        };
        let port = self.from.map_or(0, |from| from.port());
        Heard { from, port, at: instant(self.stamp), ttl: self.ttl, what, sequence, payload }
    }
}

/// The kernel's stamp is of the wall clock, which may be set meanwhile: what counts is how long ago it was.
fn instant(stamp: Option<Duration>) -> Instant {
    let now = Instant::now();
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ago = stamp.and_then(|stamp| wall.checked_sub(stamp)).filter(|ago| *ago < Duration::from_secs(10));
    ago.and_then(|ago| now.checked_sub(ago)).unwrap_or(now)
}

impl What {
    /// In words; nothing for an answer.
    pub fn words(self, family: Family) -> Option<String> {
        match self {
            Self::Reply => None,
            Self::Icmp { kind, code, .. } => Some(icmp_words(family, kind, code)),
            Self::Local { errno, .. } => Some(local_words(errno)),
        }
    }

    /// A router let it live no longer: what traces are made of.
    pub const fn is_time_exceeded(self, family: Family) -> bool {
        matches!(
            (self, family),
            (Self::Icmp { kind: 11, code: 0, .. }, Family::Ipv4) | (Self::Icmp { kind: 3, code: 0, .. }, Family::Ipv6)
        )
    }

    /// Nobody listens at that port: the target itself answers so.
    pub const fn is_port_unreachable(self, family: Family) -> bool {
        matches!(
            (self, family),
            (Self::Icmp { kind: 3, code: 3, .. }, Family::Ipv4) | (Self::Icmp { kind: 1, code: 4, .. }, Family::Ipv6)
        )
    }
}

/// RFC 792, RFC 1122 (3.2.2.1), RFC 1812 (5.2.7.1) and RFC 4443.
fn icmp_words(family: Family, kind: u8, code: u8) -> String {
    let known = match (family, kind, code) {
        (Family::Ipv4, 3, 0) => "network unreachable",
        (Family::Ipv4, 3, 1) | (Family::Ipv6, 1, 3) => "host unreachable",
        (Family::Ipv4, 3, 2) => "protocol unreachable",
        (Family::Ipv4, 3, 3) | (Family::Ipv6, 1, 4) => "port unreachable",
        (Family::Ipv4, 3, 4) | (Family::Ipv6, 2, _) => "packet too big",
        (Family::Ipv4, 3, 5) => "source route failed",
        (Family::Ipv4, 3, 9 | 10 | 13) | (Family::Ipv6, 1, 1) => "administratively prohibited",
        (Family::Ipv6, 1, 0) => "no route to destination",
        (Family::Ipv6, 1, 2) => "beyond scope of source address",
        (Family::Ipv6, 1, 5) => "source address failed policy",
        (Family::Ipv6, 1, 6) => "reject route to destination",
        (Family::Ipv4, 11, 0) | (Family::Ipv6, 3, 0) => "time exceeded",
        (Family::Ipv4, 11, 1) | (Family::Ipv6, 3, 1) => "fragments are missing",
        (Family::Ipv4, 12, _) | (Family::Ipv6, 4, _) => "parameter problem",
        _ => return format!("ICMP type {kind} code {code}"),
    };
    known.to_owned()
}

/// What this box says of its own packets.
pub fn local_words(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::EHOSTUNREACH => "no answer to ARP or neighbour discovery".to_owned(),
        Errno::ENETUNREACH => "no route".to_owned(),
        Errno::EMSGSIZE => "longer than the interface takes".to_owned(),
        Errno::EPERM | Errno::EACCES => "this box's firewall or routes forbid it".to_owned(),
        Errno::ENODEV | Errno::ENXIO => "the interface is gone".to_owned(),
        errno => errno.desc().to_owned(),
    }
}
