//! `cargo run --release -p raven-decode --example winevent_speed [FILE...]`: how fast bodies are split and events
//! decoded, by the shape of the body. Without files, an event as NXLog sends it.

use raven_decode::winevent;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Size of the bodies.
const BODY: usize = 8 << 20;
const LENGTH: Duration = Duration::from_millis(700);

const SAMPLE: &str = r#"{"Keywords":-9223372036854775808,"SeverityValue":2,"TargetObject":"HKU\\S-1-5-21-4228717743-1032521047-1810997296-1104\\Software\\Microsoft\\Windows\\CurrentVersion\\Explorer\\UserAssist","EventID":13,"ProviderGuid":"{5770385F-C22A-43E0-BF4C-06F5698FFBD9}","ExecutionProcessID":3172,"Channel":"Microsoft-Windows-Sysmon/Operational","UserID":"S-1-5-18","AccountType":"User","ThreadID":4048,"EventReceivedTime":"2020-09-22 14:53:04","EventTime":"2020-09-22 14:53:01","RecordNumber":3518579,"Task":13,"Domain":"NT AUTHORITY","OpcodeValue":0,"SourceModuleName":"eventlog","Severity":"INFO","SourceName":"Microsoft-Windows-Sysmon","Image":"C:\\windows\\Explorer.EXE","Category":"Registry value set (rule: RegistryEvent)","UtcTime":"2020-09-22 18:53:01.266","Hostname":"WORKSTATION5.theshire.local"}"#;

fn main() {
    let files: Vec<_> = std::env::args_os().skip(1).collect();
    if files.is_empty() {
        measure("sample", &[SAMPLE.as_bytes().to_vec()]);
    }
    for file in files {
        match std::fs::read(&file) {
            Ok(bytes) => {
                let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                measure(&file.to_string_lossy(), &lines.map(<[u8]>::to_vec).collect::<Vec<_>>());
            }
            Err(error) => eprintln!("{}: {error}", file.display()),
        }
    }
}

fn measure(name: &str, lines: &[Vec<u8>]) {
    let many: Vec<&[u8]> = {
        let size = lines.iter().map(|line| line.len() + 1).sum::<usize>().max(1);
        std::iter::repeat_n(lines, BODY / size + 1).flatten().map(Vec::as_slice).collect()
    };
    println!("{name}: {} bytes an event", many.iter().map(|line| line.len()).sum::<usize>() / many.len().max(1));
    if lines.iter().all(|line| line.starts_with(b"<E")) {
        split("xml, concatenated", &many.concat());
    } else if lines.iter().all(|line| line.starts_with(b"{")) {
        split("ndjson", &many.join(&b"\n"[..]));
        split("array", &[&b"["[..], &many.join(&b","[..]), b"]"].concat());
    }
    let (mut bytes, mut events) = (0, 0);
    let seconds = repeat(|| {
        for line in lines {
            black_box(winevent::decode(black_box(line)));
            bytes += line.len();
            events += 1;
        }
    });
    println!("  decode: {:.0} MB/s, {:.0} events/s", bytes as f64 / 1e6 / seconds, f64::from(events) / seconds);
}

fn split(shape: &str, body: &[u8]) {
    let mut rounds = 0;
    let mut events = 0;
    let seconds = repeat(|| {
        rounds += 1;
        events = winevent::split(black_box(body)).map_or(0, |split| split.events.len());
    });
    let speed = body.len() as f64 * f64::from(rounds) / 1e9 / seconds;
    println!("  split, {shape}: {speed:.2} GB/s, {events} events");
}

fn repeat(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    while start.elapsed() < LENGTH {
        work();
    }
    start.elapsed().as_secs_f64()
}
