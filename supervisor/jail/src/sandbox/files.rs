//! Landlock: which files, TCP ports and processes a role can reach.

use crate::error::JailError;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope, make_bitflags,
};
use raven_model::table::{Access, PathRule, RoleSpec};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// All rights up to this version are denied where no rule gives them; an older kernel denies those that it knows.
const HANDLED: ABI = ABI::V9;

/// What each version added that a jail is incomplete without.
const NEEDED: [(ABI, &str); 4] = [
    (ABI::V2, "moves between directories are not restricted (Landlock of Linux 5.19)"),
    (ABI::V3, "truncation of files is not restricted by path (Landlock of Linux 6.2)"),
    (ABI::V4, "TCP ports are held by seccomp alone (Landlock of Linux 6.7)"),
    (ABI::V6, "signals and abstract sockets are held by seccomp alone (Landlock of Linux 6.12)"),
];

/// Denies all files, all TCP ports unless the role has network, signals and abstract sockets to processes outside,
/// but for the paths of `spec`. Returns what the kernel does not know of it.
pub(super) fn restrict(spec: &RoleSpec, data: &Path) -> Result<Vec<String>, JailError> {
    let mut rules =
        Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(HANDLED))?;
    if !spec.network {
        rules = rules.handle_access(AccessNet::from_all(HANDLED))?;
    }
    let mut rules = rules.scope(Scope::from_all(HANDLED))?.create()?;
    for rule in &spec.paths {
        if let Some(place) = open(rule, spec, data)? {
            let rights = rights(rule.access, &place);
            rules = rules.add_rule(PathBeneath::new(place, rights))?;
        }
    }
    Ok(missing(rules.restrict_self()?.landlock))
}

/// The file or directory of a rule. A file of the system that this machine lacks needs no rule.
fn open(rule: &PathRule, spec: &RoleSpec, data: &Path) -> Result<Option<File>, JailError> {
    let path = data.join(&rule.path);
    match OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && Path::new(&rule.path).is_absolute() => Ok(None),
        Err(error) => Err(JailError::Path { path, role: spec.name.name(), error }),
    }
}

/// Never: making devices, sockets, links to elsewhere; execution and devices where the table says so.
fn rights(access: Access, place: &File) -> BitFlags<AccessFs> {
    let rights = match access {
        Access::Read => make_bitflags!(AccessFs::{ReadFile | ReadDir}),
        Access::Write => {
            make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer})
        }
        Access::Device => make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev}),
        Access::Connect => AccessFs::ResolveUnix.into(),
        Access::Execute => make_bitflags!(AccessFs::{ReadFile | Execute}),
    };
    let directory = place.metadata().is_ok_and(|meta| meta.is_dir());
    if directory { rights } else { rights & AccessFs::from_file(HANDLED) }
}

fn missing(status: LandlockStatus) -> Vec<String> {
    match status {
        LandlockStatus::NotImplemented => {
            vec!["files and signals are held by seccomp and user ids alone: this kernel has no Landlock".to_owned()]
        }
        LandlockStatus::NotEnabled => {
            vec!["files and signals are held by seccomp and user ids alone: Landlock is switched off (kernel command line lsm=)".to_owned()]
        }
        LandlockStatus::Available { effective_abi, .. } => {
            NEEDED.iter().filter(|(abi, _)| effective_abi < *abi).map(|(_, words)| (*words).to_owned()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_said_in_words_and_a_new_one_is_not_mentioned() {
        let of = |abi| missing(LandlockStatus::Available { effective_abi: abi, kernel_abi: None });
        assert_eq!(of(ABI::V6), Vec::<String>::new());
        assert_eq!(of(ABI::V3).len(), 2);
        assert!(missing(LandlockStatus::NotImplemented)[0].contains("no Landlock"));
    }
}
