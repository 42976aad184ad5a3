//! The keys of an open vault, and how each wraps the next.
//!
//! ```text
//! way in ─▶ unlock key ─▶ root key (versions) ─▶ workspace key (versions) ─▶ data key ─▶ value
//! ```
//!
//! While a level rotates there are two versions of its key that count, and whatever is made then is wrapped
//! under both.

use std::collections::HashMap;

use parking_lot::RwLock;
use skep_core::{SecretId, Timestamp, Workspace};
use skep_crypto::Key;
use skep_crypto::memory::Memory;
use skep_store::{Scope, ServerScope, StoreError, Unit};
use zeroize::Zeroizing;

use crate::VaultError;
use crate::rotation::Level;

/// Keys of workspaces that are kept opened.
const MOST_OPENED: usize = 1_024;
/// Root keys that are kept opened.
const MOST_ROOTS: usize = 16;
/// What a secret's version 0 is: what is known about it.
pub(crate) const ABOUT: u32 = 0;
/// Of no generation: what no rotation of data keys replaces.
const NONE: i64 = 0;
/// In the place of a secret's id: the workspace's own data key, for its tokens.
pub(crate) const OWN: [u8; 16] = [0; 16];
/// Bytes of a key that another wraps.
pub(crate) const WRAPPED: usize = skep_crypto::chunked::HEADER + 32 + skep_crypto::chunked::TAG;
/// States of keys under which new children are wrapped.
const LIVE: &str = "current";

/// What a ciphertext is bound to.
pub(crate) struct Context(pub(crate) Vec<u8>);

impl Context {
    fn new(what: &str, parts: &[&[u8]]) -> Self {
        let mut text = b"skep vault ".to_vec();
        text.extend_from_slice(what.as_bytes());
        for part in parts {
            // The length first: no two lists of parts make the same text.
            text.extend_from_slice(&(part.len() as u64).to_be_bytes());
            text.extend_from_slice(part);
        }
        Self(text)
    }

    pub(crate) fn unlock(seal: i64) -> Self {
        Self::new("unlock", &[&seal.to_be_bytes()])
    }

    pub(crate) fn root(version: i64) -> Self {
        Self::new("root", &[&version.to_be_bytes()])
    }

    fn workspace(of: &Workspace, version: i64, root: i64) -> Self {
        let parts = [
            of.as_str().as_bytes(),
            &version.to_be_bytes(),
            &root.to_be_bytes(),
        ];
        Self::new("workspace", &parts)
    }

    fn data(of: &Workspace, place: &Place, parent: i64) -> Self {
        let parts = [
            of.as_str().as_bytes(),
            &place.secret,
            &place.version.to_be_bytes(),
            &place.generation.to_be_bytes(),
            &parent.to_be_bytes(),
        ];
        Self::new("data", &parts)
    }

    fn value(of: &Workspace, place: &Place) -> Self {
        let parts = [
            of.as_str().as_bytes(),
            &place.secret,
            &place.version.to_be_bytes(),
            &place.generation.to_be_bytes(),
        ];
        Self::new("value", &parts)
    }
}

/// Where a value lies in its workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) secret: [u8; 16],
    pub(crate) version: u32,
    pub(crate) generation: i64,
}

impl Place {
    pub(crate) fn new(secret: SecretId, version: u32, generation: i64) -> Self {
        Self {
            secret: *secret.as_bytes(),
            version,
            generation,
        }
    }
}

/// A key and its number.
#[derive(Clone)]
pub(crate) struct Numbered {
    pub(crate) number: i64,
    pub(crate) key: Key,
}

/// The keys of an open vault.
pub(crate) struct Keyring {
    pub(crate) unlock: Key,
    /// Of what is kept in memory for a moment ([`crate::Brief`]).
    pub(crate) brief: Memory,
    /// By what is stored, as `opened`: whatever becomes of a number, a key is only what its row says.
    roots: RwLock<HashMap<Vec<u8>, Key>>,
    /// By what is stored: a workspace that is removed and made again has another.
    opened: RwLock<HashMap<Vec<u8>, Key>>,
}

/// The keys that whatever is made now in a workspace is wrapped under.
pub(crate) struct Live {
    /// Of the workspace; the first is the one that counts.
    pub(crate) keys: Vec<Numbered>,
    /// Generations of data keys.
    pub(crate) generations: Vec<i64>,
}

/// The keys of what a workspace has of its secrets in the open.
pub(crate) struct Index {
    /// Of tokens.
    pub(crate) tokens: Key,
    /// Of rows.
    pub(crate) rows: Key,
}

impl Keyring {
    pub(crate) fn new(unlock: Key) -> Result<Self, VaultError> {
        Ok(Self {
            unlock,
            brief: Memory::new()?,
            roots: RwLock::default(),
            opened: RwLock::default(),
        })
    }

    /// The root key of a number, from what is stored.
    pub(crate) fn root(&self, number: i64, wrapped: &[u8]) -> Result<Key, VaultError> {
        if let Some(key) = self.roots.read().get(wrapped) {
            return Ok(key.clone());
        }
        let key = self.unlock.unwrap(&Context::root(number).0, wrapped)?;
        let mut roots = self.roots.write();
        if roots.len() >= MOST_ROOTS {
            roots.clear();
        }
        roots.insert(wrapped.to_vec(), key.clone());
        Ok(key)
    }

    /// Root keys under which keys of workspaces are wrapped now; the one that counts comes first.
    pub(crate) fn roots(&self, server: &mut ServerScope<'_>) -> Result<Vec<Numbered>, VaultError> {
        let rows = server.query(
            "SELECT version, wrapped FROM vault_roots WHERE state <> 'ended' \
             ORDER BY CASE state WHEN 'current' THEN 0 ELSE 1 END, version",
            &[],
        )?;
        let roots = rows.iter().map(|row| {
            let number = row.int(0)?;
            let key = self.root(number, row.blob(1)?)?;
            Ok(Numbered { number, key })
        });
        roots.collect()
    }

    /// A key of a workspace from what is stored.
    pub(crate) fn workspace(
        &self,
        of: &Workspace,
        number: i64,
        wrapped: &[u8],
        root: (i64, &[u8]),
    ) -> Result<Key, VaultError> {
        if let Some(key) = self.opened.read().get(wrapped) {
            return Ok(key.clone());
        }
        let (root, wrapped_root) = root;
        let root_key = self.root(root, wrapped_root)?;
        let context = Context::workspace(of, number, root);
        let key = root_key.unwrap(&context.0, wrapped)?;
        let mut opened = self.opened.write();
        if opened.len() >= MOST_OPENED {
            opened.clear();
        }
        opened.insert(wrapped.to_vec(), key.clone());
        Ok(key)
    }

    /// Wraps a workspace's key under a root key.
    pub(crate) fn wrap_workspace(
        of: &Workspace,
        key: &Numbered,
        root: &Numbered,
    ) -> Result<Vec<u8>, VaultError> {
        let context = Context::workspace(of, key.number, root.number);
        Ok(root.key.wrap(&context.0, &key.key)?)
    }

    /// Opens a workspace's key without looking at what is kept opened.
    pub(crate) fn unwrap_workspace(
        of: &Workspace,
        number: i64,
        root: &Numbered,
        wrapped: &[u8],
    ) -> Result<Key, VaultError> {
        let context = Context::workspace(of, number, root.number);
        Ok(root.key.unwrap(&context.0, wrapped)?)
    }

    /// The keys of a workspace that whatever is made now is wrapped under; makes the first ones.
    pub(crate) fn live(
        &self,
        unit: &mut Unit<'_>,
        workspace: &Workspace,
    ) -> Result<Live, VaultError> {
        let now = unit.now();
        let mut server = unit.server();
        // Another server may be about to begin a rotation.
        server.in_turn()?;
        let live = self.read_live(&mut server, workspace)?;
        if !live.keys.is_empty() {
            return Ok(live);
        }
        let key = Numbered {
            number: 1,
            key: Key::random()?,
        };
        for level in [Level::Workspace, Level::Data] {
            insert_key(&mut server, workspace, level, 1, LIVE, now)?;
        }
        for root in self.roots(&mut server)? {
            let wrapped = Self::wrap_workspace(workspace, &key, &root)?;
            insert_workspace_key(&mut server, workspace, 1, root.number, &wrapped)?;
        }
        let live = Live {
            keys: vec![key],
            generations: vec![1],
        };
        let own = Place {
            secret: OWN,
            version: ABOUT,
            generation: NONE,
        };
        let index = Key::random()?;
        for parent in &live.keys {
            wrap_data(&mut unit.scope(workspace), &own, parent, &index)?;
        }
        Ok(live)
    }

    /// As [`Keyring::live`], of what is there. It may be nothing.
    pub(crate) fn read_live(
        &self,
        server: &mut ServerScope<'_>,
        workspace: &Workspace,
    ) -> Result<Live, VaultError> {
        let of = workspace.as_str();
        let rows = server.query(
            "SELECT k.version, w.wrapped, r.version, r.wrapped FROM vault_keys k \
             JOIN vault_workspace_keys w ON w.of_workspace = k.of_workspace AND w.version = k.version \
             JOIN vault_roots r ON r.version = w.root AND r.state = 'current' \
             WHERE k.of_workspace = ?1 AND k.level = 'workspace' AND k.state <> 'ended' \
             ORDER BY CASE k.state WHEN 'current' THEN 0 ELSE 1 END, k.version",
            &[of.into()],
        )?;
        let keys = rows.iter().map(|row| {
            let number = row.int(0)?;
            let root = (row.int(2)?, row.blob(3)?);
            let key = self.workspace(workspace, number, row.blob(1)?, root)?;
            Ok(Numbered { number, key })
        });
        let keys: Result<Vec<_>, VaultError> = keys.collect();
        let rows = server.query(
            "SELECT version FROM vault_keys WHERE of_workspace = ?1 AND level = 'data' \
             AND state <> 'ended' ORDER BY version",
            &[of.into()],
        )?;
        let generations: Result<Vec<i64>, StoreError> = rows.iter().map(|row| row.int(0)).collect();
        Ok(Live {
            keys: keys?,
            generations: generations?,
        })
    }

    /// The keys of a workspace's tokens and rows. There are none before its first secret.
    pub(crate) fn index(&self, scope: &mut Scope<'_>) -> Result<Option<Index>, VaultError> {
        let of = scope.workspace().clone();
        let row = scope.query_opt(
            "SELECT k.parent, k.wrapped, w.wrapped, r.version, r.wrapped FROM secret_keys k \
             JOIN vault_keys p ON p.of_workspace = k.workspace AND p.level = 'workspace' \
                AND p.version = k.parent AND p.state = 'current' \
             JOIN vault_workspace_keys w ON w.of_workspace = k.workspace AND w.version = k.parent \
             JOIN vault_roots r ON r.version = w.root AND r.state = 'current' \
             WHERE k.workspace = ?1 AND k.secret = ?2 AND k.version = 0 AND k.generation = 0",
            &[(&OWN).into()],
        )?;
        let Some(row) = row else {
            return Ok(None);
        };
        let parent = row.int(0)?;
        let root = (row.int(3)?, row.blob(4)?);
        let key = self.workspace(&of, parent, row.blob(2)?, root)?;
        let own = Place {
            secret: OWN,
            version: ABOUT,
            generation: NONE,
        };
        let key = unwrap_data(
            &of,
            &own,
            &Numbered {
                number: parent,
                key,
            },
            row.blob(1)?,
        )?;
        Ok(Some(Index {
            tokens: key.derive("skep vault tokens")?,
            rows: key.derive("skep vault rows")?,
        }))
    }

    /// Writes a value: under a data key of its own for each generation, wrapped under each key that lives.
    pub(crate) fn write(
        scope: &mut Scope<'_>,
        live: &Live,
        secret: SecretId,
        version: u32,
        value: &[u8],
    ) -> Result<(), VaultError> {
        for &generation in &live.generations {
            let place = Place::new(secret, version, generation);
            let (sealed, wraps) = seal_value(scope.workspace(), &place, &live.keys, value)?;
            insert_value(scope, &place, &sealed, &wraps)?;
        }
        Ok(())
    }

    /// Reads a value.
    pub(crate) fn read(
        &self,
        scope: &mut Scope<'_>,
        secret: SecretId,
        version: u32,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let of = scope.workspace().clone();
        let row = scope.query_opt(
            "SELECT v.generation, v.sealed, k.parent, k.wrapped, w.wrapped, r.version, r.wrapped \
             FROM secret_values v \
             JOIN vault_keys g ON g.of_workspace = v.workspace AND g.level = 'data' \
                AND g.version = v.generation AND g.state = 'current' \
             JOIN secret_keys k ON k.workspace = v.workspace AND k.secret = v.secret \
                AND k.version = v.version AND k.generation = v.generation \
             JOIN vault_keys p ON p.of_workspace = v.workspace AND p.level = 'workspace' \
                AND p.version = k.parent AND p.state = 'current' \
             JOIN vault_workspace_keys w ON w.of_workspace = v.workspace AND w.version = k.parent \
             JOIN vault_roots r ON r.version = w.root AND r.state = 'current' \
             WHERE v.workspace = ?1 AND v.secret = ?2 AND v.version = ?3",
            &[secret.as_bytes().into(), version.into()],
        )?;
        let Some(row) = row else {
            return Ok(None);
        };
        let place = Place::new(secret, version, row.int(0)?);
        let number = row.int(2)?;
        let root = (row.int(5)?, row.blob(6)?);
        let key = self.workspace(&of, number, row.blob(4)?, root)?;
        let data = unwrap_data(&of, &place, &Numbered { number, key }, row.blob(3)?)?;
        open_value(&of, &place, &data, row.blob(1)?).map(Some)
    }
}

/// A key as others wrap it, by their numbers.
pub(crate) type Wraps = Vec<(i64, Vec<u8>)>;

/// A value under a new data key, and that under each of these keys, by their numbers.
pub(crate) fn seal_value(
    of: &Workspace,
    place: &Place,
    parents: &[Numbered],
    value: &[u8],
) -> Result<(Vec<u8>, Wraps), VaultError> {
    let key = Key::random()?;
    let sealed = key.seal(&Context::value(of, place).0, value)?;
    let wraps = parents.iter().map(|parent| {
        let context = Context::data(of, place, parent.number);
        Ok((parent.number, parent.key.wrap(&context.0, &key)?))
    });
    let wraps: Result<Wraps, VaultError> = wraps.collect();
    Ok((sealed, wraps?))
}

/// A value that a data key encrypted.
pub(crate) fn open_value(
    of: &Workspace,
    place: &Place,
    key: &Key,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    Ok(key.open(&Context::value(of, place).0, sealed)?)
}

/// A data key that a workspace's key wrapped.
pub(crate) fn unwrap_data(
    of: &Workspace,
    place: &Place,
    parent: &Numbered,
    wrapped: &[u8],
) -> Result<Key, VaultError> {
    let context = Context::data(of, place, parent.number);
    Ok(parent.key.unwrap(&context.0, wrapped)?)
}

/// A data key under another key of the workspace.
pub(crate) fn rewrap_data(
    of: &Workspace,
    place: &Place,
    parent: &Numbered,
    key: &Key,
) -> Result<Vec<u8>, VaultError> {
    let context = Context::data(of, place, parent.number);
    Ok(parent.key.wrap(&context.0, key)?)
}

fn wrap_data(
    scope: &mut Scope<'_>,
    place: &Place,
    parent: &Numbered,
    key: &Key,
) -> Result<(), VaultError> {
    let wrapped = rewrap_data(scope.workspace(), place, parent, key)?;
    insert_wrap(scope, place, parent.number, &wrapped)?;
    Ok(())
}

/// Writes a value and the wraps of its data key.
pub(crate) fn insert_value(
    scope: &mut Scope<'_>,
    place: &Place,
    sealed: &[u8],
    wraps: &[(i64, Vec<u8>)],
) -> Result<(), StoreError> {
    scope.execute(
        "INSERT INTO secret_values (workspace, secret, version, generation, sealed) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
        &[
            (&place.secret).into(),
            place.version.into(),
            place.generation.into(),
            sealed.into(),
        ],
    )?;
    for (parent, wrapped) in wraps {
        insert_wrap(scope, place, *parent, wrapped)?;
    }
    Ok(())
}

pub(crate) fn insert_wrap(
    scope: &mut Scope<'_>,
    place: &Place,
    parent: i64,
    wrapped: &[u8],
) -> Result<(), StoreError> {
    scope
        .execute(
            "INSERT INTO secret_keys (workspace, secret, version, generation, parent, wrapped) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            &[
                (&place.secret).into(),
                place.version.into(),
                place.generation.into(),
                parent.into(),
                wrapped.into(),
            ],
        )
        .map(drop)
}

/// Forgets a value in all its forms: from then on nobody reads it. What is removed can lie in the database's file
/// for long, so the keys are written over first: of the same length, they take the same place.
pub(crate) fn forget_value(
    scope: &mut Scope<'_>,
    secret: SecretId,
    version: u32,
) -> Result<(), StoreError> {
    scope.execute(
        "UPDATE secret_keys SET wrapped = ?4 WHERE workspace = ?1 AND secret = ?2 AND version = ?3",
        &[
            secret.as_bytes().into(),
            version.into(),
            (&[0; WRAPPED]).into(),
        ],
    )?;
    for sql in [
        "DELETE FROM secret_keys WHERE workspace = ?1 AND secret = ?2 AND version = ?3",
        "DELETE FROM secret_values WHERE workspace = ?1 AND secret = ?2 AND version = ?3",
    ] {
        scope.execute(sql, &[secret.as_bytes().into(), version.into()])?;
    }
    Ok(())
}

/// Writes down that there is a key.
pub(crate) fn insert_key(
    server: &mut ServerScope<'_>,
    of: &Workspace,
    level: Level,
    version: i64,
    state: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    server
        .execute(
            "INSERT INTO vault_keys (of_workspace, level, version, state, made_at) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            &[
                of.as_str().into(),
                level.as_str().into(),
                version.into(),
                state.into(),
                now.into(),
            ],
        )
        .map(drop)
}

/// Writes down a workspace's key as a root key wraps it.
pub(crate) fn insert_workspace_key(
    server: &mut ServerScope<'_>,
    of: &Workspace,
    version: i64,
    root: i64,
    wrapped: &[u8],
) -> Result<(), StoreError> {
    server
        .execute(
            "INSERT INTO vault_workspace_keys (of_workspace, version, root, wrapped) \
             VALUES (?1, ?2, ?3, ?4) ON CONFLICT (of_workspace, version, root) DO NOTHING",
            &[
                of.as_str().into(),
                version.into(),
                root.into(),
                wrapped.into(),
            ],
        )
        .map(drop)
}
