//! What has to be known of what is in an image. For this a container of it is made that never runs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bollard::models::{ContainerCreateBody, HostConfig, ImageConfig, ImageInspect};
use bollard::query_parameters::{
    ContainerArchiveInfoOptions, CreateContainerOptions, DownloadFromContainerOptions,
    RemoveContainerOptions,
};
use futures_util::StreamExt;
use parking_lot::Mutex;
use skep_runtime::{DriverError, Spec};

use crate::engine::{Engine, Trouble};
use crate::folder::Owner;
use crate::network::LABEL_ID;
use crate::volume::is_mounted;

/// Who an agent is whose image says nothing, or says root.
const NOBODY: Owner = Owner {
    uid: 65_532,
    gid: 65_532,
};
/// Where programs are looked for when neither the image nor the specification says.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of an image's table of users.
const MOST_USERS: usize = 1 << 20;
const TAR_BLOCK: usize = 512;
/// Images of which something is remembered.
const MOST_KNOWN: usize = 1_000;

/// What was found out of one image, which never changes.
#[derive(Default)]
struct Known {
    user: Option<(String, Owner)>,
    programs: HashMap<PathBuf, bool>,
}

/// What is in the images of an engine.
pub(crate) struct Images {
    engine: Arc<Engine>,
    known: Mutex<HashMap<String, Known>>,
}

fn config(image: &ImageInspect) -> ImageConfig {
    image.config.clone().unwrap_or_default()
}

impl Images {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self {
            engine,
            known: Mutex::default(),
        }
    }

    /// Who the agent is: what the container is given as its user, and who owns its home.
    pub(crate) async fn user(
        &self,
        id: &str,
        image: &ImageInspect,
    ) -> Result<(String, Owner), DriverError> {
        let own = Owner {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        let numbers = |owner: Owner| (format!("{}:{}", owner.uid, owner.gid), owner);
        if own.uid != 0 {
            // Nothing can be given to another user, and the agent must be able to write its home.
            return Ok(numbers(own));
        }
        let said = config(image).user.unwrap_or_default();
        let (user, group) = said.split_once(':').unwrap_or((&said, ""));
        if let Ok(uid) = user.parse::<u32>() {
            let gid = group.parse().unwrap_or(uid);
            return Ok(match uid {
                0 => numbers(NOBODY),
                _ => (said.clone(), Owner { uid, gid }),
            });
        }
        if user.is_empty() || user == "root" {
            return Ok(numbers(NOBODY));
        }
        let of = image.id.clone().unwrap_or_default();
        if let Some(user) = self
            .known
            .lock()
            .get(&of)
            .and_then(|known| known.user.clone())
        {
            return Ok(user);
        }
        let found = match self
            .users(id, &of)
            .await?
            .as_deref()
            .and_then(|users| find(users, user))
        {
            Some(owner) if owner.uid == 0 => numbers(NOBODY),
            Some(owner) => (said.clone(), owner),
            None => {
                return Err(DriverError::Refused(format!(
                    "the image's user `{user}` is not in its /etc/passwd; give it a number in the \
                     image (USER 1000)"
                )));
            }
        };
        self.remember(of, |known| known.user = Some(found.clone()));
        Ok(found)
    }

    fn remember(&self, image: String, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock();
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        change(known.entry(image).or_default());
    }

    /// The image's table of users.
    async fn users(&self, id: &str, image: &str) -> Result<Option<String>, DriverError> {
        self.inside(id, image, async |container| {
            let docker = self.engine.get().await?.docker;
            let options = DownloadFromContainerOptions {
                path: "/etc/passwd".to_owned(),
            };
            let mut archive = Vec::new();
            let mut chunks =
                std::pin::pin!(docker.download_from_container(container, Some(options)));
            while let Some(chunk) = chunks.next().await {
                match chunk {
                    Ok(chunk) if archive.len() + chunk.len() <= MOST_USERS => {
                        archive.extend_from_slice(&chunk);
                    }
                    Ok(_) => break,
                    Err(error) => {
                        return match self.engine.failed(&error).await {
                            Trouble::Missing(_) => Ok(None),
                            other => Err(other),
                        };
                    }
                }
            }
            Ok(first_file(&archive))
        })
        .await
    }

    /// Whether the program is in the image. What lies in a volume cannot be told.
    pub(crate) async fn has_program(
        &self,
        id: &str,
        image: &ImageInspect,
        spec: &Spec,
    ) -> Result<bool, DriverError> {
        let config = config(image);
        let Some(program) = spec.command.first() else {
            let said = [config.entrypoint, config.cmd];
            return Ok(said.into_iter().flatten().any(|words| !words.is_empty()));
        };
        let candidates = candidates(program, spec, &config);
        if candidates.iter().any(|path| is_mounted(spec, path)) {
            return Ok(true);
        }
        let of = image.id.clone().unwrap_or_default();
        let known = |path: &PathBuf| {
            let known = self.known.lock();
            known.get(&of)?.programs.get(path).copied()
        };
        let seen: Vec<_> = candidates.iter().map(known).collect();
        if seen.contains(&Some(true)) {
            return Ok(true);
        }
        if seen.iter().all(Option::is_some) {
            return Ok(false);
        }
        self.inside(id, &of, async |container| {
            for path in &candidates {
                let options = ContainerArchiveInfoOptions {
                    path: path.to_string_lossy().into_owned(),
                };
                let looked = self
                    .engine
                    .ask(|docker| async move {
                        docker
                            .get_container_archive_info(container, Some(options))
                            .await
                    })
                    .await;
                let there = match looked {
                    Ok(_) => true,
                    Err(Trouble::Away(why)) => return Err(Trouble::Away(why)),
                    Err(_) => false,
                };
                self.remember(of.clone(), |known| {
                    known.programs.insert(path.clone(), there);
                });
                if there {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    /// Looks into an image through a container that never runs.
    async fn inside<T>(
        &self,
        id: &str,
        image: &str,
        look: impl AsyncFnOnce(&str) -> Result<T, Trouble>,
    ) -> Result<T, DriverError> {
        let options = CreateContainerOptions {
            name: Some(format!("skep-look-{:016x}", fastrand::u64(..))),
            ..CreateContainerOptions::default()
        };
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            cmd: Some(vec!["true".to_owned()]),
            labels: Some(HashMap::from([(LABEL_ID.to_owned(), id.to_owned())])),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let made = self
            .engine
            .ask(|docker| async move { docker.create_container(Some(options), body).await })
            .await?;
        let looked = look(&made.id).await;
        let options = RemoveContainerOptions {
            v: true,
            force: true,
            link: false,
        };
        let removed = self
            .engine
            .ask(|docker| async move { docker.remove_container(&made.id, Some(options)).await })
            .await;
        if let Err(trouble) = removed {
            tracing::debug!(?trouble, "a container that never ran stays for the sweep");
        }
        Ok(looked?)
    }
}

/// Where a program may be, the way it will be looked for.
fn candidates(program: &str, spec: &Spec, config: &ImageConfig) -> Vec<PathBuf> {
    let workdir = spec.workdir.clone().unwrap_or_else(|| {
        let said = config
            .working_dir
            .as_deref()
            .filter(|said| !said.is_empty());
        PathBuf::from(said.unwrap_or(crate::volume::HOME))
    });
    if program.contains('/') {
        return vec![workdir.join(program)];
    }
    let of_image = config.env.iter().flatten();
    let of_image = of_image
        .into_iter()
        .find_map(|pair| pair.strip_prefix("PATH="));
    let path = spec.env.get("PATH").map(String::as_str).or(of_image);
    path.unwrap_or(DEFAULT_PATH)
        .split(':')
        .map(|folder| workdir.join(Path::new(folder)).join(program))
        .collect()
}

/// The content of the first file of a tar archive.
fn first_file(archive: &[u8]) -> Option<String> {
    let header = archive.get(..TAR_BLOCK)?;
    // A plain file: anything else has no content here.
    if !matches!(header[156], b'0' | 0) {
        return None;
    }
    let size = std::str::from_utf8(&header[124..136]).ok()?;
    let size = size.trim_matches(|c: char| c == '\0' || c == ' ');
    let size = usize::from_str_radix(size, 8).ok()?;
    let content = archive.get(TAR_BLOCK..TAR_BLOCK.checked_add(size)?)?;
    Some(String::from_utf8_lossy(content).into_owned())
}

/// A user in a table of users.
fn find(users: &str, name: &str) -> Option<Owner> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        Some(Owner {
            uid: fields.nth(1)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_user_in_the_archive() {
        let users = "root:x:0:0::/root:/bin/sh\nnode:x:1000:1001::/home/node:/bin/sh\n";
        let mut archive = vec![0; TAR_BLOCK];
        let size = format!("{:011o}\0", users.len());
        archive[124..136].copy_from_slice(size.as_bytes());
        archive[156] = b'0';
        archive.extend_from_slice(users.as_bytes());
        archive.resize(3 * TAR_BLOCK, 0);
        let read = first_file(&archive).unwrap();
        let owner = Owner {
            uid: 1000,
            gid: 1001,
        };
        assert_eq!(find(&read, "node"), Some(owner));
        assert_eq!(find(&read, "nod"), None);
        archive[156] = b'2';
        assert_eq!(first_file(&archive), None);
        assert_eq!(first_file(b""), None);
    }
}
