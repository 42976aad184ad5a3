//! What a container sees of this machine: its home, the volumes of its specification, and which name
//! servers there are: none.

use std::path::{Path, PathBuf};

use bollard::models::{Mount, MountType};
use skep_core::Workspace;
use skep_runtime::{RuntimeError, Spec, Volume, VolumeSource};

use crate::folder::Folders;

/// Where an agent sees its home.
pub(crate) const HOME: &str = "/home/agent";
/// Where an agent sees a named volume without a target.
const VOLUMES: &str = "/volumes";
/// Where an agent sees the files with values that it holds.
pub(crate) const HELD: &str = "/run/skep/secrets";
/// Where programs read which name servers to ask.
const RESOLVER: &str = "/etc/resolv.conf";
/// Folders of this machine that are the kernel's.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Where the agent sees a volume.
pub(crate) fn target(volume: &Volume) -> PathBuf {
    match (&volume.target, &volume.source) {
        (Some(target), _) => target.clone(),
        (None, VolumeSource::Host(path)) => path.clone(),
        (None, VolumeSource::Named(name)) => Path::new(VOLUMES).join(name),
    }
}

/// Whether a path of the container is in a folder that is not the image's.
pub(crate) fn is_mounted(spec: &Spec, path: &Path) -> bool {
    let volumes = spec.volumes.iter().map(target);
    let own = [PathBuf::from(HOME), PathBuf::from("/tmp")];
    volumes.chain(own).any(|folder| path.starts_with(folder))
}

fn mount(source: &Path, target: &Path, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_string_lossy().into_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

/// All mounts of an agent.
pub(crate) fn mounts(
    folders: &Folders,
    workspace: &Workspace,
    spec: &Spec,
    held: Option<&Path>,
) -> Vec<Mount> {
    let home = folders.home(workspace, &spec.name);
    let volumes = spec.volumes.iter().map(|volume| {
        let source = match &volume.source {
            VolumeSource::Host(path) => path.clone(),
            VolumeSource::Named(name) => folders.volume(workspace, name),
        };
        mount(&source, &target(volume), volume.read_only)
    });
    let mut all: Vec<Mount> = std::iter::once(mount(&home, Path::new(HOME), false))
        .chain(volumes)
        .chain(held.map(|held| mount(held, Path::new(HELD), true)))
        .collect();
    if all
        .iter()
        .all(|one| one.target.as_deref() != Some(RESOLVER))
    {
        all.push(mount(&folders.resolver(), Path::new(RESOLVER), true));
    }
    all
}

/// Whether the volumes are there, and none opens what must stay closed. Blocks.
pub(crate) fn check(folders: &Folders, socket: &Path, spec: &Spec) -> Result<(), RuntimeError> {
    for (index, volume) in spec.volumes.iter().enumerate() {
        if target(volume) == Path::new(HOME) {
            return Err(RuntimeError::spec(
                format!("volumes[{index}].target"),
                format!("`{HOME}` is the agent's home; use another path"),
            ));
        }
        let VolumeSource::Host(path) = &volume.source else {
            continue;
        };
        let wrong = |reason: &str| {
            let text = format!("`{}` {reason}", path.display());
            RuntimeError::spec(format!("volumes[{index}].source"), text)
        };
        let real = path
            .canonicalize()
            .map_err(|_| wrong("is not there; make it first"))?;
        let overlaps = |closed: &Path| {
            let closed = closed.canonicalize().unwrap_or_else(|_| closed.to_owned());
            closed.starts_with(&real) || real.starts_with(&closed)
        };
        if overlaps(folders.data()) {
            return Err(wrong("holds Skep's own data; give another folder"));
        }
        if overlaps(socket) || KERNEL.iter().any(|folder| overlaps(Path::new(folder))) {
            return Err(wrong("gives power over this machine; give another folder"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_api::{AgentSpec, VolumeSpec};

    fn spec(volumes: &[(&str, Option<&str>)]) -> Spec {
        let volumes = volumes.iter().map(|(source, target)| VolumeSpec {
            source: (*source).to_owned(),
            target: target.map(str::to_owned),
            read_only: true,
        });
        let spec = AgentSpec {
            driver: "docker".to_owned(),
            image: Some("a".to_owned()),
            volumes: volumes.collect(),
            ..AgentSpec::new("a", Vec::new())
        };
        Spec::parse(&spec, &["docker"]).unwrap()
    }

    #[test]
    fn closed_folders_stay_closed() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::new(folder.path().join("data"));
        let inside = folder.path().join("data/agents");
        let fine = folder.path().join("fine");
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir_all(&fine).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        let socket = fine.join("docker.sock");
        let refused = |path: &Path| {
            let spec = spec(&[(path.to_str().unwrap(), None)]);
            check(&folders, &socket, &spec).is_err()
        };
        for path in [&inside, &link, &fine, folder.path(), Path::new("/sys/fs")] {
            assert!(refused(path), "{}", path.display());
        }
        assert!(refused(&folder.path().join("missing")));
        let other = folder.path().join("other");
        std::fs::create_dir(&other).unwrap();
        assert!(!refused(&other));
        assert!(check(&folders, &socket, &spec(&[("x", Some(HOME))])).is_err());
    }

    #[test]
    fn volumes_have_a_place() {
        let folders = Folders::new(PathBuf::from("/data"));
        let spec = spec(&[("notes", None), ("/srv/a", None), ("/srv/b", Some("/b"))]);
        let mounts = mounts(&folders, &Workspace::default(), &spec, None);
        let pairs: Vec<_> = mounts
            .iter()
            .map(|mount| {
                (
                    mount.source.as_deref().unwrap(),
                    mount.target.as_deref().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            pairs,
            [
                ("/data/agents/default/a/home", HOME),
                ("/data/volumes/default/notes", "/volumes/notes"),
                ("/srv/a", "/srv/a"),
                ("/srv/b", "/b"),
                ("/data/docker.resolver", RESOLVER),
            ]
        );
        assert_eq!(mounts[0].read_only, Some(false));
        assert_eq!(mounts[1].read_only, Some(true));
        assert!(is_mounted(&spec, Path::new("/b/run")));
        assert!(!is_mounted(&spec, Path::new("/bin/run")));
    }
}
