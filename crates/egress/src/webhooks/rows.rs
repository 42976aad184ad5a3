//! What the store has of webhooks: endpoints, messages, and how far each feed was read.

use std::collections::BTreeMap;
use std::time::Duration;

use skep_core::{MessageId, Timestamp};
use skep_store::{Migration, MigrationSet, Row, Scope, StoreError};

use super::endpoint::{Endpoint, Health, New, Off, Selection};
use super::life::State;
use crate::rows::{int, number};

/// The tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "webhooks",
    migrations: &[Migration {
        name: "0001-webhooks",
        sql: "
            CREATE TABLE webhook_endpoints (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                url TEXT NOT NULL,
                -- What is told, with spaces between.
                selected TEXT NOT NULL,
                -- Why nothing is sent.
                ended TEXT,
                key_name TEXT NOT NULL,
                before_name TEXT,
                before_until BIGINT,
                -- By feed, and by feed and kind, what had happened before: JSON.
                begins TEXT NOT NULL,
                changed_at BIGINT NOT NULL,
                last_success BIGINT,
                last_failure BIGINT,
                last_why TEXT,
                failing_since BIGINT,
                missed BIGINT NOT NULL,
                missed_at BIGINT,
                PRIMARY KEY (workspace, name)
            );
            CREATE TABLE webhook_messages (
                workspace TEXT NOT NULL,
                endpoint TEXT NOT NULL,
                id BLOB NOT NULL,
                made_at BIGINT NOT NULL,
                kind TEXT NOT NULL,
                body TEXT NOT NULL,
                state TEXT NOT NULL,
                tries BIGINT NOT NULL,
                due BIGINT NOT NULL,
                -- Somebody delivers it until then, unless they say how it went before; under this claim.
                held BIGINT NOT NULL,
                claim BIGINT NOT NULL,
                tried_at BIGINT,
                why TEXT,
                PRIMARY KEY (workspace, endpoint, id)
            );
            CREATE INDEX webhook_messages_by_due ON webhook_messages (workspace, endpoint, state, due);
            CREATE TABLE webhook_cursors (
                workspace TEXT NOT NULL,
                feed TEXT NOT NULL,
                number BIGINT NOT NULL,
                PRIMARY KEY (workspace, feed)
            );
        ",
    }],
    workspace_tables: &["webhook_endpoints", "webhook_messages", "webhook_cursors"],
};

/// A message to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id, which is the same for each endpoint and at each try.
    pub id: MessageId,
    /// When it was made.
    pub made_at: Timestamp,
    /// What it tells.
    pub kind: String,
    /// What is sent.
    pub body: String,
    /// How it stands.
    pub state: State,
    /// How often it was tried since it was made, or since it was to be delivered again.
    pub tries: u32,
    /// When it is tried next, when it waits.
    pub due: Timestamp,
    /// When it was tried last, and how that went.
    pub tried: Option<(Timestamp, String)>,
    pub(super) claim: i64,
}

fn odd(what: &str) -> StoreError {
    StoreError::Statement(format!("a row of webhooks is not readable: `{what}`"))
}

fn read_endpoint(row: &Row) -> Result<Endpoint, StoreError> {
    let name = row.text(0)?.to_owned();
    let own = |column| row.opt_text(column).map(|it| it.map(str::to_owned));
    let off = match row.opt_text(3)? {
        None => None,
        Some(word) => Some(Off::named(word).ok_or_else(|| odd(&name))?),
    };
    let begins = serde_json::from_str(row.text(7)?).map_err(|_| odd(&name))?;
    let health = Health {
        last_success: row.opt_time(9)?,
        last_failure: row.opt_time(10)?.zip(own(11)?),
        failing_since: row.opt_time(12)?,
        missed: number(row.int(13)?),
        waiting: 0,
        dead: 0,
    };
    Ok(Endpoint {
        url: row.text(1)?.to_owned(),
        events: row.text(2)?.split(' ').map(Selection::kept).collect(),
        off,
        key: row.text(4)?.to_owned(),
        before: own(5)?.zip(row.opt_time(6)?),
        begins,
        changed_at: row.time(8)?,
        health,
        name,
    })
}

/// The endpoints of a workspace, by name; without what waits.
pub(super) fn endpoints(scope: &mut Scope<'_>) -> Result<Vec<Endpoint>, StoreError> {
    let sql = "SELECT name, url, selected, ended, key_name, before_name, before_until, begins, changed_at, \
        last_success, last_failure, last_why, failing_since, missed FROM webhook_endpoints \
        WHERE workspace = ?1 ORDER BY name";
    scope.query(sql, &[])?.iter().map(read_endpoint).collect()
}

/// Puts in how many messages wait, and how many are dead.
pub(super) fn count(scope: &mut Scope<'_>, all: &mut [Endpoint]) -> Result<(), StoreError> {
    let sql = "SELECT endpoint, state, COUNT(*) FROM webhook_messages \
        WHERE workspace = ?1 AND state <> 'delivered' GROUP BY endpoint, state";
    for row in scope.query(sql, &[])? {
        let (name, count) = (row.text(0)?, number(row.int(2)?));
        let Some(endpoint) = all.iter_mut().find(|it| it.name == name) else {
            continue;
        };
        match State::named(row.text(1)?) {
            Some(State::Waiting) => endpoint.health.waiting = count,
            Some(State::Dead) => endpoint.health.dead = count,
            _ => {}
        }
    }
    Ok(())
}

fn selected(events: &[Selection]) -> String {
    let texts: Vec<&str> = events.iter().map(Selection::as_str).collect();
    texts.join(" ")
}

fn begins_text(begins: &BTreeMap<String, u64>) -> String {
    // Texts and numbers: it cannot fail.
    serde_json::to_string(begins).unwrap_or_default()
}

const fn ended(on: bool) -> Option<&'static str> {
    match on {
        true => None,
        false => Some(Off::Ordered.as_str()),
    }
}

/// Adds an endpoint. False when there is one of its name.
pub(super) fn add(
    scope: &mut Scope<'_>,
    (new, key): (&New, &str),
    begins: &BTreeMap<String, u64>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO webhook_endpoints (workspace, name, url, selected, ended, key_name, begins, changed_at, \
        missed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0) ON CONFLICT (workspace, name) DO NOTHING";
    let (selected, begins) = (selected(&new.events), begins_text(begins));
    let params = [
        (&new.name).into(),
        (&new.url).into(),
        (&selected).into(),
        ended(new.on).into(),
        key.into(),
        (&begins).into(),
        now.into(),
    ];
    Ok(scope.execute(sql, &params)? == 1)
}

/// Changes an endpoint. One that is turned on begins anew.
pub(super) fn change(
    scope: &mut Scope<'_>,
    new: &New,
    (before, begins): (&Endpoint, &BTreeMap<String, u64>),
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE webhook_endpoints SET url = ?3, selected = ?4, ended = ?5, begins = ?6, changed_at = ?7, \
        failing_since = ?8 WHERE workspace = ?1 AND name = ?2";
    // Why it is off stays, as long as it is.
    let ended = match (new.on, before.off) {
        (false, Some(off)) => Some(off.as_str()),
        (on, _) => ended(on),
    };
    let since = before.health.failing_since;
    let since = since.filter(|_| before.off.is_none());
    let (selected, begins) = (selected(&new.events), begins_text(begins));
    let params = [
        (&new.name).into(),
        (&new.url).into(),
        (&selected).into(),
        ended.into(),
        (&begins).into(),
        now.into(),
        since.into(),
    ];
    scope.execute(sql, &params).map(drop)
}

/// Turns an endpoint off by itself. False when it is off already, or gone.
pub(super) fn turn_off(
    scope: &mut Scope<'_>,
    name: &str,
    off: Off,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE webhook_endpoints SET ended = ?3, changed_at = ?4 \
        WHERE workspace = ?1 AND name = ?2 AND ended IS NULL";
    let params = [name.into(), off.as_str().into(), now.into()];
    Ok(scope.execute(sql, &params)? == 1)
}

/// Puts another key in the place of an endpoint's; what was signs until then.
pub(super) fn rotate(
    scope: &mut Scope<'_>,
    name: &str,
    key: &str,
    (until, now): (Timestamp, Timestamp),
) -> Result<(), StoreError> {
    let sql = "UPDATE webhook_endpoints SET before_name = key_name, before_until = ?4, key_name = ?3, \
        changed_at = ?5 WHERE workspace = ?1 AND name = ?2";
    let params = [name.into(), key.into(), until.into(), now.into()];
    scope.execute(sql, &params).map(drop)
}

/// Forgets the key before of an endpoint, unless there is another one meanwhile.
pub(super) fn forget_before(
    scope: &mut Scope<'_>,
    name: &str,
    key: &str,
) -> Result<bool, StoreError> {
    let sql = "UPDATE webhook_endpoints SET before_name = NULL, before_until = NULL \
        WHERE workspace = ?1 AND name = ?2 AND before_name = ?3";
    Ok(scope.execute(sql, &[name.into(), key.into()])? == 1)
}

/// Forgets an endpoint with its messages.
pub(super) fn remove(scope: &mut Scope<'_>, name: &str) -> Result<(), StoreError> {
    let sql = "DELETE FROM webhook_messages WHERE workspace = ?1 AND endpoint = ?2";
    scope.execute(sql, &[name.into()])?;
    let sql = "DELETE FROM webhook_endpoints WHERE workspace = ?1 AND name = ?2";
    scope.execute(sql, &[name.into()]).map(drop)
}

/// Messages of an endpoint that wait.
pub(super) fn waiting(scope: &mut Scope<'_>, endpoint: &str) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM webhook_messages WHERE workspace = ?1 AND endpoint = ?2 AND state = 'waiting'";
    let row = scope.query_opt(sql, &[endpoint.into()])?;
    row.map_or(Ok(0), |row| row.int(0).map(number))
}

/// Adds a message, to be sent at once.
pub(super) fn send(
    scope: &mut Scope<'_>,
    endpoint: &str,
    (id, kind, body): (MessageId, &str, &str),
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO webhook_messages (workspace, endpoint, id, made_at, kind, body, state, tries, due, held, \
        claim) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'waiting', 0, ?4, 0, 0)";
    let params = [
        endpoint.into(),
        id.as_bytes().into(),
        now.into(),
        kind.into(),
        body.into(),
    ];
    scope.execute(sql, &params).map(drop)
}

/// Counts messages that were not made. Tells whether that is worth telling: it was not for this time.
pub(super) fn miss(
    scope: &mut Scope<'_>,
    endpoint: &str,
    missed: u64,
    (now, quiet): (Timestamp, Duration),
) -> Result<bool, StoreError> {
    let sql =
        "UPDATE webhook_endpoints SET missed = missed + ?3 WHERE workspace = ?1 AND name = ?2";
    scope.execute(sql, &[endpoint.into(), int(missed).into()])?;
    let sql = "UPDATE webhook_endpoints SET missed_at = ?3 \
        WHERE workspace = ?1 AND name = ?2 AND (missed_at IS NULL OR missed_at < ?4)";
    let params = [endpoint.into(), now.into(), now.minus(quiet).into()];
    Ok(scope.execute(sql, &params)? == 1)
}

fn read_message(row: &Row) -> Result<Message, StoreError> {
    let kind = row.text(2)?.to_owned();
    let said = row.opt_text(8)?.map(str::to_owned);
    Ok(Message {
        id: MessageId::from_bytes(row.bytes(0)?),
        made_at: row.time(1)?,
        body: row.text(3)?.to_owned(),
        state: State::named(row.text(4)?).ok_or_else(|| odd(&kind))?,
        tries: u32::try_from(row.int(5)?).unwrap_or(u32::MAX),
        due: row.time(6)?,
        tried: row.opt_time(7)?.zip(said),
        claim: row.int(9)?,
        kind,
    })
}

/// Messages of an endpoint, newest first: in a state, or in any when that is empty; before one.
pub(super) fn messages(
    scope: &mut Scope<'_>,
    endpoint: &str,
    (state, before): (&str, Option<MessageId>),
    most: u32,
) -> Result<Vec<Message>, StoreError> {
    const LAST: [u8; 16] = [0xff; 16];
    let sql = "SELECT id, made_at, kind, body, state, tries, due, tried_at, why, claim FROM webhook_messages \
        WHERE workspace = ?1 AND endpoint = ?2 AND (?3 = '' OR state = ?3) AND id < ?4 ORDER BY id DESC LIMIT ?5";
    let before = before.map_or(LAST, |it| *it.as_bytes());
    let params = [endpoint.into(), state.into(), (&before).into(), most.into()];
    scope
        .query(sql, &params)?
        .iter()
        .map(read_message)
        .collect()
}

/// One message.
pub(super) fn message(
    scope: &mut Scope<'_>,
    endpoint: &str,
    id: MessageId,
) -> Result<Option<Message>, StoreError> {
    let sql = "SELECT id, made_at, kind, body, state, tries, due, tried_at, why, claim FROM webhook_messages \
        WHERE workspace = ?1 AND endpoint = ?2 AND id = ?3";
    let row = scope.query_opt(sql, &[endpoint.into(), id.as_bytes().into()])?;
    row.as_ref().map(read_message).transpose()
}

/// Messages of an endpoint that are due and that nobody delivers, oldest due first.
pub(super) fn due(
    scope: &mut Scope<'_>,
    endpoint: &str,
    now: Timestamp,
    most: u32,
) -> Result<Vec<Message>, StoreError> {
    let sql = "SELECT id, made_at, kind, body, state, tries, due, tried_at, why, claim FROM webhook_messages \
        WHERE workspace = ?1 AND endpoint = ?2 AND state = 'waiting' AND due <= ?3 AND held <= ?3 \
        ORDER BY due, id LIMIT ?4";
    let params = [endpoint.into(), now.into(), most.into()];
    scope
        .query(sql, &params)?
        .iter()
        .map(read_message)
        .collect()
}

/// Takes a message to deliver it until then; false when another has it.
pub(super) fn claim(
    scope: &mut Scope<'_>,
    endpoint: &str,
    message: &Message,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE webhook_messages SET held = ?5, claim = claim + 1 \
        WHERE workspace = ?1 AND endpoint = ?2 AND id = ?3 AND claim = ?4 AND state = 'waiting'";
    let params = [
        endpoint.into(),
        message.id.as_bytes().into(),
        message.claim.into(),
        until.into(),
    ];
    Ok(scope.execute(sql, &params)? == 1)
}

/// Writes down how a try went, unless another has the message by now.
pub(super) fn tried(
    scope: &mut Scope<'_>,
    endpoint: &str,
    (message, state, due): (&Message, State, Timestamp),
    (why, now): (&str, Timestamp),
) -> Result<bool, StoreError> {
    let sql = "UPDATE webhook_messages SET state = ?5, tries = ?6, due = ?7, tried_at = ?8, why = ?9, held = 0, \
        claim = claim + 1 WHERE workspace = ?1 AND endpoint = ?2 AND id = ?3 AND claim = ?4";
    let params = [
        endpoint.into(),
        message.id.as_bytes().into(),
        message.claim.into(),
        state.as_str().into(),
        message.tries.into(),
        due.into(),
        now.into(),
        why.into(),
    ];
    Ok(scope.execute(sql, &params)? == 1)
}

/// Puts a message off that was not tried.
pub(super) fn put_off(
    scope: &mut Scope<'_>,
    endpoint: &str,
    (message, due): (&Message, Timestamp),
) -> Result<(), StoreError> {
    let sql = "UPDATE webhook_messages SET due = ?5, held = 0, claim = claim + 1 \
        WHERE workspace = ?1 AND endpoint = ?2 AND id = ?3 AND claim = ?4";
    let params = [
        endpoint.into(),
        message.id.as_bytes().into(),
        message.claim.into(),
        due.into(),
    ];
    scope.execute(sql, &params).map(drop)
}

/// Writes down how an endpoint does.
pub(super) fn fared(
    scope: &mut Scope<'_>,
    endpoint: &str,
    (failed, since): (Option<&str>, Option<Timestamp>),
    now: Timestamp,
) -> Result<(), StoreError> {
    match failed {
        None => {
            let sql = "UPDATE webhook_endpoints SET last_success = ?3, failing_since = NULL \
                WHERE workspace = ?1 AND name = ?2";
            scope.execute(sql, &[endpoint.into(), now.into()])
        }
        Some(why) => {
            let sql = "UPDATE webhook_endpoints SET last_failure = ?3, last_why = ?4, failing_since = ?5 \
                WHERE workspace = ?1 AND name = ?2";
            let params = [endpoint.into(), now.into(), why.into(), since.into()];
            scope.execute(sql, &params)
        }
    }
    .map(drop)
}

/// Since when an endpoint fails; nothing, when there is none of that name.
pub(super) fn failing_since(
    scope: &mut Scope<'_>,
    endpoint: &str,
) -> Result<Option<Option<Timestamp>>, StoreError> {
    let sql = "SELECT failing_since FROM webhook_endpoints WHERE workspace = ?1 AND name = ?2";
    let row = scope.query_opt(sql, &[endpoint.into()])?;
    row.map(|row| row.opt_time(0)).transpose()
}

/// Sends a message again, from its first try on, unless it is under way.
pub(super) fn again(
    scope: &mut Scope<'_>,
    endpoint: &str,
    id: MessageId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = "UPDATE webhook_messages SET state = 'waiting', tries = 0, due = ?4, claim = claim + 1 \
        WHERE workspace = ?1 AND endpoint = ?2 AND id = ?3 AND held <= ?4";
    let params = [endpoint.into(), id.as_bytes().into(), now.into()];
    Ok(scope.execute(sql, &params)? == 1)
}

/// Sends dead messages again; tells how many.
pub(super) fn all_again(
    scope: &mut Scope<'_>,
    endpoint: &str,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let sql = "UPDATE webhook_messages SET state = 'waiting', tries = 0, due = ?3, claim = claim + 1 \
        WHERE workspace = ?1 AND endpoint = ?2 AND state = 'dead'";
    scope.execute(sql, &[endpoint.into(), now.into()])
}

/// What a server that is gone held is free: for a store that no other server uses.
pub(super) fn release(scope: &mut Scope<'_>) -> Result<(), StoreError> {
    let sql = "UPDATE webhook_messages SET held = 0 WHERE workspace = ?1 AND held > 0";
    scope.execute(sql, &[]).map(drop)
}

/// Forgets messages that are too old, and of those that were delivered all but the newest. Tells how many waited.
pub(super) fn trim(
    scope: &mut Scope<'_>,
    endpoint: &str,
    (before, newest): (Timestamp, u32),
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM webhook_messages WHERE workspace = ?1 AND endpoint = ?2 AND made_at < ?3 \
        AND state = 'waiting'";
    let waited = scope.execute(sql, &[endpoint.into(), before.into()])?;
    let sql =
        "DELETE FROM webhook_messages WHERE workspace = ?1 AND endpoint = ?2 AND made_at < ?3";
    scope.execute(sql, &[endpoint.into(), before.into()])?;
    let sql = "DELETE FROM webhook_messages WHERE workspace = ?1 AND endpoint = ?2 AND state = 'delivered' AND id <= \
        (SELECT id FROM webhook_messages WHERE workspace = ?1 AND endpoint = ?2 AND state = 'delivered' \
        ORDER BY id DESC LIMIT 1 OFFSET ?3)";
    scope.execute(sql, &[endpoint.into(), newest.into()])?;
    Ok(waited as u64)
}

/// How far a feed was read.
pub(super) fn cursor(scope: &mut Scope<'_>, feed: &str) -> Result<Option<u64>, StoreError> {
    let sql = "SELECT number FROM webhook_cursors WHERE workspace = ?1 AND feed = ?2";
    let row = scope.query_opt(sql, &[feed.into()])?;
    row.map(|row| row.int(0).map(number)).transpose()
}

/// Moves how far a feed was read; false when another did meanwhile.
pub(super) fn move_cursor(
    scope: &mut Scope<'_>,
    feed: &str,
    (from, to): (Option<u64>, u64),
) -> Result<bool, StoreError> {
    let moved = match from {
        None => {
            let sql = "INSERT INTO webhook_cursors (workspace, feed, number) VALUES (?1, ?2, ?3) \
                ON CONFLICT (workspace, feed) DO NOTHING";
            scope.execute(sql, &[feed.into(), int(to).into()])?
        }
        Some(from) => {
            let sql = "UPDATE webhook_cursors SET number = ?4 WHERE workspace = ?1 AND feed = ?2 AND number = ?3";
            scope.execute(sql, &[feed.into(), int(from).into(), int(to).into()])?
        }
    };
    Ok(moved == 1)
}
