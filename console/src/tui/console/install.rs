//! Installation from the medium: to which disk, whether that is meant, how far it is, and the start from there.

use super::dialog::{Act, Dialog};
use crate::tui::appliance::Power;
use crate::tui::pages::Tab;
use crate::tui::question::{Answer, Question};
use raven_model::install::{Disk, Progress};
use raven_model::units::ByteCount;

/// A step.
#[derive(Debug, Clone)]
pub enum Step {
    /// Install, or run in memory? Asked also where a site's configuration is built in, which sets nothing on the disk.
    Begin,
    /// To which disk?
    Disks(Vec<Disk>),
    /// Everything on it is lost: its name is typed.
    Erase {
        /// Which.
        disk: Disk,
        /// What was wrong with what was typed.
        error: Option<String>,
    },
    /// It is being written.
    Writing(Progress),
}

impl Step {
    /// What is asked.
    pub fn question(&self) -> Question {
        match self {
            Self::Begin => Question::choice(
                "Raven runs from its medium",
                &["In memory: what it receives is gone when it is switched off."],
                &["Install it to a disk of this box", "Set it up in memory, to try it", "Look at it as it is"],
            ),
            Self::Disks(disks) => disks_question(disks),
            Self::Erase { disk, error } => {
                let text = [
                    format!("{}: everything on it will be lost.", shown(disk)),
                    holds(disk),
                    format!("Type {} to go on. Enter alone goes back.", disk.name),
                ];
                let text: Vec<&str> = text.iter().map(String::as_str).collect();
                Question::line("Is this the disk?", &text, "").with_error(error.clone())
            }
            Self::Writing(progress) => writing_question(progress),
        }
    }

    /// The step behind an answer.
    pub(super) fn answer(self, answer: &Answer, act: &mut Act) -> Option<Dialog> {
        let next = match (self, answer) {
            (Self::Begin, Answer::Option(0)) => act.disks()?,
            (Self::Begin, Answer::Option(1)) => {
                act.console.wizard(act.facts, act.appliance);
                return act.console.dialog.take();
            }
            (Self::Begin, Answer::Option(2)) => {
                act.console.show(Tab::Status);
                return None;
            }
            (Self::Begin, _) => return None,
            (Self::Disks(disks), Answer::Option(option)) => match usable(&disks).nth(*option) {
                Some(disk) => Self::Erase { disk: disk.clone(), error: None },
                None => Self::Begin,
            },
            (Self::Erase { disk, .. }, Answer::Line(typed)) if !typed.is_empty() => {
                match act.appliance.install(&disk.name, typed) {
                    Ok(()) => Self::Writing(Progress { disk: disk.name, ..Progress::default() }),
                    Err(failure) => Self::Erase { disk, error: Some(failure.to_string().replace('\n', "; ")) },
                }
            }
            (Self::Writing(progress), Answer::Option(0)) if progress.finished => {
                act.done(
                    |appliance| appliance.power(Power::Reboot),
                    "it starts anew: take the medium out when the screen is dark",
                );
                return None;
            }
            (Self::Disks(_) | Self::Erase { .. } | Self::Writing(Progress { failed: Some(_), .. }), _) => Self::Begin,
            (Self::Writing(_), _) => Self::Writing(act.appliance.installed().ok().flatten().unwrap_or_default()),
        };
        Some(Dialog::Install(next))
    }
}

fn usable(disks: &[Disk]) -> impl Iterator<Item = &Disk> {
    disks.iter().filter(|disk| disk.refused.is_none())
}

fn disks_question(disks: &[Disk]) -> Question {
    let mut options: Vec<String> =
        usable(disks).map(|disk| format!("{}: {}", shown(disk), holds(disk))).map(|text| cut(&text)).collect();
    options.push("Go back".to_owned());
    let other = disks.iter().filter_map(|disk| Some(format!("Not {}: {}.", shown(disk), disk.refused.as_ref()?)));
    let mut text: Vec<String> = other.collect();
    if options.len() == 1 {
        text.push("There is no disk that can be taken.".to_owned());
    }
    let text: Vec<&str> = text.iter().map(String::as_str).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Question::choice("Install to which disk?", &text, &options)
}

fn writing_question(progress: &Progress) -> Question {
    let Progress { disk, done, total, finished, failed } = progress;
    if *finished {
        let text = format!("Raven is on {disk}. Take the medium out when the screen is dark.");
        return Question::choice("Installed", &[&text], &["Start from the disk now"]);
    }
    if let Some(why) = failed {
        let text = format!("Nothing can be started from {disk}: {why}");
        return Question::choice("Not installed", &[&text], &["Go back"]);
    }
    let share = if *total == 0 { 0 } else { done * 100 / total };
    let text = format!("{share} % of {} written to {disk}", ByteCount(*total));
    Question::choice("Installing", &[&text], &["Show again"])
}

/// `vda, 4GiB, Example Disk`.
fn shown(disk: &Disk) -> String {
    let size = format!("{} GB", disk.bytes.div_ceil(1_000_000_000));
    let parts = [disk.name.as_str(), &size, &disk.model, if disk.usb { "USB" } else { "" }];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn holds(disk: &Disk) -> String {
    if disk.holds.is_empty() { "nothing known is on it".to_owned() } else { format!("holds {}", disk.holds.join("; ")) }
}

/// An option fits a line of the smallest screen.
fn cut(text: &str) -> String {
    if text.chars().count() <= 100 { text.to_owned() } else { text.chars().take(97).chain("...".chars()).collect() }
}
