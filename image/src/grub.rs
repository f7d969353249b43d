//! The boot loader: GRUB for BIOS and UEFI with one configuration. Its parts are Debian's, put together here; nothing
//! is installed by `grub-install`, which wants devices.

use crate::run;
use anyhow::{Context, Result, ensure};
use raven_boot::slot_file::KERNEL_ARGUMENTS;
use raven_boot::verity::Verity;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What both ways of starting need.
const MODULES: [&str; 15] = [
    "part_gpt",
    "part_msdos",
    "search",
    "search_fs_file",
    "serial",
    "terminal",
    "configfile", // `source`
    "normal",
    "linux",
    "test",
    "echo",
    "loadenv",
    "all_video",
    "reboot",
    "sleep",
];

/// Where GRUB is started from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A BIOS reads it from a disk.
    BiosDisk,
    /// A BIOS reads it from a CD.
    BiosCd,
    /// A UEFI loads it as a file.
    Efi,
}

/// Puts GRUB together so that it looks for `marker`, a file that only the right file system has, and goes on with the
/// `grub.cfg` beside it: as its own, since a menu that another file was sent to is left by Esc, and whoever presses that
/// once more than it takes would be back at the beginning.
pub fn image(start: Start, marker: &str, work: &Path) -> Result<PathBuf> {
    let (format, file, more): (_, _, &[&str]) = match start {
        Start::BiosDisk => ("i386-pc", "core.img", &["biosdisk", "fat", "iso9660"]),
        Start::BiosCd => ("i386-pc-eltorito", "eltorito.img", &["biosdisk", "iso9660"]),
        Start::Efi => ("x86_64-efi", "BOOTX64.EFI", &["fat", "iso9660", "efi_gop", "efi_uga"]),
    };
    let parts = if format.starts_with("i386") { "/usr/lib/grub/i386-pc" } else { "/usr/lib/grub/x86_64-efi" };
    let early = work.join("early.cfg");
    let folder = marker.rsplit_once('/').map_or("", |(folder, _)| folder);
    fs::write(&early, format!("search --no-floppy --set=root --file {marker}\nset prefix=($root){folder}\n"))?;
    let image = work.join(file);
    let mut make = Command::new("grub-mkimage");
    make.args(["--format", format, "--directory", parts, "--prefix", folder, "--config"]).arg(&early);
    make.arg("--output").arg(&image).args(MODULES).args(more);
    run::must(&mut make)?;
    Ok(image)
}

/// `grub.cfg` of an installed box: takes the first slot in `ORDER` that holds a system and has tries left, takes one
/// from them, writes that down, and only then starts it. What cannot be loaded ends at the menu, which goes on by itself.
/// `gpt`: the kernel takes the disk's second partition table when a power cut has torn the first one.
pub fn of_disk() -> String {
    let rescue = rescue("/raven/$1/kernel", "/raven/$1/initramfs");
    format!(
        r#"{CONSOLES}
load_env --file /raven/grubenv ORDER A_OK A_LEFT B_OK B_LEFT TRIAL RESET
if [ -z "$ORDER" ]; then set ORDER="A B"; fi
function next {{
  set slot=
  for s in $ORDER; do
    if [ -z "$slot" ]; then
      if [ "$s" = A ]; then set filled="$A_OK"; set left="$A_LEFT"; else set filled="$B_OK"; set left="$B_LEFT"; fi
      if [ "$filled" = 1 ]; then
        if [ "$left" = 3 ]; then set slot="$s"; set left=2
        elif [ "$left" = 2 ]; then set slot="$s"; set left=1
        elif [ "$left" = 1 ]; then set slot="$s"; set left=0
        fi
      fi
    fi
  done
  if [ -n "$slot" ]; then
    if [ "$slot" = A ]; then set A_LEFT="$left"; else set B_LEFT="$left"; fi
    save_env --file /raven/grubenv A_LEFT B_LEFT
  else
    # Every slot failed each time. A box that tries is better than one that waits for somebody.
    if [ "$A_OK" = 1 ]; then set slot=A; else set slot=B; fi
    set left=none
    echo "Raven: no slot has tries left"
  fi
  echo "Raven: starting slot $slot, tries left: $left"
  start "$slot"
}}
function start {{
  set trial=
  if [ "$TRIAL" = "$1" ]; then set trial=raven.trial; fi
  set reset=
  if [ -n "$RESET" ]; then set reset="raven.reset=$RESET"; fi
  source /raven/$1/slot.cfg
  linux /raven/$1/kernel $arguments gpt raven.slot=$1 $trial $reset raven.verity=$verity
  initrd /raven/$1/initramfs
  boot
}}
{rescue}{MENU}
if [ "$A_OK" = 1 ]; then
  menuentry "a: start slot A this once" --hotkey=a {{ start A; }}
  menuentry "x: rescue, a shell with the kernel of slot A" --hotkey=x {{ rescue A; }}
fi
if [ "$B_OK" = 1 ]; then
  menuentry "b: start slot B this once" --hotkey=b {{ start B; }}
  menuentry "y: rescue, a shell with the kernel of slot B" --hotkey=y {{ rescue B; }}
fi
"#
    )
}

/// `grub.cfg` of the installation medium.
pub fn of_medium(verity: &Verity) -> String {
    let rescue = rescue("/raven/kernel", "/raven/initramfs");
    format!(
        r#"{CONSOLES}
function next {{
  echo "Raven: starting from this medium"
  linux /raven/kernel {KERNEL_ARGUMENTS} raven.live raven.verity={verity}
  initrd /raven/initramfs
  boot
}}
{rescue}{MENU}
menuentry "x: rescue, a shell" --hotkey=x {{ rescue; }}
"#
    )
}

/// A function that starts the rescue system: the kernel and modules of a system, with another first process
/// ([`crate::rescue`]).
fn rescue(kernel: &str, initramfs: &str) -> String {
    format!(
        "function rescue {{\n  echo \"Raven: starting the rescue system\"\n  linux {kernel} {KERNEL_ARGUMENTS} \
         rdinit={}\n  initrd {initramfs} {}\n  boot\n}}\n",
        crate::rescue::INIT,
        crate::rescue::PLACE
    )
}

/// Goes on by itself unless Esc comes in time; noise on a serial line that was taken for it costs a minute. Entries have keys
/// of one byte: where the firmware of a UEFI reads the serial line too, the bytes of an arrow fall apart. It takes Esc and a
/// digit for a function key, and Esc and `r` for the beginning of a reset.
const MENU: &str = r#"echo "Raven: Esc shows a menu"
if sleep --interruptible 3; then next; fi
set timeout=60
set default=0
menuentry "Start Raven" { next; }"#;

const CONSOLES: &str =
    "serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\nset timeout=0";

/// The two parts of GRUB for a BIOS: what goes into the first 440 bytes of the disk, and what lies at `sector`.
pub fn bios(core: &Path, sector: u64) -> Result<(Vec<u8>, Vec<u8>)> {
    let boot = "/usr/lib/grub/i386-pc/boot.img";
    let boot = fs::read(boot).with_context(|| format!("{boot} (package grub-pc-bin)"))?;
    patched(boot, fs::read(core)?, sector)
}

/// The boot sector is told where the rest begins, and the rest how much follows its own first sector.
fn patched(mut boot: Vec<u8>, mut core: Vec<u8>, sector: u64) -> Result<(Vec<u8>, Vec<u8>)> {
    ensure!(boot.len() == 512 && core.len() > 512, "GRUB's parts have an unexpected size");
    boot[0x5c..0x64].copy_from_slice(&sector.to_le_bytes());
    // A check for floppy disks jumps here; disks go on.
    boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
    boot.truncate(440);
    let follow = u16::try_from(core.len().div_ceil(512) - 1).context("GRUB is too large")?;
    core[0x1f4..0x1fc].copy_from_slice(&(sector + 1).to_le_bytes());
    core[0x1fc..0x1fe].copy_from_slice(&follow.to_le_bytes());
    core[0x1fe..0x200].copy_from_slice(&0x820_u16.to_le_bytes());
    Ok((boot, core))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn verity() -> Verity {
        Verity { root: [0xab; 32], blocks: 9, salt: vec![1] }
    }

    #[test]
    fn what_grub_says_to_raven_init_is_understood() {
        let cmdline = of_medium(&verity());
        let line = cmdline.lines().find(|l| l.trim().starts_with("linux")).unwrap();
        let boot = raven_boot::cmdline::parse(line).unwrap();
        assert_eq!((boot.medium, boot.verity), (raven_boot::cmdline::Medium::Live, verity()));
    }

    #[test]
    fn a_try_is_taken_before_the_slot_starts() {
        let config = of_disk();
        let at = |what: &str| config.find(what).unwrap();
        assert!(at("load_env") < at("save_env") && at("save_env") < at("start \"$slot\""));
        // Only there: a slot that somebody chose at the menu keeps its tries, and so does one whose kernel rescues.
        assert_eq!((config.matches("save_env").count(), config.matches("next;").count()), (1, 2));
    }

    #[test]
    fn without_a_key_the_box_starts_and_rescue_is_never_what_it_goes_on_with() {
        for config in [of_disk(), of_medium(&verity())] {
            let at = |what: &str| config.find(what).unwrap();
            assert!(config.contains(
                "if sleep --interruptible 3; then next; fi\nset timeout=60\nset default=0\nmenuentry \"Start Raven\""
            ));
            assert!(at("menuentry \"Start Raven\"") < at(" --hotkey=x"));
            let rescue: Vec<&str> = config.lines().filter(|line| line.contains("rdinit=")).collect();
            assert!(rescue.len() == 1 && !rescue[0].contains("raven.verity"), "{rescue:?}");
        }
    }

    #[test]
    fn a_reset_is_passed_on_as_it_was_ordered_and_only_then() {
        let config = of_disk();
        assert!(config.contains(r#"if [ -n "$RESET" ]; then set reset="raven.reset=$RESET"; fi"#));
        assert!(config.contains(" gpt raven.slot=$1 $trial $reset raven.verity="));
        assert!(!of_medium(&verity()).contains("reset"));
    }

    #[test]
    fn grub_finds_its_second_part() {
        let (boot, core) = patched(vec![0; 512], vec![1; 1200], 2048).unwrap();
        assert_eq!((boot.len(), &boot[0x5c..0x64]), (440, 2048_u64.to_le_bytes().as_slice()));
        assert_eq!(core[0x1f4..0x200], [1, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 8]);
        assert!(patched(vec![0; 100], vec![1; 1200], 2048).is_err());
    }

    #[test]
    fn the_configuration_is_one_that_grub_reads() {
        if Command::new("grub-script-check").arg("--version").output().is_err() {
            println!("not run: grub-script-check is not installed");
            return;
        }
        let slot = raven_boot::slot_file::text(raven_model::update::FLOOR, &verity(), KERNEL_ARGUMENTS);
        for config in [of_disk(), of_medium(&verity()), slot] {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &config).unwrap();
            let checked = Command::new("grub-script-check").arg(file.path()).output().unwrap();
            assert!(checked.status.success(), "{}\n{config}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}
