//! What a notification costs the trap collector besides system calls: the look at it, and the look with its framing
//! into the receive memory.
//!
//! `cargo run --release -p raven-collectors --example trap_cost`

use raven_collectors::receiver::Kind;
use raven_collectors::trap::Trap;
use raven_jail::memory::memfd_of;
use raven_jail::receive::{Arrived, CollectorMemory, Contexts, StoreMemory, create};
use raven_model::config::Config;
use raven_model::control::Start;
use raven_model::table::Role;
use raven_model::units::UnixNanos;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

const ROUNDS: u32 = 400_000;
/// Datagrams of one look at a socket.
const BATCH: u32 = 64;

macro_rules! seed {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/decode/fuzz/corpus/snmp/", $name)).as_slice()
    };
}

const USERS: &str = "[[user]]\nname = \"aes\"\nauth = \"sha256\"\nauth_password = \"maplesyrup\"\npriv = \"aes128\"\n\
                     priv_password = \"pancakes!\"\nengine = \"any\"\n";

fn main() -> io::Result<()> {
    let mut config = Config::default();
    config.collect.trap.storm = 1_000_000;
    config.collect.trap.communities = vec!["n0c-venue".to_owned(), "public".to_owned()];
    config.collect.trap.sources = vec!["10.0.0.0/8".to_owned(), "192.0.2.0/24".to_owned()];
    config.collect.trap.users = "secret:snmp.toml".parse().ok();
    let start = Start {
        role: Role::Trap,
        device: "cost".to_owned(),
        boot_id: String::new(),
        data: PathBuf::new(),
        config: Some(Box::new(config)),
        listeners: BTreeMap::new(),
        environment: BTreeMap::new(),
        fds: Vec::new(),
    };
    let mut trap = Trap::new(&start);
    trap.secrets(BTreeMap::from([("collect.trap.users".to_owned(), memfd_of("users", USERS.as_bytes())?)]));
    for (name, raw) in [
        ("v1 trap", seed!("trap-v1-specific")),
        ("v2c trap", seed!("trap-v2c")),
        ("v2c trap, ten types of values", seed!("trap-v2c-types")),
        ("v2c trap, wrong community", seed!("bad-community")),
        ("v3 trap, SHA-256 and AES-128", seed!("trap-v3-aes")),
        ("v3 trap, forged", seed!("bad-v3-forged-aes")),
        ("v3 discovery", seed!("bad-v3-discovery")),
    ] {
        println!(
            "{name:32} {:4} B {:6.0} ns, framed {:6.0} ns",
            raw.len(),
            look(&mut trap, raw),
            frame(&mut trap, raw)?
        );
    }
    Ok(())
}

fn arrived(n: u32, raw: &[u8]) -> Arrived<'_> {
    // A hundred senders.
    Arrived { source: ([192, 0, 2, (n % 100) as u8], 40_000).into(), listener: 1, wall: UnixNanos(n.into()), raw }
}

fn look(trap: &mut Trap, raw: &[u8]) -> f64 {
    let (_, inspect) = trap.parts();
    let mut contexts = Contexts::default();
    let begun = Instant::now();
    for n in 0..ROUNDS {
        if n % BATCH == 0 {
            inspect.begin();
            contexts.clear();
        }
        std::hint::black_box(inspect.inspect(&arrived(n, raw), &mut contexts));
    }
    begun.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}

fn frame(trap: &mut Trap, raw: &[u8]) -> io::Result<f64> {
    let (memory, words) = create("cost")?;
    let (_, inspect) = trap.parts();
    let (mut collector, _) = CollectorMemory::open(&memory, &words, 7, inspect)?;
    let store = StoreMemory::open(&memory, &words)?;
    let begun = Instant::now();
    for n in 0..ROUNDS {
        let framed = collector.append(&arrived(n, raw), inspect);
        assert!(framed.is_some(), "the ring has room");
        if n % BATCH == 0 {
            collector.hand_over();
            store.set_durable(collector.published());
        }
    }
    Ok(begun.elapsed().as_nanos() as f64 / f64::from(ROUNDS))
}
