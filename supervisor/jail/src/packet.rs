//! Packet sockets (packet(7)): frames as they are on an interface. `ravend` makes them and reads none; a jailed worker reads.
//!
//! What a socket is for is fixed by `ravend` in a filter that cannot be changed any more (SO_LOCK_FILTER), whoever holds the socket:
//! * [`listen`]: of one interface, so many bytes of each frame. It is bound to no interface, so that the kernel knows none for what
//!   would be written to it (ENXIO): frames can be read and not sent.
//! * [`talk`]: bound to one interface, and hears of it ARP, neighbour discovery and DHCP alone.

use crate::channel::check;
use crate::socket::set_option;
use raven_model::diag::wire::{Link, Mac, Tap};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Receive buffer that is asked for, bytes, as the kernel counts (a small frame counts for about 1 KiB to 2 KiB): what comes while the
/// worker does not run.
const BUFFER: libc::c_int = 32 << 20;
/// Room for what the kernel says beside a frame: its time, and `struct tpacket_auxdata`.
const CONTROL: usize = 128;
/// `ARPHRD_…` of an interface whose addresses have the six bytes of Ethernet, and of the loopback.
const ETHERNET: u16 = 1;

/// Where the kernel shows a filter what it knows of a frame beside its bytes (`SKF_AD_OFF`), and what is there.
const BESIDE: u32 = -0x1000_i32 as u32;
const PACKET_TYPE: u32 = BESIDE + 4;
const INTERFACE: u32 = BESIDE + 8;

/// `struct tpacket_auxdata` (linux/if_packet.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct Auxdata {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

/// A socket that hears all frames of an interface, and of each the first `bytes`, and cannot send.
///
/// # Errors
/// There is no such interface, or CAP_NET_RAW is missing.
pub fn listen(tap: &Tap, bytes: u32) -> io::Result<(OwnedFd, Link)> {
    let socket = unbound()?;
    let link = link(socket.as_fd(), &tap.interface)?;
    let mut filter = vec![load(INTERFACE, Size::Word), unless_equal(link.index)];
    if !tap.outbound {
        filter.extend([load(PACKET_TYPE, Size::Word), if_equal(u32::from(libc::PACKET_OUTGOING))]);
    }
    // Each jump goes to the last instruction.
    filter.extend([answer(bytes), answer(0)]);
    let last = filter.len() - 1;
    for (at, instruction) in filter.iter_mut().enumerate().filter(|(_, instruction)| is_jump(**instruction)) {
        let away = (last - at - 1) as u8;
        instruction.jt = if instruction.jt == ELSEWHERE { away } else { 0 };
        instruction.jf = if instruction.jf == ELSEWHERE { away } else { 0 };
    }
    lock(socket.as_fd(), &mut filter)?;
    if tap.promiscuous {
        take_all(socket.as_fd(), link.index)?;
    }
    begin(socket.as_fd(), 0)?;
    Ok((socket, link))
}

/// A socket that asks the LAN behind an interface: it hears ARP (RFC 826), ICMPv6 and what comes for the port of DHCP's clients (68).
///
/// # Errors
/// As [`listen`]; `Unsupported` when the interface is no Ethernet.
pub fn talk(name: &str) -> io::Result<(OwnedFd, Link)> {
    let socket = unbound()?;
    let link = link(socket.as_fd(), name)?;
    if link.kind != ETHERNET {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "it is no Ethernet: there is no LAN to be asked"));
    }
    lock(socket.as_fd(), &mut lan_filter())?;
    begin(socket.as_fd(), link.index)?;
    Ok((socket, link))
}

/// Sends a frame from a socket of [`talk`].
///
/// # Errors
/// The kernel's.
pub fn send(socket: BorrowedFd, frame: &[u8]) -> io::Result<()> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads `frame`. Without an address seccomp lets every worker send on what it was passed.
    let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Frames that the kernel dropped at this socket since this was asked last, for want of room in its buffer.
///
/// # Errors
/// Not a packet socket.
pub fn dropped(socket: BorrowedFd) -> io::Result<u64> {
    let mut counts = [0_u32; 2];
    let mut len = size_of_val(&counts) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `counts`: `struct tpacket_stats`.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            counts.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    Ok(u64::from(counts[1]))
}

/// Hears nothing before [`begin`]: its filter comes first.
fn unbound() -> io::Result<OwnedFd> {
    // SAFETY: reads no memory.
    let fd =
        check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) })?;
    // SAFETY: a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(socket.as_fd(), libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    if set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER).is_err() {
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, BUFFER)?;
    }
    Ok(socket)
}

/// What the kernel says of the interface of that name.
fn link(socket: BorrowedFd, name: &str) -> io::Result<Link> {
    let index = request(socket, name, libc::SIOCGIFINDEX)?;
    // SAFETY: the kernel has filled this member.
    let index = unsafe { index.ifr_ifru.ifru_ifindex };
    let address = request(socket, name, libc::SIOCGIFHWADDR)?;
    // SAFETY: as above.
    let address = unsafe { address.ifr_ifru.ifru_hwaddr };
    let mut mac = [0; 6];
    for (byte, told) in mac.iter_mut().zip(address.sa_data) {
        *byte = told as u8;
    }
    let kind = address.sa_family;
    let mac = if kind == ETHERNET { Mac(mac) } else { Mac::default() };
    Ok(Link { name: name.to_owned(), index: index.unsigned_abs(), kind, mac })
}

fn request(socket: BorrowedFd, name: &str, order: libc::c_ulong) -> io::Result<libc::ifreq> {
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: the kernel reads and writes one ifreq, whose name ends with a zero.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), order as _, &raw mut request) })?;
    Ok(request)
}

/// Until the socket is closed.
fn take_all(socket: BorrowedFd, index: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: index.cast_signed(),
        mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    // SAFETY: the kernel reads one packet_mreq.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            size_of_val(&request) as libc::socklen_t,
        )
    })
    .map(drop)
}

/// From now on frames come; of all interfaces where `index` is 0.
fn begin(socket: BorrowedFd, index: u32) -> io::Result<()> {
    // SAFETY: all zeroes is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel reads one sockaddr_ll.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

/// A place in a jump that is filled in later.
const ELSEWHERE: u8 = u8::MAX;

#[derive(Clone, Copy)]
enum Size {
    Word,
    Half,
    Byte,
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn load(at: u32, size: Size) -> libc::sock_filter {
    let size = match size {
        Size::Word => libc::BPF_W,
        Size::Half => libc::BPF_H,
        Size::Byte => libc::BPF_B,
    };
    instruction(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, at)
}

fn jump(value: u32, jt: u8, jf: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, value)
}

fn if_equal(value: u32) -> libc::sock_filter {
    jump(value, ELSEWHERE, 0)
}

fn unless_equal(value: u32) -> libc::sock_filter {
    jump(value, 0, ELSEWHERE)
}

fn answer(bytes: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, bytes)
}

fn is_jump(instruction: libc::sock_filter) -> bool {
    u32::from(instruction.code) & 7 == libc::BPF_JMP
}

/// ARP; ICMPv6; UDP over IPv4 to port 68 that is not a further fragment.
fn lan_filter() -> Vec<libc::sock_filter> {
    let is_fragment = instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 3, 0, 0x1fff);
    let length_of_header = instruction(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 14);
    let port = instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 0, 0, 16);
    vec![
        load(12, Size::Half),
        jump(0x0806, 12, 0),
        jump(0x86dd, 0, 2),
        load(20, Size::Byte),
        jump(58, 9, 8),
        jump(0x0800, 0, 7),
        load(23, Size::Byte),
        jump(17, 0, 5),
        load(20, Size::Half),
        is_fragment,
        length_of_header,
        port,
        jump(68, 1, 0),
        answer(0),
        answer(2048),
    ]
}

/// Sets the filter, for good.
fn lock(socket: BorrowedFd, filter: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as libc::c_ushort, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel reads `len` instructions at `filter`, and keeps a copy.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    })?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, 1)
}

/// A frame in a [`Batch`].
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// As much of it as the socket gives and the batch has room for, without the VLAN that stands in `vlan`.
    pub bytes: &'a [u8],
    /// Its length on the wire, bytes, as `bytes` would have it.
    pub len: u32,
    /// When it came, nanoseconds since 1970 by the wall clock.
    pub at_ns: u64,
    /// `PACKET_HOST` and so on (packet(7)).
    pub kind: u8,
    /// The VLAN tag that the kernel took out: its protocol and content.
    pub vlan: Option<(u16, u16)>,
}

/// Room for frames that are read at once.
pub struct Batch {
    bytes: Vec<u8>,
    room: usize,
    controls: Vec<[u64; CONTROL / 8]>,
    names: Vec<libc::sockaddr_ll>,
    lens: Vec<(u32, usize)>,
}

impl Batch {
    /// For so many frames of so many bytes each.
    pub fn new(frames: usize, room: usize) -> Self {
        // SAFETY: all zeroes is a valid sockaddr_ll.
        let name: libc::sockaddr_ll = unsafe { mem::zeroed() };
        Self {
            bytes: vec![0; frames * room],
            room,
            controls: vec![[0; CONTROL / 8]; frames],
            names: vec![name; frames],
            lens: Vec::with_capacity(frames),
        }
    }

    /// Reads what is there without waiting; how many came.
    ///
    /// # Errors
    /// The kernel's: the interface is gone, or off.
    pub fn receive(&mut self, socket: BorrowedFd) -> io::Result<usize> {
        self.lens.clear();
        let mut parts: Vec<libc::iovec> = self
            .bytes
            .chunks_exact_mut(self.room)
            .map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = Vec::with_capacity(parts.len());
        for ((part, control), name) in parts.iter_mut().zip(&mut self.controls).zip(&mut self.names) {
            // SAFETY: all zeroes is a valid mmsghdr.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL as _;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            headers.push(header);
        }
        let count = headers.len() as libc::c_uint;
        // SAFETY: `count` headers, each of which points to memory of this batch that nobody else uses now.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        match got {
            0.. => {
                let told = headers.iter().take(got.unsigned_abs() as usize);
                self.lens.extend(told.map(|header| (header.msg_len, header.msg_hdr.msg_controllen)));
                Ok(self.lens.len())
            }
            _ => match io::Error::last_os_error() {
                error if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
                error => Err(error),
            },
        }
    }

    /// The frames that came.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        let parts = self.bytes.chunks_exact(self.room).zip(&self.controls).zip(&self.names);
        self.lens.iter().zip(parts).map(|((len, said), ((bytes, control), name))| {
            let bytes = &bytes[..(*len as usize).min(bytes.len())];
            let said = Said::read(control, *said);
            let (len, vlan) = said.aux.map_or((*len, None), |aux| {
                let is_valid = aux.status & libc::TP_STATUS_VLAN_VALID != 0;
                let has_protocol = aux.status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
                let protocol = if has_protocol { aux.vlan_tpid } else { 0x8100 };
                (aux.len.max(*len), is_valid.then_some((protocol, aux.vlan_tci)))
            });
            Frame { bytes, len, at_ns: said.at_ns, kind: name.sll_pkttype, vlan }
        })
    }
}

/// What the kernel said beside a frame.
struct Said {
    at_ns: u64,
    aux: Option<Auxdata>,
}

impl Said {
    /// From the control messages, of which `len` bytes were filled. Their heads are `{ len usize, level i32, type i32 }`, each is aligned
    /// like a usize.
    fn read(control: &[u64; CONTROL / 8], len: usize) -> Self {
        const HEAD: usize = size_of::<libc::cmsghdr>();
        // SAFETY: as many bytes as the array has.
        let bytes = unsafe { std::slice::from_raw_parts(control.as_ptr().cast::<u8>(), CONTROL) };
        let mut rest = bytes.get(..len).unwrap_or(bytes);
        let mut said = Self { at_ns: 0, aux: None };
        while rest.len() >= HEAD {
            let word =
                |at: usize| rest.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, i32::from_ne_bytes);
            let total = usize::from_ne_bytes(rest[..size_of::<usize>()].try_into().unwrap_or_default());
            let (level, kind) = (word(size_of::<usize>()), word(size_of::<usize>() + 4));
            let Some(data) = rest.get(HEAD..total) else { break };
            match (level, kind) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) if data.len() >= size_of::<libc::timespec>() => {
                    // SAFETY: as many bytes as a timespec, which is made of numbers.
                    let time = unsafe { data.as_ptr().cast::<libc::timespec>().read_unaligned() };
                    said.at_ns = (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64);
                }
                (libc::SOL_PACKET, libc::PACKET_AUXDATA) if data.len() >= size_of::<Auxdata>() => {
                    // SAFETY: as many bytes as Auxdata, which is made of numbers.
                    said.aux = Some(unsafe { data.as_ptr().cast::<Auxdata>().read_unaligned() });
                }
                _ => {}
            }
            rest = rest.get(total.next_multiple_of(align_of::<usize>())..).unwrap_or_default();
        }
        said
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::diag::wire::Purpose;
    use std::net::UdpSocket;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    fn is_possible() -> bool {
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root {
            eprintln!("not run: needs root");
        }
        is_root
    }

    fn tap(interface: &str) -> Tap {
        Tap { interface: interface.to_owned(), purpose: Purpose::View, promiscuous: false, outbound: false, snap: None }
    }

    /// A datagram to this machine itself, as it is seen on the loopback.
    fn seen(socket: &OwnedFd, payload: &[u8]) -> Vec<(usize, u32, u64, u8)> {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(payload, receiver.local_addr().unwrap()).unwrap();
        let ports: Vec<u8> =
            [&sender, &receiver].iter().flat_map(|end| end.local_addr().unwrap().port().to_be_bytes()).collect();
        let (mut batch, until) = (Batch::new(16, 4096), Instant::now() + Duration::from_millis(300));
        let mut frames = Vec::new();
        while Instant::now() < until {
            batch.receive(socket.as_fd()).unwrap();
            let ours = batch.frames().filter(|frame| frame.bytes.get(34..38) == Some(&ports[..]));
            frames.extend(ours.map(|frame| (frame.bytes.len(), frame.len, frame.at_ns, frame.kind)));
        }
        frames
    }

    #[test]
    fn so_many_bytes_of_each_frame_come_with_length_time_and_kind() {
        if !is_possible() {
            return;
        }
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let (socket, link) = listen(&tap("lo"), 64).unwrap();
        assert_eq!((link.name.as_str(), link.kind, link.mac), ("lo", 772, Mac::default()));
        let before = now();
        let frames = seen(&socket, &[7; 1000]);
        let [(held, len, at, kind)] = frames[..] else { panic!("{frames:?}") };
        assert_eq!((held, len, kind), (64, 1042, 0));
        assert!((before..=now()).contains(&at), "{at}");
        // With what goes out each is there twice on the loopback.
        let (socket, _) = listen(&Tap { outbound: true, ..tap("lo") }, 64).unwrap();
        assert_eq!(seen(&socket, &[7; 1000]).len(), 2);
    }

    #[test]
    fn what_can_listen_cannot_send_and_its_filter_stays() {
        if !is_possible() {
            return;
        }
        let (socket, _) = listen(&tap("lo"), 64).unwrap();
        let error = send(socket.as_fd(), &[0; 60]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO), "{error}");
        assert!(lock(socket.as_fd(), &mut [answer(65_535)]).is_err());
        let none = set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0).unwrap_err();
        assert_eq!(none.raw_os_error(), Some(libc::EPERM), "{none}");
    }

    #[test]
    fn what_a_full_socket_drops_is_counted_once() {
        if !is_possible() {
            return;
        }
        let (socket, _) = listen(&tap("lo"), 64).unwrap();
        set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 4096).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..200 {
            sender.send_to(&[0; 1000], ("127.0.0.1", 9)).unwrap();
        }
        assert!(dropped(socket.as_fd()).unwrap() > 100);
        assert!(dropped(socket.as_fd()).unwrap() < 100);
    }

    #[test]
    fn an_interface_must_be_there_and_a_lan_must_be_one() {
        if !is_possible() {
            return;
        }
        assert_eq!(listen(&tap("raven-nowhere"), 64).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(talk("raven-nowhere").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(talk("lo").unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(listen(&tap("a-name-of-16-cha"), 64).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn control_messages_that_break_off_say_nothing() {
        for len in 0..=CONTROL {
            for word in [0, 1, 16, 17, 24, u64::MAX] {
                assert_eq!(Said::read(&[word; CONTROL / 8], len).at_ns, 0);
            }
        }
    }
}
