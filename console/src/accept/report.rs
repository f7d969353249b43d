//! What an acceptance test found.

use crate::escape;
use crate::status::screen::{count, size};
use crate::time;
use crate::why::facts::Facts;
use crate::why::ladder::{Ladder, Rung, State};
use raven_model::diag::{MtuResult, PingResult, TraceResult};
use raven_model::units::UnixNanos;
use serde::Serialize;

/// The whole.
#[derive(Debug, Clone, Serialize)]
pub struct Acceptance {
    /// `site.name`.
    pub device: String,
    /// Version of `ravend`.
    pub version: String,
    /// Nothing failed.
    pub passed: bool,
    /// Checks by verdict.
    pub counts: Counts,
    /// When it began.
    pub began_ns: UnixNanos,
    /// When it ended.
    pub ended_ns: UnixNanos,
    /// What was looked at.
    pub sections: Vec<Section>,
    /// What was measured on the way to each destination.
    pub paths: Vec<Path>,
}

/// Checks by verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// [`Verdict::Pass`].
    pub pass: u32,
    /// [`Verdict::Look`].
    pub look: u32,
    /// [`Verdict::Fail`].
    pub fail: u32,
    /// [`Verdict::Untested`].
    pub untested: u32,
}

/// Checks that belong together.
#[derive(Debug, Clone, Serialize)]
pub struct Section {
    /// For programs.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// In their order.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which.
    pub name: String,
    /// Of what.
    pub subject: String,
    /// How it is.
    pub verdict: Verdict,
    /// What is known.
    pub evidence: Vec<String>,
    /// What to do.
    pub remedy: String,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// As it should be, and something about it should be looked at.
    Look,
    /// Not as it should be.
    Fail,
    /// It could not be looked at, or was not to be.
    Untested,
}

impl Verdict {
    /// In a word of four letters.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Look => "LOOK",
            Self::Fail => "FAIL",
            Self::Untested => "?   ",
        }
    }
}

/// The way to one end of a destination.
#[derive(Debug, Clone, Serialize)]
pub struct Path {
    /// Name of the destination.
    pub destination: String,
    /// Name or address.
    pub host: String,
    /// Pings, in the order in which they were sent: microseconds, or nothing where none came back.
    pub rtts_us: Vec<Option<u32>>,
    /// What became of them.
    pub ping: Option<PingResult>,
    /// The routers on the way.
    pub trace: Option<TraceResult>,
    /// How long packets may be.
    pub mtu: Option<MtuResult>,
}

impl Section {
    /// Of these.
    pub const fn new(name: &'static str, title: &'static str, checks: Vec<Check>) -> Self {
        Self { name, title, checks }
    }
}

impl Check {
    /// One thing.
    pub fn new(name: &str, subject: &str, verdict: Verdict, evidence: impl Into<String>, remedy: &str) -> Self {
        let (name, subject, remedy) = (name.to_owned(), subject.to_owned(), remedy.to_owned());
        Self { name, subject, verdict, evidence: vec![evidence.into()], remedy }
    }

    /// It could not be looked at.
    pub fn untested(name: &str, why: &str) -> Self {
        Self::new(name, "", Verdict::Untested, why, "")
    }
}

impl From<&Rung> for Check {
    fn from(rung: &Rung) -> Self {
        let verdict = match rung.state {
            State::Ok => Verdict::Pass,
            State::Warning => Verdict::Look,
            State::Broken => Verdict::Fail,
            State::Unknown => Verdict::Untested,
        };
        let (name, subject) = (rung.name.to_owned(), rung.subject.clone());
        Self { name, subject, verdict, evidence: rung.evidence.clone(), remedy: rung.remedy.clone() }
    }
}

impl Acceptance {
    /// Of what was found.
    pub fn new(
        facts: &Facts,
        began_ns: UnixNanos,
        ended_ns: UnixNanos,
        sections: Vec<Section>,
        paths: Vec<Path>,
    ) -> Self {
        let mut counts = Counts::default();
        for check in sections.iter().flat_map(|section| &section.checks) {
            *match check.verdict {
                Verdict::Pass => &mut counts.pass,
                Verdict::Look => &mut counts.look,
                Verdict::Fail => &mut counts.fail,
                Verdict::Untested => &mut counts.untested,
            } += 1;
        }
        Self {
            device: facts.then.device.clone(),
            version: facts.then.version.clone(),
            passed: counts.fail == 0,
            counts,
            began_ns,
            ended_ns,
            sections,
            paths,
        }
    }

    /// In a sentence.
    pub fn verdict(&self) -> String {
        let Counts { pass, look, fail, untested } = self.counts;
        let word = if self.passed { "PASSED" } else { "FAILED" };
        format!("{word}: {pass} passed, {look} to look at, {fail} failed, {untested} not tested")
    }
}

/// The ladder, in three parts.
pub fn of_ladder(ladder: &Ladder) -> Vec<Section> {
    const WAY: [&str; 4] = ["tunnel", "connection", "tls", "acknowledgement"];
    const WITHIN: [&str; 6] = ["listener", "receive", "stored", "decoded", "sender", "wire"];
    let part =
        |fits: &dyn Fn(&str) -> bool| ladder.rungs.iter().filter(|rung| fits(rung.name)).map(Check::from).collect();
    vec![
        Section::new(
            "network",
            "The box and its network",
            part(&|name| !WAY.contains(&name) && !WITHIN.contains(&name)),
        ),
        Section::new("destinations", "Tunnel and destinations", part(&|name| WAY.contains(&name))),
        Section::new("inputs", "What comes in", part(&|name| WITHIN.contains(&name))),
    ]
}

/// Whether the disk keeps as much as it should.
pub fn storage(facts: &Facts) -> Vec<Check> {
    let mut checks: Vec<Check> = facts
        .then
        .streams
        .iter()
        .map(|stream| {
            let kept = format!("{} records, {} of {}", count(stream.held), size(stream.bytes_disk), size(stream.quota));
            let wanted = raven_model::stream::Stream::named(&stream.name).map(|known| facts.config.buffer.keep(known));
            let short = stream.holds_s.zip(wanted).filter(|(holds, wanted)| *holds < wanted.as_secs());
            match short {
                Some((holds, wanted)) => {
                    let evidence =
                        format!("{kept}; at this rate it lasts {} h of {} h", holds / 3600, wanted.as_secs() / 3600);
                    Check::new(
                        "keep",
                        &stream.name,
                        Verdict::Look,
                        evidence,
                        "a larger disk, or a larger share (`buffer.streams`)",
                    )
                }
                None => Check::new("keep", &stream.name, Verdict::Pass, kept, ""),
            }
        })
        .collect();
    for disk in &facts.then.disks {
        let complaints = disk.complaints();
        let Some(worst) = complaints.first() else {
            let evidence =
                if disk.is_known() { "it says nothing bad of itself" } else { "it says nothing of its health" };
            checks.push(Check::new("disk", &disk.called(), Verdict::Pass, evidence, ""));
            continue;
        };
        checks.push(Check::new("disk", &disk.called(), Verdict::Look, worst.what.clone(), worst.remedy));
    }
    checks
}

/// For people.
pub fn lines(acceptance: &Acceptance) -> Vec<String> {
    let mut lines = vec![
        format!("Acceptance test of {}, Raven {}", escape::text(&acceptance.device), escape::text(&acceptance.version)),
        format!("from {} to {}", time::format(acceptance.began_ns, 0), time::format(acceptance.ended_ns, 0)),
        acceptance.verdict(),
    ];
    for section in &acceptance.sections {
        lines.extend([String::new(), section.title.to_owned()]);
        for check in &section.checks {
            let subject = if check.subject.is_empty() { String::new() } else { format!(" {}", check.subject) };
            let mut evidence = check.evidence.iter();
            let first = evidence.next().map(|text| format!(": {text}")).unwrap_or_default();
            lines.push(format!(
                "  {} {}",
                check.verdict.word(),
                escape::text(&format!("{}{subject}{first}", check.name))
            ));
            lines.extend(evidence.map(|text| format!("         {}", escape::text(text))));
            if !check.remedy.is_empty() {
                lines.push(format!("      -> {}", escape::text(&check.remedy)));
            }
        }
    }
    lines
}
