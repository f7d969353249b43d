//! Where things are, and building the three programs.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs of the product: `ravend`, `raven-worker`, `raven`.
pub const PROGRAMS: [&str; 3] = ["ravend", "raven-worker", "raven"];

/// Their packages.
const PACKAGES: [&str; 3] = ["raven-supervisor", "raven-worker", "raven-console"];

/// The root of the source tree.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ lies in the root")
}

/// `cargo`, the one that runs us.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Builds the programs with `profile` and says where they are.
pub fn programs(profile: &str) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--profile", profile, "--bins"]);
    build.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
    must(&mut build)?;
    // `ravend` runs them for updates and installation.
    must(cargo().args([
        "build",
        "--quiet",
        "--profile",
        profile,
        "--package",
        "raven-boot",
        "--bin",
        "raven-slot",
        "--bin",
        "raven-install",
        "--bin",
        "raven-stick",
    ]))?;
    in_folder(&target_dir()?.join(profile))
}

/// Builds what starts the box, beside the programs (`raven-slot` is one of those). `raven-init` has no libraries to look for in an initramfs, so it is
/// linked without any.
pub fn boot_programs(profile: &str) -> Result<()> {
    let package = ["--quiet", "--profile", profile, "--package", "raven-boot"];
    must(cargo().arg("rustc").args(package).args(["--bin", "raven-init", "--", "-C", "target-feature=+crt-static"]))
}

/// Checks that the programs are in `folder`.
pub fn in_folder(folder: &Path) -> Result<PathBuf> {
    let folder = folder.canonicalize().with_context(|| format!("{} is not there", folder.display()))?;
    for program in PROGRAMS {
        if !folder.join(program).is_file() {
            bail!("{} is not there; build it first: cargo build --release --bins", folder.join(program).display());
        }
    }
    Ok(folder)
}

/// Runs `command` to its end; an error when it does not succeed.
pub fn must(command: &mut Command) -> Result<()> {
    let said = format!("{command:?}").replace('"', "");
    let status = command.status().with_context(|| format!("{said} could not be started"))?;
    if !status.success() {
        bail!("{said}: {status}");
    }
    Ok(())
}

fn target_dir() -> Result<PathBuf> {
    let metadata =
        cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output().context("cargo metadata")?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).context("cargo metadata")?;
    metadata["target_directory"].as_str().map(PathBuf::from).context("cargo metadata names no target directory")
}
