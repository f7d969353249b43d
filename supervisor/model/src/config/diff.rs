//! What differs between two configurations, and a configuration as text.

use super::{Config, Destination};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

impl Config {
    /// What changes from this configuration to `other`, a line per key: `collect.syslog.udp: 514 → 514, 1514`.
    pub fn diff(&self, other: &Self) -> Vec<String> {
        let mut lines = changes(
            &flat(&Self { uplink: BTreeMap::new(), ..self.clone() }, ""),
            &flat(&Self { uplink: BTreeMap::new(), ..other.clone() }, ""),
        );
        let names: BTreeSet<&String> = self.uplink.keys().chain(other.uplink.keys()).collect();
        for name in names {
            let path = format!("uplink.{name}");
            match (self.uplink.get(name), other.uplink.get(name)) {
                (Some(old), Some(new)) => lines.extend(changes(&flat(old, &path), &flat(new, &path))),
                (None, Some(new)) => lines.push(format!("{path}: added, {}", summary(new))),
                (Some(old), None) => lines.push(format!("{path}: removed, was {}", summary(old))),
                (None, None) => {}
            }
        }
        lines
    }

    /// As a configuration file for strangers: everything that is secret, also the mere name of a file of secrets, is
    /// `***`.
    pub fn to_toml_without_secrets(&self) -> String {
        let mut value = toml::Value::try_from(self).expect("as in `to_toml`");
        hide("", &mut value);
        toml::to_string(&value).expect("as in `to_toml`")
    }

    /// As a configuration file that gives this configuration again.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every type of a configuration has a TOML form: a test writes them all")
    }
}

/// Keys whose values are secrets although they stand in the configuration itself.
const HIDDEN: [&str; 1] = ["communities"];

fn hide(key: &str, value: &mut toml::Value) {
    match value {
        toml::Value::String(text) if text.starts_with("secret:") || HIDDEN.contains(&key) => "***".clone_into(text),
        toml::Value::Array(values) => values.iter_mut().for_each(|value| hide(key, value)),
        toml::Value::Table(table) => table.iter_mut().for_each(|(key, value)| hide(key, value)),
        _ => {}
    }
}

fn summary(destination: &Destination) -> String {
    format!("{} to {}", destination.kind.name(), destination.to)
}

fn changes(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<String> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let none = "(none)".to_owned();
    keys.into_iter()
        .map(|key| (key, old.get(key).unwrap_or(&none), new.get(key).unwrap_or(&none)))
        .filter(|(_, old, new)| old != new)
        .map(|(key, old, new)| format!("{key}: {old} → {new}"))
        .collect()
}

/// Every key below `path` with its value as text.
fn flat(part: &impl Serialize, path: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    flatten(&serde_json::to_value(part).unwrap_or_default(), path, &mut out);
    out
}

fn flatten(value: &Value, path: &str, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(keys) => {
            for (key, below) in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(below, &path, out);
            }
        }
        Value::Null => {}
        value => {
            out.insert(path.to_owned(), plain(value));
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Array(items) if items.is_empty() => "(none)".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_toml(text, "test.toml").expect("valid")
    }

    #[test]
    fn a_changed_list_shows_both_lists() {
        let (a, b) = (config("schema = 1"), config("schema = 1\n[collect.syslog]\nudp = [514, 1514]"));
        assert_eq!(a.diff(&b), ["collect.syslog.udp: 514 → 514, 1514"]);
        assert!(a.diff(&a).is_empty());
    }

    #[test]
    fn destinations_come_go_and_change() {
        let a = config("schema = 1\n[uplink.a]\nkind = 'relp'\nto = 'x:1'\n[uplink.b]\nkind = 'relp'\nto = 'y:1'");
        let b =
            config("schema = 1\n[uplink.b]\nkind = 'relp'\nto = 'y:2'\n[uplink.c]\nkind = 'http'\nto = 'http://z/'");
        assert_eq!(
            a.diff(&b),
            ["uplink.a: removed, was relp to x:1", "uplink.b.to: y:1 → y:2", "uplink.c: added, http to http://z/"]
        );
    }

    #[test]
    fn an_optional_key_that_appears_is_shown() {
        let (a, b) = (config("schema = 1"), config("schema = 1\nbuffer.segment = '64MiB'"));
        assert_eq!(a.diff(&b), ["buffer.segment: (none) → 64MiB"]);
    }
}
