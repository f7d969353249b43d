//! What an attacker who owns a worker would try, and what the worker must still be able to do.

use libc::{c_long, c_ulong, c_void};
use raven_model::table::{Access, Role, RoleSpec};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr;
use std::thread;

/// What a worker is told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Index into [`all`]; `None`: wait for the end of the channel.
    pub probe: Option<usize>,
    /// Whether to enter the jail first.
    pub jailed: bool,
    /// The data directory as the worker sees it.
    pub data: PathBuf,
    /// Process that started it.
    pub parent: i32,
    /// Listening TCP socket.
    pub tcp: SocketAddr,
    /// Bound UDP socket.
    pub udp: SocketAddr,
}

/// Descriptors that go with an order.
pub struct Passed {
    /// Holds `ping`.
    pub reader: File,
    /// Any pipe.
    pub writer: File,
    /// Bound and not connected, as a collector gets it.
    pub udp: OwnedFd,
    /// Of the loopback, as the wire role gets it for a view; none where this program may not make one.
    pub packet: Option<OwnedFd>,
}

/// Does something as ordered, with what was passed.
type Attempt = Box<dyn Fn(&Order, &mut Passed) -> io::Result<()>>;

/// One thing to try.
pub struct Probe {
    /// In words.
    pub name: String,
    /// `true`: must be denied; `false`: must work.
    pub escape: bool,
    /// Whether it must work outside the jail, when root: else the probe itself would prove nothing.
    pub works_outside: bool,
    /// Errors beyond EPERM and EACCES that mean a refusal.
    pub refusals: &'static [i32],
    /// For which roles.
    pub applies: fn(&RoleSpec) -> bool,
    /// Does it. An error other than a refusal means that the attempt got past the jail.
    pub run: Attempt,
}

/// A refusal by Landlock, by file modes or by seccomp with an errno; `ENOSYS` is what programs that are not ours get.
pub fn is_refusal(probe: &Probe, errno: i32) -> bool {
    [libc::EPERM, libc::EACCES, libc::ENOSYS].contains(&errno) || probe.refusals.contains(&errno)
}

/// All probes, in a fixed order.
pub fn all() -> Vec<Probe> {
    let mut probes = files();
    probes.extend(processes());
    probes.extend(kernel());
    probes.extend(memory());
    probes.extend(network());
    probes.extend(wire());
    probes.extend(abilities());
    probes
}

fn every(_: &RoleSpec) -> bool {
    true
}

fn no_network(spec: &RoleSpec) -> bool {
    !spec.network
}

/// Others may have one where `net.ipv4.ping_group_range` lets them, as on a box.
fn pings_nobody(spec: &RoleSpec) -> bool {
    !matches!(spec.name, Role::Vpn | Role::Diag | Role::Schedule)
}

/// openvpn attaches to a TUN device, comes to its management socket, and looks at links and routes.
fn all_but_programs(spec: &RoleSpec) -> bool {
    spec.program.is_none()
}

fn may(spec: &RoleSpec, wanted: &str) -> bool {
    spec.syscalls.iter().any(|call| call == wanted)
}

/// Measurements of bandwidth alone are listened for.
fn no_listen(spec: &RoleSpec) -> bool {
    !may(spec, "listen")
}

/// On the listener of openvpn's management, and where bandwidth is measured, is something to be accepted.
fn no_accept(spec: &RoleSpec) -> bool {
    !may(spec, "accept4")
}

fn resolves(spec: &RoleSpec) -> bool {
    spec.network && spec.paths.iter().any(|rule| rule.path == "/etc/hosts")
}

fn pairs(spec: &RoleSpec) -> bool {
    may(spec, "socketpair")
}

fn reads(spec: &RoleSpec) -> bool {
    spec.paths.iter().any(|rule| rule.path == "ring")
}

fn writes_ring(spec: &RoleSpec) -> bool {
    spec.paths.iter().any(|rule| rule.path == "ring" && rule.access == Access::Write)
}

fn writes_cursors(spec: &RoleSpec) -> bool {
    spec.paths.iter().any(|rule| rule.path == "cursors" && rule.access == Access::Write)
}

fn does_not_write_ring(spec: &RoleSpec) -> bool {
    !writes_ring(spec)
}

fn threads(spec: &RoleSpec) -> bool {
    spec.syscalls.iter().any(|call| call == "clone")
}

fn taps(spec: &RoleSpec) -> bool {
    spec.name == Role::Wire
}

fn no_sendmsg(spec: &RoleSpec) -> bool {
    !spec.syscalls.iter().any(|call| call == "sendmsg")
}

fn escape(name: impl Into<String>, run: impl Fn(&Order, &mut Passed) -> io::Result<()> + 'static) -> Probe {
    Probe { name: name.into(), escape: true, works_outside: true, refusals: &[], applies: every, run: Box::new(run) }
}

fn ability(
    name: &str,
    applies: fn(&RoleSpec) -> bool,
    run: impl Fn(&Order, &mut Passed) -> io::Result<()> + 'static,
) -> Probe {
    Probe { name: name.into(), escape: false, works_outside: false, refusals: &[], applies, run: Box::new(run) }
}

impl Probe {
    fn unsure_outside(mut self) -> Self {
        self.works_outside = false;
        self
    }
    fn refused_by(mut self, refusals: &'static [i32]) -> Self {
        self.refusals = refusals;
        self
    }
    fn only(mut self, applies: fn(&RoleSpec) -> bool) -> Self {
        self.applies = applies;
        self
    }
}

fn call(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

macro_rules! sys {
    ($number:expr $(, $argument:expr)*) => {
        // SAFETY: the probes pass valid pointers, null, or numbers.
        call(unsafe { libc::syscall($number $(, $argument)*) })
    };
}

fn files() -> Vec<Probe> {
    vec![
        escape("read /etc/passwd", |_, _| fs::read("/etc/passwd").map(drop)),
        escape("open /proc/1/mem", |_, _| File::open("/proc/1/mem").map(drop)).unsure_outside(),
        escape("open own /proc/self/mem for writing", |_, _| {
            OpenOptions::new().write(true).open("/proc/self/mem").map(drop)
        }),
        escape("list /", |_, _| fs::read_dir("/").map(drop)),
        escape("create a file in /tmp", |order, _| {
            let path = format!("/tmp/raven-escape-{}", order.parent);
            File::create(&path)?;
            fs::remove_file(path)
        }),
        escape("create a file in the data directory", |order, _| File::create(order.data.join("common/new")).map(drop))
            .refused_by(&[libc::EROFS]),
        escape("read another file of the data directory", |order, _| {
            fs::read(order.data.join("common/secret")).map(drop)
        }),
        escape("create a file in the ring", |order, _| File::create(order.data.join("ring/new")).map(drop))
            .only(does_not_write_ring)
            .refused_by(&[libc::EROFS]),
        escape("change a file of the ring", |order, _| {
            OpenOptions::new().write(true).open(order.data.join("ring/segment")).map(drop)
        })
        .only(does_not_write_ring)
        .refused_by(&[libc::EROFS]),
        escape("make a symbolic link in the ring", |order, _| {
            std::os::unix::fs::symlink("/etc", order.data.join("ring/link"))?;
            fs::remove_file(order.data.join("ring/link"))
        })
        .refused_by(&[libc::EROFS]),
        escape("truncate a file by path", |order, _| {
            let path =
                std::ffi::CString::new(order.data.join("common/secret").into_os_string().into_encoded_bytes()).unwrap();
            sys!(libc::SYS_truncate, path.as_ptr(), 6)
        }),
    ]
}

fn processes() -> Vec<Probe> {
    let mut probes = vec![
        escape("exec /bin/true", |_, _| {
            let argv = [c"true".as_ptr(), ptr::null()];
            sys!(libc::SYS_execve, c"/bin/true".as_ptr(), argv.as_ptr(), argv[1..].as_ptr())
        }),
        escape("memfd_create and exec", |_, _| {
            // SAFETY: a C string.
            let fd = unsafe { libc::syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0) };
            call(fd)?;
            let program = fs::read("/bin/true")?;
            // SAFETY: the bytes of `program`.
            call(unsafe { libc::write(fd as i32, program.as_ptr().cast(), program.len()) } as c_long)?;
            let argv = [c"true".as_ptr(), ptr::null()];
            sys!(libc::SYS_execveat, fd, c"".as_ptr(), argv.as_ptr(), argv[1..].as_ptr(), libc::AT_EMPTY_PATH)
        }),
        escape("fork", |_, _| copy_process(libc::SIGCHLD)),
        escape("clone into a new user namespace", |_, _| copy_process(libc::SIGCHLD | libc::CLONE_NEWUSER)),
        escape("clone with CLONE_VFORK", |_, _| copy_process(libc::SIGCHLD | libc::CLONE_VFORK)),
        escape("clone3", |_, _| {
            let mut arguments = [0_u64; 11];
            arguments[4] = libc::SIGCHLD as u64;
            // SAFETY: arguments of the length given; the copy ends at once.
            let pid = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
            end_copy(pid)
        })
        .refused_by(&[libc::ENOSYS]),
        escape("ptrace the parent", |order, _| sys!(libc::SYS_ptrace, 0x4206, order.parent, 0, 0)),
        escape("kill process 1", |_, _| sys!(libc::SYS_kill, 1, 0)),
        escape("kill the parent", |order, _| sys!(libc::SYS_kill, order.parent, 0)),
        escape("tgkill the parent", |order, _| sys!(libc::SYS_tgkill, order.parent, order.parent, 0)),
        escape("have the kernel signal the parent (F_SETOWN)", |order, passed| {
            sys!(libc::SYS_fcntl, passed.reader.as_raw_fd(), libc::F_SETOWN, order.parent)
        }),
        escape("process_vm_readv of the parent", |order, _| {
            let mut byte = 0_u8;
            let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
            let remote = libc::iovec { iov_base: 4096 as *mut c_void, iov_len: 1 };
            sys!(libc::SYS_process_vm_readv, order.parent, &raw const local, 1, &raw const remote, 1, 0)
        }),
        escape("pidfd_open of the parent", |order, _| sys!(libc::SYS_pidfd_open, order.parent, 0)),
        escape("pidfd_getfd", |_, _| sys!(libc::SYS_pidfd_getfd, -1, 0, 0)),
        escape("raise the parent's limits", |order, _| {
            sys!(libc::SYS_prlimit64, order.parent, libc::RLIMIT_CORE, ptr::null::<c_void>(), ptr::null::<c_void>())
        }),
        escape("setresuid 0", |_, _| sys!(libc::SYS_setresuid, 0, 0, 0)),
        escape("setgroups", |_, _| sys!(libc::SYS_setgroups, 0, ptr::null::<u32>())),
        escape("setsid", |_, _| copy_free(libc::SYS_setsid)),
    ];
    #[cfg(target_arch = "x86_64")]
    probes.push(escape("vfork", |_, _| copy_free(libc::SYS_vfork)).unsure_outside());
    probes
}

/// A copy of this process that ends at once.
fn copy_process(flags: i32) -> io::Result<()> {
    // SAFETY: as fork.
    end_copy(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })
}

fn end_copy(pid: c_long) -> io::Result<()> {
    if pid == 0 {
        // SAFETY: ends the copy.
        unsafe { libc::_exit(0) };
    }
    call(pid)
}

fn copy_free(number: c_long) -> io::Result<()> {
    sys!(number)
}

fn kernel() -> Vec<Probe> {
    vec![
        escape("io_uring_setup", |_, _| sys!(libc::SYS_io_uring_setup, 8, [0_u8; 120].as_mut_ptr())).unsure_outside(),
        escape("bpf", |_, _| sys!(libc::SYS_bpf, 0, [0_u8; 64].as_ptr(), 64)),
        escape("perf_event_open", |_, _| sys!(libc::SYS_perf_event_open, [0_u8; 128].as_ptr(), 0, -1, -1, 0)),
        escape("userfaultfd", |_, _| sys!(libc::SYS_userfaultfd, 1)).refused_by(&[libc::ENOSYS]).unsure_outside(),
        escape("mount", |_, _| {
            sys!(libc::SYS_mount, c"none".as_ptr(), c"/".as_ptr(), c"no-such-fs".as_ptr(), 0, ptr::null::<c_void>())
        }),
        escape("umount the data directory", |_, _| sys!(libc::SYS_umount2, c"/no-such-directory".as_ptr(), 0)),
        escape("unshare", |_, _| sys!(libc::SYS_unshare, libc::CLONE_NEWUTS)),
        escape("unshare the user namespace", |_, _| sys!(libc::SYS_unshare, libc::CLONE_NEWUSER)),
        escape("setns", |_, _| sys!(libc::SYS_setns, -1, 0)),
        escape("chroot", |_, _| sys!(libc::SYS_chroot, c"/".as_ptr())),
        escape("pivot_root", |_, _| sys!(libc::SYS_pivot_root, c"/".as_ptr(), c"/".as_ptr())),
        escape("add_key", |_, _| sys!(libc::SYS_add_key, c"user".as_ptr(), c"raven".as_ptr(), c"x".as_ptr(), 1, -2)),
        escape("keyctl", |_, _| sys!(libc::SYS_keyctl, 0, -2, 1)),
        escape("init_module", |_, _| sys!(libc::SYS_init_module, c"".as_ptr(), 0, c"".as_ptr())).unsure_outside(),
        // Wrong magic numbers: the right is checked before them, so nothing restarts even where it is held.
        escape("reboot", |_, _| sys!(libc::SYS_reboot, 1, 2, 3, 0)),
        escape("sethostname", |_, _| sys!(libc::SYS_sethostname, c"x".as_ptr(), -1_i64)),
        escape("clock_settime", |_, _| sys!(libc::SYS_clock_settime, 99, ptr::null::<c_void>())),
        escape("personality (memory is executable)", |_, _| sys!(libc::SYS_personality, 0x040_0000)),
        escape("become dumpable again", |_, _| sys!(libc::SYS_prctl, libc::PR_SET_DUMPABLE as c_ulong, 1, 0, 0, 0))
            .refused_by(&[libc::EINVAL]),
        escape("make a capability ambient", |_, _| {
            sys!(libc::SYS_prctl, libc::PR_CAP_AMBIENT as c_ulong, libc::PR_CAP_AMBIENT_RAISE, 12, 0, 0)
        })
        .refused_by(&[libc::EINVAL])
        .unsure_outside(),
        escape("capset", |_, _| {
            let (header, mut sets) = ([0x2008_0522_u32, 0], [0_u32; 6]);
            sys!(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr())?;
            sys!(libc::SYS_capset, header.as_ptr(), sets.as_ptr())
        }),
        escape("ask for the flags of a link by ioctl", |_, passed| {
            let mut request = [0_u8; 40];
            request[..2].copy_from_slice(b"lo");
            sys!(libc::SYS_ioctl, passed.udp.as_raw_fd(), 0x8913, request.as_mut_ptr())
        })
        .only(all_but_programs)
        .refused_by(&[libc::ENOTTY]),
        escape("open the place of TUN devices", |_, _| {
            OpenOptions::new().read(true).write(true).open("/dev/net/tun").map(drop)
        })
        .only(all_but_programs)
        .unsure_outside(),
        escape("one more seccomp filter", |_, _| sys!(libc::SYS_seccomp, 1, 0, ptr::null::<c_void>())),
    ]
}

fn memory() -> Vec<Probe> {
    vec![
        escape("mmap writable and executable", |_, _| {
            map(libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC).map(drop)
        }),
        escape("mmap executable", |_, _| map(libc::PROT_READ | libc::PROT_EXEC).map(drop)),
        escape("mprotect writable memory executable", |_, _| {
            let page = map(libc::PROT_READ | libc::PROT_WRITE)?;
            sys!(libc::SYS_mprotect, page, 4096, libc::PROT_READ | libc::PROT_EXEC)
        }),
        escape("mprotect with a high bit set", |_, _| {
            let page = map(libc::PROT_READ | libc::PROT_WRITE)?;
            sys!(libc::SYS_mprotect, page, 4096, (1_u64 << 32) | (libc::PROT_READ | libc::PROT_EXEC) as u64)
        })
        .unsure_outside(),
        escape("pkey_mprotect executable", |_, _| {
            let page = map(libc::PROT_READ | libc::PROT_WRITE)?;
            sys!(libc::SYS_pkey_mprotect, page, 4096, libc::PROT_READ | libc::PROT_EXEC, -1)
        }),
    ]
}

fn map(protection: i32) -> io::Result<*mut c_void> {
    // SAFETY: new memory.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page) }
}

fn network() -> Vec<Probe> {
    const FAMILY: &[i32] = &[libc::EAFNOSUPPORT];
    let mut probes = vec![
        escape("connect to a port of this machine", |order, _| TcpStream::connect(order.tcp).map(drop))
            .only(no_network),
        escape("connect a passed UDP socket", |order, passed| {
            let (address, len) = ipv4(order.udp);
            sys!(libc::SYS_connect, passed.udp.as_raw_fd(), address.as_ptr(), len)
        })
        .only(no_network),
        escape("sendto from a passed UDP socket", |order, passed| {
            let (address, len) = ipv4(order.udp);
            sys!(libc::SYS_sendto, passed.udp.as_raw_fd(), c"x".as_ptr(), 1, 0, address.as_ptr(), len)
        })
        .only(no_network),
        escape("sendmsg from a passed UDP socket", |order, passed| send_message(libc::SYS_sendmsg, order, passed))
            .only(no_sendmsg),
        escape("sendmmsg from a passed UDP socket", |order, passed| send_message(libc::SYS_sendmmsg, order, passed))
            .only(no_network),
        escape("listen on a passed socket", |_, passed| sys!(libc::SYS_listen, passed.udp.as_raw_fd(), 1))
            .only(no_listen),
        escape("accept on a passed socket", |_, passed| sys!(libc::SYS_accept4, passed.udp.as_raw_fd(), 0, 0, 0))
            .only(no_accept),
        escape("a pair of unix datagram sockets", |_, _| {
            sys!(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_DGRAM, 0, [0_i32; 2].as_mut_ptr())
        }),
        socket("unix stream socket", libc::AF_UNIX, libc::SOCK_STREAM, 0).refused_by(FAMILY).only(all_but_programs),
        socket("packet socket", libc::AF_PACKET, libc::SOCK_RAW, 0).refused_by(FAMILY),
        socket("netlink socket", libc::AF_NETLINK, libc::SOCK_RAW, 0).refused_by(FAMILY).only(all_but_programs),
        socket("raw IPv4 socket", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        socket("raw IPv6 socket", libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6),
        socket("ping socket", libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP).only(pings_nobody).unsure_outside(),
        socket("MPTCP socket", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP).unsure_outside(),
        socket("SCTP socket", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP).unsure_outside(),
        socket("TCP socket", libc::AF_INET, libc::SOCK_STREAM, 0).only(no_network),
        socket("TCP over IPv6 socket", libc::AF_INET6, libc::SOCK_STREAM, 0).only(no_network).unsure_outside(),
    ];
    for family in 0..=45 {
        let internet = [libc::AF_INET, libc::AF_INET6].contains(&family);
        // No kernel has all families, so EAFNOSUPPORT from outside the jail says nothing.
        let probe = socket(&format!("datagram socket of family {family}"), family, libc::SOCK_DGRAM, 0)
            .refused_by(FAMILY)
            .unsure_outside();
        probes.push(if internet { probe.only(no_network) } else { probe });
    }
    probes
}

/// The passed packet socket.
fn packet(passed: &Passed) -> io::Result<i32> {
    passed.packet.as_ref().map(AsRawFd::as_raw_fd).ok_or_else(|| io::Error::from_raw_os_error(libc::EPERM))
}

/// The loopback, as the target of a frame.
fn loopback() -> libc::sockaddr_ll {
    // SAFETY: all zeroes is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    (address.sll_family, address.sll_ifindex) = (libc::AF_PACKET as u16, 1);
    address
}

/// What the wire role may not do with the packet socket that it is passed.
fn wire() -> Vec<Probe> {
    let set = |passed: &Passed, level: i32, option: i32, value: *const c_void, len: usize| {
        sys!(libc::SYS_setsockopt, packet(passed)?, level, option, value, len)
    };
    let size = size_of::<libc::sockaddr_ll>();
    vec![
        // It is bound to no interface.
        escape("write a frame to a passed packet socket", |_, passed| {
            sys!(libc::SYS_write, packet(passed)?, [0_u8; 60].as_ptr(), 60)
        })
        .refused_by(&[libc::ENXIO])
        .unsure_outside(),
        escape("send a frame to an interface", move |_, passed| {
            let to = loopback();
            sys!(libc::SYS_sendto, packet(passed)?, [0_u8; 60].as_ptr(), 60, 0, &raw const to, size)
        })
        .only(taps),
        escape("bind a passed packet socket to an interface", move |_, passed| {
            let at = loopback();
            sys!(libc::SYS_bind, packet(passed)?, &raw const at, size)
        })
        .only(taps),
        escape("put a passed packet socket into promiscuous mode", move |_, passed| {
            let request = libc::packet_mreq {
                mr_ifindex: 1,
                mr_type: libc::PACKET_MR_PROMISC as u16,
                mr_alen: 0,
                mr_address: [0; 8],
            };
            let len = size_of_val(&request);
            set(passed, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, (&raw const request).cast(), len)
        })
        .only(taps),
        // Its filter stays, in the jail and outside of it.
        escape("take the filter off a passed packet socket", move |_, passed| {
            let nothing = 0_i32;
            set(passed, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, (&raw const nothing).cast(), 4)
        })
        .only(taps)
        .unsure_outside(),
        escape("ask a passed packet socket who made it", |_, passed| {
            let (mut value, mut len) = ([0_u8; 16], 16_u32);
            sys!(
                libc::SYS_getsockopt,
                packet(passed)?,
                libc::SOL_SOCKET,
                libc::SO_TYPE,
                value.as_mut_ptr(),
                &raw mut len
            )
        })
        .only(taps),
        ability("read frames, and what was dropped", taps, |_, passed| {
            // Who is not root can make none.
            let Some(socket) = &passed.packet else { return Ok(()) };
            raven_jail::packet::Batch::new(4, 64).receive(socket.as_fd())?;
            raven_jail::packet::dropped(socket.as_fd()).map(drop)
        }),
        ability("limit how long an operator may take nothing", taps, |_, passed| {
            let udp = std::net::UdpSocket::from(passed.udp.try_clone()?);
            udp.set_nonblocking(false)?;
            udp.set_write_timeout(Some(std::time::Duration::from_secs(1)))
        }),
    ]
}

fn socket(name: &str, family: i32, kind: i32, protocol: i32) -> Probe {
    escape(name, move |_, _| sys!(libc::SYS_socket, family, kind | libc::SOCK_CLOEXEC, protocol))
}

fn ipv4(address: SocketAddr) -> ([u8; 16], usize) {
    let SocketAddr::V4(v4) = address else { unreachable!("the test binds 127.0.0.1") };
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&v4.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&v4.ip().octets());
    (bytes, 16)
}

fn send_message(number: c_long, order: &Order, passed: &Passed) -> io::Result<()> {
    let (mut address, len) = ipv4(order.udp);
    let mut part = libc::iovec { iov_base: c"x".as_ptr().cast_mut().cast(), iov_len: 1 };
    // SAFETY: all zeroes is a valid message.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_name = address.as_mut_ptr().cast();
    message.msg_hdr.msg_namelen = len as u32;
    message.msg_hdr.msg_iov = &raw mut part;
    message.msg_hdr.msg_iovlen = 1;
    let several = c_long::from(number == libc::SYS_sendmmsg);
    // For sendmsg the third argument is its flags, 0.
    sys!(number, passed.udp.as_raw_fd(), &raw mut message, several, 0)
}

fn abilities() -> Vec<Probe> {
    vec![
        ability("write to a passed descriptor", every, |_, passed| passed.writer.write_all(b"pong")),
        ability("read from a passed descriptor", every, |_, passed| {
            let mut ping = [0; 4];
            passed.reader.read_exact(&mut ping)?;
            if &ping == b"ping" { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EIO)) }
        }),
        ability("allocate 32 MiB", every, |_, _| {
            let memory = vec![1_u8; 32 << 20];
            if std::hint::black_box(&memory)[1 << 20] == 1 {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
        }),
        ability("read a file of the ring", reads, |order, _| fs::read(order.data.join("ring/segment")).map(drop)),
        ability("find the real path of the ring and list it", reads, |order, _| {
            let ring = order.data.join("ring").canonicalize()?;
            fs::read_dir(ring)?.try_for_each(|entry| entry.map(drop))
        }),
        ability("make, fill, map, rename and remove a file of the ring", writes_ring, |order, _| change_ring(order)),
        ability("make and remove a file of the cursors", writes_cursors, |order, _| {
            fs::write(order.data.join("cursors/new"), "x")?;
            fs::remove_file(order.data.join("cursors/new"))
        }),
        ability("start a thread", threads, |_, _| {
            let thread = thread::Builder::new().name("named".to_owned()).spawn(|| 7)?;
            if thread.join().is_ok_and(|seven| seven == 7) {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
        }),
        ability("connect over TCP to a name", resolves, |order, _| {
            TcpStream::connect(("localhost", order.tcp.port())).map(drop)
        }),
        ability("read /etc/hosts", resolves, |_, _| fs::read("/etc/hosts").map(drop)),
        ability("a pair of unix stream sockets", pairs, |_, _| std::os::unix::net::UnixStream::pair().map(drop)),
    ]
}

fn change_ring(order: &Order) -> io::Result<()> {
    let directory = order.data.join("ring/stream");
    fs::create_dir(&directory).or_else(|error| if directory.is_dir() { Ok(()) } else { Err(error) })?;
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(directory.join("new"))?;
    file.write_all(&[0; 4096])?;
    file.set_len(8192)?;
    file.sync_all()?;
    raven_jail::memory::Mapping::shared(&file, 8192)?.slice_mut(5000..5001)[0] = 1;
    fs::rename(directory.join("new"), directory.join("old"))?;
    fs::remove_file(directory.join("old"))
}
