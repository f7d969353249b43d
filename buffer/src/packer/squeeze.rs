//! A block made small: as it is or in columns, through zstd.

use crate::block::{CODEC_COLUMNS, CODEC_ZSTD, RAW_LIMIT};
use crate::columns::Columns;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound};

/// Level 3 makes such blocks no smaller and takes half as long again.
const LEVEL: i32 = 1;

/// For columns, whose matches are near and plenty: a hash table that stays in the processor's first cache, and long
/// steps where nothing matches. Takes two thirds of the time and 7 % more room.
const FOR_COLUMNS: [CParameter; 2] = [CParameter::HashLog(12), CParameter::TargetLength(2)];

/// Blocks between two that are tried both ways, to go on with what was smaller.
const TRIAL: u32 = 64;

pub(crate) struct Squeeze {
    /// Both are absent only when zstd has no memory: blocks are then stored as they are.
    for_rows: Option<Compressor<'static>>,
    for_columns: Option<Compressor<'static>>,
    columns: Columns,
    /// The block in columns.
    split: Vec<u8>,
    as_rows: Vec<u8>,
    as_columns: Vec<u8>,
    /// What was smaller at the last trial.
    in_columns: bool,
    until_trial: u32,
}

impl Squeeze {
    pub fn new() -> Self {
        Self {
            for_rows: Compressor::new(LEVEL).ok(),
            for_columns: Compressor::new(LEVEL).ok().and_then(|mut zstd| {
                FOR_COLUMNS.into_iter().try_for_each(|parameter| zstd.set_parameter(parameter)).ok()?;
                Some(zstd)
            }),
            columns: Columns::new(),
            split: Vec::new(),
            as_rows: Vec::with_capacity(compress_bound(RAW_LIMIT)),
            as_columns: Vec::new(),
            in_columns: false,
            until_trial: 0,
        }
    }

    /// `raw`, of which the first `frames` bytes are frames, through the codec that is named; `None` when that makes it
    /// no smaller.
    pub fn squeeze(&mut self, raw: &[u8], frames: usize) -> Option<(u8, &[u8])> {
        let trial = self.until_trial == 0;
        if trial {
            self.until_trial = TRIAL;
            self.columns.forget();
        }
        self.until_trial -= 1;
        let has_columns = (trial || self.in_columns) && self.columns.split(raw, frames, &mut self.split);
        let zstd = self.for_columns.as_mut().filter(|_| has_columns);
        let columns = zstd.and_then(|zstd| compress(zstd, &self.split, &mut self.as_columns));
        let zstd = self.for_rows.as_mut().filter(|_| trial || columns.is_none());
        let rows = zstd.and_then(|zstd| compress(zstd, raw, &mut self.as_rows));
        if trial {
            self.in_columns = columns.is_some_and(|columns| rows.is_none_or(|rows| columns < rows));
        }
        let (codec, packed) = match (columns, rows) {
            (Some(len), _) if self.in_columns => (CODEC_COLUMNS, &self.as_columns[..len]),
            (_, Some(len)) => (CODEC_ZSTD, &self.as_rows[..len]),
            _ => return None,
        };
        (packed.len() < raw.len()).then_some((codec, packed))
    }
}

fn compress(zstd: &mut Compressor<'_>, plain: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    out.clear();
    out.reserve(compress_bound(plain.len()));
    zstd.compress_to_buffer(plain, out).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::columns::tests::{flows, frames_of};

    #[test]
    fn flows_go_into_columns_and_take_less_room() {
        let raw = frames_of(&flows(100, 25, 48));
        let mut squeeze = Squeeze::new();
        let (codec, packed) = squeeze.squeeze(&raw, raw.len()).unwrap();
        let rows = zstd::bulk::compress(&raw, LEVEL).unwrap();
        assert_eq!(codec, CODEC_COLUMNS);
        assert!(packed.len() * 4 < rows.len() * 3, "{} of {}", packed.len(), rows.len());
    }

    #[test]
    fn text_stays_in_rows_and_a_block_without_rows_changes_nothing() {
        let text: Vec<_> = (0..500_u64)
            .map(|i| format!("<34>host{} sshd[{}]: login {:x} from 192.0.2.{}", i % 7, i * 31, i.pow(3), i % 250))
            .map(String::into_bytes)
            .collect();
        let (raw, table) = (frames_of(&text), frames_of(&flows(50, 25, 48)));
        let mut squeeze = Squeeze::new();
        assert_eq!(squeeze.squeeze(&raw, raw.len()).unwrap().0, CODEC_ZSTD);
        assert_eq!(squeeze.squeeze(&table, table.len()).unwrap().0, CODEC_ZSTD, "not before the next trial");
        for _ in 2..TRIAL {
            squeeze.squeeze(&raw, raw.len());
        }
        let codecs: Vec<_> =
            [&table, &raw, &table].iter().map(|raw| squeeze.squeeze(raw, raw.len()).unwrap().0).collect();
        assert_eq!(codecs, [CODEC_COLUMNS, CODEC_ZSTD, CODEC_COLUMNS]);
    }
}
