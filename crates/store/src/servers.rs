//! The servers that use one database: each has a row with its epoch, says with a beat that it
//! lives, and can be ended by another that has seen no beat for a while. What an ended server has
//! not committed by then it never does: see [`crate::engine::Engine::take_over`].
//!
//! Which agents a server has, and when one counts as gone, is decided by who uses this.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use skep_core::{ServerId, Timestamp};

use crate::engine::Engine;
use crate::unit::ServerScope;
use crate::{Db, Param, Row, StoreError};

/// The file in the data folder that holds the server's id.
const FILE: &str = "server.id";
/// Rows of ended servers that are kept.
const KEPT: i64 = 100;
/// The longest wait for what a killed server of the same folder has begun to commit.
const LAST_COMMIT: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A server that lives has beaten after so long.
const TWO_BEATS: Duration = Duration::from_millis(2500);

/// What a server says of itself with each beat.
#[derive(Debug, Clone)]
pub struct Beat {
    /// Where other servers reach it.
    pub url: String,
    /// What others show it so that it knows them as servers of this database.
    pub secret: [u8; 32],
    /// How many agents it has.
    pub agents: u32,
}

/// A server that lives, as far as its row says.
#[derive(Debug, Clone)]
pub struct ServerRow {
    /// Its epoch.
    pub epoch: i64,
    /// Which data folder.
    pub server: ServerId,
    /// Its last beat.
    pub beat: i64,
    /// Where other servers reach it; empty before its first beat.
    pub url: String,
    /// What others show it; none before its first beat.
    pub secret: Option<[u8; 32]>,
    /// How many agents it has.
    pub agents: u32,
    /// When it started.
    pub started_at: Timestamp,
}

fn server(row: &Row) -> Result<ServerRow, StoreError> {
    let secret = row.blob(4)?;
    Ok(ServerRow {
        epoch: row.int(0)?,
        server: ServerId::from_bytes(row.bytes(1)?),
        beat: row.int(2)?,
        url: row.text(3)?.to_owned(),
        secret: secret.try_into().ok(),
        agents: u32::try_from(row.int(5)?).unwrap_or(u32::MAX),
        started_at: row.time(6)?,
    })
}

fn living(scope: &mut ServerScope<'_>) -> Result<Vec<ServerRow>, StoreError> {
    let rows = scope.query(
        "SELECT epoch, server, beat, url, secret, load, started_at FROM servers \
         WHERE state = 'live' ORDER BY epoch",
        &[],
    )?;
    rows.iter().map(server).collect()
}

impl Db {
    /// Says that this server lives, and tells which do, this one included.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also when another server has ended this one.
    pub async fn beat(&self, beat: Beat) -> Result<Vec<ServerRow>, StoreError> {
        let epoch = self.epoch();
        self.write(move |unit| {
            let mut scope = unit.server();
            scope.execute(
                "UPDATE servers SET beat = beat + 1, url = ?2, secret = ?3, load = ?4 \
                 WHERE epoch = ?1",
                &[
                    epoch.into(),
                    (&beat.url).into(),
                    beat.secret.as_slice().into(),
                    beat.agents.into(),
                ],
            )?;
            living(&mut scope)
        })
        .await
    }

    /// Ends another server that has not beaten since this row was read. From now on it commits
    /// nothing. False when it has beaten, or is in the middle of a commit.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn end_server(&self, row: &ServerRow) -> Result<bool, StoreError> {
        let (epoch, beat) = (row.epoch, row.beat);
        self.write(move |unit| {
            let mut scope = unit.server();
            if !scope.fence_off(epoch)? {
                return Ok(false);
            }
            let ended = scope.execute(
                "UPDATE servers SET state = 'ended' \
                 WHERE epoch = ?1 AND beat = ?2 AND state = 'live'",
                &[epoch.into(), beat.into()],
            )?;
            Ok(ended == 1)
        })
        .await
    }

    /// The server's last unit: whoever else there is may take what it had.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn leave(&self) -> Result<(), StoreError> {
        let epoch = self.epoch();
        self.write(move |unit| {
            let sql = "UPDATE servers SET state = 'ended' WHERE epoch = ?1";
            unit.server().execute(sql, &[epoch.into()]).map(|_| ())
        })
        .await
    }

    /// Waits until another server has ended this one: it must not go on.
    pub async fn ended(&self) {
        let mut ended = self.watch_ended();
        // Without a writer nothing is committed either.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// The id of the data folder's server, made with the first start.
pub(crate) fn id(folder: &Path) -> Result<ServerId, StoreError> {
    let path = folder.join(FILE);
    let failed = |reason: String| StoreError::Folder {
        path: path.clone(),
        reason,
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => text
            .trim()
            .parse()
            .map_err(|error: skep_core::ParseIdError| failed(error.to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let id = ServerId::new();
            let new = path.with_extension("new");
            std::fs::write(&new, format!("{id}\n"))
                .and_then(|()| std::fs::File::open(&new)?.sync_all())
                .and_then(|()| std::fs::rename(&new, &path))
                .map_err(|error| failed(error.to_string()))?;
            Ok(id)
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Which folder of which machine, since it was started last: a server whose row says the same cannot
/// live, as its folder is locked by this process.
pub(crate) fn place(folder: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let file = std::fs::metadata(folder.join(crate::lock::FILE)).ok();
    let (device, inode) = file.map_or((0, 0), |file| (file.dev(), file.ino()));
    format!("{}/{device}/{inode}", boot.trim())
}

/// Makes sure that none of these servers lives: looks twice, long enough apart.
fn must_be_gone(
    engine: &mut dyn Engine,
    sql: &'static str,
    with: &[Param<'_>],
) -> Result<(), StoreError> {
    let read = |engine: &mut dyn Engine| -> Result<Vec<(i64, i64, String)>, StoreError> {
        let rows = engine.query(sql, with)?;
        let row = |row: &Row| Ok((row.int(0)?, row.int(1)?, row.text(2)?.to_owned()));
        rows.iter().map(row).collect()
    };
    let before = read(engine)?;
    let began = Instant::now();
    while !before.is_empty() && began.elapsed() < TWO_BEATS {
        std::thread::park_timeout(LOOK_AGAIN);
        let now = read(engine)?;
        let lives = now.iter().find(|(epoch, beat, _)| {
            let same = before.iter().find(|(of, _, _)| of == epoch);
            same.is_none_or(|(_, was, _)| was != beat)
        });
        if let Some((_, _, url)) = lives {
            return Err(StoreError::InUse {
                path: "of this database".into(),
                holder: format!("the server at {url}"),
            });
        }
    }
    Ok(())
}

/// Makes sure that no server has the database, for who copies it: nobody can start, and nobody lives.
pub(crate) fn alone(engine: &mut dyn Engine) -> Result<(), StoreError> {
    engine.start_alone()?;
    let sql = "SELECT epoch, beat, url FROM servers WHERE state = 'live'";
    match engine.is_shared() && engine.knows_migrations()? {
        true => must_be_gone(engine, sql, &[]),
        false => Ok(()),
    }
}

/// Counts the epoch up, ends what this data folder's last server left open, and enters this one.
/// Tells the epoch and the last time that was saved.
pub(crate) fn begin(
    engine: &mut dyn Engine,
    server: ServerId,
    place: &str,
) -> Result<(i64, Timestamp), StoreError> {
    if engine.is_shared() {
        // A folder that was copied, or came from another machine, has the id of its first owner.
        let sql = "SELECT epoch, beat, url FROM servers \
                   WHERE state = 'live' AND server = ?1 AND place <> ?2";
        must_be_gone(engine, sql, &[server.as_bytes().into(), place.into()])?;
    }
    engine.begin_write()?;
    let begun = enter(engine, server, place);
    match begun.and_then(|begun| engine.commit().map(|()| begun)) {
        Ok(begun) => Ok(begun),
        Err(error) => {
            engine.roll_back();
            Err(error)
        }
    }
}

fn enter(
    engine: &mut dyn Engine,
    server: ServerId,
    place: &str,
) -> Result<(i64, Timestamp), StoreError> {
    engine.execute(
        "INSERT INTO server_state (name, value) VALUES ('epoch', 1) \
         ON CONFLICT (name) DO UPDATE SET value = server_state.value + 1",
        &[],
    )?;
    engine.execute(
        "INSERT INTO server_state (name, value) VALUES ('last_time', 0) \
         ON CONFLICT (name) DO NOTHING",
        &[],
    )?;
    let rows = engine.query(
        "SELECT value FROM server_state WHERE name IN ('epoch', 'last_time') ORDER BY name",
        &[],
    )?;
    let [epoch, last_time] = rows.as_slice() else {
        let text = "server_state is incomplete".to_owned();
        return Err(StoreError::Statement(text));
    };
    let (epoch, last_time) = (epoch.int(0)?, last_time.time(0)?);
    // The lock of the folder says that no other process is this server; a database that is not
    // shared has no other server at all.
    let everyone = i64::from(!engine.is_shared());
    let left = engine.query(
        "SELECT epoch FROM servers WHERE state = 'live' AND (server = ?1 OR ?2 = 1)",
        &[server.as_bytes().into(), everyone.into()],
    )?;
    for row in &left {
        let epoch = row.int(0)?;
        let began = Instant::now();
        while !engine.fence_off(epoch)? {
            if began.elapsed() > LAST_COMMIT {
                let text = "the database still works for this server's last start".to_owned();
                return Err(StoreError::Unavailable(text));
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
        engine.execute(
            "UPDATE servers SET state = 'ended' WHERE epoch = ?1",
            &[epoch.into()],
        )?;
    }
    engine.execute(
        "DELETE FROM servers WHERE state = 'ended' AND epoch < ?1",
        &[(epoch - KEPT).into()],
    )?;
    engine.execute(
        "INSERT INTO servers (epoch, server, place, state, beat, url, secret, load, started_at) \
         VALUES (?1, ?2, ?5, 'live', 0, '', ?3, 0, ?4)",
        &[
            epoch.into(),
            server.as_bytes().into(),
            [].as_slice().into(),
            Timestamp::system_now().into(),
            place.into(),
        ],
    )?;
    Ok((epoch, last_time))
}
