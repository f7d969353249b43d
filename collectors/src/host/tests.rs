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
use raven_model::host::{Change, HostEvent, HostRecord, HostSample};
use raven_model::news::News;
use raven_model::record::{Context, Frames};
use raven_model::report::{NetReport, VpnReport, VpnTunnel};
use raven_model::stream::Stream;
use raven_model::table::Role;
use raven_model::units::{Span, UnixNanos};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A role that runs in a thread, and both ends that it talks to.
struct Rig {
    ravend: Channel,
    store: StoreMemory,
    memory: [OwnedFd; 2],
    wake: std::io::PipeReader,
    role: JoinHandle<Result<(), CollectorError>>,
    taken: u64,
    packet: Vec<u8>,
}

/// Starts a role with this memory.
fn life(
    source: impl Source + Send + 'static,
    interval: Duration,
    memory: &[OwnedFd; 2],
    epoch: u64,
) -> (Channel, std::io::PipeReader, JoinHandle<Result<(), CollectorError>>) {
    let [memory, words] = memory.each_ref().map(|fd| fd.try_clone().unwrap());
    // A pipe instead of the eventfd: it is written to in the same way.
    let (wake, write) = std::io::pipe().unwrap();
    let (ravend, channel) = Channel::pair().unwrap();
    let role = std::thread::spawn(move || {
        let fds = vec![memory, words, OwnedFd::from(write)];
        let host = Host::of(source, &start(interval), fds, channel, epoch).unwrap();
        host.ready(vec!["nothing".to_owned()])?.run()
    });
    (ravend, wake, role)
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
        let memory = [memory, words];
        let (ravend, wake, role) = life(source, interval, &memory, 7);
        let mut rig = Self { ravend, store, memory, wake, role, taken: 0, packet: vec![0; PACKET_MAX] };
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
                if !record.received.is_record() {
                    let mut run = Vec::new();
                    Context::read(record.raw).unwrap().write_run(&mut run);
                    self.store.set_snapshot(&run);
                    continue;
                }
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

    /// The role dies; another takes its place.
    fn die(&mut self, interval: Duration) {
        let (ravend, wake, role) = life(Scripted::default(), interval, &self.memory, 8);
        drop(std::mem::replace(&mut self.ravend, ravend));
        let _ = std::mem::replace(&mut self.role, role).join().unwrap();
        self.wake = wake;
    }

    /// Passes reports on, each second as `ravend` does, until an event is a record; the events that came.
    fn events(&mut self, reports: &[(Role, Box<RawValue>)]) -> Vec<HostEvent> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            for (role, report) in reports {
                self.tell(&ToWorker::Report { role: *role, report: report.clone() });
            }
            std::thread::sleep(Duration::from_millis(300));
            let is_event = |record| if let HostRecord::Event(event) = record { Some(event) } else { None };
            let events: Vec<_> = self.take().into_iter().filter_map(is_event).collect();
            if !events.is_empty() || Instant::now() > end {
                return events;
            }
        }
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

fn vpn(news: &News) -> (Role, Box<RawValue>) {
    let tunnel = VpnTunnel {
        loss: Some(12),
        rtt_ms: Some(34.5),
        changes: 3,
        carries: true,
        expires_s: Some(-1),
        ..VpnTunnel::new("noc".parse().unwrap(), "degraded".to_owned())
    };
    (Role::Vpn, to_raw_value(&VpnReport { tunnels: vec![tunnel], news: news.clone() }).unwrap())
}

fn net(news: &News) -> (Role, Box<RawValue>) {
    (Role::Net, to_raw_value(&NetReport { news: news.clone(), ..NetReport::default() }).unwrap())
}

fn state(state: &str) -> Change {
    Change::TunnelState { tunnel: "noc".to_owned(), state: state.to_owned(), cause: "no route".to_owned() }
}

fn told(events: &[HostEvent]) -> Vec<(u64, &Change)> {
    events.iter().map(|event| (event.t.0, &event.what)).collect()
}

#[test]
fn what_other_roles_tell_becomes_one_record_each_also_when_the_role_dies_meanwhile() {
    let hour = Duration::from_hours(1);
    let mut rig = Rig::new(Scripted::default(), hour);
    let (mut tunnels, mut links) = (News::new(11), News::new(22));
    tunnels.add(UnixNanos(1), state("up"));
    tunnels.add(UnixNanos(2), state("down"));
    let down = Change::CarrierDown { interface: "eth0".to_owned() };
    links.add(UnixNanos(3), down.clone());
    let mut events = rig.events(&[net(&links), vpn(&tunnels)]);
    if events.len() < 3 {
        events.extend(rig.events(&[net(&links), vpn(&tunnels)]));
    }
    assert_eq!(told(&events), [(3, &down), (1, &state("up")), (2, &state("down"))]);
    rig.die(hour);
    tunnels.add(UnixNanos(4), state("up"));
    assert_eq!(told(&rig.events(&[net(&links), vpn(&tunnels)])), [(4, &state("up"))]);
    // More at once than a report holds is counted.
    (0..70).for_each(|n| tunnels.add(UnixNanos(100 + n), state("off")));
    let events = rig.events(&[net(&links), vpn(&tunnels)]);
    assert_eq!(events[0].what, Change::EventsMissed { role: "vpn".to_owned(), count: 6 });
    assert_eq!((events.len(), events[1].t.0, events[64].t.0), (65, 106, 169));
    rig.stop();
}

#[test]
fn tunnels_are_in_the_sample_while_somebody_tells_of_them() {
    let mut rig = Rig::new(Scripted::default(), Duration::from_secs(1));
    assert!(sample(&rig.next()).tunnels.is_empty());
    let (role, report) = vpn(&News::new(11));
    rig.tell(&ToWorker::Report { role, report });
    let next = rig.next();
    let [tunnel] = &sample(&next).tunnels[..] else { panic!("one tunnel: {next:?}") };
    assert_eq!((tunnel.name.as_str(), tunnel.state.as_str(), tunnel.carries), ("noc", "degraded", true));
    assert_eq!((tunnel.loss, tunnel.rtt_s, tunnel.changes), (Some(0.12), Some(0.0345), 3));
    assert_eq!(tunnel.certificate_s, Some(-1));
    rig.stop();
}

#[test]
fn a_carrier_is_told_of_by_the_sample_when_net_does_not() {
    let carrier = |up: bool| {
        let mut source = Scripted::default();
        let ones = ["1"; 16].join(" ");
        source.set("/proc/net/dev", &format!("\n\neth0: {ones}\n"));
        source.set("/sys/class/net/eth0/carrier", if up { "1" } else { "0" });
        source
    };
    let (ravend, channel) = Channel::pair().unwrap();
    let (memory, words) = create("host").unwrap();
    let fds = vec![memory, words, OwnedFd::from(std::io::pipe().unwrap().1)];
    let mut host = Host::of(carrier(true), &start(Duration::from_hours(1)), fds, channel, 7).unwrap();
    let mut lines = |is_up: bool, report: Option<&News>| {
        if let Some(news) = report {
            let (role, report) = net(news);
            host.obey(&ToWorker::Report { role, report });
        }
        (host.source, host.next_sample) = (carrier(is_up), Instant::now());
        let before = host.speaker.waiting();
        host.sample_when_due();
        host.speaker.waiting() - before
    };
    let (one, other) = (News::new(1), News::new(2));
    assert_eq!(lines(true, None), 1);
    assert_eq!(lines(false, None), 2, "nobody else tells");
    assert_eq!(lines(true, Some(&one)), 2, "net was not there all the time");
    assert_eq!(lines(false, Some(&one)), 1, "net tells");
    assert_eq!(lines(true, Some(&other)), 2, "another net, which may have missed it");
    drop(ravend);
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
