//! The programs that `ravend` runs beside its workers, and waits for.

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use raven_jail::memory::memfd_of;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest that one of them may take: all of them together stay below the watchdog's 30 s.
const PATIENCE: Duration = Duration::from_secs(8);

/// What a pipe holds.
const PIPE: u64 = 64 << 10;

/// Where a program of ours lies that is none of an operator's: beside `ravend`, or where the image has it.
pub fn ours(name: &str) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe().context("the path of ravend itself")?.with_file_name(name);
    Ok(if beside.is_file() { beside } else { Path::new("/usr/lib/raven").join(name) })
}

/// A file without a name, for what a program says while nobody reads it.
pub fn scratch() -> anyhow::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(nix::libc::O_TMPFILE).mode(0o600);
    options.open("/run").context("/run: no room for what a program says")
}

/// Runs a program to its end; what it said, which must be less than a pipe holds. What it says on standard error is why
/// it failed.
pub fn run(program: impl AsRef<Path>, args: &[&str], input: &[u8]) -> anyhow::Result<String> {
    let program = program.as_ref();
    let name = || format!("{} {}", program.display(), args.join(" "));
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .stdin(Stdio::from(memfd_of("raven-input", input)?))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", name()))?;
    let mut said = Vec::new();
    let mut errors = child.stderr.take().context("no standard error")?;
    let end = Instant::now() + PATIENCE;
    // It ends by closing its standard error, whatever it has to say.
    let ended = loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(errors.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
            Ok(0) => break false,
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {
                let mut chunk = [0; 4096];
                match errors.read(&mut chunk)? {
                    0 => break true,
                    n if said.len() < 64 << 10 => said.extend_from_slice(&chunk[..n]),
                    _ => {}
                }
            }
        }
    };
    if !ended {
        child.kill()?;
    }
    let status = child.wait()?;
    let said = String::from_utf8_lossy(&said);
    let said = said.trim().lines().next().unwrap_or("it said nothing");
    if !ended {
        bail!("{} did not end within {} s", name(), PATIENCE.as_secs());
    }
    if !status.success() {
        bail!("{}: {said}", name());
    }
    let mut answer = String::new();
    child.stdout.take().context("no standard output")?.take(PIPE).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_that_fails_says_why_and_one_that_hangs_is_ended() {
        assert_eq!(run("/bin/cat", &[], b"as it came").unwrap(), "as it came");
        let error = run("/bin/ls", &["/nowhere"], b"").unwrap_err().to_string();
        assert!(error.starts_with("/bin/ls /nowhere: ") && error.contains("No such file"), "{error}");
        assert!(run("/nowhere", &[], b"").unwrap_err().to_string().contains("cannot start"));
        let error = run("/bin/sleep", &["60"], b"").unwrap_err().to_string();
        assert_eq!(error, "/bin/sleep 60 did not end within 8 s");
    }
}
