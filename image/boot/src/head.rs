//! The head of a disk as the installation medium carries it: the boot loader's parts and the EFI system partition, as
//! pieces with their places on the disk. What is zero is left out.
//!
//! `RAVEN-HEAD-1` and four zero bytes; then for each piece its place (u64), its length (u32), the CRC-32 (IEEE
//! 802.3) of these and its bytes (u32), little-endian, and its bytes; a piece of no length ends the list.

use std::io::{self, Read, Write};

const MAGIC: &[u8; 16] = b"RAVEN-HEAD-1\0\0\0\0";
/// Longest piece, bytes.
pub const PIECE: usize = 64 << 10;

/// Bytes and where on the disk they belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Byte of the disk.
    pub at: u64,
    /// At most [`PIECE`] bytes.
    pub bytes: Vec<u8>,
}

/// Why a head cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// It cannot be read or written.
    #[error("the head of the disk: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("the medium carries no head of a disk")]
    Magic,
    /// The medium is damaged.
    #[error("the head of the disk is damaged at its piece {0}: the medium cannot be used")]
    Damaged(usize),
}

/// Writes a head.
#[derive(Debug)]
pub struct Writer<W>(W);

impl<W: Write> Writer<W> {
    /// Begins one.
    pub fn new(mut to: W) -> io::Result<Self> {
        to.write_all(MAGIC)?;
        Ok(Self(to))
    }

    /// Adds bytes that belong at byte `at` of the disk, but for stretches of zeroes.
    pub fn add(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        for (n, piece) in bytes.chunks(PIECE).enumerate() {
            if piece.iter().any(|byte| *byte != 0) {
                self.piece(at + (n * PIECE) as u64, piece)?;
            }
        }
        Ok(())
    }

    fn piece(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut start = at.to_le_bytes().to_vec();
        start.extend((bytes.len() as u32).to_le_bytes());
        self.0.write_all(&start)?;
        self.0.write_all(&sum(&start, bytes).to_le_bytes())?;
        self.0.write_all(bytes)
    }

    /// Ends it.
    pub fn finish(mut self) -> io::Result<()> {
        self.piece(0, &[])?;
        self.0.flush()
    }
}

/// Reads a head, piece by piece.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    count: usize,
}

impl<R: Read> Reader<R> {
    /// # Errors
    /// It is none.
    pub fn new(mut from: R) -> Result<Self, HeadError> {
        let mut magic = [0; 16];
        from.read_exact(&mut magic)?;
        if magic == *MAGIC { Ok(Self { from, count: 0 }) } else { Err(HeadError::Magic) }
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// It is damaged or ends early.
    pub fn piece(&mut self) -> Result<Option<Piece>, HeadError> {
        let mut start = [0; 16];
        self.from.read_exact(&mut start)?;
        let at = u64::from_le_bytes([start[0], start[1], start[2], start[3], start[4], start[5], start[6], start[7]]);
        let len = u32::from_le_bytes([start[8], start[9], start[10], start[11]]) as usize;
        let expected = u32::from_le_bytes([start[12], start[13], start[14], start[15]]);
        self.count += 1;
        if len > PIECE {
            return Err(HeadError::Damaged(self.count));
        }
        let mut bytes = vec![0; len];
        self.from.read_exact(&mut bytes)?;
        if sum(&start[..12], &bytes) != expected {
            return Err(HeadError::Damaged(self.count));
        }
        Ok((len > 0).then_some(Piece { at, bytes }))
    }
}

fn sum(start: &[u8], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(start);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn head() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes).unwrap();
        writer.add(0, &[7; 440]).unwrap();
        let mut esp = vec![0; 3 * PIECE];
        esp[PIECE + 5] = 1;
        writer.add(2 << 20, &esp).unwrap();
        writer.finish().unwrap();
        bytes
    }

    fn pieces(bytes: &[u8]) -> Result<Vec<Piece>, HeadError> {
        let (mut reader, mut pieces) = (Reader::new(bytes)?, Vec::new());
        while let Some(piece) = reader.piece()? {
            pieces.push(piece);
        }
        Ok(pieces)
    }

    #[test]
    fn what_is_not_zero_reads_back() {
        let pieces = pieces(&head()).unwrap();
        let shape: Vec<(u64, usize)> = pieces.iter().map(|piece| (piece.at, piece.bytes.len())).collect();
        assert_eq!(shape, [(0, 440), ((2 << 20) + PIECE as u64, PIECE)]);
        assert_eq!((pieces[0].bytes[439], pieces[1].bytes[5]), (7, 1));
    }

    #[test]
    fn each_changed_or_missing_byte_is_found() {
        let whole = head();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(pieces(&changed).is_err(), "byte {at}");
        }
        for len in (0..whole.len()).step_by(97) {
            assert!(pieces(&whole[..len]).is_err(), "{len} bytes");
        }
    }
}
