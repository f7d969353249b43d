//! The root as a folder: packages, less what is not needed, more what is ours.

use crate::cache::files;
use crate::modules::Modules;
use crate::packages::Packages;
use crate::recipe::Recipe;
use crate::{Order, run};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which package a path came with.
pub type Owners = BTreeMap<PathBuf, String>;

/// A package and its version.
pub type Versions = BTreeMap<String, String>;

/// Builds the root in the empty folder `at`.
pub fn assemble(order: &Order, recipe: &Recipe, packages: &Packages, at: &Path) -> Result<(Owners, Versions)> {
    // Device nodes come from the kernel.
    run::must(
        Command::new("tar")
            .arg("--extract")
            .arg("--file")
            .arg(packages.tar())
            .args(["--exclude=./dev/*", "--directory"])
            .arg(at),
    )?;
    let (owners, versions) = (owners(at)?, versions(at)?);
    let version = packages.kernel_version()?;
    let modules = Modules::of(&packages.kernel(), &version)?;
    modules.install(&modules.closure(&recipe.modules)?, &at.join("usr"), &version)?;
    run::must(
        Command::new("cp")
            .args(["--recursive", "--no-dereference", "--preserve=mode", "--no-target-directory"])
            .arg(order.sources.join("buildroot-overlay"))
            .arg(at),
    )?;
    own_files(order, at)?;
    users_and_units(at)?;
    take_out(recipe, at)?;
    no_special_rights(at)?;
    read_first(recipe, at)?;
    places(at)?;
    Ok((owners, versions))
}

/// Tells `raven-init` what to read first. A file that is not there is an error, so that the list does not rot.
fn read_first(recipe: &Recipe, at: &Path) -> Result<()> {
    for path in &recipe.read_first {
        ensure!(at.join(path).is_file(), "read-first.txt: the root has no file {path}");
    }
    Ok(fs::write(at.join("usr/share/raven/read-first.txt"), recipe.read_first.join("\n") + "\n")?)
}

/// From dpkg's lists, before they are taken out. Paths are those of a merged `/usr`.
fn owners(at: &Path) -> Result<Owners> {
    let mut owners = Owners::new();
    for list in files(&at.join("var/lib/dpkg/info"))? {
        let name = list.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(package) = name.strip_suffix(".list") else { continue };
        let package = package.split(':').next().unwrap_or(package).to_owned();
        for path in fs::read_to_string(&list)?.lines() {
            owners.insert(merged(path), package.clone());
        }
    }
    Ok(owners)
}

/// `/bin/x` and `/lib/x` lie below `/usr`.
fn merged(path: &str) -> PathBuf {
    let path = path.trim_start_matches('/');
    let old = ["bin/", "sbin/", "lib/", "lib64/"].iter().any(|folder| path.starts_with(folder));
    if old { Path::new("usr").join(path) } else { path.into() }
}

fn versions(at: &Path) -> Result<Versions> {
    let status = fs::read_to_string(at.join("var/lib/dpkg/status")).context("dpkg's status")?;
    let field = |paragraph: &str, name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    let paragraphs = status.split("\n\n").filter_map(|p| Some((field(p, "Package:")?, field(p, "Version:")?)));
    Ok(paragraphs.collect())
}

/// Programs, documents, the name of the system.
fn own_files(order: &Order, at: &Path) -> Result<()> {
    let place = |from: &Path, to: &str, mode| {
        let to = at.join(to);
        fs::create_dir_all(to.parent().expect("a file lies in a folder"))?;
        fs::copy(from, &to).with_context(|| format!("{} is not there", from.display()))?;
        anyhow::Ok(fs::set_permissions(&to, fs::Permissions::from_mode(mode))?)
    };
    for program in ["ravend", "raven-worker", "raven"] {
        place(&order.programs.join(program), &format!("usr/bin/{program}"), 0o755)?;
    }
    for program in ["raven-slot", "raven-install", "raven-stick"] {
        place(&order.programs.join(program), &format!("usr/lib/raven/{program}"), 0o755)?;
    }
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        place(&order.sources.join(licence), &format!("usr/share/doc/raven/{licence}"), 0o644)?;
    }
    place(&order.sources.join("docs/operations.md"), "usr/share/doc/raven/operations.md", 0o644)?;
    let public = at.join("usr/share/raven/update.pub");
    fs::write(public, crate::key::Key::read(&order.key)?.public_text())?;
    if let Some(site) = &order.site {
        first_configuration(at, site.text())?;
    }
    let release = at.join("usr/lib/os-release");
    fs::write(release, os_release(&order.version))?;
    Ok(())
}

/// In the place of the factory's: ravend copies it to `/data/config` when nothing is there.
fn first_configuration(at: &Path, text: &str) -> Result<()> {
    let place = at.join("usr/share/raven/raven.toml");
    ensure!(place.is_file(), "{} is not where the factory's configuration lies", place.display());
    Ok(fs::write(place, text)?)
}

fn os_release(version: &str) -> String {
    format!(
        "NAME=Raven\nID=raven\nID_LIKE=debian\nPRETTY_NAME=\"Raven {version}\"\nVERSION_ID={version}\n\
         IMAGE_ID=raven\nIMAGE_VERSION={version}\n"
    )
}

/// What the box cannot do itself, since its `/etc` is read-only.
fn users_and_units(at: &Path) -> Result<()> {
    let inside = |program: &str| {
        let mut command = Command::new("chroot");
        command.arg(at).arg(program).env_clear().env("PATH", "/usr/sbin:/usr/bin").env("SYSTEMD_OFFLINE", "1");
        command.env("SOURCE_DATE_EPOCH", "0");
        command
    };
    run::must(&mut inside("systemd-sysusers"))?;
    users_are_made(at)?;
    run::must(inside("systemctl").args(["preset-all", "--preset-mode=full"]))?;
    run::must(inside("ldconfig").arg("-X").arg("-C").arg("/etc/ld.so.cache"))?;
    Ok(())
}

/// systemd-sysusers passes over what it does not understand, and ends well.
fn users_are_made(at: &Path) -> Result<()> {
    let (wanted, made) = (at.join("usr/lib/sysusers.d/raven.conf"), at.join("etc/passwd"));
    let made = fs::read_to_string(made)?;
    for line in fs::read_to_string(wanted)?.lines().filter(|line| line.starts_with('u')) {
        let name = line.split_whitespace().nth(1).unwrap_or_default();
        ensure!(made.lines().any(|user| user.split(':').next() == Some(name)), "systemd-sysusers did not make {name}");
    }
    Ok(())
}

fn take_out(recipe: &Recipe, at: &Path) -> Result<()> {
    for pattern in &recipe.remove {
        for path in matching(at, pattern) {
            remove(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    // Scripts have nobody to run them; then go links to what is gone.
    for is_of_no_use in [is_script, is_dangling] {
        for folder in ["usr/bin", "usr/sbin"] {
            for path in files(&at.join(folder))? {
                if is_of_no_use(at, &path)? {
                    fs::remove_file(&path)?;
                }
            }
        }
    }
    Ok(())
}

fn is_script(_: &Path, path: &Path) -> Result<bool> {
    let mut head = [0; 2];
    Ok(!path.is_symlink() && fs::File::open(path)?.read_exact(&mut head).is_ok() && head == *b"#!")
}

/// A link that leads to nothing in the root `at`.
fn is_dangling(at: &Path, path: &Path) -> Result<bool> {
    if !path.is_symlink() {
        return Ok(false);
    }
    let to = fs::read_link(path)?;
    let folder = path.parent().unwrap_or(at);
    let to = to.strip_prefix("/").map_or_else(|_| folder.join(&to), |inside| at.join(inside));
    Ok(fs::symlink_metadata(to).is_err())
}

/// The paths that a line of the list means.
fn matching(at: &Path, pattern: &str) -> Vec<PathBuf> {
    let Some(beginning) = pattern.strip_suffix('*') else { return vec![at.join(pattern)] };
    let (folder, start) = beginning.rsplit_once('/').unwrap_or(("", beginning));
    let Ok(entries) = fs::read_dir(at.join(folder)) else { return Vec::new() };
    let paths = entries.filter_map(Result::ok).filter(|entry| entry.file_name().to_string_lossy().starts_with(start));
    paths.map(|entry| entry.path()).collect()
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// No file runs with more rights than its caller.
fn no_special_rights(at: &Path) -> Result<()> {
    for path in files(at)? {
        let meta = fs::symlink_metadata(&path)?;
        let mode = meta.permissions().mode();
        if meta.is_file() && mode & 0o6000 != 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o0777))?;
        }
    }
    Ok(())
}

/// Empty folders to mount on; `/var` is memory.
fn places(at: &Path) -> Result<()> {
    for folder in ["var", "run", "tmp", "root", "home", "boot", "opt", "srv", "media", "mnt"] {
        remove(&at.join(folder))?;
    }
    for (folder, mode) in [
        ("var", 0o755),
        ("run", 0o755),
        ("tmp", 0o1777),
        ("root", 0o700),
        ("home", 0o755),
        ("data", 0o755),
        ("mnt", 0o755),
    ] {
        fs::create_dir(at.join(folder)).or_else(|e| if at.join(folder).is_dir() { Ok(()) } else { Err(e) })?;
        fs::set_permissions(at.join(folder), fs::Permissions::from_mode(mode))?;
    }
    remove(&at.join("config"))?;
    symlink("data/config", at.join("config"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_of_packages_are_found_where_they_lie() {
        assert_eq!(merged("/lib/x86_64-linux-gnu/libc.so.6"), Path::new("usr/lib/x86_64-linux-gnu/libc.so.6"));
        assert_eq!(merged("/usr/bin/env"), Path::new("usr/bin/env"));
        assert_eq!(merged("/etc/fstab"), Path::new("etc/fstab"));
    }

    #[test]
    fn a_line_takes_out_what_it_names_and_nothing_beside() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str| fs::write(root.path().join(name), "").unwrap();
        fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        fs::create_dir_all(root.path().join("usr/sbin")).unwrap();
        fs::write(root.path().join("usr/sbin/which"), "#!/bin/sh\n").unwrap();
        symlink("/usr/sbin/which", root.path().join("usr/bin/which")).unwrap();
        symlink("../bin/pear", root.path().join("usr/sbin/fruit")).unwrap();
        ["usr/bin/perl", "usr/bin/perl5.40", "usr/bin/pear", "usr/bin/bash", "usr/bin/bashful"]
            .into_iter()
            .for_each(file);
        let remove = ["usr/bin/perl*", "usr/bin/bash", "usr/not/there", "not/there*"].map(str::to_owned).to_vec();
        let recipe =
            Recipe { packages: vec![], remove, modules: vec![], read_first: vec![], initramfs_modules: vec![] };
        take_out(&recipe, root.path()).unwrap();
        let left = files(root.path()).unwrap();
        let left: Vec<_> = left.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(left, ["bashful", "pear", "fruit"]);
    }

    #[test]
    fn a_user_that_was_not_made_fails_the_build() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/lib/sysusers.d")).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("usr/lib/sysusers.d/raven.conf"), "# all\nu! raven-a 7 \"a\"\ng raven-g 8\n")
            .unwrap();
        fs::write(root.path().join("etc/passwd"), "raven-ab:x:9:9::/:\n").unwrap();
        assert!(users_are_made(root.path()).unwrap_err().to_string().contains("raven-a"));
        fs::write(root.path().join("etc/passwd"), "raven-a:x:7:7::/:\n").unwrap();
        users_are_made(root.path()).unwrap();
    }

    #[test]
    fn a_sites_configuration_lies_where_a_new_box_takes_its_first_one_from() {
        let overlay = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("buildroot-overlay");
        let unit = fs::read_to_string(overlay.join("usr/lib/systemd/system/raven.service")).unwrap();
        assert!(
            unit.contains("--config /data/config/raven.toml") && unit.contains("--factory /usr/share/raven/raven.toml")
        );
        let root = tempfile::tempdir().unwrap();
        assert!(first_configuration(root.path(), "schema = 1").is_err());
        fs::create_dir_all(root.path().join("usr/share/raven")).unwrap();
        fs::copy(overlay.join("usr/share/raven/raven.toml"), root.path().join("usr/share/raven/raven.toml")).unwrap();
        first_configuration(root.path(), "schema = 1 # ours").unwrap();
        assert_eq!(fs::read_to_string(root.path().join("usr/share/raven/raven.toml")).unwrap(), "schema = 1 # ours");
    }

    #[test]
    fn no_file_keeps_the_rights_of_its_owner() {
        let root = tempfile::tempdir().unwrap();
        let su = root.path().join("su");
        fs::write(&su, "").unwrap();
        fs::set_permissions(&su, fs::Permissions::from_mode(0o6755)).unwrap();
        no_special_rights(root.path()).unwrap();
        assert_eq!(fs::metadata(su).unwrap().permissions().mode() & 0o7777, 0o755);
    }
}
