//! A device that numbers its messages, sends them by RELP, and remembers which were acknowledged when
//! (<https://github.com/rsyslog/librelp>, `doc/relp.html`).

use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// In front of the number.
pub const MARK: &str = "cut-mark=";
/// Under way without an acknowledgement.
const WINDOW: u64 = 32;

/// Sends numbers from `first` on until the connection ends; `acknowledged` gets each with the moment.
pub fn send(port: u16, first: u64, mut acknowledged: impl FnMut(u64, Instant)) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_nodelay(true)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let open = "relp_version=0\ncommands=syslog";
    writeln!(stream, "1 open {} {open}", open.len())?;
    ensure!(answer(&mut answers)? == 1, "the session does not open");
    let (mut sent, mut next) = (0, 2);
    loop {
        let mut frames = String::new();
        while sent < next + WINDOW - 2 {
            let number = first + sent;
            let text = format!("<134>1 - switch venue - - - {MARK}{number} {}", "port is up ".repeat(12));
            let _ = writeln!(frames, "{} syslog {} {text}", sent + 2, text.len());
            sent += 1;
        }
        stream.write_all(frames.as_bytes())?;
        let transaction = answer(&mut answers)?;
        acknowledged(first + transaction - 2, Instant::now());
        next = transaction + 1;
    }
}

/// The transaction that is answered with 200.
fn answer(from: &mut BufReader<TcpStream>) -> Result<u64> {
    let mut words = [String::new(), String::new(), String::new()];
    for word in &mut words {
        let mut bytes = Vec::new();
        from.read_until(b' ', &mut bytes)?;
        String::from_utf8(bytes)?.trim().clone_into(word);
    }
    let [transaction, command, length] = words;
    ensure!(command == "rsp", "`{command}`: the connection has ended");
    let mut rest = vec![0; length.parse::<usize>()? + 1];
    from.read_exact(&mut rest)?;
    ensure!(rest.starts_with(b"200"), "{}", String::from_utf8_lossy(&rest));
    transaction.parse().context("no transaction")
}
