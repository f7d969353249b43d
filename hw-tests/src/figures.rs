//! What a box that does nothing costs: memory, by process; and how long it takes from the kernel's start until every
//! collector is bound, beside the same kernel with a first process that only says that it is there.

use crate::machine::{Firmware, Lab, Medium};
use crate::qemu;
use crate::serial::{PATIENCE, Serial};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

/// Of all memory, of our own processes, in MiB.
const MOST: [u64; 2] = [200, 40];
/// Times the start of a bare kernel.
const RATIO: f64 = 2.5;

/// Measures, says it, and holds it against the goals.
pub fn all(lab: &mut Lab) -> Result<()> {
    let built = lab.built()?;
    let system = built.that_always_does(
        "figures",
        &[
            "/usr/bin/sleep 20",
            "/usr/bin/cat /proc/meminfo",
            "/usr/bin/find /proc -maxdepth 2 -name smaps_rollup -exec /usr/bin/grep -H ^Pss: {} +",
            "/usr/bin/find /proc -maxdepth 2 -name comm -exec /usr/bin/grep -H . {} +",
            "/usr/bin/systemd-analyze --no-pager blame",
            "/usr/bin/journalctl -b -o short-monotonic -u raven.service --no-pager",
            "/usr/bin/echo figures are over",
        ],
    )?;
    let disk = lab.flashed(&built.disk(&system)?, 4)?;
    // The first start makes the data partition, so the second one counts.
    let mut machine = lab.start(Firmware::Bios, &Medium::Disk(disk.clone()))?;
    machine.expect("Raven: slot A is well")?;
    machine.power_off()?;
    let mut machine = lab.start(Firmware::Bios, &Medium::Disk(disk))?;
    let text = machine.expect("figures are over")?;
    machine.power_off()?;
    let (used, ours) = memory(&text)?;
    let bare = bare_kernel(lab)?;
    let said = |what: &str| {
        let at = text.lines().filter(|line| line.contains(what)).filter_map(seconds).reduce(f64::max);
        at.with_context(|| format!("no word of `{what}`"))
    };
    // From its listener's on a collector gets what comes: the kernel holds it until the collector runs.
    let (bound, ready) = (said(": listening on ")?, said("]: ready")?);
    println!("  used: {used} MiB, of it our processes {ours} MiB");
    println!("  a bare kernel's first process: {bare:.2} s after its start");
    println!("  all collectors bound: {bound:.2} s after the kernel's start, {:.2} times that", bound / bare);
    println!("  all processes of Raven ready: {ready:.2} s, {:.2} times that", ready / bare);
    ensure!(used <= MOST[0] && ours <= MOST[1], "more than {MOST:?} MiB");
    ensure!(bound <= RATIO * bare, "more than {RATIO} times the start of a bare kernel");
    Ok(())
}

/// Of `[   60.123456] journalctl[414]: [   12.345678] raven ravend[331]: ready` the second.
fn seconds(line: &str) -> Option<f64> {
    let mut stamps = line.split('[').filter_map(|part| Some(part.split(']').next()?.trim()));
    stamps.rfind(|stamp| stamp.contains('.'))?.parse().ok()
}

/// In use of all, and by our own processes, in MiB.
fn memory(text: &str) -> Result<(u64, u64)> {
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.split_once(name).map(|(_, rest)| rest))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let all = kib("MemTotal:").zip(kib("MemAvailable:")).context("no word of memory")?;
    let used = (all.0 - all.1) / 1024;
    let of = |file: &str| -> BTreeMap<String, String> {
        let line = |line: &str| {
            let (pid, rest) = line.split_once("/proc/")?.1.split_once(&format!("/{file}:"))?;
            Some((pid.to_owned(), rest.trim().to_owned()))
        };
        text.lines().filter_map(line).collect()
    };
    let (names, sizes) = (of("comm"), of("smaps_rollup"));
    let mut ours = 0;
    for (pid, size) in &sizes {
        let name = names.get(pid).map_or("?", String::as_str);
        let kib: u64 = size.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        if kib > 0 {
            println!("  {kib:7} KiB  {name}");
        }
        if name.starts_with("raven") {
            ours += kib;
        }
    }
    Ok((used, ours / 1024))
}

/// Seconds until busybox, as first process, says how long the kernel has been up.
fn bare_kernel(lab: &Lab) -> Result<f64> {
    let work = lab.work().join("bare");
    for folder in ["bin", "proc", "dev"] {
        fs::create_dir_all(work.join(folder))?;
    }
    fs::copy("/usr/bin/busybox", work.join("bin/busybox")).context("/usr/bin/busybox (package busybox-static)")?;
    let init = "#!/bin/busybox sh\n/bin/busybox mount -t proc proc /proc\n\
                echo up for $(/bin/busybox cut -d' ' -f1 /proc/uptime) s\n/bin/busybox poweroff -f\n";
    fs::write(work.join("init"), init)?;
    fs::set_permissions(work.join("init"), fs::Permissions::from_mode(0o755))?;
    let initramfs = lab.work().join("bare.cpio");
    let mut cpio = Command::new("cpio");
    cpio.args(["--create", "--format=newc", "--quiet", "--directory"]).arg(&work).arg("--file").arg(&initramfs);
    let mut cpio = cpio.stdin(Stdio::piped()).spawn().context("cpio")?;
    cpio.stdin.take().context("no input")?.write_all(b".\nbin\nbin/busybox\nproc\ndev\ninit\n")?;
    ensure!(cpio.wait()?.success(), "cpio");
    let line = lab.work().join("bare.line");
    let log = lab.out.join("figures-bare.log");
    let _running = qemu::kernel(&lab.built()?.kernel(), &initramfs, &line, &log)?;
    let mut serial = Serial::connect(&line, &log)?;
    serial.expect("up for ", &[], PATIENCE)?;
    let said = serial.expect(" s", &[], PATIENCE)?;
    said.trim().parse().ok().context("busybox does not say for how long")
}
