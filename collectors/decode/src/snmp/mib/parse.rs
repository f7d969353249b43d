//! Modules of SMIv1 and SMIv2 (RFC 1155, 1212, 1215, 2578, 2579): what gives names to OIDs, and nothing else.
//!
//! One definition that cannot be read costs itself: reading goes on where the next one begins.

use super::lexer::{Kind, Token, tokens};
use super::words::{Fault, Words};
use std::collections::BTreeMap;

/// Faults that are reported of one file.
const MAX_FAULTS: usize = 50;

/// A module as written.
#[derive(Debug, Default)]
pub struct Module<'a> {
    pub name: &'a str,
    pub line: u32,
    pub imports: Vec<Import<'a>>,
    pub definitions: Vec<Definition<'a>>,
}

/// A symbol of another module.
#[derive(Debug, Clone, Copy)]
pub struct Import<'a> {
    pub symbol: &'a str,
    pub module: &'a str,
    pub line: u32,
}

/// A name and what it stands for.
#[derive(Debug)]
pub struct Definition<'a> {
    pub name: &'a str,
    pub line: u32,
    pub what: What<'a>,
}

/// What a name stands for.
#[derive(Debug)]
pub enum What<'a> {
    /// An OID, and how its values are shown.
    Oid(Vec<Part<'a>>, Option<Syntax<'a>>),
    /// The enterprise and number of a trap of SMIv1.
    Trap(Vec<Part<'a>>, u32),
    /// A type.
    Type(Syntax<'a>),
}

/// One part of an OID: `enterprises`, `9`, or `cisco(9)`.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    pub name: Option<&'a str>,
    pub number: Option<u32>,
}

/// A type, as far as it says how values are shown.
#[derive(Debug, Default, Clone)]
pub struct Syntax<'a> {
    pub base: &'a str,
    pub labels: BTreeMap<i64, &'a str>,
    pub hint: Option<&'a str>,
}

/// Macros whose uses end in `::= { … }`.
const MACROS: [&str; 10] = [
    "OBJECT-TYPE",
    "NOTIFICATION-TYPE",
    "MODULE-IDENTITY",
    "OBJECT-IDENTITY",
    "OBJECT-GROUP",
    "NOTIFICATION-GROUP",
    "MODULE-COMPLIANCE",
    "AGENT-CAPABILITIES",
    "TRAP-TYPE",
    "TEXTUAL-CONVENTION",
];

/// All modules of a text, and what in it could not be read.
pub fn modules(text: &str) -> (Vec<Module<'_>>, Vec<Fault>) {
    let tokens = tokens(text);
    let mut parser = Words { tokens: &tokens, at: 0 };
    let (mut modules, mut faults) = (Vec::new(), Vec::new());
    while !parser.is_done() {
        let start = parser.at;
        match parser.header() {
            Ok((name, line)) => modules.push(parser.body(name, line, &mut faults)),
            Err(fault) => {
                faults.push(fault);
                parser.at = start + 1;
                parser.skip_to_module();
            }
        }
    }
    if modules.is_empty() && faults.is_empty() {
        faults.push(Fault { line: 1, expected: "a module: `NAME DEFINITIONS ::= BEGIN`, found nothing".to_owned() });
    }
    faults.truncate(MAX_FAULTS);
    (modules, faults)
}

impl<'a> Words<'_, 'a> {
    /// `NAME [{ … }] DEFINITIONS ::= BEGIN`.
    fn header(&mut self) -> Result<(&'a str, u32), Fault> {
        let line = self.line();
        let name = self.eat_kind(Kind::Word, "a module's name")?;
        if self.eat_if("{") {
            self.skip_brackets("{", "}")?;
        }
        self.eat("DEFINITIONS")?;
        while self.tokens.get(self.at).is_some_and(|token| token.kind == Kind::Word) {
            self.at += 1; // EXPLICIT TAGS and the like
        }
        self.eat("::=")?;
        self.eat("BEGIN")?;
        Ok((name, line))
    }

    fn skip_to_module(&mut self) {
        while !self.is_done() && self.peek(1) != "DEFINITIONS" {
            self.at += 1;
        }
    }

    fn body(&mut self, name: &'a str, line: u32, faults: &mut Vec<Fault>) -> Module<'a> {
        let mut module = Module { name, line, ..Module::default() };
        loop {
            let before = self.at;
            match self.statement(&mut module) {
                Ok(true) => {}
                Ok(false) => return module,
                Err(fault) => {
                    if faults.len() < MAX_FAULTS {
                        faults.push(fault);
                    }
                    if self.is_done() {
                        return module;
                    }
                    self.at = self.at.max(before + 1);
                    self.skip_to_statement();
                }
            }
        }
    }

    /// Where a definition begins, or the module ends.
    fn skip_to_statement(&mut self) {
        while !self.is_done() && self.peek(0) != "END" && !self.begins() {
            self.at += 1;
        }
    }

    fn begins(&self) -> bool {
        self.begins_macro() || (self.is_name() && self.peek(1) == "::=")
    }

    /// Within a definition: `mandatory ::= { … }` is the end of this one, not the beginning of the next.
    fn begins_macro(&self) -> bool {
        let next = self.peek(1);
        let is_oid = next == "OBJECT" && self.peek(2) == "IDENTIFIER" && self.peek(3) == "::=";
        self.is_name() && (is_oid || MACROS.contains(&next))
    }

    fn is_name(&self) -> bool {
        let is_word = self.tokens.get(self.at).is_some_and(|token| token.kind == Kind::Word);
        is_word && self.peek(0) != "OBJECT" && !MACROS.contains(&self.peek(0))
    }

    /// One definition; false at the end of the module.
    fn statement(&mut self, module: &mut Module<'a>) -> Result<bool, Fault> {
        let line = self.line();
        match (self.peek(0), self.peek(1)) {
            ("END", _) => {
                self.at += 1;
                return Ok(false);
            }
            ("IMPORTS", _) => self.imports(module)?,
            ("EXPORTS", _) => {
                while !self.eat_if(";") {
                    if self.is_done() {
                        return Err(self.fault("`;`"));
                    }
                    self.at += 1;
                }
            }
            (_, "MACRO") => {
                while !self.eat_if("END") {
                    if self.is_done() {
                        return Err(self.fault("`END`"));
                    }
                    self.at += 1;
                }
            }
            _ => {
                let name = self.eat_kind(Kind::Word, "a definition or `END`")?;
                let what = self.definition()?;
                module.definitions.push(Definition { name, line, what });
            }
        }
        Ok(true)
    }

    /// `IMPORTS a, b FROM M c FROM N;`
    fn imports(&mut self, module: &mut Module<'a>) -> Result<(), Fault> {
        self.at += 1;
        let mut symbols = Vec::new();
        while !self.eat_if(";") {
            let line = self.line();
            if self.eat_if("FROM") {
                let from = self.eat_kind(Kind::Word, "a module's name")?;
                module.imports.extend(symbols.drain(..).map(|(symbol, line)| Import { symbol, module: from, line }));
                if self.eat_if("{") {
                    self.skip_brackets("{", "}")?;
                }
            } else if !self.eat_if(",") {
                symbols.push((self.eat_kind(Kind::Word, "a symbol, `FROM` or `;`")?, line));
            }
        }
        Ok(())
    }

    fn definition(&mut self) -> Result<What<'a>, Fault> {
        match (self.peek(0), self.peek(1)) {
            ("OBJECT", "IDENTIFIER") => {
                self.at += 2;
                self.eat("::=")?;
                Ok(What::Oid(self.oid()?, None))
            }
            ("::=", _) => {
                self.at += 1;
                self.type_definition().map(What::Type)
            }
            (word, _) if MACROS.contains(&word) => {
                self.at += 1;
                self.clauses(word)
            }
            _ => Err(self.fault("`::=`, `OBJECT IDENTIFIER` or a macro of SMI such as `OBJECT-TYPE`")),
        }
    }

    /// The clauses of a macro up to its value.
    fn clauses(&mut self, word: &str) -> Result<What<'a>, Fault> {
        let (mut syntax, mut enterprise) = (None, Vec::new());
        while !self.eat_if("::=") {
            if self.is_done() || self.begins_macro() || self.peek(0) == "END" {
                return Err(self.fault(&format!("`::=` at the end of this {word}")));
            }
            match self.peek(0) {
                "SYNTAX" if word == "OBJECT-TYPE" && syntax.is_none() => {
                    self.at += 1;
                    syntax = Some(self.syntax()?);
                }
                "ENTERPRISE" if word == "TRAP-TYPE" => {
                    self.at += 1;
                    enterprise = if self.peek(0) == "{" {
                        self.oid()?
                    } else {
                        vec![Part { name: Some(self.eat_kind(Kind::Word, "an enterprise")?), number: None }]
                    };
                }
                "{" => {
                    self.at += 1;
                    self.skip_brackets("{", "}")?;
                }
                _ => self.at += 1,
            }
        }
        if word == "TRAP-TYPE" {
            return Ok(What::Trap(enterprise, self.number()?));
        }
        Ok(What::Oid(self.oid()?, syntax))
    }

    /// `{ iso org(3) 6 }`.
    fn oid(&mut self) -> Result<Vec<Part<'a>>, Fault> {
        self.eat("{")?;
        let mut parts = Vec::new();
        while !self.eat_if("}") {
            if self.tokens.get(self.at).is_some_and(|token| token.kind == Kind::Number) {
                parts.push(Part { name: None, number: Some(self.number()?) });
                continue;
            }
            let name = self.eat_kind(Kind::Word, "a name, a number or `}`")?;
            let mut number = None;
            if self.eat_if("(") {
                number = Some(self.number()?);
                self.eat(")")?;
            }
            parts.push(Part { name: Some(name), number });
        }
        if parts.is_empty() || parts.len() > super::super::oid::MAX_PARTS {
            return Err(self.fault("an OID of 1 to 128 parts"));
        }
        Ok(parts)
    }

    /// What stands behind the `::=` of a type.
    fn type_definition(&mut self) -> Result<Syntax<'a>, Fault> {
        if !self.eat_if("TEXTUAL-CONVENTION") {
            return self.syntax();
        }
        let mut hint = None;
        while !self.eat_if("SYNTAX") {
            if self.is_done() || self.begins() || self.peek(0) == "END" {
                return Err(self.fault("`SYNTAX` in this TEXTUAL-CONVENTION"));
            }
            if self.eat_if("DISPLAY-HINT") {
                hint = Some(self.eat_kind(Kind::Text, "a hint in quotes")?);
            } else {
                self.at += 1;
            }
        }
        Ok(Syntax { hint, ..self.syntax()? })
    }

    /// A type with its range and its labels.
    fn syntax(&mut self) -> Result<Syntax<'a>, Fault> {
        if self.eat_if("[") {
            self.skip_brackets("[", "]")?;
        }
        let _ = self.eat_if("IMPLICIT");
        let base = self.eat_kind(Kind::Word, "a type")?;
        match base {
            "OCTET" => self.eat("STRING")?,
            "OBJECT" => self.eat("IDENTIFIER")?,
            "SEQUENCE" if self.eat_if("OF") => {
                self.eat_kind(Kind::Word, "a type")?;
            }
            "SEQUENCE" | "CHOICE" => {
                self.eat("{")?;
                self.skip_brackets("{", "}")?;
            }
            _ => {}
        }
        let mut syntax = Syntax { base, ..Syntax::default() };
        if self.peek(0) == "{" && matches!(self.tokens.get(self.at + 2), Some(Token { text: "(", .. })) {
            self.at += 1;
            syntax.labels = self.labels()?;
        }
        if self.eat_if("(") {
            self.skip_brackets("(", ")")?;
        }
        Ok(syntax)
    }

    /// `up(1), down(2) }`.
    fn labels(&mut self) -> Result<BTreeMap<i64, &'a str>, Fault> {
        let mut labels = BTreeMap::new();
        while !self.eat_if("}") {
            let label = self.eat_kind(Kind::Word, "a label or `}`")?;
            self.eat("(")?;
            labels.insert(self.number()?, label);
            self.eat(")")?;
            let _ = self.eat_if(",");
        }
        Ok(labels)
    }
}
