//! What a worker does to itself before it reads its first byte of input.
//!
//! Order: capabilities, process attributes, Landlock (files, TCP ports, signals), then seccomp, which ends the right to change
//! anything of it. What `ravend` did before (user, capabilities, mount namespace) is in [`crate::spawn`].

mod calls;
mod files;
mod names;

use crate::channel::check;
use crate::error::JailError;
use raven_model::table::{Base, RoleSpec};
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Shuts this process in as `spec` says. `data` is the data directory as this process sees it. Returns what the
/// kernel does not offer of the jail, in words; empty when it is complete.
///
/// Call it on the only thread. Afterwards a system call that the role does not have ends the process with SIGSYS;
/// those that a library tries and can do without get an error instead: `clone3` (ENOSYS: libc then calls `clone`),
/// `prctl` but for thread names (EINVAL), and for a role with network sockets of other families (EAFNOSUPPORT), `ioctl`
/// but for FIONBIO, FIONREAD and TIOCOUTQ (ENOTTY), executable memory (EACCES: name service modules are not loaded).
///
/// # Errors
/// The process table and this machine disagree (unknown call, missing directory), or the process has threads. The
/// process must end then: it may be half jailed.
pub fn enter(spec: &RoleSpec, base: &Base, data: &Path) -> Result<Vec<String>, JailError> {
    single_thread(spec)?;
    // Here, so that no role can be jailed without: what came over exec must not go over another.
    crate::caps::settle(&spec.capabilities)
        .map_err(|error| JailError::Capabilities { role: spec.name.name(), error: error.to_string() })?;
    name_process(spec);
    set_attribute("prctl(PR_SET_DUMPABLE)", libc::PR_SET_DUMPABLE, 0)?;
    set_attribute("prctl(PR_SET_NO_NEW_PRIVS)", libc::PR_SET_NO_NEW_PRIVS, 1)?;
    let mut missing = files::restrict(spec, data)?;
    missing.extend(calls::restrict(spec, base)?);
    Ok(missing)
}

/// Becomes `program` with these arguments, in the jail that was entered. Returns only when that failed.
pub fn become_program(program: &str, args: &[String], environment: &[&CStr]) -> JailError {
    let exec = || -> Result<std::convert::Infallible, io::Error> {
        let path = CString::new(program)?;
        let args = args.iter().map(|arg| CString::new(arg.as_str())).collect::<Result<Vec<_>, _>>()?;
        Ok(nix::unistd::execve(&path, &args, environment)?)
    };
    match exec() {
        Ok(never) => match never {},
        Err(error) => JailError::Call { call: "execve", error },
    }
}

/// Landlock and seccomp hold for the calling thread and those it makes later.
fn single_thread(spec: &RoleSpec) -> Result<(), JailError> {
    // Links of this directory: `.`, `..`, and one per thread. Without /proc nothing can be said.
    let threads = std::fs::metadata("/proc/self/task").map_or(1, |task| task.nlink().saturating_sub(2));
    if threads > 1 { Err(JailError::Threads { role: spec.name.name(), threads }) } else { Ok(()) }
}

/// `raven:syslog` in `ps`, `top` and the kernel's log; execution by descriptor leaves a number there.
fn name_process(spec: &RoleSpec) {
    let name = CString::new(format!("raven:{}", spec.name.name())).expect("role names hold no NUL");
    // SAFETY: the kernel reads up to 16 bytes of a C string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

fn set_attribute(call: &'static str, option: libc::c_int, value: libc::c_ulong) -> Result<(), JailError> {
    // SAFETY: these options read no memory.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) })
        .map(drop)
        .map_err(|error: io::Error| JailError::Call { call, error })
}
