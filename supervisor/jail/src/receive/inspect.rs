//! A look at each message before it is framed.

use raven_model::record::{Context, FRAME_MAX, FrameKind, Received, frame_len, write_frame};
use raven_model::units::UnixNanos;
use std::net::SocketAddr;

/// Most bytes of context frames in one batch. What does not fit is in the store's table all the same, as long as it
/// was handed over once.
pub const CONTEXT_MAX: usize = 128 * 1024;

/// A message and how it came in.
#[derive(Debug, Clone, Copy)]
pub struct Arrived<'a> {
    /// Who sent it.
    pub source: SocketAddr,
    /// Who took it.
    pub listener: u8,
    /// When.
    pub wall: UnixNanos,
    /// What was sent.
    pub raw: &'a [u8],
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verdict {
    /// A record.
    #[default]
    Keep,
    /// A record that the collector does not vouch for.
    Refuse,
    /// Not kept, and counted under this reason (below [`super::DROP_REASONS`]).
    Drop(u8),
}

impl Verdict {
    pub(super) const fn kind(self) -> FrameKind {
        match self {
            Self::Refuse => FrameKind::Refused,
            Self::Keep | Self::Drop(_) => FrameKind::Plain,
        }
    }
}

/// Looks at each message once before it is framed, and at the same one again only when a collector has died over it.
pub trait Inspect {
    /// False when there is nothing to look at: then [`Inspect::inspect`] is not called.
    fn looks(&self) -> bool {
        true
    }

    /// What the store knows of earlier context: `{ len u32, context } …`. Called at the start and when it has changed.
    fn recall(&mut self, snapshot: &[u8]);

    /// A batch begins: it must be readable without the context of earlier ones.
    fn begin(&mut self);

    /// Looks at a message. What is needed to read it, and was not added in this batch yet, is added to `contexts`.
    fn inspect(&mut self, arrived: &Arrived<'_>, contexts: &mut Contexts) -> Verdict;
}

/// Looks at nothing.
#[derive(Debug, Clone, Copy)]
pub struct Blind;

impl Inspect for Blind {
    fn looks(&self) -> bool {
        false
    }

    fn recall(&mut self, _: &[u8]) {}

    fn begin(&mut self) {}

    fn inspect(&mut self, _: &Arrived<'_>, _: &mut Contexts) -> Verdict {
        Verdict::Keep
    }
}

/// Context frames that go before a message.
#[derive(Debug, Default)]
pub struct Contexts {
    pub(super) frames: Vec<u8>,
    pub(super) count: u32,
    raw: Vec<u8>,
    /// Contexts that found no room.
    pub(super) left_out: u64,
}

impl Contexts {
    /// Adds one, learned at `wall`. False when there is no room: it is left out of this batch.
    pub fn add(&mut self, context: &Context<'_>, wall: UnixNanos) -> bool {
        self.raw.clear();
        context.write(&mut self.raw);
        let received = Received::context(wall);
        let len = frame_len(received.source.ip(), self.raw.len());
        let at = self.frames.len();
        if at + len > CONTEXT_MAX || len > FRAME_MAX {
            self.left_out += 1;
            return false;
        }
        self.frames.resize(at + len, 0);
        if write_frame(&mut self.frames[at..], &received, &self.raw).is_none() {
            self.frames.truncate(at);
            self.left_out += 1;
            return false;
        }
        self.count += 1;
        true
    }

    /// What was added, frame by frame, for tests.
    pub fn frames(&self) -> &[u8] {
        &self.frames
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.count = 0;
    }
}

/// What was found out about the datagrams in the slots, and waits for their batch.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub verdicts: Vec<Verdict>,
    pub contexts: Contexts,
    /// For each datagram where its contexts end in `contexts.frames`.
    pub ends: Vec<usize>,
}

impl Findings {
    pub fn clear(&mut self) {
        self.verdicts.clear();
        self.ends.clear();
        self.contexts.clear();
    }

    pub fn verdict(&self, slot: usize) -> Verdict {
        self.verdicts.get(slot).copied().unwrap_or_default()
    }

    /// The context frames that go before a datagram.
    pub fn before(&self, slot: usize) -> &[u8] {
        let end = |n: usize| self.ends.get(n).copied();
        let start = slot.checked_sub(1).and_then(end).unwrap_or(0);
        &self.contexts.frames[start..end(slot).unwrap_or(start)]
    }
}
