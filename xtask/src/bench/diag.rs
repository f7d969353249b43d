//! Tests of the network beside fping, mtr and iperf3, in a chain of network namespaces: the box is the first, twenty hops follow.

use super::Bench;
use super::machine::{children_of, cpu_seconds};
use super::measure::Subject as _;
use super::raven::Raven;
use super::table::{Row, Target};
use crate::build::must;
use crate::matrix::net::inside;
use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Namespaces of the chain: the box, nineteen routers and the target.
const NODES: usize = 21;
/// Targets that are pinged: addresses of the loopback.
const TARGETS: usize = 1000;
/// Turns of each measurement that compares, of which the middle one counts.
const TURNS: usize = 3;

/// The chain; removed when dropped.
struct Chain;

fn node(n: usize) -> String {
    format!("raven-bench-{n}")
}

fn ip(line: &str) -> Result<()> {
    must(Command::new("ip").args(line.split(' ')))
}

impl Chain {
    /// From one to the next a network 10.99.N.0/30.
    fn new() -> Result<Self> {
        drop(Self);
        let chain = Self;
        for n in 0..NODES {
            let name = node(n);
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
            for setting in [
                "net.ipv4.ip_forward=1",
                "net.ipv4.icmp_ratelimit=0",
                "net.ipv4.icmp_msgs_per_sec=100000",
                "net.ipv4.ping_group_range=0 65535",
                "net.ipv4.conf.all.rp_filter=0",
                "net.ipv4.conf.default.rp_filter=0",
            ] {
                must(inside(&name, "sysctl").args(["-qw", setting]))?;
            }
        }
        for n in 0..NODES - 1 {
            let (near, far) = (node(n), node(n + 1));
            ip(&format!("-n {near} link add east type veth peer name west netns {far}"))?;
            for (name, link, host) in [(&near, "east", 1), (&far, "west", 2)] {
                ip(&format!("-n {name} addr add 10.99.{n}.{host}/30 dev {link}"))?;
                ip(&format!("-n {name} link set {link} up"))?;
            }
            ip(&format!("-n {near} route add default via 10.99.{n}.2"))?;
            for behind in 0..n {
                ip(&format!("-n {far} route add 10.99.{behind}.0/30 via 10.99.{n}.1"))?;
            }
        }
        Ok(chain)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        for n in (0..NODES).filter(|n| std::path::Path::new("/run/netns").join(node(*n)).exists()) {
            let _ = ip(&format!("netns delete {}", node(n)));
        }
    }
}

/// A program that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// CPU seconds of children that ended.
fn children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let done = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(done.status.code().is_some_and(|code| code <= 1), "{command:?}: {said}");
    Ok(done.stdout)
}

fn json(command: &mut Command) -> Result<Value> {
    let text = output(command)?;
    serde_json::from_slice(&text).with_context(|| format!("{command:?}: {}", String::from_utf8_lossy(&text)))
}

fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// All of them.
pub fn run(bench: &Bench) -> Result<Vec<Row>> {
    let _chain = Chain::new()?;
    let raven = Raven::start_inside(&bench.programs, &node(0))?;
    let mut rows = pings(bench, &raven)?;
    rows.extend(traces(&raven)?);
    rows.extend(bandwidth(bench, &raven)?);
    raven.stop()?;
    Ok(rows)
}

/// What all processes of Raven take in a second in which nothing is tested.
fn idle(raven: &Raven) -> f64 {
    let (before, began) = (cpu_seconds(raven.pid()), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    (cpu_seconds(raven.pid()) - before) / began.elapsed().as_secs_f64()
}

/// A thousand targets, each once a second: what it takes of a processor.
fn pings(bench: &Bench, raven: &Raven) -> Result<Vec<Row>> {
    let targets: Vec<String> = (0..TARGETS).map(|n| format!("127.1.{}.{}", n / 250, n % 250 + 1)).collect();
    let count = if bench.quick { "5" } else { "20" };
    let (mut theirs, mut ours, mut times) = (Vec::new(), Vec::new(), (Vec::new(), Vec::new()));
    let idle = idle(raven);
    for _ in 0..if bench.quick { 1 } else { TURNS } {
        let before = children()?;
        let done = inside(&node(0), "fping")
            // Its own pause between two pings, 10 ms, would make one a second to each impossible.
            .args(["-q", "-i", "1", "-p", "1000", "-c", count])
            .args(&targets)
            .stdin(Stdio::null())
            .output()?;
        theirs.push(children()? - before);
        ensure!(String::from_utf8_lossy(&done.stderr).contains("/0%"), "fping lost some");
        let (kept, roles, before, began) =
            (children_of(raven.pid()), cpu_seconds(raven.pid()), children()?, Instant::now());
        let results = json(raven.raven().args(["ping", "--json", "-i", "1s", "-c", count]).args(&targets))?;
        let command = children()? - before;
        // What its threads took is known of the role as a whole, once it has ended. Asking for it would count, too.
        let has_ended = || children_of(raven.pid()).iter().all(|pid| kept.contains(pid));
        ensure!(!has_ended(), "no role has made the test");
        let patience = Instant::now() + Duration::from_secs(40);
        while !has_ended() {
            ensure!(Instant::now() < patience, "the diag role does not end");
            std::thread::sleep(Duration::from_millis(500));
        }
        let roles = cpu_seconds(raven.pid()) - roles;
        ours.push(command + roles - idle * began.elapsed().as_secs_f64());
        ensure!(
            results.as_array().is_some_and(|all| all.iter().all(|one| one["received"] == one["sent"])),
            "raven lost some"
        );
    }
    // To the end of the chain: what either says of the same way.
    for _ in 0..TURNS {
        let target = format!("10.99.{}.2", NODES - 2);
        let done =
            inside(&node(0), "fping").args(["-q", "-p", "20", "-C", "200", &target]).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        let all = said.rsplit(':').next().unwrap_or_default().split_whitespace().filter_map(|ms| ms.parse().ok());
        times.0.push(middle(all.map(|ms: f64| ms * 1000.0).collect()));
        let results = json(raven.raven().args(["ping", "--json", "-i", "20ms", "-c", "200", &target]))?;
        times.1.push(results[0]["rtt"]["p50_us"].as_f64().context("no times")?);
    }
    let (theirs_us, ours_us) = (middle(times.0), middle(times.1));
    Ok(vec![
        Row {
            bench: "diag",
            what: format!("CPU for {TARGETS} targets, one ping a second, {count} s"),
            unit: "s",
            reference: Some(("fping".to_owned(), middle(theirs))),
            raven: middle(ours),
            target: Target::RatioAtMost(1.0),
        },
        Row {
            bench: "diag",
            what: "round-trip time over 20 hops, median".to_owned(),
            unit: "us",
            reference: Some(("fping".to_owned(), theirs_us)),
            raven: ours_us,
            target: Target::AtMost(theirs_us + 50.0),
        },
    ])
}

/// Twenty hops, three rounds.
fn traces(raven: &Raven) -> Result<Vec<Row>> {
    let target = format!("10.99.{}.2", NODES - 2);
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let began = Instant::now();
        output(
            inside(&node(0), "mtr").args(["--report", "-n", "-c", "3", "-i", "0.2", "-G", "1", "-Z", "1", &target]),
        )?;
        theirs.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        let result = json(raven.raven().args(["trace", "--json", "-c", "3", "-i", "200ms", "-W", "1s", &target]))?;
        ours.push(began.elapsed().as_secs_f64());
        let hops = result["hops"].as_array().map_or(0, Vec::len);
        ensure!(result["reached"] == true && hops == NODES - 1, "{hops} hops: {result}");
    }
    Ok(vec![Row {
        bench: "diag",
        what: "trace of 20 hops, 3 rounds of 200 ms".to_owned(),
        unit: "s",
        reference: Some(("mtr".to_owned(), middle(theirs))),
        raven: middle(ours),
        target: Target::RatioAtMost(1.0),
    }])
}

/// As fast as can be, to the same server, over the loopback and over a veth; in turns, since the machine is noisy.
fn bandwidth(bench: &Bench, raven: &Raven) -> Result<Vec<Row>> {
    let seconds = if bench.quick { "3" } else { "8" };
    let mut rows = Vec::new();
    for (way, at, target) in [("loopback", 0, "127.0.0.1"), ("veth", 1, "10.99.0.2")] {
        let server = inside(&node(at), "iperf3").args(["-s"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let _server = Running(server);
        std::thread::sleep(Duration::from_millis(500));
        let (mut theirs, mut ours) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for _ in 0..TURNS {
            let result = json(inside(&node(0), "iperf3").args(["-J", "-t", seconds, "-c", target]))?;
            theirs.0.push(result["end"]["sum_received"]["bits_per_second"].as_f64().context("no rate")? / 1e9);
            theirs.1.push(result["end"]["cpu_utilization_percent"]["host_total"].as_f64().context("no CPU")?);
            let result = json(raven.raven().args(["bw", "--json", "-t", &format!("{seconds}s"), target]))?;
            ours.0.push(result["sums"][0]["received"]["bits_per_second"].as_f64().context("no rate")? / 1e9);
            let [user, system] = ["user", "system"].map(|part| result["cpu"][part].as_f64());
            ours.1.push(user.zip(system).map(|(user, system)| user + system).context("no CPU")?);
        }
        let row = |what: String, unit, theirs, ours, target| Row {
            bench: "diag",
            what,
            unit,
            reference: Some(("iperf3".to_owned(), middle(theirs))),
            raven: middle(ours),
            target,
        };
        rows.push(row(format!("TCP over {way}"), "Gbit/s", theirs.0, ours.0, Target::RatioAtLeast(0.95)));
        rows.push(row(
            format!("TCP over {way}, CPU of the sender"),
            "percent",
            theirs.1,
            ours.1,
            Target::RatioAtMost(1.2),
        ));
    }
    Ok(rows)
}
