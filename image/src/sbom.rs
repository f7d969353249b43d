//! `sbom.json`: what the image consists of, as CycloneDX 1.6, for those who hold it against lists of known holes:
//! Debian packages of which something is left in the root, the kernel, those of the rescue system, and the crates that our programs are built from.

use crate::packages::Packages;
use crate::recipe::SUITE;
use crate::root::Root;
use crate::{Order, run};
use anyhow::{Context, Result};
use raven_model::hex::hex;
use raven_model::units::UnixNanos;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Packages of the programs in the image.
const OURS: [&str; 4] = ["raven-supervisor", "raven-worker", "raven-console", "raven-boot"];

/// Writes it.
pub fn build(order: &Order, root: &Root, packages: &Packages, to: &Path) -> Result<()> {
    let contents: Value = serde_json::from_slice(&fs::read(root.contents())?)?;
    let mut components = debian(&contents);
    components.extend(unpacked(packages)?);
    components.extend(crates(&metadata(order)?)?);
    let bom = bom(order, components);
    Ok(fs::write(to, serde_json::to_vec_pretty(&bom)?)?)
}

fn bom(order: &Order, mut components: Vec<Value>) -> Value {
    components.sort_by_key(|component| component["bom-ref"].as_str().unwrap_or_default().to_owned());
    components.dedup_by_key(|component| component["bom-ref"].clone());
    let digest = hex(&Sha256::digest(serde_json::to_vec(&components).unwrap_or_default()));
    let uuid =
        format!("{}-{}-8{}-8{}-{}", &digest[..8], &digest[8..12], &digest[13..16], &digest[17..20], &digest[20..32]);
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{uuid}"),
        "version": 1,
        "metadata": {
            "timestamp": raven_model::calendar::format(UnixNanos(order.epoch * 1_000_000_000), 0),
            "component": {"type": "operating-system", "bom-ref": "raven", "name": "raven", "version": order.version},
        },
        "components": components,
        "dependencies": [{"ref": "raven", "dependsOn": components.iter().map(|c| c["bom-ref"].clone()).collect::<Vec<_>>()}],
    })
}

/// Packages whose files the root has.
fn debian(contents: &Value) -> Vec<Value> {
    let packages = contents["packages"].as_array().into_iter().flatten();
    let named = packages.filter_map(|package| Some((package["name"].as_str()?, package["version"].as_str()?)));
    named.map(|(name, version)| package(name, version)).collect()
}

/// The kernel's package and the rescue system's are unpacked, not installed.
fn unpacked(packages: &Packages) -> Result<Vec<Value>> {
    let each = |shown: &String| {
        let (name, version) = shown.split_once(' ').context("a package says no name and version")?;
        Ok(package(name, version))
    };
    packages.unpacked()?.iter().map(each).collect()
}

fn package(name: &str, version: &str) -> Value {
    let purl = format!("pkg:deb/debian/{}@{}?distro={SUITE}", encoded(name), encoded(version));
    json!({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
}

fn metadata(order: &Order) -> Result<Value> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]);
    Ok(serde_json::from_slice(&run::must(cargo.current_dir(&order.sources))?)?)
}

/// What our programs link, of all crates that `cargo metadata` knows.
fn crates(metadata: &Value) -> Result<Vec<Value>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages: BTreeMap<String, Value> =
        list(&metadata["packages"]).into_iter().map(|p| (text(&p["id"]), p)).collect();
    let nodes: BTreeMap<String, Value> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|n| (text(&n["id"]), n)).collect();
    let ours = packages.iter().filter(|(_, p)| OURS.iter().any(|name| p["name"] == *name)).map(|(id, _)| id.clone());
    let mut open: Vec<String> = ours.collect();
    anyhow::ensure!(open.len() == OURS.len(), "cargo metadata does not know all of {OURS:?}");
    let mut linked = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !linked.insert(id.clone()) {
            continue;
        }
        for dependency in list(&nodes.get(&id).context("a crate without dependencies")?["deps"]) {
            let kinds = list(&dependency["dep_kinds"]);
            // `kind` is null for what is linked; `dev` and `build` stay on the build machine.
            if kinds.iter().any(|kind| kind["kind"].is_null()) {
                open.push(text(&dependency["pkg"]));
            }
        }
    }
    Ok(linked.iter().filter_map(|id| packages.get(id)).map(crate_component).collect())
}

fn crate_component(package: &Value) -> Value {
    let (name, version) =
        (package["name"].as_str().unwrap_or_default(), package["version"].as_str().unwrap_or_default());
    let purl = format!("pkg:cargo/{}@{}", encoded(name), encoded(version));
    let mut component = json!({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl});
    if let Some(licence) = package["license"].as_str() {
        component["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
    }
    component
}

/// Percent-encoded as package URLs want it: all but letters, digits, `.-_~` and the colon.
fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_~:".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::PathBuf;

    fn order() -> Order {
        Order {
            sources: Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned(),
            programs: PathBuf::new(),
            out: PathBuf::new(),
            cache: PathBuf::new(),
            fresh: false,
            version: "1.2.3".to_owned(),
            epoch: 1_700_000_000,
            key: PathBuf::new(),
            site: None,
        }
    }

    /// What the schema of CycloneDX 1.6 requires, and what makes the list of use.
    fn is_shaped(bom: &Value) {
        assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&json!("CycloneDX"), &json!("1.6")));
        assert!(bom["version"].as_u64().unwrap() >= 1);
        let serial = bom["serialNumber"].as_str().unwrap().strip_prefix("urn:uuid:").unwrap();
        let groups: Vec<usize> = serial.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert!(serial.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert_eq!(bom["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
        let components = bom["components"].as_array().unwrap();
        let mut refs = BTreeSet::new();
        for component in components {
            for field in ["type", "name", "version", "purl", "bom-ref"] {
                assert!(component[field].as_str().is_some_and(|text| !text.is_empty()), "{component}");
            }
            assert!(component["purl"].as_str().unwrap().starts_with("pkg:"));
            assert!(refs.insert(component["bom-ref"].as_str().unwrap()), "twice: {component}");
        }
        let known = bom["dependencies"][0]["dependsOn"].as_array().unwrap();
        assert!(known.iter().all(|one| refs.contains(one.as_str().unwrap())));
    }

    #[test]
    fn packages_and_linked_crates_are_listed_once_and_tools_of_the_build_are_not() {
        let contents = json!({"packages": [{"name": "libstdc++6", "version": "14.2.0-19+deb13u1", "bytes": 5},
            {"name": "linux", "version": null, "bytes": 1}]});
        let mut components = debian(&contents);
        assert_eq!(components[0]["purl"], "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19%2Bdeb13u1?distro=trixie");
        components.extend(crates(&metadata(&order()).unwrap()).unwrap());
        let bom = bom(&order(), components);
        is_shaped(&bom);
        let has = |name: &str| bom["components"].as_array().unwrap().iter().any(|c| c["name"] == name);
        assert!(has("serde") && has("ring") && has("raven-worker") && has("libstdc++6"));
        assert!(!has("proptest") && !has("tempfile") && !has("xtask"), "not in the image");
    }
}
