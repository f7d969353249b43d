//! The role from its first message to its last: a made-up machine, the receive memory, a store that reads it back.

#![allow(clippy::unwrap_used)]

use super::Host;
use super::sample::{Fixed, line, sample as look};
use super::source::{Machine, Scripted, Source};
use super::step::step;
use crate::CollectorError;
use raven_jail::channel::Channel;
use raven_jail::receive::{StoreMemory, Waiting, create};
use raven_model::config::Config;
use raven_model::control::{Fd, FromWorker, PACKET_MAX, Start, ToWorker};
use raven_model::host::{Change, HostRecord, HostSample};
use raven_model::record::Frames;
use raven_model::stream::Stream;
use raven_model::table::Role;
use raven_model::units::{Span, UnixNanos};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A role that runs in a thread, and both ends that it talks to.
struct Rig {
    ravend: Channel,
    store: StoreMemory,
    wake: std::io::PipeReader,
    role: JoinHandle<Result<(), CollectorError>>,
    taken: u64,
    packet: Vec<u8>,
}

fn start(interval: Duration) -> Start {
    let mut config = Config::default();
    config.collect.host.interval = Span(interval);
    let stream = Stream::Host;
    Start {
        role: Role::Host,
        device: "test".to_owned(),
        boot_id: "0".repeat(32),
        data: "/".into(),
        config: Some(Box::new(config)),
        listeners: BTreeMap::new(),
        environment: BTreeMap::new(),
        fds: vec![Fd::Ring { stream }, Fd::Words { stream }, Fd::Wake { stream }],
    }
}

impl Rig {
    fn new(source: impl Source + Send + 'static, interval: Duration) -> Self {
        let (memory, words) = create("host").unwrap();
        let store = StoreMemory::open(&memory, &words).unwrap();
        store.wait(Waiting::Idle);
        // A pipe instead of the eventfd: it is written to in the same way.
        let (wake, write) = std::io::pipe().unwrap();
        let (ravend, channel) = Channel::pair().unwrap();
        let role = std::thread::spawn(move || {
            let fds = vec![memory, words, OwnedFd::from(write)];
            let host = Host::of(source, &start(interval), fds, channel, 7).unwrap();
            host.ready(vec!["nothing".to_owned()])?.run()
        });
        let mut rig = Self { ravend, store, wake, role, taken: 0, packet: vec![0; PACKET_MAX] };
        assert!(matches!(rig.hear(), FromWorker::Ready { missing } if missing == ["nothing"]));
        rig
    }

    fn hear(&mut self) -> FromWorker {
        self.ravend.recv_json(&mut self.packet).unwrap().unwrap().0
    }

    /// Records that have come by now.
    fn take(&mut self) -> Vec<HostRecord> {
        let (mut buffer, mut records) = (Vec::new(), Vec::new());
        while self.taken < self.store.published() {
            self.taken += 1;
            let batch = self.store.take(self.taken, &mut buffer).unwrap();
            self.store.taken(batch.len);
            for record in Frames::new(&buffer) {
                let record = record.unwrap();
                assert_eq!((record.received.source, record.received.listener), ("127.0.0.1:0".parse().unwrap(), 0));
                records.push(HostRecord::read(record.raw).unwrap());
            }
            self.store.set_durable(self.taken);
        }
        records
    }

    /// The next records, waited for.
    fn next(&mut self) -> Vec<HostRecord> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let records = self.take();
            if !records.is_empty() {
                return records;
            }
            assert!(Instant::now() < end, "no record came");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn tell(&self, message: &ToWorker) {
        self.ravend.send_json(message, &[]).unwrap();
    }

    fn stop(self) {
        self.tell(&ToWorker::Stop);
        self.role.join().unwrap().unwrap();
    }
}

fn sample(records: &[HostRecord]) -> &HostSample {
    match records {
        [.., HostRecord::Sample(sample)] => sample,
        other => panic!("no sample at the end of {other:?}"),
    }
}

#[test]
fn this_machine_is_in_the_stream_at_once_and_again_after_the_interval() {
    use std::io::Read;
    let mut rig = Rig::new(Machine, Duration::from_secs(1));
    let first = rig.next();
    assert!(sample(&first).memory.total_bytes > 0 && sample(&first).cpu.busy.is_none());
    rig.wake.read_exact(&mut [0; 8]).unwrap();
    let second = rig.next();
    let passed = sample(&second).monotonic_ns - sample(&first).monotonic_ns;
    assert!((900_000_000..5_000_000_000).contains(&passed), "{passed} ns");
    assert!(sample(&second).cpu.busy.is_some());
    let FromWorker::Heartbeat { report } = rig.hear() else { panic!("a heartbeat") };
    assert!(report.get().contains("\"published\":"));
    rig.stop();
}

/// A clock that jumps an hour at each look.
struct Jumping(std::cell::Cell<u64>);

impl Source for Jumping {
    fn text(&self, path: &str) -> Option<String> {
        Scripted::default().text(path)
    }
    fn names(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
    fn space(&self, _: &str) -> Option<(raven_model::host::Space, bool)> {
        None
    }
    fn clocks(&self) -> (UnixNanos, u64) {
        self.0.set(self.0.get() + 1);
        (UnixNanos(self.0.get() * 3_600_000_000_000), self.0.get() * 1_000_000_000)
    }
}

#[test]
fn what_changed_stands_before_the_sample_that_shows_it() {
    let mut rig = Rig::new(Jumping(std::cell::Cell::new(0)), Duration::from_secs(1));
    assert_eq!(rig.next().len(), 1);
    let second = rig.next();
    let [HostRecord::Event(event), HostRecord::Sample(sample)] = &second[..] else { panic!("{second:?}") };
    assert_eq!((event.t, &event.what), (sample.t, &Change::ClockStepped { step_s: 3599.0 }));
    rig.stop();
}

#[test]
fn the_configuration_sets_the_interval_and_turns_it_off_and_on() {
    let mut rig = Rig::new(Scripted::default(), Duration::from_hours(1));
    assert_eq!(rig.next().len(), 1);
    let mut config = *start(Duration::from_secs(1)).config.unwrap();
    rig.tell(&ToWorker::Configure(Box::new(config.clone())));
    assert_eq!(rig.next().len(), 1);
    config.collect.host.enabled = false;
    rig.tell(&ToWorker::Configure(Box::new(config.clone())));
    std::thread::sleep(Duration::from_millis(1300));
    rig.take();
    std::thread::sleep(Duration::from_millis(1300));
    assert_eq!(rig.take(), []);
    config.collect.host.enabled = true;
    rig.tell(&ToWorker::Configure(Box::new(config)));
    assert_eq!(rig.next().len(), 1);
    rig.stop();
}

#[test]
fn messages_that_it_does_not_need_are_passed_over_and_a_closed_channel_ends_it() {
    let mut rig = Rig::new(Scripted::default(), Duration::from_hours(1));
    for message in [ToWorker::Unlisten(3), ToWorker::Secrets(Vec::new()), ToWorker::Listeners(BTreeMap::new())] {
        rig.tell(&message);
    }
    assert_eq!(rig.next().len(), 1);
    assert!(!rig.role.is_finished());
    drop(rig.ravend);
    // With heartbeats that nobody has read the kernel says that the connection was reset.
    let _ = rig.role.join().unwrap();
}

/// Files that a sample looks at.
const FILES: [&str; 22] = [
    "/proc/stat",
    "/proc/loadavg",
    "/proc/pressure/cpu",
    "/proc/pressure/io",
    "/proc/meminfo",
    "/proc/vmstat",
    "/proc/diskstats",
    "/proc/self/mounts",
    "/proc/net/dev",
    "/proc/net/snmp",
    "/proc/net/snmp6",
    "/proc/sys/net/netfilter/nf_conntrack_count",
    "/proc/sys/net/netfilter/nf_conntrack_max",
    "/proc/7/stat",
    "/sys/block/sda",
    "/sys/class/net/eth0/carrier",
    "/sys/class/net/eth0/speed",
    "/sys/class/hwmon/hwmon0/temp1_input",
    "/sys/class/hwmon/hwmon0/temp1_crit",
    "/sys/class/hwmon/hwmon0/power1_input",
    "/sys/class/thermal/thermal_zone0/temp",
    "/sys/class/power_supply/BAT0/capacity",
];

proptest::proptest! {
    /// Whatever the files and clocks say, what comes of it is a record that reads back.
    #[test]
    fn any_machine_is_sampled_and_its_records_read_back(
        texts in proptest::collection::vec("(cpu |eth0:|some avg10=|7 \\(ravend\\) S|[0-9.\n -]{1,9}|\\PC){0,40}", 44),
        clocks in proptest::collection::vec(proptest::prelude::any::<u64>(), 4),
    ) {
        let fixed = Fixed { boot_id: texts[0].clone(), data: "/".to_owned(), page: u64::MAX };
        let mut before = None;
        for (texts, clocks) in texts.chunks(22).zip(clocks.chunks(2)) {
            let mut source = Scripted { clocks: (UnixNanos(clocks[0]), clocks[1]), ..Scripted::default() };
            for (file, text) in FILES.iter().zip(texts) {
                source.set(file, text);
            }
            let (now, events) = step(before.take(), look(&source, &fixed));
            for event in events {
                let text = serde_json::to_vec(&event).unwrap();
                proptest::prop_assert_eq!(HostRecord::read(&text), Ok(HostRecord::Event(event)));
            }
            let text = line(now.sample());
            proptest::prop_assert_eq!(HostRecord::read(&text), Ok(HostRecord::Sample(Box::new(now.sample().clone()))));
            before = Some(now);
        }
    }
}
