//! Content-Encoding: a packed body in, its bytes out, never more than the limit. Nothing here is C.

use flate2::read::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::Read;

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not.
    Identity,
    /// RFC 1952, also several members one after the other.
    Gzip,
    /// RFC 1950, and RFC 1951 without it, as some senders read the name.
    Deflate,
    /// RFC 8878.
    Zstd,
    /// Snappy's blocks, not its frames: Prometheus and Loki.
    Snappy,
}

impl Encoding {
    /// Of the value of a Content-Encoding header; `None` for what is not known and for several.
    pub fn of(value: &[u8]) -> Option<Self> {
        match value.trim_ascii().to_ascii_lowercase().as_slice() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"deflate" => Some(Self::Deflate),
            b"zstd" => Some(Self::Zstd),
            b"snappy" | b"x-snappy" => Some(Self::Snappy),
            _ => None,
        }
    }
}

/// Why a body could not be unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// More than the limit; unpacking stopped there.
    TooLong,
    /// Not what its encoding says.
    Broken(String),
}

/// Windows of zstd that any decoder must take (RFC 8878, 3.1.1.1.2).
const ZSTD_WINDOW: u64 = 8 << 20;

/// More than this a byte of snappy cannot stand for.
const SNAPPY_RATIO: usize = 64;

/// First guess of how much longer a body gets.
const RATIO: usize = 8;

/// Unpacks `packed` into at most `limit` bytes.
pub fn unpack(encoding: Encoding, packed: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::with_capacity(packed.len().saturating_mul(RATIO).clamp(1024, limit.max(1024)));
    match encoding {
        Encoding::Identity => out.extend_from_slice(&packed[..packed.len().min(limit + 1)]),
        Encoding::Gzip => {
            let taken = MultiGzDecoder::new(packed).take(limit as u64 + 1).read_to_end(&mut out);
            taken.map_err(|error| Failure::Broken(format!("gzip: {error}")))?;
        }
        Encoding::Deflate => inflate(packed, limit, &mut out)?,
        Encoding::Zstd => zstd(packed, limit, &mut out)?,
        Encoding::Snappy => snappy(packed, limit, &mut out)?,
    }
    if out.len() > limit { Err(Failure::TooLong) } else { Ok(out) }
}

/// Not flate2's readers: those take a body that was cut for its end.
fn inflate(packed: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Failure> {
    // RFC 1950, 2.2: method 8, and the first two bytes are a multiple of 31.
    let zlib = matches!(packed, [first, second, ..]
        if first & 0x0f == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31));
    let mut inflate = Decompress::new(zlib);
    let mut at = 0;
    loop {
        if out.len() > limit {
            return Err(Failure::TooLong);
        }
        if out.len() == out.capacity() {
            out.reserve(out.len().max(4096));
        }
        let before = out.len();
        let status = inflate
            .decompress_vec(&packed[at..], out, FlushDecompress::None)
            .map_err(|error| Failure::Broken(format!("deflate: {error}")))?;
        let used = usize::try_from(inflate.total_in()).map_or(packed.len(), |used| used.min(packed.len()));
        match status {
            Status::StreamEnd if used == packed.len() => return Ok(()),
            Status::StreamEnd => return Err(Failure::Broken(format!("deflate: more behind its end at byte {used}"))),
            _ if used == at && out.len() == before && out.len() < out.capacity() => {
                return Err(Failure::Broken("deflate: ends too early".to_owned()));
            }
            _ => at = used,
        }
    }
}

/// One block, which says how long it is.
fn snappy(packed: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Failure> {
    let broken = |error: snap::Error| Failure::Broken(format!("snappy: {error}"));
    let len = snap::raw::decompress_len(packed).map_err(broken)?;
    // A copy of 64 bytes takes three: a few bytes must not have the memory of many.
    if len > packed.len().saturating_mul(SNAPPY_RATIO) {
        return Err(Failure::Broken(format!("snappy: {} bytes cannot hold {len}", packed.len())));
    }
    if len > limit {
        return Err(Failure::TooLong);
    }
    out.resize(len, 0);
    let written = snap::raw::Decoder::new().decompress(packed, out).map_err(broken)?;
    if written == len { Ok(()) } else { Err(Failure::Broken("snappy: ends too early".to_owned())) }
}

/// Frames one after the other; skippable ones are skipped.
fn zstd(mut packed: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Failure> {
    let broken = |error: &FrameDecoderError| Failure::Broken(format!("zstd: {error}"));
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW.max(limit as u64));
    if packed.is_empty() {
        return Err(Failure::Broken("zstd: empty".to_owned()));
    }
    while !packed.is_empty() {
        match decoder.init(&mut packed) {
            Ok(()) => {}
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let rest = packed.get(length as usize..);
                packed = rest.ok_or_else(|| Failure::Broken("zstd: ends too early".to_owned()))?;
                continue;
            }
            Err(error) => return Err(broken(&error)),
        }
        if decoder.content_size() > limit as u64 {
            return Err(Failure::TooLong);
        }
        while !decoder.is_finished() {
            decoder.decode_blocks(&mut packed, BlockDecodingStrategy::UptoBlocks(1)).map_err(|e| broken(&e))?;
            decoder.collect_to_writer(&mut *out).map_err(|error| Failure::Broken(format!("zstd: {error}")))?;
            // What the window still holds counts, too.
            if out.len() > limit {
                return Err(Failure::TooLong);
            }
        }
        decoder.collect_to_writer(&mut *out).map_err(|error| Failure::Broken(format!("zstd: {error}")))?;
        if out.len() > limit {
            return Err(Failure::TooLong);
        }
        let (told, found) = (decoder.get_checksum_from_data(), decoder.get_calculated_checksum());
        if told.zip(found).is_some_and(|(told, found)| told != found) {
            return Err(Failure::Broken("zstd: wrong checksum".to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;
    use std::io::Write as _;

    fn packed(kind: &str, bytes: &[u8]) -> Vec<u8> {
        match kind {
            "gzip" => {
                let mut to = GzEncoder::new(Vec::new(), Compression::fast());
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
            "zlib" => {
                let mut to = ZlibEncoder::new(Vec::new(), Compression::fast());
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
            "raw" => {
                let mut to = DeflateEncoder::new(Vec::new(), Compression::fast());
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
            "snappy" => snap::raw::Encoder::new().compress_vec(bytes).unwrap(),
            _ => zstd::encode_all(bytes, 1).unwrap(),
        }
    }

    const KINDS: [(&str, Encoding); 5] = [
        ("gzip", Encoding::Gzip),
        ("zlib", Encoding::Deflate),
        ("raw", Encoding::Deflate),
        ("zstd", Encoding::Zstd),
        ("snappy", Encoding::Snappy),
    ];

    #[test]
    fn what_was_packed_comes_out_up_to_the_limit() {
        for (kind, encoding) in KINDS {
            for len in [0, 1, 1000, 100_000] {
                let bytes: Vec<u8> = (0..len).map(|n: u32| (n % 251 + n / 251) as u8).collect();
                let sent = packed(kind, &bytes);
                assert_eq!(unpack(encoding, &sent, bytes.len()), Ok(bytes.clone()), "{kind} {len}");
                if len > 0 {
                    assert_eq!(unpack(encoding, &sent, bytes.len() - 1), Err(Failure::TooLong), "{kind} {len}");
                }
            }
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let zeroes = vec![0; 200 << 20];
        for (kind, encoding) in KINDS {
            let bomb = packed(kind, &zeroes);
            let begun = std::time::Instant::now();
            assert_eq!(unpack(encoding, &bomb, 1 << 20), Err(Failure::TooLong), "{kind}");
            assert!(begun.elapsed().as_secs() < 5, "{kind}");
        }
    }

    #[test]
    fn a_body_that_was_cut_or_has_more_behind_it_is_broken() {
        for (kind, encoding) in KINDS {
            let whole = packed(kind, b"{\"EventID\":1} and some more of it");
            for len in 0..whole.len() {
                let cut = unpack(encoding, &whole[..len], 1 << 20);
                assert!(matches!(cut, Err(Failure::Broken(_))), "{kind} cut at {len} of {}: {cut:?}", whole.len());
            }
            let longer = [&whole[..], b"?"].concat();
            assert!(matches!(unpack(encoding, &longer, 1 << 20), Err(Failure::Broken(_))), "{kind}");
        }
    }

    #[test]
    fn members_and_frames_follow_each_other() {
        for (kind, encoding) in [KINDS[0], KINDS[3]] {
            let two = [packed(kind, b"one"), packed(kind, b"two")].concat();
            assert_eq!(unpack(encoding, &two, 100), Ok(b"onetwo".to_vec()));
        }
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], packed("zstd", b"x").as_slice()].concat();
        assert_eq!(unpack(Encoding::Zstd, &skippable, 100), Ok(b"x".to_vec()));
    }

    #[test]
    fn several_encodings_are_not_known() {
        assert_eq!(Encoding::of(b" X-GZip "), Some(Encoding::Gzip));
        assert_eq!(Encoding::of(b"gzip, gzip"), None);
        assert_eq!(Encoding::of(b"br"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_unpacked_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0..300_usize, kind in 0..5_usize) {
            let (name, encoding) = KINDS[kind];
            let _ = unpack(encoding, &bytes, 10_000);
            let mut spoilt = packed(name, &bytes.repeat(3));
            let at = at % spoilt.len();
            spoilt[at] = spoilt[at].wrapping_add(1);
            if let Ok(out) = unpack(encoding, &spoilt, 10_000) {
                prop_assert!(out.len() <= 10_000);
            }
        }
    }
}
