//! The longest packet that reaches a target whole, as a search that owns no socket: which length comes next, and what is known
//! in the end.

pub mod run;

use raven_model::diag::Limit;

/// Lengths that links and tunnels mostly leave: tried before halves.
const COMMON: [u16; 13] = [9000, 1500, 1492, 1480, 1472, 1460, 1450, 1440, 1420, 1400, 1380, 1350, 1280];

/// The search for one target.
#[derive(Debug)]
pub struct Search {
    /// The longest that is known to fit; none so far: 0.
    fits: u16,
    /// The shortest that is known not to fit.
    too_long: u32,
    /// Shortest that is tried.
    least: u16,
    /// What somebody said fits, to be tried next.
    said: Option<u16>,
    limit: Option<Limit>,
    /// Something longer was lost and nobody said so.
    silent: bool,
}

impl Search {
    /// From `least` to `most`, bytes with the IP header.
    pub const fn new(least: u16, most: u16) -> Self {
        Self { fits: 0, too_long: most as u32 + 1, least, said: None, limit: None, silent: false }
    }

    /// What to try next; nothing when all is known.
    pub fn length(&mut self) -> Option<u16> {
        if self.fits == 0 {
            return (u32::from(self.least) < self.too_long).then_some(self.least);
        }
        let longest = u16::try_from(self.too_long - 1).unwrap_or(u16::MAX);
        let open = |length: &u16| *length > self.fits && *length <= longest;
        if let Some(said) = self.said.take().filter(open) {
            return Some(said);
        }
        if longest <= self.fits {
            return None;
        }
        // The longest first: mostly it fits. What somebody named was tried already.
        if self.limit.is_none() && !self.silent {
            return Some(longest);
        }
        COMMON.into_iter().find(open).or(Some(self.fits + (longest - self.fits).div_ceil(2)))
    }

    /// It came back.
    pub fn fits(&mut self, length: u16) {
        self.fits = self.fits.max(length);
    }

    /// It did not, and nobody said why.
    pub fn lost(&mut self, length: u16) {
        self.too_long = self.too_long.min(length.into());
        self.silent = true;
    }

    /// Somebody said that it is too long.
    pub fn limited(&mut self, length: u16, limit: Limit) {
        // Less than what is known to fit, or to be tried at all, is no word to go by.
        let said =
            if limit.mtu >= u32::from(self.fits.max(self.least)) { limit.mtu.saturating_add(1) } else { length.into() };
        self.too_long = self.too_long.min(said).min(length.into());
        // A lower word of somebody farther away replaces one of somebody nearer.
        if self.limit.is_none_or(|before| limit.mtu < before.mtu) {
            self.limit = Some(limit);
            self.said = u16::try_from(limit.mtu).ok().filter(|mtu| *mtu < length);
        }
    }

    /// The longest that reached the target.
    pub fn mtu(&self) -> Option<u16> {
        (self.fits > 0).then_some(self.fits)
    }

    /// Who said what fits, where that is what limits.
    pub fn limit(&self) -> Option<Limit> {
        self.limit.filter(|limit| limit.mtu <= self.too_long)
    }

    /// Longer ones vanish without a word, where shorter ones get there.
    pub fn is_black_hole(&self) -> bool {
        let explained = self.limit.is_some_and(|limit| limit.mtu <= u32::from(self.fits));
        self.fits > 0 && self.silent && !explained
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// A path of these links; routers that speak say what fits.
    fn search(links: &[(u16, bool)], most: u16) -> (Search, usize) {
        let (mut search, mut tries) = (Search::new(68, most), 0);
        while let Some(length) = search.length() {
            tries += 1;
            match links.iter().find(|(mtu, _)| *mtu < length) {
                None => search.fits(length),
                Some((mtu, true)) => search.limited(length, Limit { by: None, mtu: (*mtu).into() }),
                Some(_) => search.lost(length),
            }
            assert!(tries < 40, "{search:?}");
        }
        (search, tries)
    }

    #[test]
    fn a_path_without_a_narrow_place_is_known_after_two_tries() {
        let (found, tries) = search(&[(1500, true)], 1500);
        assert_eq!((found.mtu(), found.limit(), found.is_black_hole(), tries), (Some(1500), None, false, 2));
    }

    #[test]
    fn what_routers_say_is_tried_and_the_narrowest_counts() {
        let (found, tries) = search(&[(1500, true), (1400, true), (1300, true)], 1500);
        assert_eq!(
            (found.mtu(), found.limit().unwrap().mtu, found.is_black_hole(), tries),
            (Some(1300), 1300, false, 4)
        );
    }

    #[test]
    fn a_black_hole_is_found_by_lengths_that_vanish() {
        let (found, tries) = search(&[(1500, true), (1420, false)], 1500);
        assert_eq!((found.mtu(), found.limit(), found.is_black_hole()), (Some(1420), None, true));
        assert!(tries <= 14, "{tries}");
        let (found, _) = search(&[(1450, true), (1337, false)], 1500);
        assert_eq!((found.mtu(), found.is_black_hole()), (Some(1337), true));
        assert_eq!(search(&[(40, false)], 1500).0.mtu(), None);
    }

    proptest! {
        #[test]
        fn every_path_is_measured_exactly(links in proptest::collection::vec((68_u16..9001, any::<bool>()), 1..6), most in 68_u16..9001) {
            let narrowest = links.iter().map(|(mtu, _)| *mtu).min().unwrap().min(most);
            prop_assert_eq!(search(&links, most).0.mtu(), Some(narrowest));
        }

        #[test]
        fn lies_end_the_search_too(lies in proptest::collection::vec((0_u8..3, any::<u32>()), 0..100)) {
            let mut search = Search::new(68, 9000);
            let mut lies = lies.into_iter().cycle();
            for _ in 0..100 {
                let Some(length) = search.length() else { return Ok(()) };
                match lies.next() {
                    Some((0, mtu)) => search.limited(length, Limit { by: None, mtu }),
                    Some((1, _)) => search.fits(length),
                    _ => search.lost(length),
                }
            }
            prop_assert!(false, "{:?}", search);
        }
    }
}
