//! `raven/A/slot.cfg` and `raven/B/slot.cfg` on the EFI system partition: what GRUB is told of a slot's system.

use crate::verity::Verity;
use raven_model::update::Version;

/// Kernel arguments of every start. Kernel messages that matter go to both consoles; a panic starts anew; a page that is
/// touched is not made two MiB (LMDB has large tables of which it uses little), nor are 60 MiB kept free for that.
pub const KERNEL_ARGUMENTS: &str =
    "console=tty1 console=ttyS0,115200 quiet loglevel=4 panic=10 oops=panic transparent_hugepage=never ro";

/// The file. `arguments` come from a manifest that was checked, or are [`KERNEL_ARGUMENTS`].
pub fn text(version: Version, verity: &Verity, arguments: &str) -> String {
    format!("set version={version}\nset verity={verity}\nset arguments=\"{arguments}\"\n")
}

/// The release that a file tells of.
pub fn version(text: &str) -> Option<Version> {
    text.lines().find_map(|line| line.strip_prefix("set version=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_found_again() {
        let verity = Verity { root: [0xab; 32], blocks: 9, salt: vec![1] };
        let text = text(Version(1, 2, 3), &verity, KERNEL_ARGUMENTS);
        assert_eq!(version(&text), Some(Version(1, 2, 3)));
        assert!(text.contains(&format!("set verity={verity}\n")));
        assert_eq!(version("set verity=1\n"), None);
    }
}
