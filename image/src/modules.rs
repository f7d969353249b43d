//! Choosing kernel modules: those of a list, with all they need, in the order in which they can be loaded.

use crate::run;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `depmod` found out about a kernel's modules.
#[derive(Debug)]
pub struct Modules {
    folder: PathBuf,
    /// By name: the file, and the files it needs.
    all: BTreeMap<String, (String, Vec<String>)>,
    built_in: Vec<String>,
}

impl Modules {
    /// Of the unpacked kernel package `root`, `version`.
    pub fn of(root: &Path, version: &str) -> Result<Self> {
        let folder = root.join("usr/lib/modules").join(version);
        if !folder.join("modules.dep").exists() {
            depmod(&root.join("usr"), version)?;
        }
        let read = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| format!("no {name}"));
        let built_in = read("modules.builtin")?.lines().map(name).collect();
        Ok(Self { all: dependencies(&read("modules.dep")?), built_in, folder })
    }

    /// Files of `wanted` and of all that they need, each after what it needs. Names that the kernel does not have are
    /// an error, so that a list does not rot.
    pub fn closure(&self, wanted: &[String]) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for name in wanted.iter().map(|name| name.replace('-', "_")) {
            let Some((file, needs)) = self.all.get(&name) else {
                if self.built_in.contains(&name) {
                    continue;
                }
                bail!("the kernel has no module {name}");
            };
            // modules.dep lists direct and indirect needs, the deepest last.
            for file in needs.iter().rev().chain([file]) {
                if !files.contains(file) {
                    files.push(file.clone());
                }
            }
        }
        Ok(files)
    }

    /// The bytes of a module, unpacked: what packs the image packs all of it better.
    pub fn bytes(&self, file: &str) -> Result<Vec<u8>> {
        let path = self.folder.join(file);
        if path.extension().is_some_and(|e| e == "xz") {
            return run::must(Command::new("xz").args(["--decompress", "--stdout"]).arg(&path));
        }
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Copies the chosen modules to below `usr` of another root and has `depmod` look at them.
    pub fn install(&self, files: &[String], usr: &Path, version: &str) -> Result<()> {
        let to = usr.join("lib/modules").join(version);
        fs::create_dir_all(&to)?;
        for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
            fs::copy(self.folder.join(name), to.join(name))?;
        }
        for file in files {
            let place = to.join(unpacked(file));
            fs::create_dir_all(place.parent().expect("a file lies in a folder"))?;
            fs::write(place, self.bytes(file)?)?;
        }
        depmod(usr, version)
    }
}

/// The name of a file without compression.
pub fn unpacked(file: &str) -> &str {
    file.strip_suffix(".xz").unwrap_or(file)
}

/// The name that the kernel gives a module's file.
fn name(file: &str) -> String {
    let last = file.rsplit('/').next().unwrap_or(file);
    last.split('.').next().unwrap_or(last).replace('-', "_")
}

fn dependencies(modules_dep: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let lines = modules_dep.lines().filter_map(|line| line.split_once(':'));
    let needs = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    lines.map(|(file, text)| (name(file), (file.to_owned(), needs(text)))).collect()
}

/// `usr` is a folder that has `lib/modules`.
fn depmod(usr: &Path, version: &str) -> Result<()> {
    run::must(Command::new("depmod").arg("--basedir").arg(usr).arg(version))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn modules() -> Modules {
        let dep = "kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/jbd2/jbd2.ko.xz\n\
                   kernel/fs/jbd2/jbd2.ko.xz:\nkernel/lib/crc16.ko.xz:\n\
                   kernel/crypto/sha256-ssse3.ko.xz:\n";
        Modules { folder: PathBuf::new(), all: dependencies(dep), built_in: vec!["unix".to_owned()] }
    }

    fn closure(wanted: &[&str]) -> Result<Vec<String>> {
        modules().closure(&wanted.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_a_module_needs_comes_before_it_and_once() {
        let files = closure(&["jbd2", "ext4"]).unwrap();
        assert_eq!(files, ["kernel/fs/jbd2/jbd2.ko.xz", "kernel/lib/crc16.ko.xz", "kernel/fs/ext4/ext4.ko.xz"]);
    }

    #[test]
    fn names_are_the_kernels_however_they_are_written() {
        assert_eq!(closure(&["sha256_ssse3"]).unwrap(), closure(&["sha256-ssse3"]).unwrap());
        assert_eq!(unpacked("kernel/lib/crc16.ko.xz"), "kernel/lib/crc16.ko");
    }

    #[test]
    fn a_name_that_is_gone_is_an_error_and_a_built_in_one_is_not() {
        assert!(closure(&["unix"]).unwrap().is_empty());
        assert!(closure(&["ext3"]).unwrap_err().to_string().contains("ext3"));
    }
}
