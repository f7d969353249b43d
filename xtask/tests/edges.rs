//! The law of dependencies, held against `cargo metadata` and the manifests:
//! crates import only along the edges that docs/architecture.md lists, each dependency says why it is there, the root
//! program stays small, and every licence is one that the image may carry.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Third-party crates that `ravend`, which runs as root, may consist of.
const RAVEND_CRATES_MAX: usize = 60;

/// As in deny.toml.
const LICENCES: [&str; 9] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "OpenLDAP-2.8",
    "Unicode-3.0",
    "Zlib",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn metadata(more: &[&str]) -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .args(more)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Our own crates, each with those of our own that it links (dev-dependencies apart: they ship nowhere).
fn edges(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let ours: BTreeSet<&str> = list(&metadata["packages"]).map(|p| text(&p["name"])).collect();
    let linked = |package: &Value| {
        let links = list(&package["dependencies"]).filter(|d| d["kind"] != "dev").map(|d| text(&d["name"]).to_owned());
        links.filter(|name| ours.contains(name.as_str())).collect()
    };
    list(&metadata["packages"]).map(|p| (text(&p["name"]).to_owned(), linked(p))).collect()
}

/// The block that begins with ```` ```edges ````: a crate, a colon, what it may link.
fn allowed(architecture: &str) -> BTreeMap<String, BTreeSet<String>> {
    let block = architecture
        .split("```edges\n")
        .nth(1)
        .expect("docs/architecture.md has a block ```edges")
        .split("```")
        .next()
        .unwrap();
    let lines = block.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(from, to)| (from.trim().to_owned(), to.split_whitespace().map(str::to_owned).collect())).collect()
}

#[test]
fn crates_import_only_along_the_listed_edges() {
    let allowed = allowed(&std::fs::read_to_string(root().join("docs/architecture.md")).unwrap());
    for (from, to) in edges(&metadata(&["--no-deps"])) {
        let may = allowed.get(&from).unwrap_or_else(|| panic!("docs/architecture.md lists no edges for {from}"));
        let wrong: Vec<_> = to.difference(may).collect();
        assert!(wrong.is_empty(), "{from} links {wrong:?}, which docs/architecture.md does not allow");
    }
}

#[test]
fn only_the_ring_uses_lmdb() {
    let metadata = metadata(&["--no-deps"]);
    let users =
        list(&metadata["packages"]).filter(|p| list(&p["dependencies"]).any(|d| text(&d["name"]).starts_with("heed")));
    let users: Vec<_> = users.map(|p| text(&p["name"])).collect();
    assert!(users.iter().all(|name| *name == "raven-buffer"), "{users:?}");
}

/// Packages that `program` is built from, itself and everything of ours apart.
fn third_party_of(program: &str) -> BTreeSet<String> {
    let metadata = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let ours: BTreeSet<&str> = list(&metadata["workspace_members"]).map(text).collect();
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"]["nodes"]).map(|n| (text(&n["id"]), n)).collect();
    let normal = |d: &&Value| list(&d["dep_kinds"]).any(|k| k["kind"].is_null());
    let (mut open, mut seen) =
        (vec![*nodes.keys().find(|id| id.contains(program)).expect("it is a member")], BTreeSet::new());
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(list(&nodes[id]["deps"]).filter(normal).map(|d| text(&d["pkg"])));
        }
    }
    seen.iter().filter(|id| !ours.contains(*id)).map(|id| (*id).to_owned()).collect()
}

#[test]
fn the_root_program_stays_small() {
    let crates = third_party_of("/supervisor#raven-supervisor");
    assert!(crates.len() <= RAVEND_CRATES_MAX, "ravend links {} crates: {crates:#?}", crates.len());
}

#[test]
fn every_licence_may_be_shipped() {
    let metadata = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    for package in list(&metadata["packages"]) {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(may_be_shipped(licence), "{} is under `{licence}`", text(&package["name"]));
    }
}

/// Whether an SPDX expression can be met by the list: `OR` needs one side, `AND` both.
fn may_be_shipped(licence: &str) -> bool {
    let plain = licence.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" AND ").all(|needed| needed.split(" OR ").any(|choice| LICENCES.contains(&choice.trim())))
}

#[test]
fn a_licence_that_is_not_listed_is_refused() {
    assert!(may_be_shipped("MIT OR GPL-3.0-only") && may_be_shipped("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!may_be_shipped("GPL-3.0-only") && !may_be_shipped("MIT AND GPL-2.0-only") && !may_be_shipped("none"));
}

fn manifests() -> Vec<PathBuf> {
    let metadata = metadata(&["--no-deps"]);
    list(&metadata["packages"]).map(|p| PathBuf::from(text(&p["manifest_path"]))).collect()
}

/// Lines of a manifest that name a third-party dependency and do not say why.
fn unexplained(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && line.contains('=') && !line.trim_start().starts_with('#') {
            let ours = line.contains("path =");
            found.extend((!ours && !line.contains(" # ")).then_some(line));
        }
    }
    found
}

#[test]
fn every_dependency_says_why_it_is_there() {
    for path in manifests() {
        let manifest = std::fs::read_to_string(&path).unwrap();
        let missing = unexplained(&manifest);
        assert!(missing.is_empty(), "{}: no reason beside {missing:#?}", path.display());
    }
}

#[test]
fn every_crate_keeps_the_lints_of_the_workspace() {
    for path in manifests() {
        let manifest: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{}", path.display());
    }
}
