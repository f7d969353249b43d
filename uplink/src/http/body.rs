//! Bodies: which records, as NDJSON, as one JSON object or as OTLP, compressed.

use crate::ndjson::Ndjson;
use crate::otlp::Otlp;
use crate::reader::{More, Reader};
use crate::source::Source;
use crate::standing::Shared;
use bytes::Bytes;
use flate2::write::GzEncoder;
use raven_model::config::{BodyForm, Compression, Destination, Kind};
use raven_model::record::Record;
use raven_model::units::Seq;
use std::io::Write as _;

/// Bytes of a body, before compression, at which no more records are added. One record can go over it.
pub const BODY_MAX: usize = 4 << 20;

/// zstd level: 1 costs half of the default 3 and gives a tenth away (measured on syslog text).
const ZSTD_LEVEL: i32 = 1;

/// A finished body.
#[derive(Debug)]
pub struct Body {
    /// As it travels.
    pub bytes: Bytes,
    /// Records in it: inclusive ranges, ascending.
    pub ranges: Vec<(Seq, Seq)>,
    /// How many.
    pub count: usize,
    /// Its `Content-Type`.
    pub content_type: &'static str,
}

/// What a body is made of.
enum Format {
    Ndjson(Ndjson),
    /// One record in each body.
    Json(Ndjson),
    Otlp(Box<Otlp>),
}

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Into the body.
    Send,
    /// Not now.
    Leave,
    /// It is among the dead letters.
    Bury,
    /// Neither this one nor more.
    Halt,
}

/// The `Content-Encoding`.
pub const fn coding(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    }
}

/// Makes bodies, one after the other, in buffers that are kept.
pub struct Builder {
    format: Format,
    compression: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    text: Vec<u8>,
    ranges: Vec<(Seq, Seq)>,
    count: usize,
}

impl Builder {
    /// For one device and stream.
    pub fn new(device: &str, stream: &str, to: &Destination) -> Self {
        let format = match (to.kind, to.body) {
            (Kind::Otlp, _) => Format::Otlp(Box::new(Otlp::new(device, stream))),
            (_, BodyForm::Json) => Format::Json(Ndjson::new(device, stream)),
            (_, BodyForm::Ndjson) => Format::Ndjson(Ndjson::new(device, stream)),
        };
        Self { format, compression: to.compression(), zstd: None, text: Vec::new(), ranges: Vec::new(), count: 0 }
    }

    /// Takes records until `cap` or [`BODY_MAX`] is reached or none are at hand.
    pub fn fill<S: Source>(
        &mut self,
        reader: &mut Reader<S>,
        standing: &Shared,
        cap: usize,
        mut choose: impl FnMut(Seq, &Record<'_>, &str) -> Choice,
    ) {
        let mut more = More::Yes;
        // A block is 256 KiB at most: a body takes several, those that can be had without waiting.
        while more == More::Yes && reader.has_run_now() {
            reader.take(|seq, record, listener| {
                more = match choose(seq, record, listener) {
                    Choice::Send => self.push(seq, record, listener, cap),
                    Choice::Leave => More::Yes,
                    Choice::Bury => {
                        standing.borrow_mut().buried(seq);
                        More::Yes
                    }
                    Choice::Halt => More::Undo,
                };
                more
            });
        }
    }

    #[inline]
    fn push(&mut self, seq: Seq, record: &Record<'_>, listener: &str, cap: usize) -> More {
        match &mut self.format {
            Format::Ndjson(format) => format.line(&mut self.text, seq, record, listener),
            Format::Json(format) => format.document(&mut self.text, seq, record, listener),
            Format::Otlp(format) => format.record(&mut self.text, seq, record, listener),
        }
        match self.ranges.last_mut().filter(|(_, last)| last.plus(1) == seq) {
            Some((_, last)) => *last = seq,
            None => self.ranges.push((seq, seq)),
        }
        self.count += 1;
        let cap = if matches!(self.format, Format::Json(_)) { 1 } else { cap };
        if self.count < cap && self.text.len() < BODY_MAX { More::Yes } else { More::No }
    }

    /// Compresses what was taken.
    pub fn finish(&mut self) -> Result<Body, String> {
        let content_type = match &self.format {
            Format::Ndjson(_) => "application/x-ndjson",
            Format::Json(_) => "application/json",
            Format::Otlp(format) => {
                format.close(&mut self.text);
                "application/x-protobuf"
            }
        };
        let packed = self.pack();
        self.text.clear();
        let (ranges, count) = (std::mem::take(&mut self.ranges), std::mem::take(&mut self.count));
        Ok(Body { bytes: packed?.into(), ranges, count, content_type })
    }

    fn pack(&mut self) -> Result<Vec<u8>, String> {
        match self.compression {
            Compression::None => Ok(self.text.clone()),
            Compression::Gzip => {
                let mut gzip = GzEncoder::new(Vec::with_capacity(self.text.len() / 4), flate2::Compression::fast());
                gzip.write_all(&self.text).and_then(|()| gzip.finish()).map_err(|error| format!("gzip: {error}"))
            }
            Compression::Zstd => {
                let made = self.zstd.take().map_or_else(|| zstd::bulk::Compressor::new(ZSTD_LEVEL), Ok);
                let zstd = self.zstd.insert(made.map_err(|error| format!("zstd: {error}"))?);
                zstd.compress(&self.text).map_err(|error| format!("zstd: {error}"))
            }
        }
    }
}
