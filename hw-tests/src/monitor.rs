//! QEMU's monitor (QMP): one JSON object a line.

use crate::serial::reached;
use anyhow::{Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A connection that is ready for commands.
#[derive(Debug)]
pub struct Monitor {
    lines: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects and leaves the state of negotiation.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = reached(socket)?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        let mut monitor = Self { lines: BufReader::new(stream) };
        monitor.line()?;
        monitor.command("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// What is on the screen, as a PNG.
    pub fn screenshot(&mut self, to: &Path) -> Result<()> {
        self.command("screendump", &json!({"filename": std::path::absolute(to)?, "format": "png"}))
    }

    /// The button that turns a box off.
    pub fn power_button(&mut self) -> Result<()> {
        self.command("system_powerdown", &json!({}))
    }

    fn command(&mut self, name: &str, arguments: &Value) -> Result<()> {
        let request = json!({"execute": name, "arguments": arguments});
        self.lines.get_mut().write_all(format!("{request}\n").as_bytes())?;
        loop {
            let answer = self.line()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU: {name}: {error}");
            }
            if answer.get("return").is_some() {
                return Ok(());
            }
        }
    }

    fn line(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            bail!("QEMU has gone");
        }
        Ok(serde_json::from_str(&line)?)
    }
}
