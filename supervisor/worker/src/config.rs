//! The `config` role: parses and checks one configuration text.

use raven_model::config::Config;
use raven_model::control::{Fd, Start};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

/// The checked configuration, or what is wrong with it, a line each.
pub fn read(start: &Start, fds: Vec<OwnedFd>) -> Result<Box<Config>, Vec<String>> {
    let text = start.fds.iter().zip(fds).find_map(|(name, fd)| match name {
        Fd::ConfigText { name } => Some((name.clone(), fd)),
        _ => None,
    });
    let Some((name, fd)) = text else { return Err(vec!["ravend passed no configuration".to_owned()]) };
    let mut bytes = Vec::new();
    File::from(fd).read_to_end(&mut bytes).map_err(|error| vec![format!("{name}: cannot be read: {error}")])?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = memchr::memchr_iter(b'\n', good).count() + 1;
        vec![format!("{name}:{line}:1: not UTF-8 text")]
    })?;
    Config::layered(None, (&name, &text), start.environment.clone())
        .map(Box::new)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}
