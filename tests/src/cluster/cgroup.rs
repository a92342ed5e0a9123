//! The group of processes below which a node's pods run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::wait::eventually;

/// One hierarchy of groups: version 1 has one for each kind of resource, version 2 one for all.
struct Hierarchy {
    root: PathBuf,
    is_version_1: bool,
}

/// Makes a group in every hierarchy.
///
/// # Errors
///
/// If the kernel refuses.
pub fn make(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.root.join(name);
        if !hierarchy.is_version_1 {
            // One that the kernel does not offer here is refused, which kubelet says in its own words.
            for kind in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
                drop(fs::write(hierarchy.root.join("cgroup.subtree_control"), format!("+{kind}")));
            }
        }
        fs::create_dir_all(&group)
            .with_context(|| format!("failed to make {}", group.display()))?;
        // A new group of version 1 has no processors and no memory until somebody says which.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let from = hierarchy.root.join(file);
            if hierarchy.is_version_1 && from.exists() {
                fs::write(group.join(file), fs::read(&from)?)?;
            }
        }
    }
    Ok(())
}

/// Removes a group with all below it, once their processes are gone.
///
/// # Panics
///
/// If a process stays.
pub fn remove(name: &str) {
    for hierarchy in hierarchies() {
        let group = hierarchy.root.join(name);
        let what = format!("{} can be removed", group.display());
        eventually(Duration::from_secs(30), &what, || remove_tree(&group).is_ok());
    }
}

/// Groups are removed from below; their files go with them.
fn remove_tree(group: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    mounts
        .filter(|fields| fields.get(2).is_some_and(|kind| kind.starts_with("cgroup")))
        .map(|fields| Hierarchy { root: fields[1].into(), is_version_1: fields[2] == "cgroup" })
        .collect()
}
