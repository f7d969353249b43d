//! What operators want of the destinations: hold them, and what becomes of dead letters.

use crate::dead::{DeadLetters, Letter};
use crate::fleet::{CursorStore, Fleet, Route, Running};
use crate::source::Source;
use crate::standing::Paused;
use raven_model::delivery::{Hold, LettersView, PausedView, Which};
use raven_model::units::Seq;

impl<S: Source, C: CursorStore> Fleet<S, C> {
    /// Holds a destination, or lets it go on. What was said outlives a restart.
    pub fn hold(&mut self, hold: &Hold, is_held: bool) -> Result<Vec<PausedView>, String> {
        let name = &hold.destination;
        if !self.running.keys().any(|(running, _)| running == name) {
            let all: Vec<&str> = self.running.keys().map(|(name, _)| name.as_str()).collect();
            return Err(format!("there is no destination `{name}`; there are: {}", all.join(", ")));
        }
        let mut paused = self.store.load_paused(name);
        paused.backfill = is_held;
        if !hold.backfill_only {
            paused.live = is_held;
        }
        self.store.save_paused(name, paused).map_err(|why| format!("it cannot be kept, so nothing was done: {why}"))?;
        for running in self.running.values().filter(|running| running.route.0 == *name) {
            running.standing.borrow_mut().pause(paused);
        }
        let words = |is_held| if is_held { "paused" } else { "running" }.to_owned();
        let Paused { live, backfill } = paused;
        Ok(vec![PausedView { destination: name.clone(), live: words(live), backfill: words(backfill) }])
    }

    /// The files that may hold them.
    pub fn letters(&self, which: &Which) -> Vec<(Route, DeadLetters)> {
        self.meant(which).map(|running| (running.route.clone(), running.dead.clone())).collect()
    }

    fn meant<'a>(&'a self, which: &'a Which) -> impl Iterator<Item = &'a Running> {
        self.running.values().filter(|running| which.is_of(&running.route.0, &running.route.1))
    }

    /// Sends dead letters again, as many as there is room for.
    pub fn retry(&mut self, which: &Which) -> Result<Vec<LettersView>, String> {
        self.meant(which).map(|running| retry(running, which)).collect()
    }

    /// Removes dead letters for good, but those that are on their way again.
    pub fn drop_letters(&mut self, which: &Which) -> Result<Vec<LettersView>, String> {
        let done = self.meant(which).map(|running| {
            let mut standing = running.standing.borrow_mut();
            let mut left = 0;
            let dropped = running.dead.remove(|seq| {
                let is_meant = which.has(seq);
                let is_away = is_meant && standing.retries.holds(seq);
                left += u64::from(is_away);
                is_meant && !is_away
            });
            let dropped = dropped.map_err(|error| format!("{}: {error}", running.dead.path().display()))?;
            standing.counts.dropped += dropped;
            standing.unsaved |= dropped > 0;
            Ok(view(running, dropped, left))
        });
        let done: Result<Vec<LettersView>, String> = done.collect();
        self.save();
        done
    }
}

fn retry(running: &Running, which: &Which) -> Result<LettersView, String> {
    let unreadable = |error| format!("{}: {error}", running.dead.path().display());
    let mut standing = running.standing.borrow_mut();
    let (mut again, mut left) = (Vec::<Seq>::new(), 0);
    for line in running.dead.lines().map_err(unreadable)? {
        let Some(letter) = Letter::parse(&line.map_err(unreadable)?).filter(|letter| which.has(letter.seq)) else {
            continue;
        };
        let seq = letter.seq;
        if standing.retries.add(letter) {
            again.push(seq);
        } else {
            left += 1;
        }
    }
    let sent = again.len() as u64;
    running.dead.send_again(again);
    standing.changed.notify_waiters();
    Ok(view(running, sent, left))
}

fn view(running: &Running, letters: u64, left: u64) -> LettersView {
    let (destination, stream) = running.route.clone();
    LettersView { destination, stream, letters, left }
}
