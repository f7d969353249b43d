//! From definitions that lean on each other to OIDs.

use super::super::names::Names;
use super::super::oid::Oid;
use super::super::shape::Shape;
use super::Loaded;
use super::parse::{Definition, Module, Part, Syntax, What};
use std::collections::HashMap;

/// How many definitions may lean on each other; an OID has no more parts.
const MAX_DEPTH: usize = 128;
/// How many types may be made of each other.
const MAX_TYPE_DEPTH: usize = 16;
/// snmp of RFC 1213, whose traps are the generic ones.
const SNMP: [u32; 7] = [1, 3, 6, 1, 2, 1, 11];
/// snmpTraps (RFC 3418).
const SNMP_TRAPS: [u32; 9] = [1, 3, 6, 1, 6, 3, 1, 1, 5];
/// Modules that define the language; what is imported from them is known or not needed.
const LANGUAGE: [&str; 9] = [
    "SNMPv2-SMI",
    "SNMPv2-TC",
    "SNMPv2-CONF",
    "RFC1155-SMI",
    "RFC-1212",
    "RFC-1215",
    "RFC1213-MIB",
    "SNMPv2-MIB",
    "RFC1065-SMI",
];

/// A definition's place: module and index.
type Place = (usize, usize);

struct Resolver<'r, 'a> {
    modules: &'r [(&'a str, Module<'a>)],
    by_module: HashMap<&'a str, usize>,
    /// Module and symbol to definition.
    local: HashMap<(usize, &'a str), usize>,
    /// Symbol to the first definition of it anywhere.
    anywhere: HashMap<&'a str, Place>,
    /// Module and symbol to the module that it is imported from.
    imported: HashMap<(usize, &'a str), &'a str>,
    names: &'r Names,
    oids: HashMap<Place, Result<Oid, String>>,
}

/// Resolves all that can be, puts it into `names` and says what cannot.
pub fn resolve<'a>(modules: &[(&'a str, Module<'a>)], names: &mut Names, loaded: &mut Loaded) {
    let mut resolver = Resolver {
        modules,
        by_module: HashMap::new(),
        local: HashMap::new(),
        anywhere: HashMap::new(),
        imported: HashMap::new(),
        names,
        oids: HashMap::new(),
    };
    let wanted = resolver.index(loaded);
    let mut found = Vec::new();
    for (at, index) in wanted {
        let Some((file, module)) = modules.get(at) else { continue };
        let Some(definition) = module.definitions.get(index) else { continue };
        if matches!(definition.what, What::Type(_)) {
            continue;
        }
        match resolver.oid((at, index), 0) {
            Ok(oid) => found.push((oid, definition.name, resolver.shape(at, definition))),
            Err(what) => loaded.problem(file, definition.line, what),
        }
    }
    loaded.names = found.len();
    for (oid, name, shape) in found {
        names.insert(&oid, name, shape);
    }
}

impl<'a> Resolver<'_, 'a> {
    /// Fills the tables; gives the places of all definitions. Says which imports lead nowhere.
    fn index(&mut self, loaded: &mut Loaded) -> Vec<Place> {
        let mut places = Vec::new();
        for (at, (file, module)) in self.modules.iter().enumerate() {
            if let Some(other) = self.by_module.get(module.name) {
                let other = self.modules[*other].0;
                loaded.problem(
                    file,
                    module.line,
                    format!("module {} is in {other} too: this one is left out", module.name),
                );
                continue;
            }
            self.by_module.insert(module.name, at);
            loaded.modules.push(module.name.to_owned());
            for (index, definition) in module.definitions.iter().enumerate() {
                places.push((at, index));
                self.local.entry((at, definition.name)).or_insert(index);
                self.anywhere.entry(definition.name).or_insert((at, index));
            }
            self.imported.extend(module.imports.iter().map(|import| ((at, import.symbol), import.module)));
        }
        for (at, (file, module)) in self.modules.iter().enumerate() {
            if self.by_module.get(module.name) != Some(&at) {
                continue;
            }
            for import in module.imports.iter().filter(|import| !self.is_known(import.symbol, import.module)) {
                loaded.unresolved(file, import.line, format!("{} FROM {}", import.symbol, import.module));
            }
        }
        places
    }

    fn is_known(&self, symbol: &str, module: &str) -> bool {
        let in_module = self.by_module.get(module).is_some_and(|at| self.local.contains_key(&(*at, symbol)));
        in_module
            || LANGUAGE.contains(&module)
            || self.names.oid(symbol).is_some()
            || self.names.type_shape(symbol).is_some()
    }

    /// A symbol as a module sees it: its own, an imported one, or else one of that name anywhere.
    fn place(&self, at: usize, symbol: &str) -> Option<Place> {
        let local = |at: usize| self.local.get(&(at, symbol)).map(|index| (at, *index));
        let imported = || local(*self.by_module.get(*self.imported.get(&(at, symbol))?)?);
        local(at).or_else(imported)
    }

    fn oid(&mut self, place: Place, depth: usize) -> Result<Oid, String> {
        if let Some(known) = self.oids.get(&place) {
            return known.clone();
        }
        let modules = self.modules;
        let definition = &modules[place.0].1.definitions[place.1];
        let found = if depth > MAX_DEPTH {
            Err(format!("`{}` is defined by itself, or by more than 128 others", definition.name))
        } else {
            self.oid_of(place.0, definition, depth)
        };
        // Deep in a circle nothing is remembered, so that each of its members says so itself.
        if depth == 0 || found.is_ok() {
            self.oids.insert(place, found.clone());
        }
        found
    }

    fn oid_of(&mut self, at: usize, definition: &Definition<'a>, depth: usize) -> Result<Oid, String> {
        match &definition.what {
            What::Oid(parts, _) => self.path(at, parts, definition.name, depth),
            What::Trap(enterprise, number) => {
                let enterprise = self.path(at, enterprise, definition.name, depth)?;
                // RFC 2576, 2.1.2 (6): the generic ones count from 1, the others stand behind a zero.
                let oid = if enterprise.parts() == SNMP {
                    Oid::new([&SNMP_TRAPS[..], &[number.saturating_add(1)]].concat())
                } else {
                    enterprise.child(&[0, *number])
                };
                oid.ok_or_else(|| too_long(definition.name))
            }
            What::Type(_) => Err(format!("`{}` is a type, expected an OID", definition.name)),
        }
    }

    fn path(&mut self, at: usize, parts: &[Part<'a>], name: &str, depth: usize) -> Result<Oid, String> {
        let (first, rest) = parts.split_first().ok_or_else(|| format!("`{name}` has no OID"))?;
        let start = match first {
            Part { name: Some(symbol), number } => match self.symbol(at, symbol, name, depth) {
                Ok(oid) => oid,
                Err(error) => number.map(|number| [number]).and_then(Oid::new).ok_or(error)?,
            },
            Part { number, .. } => Oid::new(Vec::from_iter(*number)).unwrap_or_else(|| unreachable!("one part")),
        };
        let mut numbers = Vec::new();
        for part in rest {
            match (part.number, part.name) {
                (Some(number), _) => numbers.push(number),
                (None, other) => {
                    return Err(format!("`{}` in the OID of `{name}` has no number", other.unwrap_or_default()));
                }
            }
        }
        start.child(&numbers).ok_or_else(|| too_long(name))
    }

    fn symbol(&mut self, at: usize, symbol: &str, name: &str, depth: usize) -> Result<Oid, String> {
        if symbol == name && depth > 0 {
            return Err(format!("`{name}` is defined by itself"));
        }
        if let Some(place) = self.place(at, symbol) {
            return self.oid(place, depth + 1);
        }
        if let Some(oid) = self.names.oid(symbol) {
            return Ok(oid.clone());
        }
        match self.anywhere.get(symbol).copied() {
            Some(place) => self.oid(place, depth + 1),
            None => Err(format!("`{name}` hangs below `{symbol}`, which no module defines")),
        }
    }

    /// How values of an object are shown: by its own labels, or by those of its type and of what that is made of.
    fn shape(&self, at: usize, definition: &Definition<'a>) -> Option<Shape> {
        let What::Oid(_, Some(syntax)) = &definition.what else { return None };
        let (mut at, mut syntax): (usize, &Syntax<'a>) = (at, syntax);
        for _ in 0..MAX_TYPE_DEPTH {
            if !syntax.labels.is_empty() || syntax.hint.is_some() {
                let labels = syntax.labels.iter().map(|(number, label)| (*number, (*label).to_owned())).collect();
                return Some(Shape { labels, hint: syntax.hint.map(str::to_owned) });
            }
            match self.place(at, syntax.base) {
                Some((module, index)) => match &self.modules[module].1.definitions[index].what {
                    What::Type(next) => (at, syntax) = (module, next),
                    _ => return None,
                },
                None => return self.names.type_shape(syntax.base).map(|shape| (*shape).clone()),
            }
        }
        None
    }
}

fn too_long(name: &str) -> String {
    format!("the OID of `{name}` has more than 128 parts")
}
