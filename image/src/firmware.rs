//! Firmware that network drivers ask for and that is not in the root: what a driver does without is in `docs/image.md`.

use crate::cache::files;
use crate::run;
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// By driver: the files it may ask for that the root at `tree` has not.
pub fn missing(tree: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let mut missing = BTreeMap::new();
    for path in files(tree)?.iter().filter(|path| is_network_driver(path)) {
        let asked = run::must(Command::new("modinfo").args(["--field", "firmware"]).arg(path))?;
        let mut lacks = lacking(&String::from_utf8_lossy(&asked), &tree.join("usr/lib/firmware"));
        lacks.sort();
        if let (false, Some(driver)) = (lacks.is_empty(), path.file_stem()) {
            missing.insert(driver.to_string_lossy().replace('-', "_"), lacks);
        }
    }
    Ok(missing)
}

fn is_network_driver(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "ko") && path.to_string_lossy().contains("/kernel/drivers/net/")
}

fn lacking(asked: &str, firmware: &Path) -> Vec<String> {
    asked.lines().filter(|name| !firmware.join(name).exists()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_there_is_not_missing_and_only_network_drivers_are_asked() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("rtl_nic")).unwrap();
        std::fs::write(root.path().join("rtl_nic/a.fw"), "").unwrap();
        assert_eq!(lacking("rtl_nic/b.fw\nrtl_nic/a.fw\n", root.path()), ["rtl_nic/b.fw"]);
        let is = |path: &str| is_network_driver(Path::new(path));
        assert!(is("/t/usr/lib/modules/6/kernel/drivers/net/ethernet/realtek/r8169.ko"));
        assert!(!is("/t/usr/lib/modules/6/kernel/drivers/gpu/drm/i915/i915.ko"));
        assert!(!is("/t/usr/lib/modules/6/kernel/drivers/net/readme"));
    }

    /// A file with nothing but the section in which a module says what it asks for.
    #[test]
    fn a_module_says_by_itself_what_it_asks_for() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib/modules/6/kernel/drivers/net/usb");
        std::fs::create_dir_all(&folder).unwrap();
        let text = folder.join("text");
        std::fs::write(&text, b"license=GPL\0firmware=rtl_nic/x.fw\0firmware=rtl_nic/y.fw\0").unwrap();
        let module = folder.join("r8152.ko");
        let mut objcopy = Command::new("objcopy");
        objcopy.args(["--input-target", "binary", "--output-target", "elf64-x86-64", "--rename-section"]);
        let made = objcopy.arg(".data=.modinfo").arg(&text).arg(&module).status();
        if !made.is_ok_and(|status| status.success()) {
            println!("not run: objcopy is not installed");
            return;
        }
        std::fs::remove_file(text).unwrap();
        let expected =
            BTreeMap::from([("r8152".to_owned(), vec!["rtl_nic/x.fw".to_owned(), "rtl_nic/y.fw".to_owned()])]);
        assert_eq!(missing(root.path()).unwrap(), expected);
    }
}
