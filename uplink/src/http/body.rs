//! Bodies: which records, in which format, compressed.

use crate::metrics;
use crate::ndjson::Ndjson;
use crate::otlp::Otlp;
use crate::otlp::metrics::OtlpMetrics;
use crate::reader::{More, Reader};
use crate::remote_write::RemoteWrite;
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
    /// What its head says of it.
    pub headers: Vec<(&'static str, &'static str)>,
}

/// What a body is made of.
enum Format {
    Ndjson(Ndjson),
    /// One record in each body.
    Json(Ndjson),
    Otlp(Box<Otlp>),
    OtlpMetrics(Box<OtlpMetrics>),
    RemoteWrite(Box<RemoteWrite>),
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
const fn coding(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::None => None,
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
    }
}

/// Why a record can never be sent as `kind` wants it, where that is so.
pub fn unfit(kind: Kind, record: &Record<'_>) -> Option<String> {
    if kind.is_of_metrics() { metrics::sample(record).err() } else { None }
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
            (Kind::OtlpMetrics, _) => Format::OtlpMetrics(Box::new(OtlpMetrics::new(device, stream))),
            (Kind::RemoteWrite, _) => Format::RemoteWrite(Box::new(RemoteWrite::new(device))),
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
        let text = &mut self.text;
        // Records that tell what changed hold no numbers: nothing of them is sent.
        let sample = || metrics::sample(record).ok().flatten();
        match &mut self.format {
            Format::Ndjson(format) => format.line(text, seq, record, listener),
            Format::Json(format) => format.document(text, seq, record, listener),
            Format::Otlp(format) => format.record(text, seq, record, listener),
            Format::OtlpMetrics(format) => sample().into_iter().for_each(|sample| format.sample(text, &sample)),
            Format::RemoteWrite(format) => sample().into_iter().for_each(|sample| format.sample(text, &sample)),
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
        match &self.format {
            Format::Otlp(format) => format.close(&mut self.text),
            Format::OtlpMetrics(format) => format.close(&mut self.text),
            Format::Ndjson(_) | Format::Json(_) | Format::RemoteWrite(_) => {}
        }
        let packed = self.pack();
        self.text.clear();
        let (ranges, count) = (std::mem::take(&mut self.ranges), std::mem::take(&mut self.count));
        Ok(Body { bytes: packed?.into(), ranges, count, headers: self.headers() })
    }

    fn headers(&self) -> Vec<(&'static str, &'static str)> {
        let of_type = |content_type| vec![("content-type", content_type)];
        let mut headers = match &self.format {
            Format::Ndjson(_) => of_type("application/x-ndjson"),
            Format::Json(_) => of_type("application/json"),
            Format::Otlp(_) | Format::OtlpMetrics(_) => of_type("application/x-protobuf"),
            Format::RemoteWrite(_) => {
                let mut headers = of_type("application/x-protobuf");
                headers.extend([("content-encoding", "snappy"), ("x-prometheus-remote-write-version", "0.1.0")]);
                return headers;
            }
        };
        headers.extend(coding(self.compression).map(|coding| ("content-encoding", coding)));
        headers
    }

    fn pack(&mut self) -> Result<Vec<u8>, String> {
        if let Format::RemoteWrite(_) = &self.format {
            // The protocol knows no other.
            let packed = snap::raw::Encoder::new().compress_vec(&self.text);
            return packed.map_err(|error| format!("snappy: {error}"));
        }
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
