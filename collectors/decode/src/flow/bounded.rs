//! A map that forgets what was used longest ago, bounded per group and in total, by entries and by weight.
//!
//! Entries stand in two lists at once, that of all and that of their group, newest first. All is done in constant
//! time, so a flood of keys costs no more than its own bytes.

use std::collections::HashMap;
use std::hash::Hash;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of one exporter.
    pub per_exporter: usize,
    /// Entries of all.
    pub total: usize,
    /// Bytes of one exporter, about.
    pub bytes_per_exporter: usize,
    /// Bytes of all, about.
    pub bytes: usize,
}

const END: u32 = u32::MAX;
/// Index of the list of all and of the group's in each pair.
const ALL: usize = 0;
const OWN: usize = 1;

#[derive(Debug, Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
}

#[derive(Debug, Clone, Copy)]
struct Ends {
    newest: u32,
    oldest: u32,
    count: usize,
    weight: usize,
}

impl Ends {
    const EMPTY: Self = Self { newest: END, oldest: END, count: 0, weight: 0 };
}

#[derive(Debug, Clone)]
struct Node<G, K, V> {
    group: G,
    key: K,
    value: V,
    weight: usize,
    links: [Link; 2],
}

/// The map.
#[derive(Debug, Clone)]
pub(super) struct Bounded<G, K, V> {
    limits: Limits,
    places: HashMap<K, u32>,
    nodes: Vec<Option<Node<G, K, V>>>,
    free: Vec<u32>,
    all: Ends,
    groups: HashMap<G, Ends>,
}

impl<G: Copy + Eq + Hash, K: Copy + Eq + Hash, V> Bounded<G, K, V> {
    pub(super) fn new(limits: Limits) -> Self {
        let (places, groups) = (HashMap::new(), HashMap::new());
        Self { limits, places, nodes: Vec::new(), free: Vec::new(), all: Ends::EMPTY, groups }
    }

    pub(super) const fn len(&self) -> usize {
        self.all.count
    }

    pub(super) fn peek(&self, key: &K) -> Option<&V> {
        self.node(*self.places.get(key)?).map(|node| &node.value)
    }

    /// The value, which now is the one used last.
    pub(super) fn touch(&mut self, key: &K) -> Option<&mut V> {
        let place = *self.places.get(key)?;
        if self.all.newest != place {
            self.unlink(place);
            self.link(place);
        }
        self.node_mut(place).map(|node| &mut node.value)
    }

    /// Puts an entry in, and what is too much out: of the group first, then of all.
    pub(super) fn insert(&mut self, group: G, key: K, value: V, weight: usize, mut evicted: impl FnMut(K, V)) {
        self.remove(&key);
        let node = Node { group, key, value, weight, links: [Link { newer: END, older: END }; 2] };
        let place = self.free.pop().unwrap_or(self.nodes.len() as u32);
        match self.nodes.get_mut(place as usize) {
            Some(slot) => *slot = Some(node),
            None => self.nodes.push(Some(node)),
        }
        self.places.insert(key, place);
        self.link(place);
        while let Some(oldest) = self.too_much(&group) {
            let Some((key, value)) = self.take(oldest) else { break };
            evicted(key, value);
        }
    }

    /// Other limits from now on; what is too much goes at once.
    pub(super) fn set_limits(&mut self, limits: Limits, mut evicted: impl FnMut(K, V)) {
        self.limits = limits;
        let groups: Vec<G> = self.groups.keys().copied().collect();
        for group in groups {
            while let Some((key, value)) = self.too_much(&group).and_then(|oldest| self.take(oldest)) {
                evicted(key, value);
            }
        }
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.take(*self.places.get(key)?).map(|(_, value)| value)
    }

    /// Everything, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.nodes.iter().flatten().map(|node| (&node.key, &node.value))
    }

    /// A group's entries, newest first.
    pub(super) fn group(&self, group: &G) -> impl Iterator<Item = (&K, &V)> {
        let first = self.groups.get(group).map_or(END, |ends| ends.newest);
        let node = move |place: u32| self.node(place);
        let nodes = std::iter::successors(node(first), move |at| node(at.links[OWN].older));
        nodes.map(|node| (&node.key, &node.value))
    }

    /// The entry that was used longest ago.
    pub(super) fn oldest(&self) -> Option<(&K, &V)> {
        self.node(self.all.oldest).map(|node| (&node.key, &node.value))
    }

    fn too_much(&self, group: &G) -> Option<u32> {
        let own = self.groups.get(group).copied().unwrap_or(Ends::EMPTY);
        // What was just put in stays, however large it is.
        if own.count > 1 && (own.count > self.limits.per_exporter || own.weight > self.limits.bytes_per_exporter) {
            return Some(own.oldest);
        }
        let too_much = self.all.count > self.limits.total || self.all.weight > self.limits.bytes;
        (self.all.count > 1 && too_much).then_some(self.all.oldest)
    }

    fn take(&mut self, place: u32) -> Option<(K, V)> {
        self.unlink(place);
        let node = self.nodes.get_mut(place as usize)?.take()?;
        self.places.remove(&node.key);
        self.free.push(place);
        if self.groups.get(&node.group).is_some_and(|ends| ends.count == 0) {
            self.groups.remove(&node.group);
        }
        Some((node.key, node.value))
    }

    fn node(&self, place: u32) -> Option<&Node<G, K, V>> {
        self.nodes.get(place as usize)?.as_ref()
    }

    fn node_mut(&mut self, place: u32) -> Option<&mut Node<G, K, V>> {
        self.nodes.get_mut(place as usize)?.as_mut()
    }

    fn link(&mut self, place: u32) {
        let Some((group, weight)) = self.node(place).map(|node| (node.group, node.weight)) else { return };
        for list in [ALL, OWN] {
            let ends = if list == ALL { &mut self.all } else { self.groups.entry(group).or_insert(Ends::EMPTY) };
            let second = std::mem::replace(&mut ends.newest, place);
            if second == END {
                ends.oldest = place;
            }
            ends.count += 1;
            ends.weight += weight;
            if let Some(node) = self.node_mut(second) {
                node.links[list].newer = place;
            }
            if let Some(node) = self.node_mut(place) {
                node.links[list] = Link { newer: END, older: second };
            }
        }
    }

    fn unlink(&mut self, place: u32) {
        let Some(node) = self.node(place) else { return };
        let (group, weight, links) = (node.group, node.weight, node.links);
        for list in [ALL, OWN] {
            let Link { newer, older } = links[list];
            if let Some(node) = self.node_mut(newer) {
                node.links[list].older = older;
            }
            if let Some(node) = self.node_mut(older) {
                node.links[list].newer = newer;
            }
            let ends = if list == ALL { Some(&mut self.all) } else { self.groups.get_mut(&group) };
            let Some(ends) = ends else { continue };
            if ends.newest == place {
                ends.newest = older;
            }
            if ends.oldest == place {
                ends.oldest = newer;
            }
            ends.count -= 1;
            ends.weight -= weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { per_exporter: 3, total: 5, bytes_per_exporter: 100, bytes: 150 };

    fn put(map: &mut Bounded<u8, u32, u32>, group: u8, key: u32, weight: usize) -> Vec<u32> {
        let mut out = Vec::new();
        map.insert(group, key, key * 10, weight, |key, _| out.push(key));
        out
    }

    #[test]
    fn a_group_evicts_its_own_and_all_evict_the_oldest() {
        let mut map = Bounded::new(LIMITS);
        for key in [1, 2, 3] {
            assert_eq!(put(&mut map, 0, key, 1), [0; 0]);
        }
        assert_eq!(map.touch(&1), Some(&mut 10));
        assert_eq!(put(&mut map, 0, 4, 1), [2], "the group's oldest, not the one just used");
        assert_eq!(put(&mut map, 1, 5, 1), [0; 0]);
        assert_eq!(put(&mut map, 1, 6, 1), [0; 0]);
        assert_eq!(put(&mut map, 2, 7, 1), [3], "the oldest of all");
        assert_eq!(map.len(), 5);
        let of_first: Vec<_> = map.group(&0).map(|(key, _)| *key).collect();
        assert_eq!(of_first, [4, 1]);
    }

    #[test]
    fn weight_counts_too_and_the_newest_always_stays() {
        let mut map = Bounded::new(LIMITS);
        put(&mut map, 0, 1, 60);
        assert_eq!(put(&mut map, 0, 2, 60), [1]);
        assert_eq!(put(&mut map, 1, 3, 90), [0; 0]);
        assert_eq!(put(&mut map, 1, 4, 200), [3, 2]);
        assert_eq!(map.peek(&4), Some(&40));
        assert_eq!(map.remove(&4), Some(40));
        assert_eq!((map.len(), map.all.weight, map.groups.len()), (0, 0, 0));
    }

    #[test]
    fn tighter_limits_hold_at_once() {
        let mut map = Bounded::new(LIMITS);
        for (group, key) in [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5)] {
            put(&mut map, group, key, 1);
        }
        let mut gone = Vec::new();
        map.set_limits(Limits { per_exporter: 1, total: 2, ..LIMITS }, |key, _| gone.push(key));
        gone.sort_unstable();
        assert_eq!(gone, [1, 2, 3], "each group's oldest, then the oldest of all");
    }

    #[test]
    fn places_are_used_again() {
        let mut map = Bounded::new(LIMITS);
        for key in 0..1_000 {
            put(&mut map, (key % 2) as u8, key, 1);
        }
        assert!(map.nodes.len() <= 6 && map.iter().count() == map.len());
    }
}
