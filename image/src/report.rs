//! `report.json`: what takes how much, and whether the whole is within its budget.

use crate::cache::files;
use crate::recipe::{BUNDLE_BUDGET, ISO_BUDGET};
use crate::root::Root;
use crate::site::Site;
use crate::tree::{Owners, Versions};
use crate::{Order, System, bytes, firmware};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How many of the largest files are named.
const LARGEST: usize = 40;

/// Writes what the root at `tree` consists of, unpacked: bytes by package, the largest files, and the firmware that network
/// drivers may ask for in vain.
pub fn contents(tree: &Path, owners: &Owners, versions: &Versions, to: &Path) -> Result<()> {
    let mut sizes = Vec::new();
    for path in files(tree)? {
        let name = path.strip_prefix(tree).unwrap_or(&path).to_owned();
        sizes.push((fs::symlink_metadata(&path)?.size(), owner(&name, owners), name));
    }
    let mut by_package: BTreeMap<&str, u64> = BTreeMap::new();
    for (size, package, _) in &sizes {
        *by_package.entry(package).or_default() += size;
    }
    let mut packages: Vec<_> = by_package.into_iter().collect();
    packages.sort_by_key(|(name, size)| (std::cmp::Reverse(*size), *name));
    let packages: Vec<Value> = packages
        .into_iter()
        .map(|(name, size)| json!({"name": name, "version": versions.get(name), "bytes": size}))
        .collect();
    sizes.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.2.cmp(&b.2)));
    let total: u64 = sizes.iter().map(|(size, ..)| size).sum();
    let largest: Vec<Value> = sizes
        .iter()
        .take(LARGEST)
        .map(|(size, package, name)| json!({"path": name, "package": package, "bytes": size}))
        .collect();
    let contents = json!({"bytes": total, "files": sizes.len(), "packages": packages, "largest": largest,
        "firmware_missing": firmware::missing(tree)?});
    Ok(fs::write(to, serde_json::to_vec_pretty(&contents)?)?)
}

/// Debian's package, `linux` for modules (they are chosen, not installed), or `raven`.
fn owner(path: &Path, owners: &Owners) -> String {
    match owners.get(path) {
        Some(package) => package.clone(),
        None if path.starts_with("usr/lib/modules") => "linux".to_owned(),
        None => "raven".to_owned(),
    }
}

/// Writes the report and prints the sums.
pub fn write(order: &Order, root: &Root, system: &System) -> Result<()> {
    let contents: Value = serde_json::from_slice(&fs::read(root.contents())?)?;
    let iso = bytes(&order.out.join("raven.iso"))?;
    let report = json!({
        "version": order.version,
        "epoch": order.epoch,
        "verity": system.verity.to_string(),
        "config": order.site.as_ref().map(Site::report),
        "bytes": {
            "iso": iso,
            "bundle": bytes(&order.out.join("raven.bundle"))?,
            "img": bytes(&order.out.join("raven.img"))?,
            "root": bytes(&system.root)?,
            "hashes": bytes(&system.hashes)?,
            "kernel": bytes(&system.kernel)?,
            "initramfs": bytes(&system.initramfs)?,
            "rescue": bytes(&order.out.join(crate::RESCUE))?,
        },
        "budget": {"iso": ISO_BUDGET, "bundle": BUNDLE_BUDGET},
        "root": contents,
    });
    let path = order.out.join("report.json");
    fs::write(&path, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    for (name, size) in report["bytes"].as_object().into_iter().flatten() {
        println!("{name:>10} {:>7.1} MiB", size.as_f64().unwrap_or_default() / f64::from(1 << 20));
    }
    println!("{}", path.display());
    within(iso, ISO_BUDGET)
}

fn within(iso: u64, budget: u64) -> Result<()> {
    ensure!(iso <= budget, "raven.iso has {iso} bytes and may have {budget}; report.json says what takes them");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bytes_are_counted_for_who_brought_them() {
        let root = tempfile::tempdir().unwrap();
        let tree = root.path().join("tree");
        for (path, size) in
            [("usr/bin/udevadm", 500), ("usr/lib/modules/6/x.ko", 70), ("usr/bin/ravend", 9), ("usr/bin/kmod", 1)]
        {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; size]).unwrap();
        }
        let owners = [("usr/bin/udevadm", "udev"), ("usr/bin/kmod", "udev"), ("usr/bin/gone", "other")];
        let owners = owners.into_iter().map(|(p, o)| (p.into(), o.to_owned())).collect();
        let versions = [("udev".to_owned(), "257".to_owned())].into_iter().collect();
        let to = root.path().join("contents.json");
        contents(&tree, &owners, &versions, &to).unwrap();
        let said: Value = serde_json::from_slice(&fs::read(to).unwrap()).unwrap();
        assert_eq!(said["bytes"], 580);
        let packages = json!([{"name": "udev", "version": "257", "bytes": 501},
            {"name": "linux", "version": null, "bytes": 70}, {"name": "raven", "version": null, "bytes": 9}]);
        assert_eq!(said["packages"], packages);
        assert_eq!(said["largest"][0]["path"], "usr/bin/udevadm");
    }

    #[test]
    fn a_medium_that_is_too_large_fails_the_build() {
        assert!(within(10, 10).is_ok() && within(11, 10).is_err());
    }
}
