//! API keys: random, known by their hash only, with a role, scopes and an end.
//!
//! A key is `skep_`, 40 random characters and 6 of a checksum, all of base62: whoever finds such a text
//! knows without asking whether it is a key of Skep's ([`is_key`]), and a mistyped one costs no look-up.
//! What the store holds is read into memory, so a request costs a hash and a look; what another server
//! changed is seen within [`REFRESH`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use skep_core::units::Rate;
use skep_core::{KeyId, Timestamp, Workspace, Workspaces};
use skep_store::{By, Change, Db, Migration, MigrationSet, Row, Scope, StoreError};

use crate::policy::{Principal, PrincipalKind, Role, Scopes};

/// What every key begins with.
pub const PREFIX: &str = "skep_";
/// Who made the keys of the configuration.
pub const CONFIGURATION: &str = "configuration";
/// How soon a server sees what another one changed.
pub const REFRESH: Duration = Duration::from_secs(1);
/// How exactly the last use of a key is known after a restart.
pub const USES: Duration = Duration::from_secs(60);
/// The longest time for which a key that was replaced still counts.
pub const MOST_OVERLAP: Duration = Duration::from_secs(90 * 24 * 3600);

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Random characters: 238 bits.
const RANDOM: usize = 40;
/// Characters of the checksum.
const CHECK: usize = 6;
/// Keys of a workspace.
const MOST_KEYS: usize = 1_000;
/// Characters of a key's name.
const MOST_NAME: usize = 80;

/// The tables of keys.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "guard-keys",
    migrations: &[Migration {
        name: "0001-keys",
        sql: "
            CREATE TABLE api_keys (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                name TEXT NOT NULL,
                hash BLOB NOT NULL,
                role TEXT NOT NULL,
                scopes TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                created_by TEXT NOT NULL,
                expires_at BIGINT,
                used_at BIGINT,
                rate TEXT,
                PRIMARY KEY (workspace, id)
            );
        ",
    }],
    workspace_tables: &["api_keys"],
};

/// What is wrong with a wish about keys.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyError {
    /// There is no such key.
    #[error("there is no key `{0}`")]
    NotFound(String),
    /// A part of a new key is wrong.
    #[error("`{field}`: {reason}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// Nobody gives more than they have.
    #[error("a key gets no more than {0}")]
    TooMuch(String),
    /// The last key that may do everything cannot go.
    #[error("it is the last key of an owner that does not end")]
    Last,
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(String),
    /// The store's own error.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyError {
    fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }
}

/// A key as everybody but its owner knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// Where it counts.
    pub workspace: Workspace,
    /// What people call it; a key that replaces another has the same.
    pub name: String,
    /// The role that it has.
    pub role: Role,
    /// How far of that role it may go.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, as far as it is known.
    pub used_at: Option<Timestamp>,
    /// How often it may be used.
    pub rate: Option<Rate>,
}

/// A key that is wished for.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What people call it.
    pub name: String,
    /// The role that it is to have.
    pub role: Role,
    /// How far of that role it may go.
    pub scopes: Scopes,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// How often it may be used.
    pub rate: Option<Rate>,
}

/// A key in memory.
#[derive(Debug)]
struct Known {
    key: Key,
    principal: Principal,
    used_at: AtomicI64,
}

/// Keys of a file, for automation: a line each of name, role, scopes with commas, and text; `#` begins a
/// comment.
///
/// # Errors
/// What is wrong, with the number of its line and never with a key.
pub fn read_file(text: &str) -> Result<Vec<(NewKey, String)>, String> {
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: String| format!("line {}: {why}", at + 1);
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, role, scopes, text] = words[..] else {
            return Err(wrong("a line is NAME ROLE SCOPES KEY".to_owned()));
        };
        let scopes = Scopes::new(scopes.split(',').map(str::to_owned));
        if let Some(unknown) = scopes.unknown() {
            return Err(wrong(format!("`{unknown}` is no scope")));
        }
        if !is_key(text) {
            return Err(wrong(
                "its last word is no key; `skep keys generate` makes one".to_owned(),
            ));
        }
        let new = NewKey {
            name: name.to_owned(),
            role: role.parse().map_err(wrong)?,
            scopes,
            expires_at: None,
            rate: None,
        };
        keys.push((new, text.to_owned()));
    }
    Ok(keys)
}

/// CRC-32 (IEEE 802.3) of each byte: a request costs a look at a key's checksum.
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The checksum of a key's beginning: CRC-32, in base62.
fn checksum(text: &str) -> [u8; CHECK] {
    let crc = text.bytes().fold(u32::MAX, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ CRC[usize::from(low ^ byte)]
    });
    let mut rest = !crc;
    let mut out = [0; CHECK];
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    out
}

/// Whether a text is made as keys are. It says nothing of whether there is such a key.
#[must_use]
pub fn is_key(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(PREFIX) else {
        return false;
    };
    let fits = rest.len() == RANDOM + CHECK && rest.bytes().all(|it| ALPHABET.contains(&it));
    fits && checksum(&text[..text.len() - CHECK]) == text.as_bytes()[text.len() - CHECK..]
}

/// Whether a text is made as what Skep gives out: keys, sessions, invitations and their like by their checksum,
/// tokens of agents by their form. For who looks for what leaked.
#[must_use]
pub fn is_ours(text: &str) -> bool {
    if text.starts_with(crate::tokens::PREFIX) {
        return crate::tokens::has_form(text);
    }
    let (Some(check), true) = (text.len().checked_sub(CHECK), text.is_ascii()) else {
        return false;
    };
    let Some(prefix) = check.checked_sub(RANDOM).map(|end| &text[..end]) else {
        return false;
    };
    let word = |it: u8| it.is_ascii_lowercase() || it == b'_';
    let begins = prefix.starts_with(PREFIX) && prefix.ends_with('_') && prefix.bytes().all(word);
    let fits = text[prefix.len()..]
        .bytes()
        .all(|it| ALPHABET.contains(&it));
    begins && fits && checksum(&text[..check]) == text.as_bytes()[check..]
}

pub(crate) fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The text of a new key.
///
/// # Errors
/// [`KeyError::Random`].
pub fn new_text() -> Result<String, KeyError> {
    new_text_of(PREFIX)
}

/// A text made as a key is, with another beginning.
pub(crate) fn new_text_of(prefix: &str) -> Result<String, KeyError> {
    let mut text = String::from(prefix);
    let mut bytes = [0; 64];
    while text.len() < prefix.len() + RANDOM {
        getrandom::fill(&mut bytes).map_err(|error| KeyError::Random(error.to_string()))?;
        // Those over the last multiple of 62 would make some characters likelier.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        let characters = fair.map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        text.extend(characters.take(prefix.len() + RANDOM - text.len()));
    }
    let check = checksum(&text);
    text.extend(check.iter().map(|byte| char::from(*byte)));
    Ok(text)
}

/// The keys of some workspaces. Cheap to clone.
#[derive(Clone)]
pub struct Keys {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    workspaces: Workspaces,
    by_hash: RwLock<HashMap<[u8; 32], Arc<Known>>>,
    /// Keys of the configuration, which are in no store.
    given: HashMap<[u8; 32], Arc<Known>>,
}

impl Keys {
    /// The keys of these workspaces, and those that the configuration gives, as text.
    ///
    /// # Errors
    /// The store's own.
    pub async fn open(
        db: Db,
        workspaces: Workspaces,
        given: Vec<(NewKey, String)>,
    ) -> Result<Self, StoreError> {
        let now = db.clock().now();
        let given = given.into_iter().map(|(new, text)| {
            let key = Key {
                id: KeyId::new(),
                workspace: Workspace::default(),
                name: new.name,
                role: new.role,
                scopes: new.scopes,
                created_at: now,
                created_by: CONFIGURATION.to_owned(),
                expires_at: new.expires_at,
                used_at: None,
                rate: new.rate,
            };
            (hash(&text), Arc::new(known(key)))
        });
        let keys = Self {
            inner: Arc::new(Inner {
                given: given.collect(),
                db,
                workspaces,
                by_hash: RwLock::default(),
            }),
        };
        keys.read().await?;
        Ok(keys)
    }

    /// Whether there is any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.by_hash.read().is_empty() && self.inner.given.is_empty()
    }

    /// Reads what the store holds.
    ///
    /// # Errors
    /// The store's own.
    pub async fn read(&self) -> Result<(), StoreError> {
        let mut found = HashMap::new();
        for workspace in self.inner.workspaces.all().iter() {
            let of = workspace.clone();
            let rows: Result<_, StoreError> = self
                .inner
                .db
                .read(move |reader| rows(&mut reader.scope(&of)))
                .await;
            for (hash, key) in rows? {
                found.insert(hash, Arc::new(known(key)));
            }
        }
        let mut by_hash = self.inner.by_hash.write();
        for (hash, known) in &found {
            if let Some(before) = by_hash.get(hash) {
                let used = before.used_at.load(Ordering::Relaxed);
                known.used_at.fetch_max(used, Ordering::Relaxed);
            }
        }
        *by_hash = found;
        Ok(())
    }

    /// Who shows this key, and how often they may.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<(Principal, Option<Rate>)> {
        if !is_key(text) {
            return None;
        }
        let hash = hash(text);
        let known = self.inner.by_hash.read().get(&hash).cloned();
        let known = known.or_else(|| self.inner.given.get(&hash).cloned())?;
        let now = self.inner.db.clock().now();
        if known.key.expires_at.is_some_and(|end| end <= now) {
            return None;
        }
        known.used_at.fetch_max(now.as_micros(), Ordering::Relaxed);
        Some((known.principal.clone(), known.key.rate))
    }

    /// What people call the key that somebody shows.
    #[must_use]
    pub fn name(&self, of: &Principal) -> String {
        let all = self.list(&of.workspace);
        let mut all = all.into_iter();
        let found = all.find(|key| key.id.to_string() == *of.id);
        found.map(|key| key.name).unwrap_or_default()
    }

    /// The keys of a workspace, oldest first.
    #[must_use]
    pub fn list(&self, workspace: &Workspace) -> Vec<Key> {
        let by_hash = self.inner.by_hash.read();
        let all = by_hash.values().chain(self.inner.given.values());
        let of = all.filter(|known| known.key.workspace == *workspace);
        let mut keys: Vec<Key> = of.map(|known| shown(known)).collect();
        keys.sort_by_key(|key| key.id);
        keys
    }

    /// Makes a key, on behalf of `creator`, who cannot give more than they have; tells its text, which
    /// nobody can tell again.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn create(
        &self,
        by: &By,
        creator: &Principal,
        new: NewKey,
    ) -> Result<(Key, String), KeyError> {
        self.check(creator, &new)?;
        let text = new_text()?;
        let made = self.make(by, &creator.workspace, &creator.id, new, &text);
        Ok((made.await?, text))
    }

    /// Makes a key of an owner, with a text of [`new_text`] that is kept already: a crash in between
    /// leaves no key that nobody has.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn first(
        &self,
        by: &By,
        workspace: &Workspace,
        name: &str,
        text: String,
    ) -> Result<Key, KeyError> {
        let new = NewKey {
            name: name.to_owned(),
            role: Role::Owner,
            scopes: Scopes::all(),
            expires_at: None,
            rate: None,
        };
        self.make(by, workspace, "server", new, &text).await
    }

    async fn make(
        &self,
        by: &By,
        workspace: &Workspace,
        creator: &str,
        new: NewKey,
        text: &str,
    ) -> Result<Key, KeyError> {
        let key = Key {
            id: KeyId::new(),
            workspace: workspace.clone(),
            name: new.name,
            role: new.role,
            scopes: new.scopes,
            created_at: self.inner.db.clock().now(),
            created_by: creator.to_owned(),
            expires_at: new.expires_at,
            used_at: None,
            rate: new.rate,
        };
        let (by, stored, digest) = (by.clone(), key.clone(), hash(text));
        let written: Result<_, KeyError> = self
            .inner
            .db
            .write(move |unit| {
                let now = unit.now();
                let mut scope = unit.scope(&stored.workspace);
                insert(&mut scope, &stored, &digest)?;
                let what = format!("{} with the role {}", stored.name, stored.role);
                Ok(tell(&by, &mut scope, stored.id, &what, now)?)
            })
            .await;
        written?;
        let known = Arc::new(known(key.clone()));
        self.inner.by_hash.write().insert(digest, known);
        Ok(key)
    }

    fn check(&self, creator: &Principal, new: &NewKey) -> Result<(), KeyError> {
        let name = new.name.trim();
        if name.is_empty() || name.chars().count() > MOST_NAME || name.chars().any(char::is_control)
        {
            let reason = format!("write 1 to {MOST_NAME} characters");
            return Err(KeyError::invalid("name", reason));
        }
        if let Some(unknown) = new.scopes.unknown()
            && !new.scopes.is_canary()
        {
            let reason = format!("`{unknown}` is neither `*` nor a group nor an action");
            return Err(KeyError::invalid("scopes", reason));
        }
        let now = self.inner.db.clock().now();
        if new.expires_at.is_some_and(|end| end <= now) {
            return Err(KeyError::invalid("expires_at", "it is in the past"));
        }
        if self.list(&creator.workspace).len() >= MOST_KEYS {
            let reason = format!("the workspace has {MOST_KEYS} keys; revoke some first");
            return Err(KeyError::invalid("name", reason));
        }
        match creator.role {
            Some(role) if role >= new.role => {}
            role => {
                let has = role.map_or("no role", Role::as_str);
                return Err(KeyError::TooMuch(format!("who makes it has ({has})")));
            }
        }
        // A key that is held to some scopes makes keys that are held to the same ones, or fewer.
        let held = creator.kind == PrincipalKind::ApiKey && !new.scopes.is_canary();
        let own: Vec<&str> = creator.scopes.iter().collect();
        let beyond = new.scopes.iter().find(|scope| !own.contains(scope));
        match beyond {
            Some(scope) if held && !own.contains(&"*") => Err(KeyError::TooMuch(format!(
                "the scopes of who makes it, without `{scope}`"
            ))),
            _ => Ok(()),
        }
    }

    fn of(&self, workspace: &Workspace, id: KeyId) -> Result<Key, KeyError> {
        let by_hash = self.inner.by_hash.read();
        let mut all = by_hash.values();
        let found = all.find(|known| known.key.id == id && known.key.workspace == *workspace);
        found
            .map(|known| shown(known))
            .ok_or_else(|| KeyError::NotFound(id.to_string()))
    }

    /// Makes a key that takes the place of another, which counts for `overlap` longer: role, scopes and
    /// name are the same.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn rotate(
        &self,
        by: &By,
        creator: &Principal,
        id: KeyId,
        overlap: Duration,
        expires_at: Option<Timestamp>,
    ) -> Result<(Key, String), KeyError> {
        if overlap > MOST_OVERLAP {
            let days = MOST_OVERLAP.as_secs() / 86_400;
            return Err(KeyError::invalid("overlap", format!("at most {days} days")));
        }
        let old = self.of(&creator.workspace, id)?;
        let new = NewKey {
            name: old.name,
            role: old.role,
            scopes: old.scopes,
            expires_at,
            rate: old.rate,
        };
        let made = self.create(by, creator, new).await?;
        let end = self.inner.db.clock().now().plus(overlap);
        let end = old.expires_at.map_or(end, |before| before.min(end));
        self.end(by, &creator.workspace, id, Some(end)).await?;
        Ok(made)
    }

    /// Ends a key at once.
    ///
    /// # Errors
    /// [`KeyError::NotFound`], [`KeyError::Last`].
    pub async fn revoke(&self, by: &By, workspace: &Workspace, id: KeyId) -> Result<(), KeyError> {
        let key = self.of(workspace, id)?;
        let is_last = |key: &Key| {
            key.role == Role::Owner && key.expires_at.is_none() && key.scopes == Scopes::all()
        };
        let others = self.list(workspace);
        let another = others.iter().any(|it| it.id != id && is_last(it));
        if is_last(&key) && !another {
            return Err(KeyError::Last);
        }
        self.end(by, workspace, id, None).await
    }

    /// Lets a key end then; without a time it is forgotten.
    async fn end(
        &self,
        by: &By,
        workspace: &Workspace,
        id: KeyId,
        end: Option<Timestamp>,
    ) -> Result<(), KeyError> {
        let (of, by) = (workspace.clone(), by.clone());
        let changed: Result<usize, KeyError> = self
            .inner
            .db
            .write(move |unit| {
                let now = unit.now();
                let mut scope = unit.scope(&of);
                let (changed, what) = match end {
                    Some(end) => (
                        scope.execute(
                            "UPDATE api_keys SET expires_at = ?3 WHERE workspace = ?1 AND id = ?2",
                            &[id.as_bytes().into(), end.into()],
                        )?,
                        format!("ends {end}"),
                    ),
                    None => (
                        scope.execute(
                            "DELETE FROM api_keys WHERE workspace = ?1 AND id = ?2",
                            &[id.as_bytes().into()],
                        )?,
                        "revoked".to_owned(),
                    ),
                };
                if changed == 1 {
                    tell(&by, &mut scope, id, &what, now)?;
                }
                Ok(changed)
            })
            .await;
        let changed = changed?;
        self.read().await?;
        match changed {
            1 => Ok(()),
            _ => Err(KeyError::NotFound(id.to_string())),
        }
    }

    /// Keeps when keys were last used.
    ///
    /// # Errors
    /// The store's own.
    pub async fn keep_uses(&self) -> Result<(), StoreError> {
        let mut used: HashMap<Workspace, Vec<(KeyId, i64)>> = HashMap::new();
        for known in self.inner.by_hash.read().values() {
            let at = known.used_at.load(Ordering::Relaxed);
            if at > known.key.used_at.map_or(0, Timestamp::as_micros) {
                let of = used.entry(known.key.workspace.clone()).or_default();
                of.push((known.key.id, at));
            }
        }
        for (workspace, used) in used {
            let written: Result<(), StoreError> = self
                .inner
                .db
                .write(move |unit| {
                    let mut scope = unit.scope(&workspace);
                    for (id, at) in used {
                        scope.execute(
                            "UPDATE api_keys SET used_at = ?3 WHERE workspace = ?1 AND id = ?2 \
                             AND COALESCE(used_at, 0) < ?3",
                            &[id.as_bytes().into(), at.into()],
                        )?;
                    }
                    Ok(())
                })
                .await;
            written?;
        }
        Ok(())
    }
}

fn known(key: Key) -> Known {
    Known {
        principal: Principal {
            kind: PrincipalKind::ApiKey,
            id: key.id.to_string().into(),
            workspace: key.workspace.clone(),
            role: Some(key.role),
            scopes: key.scopes.clone(),
        },
        used_at: AtomicI64::new(key.used_at.map_or(0, Timestamp::as_micros)),
        key,
    }
}

fn shown(known: &Known) -> Key {
    let used = known.used_at.load(Ordering::Relaxed);
    Key {
        used_at: (used > 0).then(|| Timestamp::from_micros(used)),
        ..known.key.clone()
    }
}

fn tell(
    by: &By,
    scope: &mut Scope<'_>,
    id: KeyId,
    what: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let id = id.to_string();
    let change = Change {
        action: Some("key:create"),
        resource: ("ApiKey", &id),
        what,
        hash: None,
    };
    by.did(scope, &change, now)
}

pub(crate) fn insert(scope: &mut Scope<'_>, key: &Key, hash: &[u8; 32]) -> Result<(), StoreError> {
    let scopes: Vec<&str> = key.scopes.iter().collect();
    let rate = key.rate.map(|rate| rate.to_string());
    scope
        .execute(
            "INSERT INTO api_keys (workspace, id, name, hash, role, scopes, created_at, \
             created_by, expires_at, rate) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            &[
                key.id.as_bytes().into(),
                (&key.name).into(),
                hash.into(),
                key.role.as_str().into(),
                (&scopes.join(" ")).into(),
                key.created_at.into(),
                (&key.created_by).into(),
                key.expires_at.into(),
                rate.as_deref().into(),
            ],
        )
        .map(drop)
}

fn rows(scope: &mut Scope<'_>) -> Result<Vec<([u8; 32], Key)>, StoreError> {
    let workspace = scope.workspace().clone();
    let rows = scope.query(
        "SELECT hash, id, name, role, scopes, created_at, created_by, expires_at, used_at, rate \
         FROM api_keys WHERE workspace = ?1",
        &[],
    )?;
    rows.iter().map(|row| read_row(&workspace, row)).collect()
}

fn read_row(workspace: &Workspace, row: &Row) -> Result<([u8; 32], Key), StoreError> {
    let role = row.text(3)?.parse().map_err(StoreError::Statement)?;
    let scopes = row.text(4)?.split_whitespace().map(str::to_owned);
    let key = Key {
        id: KeyId::from_bytes(row.bytes(1)?),
        workspace: workspace.clone(),
        name: row.text(2)?.to_owned(),
        role,
        scopes: Scopes::new(scopes),
        created_at: row.time(5)?,
        created_by: row.text(6)?.to_owned(),
        expires_at: row.opt_time(7)?,
        used_at: row.opt_time(8)?,
        rate: row
            .opt_text(9)?
            .map(str::parse)
            .transpose()
            .map_err(StoreError::Statement)?,
    };
    Ok((row.bytes(0)?, key))
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
