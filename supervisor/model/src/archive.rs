//! What an operator says about archives, and what comes back: records of one box in a file, for another.
//!
//! An export is a [`crate::query::Query::Archive`]: the answer's lines are [`ArchiveLine`]s. For an import the client
//! sends an [`ImportOrder`] as a line of JSON to the `import` role, over a connection that `ravend` made, and behind it
//! the archive as it is; it closes its side at the end. The answer has the form of [`crate::query`]; its lines are
//! [`ArchiveView`]s, the last one with `done`.

use crate::units::{Seq, UnixNanos};
use base64::Engine as _;
use serde::{Deserialize, Serialize};

/// Which records are to be exported. Whole blocks are: some records of just before and just after come along.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSelect {
    /// Streams, by name; none of them twice.
    pub streams: Vec<String>,
    /// Received at or after.
    pub since: Option<UnixNanos>,
    /// Received before.
    pub until: Option<UnixNanos>,
}

/// One line of the answer to an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveLine {
    /// The next bytes of the archive, in base64 (RFC 4648, 4).
    Part(String),
    /// How far it is; at the end what is in it.
    View(Box<ArchiveView>),
}

impl ArchiveLine {
    /// Of bytes.
    pub fn part(bytes: &[u8]) -> Self {
        Self::Part(base64::engine::general_purpose::STANDARD.encode(bytes))
    }

    /// The bytes; `None` of what is none.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Part(text) => base64::engine::general_purpose::STANDARD.decode(text).ok(),
            Self::View(_) => None,
        }
    }
}

/// What is to be done with an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportOrder {
    /// Only look: store nothing.
    pub check: bool,
    /// The archive may come from a box of our own name.
    pub same_name: bool,
}

/// What is in an archive, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveView {
    /// True on the last line.
    pub done: bool,
    /// The archive's own number, 32 hex digits.
    pub id: String,
    /// `site.name` of the box that made it.
    pub device: String,
    /// When it was made, by the clock of that box.
    pub made_ns: UnixNanos,
    /// Bytes written or read so far.
    pub bytes: u64,
    /// Each stream in it.
    pub streams: Vec<ArchiveStream>,
    /// It has its end, and its digest is right. False also while it is being read.
    pub whole: bool,
    /// What is missing or damaged, in words.
    pub problems: Vec<String>,
    /// After a look: bytes that what is new in it takes on disk here.
    #[serde(default)]
    pub need: u64,
    /// After a look: bytes that can be stored here before the oldest records go.
    #[serde(default)]
    pub free: u64,
    /// After a look: the box that made it has our name.
    #[serde(default)]
    pub same_name: bool,
}

/// One stream of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveStream {
    /// Stream name.
    pub stream: String,
    /// Blocks.
    pub blocks: u64,
    /// Records.
    pub records: u64,
    /// Bytes of the blocks.
    pub bytes: u64,
    /// Seq of the first one at the box that received them; 0 when there is none.
    pub first_seq: Seq,
    /// One after the last one there.
    pub next_seq: Seq,
    /// Earliest receive time.
    pub first_ns: Option<UnixNanos>,
    /// Latest receive time.
    pub last_ns: Option<UnixNanos>,
    /// Records that could not be exported: they were damaged.
    #[serde(default)]
    pub missing: u64,
    /// Records that were stored here by this import.
    #[serde(default)]
    pub imported: u64,
    /// Records that were here before.
    #[serde(default)]
    pub here: u64,
}
