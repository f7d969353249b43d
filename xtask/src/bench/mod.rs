//! bench
use crate::args::Args;
use anyhow::Result;
/// run
pub fn run(_args: Args) -> Result<()> {
    Ok(())
}
