//! Setting the box up: one question after the other, each with an answer that Enter takes. A state machine that knows no
//! terminal: the full screen and the plain dialog drive the same.

pub mod answers;
pub mod check;

use super::facts::Link;
use super::question::Answer;
use answers::{Answers, Method, Network, Secret, UPLINK};

/// What the wizard knows before the first question.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Interfaces.
    pub links: Vec<Link>,
    /// Time zones that the box knows; empty when it has no list.
    pub zones: Vec<String>,
    /// The configuration as it is written.
    pub text: String,
}

/// The questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All or only the review.
    Begin,
    /// Host name.
    Name,
    /// Time zone.
    Zone,
    /// Which interface.
    Link,
    /// DHCP or not.
    Method,
    /// Static IPv4.
    Address4,
    /// Its gateway.
    Gateway4,
    /// Static IPv6.
    Address6,
    /// Its gateway.
    Gateway6,
    /// VLAN.
    Vlan,
    /// Name servers.
    Dns,
    /// Time servers.
    Ntp,
    /// Kind of a destination.
    Uplink,
    /// Where it is.
    UplinkTo,
    /// Administrator's password.
    Password,
    /// The same again.
    Again,
    /// SSH key.
    Key,
    /// All answers.
    Review,
}

/// What comes of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The next question, or the same with an error.
    Asking,
    /// Put this configuration into force, then set the password if there is one.
    Apply {
        /// The whole text.
        text: String,
        /// Empty for none.
        password: Secret,
    },
    /// Nothing is to be changed.
    Left,
}

/// Kinds of destinations that are offered, and how each is addressed.
const UPLINKS: [(&str, &str, &str); 6] = [
    ("relp", "RELP to rsyslog (acknowledged)", "host:port, such as noc.example.org:2514"),
    ("http", "HTTP, lines of JSON (acknowledged)", "a URL, such as https://noc.example.org/in"),
    ("otlp", "OpenTelemetry logs (acknowledged)", "a URL, such as https://noc.example.org:4318/v1/logs"),
    ("nats", "NATS JetStream (acknowledged)", "host:port, such as noc.example.org:4222"),
    ("syslog", "syslog over TCP (not acknowledged)", "host:port, such as noc.example.org:601"),
    ("udp", "datagrams as they came (not acknowledged)", "host:port, such as noc.example.org:514"),
];

/// The wizard.
#[derive(Debug, Clone)]
pub struct Wizard {
    around: Surroundings,
    answers: Answers,
    at: Step,
    before: Vec<Step>,
    /// A single answer is being changed: the review comes next.
    is_fixing: bool,
    error: Option<String>,
}

impl Wizard {
    /// At the first question.
    pub fn new(around: Surroundings) -> Self {
        let mut answers = Answers::from_text(&around.text);
        if answers.name.is_empty() {
            "raven".clone_into(&mut answers.name);
        }
        let first = first_link(&around.links);
        if let Some(link) = around.links.get(first) {
            answers.take_link(&link.name, &around.text);
        }
        Self { around, answers, at: Step::Begin, before: Vec::new(), is_fixing: false, error: None }
    }

    /// Where it is.
    pub const fn step(&self) -> Step {
        self.at
    }

    /// What was answered so far.
    pub const fn answers(&self) -> &Answers {
        &self.answers
    }

    /// The configuration was refused: shown at the review.
    pub fn refused(&mut self, why: &str) {
        self.at = Step::Review;
        self.error = Some(why.to_owned());
    }

    /// Takes an answer to [`Wizard::question`].
    pub fn answer(&mut self, answer: &Answer) -> Progress {
        self.error = None;
        if *answer == Answer::Back {
            return self.back();
        }
        match self.take(answer) {
            Ok(Taken::Next) => self.go(self.next()),
            Ok(Taken::To(step)) => self.go(step),
            Ok(Taken::Apply) => return self.apply(),
            Ok(Taken::Leave) => return Progress::Left,
            Err(why) => self.error = Some(why),
        }
        Progress::Asking
    }

    fn back(&mut self) -> Progress {
        self.is_fixing = false;
        match self.before.pop() {
            Some(step) => self.at = step,
            None => return Progress::Left,
        }
        Progress::Asking
    }

    fn go(&mut self, to: Step) {
        self.before.push(self.at);
        self.at = to;
        if to == Step::Review {
            self.is_fixing = false;
        }
    }

    fn apply(&mut self) -> Progress {
        match self.answers.apply(&self.around.text) {
            Ok(text) => Progress::Apply { text, password: self.answers.password.clone() },
            Err(why) => {
                self.error = Some(why);
                Progress::Asking
            }
        }
    }

    /// The step behind this one. While one answer is changed, what hangs on it is asked too, and then the review.
    fn next(&self) -> Step {
        let is_static = self.answers.network.method == Method::Static;
        let has = |is_v6: bool| self.answers.network.addresses.iter().any(|address| address.contains(':') == is_v6);
        let (next, is_part) = match self.at {
            Step::Begin => (Step::Name, false),
            Step::Name => (Step::Zone, false),
            Step::Zone => (Step::Link, false),
            Step::Link if self.around.links.is_empty() => (Step::Uplink, false),
            Step::Link => (Step::Method, true),
            Step::Method if is_static => (Step::Address4, true),
            Step::Address4 if has(false) => (Step::Gateway4, true),
            Step::Address4 | Step::Gateway4 => (Step::Address6, true),
            Step::Address6 if has(true) => (Step::Gateway6, true),
            Step::Method | Step::Address6 | Step::Gateway6 => (Step::Vlan, true),
            // DHCP brings name and time servers; at the review they can be given all the same.
            Step::Vlan if is_static => (Step::Dns, true),
            Step::Dns => (Step::Ntp, is_static && !self.is_fixing),
            Step::Vlan | Step::Ntp => (Step::Uplink, false),
            Step::Uplink if self.answers.uplink.is_some() => (Step::UplinkTo, true),
            Step::Uplink | Step::UplinkTo => (Step::Password, false),
            Step::Password if !self.answers.password.0.is_empty() => (Step::Again, true),
            Step::Password | Step::Again => (Step::Key, false),
            Step::Key | Step::Review => (Step::Review, false),
        };
        if self.is_fixing && !is_part { Step::Review } else { next }
    }

    fn take(&mut self, answer: &Answer) -> Result<Taken, String> {
        match answer {
            Answer::Option(option) => self.take_option(*option),
            Answer::Line(line) => self.take_line(line),
            Answer::Back => Ok(Taken::Next),
        }
    }

    fn take_option(&mut self, option: usize) -> Result<Taken, String> {
        match self.at {
            Step::Begin => return Ok(if option == 0 { Taken::Next } else { Taken::To(Step::Review) }),
            Step::Link => {
                let Some(link) = self.around.links.get(option) else { return Ok(Taken::Next) };
                if link.name != self.answers.link {
                    self.answers.take_link(&link.name, &self.around.text);
                }
            }
            Step::Method => {
                self.answers.network.method = *Method::ALL.get(option).ok_or("there is no such way")?;
                if self.answers.network.method != Method::Static {
                    self.answers.network.addresses.clear();
                    self.answers.network.gateways.clear();
                }
            }
            Step::Uplink => {
                let kind = option.checked_sub(1).and_then(|option| UPLINKS.get(option)).map(|(kind, ..)| *kind);
                self.answers.uplink = kind.map(|kind| (kind, String::new()));
            }
            Step::Review => return Ok(self.reviewed(option)),
            _ => return Err("a line was expected".to_owned()),
        }
        Ok(Taken::Next)
    }

    fn reviewed(&mut self, option: usize) -> Taken {
        let items = self.items();
        match option.checked_sub(1) {
            None => Taken::Apply,
            Some(item) => items.get(item).map_or(Taken::Leave, |(step, _)| {
                self.is_fixing = true;
                Taken::To(*step)
            }),
        }
    }

    fn take_line(&mut self, line: &str) -> Result<Taken, String> {
        let answers = &mut self.answers;
        match self.at {
            Step::Name => answers.name = check::name(line)?,
            Step::Zone => answers.timezone = check::timezone(line, &self.around.zones)?,
            Step::Address4 => answers.network.set_address(false, check::address(line, false)?),
            Step::Address6 => {
                let address = check::address(line, true)?;
                if address.is_none() && answers.network.address(false).is_none() {
                    return Err("an IPv4 or an IPv6 address is needed; `<` goes back".to_owned());
                }
                answers.network.set_address(true, address);
            }
            Step::Gateway4 => answers.network.set_gateway(false, line)?,
            Step::Gateway6 => answers.network.set_gateway(true, line)?,
            Step::Vlan => answers.network.vlan = check::vlan(line)?,
            Step::Dns => answers.dns = check::addresses(line)?,
            Step::Ntp => answers.ntp = check::hosts(line)?,
            Step::UplinkTo => {
                if let Some((kind, to)) = &mut answers.uplink {
                    *to = check::uplink(kind, line)?;
                }
            }
            Step::Password => answers.password = Secret(check::password(line)?),
            Step::Again if line != answers.password.0 => {
                answers.password = Secret::default();
                self.before.pop();
                self.at = Step::Password;
                return Err("the two were not the same; once more".to_owned());
            }
            Step::Again => {}
            Step::Key => answers.ssh_key = check::ssh_key(line)?,
            _ => return Err("a number was expected".to_owned()),
        }
        Ok(Taken::Next)
    }
}

/// What an answer led to.
enum Taken {
    Next,
    To(Step),
    Apply,
    Leave,
}

/// The first that has a cable in it, else the first.
fn first_link(links: &[Link]) -> usize {
    links.iter().position(|link| link.carrier == Some(true)).unwrap_or(0)
}

impl Network {
    fn address(&self, is_v6: bool) -> Option<&String> {
        self.addresses.iter().find(|address| address.contains(':') == is_v6)
    }

    /// IPv4 stands before IPv6. A gateway goes with its address.
    fn set_address(&mut self, is_v6: bool, address: Option<String>) {
        if self.address(is_v6) != address.as_ref() {
            self.gateways.retain(|gateway| gateway.contains(':') != is_v6);
        }
        self.addresses.retain(|address| address.contains(':') != is_v6);
        self.addresses.extend(address);
        self.addresses.sort_by_key(|address| address.contains(':'));
    }

    fn set_gateway(&mut self, is_v6: bool, line: &str) -> Result<(), String> {
        let own = self.address(is_v6).cloned().unwrap_or_default();
        let gateway = check::gateway(line, &own)?;
        self.gateways.retain(|gateway| gateway.contains(':') != is_v6);
        self.gateways.extend(gateway);
        self.gateways.sort_by_key(|gateway| gateway.contains(':'));
        Ok(())
    }
}

mod ask;

#[cfg(test)]
mod tests;
