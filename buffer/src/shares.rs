//! How the disk is divided: plain arithmetic, no I/O.
//!
//! The ring may take what the configuration grants, and never so much that the file system runs full: what others take
//! of it makes the ring smaller ([`total`]). Each stream has a share of that by its weight, which is its floor: up to
//! there nobody takes its room. What a stream leaves unused the others may borrow; once the owner needs it, the
//! borrowers' limits fall, and their oldest segments go ([`limits`]).

use crate::files::PAGE;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Part of a file system that the ring never takes, whatever is configured; at most [`RESERVE_MAX`].
const RESERVE: u64 = 32;
const RESERVE_MAX: u64 = 4 * GIB;

/// A file system, and what of it the ring has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// All of it, bytes.
    pub size: u64,
    /// What can still be taken.
    pub free: u64,
    /// What the ring has taken.
    pub ours: u64,
}

/// Most bytes of the ring: what it is granted, but no more than leaves a reserve beside all that others have taken.
pub fn total(granted: u64, space: Space) -> u64 {
    let reserve = (space.size / RESERVE).min(RESERVE_MAX);
    granted.min(space.ours.saturating_add(space.free).saturating_sub(reserve))
}

/// What one stream is due, and what it would take to go on without removing anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its part against those of the others.
    pub weight: u64,
    /// Bytes that it has, and its next segment.
    pub need: u64,
}

/// Most bytes of each stream. Together they are never more than `total`.
pub fn limits(total: u64, claims: &[Claim]) -> Vec<u64> {
    let shares = by_weight(total, claims.iter().map(|claim| claim.weight));
    let mut limits: Vec<u64> = claims.iter().zip(&shares).map(|(claim, share)| claim.need.min(*share)).collect();
    let mut spare = total - limits.iter().sum::<u64>();
    // Who needs more than its share borrows of what is left, by weight, and no more than it needs.
    loop {
        let unmet = |n: usize| claims[n].need - limits[n];
        let weights = (0..claims.len()).map(|n| if unmet(n) > 0 { claims[n].weight } else { 0 });
        let offers = by_weight(spare, weights);
        let taken: Vec<u64> = offers.iter().enumerate().map(|(n, offer)| unmet(n).min(*offer)).collect();
        let is_sated = taken.iter().enumerate().any(|(n, taken)| *taken > 0 && *taken == unmet(n));
        limits.iter_mut().zip(&taken).for_each(|(limit, taken)| *limit += taken);
        spare -= taken.iter().sum::<u64>();
        if !is_sated {
            break;
        }
    }
    // What nobody needs yet is there for whoever grows.
    let rest = by_weight(spare, claims.iter().map(|claim| claim.weight));
    limits.iter_mut().zip(rest).for_each(|(limit, rest)| *limit += rest);
    limits
}

/// Parts of `total` by weight, rounded down.
pub fn by_weight(total: u64, weights: impl Iterator<Item = u64> + Clone) -> Vec<u64> {
    let all: u128 = weights.clone().map(u128::from).sum();
    let part = |weight: u64| (u128::from(total) * u128::from(weight)).checked_div(all).unwrap_or(0) as u64;
    weights.map(part).collect()
}

/// Bytes of a segment of a stream with this share: as wanted, else so that the share has about 128 of them; at most a
/// quarter of the share, so that what goes at a time is not most of it.
pub fn segment(share: u64, wanted: Option<u64>) -> u64 {
    let bytes = wanted.unwrap_or((share / 128).clamp(64 * MIB, 8 * GIB));
    bytes.min(share / 4).max(MIB).next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn claim(weight: u64, need: u64) -> Claim {
        Claim { weight, need }
    }

    #[test]
    fn a_stream_borrows_what_others_leave_and_gives_it_back_when_they_need_it() {
        // Flow wants everything, syslog has hardly begun.
        assert_eq!(limits(1000, &[claim(60, 10), claim(40, 5000)]), [10, 990]);
        // Syslog grows up to its share; flow gives back.
        assert_eq!(limits(1000, &[claim(60, 500), claim(40, 5000)]), [500, 500]);
        assert_eq!(limits(1000, &[claim(60, 700), claim(40, 990)]), [600, 400]);
    }

    #[test]
    fn borrowers_share_what_is_left_by_weight() {
        assert_eq!(limits(1000, &[claim(50, 0), claim(30, 900), claim(20, 900)]), [0, 600, 400]);
        // One of them needs little more; the other gets the rest.
        assert_eq!(limits(1000, &[claim(50, 0), claim(30, 310), claim(20, 900)]), [0, 310, 690]);
    }

    #[test]
    fn what_nobody_needs_is_there_for_whoever_grows() {
        assert_eq!(limits(1000, &[claim(1, 100), claim(1, 100)]), [500, 500]);
        assert_eq!(limits(1000, &[claim(1, 100), claim(1, 700)]), [200, 800]);
    }

    #[test]
    fn what_others_take_of_the_disk_makes_the_ring_smaller_before_the_disk_is_full() {
        let space = |free, ours| Space { size: 3200, free, ours };
        assert_eq!(total(2880, space(3200, 0)), 2880);
        assert_eq!(total(2880, space(1000, 1000)), 1900, "others have 1200");
        assert_eq!(total(2880, space(0, 1000)), 900, "no byte is left: something has to go");
        assert_eq!(total(2880, space(0, 50)), 0);
        assert_eq!(total(2880, space(3000, 200)), 2880, "and it grows again");
    }

    #[test]
    fn a_share_has_about_128_segments() {
        assert_eq!(segment(1024 * GIB, None), 8 * GIB);
        assert_eq!(segment(GIB, None), 64 * MIB);
        assert_eq!(segment(64 * MIB, None), 16 * MIB);
        assert_eq!(segment(64 * MIB, Some(4 * MIB)), 4 * MIB);
        assert_eq!(segment(0, None), MIB);
    }

    proptest! {
        #[test]
        fn limits_keep_to_the_total_the_floors_and_the_needs(
            total in 0_u64..1 << 50,
            parts in prop::collection::vec((1_u64..100, 0_u64..1 << 51), 1..8),
        ) {
            let claims: Vec<Claim> = parts.iter().map(|(weight, need)| claim(*weight, *need)).collect();
            let limits = limits(total, &claims);
            let shares = by_weight(total, claims.iter().map(|claim| claim.weight));
            let sum = limits.iter().map(|limit| u128::from(*limit)).sum::<u128>();
            let needs = claims.iter().map(|claim| u128::from(claim.need)).sum::<u128>();
            prop_assert!(sum <= u128::from(total), "together never more than there is");
            for ((limit, claim), share) in limits.iter().zip(&claims).zip(&shares) {
                prop_assert!(*limit >= claim.need.min(*share), "the floor");
                // A few bytes are lost to rounding.
                if needs + 64 <= u128::from(total) {
                    prop_assert!(*limit + 64 >= claim.need, "nobody is limited while there is room");
                }
                if *limit < claim.need {
                    prop_assert!(sum + 64 >= u128::from(total), "nothing lies idle while somebody is limited");
                    for ((other, theirs), share) in limits.iter().zip(&claims).zip(&shares) {
                        let has_more = other.saturating_sub(64) > *share && other.saturating_sub(64) > theirs.need;
                        prop_assert!(!has_more, "and nobody has room beyond share and need");
                    }
                }
            }
        }
    }
}
