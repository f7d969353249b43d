//! The ring: every record as it was received, on disk, until the disk is needed again.
//!
//! ```text
//!  DIR/ring/<stream>/<first seq, 16 hex>.mdb   segments, oldest first; the newest is open, the others never change
//!  DIR/ring/<stream>/ledger.json               a copy of the loss ledger, for readers
//!  DIR/ring/<stream>/contexts                  what the keys of contexts stood for, and when
//!  DIR/ring/<stream>/.lock                     held by the one writer
//!  DIR/ring/catalogue/<stream>.mdb             what the segments hold, what is gone and why, evictions under way
//!  DIR/ring/quarantine/                        segments that could not be read, until their room is needed
//!  DIR/cursors/cursors.mdb                     how far each destination has acknowledged
//! ```
//!
//! What it never does:
//! * lose a record silently: `next_seq - 1 = held + evicted + damaged`, and each gap has an entry in the [`ledger`];
//! * refuse to start because of what is on disk: what cannot be read is set aside and counted;
//! * delete inside a segment, or write to a sealed one: a segment goes whole, so readers need no locks;
//! * use threads: one process writes, others read sealed segments, and ask the writer for the newest blocks ([`tail`]).
//!
//! Start with [`block`] (what is stored), then [`writer`] (how it gets there), then [`reader`].

pub mod block;
mod catalogue;
mod columns;
pub mod contexts;
mod counts;
pub mod cursors;
mod env;
pub mod error;
mod evict;
mod files;
mod filter;
mod history;
pub mod identity;
pub mod import;
pub mod ledger;
mod packer;
mod rates;
pub mod reader;
mod recovery;
mod repair;
mod segment;
pub mod shares;
mod small;
pub mod tail;
pub mod verify;
pub mod writer;

pub use block::{Block, BlockError, BlockHead, Entry};
pub use contexts::{ContextLimits, ContextTable, ContextVersion};
pub use cursors::{Cursor, Cursors};
pub use error::RingError;
pub use evict::Eviction;
pub use import::{Import, Piece, Took};
pub use ledger::{Ledger, Loss, Why};
pub use packer::Refused;
pub use reader::{Found, RingReader};
pub use recovery::Recovery;
pub use writer::{BatchMark, RingWriter, WriterOptions};
