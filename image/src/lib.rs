//! Builds the image. In the order in which things are made:
//!
//! 1. [`packages`]: Debian packages and the kernel, fetched once for each recipe.
//! 2. [`tree`]: the root: packages without what [`recipe`] removes, chosen kernel modules ([`modules`]), the folder
//!    `buildroot-overlay/`, Raven's programs.
//! 3. [`root`]: a squashfs of it and the hash tree that the kernel will hold each block against.
//! 4. [`initramfs`]: `raven-init` and the modules it needs; [`rescue`]: what the boot loader can start in its place.
//! 5. [`disk`] and [`iso`]: what is flashed or burnt, both with [`grub`].
//! 6. [`bundle`]: what brings this system to a box that runs another, signed with [`key`].
//! 7. [`sbom`]: what it consists of, for those who look for known holes.
//! 8. [`report`]: what takes how much, and whether that is too much.
//!
//! With [`site`] the root holds a venue's configuration, which a box takes that has none.
//!
//! No loop device, no mount. Root is needed, since files of the box belong to root. The same sources and packages make
//! the same bytes.

pub mod bundle;
mod cache;
pub mod disk;
mod firmware;
mod grub;
mod initramfs;
mod iso;
pub mod key;
mod modules;
mod packages;
mod recipe;
mod report;
mod rescue;
mod root;
mod run;
mod sbom;
pub mod site;
mod tree;

use anyhow::{Context, Result};
use raven_model::update::Version;
use std::fs;
use std::path::{Path, PathBuf};

/// The rescue system's file beside the images.
pub const RESCUE: &str = "raven.rescue";

/// What to build from.
#[derive(Debug, Clone)]
pub struct Order {
    /// The source tree.
    pub sources: PathBuf,
    /// Folder of `ravend`, `raven-worker`, `raven`, `raven-slot` and the static `raven-init`.
    pub programs: PathBuf,
    /// Where the results go.
    pub out: PathBuf,
    /// Where what was fetched and built is kept.
    pub cache: PathBuf,
    /// Fetch packages again.
    pub fresh: bool,
    /// Version as shown on the box.
    pub version: String,
    /// The time that all files get, in seconds since 1970.
    pub epoch: u64,
    /// The key that signs bundles, and whose public half the root trusts.
    pub key: PathBuf,
    /// What a box begins with that has no configuration yet; without it the factory's.
    pub site: Option<site::Site>,
}

/// Root file system and what starts it: all that a slot holds.
#[derive(Debug, Clone)]
pub struct System {
    /// Its release.
    pub version: Version,
    /// Squashfs.
    pub root: PathBuf,
    /// Its hash tree.
    pub hashes: PathBuf,
    /// What the root must be.
    pub verity: raven_boot::verity::Verity,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
}

/// Builds everything; files are in `order.out` afterwards.
///
/// # Errors
/// A step failed, or the result is larger than its budget.
pub fn build(order: &Order) -> Result<()> {
    let recipe = recipe::Recipe::read(&order.sources.join("image/recipe"))?;
    fs::create_dir_all(&order.out).with_context(|| format!("cannot make {}", order.out.display()))?;
    let packages = run::step("packages", || packages::fetched(order, &recipe))?;
    let root = run::step("root", || root::built(order, &recipe, &packages))?;
    let initramfs = run::step("initramfs", || initramfs::built(order, &recipe, &packages))?;
    let rescue = order.out.join(RESCUE);
    run::step("rescue", || Ok(fs::copy(rescue::built(order, &packages)?, &rescue).map(drop)?))?;
    let version = order.version.parse()?;
    let system = root.system(version, packages.kernel_image()?, initramfs);
    run::step("raven.img", || disk::build(&system, &rescue, &order.out.join("raven.img")))?;
    run::step("raven.iso", || iso::build(&system, order, &order.out.join("raven.img"), &order.out.join("raven.iso")))?;
    let key = key::Key::read(&order.key)?;
    run::step("raven.bundle", || bundle::build(&system, &key, order.epoch, &order.out.join("raven.bundle")))?;
    run::step("sbom.json", || sbom::build(order, &root, &packages, &order.out.join("sbom.json")))?;
    report::write(order, &root, &system)
}

/// Length of a file in bytes.
fn bytes(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).with_context(|| format!("{} is not there", path.display()))?.len())
}
