//! One batch of a rotation: read and computed beside the writer, then written in one unit if nobody else has done it.

use std::collections::BTreeSet;
use std::sync::Arc;

use skep_core::Workspace;
use skep_crypto::Key;
use skep_store::{By, Reader, Row, Scope, Unit};

use super::{Rotation, find};
use crate::VaultError;
use crate::keyring::{
    Keyring, Live, Numbered, Place, WRAPPED, Wraps, insert_value, insert_workspace_key, open_value,
    rewrap_data, seal_value, unwrap_data,
};
use crate::rotation::{Event, Level, Step};
use crate::service::Vault;

/// Keys of one batch.
const KEYS: i64 = 200;
/// Values of one batch.
const VALUES: i64 = 50;

/// A child that gets its second wrap.
enum Made {
    /// A workspace's key under the new root key.
    Workspace {
        of: Workspace,
        version: i64,
        wrapped: Vec<u8>,
    },
    /// A data key under the workspace's new key.
    Data { place: Place, wrapped: Vec<u8> },
    /// A value under a new data key.
    Value {
        place: Place,
        sealed: Vec<u8>,
        wraps: Wraps,
    },
}

/// What a batch found.
struct Found {
    made: Vec<Made>,
    /// The second wraps that are not what they should be.
    broken: Vec<Made>,
    after: Option<Vec<u8>>,
    count: u64,
    last: bool,
}

impl Found {
    fn new(
        rows: &[Row],
        limit: i64,
        cursor: impl Fn(&Row) -> Result<Vec<u8>, VaultError>,
    ) -> Result<Self, VaultError> {
        Ok(Self {
            made: Vec::new(),
            broken: Vec::new(),
            after: rows.last().map(cursor).transpose()?,
            count: rows.len() as u64,
            last: i64::try_from(rows.len()).unwrap_or(limit) < limit,
        })
    }
}

/// Where a value lies, as a cursor: its bytes sort as the store does.
fn cursor(place: &Place) -> Vec<u8> {
    let mut bytes = place.secret.to_vec();
    bytes.extend_from_slice(&place.version.to_be_bytes());
    bytes.extend_from_slice(&place.generation.to_be_bytes());
    bytes
}

/// The place behind which a batch begins. Before all others there is one of no version.
fn place_of(cursor: Option<&[u8]>) -> Result<([u8; 16], i64, i64), VaultError> {
    let Some(bytes) = cursor else {
        return Ok(([0; 16], -1, -1));
    };
    let wrong = || VaultError::Corrupt("a cursor of a rotation".to_owned());
    let (secret, rest) = bytes.split_at_checked(16).ok_or_else(wrong)?;
    let (version, generation) = rest.split_at_checked(4).ok_or_else(wrong)?;
    let version = version.try_into().map(u32::from_be_bytes);
    let generation = generation.try_into().map(i64::from_be_bytes);
    Ok((
        secret.try_into().map_err(|_| wrong())?,
        version.map(i64::from).map_err(|_| wrong())?,
        generation.map_err(|_| wrong())?,
    ))
}

fn place(row: &Row) -> Result<Place, VaultError> {
    let version = u32::try_from(row.int(1)?);
    Ok(Place {
        secret: row.bytes(0)?,
        version: version.map_err(|_| VaultError::Corrupt("a version".to_owned()))?,
        generation: row.int(2)?,
    })
}

fn of_number(keys: &[Numbered], number: i64) -> Result<&Numbered, VaultError> {
    let found = keys.iter().find(|key| key.number == number);
    found.ok_or_else(|| VaultError::Corrupt("a key of a rotation".to_owned()))
}

impl Vault {
    /// Does one batch. That somebody else has done it is no error.
    pub(super) async fn batch(
        &self,
        keyring: &Arc<Keyring>,
        by: &By,
        rotation: Rotation,
        step: Step,
    ) -> Result<(), VaultError> {
        let found = match step {
            Step::Wrap | Step::Verify => {
                let (keyring, rotation) = (keyring.clone(), rotation.clone());
                let verify = step == Step::Verify;
                let found: Result<_, VaultError> = self
                    .db
                    .read(move |reader| read(reader, &keyring, &rotation, verify))
                    .await;
                Some(found?)
            }
            _ => None,
        };
        let (by, keyring) = (by.clone(), keyring.clone());
        self.db
            .write(move |unit| {
                unit.server().in_turn()?;
                let mut now = find(&mut unit.server(), rotation.id)?;
                if now != rotation {
                    return Ok(());
                }
                let before = now.progress.phase;
                let (event, after, count) = match found {
                    Some(found) if !found.broken.is_empty() => {
                        for broken in &found.broken {
                            drop_broken(unit, &now, broken)?;
                        }
                        (Event::Missing, None, 0)
                    }
                    Some(found) => {
                        if !write(unit, &keyring, &now, found.made)? {
                            return Ok(());
                        }
                        let event = if found.last {
                            Event::Last
                        } else {
                            Event::Batch
                        };
                        (event, found.after, found.count)
                    }
                    None => {
                        let (after, count, last) = destroy(unit, &now)?;
                        let event = if last { Event::Last } else { Event::Batch };
                        (event, after, count)
                    }
                };
                now.happen(unit, event, (after, count))?;
                if now.progress.phase != before {
                    now.tell(&by, unit)?;
                }
                Ok(())
            })
            .await
    }
}

/// Reads the next children, and makes or checks their second wraps.
fn read(
    reader: &mut Reader<'_>,
    keyring: &Keyring,
    rotation: &Rotation,
    verify: bool,
) -> Result<Found, VaultError> {
    match rotation.level {
        Level::Root => roots(reader, keyring, rotation, verify),
        Level::Workspace => {
            let of = rotation.of()?;
            let live = keyring.read_live(&mut reader.server(), of)?;
            keys(&mut reader.scope(of), &live, rotation, verify)
        }
        Level::Data => {
            let of = rotation.of()?;
            let live = keyring.read_live(&mut reader.server(), of)?;
            values(&mut reader.scope(of), &live, rotation, verify)
        }
    }
}

fn roots(
    reader: &mut Reader<'_>,
    keyring: &Keyring,
    rotation: &Rotation,
    verify: bool,
) -> Result<Found, VaultError> {
    let mut server = reader.server();
    let roots = keyring.roots(&mut server)?;
    let (old, new) = (
        of_number(&roots, rotation.old)?,
        of_number(&roots, rotation.new)?,
    );
    let (version, of) = match rotation
        .after
        .as_deref()
        .and_then(|it| it.split_at_checked(8))
    {
        None => (-1, String::new()),
        Some((version, of)) => {
            let version = version.try_into().map(i64::from_be_bytes).unwrap_or(-1);
            (version, String::from_utf8_lossy(of).into_owned())
        }
    };
    let rows = server.query(
        "SELECT o.of_workspace, o.version, o.wrapped, n.wrapped FROM vault_workspace_keys o \
         LEFT JOIN vault_workspace_keys n ON n.of_workspace = o.of_workspace \
            AND n.version = o.version AND n.root = ?2 \
         WHERE o.root = ?1 AND (o.of_workspace, o.version) > (?3, ?4) \
         ORDER BY o.of_workspace, o.version LIMIT ?5",
        &[
            rotation.old.into(),
            rotation.new.into(),
            (&of).into(),
            version.into(),
            KEYS.into(),
        ],
    )?;
    let mut found = Found::new(&rows, KEYS, |row| {
        let mut bytes = row.int(1)?.to_be_bytes().to_vec();
        bytes.extend_from_slice(row.text(0)?.as_bytes());
        Ok(bytes)
    })?;
    for row in &rows {
        let of = Workspace::new(row.text(0)?);
        let of = of.map_err(|error| VaultError::Corrupt(error.to_string()))?;
        let version = row.int(1)?;
        let key = Keyring::unwrap_workspace(&of, version, old, row.blob(2)?)?;
        let there = row.opt_blob(3)?;
        let fits = |wrapped: &[u8]| is(&key, Keyring::unwrap_workspace(&of, version, new, wrapped));
        if there.is_some_and(fits) {
            continue;
        }
        let numbered = Numbered {
            number: version,
            key,
        };
        let made = Made::Workspace {
            wrapped: Keyring::wrap_workspace(&of, &numbered, new)?,
            of,
            version,
        };
        // One that is there already but wrong is found in any phase.
        let list = if verify || there.is_some() {
            &mut found.broken
        } else {
            &mut found.made
        };
        list.push(made);
    }
    Ok(found)
}

/// Whether a key that was read back is the same.
fn is(key: &Key, read: Result<Key, VaultError>) -> bool {
    read.is_ok_and(|read| read.is(key))
}

fn keys(
    scope: &mut Scope<'_>,
    live: &Live,
    rotation: &Rotation,
    verify: bool,
) -> Result<Found, VaultError> {
    let of = scope.workspace().clone();
    let old = of_number(&live.keys, rotation.old)?;
    let new = of_number(&live.keys, rotation.new)?;
    let (secret, version, generation) = place_of(rotation.after.as_deref())?;
    let rows = scope.query(
        "SELECT o.secret, o.version, o.generation, o.wrapped, n.wrapped FROM secret_keys o \
         LEFT JOIN secret_keys n ON n.workspace = o.workspace AND n.secret = o.secret \
            AND n.version = o.version AND n.generation = o.generation AND n.parent = ?3 \
         WHERE o.workspace = ?1 AND o.parent = ?2 \
            AND (o.secret, o.version, o.generation) > (?4, ?5, ?6) \
         ORDER BY o.secret, o.version, o.generation LIMIT ?7",
        &[
            rotation.old.into(),
            rotation.new.into(),
            (&secret).into(),
            version.into(),
            generation.into(),
            KEYS.into(),
        ],
    )?;
    let mut found = Found::new(&rows, KEYS, |row| place(row).map(|place| cursor(&place)))?;
    for row in &rows {
        let place = place(row)?;
        let key = unwrap_data(&of, &place, old, row.blob(3)?)?;
        let there = row.opt_blob(4)?;
        if there.is_some_and(|wrapped| is(&key, unwrap_data(&of, &place, new, wrapped))) {
            continue;
        }
        let made = Made::Data {
            place,
            wrapped: rewrap_data(&of, &place, new, &key)?,
        };
        let list = if verify || there.is_some() {
            &mut found.broken
        } else {
            &mut found.made
        };
        list.push(made);
    }
    Ok(found)
}

fn values(
    scope: &mut Scope<'_>,
    live: &Live,
    rotation: &Rotation,
    verify: bool,
) -> Result<Found, VaultError> {
    let of = scope.workspace().clone();
    let parent = live.keys.first();
    let parent =
        parent.ok_or_else(|| VaultError::Corrupt("a workspace without keys".to_owned()))?;
    let (secret, version, _) = place_of(rotation.after.as_deref())?;
    let rows = scope.query(
        "SELECT o.secret, o.version, o.generation, o.sealed, k.wrapped, n.sealed, m.wrapped \
         FROM secret_values o \
         JOIN secret_keys k ON k.workspace = o.workspace AND k.secret = o.secret \
            AND k.version = o.version AND k.generation = o.generation AND k.parent = ?4 \
         LEFT JOIN secret_values n ON n.workspace = o.workspace AND n.secret = o.secret \
            AND n.version = o.version AND n.generation = ?3 \
         LEFT JOIN secret_keys m ON m.workspace = o.workspace AND m.secret = o.secret \
            AND m.version = o.version AND m.generation = ?3 AND m.parent = ?4 \
         WHERE o.workspace = ?1 AND o.generation = ?2 AND (o.secret, o.version) > (?5, ?6) \
         ORDER BY o.secret, o.version LIMIT ?7",
        &[
            rotation.old.into(),
            rotation.new.into(),
            parent.number.into(),
            (&secret).into(),
            version.into(),
            VALUES.into(),
        ],
    )?;
    let mut found = Found::new(&rows, VALUES, |row| place(row).map(|place| cursor(&place)))?;
    for row in &rows {
        let old = place(row)?;
        let new = Place {
            generation: rotation.new,
            ..old
        };
        let key = unwrap_data(&of, &old, parent, row.blob(4)?)?;
        let value = open_value(&of, &old, &key, row.blob(3)?)?;
        let there = match (row.opt_blob(5)?, row.opt_blob(6)?) {
            (Some(sealed), Some(wrapped)) => Some((sealed, wrapped)),
            (None, None) => None,
            // One of both: it is made again.
            _ => Some((&[][..], &[][..])),
        };
        let fits = |(sealed, wrapped): (&[u8], &[u8])| {
            let key = unwrap_data(&of, &new, parent, wrapped);
            let read = key.and_then(|key| open_value(&of, &new, &key, sealed));
            read.is_ok_and(|read| skep_crypto::same(&read, &value))
        };
        if there.is_some_and(fits) {
            continue;
        }
        let (sealed, wraps) = seal_value(&of, &new, &live.keys, &value)?;
        let made = Made::Value {
            place: new,
            sealed,
            wraps,
        };
        let list = if verify || there.is_some() {
            &mut found.broken
        } else {
            &mut found.made
        };
        list.push(made);
    }
    Ok(found)
}

/// Writes second wraps for what is still there and has none. False when the keys are others by now.
fn write(
    unit: &mut Unit<'_>,
    keyring: &Keyring,
    rotation: &Rotation,
    made: Vec<Made>,
) -> Result<bool, VaultError> {
    let Some(of) = &rotation.workspace else {
        for made in made {
            let Made::Workspace {
                of,
                version,
                wrapped,
            } = made
            else {
                continue;
            };
            let mut server = unit.server();
            let there = server.query(
                "SELECT 1 FROM vault_workspace_keys WHERE of_workspace = ?1 AND version = ?2 AND root = ?3",
                &[of.as_str().into(), version.into(), rotation.old.into()],
            )?;
            if !there.is_empty() {
                insert_workspace_key(&mut server, &of, version, rotation.new, &wrapped)?;
            }
        }
        return Ok(true);
    };
    let live = keyring.read_live(&mut unit.server(), of)?;
    let numbers: BTreeSet<i64> = live.keys.iter().map(|key| key.number).collect();
    let mut scope = unit.scope(of);
    for made in made {
        match made {
            Made::Data { place, wrapped } => {
                if has_key(&mut scope, &place, rotation.old)?
                    && !has_key(&mut scope, &place, rotation.new)?
                {
                    insert_value_key(&mut scope, &place, rotation.new, &wrapped)?;
                }
            }
            Made::Value {
                place,
                sealed,
                wraps,
            } => {
                let under: BTreeSet<i64> = wraps.iter().map(|(parent, _)| *parent).collect();
                if under != numbers {
                    return Ok(false);
                }
                let before = Place {
                    generation: rotation.old,
                    ..place
                };
                if has_value(&mut scope, &before)? && !has_value(&mut scope, &place)? {
                    insert_value(&mut scope, &place, &sealed, &wraps)?;
                }
            }
            Made::Workspace { .. } => {}
        }
    }
    Ok(true)
}

fn has_key(scope: &mut Scope<'_>, place: &Place, parent: i64) -> Result<bool, VaultError> {
    let found = scope.query_opt(
        "SELECT 1 FROM secret_keys WHERE workspace = ?1 AND secret = ?2 AND version = ?3 \
         AND generation = ?4 AND parent = ?5",
        &[
            (&place.secret).into(),
            place.version.into(),
            place.generation.into(),
            parent.into(),
        ],
    )?;
    Ok(found.is_some())
}

fn has_value(scope: &mut Scope<'_>, place: &Place) -> Result<bool, VaultError> {
    let found = scope.query_opt(
        "SELECT 1 FROM secret_values WHERE workspace = ?1 AND secret = ?2 AND version = ?3 \
         AND generation = ?4",
        &[
            (&place.secret).into(),
            place.version.into(),
            place.generation.into(),
        ],
    )?;
    Ok(found.is_some())
}

fn insert_value_key(
    scope: &mut Scope<'_>,
    place: &Place,
    parent: i64,
    wrapped: &[u8],
) -> Result<(), VaultError> {
    Ok(crate::keyring::insert_wrap(scope, place, parent, wrapped)?)
}

/// Takes a second wrap away that is not what it should be: it is made again.
fn drop_broken(unit: &mut Unit<'_>, rotation: &Rotation, broken: &Made) -> Result<(), VaultError> {
    tracing::warn!(rotation = %rotation.id, "a new wrap of a key does not read back; it is made again");
    match broken {
        Made::Workspace { of, version, .. } => {
            unit.server().execute(
                "DELETE FROM vault_workspace_keys WHERE of_workspace = ?1 AND version = ?2 AND root = ?3",
                &[of.as_str().into(), (*version).into(), rotation.new.into()],
            )?;
        }
        Made::Data { place, .. } => {
            unit.scope(rotation.of()?).execute(
                "DELETE FROM secret_keys WHERE workspace = ?1 AND secret = ?2 AND version = ?3 \
                 AND generation = ?4 AND parent = ?5",
                &[
                    (&place.secret).into(),
                    place.version.into(),
                    place.generation.into(),
                    rotation.new.into(),
                ],
            )?;
        }
        Made::Value { place, .. } => forget_generation(&mut unit.scope(rotation.of()?), place)?,
    }
    Ok(())
}

fn forget_generation(scope: &mut Scope<'_>, place: &Place) -> Result<(), VaultError> {
    let zeros = [0; WRAPPED];
    let params = [
        (&place.secret).into(),
        place.version.into(),
        place.generation.into(),
    ];
    let mut with_zeros = params.to_vec();
    with_zeros.push((&zeros).into());
    scope.execute(
        "UPDATE secret_keys SET wrapped = ?5 WHERE workspace = ?1 AND secret = ?2 AND version = ?3 \
         AND generation = ?4",
        &with_zeros,
    )?;
    for sql in [
        "DELETE FROM secret_keys WHERE workspace = ?1 AND secret = ?2 AND version = ?3 AND generation = ?4",
        "DELETE FROM secret_values WHERE workspace = ?1 AND secret = ?2 AND version = ?3 AND generation = ?4",
    ] {
        scope.execute(sql, &params)?;
    }
    Ok(())
}

/// Destroys the next wraps under the key that lost. Tells the last of them, how many, and whether no more come.
fn destroy(
    unit: &mut Unit<'_>,
    rotation: &Rotation,
) -> Result<(Option<Vec<u8>>, u64, bool), VaultError> {
    let loser = rotation.loser();
    let zeros = [0; WRAPPED];
    if rotation.level == Level::Root {
        return destroy_root(unit, loser);
    }
    let mut scope = unit.scope(rotation.of()?);
    let (secret, version, generation) = place_of(rotation.after.as_deref())?;
    let of_place = |row: &Row| place(row).map(|place| cursor(&place));
    if rotation.level == Level::Data {
        let rows = scope.query(
            "SELECT secret, version, generation FROM secret_values WHERE workspace = ?1 \
             AND generation = ?2 AND (secret, version) > (?3, ?4) \
             ORDER BY secret, version LIMIT ?5",
            &[
                loser.into(),
                (&secret).into(),
                version.into(),
                VALUES.into(),
            ],
        )?;
        for row in &rows {
            forget_generation(&mut scope, &place(row)?)?;
        }
        let found = Found::new(&rows, VALUES, of_place)?;
        return Ok((found.after, found.count, found.last));
    }
    let rows = scope.query(
        "SELECT secret, version, generation FROM secret_keys WHERE workspace = ?1 \
         AND parent = ?2 AND (secret, version, generation) > (?3, ?4, ?5) \
         ORDER BY secret, version, generation LIMIT ?6",
        &[
            loser.into(),
            (&secret).into(),
            version.into(),
            generation.into(),
            KEYS.into(),
        ],
    )?;
    for row in &rows {
        let params = [row.param(0), row.param(1), row.param(2), loser.into()];
        let mut with_zeros = params.to_vec();
        with_zeros.push((&zeros).into());
        scope.execute(
            "UPDATE secret_keys SET wrapped = ?6 WHERE workspace = ?1 AND secret = ?2 \
             AND version = ?3 AND generation = ?4 AND parent = ?5",
            &with_zeros,
        )?;
        scope.execute(
            "DELETE FROM secret_keys WHERE workspace = ?1 AND secret = ?2 AND version = ?3 \
             AND generation = ?4 AND parent = ?5",
            &params,
        )?;
    }
    let found = Found::new(&rows, KEYS, of_place)?;
    Ok((found.after, found.count, found.last))
}

/// As [`destroy`], of the keys of workspaces under a root key.
fn destroy_root(
    unit: &mut Unit<'_>,
    loser: i64,
) -> Result<(Option<Vec<u8>>, u64, bool), VaultError> {
    let zeros = [0; WRAPPED];
    let mut server = unit.server();
    let rows = server.query(
        "SELECT of_workspace, version FROM vault_workspace_keys WHERE root = ?1 LIMIT ?2",
        &[loser.into(), KEYS.into()],
    )?;
    for row in &rows {
        let params = [row.param(0), row.param(1), loser.into()];
        server.execute(
            "UPDATE vault_workspace_keys SET wrapped = ?4 WHERE of_workspace = ?1 \
             AND version = ?2 AND root = ?3",
            &[params[0], params[1], params[2], (&zeros).into()],
        )?;
        server.execute(
            "DELETE FROM vault_workspace_keys WHERE of_workspace = ?1 AND version = ?2 \
             AND root = ?3",
            &params,
        )?;
    }
    let found = Found::new(&rows, KEYS, |_| Ok(Vec::new()))?;
    Ok((None, found.count, found.last))
}
