//! What storing costs. Not a check: `cargo test --release -p raven-buffer --test cost -- --ignored --nocapture`. Those
//! named `row_…` are rows of `cargo xtask bench` and print lines of `row NAME FIGURE`; `RAVEN_BENCH_DIR` names the disk.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Batch, Dice, MIB, START_NS, mark, open};
use raven_buffer::{Found, RingReader, RingWriter};
use raven_model::units::Seq;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Texts of seven kinds of devices, about 200 bytes each, with what varies drawn at random.
fn realistic(dice: &mut Dice, n: u64) -> String {
    let (a, b, c) = (dice.below(250), dice.below(60_000), dice.below(1_000_000));
    let stamp = format!("Nov 22 {:02}:{:02}:{:02}", n / 3_600_000 % 24, n / 60_000 % 60, n / 1000 % 60);
    match dice.below(7) {
        0 => format!(
            "<134>{stamp} fw-edge filterlog[{}]: 5,,,1000000103,igb1.{},match,block,in,4,0x0,,64,{b},0,DF,6,tcp,60,10.20.{a}.{},203.0.113.{},{b},443,0,S,{c},,64240,,mss;nop;wscale;sackOK;TS",
            4000 + a,
            a % 8,
            c % 250,
            b % 250
        ),
        1 => format!(
            "<30>{stamp} ap-stage-{a:03} hostapd: wlan0-{}: STA 3c:22:fb:{:02x}:{:02x}:{:02x} IEEE 802.11: associated (aid {}) signal=-{} dBm channel=36 width=80 ssid=venue-production band=5GHz roam=true",
            a % 4,
            a,
            b % 256,
            c % 256,
            c % 60,
            40 + a % 40
        ),
        2 => format!(
            "<190>{stamp} dhcp-1 dhcpd[1123]: DHCPACK on 10.20.{a}.{} to 3c:22:fb:{:02x}:{:02x}:{:02x} (tablet-{b}) via vlan{} lease-duration 3600 offered-by 10.20.0.1 uid 01:3c:22 transaction {c:06x} renew",
            c % 250,
            a,
            b % 256,
            c % 256,
            100 + a % 8
        ),
        3 => format!(
            "<189>{stamp} sw-foh-{:02} {c}: %LINEPROTO-5-UPDOWN: Line protocol on Interface GigabitEthernet1/0/{}, changed state to {} reason link-flap-detected duplex full speed 1000 vlan {} neighbor sw-core-1 port {b}",
            a % 40,
            a % 48,
            if c % 2 == 0 { "up" } else { "down" },
            100 + a % 8
        ),
        4 => format!(
            "<141>{stamp} web-1 nginx: 10.20.{a}.{} - - [22/Nov/2026:00:00:00 +0000] \"GET /api/v2/scan/ticket/{c}?gate={} HTTP/1.1\" 200 {b} \"-\" \"VenueScanner/4.2.1 (Android 14)\" rt=0.{:03} uct=0.001 upstream=10.20.1.9:8080",
            c % 250,
            a % 16,
            b % 999
        ),
        5 => format!(
            "<86>{stamp} bastion sshd[{b}]: Failed password for invalid user admin from 203.0.113.{a} port {b} ssh2: RSA SHA256:venue session {c} pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost"
        ),
        _ => format!(
            "<4>{stamp} media-{:02} kernel: [{c}.{b:06}] igb 0000:03:00.{} enp3s0: NETDEV WATCHDOG: transmit queue {} timed out, trans_start {c}, reset adapter, tx hang detected next_to_use {a} next_to_clean {} desc.status 0",
            a % 20,
            a % 2,
            a % 8,
            b % 256
        ),
    }
}

fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Batches of 256 records; with `contexts` also so many definitions of 100 bytes each, before the records.
fn batches(dice: &mut Dice, contexts: u32) -> Vec<Batch> {
    let mut batches = Vec::new();
    for n in 0..2000_u64 {
        let mut batch = Batch::default();
        for key in 0..contexts {
            batch.context(START_NS, &key.to_le_bytes(), &[key as u8; 100]);
        }
        for i in 0..256 {
            let source = format!("10.20.{}.{}:{}", dice.below(4), dice.below(250), 30_000 + dice.below(8));
            batch.add(&source, 1, START_NS + (n * 256 + i) * 10_000, realistic(dice, n * 256 + i).as_bytes());
        }
        batches.push(batch);
    }
    batches
}

fn store(ring: &Path, batches: &[Batch], per_commit: usize) {
    let raw: usize = batches.iter().map(|b| b.bytes.len()).sum();
    let mut writer = open(ring, 1024 * MIB, 16 * MIB);
    let (start, cpu, rounds) = (Instant::now(), cpu_seconds(), 4);
    for round in 0..rounds {
        for (i, batch) in batches.iter().enumerate() {
            writer.append(&batch.bytes, batch.count, 5).unwrap();
            if i % per_commit == 0 {
                writer.commit(mark((round * batches.len() + i) as u64)).unwrap();
            }
        }
    }
    writer.commit(mark(1)).unwrap();
    let (wall, cpu, records) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu, (rounds * 2000 * 256) as f64);
    let bytes: u64 = fs::read_dir(ring.join("syslog")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    println!(
        "{} records a commit: {:.3} us CPU, {:.3} us wall, {:.1} B on disk a record of {:.0} B",
        per_commit * 256,
        cpu / records * 1e6,
        wall / records * 1e6,
        bytes as f64 / records,
        raw as f64 / (2000.0 * 256.0)
    );
    let mut reader = RingReader::open(ring, "syslog").unwrap();
    let (start, mut at, mut read) = (cpu_seconds(), writer.first_seq(), 0);
    while let Found::Block(block) = reader.find(at).unwrap() {
        read += block.records().filter(|(_, record)| !record.raw.is_empty()).count();
        at = block.next();
    }
    println!("reading: {:.3} us CPU a record, {read} records", (cpu_seconds() - start) / read as f64 * 1e6);
}

#[test]
#[ignore = "a measurement"]
fn what_storing_costs() {
    let dir = tempfile::tempdir().unwrap();
    for contexts in [0, 40] {
        let batches = batches(&mut Dice(1234), contexts);
        println!("{contexts} contexts a batch of 256 records");
        for per_commit in [40, 160] {
            store(&dir.path().join(format!("{contexts}-{per_commit}")), &batches, per_commit);
        }
    }
}

/// A folder on the disk that is measured.
fn folder() -> tempfile::TempDir {
    let disk = std::env::var_os("RAVEN_BENCH_DIR").unwrap_or_else(|| std::env::temp_dir().into());
    tempfile::Builder::new().prefix("raven-cost-").tempdir_in(disk).unwrap()
}

/// As `buffer.sync` has it.
const SYNC: Duration = Duration::from_millis(100);
/// A commit grows no larger.
const COMMIT: usize = 24 << 20;
/// How long each of the two appends.
const APPEND: Duration = Duration::from_secs(10);

/// What each round of ten seconds took: records, CPU seconds, wall seconds.
fn timed(mut append: impl FnMut(&Batch), mut commit: impl FnMut(u64), batches: &[Batch]) -> (f64, f64, f64) {
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let (mut last, mut bytes, mut records, mut commits) = (start, 0, 0_u64, 0);
    for batch in batches.iter().cycle() {
        append(batch);
        records += u64::from(batch.count);
        bytes += batch.bytes.len();
        if last.elapsed() >= SYNC || bytes >= COMMIT {
            commits += 1;
            commit(commits);
            (last, bytes) = (Instant::now(), 0);
            if start.elapsed() >= APPEND {
                break;
            }
        }
    }
    (records as f64, cpu_seconds() - cpu, start.elapsed().as_secs_f64())
}

/// As fast as one thread can, durable every 100 ms; beside it the same frames in the same zstd blocks, appended to a
/// file with `fdatasync` at the same times.
#[test]
#[ignore = "a measurement"]
fn row_append() {
    let (dir, batches) = (folder(), batches(&mut Dice(1234), 0));
    let writer = std::cell::RefCell::new(open(dir.path(), 256 * 1024 * MIB, 64 * MIB));
    let (records, cpu, wall) = timed(
        |batch| writer.borrow_mut().append(&batch.bytes, batch.count, 5).unwrap(),
        |n| {
            writer.borrow_mut().commit(mark(n)).unwrap();
        },
        &batches,
    );
    let plain = std::cell::RefCell::new((File::create(dir.path().join("plain")).unwrap(), Vec::new()));
    let mut zstd = zstd::bulk::Compressor::new(1).unwrap();
    let mut flush = |(file, frames): &mut (File, Vec<u8>), least: usize| {
        while frames.len() > least {
            let rest = frames.split_off(frames.len().min(256 << 10));
            file.write_all(&zstd.compress(frames).unwrap()).unwrap();
            *frames = rest;
        }
    };
    let flush = std::cell::RefCell::new(&mut flush);
    let (plain_records, plain_cpu, plain_wall) = timed(
        |batch| {
            let mut plain = plain.borrow_mut();
            plain.1.extend_from_slice(&batch.bytes);
            flush.borrow_mut()(&mut plain, 256 << 10);
        },
        |_| {
            flush.borrow_mut()(&mut plain.borrow_mut(), 0);
            plain.borrow().0.sync_data().unwrap();
        },
        &batches,
    );
    println!("row rate {}\nrow plain_rate {}", records / wall, plain_records / plain_wall);
    println!("row cpu {}\nrow plain_cpu {}", cpu / records * 1e6, plain_cpu / plain_records * 1e6);
}

/// Bytes that this process had written to a block device.
fn device_writes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.trim().parse().ok()).unwrap()
}

/// Length of the file of the segment that begins at `first`.
fn file_bytes(ring: &Path, first: Seq) -> u64 {
    fs::metadata(ring.join("syslog").join(format!("{:016x}.mdb", first.0))).unwrap().len()
}

/// Makes room; returns the bytes that went.
fn make_room(ring: &Path, writer: &mut RingWriter) -> u64 {
    let mut gone = 0;
    while let Some(eviction) = writer.evictable(None, &BTreeMap::new()) {
        gone += file_bytes(ring, eviction.first);
        writer.evict(&eviction, BTreeMap::new()).unwrap();
    }
    gone
}

/// A ring that is full is turned over ten times, in commits of 8 MiB of frames.
#[test]
#[ignore = "a measurement"]
fn row_turnover() {
    const QUOTA: u64 = 256 * MIB;
    let (dir, batches) = (folder(), batches(&mut Dice(1234), 0));
    let mut writer = open(dir.path(), QUOTA, 16 * MIB);
    let mut feed = batches.iter().cycle();
    let mut n = 0;
    // Appends until so many bytes have gone; returns records a second.
    let mut turn = |writer: &mut RingWriter, until: u64| {
        let (start, first, mut gone) = (Instant::now(), writer.next_seq(), 0);
        while gone < until {
            for batch in feed.by_ref().take(128) {
                writer.append(&batch.bytes, batch.count, 5).unwrap();
            }
            n += 1;
            writer.commit(mark(n)).unwrap();
            gone += make_room(dir.path(), writer);
        }
        ((writer.next_seq().0 - first.0) as f64 / start.elapsed().as_secs_f64(), gone)
    };
    turn(&mut writer, 1);
    let written = device_writes();
    let turns: Vec<(f64, u64)> = (0..10).map(|_| turn(&mut writer, QUOTA)).collect();
    let stored: u64 = turns.iter().map(|(_, gone)| gone).sum();
    println!("row first {}\nrow last {}", turns[0].0, turns[9].0);
    println!("row written {}\nrow stored {stored}", device_writes() - written);
}

/// Segments of 8 GiB, 1 TB together, all but their first pages sparse; the writer was killed. Once more with the
/// catalogue gone: it is read from the segments then.
#[test]
#[ignore = "a measurement"]
fn row_open() {
    const SEGMENT: u64 = 8 << 30;
    let (dir, batches) = (folder(), batches(&mut Dice(1234), 0));
    let mut writer = open(dir.path(), 1 << 40, MIB);
    let mut feed = batches.iter().cycle();
    let segments = || fs::read_dir(dir.path().join("syslog")).unwrap().flatten().map(|entry| entry.path());
    let is_segment = |path: &std::path::PathBuf| path.file_stem().is_some_and(|stem| stem.len() == 16);
    for n in 0.. {
        let batch = feed.next().unwrap();
        writer.append(&batch.bytes, batch.count, 5).unwrap();
        if n % 16 == 0 {
            writer.commit(mark(n)).unwrap();
            if segments().filter(is_segment).count() > 128 {
                break;
            }
        }
    }
    let next = writer.next_seq();
    drop(writer);
    for path in segments().filter(is_segment) {
        OpenOptions::new().write(true).open(path).unwrap().set_len(SEGMENT).unwrap();
    }
    drop(batches);
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_kib();
    let start = Instant::now();
    let writer = open(dir.path(), 2 << 40, SEGMENT);
    println!("row seconds {}", start.elapsed().as_secs_f64());
    assert_eq!(writer.next_seq(), next);
    drop(writer);
    fs::remove_dir_all(dir.path().join("catalogue")).unwrap();
    let start = Instant::now();
    let writer = open(dir.path(), 2 << 40, SEGMENT);
    println!("row rebuilt {}\nrow peak_mib {}", start.elapsed().as_secs_f64(), (peak_kib() - before) / 1024);
    assert_eq!(writer.next_seq(), next);
}

fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
