//! What an operator tells the uplink, over a connection that `ravend` hands on without a look at it.
//!
//! The client sends one [`Order`] as a line of JSON; the answer has the form of [`crate::query`]: a
//! [`Reply`](crate::query::Reply) line, lines of JSON, and the count of them at the end.

use crate::units::{Seq, UnixNanos};
use serde::{Deserialize, Serialize};

/// An operator's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Send nothing more; answered by a [`PausedView`]. Outlives restarts.
    Pause(Hold),
    /// Go on; answered by a [`PausedView`].
    Resume(Hold),
    /// Dead letters without their text: a [`LetterView`] each.
    List(Which),
    /// Whole dead letters, as they lie on disk.
    Show(Which),
    /// Send dead letters again; answered by a [`LettersView`] for each destination and stream.
    Retry(Which),
    /// Remove dead letters for good; answered as `Retry`.
    Drop(Which),
}

/// What to pause or resume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// `uplink.NAME`.
    pub destination: String,
    /// The backfill lane alone.
    pub backfill_only: bool,
}

/// Which dead letters; what is left out is not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Of this destination.
    pub destination: Option<String>,
    /// Of this stream.
    pub stream: Option<String>,
    /// These; all when empty.
    pub seqs: Vec<Seq>,
}

impl Which {
    /// Whether letters of that destination and stream are meant.
    pub fn is_of(&self, destination: &str, stream: &str) -> bool {
        self.destination.as_deref().is_none_or(|wanted| wanted == destination)
            && self.stream.as_deref().is_none_or(|wanted| wanted == stream)
    }

    /// Whether this one of them is meant.
    pub fn has(&self, seq: Seq) -> bool {
        self.seqs.is_empty() || self.seqs.contains(&seq)
    }
}

/// What is held of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedView {
    /// `uplink.NAME`.
    pub destination: String,
    /// `paused` or `running`.
    pub live: String,
    /// `paused` or `running`.
    pub backfill: String,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterView {
    /// `uplink.NAME`.
    pub destination: String,
    /// Stream name.
    pub stream: String,
    /// Position in it.
    pub seq: Seq,
    /// When it was refused for good.
    pub dead_ns: UnixNanos,
    /// When it was received.
    pub received_ns: UnixNanos,
    /// Bytes of the message.
    pub size: u64,
    /// The destination's words.
    pub reason: String,
}

/// What became of dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LettersView {
    /// `uplink.NAME`.
    pub destination: String,
    /// Stream name.
    pub stream: String,
    /// On their way again, or dropped.
    pub letters: u64,
    /// Asked for and not taken, for want of room: to be asked for again.
    pub left: u64,
}
