//! Thin ends of the pair, over non-blocking descriptors.

use super::{PACKET_MAX, PacketError, Reply, Request};
use crate::import::Took;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use raven_model::units::Seq;
use std::collections::VecDeque;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Packets that wait for a slow reader; beyond, its questions are dropped, and it asks again.
const WAITING_MAX: usize = 64;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// Perhaps the store is being restarted: ask again.
    #[error("the store did not answer within {0:?}")]
    Timeout(Duration),
    /// The descriptor failed.
    #[error("cannot talk to the store: {0}")]
    Io(#[from] io::Error),
    /// The store talks nonsense.
    #[error("the store's answer does not read: {0}")]
    Packet(#[from] PacketError),
}

/// Puts the parts of blocks together again.
#[derive(Debug, Default)]
pub struct Assembler {
    id: u64,
    first: Seq,
    value: Vec<u8>,
}

impl Assembler {
    /// Takes a part; returns the block when it was the last one. A part that does not continue what is there begins
    /// anew, if it is a first one, or is dropped: the store was restarted between.
    pub fn add(&mut self, reply: &Reply) -> Option<(u64, Seq, Vec<u8>)> {
        let Reply::Part { id, first, total, at, bytes } = reply else { return None };
        if *at == 0 {
            (self.id, self.first) = (*id, *first);
            self.value.clear();
        }
        if *id != self.id || *first != self.first || *at as usize != self.value.len() {
            return None;
        }
        self.value.extend_from_slice(bytes);
        (self.value.len() == *total as usize).then(|| (*id, *first, std::mem::take(&mut self.value)))
    }
}

/// Puts the parts of a piece together again.
#[derive(Debug, Default)]
pub struct Pieces {
    id: u64,
    bytes: Vec<u8>,
}

impl Pieces {
    /// Takes a part; returns the piece when it was the last one. One that does not continue what is there is dropped,
    /// unless it is a first one: the sender was started anew between.
    pub fn add(&mut self, id: u64, total: u32, at: u32, part: &[u8]) -> Option<Vec<u8>> {
        if at == 0 {
            self.id = id;
            self.bytes.clear();
        }
        if id != self.id || at as usize != self.bytes.len() {
            return None;
        }
        self.bytes.extend_from_slice(part);
        (self.bytes.len() == total as usize).then(|| std::mem::take(&mut self.bytes))
    }
}

/// An answer, blocks whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The encoded block, for [`crate::Block::decode`].
    Block {
        /// First seq of the block.
        first: Seq,
        /// Encoded.
        value: Vec<u8>,
    },
    /// Look into the sealed segments.
    Sealed,
    /// Nothing there yet.
    Next(Seq),
}

/// What the store did about a place that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// Records that it entered into the loss ledger.
    pub lost: u64,
    /// In words.
    pub what: String,
}

/// The reader's end.
#[derive(Debug)]
pub struct TailClient {
    file: File,
    next_id: u64,
    assembler: Assembler,
    fences: VecDeque<Reply>,
    /// The newest answer to a [`Request::Repair`], with its id.
    repaired: Option<(u64, Repaired)>,
    /// The newest answer to a [`Request::Room`].
    room: Option<(u64, u64)>,
    /// Answers to pieces.
    took: VecDeque<(u64, Took)>,
    packet: Vec<u8>,
}

impl TailClient {
    /// Over a `SOCK_SEQPACKET` descriptor.
    pub fn new(fd: OwnedFd) -> Self {
        Self {
            file: File::from(fd),
            // Answers to the reader that had the pair before must not be taken for ours.
            next_id: RandomState::new().hash_one(0) >> 1,
            assembler: Assembler::default(),
            fences: VecDeque::new(),
            repaired: None,
            room: None,
            took: VecDeque::new(),
            packet: vec![0; PACKET_MAX],
        }
    }

    /// To wait for answers with others.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// An id for a question.
    pub const fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Sends a request; an error of kind `WouldBlock` when the store has too many waiting.
    pub fn send(&mut self, request: &Request) -> io::Result<()> {
        send(&mut self.file, &request.encode())
    }

    /// The next whole answer with the id of its question, without waiting; `None` when there is none yet. Fences are
    /// put by for [`TailClient::fence`]. On a blocking descriptor it waits.
    pub fn receive(&mut self) -> Result<Option<(u64, Answer)>, TailError> {
        loop {
            let len = match self.file.read(&mut self.packet) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            if len == 0 {
                return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
            }
            let reply = Reply::decode(&self.packet[..len])?;
            if let Some(answer) = self.take(reply) {
                return Ok(Some(answer));
            }
        }
    }

    fn take(&mut self, reply: Reply) -> Option<(u64, Answer)> {
        match reply {
            Reply::Part { .. } => {
                self.assembler.add(&reply).map(|(id, first, value)| (id, Answer::Block { first, value }))
            }
            Reply::Sealed { id } => Some((id, Answer::Sealed)),
            Reply::Next { id, next_seq } => Some((id, Answer::Next(next_seq))),
            Reply::Fence { .. } => {
                self.fences.push_back(reply);
                None
            }
            Reply::Repaired { id, lost, what } => {
                self.repaired = Some((id, Repaired { lost, what }));
                None
            }
            Reply::Room { id, free } => {
                self.room = Some((id, free));
                None
            }
            Reply::Took { id, took } => {
                self.took.push_back((id, took));
                None
            }
        }
    }

    /// A fence that has arrived and must be answered.
    pub fn fence(&mut self) -> Option<Reply> {
        self.fences.pop_front()
    }

    /// Asks for the block at `from` and waits for the answer.
    pub fn block(&mut self, stream: &str, from: Seq, timeout: Duration) -> Result<Answer, TailError> {
        let id = self.new_id();
        self.ask(id, &Request::Block { id, stream: stream.to_owned(), from }, timeout)
    }

    /// Waits until there is something at `from`, at most `timeout`.
    pub fn wait(&mut self, stream: &str, from: Seq, timeout: Duration) -> Result<Answer, TailError> {
        let id = self.new_id();
        self.ask(id, &Request::Wait { id, stream: stream.to_owned(), from }, timeout)
    }

    /// Has the store look at a place that cannot be read (seq 0: at its catalogue), and waits for what it did.
    pub fn repair(&mut self, stream: &str, seq: Seq, timeout: Duration) -> Result<Repaired, TailError> {
        let (id, until) = (self.new_id(), Instant::now() + timeout);
        self.put(&Request::Repair { id, stream: stream.to_owned(), seq }, until, timeout)?;
        loop {
            // Answers to older questions are nobody's any more.
            while self.receive()?.is_some() {}
            if let Some((_, done)) = self.repaired.take_if(|(answered, _)| *answered == id) {
                return Ok(done);
            }
            self.poll(PollFlags::POLLIN, until, timeout)?;
        }
    }

    /// Asks how many bytes can be stored before something has to go, and waits for the answer.
    pub fn room(&mut self, timeout: Duration) -> Result<u64, TailError> {
        let (id, until) = (self.new_id(), Instant::now() + timeout);
        self.put(&Request::Room { id }, until, timeout)?;
        loop {
            while self.receive()?.is_some() {}
            if let Some((_, free)) = self.room.take_if(|(answered, _)| *answered == id) {
                return Ok(free);
            }
            self.poll(PollFlags::POLLIN, until, timeout)?;
        }
    }

    /// Hands over an encoded piece, and waits until the store has taken its bytes, not for its answer.
    pub fn piece(&mut self, id: u64, piece: &[u8], timeout: Duration) -> Result<(), TailError> {
        let until = Instant::now() + timeout;
        Request::piece_packets(id, piece).try_for_each(|packet| self.put_packet(&packet, until, timeout))
    }

    /// An answer to a piece that [`TailClient::receive`] met.
    pub fn took(&mut self) -> Option<(u64, Took)> {
        self.took.pop_front()
    }

    fn put(&mut self, request: &Request, until: Instant, timeout: Duration) -> Result<(), TailError> {
        self.put_packet(&request.encode(), until, timeout)
    }

    fn put_packet(&mut self, packet: &[u8], until: Instant, timeout: Duration) -> Result<(), TailError> {
        while let Err(error) = send(&mut self.file, packet) {
            if error.kind() != ErrorKind::WouldBlock {
                return Err(error.into());
            }
            self.poll(PollFlags::POLLOUT, until, timeout)?;
        }
        Ok(())
    }

    fn ask(&mut self, id: u64, request: &Request, timeout: Duration) -> Result<Answer, TailError> {
        let until = Instant::now() + timeout;
        self.put(request, until, timeout)?;
        loop {
            match self.receive()? {
                Some((answered, answer)) if answered == id => return Ok(answer),
                Some(_) => {}
                None => self.poll(PollFlags::POLLIN, until, timeout)?,
            }
        }
    }

    fn poll(&self, flags: PollFlags, until: Instant, timeout: Duration) -> Result<(), TailError> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(TailError::Timeout(timeout));
        }
        let millis = PollTimeout::try_from(left.as_millis().max(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.file.as_fd(), flags)], millis) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(io::Error::from(errno).into()),
        }
    }
}

/// Packets that wait until the reader takes them.
#[derive(Debug, Default)]
pub struct Outbox {
    packets: VecDeque<Vec<u8>>,
}

impl Outbox {
    /// True when so much waits that no question should be answered.
    pub fn is_full(&self) -> bool {
        self.packets.len() >= WAITING_MAX
    }

    /// True when there is something to send: poll for writing.
    pub fn is_waiting(&self) -> bool {
        !self.packets.is_empty()
    }

    fn flush(&mut self, file: &mut File) -> io::Result<()> {
        while let Some(packet) = self.packets.front() {
            match send(file, packet) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                other => other?,
            }
            self.packets.pop_front();
        }
        Ok(())
    }
}

/// The store's end. It never waits for the reader.
#[derive(Debug)]
pub struct TailServer {
    file: File,
    /// What could not be sent yet.
    pub outbox: Outbox,
    packet: Vec<u8>,
}

impl TailServer {
    /// Over a non-blocking `SOCK_SEQPACKET` descriptor.
    pub fn new(fd: OwnedFd) -> Self {
        Self { file: File::from(fd), outbox: Outbox::default(), packet: vec![0; PACKET_MAX] }
    }

    /// To wait for questions with others.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The next request; `None` when there is none. One that does not read is an error and is gone: go on.
    pub fn receive(&mut self) -> Result<Option<Request>, TailError> {
        match self.file.read(&mut self.packet) {
            Ok(0) => Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(len) => Ok(Some(Request::decode(&self.packet[..len])?)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends an answer, or keeps it until [`TailServer::flush`]; drops it when too much waits.
    pub fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        if !self.outbox.is_full() {
            self.outbox.packets.push_back(reply.encode());
        }
        self.flush()
    }

    /// Sends an encoded block as an answer, the same way.
    pub fn block(&mut self, id: u64, first: Seq, value: &[u8]) -> io::Result<()> {
        if !self.outbox.is_full() {
            self.outbox.packets.extend(Reply::block_packets(id, first, value));
        }
        self.flush()
    }

    /// Sends what waits, as far as the reader takes it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.outbox.flush(&mut self.file)
    }
}

/// A packet is sent whole or not at all.
fn send(file: &mut File, packet: &[u8]) -> io::Result<()> {
    loop {
        match file.write(packet) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (TailClient, TailServer) {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap();
        (TailClient::new(a), TailServer::new(b))
    }

    fn question(server: &mut TailServer) -> (u64, Seq) {
        match server.receive().unwrap().unwrap() {
            Request::Block { id, from, .. } | Request::Wait { id, from, .. } => (id, from),
            other => panic!("{other:?}"),
        }
    }

    fn ask(client: &mut TailClient, from: Seq) -> u64 {
        let id = client.new_id();
        client.send(&Request::Block { id, stream: "syslog".to_owned(), from }).unwrap();
        id
    }

    #[test]
    fn a_block_larger_than_the_socket_takes_arrives_whole() {
        let (mut client, mut server) = pair();
        let value: Vec<u8> = (0..VALUE).map(|i| (i * 7919) as u8).collect();
        let mut got = Vec::new();
        let ids: Vec<_> = (1..=5).map(|n| ask(&mut client, Seq(n))).collect();
        for _ in 0..5 {
            let (id, from) = question(&mut server);
            server.block(id, from, &value).unwrap();
        }
        assert!(server.outbox.is_waiting(), "more than the socket holds");
        while got.len() < 5 {
            server.flush().unwrap();
            got.extend(client.receive().unwrap());
        }
        for (i, (id, answer)) in got.into_iter().enumerate() {
            assert_eq!(id, ids[i]);
            assert!(answer == Answer::Block { first: Seq(i as u64 + 1), value: value.clone() });
        }
    }

    const VALUE: usize = 300_000;

    #[test]
    fn a_store_that_dies_within_a_block_costs_one_repetition() {
        let (mut client, mut server) = pair();
        let value = vec![7; VALUE];
        let old = ask(&mut client, Seq(1));
        for packet in Reply::block_packets(old, Seq(1), &value).take(2) {
            send(&mut server.file, &packet).unwrap();
        }
        let id = ask(&mut client, Seq(1));
        server.receive().unwrap();
        let (asked, from) = question(&mut server);
        assert_eq!(client.receive().unwrap(), None);
        server.block(asked, from, &value).unwrap();
        let mut answer = None;
        while answer.is_none() {
            server.flush().unwrap();
            answer = client.receive().unwrap();
        }
        assert!(answer == Some((id, Answer::Block { first: Seq(1), value })));
    }

    #[test]
    fn without_an_answer_the_reader_gives_up_waiting() {
        let (mut client, _server) = pair();
        assert!(matches!(client.block("syslog", Seq(1), Duration::from_millis(20)), Err(TailError::Timeout(_))));
    }

    #[test]
    fn a_reader_that_takes_nothing_does_not_fill_the_store() {
        let (_client, mut server) = pair();
        for id in 0..1000 {
            server.block(id, Seq(1), &vec![7; VALUE]).unwrap();
        }
        assert!(server.outbox.packets.len() < 2 * WAITING_MAX);
    }

    #[test]
    fn fences_are_put_by_while_blocks_arrive() {
        let (mut client, mut server) = pair();
        let fence = Reply::Fence { token: 1, stream: "syslog".to_owned(), first: Seq(3), below: Seq(9) };
        server.reply(&fence).unwrap();
        server.reply(&Reply::Next { id: 5, next_seq: Seq(7) }).unwrap();
        assert_eq!(client.receive().unwrap(), Some((5, Answer::Next(Seq(7)))));
        assert_eq!((client.fence(), client.fence()), (Some(fence), None));
    }
}
