//! Numbers of the system calls that the process table may name.

/// What a name stands for on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Its number.
    Number(i64),
    /// Newer machines never had it (`open` on aarch64); the table names its successor too.
    OtherMachine,
    /// Not listed here.
    Unknown,
}

/// The call of that name.
pub(super) fn call(name: &str) -> Call {
    if name == "renameat" {
        return Call::Number(RENAMEAT);
    }
    if let Some((_, number)) = EVERYWHERE.iter().find(|(known, _)| &known["SYS_".len()..] == name) {
        return Call::Number(*number);
    }
    match OLD.iter().find(|(known, _)| &known["SYS_".len()..] == name) {
        Some((_, Some(number))) => Call::Number(*number),
        Some((_, None)) => Call::OtherMachine,
        None => Call::Unknown,
    }
}

/// The libc crate does not list it for aarch64, where libc's `rename` calls it.
const RENAMEAT: i64 = if cfg!(target_arch = "x86_64") { 264 } else { 38 };

macro_rules! everywhere {
    ($($call:ident)+) => { &[$((stringify!($call), libc::$call)),+] };
}

#[cfg(target_arch = "x86_64")]
macro_rules! old {
    ($($call:ident)+) => { &[$((stringify!($call), Some(libc::$call))),+] };
}

#[cfg(not(target_arch = "x86_64"))]
macro_rules! old {
    ($($call:ident)+) => { &[$((stringify!($call), None)),+] };
}

/// On all machines.
const EVERYWHERE: &[(&str, i64)] = everywhere! {
    SYS_read SYS_write SYS_readv SYS_writev SYS_close SYS_recvmsg SYS_recvfrom SYS_recvmmsg SYS_ppoll SYS_epoll_pwait
    SYS_epoll_pwait2 SYS_epoll_ctl SYS_epoll_create1 SYS_brk SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise
    SYS_mincore SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_getrandom SYS_getpid
    SYS_gettid SYS_getppid SYS_rt_sigreturn SYS_rt_sigaction SYS_rt_sigprocmask SYS_sigaltstack SYS_futex
    SYS_sched_yield SYS_sched_getaffinity SYS_restart_syscall SYS_exit SYS_exit_group SYS_tgkill SYS_sendto
    SYS_sendmsg SYS_sendmmsg SYS_openat SYS_newfstatat SYS_fstat SYS_statx SYS_lseek SYS_pread64 SYS_pwrite64
    SYS_pwritev SYS_pwritev2 SYS_preadv SYS_preadv2 SYS_fsync SYS_fdatasync SYS_fallocate SYS_ftruncate
    SYS_unlinkat SYS_renameat2 SYS_mkdirat SYS_getdents64 SYS_fcntl SYS_flock
    SYS_statfs SYS_fstatfs SYS_readlinkat SYS_getcwd SYS_msync SYS_fadvise64 SYS_fchmod SYS_fchmodat SYS_fchown
    SYS_fchownat SYS_utimensat SYS_clone3 SYS_clone SYS_set_robust_list SYS_rseq SYS_prctl SYS_faccessat
    SYS_faccessat2 SYS_uname SYS_geteuid SYS_getuid SYS_getgid SYS_getegid SYS_getgroups SYS_socket SYS_connect
    SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_getsockname SYS_getpeername SYS_setsockopt SYS_getsockopt
    SYS_shutdown SYS_ioctl SYS_eventfd2 SYS_timerfd_create SYS_timerfd_settime SYS_timerfd_gettime SYS_socketpair
    SYS_pipe2 SYS_dup SYS_dup3 SYS_sysinfo SYS_prlimit64 SYS_get_mempolicy SYS_membarrier SYS_memfd_create SYS_umask
    SYS_gettimeofday SYS_times SYS_getrusage SYS_execve SYS_execveat SYS_set_tid_address SYS_capget SYS_mlock
    SYS_mlock2 SYS_munlock SYS_pselect6 SYS_getrlimit SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch
};

/// Only on machines as old as x86-64.
const OLD: &[(&str, Option<i64>)] = old! {
    SYS_open SYS_stat SYS_lstat SYS_unlink SYS_rename SYS_mkdir SYS_rmdir SYS_access SYS_readlink SYS_poll SYS_select
    SYS_epoll_wait SYS_epoll_create SYS_dup2 SYS_pipe SYS_eventfd SYS_getdents SYS_time SYS_chmod SYS_chown
    SYS_arch_prctl
};

#[cfg(test)]
mod tests {
    use super::*;
    use raven_model::table::table;

    #[test]
    fn every_name_in_the_process_table_is_known() {
        let table = table();
        for name in table.role.iter().flat_map(|spec| &spec.syscalls).chain(&table.base.syscalls) {
            assert_ne!(call(name), Call::Unknown, "{name}");
        }
        assert_eq!(call("read"), Call::Number(libc::SYS_read));
        #[cfg(target_arch = "x86_64")]
        assert_eq!(RENAMEAT, libc::SYS_renameat);
        assert_eq!(call("raed"), Call::Unknown);
    }
}
