//! The root as one file that is never written to again, and its hash tree.

use crate::cache::{self, Key};
use crate::packages::Packages;
use crate::recipe::Recipe;
use crate::site::Site;
use crate::{Order, System, report, run, tree};
use anyhow::{Context, Result};
use raven_boot::verity::{self, Verity};
use raven_model::update::Version;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs that the root carries.
const PROGRAMS: [&str; 6] = ["ravend", "raven-worker", "raven", "raven-slot", "raven-install", "raven-stick"];

/// Where the results of this step are.
#[derive(Debug)]
pub struct Root {
    folder: PathBuf,
    verity: Verity,
}

impl Root {
    /// With kernel and initramfs it is a system.
    pub fn system(&self, version: Version, kernel: PathBuf, initramfs: PathBuf) -> System {
        let (root, hashes) = (self.folder.join("root.squashfs"), self.folder.join("root.hashes"));
        System { version, root, hashes, verity: self.verity.clone(), kernel, initramfs }
    }

    /// What is in it, as JSON.
    pub fn contents(&self) -> PathBuf {
        self.folder.join("contents.json")
    }
}

/// Builds it, unless the same things were put together before.
pub fn built(order: &Order, recipe: &Recipe, packages: &Packages) -> Result<Root> {
    let mut key = Key::default().add(packages.tar().as_os_str().as_encoded_bytes()).add(order.version.as_bytes());
    key = key.add(&order.epoch.to_le_bytes()).folder(&order.sources.join("image/recipe"))?;
    for source in ["firmware.rs", "modules.rs", "report.rs", "root.rs", "tree.rs"] {
        key = key.file(&order.sources.join("image/src").join(source))?;
    }
    key = key.folder(&order.sources.join("buildroot-overlay"))?.file(&order.sources.join("docs/operations.md"))?;
    key = key.add(crate::key::Key::read(&order.key)?.public_text().as_bytes());
    key = key.add(order.site.as_ref().map_or("", Site::text).as_bytes());
    for program in PROGRAMS {
        key = key.file(&order.programs.join(program))?;
    }
    let name = key.name();
    let folder = cache::folder(&order.cache, "root", &name, order.fresh, |at| build(order, recipe, packages, at))?;
    let verity = fs::read_to_string(folder.join("verity"))?.parse().context("the kept root")?;
    Ok(Root { folder, verity })
}

fn build(order: &Order, recipe: &Recipe, packages: &Packages, at: &Path) -> Result<()> {
    let tree = tempfile::Builder::new().prefix("begun-").tempdir_in(&order.cache)?;
    std::os::unix::fs::chown(tree.path(), Some(0), Some(0))
        .context("the image's files belong to root, so root builds it")?;
    fs::set_permissions(tree.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let (owners, versions) = run::step("  files", || tree::assemble(order, recipe, packages, tree.path()))?;
    report::contents(tree.path(), &owners, &versions, &at.join("contents.json"))?;
    let root = at.join("root.squashfs");
    run::step("  squashfs", || squash(tree.path(), &root, order.epoch))?;
    // The salt only has to differ between images; the content's own hash does that and stays the same.
    let salt = Key::default().file(&root)?.name();
    let (verity, hashes) = verity::tree(&mut BufReader::new(File::open(&root)?), salt.as_bytes())?;
    fs::write(at.join("root.hashes"), hashes)?;
    Ok(fs::write(at.join("verity"), verity.to_string())?)
}

fn squash(tree: &Path, to: &Path, epoch: u64) -> Result<()> {
    let epoch = epoch.to_string();
    let mut make = Command::new("mksquashfs");
    make.env_remove("SOURCE_DATE_EPOCH").arg(tree).arg(to);
    make.args(["-comp", "zstd", "-Xcompression-level", "19", "-b", "256K", "-noappend", "-no-progress", "-quiet"]);
    make.args(["-no-xattrs", "-no-exports", "-mkfs-time", &epoch, "-all-time", &epoch]);
    run::must(&mut make)?;
    Ok(())
}
