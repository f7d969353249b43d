//! How far a long answer is: a bar on the last line of a terminal, or lines of JSON on standard error for programs.

use crate::time;
use raven_model::query::{Progress, VerifyView};
use raven_model::units::ByteCount;
use std::io::{self, IsTerminal as _, Write as _};

const WIDTH: usize = 20;

/// The line that is being rewritten.
#[derive(Debug, Default)]
pub struct Bar {
    shown: usize,
}

impl Bar {
    /// Of a search.
    pub fn search(&mut self, progress: &Progress, json: bool) {
        if json {
            eprintln!("{}", serde_json::json!({ "progress": progress }));
        } else {
            self.draw(progress.done, progress.total, &search(progress));
        }
    }

    /// Of a check.
    pub fn check(&mut self, view: &VerifyView) {
        let text = format!("{} of {} segments, {} records", view.segments, view.segments_total, view.records);
        self.draw(view.records, view.records_total, &text);
    }

    /// Of an archive, in bytes.
    pub fn bytes(&mut self, done: u64, total: u64, text: &str, json: bool) {
        if json {
            eprintln!("{}", serde_json::json!({ "progress": { "bytes": done, "total": total } }));
        } else {
            self.draw(done, total, text);
        }
    }

    fn draw(&mut self, done: u64, total: u64, text: &str) {
        let mut err = io::stderr();
        if !err.is_terminal() {
            return;
        }
        let line = line(done, total, text);
        let pad = self.shown.saturating_sub(line.len());
        let _ = write!(err, "\r{line}{:pad$}", "");
        let _ = err.flush();
        self.shown = line.len();
    }

    /// Takes it away, before other lines are written.
    pub fn clear(&mut self) {
        if self.shown > 0 {
            let _ = write!(io::stderr(), "\r{:1$}\r", "", self.shown);
            self.shown = 0;
        }
    }
}

fn line(done: u64, total: u64, text: &str) -> String {
    let part = if total == 0 { 1.0 } else { (done as f64 / total as f64).min(1.0) };
    let full = (part * WIDTH as f64) as usize;
    format!("[{}{}] {:3.0} %  {text}", "#".repeat(full), ".".repeat(WIDTH - full), (part * 100.0).floor())
}

/// In words, also behind a search that has ended.
pub fn search(progress: &Progress) -> String {
    let Progress { blocks, passed, bytes, .. } = progress;
    let at = if progress.at_ns.0 == 0 { String::new() } else { format!(", at {}", time::format(progress.at_ns, 0)) };
    format!("{blocks} blocks ({}) looked into, {passed} passed over{at}", ByteCount(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_never_runs_over() {
        assert!(line(0, 0, "x").starts_with("[####################] 100 %"));
        assert!(line(1, 4, "x").starts_with("[#####...............]  25 %"));
        assert!(line(9, 4, "x").starts_with("[####################] 100 %"));
    }
}
