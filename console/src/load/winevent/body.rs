//! A body that is laid out once; for each request only its blanks are filled.

use super::event::{self, Blank};
use super::{Encoding, Shape, WineventArgs};
use crate::load::bytes::{fixed_decimal, fixed_hex};
use crate::load::random::Random;
use flate2::{Compression, write::GzEncoder};
use std::io::{self, Write as _};

/// The body of the next request, again and again.
pub struct Body {
    shape: Shape,
    plain: Vec<u8>,
    /// Where each event ends.
    ends: Vec<usize>,
    /// Blanks in the order of events, and how many of them belong to each.
    blanks: Vec<(Blank, usize, usize)>,
    per_event: Vec<usize>,
    random: Random,
    packer: Packer,
}

enum Packer {
    Identity,
    Gzip(Vec<u8>),
    Zstd(Box<zstd::bulk::Compressor<'static>>, Vec<u8>),
}

impl Body {
    /// For a sender of a run.
    pub fn new(args: &WineventArgs, run: &str, sender: u32) -> Self {
        let packer = match args.encoding {
            Encoding::Identity => Packer::Identity,
            Encoding::Gzip => Packer::Gzip(Vec::new()),
            Encoding::Zstd => {
                Packer::Zstd(Box::new(zstd::bulk::Compressor::new(1).expect("level 1 exists")), Vec::new())
            }
        };
        let mut body = Self {
            shape: args.shape,
            plain: Vec::new(),
            ends: Vec::new(),
            blanks: Vec::new(),
            per_event: Vec::new(),
            random: Random::new(u64::from(sender) + 1),
            packer,
        };
        let batch = if args.shape == Shape::Object { 1 } else { args.batch };
        body.lay_out(&event::templates(args.shape == Shape::Xml, run, sender), batch as usize);
        body
    }

    /// Most events in a body.
    pub fn batch(&self) -> u64 {
        self.ends.len() as u64
    }

    fn lay_out(&mut self, templates: &[event::Template; 2], batch: usize) {
        self.plain.extend_from_slice(opening(self.shape));
        for at in 0..batch {
            if at > 0 {
                self.plain.extend_from_slice(between(self.shape));
            }
            // Two of three are logons.
            let template = &templates[usize::from(at % 3 == 2)];
            let start = self.plain.len();
            self.plain.extend_from_slice(&template.text);
            self.blanks.extend(template.blanks.iter().map(|(blank, at, width)| (*blank, start + at, *width)));
            self.per_event.push(template.blanks.len());
            self.ends.push(self.plain.len());
        }
    }

    /// Fills in events `first` to `first + count`, at time `stamp`, and packs them; how many bytes they are unpacked.
    pub fn fill(&mut self, first: u64, count: u64, stamp: &str) -> io::Result<usize> {
        let count = count as usize;
        let mut blanks = self.blanks.iter();
        for (n, blanks_of_event) in (first..).zip(&self.per_event[..count]) {
            let mut bits = self.random.next() ^ self.random.next() << 16;
            for (blank, at, width) in blanks.by_ref().take(*blanks_of_event) {
                let place = &mut self.plain[*at..at + width];
                match blank {
                    Blank::Record => fixed_decimal(place, 10_u64.pow(*width as u32 - 1) + n),
                    Blank::Number => fixed_decimal(place, n),
                    Blank::Decimal => fixed_decimal(place, bits & 0xffff),
                    Blank::Hex => fixed_hex(place, bits),
                    Blank::Time => place.copy_from_slice(&stamp.as_bytes()[..*width]),
                }
                bits = bits.rotate_left(13);
            }
        }
        // Fewer than a batch come at the very end of a run: what stands behind them is not needed again.
        self.plain.truncate(self.ends[count - 1]);
        self.plain.extend_from_slice(closing(self.shape));
        self.pack()?;
        Ok(self.plain.len())
    }

    fn pack(&mut self) -> io::Result<()> {
        match &mut self.packer {
            Packer::Identity => {}
            Packer::Gzip(packed) => {
                packed.clear();
                let mut encoder = GzEncoder::new(std::mem::take(packed), Compression::fast());
                encoder.write_all(&self.plain)?;
                *packed = encoder.finish()?;
            }
            Packer::Zstd(compressor, packed) => {
                packed.resize(zstd::zstd_safe::compress_bound(self.plain.len()), 0);
                let len = compressor.compress_to_buffer(&self.plain, &mut packed[..])?;
                packed.truncate(len);
            }
        }
        Ok(())
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> &[u8] {
        match &self.packer {
            Packer::Identity => &self.plain,
            Packer::Gzip(packed) | Packer::Zstd(_, packed) => packed,
        }
    }
}

const fn opening(shape: Shape) -> &'static [u8] {
    match shape {
        Shape::Array => b"[",
        Shape::Xml => b"<Events>",
        Shape::Ndjson | Shape::Object => b"",
    }
}

const fn between(shape: Shape) -> &'static [u8] {
    match shape {
        Shape::Array => b",",
        Shape::Ndjson => b"\n",
        Shape::Xml | Shape::Object => b"",
    }
}

const fn closing(shape: Shape) -> &'static [u8] {
    match shape {
        Shape::Array => b"]",
        Shape::Xml => b"</Events>",
        Shape::Ndjson => b"\n",
        Shape::Object => b"",
    }
}
