//! A profile while it is read: each line is looked up in the table and taken, left out or refused.

use super::lines::{Item, Line, Word};
use super::table::{self, Answer, Form, Repeat, Rule};
use super::{
    CertProfile, Challenge, Cipher, Control, Credentials, Digest, Direction, Fragment, Framing, Mssfix, Proto, Proxy,
};
use super::{Remote, TlsVersion, Verify, Wishes};
use crate::certificate::{Certificate, Crl};
use crate::key::PrivateKey;
use crate::report::{Finding, Remedy, Report, Verdict, shown};
use crate::secret::Secret;
use crate::{Allow, Options};
use std::collections::{BTreeMap, BTreeSet};

/// Why a line is not taken.
#[derive(Debug)]
pub(crate) struct Problem {
    /// Which word; 0 is the directive.
    pub word: usize,
    pub verdict: Verdict,
    pub reason: String,
    pub remedy: Option<Remedy>,
}

impl Problem {
    /// The line must go.
    pub fn refused(word: usize, reason: impl Into<String>) -> Self {
        Self { word, verdict: Verdict::Refused, reason: reason.into(), remedy: Some(Remedy::LeaveOut) }
    }

    /// The line is left out.
    pub fn dropped(word: usize, reason: impl Into<String>) -> Self {
        Self { word, verdict: Verdict::Dropped, reason: reason.into(), remedy: None }
    }

    /// The line is left out unless somebody says that it is meant so.
    pub fn dropped_unless(allow: Allow, word: usize, reason: impl Into<String>) -> Self {
        Self { remedy: Some(Remedy::Allow(allow)), ..Self::dropped(word, reason) }
    }
}

/// `remote` as it stands: what it does not say comes from `port`, `proto` and the proxy.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub line: u32,
    pub host: crate::Host,
    pub port: Option<u16>,
    pub proto: Option<Proto>,
}

/// What holds for remotes that do not say it themselves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Defaults {
    pub port: Option<u16>,
    pub proto: Option<Proto>,
    pub proxy: Option<Proxy>,
}

impl Defaults {
    pub fn complete(&self, target: Target) -> Remote {
        Remote {
            host: target.host,
            port: target.port.or(self.port).unwrap_or(super::remotes::PORT),
            proto: target.proto.or(self.proto).unwrap_or(Proto::Udp),
            proxy: self.proxy.clone(),
        }
    }
}

/// Everything taken so far.
#[allow(clippy::struct_excessive_bools)] // whether a directive stood there
pub(crate) struct Draft<'a> {
    pub options: &'a Options,
    pub report: &'a mut Report,
    /// Where each directive stood last.
    pub seen: BTreeMap<&'static str, u32>,
    /// Directives of which a line was refused: that they are missing need not be said too.
    tried: BTreeSet<&'static str>,
    passed_over: BTreeSet<String>,
    pub client: bool,
    pub tls_client: bool,
    pub pull: bool,
    /// Name of the device, when it does not say by itself what it is.
    pub named_device: bool,
    pub tun: bool,
    pub defaults: Defaults,
    pub targets: Vec<Target>,
    /// Of the `<connection>` that is open.
    pub connection: Option<(Defaults, Vec<Target>)>,
    pub connections: Vec<(u32, Remote)>,
    pub remote_random: bool,
    pub ca: Vec<Certificate>,
    pub peer_fingerprints: Vec<[u8; 32]>,
    pub cert: Vec<Certificate>,
    pub key: Option<PrivateKey>,
    pub pkcs12: Option<Secret<Vec<u8>>>,
    pub extra_certs: Vec<Certificate>,
    pub crl: Vec<Crl>,
    pub credentials: Credentials,
    pub challenge: Option<Challenge>,
    pub proxy_credentials: Credentials,
    pub control: Control,
    pub key_direction: Option<Direction>,
    pub verify: Verify,
    pub tls_min: TlsVersion,
    pub cert_profile: Option<CertProfile>,
    pub data_ciphers: Vec<Cipher>,
    pub fallback: Option<Cipher>,
    pub auth: Option<Digest>,
    pub framing: Option<Framing>,
    pub tun_mtu: Option<u16>,
    pub mssfix: Option<Mssfix>,
    pub fragment: Option<Fragment>,
    pub reneg_sec: Option<u32>,
    pub exit_notify: Option<u8>,
    pub wishes: Wishes,
}

impl<'a> Draft<'a> {
    pub fn new(options: &'a Options, report: &'a mut Report) -> Self {
        Self {
            options,
            report,
            seen: BTreeMap::new(),
            tried: BTreeSet::new(),
            passed_over: BTreeSet::new(),
            client: false,
            tls_client: false,
            pull: false,
            named_device: false,
            tun: false,
            defaults: Defaults::default(),
            targets: Vec::new(),
            connection: None,
            connections: Vec::new(),
            remote_random: false,
            ca: Vec::new(),
            peer_fingerprints: Vec::new(),
            cert: Vec::new(),
            key: None,
            pkcs12: None,
            extra_certs: Vec::new(),
            crl: Vec::new(),
            credentials: Credentials::None,
            challenge: None,
            proxy_credentials: Credentials::None,
            control: Control::None,
            key_direction: None,
            verify: Verify::default(),
            tls_min: TlsVersion::V1_2,
            cert_profile: None,
            data_ciphers: Vec::new(),
            fallback: None,
            auth: None,
            framing: None,
            tun_mtu: None,
            mssfix: None,
            fragment: None,
            reneg_sec: None,
            exit_notify: None,
            wishes: Wishes::default(),
        }
    }

    /// Takes one item of the profile, as long as the report has room.
    pub fn item(&mut self, item: &Item<'_>) {
        if self.report.is_full() {
            return;
        }
        match item {
            Item::Line(line) => self.line(line),
            Item::Open => self.connection = Some((self.defaults.clone(), Vec::new())),
            Item::Close(line) => self.close_connection(*line),
        }
        if self.report.is_full() {
            self.report.whole("", Verdict::Refused, "too much was found; the rest was not looked at");
        }
    }

    fn line(&mut self, line: &Line<'_>) {
        match smuggled(line) {
            Some(inner) => self.directive(&inner, true),
            None => self.directive(line, false),
        }
    }

    /// `optional`: it stands behind `setenv opt`, where OpenVPN passes over what it does not know.
    fn directive(&mut self, line: &Line<'_>, optional: bool) {
        let Some(name) = line.words.first() else { return };
        let Some(rule) = table::find(&name.text) else { return self.unknown(line, name, optional) };
        let problem = match rule.answer {
            Answer::Refuse => Some(Problem::refused(0, rule.reason)),
            Answer::Drop => Some(Problem::dropped(0, rule.reason)),
            Answer::Accept(take) => misplaced(rule, line).or_else(|| take(self, line).err()),
        };
        if rule.name == "ignore-unknown-option" {
            self.passed_over.extend(line.words.iter().skip(1).map(|word| word.text.clone()));
        }
        if let Some(problem) = problem {
            self.tried.extend((problem.verdict == Verdict::Refused).then_some(rule.name));
            return self.found(rule, line, problem);
        }
        self.again(rule, line);
        if line.inside.is_none() && brings(line) {
            self.seen.insert(rule.name, line.number);
        }
    }

    /// Says that a directive stands there a second time, where that means something.
    fn again(&mut self, rule: &'static Rule, line: &Line<'_>) {
        let Some(before) = self.seen.get(rule.name).filter(|_| line.inside.is_none() && brings(line)) else { return };
        let reason = match rule.repeat {
            Repeat::More => return,
            Repeat::Last => format!("stands in line {before} too; the last one holds, as in OpenVPN"),
            Repeat::Refused => format!("stands in line {before} too; which one is meant?"),
        };
        let refused = Problem::refused(0, reason);
        let warned = rule.repeat == Repeat::Last && line.words.len() > 1;
        let problem = match rule.repeat {
            Repeat::Last if warned => Problem { verdict: Verdict::Warning, remedy: None, ..refused },
            Repeat::Last => return,
            _ => refused,
        };
        self.found(rule, line, problem);
    }

    /// What is unknown is not repeated: it may be a key or password whose block lost its first line.
    fn unknown(&mut self, line: &Line<'_>, name: &Word, optional: bool) {
        let remedy = Some(Remedy::LeaveOut);
        let (verdict, reason, remedy) = if optional || self.passed_over.contains(&name.text) {
            let reason = "an unknown directive, which the profile itself calls dispensable";
            (Verdict::Dropped, reason.to_owned(), None)
        } else if let Some((at, c)) = (1..).zip(name.text.chars()).find(|(_, c)| !c.is_ascii()) {
            let reason = format!("an unknown directive: its letter {at} is U+{:04X}, which none has", u32::from(c));
            (Verdict::Refused, reason, remedy)
        } else if let Some(near) = table::nearest(&name.text.to_ascii_lowercase()) {
            (Verdict::Refused, format!("an unknown directive; the nearest is `{near}`"), remedy)
        } else {
            (Verdict::Refused, "an unknown directive".to_owned(), remedy)
        };
        let directive = String::new();
        self.report.add(Finding { line: line.number, column: name.column, directive, verdict, reason, remedy });
    }

    fn found(&mut self, rule: &Rule, line: &Line<'_>, problem: Problem) {
        let Problem { word, verdict, reason, remedy } = problem;
        let column = line.words.get(word).or(line.words.first()).map_or(0, |word| word.column);
        let directive = rule.name.to_owned();
        self.report.add(Finding { line: line.number, column, directive, verdict, reason, remedy });
    }

    /// Adds to the report what does not keep the line from being taken.
    pub fn note(&mut self, line: &Line<'_>, rule: &'static str, problem: Problem) {
        if let Some(rule) = table::find(rule) {
            self.found(rule, line, problem);
        }
    }

    /// Whether one of these stood there and was refused.
    pub fn was_refused(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.tried.contains(name))
    }

    /// A finding at the line where a directive stood.
    pub fn at(&mut self, name: &'static str, verdict: Verdict, reason: impl Into<String>, remedy: Option<Remedy>) {
        let line = self.seen.get(name).copied().unwrap_or(0);
        let (directive, reason) = (name.to_owned(), reason.into());
        self.report.add(Finding { line, column: u32::from(line > 0), directive, verdict, reason, remedy });
    }

    /// What a directive brings: its block, or the file that it names. `None`: it says `[inline]`, and the block comes by
    /// itself.
    pub fn content<'l>(&'l self, line: &'l Line<'_>) -> Result<Option<&'l [u8]>, Problem> {
        if let Some(block) = line.block {
            return Ok(Some(block.as_bytes()));
        }
        let Some(name) = line.words.get(1) else { return Ok(None) };
        if name.text == "[inline]" {
            return Ok(None);
        }
        match self.options.files.get(&name.text) {
            Some(file) => Ok(Some(file.expose())),
            None => Err(Problem {
                remedy: Some(Remedy::Give(name.text.clone())),
                ..Problem::refused(1, format!("needs file {}: give it beside the profile", shown(&name.text)))
            }),
        }
    }

    /// As [`Self::content`], of text.
    pub fn text<'l>(&'l self, line: &'l Line<'_>) -> Result<Option<&'l str>, Problem> {
        let not_text = |_| Problem::refused(0, "what it brings is no UTF-8 text");
        self.content(line)?.map(std::str::from_utf8).transpose().map_err(not_text)
    }
}

/// Whether a line says more than that a block, or a question, comes elsewhere.
fn brings(line: &Line<'_>) -> bool {
    let pointer = line.words.get(1).is_some_and(|word| word.text == "[inline]");
    let bare = line.words.len() == 1 && line.words.first().is_some_and(|word| word.text.ends_with("user-pass"));
    line.block.is_some() || !(pointer || bare)
}

/// The directive behind `setenv opt`.
fn smuggled<'a>(line: &Line<'a>) -> Option<Line<'a>> {
    let mut words = match line.words.as_slice() {
        [first, second, rest @ ..] if first.text == "setenv" && second.text == "opt" => rest.to_vec(),
        _ => return None,
    };
    let name = words.first_mut()?;
    if let Some(bare) = name.text.strip_prefix("--") {
        name.text = bare.to_owned();
    }
    Some(Line { number: line.number, words, block: line.block, inside: line.inside })
}

/// Too few or too many words, a block where none may be, or in `<connection>` what may not be there.
fn misplaced(rule: &Rule, line: &Line<'_>) -> Option<Problem> {
    let (fewest, most) = rule.words;
    let words = line.words.len().saturating_sub(1);
    if line.inside.is_some() && !rule.in_connection {
        Some(Problem::refused(0, "may not stand in <connection>; put it outside, where it holds for all"))
    } else if line.block.is_some() && (rule.form == Form::Line || words > 0) {
        Some(Problem::refused(0, "has no inline block"))
    } else if line.block.is_none() && words < fewest {
        Some(Problem::refused(0, format!("too little stands behind it: {fewest} words at least")))
    } else if line.block.is_none() && words > most {
        Some(Problem::refused(most + 1, format!("too much stands behind it: {most} words at most")))
    } else {
        None
    }
}
