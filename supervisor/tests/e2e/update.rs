//! Updates: a bundle through the jailed role into plain files that stand in for the slots of a box.

use crate::appliance::{Appliance, Plan, Running, programs, said};
use crate::{eventually, pause, root_only};
use raven_model::hex::hex;
use raven_model::table::{Role, table};
use raven_model::update::{FLOOR, FORMATS, Formats, Manifest, Part, Version, header};
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

const ROOT: usize = 20 << 20;

/// What GRUB remembers of a new disk.
const GRUBENV: &str = "# GRUB Environment Block\nA_LEFT=3\nA_OK=1\nB_LEFT=0\nB_OK=0\nORDER=A B\n";

fn content(seed: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n * seed + n / 4099) as u8).collect()
}

/// Root, hash tree, kernel, initramfs.
fn parts() -> [Vec<u8>; 4] {
    [content(7, ROOT), content(11, 165_000), content(13, 3_000_000), content(17, 400_000)]
}

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap()
}

fn manifest(version: Version) -> Manifest {
    let part = |bytes: &Vec<u8>| Part { bytes: bytes.len() as u64, sha256: hex(digest(&SHA256, bytes).as_ref()) };
    let [root, hashes, kernel, initramfs] = parts();
    Manifest {
        product: "raven".to_owned(),
        machine: "x86-64".to_owned(),
        version,
        made_s: 1,
        floor: FLOOR,
        reads_from: FORMATS,
        reads_to: FORMATS,
        verity: format!("{}.{}.aa", "11".repeat(32), ROOT / 4096),
        arguments: "quiet".to_owned(),
        root: part(&root),
        hashes: part(&hashes),
        kernel: part(&kernel),
        initramfs: part(&initramfs),
    }
}

fn bundle_of(manifest: &Manifest, key: &Ed25519KeyPair) -> Vec<u8> {
    let head = header(manifest, |text| key.sign(text).as_ref().try_into().unwrap()).unwrap();
    [head, parts().concat()].concat()
}

/// A box whose slots are files.
struct Slots {
    raven: Appliance,
    folder: PathBuf,
}

impl Slots {
    fn start() -> Self {
        let plan = Plan::new();
        let folder = plan.dir.path().join("slots");
        for slot in ["A", "B"] {
            fs::create_dir_all(folder.join("esp/raven").join(slot)).unwrap();
            File::create(folder.join(slot)).unwrap().set_len(32 << 20).unwrap();
            File::create(folder.join(format!("{slot}-hashes"))).unwrap().set_len(4 << 20).unwrap();
        }
        let mut block = GRUBENV.as_bytes().to_vec();
        block.resize(1024, b'#');
        fs::write(folder.join("esp/raven/grubenv"), block).unwrap();
        fs::write(folder.join("esp/raven/A/slot.cfg"), "set version=0.1.0\n").unwrap();
        fs::write(folder.join("running"), "A\n").unwrap();
        fs::write(folder.join("keys"), hex(key().public_key().as_ref()) + "\n").unwrap();
        plan.prepare();
        let programs = programs();
        let running = Self::ravend(&plan, &programs, &folder);
        Self { raven: Appliance { plan, programs, running }, folder }
    }

    fn ravend(plan: &Plan, programs: &Path, folder: &Path) -> Running {
        let mut ravend = plan.ravend(programs);
        ravend.arg("--slots").arg(folder).arg("--update-keys").arg(folder.join("keys"));
        let running = Running::spawn(ravend);
        running.wait_ready();
        running
    }

    /// A new bundle in a file.
    fn bundle(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.folder.join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn update(&self, arguments: &[&str]) -> Output {
        self.raven.raven(&[&["update"], arguments].concat())
    }

    fn slots(&self) -> Value {
        let output = self.update(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)))
    }

    /// All of a bundle lies in B, and B is started next.
    fn is_in_b(&self) {
        let read = |name: &str| fs::read(self.folder.join(name)).unwrap();
        let [root, hashes, kernel, initramfs] = parts();
        assert!(read("B").starts_with(&root) && read("B-hashes").starts_with(&hashes));
        assert!(read("esp/raven/B/kernel") == kernel && read("esp/raven/B/initramfs") == initramfs);
        let slots = self.slots();
        let b = &slots["slots"][1];
        assert_eq!((&slots["next"], &b["tries"], &b["on_trial"]), (&"B".into(), &2.into(), &true.into()), "{slots}");
    }

    /// A is untouched and started next; nothing is started from B.
    fn stays_in_a(&self) {
        let slots = self.slots();
        assert_eq!((&slots["next"], &slots["slots"][1]["filled"]), (&"A".into(), &false.into()), "{slots}");
        assert!(fs::read(self.folder.join("A")).unwrap().iter().all(|byte| *byte == 0));
    }
}

/// As on a box, where udev names the partitions when Raven has run for a while.
#[test]
fn slots_that_are_named_later_are_looked_at_by_themselves() {
    let slots = Slots::start();
    let (there, away) = (slots.folder.join("esp"), slots.folder.join("not-yet"));
    fs::rename(&there, &away).unwrap();
    let Slots { raven, folder } = slots;
    let (programs, plan) = (programs(), raven.stop());
    let running = Slots::ravend(&plan, &programs, &folder);
    let slots = Slots { raven: Appliance { plan, programs, running }, folder };
    assert_eq!(slots.raven.status()["slots"], Value::Null);
    fs::rename(&away, &there).unwrap();
    eventually("the slots are known", || slots.raven.status()["slots"]["running"] == "A");
}

#[test]
fn a_signed_bundle_comes_into_the_other_slot_through_a_role_that_can_do_nothing_else() {
    root_only!();
    let slots = Slots::start();
    let bundle = bundle_of(&manifest(Version(0, 2, 0)), &key());
    // Slowly, so that the role can be looked at.
    let mut raven = std::process::Command::new(slots.raven.programs.join("raven"))
        .arg("--data")
        .arg(slots.raven.plan.data())
        .args(["update", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = raven.stdin.take().unwrap();
    input.write_all(&bundle[..5 << 20]).unwrap();
    eventually("the role runs", || {
        slots.raven.status()["processes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|p| p["role"] == "update" && p["state"] == "running")
    });
    let process = slots.raven.process("update");
    let spec = table().spec(Role::Update);
    assert_eq!(process["uid"], spec.uid);
    let pid = process["pid"].as_u64().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    // Another one has to wait.
    let path = slots.bundle("second", &bundle);
    let second = slots.update(&[&path]);
    assert!(!second.status.success() && said(&second).contains("another update is under way"), "{}", said(&second));
    input.write_all(&bundle[5 << 20..]).unwrap();
    drop(input);
    let output = raven.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("from the next start on"), "{}", said(&output));
    slots.is_in_b();
    assert!(slots.raven.plan.data().join("update/before.json").exists());
    eventually("the role ends", || {
        !slots.raven.status()["processes"].as_array().unwrap().iter().any(|process| process["role"] == "update")
    });
}

#[test]
fn what_is_altered_unsigned_older_or_for_another_is_refused_with_the_reason() {
    let slots = Slots::start();
    let good = bundle_of(&manifest(Version(0, 2, 0)), &key());
    let head = good.len() - parts().concat().len();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let other = Ed25519KeyPair::from_seed_unchecked(&[6; 32]).unwrap();
    let newer = Formats { ring: FORMATS.ring + 1, ..FORMATS };
    let crow = Manifest { reads_from: newer, reads_to: newer, ..manifest(Version(0, 2, 0)) };
    let untouched = [
        ("manifest", flipped(head - 10), "not signed by a key"),
        ("signature", flipped(20), "not signed by a key"),
        ("stranger", bundle_of(&manifest(Version(0, 2, 0)), &other), "not signed by a key"),
        ("older", bundle_of(&manifest(Version(0, 0, 5)), &key()), "--allow-downgrade"),
        ("formats", bundle_of(&crow, &key()), "would not read it"),
        ("zip", b"PK\x03\x04".repeat(100), "no update bundle"),
        ("cut", good[..50].to_vec(), "no update bundle"),
    ];
    for (name, bytes, why) in untouched {
        let output = slots.update(&[&slots.bundle(name, &bytes)]);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", said(&output));
        assert!(said(&output).contains(why), "{name}: {}", said(&output));
        // Not one byte was written.
        assert!(fs::read(slots.folder.join("B")).unwrap().iter().all(|byte| *byte == 0), "{name}");
    }
    for (name, at, part) in [
        ("root", head + 9_000_000, "root"),
        ("hashes", head + ROOT + 5, "hashes"),
        ("kernel", head + ROOT + 165_009, "kernel"),
    ] {
        let output = slots.update(&[&slots.bundle(name, &flipped(at))]);
        assert!(!output.status.success(), "{name}");
        assert!(said(&output).contains(&format!("its {part} has another SHA-256")), "{name}: {}", said(&output));
        slots.stays_in_a();
    }
    // By order an older one is taken.
    let older = slots.bundle("older", &bundle_of(&manifest(Version(0, 0, 5)), &key()));
    let output = slots.update(&["--allow-downgrade", &older]);
    assert!(output.status.success(), "{}", said(&output));
    slots.is_in_b();
}

#[test]
fn a_transfer_that_breaks_off_goes_on_also_after_ravend_was_killed() {
    let mut slots = Slots::start();
    let bundle = bundle_of(&manifest(Version(0, 2, 0)), &key());
    let path = slots.bundle("half", &bundle[..12 << 20]);
    let half = slots.update(&[&path]);
    assert!(!half.status.success() && said(&half).contains("say it again to go on"), "{}", said(&half));
    slots.stays_in_a();
    slots.raven.running.signal(rustix::process::Signal::KILL);
    pause(300);
    slots.raven.running = Slots::ravend(&slots.raven.plan, &slots.raven.programs, &slots.folder);
    let path = slots.bundle("whole", &bundle);
    let whole = slots.update(&[&path]);
    assert!(whole.status.success(), "{}", said(&whole));
    assert!(said(&whole).contains("holds 1") && said(&whole).contains("of it already"), "{}", said(&whole));
    slots.is_in_b();
}

#[test]
fn a_box_without_slots_says_so_and_health_looks_at_all_the_rest() {
    let raven = Appliance::start();
    let refused = raven.raven(&["update", "status"]);
    assert!(!refused.status.success() && said(&refused).contains("no installed box"), "{}", said(&refused));
    let health = raven.raven(&["health", "--wait", "20", "--json"]);
    let view: Value = serde_json::from_slice(&health.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&health)));
    assert!(health.status.success(), "{view}");
    let canary = view["checks"].as_array().unwrap().iter().find(|check| check["name"] == "canary").unwrap();
    assert!(canary["reason"].as_str().unwrap().contains("read back from the ring"), "{view}");
    // A record like any other.
    assert!(raven.record_with("raven-health").raw.unwrap().contains("canary"));
    // A configuration that is not valid any more is found before the next start finds it.
    fs::write(raven.plan.config(), "schema = 1\n[colect]\n").unwrap();
    let ill = raven.raven(&["health"]);
    assert_eq!(ill.status.code(), Some(1), "{}", said(&ill));
    assert!(said(&ill).contains("BAD  config"), "{}", said(&ill));
}

#[test]
fn a_factory_reset_is_noted_for_the_disks_own_data_partition_once_the_name_of_the_box_was_said() {
    const DATA: &str = "0f0e0d0c-0b0a-0908-0706-050403020100";
    let slots = Slots::start();
    let reset = |name: &str| slots.raven.raven(&["factory-reset", "--yes-discard", name]);
    let grubenv = || fs::read_to_string(slots.folder.join("esp/raven/grubenv")).unwrap();
    let name = slots.raven.status()["device"].as_str().unwrap_or_default().to_owned();
    assert!(!name.is_empty(), "{}", slots.raven.status());
    let wrong = reset("yes");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(said(&wrong).contains(&format!("type its name: {name}")), "{}", said(&wrong));
    // A disk whose table cannot be read: nothing is noted.
    let lost = reset(&name);
    assert!(said(&lost).contains("nothing is discarded"), "{}", said(&lost));
    assert!(!grubenv().contains("RESET") && slots.slots()["reset"].is_null());

    disk_with_data(&slots.folder.join("disk"), DATA);
    let done = reset(&name);
    assert!(done.status.success(), "{}", said(&done));
    assert!(said(&done).contains("all that this box keeps is discarded at its next start"), "{}", said(&done));
    assert!(grubenv().contains(&format!("\nRESET={DATA}\n")), "{}", grubenv());
    let by = slots.slots()["reset"].as_str().unwrap().to_owned();
    assert!(by.starts_with("admin, 20"), "{by}");
    // Of itself it discards nothing.
    assert!(slots.raven.plan.config().exists());
}

/// A disk that has nothing but a data partition of this identity.
fn disk_with_data(path: &Path, id: &str) {
    let file = File::create(path).unwrap();
    file.set_len(64 << 20).unwrap();
    let made = std::process::Command::new("sgdisk")
        .args(["--new=1:2048:+32M", "--typecode=1:9b4d32b1-5f42-418c-8540-8444eac067e8"])
        .arg(format!("--partition-guid=1:{id}"))
        .arg(path)
        .output();
    let made = made.expect("sgdisk (package gdisk)");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
