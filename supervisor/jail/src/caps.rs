//! The capabilities of `ravend` itself, and what a worker does with those that it was started with.

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use std::str::FromStr;

/// Keeps of the capabilities that this process holds those in `names` (permitted, effective and bounding set), empties
/// the inheritable and the ambient set, and returns the names of what is held now. A capability that was not held to
/// begin with is no error: containers and some kernels withhold single ones.
///
/// # Errors
/// `names` holds an unknown name, or the kernel refused to drop.
pub fn keep_only(names: &[String]) -> Result<Vec<String>, CapsError> {
    let wanted = names.iter().map(|name| Capability::from_str(name)).collect::<Result<CapsHashSet, _>>()?;
    let held: CapsHashSet = caps::read(None, CapSet::Permitted)?.intersection(&wanted).copied().collect();
    // Best effort: kernels before 4.3 have no ambient set.
    caps::clear(None, CapSet::Ambient).ok();
    drop_bounding(&held)?;
    // Inheritable first: it may not exceed permitted + bounding afterwards.
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &held)?;
    caps::set(None, CapSet::Permitted, &held)?;
    Ok(sorted(&held))
}

/// In a worker, before anything else: nothing is ambient or inheritable any more, and permitted and effective is nothing
/// but what `names` has. What was not handed on is no error.
pub(crate) fn settle(names: &[String]) -> Result<(), CapsError> {
    let wanted = names.iter().map(|name| Capability::from_str(name)).collect::<Result<CapsHashSet, _>>()?;
    // No kernel before 4.3 has an ambient set: there, nothing was put into it.
    if caps::runtime::ambient_set_supported().is_ok() {
        caps::clear(None, CapSet::Ambient)?;
    }
    caps::clear(None, CapSet::Inheritable)?;
    for set in [CapSet::Effective, CapSet::Permitted] {
        let held: CapsHashSet = caps::read(None, set)?.intersection(&wanted).copied().collect();
        caps::set(None, set, &held)?;
    }
    Ok(())
}

/// Names of the capabilities that this process may use now.
///
/// # Errors
/// The kernel's.
pub fn effective() -> Result<Vec<String>, CapsError> {
    caps::read(None, CapSet::Effective).map(|held| sorted(&held))
}

/// Whether the effective set holds `name`.
pub(crate) fn has(name: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, name).unwrap_or(false)
}

/// Needs `CAP_SETPCAP`; a process without it has no use for the bounding set but to pass it on.
fn drop_bounding(keep: &CapsHashSet) -> Result<(), CapsError> {
    if !has(Capability::CAP_SETPCAP) {
        return Ok(());
    }
    let bounding = caps::read(None, CapSet::Bounding)?;
    bounding.difference(keep).try_for_each(|capability| caps::drop(None, CapSet::Bounding, *capability))
}

fn sorted(set: &CapsHashSet) -> Vec<String> {
    let mut names: Vec<String> = set.iter().map(ToString::to_string).collect();
    names.sort();
    names
}
