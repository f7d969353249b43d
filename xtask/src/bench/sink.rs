//! The machine's own limit: a program that receives and counts, and does nothing else.

use super::Bench;
use super::load::{Load, What};
use super::measure::{self, Subject};
use super::table::{Row, Target};
use crate::args::Args;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt::RcvBuf};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, IoSliceMut, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Datagrams a call.
const BATCH: usize = 256;

/// CPU of the bare receiver at 100,000 messages a second.
pub fn run(bench: &Bench) -> Result<Vec<Row>> {
    [("udp", What::SyslogUdp), ("tcp", What::SyslogTcp)]
        .into_iter()
        .map(|(proto, what)| {
            let load = Load::plain(what, 100_000, 5);
            let run = measure::run(&bench.programs, Box::new(Sink::start(proto)?), load)?;
            Ok(Row {
                bench: "sink",
                what: format!("bare counting receiver, {proto} at 100 K/s (not Raven: the machine's limit)"),
                unit: "CPU-s per million",
                reference: None,
                raven: run.cpu_per_million(),
                target: Target::None,
            })
        })
        .collect()
}

/// A counting process: this program again.
struct Sink {
    child: Child,
    port: u16,
}

impl Sink {
    fn start(proto: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(["count", proto]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().context("piped above")?).read_line(&mut line)?;
        Ok(Self { child, port: line.trim().parse().context("the sink says its port")? })
    }
}

impl Subject for Sink {
    fn port(&self) -> u16 {
        self.port
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn settle(&mut self, _sent: u64) -> Result<()> {
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<u64> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        let mut said = String::new();
        self.child.stdout.take().context("piped above")?.read_to_string(&mut said)?;
        self.child.wait()?;
        said.trim().parse().context("the sink says its count")
    }
}

/// `xtask count udp|tcp`: prints its port, receives until SIGTERM, prints how much.
pub fn count(mut args: Args) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop))?;
    let counted = if args.word().as_deref() == Some("tcp") { count_tcp(&stop)? } else { count_udp(&stop)? };
    println!("{counted}");
    Ok(())
}

fn count_udp(stop: &AtomicBool) -> Result<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    setsockopt(&socket, RcvBuf, &(4 << 20))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    println!("{}", socket.local_addr()?.port());
    let mut buffers = vec![[0_u8; 2048]; BATCH];
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let mut counted = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let got = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None)
            .map_or(0, Iterator::count);
        counted += got as u64;
        if got < BATCH {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(counted)
}

/// Counts the frames' closing bytes: of the generator's messages none holds `<`, except at its start.
fn count_tcp(stop: &AtomicBool) -> Result<u64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let (mut chunk, mut counted) = (vec![0; 256 * 1024], 0);
    while !stop.load(Ordering::Relaxed) {
        let n = stream.read(&mut chunk).unwrap_or(0);
        counted += memchr::memchr_iter(b'<', &chunk[..n]).count() as u64;
        if n < chunk.len() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(counted)
}
