//! What can be asked in front of a page, and what each answer does.

use super::{Console, View};
use crate::failure::Failure;
use crate::tui::appliance::{Appliance, Power};
use crate::tui::facts::Facts;
use crate::tui::pages::{Tab, Tone};
use crate::tui::question::{Answer, Question};
use crate::tui::testing::form::{self, Form};
use crate::tui::wizard::answers::Secret;
use crate::tui::wizard::{Progress, Wizard, check};
use std::time::{Duration, Instant};

/// New settings are taken back after so many seconds.
pub const CONFIRM_S: u64 = 60;

/// A question, and what belongs to it.
#[derive(Debug)]
pub enum Dialog {
    /// The administrator's password.
    Login {
        /// What was wrong with the last one.
        error: Option<String>,
    },
    /// Setting up.
    Wizard(Box<Wizard>),
    /// New settings are in force: are they well?
    Keep {
        /// Then they are taken back.
        until: Instant,
        /// The version from before.
        before: Option<u32>,
        /// To be set when they are.
        password: Secret,
    },
    /// What can be done.
    Actions(Offer),
    /// Take the configuration of the stick, really?
    Stick,
    /// A new password, and the same again.
    Password {
        /// The first of the two.
        first: Option<Secret>,
        /// What was wrong.
        error: Option<String>,
    },
    /// Reboot or off, really?
    Sure(Power),
    /// Everything is discarded: the box's name is typed.
    Reset {
        /// It.
        name: String,
        /// What was wrong with what was typed.
        error: Option<String>,
    },
    /// Installing from the medium.
    Install(super::install::Step),
    /// What is to be tested.
    Test(Box<Form>),
}

/// What this box has beside what every one has.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// It is a box of Raven's own: the power can be switched, all can be discarded.
    pub power: bool,
    /// A USB stick has a configuration.
    pub stick: bool,
}

/// What can be done, in the menu's order.
#[derive(Debug, Clone, Copy)]
enum Action {
    Back,
    SetUp,
    Password,
    Stick,
    Support,
    Power(Power),
    Reset,
    LogOut,
}

const ACTIONS: [(Action, &str); 9] = [
    (Action::Back, "Back"),
    (Action::SetUp, "Set up: name, network, uplink, accounts"),
    (Action::Password, "Change the administrator's password"),
    (Action::Stick, "Take the configuration of the USB stick"),
    (Action::LogOut, "Log out"),
    (Action::Power(Power::Reboot), "Reboot"),
    (Action::Power(Power::Off), "Power off"),
    (Action::Support, "Support bundle onto a USB stick, without secrets"),
    (Action::Reset, "Factory reset: discard everything that this box keeps"),
];

/// Those that this box has.
fn offered(offer: Offer) -> impl Iterator<Item = (Action, &'static str)> {
    ACTIONS.into_iter().filter(move |(action, _)| match action {
        Action::Stick => offer.stick,
        Action::Power(_) | Action::Support | Action::Reset => offer.power,
        Action::Back | Action::SetUp | Action::Password | Action::LogOut => true,
    })
}

/// What an answer may touch.
pub(super) struct Act<'a> {
    pub console: &'a mut Console,
    pub facts: &'a Facts,
    pub appliance: &'a mut dyn Appliance,
    pub now: Instant,
}

impl Dialog {
    /// What is asked.
    pub fn question(&self, now: Instant) -> Question {
        match self {
            Self::Login { error } => {
                let text = "The administrator's password; it is not shown.";
                Question::secret("Log in", &[text]).with_error(error.clone())
            }
            Self::Wizard(wizard) => wizard.question(),
            Self::Test(form) => form.question(),
            Self::Keep { until, .. } => {
                let left = until.saturating_duration_since(now).as_secs();
                let text = [
                    "The new settings are in force. Without an answer those from before come back by themselves."
                        .to_owned(),
                    format!("Keep these settings? {left} s"),
                ];
                let text: Vec<&str> = text.iter().map(String::as_str).collect();
                Question::choice("Keep these settings?", &text, &["Keep them", "Take them back now"])
            }
            Self::Actions(offer) => {
                let words: Vec<&str> = offered(*offer).map(|(_, words)| words).collect();
                Question::choice("What is to be done?", &[], &words)
            }
            Self::Password { first, error } => {
                let title = if first.is_some() { "The new password again" } else { "New administrator's password" };
                let text = "At least 8 characters; it is not shown. Enter alone leaves the old one.";
                Question::secret(title, &[text]).with_error(error.clone())
            }
            Self::Install(step) => step.question(),
            Self::Reset { name, error } => {
                let text = [
                    "Configuration, records, passwords and keys are discarded, and cannot be had back. Then the box starts \
                     anew, as on its first day."
                        .to_owned(),
                    format!("Type {name} to go on. Enter alone goes back."),
                ];
                let text: Vec<&str> = text.iter().map(String::as_str).collect();
                Question::line("Factory reset", &text, "").with_error(error.clone())
            }
            Self::Stick => Question::choice(
                "Are you sure?",
                &["It takes the place of this box's configuration, and has to be kept within 60 s."],
                &["No, go back", "Take the configuration of the USB stick"],
            ),
            Self::Sure(power) => {
                let words = match power {
                    Power::Reboot => "Reboot: nothing is received for a minute or two",
                    Power::Off => "Power off: nothing is received until somebody switches it on",
                };
                Question::choice("Are you sure?", &[], &["No, go back", words])
            }
        }
    }

    /// The dialog behind an answer.
    pub(super) fn answer(self, answer: &Answer, act: &mut Act) -> Option<Self> {
        match (self, answer) {
            (Self::Wizard(wizard), answer) => set_up(wizard, answer, act),
            (Self::Install(step), answer) => step.answer(answer, act),
            (Self::Test(form), answer) => test(form, answer, act),
            (Self::Keep { until, before, password }, answer) => keep(until, before, password, answer, act),
            (Self::Login { .. }, Answer::Line(line)) => act.log_in(line),
            (Self::Actions(offer), Answer::Option(option)) => act.begin(offered(offer).nth(*option)?.0),
            (Self::Stick, Answer::Option(1)) => act.stick(),
            (Self::Password { first, .. }, Answer::Line(line)) => act.password(first, line),
            (Self::Sure(power), Answer::Option(1)) => {
                act.done(|appliance| appliance.power(power), "it goes down now");
                None
            }
            (Self::Reset { name, .. }, Answer::Line(typed)) if !typed.is_empty() => act.reset(name, typed),
            // The way back.
            (
                Self::Login { .. }
                | Self::Password { .. }
                | Self::Actions(_)
                | Self::Stick
                | Self::Sure(_)
                | Self::Reset { .. },
                _,
            ) => None,
        }
    }
}

impl Act<'_> {
    /// Tells what came of it; whether it worked.
    pub(super) fn done(&mut self, act: impl FnOnce(&mut dyn Appliance) -> Result<(), Failure>, words: &str) -> bool {
        match act(self.appliance) {
            Ok(()) => self.console.tell(Tone::Good, words),
            Err(failure) => {
                self.console.fail(&failure);
                return false;
            }
        }
        true
    }

    /// The disks of the box; without them there is a notice.
    pub(super) fn disks(&mut self) -> Option<super::install::Step> {
        match self.appliance.disks() {
            Ok(disks) => Some(super::install::Step::Disks(disks)),
            Err(failure) => {
                self.console.fail(&failure);
                None
            }
        }
    }

    fn log_in(&mut self, password: &str) -> Option<Dialog> {
        match self.appliance.log_in(password) {
            Ok(()) => {
                self.console.show(Tab::Status);
                None
            }
            Err(failure) => Some(Dialog::Login { error: Some(failure.to_string().replace('\n', "; ")) }),
        }
    }

    fn begin(&mut self, action: Action) -> Option<Dialog> {
        match action {
            Action::Back => None,
            Action::SetUp => {
                self.console.wizard(self.facts, self.appliance);
                self.console.dialog.take()
            }
            Action::Password => Some(Dialog::Password { first: None, error: None }),
            Action::Stick => Some(Dialog::Stick),
            Action::Support => {
                match self.appliance.support() {
                    Ok(said) => self.console.tell(Tone::Good, &said),
                    Err(failure) => self.console.fail(&failure),
                }
                None
            }
            Action::Power(power) => Some(Dialog::Sure(power)),
            Action::Reset => Some(Dialog::Reset { name: self.facts.name().to_owned(), error: None }),
            Action::LogOut => {
                self.console.log_out(self.appliance);
                None
            }
        }
    }

    fn stick(&mut self) -> Option<Dialog> {
        let before = self.in_force();
        match self.appliance.take_stick(Some(CONFIRM_S)) {
            Ok(_) => Some(self.kept(before, Secret(String::new()))),
            Err(failure) => {
                self.console.fail(&failure);
                None
            }
        }
    }

    /// The version that is in force.
    fn in_force(&mut self) -> Option<u32> {
        let history = self.appliance.history().unwrap_or_default();
        history.iter().find(|version| version.current).map(|version| version.number)
    }

    /// Asks whether what was just put is kept. The time that ravend waits began with its answer, or a little before.
    fn kept(&self, before: Option<u32>, password: Secret) -> Dialog {
        Dialog::Keep { until: self.now + Duration::from_secs(CONFIRM_S), before, password }
    }

    fn reset(&mut self, name: String, typed: &str) -> Option<Dialog> {
        match self.appliance.factory_reset(typed) {
            Ok(()) => {
                self.console.tell(Tone::Warn, "everything is discarded: it starts anew now");
                None
            }
            Err(failure) => Some(Dialog::Reset { name, error: Some(failure.to_string().replace('\n', "; ")) }),
        }
    }

    fn password(&mut self, first: Option<Secret>, line: &str) -> Option<Dialog> {
        let error = |error: String| Some(Dialog::Password { first: None, error: Some(error) });
        match first {
            None if line.is_empty() => None,
            None => match check::password(line) {
                Ok(password) => Some(Dialog::Password { first: Some(Secret(password)), error: None }),
                Err(why) => error(why),
            },
            Some(Secret(first)) if first == line => {
                self.done(|appliance| appliance.set_password(line), "the password is changed");
                None
            }
            Some(_) => error("the two were not the same; once more".to_owned()),
        }
    }
}

fn set_up(mut wizard: Box<Wizard>, answer: &Answer, act: &mut Act) -> Option<Dialog> {
    let (text, password) = match wizard.answer(answer) {
        Progress::Asking => return Some(Dialog::Wizard(wizard)),
        Progress::Left => return None,
        Progress::Apply { text, password } => (text, password),
    };
    let before = act.in_force();
    match act.appliance.put(&text, Some(CONFIRM_S)) {
        Ok(_) => Some(act.kept(before, password)),
        Err(failure) => {
            wizard.refused(&failure.to_string().replace('\n', "; "));
            Some(Dialog::Wizard(wizard))
        }
    }
}

fn test(mut form: Box<Form>, answer: &Answer, act: &mut Act) -> Option<Dialog> {
    match form.answer(answer) {
        form::Progress::Asking => Some(Dialog::Test(form)),
        form::Progress::Left => None,
        form::Progress::Begin(test) => {
            let running = act.appliance.test(&test);
            act.console.scroll = 0;
            act.console.testing.begin(test, running);
            None
        }
    }
}

fn keep(until: Instant, before: Option<u32>, password: Secret, answer: &Answer, act: &mut Act) -> Option<Dialog> {
    match answer {
        Answer::Option(0) => {
            let kept = act.done(|appliance| appliance.confirm(), "the settings are kept");
            if kept && !password.0.is_empty() {
                set_first_password(&password, act);
            }
            if act.console.look(act.appliance) && kept && act.console.view == View::Front {
                act.console.show(Tab::Status);
            }
            None
        }
        Answer::Option(1) => {
            if let Some(number) = before {
                act.done(|appliance| appliance.revert(number), "the settings from before are in force again");
            } else {
                act.console.tell(Tone::Warn, "the settings from before come back by themselves");
            }
            act.console.look(act.appliance);
            None
        }
        // There is no way back but one of the two.
        _ => Some(Dialog::Keep { until, before, password }),
    }
}

/// With a password the box asks for it: whoever has just set it need not type it once more.
fn set_first_password(password: &Secret, act: &mut Act) {
    if act.done(|appliance| appliance.set_password(&password.0), "the settings are kept and the password is set") {
        let _ = act.appliance.log_in(&password.0);
    }
}
