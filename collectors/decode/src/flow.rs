//! NetFlow 1, 5, 7 and 9, IPFIX (RFC 7011) and sFlow 5, told apart by content.
//!
//! Pure functions over bytes, in three layers, each on top of the one before:
//!
//! 1. [`scan`]: the header, and where sets and samples stand. No allocation; what a collector does for each datagram.
//! 2. [`templates`] and [`sampling`]: what exporters say about their records, learned from their datagrams, bounded,
//!    and stored one by one beside the records that need it.
//! 3. [`decode`]: what a datagram holds, with the templates that are known; [`template::Record::fields`] are its typed
//!    values without a copy, [`fields::Flow`] the fields that all versions share, [`show::to_json`] the whole as JSON.
//!
//! ```
//! # use raven_decode::flow::{decode::{Item, NoTemplates, walk}, fields::Flow, scan::scan};
//! # let datagram = [0, 9, 0, 0, 0, 0, 0, 9, 0x5f, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1];
//! let scan = scan(&datagram)?;
//! walk(&scan, &NoTemplates, &mut |item| {
//!     if let Item::Set { template, body, .. } = item {
//!         for record in template.records(body) {
//!             let flow = Flow::read(&record, scan.header());
//!             let all = record.fields().map(|field| (field.spec.name, field.value()));
//! #           drop((flow, all.count()));
//!         }
//!     }
//! });
//! # Ok::<(), raven_decode::flow::Reject>(())
//! ```
//!
//! What a reader can rely on:
//!
//! - No input panics, loops or takes more memory than a fixed multiple of its bytes. Lengths are looked at before they
//!   are used; a record, a field and an entry of a list have at least one byte each.
//! - What cannot be read is said ([`Reject`]) and leaves its neighbours alone; a data set without a template is
//!   "undescribed", not an error.
//! - What a record does not give is absent. Counters are never multiplied by a sampling rate.

mod bounded;
pub mod decode;
pub mod elements;
pub mod fields;
pub mod flows;
mod json;
pub mod lists;
pub mod netflow5;
mod packet;
pub mod sampling;
pub mod scan;
pub mod sets;
pub mod sflow;
pub mod show;
pub mod template;
pub mod templates;
pub mod value;
mod wire;

pub use bounded::Limits;

use std::fmt;

/// Why a datagram, or a part of it, cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// No bytes.
    Empty,
    /// A version that is neither NetFlow 1, 5, 7, 9, 10 nor sFlow 5.
    Version(u32),
    /// The header is not all there.
    HeaderShort,
    /// The header counts more records than there are (v1, v5, v7).
    Count {
        /// Records that the header counts.
        said: u32,
        /// Records for which there are bytes.
        fit: u32,
    },
    /// Bytes behind the last record that the header counts.
    Trailing {
        /// How many.
        bytes: u32,
    },
    /// An IPFIX message is not as long as its datagram.
    MessageLength {
        /// As its header has it.
        said: u16,
        /// Bytes of the datagram.
        got: u32,
    },
    /// A set is shorter than its header, or longer than what is left.
    SetLength {
        /// Set id.
        id: u16,
        /// As the set has it.
        said: u16,
        /// Bytes that are left.
        left: u32,
    },
    /// A template that cannot be: number below 256, no fields, more scope than fields, or cut off.
    Template {
        /// Template id.
        id: u16,
    },
    /// Bytes at the end of a data set that are no record of its template, and no padding either.
    Leftover {
        /// Set id.
        set: u16,
        /// How many.
        bytes: u32,
    },
    /// A template of more fields than [`sets::MAX_FIELDS`].
    TemplateFields {
        /// Template id.
        id: u16,
        /// How many fields.
        fields: u16,
    },
    /// sFlow: fewer samples than the header counts.
    Samples {
        /// How many are missing.
        missing: u32,
    },
    /// sFlow: a sample ends before its own header does.
    SampleShort {
        /// Its format.
        format: u32,
    },
    /// sFlow: fewer records than the sample counts.
    SampleRecords {
        /// How many are missing.
        missing: u32,
    },
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty datagram"),
            Self::Version(version) => {
                write!(f, "version {version}: expected NetFlow 1, 5, 7, 9, IPFIX (10) or sFlow 5")
            }
            Self::HeaderShort => f.write_str("the datagram ends before its header does"),
            Self::Count { said, fit } => write!(f, "the header counts {said} records, there are bytes for {fit}"),
            Self::Trailing { bytes } => write!(f, "{bytes} bytes behind the last record that the header counts"),
            Self::MessageLength { said, got } => {
                write!(f, "the message says that it has {said} bytes, the datagram has {got}")
            }
            Self::SetLength { id, said, left } => write!(f, "set {id} says that it has {said} bytes, {left} are left"),
            Self::Template { id } => {
                write!(f, "template {id} cannot be: its number, its counts or its length are wrong")
            }
            Self::Leftover { set, bytes } => write!(f, "{bytes} bytes at the end of set {set} are no record"),
            Self::TemplateFields { id, fields } => {
                write!(f, "template {id} has {fields} fields, more than {} are not taken", sets::MAX_FIELDS)
            }
            Self::Samples { missing } => write!(f, "{missing} samples of those that the header counts are missing"),
            Self::SampleShort { format } => write!(f, "a sample of format {format} ends before its header does"),
            Self::SampleRecords { missing } => {
                write!(f, "{missing} records of those that the sample counts are missing")
            }
        }
    }
}

impl std::error::Error for Reject {}
