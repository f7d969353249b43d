//! A site's configuration that is built in: what a box begins with that has none yet. It is held against the same rules
//! as `raven config check` holds it against.

use anyhow::{Context, Result, bail};
use raven_model::config::Config;
use raven_model::hex::hex;
use raven_model::table::Role;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::Path;

/// A configuration that was found right.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// The file's name.
    name: String,
    /// As it was written; comments stay.
    text: String,
    config: Config,
}

impl Site {
    /// Reads and checks it.
    ///
    /// # Errors
    /// The file cannot be read, or what is wrong with it: a line each, as `raven config check` says it.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        match Config::from_toml(&text, &shown) {
            Ok(config) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok(Self { name, text, config })
            }
            Err(errors) => bail!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        }
    }

    /// What the box gets.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What whoever builds it should know.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.config.collect.trap.communities.is_empty() {
            warnings.push(format!(
                "{}: the communities in `collect.trap.communities` can be read by everybody who has the medium, the disk \
                 or the bundle",
                self.name
            ));
        }
        let secrets = self.secrets();
        if !secrets.is_empty() {
            let names = secrets.into_iter().collect::<Vec<_>>().join(", ");
            warnings.push(format!(
                "{}: secrets are not built in: until /data/config/secrets has {names}, the box says what does not work \
                 without",
                self.name
            ));
        }
        warnings
    }

    /// Files of secrets that it names.
    fn secrets(&self) -> BTreeSet<String> {
        let named = Role::ALL.into_iter().flat_map(|role| self.config.secrets(role));
        named.map(|(_, secret)| secret.file_name().to_owned()).collect()
    }

    /// For `report.json`. Nothing in it is a secret.
    pub fn report(&self) -> Value {
        json!({
            "file": self.name,
            "sha256": hex(&Sha256::digest(&self.text)),
            "site": self.config.site.name,
            "links": self.config.network.link.keys().collect::<Vec<_>>(),
            "destinations": self.config.uplink.keys().collect::<Vec<_>>(),
            "secrets": self.secrets(),
            "warnings": self.warnings(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn example() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/venue.toml")
    }

    fn read(text: &str) -> Result<Site> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("x.toml"), text).unwrap();
        Site::read(&dir.path().join("x.toml"))
    }

    /// Keys with a value, in a text with one on each line.
    fn keys(text: &str) -> usize {
        text.lines().filter(|line| !line.starts_with(['#', '[']) && line.contains('=')).count()
    }

    #[test]
    fn the_example_is_right_asks_for_few_things_and_has_nothing_to_warn_of() {
        let site = Site::read(&example()).unwrap();
        assert!(keys(site.text()) < 10, "{} keys have to be filled in", keys(site.text()));
        assert_eq!(site.warnings(), Vec::<String>::new());
        let said = site.report();
        assert_eq!(
            (&said["site"], &said["destinations"], &said["links"]),
            (&json!("arena-north"), &json!(["noc"]), &json!(["enp1s0"]))
        );
    }

    /// What the example offers in comments (`#key = …`, `#[table]`) can be taken as it stands.
    #[test]
    fn what_the_example_offers_is_right_too() {
        let text = fs::read_to_string(example()).unwrap();
        let is_offer = |line: &str| {
            line.starts_with("#[") || line.strip_prefix('#').is_some_and(|l| !l.starts_with(' ') && l.contains('='))
        };
        let offered = text.lines().filter(|line| is_offer(line)).count();
        assert!(offered >= 5);
        let all: Vec<&str> = text.lines().map(|line| if is_offer(line) { &line[1..] } else { line }).collect();
        let site = read(&all.join("\n")).unwrap();
        assert_eq!(
            keys(site.text()),
            keys(&text) + all.iter().zip(text.lines()).filter(|(a, b)| *a != b && a.contains('=')).count()
        );
    }

    #[test]
    fn what_is_wrong_is_said_as_the_box_would_say_it() {
        let text = "schema = 1\n[sight]\nname = \"x\"\n[uplink.noc]\nkind = \"relp\"\n";
        let error = read(text).unwrap_err().to_string();
        let (first, second) = error.split_once('\n').unwrap_or((&error, ""));
        assert!(first.contains("x.toml:2:2: ") && first.contains("nearest valid key `site`"), "{error}");
        let same = Config::from_toml(text, "x.toml").unwrap_err();
        assert_eq!(second.is_empty(), same.len() == 1);
        assert!(error.ends_with(&same.last().unwrap().to_string()), "{error}");
        assert!(Site::read(Path::new("/nowhere.toml")).unwrap_err().to_string().contains("/nowhere.toml"));
    }

    #[test]
    fn secrets_in_it_and_those_that_are_not_are_warned_of_and_never_repeated() {
        let site = read(
            "schema = 1\n[collect.trap]\ncommunities = [\"hunter22\"]\nusers = \"secret:snmp.toml\"\n[uplink.noc]\nkind = \"snmp\"\nto = \"192.0.2.1:162\"\nstreams = [\"trap\"]\ncommunity = \"secret:noc\"\n",
        )
        .unwrap();
        let warnings = site.warnings();
        assert!(warnings[0].contains("communities") && warnings[1].contains("noc, snmp.toml"), "{warnings:?}");
        assert!(!site.report().to_string().contains("hunter22"));
    }
}
