//! API keys: random, hashed at rest, known to the server by their hash only.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use skep_core::{KeyId, Workspace};
use skep_store::{Db, Migration, MigrationSet, StoreError};

use crate::ServerError;

/// Every key begins so, so that a leaked one can be found.
const PREFIX: &str = "skep_";
/// Random bytes of a key.
const SECRET_BYTES: usize = 32;
/// Where the first key is kept for the CLI, in the data folder.
const FILE: &str = "admin.key";

pub(crate) const MIGRATIONS: MigrationSet = MigrationSet {
    component: "server",
    migrations: &[Migration {
        name: "0001-api-keys",
        sql: "
            CREATE TABLE api_keys (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                name TEXT NOT NULL,
                hash BLOB NOT NULL,
                created_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, id)
            );
        ",
    }],
    workspace_tables: &["api_keys"],
};

/// Who a key stands for.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    pub(crate) workspace: Workspace,
    /// The key's name.
    pub(crate) name: Arc<str>,
}

/// The keys that are valid.
#[derive(Debug)]
pub(crate) struct Keys {
    by_hash: HashMap<[u8; 32], Principal>,
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// Makes another key like the first one in a store that no server has, and keeps it where the first
/// is kept: for a store that came here without it.
///
/// # Errors
/// [`ServerError`].
pub(crate) async fn new_admin_key(db: &Db) -> Result<(), ServerError> {
    make(db, &Workspace::default()).await.map(drop)
}

/// Makes a key, keeps it in its file and then in the store.
async fn make(db: &Db, workspace: &Workspace) -> Result<String, ServerError> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(|error| ServerError::Random(error.to_string()))?;
    let key = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    // The file first: after a crash in between there is still no key, and another is made.
    keep(&db.folder().join(FILE), &key)?;
    let (id, digest, of) = (KeyId::new(), hash(&key), workspace.clone());
    let write: Result<_, StoreError> = db
        .write(move |unit| {
            let now = unit.now();
            unit.scope(&of).execute(
                "INSERT INTO api_keys (workspace, id, name, hash, created_at) \
                 VALUES (?1, ?2, 'admin', ?3, ?4)",
                &[id.as_bytes().into(), (&digest).into(), now.into()],
            )
        })
        .await;
    write?;
    Ok(key)
}

impl Keys {
    /// Reads the keys; makes the first one when there is none and tells it.
    pub(crate) async fn open(db: &Db) -> Result<(Self, Option<String>), ServerError> {
        let workspace = Workspace::default();
        let mut keys = Self::read(db, &workspace).await?;
        if !keys.by_hash.is_empty() {
            return Ok((keys, None));
        }
        let key = make(db, &workspace).await?;
        let digest = hash(&key);
        let name = "admin".into();
        keys.by_hash.insert(digest, Principal { workspace, name });
        Ok((keys, Some(key)))
    }

    async fn read(db: &Db, workspace: &Workspace) -> Result<Self, ServerError> {
        let of = workspace.clone();
        let rows = db
            .read(move |reader| {
                reader
                    .scope(&of)
                    .query("SELECT hash, name FROM api_keys WHERE workspace = ?1", &[])
            })
            .await;
        let rows: Result<Vec<skep_store::Row>, StoreError> = rows;
        let mut by_hash = HashMap::new();
        for row in rows? {
            by_hash.insert(
                row.bytes(0)?,
                Principal {
                    workspace: workspace.clone(),
                    name: row.text(1)?.into(),
                },
            );
        }
        Ok(Self { by_hash })
    }

    /// Who sends this request. Every credential of ours is taken out of the headers, so that no
    /// agent sees one; an `Authorization` that is not ours stays, for the agent.
    pub(crate) fn authenticate(&self, headers: &mut HeaderMap) -> Option<Principal> {
        let bearer = headers.get(AUTHORIZATION).and_then(bearer);
        let of_bearer = bearer.and_then(|key| self.find(key));
        take_out(headers, of_bearer.is_some());
        match headers.remove(skep_api::HEADER_API_KEY) {
            Some(value) => self.find(value.to_str().ok()?),
            None => of_bearer,
        }
    }

    /// The map is asked by the hash of what was sent: how long that takes tells nothing of a key.
    fn find(&self, key: &str) -> Option<Principal> {
        self.by_hash.get(&hash(key)).cloned()
    }
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Whether a key of ours, valid or not, stands anywhere in an `Authorization`.
fn has_key(value: &HeaderValue) -> bool {
    value
        .as_bytes()
        .split(|byte| byte.is_ascii_whitespace() || b",;:=\"'".contains(byte))
        .any(|word| word.starts_with(PREFIX.as_bytes()))
}

/// Leaves the `Authorization` of an agent's own.
fn take_out(headers: &mut HeaderMap, first_is_ours: bool) {
    let values = headers.get_all(AUTHORIZATION);
    if !first_is_ours && !values.iter().any(has_key) {
        return;
    }
    let others = values.iter().skip(usize::from(first_is_ours));
    let others: Vec<_> = others.filter(|value| !has_key(value)).cloned().collect();
    headers.remove(AUTHORIZATION);
    for value in others {
        headers.append(AUTHORIZATION, value);
    }
}

/// Keeps a secret in a file for the server's user alone, which takes the place of one that is there.
fn keep(path: &Path, key: &str) -> Result<(), ServerError> {
    write(path, key, |new| std::fs::rename(new, path))
}

/// As [`keep`], unless there is a file: then it stays, and this is false.
pub(crate) fn keep_new(path: &Path, key: &str) -> Result<bool, ServerError> {
    let mut kept = true;
    write(path, key, |new| {
        let linked = std::fs::hard_link(new, path);
        std::fs::remove_file(new)?;
        match linked {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                kept = false;
                Ok(())
            }
            linked => linked,
        }
    })?;
    Ok(kept)
}

/// Writes a secret so that its file is whole or not there, and for its owner only.
fn write(
    path: &Path,
    key: &str,
    place: impl FnOnce(&Path) -> std::io::Result<()>,
) -> Result<(), ServerError> {
    let failed = |error: std::io::Error| ServerError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let written = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        writeln!(file, "{key}")?;
        file.sync_all()?;
        place(&new)?;
        path.parent()
            .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    written().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let principal = Principal {
            workspace: Workspace::default(),
            name: "admin".into(),
        };
        Keys {
            by_hash: HashMap::from([(hash("skep_right"), principal)]),
        }
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn a_right_key_is_taken_out() {
        for (name, value) in [
            ("authorization", "bearer skep_right"),
            ("skep-api-key", "skep_right"),
        ] {
            let mut headers = headers(name, value);
            assert!(keys().authenticate(&mut headers).is_some());
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn the_agents_own_authorization_stays() {
        let mut both = headers("authorization", "Bearer agents-own");
        both.insert("skep-api-key", HeaderValue::from_static("skep_right"));
        assert!(keys().authenticate(&mut both).is_some());
        assert_eq!(both, headers("authorization", "Bearer agents-own"));
    }

    #[test]
    fn no_key_of_ours_stays_beside_another() {
        for value in [
            "Bearer skep_right",
            "bearer  skep_other",
            "skep_right",
            "Digest username=\"skep_other\"",
        ] {
            let mut both = headers("authorization", value);
            both.append(AUTHORIZATION, HeaderValue::from_static("Bearer agents-own"));
            both.insert("skep-api-key", HeaderValue::from_static("skep_right"));
            assert!(keys().authenticate(&mut both).is_some(), "{value}");
            assert_eq!(both, headers("authorization", "Bearer agents-own"));
        }
        // A wrong key is not mended by a right one beside it, and goes too.
        let mut both = headers("authorization", "Bearer skep_right");
        both.insert("skep-api-key", HeaderValue::from_static("skep_wrong"));
        assert!(keys().authenticate(&mut both).is_none());
        assert!(both.is_empty());
    }

    #[test]
    fn wrong_keys_are_nobody() {
        for (name, value) in [
            ("authorization", "Bearer skep_wrong"),
            ("authorization", "Basic skep_right"),
            ("authorization", "skep_right"),
            ("skep-api-key", ""),
            ("x-api-key", "skep_right"),
        ] {
            assert!(
                keys().authenticate(&mut headers(name, value)).is_none(),
                "{name}: {value}"
            );
        }
    }
}
