//! The initramfs: `raven-init`, modules, an empty folder for each thing it mounts. An archive of the form `newc`
//! (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst), packed with zstd.

use crate::cache::{self, Key};
use crate::modules::{self, Modules};
use crate::packages::Packages;
use crate::recipe::Recipe;
use crate::{Order, run};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDERS: [&str; 6] = ["dev", "modules", "proc", "root", "run", "sys"];

/// Builds it, unless the same things were put together before.
pub fn built(order: &Order, recipe: &Recipe, packages: &Packages) -> Result<PathBuf> {
    let mut key =
        Key::default().add(packages.tar().as_os_str().as_encoded_bytes()).file(&order.programs.join("raven-init"))?;
    key = key.folder(&order.sources.join("image/recipe"))?;
    for source in ["initramfs.rs", "modules.rs"] {
        key = key.file(&order.sources.join("image/src").join(source))?;
    }
    let name = key.name();
    let place = cache::folder(&order.cache, "initramfs", &name, order.fresh, |at| build(order, recipe, packages, at))?;
    Ok(place.join("initramfs"))
}

fn build(order: &Order, recipe: &Recipe, packages: &Packages, at: &Path) -> Result<()> {
    let init = order.programs.join("raven-init");
    is_static(&init)?;
    let modules = Modules::of(&packages.kernel(), &packages.kernel_version()?)?;
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.folder(folder);
    }
    // The kernel opens it for the first process before anything is mounted.
    archive.device("dev/console", 5, 1);
    archive.file("init", 0o755, &fs::read(&init)?);
    let mut listed: Vec<String> = Vec::new();
    for (list, wanted) in &recipe.initramfs_modules {
        let mut files = modules.closure(wanted)?;
        files.retain(|file| !listed.contains(file));
        let names: Vec<&str> = files.iter().map(|file| file_name(file)).collect();
        for (name, file) in names.iter().zip(&files) {
            archive.file(&format!("modules/{name}"), 0o644, &modules.bytes(file)?);
        }
        archive.file(&format!("modules/{list}"), 0o644, (names.join("\n") + "\n").as_bytes());
        listed.extend(files);
    }
    let packed = zstd::encode_all(archive.end().as_slice(), 19)?;
    Ok(fs::write(at.join("initramfs"), packed)?)
}

/// A module's file without its folders.
fn file_name(file: &str) -> &str {
    modules::unpacked(file).rsplit('/').next().unwrap_or_default()
}

/// A program that looks for libraries would end the box's start.
pub fn is_static(program: &Path) -> Result<()> {
    let headers = run::must(Command::new("readelf").arg("--program-headers").arg(program))
        .context("readelf (package binutils)")?;
    let dynamic = String::from_utf8_lossy(&headers).contains("INTERP");
    ensure!(!dynamic, "{} needs libraries; it must be built with -C target-feature=+crt-static", program.display());
    Ok(())
}

/// An archive being written.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub fn folder(&mut self, name: &str) {
        self.entry(name, 0o040_755, [0, 0], &[]);
    }

    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(name, 0o100_000 | mode, [0, 0], content);
    }

    /// A symbolic link.
    pub fn link(&mut self, name: &str, to: &str) {
        self.entry(name, 0o120_777, [0, 0], to.as_bytes());
    }

    fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, 0o020_600, [major, minor], &[]);
    }

    pub fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, [0, 0], &[]);
        self.bytes
    }

    /// Times and owners are zero: the same content makes the same archive.
    fn entry(&mut self, name: &str, mode: u32, [major, minor]: [u32; 2], content: &[u8]) {
        self.entries += 1;
        let links = if mode & 0o040_000 == 0 { 1 } else { 2 };
        let fields =
            [self.entries, mode, 0, 0, links, 0, content.len() as u32, 0, 0, major, minor, name.len() as u32 + 1, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::process::Stdio;

    #[test]
    fn cpio_reads_the_archive() {
        let mut archive = Archive::default();
        archive.folder("modules");
        archive.device("console", 5, 1);
        archive.file("modules/a.ko", 0o644, b"abcde");
        archive.file("init", 0o755, b"x");
        let bytes = archive.end();
        let Ok(mut cpio) = Command::new("cpio")
            .args(["--list", "--verbose", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            println!("not run: cpio is not installed");
            return;
        };
        cpio.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = cpio.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        let lines: Vec<Vec<&str>> = said.lines().map(|l| l.split_whitespace().collect()).collect();
        let of = |name: &str| lines.iter().find(|l| l.last() == Some(&name)).unwrap();
        assert_eq!(of("modules")[0], "drwxr-xr-x");
        assert_eq!(of("console")[..6], ["crw-------", "1", "root", "root", "5,", "1"]);
        assert_eq!((of("modules/a.ko")[0], of("modules/a.ko")[4]), ("-rw-r--r--", "5"));
        assert_eq!(of("init")[0], "-rwxr-xr-x");
    }
}
