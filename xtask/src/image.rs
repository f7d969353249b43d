//! `cargo xtask image`: builds what is flashed or burnt. The work is in the crate `raven-image`.

use crate::args::Args;
use crate::{apt, build};
use anyhow::{Context, Result};
use raven_image::site::Site;
use std::path::PathBuf;
use std::process::Command;

/// Builds the programs and the image into `target/image`.
pub fn run(mut args: Args) -> Result<()> {
    let (fresh, twice) = (args.flag("--fresh"), args.flag("--twice"));
    let profile = args.option("--profile")?.unwrap_or_else(|| "release".to_owned());
    let built: Option<PathBuf> = args.option("--bin-dir")?;
    let (key, new_key): (Option<PathBuf>, Option<PathBuf>) = (args.option("--key")?, args.option("--new-key")?);
    let config: Option<PathBuf> = args.option("--config")?;
    args.end()?;
    if let Some(path) = new_key {
        let key = raven_image::key::Key::make(&path)?;
        print!("{}: a new key; boxes built with it trust {}", path.display(), key.public_text());
        return Ok(());
    }
    let site = config.map(|path| Site::read(&path)).transpose()?;
    let warnings = site.iter().flat_map(Site::warnings);
    warnings.for_each(|warning| println!("warning: {warning}"));
    apt::install(&apt::IMAGE)?;
    let programs = match built {
        Some(folder) => build::in_folder(&folder)?,
        None => build::programs(&profile).and_then(|programs| build::boot_programs(&profile).map(|()| programs))?,
    };
    let order = raven_image::Order {
        sources: build::root().to_owned(),
        programs,
        out: out(),
        cache: cache()?,
        fresh,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: epoch()?,
        key: signing_key(key)?,
        site,
    };
    raven_image::build(&order)?;
    if twice { again(&order) } else { Ok(()) }
}

/// Builds once more from nothing, packages too, and compares.
fn again(order: &raven_image::Order) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let (cache, out) = (scratch.path().join("cache"), scratch.path().join("out"));
    raven_image::build(&raven_image::Order { cache, out: out.clone(), ..order.clone() })?;
    for name in ["raven.img", "raven.iso", "raven.bundle", "sbom.json"] {
        let same = build::must(Command::new("cmp").arg(order.out.join(name)).arg(out.join(name)));
        same.with_context(|| format!("{name} is another one the second time"))?;
        println!("{name}: the same bytes twice");
    }
    Ok(())
}

/// The one that was given, else one of development, which is said: whoever can read this machine's cache could sign for
/// boxes that were built with it.
pub fn signing_key(given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(key) = given {
        return Ok(key);
    }
    let key = raven_image::key::of_development(&cache()?)?;
    println!("signed with the development key {}: for a box at a venue give --key", key.display());
    Ok(key)
}

/// Where images go.
pub fn out() -> PathBuf {
    build::root().join("target/image")
}

/// Outside of the tree: a clean checkout does not fetch everything again.
fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME says where to keep what is fetched")?.join("raven-image"))
}

/// `SOURCE_DATE_EPOCH`, else the time of the last commit: the same sources make the same image.
fn epoch() -> Result<u64> {
    if let Some(epoch) = std::env::var_os("SOURCE_DATE_EPOCH") {
        return epoch.to_string_lossy().parse().context("SOURCE_DATE_EPOCH is no number of seconds");
    }
    let output = Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(build::root()).output();
    let output = output.context("git, or SOURCE_DATE_EPOCH, says what time the image gets")?;
    String::from_utf8_lossy(&output.stdout).trim().parse().context("git knows no commit; set SOURCE_DATE_EPOCH")
}
