//! The simulated operations centres: up, away, silent, forgetful, and picky about some records.

use super::model::{Model, Route};
use super::source::Way;
use super::world::Dice;
use raven_model::stream::Stream;
use raven_model::units::Seq;
use raven_uplink::attempt::{Event, Failure};
use raven_uplink::feed::{Ended, Feed, Speak, told};
use raven_uplink::reader::More;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// Records under way on a connection, at most.
const WINDOW: usize = 200;
/// A connection on which nothing is acknowledged for so long is given up.
const ACK_TIMEOUT: Duration = Duration::from_secs(8);
/// Refusals after which a record becomes a dead letter.
const REFUSALS: u32 = 2;

/// One of them.
#[derive(Debug, Clone)]
pub struct Far {
    /// It can be connected to.
    pub is_up: bool,
    /// It can be connected to and says nothing.
    pub is_silent: bool,
    /// Of a hundred answers so many are lost with the connection.
    pub loses: u64,
    /// It refuses each record whose number this divides; 0: none.
    pub refuses: u32,
    /// What it has taken.
    pub taken: BTreeMap<Stream, BTreeSet<u32>>,
    refusals: BTreeMap<(Stream, u64), u32>,
}

impl Default for Far {
    fn default() -> Self {
        let (taken, refusals) = (BTreeMap::new(), BTreeMap::new());
        Self { is_up: true, is_silent: false, loses: 0, refuses: 0, taken, refusals }
    }
}

/// The world outside of the box.
pub struct Outside {
    pub fars: RefCell<BTreeMap<String, Far>>,
    pub model: RefCell<Model>,
    pub texts: Texts,
    dice: RefCell<Dice>,
    /// The first thing that was wrong with what was sent.
    pub wrong: RefCell<Option<String>>,
}

impl Outside {
    pub fn new(seed: u64) -> Rc<Self> {
        let mut dice = Dice(seed ^ 0xfa4);
        Rc::new(Self {
            fars: RefCell::default(),
            model: RefCell::default(),
            texts: Texts::new(&mut dice),
            dice: RefCell::new(dice),
            wrong: RefCell::default(),
        })
    }

    /// How the uplink speaks to them.
    pub fn speak(self: &Rc<Self>) -> Speak<Way> {
        let outside = Rc::clone(self);
        Rc::new(move |feed| {
            let call = Call { outside: Rc::clone(&outside), route: route_of(feed) };
            Box::pin(async move { call.run(feed).await })
        })
    }

    fn roll(&self, below: u64) -> u64 {
        self.dice.borrow_mut().below(below)
    }

    pub fn blame(&self, what: String) {
        self.wrong.borrow_mut().get_or_insert(what);
    }
}

fn route_of(feed: &Feed<Way>) -> Route {
    (feed.name.clone(), Stream::named(&feed.stream).expect("a stream"))
}

/// One connection, from one lane.
struct Call {
    outside: Rc<Outside>,
    route: Route,
}

impl Call {
    fn far<T>(&self, with: impl FnOnce(&mut Far) -> T) -> T {
        with(self.outside.fars.borrow_mut().entry(self.route.0.clone()).or_default())
    }

    fn failed(&self, words: &str) -> Ended {
        // The uplink's own dice are its own: the pause is what the far end asks for.
        let pause = Duration::from_millis(50 + self.outside.roll(950));
        Failure { not_before: Some(pause), ..Failure::retry(words) }.into()
    }

    async fn run(&self, feed: &mut Feed<Way>) -> Ended {
        if !self.far(|far| far.is_up) {
            return self.failed("refused");
        }
        feed.event(Event::Connected);
        loop {
            if feed.stopping() {
                return Ended::Stopped;
            }
            if !self.far(|far| far.is_up) {
                return self.failed("the connection broke");
            }
            if !feed.reader.has_run() {
                let Feed { reader, stop, .. } = &mut *feed;
                tokio::select! {
                    biased;
                    loaded = reader.load() => if let Err(error) = loaded {
                        return self.failed(&error.0);
                    },
                    _ = told(stop) => return Ended::Stopped,
                    () = sleep(Duration::from_secs(5)) => {}
                }
                continue;
            }
            if let Err(ended) = self.exchange(feed).await {
                return ended;
            }
        }
    }

    /// A window of records, and what becomes of it.
    async fn exchange(&self, feed: &mut Feed<Way>) -> Result<(), Ended> {
        let sent = self.send(feed);
        if sent.is_empty() {
            return Ok(());
        }
        feed.event(Event::Sent);
        sleep(Duration::from_millis(5 + self.outside.roll(30))).await;
        let (is_up, is_silent, loses) = self.far(|far| (far.is_up, far.is_silent, far.loses));
        if is_silent {
            sleep(ACK_TIMEOUT).await;
            return Err(self.failed("acknowledged nothing"));
        }
        if !is_up {
            return Err(self.failed("the connection broke"));
        }
        let (taken, refused): (Vec<u64>, Vec<u64>) = sent.into_iter().partition(|seq| self.take(*seq));
        let lost = self.outside.roll(100) < loses;
        let answered = if lost { self.outside.roll(taken.len() as u64 + 1) as usize } else { taken.len() };
        feed.standing.borrow_mut().acked(taken[..answered].iter().copied().map(Seq));
        self.outside.model.borrow_mut().acked(&self.route, &taken[..answered]);
        if lost || !refused.is_empty() {
            return Err(self.failed("refused some"));
        }
        Ok(())
    }

    /// What goes out; a record that was refused often enough becomes a dead letter instead.
    fn send(&self, feed: &mut Feed<Way>) -> Vec<u64> {
        let (mut sent, Outside { model, texts, .. }) = (Vec::new(), &*self.outside);
        let Feed { reader, dead, standing, .. } = feed;
        let (standing, dead) = (standing.clone(), dead.clone());
        reader.take(|seq, record, listener| {
            let number = model.borrow().kept[&self.route.1].records.get(seq.0 as usize - 1).copied();
            if number.is_none_or(|number| texts.of(self.route.1, number) != record.raw) {
                self.outside.blame(format!("{:?} was sent something else as record {seq}", self.route));
            }
            let refusals = self.far(|far| far.refusals.get(&(self.route.1, seq.0)).copied());
            if refusals.is_some_and(|refusals| refusals >= REFUSALS) {
                dead.add(seq, record, listener, "refused").expect("a dead letter");
                standing.borrow_mut().buried(seq);
                model.borrow_mut().buried(&self.route, seq.0);
                return More::Yes;
            }
            sent.push(seq.0);
            if sent.len() < WINDOW { More::Yes } else { More::No }
        });
        sent
    }

    /// The far end looks at a record; false when it refuses it.
    fn take(&self, seq: u64) -> bool {
        let number = self.outside.model.borrow().kept[&self.route.1].records[seq as usize - 1];
        self.far(|far| {
            let refuses = far.refuses > 0 && number.is_multiple_of(far.refuses);
            if refuses {
                *far.refusals.entry((self.route.1, seq)).or_default() += 1;
            } else {
                far.refusals.remove(&(self.route.1, seq));
                far.taken.entry(self.route.1).or_default().insert(number);
            }
            !refuses
        })
    }
}

/// What the records say, made from their numbers.
pub struct Texts(Vec<u8>);

impl Texts {
    fn new(dice: &mut Dice) -> Self {
        Self((0..1 << 19).flat_map(|_| dice.roll().to_le_bytes()).collect())
    }

    /// 600 to 2600 bytes that do not compress, so that a small ring fills.
    pub fn of(&self, stream: Stream, number: u32) -> Vec<u8> {
        let mut mixed = Dice(u64::from(number) << 8 | stream as u64);
        let (at, len) = (mixed.below(self.0.len() as u64 - 2600) as usize, 600 + mixed.below(2000) as usize);
        let mut text = format!("<134>soak {stream} {number} ").into_bytes();
        text.extend_from_slice(&self.0[at..at + len]);
        text
    }
}
