//! Where records come from: the seam between delivery and the ring. [`crate::ring`] is the real one, [`crate::sim`]
//! the simulated one.

use raven_buffer::Entry;
use raven_model::units::Seq;
use std::future::Future;

/// Records that lie together, in order and without a hole.
pub trait Run {
    /// Seq of the first record.
    fn first(&self) -> Seq;
    /// One after the last record.
    fn next(&self) -> Seq;
    /// Records from `seq` on, and before each the context that it needs: also what stands before `seq`.
    fn entries_from(&self, seq: Seq) -> impl Iterator<Item = Entry<'_>>;
    /// Name of the listener that took a record.
    fn listener_name(&self, id: u8) -> &str;
}

/// What lies at a place of a stream.
#[derive(Debug)]
pub enum Piece<R> {
    /// Records; the wanted one is among them.
    Run(R),
    /// Nothing up to `next`: evicted, or lost to damage.
    Gap {
        /// Where records go on.
        next: Seq,
        /// What became of those before, in words.
        why: String,
    },
}

/// The ring could not be read, in words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// A ring of streams.
pub trait Source: 'static {
    /// What records come in.
    type Run: Run;

    /// What lies at `from`. Waits while nothing is stored there yet, for as long as it takes. May be dropped at any
    /// point and called again.
    fn piece(&self, stream: &str, from: Seq) -> impl Future<Output = Result<Piece<Self::Run>, SourceError>>;

    /// The seq that the next record will get, as far as known.
    fn next_seq(&self, stream: &str) -> Seq;
}
