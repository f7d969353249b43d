//! `raven gen winevent`: a forwarder for each sender, which repeats a batch until it is answered.

mod body;
mod event;
mod forwarder;
mod http;

use super::args::CommonArgs;
use super::drive;
use super::marks::{Kind, Summary};
use crate::failure::{Failure, file};
use clap::{Args, ValueEnum};
use forwarder::Forwarder;
use raven_model::units::Span;
use std::path::PathBuf;

/// Most events in a request.
const BATCH_MAX: u64 = 10_000;

/// `raven gen winevent`.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("to", |arg| arg.default_value("127.0.0.1:8084")))]
pub struct WineventArgs {
    /// What every generator is told.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Path of the requests
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub path: String,
    /// How events stand in a body
    #[arg(long, value_enum, default_value_t = Shape::Ndjson)]
    pub shape: Shape,
    /// Events in a request; one with --shape object
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub batch: u64,
    /// How bodies are packed
    #[arg(long, value_enum, default_value_t = Encoding::Identity)]
    pub encoding: Encoding,
    /// Bearer token: the first line of this file
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// How long to repeat a request that is not answered, or answered with 429 or 503, before giving up
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub patience: Span,
}

/// How events stand in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// A JSON object a line
    Ndjson,
    /// A JSON array of objects
    Array,
    /// One JSON object
    Object,
    /// `<Events>` of Windows' own `<Event>`
    Xml,
}

/// How bodies are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// Not
    Identity,
    /// RFC 1952, level 1
    Gzip,
    /// RFC 8878, level 1
    Zstd,
}

impl Encoding {
    /// As in `Content-Encoding`.
    const fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// Runs it.
pub fn run(args: &WineventArgs) -> Result<Summary, Failure> {
    if !(1..=BATCH_MAX).contains(&args.batch) {
        return Err(Failure::Usage(format!("--batch {}: expected 1 to {BATCH_MAX}", args.batch)));
    }
    if !args.path.starts_with('/') || args.path.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err(Failure::Usage(format!("--path {}: expected `/` and more, without spaces", args.path)));
    }
    let plan = args.common.plan("http")?;
    let token = args.token.as_ref().map(read_token).transpose()?;
    let head = http::head(args, token.as_deref());
    let mut forwarders: Vec<_> = (0..plan.senders).map(|id| Forwarder::new(id, &plan, args, &head)).collect();
    drive::in_threads(Kind::Winevent, &plan, &mut forwarders)
}

fn read_token(path: &PathBuf) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(file("read", path))?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.is_empty() || token.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err(Failure::Usage(format!("{}: its first line is no token", path.display())));
    }
    Ok(token.to_owned())
}
