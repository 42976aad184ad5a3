//! Folders, for drivers: made private, removed twice without harm, off the threads that run tasks.

use std::io;
use std::path::{Path, PathBuf};

use skep_core::Workspace;

use skep_core::InstanceId;

use crate::DriverError;

/// The folder of an agent, below the data folder.
#[must_use]
pub fn of_agent(data: &Path, workspace: &Workspace, agent: &str) -> PathBuf {
    data.join("agents").join(workspace.as_str()).join(agent)
}

/// The home of an agent, below the data folder.
#[must_use]
pub fn home(data: &Path, workspace: &Workspace, agent: &str) -> PathBuf {
    of_agent(data, workspace, agent).join("home")
}

/// A named volume, below the data folder.
#[must_use]
pub fn volume(data: &Path, workspace: &Workspace, name: &str) -> PathBuf {
    data.join("volumes").join(workspace.as_str()).join(name)
}

/// The error of a driver whose file system did not do this.
#[must_use]
pub fn failed(what: &str, error: &io::Error) -> DriverError {
    DriverError::Failed(format!("{what}: {error}"))
}

/// Runs blocking work on a thread where it may block.
///
/// # Errors
/// What the work gives, and [`DriverError::Failed`] when it panics.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
) -> Result<T, DriverError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(DriverError::Failed(error.to_string())))
}

/// Makes a folder, and those that it is in, for the server's user alone.
///
/// # Errors
/// What the file system says.
pub fn make(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// The instances that have a folder in this one, oldest first. Blocks.
///
/// # Errors
/// [`DriverError::Failed`].
pub fn kept(instances: &Path) -> Result<Vec<InstanceId>, DriverError> {
    let all = inside(instances).map_err(|error| failed("the instances' folder", &error))?;
    let mut all: Vec<InstanceId> = all.iter().filter_map(|it| it.parse().ok()).collect();
    all.sort_unstable();
    Ok(all)
}

/// The names in a folder that begin so. Blocks.
///
/// # Errors
/// [`DriverError::Failed`].
pub fn named(folder: &Path, prefix: &str) -> Result<Vec<String>, DriverError> {
    let mut all = inside(folder).map_err(|error| failed("the agents' folder", &error))?;
    all.retain(|it| it.starts_with(prefix));
    Ok(all)
}

/// The names in a folder; none when it is not there.
fn inside(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.flatten().map(|it| it.file_name().into_string());
    Ok(names.flatten().collect())
}

/// Removes a folder with what it holds. Well when it is not there.
///
/// # Errors
/// [`DriverError::Failed`].
pub fn remove(path: &Path) -> Result<(), DriverError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("the folder cannot be removed", &error))
        }
        _ => Ok(()),
    }
}
