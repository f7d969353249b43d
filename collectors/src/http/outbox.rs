//! What is said to `ravend`. Never waits for it: requests would wait, too.

use raven_jail::channel::{Channel, ChannelError};
use raven_model::control::FromWorker;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// The non-blocking control channel, and what found no room in it. That is bounded by the number of connections:
/// `ravend` gives no place away before it was told that it is free.
pub struct Outbox {
    channel: Rc<Channel>,
    unsaid: RefCell<VecDeque<FromWorker>>,
}

impl Outbox {
    /// Says things over `channel`.
    pub fn new(channel: Rc<Channel>) -> Self {
        Self { channel, unsaid: RefCell::default() }
    }

    /// Says `message`, now or when there is room. A heartbeat is said now or not at all.
    pub fn say(&self, message: FromWorker) {
        if self.flush() {
            if !self.try_say(&message) {
                self.unsaid.borrow_mut().push_back(message);
            }
        } else if !matches!(message, FromWorker::Heartbeat { .. }) {
            self.unsaid.borrow_mut().push_back(message);
        }
    }

    /// Says what was left; true when that is all.
    pub fn flush(&self) -> bool {
        loop {
            let Some(message) = self.unsaid.borrow_mut().pop_front() else { return true };
            if !self.try_say(&message) {
                self.unsaid.borrow_mut().push_front(message);
                return false;
            }
        }
    }

    /// False when there is no room. When `ravend` is gone, whoever listens to it sees that.
    fn try_say(&self, message: &FromWorker) -> bool {
        let sent = self.channel.send_json(message, &[]);
        !matches!(sent, Err(ChannelError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use raven_model::control::PACKET_MAX;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_finds_no_room_is_said_later_and_in_order() {
        let (ours, theirs) = Channel::pair().unwrap();
        UnixStream::from(ours.as_fd().try_clone_to_owned().unwrap()).set_nonblocking(true).unwrap();
        let outbox = Outbox::new(Rc::new(ours));
        for connection in 0..5000 {
            outbox.say(FromWorker::Closed { connection });
        }
        assert!(!outbox.unsaid.borrow().is_empty());
        let mut packet = vec![0; PACKET_MAX];
        for expected in 0..5000 {
            let (heard, _) = theirs.recv_json::<FromWorker>(&mut packet).unwrap().unwrap();
            assert!(matches!(heard, FromWorker::Closed { connection } if connection == expected));
            outbox.flush();
        }
    }
}
