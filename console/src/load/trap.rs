//! `raven gen trap`: interfaces that go down and come up, as traps or as informs.

mod ber;
mod inform;
mod notification;
mod trap_sender;
mod usm;

use super::args::CommonArgs;
use super::drive;
use super::marks::{Kind, Summary};
use crate::failure::Failure;
use clap::Args;
use inform::InformSender;
use notification::Notifications;
use raven_model::units::Span;
use std::path::PathBuf;
use trap_sender::TrapSender;

/// `raven gen trap`.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("to", |arg| arg.default_value("127.0.0.1:1162")))]
pub struct TrapArgs {
    /// What every generator is told.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Version of SNMP
    #[arg(long = "version", value_name = "2c|3", default_value = "2c", value_parser = ["2c", "3"])]
    pub number: String,
    /// 2c: community
    #[arg(long, value_name = "TEXT", default_value = "public")]
    pub community: String,
    /// Informs, which the receiver answers; each is repeated until then
    #[arg(long)]
    pub inform: bool,
    /// Informs: time to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub timeout: Span,
    /// Informs: how often to repeat one before giving up
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub retries: u32,
    /// Informs: how many may be under way without an answer
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub window: usize,
    /// Hand the kernel many traps at once (`UDP_SEGMENT`); sends far faster
    #[arg(long)]
    pub gso: bool,
    /// SNMPv3.
    #[command(flatten)]
    pub usm: UsmArgs,
}

/// Flags for SNMPv3: authPriv with HMAC-SHA-256 and AES-128, authNoPriv or noAuthNoPriv, by the passwords given.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "SNMPv3")]
pub struct UsmArgs {
    /// User
    #[arg(long, value_name = "NAME", default_value = "raven")]
    pub user: String,
    /// Password for SHA-256: the first line of this file, at least 8 bytes
    #[arg(long, value_name = "FILE")]
    pub auth_file: Option<PathBuf>,
    /// Password for AES-128: the first line of this file, at least 8 bytes
    #[arg(long, value_name = "FILE", requires = "auth_file")]
    pub priv_file: Option<PathBuf>,
    /// Traps: engine of sender 0, 5 to 32 bytes in hexadecimal; the last two bytes count up by sender
    #[arg(long, value_name = "HEX", default_value = "80007ed804726176656e0000", value_parser = usm::read_engine)]
    pub engine: usm::EngineId,
}

/// Runs it.
pub fn run(args: &TrapArgs) -> Result<Summary, Failure> {
    let v3 = args.number == "3";
    if args.inform && args.gso {
        return Err(Failure::Usage("--inform goes without --gso: each inform is answered by itself".to_owned()));
    }
    if args.window == 0 || args.timeout.0.is_zero() || args.community.len() > 100 || args.usm.user.len() > 32 {
        let wrong = "expected: --window and --timeout above 0, --community up to 100 and --user up to 32 bytes";
        return Err(Failure::Usage(wrong.to_owned()));
    }
    let plan = args.common.plan("udp")?;
    if args.inform {
        let user = v3.then(|| usm::informant(&args.usm)).transpose()?;
        let open = |id| InformSender::open(id, &plan, args, user.clone()).map_err(|error| plan.failed(error));
        let mut senders = (0..plan.senders).map(open).collect::<Result<Vec<_>, _>>()?;
        return drive::in_threads(Kind::Trap, &plan, &mut senders);
    }
    let keys = v3.then(|| usm::Passwords::read(&args.usm)).transpose()?;
    let notifications = |id| match &keys {
        Some(keys) => Notifications::v3(&plan.run, id, keys.user(&args.usm, id)),
        None => Notifications::v2c(&plan.run, id, &args.community),
    };
    let open = |id| TrapSender::open(id, &plan, args.gso, notifications(id)).map_err(|error| plan.failed(error));
    let mut senders = (0..plan.senders).map(open).collect::<Result<Vec<_>, _>>()?;
    drive::in_turn(Kind::Trap, &plan, &mut senders, &mut ())
}
