//! What an agent sees of the machine where this process may change that (CAP_SYS_ADMIN): a `/tmp`
//! of its own, and a `/run` without the sockets of other services. Landlock cannot close sockets
//! in the file system before its ABI 9, and a server that runs as root could reach all of them.

use std::ffi::CString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, mount_bind, mount_bind_recursive, mount_change};
use rustix::thread::{CapabilitySet, UnshareFlags};

use super::netns::HOSTS;

const RUN: &str = "/run";
const TMP: &str = "/tmp";
/// The resolver's settings, often a link to below `/run`.
pub(super) const RESOLVER: &str = "/etc/resolv.conf";

/// What is put where.
#[derive(Debug)]
pub(super) struct View {
    run: Option<CString>,
    tmp: Option<CString>,
    /// The folder of the resolver's settings, where it lies below `/run`, and its place in ours.
    resolver: Option<(CString, CString)>,
    /// The names of an agent that has a network of its own.
    hosts: Option<CString>,
}

/// Whether this process may make one.
pub(super) fn is_possible() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

fn c(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

impl View {
    /// Prepares it: `folder` is the instance's. What was given to the agent stays where it is, so
    /// a place that holds such a folder is left as it is.
    pub(super) fn prepare(folder: &Path, tmp: &Path, given: &[PathBuf]) -> io::Result<Self> {
        let free = |place: &str| !given.iter().any(|path| path.starts_with(place));
        let mut view = Self {
            run: None,
            // The temporary folder itself may lie there.
            tmp: match free(TMP) {
                true => Some(c(tmp)?),
                false => None,
            },
            resolver: None,
            hosts: None,
        };
        let hosts = folder.join(HOSTS);
        if hosts.is_file() {
            view.hosts = Some(c(&hosts)?);
        }
        if free(RUN) && Path::new(RUN).is_dir() {
            let run = folder.join("run");
            DirBuilder::new().recursive(true).mode(0o755).create(&run)?;
            let resolver = Path::new(RESOLVER).canonicalize().ok();
            let below = resolver.as_deref().and_then(Path::parent);
            let place = below.and_then(|from| Some((from, from.strip_prefix(RUN).ok()?)));
            if let Some((from, name)) = place.filter(|(_, name)| name.parent().is_some()) {
                let to = run.join(name);
                DirBuilder::new().recursive(true).mode(0o755).create(&to)?;
                view.resolver = Some((c(from)?, c(&to)?));
            }
            view.run = Some(c(&run)?);
        }
        Ok(view)
    }

    pub(super) fn hides_tmp(&self) -> bool {
        self.tmp.is_some()
    }

    pub(super) fn hides_run(&self) -> bool {
        self.run.is_some()
    }

    /// Whether the agent finds nobody by name without it.
    pub(super) fn names_hosts(&self) -> bool {
        self.hosts.is_some()
    }

    /// Puts it in force for this process. Runs between fork and exec.
    pub(super) fn enter(&self) -> io::Result<()> {
        let flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC;
        #[expect(unsafe_code, reason = "the only way to unshare")]
        // SAFETY: descriptors are not unshared, so none of them is lost.
        unsafe {
            rustix::thread::unshare_unsafe(flags)?;
        }
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change(c"/", private)?;
        if let Some(hosts) = &self.hosts {
            mount_bind(hosts.as_c_str(), c"/etc/hosts")?;
        }
        if let Some((from, to)) = &self.resolver {
            mount_bind(from.as_c_str(), to.as_c_str())?;
        }
        if let Some(run) = &self.run {
            mount_bind_recursive(run.as_c_str(), c"/run")?;
        }
        if let Some(tmp) = &self.tmp {
            mount_bind(tmp.as_c_str(), c"/tmp")?;
        }
        Ok(())
    }
}
