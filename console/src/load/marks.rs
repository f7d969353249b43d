//! The mark in every generated record that holds text, and the summary of a run that says which marks were sent.

use super::answers::AnswerSummary;
use serde::{Deserialize, Serialize};

/// Before every mark.
pub const PREFIX: &str = "raven-mark=";

/// `raven-mark=RUN/SENDER/N`: N counts from 0 without a hole, per sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark<'a> {
    /// Which run.
    pub run: &'a [u8],
    /// Which of its senders.
    pub sender: u32,
    /// Which of its messages.
    pub n: u64,
}

impl<'a> Mark<'a> {
    /// The first mark in a line.
    pub fn find(line: &'a [u8]) -> Option<Self> {
        let at = memchr::memmem::find(line, PREFIX.as_bytes())?;
        let rest = &line[at + PREFIX.len()..];
        let run_len = rest.iter().position(|b| !is_run_byte(*b)).unwrap_or(rest.len());
        let (run, rest) = rest.split_at(run_len);
        let (sender, rest) = number(rest.strip_prefix(b"/")?)?;
        let (n, _) = number(rest.strip_prefix(b"/")?)?;
        Some(Self { run, sender: u32::try_from(sender).ok()?, n })
    }
}

/// The number at the start of `bytes`, and what follows it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let len = bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len());
    let (digits, rest) = bytes.split_at(len);
    let value =
        digits.iter().try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    value.filter(|_| !digits.is_empty()).map(|value| (value, rest))
}

const fn is_run_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// For clap: a run's name is at most 40 letters, digits, `-`, `_` or `.`.
pub fn read_run(text: &str) -> Result<String, String> {
    let fine = (1..=40).contains(&text.len()) && text.bytes().all(is_run_byte);
    if fine { Ok(text.to_owned()) } else { Err("expected 1 to 40 letters, digits, `-`, `_` or `.`".to_owned()) }
}

/// What a run sent: what `raven gen` prints and `raven audit --marks` reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Name of the run.
    pub mark: String,
    /// Of what.
    #[serde(default)]
    pub kind: Kind,
    /// Target.
    pub to: String,
    /// `udp`, `tcp`, …
    pub proto: String,
    /// Records: messages, flows, samples, traps, events.
    pub sent: u64,
    /// Bytes of them: of syslog without framing, of all else with every header of the protocol.
    pub bytes: u64,
    /// From first to last.
    pub seconds: f64,
    /// Records per second reached.
    pub rate: f64,
    /// CPU seconds of the generator.
    pub cpu_s: f64,
    /// Times the kernel said that nobody listens (UDP); what was sent then reached nobody.
    #[serde(default)]
    pub refused: u64,
    /// Records per sender: marks 0 to count - 1.
    pub senders: Vec<MarkCount>,
    /// What the receiver answered, where the protocol answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<AnswerSummary>,
}

/// What a run consists of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Messages.
    #[default]
    Syslog,
    /// Flow records, of version 5 or 9.
    Netflow,
    /// Flow records.
    Ipfix,
    /// Flow samples.
    Sflow,
    /// Traps or informs.
    Trap,
    /// Windows events.
    Winevent,
}

impl Kind {
    /// Whether its marks lie in addresses and ports ([`super::FlowMark`]) and not in a text.
    pub const fn marks_flows(self) -> bool {
        matches!(self, Self::Netflow | Self::Ipfix | Self::Sflow)
    }
}

/// Records of one sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkCount {
    /// Number of the sender, from 0.
    pub sender: u32,
    /// Records.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_in_a_line() {
        let line = b"<13>x raven-mark=run-1/3/42\"}";
        assert_eq!(Mark::find(line), Some(Mark { run: b"run-1", sender: 3, n: 42 }));
    }

    #[test]
    fn half_a_mark_is_none() {
        for line in [
            "raven-mark=",
            "raven-mark=a",
            "raven-mark=a/1",
            "raven-mark=a/1/",
            "raven-mark=a/x/1",
            "raven-mark=a/1/99999999999999999999",
            "raven-mark=a/4294967296/1",
        ] {
            assert_eq!(Mark::find(line.as_bytes()), None, "{line}");
        }
    }
}
