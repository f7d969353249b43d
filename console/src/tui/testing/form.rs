//! The questions before a test: which, of whom, by which way, and the few that matter besides. Each has an answer that
//! Enter takes. A state machine that knows no terminal, as the wizard is.

use super::around::{Around, Suggestion};
use super::order::{Field, Flow, Kind, Order};
use crate::tui::question::{Answer, Question};
use raven_model::diag::Test;
use raven_model::diag::services::RecordType;

/// Most targets of pings: a table that can be read.
const TARGETS: usize = 64;
/// Longest target that is taken.
const LONGEST: usize = 1000;

/// One of the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Which,
    Target,
    Server,
    Ask(Field),
}

/// The questions of a kind of test, in their order.
const fn steps(kind: Kind) -> &'static [Step] {
    match kind {
        Kind::Ping => &[Step::Which, Step::Target, Step::Ask(Field::Way), Step::Ask(Field::Count)],
        Kind::Trace => &[Step::Which, Step::Target, Step::Ask(Field::Way), Step::Ask(Field::Method)],
        Kind::Dns => &[Step::Which, Step::Target, Step::Server, Step::Ask(Field::Record), Step::Ask(Field::Way)],
        Kind::Bandwidth => {
            &[Step::Which, Step::Target, Step::Ask(Field::Way), Step::Ask(Field::Flow), Step::Ask(Field::Seconds)]
        }
        Kind::Mtu | Kind::Tcp | Kind::Tls | Kind::Http | Kind::Ntp => {
            &[Step::Which, Step::Target, Step::Ask(Field::Way)]
        }
    }
}

/// What an answer led to.
pub enum Progress {
    /// The next question, or the same with an error.
    Asking,
    /// Nothing is to be tested.
    Left,
    /// This is.
    Begin(Test),
}

/// See the top.
#[derive(Debug)]
pub struct Form {
    around: Around,
    order: Order,
    /// Which of [`steps`].
    at: usize,
    /// None of those that were offered: it is typed.
    is_typed: bool,
    error: Option<String>,
}

impl Form {
    /// At the first question.
    pub fn new(around: Around) -> Self {
        Self { around, order: Order::default(), at: 0, is_typed: false, error: None }
    }

    fn step(&self) -> Step {
        steps(self.order.kind).get(self.at).copied().unwrap_or(Step::Which)
    }

    /// What is asked.
    pub fn question(&self) -> Question {
        let kind = self.order.kind;
        let choice = |title: &str, text: &[&str], options: Vec<String>| {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            Question::choice(title, text, &options)
        };
        let question = match self.step() {
            Step::Which => {
                let hint = self.around.hint();
                choice(
                    "Which test?",
                    &hint,
                    Kind::ALL.map(|kind| format!("{:<10} {}", kind.name(), kind.words())).to_vec(),
                )
            }
            Step::Target if self.is_typing() => {
                let preset = self.around.suggestions(kind).first().map(|it| it.target.clone()).unwrap_or_default();
                Question::line(kind.asks(), &[kind.typed()], &preset)
            }
            Step::Target => choice(kind.asks(), &[], self.targets()),
            Step::Server if self.is_typing() => {
                Question::line("Which name server?", &["An address, `:PORT` behind it where it is not 53."], "")
            }
            Step::Server => choice("Which name server?", &[], self.servers()),
            Step::Ask(Field::Way) => {
                choice("By which way?", &[], self.around.ways().into_iter().map(|(words, _)| words).collect())
                    .preferring(self.preferred_way())
            }
            Step::Ask(Field::Count) => {
                Question::line("How many pings to each?", &["One a second; 0: until it is stopped."], "10")
            }
            Step::Ask(Field::Method) => choice(
                "What is sent?",
                &[],
                [
                    "UDP datagrams",
                    "Echo requests (ICMP)",
                    "UDP by 16 flows: shows several ways",
                    "TCP to port 443: what firewalls let through",
                ]
                .map(str::to_owned)
                .to_vec(),
            ),
            Step::Ask(Field::Record) => {
                choice("Which record?", &[], RecordType::ALL.map(|(_, _, name)| name.to_owned()).to_vec())
            }
            Step::Ask(Field::Flow) => {
                choice("What is measured?", &[], Flow::ALL.map(|flow| flow.words().to_owned()).to_vec())
            }
            Step::Ask(Field::Seconds) => Question::line("For how many seconds?", &["1 to 3600."], "10"),
        };
        question.with_error(self.error.clone())
    }

    /// Typed because it was asked for, or because there is nothing to choose from.
    fn is_typing(&self) -> bool {
        self.is_typed
            || match self.step() {
                Step::Target => self.around.suggestions(self.order.kind).is_empty(),
                _ => false,
            }
    }

    /// Pings can go to all of them.
    fn has_all(&self) -> bool {
        self.order.kind == Kind::Ping && self.around.suggestions(Kind::Ping).len() > 1
    }

    fn targets(&self) -> Vec<String> {
        let all = self.has_all().then(|| "All of these at once".to_owned());
        let words = |it: Suggestion| crate::escape::text(&format!("{}  ({})", it.target, it.why));
        let each = self.around.suggestions(self.order.kind).into_iter().map(words);
        all.into_iter().chain(each).chain(["Another one: type it".to_owned()]).collect()
    }

    fn servers(&self) -> Vec<String> {
        let own = std::iter::once("Those of this box".to_owned());
        own.chain(self.around.dns.iter().map(|dns| crate::escape::text(dns)))
            .chain(["Another one: type it".to_owned()])
            .collect()
    }

    /// Through a tunnel to what is at its far end.
    fn preferred_way(&self) -> usize {
        let target = self.order.targets.first();
        let tunnel = self.around.tunnels.iter().find(|tunnel| tunnel.far.as_ref() == target && target.is_some());
        let device = tunnel.map(|tunnel| tunnel.device.as_str());
        self.around.ways().iter().position(|(_, name)| name.is_some() && name.as_deref() == device).unwrap_or(0)
    }

    /// Takes an answer to it.
    pub fn answer(&mut self, answer: &Answer) -> Progress {
        self.error = None;
        let taken = match (self.step(), answer) {
            (_, Answer::Back) => return self.back(),
            (Step::Which, Answer::Option(at)) => {
                self.order = Order::of(Kind::ALL.get(*at).copied().unwrap_or_default());
                Ok(true)
            }
            (Step::Target, Answer::Option(at)) => Ok(self.chosen(*at)),
            (Step::Target, Answer::Line(line)) => self.typed(line),
            (Step::Server, Answer::Option(0)) => {
                self.order.server = None;
                Ok(true)
            }
            (Step::Server, Answer::Option(at)) => {
                self.order.server = self.around.dns.get(at - 1).cloned();
                self.is_typed = self.order.server.is_none();
                Ok(!self.is_typed)
            }
            (Step::Server, Answer::Line(line)) => {
                self.order.server = Some(line.clone()).filter(|line| !line.is_empty());
                Ok(true)
            }
            (Step::Ask(field), answer) => self.order.take(answer, field, &self.around),
            (Step::Which, Answer::Line(_)) => Ok(false),
        };
        match taken {
            Ok(true) => self.next(),
            Ok(false) => Progress::Asking,
            Err(why) => {
                self.error = Some(why);
                Progress::Asking
            }
        }
    }

    /// An option among the targets; false: it is to be typed.
    fn chosen(&mut self, at: usize) -> bool {
        let all: Vec<String> = self.around.suggestions(self.order.kind).into_iter().map(|it| it.target).collect();
        let shift = usize::from(self.has_all());
        self.order.targets = match at.checked_sub(shift) {
            None => all,
            Some(at) => all.get(at).cloned().into_iter().collect(),
        };
        self.is_typed = self.order.targets.is_empty();
        !self.is_typed
    }

    fn typed(&mut self, line: &str) -> Result<bool, String> {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if self.order.kind != Kind::Ping && words.len() > 1 {
            return Err("one at a time".to_owned());
        }
        words.dedup();
        if words.is_empty() || words.len() > TARGETS || line.len() > LONGEST {
            return Err(format!("{}; at most {TARGETS}", self.order.kind.typed()));
        }
        self.order.targets = words;
        self.order.check().map(|()| true)
    }

    fn next(&mut self) -> Progress {
        (self.at, self.is_typed) = (self.at + 1, false);
        // There is one way to this box itself, and where there is no interface.
        if self.step() == Step::Ask(Field::Way) && self.at > 0 && (self.order.is_own() || self.around.ways().len() < 2)
        {
            self.at += 1;
        }
        if self.at < steps(self.order.kind).len() {
            return Progress::Asking;
        }
        match self.order.test() {
            Ok(test) => Progress::Begin(test),
            Err(why) => {
                (self.at, self.is_typed, self.error) = (1, true, Some(why));
                Progress::Asking
            }
        }
    }

    fn back(&mut self) -> Progress {
        if std::mem::take(&mut self.is_typed) {
            return Progress::Asking;
        }
        let Some(before) = self.at.checked_sub(1) else { return Progress::Left };
        self.at = before;
        if self.step() == Step::Ask(Field::Way) && (self.order.is_own() || self.around.ways().len() < 2) {
            self.at = self.at.saturating_sub(1);
        }
        Progress::Asking
    }
}
