//! From texts to a [`Config`]: defaults < factory file < site file < environment.

use super::error::{ConfigError, Flaw, Place};
use super::shape::{CONFIG, DESTINATION, Flaws, Shape, check_file, check_value};
use super::{Buffer, Collect, Config, Site};
use figment::Figment;
use figment::providers::Serialized;
use figment::value::Dict;
use serde::Deserialize;
use std::borrow::Cow;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// Most errors told at once: a file with more is not the file that was meant.
const MOST: usize = 50;

/// Name by which the factory file is shown in messages.
const FACTORY: &str = "factory.toml";

impl Config {
    /// One file over the built-in defaults. `file_name` is only shown in messages.
    pub fn from_toml(text: &str, file_name: &str) -> Result<Self, Vec<ConfigError>> {
        Self::layered(None, (file_name, text), std::iter::empty())
    }

    /// Defaults, then the image's factory file, then the site file (its name as shown in messages, and its text),
    /// then `RAVEN_*` variables such as `RAVEN_SITE_NAME` or `RAVEN_BUFFER__DISK`. Other variables are ignored.
    pub fn layered(
        factory: Option<&str>,
        site: (&str, &str),
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<ConfigError>> {
        let (name, text) = site;
        let texts = factory.map(|text| (FACTORY, text)).into_iter().chain([(name, text)]);
        let mut errors = Vec::new();
        let files: Vec<File<'_>> = texts.filter_map(|(name, text)| keep(File::read(name, text), &mut errors)).collect();
        let variables: Vec<Variable> =
            env.into_iter().filter_map(|(name, text)| keep(Variable::read(&name, &text)?, &mut errors)).collect();
        if !errors.is_empty() {
            errors.truncate(MOST);
            return Err(errors);
        }
        let merged = merge(&files, &variables);
        let place = |flaw: Flaw| place(flaw, &files, &variables);
        let missing = missing_keys(&merged);
        if !missing.is_empty() {
            return Err(missing.into_iter().map(place).collect());
        }
        let config: Self =
            merged.extract().map_err(|error| error.into_iter().map(|e| place(unforeseen(&e))).collect::<Vec<_>>())?;
        match config.validate() {
            Ok(()) => Ok(config),
            Err(flaws) => Err(flaws.into_iter().map(place).collect()),
        }
    }
}

fn keep<T>(result: Result<T, Vec<ConfigError>>, errors: &mut Vec<ConfigError>) -> Option<T> {
    result.map_err(|found| errors.extend(found)).ok()
}

/// A file of the right shape.
struct File<'a> {
    name: &'a str,
    text: &'a str,
    root: Spanned<DeTable<'a>>,
}

impl<'a> File<'a> {
    fn read(name: &'a str, text: &'a str) -> Result<Self, Vec<ConfigError>> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let file = File { name, text, root };
        if !errors.is_empty() {
            return Err(errors.iter().map(|error| file.syntax(error)).collect());
        }
        let flaws = file.schema_flaw().map_or_else(|| check_file(&file.root), |flaw| vec![flaw]);
        if flaws.is_empty() {
            Ok(file)
        } else {
            Err(flaws.into_iter().map(|(at, flaw)| flaw.placed(file.place(at))).collect())
        }
    }

    fn place(&self, at: usize) -> Place {
        Place::at(self.name, self.text, at)
    }

    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let place = self.place(error.span().map_or(0, |span| span.start));
        ConfigError { place, message, nearest: None, expected: None }
    }

    /// A file of another version is not held against this version's keys.
    fn schema_flaw(&self) -> Option<(usize, Flaw)> {
        let expected = "`schema = 1`";
        let Some(found) = self.root.get_ref().get("schema") else {
            let message = "the key `schema` is missing: it says which version of the format this file has";
            return Some((0, Flaw::new(&["schema"], message, expected)));
        };
        let version = found.get_ref().as_integer()?.to_string();
        (version != "1").then(|| {
            (
                found.span().start,
                Flaw::new(&["schema"], format!("schema {version} is not known to this version of Raven"), expected),
            )
        })
    }

    /// Offset of the key at `path`, or of the nearest table above it that the file names, and how deep that is.
    fn find(&self, path: &[String]) -> (usize, usize) {
        let (mut at, mut depth) = (0, 0);
        let mut table = Some(self.root.get_ref());
        let mut list: Option<&DeValue<'_>> = None;
        for part in path {
            let found = match (table, list) {
                (Some(keys), _) => keys.get_key_value(part.as_str()).map(|(key, value)| (key.span(), value.get_ref())),
                (None, Some(DeValue::Array(items))) => {
                    part.parse().ok().and_then(|n: usize| items.get(n)).map(|v| (v.span(), v.get_ref()))
                }
                _ => None,
            };
            let Some((span, value)) = found else { break };
            (at, depth, table, list) = (span.start, depth + 1, value.as_table(), Some(value));
        }
        (at, depth)
    }
}

/// A `RAVEN_*` variable that names a key.
struct Variable {
    name: String,
    path: Vec<String>,
    value: toml::Value,
}

impl Variable {
    /// `None` when it is none of ours: only names that begin like a key of the file are.
    fn read(name: &str, text: &str) -> Option<Result<Self, Vec<ConfigError>>> {
        let key = name.strip_prefix("RAVEN_")?.to_ascii_lowercase();
        let Shape::Table(top) = &CONFIG else { return None };
        let first = key.split('_').next().unwrap_or_default();
        top.iter().any(|(known, _)| *known == first).then(|| Self::read_key(name, &key, text))
    }

    fn read_key(name: &str, key: &str, text: &str) -> Result<Self, Vec<ConfigError>> {
        let place = Place::Variable(name.to_owned());
        let mut path = Vec::new();
        let Some(shape) = resolve(&CONFIG, key, &mut path) else {
            let expected = "a key of the file with its tables before it, such as `RAVEN_BUFFER__DISK`";
            return Err(vec![Flaw::new(&[], "names no key", expected).placed(place)]);
        };
        let value = spell(shape, text);
        let mut flaws = Flaws::new();
        check_value(shape, &value, &mut path, &mut flaws);
        match toml::Value::deserialize(ValueDeserializer::from(value)) {
            Ok(value) if flaws.is_empty() => Ok(Self { name: name.to_owned(), path, value }),
            _ => Err(flaws.into_iter().map(|(_, flaw)| flaw.placed(place.clone())).collect()),
        }
    }
}

/// Finds the key that `words` means: its parts joined with `__` or `_`. Leaves the path in `path`.
fn resolve(shape: &'static Shape, words: &str, path: &mut Vec<String>) -> Option<&'static Shape> {
    let mut step = |part: &str, below: &'static Shape| -> Option<&'static Shape> {
        let rest = words.strip_prefix(part)?;
        let rest = if rest.is_empty() { rest } else { rest.strip_prefix("__").or_else(|| rest.strip_prefix('_'))? };
        path.push(part.to_owned());
        resolve(below, rest, path).or_else(|| {
            path.pop();
            None
        })
    };
    match shape {
        Shape::Table(keys) => keys.iter().find_map(|(key, below)| step(key, below)),
        Shape::Each(below) => {
            words.split('_').next().filter(|name| !name.is_empty()).and_then(|name| step(name, below))
        }
        Shape::List(_) | Shape::Leaf(_) => words.is_empty().then_some(shape),
    }
}

/// A variable's text as the value that the key takes: a list may be written with commas, a text without quotes.
fn spell<'a>(shape: &Shape, text: &'a str) -> Spanned<DeValue<'a>> {
    let quoted = |text: &'a str| Spanned::new(0..0, DeValue::String(Cow::Borrowed(text)));
    let parsed = || DeValue::parse(text.trim()).unwrap_or_else(|_| quoted(text));
    match shape {
        Shape::Leaf(leaf) if leaf.text => quoted(text),
        Shape::List(_) if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Spanned::new(0..0, DeValue::Array(items.map(quoted).collect()))
        }
        _ => parsed(),
    }
}

fn merge(files: &[File<'_>], variables: &[Variable]) -> Figment {
    let defaults = Figment::new()
        .merge(Serialized::default("site", Site::default()))
        .merge(Serialized::default("collect", Collect::default()))
        .merge(Serialized::default("buffer", Buffer::default()));
    let with_files =
        files.iter().fold(defaults, |figment, file| figment.merge(Serialized::defaults(plain(&file.root))));
    variables.iter().fold(with_files, |figment, variable| {
        figment.merge(Serialized::default(&variable.path.join("."), &variable.value))
    })
}

fn plain(root: &Spanned<DeTable<'_>>) -> toml::Value {
    let value = Spanned::new(root.span(), DeValue::Table(root.get_ref().clone()));
    toml::Value::deserialize(ValueDeserializer::from(value)).unwrap_or_else(|_| toml::Value::Table(toml::Table::new()))
}

/// Keys of destinations that no layer gives and that have no default.
fn missing_keys(merged: &Figment) -> Vec<Flaw> {
    let Ok(destinations) = merged.extract_inner::<Dict>("uplink") else { return Vec::new() };
    let mut flaws = Vec::new();
    for (name, destination) in &destinations {
        for key in ["kind", "to"] {
            if destination.as_dict().is_some_and(|keys| !keys.contains_key(key)) {
                let expected = key_words(key);
                flaws.push(Flaw::new(&["uplink", name], format!("the destination `{name}` has no `{key}`"), expected));
            }
        }
    }
    flaws
}

fn key_words(key: &str) -> String {
    let Shape::Table(keys) = &DESTINATION else { return String::new() };
    let leaf = keys.iter().find(|(known, _)| *known == key);
    leaf.map_or_else(String::new, |(_, shape)| format!("`{key}` = {}", shape.words()))
}

/// The shape let something through that the types refuse: still an error with a place, never a panic.
fn unforeseen(error: &figment::Error) -> Flaw {
    Flaw { path: error.path.clone(), message: error.kind.to_string(), nearest: None, expected: None }
}

/// Where the setting at fault was written last: a variable, the site file, or the factory file.
fn place(flaw: Flaw, files: &[File<'_>], variables: &[Variable]) -> ConfigError {
    let in_files = files.iter().map(|file| (file, file.find(&flaw.path))).max_by_key(|(_, (_, depth))| *depth);
    let whole = in_files.as_ref().is_some_and(|(_, (_, depth))| *depth == flaw.path.len());
    let sets_it = |variable: &&Variable| flaw.path.starts_with(&variable.path);
    // A destination that is made of variables alone: no file has its table.
    let sets_part = |variable: &&Variable| !whole && variable.path.starts_with(&flaw.path);
    let variable = variables.iter().find(sets_it).or_else(|| variables.iter().find(sets_part));
    let place = match (variable, in_files) {
        (Some(variable), _) => Place::Variable(variable.name.clone()),
        (None, Some((file, (at, _)))) => file.place(at),
        (None, None) => Place::Variable("RAVEN_*".to_owned()),
    };
    flaw.placed(place)
}
