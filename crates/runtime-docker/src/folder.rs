//! The folders of this driver: an agent's home and the logs of its instances, as the process driver
//! has them, the volumes of a workspace, and the name of the data folder at the engine.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use skep_core::{InstanceId, Workspace};
use skep_runtime::folder::{failed, kept, make};
use skep_runtime::{DriverError, Place};

/// Folders in folders that are given to another user at most.
const DEEPEST: usize = 256;

/// Nobody answers there, so that looking up a name fails at once: where agents may go is not for a
/// name server to say.
const NO_NAMES: &str = "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n";

/// Who owns what an agent writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The folders below a data folder.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    data: PathBuf,
}

impl Folders {
    pub(crate) fn new(data: PathBuf) -> Self {
        Self { data }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn agent(&self, workspace: &Workspace, agent: &str) -> PathBuf {
        self.data
            .join("agents")
            .join(workspace.as_str())
            .join(agent)
    }

    pub(crate) fn home(&self, workspace: &Workspace, agent: &str) -> PathBuf {
        self.agent(workspace, agent).join("home")
    }

    pub(crate) fn instances(&self, workspace: &Workspace, agent: &str) -> PathBuf {
        self.agent(workspace, agent).join("instances")
    }

    pub(crate) fn instance(&self, place: &Place) -> PathBuf {
        self.instances(&place.workspace, &place.agent)
            .join(place.instance.to_string())
    }

    pub(crate) fn log(&self, place: &Place) -> PathBuf {
        self.instance(place).join("log")
    }

    pub(crate) fn volume(&self, workspace: &Workspace, name: &str) -> PathBuf {
        self.data
            .join("volumes")
            .join(workspace.as_str())
            .join(name)
    }

    /// The file that tells agents which name servers there are.
    pub(crate) fn resolver(&self) -> PathBuf {
        self.data.join("docker.resolver")
    }

    /// Writes that file unless it is there. Blocks.
    pub(crate) fn write_resolver(&self) -> Result<(), DriverError> {
        let path = self.resolver();
        if std::fs::read_to_string(&path).is_ok_and(|text| text == NO_NAMES) {
            return Ok(());
        }
        let draft = self
            .data
            .join(format!("docker.resolver.{}", fastrand::u64(..)));
        std::fs::write(&draft, NO_NAMES)
            // Agents have other users than Skep.
            .and_then(|()| std::fs::set_permissions(&draft, Permissions::from_mode(0o644)))
            .and_then(|()| std::fs::rename(&draft, &path))
            .map_err(|error| failed("docker.resolver", &error))
    }

    /// Makes the folder of a new instance: an instance is started once in its life. Blocks.
    pub(crate) fn begin(&self, place: &Place) -> Result<(), DriverError> {
        make(&self.instances(&place.workspace, &place.agent))
            .and_then(|()| {
                std::fs::DirBuilder::new()
                    .mode(0o700)
                    .create(self.instance(place))
            })
            .map_err(|error| failed("the instance's folder cannot be made", &error))
    }

    /// Makes a folder that an agent may write to, and gives it to its user. Blocks.
    pub(crate) fn give(path: &Path, owner: Owner) -> Result<(), DriverError> {
        make(path)
            .and_then(|()| own(path, owner))
            .map_err(|error| failed(&format!("{} cannot be given", path.display()), &error))
    }

    /// The instances that have a folder, oldest first. Blocks.
    pub(crate) fn kept(
        &self,
        workspace: &Workspace,
        agent: &str,
    ) -> Result<Vec<InstanceId>, DriverError> {
        kept(&self.instances(workspace, agent))
    }

    /// What this data folder is called at the engine: random, and kept, so that the folder may be
    /// moved. Blocks.
    pub(crate) fn id(&self) -> Result<String, DriverError> {
        let path = self.data.join("docker.id");
        let problem = |error: io::Error| failed("docker.id", &error);
        loop {
            match std::fs::read_to_string(&path) {
                Ok(id) if id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                    return Ok(id);
                }
                Ok(_) => {
                    let why = format!(
                        "{} does not hold eight hexadecimal digits; remove it when no agent of this \
                         data folder runs",
                        path.display()
                    );
                    return Err(DriverError::Failed(why));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(problem(error)),
            }
            make(&self.data).map_err(problem)?;
            let draft = self.data.join(format!("docker.id.{}", fastrand::u64(..)));
            std::fs::write(&draft, format!("{:08x}", fastrand::u32(..))).map_err(problem)?;
            // Whole or not at all, and the first one wins.
            let linked = std::fs::hard_link(&draft, &path);
            let _ = std::fs::remove_file(&draft);
            match linked {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(problem(error));
                }
                _ => {}
            }
        }
    }
}

/// Gives a folder and what is in it to a user, unless the folder is theirs. The agent may write in
/// it at the same time: nothing is opened by a path that it could turn elsewhere.
fn own(path: &Path, owner: Owner) -> io::Result<()> {
    let about = std::fs::symlink_metadata(path)?;
    if about.uid() == owner.uid || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top: OwnedFd = File::from(rustix::fs::open(path, flags, Mode::empty())?).into();
    own_inside(&top, owner, DEEPEST)?;
    // Last, so that what was interrupted is done again.
    rustix::fs::fchown(
        &top,
        Some(Uid::from_raw(owner.uid)),
        Some(Gid::from_raw(owner.gid)),
    )?;
    Ok(())
}

fn own_inside(folder: &OwnedFd, owner: Owner, deeper: usize) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for entry in Dir::read_from(folder.as_fd())? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() == FileType::Directory && deeper > 0 {
            let inner = rustix::fs::openat(folder, name, flags, Mode::empty())?;
            own_inside(&inner, owner, deeper - 1)?;
        }
        rustix::fs::chownat(
            folder,
            name,
            Some(Uid::from_raw(owner.uid)),
            Some(Gid::from_raw(owner.gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_data_folder_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::new(folder.path().join("data"));
        let id = folders.id().unwrap();
        assert_eq!(folders.id().unwrap(), id);
        std::fs::write(folder.path().join("data/docker.id"), "../..").unwrap();
        assert!(folders.id().is_err());
    }

    #[test]
    fn a_given_folder_leaves_what_links_point_to() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (home, outside) = (folder.path().join("home"), folder.path().join("outside"));
        std::fs::create_dir_all(home.join("a/b")).unwrap();
        std::fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, home.join("a/link")).unwrap();
        let owner = Owner {
            uid: 65_532,
            gid: 65_532,
        };
        Folders::give(&home, owner).unwrap();
        let uid = |path: &Path| std::fs::symlink_metadata(path).unwrap().uid();
        assert_eq!(uid(&home.join("a/b")), 65_532);
        assert_eq!(uid(&home.join("a/link")), 65_532);
        assert_eq!(uid(&outside), 0);
    }
}
