//! Debian packages by mmdebstrap; the kernel's package and those of the rescue system, which are unpacked and not
//! installed: no hooks, no initramfs-tools.

use crate::cache::{self, Key};
use crate::recipe::{Recipe, SUITE};
use crate::{Order, run};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Times of files that packages make: fixed, so that what is kept does not follow our commits.
const EPOCH: &str = "1700000000";

/// Of the rescue system: a shell with its tools, and the check of an ext4. Programs without libraries.
const RESCUE: [&str; 2] = ["busybox-static", "e2fsck-static"];

/// Documentation and texts in other languages; licences stay.
const LEFT_OUT: [&str; 8] = [
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/bash-completion/*",
    "path-exclude=/usr/share/zsh/*",
];

/// What was fetched.
#[derive(Debug)]
pub struct Packages(PathBuf);

impl Packages {
    /// The root with all packages installed, nothing removed yet.
    pub fn tar(&self) -> PathBuf {
        self.0.join("root.tar")
    }

    /// The unpacked package of the kernel.
    pub fn kernel(&self) -> PathBuf {
        self.0.join("kernel")
    }

    /// The unpacked packages of the rescue system.
    pub fn rescue(&self) -> PathBuf {
        self.0.join("rescue")
    }

    /// Packages that were unpacked and not installed, as `NAME VERSION`.
    pub fn unpacked(&self) -> Result<Vec<String>> {
        let path = self.0.join("unpacked");
        let list = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(list.lines().map(str::to_owned).collect())
    }

    /// The kernel itself.
    pub fn kernel_image(&self) -> Result<PathBuf> {
        Ok(self.kernel().join(format!("boot/vmlinuz-{}", self.kernel_version()?)))
    }

    /// The kernel's version, as its modules' folder is called.
    pub fn kernel_version(&self) -> Result<String> {
        let folder = self.kernel().join("usr/lib/modules");
        let first = fs::read_dir(&folder).ok().and_then(|mut entries| entries.next()).transpose()?;
        let first = first.with_context(|| format!("{} is empty", folder.display()))?;
        Ok(first.file_name().to_string_lossy().into_owned())
    }
}

/// Fetches, unless the same recipe was fetched before. Debian's updates come in with `--fresh`.
pub fn fetched(order: &Order, recipe: &Recipe) -> Result<Packages> {
    let words =
        recipe.packages.iter().map(String::as_str).chain(LEFT_OUT).chain(RESCUE).chain([SUITE, EPOCH, "form 2"]);
    let key = words.fold(Key::default(), |key, word| key.add(word.as_bytes())).name();
    cache::folder(&order.cache, "packages", &key, order.fresh, |at| fetch(at, recipe)).map(Packages)
}

fn fetch(at: &Path, recipe: &Recipe) -> Result<()> {
    let mut make = Command::new("mmdebstrap");
    make.env("SOURCE_DATE_EPOCH", EPOCH).env("AT", at).args(["--mode=root", "--variant=essential", "--format=tar"]);
    make.arg("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr");
    make.arg(format!("--include={}", recipe.packages.join(",")));
    make.args(["--aptopt=APT::Install-Recommends \"false\"", "--dpkgopt=force-unsafe-io"]);
    make.args(LEFT_OUT.iter().map(|option| format!("--dpkgopt={option}")));
    // Hooks run with the new root's own apt configuration: this machine may have another Debian.
    make.arg(format!(
        "--customize-hook=export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG; cd \"$AT\" && \
         apt-get --quiet download {} $(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: //p' | head -n 1)",
        RESCUE.join(" ")
    ));
    make.args([SUITE, "root.tar"]).current_dir(at);
    run::must(&mut make)?;
    let mut packages: Vec<PathBuf> = fs::read_dir(at)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    packages.retain(|path| path.extension().is_some_and(|e| e == "deb"));
    packages.sort();
    ensure!(packages.len() == 1 + RESCUE.len(), "the kernel's package or one of {RESCUE:?} was not fetched");
    let mut unpacked = String::new();
    for package in packages {
        let shown =
            run::must(Command::new("dpkg-deb").args(["--show", "--showformat=${Package} ${Version}\n"]).arg(&package))?;
        let shown = String::from_utf8_lossy(&shown).into_owned();
        let is_rescue = RESCUE.iter().any(|name| shown.split(' ').next() == Some(name));
        let to = at.join(if is_rescue { "rescue" } else { "kernel" });
        run::must(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(to))?;
        fs::remove_file(package)?;
        unpacked += &shown;
    }
    Ok(fs::write(at.join("unpacked"), unpacked)?)
}
