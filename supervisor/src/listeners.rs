//! Every listening socket: bound once, kept while any configuration wants it, passed to collectors as a descriptor.

use anyhow::Context;
use nix::unistd::dup;
use raven_jail::socket;
use raven_model::config::{Collect, Wanted};
use raven_model::control::{Dropped, Listener, ListenerId, Proto};
use raven_model::report::ListenerStatus;
use raven_model::stream::Stream;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

/// Connections that may wait to be accepted.
const BACKLOG: u16 = 1024;

/// One bound socket.
#[derive(Debug)]
pub struct Bound {
    /// What it is.
    pub listener: Listener,
    /// As configured: `[::]:514` may be bound as `0.0.0.0:514` on a machine without IPv6.
    pub wanted: SocketAddr,
    /// The socket.
    pub socket: OwnedFd,
    /// Receive buffer that was asked for, bytes.
    pub receive_buffer: u64,
    /// TCP connections refused because of a limit.
    pub refused: u64,
}

/// All bound sockets.
#[derive(Debug, Default)]
pub struct Listeners {
    bound: BTreeMap<ListenerId, Bound>,
    last_id: ListenerId,
}

/// What a new configuration changes. Nothing is in force before [`Listeners::accept`].
#[derive(Debug, Default)]
pub struct Change {
    /// Newly bound.
    pub add: Vec<Bound>,
    /// No longer wanted.
    pub remove: Vec<ListenerId>,
    last_id: ListenerId,
}

impl Listeners {
    /// Binds what `config` wants and is not bound yet. On an error nothing has changed.
    pub fn prepare(&self, config: &Collect) -> anyhow::Result<Change> {
        let mut change = Change { last_id: self.last_id, ..Change::default() };
        let wanted = config.wanted();
        let have: HashSet<Place> = self.bound.values().map(Bound::place).collect();
        for want in wanted.iter().filter(|want| !have.contains(&place(want))) {
            let (proto, addr) = (want.proto, want.listen.0);
            let socket = bind(proto, addr, want.receive_buffer.0 as usize)
                .with_context(|| format!("cannot listen on {}/{addr} for {}", proto.name(), want.stream))?;
            change.last_id = change.last_id.checked_add(1).context(
                "255 listeners have come and gone since the receive memory was made; restart ravend to change more",
            )?;
            let addr_bound = socket::local_addr(socket.as_fd()).unwrap_or(addr);
            let listener = Listener { id: change.last_id, stream: want.stream, proto, addr: addr_bound };
            let receive_buffer = want.receive_buffer.0;
            change.add.push(Bound { listener, wanted: addr, socket, receive_buffer, refused: 0 });
        }
        let wanted: HashSet<Place> = wanted.iter().map(place).collect();
        let gone = |b: &&Bound| !wanted.contains(&b.place());
        change.remove = self.bound.values().filter(gone).map(|b| b.listener.id).collect();
        Ok(change)
    }

    /// Puts a change into force; returns the ids of new listeners and the removed sockets.
    pub fn accept(&mut self, change: Change) -> (Vec<ListenerId>, Vec<Bound>) {
        self.last_id = change.last_id;
        let removed = change.remove.iter().filter_map(|id| self.bound.remove(id)).collect();
        let added = change.add.iter().map(|b| b.listener.id).collect();
        self.bound.extend(change.add.into_iter().map(|b| (b.listener.id, b)));
        (added, removed)
    }

    /// Takes over a socket of an earlier life.
    pub fn restore(&mut self, stream: Stream, id: ListenerId, proto: Proto, socket: OwnedFd) -> io::Result<()> {
        let addr = socket::local_addr(socket.as_fd())?;
        let listener = Listener { id, stream, proto, addr };
        self.last_id = self.last_id.max(id);
        self.bound.insert(id, Bound { listener, wanted: addr, socket, receive_buffer: 0, refused: 0 });
        Ok(())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Bound> {
        self.bound.values()
    }

    /// One of them.
    pub fn get_mut(&mut self, id: ListenerId) -> Option<&mut Bound> {
        self.bound.get_mut(&id)
    }

    /// Names by id, for the store.
    pub fn names(&self) -> BTreeMap<ListenerId, String> {
        self.bound.values().map(|b| (b.listener.id, b.listener.name())).collect()
    }

    /// What the sockets have dropped so far, for the store, which remembers it when they are gone.
    pub fn drops(&self) -> Vec<Dropped> {
        self.bound.values().filter_map(Bound::drops).collect()
    }

    /// What `ravend` knows of each.
    pub fn status(&self) -> Vec<ListenerStatus> {
        self.bound.values().map(Bound::status).collect()
    }
}

impl Bound {
    const fn place(&self) -> Place {
        (self.listener.stream, self.listener.proto, self.wanted)
    }

    /// A descriptor to pass on.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        Ok(dup(&self.socket)?)
    }

    /// Reason, and how many since the socket was made (refused connections: since it was bound by this process).
    fn dropped(&self) -> (&'static str, u64) {
        if self.listener.proto.is_connected() {
            ("over_limit", self.refused)
        } else {
            ("socket_buffer", socket::drops(self.socket.as_fd()).unwrap_or(0))
        }
    }

    fn drops(&self) -> Option<Dropped> {
        let (reason, count) = self.dropped();
        let inode = nix::sys::stat::fstat(&self.socket).map_or(0, |stat| stat.st_ino);
        // A socket that was taken over from an earlier ravend keeps its inode, and not our count of refusals.
        let life = if self.listener.proto.is_connected() { u64::from(std::process::id()) << 40 } else { 0 };
        (count > 0).then(|| Dropped {
            stream: self.listener.stream,
            listener: self.listener.name(),
            reason: reason.to_owned(),
            source: inode ^ life,
            count,
        })
    }

    fn status(&self) -> ListenerStatus {
        let (reason, count) = self.dropped();
        let dropped = BTreeMap::from([(reason.to_owned(), count)]);
        ListenerStatus {
            stream: self.listener.stream.name().to_owned(),
            proto: self.listener.proto.name().to_owned(),
            addr: self.listener.addr.to_string(),
            dropped,
            receive_buffer: socket::rcvbuf(self.socket.as_fd()).unwrap_or(0) as u64,
            ..ListenerStatus::default()
        }
    }
}

/// What makes a listener the one that is wanted.
type Place = (Stream, Proto, SocketAddr);

const fn place(wanted: &Wanted) -> Place {
    (wanted.stream, wanted.proto, wanted.listen.0)
}

fn bind(proto: Proto, addr: SocketAddr, receive_buffer: usize) -> io::Result<OwnedFd> {
    if proto.is_connected() {
        socket::tcp_listen(addr, BACKLOG)
    } else {
        socket::udp(addr, receive_buffer).map(|(socket, _)| socket)
    }
}
