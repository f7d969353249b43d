//! Names of objects and notifications: a tree of OIDs, walked once for each look-up.
//!
//! [`Names::standard`] has what every network meets (`standard.tsv`); [`mib::load`](super::mib::load) adds what vendors'
//! modules define.

use super::oid::Oid;
use super::shape::Shape;
use super::value::Value;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

/// Named OIDs that there may be; all MIBs of a large vendor have some hundred thousand.
const MAX_NODES: usize = 2_000_000;

#[derive(Debug, Clone, Default)]
struct Node {
    name: Option<Box<str>>,
    shape: Option<Arc<Shape>>,
    /// Ours, until a module says otherwise.
    built_in: bool,
}

/// Names, and how values are shown.
#[derive(Debug, Clone)]
pub struct Names {
    /// The root first.
    nodes: Vec<Node>,
    /// Parent and part to child.
    children: HashMap<(u32, u32), u32>,
    by_name: HashMap<Box<str>, Oid>,
    types: HashMap<Box<str>, Arc<Shape>>,
}

impl Default for Names {
    /// No names at all.
    fn default() -> Self {
        Self { nodes: vec![Node::default()], children: HashMap::new(), by_name: HashMap::new(), types: HashMap::new() }
    }
}

impl Names {
    /// What is built in: the trees of SNMPv2-SMI, the standard traps and their objects, the roots of vendors.
    pub fn standard() -> Self {
        let mut names = Self::default();
        for line in include_str!("standard.tsv").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut cells = line.split('\t');
            let (at, name) = (cells.next().unwrap_or(""), cells.next().unwrap_or(""));
            let shape = cells.next().map(|cell| names.shape(cell));
            if at == "type" {
                names.types.insert(name.into(), shape.unwrap_or_default());
            } else if let Some(oid) = names.oid_at(at) {
                names.put(&oid, name, shape, true);
            }
        }
        names
    }

    /// A shape as `standard.tsv` has it: a hint in quotes, labels as `up(1) down(2)`, or the name of a type.
    fn shape(&self, cell: &str) -> Arc<Shape> {
        let label = |word: &str| {
            let (label, number) = word.strip_suffix(')')?.split_once('(')?;
            Some((number.parse().ok()?, label.to_owned()))
        };
        if let Some(hint) = cell.strip_prefix('"') {
            return Arc::new(Shape { hint: Some(hint.trim_end_matches('"').to_owned()), ..Shape::default() });
        }
        let labels: BTreeMap<i64, String> = cell.split(' ').filter_map(label).collect();
        if labels.is_empty() {
            self.type_shape(cell).unwrap_or_default()
        } else {
            Arc::new(Shape { labels, hint: None })
        }
    }

    /// `name.1.2`, or only numbers.
    fn oid_at(&self, at: &str) -> Option<Oid> {
        if at.starts_with(|c: char| c.is_ascii_digit()) {
            return at.parse().ok();
        }
        let (name, rest) = at.split_once('.')?;
        self.oid(name)?.child(rest.parse::<Oid>().ok()?.parts())
    }

    /// The OID of a name, where a name has one.
    pub fn oid(&self, name: &str) -> Option<&Oid> {
        self.by_name.get(name)
    }

    /// How a built-in textual convention is shown.
    pub(super) fn type_shape(&self, name: &str) -> Option<Arc<Shape>> {
        self.types.get(name).cloned()
    }

    /// Names an OID. What is built in gives way, what a module named before stays.
    pub fn insert(&mut self, oid: &Oid, name: &str, shape: Option<Shape>) {
        self.put(oid, name, shape.filter(|shape| !shape.is_plain()).map(Arc::new), false);
    }

    fn put(&mut self, oid: &Oid, name: &str, shape: Option<Arc<Shape>>, built_in: bool) {
        let mut at = 0_u32;
        for part in oid.parts() {
            let next = self.nodes.len();
            at = match self.children.get(&(at, *part)) {
                Some(child) => *child,
                None if next >= MAX_NODES => return,
                None => {
                    self.nodes.push(Node::default());
                    self.children.insert((at, *part), next as u32);
                    next as u32
                }
            };
        }
        let Some(node) = self.nodes.get_mut(at as usize) else { return };
        if node.name.is_none() || node.built_in {
            node.name = Some(name.into());
            node.built_in = built_in;
        }
        if shape.is_some() {
            node.shape = shape;
        }
        self.by_name.entry(name.into()).or_insert_with(|| oid.clone());
    }

    /// How many OIDs have a name.
    pub fn len(&self) -> usize {
        self.nodes.iter().filter(|node| node.name.is_some()).count()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last named node on the way to `oid`, and how many parts lead to it.
    fn find(&self, oid: &[u32]) -> Option<(&Node, usize)> {
        let (mut at, mut found) = (0_u32, None);
        for (depth, part) in oid.iter().enumerate() {
            let Some(child) = self.children.get(&(at, *part)) else { break };
            at = *child;
            found =
                self.nodes.get(at as usize).filter(|node| node.name.is_some()).map(|node| (node, depth + 1)).or(found);
        }
        found
    }

    /// `ifOperStatus.7`: the longest known beginning by name, the rest in numbers.
    pub fn name(&self, oid: &[u32]) -> Option<String> {
        let (node, depth) = self.find(oid)?;
        let mut shown = node.name.as_deref()?.to_owned();
        for part in oid.get(depth..)? {
            let _ = write!(shown, ".{part}");
        }
        Some(shown)
    }

    /// What a value of this object means: the label of a number, octets by their hint, the name of an OID.
    pub fn label(&self, object: &[u32], value: &Value<'_>) -> Option<String> {
        if let Value::Oid(oid) = value {
            return self.name(oid.to_oid().parts());
        }
        let shape = self.find(object)?.0.shape.as_deref()?;
        match value {
            Value::Integer(number) => shape.integer((*number).into()),
            Value::Gauge32(number) | Value::Counter32(number) => shape.integer((*number).into()),
            Value::Octets(octets) => shape.octets(octets),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn oid(text: &str) -> Oid {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_known_beginning_gives_the_name() {
        let names = Names::standard();
        for (number, name) in [
            ("1.3.6.1.2.1.1.3.0", "sysUpTime.0"),
            ("1.3.6.1.6.3.1.1.5.3", "linkDown"),
            ("1.3.6.1.2.1.2.2.1.8.7", "ifOperStatus.7"),
            ("1.3.6.1.4.1.9.9.43.2.0.1", "ciscoConfigManEvent"),
            ("1.3.6.1.4.1.31337.5", "enterprises.31337.5"),
            ("2.1", "joint-iso-ccitt.1"),
        ] {
            assert_eq!(names.name(oid(number).parts()).as_deref(), Some(name));
        }
        assert_eq!(names.name(oid("7.7").parts()), None);
    }

    #[test]
    fn every_line_of_the_table_is_used() {
        let names = Names::standard();
        let text = include_str!("standard.tsv");
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let cells: Vec<&str> = line.split('\t').collect();
            assert!((2..=3).contains(&cells.len()), "{line:?}");
            if cells[0] == "type" {
                continue;
            }
            let parent = cells[0].split('.').next().unwrap();
            assert!(names.oid(cells[1]).is_some() && (names.oid(parent).is_some() || cells[0].len() == 1), "{line}");
            if let Some(shape) = cells.get(2) {
                assert!(!names.shape(shape).is_plain(), "a shape that is no type: {line}");
            }
        }
        assert!(names.len() > 400, "{}", names.len());
    }

    #[test]
    fn values_have_labels() {
        let names = Names::standard();
        let label = |object: &str, value| names.label(oid(object).parts(), &value);
        assert_eq!(label("1.3.6.1.2.1.2.2.1.8.7", Value::Integer(2)).as_deref(), Some("down"));
        assert_eq!(
            label("1.3.6.1.2.1.2.2.1.6.7", Value::Octets(&[0, 1, 2, 3, 4, 5])).as_deref(),
            Some("00:01:02:03:04:05")
        );
        assert_eq!(label("1.3.6.1.2.1.1.5.0", Value::Octets(b"core-1")), None);
    }
}
