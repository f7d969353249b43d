//! The side of a check that judges.

use crate::probes::{self, Order, Probe};
use crate::worker::Answer;
use raven_jail::channel::Channel;
use raven_jail::spawn::{Child, End, SpawnSpec, can_change_user, open_program, spawn};
use raven_jail::{caps, packet, signals};
use raven_model::diag::wire::{HEADERS, Purpose, Tap};
use raven_model::table::{Role, RoleSpec, table};
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::Duration;

/// Longest a single worker may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A directory that only this user can enter, with the program in it and a data directory as `ravend` makes it.
struct Place {
    root: PathBuf,
    program: OwnedFd,
    data: PathBuf,
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Place {
    fn new() -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = env::temp_dir().join(format!("raven-escape-{}-{number}", process::id()));
        let data = root.join("data");
        make_directory(&root, 0o700);
        make_directory(&data, 0o711);
        for (name, mode) in [
            ("ring", 0o750),
            ("cursors", 0o700),
            ("vpn", 0o700),
            ("diag", 0o700),
            ("run", 0o755),
            ("run/vpn", 0o711),
            ("common", 0o777),
        ] {
            make_directory(&data.join(name), mode);
        }
        fs::write(data.join("ring/segment"), "blocks").unwrap();
        fs::write(data.join("common/secret"), "secret").unwrap();
        fs::set_permissions(data.join("ring/segment"), Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(data.join("common/secret"), Permissions::from_mode(0o666)).unwrap();
        if can_change_user() {
            give(&data.join("ring"), Role::Store);
            give(&data.join("ring/segment"), Role::Store);
            give(&data.join("cursors"), Role::Uplink);
            give(&data.join("vpn"), Role::Vpn);
            give(&data.join("diag"), Role::Schedule);
        }
        let program = root.join("program");
        fs::copy(env::current_exe().unwrap(), &program).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        Self { program: open_program(&program).unwrap(), root, data, tcp, udp }
    }

    fn order(&self, probe: Option<usize>, jailed: bool, data: &Path) -> Order {
        Order {
            probe,
            jailed,
            data: data.to_owned(),
            parent: process::id().cast_signed(),
            tcp: self.tcp.local_addr().unwrap(),
            udp: self.udp.local_addr().unwrap(),
        }
    }

    fn start(&self, role: &RoleSpec) -> Worker {
        let (ours, theirs) = Channel::pair().unwrap();
        let child =
            spawn(&SpawnSpec { role, program: self.program.as_fd(), control: theirs.as_fd(), data: &self.data })
                .unwrap();
        Worker { child, channel: ours }
    }
}

impl Drop for Place {
    #[allow(clippy::disallowed_methods)] // a directory that the test made
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).ok();
    }
}

fn make_directory(path: &Path, mode: u32) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn give(path: &Path, role: Role) {
    let uid = table().spec(role).uid;
    chown(path, Some(uid), Some(uid)).unwrap();
}

/// A started worker; killed and reaped when dropped.
struct Worker {
    child: Child,
    channel: Channel,
}

impl Worker {
    fn send(&self, order: &Order) {
        let (reader, mut filler) = io::pipe().unwrap();
        filler.write_all(b"ping").unwrap();
        let (drain, writer) = io::pipe().unwrap();
        let (udp, packet) = (UdpSocket::bind("127.0.0.1:0").unwrap(), packet_socket());
        let fds = [Some(reader.as_fd()), Some(writer.as_fd()), Some(udp.as_fd()), packet.as_ref().map(AsFd::as_fd)];
        self.channel.send_json(order, &fds.into_iter().flatten().collect::<Vec<_>>()).unwrap();
        // The read end of the writer's pipe stays open as long as the worker may write.
        std::mem::forget(drain);
    }

    fn answer(&self) -> Option<Answer> {
        answer(&self.channel)
    }

    fn end(&self) -> End {
        readable(self.child.as_fd());
        self.child.wait().unwrap()
    }

    /// Jailed and waiting.
    fn jail(&self, place: &Place) -> Vec<String> {
        self.send(&place.order(None, true, &self.child.data));
        match self.answer() {
            Some(Answer::Jailed(missing)) => missing,
            Some(other) => panic!("{other:?}"),
            None => panic!("ended with {}", self.end()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill(signals::SIGKILL).ok();
        self.child.wait().ok();
    }
}

/// As `ravend` makes it for a view of the loopback; none where that may not be made.
fn packet_socket() -> Option<OwnedFd> {
    let (interface, purpose) = ("lo".to_owned(), Purpose::View);
    let tap = Tap { interface, purpose, promiscuous: false, outbound: false, snap: None };
    packet::listen(&tap, HEADERS).ok().map(|(socket, _)| socket)
}

fn answer(channel: &Channel) -> Option<Answer> {
    readable(channel.as_fd());
    channel.recv_json(&mut vec![0; 65536]).unwrap().map(|(answer, _)| answer)
}

/// Waits until there is something to read, [`PATIENCE`] at most.
fn readable(fd: BorrowedFd) {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd.
    let ready = unsafe { libc::poll(&raw mut poll, 1, PATIENCE.as_millis() as i32) };
    assert_eq!(ready, 1, "nothing happened within {PATIENCE:?}");
}

/// How a probe went.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// With the way it was denied: `SIGSYS`, `EACCES`.
    Denied(String),
    /// It worked, or failed for another reason than the jail.
    Reached(String),
}

fn outcome(probe: &Probe, answer: Option<Answer>, end: impl FnOnce() -> End) -> Outcome {
    match answer {
        Some(Answer::Worked) => Outcome::Reached("worked".to_owned()),
        Some(Answer::Failed(errno)) => {
            let name = nix::errno::Errno::from_raw(errno).to_string();
            let name = name.split(':').next().unwrap_or_default().to_owned();
            if probes::is_refusal(probe, errno) { Outcome::Denied(name) } else { Outcome::Reached(name) }
        }
        None => match end() {
            End::Signal(signals::SIGSYS) => Outcome::Denied("SIGSYS".to_owned()),
            end => Outcome::Reached(end.to_string()),
        },
        other => panic!("unexpected {other:?}"),
    }
}

pub fn escapes_work_outside() {
    if !may_all() || status(process::id())["Seccomp"] != "0" {
        println!("skipped: not root, or in a container, so many escapes are denied outside the jail too");
        return;
    }
    let place = Place::new();
    for (index, probe) in probes::all().iter().enumerate().filter(|(_, probe)| probe.escape && probe.works_outside) {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut child = Command::new(place.root.join("program"))
            .arg("--outside")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        let (reader, _filler) = io::pipe().unwrap();
        let (_drain, writer) = io::pipe().unwrap();
        let (udp, packet) = (UdpSocket::bind("127.0.0.1:0").unwrap(), packet_socket().unwrap());
        let fds = [reader.as_fd(), writer.as_fd(), udp.as_fd(), packet.as_fd()];
        ours.send_json(&place.order(Some(index), false, &place.data), &fds).unwrap();
        let answer = answer(&ours);
        let status = child.wait().unwrap();
        let outcome = outcome(probe, answer, || End::Exit(status.code().unwrap_or(-1)));
        assert!(
            matches!(outcome, Outcome::Reached(_)),
            "{}: {outcome:?} outside the jail: the probe proves nothing",
            probe.name
        );
    }
}

pub fn roles_are_jailed() {
    let place = Place::new();
    let probes = probes::all();
    let mut wrong = Vec::new();
    let mut rows: Vec<(String, BTreeMap<Role, String>)> = Vec::new();
    for (index, probe) in probes.iter().enumerate() {
        let mut row = BTreeMap::new();
        for role in table().role.iter().filter(|spec| (probe.applies)(spec)) {
            let outcome = try_in_jail(&place, role, index, probe);
            let good = matches!(outcome, Outcome::Denied(_)) == probe.escape;
            let (Outcome::Denied(how) | Outcome::Reached(how)) = outcome;
            // An ability has to have worked, not only to have got past the jail.
            if !good || (!probe.escape && how != "worked") {
                wrong.push(format!("{}: {}: {how}", role.name, probe.name));
            }
            row.insert(role.name, how);
        }
        rows.push((probe.name.clone(), row));
    }
    print_table(rows);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn try_in_jail(place: &Place, role: &RoleSpec, index: usize, probe: &Probe) -> Outcome {
    let worker = place.start(role);
    worker.send(&place.order(Some(index), true, &worker.child.data));
    match worker.answer() {
        Some(Answer::Jailed(_)) => {}
        Some(other) => panic!("{}: {other:?}", role.name),
        None => panic!("{}: ended with {}", role.name, worker.end()),
    }
    outcome(probe, worker.answer(), || worker.end())
}

/// One line per probe; the families of sockets are one line, with all that came of them.
fn print_table(rows: Vec<(String, BTreeMap<Role, String>)>) {
    let mut lines: Vec<(String, BTreeMap<Role, BTreeSet<String>>)> = Vec::new();
    for (name, row) in rows {
        let name = if name.contains("of family") { "datagram sockets of families 0 to 45".to_owned() } else { name };
        if lines.last().is_none_or(|(last, _)| *last != name) {
            lines.push((name, BTreeMap::new()));
        }
        let (_, cells) = lines.last_mut().expect("just pushed");
        for (role, how) in row {
            cells.entry(role).or_default().insert(how);
        }
    }
    println!("{:54}{}", "", Role::ALL.map(|role| format!("{:>18}", role.name())).concat());
    for (name, cells) in lines {
        let cell =
            |role| cells.get(&role).map_or("-".to_owned(), |all| all.iter().cloned().collect::<Vec<_>>().join(" "));
        println!("{name:54}{}", Role::ALL.map(|role| format!("{:>18}", cell(role))).concat());
    }
}

pub fn status_equals_the_table() {
    let place = Place::new();
    for role in &table().role {
        let worker = place.start(role);
        let missing = worker.jail(&place);
        let status = status(worker.child.pid);
        let field = |name: &str| status.get(name).map(String::as_str).unwrap_or_default();
        let granted = if may_all() { format!("{:016x}", bits(&role.capabilities)) } else { NONE.to_owned() };
        for (set, held) in
            [("CapInh", NONE), ("CapPrm", &granted), ("CapEff", &granted), ("CapBnd", &granted), ("CapAmb", NONE)]
        {
            if set != "CapBnd" || may_all() {
                assert_eq!(field(set), held, "{}: {set}", role.name);
            }
        }
        assert_eq!((field("NoNewPrivs"), field("Seccomp")), ("1", "2"), "{}", role.name);
        assert_eq!(field("Name"), format!("raven:{}", role.name));
        if !missing.is_empty() {
            println!("{}: this kernel lacks {missing:?}", role.name);
        }
        if can_change_user() {
            let four = [role.uid; 4].map(|id| id.to_string()).join("\t");
            assert_eq!((field("Uid"), field("Gid")), (four.as_str(), four.as_str()), "{}", role.name);
            let groups: Vec<String> = role.groups.iter().map(ToString::to_string).collect();
            assert_eq!(field("Groups"), groups.join(" "), "{}", role.name);
            assert_eq!(worker.child.missing.is_empty(), may_all(), "{}: {:?}", role.name, worker.child.missing);
            assert_eq!(worker.child.uid, role.uid);
            assert_eq!(worker.child.capabilities.len(), if may_all() { role.capabilities.len() } else { 0 });
        } else {
            assert!(worker.child.missing[0].contains("as root"), "{:?}", worker.child.missing);
        }
        let told = worker.child.missing.iter().any(|words| words.contains("works without CAP_"));
        assert_eq!(told, !role.capabilities.is_empty() && !may_all(), "{}: {:?}", role.name, worker.child.missing);
    }
    if !can_change_user() {
        println!("skipped in part: not root, so users, groups and the bounding set were not compared");
    }
}

/// An empty set, as the kernel writes it.
const NONE: &str = "0000000000000000";

/// As in linux/capability.h.
fn bits(names: &[String]) -> u64 {
    let bit = |name: &String| match name.as_str() {
        "CAP_NET_ADMIN" => 12,
        other => panic!("no bit for {other}"),
    };
    names.iter().map(|name| 1 << bit(name)).sum()
}

/// Root with what a complete jail takes.
fn may_all() -> bool {
    let held = caps::effective().unwrap();
    can_change_user()
        && ["CAP_SYS_ADMIN", "CAP_SETPCAP", "CAP_NET_ADMIN"].iter().all(|name| held.iter().any(|has| has == name))
}

fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

pub fn descriptors() {
    if !can_change_user() {
        println!("skipped: not root, so the descriptors of a jailed process cannot be read");
        return;
    }
    let place = Place::new();
    // Low numbers and no close-on-exec: what careless code would leave to a worker.
    let careless: Vec<File> = (0..5).map(|_| File::open("/etc/passwd").unwrap()).collect();
    for file in &careless {
        // SAFETY: reads no memory.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) };
    }
    let worker = place.start(table().spec(Role::Config));
    worker.jail(&place);
    let mut open: Vec<u32> = fs::read_dir(format!("/proc/{}/fd", worker.child.pid))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    open.sort_unstable();
    // Null, null, standard error, control channel, and the three that were sent, or four where a packet socket can be made.
    let last = if packet_socket().is_some() { 7 } else { 6 };
    assert_eq!(open, (0..=last).collect::<Vec<u32>>());
    let target = |fd: u32| fs::read_link(format!("/proc/{}/fd/{fd}", worker.child.pid)).unwrap();
    assert_eq!((target(0), target(1)), (PathBuf::from("/dev/null"), PathBuf::from("/dev/null")));
    let limits = fs::read_to_string(format!("/proc/{}/limits", worker.child.pid)).unwrap();
    let limit = |name: &str| {
        limits.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace().next().unwrap().to_owned()
    };
    let spec = table().spec(Role::Config);
    assert_eq!(limit("Max open files"), spec.files.to_string());
    assert_eq!(limit("Max data size"), spec.memory.0.to_string());
    assert_eq!((limit("Max core file size"), limit("Max processes")), ("0".to_owned(), "0".to_owned()));
}

pub fn worker_dies_with_parent() {
    let place = Place::new();
    let mut parent = Command::new(place.root.join("program"))
        .args(["--parent".as_ref(), place.root.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid: i32 = line.trim().parse().unwrap();
    // SAFETY: reads no memory.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(pidfd >= 0, "the worker is running");
    parent.kill().unwrap();
    parent.wait().unwrap();
    // SAFETY: just opened.
    readable(unsafe { BorrowedFd::borrow_raw(pidfd as i32) });
}

/// Starts a jailed worker, says its process id, and waits to be killed.
pub fn be_parent(arguments: &[&str]) {
    let place = std::mem::ManuallyDrop::new(at(arguments[0]));
    // The role that comes over exec with a capability: by what the kernel thinks of that it must not outlive us.
    let worker = place.start(table().spec(Role::Net));
    worker.jail(&place);
    println!("{}", worker.child.pid);
    io::stdin().lock().read_line(&mut String::new()).unwrap();
}

/// The place that another process made.
fn at(root: &str) -> Place {
    let root = PathBuf::from(root);
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    Place { program: open_program(&root.join("program")).unwrap(), data: root.join("data"), root, tcp, udp }
}

pub fn failed_start_is_named() {
    let place = Place::new();
    let (_ours, theirs) = Channel::pair().unwrap();
    let text = place.root.join("text");
    fs::write(&text, "not a program").unwrap();
    let program = open_program(&text).unwrap();
    let role = table().spec(Role::Config);
    let spec = SpawnSpec { role, program: program.as_fd(), control: theirs.as_fd(), data: &place.data };
    let error = spawn(&spec).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().starts_with("config worker: execveat of raven-worker: Permission denied"), "{error}");
    let nowhere = place.root.join("nowhere");
    let error = spawn(&SpawnSpec { data: &nowhere, ..spec }).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

pub fn supervisor_keeps_its_capabilities() {
    if !may_all() {
        println!("skipped: not root, or not with all of root's capabilities, so nothing can be kept");
        return;
    }
    let place = Place::new();
    let status = Command::new(place.root.join("program"))
        .args(["--supervisor".as_ref(), place.root.as_os_str()])
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

pub fn be_supervisor(arguments: &[&str]) {
    let place = std::mem::ManuallyDrop::new(at(arguments[0]));
    let before = caps::effective().unwrap();
    let wanted = &table().ravend.capabilities;
    let held = caps::keep_only(wanted).unwrap();
    let expected: BTreeSet<&String> = before.iter().filter(|name| wanted.contains(name)).collect();
    assert_eq!(held.iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!(caps::effective().unwrap(), held);
    let own = status(process::id());
    assert_eq!((&own["CapPrm"], &own["CapBnd"]), (&own["CapEff"], &own["CapEff"]));
    assert_eq!((own["CapInh"].as_str(), own["CapAmb"].as_str()), ("0000000000000000", "0000000000000000"));
    for role in &table().role {
        let worker = place.start(role);
        worker.jail(&place);
        assert_eq!(worker.child.missing, Vec::<String>::new(), "{}", role.name);
        assert_eq!(status(worker.child.pid)["CapBnd"], format!("{:016x}", bits(&role.capabilities)), "{}", role.name);
        worker.child.kill(signals::SIGTERM).unwrap();
        assert_eq!(worker.end().to_string(), "SIGTERM");
    }
}
