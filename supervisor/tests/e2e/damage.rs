//! The disk fails in its usual ways: each has a message that names the cause, and nothing that was counted as stored
//! is missing without being counted.

use crate::appliance::{Appliance, Plan, Running, number, programs, said};
use crate::marks::{EXACT, Marks};
use crate::sender::{Sender, one_datagram};
use crate::{eventually, pause, root_only};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory, unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        assert!(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={size}"), "raven-test"])
                .arg(at)
                .status()
                .unwrap()
                .success()
        );
        Self(at.to_owned())
    }

    pub fn remount(&self, option: &str) -> bool {
        Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(&self.0).status().unwrap().success()
    }

    /// Takes all the space that is left.
    pub fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).unwrap();
        let zeros = vec![0; 64 * 1024];
        while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// What status and log say, in one text.
fn said_by(raven: &Appliance) -> String {
    format!("{}\n{}", raven.status()["alerts"], raven.running.log()).to_lowercase()
}

#[test]
fn a_full_disk_is_named_and_what_came_meanwhile_is_stored_or_counted() {
    root_only!();
    let mut plan = Plan::new();
    (plan.disk, plan.segment) = ("256MiB", "8MiB");
    let disk = SmallDisk::mount(&plan.data(), "64m");
    let raven = plan.start();
    // Fast enough to fill what is allocated of the newest segment within seconds.
    let sender = Sender::udp(raven.udp(), "full", 0, 40_000);
    pause(1_000);
    let ballast = disk.fill();
    eventually("status or log names the full disk", || {
        let said = said_by(&raven);
        ["no space", "disk is full", "disk full", "file system is full"].iter().any(|cause| said.contains(cause))
    });
    pause(2_000);
    std::fs::remove_file(ballast).unwrap();
    let before = raven.stored();
    eventually("it stores again", || raven.stored() > before);
    let sent = sender.stop();
    raven.settle(sent);
    let audit = Marks::of_ring(&raven, "full").audit(0, sent);
    assert_eq!(audit.doubled, 0);
    assert!(audit.missing <= raven.dropped(), "{audit:?}, but only {} are counted as dropped", raven.dropped());
    assert!(raven.verify().0, "{}", raven.verify().1);
    drop(raven);
    drop(disk);
}

#[test]
fn a_start_on_a_read_only_disk_says_so_and_fails() {
    root_only!();
    let plan = Plan::new();
    let disk = SmallDisk::mount(&plan.data(), "16m");
    plan.prepare();
    assert!(disk.remount("ro"));
    let mut running = Running::spawn(plan.ravend(&programs()));
    eventually("it says why", || running.log().to_lowercase().contains("read-only"));
    running.signal(rustix::process::Signal::TERM);
    running.wait();
    drop(running);
    drop(disk);
}

/// The segment files of the stream (named by their first seq in hex), oldest first.
fn segments(plan: &Plan) -> Vec<PathBuf> {
    let folder = plan.data().join("ring/syslog");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem.len() == 16);
    let mut files: Vec<_> = entries.filter(is_segment).collect();
    files.sort();
    files
}

/// An appliance with several segments, stopped; and how many records it holds.
fn several_segments(run: &'static str) -> (Plan, u64) {
    let mut plan = Plan::new();
    plan.segment = "8MiB";
    let raven = plan.start();
    let sender = Sender::tcp(raven.udp(), run, 0, 100_000);
    eventually("three segments are begun", || segments(&raven.plan).len() > 2);
    let sent = sender.stop();
    raven.settle(sent);
    assert_eq!(Marks::of_ring(&raven, run).audit(0, sent), EXACT);
    (raven.stop(), sent)
}

/// Overwrites 64 bytes in the payload of a block in the middle of a segment. (A page's unused end would prove nothing.)
fn damage_a_block(segment: &Path) {
    let bytes = std::fs::read(segment).unwrap();
    let middle = bytes.len() / 2;
    let head = middle + bytes[middle..].windows(4).position(|window| window == b"RvnB").expect("a block's magic");
    let filter = usize::from(u16::from_le_bytes([bytes[head + 6], bytes[head + 7]]));
    let file = OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(&[0xa5; 64], (head + 80 + filter + 16) as u64).unwrap();
}

#[test]
fn a_damaged_block_costs_only_itself_and_is_counted_and_named() {
    let (plan, sent) = several_segments("flip");
    let segment = segments(&plan).remove(0);
    damage_a_block(&segment);
    let raven = plan.start_again();
    let (good, text) = raven.verify();
    assert!(!good && text.contains(segment.file_name().unwrap().to_str().unwrap()), "verify names the segment: {text}");
    let missing = Marks::of_ring(&raven, "flip").audit(0, sent).missing;
    assert!(missing > 0 && missing < 5_000, "{missing} records are gone with a block of at most 256 KiB");
    one_datagram(raven.udp(), b"<13>goes on");
    raven.settle(sent + 1);
    let last = raven.records().pop().unwrap();
    assert_eq!((last.raw.as_deref(), last.seq.0), (Some("<13>goes on"), sent + 1));
}

/// Overwrites the head of a segment.
fn destroy(segment: &Path) {
    let file = OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(&[0; 8_192], 0).unwrap();
}

/// The number in a segment's name.
fn first_seq(segment: &Path) -> u64 {
    u64::from_str_radix(segment.file_stem().unwrap().to_str().unwrap(), 16).unwrap()
}

#[test]
fn a_destroyed_segment_costs_only_itself_and_is_named() {
    let (plan, sent) = several_segments("gone");
    let segments = segments(&plan);
    let lost = first_seq(&segments[2]) - first_seq(&segments[1]);
    destroy(&segments[1]);
    let raven = plan.start_again();
    assert_eq!(Marks::of_ring(&raven, "gone").audit(0, sent).missing, lost, "what lay in the segment");
    eventually("what a reader finds is counted", || raven.stream()["damaged"] == lost);
    let (good, text) = raven.verify();
    assert!(!good && text.contains("counted in the loss ledger"), "verify tells it: {text}");
    one_datagram(raven.udp(), b"<13>goes on");
    assert_eq!(raven.record_with("goes on").seq.0, sent + 1);
}

#[test]
fn a_repair_sets_aside_what_cannot_be_opened_while_raven_runs_and_may_be_repeated() {
    let (plan, sent) = several_segments("mend");
    let segments = segments(&plan);
    let lost = first_seq(&segments[2]) - first_seq(&segments[1]);
    let raven = plan.start_again();
    destroy(&segments[1]);
    let name = segments[1].file_name().unwrap().to_str().unwrap();
    let repair = || said(&raven.raven(&["ring", "repair", "syslog"]));
    let first = repair();
    assert!(first.contains(&format!("the segment {name} is set aside")), "{first}");
    assert!(first.contains(&format!("{lost} records newly counted")), "{first}");
    assert!(!segments[1].exists());
    eventually("the loss is shown", || raven.stream()["damaged"] == lost);
    let again = repair();
    assert!(again.contains("counted in the loss ledger") && !again.contains("set aside"), "{again}");
    assert_eq!(Marks::of_ring(&raven, "mend").audit(0, sent).missing, lost);
    let raven = raven.restart();
    assert_eq!(raven.stream()["damaged"], lost, "counted once");
    one_datagram(raven.udp(), b"<13>goes on");
    assert_eq!(raven.record_with("goes on").seq.0, sent + 1);
}

#[test]
fn a_destroyed_newest_segment_is_set_aside_and_counted_and_its_numbers_are_not_used_again() {
    let (plan, sent) = several_segments("newest");
    let segment = segments(&plan).pop().unwrap();
    destroy(&segment);
    let raven = plan.start_again();
    let missing = Marks::of_ring(&raven, "newest").audit(0, sent).missing;
    assert_eq!(missing, sent + 1 - first_seq(&segment));
    // Nobody knows how many were in it: the count is the most that there can have been.
    assert!(number(&raven.stream()["damaged"]) >= missing, "the loss is counted: {}", raven.stream());
    let name = segment.file_stem().unwrap().to_str().unwrap();
    assert!(raven.running.log().contains(name), "the log names the segment:\n{}", raven.running.log());
    one_datagram(raven.udp(), b"<13>goes on");
    assert!(raven.record_with("goes on").seq.0 > sent);
}

#[test]
fn the_newest_segment_cut_short_does_not_keep_ravend_from_starting() {
    let (plan, sent) = several_segments("short");
    let segment = segments(&plan).pop().unwrap();
    let file = OpenOptions::new().write(true).open(&segment).unwrap();
    file.set_len(12_288).unwrap();
    let raven = plan.start_again();
    one_datagram(raven.udp(), b"<13>goes on");
    let record = raven.record_with("goes on");
    assert!(record.seq.0 > sent, "no seq is used twice: {record:?}");
}
