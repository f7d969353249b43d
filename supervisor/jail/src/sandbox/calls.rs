//! seccomp: which system calls a role may make, and with which arguments.

use super::names::{Call, call};
use crate::channel::check;
use crate::error::JailError;
use crate::tun::{TUNGETIFF, TUNSETIFF, TUNSETOWNER, TUNSETPERSIST};
use raven_model::table::{Base, Role, RoleSpec};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::io;

/// The argument rules of one call: any of them may hold. No rule: any arguments.
type Rules = Vec<SeccompRule>;

/// Calls and their rules, by number.
type Calls = BTreeMap<i64, Rules>;

/// A thread of this process, sharing all with it, in no new namespace, not traced, not as someone else's child.
const THREAD: i32 = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
const NOT_THREAD: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_VFORK
    | libc::CLONE_PARENT
    | libc::CLONE_PTRACE
    | libc::CLONE_UNTRACED
    | libc::CLONE_PIDFD;

/// Low bits of the second argument of `socket`; the others are `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
const SOCKET_TYPE: u64 = 0xf;

/// What `ioctl` may do; libcs disagree about the type of these numbers.
const FIONBIO: u64 = 0x5421;
const FIONREAD: u64 = 0x541b;
const TIOCOUTQ: u64 = 0x5411;

/// What openvpn's may do: attach to a TUN device, and look at links.
const OPENVPN_IOCTL: [u64; 7] = [FIONBIO, FIONREAD, TUNSETIFF, SIOCGIFCONF, SIOCGIFFLAGS, SIOCGIFNETMASK, SIOCGIFMTU];
/// What wireguard-go's may do: attach to a TUN device, and look at it.
const WIREGUARD_IOCTL: [u64; 7] = [FIONBIO, FIONREAD, TUNSETIFF, TUNGETIFF, SIOCGIFINDEX, SIOCGIFMTU, SIOCSIFMTU];
const SIOCGIFINDEX: u64 = 0x8933;
const SIOCSIFMTU: u64 = 0x8922;
const SIOCGIFCONF: u64 = 0x8912;
const SIOCGIFFLAGS: u64 = 0x8913;
const SIOCGIFNETMASK: u64 = 0x891b;
const SIOCGIFMTU: u64 = 0x8921;

/// What `fcntl` may do: nothing that makes the kernel signal another process (`F_SETOWN`, `F_SETSIG`, `F_NOTIFY`).
const FCNTL: [i32; 14] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GETLK,
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_GETLK,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
    libc::F_GET_SEALS,
    libc::F_ADD_SEALS,
];

/// Limits this thread and those it makes to the calls of `spec` and `base`. Returns what the kernel does not offer.
pub(super) fn restrict(spec: &RoleSpec, base: &Base) -> Result<Vec<String>, JailError> {
    // All programs are made first: afterwards memory may be all that can still be had. The killing one goes last, as it
    // does not allow to add more. Of all answers the kernel takes the strictest, so their order means nothing else.
    let programs = programs(spec, base)?;
    for program in &programs {
        match install(program) {
            Ok(()) => {}
            Err(error) if unsupported(&error) => {
                return Ok(vec![format!(
                    "system calls are not restricted: this kernel has no seccomp filters ({error})"
                )]);
            }
            Err(error) => return Err(JailError::Call { call: "seccomp(SECCOMP_SET_MODE_FILTER)", error }),
        }
    }
    Ok(Vec::new())
}

/// Not [`seccompiler::apply_filter`]: that calls `prctl` first, which the first of our filters refuses.
fn install(program: &BpfProgram) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // The kernel reads the program and does not change it; the struct has no const twin.
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `len` instructions, in the kernel's layout (both types mirror struct sock_filter).
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    check(result as libc::c_int).map(drop)
}

fn unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS))
}

fn programs(spec: &RoleSpec, base: &Base) -> Result<Vec<BpfProgram>, JailError> {
    let mut programs = Vec::new();
    for (errno, calls) in answered(spec) {
        programs.push(program(calls, SeccompAction::Allow, SeccompAction::Errno(errno as u32))?);
    }
    // Libraries of a foreign program try what they can do without, others in each version: an error keeps it in as well
    // as its end would.
    let otherwise = match spec.program {
        Some(_) => SeccompAction::Errno(libc::ENOSYS as u32),
        None => SeccompAction::KillProcess,
    };
    programs.push(program(allowed(spec, base)?, otherwise, SeccompAction::Allow)?);
    Ok(programs)
}

fn program(calls: Calls, otherwise: SeccompAction, then: SeccompAction) -> Result<BpfProgram, JailError> {
    let arch = TargetArch::try_from(ARCH).map_err(seccompiler::Error::Backend)?;
    let filter = SeccompFilter::new(calls, otherwise, then, arch).map_err(seccompiler::Error::Backend)?;
    BpfProgram::try_from(filter).map_err(|error| seccompiler::Error::Backend(error).into())
}

/// The calls that do not end the process. Those of [`answered`] are among them: the strictest answer wins.
fn allowed(spec: &RoleSpec, base: &Base) -> Result<Calls, JailError> {
    let mut calls = Calls::new();
    for name in base.syscalls.iter().chain(&spec.syscalls) {
        match call(name) {
            Call::Number(number) => drop(calls.insert(number, arguments(name, spec))),
            Call::OtherMachine => {}
            Call::Unknown => return Err(JailError::UnknownCall { name: name.clone() }),
        }
    }
    Ok(calls)
}

/// Which arguments of an allowed call are allowed; with others it ends the process.
fn arguments(name: &str, spec: &RoleSpec) -> Rules {
    match name {
        // Libraries are files that are mapped as code; memory never becomes code.
        "mmap" if spec.program.is_some() => vec![
            rule(&[masked(2, libc::PROT_EXEC as u64, 0)]),
            rule(&[masked(3, libc::MAP_ANONYMOUS as u64, 0), masked(2, libc::PROT_WRITE as u64, 0)]),
        ],
        "mprotect" if spec.program.is_some() => vec![rule(&[masked(2, libc::PROT_EXEC as u64, 0)])],
        "socket" if spec.program.is_some() => sockets_of_openvpn(),
        "ioctl" if spec.name == Role::Wireguard => WIREGUARD_IOCTL.iter().map(|order| rule(&[is(1, *order)])).collect(),
        "ioctl" if spec.program.is_some() => OPENVPN_IOCTL.iter().map(|order| rule(&[is(1, *order)])).collect(),
        // Writable memory never becomes executable, nor any new memory.
        "mmap" | "mprotect" if !spec.network => vec![rule(&[masked(2, libc::PROT_EXEC as u64, 0)])],
        "clone" => vec![rule(&[masked(0, (THREAD | NOT_THREAD) as u64, THREAD as u64)])],
        // Without an address: a socket that was passed unconnected must not become a way out.
        "sendto" if !spec.network => {
            let mut rules = match spec.name {
                Role::Trap => answers(),
                Role::Net => vec![to_the_kernel()],
                _ => Vec::new(),
            };
            rules.push(rule(&[pointer_is_null(4)]));
            rules
        }
        "socket" if matches!(spec.name, Role::Vpn | Role::Diag | Role::Schedule) => {
            internet_sockets().into_iter().chain(ping_sockets()).collect()
        }
        "socket" => internet_sockets(),
        // Nothing about its packet socket but what was dropped there, and how long an operator may take nothing.
        "getsockopt" if spec.name == Role::Wire => vec![option(libc::SOL_PACKET, libc::PACKET_STATISTICS)],
        "setsockopt" if spec.name == Role::Wire => {
            [libc::SO_SNDTIMEO, libc::SO_RCVTIMEO].map(|name| option(libc::SOL_SOCKET, name)).into()
        }
        "ioctl" if spec.name == Role::Wire => vec![rule(&[is(1, FIONBIO)])],
        // The net role makes devices of tunnels. What a role with network may is in `answered`.
        "ioctl" if !spec.network => [TUNSETIFF, TUNSETOWNER, TUNSETPERSIST].map(|call| rule(&[is(1, call)])).into(),
        // A datagram pair could be connected to any socket in the file system.
        "socketpair" => vec![rule(&[is(0, libc::AF_UNIX as u64), masked(1, SOCKET_TYPE, libc::SOCK_STREAM as u64)])],
        "fcntl" => FCNTL.iter().map(|command| rule(&[is(1, *command as u64)])).collect(),
        // Reading one's own limits.
        "prlimit64" => vec![rule(&[is(0, 0), pointer_is_null(2)])],
        // How Go interrupts its own threads.
        "tgkill" if spec.name == Role::Wireguard => {
            let own = || is(0, u64::from(std::process::id()));
            [libc::SIGABRT, libc::SIGURG].map(|signal| rule(&[own(), is(2, signal as u64)])).into()
        }
        // How abort() ends this process, so that it is seen to have died of SIGABRT.
        "tgkill" => vec![rule(&[is(0, u64::from(std::process::id())), is(2, libc::SIGABRT as u64)])],
        _ => Vec::new(),
    }
}

/// The trap role is passed UDP sockets alone, and answers from them: as `socket::send_to` does, to an IPv4 or IPv6
/// address, with no flag that would open anything (MSG_FASTOPEN).
fn answers() -> Rules {
    let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;
    let lens = [size_of::<libc::sockaddr_in>(), size_of::<libc::sockaddr_in6>()];
    lens.map(|len| rule(&[is(3, flags), is(5, len as u64)])).into()
}

/// The net role holds one socket that is not connected, a netlink socket, whose addresses have this length.
fn to_the_kernel() -> SeccompRule {
    rule(&[is(5, size_of::<libc::sockaddr_nl>() as u64)])
}

/// TCP and UDP over IPv4 and IPv6; other families get an error (see [`answered`]), raw sockets and other protocols end
/// the process.
fn internet_sockets() -> Rules {
    let mut rules = tcp_and_udp();
    rules.push(not_internet());
    rules
}

fn tcp_and_udp() -> Rules {
    let protocols = [(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)];
    let mut rules = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, protocol) in protocols {
            for protocol in [0, protocol] {
                rules.push(rule(&[is(0, family as u64), masked(1, SOCKET_TYPE, kind as u64), is(2, protocol as u64)]));
            }
        }
    }
    rules
}

/// ICMP echo without raw sockets: the kernel lets the groups of net.ipv4.ping_group_range.
fn ping_sockets() -> Rules {
    let of = |family: i32, protocol: i32| {
        rule(&[is(0, family as u64), masked(1, SOCKET_TYPE, libc::SOCK_DGRAM as u64), is(2, protocol as u64)])
    };
    vec![of(libc::AF_INET, libc::IPPROTO_ICMP), of(libc::AF_INET6, libc::IPPROTO_ICMPV6)]
}

/// The way to its server, to its management socket, and the kernel's routes, which it looks at.
fn sockets_of_openvpn() -> Rules {
    let mut rules = tcp_and_udp();
    rules.push(rule(&[is(0, libc::AF_UNIX as u64), masked(1, SOCKET_TYPE, libc::SOCK_STREAM as u64)]));
    let routes = is(2, libc::NETLINK_ROUTE as u64);
    rules.push(rule(&[is(0, libc::AF_NETLINK as u64), masked(1, SOCKET_TYPE, libc::SOCK_RAW as u64), routes]));
    rules
}

/// This option of a socket alone.
fn option(level: i32, name: i32) -> SeccompRule {
    rule(&[is(1, level as u64), is(2, name as u64)])
}

fn not_internet() -> SeccompRule {
    rule(&[is_not(0, libc::AF_INET as u64), is_not(0, libc::AF_INET6 as u64)])
}

/// Calls that are answered with an error because libraries try them and can do without.
fn answered(spec: &RoleSpec) -> Vec<(i32, Calls)> {
    let other_prctl = rule(&[is_not(0, libc::PR_SET_NAME as u64)]);
    let mut answers = vec![
        // Its flags lie behind a pointer, where seccomp cannot see them; libc then calls clone.
        (libc::ENOSYS, Calls::from([(libc::SYS_clone3, Vec::new())])),
        (libc::EINVAL, Calls::from([(libc::SYS_prctl, vec![other_prctl])])),
    ];
    if spec.name == Role::Wireguard {
        // It does not go on without having set its device's MTU, which is for the net role to do: it is told that it has.
        answers.push((0, Calls::from([(libc::SYS_ioctl, vec![rule(&[is(1, SIOCSIFMTU)])])])));
    }
    if spec.network && spec.program.is_none() {
        let other_ioctl = rule(&[is_not(1, FIONBIO), is_not(1, FIONREAD), is_not(1, TIOCOUTQ)]);
        let executable = || vec![rule(&[masked(2, libc::PROT_EXEC as u64, libc::PROT_EXEC as u64)])];
        answers.extend([
            // getaddrinfo asks the name service cache (AF_UNIX) and the kernel (AF_NETLINK) first.
            (libc::EAFNOSUPPORT, Calls::from([(libc::SYS_socket, vec![not_internet()])])),
            (libc::ENOTTY, Calls::from([(libc::SYS_ioctl, vec![other_ioctl])])),
            // getaddrinfo loads the name service modules that nsswitch.conf names.
            (libc::EACCES, Calls::from([(libc::SYS_mmap, executable()), (libc::SYS_mprotect, executable())])),
        ]);
    }
    answers
}

fn rule(conditions: &[SeccompCondition]) -> SeccompRule {
    SeccompRule::new(conditions.to_vec()).expect("no rule is empty")
}

/// The kernel looks at the low 32 bits of an int, so the filter does.
fn is(argument: u8, value: u64) -> SeccompCondition {
    condition(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn is_not(argument: u8, value: u64) -> SeccompCondition {
    condition(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> SeccompCondition {
    condition(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask & 0xffff_ffff), value)
}

fn pointer_is_null(argument: u8) -> SeccompCondition {
    condition(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}

fn condition(argument: u8, len: SeccompCmpArgLen, op: SeccompCmpOp, value: u64) -> SeccompCondition {
    SeccompCondition::new(argument, len, op, value).expect("a call has six arguments")
}

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::table::table;

    #[test]
    fn a_filter_can_be_made_for_every_role_of_the_process_table() {
        for spec in &table().role {
            assert!(programs(spec, &table().base).is_ok(), "{}", spec.name);
        }
    }

    #[test]
    fn clone3_is_answered_only_where_the_role_has_it() {
        // The answer alone opens nothing: for a role without clone3 the strictest answer is the end of the process.
        let config = allowed(table().spec(Role::Config), &table().base).expect("known calls");
        assert!(!config.contains_key(&libc::SYS_clone3));
    }
}
