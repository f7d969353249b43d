//! Between fork and exec. Only system calls: no allocation, no lock, no libc function that is not async-signal-safe.

use std::ffi::{CStr, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Numbers that the descriptors get on their way; those above close on exec.
const CONTROL: libc::c_int = super::CONTROL_FD;
const PROGRAM: libc::c_int = 4;
const REPORT: libc::c_int = 5;

/// Moved out of the way first: no descriptor of [`Plan`] can be overwritten from here on.
const ABOVE: libc::c_int = 16;

/// Highest number of a capability that any kernel may have, and of a signal.
const CAPABILITIES: libc::c_ulong = 63;
const SIGNALS: libc::c_int = 64;

/// Root has no privilege by being root, nor can any of it be changed back. From linux/securebits.h.
const SECUREBITS: libc::c_ulong = (1 << 0) | (1 << 1) | (1 << 3) | (1 << 5) | (1 << 6) | (1 << 7);

/// Permitted capabilities outlive the change from root to another user. Exec takes it back.
const KEEP_CAPS: libc::c_ulong = 1 << 4;

const CAP_SETPCAP: u64 = 1 << 8;

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// How this libc writes the number of a limit.
#[cfg(target_env = "gnu")]
pub(super) type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
pub(super) type Resource = libc::c_int;

/// What the child does, made by the parent.
pub(super) struct Plan<'a> {
    pub program: BorrowedFd<'a>,
    pub control: BorrowedFd<'a>,
    pub null: BorrowedFd<'a>,
    pub report: BorrowedFd<'a>,
    pub argv: [*const c_char; 3],
    /// Ends with a null.
    pub environment: Vec<*const c_char>,
    /// Data directory and where to mount it.
    pub mount: Option<(&'a CStr, &'a CStr)>,
    /// The role writes nothing.
    pub read_only: bool,
    /// Make a mount namespace.
    pub own_mounts: bool,
    pub user: Option<&'a User>,
    /// Bits of the capabilities that it keeps; none without a user of its own.
    pub granted: u64,
    pub limits: &'a [Limit],
    pub parent: libc::pid_t,
}

/// Whom to become.
#[derive(Debug)]
pub(super) struct User {
    pub uid: u32,
    pub groups: Vec<u32>,
}

/// A resource limit, soft and hard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    resource: Resource,
    value: u64,
}

impl Limit {
    /// `value`, or the present hard limit where that is lower: it cannot be raised without `CAP_SYS_RESOURCE`.
    pub fn lowered(resource: Resource, value: u64) -> io::Result<Self> {
        let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the kernel writes one rlimit.
        crate::channel::check(unsafe { libc::getrlimit(resource, &raw mut now) })?;
        Ok(Self { resource, value: value.min(now.rlim_max) })
    }
}

/// A step that can fail. The numbers travel through the report pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Step {
    Descriptors,
    Unshare,
    Private,
    Bind,
    Remount,
    Securebits,
    Bounding,
    Ambient,
    Groups,
    Gid,
    Uid,
    Capabilities,
    Limits,
    NoNewPrivs,
    ParentDeath,
    ParentGone,
    Exec,
    Keep,
    Raise,
}

const STEPS: [(Step, &str); 19] = [
    (Step::Descriptors, "dup3"),
    (Step::Unshare, "unshare(CLONE_NEWNS)"),
    (Step::Private, "mount(MS_PRIVATE)"),
    (Step::Bind, "mount(MS_BIND) of the data directory"),
    (Step::Remount, "mount(MS_REMOUNT) of the data directory"),
    (Step::Securebits, "prctl(PR_SET_SECUREBITS)"),
    (Step::Bounding, "prctl(PR_CAPBSET_DROP)"),
    (Step::Ambient, "prctl(PR_CAP_AMBIENT_CLEAR_ALL)"),
    (Step::Groups, "setgroups"),
    (Step::Gid, "setresgid"),
    (Step::Uid, "setresuid"),
    (Step::Capabilities, "capset"),
    (Step::Limits, "setrlimit"),
    (Step::NoNewPrivs, "prctl(PR_SET_NO_NEW_PRIVS)"),
    (Step::ParentDeath, "prctl(PR_SET_PDEATHSIG)"),
    (Step::ParentGone, "ravend ended meanwhile"),
    (Step::Exec, "execveat of raven-worker"),
    (Step::Keep, "prctl(PR_SET_KEEPCAPS)"),
    (Step::Raise, "prctl(PR_CAP_AMBIENT_RAISE)"),
];

impl Step {
    /// As in messages.
    pub fn name(self) -> &'static str {
        STEPS[self as usize].1
    }

    /// The worker can do without; what its jail then lacks is in [`lack`](Self::lack).
    pub fn optional(self) -> bool {
        !self.lack().is_empty()
    }

    /// Without it the worker sees the data directory where it is.
    pub fn no_view(self) -> bool {
        matches!(self, Self::Unshare | Self::Private | Self::Bind)
    }

    /// In words; empty when the worker must not start without.
    pub fn lack(self) -> &'static str {
        match self {
            Self::Unshare | Self::Private | Self::Bind => "no mount namespace of its own",
            Self::Remount => "its view of the data directory is not restricted by mount flags",
            Self::Securebits => "securebits are not set",
            Self::Bounding => "the capability bounding set holds more than the role's",
            _ => "",
        }
    }
}

/// The reverse of [`report_to`].
pub(super) fn parse_report(bytes: [u8; 8]) -> Option<(Step, i32)> {
    let (words, _) = bytes.as_chunks::<4>();
    let (step, _) = STEPS.get(u32::from_ne_bytes(words[0]) as usize)?;
    Some((*step, i32::from_ne_bytes(words[1])))
}

/// In the child: does as planned and never returns.
pub(super) fn run(plan: &Plan) -> ! {
    // SAFETY: async-signal-safe calls on values that the parent made; this process has one thread.
    unsafe {
        reset_signals();
        // Ctrl-C on the terminal is for ravend, which then stops its workers in order.
        libc::setpgid(0, 0);
        take_descriptors(plan);
        if plan.own_mounts {
            take_mounts(plan);
        }
        set_limits(plan, |resource| resource != libc::RLIMIT_NPROC);
        drop_privileges(plan);
        // After the change of user: else the kernel would count it against the user's limit and refuse to exec.
        set_limits(plan, |resource| resource == libc::RLIMIT_NPROC);
        must(Step::NoNewPrivs, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        follow_parent(plan);
        unblock_signals();
        libc::syscall(
            libc::SYS_execveat,
            PROGRAM,
            c"".as_ptr(),
            plan.argv.as_ptr(),
            plan.environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        fail(Step::Exec)
    }
}

/// Exec keeps what is ignored, and Rust programs ignore SIGPIPE.
unsafe fn reset_signals() {
    for signal in 1..=SIGNALS {
        // SAFETY: SIG_DFL is no handler. SIGKILL, SIGSTOP and libc's own refuse, rightly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

unsafe fn unblock_signals() {
    // SAFETY: writes and reads a local set.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// 0 and 1 are /dev/null, 2 stays, 3 is the control channel; all else is closed, now or by exec.
unsafe fn take_descriptors(plan: &Plan) {
    // SAFETY: calls on numbers; the parent's owners of these descriptors are copies that this process never drops.
    unsafe {
        let [null, control, program, report] = [plan.null, plan.control, plan.program, plan.report]
            .map(|fd| libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ABOVE));
        // Until the report pipe has its number, failures go to the old one.
        if null.min(control).min(program).min(report) < 0 || libc::dup3(report, REPORT, libc::O_CLOEXEC) < 0 {
            report_to(plan.report.as_raw_fd(), Step::Descriptors);
            libc::_exit(127);
        }
        must(Step::Descriptors, libc::dup2(null, 0));
        must(Step::Descriptors, libc::dup2(null, 1));
        must(Step::Descriptors, libc::dup2(control, CONTROL));
        must(Step::Descriptors, libc::dup3(program, PROGRAM, libc::O_CLOEXEC));
        must(Step::Descriptors, libc::syscall(libc::SYS_close_range, REPORT + 1, libc::c_uint::MAX, 0) as libc::c_int);
    }
}

unsafe fn take_mounts(plan: &Plan) {
    let none = std::ptr::null();
    // SAFETY: C strings that the parent made, or constants.
    unsafe {
        if !may(Step::Unshare, libc::unshare(libc::CLONE_NEWNS))
            || !may(Step::Private, libc::mount(none, c"/".as_ptr(), none, libc::MS_PRIVATE | libc::MS_REC, none.cast()))
        {
            return;
        }
        let Some((source, view)) = plan.mount else { return };
        if !may(Step::Bind, libc::mount(source.as_ptr(), view.as_ptr(), none, libc::MS_BIND, none.cast())) {
            return;
        }
        let read_only = if plan.read_only { libc::MS_RDONLY } else { 0 };
        let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | read_only;
        may(Step::Remount, libc::mount(none, view.as_ptr(), none, flags, none.cast()));
    }
}

/// Bounding set first, while `CAP_SETPCAP` is held; the other sets last. Raw calls: those of libc would tell the other
/// threads of the parent.
unsafe fn drop_privileges(plan: &Plan) {
    // SAFETY: plain numbers, and arrays that outlive the calls.
    unsafe {
        if let Some(user) = plan.user {
            // A role that keeps something is locked in later: the change of user would take it, and clears what is ambient.
            if plan.granted == 0 {
                may(Step::Securebits, libc::prctl(libc::PR_SET_SECUREBITS, SECUREBITS, 0, 0, 0));
            } else {
                must(Step::Keep, libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0));
            }
            drop_bounding(plan.granted);
            must(
                Step::Groups,
                libc::syscall(libc::SYS_setgroups, user.groups.len(), user.groups.as_ptr()) as libc::c_int,
            );
            must(Step::Gid, libc::syscall(libc::SYS_setresgid, user.uid, user.uid, user.uid) as libc::c_int);
            must(Step::Uid, libc::syscall(libc::SYS_setresuid, user.uid, user.uid, user.uid) as libc::c_int);
        }
        must(Step::Ambient, libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
        if plan.granted != 0 {
            raise_ambient(plan.granted);
        }
        set_capabilities(plan.granted, plan.granted);
    }
}

/// Another user than root keeps over exec what is ambient, and nothing else. The worker's first act in its jail is to empty
/// that set and the inheritable one, which it takes.
unsafe fn raise_ambient(granted: u64) {
    set_capabilities(granted | CAP_SETPCAP, granted);
    for capability in (0..64).filter(|capability| granted >> capability & 1 == 1) {
        // SAFETY: plain numbers.
        let raised =
            unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability as libc::c_ulong, 0, 0) };
        must(Step::Raise, raised);
    }
    // Nothing more can become ambient from here on.
    let bits = SECUREBITS | KEEP_CAPS;
    // SAFETY: plain numbers.
    may(Step::Securebits, unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0) });
}

/// `held` becomes permitted and effective.
fn set_capabilities(held: u64, inheritable: u64) {
    // linux/capability.h: version and process (0: this one), then twice effective, permitted, inheritable.
    let header = [CAPABILITY_VERSION_3, 0];
    let half = |shift: u32| [(held >> shift) as u32, (held >> shift) as u32, (inheritable >> shift) as u32];
    let sets = [half(0), half(32)];
    // SAFETY: arrays that outlive the call.
    let set = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    must(Step::Capabilities, set as libc::c_int);
}

unsafe fn drop_bounding(granted: u64) {
    for capability in (0..=CAPABILITIES).filter(|capability| granted >> capability & 1 == 0) {
        // SAFETY: plain numbers.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        // EINVAL: beyond the last capability of this kernel.
        if result < 0 && errno() == libc::EINVAL {
            return;
        }
        if !may(Step::Bounding, result) {
            return;
        }
    }
}

unsafe fn set_limits(plan: &Plan, which: impl Fn(Resource) -> bool) {
    for limit in plan.limits.iter().filter(|limit| which(limit.resource)) {
        let value = libc::rlimit { rlim_cur: limit.value, rlim_max: limit.value };
        // SAFETY: the kernel reads one rlimit.
        must(Step::Limits, unsafe { libc::setrlimit(limit.resource, &raw const value) });
    }
}

/// After the change of user, which would clear it.
unsafe fn follow_parent(plan: &Plan) {
    // SAFETY: plain numbers.
    unsafe {
        must(Step::ParentDeath, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0));
        if libc::getppid() != plan.parent {
            fail(Step::ParentGone);
        }
    }
}

/// Ends the child when `result` is an error.
fn must(step: Step, result: libc::c_int) {
    if result < 0 {
        fail(step);
    }
}

/// Tells the parent when `result` is an error; true when it is not.
fn may(step: Step, result: libc::c_int) -> bool {
    if result < 0 {
        report(step);
    }
    result >= 0
}

fn fail(step: Step) -> ! {
    report(step);
    // SAFETY: ends this process; nothing of the parent's is flushed or freed.
    unsafe { libc::_exit(127) }
}

fn report(step: Step) {
    report_to(REPORT, step);
}

/// Step and errno, 8 bytes: written whole or not at all.
fn report_to(pipe: libc::c_int, step: Step) {
    let words = [step as u32, errno() as u32];
    // SAFETY: the kernel reads 8 bytes.
    unsafe { libc::write(pipe, words.as_ptr().cast(), size_of_val(&words)) };
}

fn errno() -> libc::c_int {
    // SAFETY: the thread's own errno.
    unsafe { *libc::__errno_location() }
}
