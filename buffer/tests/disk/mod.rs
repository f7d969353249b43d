//! A disk in memory that knows what a power cut may take: everything that was not synced, in any order, torn at sectors.
//!
//! It promises what POSIX does and no more: a file's bytes and length are durable when the file was synced, a name when
//! its folder was; a rename happens whole or not at all. (ext4 in its usual mode promises more.)
#![allow(dead_code, clippy::unwrap_used, missing_docs)]

pub mod trace;

use crate::common::Dice;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A file or folder, whatever it is called. 0 is the folder that is watched.
pub type Node = usize;

/// A name in a folder.
pub type Name = (Node, String);

/// What a process did to the disk, in order.
#[derive(Debug, Clone)]
pub enum Step {
    Made {
        node: Node,
        folder: bool,
    },
    /// `synced`: durable when it returns, by O_DSYNC.
    Write {
        node: Node,
        at: u64,
        bytes: Vec<u8>,
        synced: bool,
    },
    Resize {
        node: Node,
        len: u64,
    },
    Names(Change),
    Sync {
        node: Node,
    },
    /// A line of the process to us: what it promises from here on.
    Said(String),
}

/// One change of names, which happens whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub gone: Option<Name>,
    pub named: Option<(Name, Node)>,
}

/// Bytes of a sector, which is written whole or not at all.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Pending {
    Write { at: u64, bytes: Vec<u8> },
    Resize(u64),
}

#[derive(Debug, Clone, Default)]
struct Content {
    folder: bool,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

/// The disk at one moment.
#[derive(Debug, Clone)]
pub struct Disk {
    nodes: Vec<Content>,
    names: BTreeMap<Name, Node>,
    pending: Vec<Change>,
}

impl Default for Disk {
    fn default() -> Self {
        let root = Content { folder: true, ..Content::default() };
        Self { nodes: vec![root], names: BTreeMap::new(), pending: Vec::new() }
    }
}

impl Disk {
    /// The disk after `steps`. From the step numbered `lies_from` on it says that it synced and does not.
    pub fn after(steps: &[Step], lies_from: usize) -> Self {
        let mut disk = Self::default();
        for (at, step) in steps.iter().enumerate() {
            disk.begin(step);
            if at < lies_from {
                disk.finish(step);
            }
        }
        disk
    }

    /// A step that was asked for and is not known to be done.
    pub fn begin(&mut self, step: &Step) {
        match step {
            Step::Made { node, folder } => {
                assert_eq!(*node, self.nodes.len());
                self.nodes.push(Content { folder: *folder, ..Content::default() });
            }
            Step::Write { node, at, bytes, .. } => {
                self.nodes[*node].pending.push(Pending::Write { at: *at, bytes: bytes.clone() });
            }
            Step::Resize { node, len } => self.nodes[*node].pending.push(Pending::Resize(*len)),
            Step::Names(change) => self.pending.push(change.clone()),
            Step::Sync { .. } | Step::Said(_) => {}
        }
    }

    /// What the step promised when it returned.
    pub fn finish(&mut self, step: &Step) {
        match step {
            Step::Write { node, synced: true, .. } => self.nodes[*node].settle_newest(),
            Step::Sync { node } if self.nodes[*node].folder => {
                let in_folder = |name: Option<&Name>| name.is_some_and(|(folder, _)| folder == node);
                let here = |change: &Change| {
                    in_folder(change.gone.as_ref()) || in_folder(change.named.as_ref().map(|(name, _)| name))
                };
                let (done, open) = self.pending.drain(..).partition(here);
                self.pending = open;
                let done: Vec<Change> = done;
                for change in &done {
                    apply(&mut self.names, change);
                }
            }
            Step::Sync { node } => {
                let Content { durable, pending, .. } = &mut self.nodes[*node];
                pending.drain(..).for_each(|change| change.apply(durable));
            }
            _ => {}
        }
    }

    /// Makes in the empty folder `root` what the next start finds after a power cut: all that is durable, and of the
    /// rest what the dice keep.
    pub fn cut(&self, dice: &mut Dice, root: &Path) {
        let mut percent = || [0, 10, 50, 90, 100][dice.below(5) as usize];
        let (keep_names, keep_bytes) = (percent(), percent());
        let mut names = self.names.clone();
        for change in &self.pending {
            if dice.below(100) < keep_names {
                apply(&mut names, change);
            }
        }
        self.write_folder(0, &names, keep_bytes, dice, root);
    }

    fn write_folder(&self, folder: Node, names: &BTreeMap<Name, Node>, keep: u64, dice: &mut Dice, at: &Path) {
        for ((_, name), node) in names.iter().filter(|((of, _), _)| *of == folder) {
            let path = at.join(name);
            if self.nodes[*node].folder {
                fs::create_dir(&path).unwrap();
                self.write_folder(*node, names, keep, dice, &path);
            } else {
                fs::write(&path, self.nodes[*node].after_cut(keep, dice)).unwrap();
            }
        }
    }
}

fn apply(names: &mut BTreeMap<Name, Node>, change: &Change) {
    if let Some(gone) = &change.gone {
        names.remove(gone);
    }
    if let Some((name, node)) = &change.named {
        names.insert(name.clone(), *node);
    }
}

impl Content {
    /// Makes the newest write durable. What older ones wrote there can not come after it any more.
    fn settle_newest(&mut self) {
        let Some(Pending::Write { at, bytes }) = self.pending.pop() else { panic!("a write was begun") };
        for older in &mut self.pending {
            older.overlay(at, &bytes);
        }
        Pending::Write { at, bytes }.apply(&mut self.durable);
    }

    fn after_cut(&self, keep: u64, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let mut kept: Vec<&Pending> = self.pending.iter().filter(|_| dice.below(100) < keep).collect();
        for at in (1..kept.len()).rev() {
            kept.swap(at, dice.below(at as u64 + 1) as usize);
        }
        for change in kept {
            match change {
                Pending::Write { at, bytes: written } if dice.below(10) == 0 => tear(*at, written, dice, &mut bytes),
                whole => whole.clone().apply(&mut bytes),
            }
        }
        bytes
    }
}

/// Of each sector of a write, perhaps.
fn tear(at: u64, written: &[u8], dice: &mut Dice, bytes: &mut Vec<u8>) {
    let mut from = 0;
    while from < written.len() {
        let upto = written.len().min(from + SECTOR - (at as usize + from) % SECTOR);
        if dice.below(2) == 0 {
            Pending::Write { at: at + from as u64, bytes: written[from..upto].to_vec() }.apply(bytes);
        }
        from = upto;
    }
}

impl Pending {
    fn apply(self, to: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                let (at, end) = (at as usize, at as usize + bytes.len());
                to.resize(to.len().max(end), 0);
                to[at..end].copy_from_slice(&bytes);
            }
            Self::Resize(len) => to.resize(len as usize, 0),
        }
    }

    fn overlay(&mut self, at: u64, newer: &[u8]) {
        let Self::Write { at: mine, bytes } = self else { return };
        let (from, to) = (at.max(*mine), (at + newer.len() as u64).min(*mine + bytes.len() as u64));
        if from < to {
            bytes[(from - *mine) as usize..(to - *mine) as usize]
                .copy_from_slice(&newer[(from - at) as usize..(to - at) as usize]);
        }
    }
}

/// Where a power cut tells most: the steps that sync.
pub fn sync_points(steps: &[Step]) -> Vec<usize> {
    let syncs = |step: &Step| matches!(step, Step::Sync { .. } | Step::Write { synced: true, .. });
    (0..steps.len()).filter(|at| syncs(&steps[*at])).collect()
}
