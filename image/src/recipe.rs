//! The lists of `image/recipe/`: what goes into the image and what does not.

use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

/// Debian's release.
pub const SUITE: &str = "trixie";

/// What makes the image too large, in bytes: the installation medium.
pub const ISO_BUDGET: u64 = 90 << 20;

/// The same of a bundle: what a box fetches over a slow line.
pub const BUNDLE_BUDGET: u64 = 80 << 20;

/// Lists of modules in the initramfs, and their files.
const INITRAMFS_LISTS: [(&str, &str); 5] = [
    ("data", "data-modules.txt"),
    ("watchdog", "watchdog-modules.txt"),
    ("root", "root-modules.txt"),
    ("disks", "disk-modules.txt"),
    ("rescue", "rescue-modules.txt"),
];

/// The lists.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Debian packages of the root.
    pub packages: Vec<String>,
    /// Paths that are taken out again; `*` at the end stands for anything.
    pub remove: Vec<String>,
    /// Kernel modules of the root.
    pub modules: Vec<String>,
    /// Files that are read first at a start.
    pub read_first: Vec<String>,
    /// Kernel modules of the initramfs: the list's name there, and modules in the order in which they are loaded.
    pub initramfs_modules: Vec<(&'static str, Vec<String>)>,
}

impl Recipe {
    /// Reads the lists.
    pub fn read(folder: &Path) -> Result<Self> {
        let list = |name: &str| {
            let path = folder.join(name);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            anyhow::Ok(words(&text))
        };
        Ok(Self {
            packages: list("packages.txt")?,
            remove: list("remove.txt")?,
            modules: list("modules.txt")?,
            read_first: list("read-first.txt")?,
            initramfs_modules: INITRAMFS_LISTS
                .into_iter()
                .map(|(name, file)| Ok((name, list(file)?)))
                .collect::<Result<_>>()?,
        })
    }
}

/// Words up to `#`, line by line.
fn words(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_lists_are_read_without_their_reasons() {
        assert_eq!(words("# all\nudev  # devices\na b\n"), ["udev", "a", "b"]);
        let recipe = Recipe::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipe")).unwrap();
        assert!(
            recipe.packages.contains(&"systemd-sysv".to_owned())
                && recipe.initramfs_modules[2].1.contains(&"dm_verity".to_owned())
        );
        assert!(recipe.remove.iter().all(|path| !path.starts_with('/') && !path.contains("..")));
    }

    /// Users of the box are those of the process table.
    #[test]
    fn every_role_has_its_user() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let table = fs::read_to_string(sources.join("supervisor/model/src/process-table.toml")).unwrap();
        let users = fs::read_to_string(sources.join("buildroot-overlay/usr/lib/sysusers.d/raven.conf")).unwrap();
        let uids = |text: &str, before: &str| -> Vec<u32> {
            let lines =
                text.lines().filter_map(|line| line.split_once(before)?.1.split_whitespace().next()?.parse().ok());
            let mut uids: Vec<u32> = lines.filter(|uid| *uid > 61000).collect();
            uids.sort_unstable();
            uids
        };
        let second: String = users
            .lines()
            .filter(|l| l.starts_with('u'))
            .fold(String::new(), |all, line| all + "uid = " + line.split_whitespace().nth(2).unwrap() + "\n");
        assert_eq!(uids(&second, "uid = "), uids(&table.replace("console = ", "uid = "), "uid = "));
    }
}
