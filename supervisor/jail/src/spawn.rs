//! Starting a worker: what `ravend` does between fork and exec.
//!
//! When `ravend` may (root), the worker gets a user of its own, the capabilities of its role (none but for `net`), and a
//! mount namespace in which the data directory lies at a place that its user can reach. When not, it gets what is left,
//! and [`Child::missing`] says what is not.

mod child;

use crate::caps;
use crate::channel::check;
use crate::signals;
use ::caps::Capability;
use child::{Limit, Plan, Step, User};
use raven_model::table::RoleSpec;
use std::env;
use std::ffi::{CString, OsStr};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where a worker sees the data directory when it has a mount namespace of its own; the first that is there and open
/// to all. They are empty on a normal machine, and only the worker's view of them changes.
const VIEWS: [&str; 4] = ["/mnt", "/srv", "/media", "/opt"];

/// Environment variables that a worker inherits.
const ENVIRONMENT: [&str; 2] = ["RAVEN_LOG", "JOURNAL_STREAM"];

/// Number of the worker's end of the control channel.
pub const CONTROL_FD: libc::c_int = 3;

/// What to start.
#[derive(Debug, Clone, Copy)]
pub struct SpawnSpec<'a> {
    /// Its entry in the process table.
    pub role: &'a RoleSpec,
    /// `raven-worker`, opened with [`open_program`]: its path need not be reachable for the worker's user.
    pub program: BorrowedFd<'a>,
    /// The worker's end of the control channel; number 3 in the worker.
    pub control: BorrowedFd<'a>,
    /// The data directory. The directory itself must be open to all (mode 0711); those above it need not be.
    pub data: &'a Path,
}

/// A running worker. Dropping it neither ends nor reaps the process.
#[derive(Debug)]
pub struct Child {
    /// Process id.
    pub pid: u32,
    /// Readable when the process has ended.
    pub pidfd: OwnedFd,
    /// User that it runs as.
    pub uid: u32,
    /// The data directory, as it sees it.
    pub data: PathBuf,
    /// What its jail lacks, in words.
    pub missing: Vec<String>,
    /// Capabilities that it was given: those of its role, or none.
    pub capabilities: Vec<String>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exit(i32),
    /// By a signal.
    Signal(i32),
}

impl fmt::Display for End {
    /// `exit 1`, `SIGKILL`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit {code}"),
            Self::Signal(signal) => f.write_str(&signals::name(*signal)),
        }
    }
}

/// Opens the program that [`spawn`] runs.
///
/// # Errors
/// It is not there.
pub fn open_program(path: &Path) -> io::Result<OwnedFd> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).map(OwnedFd::from)
}

/// Whether workers get users of their own: this process may change users.
pub fn can_change_user() -> bool {
    caps::has(Capability::CAP_SETUID) && caps::has(Capability::CAP_SETGID)
}

/// Starts `raven-worker ROLE` and returns when it is being executed. Call it on the thread that lives as long as the
/// process: the worker is killed when that thread ends.
///
/// # Errors
/// Names the step that failed: `syslog worker: setresuid: Operation not permitted`.
pub fn spawn(spec: &SpawnSpec) -> io::Result<Child> {
    let prepared = Prepared::new(spec)?;
    let (report, child_report) = report_pipe()?;
    let plan = prepared.plan(spec, &child_report);
    let (pid, pidfd) = fork(&plan)?;
    drop(child_report);
    let failed = read_report(report)?;
    if let Some((step, errno)) = failed.iter().find(|(step, _)| !step.optional()) {
        let child = Child { pid, pidfd, uid: 0, data: PathBuf::new(), missing: Vec::new(), capabilities: Vec::new() };
        child.wait()?;
        let error = io::Error::from_raw_os_error(*errno);
        return Err(io::Error::new(error.kind(), format!("{} worker: {}: {error}", spec.role.name, step.name())));
    }
    Ok(prepared.child(pid, pidfd, &failed))
}

impl Child {
    /// How it ended; `None` while it runs. After the first `Some` there is nothing more to ask.
    ///
    /// # Errors
    /// It was reaped before.
    pub fn try_wait(&self) -> io::Result<Option<End>> {
        self.waitid(libc::WNOHANG)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It was reaped before.
    pub fn wait(&self) -> io::Result<End> {
        loop {
            if let Some(end) = self.waitid(0)? {
                return Ok(end);
            }
        }
    }

    /// Sends it a signal; no error when it has just ended.
    ///
    /// # Errors
    /// `PermissionDenied`: it runs as another user and `CAP_KILL` is not held.
    pub fn kill(&self, signal: libc::c_int) -> io::Result<()> {
        // SAFETY: reads no memory (no siginfo is passed).
        let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), signal, 0, 0) };
        match check(result as libc::c_int) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }

    fn waitid(&self, flags: libc::c_int) -> io::Result<Option<End>> {
        // SAFETY: all zeroes is a valid value of this plain struct.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        loop {
            // SAFETY: the kernel writes one siginfo.
            let result = unsafe {
                libc::waitid(libc::P_PIDFD, self.pidfd.as_raw_fd() as libc::id_t, &raw mut info, libc::WEXITED | flags)
            };
            match check(result) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        // SAFETY: waitid filled the fields of a child's end, or left the zeroes.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        Ok((pid != 0).then_some(if info.si_code == libc::CLD_EXITED { End::Exit(status) } else { End::Signal(status) }))
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// All that the child needs, made before the fork: after it, nothing may be allocated.
#[derive(Debug)]
struct Prepared {
    role: CString,
    environment: Vec<CString>,
    data: PathBuf,
    source: CString,
    view: Option<(PathBuf, CString)>,
    null: File,
    user: Option<User>,
    /// Bits of the capabilities that the worker keeps.
    granted: u64,
    limits: [Limit; 4],
    missing: Vec<String>,
}

impl Prepared {
    fn new(spec: &SpawnSpec) -> io::Result<Self> {
        let role = spec.role;
        let mut missing = Vec::new();
        let user = can_change_user().then(|| User { uid: role.uid, groups: role.groups.clone() });
        if user.is_none() {
            missing.push(format!(
                "all processes run as user {}: start ravend as root to give each role a user of its own",
                own_uid()
            ));
            missing.push("the bounding set is not emptied: only root can".to_owned());
        }
        let (granted, withheld) = grant(role, user.is_some())?;
        missing.extend(withheld);
        let data = spec
            .data
            .canonicalize()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", spec.data.display())))?;
        let own_mounts = user.is_some() && caps::has(Capability::CAP_SYS_ADMIN);
        let view = if own_mounts && has_data(role) { view()? } else { None };
        Ok(Self {
            role: c_string(OsStr::new(role.name.name()))?,
            environment: environment()?,
            source: c_string(data.as_os_str())?,
            data,
            view,
            null: OpenOptions::new().read(true).write(true).open("/dev/null")?,
            limits: limits(role, user.is_some())?,
            user,
            granted,
            missing,
        })
    }

    fn plan<'a>(&'a self, spec: &'a SpawnSpec, report: &'a OwnedFd) -> Plan<'a> {
        let mut environment: Vec<_> = self.environment.iter().map(|entry| entry.as_ptr()).collect();
        environment.push(std::ptr::null());
        Plan {
            program: spec.program,
            control: spec.control,
            null: self.null.as_fd(),
            report: report.as_fd(),
            argv: [c"raven-worker".as_ptr(), self.role.as_ptr(), std::ptr::null()],
            environment,
            mount: self.view.as_ref().map(|(_, view)| (self.source.as_c_str(), view.as_c_str())),
            read_only: spec.role.paths.iter().all(|rule| rule.access == raven_model::table::Access::Read),
            own_mounts: self.user.is_some(),
            user: self.user.as_ref(),
            granted: self.granted,
            limits: &self.limits,
            parent: std::process::id().cast_signed(),
        }
    }

    fn child(self, pid: u32, pidfd: OwnedFd, failed: &[(Step, i32)]) -> Child {
        let names = ::caps::all().into_iter().filter(|capability| self.granted & capability.bitmask() != 0);
        let capabilities = names.map(|capability| capability.to_string()).collect();
        let mut missing = self.missing;
        missing.extend(failed.iter().map(|(step, errno)| {
            format!("{} ({}: {})", step.lack(), step.name(), io::Error::from_raw_os_error(*errno))
        }));
        let mounted = !failed.iter().any(|(step, _)| step.no_view());
        let data = self.view.filter(|_| mounted).map_or(self.data, |(view, _)| view);
        Child { pid, pidfd, uid: self.user.map_or_else(own_uid, |user| user.uid), data, missing, capabilities }
    }
}

/// Bits of the capabilities that `role` gets, and what is said of those that it does not: they can only be handed on by
/// who holds them, and to another user than root.
fn grant(role: &RoleSpec, own_user: bool) -> io::Result<(u64, Option<String>)> {
    let (mut granted, mut withheld) = (0, Vec::new());
    for name in &role.capabilities {
        let known: Capability = name.parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("process table: {name} is no capability"))
        })?;
        if own_user && caps::has(known) && caps::has(Capability::CAP_SETPCAP) {
            granted |= known.bitmask();
        } else {
            withheld.push(name.as_str());
        }
    }
    let why =
        || format!("{} works without {}: ravend cannot hand it on, start it as root", role.name, withheld.join(", "));
    Ok((granted, (!withheld.is_empty()).then(why)))
}

fn has_data(role: &RoleSpec) -> bool {
    role.paths.iter().any(|rule| Path::new(&rule.path).is_relative())
}

/// The first of [`VIEWS`] that is a directory which all users can enter.
fn view() -> io::Result<Option<(PathBuf, CString)>> {
    let open_to_all =
        |path: &&str| std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir() && meta.mode() & 0o001 != 0);
    let Some(path) = VIEWS.into_iter().find(open_to_all) else { return Ok(None) };
    Ok(Some((PathBuf::from(path), c_string(OsStr::new(path))?)))
}

fn environment() -> io::Result<Vec<CString>> {
    let mut entries = vec![c"RUST_BACKTRACE=0".to_owned()];
    for name in ENVIRONMENT {
        if let Some(value) = env::var_os(name) {
            entries.push(c_string(&[OsStr::new(name), &value].join(OsStr::new("=")))?);
        }
    }
    Ok(entries)
}

/// Threads and processes are limited only where the role starts none, and only for a user of its own: the kernel
/// counts those of the whole user.
fn limits(role: &RoleSpec, own_user: bool) -> io::Result<[Limit; 4]> {
    let threads = role.syscalls.iter().any(|call| call == "clone");
    let none = own_user && !threads;
    Ok([
        Limit::lowered(libc::RLIMIT_NOFILE, role.files)?,
        Limit::lowered(libc::RLIMIT_DATA, role.memory.0)?,
        Limit::lowered(libc::RLIMIT_CORE, 0)?,
        Limit::lowered(libc::RLIMIT_NPROC, if none { 0 } else { u64::MAX })?,
    ])
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: holds a NUL byte", text.display())))
}

fn report_pipe() -> io::Result<(File, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: the kernel writes two numbers.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: two new descriptors that nobody else owns.
    Ok(unsafe { (File::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// All failed steps; the pipe ends when the child executes the program or ends.
fn read_report(mut report: File) -> io::Result<Vec<(Step, i32)>> {
    let mut bytes = Vec::new();
    report.read_to_end(&mut bytes)?;
    Ok(bytes.as_chunks::<8>().0.iter().filter_map(|bytes| child::parse_report(*bytes)).collect())
}

/// Forks with a pidfd. All signals are blocked meanwhile, so that no handler of this process runs in the child.
fn fork(plan: &Plan) -> io::Result<(u32, OwnedFd)> {
    let before = block_signals()?;
    let mut pidfd: libc::c_int = -1;
    let flags = libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: as fork(2), but that libc's own handlers are not run and its cached thread id stays the parent's; the
    // child calls only async-signal-safe functions that use neither, and ends in exec or _exit.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    if pid == 0 {
        child::run(plan);
    }
    let error = io::Error::last_os_error();
    // SAFETY: reads one set.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    if pid < 0 {
        return Err(io::Error::new(error.kind(), format!("fork: {error}")));
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok((pid as u32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

fn block_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: all zeroes is a valid set; both calls write only to the sets.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        let mut before: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before))?;
        Ok(before)
    }
}
