//! Disks that are well, worn, failing, asleep, silent and hostile, as smartctl (7.4) and `/sys` tell of them.
#![allow(clippy::unwrap_used)]

use super::smart::{Said, read};
use super::{Health, OLD_NS, SAID, SETTLED_NS};
use crate::host::source::Scripted;
use proptest::prelude::*;
use raven_model::host::{DiskHealth, FileSystem};

const NVME: &str = include_str!("said/nvme.json");
const ASLEEP: &str = include_str!("said/asleep.json");
const FAILING: &str = include_str!("said/sata-hdd-failing.json");

fn health(text: &str) -> DiskHealth {
    match read(text) {
        Said::Health(health) => *health,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_nvme_says_all_there_is_to_say() {
    let disk = health(NVME);
    let expected = DiskHealth {
        model: "Example NVMe 980 500GB".to_owned(),
        serial: "N0001".to_owned(),
        passed: Some(true),
        celsius: Some(37),
        life_used: Some(0.04),
        spare: Some(1.0),
        spare_threshold: Some(0.1),
        media_errors: Some(0),
        power_on_s: Some(8760 * 3600),
        ..DiskHealth::default()
    };
    assert_eq!(disk, expected);
    assert_eq!(disk.complaints(), []);
}

#[test]
fn an_nvme_at_its_end_says_why() {
    let disk = health(include_str!("said/nvme-worn.json"));
    assert_eq!((disk.passed, disk.life_used, disk.media_errors), (Some(false), Some(1.12), Some(9)));
    assert_eq!(disk.failing, "too few spare blocks, no longer reliable");
    let about: Vec<_> = disk.complaints().iter().map(|complaint| complaint.about).collect();
    assert_eq!(about, ["failing", "spare blocks", "media errors", "wear"]);
}

#[test]
fn the_wear_of_sata_disks_is_what_their_statistics_say_or_their_attributes() {
    let disk = health(include_str!("said/sata-ssd.json"));
    assert_eq!((disk.life_used, disk.reallocated_sectors, disk.media_errors), (Some(0.04), Some(0), Some(0)));
    assert_eq!((disk.celsius, disk.power_on_s, disk.pending_sectors), (Some(31), Some(2401 * 3600), None));
    let disk = health(include_str!("said/sata-ssd-statistics.json"));
    assert_eq!(disk.life_used, Some(0.93), "not the 39 of its attribute");
    assert_eq!(disk.reallocated_sectors, None, "blocks of flash are no sectors");
}

#[test]
fn a_failing_hard_disk_says_by_what() {
    let disk = health(FAILING);
    assert_eq!(disk.failing, "Raw_Read_Error_Rate, Reallocated_Sector_Ct");
    let counts = (disk.reallocated_sectors, disk.pending_sectors, disk.media_errors);
    assert_eq!(counts, (Some(824), Some(16), Some(171)), "the first number of a raw value");
    assert_eq!(disk.life_used, None);
}

#[test]
fn a_sas_disk_has_its_list_of_defects() {
    let disk = health(include_str!("said/scsi.json"));
    assert_eq!((disk.model.as_str(), disk.reallocated_sectors, disk.passed), ("EXAMPLE SAS15K", Some(2), Some(true)));
}

#[test]
fn who_has_nothing_to_say_is_not_called_well_and_not_failing() {
    let nothing = |text: &str| match read(text) {
        Said::Nothing(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(nothing(include_str!("said/usb-bridge.json")), "Unknown USB bridge [0x1234:0x5678 (0x101)]");
    assert_eq!(nothing(include_str!("said/virtio.json")), "Unable to detect device type");
    assert_eq!(nothing(""), "smartctl said nothing");
    assert_eq!(nothing("\u{0}"), "what smartctl said cannot be read");
    assert_eq!(nothing(&"[".repeat(100_000)), "what smartctl said cannot be read");
    assert_eq!(nothing("{}"), "smartctl could not ask it");
    let stick = health(include_str!("said/usb-stick.json"));
    assert_eq!(stick.line(), " Example Stick, 0 C, says nothing about its health (it has no SMART)");
    assert_eq!(read(ASLEEP), Said::Asleep);
}

#[test]
fn a_hostile_disk_brings_no_control_characters_and_no_number_that_cannot_be() {
    let disk = health(include_str!("said/hostile.json"));
    assert_eq!(disk.model.chars().count(), 64);
    assert!(disk.model.starts_with("Evil?[2J? disk") && !disk.failing.contains(char::is_control), "{disk:?}");
    assert_eq!((disk.serial.as_str(), disk.passed, disk.celsius, disk.life_used), ("", None, None, None));
    assert_eq!((disk.reallocated_sectors, disk.media_errors, disk.power_on_s), (None, Some(3), Some(u64::MAX)));
}

// ---- over time, on a made-up machine ----

const HOUR: u64 = 3_600_000_000_000;

fn machine() -> Scripted {
    let mut source = Scripted::default();
    source
        .set("/sys/block/sda/size", "488397168\n")
        .set("/sys/block/sda/sda7/partition", "7\n")
        .set("/sys/block/sda/device/model", "Example HDD 2TB \n")
        .set("/sys/block/vda/size", "8388608\n")
        .set("/sys/block/vda/serial", "v-1\n")
        .set("/sys/block/vda/vda7/partition", "7\n")
        .set("/sys/block/loop0/size", "2048\n")
        .set("/sys/block/sr0/size", "2048\n")
        .set("/sys/block/sdz/size", "0\n");
    source
}

fn data(device: &str) -> FileSystem {
    FileSystem { mount: "/data".to_owned(), device: device.to_owned(), ..FileSystem::default() }
}

fn lines(disks: &[DiskHealth]) -> Vec<String> {
    disks.iter().map(|disk| format!("{}{}", if disk.holds_data { "* " } else { "" }, disk.line())).collect()
}

#[test]
fn real_disks_are_listed_and_the_one_with_the_data_is_known() {
    let disks = Health::default().look(&machine(), Some(&data("/dev/vda7")), 1);
    assert_eq!(
        lines(&disks),
        [
            "sda Example HDD 2TB, says nothing about its health (it has not been asked)",
            "* vda (v-1), says nothing about its health (a virtual disk)"
        ]
    );
    let with = |device: &str| {
        let disks = Health::default().look(&machine(), Some(&data(device)), 1);
        disks.iter().map(|disk| disk.holds_data).collect::<Vec<_>>()
    };
    assert_eq!(with("/dev/sda"), [true, false], "a disk without partitions");
    assert_eq!(with("/dev/sdaa1"), [false, false]);
    assert_eq!(with("tmpfs"), [false, false]);
}

#[test]
fn what_a_disk_said_stands_while_it_sleeps_and_while_it_cannot_be_asked() {
    let (mut source, mut health) = (machine(), Health::default());
    let file = format!("{SAID}/sda.json");
    let mut look = |source: &Scripted, now| health.look(source, None, now).remove(0);
    source.set(&file, FAILING);
    let disk = look(&source, HOUR);
    assert_eq!((disk.pending_sectors, disk.asleep, disk.unread), (Some(16), false, 0));
    source.set(&file, ASLEEP);
    let disk = look(&source, 2 * HOUR);
    assert_eq!((disk.pending_sectors, disk.asleep, disk.unread), (Some(16), true, 0));
    // smartctl has just begun.
    source.set(&file, "");
    assert_eq!(look(&source, 3 * HOUR).note, "");
    assert_eq!(look(&source, 3 * HOUR + SETTLED_NS - 1).note, "");
    for later in [SETTLED_NS, 2 * SETTLED_NS] {
        let disk = look(&source, 3 * HOUR + later);
        assert_eq!((disk.note.as_str(), disk.unread, disk.pending_sectors), ("smartctl said nothing", 1, Some(16)));
    }
    source.set(&file, FAILING);
    let disk = look(&source, 4 * HOUR);
    assert_eq!((disk.note.as_str(), disk.asleep, disk.unread), ("", false, 1));
    assert_eq!(look(&source, 4 * HOUR + OLD_NS).note, "");
    assert_eq!(look(&source, 8 * HOUR).note, "asked last 4h 0m ago");
}

#[test]
fn an_emmc_tells_in_tenths_and_a_card_tells_nothing() {
    let emmc = |life: &str, spare: &str| {
        let mut source = Scripted::default();
        source.set("/sys/block/mmcblk0/size", "61071360\n").set("/sys/block/mmcblk0boot0/size", "8192\n");
        source.set("/sys/block/mmcblk0/device/name", "EX32G\n").set("/sys/block/mmcblk0/device/serial", "0x1a2b\n");
        if !life.is_empty() {
            source.set("/sys/block/mmcblk0/device/life_time", life);
            source.set("/sys/block/mmcblk0/device/pre_eol_info", spare);
        }
        lines(&Health::default().look(&source, None, 1))
    };
    assert_eq!(emmc("0x01 0x02\n", "0x01\n"), ["mmcblk0 EX32G (0x1a2b), 10 % of its life used, well"]);
    assert!(emmc("0x0a 0x02\n", "0x01\n")[0].ends_with("NOT well: has 90 % of its life used"));
    assert!(emmc("0x01 0x01\n", "0x03\n")[0].contains("failing (nine tenths of its spare blocks are used)"));
    assert_eq!(emmc("", ""), ["mmcblk0 EX32G (0x1a2b), says nothing about its health"]);
    assert_eq!(emmc("0x00 0x0c\n", "0x00\n"), ["mmcblk0 EX32G (0x1a2b), says nothing about its health"]);
}

proptest! {
    /// What is cut off anywhere, or has a byte changed, harms nobody.
    #[test]
    fn damaged_texts_are_read_without_harm(at in 0_usize..1400, byte in 0_u8..127, which in 0_usize..4) {
        let text = [NVME, FAILING, include_str!("said/sata-ssd-statistics.json"), include_str!("said/hostile.json")][which];
        let at = at.min(text.len());
        let _ = read(&text[..at]);
        let mut bytes = text.as_bytes().to_vec();
        if let Some(there) = bytes.get_mut(at) {
            *there = byte;
        }
        if let Said::Health(disk) = read(&String::from_utf8_lossy(&bytes)) {
            prop_assert!(!disk.line().contains(char::is_control));
            prop_assert!(serde_json::from_str::<DiskHealth>(&serde_json::to_string(&disk).unwrap()).unwrap() == *disk);
        }
    }

    #[test]
    fn any_json_is_read_without_harm(text in "\\{(\"(smart_status|temperature|ata_smart_attributes|table|current|passed)\":|[{}0-9,\\[\\]]|true){0,30}\\}") {
        let _ = read(&text);
    }
}
