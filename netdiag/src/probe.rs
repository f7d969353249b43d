//! Sockets that probe without any capability: ICMP echo by datagrams (icmp(7), where net.ipv4.ping_group_range lets the role) and
//! UDP. What routers say comes back on the socket's error queue (IP_RECVERR, ip(7)), with the packet that it is of.

use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv4RecvTtl, Ipv6RecvErr, Ipv6RecvHopLimit, ReceiveTimestampns};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use raven_model::diag::{Family, Way};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::time::{Duration, Instant, SystemTime};

/// ICMP echo request: type of IPv4 and of IPv6.
const ECHO: (u8, u8) = (8, 128);
const REPLY: (u8, u8) = (0, 129);
/// Type, code, checksum, identifier, sequence.
pub const ICMP_HEADER: usize = 8;
/// Longest that is read.
const READ_MAX: usize = 65_535;
/// How `IP_MTU_DISCOVER` is set: routers may fragment; they may not, and neither may the kernel, whatever it knows of the way.
const FRAGMENT: i32 = 0;
const WHOLE: i32 = 3;
/// `SO_EE_ORIGIN_LOCAL`, linux/errqueue.h.
const LOCAL: u8 = 1;

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
        let any = match family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        socket.bind(&SockAddr::from(SocketAddr::new(way.source.unwrap_or(any), 0)))?;
        setsockopt(&socket, ReceiveTimestampns, &true)?;
        match family {
            Family::Ipv4 => {
                setsockopt(&socket, Ipv4RecvErr, &true)?;
                setsockopt(&socket, Ipv4RecvTtl, &true)?;
            }
            Family::Ipv6 => {
                setsockopt(&socket, Ipv6RecvErr, &true)?;
                setsockopt(&socket, Ipv6RecvHopLimit, &true)?;
            }
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
        match self.family {
            Family::Ipv4 => self.socket.set_ttl_v4(hops.into()),
            Family::Ipv6 => self.socket.set_unicast_hops_v6(hops.into()),
        }
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

    /// Sends one: `to` where it is not connected. An error that lies there from a packet before is told once and is none of
    /// this one.
    pub fn send(&self, to: Option<SocketAddr>, sequence: u16, payload: &[u8]) -> io::Result<()> {
        let packet;
        let bytes = match self.kind {
            Kind::Udp => payload,
            Kind::Echo => {
                let kind = if self.family == Family::Ipv4 { ECHO.0 } else { ECHO.1 };
                let [high, low] = sequence.to_be_bytes();
                // The kernel fills in checksum and identifier.
                packet = [&[kind, 0, 0, 0, 0, 0, high, low], payload].concat();
                &packet
            }
        };
        let to = to.map(SockAddr::from);
        let send = || match &to {
            Some(to) => self.socket.send_to(bytes, to),
            None => self.socket.send(bytes),
        };
        send().or_else(|_| send()).map(drop)
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
    from: Option<IpAddr>,
    stamp: Option<Duration>,
    ttl: Option<u8>,
    error: Option<(nix::libc::sock_extended_err, Option<IpAddr>)>,
}

fn read(socket: BorrowedFd<'_>, buffer: &mut [u8], control: &mut [u8], flags: MsgFlags) -> Result<Got, Errno> {
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(control), flags)?;
    let mut got = Got { len: message.bytes, from: None, stamp: None, ttl: None, error: None };
    got.from = message.address.and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::ScmTimestampns(stamp) => got.stamp = Some(Duration::from(stamp)),
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                got.ttl = u8::try_from(ttl).ok();
            }
            ControlMessageOwned::Ipv4RecvErr(error, by) => {
                let by = by.map(|by| IpAddr::V4(Ipv4Addr::from(u32::from_be(by.sin_addr.s_addr))));
                got.error = Some((error, by));
            }
            ControlMessageOwned::Ipv6RecvErr(error, by) => {
                got.error = Some((error, by.map(|by| IpAddr::V6(Ipv6Addr::from(by.sin6_addr.s6_addr)))));
            }
            _ => {}
        }
    }
    Ok(got)
}

impl Got {
    fn of(self, family: Family, kind: Kind, buffer: &[u8]) -> Heard<'_> {
        let bytes = buffer.get(..self.len).unwrap_or_default();
        let skip = if kind == Kind::Echo { ICMP_HEADER } else { 0 };
        let payload = bytes.get(skip..).unwrap_or_default();
        let sequence = bytes.get(6..ICMP_HEADER).map(|at| u16::from_be_bytes([at[0], at[1]]));
        let sequence = sequence.filter(|_| kind == Kind::Echo);
        let reply = if family == Family::Ipv4 { REPLY.0 } else { REPLY.1 };
        // Of a datagram socket of ICMP the kernel gives replies alone; what is something else has no payload of ours.
        let is_reply = kind == Kind::Udp || bytes.first() == Some(&reply);
        let (what, from) = match self.error {
            None => (What::Reply, self.from),
            Some((error, _)) if error.ee_origin == LOCAL => {
                let errno = error.ee_errno.cast_signed();
                (What::Local { errno, mtu: (errno == nix::libc::EMSGSIZE).then_some(error.ee_info) }, None)
            }
            Some((error, by)) => {
                let too_big = match family {
                    Family::Ipv4 => (error.ee_type, error.ee_code) == (3, 4),
                    Family::Ipv6 => error.ee_type == 2,
                };
                let mtu = (too_big && error.ee_info > 0).then_some(error.ee_info);
                (What::Icmp { kind: error.ee_type, code: error.ee_code, mtu }, by)
            }
        };
        let payload = if is_reply || self.error.is_some() { payload } else { &[] };
        Heard { from, at: instant(self.stamp), ttl: self.ttl, what, sequence, payload }
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
